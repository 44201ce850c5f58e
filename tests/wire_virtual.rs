//! The worker at full speed (`net_null`: always packets, always sent) and the demo's feed (`net_ring`).
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails here")]

mod common;

use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;

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
