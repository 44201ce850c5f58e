//! The real Prometheus scrapes cordond under traffic and answers questions about it.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails here")]

mod common;

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use common::site::{SOON, Site};
use common::stream::Stream;
use common::{Namespaces, eventually, http_get, skip};
use serde_json::Value;

const SERVER: &str = Namespaces::SERVER;
const SERVER_2: &str = Namespaces::SERVER_2;
const REMOTE: &str = Namespaces::REMOTE;
/// Of the box's own network namespace, where nothing else listens.
const PROMETHEUS: u16 = 9090;
const METRICS: u16 = 9477;

/// The value of each series that answers a query, by one of its labels.
fn query(site: &Site, expression: &str, label: &str) -> Vec<(String, f64)> {
    let path: String = expression
        .bytes()
        .map(|b| if b.is_ascii_alphanumeric() { char::from(b).to_string() } else { format!("%{b:02X}") })
        .collect();
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, PROMETHEUS));
    let body = site
        .ns
        .within("box", || http_get(address, &format!("/api/v1/query?query={path}"), Duration::from_secs(10)));
    let answer: Value = serde_json::from_str(&body.unwrap_or_else(|e| panic!("{expression}: {e}"))).unwrap();
    assert_eq!((&answer["status"], &answer["data"]["resultType"]), (&"success".into(), &"vector".into()));
    let series = answer["data"]["result"].as_array().unwrap();
    series
        .iter()
        .map(|s| {
            let name = s["metric"][label].as_str().unwrap_or_default().to_owned();
            (name, s["value"][1].as_str().unwrap().parse().unwrap())
        })
        .collect()
}

#[test]
fn prometheus_scrapes_cordond_and_answers_instant_queries_and_rates() {
    if !common::have_root_and_netns() || common::tool("prometheus").is_none() {
        skip!("needs root, network namespaces and prometheus");
    }
    let site = Site::new("");
    let _cordond = site.start();
    site.ask(&["lock", SERVER, "--reason", "abuse"]);
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("prometheus.yml");
    let text = format!(
        "global:\n  scrape_interval: 250ms\n  scrape_timeout: 250ms\nscrape_configs:\n  - job_name: cordon\n    \
         static_configs:\n      - targets: ['127.0.0.1:{METRICS}']\n"
    );
    std::fs::write(&config, text).unwrap();
    let arguments = [
        format!("--config.file={}", config.display()),
        format!("--storage.tsdb.path={}", folder.path().join("data").display()),
        format!("--web.listen-address=127.0.0.1:{PROMETHEUS}"),
    ];
    let prometheus = site.ns.spawn("box", "prometheus", &arguments.each_ref().map(String::as_str));
    prometheus.wait_for_line("Server is ready to receive web requests", SOON);

    let one = |expression: &str| query(&site, expression, "").first().map(|(_, value)| *value);
    eventually("the target is up", SOON, || (one("up{job=\"cordon\"}") == Some(1.0)).then_some(()));
    assert_eq!(one("cordon_dataplane_up"), Some(1.0));
    assert_eq!(one("cordon_enforcing"), Some(1.0));
    assert_eq!(one("cordon_locks{reason=\"abuse\"}"), Some(1.0));

    let free = Stream::start(&site.ns, "in", SERVER_2, REMOTE, Duration::from_millis(1));
    let locked = Stream::start(&site.ns, "in", SERVER, REMOTE, Duration::from_millis(1));
    // Seconds of traffic until a rate has enough samples; what it comes to depends on the machine.
    let rates = eventually("rates", SOON, || {
        let rates = query(&site, "rate(cordon_verdict_packets_total{side=\"inside\"}[5s])", "verdict");
        let moves = |name: &str| rates.iter().any(|(n, v)| n == name && *v > 1.0);
        (moves("forward") && moves("drop_locked_out")).then_some(rates)
    });
    assert!(rates.iter().all(|(n, v)| *v < 2_000.0 && (n != "drop_locked_in" || *v == 0.0)), "{rates:?}");
    free.stop(SOON);
    locked.stop(Duration::ZERO);

    // At rest Prometheus has the same numbers as `cordon status`, and they add up.
    let mark = site.at_rest();
    let received = mark.received as f64;
    eventually("the last scrape", SOON, || {
        (one("sum(cordon_received_packets_total)") == Some(received)).then_some(())
    });
    assert_eq!(one("sum(cordon_verdict_packets_total)"), Some(received));
    let verdicts = query(&site, "sum by (verdict) (cordon_verdict_packets_total)", "verdict");
    for (name, value) in &verdicts {
        assert_eq!(*value, mark.verdict(name) as f64, "{name}");
    }
    assert!(verdicts.len() >= 4, "{verdicts:?}");
    assert!(one("rate(cordon_ticks_total[10s])").is_some_and(|r| r > 0.0));
}
