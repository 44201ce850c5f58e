//! Internal networks: from the configuration to host ids, and back to addresses.

use std::net::IpAddr;

use config::{Antispoof, Config};
use ipnet::IpNet;
use region::addressing::{Addressing, BlockV4, NETWORKS_V6_MAX, NetworkV6, check};
use region::locks::Range;
use region::{Addr, Capacities, Dir, Facts, HostId, Policy};

/// What is the same for all hosts of a network.
#[derive(Clone, Debug)]
pub struct Group {
    /// Name of the group.
    pub name: String,
    /// `antispoof = "strict"`.
    pub strict: bool,
}

/// A part of the id space whose network is gone; not given again before every worker has turned away from it.
#[derive(Clone, Copy, Debug)]
pub struct Retired {
    /// First id.
    pub base: u32,
    /// Number of ids.
    pub size: u32,
    /// The addressing version without it.
    pub version: u64,
}

/// The networks in force.
#[derive(Clone, Debug, Default)]
pub struct Networks {
    addressing: Addressing,
    /// For each IPv4 block of `addressing`.
    groups_v4: Vec<Group>,
    /// For each IPv6 network of `addressing`.
    groups_v6: Vec<Group>,
    ipv6_mask: u128,
    ipv6_length: u8,
    hosts_v4: u32,
}

/// The range of a prefix.
pub fn range(net: &IpNet) -> Range {
    Range::of_prefix(Addr::from(net.network()), net.prefix_len())
}

impl Networks {
    /// Gives every configured network its ids. A network that `previous` has keeps its ids; others take gaps that
    /// neither a kept nor a retired network occupies.
    pub fn allocate(
        config: &Config,
        capacities: Capacities,
        previous: &Addressing,
        retired: &[Retired],
    ) -> Result<Networks, String> {
        let mut networks = Networks {
            ipv6_mask: u128::MAX << (128 - u32::from(config.tables.ipv6_host_length.clamp(1, 128))),
            ipv6_length: config.tables.ipv6_host_length,
            hosts_v4: capacities.hosts_v4,
            ..Networks::default()
        };
        let mut taken: Vec<(u32, u32)> = retired.iter().map(|r| (r.base, r.size)).collect();
        let mut fresh = Vec::new();
        let mut v4: Vec<(BlockV4, Group)> = Vec::new();
        let v6_networks = config.networks.iter().filter(|n| matches!(n.prefix, IpNet::V6(_))).count();
        let quota = (capacities.hosts_v6 / u32::try_from(v6_networks.max(1)).unwrap_or(1)).max(64);
        let mut v6_slots: Vec<u32> = previous.v6.iter().map(|n| n.slot).collect();
        for n in &config.networks {
            let group = Group { name: n.group.clone(), strict: n.antispoof == Antispoof::Strict };
            match n.prefix {
                IpNet::V4(p) => {
                    let (first, length) = (p.network().to_bits(), p.prefix_len());
                    match previous.v4.iter().find(|b| (b.first, b.length) == (first, length)) {
                        Some(kept) => {
                            taken.push((kept.base.0, u32::try_from(kept.size()).unwrap_or(u32::MAX)));
                            v4.push((*kept, group));
                        }
                        None => fresh.push((BlockV4 { first, length, base: HostId(0) }, group)),
                    }
                }
                IpNet::V6(_) => {
                    let range = range(&n.prefix);
                    let kept = previous.v6.iter().find(|k| k.range == range).map(|k| k.slot);
                    let slot = kept.or_else(|| {
                        let most = u32::try_from(NETWORKS_V6_MAX).unwrap_or(u32::MAX);
                        (0..most).find(|s| !v6_slots.contains(s))
                    });
                    let Some(slot) = slot else {
                        return Err(format!("more than {NETWORKS_V6_MAX} IPv6 networks"));
                    };
                    v6_slots.push(slot);
                    networks.addressing.v6.push(NetworkV6 { range, quota, slot });
                    networks.groups_v6.push(group);
                }
            }
        }
        taken.sort_unstable();
        for (mut block, group) in fresh {
            let size = u32::try_from(block.size()).unwrap_or(u32::MAX);
            let Some(base) = first_gap(&taken, size, capacities.hosts_v4) else {
                return Err(format!(
                    "no {size} consecutive host ids are free for {}/{}: raise [tables] hosts (now {}) and restart cordon-dataplane",
                    IpAddr::from(Addr::V4(block.first)),
                    block.length,
                    capacities.hosts_v4
                ));
            };
            block.base = HostId(base);
            let at = taken.partition_point(|t| t.0 < base);
            taken.insert(at, (base, size));
            v4.push((block, group));
        }
        v4.sort_by_key(|(b, _)| b.first);
        (networks.addressing.v4, networks.groups_v4) = v4.into_iter().unzip();
        check(&networks.addressing).map_err(|e| e.to_string())?;
        Ok(networks)
    }

    /// The same in a table that hosts were counted in: new networks get ids under which nothing was counted in the
    /// dataplane's life, as long as there are any, since its counters are never set back.
    pub fn allocate_uncounted(
        config: &Config,
        policy: &Policy,
        previous: &Addressing,
        retired: &[Retired],
    ) -> Result<Networks, String> {
        const PIECE: u32 = 256;
        let hosts = policy.capacities().hosts_v4;
        let counted = |id: u32| Dir::ALL.iter().any(|d| policy.accounted(HostId(id), *d).packets != 0);
        let mut avoided = retired.to_vec();
        for base in (0..hosts).step_by(PIECE as usize) {
            let size = PIECE.min(hosts - base);
            if (base..base + size).any(counted) {
                avoided.push(Retired { base, size, version: 0 });
            }
        }
        let capacities = policy.capacities();
        Networks::allocate(config, capacities, previous, &avoided)
            .or_else(|_| Networks::allocate(config, capacities, previous, retired))
    }

    /// What is published.
    pub fn addressing(&self) -> &Addressing {
        &self.addressing
    }

    /// Networks of `previous` that the configuration no longer has, as id ranges. Workers use them until they turn to
    /// the addressing of that version.
    pub fn gone(previous: &Addressing, config: &Config, version: u64) -> Vec<Retired> {
        let same = |b: &BlockV4, p: &IpNet| matches!(p, IpNet::V4(p) if (p.network().to_bits(), p.prefix_len()) == (b.first, b.length));
        let kept = |b: &BlockV4| config.networks.iter().any(|n| same(b, &n.prefix));
        let size = |b: &BlockV4| u32::try_from(b.size()).unwrap_or(u32::MAX);
        previous
            .v4
            .iter()
            .filter(|b| !kept(b))
            .map(|b| Retired { base: b.base.0, size: size(b), version })
            .collect()
    }

    /// The IPv4 host of an address.
    pub fn host_v4(&self, a: u32) -> Option<HostId> {
        let i = self.addressing.v4.partition_point(|b| b.first <= a).checked_sub(1)?;
        let b = self.addressing.v4.get(i)?;
        let offset = a - b.first;
        (u64::from(offset) < b.size()).then(|| HostId(b.base.0 + offset))
    }

    /// The key of an IPv6 address, when it is internal.
    pub fn key_v6(&self, a: u128) -> Option<u128> {
        self.network_v6(a).map(|_| a & self.ipv6_mask)
    }

    /// The IPv6 network around an address.
    pub fn network_v6(&self, a: u128) -> Option<NetworkV6> {
        self.addressing.v6.iter().find(|n| n.range.contains(a)).copied()
    }

    /// Bits of an IPv6 address that name a host.
    pub fn ipv6_length(&self) -> u8 {
        self.ipv6_length
    }

    /// The host of an address, when the tables have one.
    pub fn host(&self, a: IpAddr, facts: Option<&Facts>, hash_key: [u64; 2]) -> Option<HostId> {
        match Addr::from(a) {
            Addr::V4(a) => self.host_v4(a),
            Addr::V6(a) => facts?.find_v6(self.key_v6(a)?, hash_key),
        }
    }

    /// What a host id stands for: an address, or the IPv6 prefix that names a host.
    pub fn target(&self, host: HostId, facts: Option<&Facts>) -> Option<IpNet> {
        if host.0 < self.hosts_v4 {
            let b = self.block_of(host)?;
            let a = Addr::V4(self.addressing.v4.get(b)?.first + (host.0 - self.addressing.v4.get(b)?.base.0));
            return Some(IpNet::from(IpAddr::from(a)));
        }
        let key = facts?.key_v6(host)?;
        IpNet::new(IpAddr::from(Addr::V6(key)), self.ipv6_length).ok()
    }

    fn block_of(&self, host: HostId) -> Option<usize> {
        let inside = |b: &BlockV4| host >= b.base && u64::from(host.0 - b.base.0) < b.size();
        self.addressing.v4.iter().position(inside)
    }

    /// The group of a host.
    pub fn group(&self, host: HostId, facts: Option<&Facts>) -> Option<&Group> {
        if host.0 < self.hosts_v4 {
            return self.groups_v4.get(self.block_of(host)?);
        }
        let key = facts?.key_v6(host)?;
        let range = Range { first: key, last: key | !self.ipv6_mask };
        let i = self
            .addressing
            .v6
            .iter()
            .position(|n| n.range.first <= range.last && range.first <= n.range.last)?;
        self.groups_v6.get(i)
    }

    /// All internal ranges.
    pub fn ranges(&self) -> impl Iterator<Item = Range> {
        let v4 = self.addressing.v4.iter().map(|b| Range::of_prefix(Addr::V4(b.first), b.length));
        v4.chain(self.addressing.v6.iter().map(|n| n.range))
    }

    /// Whether any internal address lies in `r`.
    pub fn meets(&self, r: &Range) -> bool {
        self.ranges().any(|n| n.first <= r.last && r.first <= n.last)
    }

    /// Ids of the IPv4 hosts in `r`.
    pub fn hosts_v4_in(&self, r: &Range) -> Vec<HostId> {
        let mut out = Vec::new();
        for b in &self.addressing.v4 {
            let n = Range::of_prefix(Addr::V4(b.first), b.length);
            if n.first > r.last || r.first > n.last {
                continue;
            }
            let from = u32::try_from(r.first.max(n.first) - n.first).unwrap_or(0);
            let to = u32::try_from(r.last.min(n.last) - n.first).unwrap_or(0);
            out.extend((from..=to).map(|i| HostId(b.base.0 + i)));
        }
        out
    }
}

/// The lowest gap of `size` ids in `taken` (sorted) below `end`.
fn first_gap(taken: &[(u32, u32)], size: u32, end: u32) -> Option<u32> {
    let mut at = 0u32;
    for &(base, n) in taken {
        if base >= at && base - at >= size {
            return Some(at);
        }
        at = at.max(base.saturating_add(n));
    }
    (end.checked_sub(at)? >= size).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAPACITIES: Capacities = Capacities { workers: 1, hosts_v4: 1024, hosts_v6: 64, locks: 16 };

    fn config(prefixes: &[&str]) -> Config {
        let text: String = prefixes.iter().map(|p| format!("[[network]]\nprefix = \"{p}\"\n")).collect();
        Config::parse(&text, "test").unwrap_or_else(|e| panic!("{e}"))
    }

    fn id(n: &Networks, a: &str) -> Option<HostId> {
        n.host(a.parse().expect("an address"), None, [0, 0])
    }

    #[test]
    fn a_network_keeps_its_ids_when_others_come_and_go() {
        let empty = Addressing::default();
        let a = Networks::allocate(&config(&["10.0.0.0/24", "10.0.2.0/24"]), CAPACITIES, &empty, &[])
            .expect("fits");
        let before = id(&a, "10.0.2.7");
        let next = config(&["9.0.0.0/25", "10.0.2.0/24"]);
        let gone = Networks::gone(a.addressing(), &next, 5);
        assert_eq!(gone.len(), 1);
        let b = Networks::allocate(&next, CAPACITIES, a.addressing(), &gone).expect("fits");
        assert_eq!(id(&b, "10.0.2.7"), before);
        assert_eq!(id(&b, "10.0.0.1"), None);
        assert_ne!(id(&b, "9.0.0.1"), id(&a, "10.0.0.1"), "workers still know that as another's");
        assert_eq!(
            b.target(before.expect("internal"), None).map(|t| t.to_string()).as_deref(),
            Some("10.0.2.7/32")
        );
    }

    #[test]
    fn retired_ids_are_left_alone_and_a_full_table_says_what_to_do() {
        let empty = Addressing::default();
        let retired = [Retired { base: 0, size: 256, version: 1 }];
        let n = Networks::allocate(&config(&["10.0.0.0/24"]), CAPACITIES, &empty, &retired).expect("fits");
        assert_eq!(id(&n, "10.0.0.0"), Some(HostId(256)));
        let retired = [Retired { base: 300, size: 256, version: 1 }];
        let e = Networks::allocate(&config(&["10.0.0.0/23"]), CAPACITIES, &empty, &retired)
            .expect_err("no gap of 512");
        assert!(e.contains("raise [tables] hosts"), "{e}");
    }

    #[test]
    fn new_networks_get_ids_under_which_nothing_was_counted_while_there_are_any() {
        let policy = Policy::anonymous(CAPACITIES, 64, [0, 0]).expect("memory");
        let counted = region::LineTotals { packets: 1, ..region::LineTotals::default() };
        policy.set_accounted(HostId(9), Dir::In, &counted);
        let at = |prefixes: &[&str]| {
            let n = Networks::allocate_uncounted(&config(prefixes), &policy, &Addressing::default(), &[])
                .expect("fits");
            id(&n, "10.0.0.0")
        };
        assert_eq!(at(&["10.0.0.0/24"]), Some(HostId(256)));
        assert_eq!(at(&["10.0.0.0/22"]), Some(HostId(0)), "rather than none");
    }

    #[test]
    fn hosts_in_a_range_are_those_of_all_networks_it_meets() {
        let n = Networks::allocate(
            &config(&["10.0.0.0/30", "10.0.0.8/30"]),
            CAPACITIES,
            &Addressing::default(),
            &[],
        )
        .expect("fits");
        let r = Range { first: Addr::V4(0x0a00_0002).as_u128(), last: Addr::V4(0x0a00_0009).as_u128() };
        assert_eq!(n.hosts_v4_in(&r).len(), 4);
        assert!(n.meets(&r) && !n.meets(&range(&"10.0.1.0/24".parse().expect("a prefix"))));
    }
}
