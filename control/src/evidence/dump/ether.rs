//! Ethernet frames: tags are looked through, then the ethertype decides (IEEE 802.3, 802.1Q, 802.1ad).

use super::view::{Done, View, name_of, put};
use super::{arp, ip, ip6, l2, llc, tunnel};

pub(super) const IPV4: u16 = 0x0800;
pub(super) const ARP: u16 = 0x0806;
pub(super) const IPV6: u16 = 0x86dd;
pub(super) const MPLS: u16 = 0x8847;

/// Up to here the field is a length, and an LLC header follows.
const LENGTH_MAX: u16 = 1500;
const JUMBO_LLC: u16 = 0x8870;

/// Ethertypes that have a name and no decoder, in tcpdump's words.
const NAMES: &[(u32, &str)] = &[
    (0x0600, "NS"),
    (0x1000, "Trail"),
    (0x6001, "MOP DL"),
    (0x6002, "MOP RC"),
    (0x6004, "LAT"),
    (0x6007, "SCA"),
    (0x6558, "TEB"),
    (0x8038, "Lanbridge"),
    (0x803c, "DEC DNS"),
    (0x803e, "DEC DTS"),
    (0x805b, "VEXP"),
    (0x805c, "VPROD"),
    (0x893a, "IEEE1905.1"),
    // These have a decoder in tcpdump; here they only have a name.
    (0x8137, "IPX"),
    (0x80f3, "Appletalk ARP"),
    (0x809b, "Appletalk"),
    (0x6003, "DN"),
];

/// Ethertypes that ARP names and that are decoded elsewhere.
const DECODED: &[(u32, &str)] = &[
    (0x0800, "IPv4"),
    (0x0806, "ARP"),
    (0x8035, "Reverse ARP"),
    (0x8100, "802.1Q"),
    (0x86dd, "IPv6"),
    (0x8847, "MPLS unicast"),
    (0x8848, "MPLS multicast"),
    (0x8863, "PPPoE D"),
    (0x8864, "PPPoE S"),
    (0x88cc, "LLDP"),
    (0x9000, "Loopback"),
    (0x88a8, "802.1Q-QinQ"),
];

/// The name of an ethertype, if it has one.
pub(super) fn name(ethertype: u16) -> Option<&'static str> {
    name_of(NAMES, u32::from(ethertype)).or_else(|| name_of(DECODED, u32::from(ethertype)))
}

/// What a frame's link layer said.
#[derive(Clone, Copy)]
pub(super) struct Link<'a> {
    /// The frame as it came.
    pub(super) frame: View<'a>,
    /// How many more tunnels are looked into.
    pub(super) depth: usize,
}

/// A whole frame.
pub(super) fn frame(out: &mut String, frame: View<'_>, depth: usize) -> Done {
    let frame = frame.named("ether");
    frame.need(14)?;
    let link = Link { frame, depth };
    let mut ethertype = frame.u16(12)?;
    let mut rest = frame.from(14);
    loop {
        match ethertype {
            0..=LENGTH_MAX => return llc::llc(out, rest.limit(usize::from(ethertype)), link),
            JUMBO_LLC => return llc::llc(out, rest, link),
            0x8100 | 0x88a8 | 0x9100 | 0x9200 => {
                let tag = rest.named("vlan");
                tag.need(4)?;
                ethertype = tag.u16(2)?;
                rest = rest.from(4);
            }
            _ => break,
        }
    }
    if payload(out, ethertype, rest, link)? {
        return Ok(());
    }
    addresses(out, frame)?;
    match name(ethertype) {
        Some(name) => put!(out, ", {name}"),
        None => put!(out, ", Unknown Ethertype (0x{ethertype:04x})"),
    }
    put!(out, ", length {}: ", frame.length);
    Ok(())
}

/// `source > destination` of a frame.
pub(super) fn addresses(out: &mut String, frame: View<'_>) -> Done {
    put!(out, "{} > {}", frame.mac(6)?, frame.mac(0)?);
    Ok(())
}

/// What an ethertype stands for; false if it is not known.
pub(super) fn payload(
    out: &mut String,
    ethertype: u16,
    v: View<'_>,
    link: Link<'_>,
) -> Result<bool, super::Cut> {
    match ethertype {
        IPV4 => ip::packet(out, v, link.depth)?,
        IPV6 => ip6::packet(out, v, link.depth)?,
        ARP | 0x8035 => arp::arp(out, v)?,
        MPLS | 0x8848 => tunnel::mpls(out, v, link.depth)?,
        0x8863 | 0x8864 | 0x3c12 | 0x3c13 => tunnel::pppoe(out, v, link.depth)?,
        0x9000 => l2::loopback(out, v)?,
        0x88cc => l2::lldp(out, v)?,
        0x8809 => l2::slow(out, v)?,
        0x8808 => l2::mac_control(out, v)?,
        0x886f => l2::nlb(out, v)?,
        0x888e => l2::eap(out, v)?,
        0x8899 => l2::realtek(out, v, link)?,
        0x88a2 => l2::aoe(out, v)?,
        _ => return Ok(false),
    }
    Ok(true)
}
