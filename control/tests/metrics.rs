//! Metrics as Prometheus sees them.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::io::Write;
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::sync::atomic::Ordering::Relaxed;

use common::{Daemon, Rig, free_port, get, lock, rows};
use region::{Capacities, Facts, Side, Verdict};

fn scrape(daemon: &Daemon, address: std::net::SocketAddr) -> String {
    let (head, body) = daemon.until("metrics", |_| get(address, "/metrics").ok());
    assert!(head.starts_with("HTTP/1.1 200") && head.contains("text/plain"), "{head}");
    body
}

#[test]
fn prometheus_metrics_pass_promtool() {
    let address = free_port();
    let rig = Rig::with(&format!("metrics = \"{address}\""));
    let daemon = rig.start();
    let capacities = Capacities { workers: 2, hosts_v4: 1024, hosts_v6: 256, locks: 0 };
    let facts = Facts::create(rig.tables.path(), capacities, 1_790_000_000_000_000_000).unwrap();
    facts.header().ports.store(2, Relaxed);
    facts.header().tsc_hz.store(2_000_000_000, Relaxed);
    facts.ports()[1].side.store(1, Relaxed);
    let side = facts.workers()[0].side(Side::Inside);
    side.rx_packets.store(12, Relaxed);
    side.verdict_packets[Verdict::Forward.index()].store(12, Relaxed);
    rows(daemon.ask(&lock("192.0.2.10")));
    let text = daemon.until("the dataplane is up", |d| {
        let text = scrape(d, address);
        text.contains("cordon_dataplane_up 1").then_some(text)
    });
    for expected in [
        "cordon_received_packets_total{side=\"inside\"} 12",
        "cordon_port_link_up{side=\"outside\",wire=\"w\"} 0",
        "cordon_locks{reason=\"abuse\"} 1",
        "cordon_dataplane_start_time_seconds 1790000000",
        "cordon_hosts_capacity{family=\"ipv4\"} 1024",
        "cordon_breaker_latched{rule=\"syn-out\"} 0",
        "cordon_tables_page_size_bytes{table=\"facts\"} ",
        "cordon_tick_duration_seconds_bucket{le=\"0.1\"} ",
    ] {
        assert!(text.contains(expected), "{expected}\n{text}");
    }
    assert!(!text.contains("192.0.2"), "no address is a label\n{text}");
    for line in text.lines().filter(|l| l.starts_with("# HELP ")) {
        assert!(line.ends_with('.') && line.split(' ').count() > 4, "a sentence: {line}");
    }
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    promtool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let out = promtool.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success() && said.trim().is_empty(), "{said}");
}

#[test]
fn elsewhere_there_is_nothing_but_a_hint() {
    let address = free_port();
    let rig = Rig::with(&format!("metrics = \"{address}\""));
    let daemon = rig.start();
    scrape(&daemon, address);
    let (head, body) = get(address, "/").unwrap();
    assert!(head.starts_with("HTTP/1.1 404") && body.contains("/metrics"), "{head}\n{body}");
}

#[test]
fn an_occupied_port_costs_the_metrics_and_nothing_else() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let rig = Rig::with(&format!("metrics = \"{address}\""));
    let daemon = rig.start();
    let text = daemon.until("a complaint", |d| Some(d.attention()).filter(|a| a.contains("office")));
    assert!(text.contains(&address.to_string()), "{text}");
    rows(daemon.ask(&lock("192.0.2.10")));
    drop(taken);
    assert!(scrape(&daemon, address).contains("cordon_office_restarts_total"), "it is tried again by itself");
}
