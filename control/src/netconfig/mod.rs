//! Wrong network configuration on the servers' own segment: who claims what is not his, answers what he should not, or
//! floods the others.
//!
//! [`Watcher`] is given frames of the control protocols and samples of ordinary packets, and is asked at every tick what
//! was wrong ([`Watcher::judge`]). It does no I/O and has no clock: equal frames at equal times give equal findings.
//! [`guard()`] is the part that the packet path can do by itself: it names frames that do harm at once.
//!
//! # Sides
//!
//! On a wire the port tells the side: servers are [`Side::Inside`], and what comes from [`Side::Outside`] is believed and
//! never blamed. A capture or a mirror port shows a whole segment at once, with gateway, DHCP server and switches among
//! the servers ([`Side::Mirror`]). There a role is no offence, since somebody has to have it; a **contradiction** is: a
//! second device that gives other answers than the one that was established first, an address that two devices
//! hold, a root bridge that another takes over. Lists of gateways, DHCP servers and routers, where given, decide first.
//!
//! # Who is blamed, and how far
//!
//! What the operator has told us (gateways, lists, inventory) makes an offence *certain*; what is concluded from traffic
//! alone warns at most. A lock needs a certain offence that goes on, by a MAC that the inventory names. MAC addresses can
//! be forged by a neighbour on the same segment, which no inline box can see: port security of the switch is what helps.
//!
//! # What it has to be given
//!
//! - All ARP, all ICMPv6 of types 133 to 137 and all spanning tree, from both sides: the first 128 bytes; of router
//!   advertisements 256. If some are lost, [`Watcher::missed`]: an answer whose question was lost is no offence.
//! - All DHCP, from both sides, as far as its options reach: 590 bytes (RFC 2131 section 2).
//! - From inside, the first packet of each (MAC, source address), and again at most once a second: the headers.
//! - Broadcast frames by device and tick, as counts: [`Watcher::broadcasts`].
//!
//! Private destinations are not judged here: that takes counts of destinations, which the scan detector has.
//!
//! # Bounds
//!
//! Every table has a fixed capacity under a keyed hash. Forged addresses displace each other, not what has been heard of
//! for a minute; what finds no place is counted. At most [`FINDINGS_MAX`] findings leave at once; the rest follows with
//! the next tick.

mod asks;
mod bridges;
mod claims;
mod dhcp;
pub mod env;
pub mod frame;
pub mod guard;
mod judge;
mod offences;
mod owners;
mod routers;
mod stations;
mod table;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod watcher;

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

pub use env::{Allowed, Env, Gateway, Limits};
pub use guard::{GuardTable, guard};
pub use watcher::{Misses, Watcher};

/// Findings of one call of [`Watcher::judge`].
pub const FINDINGS_MAX: usize = 128;

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

impl FromStr for Mac {
    type Err = String;

    fn from_str(s: &str) -> Result<Mac, String> {
        let mut mac = [0; 6];
        let mut parts = s.split([':', '-']);
        for byte in &mut mac {
            let part = parts.next().filter(|p| p.len() == 2);
            let part = part.and_then(|p| u8::from_str_radix(p, 16).ok());
            *byte = part.ok_or_else(|| format!("`{s}` is no MAC address: write 02:00:5e:10:00:01"))?;
        }
        if parts.next().is_some() {
            return Err(format!("`{s}` is longer than a MAC address"));
        }
        Ok(Mac(mac))
    }
}

/// Where a frame was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// From the servers.
    Inside,
    /// From the internet, through the gateway.
    Outside,
    /// On the segment itself: a capture or a mirror port, where one does not see who sent a frame from which side.
    Mirror,
}

impl From<region::Side> for Side {
    fn from(s: region::Side) -> Side {
        match s {
            region::Side::Inside => Side::Inside,
            region::Side::Outside => Side::Outside,
        }
    }
}

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Case {
    /// Claims an address of somebody else by ARP.
    ArpSpoof,
    /// The same by neighbour discovery.
    NdSpoof,
    /// Answers DHCP.
    RogueDhcp,
    /// Takes addresses for clients that do not exist.
    DhcpStarvation,
    /// Advertises itself as a router, or takes one out of service.
    RogueRa,
    /// Speaks spanning tree, or takes over its root.
    Stp,
    /// Uses an address outside every internal prefix, or one that is assigned to nobody.
    UnassignedSource,
    /// A device that the inventory does not know.
    UnknownMac,
    /// Uses an address that is assigned to another.
    WrongMac,
    /// Sends from what cannot be a source.
    InvalidSource,
    /// Asks for very many addresses.
    ArpStorm,
    /// Floods everybody.
    BroadcastStorm,
}

impl Case {
    /// All cases.
    pub const ALL: [Case; 12] = [
        Case::ArpSpoof,
        Case::NdSpoof,
        Case::RogueDhcp,
        Case::DhcpStarvation,
        Case::RogueRa,
        Case::Stp,
        Case::UnassignedSource,
        Case::UnknownMac,
        Case::WrongMac,
        Case::InvalidSource,
        Case::ArpStorm,
        Case::BroadcastStorm,
    ];

    /// Its name in incidents.
    pub const fn name(self) -> &'static str {
        match self {
            Case::ArpSpoof => "arp-spoof",
            Case::NdSpoof => "nd-spoof",
            Case::RogueDhcp => "rogue-dhcp",
            Case::DhcpStarvation => "dhcp-starvation",
            Case::RogueRa => "rogue-ra",
            Case::Stp => "stp",
            Case::UnassignedSource => "unassigned-source",
            Case::UnknownMac => "unknown-mac",
            Case::WrongMac => "wrong-mac",
            Case::InvalidSource => "invalid-source",
            Case::ArpStorm => "arp-storm",
            Case::BroadcastStorm => "broadcast-storm",
        }
    }
}

/// How far to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Tell.
    Warn,
    /// Take the addresses that the inventory gives this MAC off the network.
    Lock,
}

/// Something wrong, told again whenever it goes on. Key of an incident: case, MAC and VLAN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What.
    pub case: Case,
    /// How far to go.
    pub level: Level,
    /// Who.
    pub mac: Mac,
    /// The MAC is made up: nobody can be blamed by it.
    pub is_forged: bool,
    /// VLAN tags, 0 for none.
    pub segment: frame::Segment,
    /// The address of the one who did it: the inventory's, else the one it was first heard with.
    pub address: Option<IpAddr>,
    /// The server that the inventory names.
    pub server: Option<String>,
    /// The first address that was claimed, used or offered.
    pub claimed: Option<IpAddr>,
    /// Whose it is, as far as known.
    pub victim: Option<Mac>,
    /// First frame.
    pub first_ns: u64,
    /// Last frame.
    pub last_ns: u64,
    /// Frames.
    pub count: u64,
    /// For the evidence: what happened, in sentences.
    pub text: String,
    /// Times of some of the frames.
    pub examples_ns: Vec<u64>,
}
