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
use cordond::netconfig::{Case, Env, Finding, Gateway, Level, Mac, Side, Watcher};
use pipeline::guard::guard;
use pipeline::segment::{Frame, What};
use region::segment::{Guard, Guards, SegmentRules};
use region::{Addr, Capacities, Policy};

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

fn mac_of(text: &str) -> Mac {
    let bytes: Vec<u8> = text.split(':').map(|b| u8::from_str_radix(b, 16).unwrap()).collect();
    Mac(bytes.try_into().unwrap())
}

fn policy(rules: SegmentRules) -> Policy {
    let sizes = Capacities { workers: 0, hosts_v4: 256, hosts_v6: 16, locks: 16 };
    let policy = Policy::anonymous(sizes, 64, [1, 2]).unwrap();
    policy.publish_locks(&[], &[], &rules).unwrap();
    policy
}

fn guarded(frame: &[u8], policy: &Policy) -> Option<Guard> {
    guard(&Frame::parse(frame)?, &policy.segment(policy.versions().locks))
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
        // As much of a frame as the dataplane hands over.
        let frame = Frame::parse(bytes);
        let most = match frame.map(|f| f.what) {
            Some(What::Dhcp(_) | What::Dhcp6 { .. }) => 590,
            Some(What::Nd(_)) => 256,
            _ => 128,
        };
        let side = frame.map_or(Side::Mirror, |f| side(&f));
        watcher.see(side, now, &bytes[..bytes.len().min(most)], wire_len);
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
            eprintln!("{file}\t{}\t{mac}\t{text}", case.name());
        }
        let right = |(c, m): &(Case, Mac)| c == case && (*mac == "-" || m.to_string() == *mac);
        if !found.keys().any(right) || !found.keys().all(right) {
            wrong.push(format!("{file}: {} by {mac} expected, found {found:?}", case.name()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // The list above is whole.
    let yes = rows.iter().filter(|r| r.expected.starts_with("YES"));
    let missing: Vec<&str> =
        yes.map(|r| r.file.as_str()).filter(|f| FOUND.iter().all(|(g, ..)| g != f)).collect();
    assert!(missing.is_empty(), "no expectation for {missing:?}");
}

/// Rows that say NO, or that depend on the point of view and are no contradiction in themselves: a switch that speaks
/// spanning tree, one router, one DHCP server.
fn is_ordinary(row: &Row) -> bool {
    FOUND.iter().all(|(f, ..)| *f != row.file)
}

/// Malformed samples may show wrong configuration of the protocols that they are samples of.
fn may_show(row: &Row, case: Case) -> bool {
    row.expected.starts_with("NO (unless")
        && matches!(case, Case::ArpSpoof | Case::NdSpoof | Case::RogueDhcp | Case::RogueRa | Case::Stp)
}

#[test]
fn captures_of_ordinary_traffic_raise_nothing() {
    let Some(rows) = manifest() else { return };
    let mut wrong = Vec::new();
    for row in rows.iter().filter(|r| is_ordinary(r)) {
        let found = mirror(&row.path);
        for ((case, mac), text) in &found {
            eprintln!("{} ({})\t{}\t{mac}\t{text}", row.file, row.expected, case.name());
        }
        if found.keys().any(|(c, _)| !may_show(row, *c)) {
            wrong.push(format!("{} ({}): {found:?}", row.file, row.expected));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Whether a frame is of one of the servers.
fn is_of(servers: &[IpAddr], f: &Frame) -> bool {
    let arp = if let What::Arp(a) = f.what { Some(IpAddr::V4(a.sender_ip)) } else { None };
    f.ip.map(|(s, _)| s).or(arp).is_some_and(|a| servers.contains(&a))
}

#[test]
fn captures_of_ordinary_servers_raise_nothing_on_a_wire_with_two_sides() {
    let Some(rows) = manifest() else { return };
    let mut wrong = Vec::new();
    for row in rows.iter().filter(|r| matches!(r.expected.as_str(), "NO" | "no") && !r.internal.is_empty()) {
        let mut devices = Vec::new();
        frames(&row.path, |_, bytes, _| {
            let f = Frame::parse(bytes).filter(|f| is_of(&row.internal, f));
            devices.extend(f.map(|f| f.source));
        });
        devices.sort_unstable();
        devices.dedup();
        let side = |f: &Frame| if devices.contains(&f.source) { Side::Inside } else { Side::Outside };
        let found = summary(&run(&row.path, &Env::default(), side));
        if !found.is_empty() {
            wrong.push(format!("{}: {found:?}", row.file));
        }
        // Nothing of what the servers sent is guarded against.
        let policy = policy(SegmentRules { guards: Guards::ALL, ..SegmentRules::default() });
        frames(&row.path, |_, bytes, _| {
            let inside = Frame::parse(bytes).is_some_and(|f| side(&f) == Side::Inside);
            if let Some(by) = guarded(bytes, &policy).filter(|_| inside) {
                wrong.push(format!("{}: guarded, {}", row.file, by.name()));
            }
        });
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn captures_with_an_inventory_lock_the_one_who_did_it_and_nobody_else() {
    let Some(rows) = manifest() else { return };
    let Some(row) = rows.iter().find(|r| r.file == "l2-arp-mitm-a.pcapng") else { return };
    let devices = [("10.2.1.51", "00:50:79:66:68:03"), ("10.2.1.104", "00:0c:29:d8:10:be")];
    let rows = devices.map(|(address, mac)| format!("{address},{address},{mac}\n")).concat();
    let site = config::Site { groups: None, networks: &[], ipv6_host_length: 64 };
    let inventory =
        config::Inventory::parse_csv(&format!("id,addresses,macs\n{rows}"), "test", site).unwrap();
    let gateway = mac_of("ca:01:18:82:00:1c");
    let gateways = ["10.2.1.254"].map(|a| Gateway { address: a.parse().unwrap(), mac: Some(gateway) });
    let env = Env { inventory: Some(&inventory), gateways: &gateways, ..Env::default() };
    let found = run(&row.path, &env, |_| Side::Mirror);
    let attacker = mac_of(devices[1].1);
    // He forwards what he has caught, under the other's address.
    let is_his = |f: &Finding| f.mac == attacker && matches!(f.case, Case::ArpSpoof | Case::WrongMac);
    assert!(found.iter().all(is_his), "{found:?}");
    let lock = found.iter().find(|f| f.level == Level::Lock).expect("a lock");
    assert_eq!(lock.server.as_deref(), Some("10.2.1.104"));
    eprintln!("{lock:?}");
    // The same without it: told, never locked.
    assert!(run(&row.path, &Env::default(), |_| Side::Mirror).iter().all(|f| f.level == Level::Warn));
    // The guard drops the claims on the gateway.
    let policy = policy(SegmentRules {
        guards: Guards::ALL,
        gateways: gateways.iter().map(|g| Addr::from(g.address).as_u128()).collect(),
        devices: vec![(gateway, Guards::of(&[Guard::Arp]))],
        ..SegmentRules::default()
    });
    let mut dropped = Vec::new();
    frames(&row.path, |_, bytes, _| {
        if guarded(bytes, &policy) == Some(Guard::Arp) {
            dropped.extend(Frame::parse(bytes).map(|f| f.source));
        }
    });
    assert_eq!(dropped, vec![attacker; 18]);
}

/// A generator with a fixed seed (Knuth's MMIX).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % below.max(1)
    }
}

#[test]
fn captures_with_flipped_cut_and_swapped_bytes_break_nothing() {
    let Some(rows) = manifest() else { return };
    let mut dice = Dice(0x00c0_ffee);
    let mut watcher = Watcher::new([1, 2]);
    let gateways = [Gateway { address: "10.2.1.254".parse().unwrap(), mac: None }];
    let env = Env { gateways: &gateways, ..Env::default() };
    let policy = policy(SegmentRules {
        guards: Guards::ALL,
        gateways: gateways.iter().map(|g| Addr::from(g.address).as_u128()).collect(),
        ..SegmentRules::default()
    });
    let mut frames_of_all = Vec::new();
    for row in &rows {
        let mut n = 0;
        frames(&row.path, |_, bytes, _| {
            n += 1;
            if n <= 40 {
                frames_of_all.push(bytes[..bytes.len().min(600)].to_vec());
            }
        });
    }
    let (mut now, mut found) = (1_000_000_000, 0);
    for round in 0..4 {
        for frame in &mut frames_of_all {
            for _ in 0..1 + dice.roll(6) {
                // Headers are where it matters.
                let end = if dice.roll(4) == 0 { frame.len() } else { frame.len().min(90) };
                if end == 0 {
                    break;
                }
                let (at, value) = (dice.roll(end), u8::try_from(dice.roll(256)).unwrap());
                match dice.roll(8) {
                    0 => frame.truncate(at),
                    1 => frame.extend_from_within(..at.min(64)),
                    2 => frame[at] = [0, 1, 0x7f, 0xff][dice.roll(4)],
                    _ => frame[at] = value,
                }
            }
            let side = [Side::Inside, Side::Outside, Side::Mirror][dice.roll(3)];
            let wire_len = u32::try_from(dice.roll(2_000)).unwrap();
            watcher.see(side, now, frame, wire_len);
            guarded(frame, &policy);
            now += 1_000_000 * dice.roll(50) as u64;
            if dice.roll(20) == 0 {
                found += watcher.judge(now, &env).len();
            }
        }
        eprintln!("round {round}: {found} findings, {:?}", watcher.misses());
    }
    assert!(found > 0, "mutants that offend exist");
}
