//! Headers of the control protocols, read once and without allocation; what cannot be trusted is `What::Other`.
//!
//! Ethernet II and 802.3 with LLC or SNAP, behind up to four VLAN tags. ARP (RFC 826), neighbour discovery (RFC 4861),
//! DHCP (RFC 2131, RFC 8415), spanning tree (IEEE 802.1D-2004 clause 9, and Cisco's SNAP form for each VLAN).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Mac;

/// VLAN tags that are looked through.
const TAGS_MAX: usize = 4;
/// IPv6 extension headers that are walked on the way to ICMPv6 or UDP.
const EXTENSION_HEADERS_MAX: usize = 16;

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
    /// An IPv6 first fragment whose chain of headers does not reach the upper layer (forbidden by RFC 7112), with
    /// the hop limit that only neighbour discovery needs.
    HiddenNd,
    /// Anything else.
    Other,
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
    /// From a server (`op` 2, port 67) to a client (port 68).
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
        let (destination, source) = (mac(bytes, 0)?, mac(bytes, 6)?);
        let mut at = 12;
        let mut segment: Segment = 0;
        let mut ethertype = be16(bytes, at)?;
        for _ in 0..TAGS_MAX {
            if !matches!(ethertype, 0x8100 | 0x88a8 | 0x9100) {
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
        let mut f = Frame { source, destination, segment, ip: None, what: What::Other };
        if ethertype >= 0x0600 {
            f.payload(ethertype, rest);
        } else {
            f.llc(rest.get(..usize::from(ethertype)).unwrap_or(rest));
        }
        Some(f)
    }

    fn payload(&mut self, ethertype: u16, rest: &[u8]) {
        match ethertype {
            0x0806 => self.what = arp(rest).map_or(What::Other, What::Arp),
            0x0800 => self.ipv4(rest).unwrap_or_default(),
            0x86dd => self.ipv6(rest).unwrap_or_default(),
            _ => {}
        }
    }

    fn llc(&mut self, b: &[u8]) {
        match b {
            [0x42, 0x42, 0x03, rest @ ..] => self.what = bpdu(rest).map_or(What::Other, What::Bpdu),
            // Cisco's spanning tree for each VLAN (PVST+): SNAP, organisation 00000c, protocol 010b.
            [0xaa, 0xaa, 0x03, 0x00, 0x00, 0x0c, 0x01, 0x0b, rest @ ..] => {
                self.what = bpdu(rest).map_or(What::Other, What::Bpdu);
            }
            [0xaa, 0xaa, 0x03, 0x00, 0x00, 0x00, hi, lo, rest @ ..] => {
                self.payload(u16::from_be_bytes([*hi, *lo]), rest);
            }
            _ => {}
        }
    }

    fn ipv4(&mut self, b: &[u8]) -> Option<()> {
        let header = usize::from(b.first()? & 0x0f) * 4;
        let total = usize::from(be16(b, 2)?);
        if b[0] >> 4 != 4 || header < 20 || total < header {
            return None;
        }
        let (source, destination) = (v4(b, 12)?, v4(b, 16)?);
        let payload = b.get(header..total.min(b.len()))?;
        self.ip = Some((source.into(), destination.into()));
        let is_fragment = be16(b, 6)? & 0x1fff != 0;
        if *b.get(9)? == 17 && !is_fragment {
            let (from, to) = (be16(payload, 0)?, be16(payload, 2)?);
            if matches!((from, to), (67 | 68, 67) | (67, 68)) {
                self.what = dhcp(payload.get(8..)?, from, to).map_or(What::Other, What::Dhcp);
            }
        }
        Some(())
    }

    fn ipv6(&mut self, b: &[u8]) -> Option<()> {
        if b.first()? >> 4 != 6 {
            return None;
        }
        let (source, destination) = (v6(b, 8)?, v6(b, 24)?);
        let (mut next, hops) = (*b.get(6)?, *b.get(7)?);
        self.ip = Some((source.into(), destination.into()));
        let length = usize::from(be16(b, 4)?);
        let mut rest = b.get(40..)?;
        if length != 0 {
            rest = rest.get(..length).unwrap_or(rest);
        }
        let mut fragmented = false;
        for _ in 0..EXTENSION_HEADERS_MAX {
            let size = match next {
                0 | 43 | 60 | 135 | 139 | 140 => rest.get(1).map(|n| 8 + usize::from(*n) * 8),
                51 => rest.get(1).map(|n| 8 + usize::from(*n) * 4),
                44 => {
                    fragmented = true;
                    // Later fragments hold no header.
                    if be16(rest, 2).is_some_and(|o| o & 0xfff8 != 0) {
                        return Some(());
                    }
                    Some(8)
                }
                _ => break,
            };
            let inner = size.and_then(|s| rest.get(s..)).filter(|r| !r.is_empty());
            let Some(inner) = inner else {
                if fragmented && hops == 255 && source.is_unicast_link_local() {
                    self.what = What::HiddenNd;
                }
                return Some(());
            };
            (next, rest) = (rest[0], inner);
        }
        match next {
            // Receivers ignore neighbour discovery that a router could have forwarded (RFC 4861 section 6.1).
            58 if hops == 255 => self.what = nd(rest).map_or(What::Other, What::Nd),
            17 => {
                let (from, to) = (be16(rest, 0)?, be16(rest, 2)?);
                if matches!((from, to), (_, 546 | 547)) {
                    self.what = What::Dhcp6 { kind: *rest.get(8)?, to_client: from == 547 && to == 546 };
                }
            }
            _ => {}
        }
        Some(())
    }
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

fn dhcp(b: &[u8], from: u16, to: u16) -> Option<Dhcp> {
    let (op, hardware) = (*b.first()?, *b.get(1)?);
    if !matches!(op, 1 | 2) || hardware != 1 {
        return None;
    }
    let mut d = Dhcp {
        to_client: op == 2 && from == 67 && to == 68,
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
