//! IPv4 (RFC 791), and what the protocol field of IPv4 and IPv6 leads to.

use std::fmt;
use std::net::Ipv4Addr;

use super::view::{Cut, Done, Ip6, View, put};
use super::{icmp, icmp6, ip6, llc, routing, sctp, transport, tunnel, vrrp};

pub(super) const TCP: u8 = 6;
pub(super) const UDP: u8 = 17;
pub(super) const DCCP: u8 = 33;
pub(super) const SCTP: u8 = 132;

/// An address.
#[derive(Clone, Copy, Debug)]
pub(super) enum Address {
    V4(Ipv4Addr),
    V6(Ip6),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::V4(a) => a.fmt(f),
            Address::V6(a) => a.fmt(f),
        }
    }
}

/// What an IP header says to what follows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    pub(super) source: Address,
    pub(super) destination: Address,
    /// The protocol of the fixed header: with another one in between, ports are written without addresses.
    pub(super) protocol: u8,
    /// Time to live, or hop limit.
    pub(super) ttl: u8,
    /// More fragments follow.
    pub(super) fragment: bool,
    /// How many more tunnels are looked into.
    pub(super) depth: usize,
}

impl Header {
    /// Whether it is an IPv6 header.
    pub(super) fn is_v6(&self) -> bool {
        matches!(self.source, Address::V6(_))
    }

    /// `source > destination: `.
    pub(super) fn addresses(&self, out: &mut String) {
        put!(out, "{} > {}: ", self.source, self.destination);
    }

    /// `source.port > destination.port: `.
    pub(super) fn endpoints(&self, out: &mut String, ports: (u16, u16), always: bool, own: u8) {
        if always || self.protocol == own {
            put!(out, "{}.{} > {}.{}: ", self.source, ports.0, self.destination, ports.1);
        } else {
            put!(out, "{} > {}: ", ports.0, ports.1);
        }
    }
}

/// Whether a transport writes the addresses itself, with its ports.
pub(super) fn has_ports(protocol: u8) -> bool {
    matches!(protocol, TCP | UDP | DCCP | SCTP)
}

/// One IPv4 packet.
pub(super) fn packet(out: &mut String, v: View<'_>, depth: usize) -> Done {
    let v = v.named("ip");
    let first = v.u8(0)?;
    match first >> 4 {
        4 => out.push_str("IP "),
        6 => {
            out.push_str("IP6, wrong link-layer encapsulation (invalid)");
            return Ok(());
        }
        version => {
            put!(out, "IP{version} (invalid)");
            return Ok(());
        }
    }
    v.need(20)?;
    if v.length < 20 {
        put!(out, "truncated-ip {}", v.length);
        return Ok(());
    }
    let header = usize::from(first & 15) * 4;
    if header < 20 {
        put!(out, "bad-hlen {header}");
        return Ok(());
    }
    let total = usize::from(v.u16(2)?);
    if v.length < total {
        put!(out, "truncated-ip - {} bytes missing! ", total - v.length);
    }
    if total < header {
        put!(out, "bad-len {total}");
        return Ok(());
    }
    // What is missing stays part of the length.
    let v = v.limit(total).with_length(total);
    let (field, protocol) = (v.u16(6)?, v.u8(9)?);
    let (source, destination) = (Address::V4(v.ip4(12)?), Address::V4(v.ip4(16)?));
    let Some(depth) = depth.checked_sub(1) else { return Err(Cut("ip")) };
    let h = Header { source, destination, protocol, ttl: v.u8(8)?, fragment: field & 0x2000 != 0, depth };
    if field & 0x1fff != 0 {
        h.addresses(out);
        put!(out, "ip-proto-{protocol}");
        return Ok(());
    }
    if !has_ports(protocol) {
        h.addresses(out);
    }
    if v.bytes.len() < header {
        put!(out, " [remaining caplen({}) < header length({header})]", v.bytes.len());
        return Err(Cut("ip"));
    }
    payload(out, protocol, v.from(header), h)
}

/// What a protocol number leads to.
pub(super) fn payload(out: &mut String, protocol: u8, v: View<'_>, h: Header) -> Done {
    match protocol {
        1 if h.is_v6() => out.push_str("[ICMP requires IPv4] (invalid)"),
        1 => icmp::icmp(out, v)?,
        2 if h.is_v6() => out.push_str("[IGMP requires IPv4] (invalid)"),
        // What a group is joined for is no part of the short form.
        2 => out.push_str("igmp"),
        4 => packet(out, v, h.depth)?,
        TCP => transport::tcp(out, v, h)?,
        UDP => transport::udp(out, v, h)?,
        DCCP => transport::dccp(out, v, h)?,
        41 => ip6::packet(out, v, h.depth)?,
        47 => tunnel::gre(out, v, h.depth)?,
        50 => tunnel::esp(out, v)?,
        51 => tunnel::ah(out, v, h)?,
        58 if h.is_v6() => icmp6::icmp6(out, v)?,
        58 => out.push_str("[ICMPv6 requires IPv6] (invalid)"),
        59 => out.push_str("no next header"),
        77 => put!(out, " nd {}", v.length),
        108 => tunnel::ipcomp(out, v)?,
        112 => vrrp::vrrp(out, v, h)?,
        SCTP => sctp::sctp(out, v, h)?,
        143 if h.is_v6() => llc::ethernet_in_ip(out, v, h.depth)?,
        143 => out.push_str("[Ethernet requires IPv6] (invalid)"),
        8 => routing::egp(out, v)?,
        46 => routing::rsvp(out, v)?,
        88 => routing::eigrp(out, v)?,
        89 => routing::ospf(out, v, h)?,
        103 => routing::pim(out, v)?,
        113 => routing::pgm(out, v, h)?,
        _ => routing::by_number(out, v, protocol)?,
    }
    Ok(())
}
