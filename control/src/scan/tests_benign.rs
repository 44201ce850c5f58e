//! Who must not be locked by mistake, and mostly is not even warned.
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking, and its numbers are small"
)]

use std::net::IpAddr;

use super::testkit::{Back, MS, S, Script, random4, random6, row, sequential4, syn};
use super::{Opener, Refused, Variant};

/// Fails one in `n`, silently; the rest is answered after 40 ms.
fn one_in(i: u32, n: u32) -> Back {
    if i.is_multiple_of(n) { Back::Nothing } else { Back::Answer(40) }
}

#[test]
fn a_resolver_is_never_a_netscan() {
    let mut s = Script::new();
    for i in 0..10_000 {
        s.open(
            u64::from(i) * 10 * MS,
            row(random4(i), Opener::Udp, 1024 + (i % 60_000) as u16, 53),
            one_in(i, 20),
        );
    }
    s.run(100 * S).assert_nothing();
}

#[test]
fn a_very_busy_resolver_is_warned_of_its_ten_thousand_contacts_at_most() {
    let mut s = Script::new();
    for i in 0..60_000 {
        s.open(
            u64::from(i) * MS,
            row(random4(i), Opener::Udp, 1024 + (i % 60_000) as u16, 53),
            one_in(i, 10),
        );
    }
    let v = s.run(60 * S);
    v.assert_no_lock();
    assert_eq!(v.variants(), [Variant::AnyContacts]);
}

#[test]
fn a_mail_server_with_dead_destinations_is_not_locked() {
    let mut s = Script::new();
    for i in 0..150 {
        s.open(u64::from(i) * 400 * MS, syn(i, random4(i), 25), one_in(i, 6));
    }
    s.run(60 * S).assert_nothing();
    let mut s = Script::new();
    for i in 0..3_000u32 {
        s.open(u64::from(i) * 20 * MS, syn(i, random4(i), 25), one_in(i, 30));
    }
    let v = s.run(60 * S);
    v.assert_no_lock();
    assert_eq!(v.variants(), [Variant::Smtp]);
}

#[test]
fn a_crawler_is_nothing() {
    let mut s = Script::new();
    for i in 0..9_000 {
        let port = if i % 4 == 0 { 80 } else { 443 };
        let back = match i % 10 {
            0 => Back::Nothing,
            1 => Back::Rst(30),
            _ => Back::Answer(80),
        };
        s.open(u64::from(i) * 10 * MS, syn(i, random4(i), port), back);
    }
    s.run(90 * S).assert_nothing();
}

#[test]
fn a_tor_exit_is_nothing() {
    let mut s = Script::new();
    let ports = [443, 80, 22, 8333, 5222, 6697, 993, 8080, 9001, 50002];
    for i in 0..6_000u32 {
        let port = if i % 3 == 0 { ports[(i / 3) as usize % ports.len()] } else { 443 };
        s.open(u64::from(i) * 20 * MS, syn(i, random4(i), port), one_in(i, 7));
    }
    s.run(120 * S).assert_nothing();
}

/// `n` clients ask; the host replies. Also replies whose question came before the watch.
fn server(port: u16, n: u32, opener: Opener) -> Script {
    let mut s = Script::new();
    for i in 0..n {
        let mut f = row(random4(i), opener, port, 1024 + (i % 60_000) as u16);
        f.protocol = 17;
        s.open(u64::from(i) * MS / 2, f, Back::Nothing);
    }
    s
}

#[test]
fn an_authoritative_server_that_answers_100_000_clients_is_nothing() {
    let v = server(53, 100_000, Opener::RemoteFirst).run(50 * S);
    v.assert_nothing();
    assert!(v.scan.is_empty());
}

#[test]
fn servers_of_which_only_the_replies_are_seen_are_nothing() {
    for port in [53, 123, 161, 3478, 27_015] {
        server(port, 5_000, Opener::Udp).run(10 * S).assert_nothing();
    }
}

#[test]
fn an_ntp_server_that_also_asks_its_peers_is_nothing() {
    let mut s = server(123, 20_000, Opener::RemoteFirst);
    for i in 0..20 {
        s.open(u64::from(i) * S, row(sequential4(i), Opener::Udp, 123, 123), one_in(i, 4));
    }
    s.run(20 * S).assert_nothing();
}

#[test]
fn a_dht_node_is_warned_at_most() {
    for answered_one_in in [2, 3, 5, 9] {
        let mut s = Script::new();
        for i in 0..6_000u32 {
            let back = if i % answered_one_in == 0 { Back::Answer(90) } else { Back::Nothing };
            let port = 1024 + (i.wrapping_mul(40_503) % 60_000) as u16;
            s.open(u64::from(i) * 10 * MS, row(random4(i), Opener::Udp, 6881, port), back);
        }
        s.run(60 * S).assert_no_lock();
    }
}

#[test]
fn a_node_whose_network_shares_one_udp_port_is_warned_at_most() {
    let mut s = Script::new();
    for i in 0..3_000u32 {
        let back = if i % 5 == 0 { Back::Answer(90) } else { Back::Nothing };
        s.open(u64::from(i) * 20 * MS, row(random4(i), Opener::Udp, 30_303, 30_303), back);
    }
    let v = s.run(60 * S);
    v.assert_no_lock();
    assert_eq!(v.variants(), [Variant::PeerToPeer]);
}

#[test]
fn a_bittorrent_client_that_dials_dead_peers_is_warned_at_most() {
    let mut s = Script::new();
    for i in 0..2_400u32 {
        let back = if i % 6 == 0 { Back::Answer(90) } else { Back::Nothing };
        let port = 1024 + (i.wrapping_mul(40_503) % 60_000) as u16;
        s.open(u64::from(i) * 30 * MS, syn(i, random4(i), port), back);
    }
    let v = s.run(72 * S);
    v.assert_no_lock();
    assert_eq!(v.variants(), [Variant::PeerToPeer]);
}

#[test]
fn a_node_that_dials_private_addresses_is_counted_as_misconfigured_and_is_no_netscan() {
    let mut s = Script::new();
    for i in 0..2_000u32 {
        let to: IpAddr = if i % 2 == 0 {
            std::net::Ipv4Addr::from(0x0a00_0000 + i).into()
        } else {
            std::net::Ipv4Addr::from(0xc0a8_0000 + i).into()
        };
        s.open(u64::from(i) * 10 * MS, syn(i, to, 4001), Back::Nothing);
    }
    let v = s.run(20 * S);
    v.assert_nothing();
    assert_eq!(v.scan.bogons(), 2_000);
}

#[test]
fn a_game_server_browser_is_nothing() {
    let mut s = Script::new();
    for i in 0..28 {
        s.open(u64::from(i) * 30 * MS, row(random4(i), Opener::Udp, 50_000, 27_017), one_in(i, 4));
    }
    s.run(S).assert_nothing();
}

#[test]
fn a_speed_test_is_nothing() {
    let mut s = Script::new();
    for i in 0..64 {
        s.open(u64::from(i) * MS, syn(i, random4(1), 8080), Back::Answer(10));
        for second in 1..20 {
            s.change_last(second * S, |f| f.out_packets += 80_000);
        }
    }
    s.run(20 * S).assert_nothing();
}

#[test]
fn a_traceroute_is_no_scan_not_even_to_many_destinations() {
    let mut s = Script::new();
    for target in 0..400u32 {
        for probe in 0..90u16 {
            let back = match probe {
                0..45 if probe % 5 == 0 => Back::Nothing,
                0..45 => Back::TimeExceeded(30),
                _ => Back::Unreachable(40),
            };
            let f = row(random4(target), Opener::Udp, 40_000 + probe, 33_434 + probe);
            s.open(u64::from(target) * 150 * MS + u64::from(probe) * MS, f, back);
        }
        // The same with echo requests and with SYN.
        let t = u64::from(target) * 150 * MS;
        s.open(t, row(random4(target), Opener::IcmpRequest, 7, 8), Back::TimeExceeded(30));
        s.open(t, syn(target, random4(target), 443), Back::TimeExceeded(30));
    }
    s.run(60 * S).assert_nothing();
}

#[test]
fn the_victim_of_a_syn_flood_is_nothing() {
    for opener in [Opener::RemoteFirst, Opener::Reaction] {
        let mut s = Script::new();
        for i in 0..50_000 {
            s.open(u64::from(i) * MS / 20, row(random4(i), opener, 80, (i % 65_000) as u16), Back::Nothing);
        }
        s.run(3 * S).assert_nothing();
    }
}

#[test]
fn backscatter_is_nothing() {
    let mut s = Script::new();
    for i in 0..5_000 {
        let mut f = row(random4(i), Opener::RemoteFirst, (i % 65_000) as u16, 80);
        f.refused = Refused::Rst;
        s.open(u64::from(i) * 10 * MS, f, Back::Nothing);
    }
    s.run(50 * S).assert_nothing();
}

#[test]
fn a_vpn_gateway_is_nothing() {
    let mut s = Script::new();
    for i in 0..3_000u32 {
        let t = u64::from(i) * 20 * MS;
        s.open(t, syn(i, random4(i), 443), one_in(i, 12));
        s.open(t, row(random4(i), Opener::Udp, 20_000 + (i % 40_000) as u16, 443), one_in(i, 3));
        // Its clients roam: keep-alives go to where they were.
        s.open(t, row(random4(100_000 + i), Opener::Udp, 51_820, 1024 + (i % 60_000) as u16), Back::Nothing);
    }
    s.run(60 * S).assert_nothing();
}

#[test]
fn monitoring_of_500_hosts_of_which_some_are_down_is_nothing() {
    let mut s = Script::new();
    for round in 0..10u64 {
        for i in 0..500 {
            let t = round * 60 * S + u64::from(i) * 100 * MS;
            s.open(t, row(random4(i), Opener::IcmpRequest, 9, 8), one_in(i, 6));
            s.open(t, syn(i + 500, random4(i), 443), one_in(i, 6));
        }
    }
    s.run(600 * S).assert_nothing();
}

#[test]
fn five_hundred_answered_connections_at_once_are_nothing_in_both_families() {
    for address in [random4, random6] {
        let mut s = Script::new();
        for i in 0..500 {
            s.open(u64::from(i) * MS, syn(i, address(i), 443), Back::Answer(120));
        }
        s.run(2 * S).assert_nothing();
    }
}

#[test]
fn answers_that_take_longer_than_the_short_silence_excuse_a_fast_host() {
    let mut s = Script::new();
    for i in 0..5_000 {
        s.open(u64::from(i) * MS / 2, syn(i, random4(i), 443), Back::Answer(100 + u64::from(i % 400)));
    }
    s.run(3 * S).assert_nothing();
}

#[test]
fn an_outage_upstream_is_nothing() {
    let mut s = Script::new();
    s.can_judge_silence = false;
    for i in 0..20_000 {
        let port = [443, 53, 22, 445][(i % 4) as usize];
        s.limits.ceiling = 0;
        s.limits.any_contacts = 0;
        s.open(u64::from(i) * 5 * MS, syn(i, random4(i), port), Back::Nothing);
    }
    s.run(100 * S).assert_nothing();
}

#[test]
fn a_locked_server_is_not_judged_by_the_answers_that_the_lock_keeps_from_it() {
    let mut s = Script::new();
    s.locked_ns = Some(0);
    for i in 0..2_000 {
        s.open(u64::from(i) * 10 * MS, syn(i, random4(i), 443), Back::Nothing);
    }
    s.run(20 * S).assert_nothing();
}

#[test]
fn port_knocking_is_nothing() {
    let mut s = Script::new();
    for i in 0..60 {
        for (n, port) in [7000, 8000, 9000].into_iter().enumerate() {
            s.open(u64::from(i) * 10 * S + n as u64 * MS, syn(i, random4(i % 3), port), Back::Nothing);
        }
        s.open(u64::from(i) * 10 * S + 10 * MS, syn(i, random4(i % 3), 22), Back::Answer(20));
    }
    s.run(600 * S).assert_nothing();
}

#[test]
fn health_checks_of_a_load_balancer_with_dead_backends_are_nothing() {
    let mut s = Script::new();
    for round in 0..150u64 {
        for i in 0..60 {
            let back = if i < 20 { Back::Rst(1) } else { Back::Answer(1) };
            let n = (round as u32) * 60 + i;
            s.open(round * 2 * S + u64::from(i) * MS, syn(n, sequential4(i), 8080), back);
        }
    }
    s.run(300 * S).assert_nothing();
}

#[test]
fn connections_that_were_open_before_the_watch_are_nothing() {
    let mut s = Script::new();
    for i in 0..5_000 {
        // Last acknowledgements and keep-alives, of a client's connections and of a server's.
        s.open(u64::from(i) * 10 * MS, row(random4(i), Opener::None, 40_000, 443), Back::Nothing);
        let f = row(random4(i), Opener::Ack, 443, 1024 + (i % 60_000) as u16);
        s.open(u64::from(i) * 10 * MS, f, Back::Nothing);
        s.open(u64::from(i) * 10 * MS, row(random4(i), Opener::Ack, 40_000, 443), Back::Answer(30));
    }
    s.run(50 * S).assert_nothing();
}

#[test]
fn empty_acks_from_a_port_on_which_the_host_accepts_connections_are_nothing() {
    let mut s = Script::new();
    let mut client = row(random4(99_999), Opener::RemoteFirst, 8443, 50_000);
    (client.out_packets, client.in_packets) = (4, 5);
    s.open(0, client, Back::Nothing);
    for i in 0..500 {
        s.open(S + u64::from(i) * 10 * MS, row(random4(i), Opener::Ack, 8443, 443), Back::Nothing);
    }
    s.run(10 * S).assert_nothing();
}

#[test]
fn long_connections_are_contacts_once() {
    let mut s = Script::new();
    for i in 0..199 {
        s.open(u64::from(i) * MS, syn(i, random4(i), 22), Back::Answer(20));
        for t in 1..100 {
            s.change_last(t * 10 * S, |f| f.out_packets += 100);
        }
    }
    let v = s.run(1_000 * S);
    v.assert_nothing();
    assert!(v.scan.is_empty());
}
