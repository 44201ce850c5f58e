//! What the protocols of a servers' segment say, read without allocation; what cannot be trusted is `What::Other`.
//!
//! Behind the headers that [`crate::parse`] has walked: ARP (RFC 826), neighbour discovery (RFC 4861),
//! DHCP (RFC 2131, RFC 8415), spanning tree (IEEE 802.1D-2004 clause 9, and Cisco's SNAP form for each VLAN).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use region::{Class, Mac, Traits};

use crate::parse::{ICMPV6, NONE, Parsed, TAGS_MAX, UDP, is_tag, parse};
use crate::view::low32;

/// Where addresses mean the same: the VLAN tags (outer and inner), 0 for untagged frames.
pub type Segment = u32;

/// A frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Ethernet source.
    pub source: Mac,
    /// Ethernet destination.
    pub destination: Mac,
    /// VLAN.
    pub segment: Segment,
    /// Source and destination, when it is IP.
    pub ip: Option<(IpAddr, IpAddr)>,
    /// What it says.
    pub what: What,
}

/// What a frame says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// ARP for IPv4 over Ethernet.
    Arp(Arp),
    /// Neighbour or router solicitation or advertisement, or redirect.
    Nd(Nd),
    /// DHCP.
    Dhcp(Dhcp),
    /// The message type of DHCPv6, and whether it goes to a client.
    Dhcp6 {
        /// Message type.
        kind: u8,
        /// Destination port 546.
        to_client: bool,
    },
    /// Spanning tree.
    Bpdu(Bpdu),
    /// An IPv6 first fragment that does not show which neighbour discovery it carries, or whose chain of headers does not
    /// reach the upper layer (forbidden by RFC 7112), with the hop limit that only neighbour discovery needs.
    HiddenNd,
    /// Anything else.
    Other,
}

impl What {
    /// Whether it is what a DHCP server says: of version 6 advertise, reply and reconfigure (RFC 8415 section 7.3).
    pub fn is_dhcp_answer(&self) -> bool {
        match self {
            What::Dhcp(d) => d.to_client,
            What::Dhcp6 { kind, to_client } => *to_client && matches!(kind, 2 | 7 | 10),
            _ => false,
        }
    }
}

/// ARP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arp {
    /// 2 rather than 1.
    pub is_reply: bool,
    /// Sender's hardware address.
    pub sender: Mac,
    /// Sender's address; 0.0.0.0 in a probe (RFC 5227).
    pub sender_ip: Ipv4Addr,
    /// Whom or what it is about.
    pub target_ip: Ipv4Addr,
}

/// A message of neighbour discovery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nd {
    /// ICMPv6 type: 133 to 137.
    pub kind: u8,
    /// Target of a solicitation, an advertisement or a redirect.
    pub target: Ipv6Addr,
    /// Source or target link-layer address option.
    pub link: Option<Mac>,
    /// Router advertisements.
    pub router: Router,
}

/// What a router advertisement says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Router {
    /// Lifetime as a default router, in seconds.
    pub lifetime: u16,
    /// 1 high, 0 medium, -1 low (RFC 4191).
    pub preference: i8,
    /// First prefix of the prefix information options.
    pub prefix: Option<Ipv6Addr>,
}

/// A message of DHCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dhcp {
    /// From a server (`op` 2) to a client (port 68). Clients take it from any port.
    pub to_client: bool,
    /// Option 53; 0 when it is missing or cut off.
    pub kind: u8,
    /// `chaddr`.
    pub client: Mac,
    /// `yiaddr`.
    pub given: Ipv4Addr,
    /// `giaddr`: a relay's.
    pub relay: Ipv4Addr,
    /// Option 54.
    pub server: Option<Ipv4Addr>,
    /// First router of option 3.
    pub router: Option<Ipv4Addr>,
    /// First server of option 6.
    pub resolver: Option<Ipv4Addr>,
}

/// A bridge protocol data unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bpdu {
    /// Priority and MAC of the root that is claimed; `None` in a topology change notification.
    pub root: Option<u64>,
    /// Priority and MAC of the bridge that sent it.
    pub bridge: u64,
}

impl Bpdu {
    /// The MAC of a bridge identifier.
    pub fn mac(id: u64) -> Mac {
        let b = id.to_be_bytes();
        Mac([b[2], b[3], b[4], b[5], b[6], b[7]])
    }
}

fn array<const N: usize>(b: &[u8], at: usize) -> Option<[u8; N]> {
    b.get(at..)?.first_chunk().copied()
}

fn be16(b: &[u8], at: usize) -> Option<u16> {
    array(b, at).map(u16::from_be_bytes)
}

fn mac(b: &[u8], at: usize) -> Option<Mac> {
    array(b, at).map(Mac)
}

fn v4(b: &[u8], at: usize) -> Option<Ipv4Addr> {
    array::<4>(b, at).map(Ipv4Addr::from)
}

fn v6(b: &[u8], at: usize) -> Option<Ipv6Addr> {
    array::<16>(b, at).map(Ipv6Addr::from)
}

impl Frame {
    /// Reads a frame; `None` when not even its Ethernet header is here.
    pub fn parse(bytes: &[u8]) -> Option<Frame> {
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        Frame::of(bytes, &parse(bytes, length))
    }

    /// Reads a frame whose headers are known.
    pub fn of(bytes: &[u8], p: &Parsed) -> Option<Frame> {
        let (destination, source) = (mac(bytes, 0)?, mac(bytes, 6)?);
        let mut at = 12;
        let mut segment: Segment = 0;
        let mut ethertype = be16(bytes, at)?;
        for _ in 0..TAGS_MAX {
            if !is_tag(ethertype) {
                break;
            }
            let vlan = be16(bytes, at + 2)? & 0x0fff;
            // Priority tags (VLAN 0) are no VLAN of their own.
            if vlan != 0 {
                segment = segment << 13 | 0x1000 | u32::from(vlan);
            }
            at += 4;
            ethertype = be16(bytes, at)?;
        }
        let rest = bytes.get(at + 2..)?;
        let ip = match p.class {
            Class::Ipv4 => {
                let a = |a: u128| IpAddr::V4(Ipv4Addr::from_bits(low32(a)));
                Some((a(p.source), a(p.destination)))
            }
            Class::Ipv6 => {
                let a = |a: u128| IpAddr::V6(Ipv6Addr::from_bits(a));
                Some((a(p.source), a(p.destination)))
            }
            Class::Arp | Class::NonIp | Class::Malformed => None,
        };
        let payload = match p.transport {
            0 => None,
            t => bytes.get(usize::from(t)..usize::from(p.end)),
        };
        let what = match (p.class, payload) {
            (Class::Arp, _) => arp(rest).map(What::Arp),
            (Class::NonIp, _) => llc(rest.get(..usize::from(ethertype)).unwrap_or(rest)).map(What::Bpdu),
            (Class::Ipv4, Some(b)) if p.protocol == UDP => dhcp(b).map(What::Dhcp),
            (Class::Ipv6, Some(b)) if p.protocol == UDP => dhcp6(b),
            // Receivers ignore neighbour discovery that a router could have forwarded (RFC 4861 section 6.1).
            (Class::Ipv6, b) if rest.get(7) == Some(&255) => nd_or_hidden(p, b),
            (Class::Ipv4 | Class::Ipv6 | Class::Malformed, _) => None,
        };
        Some(Frame { source, destination, segment, ip, what: what.unwrap_or(What::Other) })
    }
}

/// Neighbour discovery, or what a fragment hides (RFC 7113 section 3): hosts ignore neighbour discovery in fragments (RFC
/// 6980), old ones do not.
fn nd_or_hidden(p: &Parsed, payload: Option<&[u8]>) -> Option<What> {
    if p.protocol == ICMPV6
        && let Some(nd) = payload.and_then(nd)
    {
        return Some(What::Nd(nd));
    }
    let first = payload.map(<[u8]>::first);
    let hides = match (p.protocol, first) {
        (ICMPV6, Some(None)) | (NONE, None) => true,
        (ICMPV6, Some(Some(kind))) => matches!(kind, 133..=137),
        _ => false,
    };
    let is_local = Ipv6Addr::from_bits(p.source).is_unicast_link_local();
    (hides && is_local && p.traits.has(Traits::FRAGMENT)).then_some(What::HiddenNd)
}

fn llc(b: &[u8]) -> Option<Bpdu> {
    match b {
        [0x42, 0x42, 0x03, rest @ ..]
        // Cisco's spanning tree for each VLAN (PVST+): SNAP, organisation 00000c, protocol 010b.
        | [0xaa, 0xaa, 0x03, 0x00, 0x00, 0x0c, 0x01, 0x0b, rest @ ..] => bpdu(rest),
        _ => None,
    }
}

fn dhcp6(b: &[u8]) -> Option<What> {
    let (from, to) = (be16(b, 0)?, be16(b, 2)?);
    let kind = *b.get(8)?;
    matches!((from, to), (_, 546 | 547)).then_some(What::Dhcp6 { kind, to_client: to == 546 })
}

fn arp(b: &[u8]) -> Option<Arp> {
    // Ethernet, IPv4, lengths 6 and 4.
    if b.get(..6)? != [0, 1, 8, 0, 6, 4] {
        return None;
    }
    let operation = be16(b, 6)?;
    if !matches!(operation, 1 | 2) {
        return None;
    }
    Some(Arp { is_reply: operation == 2, sender: mac(b, 8)?, sender_ip: v4(b, 14)?, target_ip: v4(b, 24)? })
}

fn nd(b: &[u8]) -> Option<Nd> {
    let kind = *b.first()?;
    // Where options begin, by type.
    let options = match kind {
        133 => 8,
        134 => 16,
        135 | 136 => 24,
        137 => 40,
        _ => return None,
    };
    let target = if matches!(kind, 135..=137) { v6(b, 8)? } else { Ipv6Addr::UNSPECIFIED };
    let mut n = Nd { kind, target, link: None, router: Router::default() };
    if kind == 134 {
        n.router.lifetime = be16(b, 6)?;
        n.router.preference = match b.get(5)? >> 3 & 3 {
            1 => 1,
            3 => -1,
            _ => 0,
        };
    }
    let mut rest = b.get(options..).unwrap_or_default();
    while let [option, units, ..] = rest {
        let size = usize::from(*units) * 8;
        if size == 0 || size > rest.len() {
            break;
        }
        match option {
            1 | 2 if size == 8 => n.link = n.link.or(mac(rest, 2)),
            3 if size == 32 && n.router.prefix.is_none() => n.router.prefix = v6(rest, 16),
            _ => {}
        }
        rest = &rest[size..];
    }
    Some(n)
}

fn dhcp(b: &[u8]) -> Option<Dhcp> {
    let (from, to) = (be16(b, 0)?, be16(b, 2)?);
    let b = b.get(8..)?;
    if !matches!((from, to), (67 | 68, 67) | (_, 68)) {
        return None;
    }
    let (op, hardware) = (*b.first()?, *b.get(1)?);
    if !matches!(op, 1 | 2) || hardware != 1 {
        return None;
    }
    let mut d = Dhcp {
        to_client: op == 2 && to == 68,
        kind: 0,
        client: mac(b, 28)?,
        given: v4(b, 16)?,
        relay: v4(b, 24)?,
        server: None,
        router: None,
        resolver: None,
    };
    let mut rest = match b.get(236..) {
        Some([0x63, 0x82, 0x53, 0x63, options @ ..]) => options,
        _ => &[],
    };
    loop {
        rest = match rest {
            [0, pad @ ..] => pad,
            [255, ..] | [] | [_] => break,
            [code, length, value @ ..] => {
                let Some((value, after)) = value.split_at_checked(usize::from(*length)) else { break };
                match code {
                    53 => d.kind = value.first().copied().unwrap_or(0),
                    54 => d.server = v4(value, 0),
                    3 => d.router = v4(value, 0),
                    6 => d.resolver = v4(value, 0),
                    _ => {}
                }
                after
            }
        };
    }
    Some(d)
}

fn bpdu(b: &[u8]) -> Option<Bpdu> {
    if be16(b, 0)? != 0 {
        return None;
    }
    match *b.get(3)? {
        0 | 2 => Some(Bpdu {
            root: Some(u64::from_be_bytes(array(b, 5)?)),
            bridge: u64::from_be_bytes(array(b, 17)?),
        }),
        0x80 => Some(Bpdu { root: None, bridge: 0 }),
        _ => None,
    }
}
