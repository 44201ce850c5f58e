//! Headers: checked once, after which nothing fails.
//!
//! Ethernet, VLAN and QinQ tags (802.1Q, 802.1ad, and the older 0x9100) are looked through; tunnels are not: the
//! outer addresses count. IPv4 with options and fragments (RFC 791), IPv6 with a bounded chain of extension headers
//! (RFC 8200), and of TCP, UDP and ICMP as much as counting needs.

use std::hint;

use region::host::SMALL_FRAME_BYTES;
use region::{Class, Dir, Traits};

/// Tags that are looked through; more make a frame non-IP.
pub const TAGS_MAX: usize = 4;
/// IPv6 extension headers that are walked: as many as a frame of 1,500 bytes can hold, so that a chain costs no more than
/// its bytes have paid for on the wire. A longer one counts as protocol `other`.
pub const EXTENSION_HEADERS_MAX: usize = 192;

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_ARP: u16 = 0x0806;
const ETHERTYPE_IPV6: u16 = 0x86dd;

pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;
pub(crate) const ICMP: u8 = 1;
pub(crate) const ICMPV6: u8 = 58;
pub(crate) const NONE: u8 = 59;

/// What a frame's headers say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parsed {
    /// Source address; IPv4 in the low 32 bits. Zero when the frame is not IP.
    pub source: u128,
    /// Destination address.
    pub destination: u128,
    /// What it is.
    pub class: Class,
    /// What it adds to a host line.
    pub traits: Traits,
    /// Whether it carried VLAN tags.
    pub tagged: bool,
    /// IP protocol number, behind IPv6 extension headers; 59 where there is none.
    pub protocol: u8,
    /// Where the transport header begins, in bytes from the frame's beginning; 0 in a fragment that is not the first.
    pub transport: u16,
    /// Where the packet ends: padding behind it is no part of it.
    pub end: u16,
}

impl Parsed {
    const fn other(class: Class, tagged: bool) -> Parsed {
        Parsed {
            source: 0,
            destination: 0,
            class,
            traits: Traits(0),
            tagged,
            protocol: NONE,
            transport: 0,
            end: 0,
        }
    }
}

impl Parsed {
    /// The host's address, and the other one.
    #[inline(always)]
    pub(crate) fn ends(&self, dir: Dir) -> (u128, u128) {
        match dir {
            Dir::Out => (self.source, self.destination),
            Dir::In => (self.destination, self.source),
        }
    }
}

impl Default for Parsed {
    fn default() -> Self {
        Parsed::other(Class::NonIp, false)
    }
}

#[inline(always)]
fn be16(b: &[u8; 2]) -> u16 {
    u16::from_be_bytes(*b)
}

/// Parses a frame of `length` bytes of which `bytes` are at hand.
#[inline(always)]
pub fn parse(bytes: &[u8], length: u32) -> Parsed {
    let mut p = Parsed::default();
    parse_to(bytes, length, &mut p);
    p
}

/// [`parse`] into its place: a value of this size that two branches return would be written twice. Returns the class, a
/// constant on the common path.
#[inline(always)]
pub(crate) fn parse_to(bytes: &[u8], length: u32, to: &mut Parsed) -> Class {
    let small = if length <= SMALL_FRAME_BYTES { Traits::SMALL } else { 0 };
    if let Some(p) = plain_ipv4(bytes, 14, small, false) {
        *to = p;
        Class::Ipv4
    } else {
        any(bytes, small, to);
        to.class
    }
}

/// Nearly every packet: IPv4 without options and fragments, whose header begins `at`. Says nothing about others, and the
/// same as [`ipv4`].
#[inline(always)]
fn plain_ipv4(bytes: &[u8], at: usize, small: u16, tagged: bool) -> Option<Parsed> {
    let transport_at = at + 20;
    // The transport header that `end` may still cut off.
    let flags_at = transport_at + 13;
    // From the ethertype on.
    let h: &[u8; 22] = bytes.get(at - 2..at + 20)?.try_into().ok()?;
    // Ethertype, version and header length in one comparison.
    let kind = u32::from_be_bytes([h[0], h[1], h[2], h[3]]) >> 8;
    let fragment = be16(&[h[8], h[9]]) & 0x3fff;
    let total = usize::from(be16(&[h[4], h[5]]));
    // The upper bound is there so that `end` fits its field.
    let fits = (20..=usize::from(u16::MAX) - at).contains(&total);
    if kind != u32::from(ETHERTYPE_IPV4) << 8 | 0x45 || fragment != 0 || !fits {
        return None;
    }
    let end = (at + total).min(bytes.len());
    let protocol = h[11];
    let traits = if let (true, Some(flags)) = (protocol == TCP || protocol == UDP, bytes.get(flags_at)) {
        // Chosen without a branch: TCP and UDP are mixed as no branch predictor foresees.
        let of_tcp = Traits::TCP | if end > flags_at { tcp(*flags) } else { 0 };
        let of_udp = Traits::UDP | Traits::CONTACT | Traits::PEER;
        hint::select_unpredictable(protocol == TCP, of_tcp, of_udp)
    } else {
        transport(protocol, ICMP, true, bytes.get(transport_at..end)?)
    };
    Some(Parsed {
        source: u128::from(u32::from_be_bytes([h[14], h[15], h[16], h[17]])),
        destination: u128::from(u32::from_be_bytes([h[18], h[19], h[20], h[21]])),
        class: Class::Ipv4,
        traits: Traits(small | traits),
        tagged,
        protocol,
        transport: place(transport_at),
        end: place(end),
    })
}

/// Any frame.
#[inline(never)]
fn any(bytes: &[u8], small: u16, to: &mut Parsed) {
    let Some(ethernet) = bytes.first_chunk::<14>() else {
        *to = Parsed::other(Class::Malformed, false);
        return;
    };
    let mut ethertype = u16::from_be_bytes([ethernet[12], ethernet[13]]);
    let mut at = 14;
    while is_tag(ethertype) && at < 14 + 4 * TAGS_MAX {
        let Some(tag) = bytes.get(at..at + 4) else {
            *to = Parsed::other(Class::NonIp, true);
            return;
        };
        ethertype = u16::from_be_bytes([tag[2], tag[3]]);
        at += 4;
    }
    let tagged = at != 14;
    match ethertype {
        ETHERTYPE_IPV4 => match plain_ipv4(bytes, at, small, tagged) {
            Some(p) => *to = p,
            None => *to = ipv4(&bytes[at..], at, small, tagged),
        },
        ETHERTYPE_IPV6 => *to = ipv6(&bytes[at..], at, small, tagged),
        ETHERTYPE_ARP => *to = Parsed::other(Class::Arp, tagged),
        _ => *to = Parsed::other(Class::NonIp, tagged),
    }
}

#[inline(always)]
pub(crate) fn is_tag(ethertype: u16) -> bool {
    matches!(ethertype, 0x8100 | 0x88a8 | 0x9100)
}

/// With options, fragments, and what is wrong.
#[inline(never)]
fn ipv4(ip: &[u8], at: usize, small: u16, tagged: bool) -> Parsed {
    let Some((h, _)) = ip.split_first_chunk::<20>() else {
        return Parsed::other(Class::Malformed, tagged);
    };
    let header = usize::from(h[0] & 0x0f) * 4;
    let total = usize::from(u16::from_be_bytes([h[2], h[3]]));
    if h[0] >> 4 != 4 || header < 20 || header > ip.len() || total < header {
        return Parsed::other(Class::Malformed, tagged);
    }
    let fragment = be16(&[h[6], h[7]]);
    let more = fragment & 0x2000 != 0;
    let offset = fragment & 0x1fff;
    // Padding behind the packet is no part of it; a total length beyond the frame is a cut capture.
    let end = total.min(ip.len());
    let mut traits = small | transport(h[9], ICMP, offset == 0, &ip[header..end]);
    if more || offset != 0 {
        traits |= Traits::FRAGMENT | hides_flags(h[9], offset == 0, end - header);
    }
    Parsed {
        source: u128::from(u32::from_be_bytes([h[12], h[13], h[14], h[15]])),
        destination: u128::from(u32::from_be_bytes([h[16], h[17], h[18], h[19]])),
        class: Class::Ipv4,
        traits: Traits(traits),
        tagged,
        protocol: h[9],
        transport: if offset == 0 { place(at + header) } else { 0 },
        end: place(at + end),
    }
}

/// A first fragment so small that TCP's flags are in the next one (RFC 1858): no path is so narrow, a scan that hides is.
fn hides_flags(protocol: u8, first: bool, length: usize) -> u16 {
    if protocol == TCP && first && length < 14 { Traits::CONTACT } else { 0 }
}

/// An offset in a frame; no frame is longer than a `u16` says.
#[inline(always)]
fn place(at: usize) -> u16 {
    u16::try_from(at).unwrap_or(0)
}

#[inline(always)]
fn ipv6(ip: &[u8], at: usize, small: u16, tagged: bool) -> Parsed {
    let Some((h, mut rest)) = ip.split_first_chunk::<40>() else {
        return Parsed::other(Class::Malformed, tagged);
    };
    if h[0] >> 4 != 6 {
        return Parsed::other(Class::Malformed, tagged);
    }
    let payload = usize::from(u16::from_be_bytes([h[4], h[5]]));
    // A payload length of zero with hop-by-hop options belongs to a jumbogram (RFC 2675): take the frame's end.
    if payload < rest.len() && (payload != 0 || h[6] != 0) {
        rest = &rest[..payload];
    }
    let end = 40 + rest.len();
    let (protocol, first, traits, rest) = extension_headers(h[6], rest);
    let (source, destination) = {
        let mut s = [0; 16];
        let mut d = [0; 16];
        s.copy_from_slice(&h[8..24]);
        d.copy_from_slice(&h[24..40]);
        (u128::from_be_bytes(s), u128::from_be_bytes(d))
    };
    let hidden = if traits & Traits::FRAGMENT == 0 { 0 } else { hides_flags(protocol, first, rest.len()) };
    let traits = small | traits | hidden | transport(protocol, ICMPV6, first, rest);
    Parsed {
        source,
        destination,
        class: Class::Ipv6,
        traits: Traits(traits),
        tagged,
        protocol,
        transport: if first { place(at + end - rest.len()) } else { 0 },
        end: place(at + end),
    }
}

/// Walks hop-by-hop options (0), routing (43), fragment (44), authentication (51), destination options (60), mobility
/// (135), HIP (139) and Shim6 (140). Returns the protocol behind them, whether its header is here (not so in later
/// fragments), traits, and what follows. A chain that is cut or too long ends in protocol 59 (no next header).
#[inline(always)]
fn extension_headers(mut next: u8, mut rest: &[u8]) -> (u8, bool, u16, &[u8]) {
    let mut traits = 0;
    for _ in 0..=EXTENSION_HEADERS_MAX {
        let length = match next {
            0 | 43 | 60 | 135 | 139 | 140 => match rest.get(1) {
                Some(l) => usize::from(*l) * 8 + 8,
                None => return (NONE, false, traits, &[]),
            },
            // RFC 4302 section 2.2: in 32-bit words, minus 2.
            51 => match rest.get(1) {
                Some(l) => usize::from(*l) * 4 + 8,
                None => return (NONE, false, traits, &[]),
            },
            44 => {
                let Some((h, _)) = rest.split_first_chunk::<8>() else { return (NONE, false, traits, &[]) };
                let field = be16(&[h[2], h[3]]);
                // RFC 6946: offset 0 and no more fragments is an atomic fragment, a whole packet.
                if field & 0xfff9 != 0 {
                    traits |= Traits::FRAGMENT;
                }
                if field & 0xfff8 != 0 {
                    return (h[0], false, traits, &[]);
                }
                8
            }
            _ => return (next, true, traits, rest),
        };
        let Some(&n) = rest.first() else { return (NONE, false, traits, &[]) };
        let Some(behind) = rest.get(length..) else { return (NONE, false, traits, &[]) };
        next = n;
        rest = behind;
    }
    (NONE, false, traits, &[])
}

/// Traits of the transport header; `first` says whether it is here.
#[inline(always)]
fn transport(protocol: u8, icmp: u8, first: bool, payload: &[u8]) -> u16 {
    const BOTH: u16 = Traits::CONTACT | Traits::PEER;
    match protocol {
        TCP => {
            let flags = if first { payload.get(13) } else { None };
            Traits::TCP | flags.map_or(0, |f| tcp(*f))
        }
        UDP => Traits::UDP | if first { BOTH } else { 0 },
        p if p == icmp => {
            let kind = if first { payload.first().copied() } else { None };
            Traits::ICMP
                | match kind {
                    Some(k) if answers(icmp, k) => {
                        Traits::REACTION_ICMP | if is_error(icmp, k) { 0 } else { Traits::PEER }
                    }
                    Some(k) if asks(icmp, k) => BOTH,
                    _ => 0,
                }
        }
        NONE => 0,
        _ => {
            if first {
                BOTH
            } else {
                0
            }
        }
    }
}

/// FIN.
pub(crate) const FIN: u8 = 0x01;
/// SYN.
pub(crate) const SYN: u8 = 0x02;
/// RST.
pub(crate) const RST: u8 = 0x04;
/// PSH.
pub(crate) const PSH: u8 = 0x08;
/// ACK.
pub(crate) const ACK: u8 = 0x10;
/// URG.
pub(crate) const URG: u8 = 0x20;

/// What TCP flags say, by the lower five: URG, ECE and CWR say nothing here.
const TCP_TRAITS: [u16; 32] = {
    const SYN_ACK: u8 = SYN | ACK;
    let mut traits = [0; 32];
    let mut flags: u8 = 0;
    while flags < 32 {
        traits[flags as usize] = match flags & (SYN | RST | ACK) {
            ACK => 0,
            SYN => Traits::SYN | Traits::CONTACT | Traits::PEER,
            SYN_ACK => Traits::SYN_ACK | Traits::REACTION_TCP | Traits::PEER,
            // No stack sends a segment like this: FIN, NULL and XMAS scans do.
            0 => Traits::CONTACT,
            rst => Traits::REACTION_TCP | if rst & (SYN | ACK) == SYN { Traits::SYN } else { 0 },
        };
        flags += 1;
    }
    traits
};

#[inline(always)]
fn tcp(flags: u8) -> u16 {
    TCP_TRAITS[usize::from(flags % 32)]
}

/// ICMP messages that only answer: errors and replies (RFC 792, RFC 950; RFC 4443 for version 6).
#[inline(always)]
pub(crate) fn answers(icmp: u8, kind: u8) -> bool {
    if icmp == ICMP {
        matches!(kind, 0 | 3 | 4 | 11 | 12 | 14 | 16 | 18)
    } else {
        matches!(kind, 1..=4 | 129)
    }
}

/// ICMP messages that report an error of a packet, and quote it.
#[inline(always)]
pub(crate) fn is_error(icmp: u8, kind: u8) -> bool {
    if icmp == ICMP { matches!(kind, 3 | 4 | 11 | 12) } else { matches!(kind, 1..=4) }
}

/// ICMP messages that ask: echo, timestamp, information, address mask (RFC 792, RFC 950); echo in version 6.
#[inline(always)]
pub(crate) fn asks(icmp: u8, kind: u8) -> bool {
    if icmp == ICMP { matches!(kind, 8 | 13 | 15 | 17) } else { kind == 128 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_common_path_says_what_the_general_one_says() {
        let mut frame = [0u8; 80];
        frame[12..18].copy_from_slice(&[8, 0, 0x45, 0, 0, 60]);
        let mut random = 1u64;
        let mut plain = 0;
        for _ in 0..200_000 {
            random = random.wrapping_mul(0xd134_2543_de82_ef95).wrapping_add(1);
            let [.., length, at, value, protocol] = random.to_le_bytes();
            let mut f = frame;
            f[23] = [TCP, UDP, ICMP, NONE, value, TCP, UDP, TCP][usize::from(protocol % 8)];
            f[12 + usize::from(at % 38)] = value;
            let f = &f[..usize::from(length % 81)];
            if let Some(p) = plain_ipv4(f, 14, Traits::SMALL, false) {
                assert_eq!(p, ipv4(&f[14..], 14, Traits::SMALL, false), "{f:02x?}");
                plain += 1;
            }
        }
        assert!(plain > 50_000, "{plain}");
    }
}
