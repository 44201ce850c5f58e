//! The lock list: rows, what they come to for a host, and what the dataplane is told.

use std::collections::{BTreeMap, HashMap};

use api::{Direction, LockRow, Reason, Target};
use ipnet::IpNet;
use region::HostFlags;
use region::locks::{EXCEPTIONS_MAX, Exception, LockedRange, Range, flatten};

use crate::networks::range;

/// Rows by number, and an index by prefix.
#[derive(Clone, Debug, Default)]
pub struct LockList {
    rows: BTreeMap<u64, LockRow>,
    by_prefix: HashMap<IpNet, Vec<u64>>,
    /// How many rows there are of each prefix length, by family: lengths that a look-up has to try.
    lengths: [BTreeMap<u8, usize>; 2],
    last_id: u64,
    generation: u64,
    /// Remote prefixes that may still reach every locked host.
    global: Vec<IpNet>,
}

fn family(net: &IpNet) -> usize {
    usize::from(matches!(net, IpNet::V6(_)))
}

/// Lock bits of a direction.
pub fn bits(direction: Direction) -> u8 {
    match direction {
        Direction::Out => HostFlags::LOCK_OUT,
        Direction::In => HostFlags::LOCK_IN,
        Direction::Both => HostFlags::LOCK_OUT | HostFlags::LOCK_IN,
    }
}

/// The direction that lock bits come to.
pub fn direction(bits: u8) -> Option<Direction> {
    match (bits & HostFlags::LOCK_OUT != 0, bits & HostFlags::LOCK_IN != 0) {
        (true, true) => Some(Direction::Both),
        (true, false) => Some(Direction::Out),
        (false, true) => Some(Direction::In),
        (false, false) => None,
    }
}

impl LockList {
    /// With the rows of the store.
    pub fn restore(rows: Vec<LockRow>, last_id: u64, global: Vec<IpNet>) -> LockList {
        let mut list = LockList { global, last_id, ..LockList::default() };
        for row in rows {
            list.last_id = list.last_id.max(row.id);
            list.generation = list.generation.max(row.generation);
            list.insert(row);
        }
        list
    }

    /// Sets the exceptions that hold for every lock.
    pub fn set_global_exceptions(&mut self, global: Vec<IpNet>) {
        self.global = global;
    }

    /// Number and generation for a new row. Numbers are never given twice, also when the row is not stored in the end.
    pub fn next_id(&mut self) -> (u64, u64) {
        self.last_id += 1;
        self.generation += 1;
        (self.last_id, self.generation)
    }

    /// Adds or replaces a row.
    pub fn insert(&mut self, row: LockRow) {
        self.remove(row.id);
        for net in row.nets() {
            self.by_prefix.entry(*net).or_default().push(row.id);
            *self.lengths[family(net)].entry(net.prefix_len()).or_default() += 1;
        }
        self.rows.insert(row.id, row);
    }

    /// Removes a row.
    pub fn remove(&mut self, id: u64) -> Option<LockRow> {
        let row = self.rows.remove(&id)?;
        self.generation += 1;
        for net in row.nets() {
            if let Some(ids) = self.by_prefix.get_mut(net) {
                ids.retain(|i| *i != id);
                if ids.is_empty() {
                    self.by_prefix.remove(net);
                }
            }
            let lengths = &mut self.lengths[family(net)];
            if let Some(n) = lengths.get_mut(&net.prefix_len()) {
                *n -= 1;
                if *n == 0 {
                    lengths.remove(&net.prefix_len());
                }
            }
        }
        Some(row)
    }

    /// All rows, by number.
    pub fn rows(&self) -> impl Iterator<Item = &LockRow> {
        self.rows.values()
    }

    /// Rows with higher numbers than this, by number.
    pub fn rows_after(&self, id: u64) -> impl Iterator<Item = &LockRow> {
        self.rows.range(id.saturating_add(1)..).map(|(_, row)| row)
    }

    /// A row by its number.
    pub fn get(&self, id: u64) -> Option<&LockRow> {
        self.rows.get(&id)
    }

    /// A generation for a row that changes.
    pub fn next_generation(&mut self) -> u64 {
        self.generation += 1;
        self.generation
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Rows that cover all of `net`.
    pub fn covering(&self, net: &IpNet) -> Vec<&LockRow> {
        let mut found: Vec<&LockRow> = Vec::new();
        for (length, _) in self.lengths[family(net)].range(..=net.prefix_len()) {
            let Ok(wider) = IpNet::new(net.addr(), *length) else { continue };
            let ids = self.by_prefix.get(&wider.trunc()).into_iter().flatten();
            found.extend(ids.filter_map(|id| self.rows.get(id)));
        }
        found
    }

    /// Rows on exactly this target.
    pub fn on(&self, target: &Target) -> Vec<&LockRow> {
        self.rows.values().filter(|r| r.target == *target).collect()
    }

    /// The union of all rows over a host: lock bits, and `EXCEPT` where somebody may still reach it.
    pub fn flags(&self, host: &IpNet) -> u8 {
        self.covering(host).iter().fold(0, |acc, row| acc | self.row_bits(row))
    }

    fn row_bits(&self, row: &LockRow) -> u8 {
        let own = !row.except.is_empty();
        if row.suspended.is_some() {
            // Its exceptions go on to hold against other locks on its target.
            return if own { HostFlags::EXCEPT } else { 0 };
        }
        bits(row.direction) | if own || !self.global.is_empty() { HostFlags::EXCEPT } else { 0 }
    }

    /// What the dataplane is told: disjoint ranges, and exceptions.
    ///
    /// An exception of a row holds against every lock on its target: whoever must reach a locked server to repair it
    /// must not be stopped by a second lock on it.
    pub fn enforced(&self) -> (Vec<LockedRange>, Vec<Exception>) {
        let everything = Range { first: 0, last: u128::MAX };
        let mut exceptions: Vec<Exception> =
            self.global.iter().map(|r| Exception { hosts: everything, remotes: range(r) }).collect();
        let mut ranges = Vec::with_capacity(self.rows.len());
        for row in self.rows.values() {
            for net in row.nets() {
                ranges.push(LockedRange { range: range(net), bits: self.row_bits(row) });
                let of_row = |r| Exception { hosts: range(net), remotes: range(r) };
                exceptions.extend(row.except.iter().map(of_row));
            }
        }
        exceptions.dedup();
        exceptions.truncate(EXCEPTIONS_MAX);
        (flatten(&ranges), exceptions)
    }

    /// Lock bits of hardware addresses: for each the union of its rows. Somebody is let in by his own address, so rows that
    /// except remote prefixes are refused on these.
    pub fn macs(&self) -> BTreeMap<api::Mac, u8> {
        let mut macs = BTreeMap::new();
        for row in self.rows.values() {
            if let (Target::Mac(mac), None) = (&row.target, &row.suspended) {
                *macs.entry(*mac).or_default() |= bits(row.direction);
            }
        }
        macs
    }

    /// How many exceptions the rows have in all.
    pub fn exceptions(&self) -> usize {
        self.global.len() + self.rows.values().map(|r| r.except.len() * r.nets().len()).sum::<usize>()
    }

    /// Rows by reason.
    pub fn by_reason(&self) -> Vec<(Reason, u64)> {
        let mut counts: BTreeMap<Reason, u64> = BTreeMap::new();
        for row in self.rows.values() {
            *counts.entry(row.reason).or_default() += 1;
        }
        counts.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::{Suspension, Time};

    #[test]
    fn a_lock_on_a_server_covers_its_addresses_and_goes_with_its_row() {
        let mut l = LockList::default();
        let net = |s: &str| s.parse().expect("a prefix");
        let mut server = row(1, "server:7", Direction::Both, Reason::Abuse);
        server.addresses = vec![net("192.0.2.10/32"), net("192.0.2.32/28"), net("2001:db8:0:7::/64")];
        server.except = vec![net("203.0.113.5/32")];
        l.insert(server.clone());
        let both = HostFlags::LOCK_OUT | HostFlags::LOCK_IN | HostFlags::EXCEPT;
        for host in ["192.0.2.10/32", "192.0.2.40/32", "2001:db8:0:7::/64"] {
            assert_eq!(flags(&l, host), both, "{host}");
        }
        assert_eq!(flags(&l, "192.0.2.11/32"), 0);
        assert_eq!((l.enforced().0.len(), l.enforced().1.len(), l.exceptions()), (3, 3, 3));
        server.addresses.remove(0);
        l.insert(server);
        assert_eq!((flags(&l, "192.0.2.10/32"), flags(&l, "192.0.2.40/32")), (0, both));
        l.remove(1);
        assert_eq!((flags(&l, "192.0.2.40/32"), l.enforced().0.len()), (0, 0));
    }

    pub(crate) fn row(id: u64, target: &str, direction: Direction, reason: Reason) -> LockRow {
        let target = target.parse().expect("a target");
        LockRow::new(id, target, direction, reason, "root", Time::from_unix_ms(0))
    }

    fn flags(l: &LockList, host: &str) -> u8 {
        l.flags(&host.parse().expect("a prefix"))
    }

    #[test]
    fn what_is_enforced_is_the_union_and_what_remains_when_one_row_goes() {
        let mut l = LockList::default();
        l.insert(row(1, "192.0.2.10", Direction::Out, Reason::AttackOut));
        l.insert(row(2, "192.0.2.10", Direction::Out, Reason::NonPayment));
        l.insert(row(3, "192.0.2.0/28", Direction::In, Reason::Abuse));
        assert_eq!(flags(&l, "192.0.2.10/32"), HostFlags::LOCK_OUT | HostFlags::LOCK_IN);
        assert_eq!(flags(&l, "192.0.2.9/32"), HostFlags::LOCK_IN);
        assert_eq!(flags(&l, "192.0.2.16/32"), 0);
        l.remove(1);
        assert_eq!(
            flags(&l, "192.0.2.10/32"),
            HostFlags::LOCK_OUT | HostFlags::LOCK_IN,
            "non-payment still stands"
        );
        l.remove(2);
        assert_eq!(flags(&l, "192.0.2.10/32"), HostFlags::LOCK_IN);
        l.remove(3);
        assert_eq!((flags(&l, "192.0.2.10/32"), l.is_empty()), (0, true));
    }

    #[test]
    fn a_suspended_row_enforces_nothing_and_the_others_stand() {
        let mut l = LockList::default();
        let mut scan = row(1, "192.0.2.10", Direction::Out, Reason::Netscan);
        scan.except = vec!["203.0.113.5/32".parse().expect("a prefix")];
        l.insert(scan.clone());
        l.insert(row(2, "192.0.2.0/28", Direction::In, Reason::NonPayment));
        let at = |ms| Time::from_unix_ms(ms);
        scan.suspended = Some(Suspension { since: at(0), until: at(1), who: "root".into() });
        l.insert(scan.clone());
        let (ranges, exceptions) = l.enforced();
        assert_eq!(flags(&l, "192.0.2.10/32"), HostFlags::LOCK_IN | HostFlags::EXCEPT);
        assert!(ranges.iter().all(|r| r.bits & HostFlags::LOCK_OUT == 0));
        assert_eq!(exceptions.len(), 1, "who may reach the server may go on to do so");
        l.insert(LockRow { suspended: None, ..scan });
        assert!(flags(&l, "192.0.2.10/32") & HostFlags::LOCK_OUT != 0);
    }

    #[test]
    fn ipv6_hosts_are_covered_by_shorter_prefixes() {
        let mut l = LockList::default();
        l.insert(row(1, "2001:db8::/48", Direction::Both, Reason::Abuse));
        assert_eq!(flags(&l, "2001:db8:0:7::/64"), HostFlags::LOCK_OUT | HostFlags::LOCK_IN);
        assert_eq!(flags(&l, "2001:db8:1:7::/64"), 0);
    }

    #[test]
    fn hardware_addresses_are_locked_beside_addresses() {
        let mut l = LockList::default();
        l.insert(row(1, "02:00:00:00:00:09", Direction::Out, Reason::Abuse));
        l.insert(row(2, "02:00:00:00:00:09", Direction::In, Reason::NonPayment));
        l.insert(row(3, "192.0.2.10", Direction::Both, Reason::Abuse));
        let mac = api::Mac([2, 0, 0, 0, 0, 9]);
        assert_eq!(l.macs(), BTreeMap::from([(mac, HostFlags::LOCK_OUT | HostFlags::LOCK_IN)]));
        assert_eq!(l.enforced().0.len(), 1);
        l.remove(2);
        assert_eq!(l.macs(), BTreeMap::from([(mac, HostFlags::LOCK_OUT)]));
        l.remove(1);
        assert!(l.macs().is_empty());
    }

    #[test]
    fn exceptions_reach_the_dataplane_with_their_targets() {
        let mut l = LockList::restore(vec![], 7, vec!["198.51.100.0/24".parse().expect("a prefix")]);
        let mut r = row(8, "192.0.2.10", Direction::Both, Reason::Abuse);
        r.except = vec!["203.0.113.5/32".parse().expect("a prefix")];
        l.insert(r);
        let (ranges, exceptions) = l.enforced();
        assert_eq!((ranges.len(), exceptions.len()), (1, 2));
        assert!(ranges[0].bits & HostFlags::EXCEPT != 0);
        assert_eq!(exceptions[1].hosts, ranges[0].range);
        assert_eq!(l.next_id().0, 8, "numbers go on from the store's");
    }
}
