//! cordon-traffic from outside: what it writes is right, always the same, and what it says about it is true.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails here")]

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use common::{Finished, run};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(60);

fn traffic(out: &Path, options: &str) -> Finished {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cordon-traffic"));
    command.arg(out).args(options.split_whitespace());
    run(&command, SOON)
}

struct Written {
    folder: tempfile::TempDir,
    truth: Value,
    table: String,
    packets: Vec<(u64, Vec<u8>)>,
}

fn written(options: &str) -> Written {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("t.pcap");
    let table = traffic(&out, options).expect_success();
    let truth = serde_json::from_slice(&fs::read(folder.path().join("t.pcap.truth.json")).unwrap()).unwrap();
    let packets = read(&fs::read(&out).unwrap());
    Written { folder, truth, table, packets }
}

fn word(b: &[u8], at: usize) -> u64 {
    u64::from(u32::from_le_bytes(b[at..at + 4].try_into().unwrap()))
}

/// The packets of a nanosecond pcap: (nanoseconds since 1970, bytes).
fn read(file: &[u8]) -> Vec<(u64, Vec<u8>)> {
    assert_eq!((word(file, 0), word(file, 20)), (0xa1b2_3c4d, 1));
    let (mut at, mut packets) = (24, Vec::new());
    while at < file.len() {
        let (kept, wire) = (word(file, at + 8), word(file, at + 12));
        assert_eq!(kept, wire);
        let end = at + 16 + usize::try_from(kept).unwrap();
        packets.push((word(file, at) * 1_000_000_000 + word(file, at + 4), file[at + 16..end].to_vec()));
        at = end;
    }
    packets
}

fn be16(b: &[u8], at: usize) -> usize {
    usize::from(b[at]) << 8 | usize::from(b[at + 1])
}

/// What remains of the ones' complement sum over data with its checksum in place: 0xffff when it is right.
fn sum(parts: &[&[u8]]) -> usize {
    let mut sum = 0;
    for part in parts {
        sum += part
            .chunks(2)
            .map(|w| usize::from(w[0]) << 8 | w.get(1).map_or(0, |b| usize::from(*b)))
            .sum::<usize>();
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum
}

#[derive(Debug, PartialEq, Eq)]
struct Read {
    v6: bool,
    tagged: bool,
    source: Vec<u8>,
    destination: Vec<u8>,
    protocol: u8,
    fragment: bool,
    segment: Vec<u8>,
}

/// Takes a frame apart and checks every length and checksum on the way; none for ARP.
fn take_apart(frame: &[u8]) -> Option<Read> {
    assert!((60..=1518).contains(&frame.len()));
    let tagged = be16(frame, 12) == 0x8100;
    let at = if tagged { 18 } else { 14 };
    let ip = &frame[at..];
    match be16(frame, at - 2) {
        0x0806 => None,
        0x0800 => {
            let total = be16(ip, 2);
            assert_eq!((ip[0], sum(&[&ip[..20]])), (0x45, 0xffff), "{frame:x?}");
            assert!(ip[total..].iter().all(|b| *b == 0) && (ip.len() == total || frame.len() == 60));
            let segment = &ip[20..total];
            let fragment = be16(ip, 6) & 0x3fff != 0;
            let pseudo = [0, ip[9], segment.len().to_be_bytes()[6], segment.len().to_be_bytes()[7]];
            match ip[9] {
                _ if fragment => {}
                1 => assert_eq!(sum(&[segment]), 0xffff),
                _ => assert_eq!(sum(&[&ip[12..20], &pseudo, segment]), 0xffff, "{frame:x?}"),
            }
            let (source, destination) = (ip[12..16].to_vec(), ip[16..20].to_vec());
            let segment = segment.to_vec();
            Some(Read { v6: false, tagged, source, destination, protocol: ip[9], fragment, segment })
        }
        0x86dd => {
            let length = be16(ip, 4);
            assert!(ip[0] == 0x60 && (ip.len() == 40 + length || frame.len() == 60));
            let fragment = ip[6] == 44;
            let (protocol, segment) =
                if fragment { (ip[40], &ip[48..40 + length]) } else { (ip[6], &ip[40..40 + length]) };
            let pseudo = [0, protocol, ip[4], ip[5]];
            if !fragment {
                assert_eq!(sum(&[&ip[8..40], &pseudo, segment]), 0xffff, "{frame:x?}");
            }
            let (source, destination) = (ip[8..24].to_vec(), ip[24..40].to_vec());
            Some(Read {
                v6: true,
                tagged,
                source,
                destination,
                protocol,
                fragment,
                segment: segment.to_vec(),
            })
        }
        other => panic!("ethertype {other:#x}"),
    }
}

const ALL: &str = "--attack syn-flood --attack udp-flood --attack icmp-flood --attack fragment-flood";

#[test]
fn the_same_options_give_the_same_bytes_and_another_seed_others() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, seed: u8| {
        let out = folder.path().join(name);
        traffic(&out, &format!("--seconds 2 --pps 4000 --attack-at 1s --seed {seed}")).expect_success();
        (fs::read(&out).unwrap(), fs::read(out.with_extension("pcap.truth.json")).unwrap())
    };
    let (a, b, c) = (file("a.pcap", 1), file("b.pcap", 1), file("c.pcap", 2));
    assert!(a == b);
    assert!(a.0 != c.0);
    // Bytes that are in use somewhere stay what they are: a change of the generator shows here.
    let fnv =
        a.0.iter().fold(0xcbf2_9ce4_8422_2325u64, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3));
    assert_eq!(fnv, FINGERPRINT, "the capture of --seconds 2 --pps 4000 --attack-at 1s has changed");
}

const FINGERPRINT: u64 = 16_977_360_302_467_284_378;

#[test]
fn lengths_and_checksums_are_right_and_time_goes_forwards() {
    for options in [
        format!("--seconds 4 --pps 5000 --attack-at 500ms --attack-pps 500 {ALL}"),
        format!("--seconds 5 --pps 500 --attack-at 500ms --attack-pps 300 --ipv6 {ALL}"),
        "--frames imix --packets 5000 --flows 300".into(),
        "--frames 65 --packets 2000 --flows 300 --ipv6".into(),
    ] {
        let w = written(&options);
        let read: Vec<Read> = w.packets.iter().filter_map(|(_, p)| take_apart(p)).collect();
        assert!(read.len() > w.packets.len() * 9 / 10);
        assert!(w.packets.is_sorted_by_key(|(t, _)| *t), "{options}");
        // The checksum of a fragmented datagram covers both halves.
        let halves: Vec<&Read> = read.iter().filter(|r| r.fragment).collect();
        assert_eq!(halves.is_empty(), !options.contains("fragment"));
        for pair in halves.chunks_exact(2) {
            let whole = [&pair[0].segment[..], &pair[1].segment[..]].concat();
            let pseudo = [0, 17, whole.len().to_be_bytes()[6], whole.len().to_be_bytes()[7]];
            assert_eq!(be16(&whole, 4), whole.len());
            assert_eq!(sum(&[&pair[0].source, &pair[0].destination, &pseudo, &whole]), 0xffff);
        }
    }
}

#[test]
fn ordinary_load_is_mixed_and_answered() {
    let w = written("--seconds 5 --pps 6000 --attack none");
    assert_eq!(w.truth["attacks"].as_array().unwrap().len(), 0);
    let n = w.packets.len();
    assert!((28_500..31_500).contains(&n), "{n} packets");
    let read: Vec<Read> = w.packets.iter().filter_map(|(_, p)| take_apart(p)).collect();
    let share = |of: &dyn Fn(&Read) -> bool| read.iter().filter(|r| of(r)).count() * 1000 / n;
    assert!((50..150).contains(&share(&|r| r.v6)));
    assert!((5..150).contains(&share(&|r| r.tagged)));
    assert!((500..900).contains(&share(&|r| r.protocol == 6)));
    assert!((50..400).contains(&share(&|r| r.protocol == 17)));
    assert!((5..100).contains(&share(&|r| r.protocol == 1 || r.protocol == 58)));
    assert!(read.len() < n, "there is ARP");
    // Whoever asks is answered, apart from those whose answer would come after the end.
    let syn = |flags: u8| read.iter().filter(move |r| r.protocol == 6 && r.segment[13] & 0x16 == flags);
    let asked = syn(0x02).count();
    let answered = syn(0x12).count() + syn(0x14).count();
    assert!(asked > 300 && answered * 100 > asked * 80, "{answered} of {asked}");
}

#[test]
fn a_flood_goes_from_one_server_to_one_address_until_the_end_unanswered() {
    let w = written(&format!("--seconds 6 --pps 1000 --attack-at 1s --attack-pps 1000 {ALL}"));
    let attacks = w.truth["attacks"].as_array().unwrap();
    let kinds: Vec<&str> = attacks.iter().map(|a| a["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["syn-flood", "udp-flood", "icmp-flood", "fragment-flood"]);
    let start = w.truth["first_ns"].as_u64().unwrap();
    for (attack, second) in attacks.iter().zip(1..) {
        let bytes = |key: &str| {
            let address: std::net::Ipv4Addr = attack[key].as_str().unwrap().parse().unwrap();
            address.octets().to_vec()
        };
        let (server, target) = (bytes("address"), bytes("target"));
        assert_eq!((server[..3].to_vec(), &target[..3]), (vec![198, 51, 100], &[203, 0, 113][..]));
        let between: Vec<(u64, Read)> = w
            .packets
            .iter()
            .filter_map(|(t, p)| Some((*t, take_apart(p)?)))
            .filter(|(_, r)| r.source == target || r.destination == target)
            .collect();
        assert!(between.iter().all(|(_, r)| r.source == server), "nobody answers");
        assert_eq!(between.len(), (6 - second) * 1000);
        assert_eq!(attack["packets"], between.len());
        assert_eq!(attack["first_ns"], between[0].0);
        assert_eq!(attack["last_ns"], between.last().unwrap().0);
        assert_eq!(between[0].0, start + second as u64 * 1_000_000_000);
    }
    let rows: Vec<&str> = w.table.lines().map(|l| l.split('\t').next().unwrap()).collect();
    assert_eq!(rows, ["what", "all", "syn-flood", "udp-flood", "icmp-flood", "fragment-flood"]);
}

#[test]
fn the_truth_is_what_an_independent_count_finds() {
    let python = Path::new("/usr/bin/python3");
    if !python.exists() {
        common::skip!("{} is missing", python.display());
    }
    for options in [
        format!("--seconds 5 --pps 3000 --hosts 500 --attack-at 1s --attack-pps 500 {ALL}"),
        "--seconds 3 --pps 500 --attack-at 1s --attack fragment-flood --ipv6".into(),
        "--frames imix --packets 5000 --hosts 3000 --internal 10.0.0.0/8".into(),
    ] {
        let w = written(&options);
        let mut oracle = Command::new(python);
        oracle.arg(common::root().join("tests/oracle/hosts.py")).arg(w.folder.path().join("t.pcap"));
        for prefix in w.truth["internal"].as_array().unwrap() {
            oracle.args(["--internal", prefix.as_str().unwrap()]);
        }
        let counted: Value = serde_json::from_str(&run(&oracle, SOON).expect_success()).unwrap();
        let plain = |of: &Value| {
            let line = |l: &Value| (l["packets"].as_u64().unwrap(), l["bytes"].as_u64().unwrap());
            let hosts = of["hosts"].as_array().unwrap().iter();
            hosts.map(|h| (h["address"].clone(), line(&h["out"]), line(&h["in"]))).collect::<Vec<_>>()
        };
        assert!(plain(&counted).len() > 10);
        assert_eq!(plain(&counted), plain(&w.truth), "{options}");
        assert_eq!(counted["totals"]["packets"], w.truth["packets"]);
        assert_eq!(counted["totals"]["bytes"], w.truth["bytes"]);
        assert_eq!(counted["totals"]["malformed"], 0);
    }
}

#[test]
fn a_mix_has_the_sizes_and_flows_that_were_asked_for() {
    let w = written("--frames 64 --packets 4000 --flows 700 --hosts 50");
    assert!(w.packets.iter().all(|(_, p)| p.len() == 64));
    let read: Vec<Read> = w.packets.iter().map(|(_, p)| take_apart(p).unwrap()).collect();
    let outwards = |r: &Read| r.source[..3] == [198, 51, 100];
    assert_eq!(read.iter().filter(|r| outwards(r)).count(), 2000);
    let mut flows = BTreeSet::new();
    let mut servers = BTreeSet::new();
    for r in &read {
        let (mut ends, mut ports) =
            ([r.source.clone(), r.destination.clone()], [be16(&r.segment, 0), be16(&r.segment, 2)]);
        if !outwards(r) {
            ends.reverse();
            ports.reverse();
        }
        servers.insert(ends[0].clone());
        flows.insert((ends, ports, r.protocol));
    }
    assert_eq!((flows.len(), servers.len()), (700, 50));
    assert!(read.iter().all(|r| r.protocol != 6 || r.segment[13] & 0x02 == 0), "no SYN opens a contact");

    let sizes: Vec<usize> =
        written("--frames imix --packets 1200").packets.iter().map(|(_, p)| p.len()).collect();
    let of = |size| sizes.iter().filter(|s| **s == size).count();
    assert_eq!((of(64), of(594), of(1514)), (700, 400, 100));
}

#[test]
fn what_cannot_be_written_is_refused_with_a_reason() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("x.pcap");
    for (options, code, says) in [
        ("--internal 192.0.2.0/28", 1, "name a /24"),
        ("--internal 203.0.112.0/24 --hosts 500", 1, "203.0.113.0/24"),
        ("--internal 100.64.0.0/24", 1, "100.64.0.0/10"),
        ("--seconds 4 --attack-at 5s", 1, "--attack-at"),
        ("--seconds 6 --attack syn-flood --attack udp-flood", 1, "--attack-at"),
        ("--hosts 1 --attack syn-flood --attack udp-flood", 1, "2 attacks"),
        ("--attack flood", 2, "possible values"),
        ("--frames 20", 2, "from 64 to 1514"),
        ("--frames imix --attack none", 2, "cannot be used with"),
        ("--flows 5", 2, "--frames"),
    ] {
        let done = traffic(&out, options);
        assert_eq!(done.status.code(), Some(code), "{options}: {done:?}");
        assert!(done.stderr.contains(says), "{options}: {}", done.stderr);
    }
    let done = traffic(&folder.path().join("nowhere/x.pcap"), "");
    assert!(done.stderr.contains("create") && done.stderr.contains("nowhere/x.pcap"), "{done:?}");
    assert_eq!(done.status.code(), Some(1));
}
