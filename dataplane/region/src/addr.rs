//! Addresses as the packet path carries them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An IP address; IPv4 stays 32 bits wide so that its look-up needs no unpacking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Addr {
    /// IPv4, host byte order.
    V4(u32),
    /// IPv6, host byte order.
    V6(u128),
}

impl Addr {
    /// The address as one number: IPv4 as `::ffff:a.b.c.d` (RFC 4291 section 2.5.5.2), so that ranges of both
    /// families sort in one table and never meet.
    #[inline]
    pub const fn as_u128(self) -> u128 {
        match self {
            Addr::V4(a) => 0xffff_0000_0000 | a as u128,
            Addr::V6(a) => a,
        }
    }
}

impl From<IpAddr> for Addr {
    fn from(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(a) => Addr::V4(a.to_bits()),
            IpAddr::V6(a) => Addr::V6(a.to_bits()),
        }
    }
}

impl From<Addr> for IpAddr {
    fn from(a: Addr) -> Self {
        match a {
            Addr::V4(a) => IpAddr::V4(Ipv4Addr::from_bits(a)),
            Addr::V6(a) => IpAddr::V6(Ipv6Addr::from_bits(a)),
        }
    }
}
