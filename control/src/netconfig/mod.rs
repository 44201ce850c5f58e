//! Wrong network configuration on the servers' own segment: who claims what is not his, answers what he should not, or
//! floods the others.
//!
//! [`Watcher`] is given frames of the control protocols and samples of ordinary packets, and is asked at every tick what
//! was wrong ([`Watcher::judge`]). It does no I/O and has no clock: equal frames at equal times give equal findings.
//! What does harm at once the packet path drops by itself ([`pipeline::guard`]).
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
mod judge;
mod offences;
mod owners;
mod routers;
mod stations;
mod table;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod watcher;

use std::net::IpAddr;

pub use env::{Allowed, Env, Gateway, Limits};
use pipeline::segment::Segment;
pub use region::Mac;
use region::segment::Guard;
pub use watcher::{Misses, Watcher};

/// Findings of one call of [`Watcher::judge`].
pub const FINDINGS_MAX: usize = 128;

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

    /// What a frame says that a guard drops.
    pub const fn of_guard(g: Guard) -> Case {
        match g {
            Guard::Dhcp => Case::RogueDhcp,
            Guard::Ra => Case::RogueRa,
            Guard::Stp => Case::Stp,
            Guard::Arp => Case::ArpSpoof,
            Guard::Nd => Case::NdSpoof,
        }
    }

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
    pub segment: Segment,
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
