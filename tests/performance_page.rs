//! The performance page is made of what the benchmarks left, as much as there is: `bench/performance.py`.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails here")]

mod common;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use common::{root, run};
use serde_json::{Value, json};

fn spread(median: f64) -> Value {
    json!({ "median": median, "min": median - 1.0, "max": median + 1.0 })
}

fn subject(cycles: f64) -> Value {
    json!({ "cycles_per_packet": spread(cycles), "packets_per_second": spread(2.5e9 / cycles), "samples": [] })
}

fn case(name: &str, what: &str, numbers: [u32; 3], cycles: f64, doubts: &[&str]) -> Value {
    let [hosts, locks, watched] = numbers;
    json!({
        "name": name, "what": what, "doubts": doubts, "hosts": hosts, "locks": locks, "watched": watched,
        "workers": 1 + u32::from(name == "two-workers"),
        "cordon": subject(cycles), "peers": { "io": subject(60.0), "lpm": subject(cycles * 1.25) },
    })
}

fn packets() -> Value {
    let quantiles = json!({ "p50": 1.5, "p99": 7.25, "p99.9": 31.0 });
    json!({
        "cpu": "A CPU", "kernel": "6.1", "dpdk": "22.11.11", "commit": "abc", "tsc_hz": 2_500_000_000_u64,
        "hugepages": true, "huge_tables": false, "rounds": 5, "window_ms": 400,
        "cases": [
            case("one-flow", "one flow", [1, 0, 0], 100.0, &[]),
            case("hosts-64k", "many servers", [65_536, 0, 0], 130.0, &["3 of 9 packets lost"]),
            case("two-workers", "on two queues", [65_536, 0, 0], 65.0, &[]),
            case("hosts-1m", "very many", [1 << 20, 0, 0], 190.0, &[]),
        ],
        "failures": ["vlan: no packet came"],
        "latencies": [{ "load_percent": 50, "offered": 5.0e6, "cordon": quantiles, "lost": 0, "sleeper": quantiles,
                        "sleeper_lost": 17, "testpmd_io": quantiles }],
        "claims": [
            { "what": "kept", "needed": 1.0, "median": 1.25, "min": 1.2, "max": 1.3, "holds": true },
            { "what": "broken", "needed": 1.7, "median": 1.5, "min": 1.4, "max": 1.6, "holds": false },
        ],
    })
}

fn page_of(results: &[(&str, Value)]) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    for (name, value) in results {
        fs::write(folder.path().join(format!("{name}.json")), value.to_string()).unwrap();
    }
    let mut command = Command::new(root().join("bench/performance.py"));
    command.args([folder.path(), folder.path()]);
    run(&command, Duration::from_secs(60)).expect_success();
    let page = fs::read_to_string(folder.path().join("PERFORMANCE.md")).unwrap();
    (folder, page)
}

/// The drawn points of a plot.
fn points(folder: &Path, name: &str) -> usize {
    let text = fs::read_to_string(folder.join(name)).unwrap();
    assert!(text.starts_with("<svg ") && text.trim_end().ends_with("</svg>"), "{text}");
    text.matches("<circle ").count()
}

#[test]
fn everything_measured_stands_on_the_page() {
    let tick = json!({
        "cases": [{ "configured": 1024, "active": 1000, "us": 400.0, "min": 390.0, "max": 500.0 },
                  { "configured": 1 << 20, "active": 1000, "us": 420.0, "min": 400.0, "max": 600.0 }],
        "claims": [{ "what": "a tick", "at_most": 1.1, "median": 1.05, "holds": true }],
    });
    let pipeline = json!({ "cases": [
        { "what": "locked", "cycles": 44.0, "min": 43.0, "max": 46.0, "orientation": 45.0 },
    ] });
    let rival = json!({
        "rows": [{ "what": "a packet, ns", "cordon": "70", "fastnetmon": "900" }],
        "claims": [{ "what": "time a packet", "needed": 10, "median": 12.9, "holds": true }],
    });
    let (folder, page) =
        page_of(&[("packets", packets()), ("tick", tick), ("pipeline", pipeline), ("fastnetmon", rival)]);
    for line in [
        "| kept | ≥ 1.00 | 1.25 (1.20–1.30) | yes |",
        "| broken | ≥ 1.70 | 1.50 (1.40–1.60) | **no** |",
        "| a tick | ≤ 1.10 | 1.05 | yes |",
        "| time a packet | ≥ 10.00 | 12.90 | yes |",
        // Packets a second, then cycles: its own and those of others in their columns.
        "| one flow | 25.0 | 100.0 (99.0–101.0) | 60 |  |  |  | 125 |  |  |",
        "| many servers (!) | 19.2 | 130.0 (129.0–131.0) | 60 |  |  |  | 162 |  |  |",
        "Not measured: vlan: no packet came",
        "| 50 % | 5.00 | 1.5 / 7.2 / 31.0 | 0 | 1.5 / 7.2 / 31.0 | 17 | 1.5 / 7.2 / 31.0 |",
        "| locked | 44.0 (43.0–46.0) | 45 |",
        "| 1,048,576 | 1,000 | 420 (400–600) |",
        "| a packet, ns | 70 | 900 |",
        "buffers on 2 MiB pages, tables on 4 KiB pages",
    ] {
        assert!(page.contains(line), "{line}\n{page}");
    }
    assert_eq!(points(folder.path(), "growth-hosts.svg"), 3);
    assert_eq!(points(folder.path(), "growth-tick.svg"), 2);
    assert_eq!(points(folder.path(), "growth-workers.svg"), 2);
    assert!(page.contains("![Cost by hosts](growth-hosts.svg)"), "{page}");
    assert!(!page.contains("growth-locks.svg"), "nothing was measured with locks\n{page}");
}

#[test]
fn what_was_not_measured_is_left_out() {
    let (_folder, page) = page_of(&[("packets", packets())]);
    assert!(page.contains("## The dataplane beside others"), "{page}");
    for absent in ["## Beside FastNetMon", "## A tick of control", "## The packet path alone"] {
        assert!(!page.contains(absent), "{absent}\n{page}");
    }
}
