//! Configured prefixes and the way from an address to its `HostId`.
//!
//! IPv4: a 16-8-8 trie. The first level (a word for each /16) is touched at few places, since only internal addresses
//! are looked up to the end; a bitmap of /16s (8 KiB, stays in L1) turns external addresses away before it.
//! IPv6: configured prefixes as ordered ranges; inside them hosts are found in the hash table of facts.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use crate::host::HostId;
use crate::locks::{Range, load128, store128};
use crate::map::shared_struct;

/// Most /16s that hold internal IPv4 prefixes.
pub const SECOND_LEVEL_MAX: usize = 1024;
/// Most /24s that are divided further.
pub const THIRD_LEVEL_MAX: usize = 2048;
/// Most IPv6 networks.
pub const NETWORKS_V6_MAX: usize = 1024;
/// Most IPv4 networks.
pub const NETWORKS_V4_MAX: usize = 16_384;

const DIVIDED: u32 = 1 << 31;

/// An IPv4 network with the ids it has been given: address `first + i` is host `base + i`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockV4 {
    /// First address, host byte order.
    pub first: u32,
    /// Prefix length in bits.
    pub length: u8,
    /// Id of the first address.
    pub base: HostId,
}

impl BlockV4 {
    /// Number of addresses.
    pub const fn size(&self) -> u64 {
        1 << (32 - self.length as u32)
    }
}

/// An IPv6 network; workers insert its hosts when they first send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NetworkV6 {
    /// Addresses.
    pub range: Range,
    /// Most hosts that may be inserted for it, so that one network cannot fill the table.
    pub quota: u32,
    /// Stable number of this network, index of its usage counter in facts; below [`NETWORKS_V6_MAX`].
    pub slot: u32,
}

/// Everything addressing says, as control publishes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Addressing {
    /// IPv4 networks, disjoint.
    pub v4: Vec<BlockV4>,
    /// IPv6 networks, disjoint.
    pub v6: Vec<NetworkV6>,
}

/// Addressing that does not fit the tables.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the configured networks need more than {limit} {what}; merge neighbouring prefixes or take longer blocks"
)]
pub struct TooMany {
    /// What ran out.
    pub what: &'static str,
    /// How many there can be.
    pub limit: usize,
}

shared_struct! {
    /// A [`NetworkV6`] in the policy file. Written by control; read by the dataplane.
    pub struct NetworkCell {
        first: [AtomicU64; 2],
        last: [AtomicU64; 2],
        quota_slot: AtomicU64,
    }
}

shared_struct! {
    /// A [`BlockV4`] in the policy file, from which a restarted control takes the ids it gave. Written and read by control.
    pub struct BlockCell {
        first: AtomicU32,
        length: AtomicU32,
        base: AtomicU32,
        spare: AtomicU32,
    }
}

shared_struct! {
    /// One copy of the addressing tables. Written by control while no worker reads it; read by the dataplane.
    pub struct AddressingTable {
        blocks_len: AtomicU64,
        networks_len: AtomicU64,
        second_len: AtomicU64,
        third_len: AtomicU64,
        bitmap16: [AtomicU64; 1024],
        first: [AtomicU32; 65_536],
        second: [AtomicU32; SECOND_LEVEL_MAX * 256],
        third: [AtomicU32; THIRD_LEVEL_MAX * 256],
        networks: [NetworkCell; NETWORKS_V6_MAX],
        blocks: [BlockCell; NETWORKS_V4_MAX],
    }
}

fn len(c: &AtomicU64, max: usize) -> usize {
    usize::try_from(c.load(Relaxed)).unwrap_or(0).min(max)
}

impl AddressingTable {
    /// Whether any internal IPv4 prefix lies in the /16 of `a`: false clears most external addresses from L1.
    #[inline(always)]
    pub fn may_be_internal_v4(&self, a: u32) -> bool {
        let slash16 = (a >> 16) as usize;
        self.bitmap16[slash16 / 64].load(Relaxed) >> (slash16 % 64) & 1 != 0
    }

    /// The host of an internal IPv4 address. The id is not checked against the tables' size here.
    #[inline(always)]
    pub fn host_v4(&self, a: u32) -> Option<HostId> {
        let second = self.first[(a >> 16) as usize].load(Relaxed);
        if second == 0 {
            return None;
        }
        let i = (second as usize - 1) % SECOND_LEVEL_MAX;
        let entry = self.second[i * 256 + (a >> 8 & 0xff) as usize].load(Relaxed);
        if entry & DIVIDED == 0 {
            return (entry != 0).then(|| HostId((entry - 1).wrapping_add(a & 0xff)));
        }
        let i = (entry & !DIVIDED) as usize % THIRD_LEVEL_MAX;
        let id = self.third[i * 256 + (a & 0xff) as usize].load(Relaxed);
        (id != 0).then(|| HostId(id - 1))
    }

    /// The IPv6 network around `a`, by binary search over the ordered ranges.
    #[inline]
    pub fn network_v6(&self, a: u128) -> Option<NetworkV6> {
        let cells = &self.networks[..len(&self.networks_len, NETWORKS_V6_MAX)];
        let i = cells.partition_point(|c| load128(&c.first) <= a).checked_sub(1)?;
        let c = cells.get(i)?;
        let range = Range { first: load128(&c.first), last: load128(&c.last) };
        let word = c.quota_slot.load(Relaxed);
        #[expect(clippy::cast_possible_truncation, reason = "the two halves of a word")]
        let (quota, slot) = ((word >> 32) as u32, word as u32 % NETWORKS_V6_MAX as u32);
        range.contains(a).then_some(NetworkV6 { range, quota, slot })
    }

    /// What was published, for a control that starts again.
    pub fn read(&self) -> Addressing {
        let v4 = self.blocks[..len(&self.blocks_len, NETWORKS_V4_MAX)]
            .iter()
            .map(|b| BlockV4 {
                first: b.first.load(Relaxed),
                length: u8::try_from(b.length.load(Relaxed)).unwrap_or(32).min(32),
                base: HostId(b.base.load(Relaxed)),
            })
            .collect();
        let v6 = self.networks[..len(&self.networks_len, NETWORKS_V6_MAX)]
            .iter()
            .filter_map(|c| self.network_v6(load128(&c.first)))
            .collect();
        Addressing { v4, v6 }
    }

    /// Writes `a` over whatever stands here. Only control calls this, on the idle copy.
    pub(crate) fn write(&self, a: &Addressing) -> Result<(), TooMany> {
        check(a)?;
        for w in &self.bitmap16 {
            w.store(0, Relaxed);
        }
        for w in &self.first {
            w.store(0, Relaxed);
        }
        let (mut second, mut third) = (0usize, 0usize);
        for b in &a.v4 {
            if b.length > 24 {
                self.write_part(b, &mut second, &mut third);
                continue;
            }
            for i in 0..b.size() / 256 {
                let offset = u32::try_from(i * 256).unwrap_or(0);
                self.second_entry(b.first + offset, &mut second).store(b.base.0 + offset + 1, Relaxed);
            }
        }
        self.second_len.store(second as u64, Relaxed);
        self.third_len.store(third as u64, Relaxed);
        let mut v6 = a.v6.clone();
        v6.sort_unstable_by_key(|n| n.range.first);
        for (c, n) in self.networks.iter().zip(&v6) {
            store128(&c.first, n.range.first);
            store128(&c.last, n.range.last);
            c.quota_slot.store(u64::from(n.quota) << 32 | u64::from(n.slot), Relaxed);
        }
        self.networks_len.store(v6.len() as u64, Relaxed);
        for (c, b) in self.blocks.iter().zip(&a.v4) {
            c.first.store(b.first, Relaxed);
            c.length.store(u32::from(b.length), Relaxed);
            c.base.store(b.base.0, Relaxed);
        }
        self.blocks_len.store(a.v4.len() as u64, Relaxed);
        Ok(())
    }

    /// The second-level entry of the /24 around `a`, with a fresh chunk where its /16 has none.
    fn second_entry(&self, a: u32, used: &mut usize) -> &AtomicU32 {
        let slash16 = (a >> 16) as usize;
        let root = &self.first[slash16];
        if root.load(Relaxed) == 0 {
            for w in &self.second[*used * 256..(*used + 1) * 256] {
                w.store(0, Relaxed);
            }
            *used += 1;
            root.store(u32::try_from(*used).unwrap_or(0), Relaxed);
            let word = &self.bitmap16[slash16 / 64];
            word.store(word.load(Relaxed) | 1 << (slash16 % 64), Relaxed);
        }
        &self.second[(root.load(Relaxed) as usize - 1) * 256 + (a >> 8 & 0xff) as usize]
    }

    /// A block longer than /24: its /24 is divided into single addresses.
    fn write_part(&self, b: &BlockV4, second: &mut usize, third: &mut usize) {
        let entry = self.second_entry(b.first, second);
        if entry.load(Relaxed) & DIVIDED == 0 {
            for w in &self.third[*third * 256..(*third + 1) * 256] {
                w.store(0, Relaxed);
            }
            entry.store(DIVIDED | u32::try_from(*third).unwrap_or(0), Relaxed);
            *third += 1;
        }
        let chunk = (entry.load(Relaxed) & !DIVIDED) as usize;
        for i in 0..u32::try_from(b.size()).unwrap_or(0) {
            self.third[chunk * 256 + ((b.first + i) & 0xff) as usize].store(b.base.0 + i + 1, Relaxed);
        }
    }
}

/// Whether `a` fits the tables.
pub fn check(a: &Addressing) -> Result<(), TooMany> {
    let mut slash16: Vec<u32> = Vec::new();
    let mut divided: Vec<u32> = Vec::new();
    for b in &a.v4 {
        let last = u64::from(b.first) + b.size() - 1;
        let last16 = u32::try_from(last >> 16).unwrap_or(u32::MAX);
        if (last16 - (b.first >> 16)) as usize >= SECOND_LEVEL_MAX {
            return Err(TooMany { what: "/16s of IPv4", limit: SECOND_LEVEL_MAX });
        }
        slash16.extend(b.first >> 16..=last16);
        if b.length > 24 {
            divided.push(b.first >> 8);
        }
    }
    let distinct = |v: &mut Vec<u32>| {
        v.sort_unstable();
        v.dedup();
        v.len()
    };
    let limits = [
        (distinct(&mut slash16), "/16s of IPv4", SECOND_LEVEL_MAX),
        (distinct(&mut divided), "divided /24s of IPv4", THIRD_LEVEL_MAX),
        (a.v4.len(), "IPv4 networks", NETWORKS_V4_MAX),
        (a.v6.len(), "IPv6 networks", NETWORKS_V6_MAX),
    ];
    match limits.into_iter().find(|(n, _, limit)| n > limit) {
        Some((_, what, limit)) => Err(TooMany { what, limit }),
        None => Ok(()),
    }
}
