//! Guards: frames of servers that do harm at once, and are dropped before anybody decides anything.
//!
//! [`guard`] reads one frame and one table; it allocates nothing, and its time is bounded by the frame's bytes and the
//! logarithm of the table. It is for frames that enter on the inside port of a wire that shows the servers' own segment.
//! What is on, and who may pass, is compiled by control ([`SegmentRules`](region::segment::SegmentRules)).

use std::net::IpAddr;

use region::Addr;
use region::segment::{Guard, SegmentTable};

use crate::segment::{Frame, What};

/// The guard that drops a frame from inside.
pub fn guard(f: &Frame, t: &SegmentTable<'_>) -> Option<Guard> {
    let number = |a: IpAddr| Addr::from(a).as_u128();
    let source = f.ip.map(|(s, _)| number(s));
    let guard = match f.what {
        What::Arp(a) => t.is_gateway(number(a.sender_ip.into())).then_some(Guard::Arp),
        What::Nd(n) => match n.kind {
            134 => Some(Guard::Ra),
            136 => t.is_gateway(number(n.target.into())).then_some(Guard::Nd),
            // A solicitation with the source :: (duplicate address detection) claims nothing.
            133 | 135 => (n.link.is_some() && source.is_some_and(|s| t.is_gateway(s))).then_some(Guard::Nd),
            137 => Some(Guard::Nd),
            _ => None,
        },
        // A chain of headers that hides what it carries (RFC 7113 section 3).
        What::HiddenNd => Some(Guard::Ra),
        What::Dhcp(_) | What::Dhcp6 { .. } => f.what.is_dhcp_answer().then_some(Guard::Dhcp),
        What::Bpdu(_) => Some(Guard::Stp),
        What::Other => None,
    }?;
    // Virtual routers (VRRP, HSRP) fail over to wherever the other one stands.
    let is_virtual = f.source.is_shared() && matches!(guard, Guard::Arp | Guard::Nd | Guard::Ra);
    let passes = is_virtual || !t.guards().has(guard) || t.passes(f.source, source).has(guard);
    (!passes).then_some(guard)
}
