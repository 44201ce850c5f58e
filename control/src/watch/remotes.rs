//! A watched host's traffic by external address, in the buckets of the slow window: the lines of the summary.

use std::collections::{BTreeMap, VecDeque};

use super::reader::Change;
use crate::summary::Figures;
use crate::window::BUCKET_NS;

/// Externals of a host whose traffic is kept one by one.
pub(super) const REMOTES_MAX: usize = 1_024;
/// Buckets that the slow window may cover.
const BUCKETS_MAX: u64 = 31;

type Buckets = VecDeque<(u64, [Figures; 2])>;

/// Traffic of one host by external.
#[derive(Debug)]
pub(crate) struct Remotes {
    /// Externals that may be kept one by one, at most [`REMOTES_MAX`].
    most: usize,
    of: BTreeMap<u128, Buckets>,
    /// Externals beyond those, and packets without a row.
    other: Buckets,
    /// The bucket in which room was made last.
    swept: u64,
}

/// What a summary says of externals, in one direction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ByRemote {
    /// By packets, most first.
    pub(crate) externals: Vec<(u128, Figures)>,
    /// What was recorded of others.
    pub(crate) other: Figures,
    /// All of them.
    pub(crate) recorded: Figures,
}

fn plus(f: &mut Figures, o: &Figures) {
    f.packets += o.packets;
    f.flows += o.flows;
    f.bytes += o.bytes;
}

fn bucket_of(buckets: &mut Buckets, now_ns: u64) -> Option<&mut [Figures; 2]> {
    let bucket = now_ns / BUCKET_NS;
    while buckets.front().is_some_and(|(b, _)| *b + BUCKETS_MAX < bucket) {
        buckets.pop_front();
    }
    if buckets.back().is_none_or(|(b, _)| *b != bucket) {
        buckets.push_back((bucket, Default::default()));
    }
    buckets.back_mut().map(|(_, f)| f)
}

impl Default for Remotes {
    fn default() -> Remotes {
        Remotes { most: REMOTES_MAX, of: BTreeMap::new(), other: Buckets::new(), swept: 0 }
    }
}

impl Remotes {
    /// Externals that are kept one by one.
    pub(super) fn len(&self) -> usize {
        self.of.len()
    }

    /// Sets how many may be kept from now on.
    pub(super) fn set_room(&mut self, most: usize) {
        self.most = most.min(REMOTES_MAX);
    }

    /// Adds what a tick brought to a flow.
    pub(super) fn add(&mut self, now_ns: u64, c: &Change, is_new: bool) {
        let remote = c.record.key.remote;
        if !self.of.contains_key(&remote) && self.of.len() >= self.most {
            self.make_room(now_ns);
        }
        let room = self.of.contains_key(&remote) || self.of.len() < self.most;
        let buckets = if room { self.of.entry(remote).or_default() } else { &mut self.other };
        let Some(figures) = bucket_of(buckets, now_ns) else { return };
        for (dir, f) in figures.iter_mut().enumerate() {
            f.packets += c.packets[dir];
            f.bytes += c.bytes[dir];
            // A row without ports is no flow itself, and says how many began in it.
            f.flows += if c.began > 0 { c.began } else { u64::from(is_new && c.record.began == 0) };
        }
    }

    /// Adds packets that found no row.
    pub(super) fn add_other(&mut self, now_ns: u64, packets: [u64; 2], bytes: [u64; 2]) {
        let Some(figures) = bucket_of(&mut self.other, now_ns) else { return };
        for (dir, f) in figures.iter_mut().enumerate() {
            f.packets += packets[dir];
            f.bytes += bytes[dir];
        }
    }

    /// Forgets externals that were silent for the length of the window. Looks at them once in a bucket: nobody becomes older
    /// within it, and under a flood of new externals every packet asks for room.
    fn make_room(&mut self, now_ns: u64) {
        let bucket = now_ns / BUCKET_NS;
        if self.swept == bucket {
            return;
        }
        self.swept = bucket;
        let oldest = bucket.saturating_sub(BUCKETS_MAX);
        self.of.retain(|_, b| b.back().is_some_and(|(b, _)| *b > oldest));
    }

    /// The traffic of a direction (0 out, 1 in) since a bucket: at most `most` externals one by one.
    pub(crate) fn since(&self, bucket: u64, dir: usize, most: usize) -> ByRemote {
        let sum = |buckets: &Buckets| {
            let mut f = Figures::default();
            for (_, figures) in buckets.iter().filter(|(b, _)| *b >= bucket) {
                plus(&mut f, &figures[dir]);
            }
            f
        };
        let mut all: Vec<(u128, Figures)> =
            self.of.iter().map(|(r, b)| (*r, sum(b))).filter(|(_, f)| f.packets > 0).collect();
        all.sort_by_key(|(r, f)| (std::cmp::Reverse(f.packets), *r));
        let mut by = ByRemote { other: sum(&self.other), ..ByRemote::default() };
        by.recorded = by.other;
        for (_, f) in &all {
            plus(&mut by.recorded, f);
        }
        for (_, f) in all.iter().skip(most) {
            plus(&mut by.other, f);
        }
        all.truncate(most);
        by.externals = all;
        by
    }

    /// Externals that are counted among the others in [`Remotes::since`].
    pub(crate) fn others(&self, bucket: u64, dir: usize, most: usize) -> usize {
        let moved = |b: &Buckets| b.iter().any(|(at, f)| *at >= bucket && f[dir].packets > 0);
        self.of.values().filter(|b| moved(b)).count().saturating_sub(most)
    }
}

#[cfg(test)]
mod tests {
    use region::HostId;
    use region::flows::{FlowKey, FlowRecord, Opener};

    use super::*;

    fn packet_of(remote: u32) -> Change {
        let key = FlowKey {
            host: HostId(1),
            remote: remote.into(),
            protocol: 6,
            local_port: 443,
            remote_port: 50_000,
        };
        let record = FlowRecord {
            key,
            local: 1,
            first: 0,
            last: 0,
            packets: [1, 0],
            bytes: [60, 0],
            opener: Opener::None,
            first_frame_bytes: 60,
            flags: 0,
            began: 0,
        };
        Change { worker: 0, record, packets: [1, 0], bytes: [60, 0], began: 0 }
    }

    #[test]
    fn the_silent_make_room_for_others_when_the_window_has_passed_and_not_before() {
        let full = 1_024;
        assert_eq!(full as usize, REMOTES_MAX);
        let mut r = Remotes::default();
        let at = |bucket: u64| bucket * BUCKET_NS + 1;
        // One more than there is room for, in each of two buckets.
        for bucket in [1, 2] {
            (0..=full).for_each(|i| r.add(at(bucket), &packet_of(i), true));
        }
        assert_eq!((r.len(), r.others(0, 0, REMOTES_MAX)), (REMOTES_MAX, 0));
        assert_eq!(r.since(0, 0, REMOTES_MAX).other.packets, 2, "the last one's");
        let last = 2 + BUCKETS_MAX;
        r.add(at(last - 1), &packet_of(full + 1), true);
        assert_eq!(r.len(), REMOTES_MAX, "all were heard of within the window");
        r.add(at(last), &packet_of(full + 2), true);
        assert_eq!(r.len(), 1);
        assert_eq!(r.since(last, 0, 9).externals.first().map(|(a, _)| *a), Some((full + 2).into()));
    }
}
