//! Rates of the last whole second of every host, for `cordon top`: nine words a host, touched when the host moves.

use region::{Capacities, HostId};

use crate::window::Pair;

/// Second, then (packets and SYN, bytes) of the current and of the previous second, by direction.
const WORDS: usize = 9;
/// Where a second's figures begin: the current one's, the previous one's.
const CURRENT: usize = 1;
const PREVIOUS: usize = 5;

/// What a host did in a second, in one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rate {
    pub(crate) packets: u64,
    pub(crate) bytes: u64,
    pub(crate) syn: u64,
}

/// All hosts' meters.
#[derive(Debug, Default)]
pub(crate) struct Meters {
    words: Vec<[u64; WORDS]>,
}

const SECOND_NS: u64 = 1_000_000_000;

/// Packets in the upper half, SYN in the lower one: a second has fewer than 2^32 of either.
fn pack(packets: u64, syn: u64) -> u64 {
    packets.min(u64::from(u32::MAX)) << 32 | syn.min(u64::from(u32::MAX))
}

impl Meters {
    /// Zeroed memory: pages of hosts that never move are never touched.
    pub(crate) fn new(capacities: Capacities) -> Meters {
        Meters { words: vec![[0; WORDS]; capacities.hosts() as usize] }
    }

    /// Asks the cache for a host's figures.
    pub(crate) fn prefetch(&self, host: HostId) {
        if let Some([first, .., last]) = self.words.get(host.index()) {
            // They cross a line.
            region::prefetch(first);
            region::prefetch(last);
        }
    }

    /// Adds what a host did in a tick that ended at `mono_ns`.
    pub(crate) fn add(&mut self, host: HostId, mono_ns: u64, pair: &Pair) {
        let Some(m) = self.words.get_mut(host.index()) else { return };
        let second = mono_ns / SECOND_NS;
        if m[0] != second {
            if m[0] + 1 == second {
                m.copy_within(CURRENT..PREVIOUS, PREVIOUS);
            } else {
                m[PREVIOUS..].fill(0);
            }
            m[CURRENT..PREVIOUS].fill(0);
            m[0] = second;
        }
        for (dir, c) in pair.iter().enumerate() {
            let at = CURRENT + dir * 2;
            let (packets, syn) = (m[at] >> 32, m[at] & u64::from(u32::MAX));
            m[at] = pack(packets + c.packets, syn + c.syn);
            m[at + 1] = m[at + 1].wrapping_add(c.bytes);
        }
    }

    /// What a host did in the last whole second before `mono_ns`: out, in.
    pub(crate) fn last_second(&self, host: HostId, mono_ns: u64) -> [Rate; 2] {
        let Some(m) = self.words.get(host.index()) else { return Default::default() };
        let second = mono_ns / SECOND_NS;
        let from = match second.wrapping_sub(m[0]) {
            0 => PREVIOUS,
            1 => CURRENT,
            _ => return Default::default(),
        };
        [0, 1].map(|dir| {
            let at = from + dir * 2;
            Rate { packets: m[at] >> 32, syn: m[at] & u64::from(u32::MAX), bytes: m[at + 1] }
        })
    }

    /// Hosts that moved in the last whole second.
    pub(crate) fn moving(&self, mono_ns: u64) -> impl Iterator<Item = (HostId, [Rate; 2])> {
        let ids = 0..u32::try_from(self.words.len()).unwrap_or(u32::MAX);
        ids.map(HostId)
            .map(move |h| (h, self.last_second(h, mono_ns)))
            .filter(|(_, r)| r.iter().any(|r| r.packets > 0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::window::Counts;

    #[test]
    fn a_rate_is_that_of_the_last_whole_second_and_ends_when_the_host_is_silent() {
        let mut m = Meters::new(Capacities { workers: 1, hosts_v4: 256, hosts_v6: 0, locks: 0 });
        let (host, tick) = (HostId(7), SECOND_NS / 10);
        let pair =
            |n| [Counts { packets: n, bytes: 100 * n, syn: 1, ..Counts::default() }, Counts::default()];
        for i in 0..20 {
            m.add(host, 3 * SECOND_NS + i * tick, &pair(if i < 10 { 5 } else { 7 }));
        }
        let at = |ns| m.last_second(host, ns)[0];
        assert_eq!(at(4 * SECOND_NS + 9 * tick), Rate { packets: 50, bytes: 5_000, syn: 10 });
        assert_eq!(at(5 * SECOND_NS + tick).packets, 70);
        assert_eq!(at(6 * SECOND_NS), Rate::default());
        assert_eq!(m.moving(5 * SECOND_NS).map(|(h, _)| h).collect::<Vec<_>>(), [host]);
        assert_eq!(m.last_second(HostId(999), 0), [Rate::default(); 2]);
    }
}
