//! IPv6 hosts: slots that workers and housekeeping fill, found under the keyed hash with bounded probes.

use std::sync::atomic::{
    AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};

use crate::host::HostId;
use crate::map::{prefetch, shared_struct};

/// Slots that a look-up visits before it gives up.
const PROBES: usize = 16;

shared_struct! {
    /// An IPv6 host. `hi` is set by compare-and-swap, then `lo`; never changed again. Written by workers and housekeeping.
    pub struct SlotV6 {
        /// Upper half plus 1, so that 0 means free.
        hi: AtomicU64,
        /// Lower half plus 1.
        lo: AtomicU64,
    }
}

/// The table, borrowed. Hashes are [`crate::facts::keyed_hash`] of the key.
#[derive(Clone, Copy)]
pub struct HostsV6<'a> {
    pub(crate) slots: &'a [SlotV6],
    /// Id of the first slot.
    pub(crate) first: u32,
}

impl<'a> HostsV6<'a> {
    fn id(&self, slot: usize) -> HostId {
        HostId(self.first.wrapping_add(u32::try_from(slot).unwrap_or(0)))
    }

    /// The slots that a key may stand in, in order.
    #[inline(always)]
    fn probe(&self, hash: u64) -> impl Iterator<Item = (usize, &'a SlotV6)> + use<'a> {
        let slots = self.slots;
        let mask = slots.len().wrapping_sub(1);
        let start = usize::try_from(hash & u64::from(u32::MAX)).unwrap_or(0);
        (0..PROBES.min(slots.len())).filter_map(move |i| {
            let at = (start + i) & mask;
            slots.get(at).map(|s| (at, s))
        })
    }

    /// Asks the cache for the line in which a key most likely stands.
    #[inline(always)]
    pub fn prefetch(&self, hash: u64) {
        if let Some((_, slot)) = self.probe(hash).next() {
            prefetch(slot);
        }
    }

    /// The host of a key (the address's first bits, the rest zero).
    #[inline]
    pub fn find(&self, key: u128, hash: u64) -> Option<HostId> {
        let (hi, lo) = split(key)?;
        for (at, s) in self.probe(hash) {
            let h = s.hi.load(Acquire);
            if h == 0 {
                return None;
            }
            if h == hi && s.lo.load(Acquire) == lo {
                return Some(self.id(at));
            }
        }
        None
    }

    /// Finds or inserts a key while fewer than `quota` are `used` of its network.
    ///
    /// Two workers may insert at once: the first compare-and-swap takes a slot for an upper half, the second for the
    /// lower one; whoever loses one goes on to the next slot, so that a key stands in one slot only.
    pub(crate) fn insert(&self, key: u128, hash: u64, used: &AtomicU64, quota: u64) -> Option<HostId> {
        if let Some(id) = self.find(key, hash) {
            return Some(id);
        }
        let (hi, lo) = split(key)?;
        if used.load(Relaxed) >= quota {
            return None;
        }
        for (at, s) in self.probe(hash) {
            let h = match s.hi.compare_exchange(0, hi, Release, Acquire) {
                Ok(_) => hi,
                Err(h) => h,
            };
            if h != hi {
                continue;
            }
            match s.lo.compare_exchange(0, lo, Release, Acquire) {
                Ok(_) => {
                    used.fetch_add(1, Relaxed);
                    return Some(self.id(at));
                }
                Err(l) if l == lo => return Some(self.id(at)),
                Err(_) => {}
            }
        }
        None
    }

    /// The key in the slot of a host.
    pub(crate) fn key(&self, host: HostId) -> Option<u128> {
        let slot = host.0.checked_sub(self.first)?;
        let s = self.slots.get(slot as usize)?;
        let (hi, lo) = (s.hi.load(Acquire), s.lo.load(Acquire));
        (hi != 0 && lo != 0).then(|| u128::from(hi - 1) << 64 | u128::from(lo - 1))
    }
}

/// Both halves plus one, since 0 means free; `None` for keys with a half of all ones, which no host has.
#[inline]
fn split(key: u128) -> Option<(u64, u64)> {
    #[expect(clippy::cast_possible_truncation, reason = "the two halves of a 128-bit number")]
    let (hi, lo) = ((key >> 64) as u64, key as u64);
    Some((hi.checked_add(1)?, lo.checked_add(1)?))
}
