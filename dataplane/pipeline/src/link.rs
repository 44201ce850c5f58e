//! Frames of the servers' own segment: what control has to see of them, its protocols and the first packet of each device
//! and address, and what is dropped for its hardware address or by a guard. Looked at only on wires that show the segment.

use region::link::{LinkFrame, LinkRing};
use region::policy::Bindings;
use region::segment::{Guard, SegmentTable};
use region::{Class, HostFlags, Mac, Side, Traits, Verdict};

use crate::Frame;
use crate::burst::Work;
use crate::guard::guard;
use crate::parse::{ICMPV6, NONE, UDP};
use crate::segment;
use crate::view::{End, View};

/// Spanning tree (IEEE 802.1D), and Cisco's for each VLAN.
const BRIDGES: [[u8; 6]; 2] = [[0x01, 0x80, 0xc2, 0, 0, 0], [0x01, 0x00, 0x0c, 0xcc, 0xcc, 0xcd]];

/// Packets with impossible sources that are handed over of a burst.
const IMPOSSIBLE_MAX: u32 = 4;

/// Of so many packets that break a host's binding one is handed over, beside the first and the 2nd, 4th, 8th and so on.
const SPOOFED_SHOWN: u32 = 4_096;

/// Whether a frame belongs to a protocol of the segment: ARP, spanning tree, neighbour discovery and router
/// advertisements (ICMPv6 133 to 137, RFC 4861; in fragments too, RFC 7113), DHCP of both versions.
fn is_protocol(w: &Work, f: &Frame<'_>) -> bool {
    let p = &w.parsed;
    let at = usize::from(p.transport);
    match (p.class, p.protocol) {
        (Class::Arp, _) => true,
        (Class::NonIp, _) => f.bytes.get(..6).is_some_and(|d| BRIDGES.iter().any(|b| b == d)),
        (Class::Ipv6, ICMPV6 | NONE) if p.traits.has(Traits::FRAGMENT) => true,
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

/// What a burst of a segment is asked, by the side that it comes from.
#[derive(Clone, Copy)]
pub(crate) struct From {
    /// Its sources may be servers.
    pub(crate) servers: bool,
    /// Its destinations may be.
    pub(crate) outside: bool,
}

/// Hands over what control has to see of a burst, and writes into `verdicts` what guards, locks of hardware addresses and
/// bindings drop, for all others [`Verdict::Forward`]; the source of a packet that breaks a binding is nobody's. Says whether
/// there was any of that.
#[cold]
#[inline(never)]
pub(crate) fn screen(
    v: &View<'_>,
    from: From,
    work: &mut [Work],
    frames: &[Frame<'_>],
    verdicts: &mut [Verdict],
) -> bool {
    let ring = v.out.facts.link(v.out.worker);
    let rules = v.segment();
    let guards = v.enforcing && from.servers && !rules.guards().is_empty();
    let locks = v.enforcing && rules.locks_any();
    let (mode, bound) = v.bindings();
    // A stream without sides shows packets on their way through a router too, and that is no other device's use of them.
    let binds = mode != Bindings::Off && from.servers && !from.outside;
    if binds {
        work.iter().filter_map(|w| w.source.host()).for_each(|h| bound.prefetch(h));
    }
    verdicts.fill(Verdict::Forward);
    let mut special = false;
    let mut drop = |i: usize, by: Verdict| {
        special = true;
        if let Some(v) = verdicts.get_mut(i)
            && !v.is_drop()
        {
            *v = by;
        }
    };
    if locks {
        for (i, _) in frames.iter().enumerate().filter(|(_, f)| is_locked(from, f, &rules)) {
            drop(i, Verdict::DropLockedMac);
        }
    }
    let (mut stranger, mut impossible) = (false, 0);
    for (i, (w, f)) in work.iter_mut().zip(frames).enumerate() {
        if is_protocol(w, f) {
            let guarded = if guards {
                segment::Frame::of(f.bytes, &w.parsed).and_then(|said| guard(&said, &rules))
            } else {
                None
            };
            if guarded.is_some() {
                drop(i, Verdict::DropGuarded);
            }
            push(v, ring, f, guarded);
            continue;
        }
        if !from.servers || !matches!(w.parsed.class, Class::Ipv4 | Class::Ipv6) {
            continue;
        }
        let Some(mac) = mac(f, 6) else { continue };
        if binds
            && let Some(host) = w.source.host()
            && bound.get(host).is_some_and(|own| own.0 != *mac && is_other(own, Mac(*mac), &rules))
        {
            w.source = End::SPOOFED;
            let drops = mode == Bindings::Drop && v.enforcing;
            drop(i, if drops { Verdict::DropSpoofed } else { Verdict::Forward });
            // Some tell enough: the ring is for others too.
            let n = v.out.mark_other_mac(host);
            if n.is_power_of_two() || n.is_multiple_of(SPOOFED_SHOWN) {
                push(v, ring, f, None);
            }
            continue;
        }
        if is_impossible(w) {
            impossible += 1;
            if impossible <= IMPOSSIBLE_MAX {
                push(v, ring, f, None);
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
            push(v, ring, f, None);
        }
    }
    special
}

/// The hardware address that stands `at` in a frame.
#[inline(always)]
fn mac<'f>(f: &Frame<'f>, at: usize) -> Option<&'f [u8; 6]> {
    f.bytes.get(at..at + 6)?.first_chunk()
}

/// Whether a device is no port of the one that a host is bound to, and neither a virtual router nor one that may forward.
fn is_other(own: Mac, mac: Mac, rules: &SegmentTable<'_>) -> bool {
    !mac.is_shared() && !mac.is_beside(own) && !rules.passes(mac, None).has(Guard::Ra)
}

/// Whether its device is locked: the one that sends it from inside, or the one that it is sent to from outside.
fn is_locked(from: From, f: &Frame<'_>, rules: &SegmentTable<'_>) -> bool {
    let locks = |at, bit| mac(f, at).is_some_and(|m| rules.locked(Mac(*m)).has(bit));
    (from.servers && locks(6, HostFlags::LOCK_OUT)) || (from.outside && locks(0, HostFlags::LOCK_IN))
}

fn push(v: &View<'_>, ring: LinkRing<'_>, f: &Frame<'_>, guarded: Option<Guard>) {
    let frame = LinkFrame { time: f.time, side: f.side, length: f.length, guarded, bytes: f.bytes };
    ring.push(&frame, v.link_read(), v.tick());
}
