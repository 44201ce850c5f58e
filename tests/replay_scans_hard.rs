//! Scans under circumstances that try to hide them, and circumstances that only look like them, on the clock of captures
//! that are made here.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails here")]

mod common;

use std::fs;
use std::net::Ipv4Addr;
use std::process::Command;
use std::time::Duration;

use common::packets::{
    MS, RST_ACK, Recording, SECOND, SYN, SYN_ACK, at, echo, fragments, nth, tcp, udp, unreachable,
};
use common::pcap;
use common::replay::{Replayed, done_ns, play, replay};
use nix::sys::resource::{UsageWho, getrusage};

const SERVERS: &str = "198.51.0.0/16";
const SCANNER: Ipv4Addr = Ipv4Addr::new(198, 51, 7, 7);
/// A server with ordinary work: what says that answers can be seen.
const NEIGHBOUR: Ipv4Addr = Ipv4Addr::new(198, 51, 200, 200);
const SERVICE: Ipv4Addr = Ipv4Addr::new(45, 1, 1, 1);
/// Whom scans go for.
const TARGETS: Ipv4Addr = Ipv4Addr::new(45, 64, 0, 1);

/// How a contact is tried and what becomes of it.
#[derive(Clone, Copy, Debug)]
enum Contact {
    Syn(u16),
    Refused(u16),
    Udp(u16),
    Unreachable(u16),
    Echo,
}

/// Adds a contact.
fn contact(r: &mut Recording, t: u64, from: Ipv4Addr, to: Ipv4Addr, source: u16, how: Contact) {
    match how {
        Contact::Syn(port) => r.add(t, tcp(at(from, source), at(to, port), SYN)),
        Contact::Refused(port) => {
            r.add(t, tcp(at(from, source), at(to, port), SYN));
            r.add(t + 5 * MS, tcp(at(to, port), at(from, source), RST_ACK));
        }
        Contact::Udp(port) => r.add(t, udp(at(from, source), at(to, port), 20)),
        Contact::Unreachable(port) => {
            let question = udp(at(from, source), at(to, port), 20);
            r.add(t + 5 * MS, unreachable(to, from, &question));
            r.add(t, question);
        }
        Contact::Echo => r.add(t, echo(from, to, 8, source)),
    }
}

/// `count` contacts to as many hosts from a time on, one each `every_ns`.
fn netscan(r: &mut Recording, begin: u64, every_ns: u64, count: u32, from: Ipv4Addr, how: Contact) {
    for i in 0..count {
        let source = 30_000 + u16::try_from(i % 30_000).unwrap();
        contact(r, begin + u64::from(i) * every_ns, from, nth(TARGETS, i), source, how);
    }
}

/// The same to as many ports of one host.
fn portscan(
    r: &mut Recording,
    begin: u64,
    every_ns: u64,
    count: u16,
    from: Ipv4Addr,
    how: fn(u16) -> Contact,
) {
    for i in 0..count {
        contact(r, begin + u64::from(i) * every_ns, from, TARGETS, 40_000, how(1 + i));
    }
}

fn play_servers(r: Recording) -> Replayed {
    play(r, &["--internal", SERVERS])
}

#[test]
fn a_scan_of_ten_thousand_packets_a_second_is_locked_within_half_a_second_of_its_beginning() {
    type Scan = fn(&mut Recording, u64);
    const EVERY: u64 = SECOND / 10_000;
    let scans: [(&str, &str, Scan); 9] = [
        ("netscan", "silent 443", |r, t| netscan(r, t, EVERY, 10_000, SCANNER, Contact::Syn(443))),
        ("netscan", "silent 22", |r, t| netscan(r, t, EVERY, 10_000, SCANNER, Contact::Syn(22))),
        ("netscan", "refused 8443", |r, t| netscan(r, t, EVERY, 10_000, SCANNER, Contact::Refused(8443))),
        ("netscan", "silent UDP", |r, t| netscan(r, t, EVERY, 10_000, SCANNER, Contact::Udp(161))),
        ("netscan", "unreachable", |r, t| netscan(r, t, EVERY, 10_000, SCANNER, Contact::Unreachable(53))),
        ("netscan", "silent echo", |r, t| netscan(r, t, EVERY, 10_000, SCANNER, Contact::Echo)),
        ("portscan", "silent ports", |r, t| portscan(r, t, EVERY, 10_000, SCANNER, Contact::Syn)),
        ("portscan", "refused ports", |r, t| portscan(r, t, EVERY, 10_000, SCANNER, Contact::Refused)),
        ("portscan", "UDP ports", |r, t| portscan(r, t, EVERY, 10_000, SCANNER, Contact::Unreachable)),
    ];
    let mut late = Vec::new();
    for (kind, name, scan) in scans {
        // Ticks fall on tenths of a second: begun just after one, and in between.
        for phase in [0, MS, 99 * MS] {
            let mut r = Recording::default();
            r.ordinary(NEIGHBOUR, SERVICE, 20 * MS, 4 * SECOND);
            let begin = 2 * SECOND + phase;
            scan(&mut r, begin);
            let seen = play_servers(r);
            let locked = done_ns(seen.one(&SCANNER.to_string(), kind), "lock");
            let took = locked.map(|l| (l - begin) / MS);
            if took.is_none_or(|ms| ms > 500) {
                late.push(format!("{name} at {phase}: {took:?} ms: {:?}", seen.short()));
            }
        }
    }
    assert!(late.is_empty(), "{}", late.join("\n"));
}

#[test]
fn a_scan_of_one_contact_a_second_is_found_within_its_hour() {
    const HOUR: u32 = 3_600;
    let scans =
        [Contact::Syn(22), Contact::Syn(443), Contact::Refused(443), Contact::Udp(161), Contact::Echo];
    let mut r = Recording::default();
    r.ordinary(NEIGHBOUR, SERVICE, SECOND, u64::from(HOUR) * SECOND);
    let (mut address, mut expected) = (SCANNER, Vec::new());
    for how in scans {
        netscan(&mut r, 10 * SECOND, SECOND, HOUR, address, how);
        expected.push((address, "netscan"));
        address = nth(address, 1);
    }
    portscan(&mut r, 10 * SECOND, SECOND, u16::try_from(HOUR).unwrap(), address, Contact::Syn);
    expected.push((address, "portscan"));
    let seen = play_servers(r);
    for (address, kind) in expected {
        let incident = seen.one(&address.to_string(), kind);
        let warned = done_ns(incident, "warn").unwrap_or_else(|| panic!("{incident}"));
        // The slowest window is 300 s long, silence takes another 5 s to tell.
        assert!(warned < 310 * SECOND, "{warned}: {incident}");
    }
    assert_eq!(seen.of(&NEIGHBOUR.to_string()).len(), 0, "{:?}", seen.short());
}

#[test]
fn when_ten_thousand_servers_scan_at_once_the_breaker_trips_and_other_rules_go_on() {
    const SCANNERS: u32 = 10_000;
    const CONTACTS: u32 = 130;
    let mut r = Recording::default();
    r.ordinary(NEIGHBOUR, SERVICE, 20 * MS, 14 * SECOND);
    let first = Ipv4Addr::new(198, 51, 0, 1);
    for i in 0..CONTACTS {
        for s in 0..SCANNERS {
            let t = 2 * SECOND + (u64::from(i) * u64::from(SCANNERS) + u64::from(s)) * 7_000;
            r.add(t, udp(at(nth(first, s), 30_000), at(nth(TARGETS, i), 3389), 20));
        }
    }
    let flooder = Ipv4Addr::new(198, 51, 240, 1);
    for i in 0..16_000u32 {
        let t = 12 * SECOND + u64::from(i) * 100_000;
        let source = 1_024 + u16::try_from(i % 60_000).unwrap();
        r.add(t, udp(at(flooder, source), at(SERVICE, 7), 20));
    }
    assert!(r.len() > 1_300_000);
    let seen = play(r, &["--internal", SERVERS, "--limit", "out.udp.lock_fast=5000"]);
    let scans = |action: &str| {
        seen.incidents.iter().filter(|i| i["kind"] == "netscan" && i["action"] == action).count()
    };
    // Of ten thousand active servers half a percent is more than twenty.
    let most = (SCANNERS / 200 + 2) as usize;
    assert!((20..=most).contains(&scans("lock")), "{} locks", scans("lock"));
    let held = |i: &&serde_json::Value| {
        i["held_back"].as_str().is_some_and(|why| why.contains("the breaker of netscan is latched"))
    };
    assert!(seen.incidents.iter().filter(held).count() > 100, "{:?}", &seen.short()[..30]);
    assert_eq!(seen.one(&flooder.to_string(), "attack-out")["action"], "lock");
    // Peak memory of whatever this process has waited for.
    let peak_kib = getrusage(UsageWho::RUSAGE_CHILDREN).unwrap().max_rss();
    assert!(peak_kib < 1 << 20, "{peak_kib} KiB");
}

/// Pseudo-random numbers (splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn below(&mut self, n: u64) -> u32 {
        u32::try_from(self.next() % n).unwrap()
    }
}

#[test]
fn spoofed_floods_that_fill_every_table_hide_no_other_servers_scan() {
    let anywhere = Ipv4Addr::new(80, 0, 0, 0);
    let ours = Ipv4Addr::new(198, 51, 0, 0);
    for (name, inside, outside) in [("inside", true, false), ("outside", false, true), ("both", true, true)] {
        for tcp_flood in [true, false] {
            let mut random = Random(1);
            let mut r = Recording::default();
            r.ordinary(NEIGHBOUR, SERVICE, 10 * MS, 16 * SECOND);
            for i in 0..14 * 20_000u64 {
                let t = 2 * SECOND + i * 50_000;
                let (own, far) = (nth(ours, random.below(1 << 15)), nth(anywhere, random.below(1 << 27)));
                let ports = (1_024 + u16::try_from(random.below(60_000)).unwrap(), 80);
                let packet = |a, b| if tcp_flood { tcp(a, b, SYN) } else { udp(a, b, 20) };
                if inside {
                    r.add(t, packet(at(own, ports.0), at(far, ports.1)));
                }
                if outside {
                    r.add(t + 25_000, packet(at(far, ports.0), at(own, ports.1)));
                }
            }
            // Begins when the tables are full.
            let scanner = Ipv4Addr::new(198, 51, 200, 1);
            netscan(&mut r, 6 * SECOND, 20 * MS, 400, scanner, Contact::Syn(22));
            let what = format!("{name}, {}", if tcp_flood { "SYN" } else { "UDP" });
            let seen = play_servers(r);
            let all = seen.of(&scanner.to_string());
            let scan = all.iter().find(|i| i["kind"] == "netscan");
            let locked = scan.and_then(|i| done_ns(i, "lock"));
            assert!(locked.is_some_and(|t| t < 15 * SECOND), "{what}: {locked:?}: {all:?}");
        }
    }
}

/// As `nmap -f` does it: eight bytes a fragment, so that the flags are in the second one.
#[test]
fn tiny_fragments_hide_no_scan_that_is_refused() {
    let mut r = Recording::default();
    r.ordinary(NEIGHBOUR, SERVICE, 20 * MS, 12 * SECOND);
    for i in 0..1_000u16 {
        let t = 2 * SECOND + u64::from(i) * 5 * MS;
        let (own, far) = (at(SCANNER, 40_000), at(TARGETS, 2_000 + i));
        for f in fragments(&tcp(own, far, SYN), 8) {
            r.add(t, f);
        }
        r.add(t + 5 * MS, tcp(far, own, RST_ACK));
    }
    let seen = play_servers(r);
    assert_eq!(seen.one(&SCANNER.to_string(), "portscan")["action"], "lock", "{:?}", seen.short());
}

#[test]
fn a_server_with_thousands_of_clients_hides_no_scan_of_its_own_behind_them() {
    for busy_udp in [false, true] {
        let mut random = Random(2);
        let mut r = Recording::default();
        r.ordinary(NEIGHBOUR, SERVICE, 20 * MS, 22 * SECOND);
        // Two thousand clients a second, all new: the map of those who came first is full.
        for i in 0..22 * 2_000u64 {
            let (t, client) = (i * 500_000, nth(Ipv4Addr::new(80, 0, 0, 0), random.below(1 << 27)));
            let (client, server) = (at(client, 1_024 + u16::try_from(i % 60_000).unwrap()), at(SCANNER, 443));
            if busy_udp {
                r.add(t, udp(client, server, 40));
                r.add(t + MS, udp(server, client, 40));
            } else {
                r.add(t, tcp(client, server, SYN));
                r.add(t + MS, tcp(server, client, SYN_ACK));
            }
        }
        netscan(&mut r, 12 * SECOND, 25 * MS, 300, SCANNER, Contact::Syn(22));
        let seen = play_servers(r);
        let all = seen.of(&SCANNER.to_string());
        assert!(
            all.iter().any(|i| i["kind"] == "netscan" && i["action"] == "lock"),
            "udp {busy_udp}: {all:?}"
        );
    }
}

/// Ordinary load of cordon-traffic, without attacks.
fn ordinary(folder: &std::path::Path, options: &[&str]) -> std::path::PathBuf {
    let path = folder.join("ordinary.pcap");
    let mut command = Command::new(common::bin("cordon-traffic"));
    command.arg(&path).args(["--attack", "none"]).args(options);
    common::run(&command, Duration::from_secs(60)).expect_success();
    path
}

/// Whether a frame of cordon-traffic comes from one of its servers.
fn from_inside(frame: &[u8]) -> bool {
    let at = if frame[12..14] == [0x81, 0] { 16 } else { 12 };
    match frame[at..at + 2] {
        [0x08, 0x00] => frame[at + 14..at + 17] == [198, 51, 100],
        [0x86, 0xdd] => frame[at + 10..at + 16] == [0x20, 0x01, 0x0d, 0xb8, 0, 1],
        _ => true,
    }
}

#[test]
fn when_no_answer_comes_any_more_nobody_is_locked() {
    let folder = tempfile::tempdir().unwrap();
    let path = ordinary(folder.path(), &["--seconds", "40", "--pps", "8000", "--hosts", "60"]);
    let internal = ["--lab", "--internal", "198.51.100.0/24", "--internal", "2001:db8:1::/48"];
    let ordinary = pcap::read_timed(&path);
    let begin = ordinary[0].0;
    let time = |t: Duration| u64::try_from((t - begin).as_nanos()).unwrap();
    // From the beginning (asymmetric routing), from a time on (an outage upstream), half of the packets.
    for (name, from_s, all) in [("one way", 0, true), ("outage", 15, true), ("half of them", 15, false)] {
        let mut r = Recording::default();
        let (mut dropped, mut n) = (0, 0u32);
        let mut add = |t: u64, frame: Vec<u8>| {
            let inbound = !from_inside(&frame);
            n += u32::from(inbound);
            if inbound && t >= from_s * SECOND && (all || n.is_multiple_of(2)) {
                dropped += 1;
            } else {
                r.add(t, frame);
            }
        };
        for (t, frame) in &ordinary {
            add(time(*t), frame.clone());
        }
        // Crawlers are answered by most.
        for i in 0..40 * 40u32 {
            for c in 0..3 {
                let t = u64::from(i) * 25 * MS + u64::from(c) * MS;
                let own = at(nth(Ipv4Addr::new(198, 51, 100, 200), c), 20_000);
                let far = at(nth(TARGETS, i * 3 + c), 443);
                add(t, tcp(own, far, SYN));
                add(t + 30 * MS, tcp(far, own, SYN_ACK));
            }
        }
        assert!(dropped > 20_000, "{name}: {dropped}");
        let seen = play(r, &internal);
        assert_eq!(seen.locked(), [""; 0], "{name}: {:?}", seen.short());
        let scans = seen.incidents.iter().filter(|i| i["kind"] == "netscan" || i["kind"] == "portscan");
        assert_eq!(scans.filter(|i| i["action"] != "observe").count(), 0, "{name}: {:?}", seen.short());
    }
}

#[test]
fn crawlers_alone_on_a_wire_are_not_locked_when_no_answer_comes_any_more() {
    for crawlers in [1, 3] {
        let mut r = Recording::default();
        for i in 0..90 * 50u32 {
            for c in 0..crawlers {
                let t = u64::from(i) * 20 * MS + u64::from(c) * MS;
                let (own, far) = (at(nth(SCANNER, c), 20_000), at(nth(TARGETS, i * crawlers + c), 443));
                r.add(t, tcp(own, far, SYN));
                if t < 20 * SECOND {
                    r.add(t + 30 * MS, tcp(far, own, SYN_ACK));
                }
            }
        }
        let seen = play_servers(r);
        assert_eq!(seen.locked(), [""; 0], "{crawlers}: {:?}", seen.short());
    }
}

#[test]
fn a_million_packets_with_scans_in_them_give_the_same_bytes_twice() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("million.pcap");
    let mut r = Recording::default();
    r.ordinary(NEIGHBOUR, SERVICE, MS / 20, 15 * SECOND);
    netscan(&mut r, 3 * SECOND, MS, 3_000, SCANNER, Contact::Syn(22));
    netscan(&mut r, 3 * SECOND, MS, 3_000, nth(SCANNER, 1), Contact::Refused(443));
    portscan(&mut r, 3 * SECOND, MS, 3_000, nth(SCANNER, 2), Contact::Unreachable);
    let mut random = Random(3);
    for i in 0..100_000u64 {
        let own = nth(Ipv4Addr::new(198, 51, 0, 0), random.below(1 << 15));
        r.add(i * 100_000, echo(own, nth(TARGETS, random.below(1 << 24)), 8, 1));
    }
    assert!(r.len() >= 1_000_000, "{}", r.len());
    r.write(&path);
    let [a, b] = [0, 1].map(|_| replay(&path, &["--internal", SERVERS]).unwrap_or_else(|e| panic!("{e}")));
    for name in ["hosts.json", "incidents.json", "totals.json"] {
        assert!(fs::read(a.file(name)).unwrap() == fs::read(b.file(name)).unwrap(), "{name} differs");
    }
    let mut files = 0;
    for incident in &a.incidents {
        for name in incident["files"].as_array().unwrap() {
            let name = name.as_str().unwrap();
            let same = |r: &Replayed| fs::read(r.evidence(incident, name)).unwrap();
            assert!(same(&a) == same(&b), "{name} of {incident} differs");
            files += 1;
        }
    }
    assert!(files >= 9, "{:?}", a.short());
    for (i, kind) in (0..).zip(["netscan", "netscan", "portscan"]) {
        assert_eq!(a.one(&nth(SCANNER, i).to_string(), kind)["action"], "lock", "{:?}", a.short());
    }
}
