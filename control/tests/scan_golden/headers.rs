//! As much of a frame's headers as an exact flow needs.

use std::net::IpAddr;

use cordond::scan::flow::{ICMP, ICMPV6, TCP, UDP};

/// A packet's part in a flow.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    pub source: IpAddr,
    pub destination: IpAddr,
    pub protocol: u8,
    /// A fragment that is not the first.
    pub later_fragment: bool,
    /// The transport header and what follows.
    pub payload: &'a [u8],
    /// Bytes of the transport packet as its IP header says.
    pub length: usize,
}

fn be16(b: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes([*b.get(at)?, *b.get(at + 1)?]))
}

/// The IP packet in an Ethernet frame, tags looked through.
pub fn frame(bytes: &[u8]) -> Option<Packet<'_>> {
    let mut at = 12;
    let mut kind = be16(bytes, at)?;
    for _ in 0..4 {
        if !matches!(kind, 0x8100 | 0x88a8 | 0x9100) {
            break;
        }
        at += 4;
        kind = be16(bytes, at)?;
    }
    let rest = bytes.get(at + 2..)?;
    match kind {
        0x0800 => ipv4(rest),
        0x86dd => ipv6(rest),
        _ => None,
    }
}

/// An IPv4 packet, which may be cut.
pub fn ipv4(ip: &[u8]) -> Option<Packet<'_>> {
    let header = usize::from(ip.first()? & 15) * 4;
    let total = usize::from(be16(ip, 2)?);
    if ip[0] >> 4 != 4 || header < 20 || total < header || ip.len() < header {
        return None;
    }
    Some(Packet {
        source: <[u8; 4]>::try_from(ip.get(12..16)?).ok()?.into(),
        destination: <[u8; 4]>::try_from(ip.get(16..20)?).ok()?.into(),
        protocol: ip[9],
        later_fragment: be16(ip, 6)? & 0x1fff != 0,
        payload: &ip[header..total.min(ip.len())],
        length: total - header,
    })
}

/// An IPv6 packet, which may be cut.
pub fn ipv6(ip: &[u8]) -> Option<Packet<'_>> {
    if ip.len() < 40 || ip[0] >> 4 != 6 {
        return None;
    }
    let mut length = usize::from(be16(ip, 4)?);
    let mut rest = &ip[40..ip.len().min(40 + length)];
    let (mut next, mut later_fragment) = (ip[6], false);
    loop {
        let size = match next {
            0 | 43 | 60 | 135 | 139 | 140 => usize::from(*rest.get(1)?) * 8 + 8,
            51 => usize::from(*rest.get(1)?) * 4 + 8,
            44 => {
                later_fragment = be16(rest, 2)? & 0xfff8 != 0;
                8
            }
            _ => break,
        };
        next = rest[0];
        rest = rest.get(size..)?;
        length = length.saturating_sub(size);
        if later_fragment {
            break;
        }
    }
    Some(Packet {
        source: <[u8; 16]>::try_from(ip.get(8..24)?).ok()?.into(),
        destination: <[u8; 16]>::try_from(ip.get(24..40)?).ok()?.into(),
        protocol: next,
        later_fragment,
        payload: rest,
        length,
    })
}

impl Packet<'_> {
    /// Source and destination port; of ICMP an identifier and the type of the request.
    pub fn ports(&self) -> (u16, u16) {
        if self.later_fragment {
            return (0, 0);
        }
        let p = self.payload;
        match self.protocol {
            TCP | UDP => (be16(p, 0).unwrap_or(0), be16(p, 2).unwrap_or(0)),
            ICMP | ICMPV6 => {
                let kind = p.first().copied().unwrap_or(0);
                let request = if self.protocol == ICMP {
                    match kind {
                        0 => 8,
                        14 => 13,
                        16 => 15,
                        18 => 17,
                        k => k,
                    }
                } else if kind == 129 {
                    128
                } else {
                    kind
                };
                (be16(p, 4).unwrap_or(0), request.into())
            }
            _ => (0, 0),
        }
    }

    /// Flags of TCP.
    pub fn flags(&self) -> u8 {
        self.payload.get(13).copied().unwrap_or(0)
    }

    /// Whether TCP carries nothing.
    pub fn is_empty_tcp(&self) -> bool {
        let header = self.payload.get(12).map_or(20, |b| usize::from(b >> 4) * 4);
        self.length <= header
    }

    /// The packet that an ICMP error quotes, and whether the error is "unreachable" (else "time exceeded").
    pub fn quoted(&self) -> Option<(Packet<'_>, bool)> {
        let kind = *self.payload.first()?;
        let inner = self.payload.get(8..)?;
        match (self.protocol, kind) {
            (ICMP, 3 | 11) => Some((ipv4(inner)?, kind == 3)),
            (ICMPV6, 1 | 3) => Some((ipv6(inner)?, kind == 1)),
            _ => None,
        }
    }
}
