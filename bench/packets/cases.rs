//! What is measured: traffic, and what is enforced on it.

use region::locks::{LockedRange, Range, flatten};
use region::{Addr, HostFlags, Side};

/// Packets in the source's array; as many as hosts where those are more, so that each appears.
const PACKETS: u32 = 65_536;
/// First address of the servers in the source.
const INTERNAL_V4: u32 = 0x0a00_0000;

/// Traffic as the source makes it; see `bench/source/source.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Traffic {
    pub(crate) hosts: u32,
    pub(crate) flows: u32,
    pub(crate) fresh: bool,
    pub(crate) protocol: &'static str,
    /// Bytes on the wire, or `imix`.
    pub(crate) frame: &'static str,
    pub(crate) vlan: u16,
    pub(crate) ipv6: bool,
    /// Which sides packets come from, by [`Side`].
    pub(crate) from: [bool; 2],
    /// IPv4 addresses of the internal network: those without traffic can be locked too.
    pub(crate) addresses: u32,
}

const ORDINARY: Traffic = Traffic {
    hosts: 65_536,
    flows: 1,
    fresh: false,
    protocol: "mixed",
    frame: "64",
    vlan: 0,
    ipv6: false,
    from: [true, true],
    addresses: 65_536,
};
const TWO_SIDES: [bool; 2] = [true, true];
const OUTSIDE_ONLY: [bool; 2] = [false, true];
const INSIDE_ONLY: [bool; 2] = [true, false];

/// What is enforced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Locks {
    /// Locks in force.
    pub(crate) count: u32,
    /// Percentage of the servers with traffic that they cover.
    pub(crate) percent: u32,
    /// As after a restart of the dataplane with `cordond` dead: host flags do not hold, every address is looked up.
    pub(crate) by_address: bool,
}

const NO_LOCKS: Locks = Locks { count: 0, percent: 0, by_address: false };

/// A row of the table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) what: &'static str,
    pub(crate) traffic: Traffic,
    pub(crate) locks: Locks,
}

const fn case(name: &'static str, what: &'static str, traffic: Traffic) -> Case {
    Case { name, what, traffic, locks: NO_LOCKS }
}

const fn locks(name: &'static str, what: &'static str, count: u32, percent: u32, by_address: bool) -> Case {
    let traffic = Traffic { addresses: 524_288, ..ORDINARY };
    Case { name, what, traffic, locks: Locks { count, percent, by_address } }
}

/// All of them; neighbours with the same traffic share one start of the programs.
const CASES: &[Case] = &[
    case("one-flow", "one server, one flow, 64-byte frames", Traffic { hosts: 1, ..ORDINARY }),
    case("hosts-256", "256 servers, 256 flows each", Traffic { hosts: 256, flows: 256, ..ORDINARY }),
    case("hosts-64k", "65,536 servers in random order", ORDINARY),
    case(
        "hosts-1m",
        "1,048,576 servers in random order",
        Traffic { hosts: 1 << 20, addresses: 1 << 20, ..ORDINARY },
    ),
    case("flows-64k", "one server, 65,536 flows", Traffic { hosts: 1, flows: 65_536, ..ORDINARY }),
    case(
        "fresh",
        "65,536 servers, every packet a new external address",
        Traffic { fresh: true, from: TWO_SIDES, ..ORDINARY },
    ),
    case(
        "udp-flood",
        "spoofed UDP flood on one server",
        Traffic { hosts: 1, fresh: true, protocol: "udp", from: OUTSIDE_ONLY, ..ORDINARY },
    ),
    case(
        "syn-flood",
        "spoofed SYN flood on one server",
        Traffic { hosts: 1, fresh: true, protocol: "syn", from: OUTSIDE_ONLY, ..ORDINARY },
    ),
    case(
        "syn-scan",
        "one server sends SYN to a new address with every packet",
        Traffic { hosts: 1, fresh: true, protocol: "syn", from: INSIDE_ONLY, ..ORDINARY },
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

impl Traffic {
    /// The `--vdev` argument of a side's device; the name is that of `index`.
    pub(crate) fn device(&self, index: usize, side: Side) -> String {
        let idle = u8::from(!self.from[side.index()]);
        let packets = self.hosts.max(PACKETS);
        let mut text = format!(
            "net_source{index},side={},idle={idle},hosts={},flows={},packets={packets},protocol={},frame={},vlan={}",
            side.name(),
            self.hosts,
            self.flows,
            self.protocol,
            self.frame,
            self.vlan
        );
        for (on, flag) in [(self.fresh, ",fresh=1"), (self.ipv6, ",ipv6=1")] {
            if on {
                text += flag;
            }
        }
        text
    }

    /// Bits of the internal IPv4 prefix.
    pub(crate) fn prefix_length(&self) -> u8 {
        u8::try_from(32 - self.addresses.trailing_zeros()).unwrap_or(32)
    }
}

impl Locks {
    /// The lock list, flattened as control publishes it.
    ///
    /// Covered are whole blocks, every second one for half of the servers; what is left locks single addresses without
    /// traffic, every second one again, so that flattening cannot join them.
    pub(crate) fn ranges(&self, traffic: &Traffic) -> Vec<LockedRange> {
        let (step, blocks) = match self.percent {
            0 => (0, 0),
            percent => {
                let covered = traffic.hosts / 100 * percent + traffic.hosts % 100 * percent / 100;
                let blocks = self.count.min(covered);
                (covered / blocks.max(1) * 100 / percent, blocks)
            }
        };
        let width = step * self.percent / 100;
        let covered = (0..blocks).map(|i| (i * step, width));
        let quiet = (0..self.count - blocks).map(|i| (traffic.hosts + 2 * i, 1));
        let rows: Vec<LockedRange> = covered.chain(quiet).map(|(at, n)| locked(at, n)).collect();
        flatten(&rows)
    }
}

fn locked(at: u32, addresses: u32) -> LockedRange {
    let address = |host: u32| Addr::V4(INTERNAL_V4 + host).as_u128();
    LockedRange {
        range: Range { first: address(at), last: address(at + addresses - 1) },
        bits: HostFlags::LOCK_OUT | HostFlags::LOCK_IN,
    }
}

/// Addresses of a range that lie in the internal network, as host numbers.
pub(crate) fn hosts_of(range: &LockedRange) -> impl Iterator<Item = u32> {
    let base = Addr::V4(INTERNAL_V4).as_u128();
    let number = |address: u128| u32::try_from(address.saturating_sub(base)).unwrap_or(u32::MAX);
    number(range.range.first)..=number(range.range.last)
}

/// First internal address.
pub(crate) const fn internal_v4() -> u32 {
    INTERNAL_V4
}
