//! Metrics for Prometheus: what the facts file says, and what control publishes at each tick.
//!
//! Names begin with `cordon_`, units are base units, no label holds an address. While no dataplane lives its counters
//! are left out; a new life counts from zero, which Prometheus takes for what it is.

mod facts;
mod family;

use std::sync::{Arc, Mutex};

use api::{Kind, Reason, Time};
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Histogram, HistogramOpts, Registry, TextEncoder};
use region::{Facts, PageKind, Policy};

use family::Families;

/// What control publishes at each tick.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Facts of a living dataplane.
    pub facts: Option<Arc<Facts>>,
    /// The policy.
    pub policy: Option<Arc<Policy>>,
    /// Names of the wires, by their index.
    pub wires: Vec<String>,
    /// Rows of the lock list by reason.
    pub locks: Vec<(Reason, u64)>,
    /// Incidents opened since cordond started.
    pub incidents: Vec<(Kind, u64)>,
    /// Open incidents.
    pub incidents_open: u64,
    /// Every rule, and whether its breaker is latched.
    pub breakers: Vec<(String, bool)>,
    /// Locked ranges in the dataplane's list.
    pub lock_ranges: u64,
    /// Hosts that moved in the last tick.
    pub active_hosts: u64,
    /// Hosts whose history is kept.
    pub histories: u64,
    /// Watched hosts.
    pub watched: u64,
    /// Packets of watched hosts that were not recorded.
    pub evidence_lost: u64,
    /// Ticks.
    pub ticks: u64,
    /// Ticks that were left out since an earlier one took too long.
    pub ticks_missed: u64,
    /// Batches that wait for the store.
    pub store_waiting: u64,
    /// Times the office was started anew.
    pub office_restarts: u64,
    /// How full the outbox is.
    pub outbox: crate::store::Fill,
    /// Mails that were taken.
    pub mails_sent: u64,
    /// Attempts to send mail that failed.
    pub mail_failures: u64,
    /// Webhooks that were taken.
    pub webhooks_sent: u64,
    /// Attempts to send webhooks that failed.
    pub webhook_failures: u64,
    /// When cordond started, seconds since 1970.
    pub started: f64,
}

/// Where control leaves its snapshot and the office finds it.
#[derive(Debug)]
pub struct Board {
    snapshot: Mutex<Arc<Snapshot>>,
    /// Time from the crossing of a limit to the written flags.
    pub detection: Histogram,
    /// Time that a tick took.
    pub tick: Histogram,
}

impl Board {
    /// An empty one.
    pub fn new() -> Result<Arc<Board>, prometheus::Error> {
        let histogram = |name: &str, help: &str, buckets: &[f64]| {
            Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets.to_vec()))
        };
        Ok(Arc::new(Board {
            snapshot: Mutex::default(),
            detection: histogram(
                "cordon_detection_latency_seconds",
                "Time from the crossing of a limit to the written lock flags, at most.",
                &[0.025, 0.05, 0.1, 0.11, 0.125, 0.15, 0.2, 0.3, 0.5, 1.0, 2.5],
            )?,
            tick: histogram(
                "cordon_tick_duration_seconds",
                "Time that a tick of the control thread took.",
                &[0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0],
            )?,
        }))
    }

    /// Publishes a snapshot. Never waits: while the office holds the slot, for nanoseconds, this tick's is left out.
    pub fn publish(&self, snapshot: Snapshot) {
        if let Ok(mut slot) = self.snapshot.try_lock() {
            *slot = Arc::new(snapshot);
        }
    }

    /// The latest snapshot.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        match self.snapshot.lock() {
            Ok(s) => Arc::clone(&s),
            // Nothing between lock and unlock panics; if it ever does, the value is whole all the same.
            Err(poisoned) => Arc::clone(&poisoned.into_inner()),
        }
    }

    /// A registry that collects from here.
    pub fn registry(self: &Arc<Board>) -> Result<Registry, prometheus::Error> {
        let registry = Registry::new();
        registry.register(Box::new(self.detection.clone()))?;
        registry.register(Box::new(self.tick.clone()))?;
        registry.register(Box::new(FromBoard::new(Arc::clone(self))?))?;
        Ok(registry)
    }
}

/// The text that Prometheus scrapes.
pub fn text(registry: &Registry) -> Result<String, prometheus::Error> {
    TextEncoder::new().encode_to_string(&registry.gather())
}

struct FromBoard {
    board: Arc<Board>,
    descs: Vec<Desc>,
}

impl FromBoard {
    fn new(board: Arc<Board>) -> Result<FromBoard, prometheus::Error> {
        let descs = families(&Snapshot::default())
            .iter()
            .map(|f| Desc::new(f.name().to_owned(), f.help().to_owned(), Vec::new(), Default::default()))
            .collect::<Result<_, _>>()?;
        Ok(FromBoard { board, descs })
    }
}

impl Collector for FromBoard {
    fn desc(&self) -> Vec<&Desc> {
        self.descs.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let mut all = families(&self.board.snapshot());
        all.retain(|f| !f.get_metric().is_empty());
        all
    }
}

/// All families but the histograms; those without a sample are empty.
fn families(s: &Snapshot) -> Vec<MetricFamily> {
    let mut f = Families::default();
    control(s, &mut f);
    facts::collect(s, &mut f);
    f.done()
}

fn control(s: &Snapshot, f: &mut Families) {
    f.gauge("cordon_build_info", "The version of cordond, as a label; always 1.")
        .add(&[("version", env!("CARGO_PKG_VERSION"))], 1);
    f.gauge("cordon_control_start_time_seconds", "When cordond started, in seconds since 1970.")
        .set(s.started);
    f.gauge("cordon_dataplane_up", "Whether a dataplane lives (1) or the wires are down (0).")
        .add(&[], u64::from(s.facts.is_some()));
    let mut bypass =
        f.gauge("cordon_bypass", "Whether everything is forwarded and nothing enforced, by which switch.");
    let direct =
        s.facts.as_ref().map_or(0, |f| f.header().bypass_direct.load(std::sync::atomic::Ordering::Relaxed));
    bypass.add(&[("switch", "cordond")], u64::from(s.policy.as_ref().is_some_and(|p| p.versions().bypass)));
    bypass.add(&[("switch", "direct")], direct.min(1));
    let mut locks = f.gauge("cordon_locks", "Rows of the lock list.");
    for reason in Reason::ALL {
        let n = s.locks.iter().find(|(r, _)| r == reason).map_or(0, |(_, n)| *n);
        locks.add(&[("reason", reason.name())], n);
    }
    let mut opened = f.counter("cordon_incidents_opened_total", "Incidents opened since cordond started.");
    for kind in Kind::ALL {
        let n = s.incidents.iter().find(|(k, _)| k == kind).map_or(0, |(_, n)| *n);
        opened.add(&[("kind", kind.name())], n);
    }
    f.gauge("cordon_incidents_open", "Incidents that go on.").add(&[], s.incidents_open);
    let mut breakers = f.gauge(
        "cordon_breaker_latched",
        "Whether a rule's circuit breaker is latched: the rule only observes.",
    );
    for (rule, latched) in &s.breakers {
        breakers.add(&[("rule", rule)], u64::from(*latched));
    }
    f.gauge("cordon_lock_ranges", "Address ranges in the dataplane's lock list.").add(&[], s.lock_ranges);
    if let Some(p) = &s.policy {
        // Flattening makes at most two ranges of each configured one.
        f.gauge("cordon_lock_ranges_capacity", "Address ranges that the dataplane's lock list has room for.")
            .add(&[], u64::from(p.capacities().locks) * 2);
    }
    f.gauge("cordon_active_hosts", "Hosts that moved in the last tick.").add(&[], s.active_hosts);
    f.gauge("cordon_host_histories", "Hosts whose last 300 seconds are kept.").add(&[], s.histories);
    f.gauge("cordon_watched_hosts", "Hosts whose flows are kept exactly.").add(&[], s.watched);
    f.counter(
        "cordon_evidence_lost_total",
        "Packets of watched hosts that were not recorded: quota, or a full ring.",
    )
    .add(&[], s.evidence_lost);
    f.counter("cordon_ticks_total", "Ticks of the control thread.").add(&[], s.ticks);
    f.counter("cordon_ticks_missed_total", "Ticks left out since an earlier one took too long.")
        .add(&[], s.ticks_missed);
    f.gauge("cordon_store_waiting_batches", "Changes that wait for the disk.").add(&[], s.store_waiting);
    f.counter("cordon_office_restarts_total", "Times the thread that serves these metrics was started anew.")
        .add(&[], s.office_restarts);
    f.gauge("cordon_outbox_waiting", "Messages that wait to be delivered.").add(&[], s.outbox.waiting);
    let oldest = s.outbox.oldest.map_or(0, |t| Time::now().unix_ms().saturating_sub(t.unix_ms()).max(0));
    f.gauge("cordon_outbox_oldest_seconds", "How long the oldest message that is due has been due.")
        .add(&[], u64::try_from(oldest / 1000).unwrap_or(0));
    f.gauge("cordon_outbox_failed", "Messages that failed for good and wait for an operator.")
        .add(&[], s.outbox.failed);
    f.counter("cordon_mails_sent_total", "Mails that the mail server has taken.").add(&[], s.mails_sent);
    f.counter("cordon_mail_failures_total", "Attempts to send mail that failed.").add(&[], s.mail_failures);
    f.counter("cordon_webhooks_sent_total", "Webhooks that the programs there have taken.")
        .add(&[], s.webhooks_sent);
    f.counter("cordon_webhook_failures_total", "Attempts to send webhooks that failed.")
        .add(&[], s.webhook_failures);
    let mut pages = f.gauge("cordon_tables_page_size_bytes", "Size of the pages under the shared tables.");
    let size = |kind| if kind == PageKind::Huge { 2 << 20 } else { 4 << 10 };
    if let Some(p) = &s.policy {
        pages.add(&[("table", "policy")], size(p.page_kind()));
    }
    if let Some(f) = &s.facts {
        pages.add(&[("table", "facts")], size(f.page_kind()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use region::{Capacities, Side, Verdict};
    use std::sync::atomic::Ordering::Relaxed;

    fn value(text: &str, sample: &str) -> Option<f64> {
        text.lines().find_map(|l| l.strip_prefix(sample)?.strip_prefix(' ')?.parse().ok())
    }

    #[test]
    fn what_the_facts_count_is_what_prometheus_reads() {
        let capacities = Capacities { workers: 2, hosts_v4: 256, hosts_v6: 16, locks: 16 };
        let facts = Facts::anonymous(capacities).expect("memory");
        facts.header().ports.store(2, Relaxed);
        facts.ports()[1].side.store(1, Relaxed);
        facts.ports()[1].imissed.store(7, Relaxed);
        for (w, n) in [(0, 10), (1, 5)] {
            let side = facts.workers()[w].side(Side::Outside);
            side.rx_packets.store(n, Relaxed);
            side.verdict_packets[Verdict::DropLockedIn.index()].store(n - 1, Relaxed);
        }
        let board = Board::new().expect("histograms");
        let snapshot = Snapshot {
            facts: Some(Arc::new(facts)),
            wires: vec!["up\"link".into()],
            locks: vec![(Reason::Abuse, 3)],
            ..Snapshot::default()
        };
        board.publish(snapshot);
        board.detection.observe(0.12);
        let text = text(&board.registry().expect("registers")).expect("encodes");
        for (sample, expected) in [
            ("cordon_received_packets_total{side=\"outside\"}", 15.0),
            ("cordon_verdict_packets_total{side=\"outside\",verdict=\"drop_locked_in\"}", 13.0),
            ("cordon_port_missed_packets_total{side=\"outside\",wire=\"up\\\"link\"}", 7.0),
            ("cordon_locks{reason=\"abuse\"}", 3.0),
            ("cordon_locks{reason=\"netscan\"}", 0.0),
            ("cordon_dataplane_up", 1.0),
            ("cordon_detection_latency_seconds_bucket{le=\"0.125\"}", 1.0),
            ("cordon_detection_latency_seconds_bucket{le=\"0.11\"}", 0.0),
        ] {
            assert_eq!(value(&text, sample), Some(expected), "{sample}\n{text}");
        }
    }

    #[test]
    fn without_a_dataplane_its_counters_are_left_out() {
        let board = Board::new().expect("histograms");
        let text = text(&board.registry().expect("registers")).expect("encodes");
        assert_eq!(value(&text, "cordon_dataplane_up"), Some(0.0));
        assert!(
            !text.contains("cordon_received_packets_total") && !text.contains("cordon_worker_polls_total")
        );
    }
}
