//! Every kind of scan is found, by exact rows.
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking, and its numbers are small"
)]

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr};

use super::host::CONTACTS_MAX;
use super::testkit::{BEGINS_NS, Back, MS, S, Script, Verdict, random4, random6, row, sequential4, syn};
use super::{Opener, ScanKind, Variant};
use crate::detect::Level;

fn netscan(n: u32, every_ns: u64, address: fn(u32) -> IpAddr, opener: Opener, port: u16) -> Verdict {
    let mut s = Script::new();
    for i in 0..n {
        let f = row(address(i), opener, 1024 + (i % 60_000) as u16, port);
        s.open(u64::from(i) * every_ns, f, Back::Nothing);
    }
    s.run(u64::from(n) * every_ns)
}

const PROBES: [(Opener, u16); 7] = [
    (Opener::Syn, 80),
    (Opener::Fin, 80),
    (Opener::Null, 80),
    (Opener::Xmas, 80),
    (Opener::Ack, 80),
    (Opener::Udp, 161),
    (Opener::IcmpRequest, 8),
];

#[test]
fn netscans_of_every_technique_order_and_family_are_locked() {
    for (opener, port) in PROBES {
        for address in [random4, sequential4, random6] {
            let v = netscan(400, 20 * MS, address, opener, port);
            assert_eq!(v.level(ScanKind::Netscan), Some(Level::Lock), "{opener:?}");
            assert_eq!(v.level(ScanKind::Portscan), None, "{opener:?}");
            let f = &v.found.last().unwrap().1;
            assert_eq!((f.technique, f.ports.as_slice()), (opener, [port].as_slice()));
        }
    }
}

#[test]
fn netscans_warn_at_their_limit_and_not_below() {
    for (n, level) in
        [(89, None), (90, Some(Level::Warn)), (359, Some(Level::Warn)), (360, Some(Level::Lock))]
    {
        assert_eq!(netscan(n, 100 * MS, random4, Opener::Syn, 80).level(ScanKind::Netscan), level, "{n}");
    }
    for (n, level) in
        [(29, None), (30, Some(Level::Warn)), (119, Some(Level::Warn)), (120, Some(Level::Lock))]
    {
        assert_eq!(netscan(n, 100 * MS, random4, Opener::Syn, 22).level(ScanKind::Netscan), level, "{n}");
    }
}

#[test]
fn portscans_of_every_technique_and_family_are_locked_and_are_no_netscans() {
    for address in [random4, random6] {
        for opener in [Opener::Syn, Opener::Fin, Opener::Null, Opener::Xmas, Opener::Udp] {
            for back in [Back::Nothing, Back::Rst(10), Back::Unreachable(10)] {
                let mut s = Script::new();
                for port in 1..=600 {
                    s.open(u64::from(port) * 10 * MS, row(address(7), opener, 50_000, port), back);
                }
                let v = s.run(6 * S);
                assert_eq!(v.level(ScanKind::Portscan), Some(Level::Lock), "{opener:?}");
                assert_eq!(v.level(ScanKind::Netscan), None, "{opener:?}");
                assert_eq!(v.found.last().unwrap().1.remote, Some(address(7)));
            }
        }
    }
}

#[test]
fn an_ack_portscan_is_found_by_the_service_ports_among_its_ports() {
    let mut s = Script::new();
    for port in 1..=1000 {
        s.open(u64::from(port) * MS, row(random4(1), Opener::Ack, 50_000, port), Back::Rst(5));
    }
    assert_eq!(s.run(S).level(ScanKind::Portscan), Some(Level::Lock));
}

#[test]
fn portscans_warn_at_100_ports_and_open_ports_do_not_hide_them() {
    for (n, level) in [(99, None), (100, Some(Level::Warn)), (400, Some(Level::Lock))] {
        let mut s = Script::new();
        for port in 1..=n {
            s.open(u64::from(port) * 10 * MS, syn(port, random4(1), port as u16), Back::Rst(1));
        }
        for port in 0..n / 2 {
            s.open(u64::from(port) * 10 * MS, syn(port, random4(1), 10_000 + port as u16), Back::Answer(1));
        }
        assert_eq!(s.run(10 * S).level(ScanKind::Portscan), level, "{n}");
    }
}

#[test]
fn one_contact_a_second_for_an_hour_is_found() {
    let v = netscan(3_600, S, random4, Opener::Syn, 443);
    assert_eq!(v.level(ScanKind::Netscan), Some(Level::Warn));
    let (at_ns, f) = v.found.first().unwrap();
    assert_eq!((f.variant, f.failed, f.window_ns), (Variant::Port, 250, 300 * S));
    assert!(*at_ns < 256 * S);
    // It stays found for as long as it goes on.
    assert!(v.found.len() > 33_000);
    let mut s = Script::new();
    for i in 0..3_600 {
        s.open(u64::from(i) * S, syn(i, random4(1), 1 + i as u16), Back::Nothing);
    }
    assert_eq!(s.run(3_600 * S).level(ScanKind::Portscan), Some(Level::Warn));
}

#[test]
fn a_fast_scan_is_locked_within_half_a_second() {
    for port in [80, 22, 9] {
        let v = netscan(10_000, MS / 10, random4, Opener::Syn, port);
        assert!(v.locked_at().unwrap() <= 500 * MS, "{:?}", v.locked_at());
    }
    let mut s = Script::new();
    for port in 0..10_000u16 {
        s.open(u64::from(port) * MS / 10, row(random4(1), Opener::Syn, 40_000, port), Back::Nothing);
    }
    assert!(s.run(S).locked_at().unwrap() <= 500 * MS);
}

#[test]
fn what_was_tried_before_a_lock_is_told_by_silence_and_what_was_tried_after_it_is_not() {
    for (after, found) in [(0, false), (399, true), (300, false)] {
        let mut s = Script::new();
        // Another rule locks it in the midst of its scan.
        s.locked_ns = Some(BEGINS_NS + after * 10 * MS);
        for i in 0..800 {
            s.open(u64::from(i) * 10 * MS, row(random4(i), Opener::Syn, 40_000, 443), Back::Nothing);
        }
        assert_eq!(s.run(20 * S).locked_at().is_some(), found, "{after} before it");
    }
}

#[test]
fn a_scan_faster_than_memory_is_locked_as_soon_and_what_found_no_room_is_counted() {
    let v = netscan(100_000, MS / 200, random4, Opener::Syn, 80);
    assert!(v.locked_at().unwrap() <= 500 * MS, "{:?}", v.locked_at());
    assert!(v.scan.overflow() > 0 && v.scan.len() <= CONTACTS_MAX);
}

#[test]
fn an_outsider_who_answers_half_does_not_hide_a_scan() {
    let mut s = Script::new();
    for i in 0..1_500 {
        let back = if i % 2 == 0 { Back::Nothing } else { Back::Answer(20) };
        s.open(u64::from(i) * 30 * MS, syn(i, random4(i), 80), back);
    }
    assert_eq!(s.run(45 * S).level(ScanKind::Netscan), Some(Level::Lock));
}

#[test]
fn on_a_worm_port_a_fifth_failed_is_enough_to_lock() {
    let mut s = Script::new();
    for i in 0..700 {
        let back = if i % 5 == 0 { Back::Nothing } else { Back::Answer(20) };
        s.open(u64::from(i) * 80 * MS, syn(i, random4(i), 3306), back);
    }
    let v = s.run(56 * S);
    assert_eq!((v.level(ScanKind::Netscan), v.variants()), (Some(Level::Lock), vec![Variant::WormPort]));
}

#[test]
fn answers_excuse_up_to_a_ceiling_only() {
    for (port, variant) in [(22, Variant::FirstContacts), (445, Variant::FirstContacts), (25, Variant::Smtp)]
    {
        for (n, found) in [(199, vec![]), (200, vec![variant])] {
            let mut s = Script::new();
            for i in 0..n {
                s.open(u64::from(i) * 100 * MS, syn(i, random4(i), port), Back::Answer(20));
            }
            let v = s.run(30 * S);
            assert_eq!(v.variants(), found);
            v.assert_no_lock();
        }
    }
    let mut s = Script::new();
    for i in 0..12_000 {
        s.open(u64::from(i) * 4 * MS, syn(i, random4(i), 443), Back::Answer(20));
    }
    assert_eq!(s.run(50 * S).variants(), [Variant::AnyContacts]);
}

#[test]
fn a_scan_of_many_ports_that_stays_below_each_limit_is_found_by_all_together() {
    let mut s = Script::new();
    for i in 0..1_300u32 {
        let port = 1_024 + 17 * (i % 40) as u16;
        s.open(u64::from(i) * 40 * MS, syn(i, random4(i), port), Back::Nothing);
    }
    let v = s.run(52 * S);
    assert_eq!((v.level(ScanKind::Netscan), v.variants()), (Some(Level::Lock), vec![Variant::AnyPort]));
}

#[test]
fn who_tries_unused_internal_space_is_found_at_a_third() {
    let internal = |a: IpAddr| matches!(a, IpAddr::V4(a) if a.octets()[0] == 94);
    for (hits, level) in [(2, None), (3, Some(Level::Warn))] {
        let mut s = Script::new();
        s.is_internal = internal;
        for i in 0..hits {
            s.open(u64::from(i) * MS, syn(i, sequential4(i), 80), Back::Nothing);
        }
        for i in hits..30 {
            s.open(u64::from(i) * 100 * MS, syn(i, random4(i), 80), Back::Nothing);
        }
        let v = s.run(5 * S);
        assert_eq!(v.level(ScanKind::Netscan), level);
        assert!(v.variants().iter().all(|v| *v == Variant::UnusedSpace));
    }
}

#[test]
fn private_space_is_a_destination_where_it_is_internal_and_in_a_laboratory() {
    let private = |i: u32| IpAddr::from(Ipv4Addr::from(0x0a00_0000 + i));
    for (lab, internal, level) in
        [(false, false, None), (true, false, Some(Level::Lock)), (false, true, Some(Level::Lock))]
    {
        let mut s = Script::new();
        s.lab = lab;
        if internal {
            (s.is_internal, s.is_live_internal) = (|_| true, |_| true);
        }
        for i in 0..400 {
            s.open(u64::from(i) * 10 * MS, syn(i, private(i), 80), Back::Nothing);
        }
        assert_eq!(s.run(4 * S).level(ScanKind::Netscan), level);
    }
}

#[test]
fn retries_count_once_and_a_repetition_after_the_window_counts_again() {
    let mut s = Script::new();
    for i in 0..80 {
        for retry in 0..4 {
            s.open(retry * S + u64::from(i) * MS, syn(i + 100 * retry as u32, random4(i), 80), Back::Nothing);
        }
    }
    s.run(5 * S).assert_nothing();
    // The same 100 destinations, every 100 s, from one source port: one row each, which goes on.
    let mut s = Script::new();
    for i in 0..100 {
        s.open(u64::from(i) * MS, row(random4(i), Opener::Syn, 40_000, 80), Back::Nothing);
        for round in 1..10 {
            s.change_last(round * 100 * S + u64::from(i) * MS, |f| f.out_packets += 1);
        }
    }
    let v = s.run(1_000 * S);
    let rounds: HashSet<u64> = v.found.iter().map(|(t, _)| t / (100 * S)).collect();
    assert_eq!(rounds.len(), 10);
}

#[test]
fn a_slow_scan_hides_in_no_traffic_however_busy() {
    let mut s = Script::new();
    for i in 0..100_000 {
        s.open(
            u64::from(i) * MS,
            row(random4(i), Opener::Udp, 1024 + (i % 60_000) as u16, 53),
            Back::Answer(20),
        );
    }
    for i in 0..300 {
        s.open(u64::from(i) * S, syn(i, sequential4(i), 23), Back::Nothing);
    }
    let v = s.run(300 * S);
    assert!(v.variants().contains(&Variant::WormPort), "{:?}", v.variants());
    assert!(v.scan.len() <= CONTACTS_MAX);
}

#[test]
fn a_peer_to_peer_node_that_also_sweeps_a_worm_port_is_locked_for_that() {
    let mut s = Script::new();
    for i in 0..3_000u32 {
        let port = 1024 + (i.wrapping_mul(40_503) % 60_000) as u16;
        let back = if i % 3 == 0 { Back::Answer(50) } else { Back::Nothing };
        s.open(u64::from(i) * 20 * MS, row(random4(i), Opener::Udp, 6881, port), back);
    }
    for i in 0..200 {
        s.open(u64::from(i) * 100 * MS, syn(i, sequential4(i), 23), Back::Nothing);
    }
    let v = s.run(60 * S);
    let locked: HashSet<_> =
        v.found.iter().filter(|(_, f)| f.level == Level::Lock).map(|(_, f)| f.variant).collect();
    assert_eq!(locked, HashSet::from([Variant::WormPort]));
}

#[test]
fn a_sweep_for_a_service_is_no_peer_to_peer_traffic_whatever_surrounds_it() {
    let mut s = Script::new();
    for i in 0..1_600u32 {
        let (port, back) = if i % 2 == 0 {
            (161, Back::Nothing)
        } else {
            (1024 + (i.wrapping_mul(40_503) % 60_000) as u16, Back::Answer(20))
        };
        s.open(u64::from(i) * 30 * MS, row(random4(i), Opener::Udp, 6881, port), back);
    }
    assert_eq!(s.run(48 * S).level(ScanKind::Netscan), Some(Level::Lock));
}

#[test]
fn the_rows_that_prove_a_finding_are_exact_and_in_order() {
    let mut s = Script::new();
    for i in 0..400 {
        let back = if i % 10 == 0 { Back::Answer(5) } else { Back::Rst(5) };
        s.open(u64::from(i) * 20 * MS, syn(i, random4(i), 80), back);
    }
    let v = s.run(8 * S);
    let (_, f) = v.found.iter().rfind(|(_, f)| f.variant == Variant::Port).unwrap();
    assert_eq!((f.contacts, f.failed, f.answered, f.limit), (400, 360, 40, 360));
    let (rows, more) = v.scan.proof(f, 100);
    assert_eq!((rows.len(), more), (100, 260));
    assert!(rows.is_sorted_by_key(|r| r.time_ns));
    let first = rows[0];
    assert_eq!((first.remote, first.remote_port, first.local_port), (random4(1), 80, 32_769));
    assert_eq!((first.protocol, first.size, first.time_ns), (6, 60, f.first_ns));
}

#[test]
fn a_late_answer_takes_a_failure_back() {
    let mut s = Script::new();
    for i in 0..100 {
        s.open(u64::from(i) * MS, syn(i, random4(i), 80), Back::Answer(8_000));
    }
    let v = s.run(20 * S);
    assert_eq!(v.level(ScanKind::Netscan), Some(Level::Warn));
    assert!(v.found.iter().all(|(t, _)| *t < 9 * S));
}

#[test]
fn the_same_flows_give_the_same_findings() {
    let run = || {
        let v = netscan(1_000, 7 * MS, random4, Opener::Syn, 443);
        let rows = v.found.last().map(|(_, f)| v.scan.proof(f, 1_000));
        (format!("{:?}", v.found), rows)
    };
    assert!(run() == run());
}
