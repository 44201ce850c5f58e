//! What is counted. The inputs are fixed: a change of them makes budgets worthless.

use region::addressing::{Addressing, BlockV4, NetworkV6};
use region::locks::{LockedRange, Range, flatten};
use region::policy::Bindings;
use region::segment::{Guards, SegmentRules};
use region::{Addr, Capacities, Facts, HostFlags, HostId, Mac, Policy, RegionError, WatchSlot};

/// Servers of most cases.
pub(crate) const HOSTS: u32 = 65_536;
/// First address of the servers.
pub(crate) const SERVERS: u32 = 0x0a00_0000;
/// First /64 of the servers.
pub(crate) const SERVERS_V6: u128 = 0x2001_0db8 << 96;
/// IPv4 addresses of the internal network; those without traffic can be locked too.
const ADDRESSES: u32 = 262_144;
const HASH_KEY: [u64; 2] = [0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210];

/// What a packet carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Payload {
    /// TCP with ACK.
    Ack,
    /// TCP with SYN.
    Syn,
    /// UDP.
    Udp,
    /// A quarter of the flows UDP, the others TCP with ACK.
    Mixed,
}

/// Which side packets come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum From {
    Inside,
    Outside,
    /// Bursts by turns.
    Both,
}

/// Fixed packets and tables.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) what: &'static str,
    pub(crate) hosts: u32,
    /// Every packet has an external address of its own, else every server one.
    pub(crate) fresh: bool,
    pub(crate) payload: Payload,
    pub(crate) from: From,
    pub(crate) vlan: bool,
    pub(crate) ipv6: bool,
    /// Locked addresses without traffic.
    pub(crate) quiet_locks: u32,
    /// All servers with traffic are locked.
    pub(crate) locked: bool,
    /// The wire shows the servers' own segment, with all guards on.
    pub(crate) segment: bool,
    /// Every server is bound to the MAC that it has.
    pub(crate) bound: bool,
    /// All servers with traffic are watched.
    pub(crate) watched: bool,
}

const MANY: Case = Case {
    name: "hosts-64k",
    what: "65,536 servers in scattered order, both sides by turns",
    hosts: HOSTS,
    fresh: false,
    payload: Payload::Mixed,
    from: From::Both,
    vlan: false,
    ipv6: false,
    quiet_locks: 0,
    locked: false,
    segment: false,
    bound: false,
    watched: false,
};
const ONE: Case = Case { hosts: 1, payload: Payload::Ack, ..MANY };

/// All of them.
pub(crate) const CASES: &[Case] = &[
    Case { name: "one-flow", what: "one server, one flow, TCP with ACK", ..ONE },
    MANY,
    Case { name: "fresh", what: "65,536 servers, every packet a new external address", fresh: true, ..MANY },
    Case {
        name: "udp-flood",
        what: "spoofed UDP flood on one server",
        payload: Payload::Udp,
        from: From::Outside,
        fresh: true,
        ..ONE
    },
    Case {
        name: "syn-flood",
        what: "spoofed SYN flood on one server",
        payload: Payload::Syn,
        from: From::Outside,
        fresh: true,
        ..ONE
    },
    Case {
        name: "syn-scan",
        what: "one server sends SYN to a new address with every packet",
        payload: Payload::Syn,
        from: From::Inside,
        fresh: true,
        ..ONE
    },
    Case { name: "ipv6", what: "65,536 servers in a /64 each", ipv6: true, ..MANY },
    Case { name: "vlan", what: "65,536 servers behind a VLAN tag", vlan: true, ..MANY },
    Case { name: "locks-100k", what: "100,000 locks, none on the traffic", quiet_locks: 100_000, ..MANY },
    Case {
        name: "locked",
        what: "all servers locked, 100,000 locks more",
        quiet_locks: 100_000,
        locked: true,
        ..MANY
    },
    Case { name: "segment", what: "65,536 servers on their own segment, with guards", segment: true, ..MANY },
    Case {
        name: "bound",
        what: "65,536 servers on their own segment, each bound to its MAC",
        segment: true,
        bound: true,
        ..MANY
    },
    Case { name: "one-watched", what: "one server that is watched, one flow", watched: true, ..ONE },
    Case {
        name: "flood-watched",
        what: "spoofed UDP flood on one server that is watched",
        payload: Payload::Udp,
        from: From::Outside,
        fresh: true,
        watched: true,
        ..ONE
    },
    // Timed only (bench/pipeline): they have no budget.
    Case { name: "hosts-64k-tcp", what: "65,536 servers, TCP", payload: Payload::Ack, ..MANY },
    Case { name: "hosts-64k-udp", what: "65,536 servers, UDP", payload: Payload::Udp, ..MANY },
    Case {
        name: "fresh-1m",
        what: "1,048,576 servers, every packet a new external address",
        hosts: 1 << 20,
        fresh: true,
        ..MANY
    },
];

/// The MAC of all servers.
pub(crate) const MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);

impl Case {
    /// Packets: each server appears once while the tables warm up, and once while it counts.
    pub(crate) fn packets(&self) -> u32 {
        2 * self.hosts.max(HOSTS)
    }

    /// The tables as a worker finds them in service.
    pub(crate) fn tables(&self) -> Result<(Facts, Policy), Box<dyn std::error::Error>> {
        let capacities = self.capacities();
        let (facts, policy) = anonymous(capacities)?;
        let length = u8::try_from(32 - capacities.hosts_v4.trailing_zeros())?;
        let v4 = vec![BlockV4 { first: SERVERS, length, base: HostId(0) }];
        let range = Range::of_prefix(Addr::V6(SERVERS_V6), 32);
        let v6 = vec![NetworkV6 { range, quota: u32::MAX, slot: 0 }];
        policy.publish_addressing(&Addressing { v4, v6 })?;
        let quiet = (0..self.quiet_locks).map(|i| HOSTS + i);
        let loud = if self.locked { 0..self.hosts } else { 0..0 };
        let mut ranges = Vec::new();
        for host in loud.chain(quiet) {
            policy.set_flags(HostId(host), HostFlags(BOTH));
            let address = Addr::V4(SERVERS + host).as_u128();
            ranges.push(LockedRange { range: Range { first: address, last: address }, bits: BOTH });
        }
        // Hosts that speak for the first time are few.
        for host in (0..self.hosts).filter(|_| self.ipv6) {
            facts.insert_v6(SERVERS_V6 | u128::from(host) << 64, HASH_KEY, u32::MAX, 0);
        }
        // As control does once it has seen them.
        for host in capacities.hosts_v4..capacities.hosts() {
            policy.set_flags(HostId(host), HostFlags(HostFlags::KNOWN));
        }
        let guards = if self.segment { Guards::ALL } else { Guards::default() };
        policy.publish_locks(&flatten(&ranges), &[], &SegmentRules { guards, ..SegmentRules::default() })?;
        if self.bound {
            (0..self.hosts).for_each(|host| policy.bind(HostId(host), Some(MAC)));
            policy.set_bindings(Bindings::Count);
        }
        policy.flags_hold_for(1);
        policy.set_epoch(1);
        policy.set_quotas(4096, 64);
        for host in (0..self.hosts).filter(|_| self.watched) {
            policy.set_watch_slot(HostId(host), WatchSlot(u16::try_from(host + 1)?));
            policy.set_flags(HostId(host), HostFlags(HostFlags::WATCH));
        }
        policy.set_tick(0, 1);
        policy.turn_generation();
        Ok((facts, policy))
    }

    const fn capacities(&self) -> Capacities {
        // Twice as many slots as hosts, as a configuration has it.
        let hosts_v6 = if self.ipv6 { 131_072 } else { 1024 };
        let hosts_v4 = if self.hosts > ADDRESSES { self.hosts } else { ADDRESSES };
        Capacities { workers: 1, hosts_v4, hosts_v6, locks: 131_072 }
    }
}

const BOTH: u8 = HostFlags::LOCK_OUT | HostFlags::LOCK_IN;

fn anonymous(c: Capacities) -> Result<(Facts, Policy), RegionError> {
    Ok((Facts::anonymous(c)?, Policy::anonymous(c, 64, HASH_KEY)?))
}
