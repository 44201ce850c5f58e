//! Wrong network configuration, judged on real captures (see captures/README.md beside the project): every YES of the
//! column `expect_netconfig` is found, with its case and its device; what is ordinary raises nothing.
//!
//! A capture is a mirror of a segment (`--wire l2`): one stream without sides, no lists, no inventory. What is found is
//! found by contradiction alone.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails here")]

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use capture::Capture;
use cordond::netconfig::frame::Frame;
use cordond::netconfig::{
    Allowed, Assignment, Case, Env, Finding, Gateway, GuardTable, Inventory, Level, Mac, Side, Watcher, guard,
};

const TICK_NS: u64 = 100_000_000;
/// After the last packet of a capture, and in gaps, the clock runs on for this long.
const RUN_ON_TICKS: u64 = 300;

/// What each capture of the kind has to raise: case and device.
const FOUND: &[(&str, Case, &str)] = &[
    ("arp-storm-622.pcap", Case::ArpStorm, "00:07:0d:af:f4:54"),
    ("arpscan-256hosts.pcap", Case::ArpStorm, "00:0c:29:20:a8:7f"),
    ("flood6-rsmurf.pcap", Case::InvalidSource, "00:00:de:ad:be:ef"),
    ("l2-arp-mitm-a.pcapng", Case::ArpSpoof, "00:0c:29:d8:10:be"),
    ("l2-arp-poison-book.pcapng", Case::ArpSpoof, "00:25:b3:bf:91:ee"),
    ("l2-arp-spoof-a.pcapng", Case::ArpSpoof, "00:0c:29:d8:10:be"),
    ("l2-arp-spoof-b.pcap", Case::ArpSpoof, "00:e0:4d:3c:25:7b"),
    ("l2-dhcp-activity.pcapng", Case::DhcpStarvation, "-"),
    ("l2-dhcp-rogue-a.pcapng", Case::RogueDhcp, "00:0c:29:d8:10:be"),
    ("l2-dhcp-starvation-a.pcapng", Case::DhcpStarvation, "-"),
    ("l2-dns-spoof-a.pcapng", Case::ArpSpoof, "00:0c:29:d8:10:be"),
    ("l2-ra-killrouter6.pcap", Case::RogueRa, "00:50:b6:19:e6:50"),
    ("l2-stp-rootclaim-a.pcapng", Case::Stp, "00:0c:29:d8:10:be"),
];

struct Row {
    path: PathBuf,
    file: String,
    internal: Vec<IpAddr>,
    expected: String,
}

fn folder() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/captures");
    let place = std::env::var_os("CORDON_CAPTURES").map_or(beside, PathBuf::from);
    place.join("MANIFEST.tsv").is_file().then_some(place)
}

fn manifest() -> Option<Vec<Row>> {
    let Some(folder) = folder() else {
        eprintln!("skipped: no captures (set CORDON_CAPTURES)");
        return None;
    };
    let text = fs::read_to_string(folder.join("MANIFEST.tsv")).unwrap();
    let mut lines = text.lines();
    let head: Vec<&str> = lines.next().unwrap().split('\t').collect();
    let column = |name: &str| head.iter().position(|h| *h == name).unwrap();
    let (file, internal, expected) = (column("file"), column("internal"), column("expect_netconfig"));
    let rows = lines.map(|l| {
        let f: Vec<&str> = l.split('\t').collect();
        let addresses = f[internal].split(',').filter_map(|p| p.split('/').next()?.parse().ok());
        Row {
            path: folder.join(f[file]),
            file: f[file].to_owned(),
            internal: addresses.collect(),
            expected: f[expected].to_owned(),
        }
    });
    Some(rows.collect())
}

/// Frames of a capture, at times that never run backwards.
fn frames(path: &Path, mut each: impl FnMut(u64, &[u8], u32)) {
    let mut capture = match Capture::open(path) {
        Ok(c) => c,
        Err(e) => return eprintln!("{e}"),
    };
    let mut start = None;
    let mut last = 0;
    while let Ok(Some(p)) = capture.next_packet() {
        let start = *start.get_or_insert(p.time_ns);
        // Far from the beginning of the clock, as monotonic clocks are.
        let now = u64::try_from((p.time_ns - start).max(0)).unwrap() + 3_600_000_000_000;
        last = now.max(last);
        each(last, p.bytes, p.wire_len);
    }
}

/// Runs a capture, with a tick every 100 ms.
fn run(path: &Path, env: &Env, side: impl Fn(&Frame) -> Side) -> Vec<Finding> {
    let mut watcher = Watcher::new([0x1234_5678, 0x9abc_def1]);
    let mut found = Vec::new();
    let mut tick = 0;
    frames(path, |now, bytes, wire_len| {
        if tick == 0 {
            tick = now - now % TICK_NS;
        }
        let mut ticks = 0;
        while tick + TICK_NS <= now && ticks < RUN_ON_TICKS {
            tick += TICK_NS;
            ticks += 1;
            found.extend(watcher.judge(tick, env));
        }
        tick = tick.max(now - now % TICK_NS);
        let side = Frame::parse(bytes).map_or(Side::Mirror, |f| side(&f));
        watcher.see(side, now, bytes, wire_len);
    });
    for _ in 0..RUN_ON_TICKS {
        tick += TICK_NS;
        found.extend(watcher.judge(tick, env));
    }
    found
}

/// Findings by case and device: the last text of each.
fn summary(found: &[Finding]) -> BTreeMap<(Case, Mac), String> {
    let mut all = BTreeMap::new();
    for f in found {
        let n = found.iter().filter(|g| (g.case, g.mac) == (f.case, f.mac)).count();
        all.insert((f.case, f.mac), format!("{:?} {n}x {}", f.level, f.text));
    }
    all
}

fn mirror(path: &Path) -> BTreeMap<(Case, Mac), String> {
    summary(&run(path, &Env::default(), |_| Side::Mirror))
}

#[test]
fn captures_of_wrong_configuration_are_found_with_their_device() {
    let Some(rows) = manifest() else { return };
    let mut wrong = Vec::new();
    for (file, case, mac) in FOUND {
        let Some(row) = rows.iter().find(|r| r.file == *file) else { continue };
        let found = mirror(&row.path);
        for ((case, mac), text) in &found {
            println!("{file}\t{}\t{mac}\t{text}", case.name());
        }
        let right = |(c, m): &(Case, Mac)| c == case && (*mac == "-" || m.to_string() == *mac);
        if !found.keys().any(right) || !found.keys().all(right) {
            wrong.push(format!("{file}: {} by {mac} expected, found {found:#?}", case.name()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // The list above is whole.
    let yes = rows.iter().filter(|r| r.expected.starts_with("YES"));
    let missing: Vec<&str> =
        yes.map(|r| r.file.as_str()).filter(|f| FOUND.iter().all(|(g, ..)| g != f)).collect();
    assert!(missing.is_empty(), "no expectation for {missing:?}");
}

#[test]
fn captures_of_ordinary_traffic_raise_nothing() {
    let Some(rows) = manifest() else { return };
    let mut wrong = Vec::new();
    for row in rows.iter().filter(|r| FOUND.iter().all(|(f, ..)| *f != r.file)) {
        let found = mirror(&row.path);
        if !found.is_empty() {
            wrong.push(format!("{} ({}): {found:#?}", row.file, row.expected));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
