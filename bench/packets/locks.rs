//! What is enforced on traffic, and who is watched.

use region::locks::{LockedRange, Range, flatten};
use region::{Addr, HostFlags};

use crate::traffic::{INTERNAL_V4, Traffic};

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

pub(crate) const NO_LOCKS: Locks = Locks { count: 0, percent: 0, by_address: false };

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
