//! The lock list as the dataplane holds it: disjoint address ranges in order, and exceptions.
//!
//! Host flags are derived from this list, never the other way round. The packet path asks the list itself only where
//! flags cannot be trusted yet: before control has acknowledged this incarnation of the dataplane, and for an IPv6
//! host that control has not taken charge of.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::addr::Addr;
use crate::map::shared_struct;

/// An inclusive range of addresses (IPv4 as `::ffff:0:0/96`, see [`Addr::as_u128`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Range {
    /// First address.
    pub first: u128,
    /// Last address.
    pub last: u128,
}

impl Range {
    /// The range of a prefix of `length` bits, counted as the family counts them.
    pub fn of_prefix(addr: Addr, length: u8) -> Range {
        let (bits, addr) = match addr {
            Addr::V4(_) => (32u32, addr.as_u128()),
            Addr::V6(a) => (128, a),
        };
        let host = bits.saturating_sub(u32::from(length));
        let mask = 1u128.checked_shl(host).map_or(u128::MAX, |b| b - 1);
        Range { first: addr & !mask, last: addr | mask }
    }

    /// Whether `a` lies inside.
    #[inline]
    pub const fn contains(&self, a: u128) -> bool {
        self.first <= a && a <= self.last
    }
}

/// A range with lock bits ([`crate::HostFlags::LOCK_OUT`], `LOCK_IN`, `EXCEPT`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LockedRange {
    /// Addresses.
    pub range: Range,
    /// Lock bits.
    pub bits: u8,
}

/// Remote addresses that may still reach a locked host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exception {
    /// Locked hosts that it concerns.
    pub hosts: Range,
    /// Who may still talk to them.
    pub remotes: Range,
}

/// Most exceptions enforced at once.
pub const EXCEPTIONS_MAX: usize = 256;

/// Flattens overlapping ranges: the bits of a point are the union of the bits of all ranges over it.
pub fn flatten(rows: &[LockedRange]) -> Vec<LockedRange> {
    // Sweep over the borders; for each bit count how many ranges are open.
    let mut borders: Vec<(u128, bool, u8)> = Vec::with_capacity(rows.len() * 2);
    let mut open_to_the_end = [0u32; 8];
    for r in rows.iter().filter(|r| r.bits != 0) {
        borders.push((r.range.first, true, r.bits));
        match r.range.last.checked_add(1) {
            Some(end) => borders.push((end, false, r.bits)),
            None => {
                for (bit, n) in open_to_the_end.iter_mut().enumerate() {
                    *n += u32::from(r.bits >> bit & 1);
                }
            }
        }
    }
    borders.sort_unstable();
    let mut open = [0u32; 8];
    let mut out: Vec<LockedRange> = Vec::new();
    let mut i = 0;
    while i < borders.len() {
        let at = borders[i].0;
        while let Some(&(a, starts, bits)) = borders.get(i)
            && a == at
        {
            for (bit, n) in open.iter_mut().enumerate() {
                let is = u32::from(bits >> bit & 1);
                *n = if starts { *n + is } else { *n - is };
            }
            i += 1;
        }
        let bits = open.iter().enumerate().fold(0u8, |acc, (bit, n)| acc | u8::from(*n > 0) << bit);
        if bits != 0 {
            let last = borders.get(i).map_or(u128::MAX, |b| b.0 - 1);
            match out.last_mut() {
                Some(p) if p.bits == bits && p.range.last.checked_add(1) == Some(at) => p.range.last = last,
                _ => out.push(LockedRange { range: Range { first: at, last }, bits }),
            }
        }
    }
    debug_assert_eq!(open, open_to_the_end);
    out
}

shared_struct! {
    /// A [`LockedRange`] in the policy file. Written by control; read by the dataplane.
    pub struct LockCell {
        first: [AtomicU64; 2],
        last: [AtomicU64; 2],
        bits: AtomicU64,
    }
}

shared_struct! {
    /// An [`Exception`] in the policy file. Written by control; read by the dataplane.
    pub struct ExceptionCell {
        hosts_first: [AtomicU64; 2],
        hosts_last: [AtomicU64; 2],
        remotes_first: [AtomicU64; 2],
        remotes_last: [AtomicU64; 2],
    }
}

#[inline]
pub(crate) fn load128(c: &[AtomicU64; 2]) -> u128 {
    u128::from(c[0].load(Relaxed)) << 64 | u128::from(c[1].load(Relaxed))
}

pub(crate) fn store128(c: &[AtomicU64; 2], v: u128) {
    #[expect(clippy::cast_possible_truncation, reason = "the two halves of a 128-bit number")]
    let (hi, lo) = ((v >> 64) as u64, v as u64);
    c[0].store(hi, Relaxed);
    c[1].store(lo, Relaxed);
}

impl LockCell {
    pub(crate) fn write(&self, l: &LockedRange) {
        store128(&self.first, l.range.first);
        store128(&self.last, l.range.last);
        self.bits.store(u64::from(l.bits), Relaxed);
    }

    pub(crate) fn read(&self) -> LockedRange {
        let range = Range { first: load128(&self.first), last: load128(&self.last) };
        LockedRange { range, bits: self.bits() }
    }

    fn bits(&self) -> u8 {
        u8::try_from(self.bits.load(Relaxed)).unwrap_or(0)
    }
}

impl ExceptionCell {
    pub(crate) fn write(&self, e: &Exception) {
        store128(&self.hosts_first, e.hosts.first);
        store128(&self.hosts_last, e.hosts.last);
        store128(&self.remotes_first, e.remotes.first);
        store128(&self.remotes_last, e.remotes.last);
    }

    pub(crate) fn read(&self) -> Exception {
        Exception {
            hosts: Range { first: load128(&self.hosts_first), last: load128(&self.hosts_last) },
            remotes: Range { first: load128(&self.remotes_first), last: load128(&self.remotes_last) },
        }
    }
}

/// The lock bits over `a`, by binary search; 0 when it is not locked.
pub(crate) fn locked_at(cells: &[LockCell], a: u128) -> u8 {
    let i = cells.partition_point(|c| load128(&c.first) <= a);
    match i.checked_sub(1).and_then(|i| cells.get(i)) {
        Some(c) if a <= load128(&c.last) => c.bits(),
        _ => 0,
    }
}

/// Whether `remote` may still reach the locked `host`.
pub(crate) fn excepted(cells: &[ExceptionCell], host: u128, remote: u128) -> bool {
    cells.iter().any(|c| {
        let e = c.read();
        e.remotes.contains(remote) && e.hosts.contains(host)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn r(first: u128, last: u128, bits: u8) -> LockedRange {
        LockedRange { range: Range { first, last }, bits }
    }

    #[test]
    fn nested_and_touching_ranges_become_a_disjoint_union() {
        assert_eq!(
            flatten(&[r(10, 20, 1), r(12, 14, 2), r(21, 30, 1), r(40, 40, 3), r(13, 13, 1)]),
            [r(10, 11, 1), r(12, 14, 3), r(15, 30, 1), r(40, 40, 3)]
        );
        assert_eq!(flatten(&[]), []);
        assert_eq!(flatten(&[r(0, u128::MAX, 1), r(5, 5, 2)]), [r(0, 4, 1), r(5, 5, 3), r(6, u128::MAX, 1)]);
    }

    #[test]
    fn prefixes_of_both_families_become_ranges() {
        let v4 = Range::of_prefix(Addr::V4(0xc000_0211), 24);
        assert!(
            v4.contains(Addr::V4(0xc000_02ff).as_u128()) && !v4.contains(Addr::V4(0xc000_0300).as_u128())
        );
        assert_eq!(
            Range::of_prefix(Addr::V4(1), 0),
            Range { first: 0xffff_0000_0000, last: 0xffff_ffff_ffff }
        );
        assert_eq!(Range::of_prefix(Addr::V6(7), 128), Range { first: 7, last: 7 });
        assert_eq!(Range::of_prefix(Addr::V6(7), 0), Range { first: 0, last: u128::MAX });
    }
}
