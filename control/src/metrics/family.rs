//! Families of samples, built anew at each scrape.

use prometheus::proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType};

/// Families in the order in which they were begun.
#[derive(Default)]
pub(super) struct Families(Vec<MetricFamily>);

/// One family that takes samples.
pub(super) struct Family<'a> {
    family: &'a mut MetricFamily,
    counter: bool,
}

impl Families {
    fn begin(&mut self, name: &str, help: &str, counter: bool) -> Family<'_> {
        let mut f = MetricFamily::default();
        f.set_name(name.to_owned());
        f.set_help(help.to_owned());
        f.set_field_type(if counter { MetricType::COUNTER } else { MetricType::GAUGE });
        self.0.push(f);
        let last = self.0.len() - 1;
        Family { family: &mut self.0[last], counter }
    }

    /// Something that only grows.
    pub(super) fn counter(&mut self, name: &str, help: &str) -> Family<'_> {
        self.begin(name, help, true)
    }

    /// Something that goes up and down.
    pub(super) fn gauge(&mut self, name: &str, help: &str) -> Family<'_> {
        self.begin(name, help, false)
    }

    pub(super) fn done(self) -> Vec<MetricFamily> {
        self.0
    }
}

impl Family<'_> {
    /// A sample. Numbers beyond 2^53 lose their last digits, as everywhere in Prometheus.
    pub(super) fn add(&mut self, labels: &[(&str, &str)], value: u64) {
        self.sample(labels, value as f64);
    }

    /// The sample without labels.
    pub(super) fn set(&mut self, value: f64) {
        self.sample(&[], value);
    }

    /// A sample with a fraction.
    pub(super) fn sample(&mut self, labels: &[(&str, &str)], value: f64) {
        let pairs = labels.iter().map(|(name, value)| {
            let mut pair = LabelPair::default();
            pair.set_name((*name).to_owned());
            pair.set_value((*value).to_owned());
            pair
        });
        let mut pairs: Vec<LabelPair> = pairs.collect();
        pairs.sort_by(|a, b| a.name().cmp(b.name()));
        let mut metric = Metric::default();
        metric.set_label(pairs);
        if self.counter {
            let mut c = Counter::default();
            c.set_value(value);
            metric.set_counter(c);
        } else {
            let mut g = Gauge::default();
            g.set_value(value);
            metric.set_gauge(g);
        }
        let mut all = self.family.take_metric();
        all.push(metric);
        self.family.set_metric(all);
    }
}
