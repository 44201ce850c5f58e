//! `cordond replay` over every capture of the folder: with one and the same defaults, each scan is found and nothing else
//! is called one (column expect_netscan and expect_portscan of MANIFEST.tsv); floods cross limits that are named here.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails here")]

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;

use common::replay::{Replayed, replay};

/// Captures that name no server are given one that is not in them.
const NOBODY: &str = "192.0.2.0/24";

/// A flood, whose server it is, the rule with a limit that it crosses, and with one that it does not.
const FLOODS: [(&str, &str, &str, &str, &str); 6] = [
    (
        "flood-amp-dns-fragments.pcap",
        "10.10.10.10/32",
        "fragments-in",
        "in.fragments.warn_fast=50",
        "in.fragments.warn_fast=1000",
    ),
    ("flood-amp-snmp.pcapng", "10.10.10.10/32", "udp-in", "in.udp.warn_fast=4000", "in.udp.warn_fast=4100"),
    (
        "flood-frag-tiny.pcap",
        "10.0.0.2/32",
        "fragments-out",
        "out.fragments.warn_fast=1200",
        "out.fragments.warn_fast=1300",
    ),
    (
        "flood-syn-onesource.pcap",
        "192.168.1.34/32",
        "syn-in",
        "in.syn.warn_fast=5800",
        "in.syn.warn_fast=5900",
    ),
    (
        "flood-syn-onesource.pcap",
        "192.168.1.52/32",
        "small-out",
        "out.small.warn_fast=5800",
        "out.small.warn_fast=5900",
    ),
    (
        "flood-syn-spoofed.pcap",
        "10.10.10.10/32",
        "syn-in",
        "in.syn.warn_fast=23000",
        "in.syn.warn_fast=24000",
    ),
];

/// A flood, whose server it is, a rule with a limit that it crosses, and the kind of attack that it is: by MANIFEST.tsv, its
/// ports where they are few, and at least what share of the packets.
type Named = (&'static str, &'static str, &'static str, &'static str, &'static [u16], u64);
const NAMES: [Named; 13] = [
    ("flood-amp-dns-fragments.pcap", "10.10.10.10/32", "in.fragments", "dns-amplification", &[53], 70),
    ("flood-amp-dns-fragments.pcap", "10.10.10.10/32", "in.udp", "dns-amplification", &[53], 70),
    ("flood-amp-dns-fragments.pcap", "10.10.10.10/32", "in.packets", "dns-amplification", &[53], 70),
    // Over in 23 ms, before its flows could be kept: that it is SNMP nobody has seen.
    ("flood-amp-snmp.pcapng", "10.10.10.10/32", "in.udp", "udp-flood", &[], 90),
    ("flood-frag-tiny.pcap", "10.0.0.2/32", "out.fragments", "fragment-flood", &[], 100),
    ("flood-frag-tiny.pcap", "10.128.0.2/32", "in.packets", "fragment-flood", &[], 100),
    ("flood-syn-40.pcap", "192.168.0.1/32", "in.syn", "syn-flood", &[], 90),
    ("flood-syn-onesource.pcap", "192.168.1.34/32", "in.syn", "syn-flood", &[80], 85),
    ("flood-syn-onesource.pcap", "192.168.1.34/32", "in.flows", "syn-flood", &[80], 85),
    ("flood-syn-onesource.pcap", "192.168.1.52/32", "out.small", "syn-flood", &[80], 100),
    ("flood-syn-slow.pcap", "10.0.0.2/32", "out.packets", "syn-flood", &[80], 90),
    ("flood-syn-spoofed.pcap", "10.10.10.10/32", "in.packets", "syn-flood", &[25_565], 100),
    ("flood6-rsmurf.pcap", "ff02::/64", "out.icmp", "icmp-flood", &[], 100),
];

struct Row {
    file: PathBuf,
    category: String,
    internal: String,
    /// By [`KINDS`].
    expected: [bool; 2],
}

const KINDS: [&str; 2] = ["netscan", "portscan"];

/// The table of the captures.
fn manifest(folder: &Path) -> Vec<Row> {
    let text = fs::read_to_string(folder.join("MANIFEST.tsv")).unwrap();
    let mut lines = text.lines();
    let head: Vec<&str> = lines.next().unwrap().split('\t').collect();
    let column = |name: &str| head.iter().position(|h| *h == name).unwrap();
    let columns = ["file", "category", "internal", "expect_netscan", "expect_portscan"].map(column);
    let rows = lines.map(|line| {
        let fields: Vec<&str> = line.split('\t').collect();
        let [file, category, internal, netscan, portscan] = columns.map(|c| fields[c]);
        Row {
            file: folder.join(file),
            category: category.to_owned(),
            internal: if internal == "-" { NOBODY } else { internal }.to_owned(),
            expected: [netscan, portscan].map(|e| e.starts_with("YES")),
        }
    });
    rows.collect()
}

/// What was done about scans, and what must not have been: in words.
fn wrong(row: &Row, seen: &Replayed) -> Option<String> {
    let raised = |kind: &str| {
        seen.incidents.iter().any(|i| i["kind"] == kind && (i["action"] == "warn" || i["action"] == "lock"))
    };
    for (kind, expected) in KINDS.into_iter().zip(row.expected) {
        if raised(kind) != expected {
            return Some(format!("{kind} is {}", if expected { "missed" } else { "made up" }));
        }
    }
    let mentioned: BTreeSet<&str> = seen.incidents.iter().filter_map(|i| i["kind"].as_str()).collect();
    let quiet = matches!(row.category.as_str(), "benign" | "malformed" | "netconfig");
    if quiet && !mentioned.is_empty() {
        return Some(format!("{mentioned:?} of nothing at all"));
    }
    // A scan that is not worth an incident is not worth observing either.
    let observed = |kind: &str| mentioned.contains(kind) && !raised(kind);
    KINDS.into_iter().find(|k| observed(k)).map(|k| format!("{k} is observed"))
}

/// Replays each on all cores; every difference.
fn differences(rows: &[Row]) -> Vec<String> {
    let (next, found) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let workers = thread::available_parallelism().map_or(2, usize::from);
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some(row) = rows.get(next.fetch_add(1, Relaxed)) {
                    // On a routed wire the rules of the servers' segment are silent; tests/replay_segment.rs has those.
                    let options = ["--lab", "--wire", "routed", "--internal", &row.internal];
                    let difference = match replay(&row.file, &options) {
                        // A file without one whole packet may be refused, with a message that names it.
                        Err(e) if row.category == "malformed" && e.contains("exit status: 1") => None,
                        Err(e) => Some(e),
                        Ok(seen) => wrong(row, &seen).map(|w| format!("{w}: {:?}", seen.short())),
                    };
                    if let Some(d) = difference {
                        found.lock().unwrap().push(format!("{}: {d}", row.file.display()));
                    }
                }
            });
        }
    });
    found.into_inner().unwrap()
}

#[test]
fn captures_every_scan_is_found_and_nothing_else_is_called_one() {
    let Some(folder) = common::captures_dir() else { common::skip!("no captures") };
    let rows = manifest(&folder);
    let scans = |k: usize| rows.iter().filter(|r| r.expected[k]).count();
    assert!(rows.len() > 100 && scans(0) >= 5 && scans(1) >= 6, "{} captures", rows.len());
    let differences = differences(&rows);
    assert!(differences.is_empty(), "{} of {}:\n{}", differences.len(), rows.len(), differences.join("\n"));
}

#[test]
fn captures_every_scan_leaves_a_log_of_exact_rows() {
    let Some(folder) = common::captures_dir() else { common::skip!("no captures") };
    for row in manifest(&folder).iter().filter(|r| r.expected.contains(&true)) {
        let seen =
            replay(&row.file, &["--lab", "--internal", &row.internal]).unwrap_or_else(|e| panic!("{e}"));
        for incident in seen.incidents.iter().filter(|i| KINDS.contains(&i["kind"].as_str().unwrap())) {
            let log = format!("{}.log", incident["kind"].as_str().unwrap());
            let text =
                fs::read_to_string(seen.evidence(incident, &log)).unwrap_or_else(|e| panic!("{log}: {e}"));
            let rows = text.lines().filter(|l| l.contains(" => ")).count() as u64;
            let name = row.file.display();
            assert!(
                rows >= incident["limit"].as_u64().unwrap().min(1_000),
                "{name}: {rows} rows: {incident}"
            );
            for file in [&log, "dump.log", "dump.pcapng"] {
                assert!(
                    incident["files"].as_array().unwrap().iter().any(|f| f == file),
                    "{name}: {incident}"
                );
                assert!(fs::metadata(seen.evidence(incident, file)).unwrap().len() > 0, "{name}: {file}");
            }
        }
    }
}

#[test]
fn captures_every_flood_crosses_the_limit_that_is_named_for_it_and_not_a_higher_one() {
    let Some(folder) = common::captures_dir() else { common::skip!("no captures") };
    for (file, internal, rule, below, above) in FLOODS {
        let crossed = |limit: &str| {
            let lock = limit.replace("warn_fast", "lock_fast");
            let options = ["--lab", "--internal", internal, "--limit", limit, "--limit", &lock];
            let seen = replay(&folder.join(file), &options).unwrap_or_else(|e| panic!("{e}"));
            seen.incidents.iter().filter_map(|i| i["rule"].as_str()).any(|r| r == format!("{rule}/default"))
        };
        assert!(crossed(below), "{file}: {below}");
        assert!(!crossed(above), "{file}: {above}");
    }
}

#[test]
fn captures_every_flood_is_named() {
    let Some(folder) = common::captures_dir() else { common::skip!("no captures") };
    for (file, internal, limit, name, ports, share) in NAMES {
        let low = format!("{limit}.warn_fast=20");
        let options = ["--lab", "--wire", "routed", "--internal", internal, "--limit", &low];
        let seen = replay(&folder.join(file), &options).unwrap_or_else(|e| panic!("{e}"));
        let (way, measure) = limit.split_once('.').unwrap();
        let rule = format!("{measure}-{way}/default");
        let incident = seen.incidents.iter().find(|i| i["rule"] == rule.as_str());
        let attack = &incident.unwrap_or_else(|| panic!("{file}: no {rule}: {:?}", seen.short()))["attack"];
        assert_eq!(attack["name"], name, "{file}, {rule}: {attack}");
        assert_eq!(attack["ports"], serde_json::json!(ports), "{file}, {rule}: {attack}");
        assert!(attack["share_percent"].as_u64().unwrap() >= share, "{file}, {rule}: {attack}");
        let capture = fs::read(seen.evidence(incident.unwrap(), "dump.pcapng")).unwrap_or_default();
        let title = name.split('-').next().unwrap().as_bytes();
        let says = |w: &[u8]| w.eq_ignore_ascii_case(title);
        assert!(
            capture.is_empty() || capture.windows(title.len()).any(says),
            "{file}: the capture's comment"
        );
    }
}
