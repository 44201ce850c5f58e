//! Which hosts moved in a tick, so that a tick costs by active hosts and not by configured ones.
//!
//! Each worker has two bitmaps by tick parity, each with a summary (one bit for each 64-bit word). Control raises the
//! worker's tick in policy; the worker, at its next burst, clears the bitmap it turns to and then reports the tick as
//! seen; from then on control may read the other one at leisure. A worker that stands still is not asked again.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::host::HostId;

/// One bitmap with its summary, borrowed from the facts file.
#[derive(Clone, Copy)]
pub struct Touched<'a> {
    /// One bit a host.
    words: &'a [AtomicU64],
    /// One bit for each word that has a bit set.
    summary: &'a [AtomicU64],
}

const WORDS_A_LINE: usize = 64 / size_of::<AtomicU64>();

/// Words of the bitmap and of its summary for `hosts` hosts.
pub const fn sizes(hosts: u32) -> (usize, usize) {
    let words = (hosts as usize).div_ceil(64);
    (words, words.div_ceil(64))
}

impl<'a> Touched<'a> {
    /// Over tables of [`sizes`].
    #[inline]
    pub fn new(words: &'a [AtomicU64], summary: &'a [AtomicU64]) -> Self {
        Touched { words, summary }
    }

    /// Marks a host. Only the owning worker calls this.
    #[inline(always)]
    pub(crate) fn mark(&self, host: HostId) {
        let word = host.index() / 64;
        let bit = 1u64 << (host.0 % 64);
        let Some(w) = self.words.get(word) else { return };
        let old = w.load(Relaxed);
        if old & bit == 0 {
            w.store(old | bit, Relaxed);
            if let Some(s) = self.summary.get(word / 64) {
                s.store(s.load(Relaxed) | 1 << (word % 64), Relaxed);
            }
        }
    }

    /// Clears every word whose summary bit is set. Only the owning worker calls this.
    pub(crate) fn clear(&self) {
        for (i, s) in self.summary.iter().enumerate() {
            let mut left = s.load(Relaxed);
            if left == 0 {
                continue;
            }
            s.store(0, Relaxed);
            while left != 0 {
                let word = i * 64 + left.trailing_zeros() as usize;
                left &= left - 1;
                if let Some(w) = self.words.get(word) {
                    w.store(0, Relaxed);
                }
            }
        }
    }

    /// Calls `each` with (word index, bits) for every word that has bits.
    pub fn for_each_word(&self, mut each: impl FnMut(usize, u64)) {
        for (i, s) in self.summary.iter().enumerate() {
            let mut left = s.load(Relaxed);
            if left != 0 {
                // What is looked at next: among many hosts with few that move, each word lies in a line of its own.
                let next = self.words.get((i + 1) * 64..).unwrap_or(&[]);
                next.iter().take(64).step_by(WORDS_A_LINE).for_each(|w| crate::map::prefetch(w));
            }
            while left != 0 {
                let word = i * 64 + left.trailing_zeros() as usize;
                left &= left - 1;
                let bits = self.words.get(word).map_or(0, |w| w.load(Relaxed));
                if bits != 0 {
                    each(word, bits);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_found_once_and_cleared() {
        let (w, s) = sizes(10_000);
        let words: Vec<AtomicU64> = (0..w).map(|_| AtomicU64::new(0)).collect();
        let summary: Vec<AtomicU64> = (0..s).map(|_| AtomicU64::new(0)).collect();
        let t = Touched::new(&words, &summary);
        for id in [0, 63, 64, 4095, 4096, 9_999, 9_999, 4_000_000_000] {
            t.mark(HostId(id));
        }
        let mut found = Vec::new();
        t.for_each_word(|word, mut bits| {
            while bits != 0 {
                found.push(word * 64 + bits.trailing_zeros() as usize);
                bits &= bits - 1;
            }
        });
        assert_eq!(found, [0, 63, 64, 4095, 4096, 9_999]);
        t.clear();
        t.for_each_word(|_, _| panic!("nothing is left"));
        assert!(words.iter().all(|w| w.load(Relaxed) == 0));
    }
}
