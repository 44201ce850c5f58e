//! Frames of the servers' own segment that control has to see: those of its protocols, and the first of each device and
//! address. Looked at only on wires that show the segment.

use region::link::LinkRing;
use region::{Class, Side, Traits};

use crate::Frame;
use crate::burst::Work;
use crate::parse::{ICMPV6, UDP};
use crate::view::View;

/// Spanning tree (IEEE 802.1D), and Cisco's for each VLAN.
const BRIDGES: [[u8; 6]; 2] = [[0x01, 0x80, 0xc2, 0, 0, 0], [0x01, 0x00, 0x0c, 0xcc, 0xcc, 0xcd]];

/// Packets with impossible sources that are handed over of a burst.
const IMPOSSIBLE_MAX: u32 = 4;

/// Whether a frame belongs to a protocol of the segment: ARP, spanning tree, neighbour discovery and router
/// advertisements (ICMPv6 133 to 137, RFC 4861; in fragments too, RFC 7113), DHCP of both versions.
fn is_protocol(w: &Work, f: &Frame<'_>) -> bool {
    let p = &w.parsed;
    let at = usize::from(p.transport);
    match (p.class, p.protocol) {
        (Class::Arp, _) => true,
        (Class::NonIp, _) => f.bytes.get(..6).is_some_and(|d| BRIDGES.iter().any(|b| b == d)),
        (Class::Ipv6, ICMPV6) if p.traits.has(Traits::FRAGMENT) => true,
        (Class::Ipv6, ICMPV6) => f.bytes.get(at).is_some_and(|kind| (133..=137).contains(kind)),
        (Class::Ipv4 | Class::Ipv6, UDP) if at != 0 => f.bytes.get(at..at + 4).is_some_and(|ports| {
            let port = |i: usize| u16::from_be_bytes([ports[i], ports[i + 1]]);
            [port(0), port(2)].iter().any(|p| matches!(p, 67 | 68 | 546 | 547))
        }),
        _ => false,
    }
}

/// Addresses that no packet can come from: multicast and what lies above (RFC 1112 section 7.2), loopback; multicast of IPv6
/// (RFC 4291 section 2.7).
fn is_impossible(w: &Work) -> bool {
    let a = w.parsed.source;
    match w.parsed.class {
        Class::Ipv4 => matches!(a >> 24, 127 | 224..),
        _ => a >> 120 == 0xff,
    }
}

/// Hands over what control has to see of a burst. `servers`: its sources may be servers.
#[cold]
#[inline(never)]
pub(crate) fn look(v: &View<'_>, servers: bool, work: &[Work], frames: &[Frame<'_>]) {
    let ring = v.out.facts.link(v.out.worker);
    let (mut stranger, mut impossible) = (false, 0);
    for (w, f) in work.iter().zip(frames) {
        if is_protocol(w, f) {
            push(v, ring, f);
            continue;
        }
        if !servers || !matches!(w.parsed.class, Class::Ipv4 | Class::Ipv6) {
            continue;
        }
        let Some(mac) = f.bytes.get(6..12).and_then(|m| m.first_chunk::<6>()) else { continue };
        if is_impossible(w) {
            impossible += 1;
            if impossible <= IMPOSSIBLE_MAX {
                push(v, ring, f);
            }
            continue;
        }
        let new = match w.source.host() {
            Some(host) => v.out.is_new_device(host, mac, v.tick()),
            // Addresses of nobody are not kept apart: one a burst shows that there are some.
            None => {
                f.side == Side::Inside && !w.source.is_internal() && !std::mem::replace(&mut stranger, true)
            }
        };
        if new {
            push(v, ring, f);
        }
    }
}

fn push(v: &View<'_>, ring: LinkRing<'_>, f: &Frame<'_>) {
    ring.push(f.side, f.time, f.length, f.bytes, v.link_read(), v.tick());
}
