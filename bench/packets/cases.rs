//! What is measured: traffic, what is enforced on it, and beside whom.

use crate::locks::{Locks, NO_LOCKS};
use crate::peer::{PEERS, Peer};
use crate::traffic::{Devices, INSIDE_ONLY, ORDINARY, OUTSIDE_ONLY, Traffic};

/// Who writes policy while a case is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Brain {
    /// The real `cordond`, which decides: everything is on.
    Cordond,
    /// The part of it that costs the packet path anything; it enforces and watches what the case says.
    Script,
}

/// What the inside port shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Inside {
    /// A router in between: hardware addresses say nothing.
    Routed,
    /// The servers' own segment: its protocols and new devices are handed to control.
    Segment,
    /// The same, and each server's address is bound to its hardware address.
    Bound,
}

/// A row of the table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) what: &'static str,
    pub(crate) traffic: Traffic,
    pub(crate) brain: Brain,
    pub(crate) locks: Locks,
    /// Servers that are watched: the first ones.
    pub(crate) watched: u32,
    /// What the inside port shows.
    pub(crate) inside: Inside,
    /// How long an idle worker sleeps, us.
    pub(crate) idle_us: u32,
    pub(crate) peers: &'static [Peer],
}

const TESTPMD: &[Peer] = PEERS.split_at(4).0;
const ROUTERS: &[Peer] = &PEERS;
/// A table of exact flows, the last of them, is worth nothing where every packet is a new one.
const ROUTERS_FRESH: &[Peer] = PEERS.split_at(6).0;

const fn case(name: &'static str, what: &'static str, traffic: Traffic) -> Case {
    Case {
        name,
        what,
        traffic,
        brain: Brain::Script,
        locks: NO_LOCKS,
        watched: 0,
        inside: Inside::Routed,
        idle_us: 0,
        peers: TESTPMD,
    }
}

const fn everything(case: Case, peers: &'static [Peer]) -> Case {
    Case { brain: Brain::Cordond, inside: Inside::Bound, peers, ..case }
}

const fn locks(name: &'static str, what: &'static str, count: u32, percent: u32, by_address: bool) -> Case {
    let traffic = Traffic { addresses: 524_288, ..ORDINARY };
    Case { locks: Locks { count, percent, by_address }, ..case(name, what, traffic) }
}

const fn inside(name: &'static str, what: &'static str, inside: Inside) -> Case {
    Case { inside, ..case(name, what, ORDINARY) }
}

const fn watched(name: &'static str, what: &'static str, traffic: Traffic, hosts: u32) -> Case {
    Case { watched: hosts, ..case(name, what, traffic) }
}

const ONE: Traffic = Traffic { hosts: 1, ..ORDINARY };
const FRESH: Traffic = Traffic { fresh: true, ..ORDINARY };
/// What goes round on a virtual cable.
const ROUND: Traffic = Traffic { devices: Devices::Cable, hosts: 256, addresses: 256, ..ORDINARY };
const UDP_FLOOD: Traffic = Traffic { hosts: 1, fresh: true, protocol: "udp", from: OUTSIDE_ONLY, ..ORDINARY };
const SYN_FLOOD: Traffic = Traffic { protocol: "syn", ..UDP_FLOOD };
const HOSTS_1M: Traffic = Traffic { hosts: 1 << 20, addresses: 1 << 20, ..ORDINARY };

/// All of them; neighbours with the same traffic and brain share one start of the programs.
const CASES: &[Case] = &[
    everything(
        case(
            "looped",
            "one flow from a looped capture (net_pcap), everything on",
            Traffic { devices: Devices::Looped, ..ONE },
        ),
        TESTPMD,
    ),
    everything(
        case(
            "all-on-64k",
            "65,536 servers, TCP and UDP mixed, everything on",
            Traffic { addresses: 131_072, ..ORDINARY },
        ),
        ROUTERS,
    ),
    everything(
        case(
            "all-on-fresh",
            "every packet a new external address, everything on",
            Traffic { addresses: 131_072, ..FRESH },
        ),
        ROUTERS_FRESH,
    ),
    case("null", "net_null: no traffic at all, buffers of zeros", Traffic { devices: Devices::Null, ..ONE }),
    case("one-flow", "one server, one flow, 64-byte frames", ONE),
    case("hosts-256", "256 servers, 256 flows each", Traffic { hosts: 256, flows: 256, ..ORDINARY }),
    case("hosts-4k", "4,096 servers, 16 flows each", Traffic { hosts: 4096, flows: 16, ..ORDINARY }),
    case("hosts-64k", "65,536 servers in random order, TCP and UDP mixed", ORDINARY),
    watched("watched-1", "the same, one of them watched", ORDINARY, 1),
    watched("watched-1k", "the same, 1,000 of them watched", ORDINARY, 1000),
    inside("segment", "the same, the servers' own segment", Inside::Segment),
    inside("bindings", "the same, each server bound to its hardware address", Inside::Bound),
    case("hosts-64k-tcp", "65,536 servers, TCP", Traffic { protocol: "tcp", ..ORDINARY }),
    case("hosts-64k-udp", "65,536 servers, UDP", Traffic { protocol: "udp", ..ORDINARY }),
    case("hosts-1m", "1,048,576 servers in random order", HOSTS_1M),
    case("flows-64k", "one server, 65,536 flows", Traffic { hosts: 1, flows: 65_536, ..ORDINARY }),
    case("fresh", "65,536 servers, every packet a new external address", FRESH),
    case(
        "fresh-1m",
        "1,048,576 servers, every packet a new external address",
        Traffic { fresh: true, ..HOSTS_1M },
    ),
    case("udp-flood", "spoofed UDP flood on one server", UDP_FLOOD),
    watched("udp-flood-seen", "the same, the server is watched", UDP_FLOOD, 1),
    case("syn-flood", "spoofed SYN flood on one server", SYN_FLOOD),
    watched("syn-flood-seen", "the same, the server is watched", SYN_FLOOD, 1),
    case(
        "syn-scan",
        "one server sends SYN to a new address with every packet",
        Traffic { from: INSIDE_ONLY, ..SYN_FLOOD },
    ),
    case("imix", "IMIX (64, 594, 1,518 bytes), 65,536 servers", Traffic { frame: "imix", ..ORDINARY }),
    case("ipv6", "65,536 servers in a /64 each", Traffic { ipv6: true, ..ORDINARY }),
    case("vlan", "65,536 servers behind a VLAN tag", Traffic { vlan: 7, ..ORDINARY }),
    locks("locks-0", "no lock (internal network of 524,288 addresses)", 0, 0, false),
    locks("locks-1k-0", "1,024 locks, none on the traffic", 1024, 0, false),
    locks("locks-1k-50", "1,024 locks on half of the servers", 1024, 50, false),
    locks("locks-1k-100", "1,024 locks on all servers", 1024, 100, false),
    locks("locks-100k-0", "100,000 locks, none on the traffic", 100_000, 0, false),
    locks("locks-100k-50", "100,000 locks, half of the servers among them", 100_000, 50, false),
    locks("locks-100k-100", "100,000 locks, all servers among them", 100_000, 100, false),
    locks(
        "locks-by-address",
        "locks-100k-50 looked up by address: restarted, cordond dead",
        100_000,
        50,
        true,
    ),
    case("two-workers", "65,536 servers on two queues and two workers", Traffic { workers: 2, ..ORDINARY }),
    case(
        "one-queue",
        "two workers, everything on one queue",
        Traffic { workers: 2, one_queue: true, ..ORDINARY },
    ),
    case("af-packet", "256 servers, net_af_packet on a virtual cable (veth), one queue and worker", ROUND),
    case("af-packet-two", "the same, two queues and two workers", Traffic { workers: 2, ..ROUND }),
];

/// The cases whose name contains one of `wanted`; all for none.
pub(crate) fn chosen(wanted: &[String]) -> Result<Vec<Case>, String> {
    if let Some(unknown) = wanted.iter().find(|w| !CASES.iter().any(|c| c.name.contains(w.as_str()))) {
        return Err(format!("there is no case \"{unknown}\"; see: cargo bench -p cordon -- --list"));
    }
    let is_wanted = |c: &&Case| wanted.is_empty() || wanted.iter().any(|w| c.name.contains(w.as_str()));
    Ok(CASES.iter().filter(is_wanted).copied().collect())
}

/// The cases for people.
pub(crate) fn list() -> String {
    CASES.iter().map(|c| format!("{:<17} {}\n", c.name, c.what)).collect()
}
