//! Frames for tests.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Env, Finding, Mac, Side, Watcher};

pub(crate) const SECOND: u64 = 1_000_000_000;
pub(crate) const ALL: Mac = Mac::BROADCAST;
pub(crate) const ALL_NODES: Mac = Mac([0x33, 0x33, 0, 0, 0, 1]);

pub(crate) fn mac(n: u8) -> Mac {
    Mac([0x00, 0x16, 0x3e, n, n, n])
}

pub(crate) fn ip(s: &str) -> IpAddr {
    s.parse().unwrap_or_else(|e| panic!("{s}: {e}"))
}

fn v4(s: &str) -> Ipv4Addr {
    s.parse().unwrap_or_else(|e| panic!("{s}: {e}"))
}

fn v6(s: &str) -> Ipv6Addr {
    s.parse().unwrap_or_else(|e| panic!("{s}: {e}"))
}

pub(crate) fn ethernet(from: Mac, to: Mac, ethertype: u16, payload: &[u8]) -> Vec<u8> {
    [&to.0[..], &from.0, &ethertype.to_be_bytes(), payload].concat()
}

fn arp(from: Mac, to: Mac, operation: u8, sender: Mac, sender_ip: &str, target_ip: &str) -> Vec<u8> {
    let head = [0, 1, 8, 0, 6, 4, 0, operation];
    let body = [&head[..], &sender.0, &v4(sender_ip).octets(), &[0; 6], &v4(target_ip).octets()].concat();
    ethernet(from, to, 0x0806, &body)
}

/// Who has `target`? Tell `own`.
pub(crate) fn asks(from: Mac, own: &str, target: &str) -> Vec<u8> {
    arp(from, ALL, 1, from, own, target)
}

/// `own` is at `from`, said to `asker`.
pub(crate) fn answers(from: Mac, own: &str, to: Mac, asker: &str) -> Vec<u8> {
    arp(from, to, 2, from, own, asker)
}

/// The same in the name of another MAC.
pub(crate) fn answers_as(from: Mac, sender: Mac, own: &str, to: Mac, asker: &str) -> Vec<u8> {
    arp(from, to, 2, sender, own, asker)
}

/// Gratuitous ARP.
pub(crate) fn announces(from: Mac, own: &str) -> Vec<u8> {
    arp(from, ALL, 1, from, own, own)
}

pub(crate) fn ipv4(
    from: Mac,
    to: Mac,
    source: &str,
    destination: &str,
    protocol: u8,
    payload: &[u8],
) -> Vec<u8> {
    let total = u16::try_from(20 + payload.len()).expect("short").to_be_bytes();
    let head = [0x45, 0, total[0], total[1], 0, 0, 0, 0, 64, protocol, 0, 0];
    let body = [&head[..], &v4(source).octets(), &v4(destination).octets(), payload].concat();
    ethernet(from, to, 0x0800, &body)
}

pub(crate) fn ipv6(
    from: Mac,
    to: Mac,
    addresses: (&str, &str),
    next: u8,
    hops: u8,
    payload: &[u8],
) -> Vec<u8> {
    let length = u16::try_from(payload.len()).expect("short").to_be_bytes();
    let head = [0x60, 0, 0, 0, length[0], length[1], next, hops];
    let body = [&head[..], &v6(addresses.0).octets(), &v6(addresses.1).octets(), payload].concat();
    ethernet(from, to, 0x86dd, &body)
}

/// Neighbour solicitation.
pub(crate) fn solicits(from: Mac, own: &str, target: &str) -> Vec<u8> {
    let mut body = [&[135, 0, 0, 0, 0, 0, 0, 0][..], &v6(target).octets()].concat();
    if own != "::" {
        body.extend([&[1, 1][..], &from.0].concat());
    }
    ipv6(from, Mac([0x33, 0x33, 0xff, 0, 0, 1]), (own, "ff02::1:ff00:1"), 58, 255, &body)
}

/// Neighbour advertisement.
pub(crate) fn advertises(from: Mac, own: &str, to: Mac, asker: &str) -> Vec<u8> {
    let body = [&[136, 0, 0, 0, 0x60, 0, 0, 0][..], &v6(own).octets(), &[2, 1], &from.0].concat();
    ipv6(from, to, (own, asker), 58, 255, &body)
}

/// Router advertisement.
pub(crate) fn routes(from: Mac, own: &str, prefix: &str, preference: u8, lifetime: u16) -> Vec<u8> {
    let l = lifetime.to_be_bytes();
    let head = [134, 0, 0, 0, 64, preference << 3, l[0], l[1], 0, 0, 0, 0, 0, 0, 0, 0];
    let prefix = [&[3, 4, 64, 0xc0][..], &[0; 12], &v6(prefix).octets()].concat();
    ipv6(from, ALL_NODES, (own, "ff02::1"), 58, 255, &[&head[..], &[1, 1], &from.0, &prefix].concat())
}

/// What a DHCP message says.
pub(crate) struct Lease<'a> {
    pub(crate) kind: u8,
    pub(crate) client: Mac,
    pub(crate) server: &'a str,
    pub(crate) given: &'a str,
    pub(crate) resolver: &'a str,
}

fn dhcp(l: &Lease, is_answer: bool) -> Vec<u8> {
    let mut b = vec![if is_answer { 2 } else { 1 }, 1, 6, 0];
    b.resize(16, 0);
    b.extend(if is_answer { v4(l.given).octets() } else { [0; 4] });
    b.resize(28, 0);
    b.extend(l.client.0);
    b.resize(236, 0);
    b.extend([0x63, 0x82, 0x53, 0x63, 53, 1, l.kind]);
    if is_answer {
        b.extend(
            [&[54, 4][..], &v4(l.server).octets(), &[3, 4, 10, 0, 0, 1, 6, 4], &v4(l.resolver).octets()]
                .concat(),
        );
    }
    b.push(255);
    let ports: [u8; 4] = if is_answer { [0, 67, 0, 68] } else { [0, 68, 0, 67] };
    let length = u16::try_from(8 + b.len()).expect("short").to_be_bytes();
    [&ports[..], &length, &[0, 0], &b].concat()
}

pub(crate) fn offers(from: Mac, l: &Lease) -> Vec<u8> {
    ipv4(from, l.client, l.server, "255.255.255.255", 17, &dhcp(l, true))
}

pub(crate) fn discovers(from: Mac, client: Mac) -> Vec<u8> {
    let l = Lease { kind: 1, client, server: "", given: "", resolver: "" };
    ipv4(from, ALL, "0.0.0.0", "255.255.255.255", 17, &dhcp(&l, false))
}

pub(crate) fn requests(from: Mac, client: Mac) -> Vec<u8> {
    let l = Lease { kind: 3, client, server: "", given: "", resolver: "" };
    ipv4(from, ALL, "0.0.0.0", "255.255.255.255", 17, &dhcp(&l, false))
}

/// Spanning tree; priority and MAC of root and bridge.
pub(crate) fn hello(from: Mac, root: (u16, Mac), bridge: (u16, Mac)) -> Vec<u8> {
    let id = |(p, m): (u16, Mac)| [&p.to_be_bytes()[..], &m.0].concat();
    let body = [&[0x42, 0x42, 3, 0, 0, 0, 0, 0][..], &id(root), &[0; 4], &id(bridge), &[0; 10]].concat();
    let length = u16::try_from(body.len()).expect("short");
    ethernet(from, Mac([0x01, 0x80, 0xc2, 0, 0, 0]), length, &body)
}

/// A watcher, and what it found so far.
pub(crate) struct Scene<'a> {
    pub(crate) watcher: Watcher,
    pub(crate) env: Env<'a>,
    pub(crate) side: Side,
    pub(crate) now_ns: u64,
    pub(crate) found: Vec<Finding>,
}

impl<'a> Scene<'a> {
    pub(crate) fn new(side: Side, env: Env<'a>) -> Scene<'a> {
        Scene { watcher: Watcher::new([3, 5]), env, side, now_ns: SECOND, found: Vec::new() }
    }

    /// A frame from the scene's side.
    pub(crate) fn see(&mut self, frame: &[u8]) -> &mut Self {
        self.from(self.side, frame)
    }

    pub(crate) fn from(&mut self, side: Side, frame: &[u8]) -> &mut Self {
        let length = u32::try_from(frame.len()).expect("short");
        self.watcher.see(side, self.now_ns, frame, length);
        self
    }

    /// Time passes, with its ticks.
    pub(crate) fn wait_ms(&mut self, ms: u64) -> &mut Self {
        for _ in 0..ms.div_ceil(100) {
            self.now_ns += SECOND / 10;
            self.found.extend(self.watcher.judge(self.now_ns, &self.env));
        }
        self
    }

    /// Case, MAC and level of all findings, once each.
    pub(crate) fn cases(&mut self) -> Vec<(&'static str, Mac, super::Level)> {
        self.wait_ms(15_000);
        let mut all: Vec<_> = self.found.iter().map(|f| (f.case.name(), f.mac, f.level)).collect();
        all.sort();
        all.dedup();
        all
    }
}
