//! A table of fixed size under a keyed hash: what an outsider forges may displace what was forged before, never what has
//! proven itself, and never grows memory.

use region::facts::keyed_hash;

/// Entries among which a key may stand.
const WAYS: usize = 8;
/// An entry that has been heard of over this time is no passing forgery, and is displaced only when it falls silent.
const PROVEN_NS: u64 = 60_000_000_000;
/// An entry that has been silent for this long may be displaced by any other.
const IDLE_NS: u64 = 300_000_000_000;

/// Something to hash.
pub(super) trait Key: Copy + Eq {
    /// The key in one or two numbers.
    fn parts(&self) -> (u128, u128);
}

struct Slot<K, V> {
    key: K,
    born_ns: u64,
    last_ns: u64,
    value: V,
}

/// The table.
pub(super) struct Table<K, V> {
    slots: Vec<Option<Slot<K, V>>>,
    hash_key: [u64; 2],
    touched: Vec<usize>,
    is_touched: Vec<bool>,
    refused: u64,
}

impl<K: Key, V: Default> Table<K, V> {
    /// A table of `capacity` entries (rounded up to a multiple of eight that is a power of two).
    pub(super) fn new(capacity: usize, hash_key: [u64; 2]) -> Table<K, V> {
        let n = capacity.next_power_of_two().max(WAYS);
        Table {
            slots: std::iter::repeat_with(|| None).take(n).collect(),
            hash_key,
            touched: Vec::new(),
            is_touched: vec![false; n],
            refused: 0,
        }
    }

    fn bucket(&self, key: &K) -> std::ops::Range<usize> {
        let (a, b) = key.parts();
        let first = keyed_hash(a, self.hash_key);
        let hash = keyed_hash(b ^ u128::from(first) << 64, self.hash_key);
        let buckets = self.slots.len() / WAYS;
        let i = usize::try_from(hash & (buckets as u64 - 1)).unwrap_or(0);
        i * WAYS..(i + 1) * WAYS
    }

    /// The entry of a key.
    pub(super) fn get(&self, key: &K) -> Option<&V> {
        self.slots[self.bucket(key)].iter().flatten().find(|s| s.key == *key).map(|s| &s.value)
    }

    /// The entry of a key, heard of now; a fresh one when there is none. `None` when it would displace what has
    /// proven itself. It is among the touched ones until [`Table::take_touched`].
    pub(super) fn entry(&mut self, key: K, now_ns: u64) -> Option<&mut V> {
        let bucket = self.bucket(&key);
        let here = &self.slots[bucket.clone()];
        let found = here.iter().position(|s| s.as_ref().is_some_and(|s| s.key == key));
        let place = found.or_else(|| here.iter().position(Option::is_none)).or_else(|| {
            let weak = |s: &Slot<K, V>| {
                now_ns.saturating_sub(s.last_ns) > IDLE_NS || s.last_ns - s.born_ns < PROVEN_NS
            };
            let candidates = here.iter().enumerate().filter_map(|(i, s)| s.as_ref().map(|s| (i, s)));
            candidates.filter(|(_, s)| weak(s)).min_by_key(|(_, s)| s.last_ns).map(|(i, _)| i)
        });
        let Some(place) = place else {
            self.refused += 1;
            return None;
        };
        let i = bucket.start + place;
        if !self.is_touched[i] {
            self.is_touched[i] = true;
            self.touched.push(i);
        }
        if found.is_none() {
            self.slots[i] = Some(Slot { key, born_ns: now_ns, last_ns: now_ns, value: V::default() });
        }
        let slot = self.slots[i].as_mut()?;
        slot.last_ns = now_ns.max(slot.last_ns);
        Some(&mut slot.value)
    }

    /// Calls `each` for at most `most` entries that were touched since the last time; the rest waits.
    pub(super) fn take_touched(&mut self, most: usize, mut each: impl FnMut(&K, &mut V)) {
        let n = self.touched.len().min(most);
        for i in self.touched.drain(..n) {
            self.is_touched[i] = false;
            if let Some(s) = &mut self.slots[i] {
                each(&s.key, &mut s.value);
            }
        }
    }

    /// All entries.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.slots.iter().flatten().map(|s| (&s.key, &s.value))
    }

    /// Bytes that it takes, full or empty.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.slots.len() * (size_of::<Option<Slot<K, V>>>() + size_of::<bool>() + size_of::<usize>())
    }

    /// Keys that found no place.
    pub(super) fn refused(&self) -> u64 {
        self.refused
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Key for u32 {
        fn parts(&self) -> (u128, u128) {
            (u128::from(*self), 0)
        }
    }

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn forged_keys_displace_each_other_and_never_what_has_proven_itself() {
        let mut t: Table<u32, u64> = Table::new(64, [3, 5]);
        for s in [0, 70] {
            for k in 0..16 {
                *t.entry(k, s * SECOND).expect("room") = u64::from(k) + 1;
            }
        }
        let honest: Vec<u32> = t.iter().map(|(k, _)| *k).collect();
        for k in 1_000..200_000 {
            t.entry(k, 71 * SECOND);
        }
        assert_eq!(honest.len(), 16);
        assert!(honest.iter().all(|k| t.get(k) == Some(&(u64::from(*k) + 1))));
        assert_eq!(t.slots.len(), 64);
        assert!(t.touched.len() <= 64);
    }

    #[test]
    fn a_touched_entry_is_handed_out_once_and_the_rest_waits() {
        let mut t: Table<u32, u64> = Table::new(64, [3, 5]);
        for k in [1, 2, 3, 1] {
            t.entry(k, 0);
        }
        let mut seen = Vec::new();
        t.take_touched(2, |k, _| seen.push(*k));
        assert_eq!(seen, [1, 2]);
        t.take_touched(9, |k, _| seen.push(*k));
        assert_eq!(seen, [1, 2, 3]);
    }
}
