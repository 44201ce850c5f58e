//! On the clock of a capture nothing but the product's own design decides how long a lock takes: at most one tick.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails here")]
#![expect(clippy::print_stdout, reason = "what was measured")]

mod common;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use common::{bin, run};
use serde_json::Value;

const LIMIT: usize = 500;
const SECOND_NS: u64 = 1_000_000_000;
const TICK_NS: u64 = 100_000_000;
/// Beyond the tick itself.
const ALLOWED_NS: u64 = 50_000_000;
/// 2026-01-01.
const BEGIN_S: u64 = 1_767_225_600;

/// An IPv4 packet: Ethernet, header without options, and the beginning of the transport's header.
fn packet(source: [u8; 4], destination: [u8; 4], protocol: u8, transport: &[u8]) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0x77, 0, 1, 2, 0, 0, 0x77, 0, 0x10, 8, 0];
    let total = u16::try_from(20 + transport.len()).unwrap().to_be_bytes();
    frame.extend([0x45, 0, total[0], total[1], 0, 0, 0, 0, 64, protocol, 0, 0]);
    frame.extend(source);
    frame.extend(destination);
    frame.extend(transport);
    frame
}

fn syn(port: u16) -> Vec<u8> {
    let [a, b] = port.to_be_bytes();
    let tcp = [a, b, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 0x02, 0xff, 0xff, 0, 0, 0, 0];
    packet([192, 0, 2, 10], [198, 51, 100, 1], 6, &tcp)
}

/// A pcap file with nanoseconds.
fn write(path: &Path, packets: &[(u64, Vec<u8>)]) {
    let mut bytes = Vec::new();
    let words = |bytes: &mut Vec<u8>, all: &[u64]| {
        for w in all {
            bytes.extend_from_slice(&u32::try_from(*w).unwrap().to_le_bytes());
        }
    };
    words(&mut bytes, &[0xa1b2_3c4d, 2 | 4 << 16, 0, 0, 65_535, 1]);
    for (ns, frame) in packets {
        let length = frame.len() as u64;
        words(&mut bytes, &[BEGIN_S + ns / SECOND_NS, ns % SECOND_NS, length, length]);
        bytes.extend_from_slice(frame);
    }
    std::fs::write(path, bytes).unwrap();
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// Nanoseconds from the packet that crosses the limit to the first one that is dropped.
fn latency(rate: u64, begin_ns: u64) -> u64 {
    let folder = tempfile::tempdir().unwrap();
    let (capture, out) = (folder.path().join("flood.pcap"), folder.path().join("out"));
    // The first packet starts the clock: its ticks are the boundaries of 100 ms from there.
    let mut packets = vec![(0, packet([198, 51, 100, 2], [192, 0, 2, 11], 1, &[8, 0, 0, 0, 0, 0, 0, 0]))];
    let floods: Vec<u64> = (0..2 * rate).map(|i| begin_ns + i * SECOND_NS / rate).collect();
    packets.extend((0..=u16::MAX).cycle().zip(&floods).map(|(port, ns)| (*ns, syn(port))));
    write(&capture, &packets);
    let mut command = Command::new(bin("cordond"));
    command.arg("replay").arg(&capture).arg("--out").arg(&out).args(["--internal", "192.0.2.0/24"]);
    command.args(["--limit", &format!("out.syn.lock_fast={LIMIT}")]);
    run(&command, Duration::from_secs(60)).expect_success();

    let incidents = json(&out.join("incidents.json"));
    let all = incidents["incidents"].as_array().unwrap();
    assert_eq!(all.len(), 1, "{incidents}");
    assert_eq!((&all[0]["kind"], &all[0]["action"]), (&"attack-out".into(), &"lock".into()), "{incidents}");
    let totals = json(&out.join("totals.json"));
    let dropped = usize::try_from(totals["dropped"]["locked-out"]["packets"].as_u64().unwrap()).unwrap();
    assert!(dropped > 0, "{totals}");
    // A lock drops everything from its first packet on.
    let first_dropped = floods.len() - dropped;
    assert!(first_dropped > LIMIT, "locked below the limit: {totals}");
    let crossed = (LIMIT..floods.len()).find(|i| floods[*i] - floods[i - LIMIT] < SECOND_NS).unwrap();
    floods[first_dropped] - floods[crossed]
}

#[test]
fn a_lock_comes_at_most_a_tick_after_the_crossing_wherever_between_ticks_the_attack_begins() {
    let mut worst = (0, 0, 0);
    for rate in [800, 4_000, 100_000] {
        for phase in 0..10 {
            // Not a multiple of anything, so that crossings fall everywhere between two ticks.
            let begin = SECOND_NS + phase * 10_300_000;
            worst = worst.max((latency(rate, begin), rate, begin));
        }
    }
    let (ns, rate, begin) = worst;
    println!("replay: crossing to first dropped packet at most {:?}", Duration::from_nanos(ns));
    assert!(ns <= TICK_NS + ALLOWED_NS, "{ns} ns, {rate} packets/s from {begin} ns on");
}
