//! Addresses as the packet path carries them.

use std::fmt;
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

/// An Ethernet address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// Broadcast.
    pub const BROADCAST: Mac = Mac([0xff; 6]);

    /// A group's: never a source (IEEE 802.3 clause 3.2.3).
    pub const fn is_group(self) -> bool {
        self.0[0] & 1 != 0
    }

    /// Chosen by software rather than by a maker.
    pub const fn is_local(self) -> bool {
        self.0[0] & 2 != 0
    }

    /// Nobody's: recordings of a loopback interface.
    pub fn is_zero(self) -> bool {
        self.0 == [0; 6]
    }

    /// An address that devices share by design: VRRP and CARP (RFC 9568), HSRP versions 1 and 2 and for IPv6, GLBP, and
    /// Microsoft's network load balancing. It moves between devices, and stands beside their own.
    pub fn is_shared(self) -> bool {
        match self.0 {
            [0x00, 0x00, 0x5e, 0x00, 0x01 | 0x02, _] | [0x00, 0x00, 0x0c, 0x07, 0xac, _] => true,
            [0x00, 0x00, 0x0c, 0x9f, b, _] => b >= 0xf0,
            [0x00, 0x05, 0x73, 0xa0, b, _] => b <= 0x0f,
            [0x00, 0x07, 0xb4, ..] | [0x02 | 0x03, 0xbf, ..] => true,
            _ => false,
        }
    }

    /// Two ports of one network card, as far as their numbers tell: Linux bonds in the mode `balance-alb` answer for one
    /// address with several of them, and so does a server with two ports on one segment.
    pub fn is_beside(self, other: Mac) -> bool {
        const PORTS: u32 = 3;
        let low = |m: Mac| u32::from_be_bytes([0, m.0[3], m.0[4], m.0[5]]);
        // Addresses under 00:00:00 are set by hand, one after the other.
        self.0[..3] == other.0[..3]
            && self.0[..3] != [0; 3]
            && !self.is_local()
            && low(self).abs_diff(low(other)) <= PORTS
    }

    /// As a number.
    pub fn number(self) -> u64 {
        let m = self.0;
        u64::from_be_bytes([0, 0, m[0], m[1], m[2], m[3], m[4], m[5]])
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}
