//! The worker at full speed (`net_null`: always packets, always sent) and the demo's feed (`net_ring`).
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails here")]

mod common;

use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use common::dataplane::{Appliance, BOTH, Balance, SOON, STOP, assert_balanced};
use common::{eventually, pcap};
use region::{Dir, Facts, Side, Verdict};

fn received(facts: &Facts) -> u64 {
    Side::ALL.map(|s| Balance::of(facts, s).received).iter().sum()
}

#[test]
fn millions_are_forwarded_and_the_balance_is_exact_at_rest() {
    let appliance = Appliance::new("net_null0", "net_null1");
    let daemon = appliance.start();
    let facts = appliance.facts();
    assert_eq!(facts.header().phase.load(Relaxed), 1, "forwarding");
    eventually("three million packets", SOON, || (received(&facts) > 3_000_000).then_some(()));
    assert!(facts.workers()[0].busy_cycles.load(Relaxed) > 0);
    let status = daemon.term(STOP);
    assert!(status.success(), "{status}: {}", daemon.log());
    assert_eq!(facts.header().phase.load(Relaxed), 2, "stopping");
    for b in assert_balanced(&facts) {
        assert!(b.received > 0);
        assert_eq!(b.packets(Verdict::Forward), b.received, "net_null takes everything: {b:?}");
    }
}

#[test]
fn every_queue_of_every_wire_has_its_worker() {
    let mut appliance = Appliance::new("net_null0", "net_null1");
    appliance.add_wire("net_null2", "net_null3");
    appliance.dataplane.push("queues = 2".into());
    let daemon = appliance.start();
    let facts = appliance.facts();
    eventually("both workers move packets", SOON, || {
        let moved = facts.workers().iter().map(|w| w.sides[0].rx_packets.load(Relaxed));
        (moved.filter(|n| *n > 10_000).count() == 2).then_some(())
    });
    assert_eq!(facts.header().ports.load(Relaxed), 4);
    let cores: Vec<u64> = facts.workers().iter().map(|w| w.core.load(Relaxed)).collect();
    for (thread, core) in ["worker0", "worker1"].into_iter().zip(cores) {
        assert_eq!(allowed_cores(daemon.id(), thread), (core - 1).to_string(), "{thread} is pinned");
    }
    assert!(daemon.term(STOP).success());
    assert_balanced(&facts);
    assert!(facts.ports()[..4].iter().all(|p| p.ipackets.load(Relaxed) > 0 && p.link_up.load(Relaxed) == 1));
}

/// `Cpus_allowed_list` of a thread.
fn allowed_cores(process: i32, thread: &str) -> String {
    let tasks = std::fs::read_dir(format!("/proc/{process}/task")).unwrap();
    let named = tasks
        .flatten()
        .find(|t| std::fs::read_to_string(t.path().join("comm")).is_ok_and(|name| name.trim() == thread));
    let status = std::fs::read_to_string(named.unwrap().path().join("status")).unwrap();
    status.lines().find_map(|l| l.strip_prefix("Cpus_allowed_list:")).unwrap().trim().to_owned()
}

/// A request of each of two servers and its answer, `rounds` times.
fn conversation(path: &Path, rounds: u8) -> u64 {
    let mut frames = Vec::new();
    for round in 0..rounds {
        for server in [10, 11] {
            let ends = [[10, 77, 0, server], [10, 78, 0, 1]];
            for [source, destination] in [[ends[0], ends[1]], [ends[1], ends[0]]] {
                let mut f = vec![
                    2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, 0x45, 0, 0, 20, 0, round, 0, 0, 64, 255, 0, 0,
                ];
                f.extend([source, destination].concat());
                frames.push(f);
            }
        }
    }
    pcap::write(path, &frames);
    frames.len() as u64
}

#[test]
fn the_feed_plays_each_packet_on_the_side_of_its_source() {
    let mut appliance = Appliance::new("net_ring0", "net_ring1");
    let capture = appliance.path("demo.pcap");
    let frames = conversation(&capture, 250);
    appliance
        .dataplane
        .push(format!("feed = {{ capture = \"{}\", speed = 1.0, repeat = false }}", capture.display()));
    let decisions = appliance.policy(&[("10.77.0.11", BOTH)], &[]);
    let daemon = appliance.start();
    let line = daemon.wait_for_line("feed: ", SOON);
    assert!(
        line.contains(&format!("{frames} packets of {} played, 0 of them lost", capture.display())),
        "{line}"
    );
    for side in Side::ALL {
        appliance.wait_received(side, frames / 2);
    }
    assert!(daemon.term(STOP).success());
    let facts = appliance.facts();
    let [inside, outside] = assert_balanced(&facts);
    assert_eq!(
        (inside.packets(Verdict::Forward), inside.packets(Verdict::DropLockedOut)),
        (frames / 4, frames / 4)
    );
    assert_eq!(
        (outside.packets(Verdict::Forward), outside.packets(Verdict::DropLockedIn)),
        (frames / 4, frames / 4)
    );
    for (server, dropped) in [("10.77.0.10", 0), ("10.77.0.11", frames / 4)] {
        for dir in Dir::ALL {
            let l = decisions.line(&facts, server, dir);
            assert_eq!((l.packets, u64::from(l.dropped)), (frames / 4, dropped), "{server} {dir:?}");
        }
    }
}

#[test]
fn the_feed_repeats_until_it_is_stopped_and_counts_what_it_loses() {
    let mut appliance = Appliance::new("net_ring0", "net_ring1");
    let capture = appliance.path("demo.pcap");
    let frames = conversation(&capture, 250);
    appliance.dataplane.push(format!("feed = {{ capture = \"{}\", speed = 1000.0 }}", capture.display()));
    let daemon = appliance.start();
    let facts = appliance.facts();
    eventually("it plays again and again", SOON, || (received(&facts) > frames * 3).then_some(()));
    assert!(daemon.term(STOP).success());
    let line = daemon.wait_for_line("packets lost in all", SOON);
    // One line for the first round and one for all, however often it went round.
    assert_eq!(daemon.log().matches("feed: ").count(), 2, "{line}");
    assert_balanced(&facts);
}

#[test]
fn a_feed_without_packets_does_not_go_round_in_circles() {
    let mut appliance = Appliance::new("net_ring0", "net_ring1");
    let capture = appliance.path("empty.pcap");
    pcap::write(&capture, &pcap::Frames::new());
    appliance.dataplane.push(format!("feed = {{ capture = \"{}\" }}", capture.display()));
    let daemon = appliance.start();
    daemon.wait_for_line("feed: 0 packets", SOON);
    let rounds = appliance.facts();
    eventually("housekeeping goes on", SOON, || {
        (rounds.header().housekeeping_rounds.load(Relaxed) > 5).then_some(())
    });
    assert!(daemon.term(STOP).success());
    assert_eq!(daemon.log().matches("feed: ").count(), 1, "{}", daemon.log());
}

/// UDP from a server to the internet.
fn udp_from(server: u8) -> Vec<u8> {
    let mut f = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, 0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0];
    f.extend([10, 77, 0, server, 10, 78, 0, 1, 0x20, 0, 0x20, 1, 0, 8, 0, 0]);
    f.resize(60, 0);
    f
}

/// What is left of a burst may wait for company, but not for as much as it takes.
#[test]
fn an_innocent_packet_does_not_wait_for_the_flood_around_it() {
    const ROUND: u64 = 1024;
    let mut appliance = Appliance::new("", "");
    let flood = appliance.path("flood.pcap");
    let frames: Vec<Vec<u8>> = (0..ROUND).map(|i| udp_from(if i == 500 { 10 } else { 11 })).collect();
    pcap::write(&flood, &frames);
    // The driver plays it over and over, in full bursts.
    let looped = format!("net_pcap0,rx_pcap={},infinite_rx=1", flood.display());
    appliance.set_wire(&looped, "net_null0,no-rx=1");
    appliance.policy(&[("10.77.0.11", BOTH)], &[]);
    let daemon = appliance.start();
    let facts = appliance.facts();
    let polls = || facts.workers()[0].polls.load(Relaxed);
    let read = || Balance::of(&facts, Side::Inside);
    eventually("a thousand rounds", SOON, || (read().received > 1000 * ROUND).then_some(()));
    for _ in 0..200 {
        let received = read().received;
        // A look at all queues is at most one burst, and the fifth has sent what the first left.
        let (looks, deadline) = (polls() + 6, Instant::now() + SOON);
        // No sleep: what is sent meanwhile hides what is late.
        while polls() < looks {
            assert!(Instant::now() < deadline, "the worker stands still");
        }
        let sent = read().packets(Verdict::Forward);
        assert!(sent >= received / ROUND, "{sent} of {} are sent", received / ROUND);
    }
    assert!(daemon.term(STOP).success());
    let [inside, _] = assert_balanced(&facts);
    assert!(inside.packets(Verdict::Forward).abs_diff(inside.received / ROUND) <= 1, "{inside:?}");
}

#[test]
fn a_worker_sleeps_only_when_told_to_and_its_queues_are_empty() {
    const TOLD_US: u64 = 100;
    for (told, sleeps) in [(format!("{TOLD_US}us"), true), ("0us".to_owned(), false)] {
        let mut appliance = Appliance::new("net_null0,no-rx=1", "net_null1,no-rx=1");
        appliance.idle_sleep = told;
        let daemon = appliance.start();
        let facts = appliance.facts();
        let polls = || facts.workers()[0].polls.load(Relaxed);
        let began = Instant::now();
        let before = polls();
        // So many looks take a worker that sleeps between them most of a second, and one that polls a moment.
        const LOOKS: u64 = 5000;
        eventually("looks at empty queues", SOON, || (polls() - before >= LOOKS).then_some(()));
        let took = u64::try_from(began.elapsed().as_micros()).unwrap();
        if sleeps {
            // The first few come without.
            assert!(took >= (LOOKS - 100) * TOLD_US, "{LOOKS} looks in {took} us");
        }
        assert!(daemon.term(STOP).success());
        assert_eq!(assert_balanced(&facts).map(|b| b.received), [0, 0]);
    }
}
