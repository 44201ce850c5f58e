//! Servers whose contacts fail through no doing of theirs, and servers that somebody else wants to see locked.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails here")]

mod common;

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV6};

use common::packets::{ACK, MS, Recording, SECOND, SYN, SYN_ACK, at, nth, tcp, tcp6, udp};
use common::replay::{Replayed, play};

const SERVERS: &str = "198.51.0.0/16";
const SERVERS_V6: &str = "2a0b:1::/48";
const SERVER: Ipv4Addr = Ipv4Addr::new(198, 51, 7, 7);
/// A server with ordinary work: what says that answers can be seen.
const NEIGHBOUR: Ipv4Addr = Ipv4Addr::new(198, 51, 200, 200);
const SERVICE: Ipv4Addr = Ipv4Addr::new(45, 1, 1, 1);
const PEERS: Ipv4Addr = Ipv4Addr::new(45, 64, 0, 1);
const ANYWHERE: Ipv4Addr = Ipv4Addr::new(80, 0, 0, 0);

/// The n-th address of anywhere, never the same twice.
fn spoofed(n: u32) -> Ipv4Addr {
    nth(ANYWHERE, n.wrapping_mul(0x9e37_79b1) & 0x07ff_ffff)
}

fn no_scan(seen: &Replayed, what: &str) {
    let scans = seen.incidents.iter().filter(|i| i["kind"] == "netscan" || i["kind"] == "portscan");
    assert_eq!(scans.filter(|i| i["action"] == "lock").count(), 0, "{what}: {:?}", seen.short());
}

/// Its neighbours are answered all along: nothing but its own traffic says that the fault is not its own.
#[test]
fn a_server_into_which_nothing_comes_any_more_is_not_locked_for_what_it_asks() {
    for (name, is_tcp) in [("crawler", true), ("resolver", false)] {
        let mut r = Recording::default();
        for n in 0..4 {
            r.ordinary(nth(NEIGHBOUR, n), nth(SERVICE, n), 20 * MS, 120 * SECOND);
        }
        for i in 0..100 * 50u32 {
            let t = u64::from(i) * 20 * MS;
            let source = 20_000 + u16::try_from(i % 30_000).unwrap();
            let port = if is_tcp { 443 } else { 53 };
            let (own, far) = (at(SERVER, source), at(nth(PEERS, i), port));
            // Cut off for fifty seconds, and for some time answered again.
            let cut = (20 * SECOND..70 * SECOND).contains(&(t + 30 * MS));
            if is_tcp {
                r.add(t, tcp(own, far, SYN));
            } else {
                r.add(t, udp(own, far, 40));
            }
            if !cut {
                r.add(t + 30 * MS, if is_tcp { tcp(far, own, SYN_ACK) } else { udp(far, own, 200) });
            }
        }
        no_scan(&play(r, &["--internal", SERVERS]), name);
    }
}

/// IPv4 is in order all along; who dials both is not to be blamed for it.
#[test]
fn nobody_is_locked_for_ipv6_when_no_answer_comes_over_ipv6() {
    for broken_from_s in [0, 20] {
        let mut r = Recording::default();
        for n in 0..4 {
            r.ordinary(nth(NEIGHBOUR, n), nth(SERVICE, n), 10 * MS, 100 * SECOND);
        }
        let six = |net: u16, host: u16, port: u16| {
            SocketAddrV6::new(Ipv6Addr::new(0x2a0b, 1, 0, net, 0, 0, 0, host), port, 0, 0)
        };
        let far = |n: u32| {
            let [high, low] = [n >> 16, n & 0xffff].map(|w| u16::try_from(w).unwrap());
            SocketAddrV6::new(Ipv6Addr::new(0x2a01, 0x4f8, high, low, 0, 0, 0, 1), 443, 0, 0)
        };
        for i in 0..90 * 50u32 {
            let t = u64::from(i) * 20 * MS;
            let source = 20_000 + u16::try_from(i % 30_000).unwrap();
            // A crawler, and ordinary servers that connect to the same few services.
            let mut dial = |t: u64, own: SocketAddrV6, to: SocketAddrV6| {
                r.add(t, tcp6(own, to, SYN));
                if t < broken_from_s * SECOND {
                    r.add(t + 30 * MS, tcp6(to, own, SYN_ACK));
                    r.add(t + 31 * MS, tcp6(own, to, ACK));
                }
            };
            dial(t, six(1, 1, source), far(i));
            for n in 2..6 {
                if i.is_multiple_of(4) {
                    dial(t + u64::from(n) * MS, six(n, 1, source), far(1_000_000 + u32::from(n)));
                }
            }
        }
        no_scan(&play(r, &["--internal", SERVERS, "--internal", SERVERS_V6]), "IPv6");
    }
}

/// What it is asked has forged sources, and what it replies goes to hosts that never asked.
#[test]
fn a_server_that_replies_to_forged_questions_is_not_locked_for_its_replies() {
    for (name, port, from) in
        [("DNS from port 53", 53, Some(53)), ("a game", 7_777, None), ("from 161", 7_777, Some(161))]
    {
        let mut r = Recording::default();
        r.ordinary(NEIGHBOUR, SERVICE, 20 * MS, 20 * SECOND);
        for i in 0..12 * 4_000u32 {
            let t = 2 * SECOND + u64::from(i) * SECOND / 4_000;
            let source = from.unwrap_or(1_024 + u16::try_from(i.wrapping_mul(7_919) % 60_000).unwrap());
            let (client, server) = (at(spoofed(i), source), at(SERVER, port));
            r.add(t, udp(client, server, 40));
            r.add(t + MS, udp(server, client, 200));
            // Some asking of its own, so that somebody looks.
            if i.is_multiple_of(400) {
                r.add(t + 2 * MS, udp(at(SERVER, 30_000), at(nth(PEERS, i), 53), 40));
            }
        }
        no_scan(&play(r, &["--internal", SERVERS]), name);
    }
}

/// libp2p dials from the port it listens on, and half of the addresses it was told are stale.
#[test]
fn a_peer_to_peer_node_that_dials_its_networks_tcp_port_is_warned_at_most() {
    for listens in [true, false] {
        let mut r = Recording::default();
        r.ordinary(NEIGHBOUR, SERVICE, 20 * MS, 70 * SECOND);
        for i in 0..1_200u32 {
            let t = 2 * SECOND + u64::from(i) * 50 * MS;
            let source = if listens { 4_001 } else { 20_000 + u16::try_from(i).unwrap() };
            let (own, far) = (at(SERVER, source), at(nth(PEERS, i), 4_001));
            r.add(t, tcp(own, far, SYN));
            if i % 10 < 3 {
                r.add(t + 80 * MS, tcp(far, own, SYN_ACK));
                r.add(t + 81 * MS, tcp(own, far, ACK));
            }
        }
        no_scan(&play(r, &["--internal", SERVERS]), "libp2p");
    }
}
