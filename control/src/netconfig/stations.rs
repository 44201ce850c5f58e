//! Devices by hardware address: where they stand, what they ask for, how loud they are.

use std::net::IpAddr;

use region::facts::keyed_hash;

use super::table::{Key, Table};
use super::{Mac, Side};
use pipeline::segment::Segment;

const EPOCH_NS: u64 = 10_000_000_000;
const EPOCHS: usize = 6;
const WORDS: usize = 16;
const SECOND_NS: u64 = 1_000_000_000;
const SECONDS: usize = 5;
/// ARP requests of an epoch before their targets are counted.
const SWEEP_FROM: u32 = 8;
/// Source addresses after which a device is taken for a router, as far as a mirror shows.
const RELAYS: u32 = 6;
/// Probes are counted within this time.
const PROBES_NS: u64 = 60_000_000_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StationKey(pub(super) Segment, pub(super) Mac);

impl Key for StationKey {
    fn parts(&self) -> (u128, u128) {
        (u128::from(self.1.number()) << 64 | u128::from(self.0), 0)
    }
}

pub(super) type Stations = Table<StationKey, Station>;

/// A device.
#[derive(Default)]
pub(super) struct Station {
    pub(super) side: Option<Side>,
    pub(super) last_ns: u64,
    /// Frames other than DHCP.
    pub(super) beyond_dhcp: u64,
    /// The address it was first heard with, by asking for others or by answering.
    pub(super) home: [Option<IpAddr>; 2],
    /// The first source address of its packets.
    pub(super) source: Option<IpAddr>,
    sources: u64,
    pub(super) claims: u32,
    pub(super) origins: u32,
    pub(super) group_sources: Fresh,
    pub(super) impossible_sources: Fresh,
    pub(super) impossible: Option<IpAddr>,
    pub(super) frames: Fresh,
    probes: Probes,
    arp_epoch: u64,
    arp: u32,
    asked: u32,
    sweep: Option<Box<Sweep>>,
    loud: Loud,
}

/// A count, and how much of it has not been judged.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Fresh {
    pub(super) total: u64,
    pub(super) fresh: u64,
}

impl Fresh {
    pub(super) fn add(&mut self, n: u64) {
        self.total += n;
        self.fresh += n;
    }

    /// What is to be told: nothing below `limit`, everything when it is reached, then what is new.
    pub(super) fn take(&mut self, limit: u64) -> u64 {
        if self.total < limit {
            return 0;
        }
        let before = self.total - self.fresh;
        let n = if before < limit { self.total } else { self.fresh };
        self.fresh = 0;
        n
    }
}

#[derive(Clone, Copy, Default)]
struct Probes {
    since_ns: u64,
    addresses: [Option<IpAddr>; 3],
}

/// Which addresses a device asks for: maps of 1,024 bits, one for each of the last six spans of ten seconds. Counting
/// the bits that stay clear tells 254 addresses to within 6 (Whang et al., A linear-time probabilistic counting algorithm).
struct Sweep {
    maps: [[u64; WORDS]; EPOCHS],
    frames: [u32; EPOCHS],
    epoch: u64,
}

/// What a device costs more while it sweeps.
#[cfg(test)]
pub(super) const SWEEP_BYTES: usize = size_of::<Sweep>();

#[derive(Default)]
struct Loud {
    counts: [u64; SECONDS],
    second: u64,
    fresh: u64,
}

/// How a device asks for others.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Asking {
    /// Addresses in the current and the previous span.
    pub(super) fast: f64,
    /// Addresses in a minute.
    pub(super) slow: f64,
    /// Frames in a span.
    pub(super) frames: u32,
}

fn index(n: u64, size: usize) -> usize {
    usize::try_from(n % size as u64).unwrap_or(0)
}

fn estimate<'a>(maps: impl Iterator<Item = &'a [u64; WORDS]>) -> f64 {
    let mut union = [0u64; WORDS];
    for m in maps {
        union.iter_mut().zip(m).for_each(|(u, w)| *u |= w);
    }
    let bits = f64::from(u32::try_from(WORDS * 64).unwrap_or(u32::MAX));
    let clear = union.iter().map(|w| w.count_zeros()).sum::<u32>().max(1);
    bits * (bits / f64::from(clear)).ln()
}

impl Sweep {
    fn turn(&mut self, epoch: u64) {
        let gone = epoch.saturating_sub(self.epoch).min(EPOCHS as u64);
        for e in 0..gone {
            let i = index(self.epoch + 1 + e, EPOCHS);
            self.maps[i] = [0; WORDS];
            self.frames[i] = 0;
        }
        self.epoch = self.epoch.max(epoch);
    }
}

impl Station {
    /// A packet from this source address.
    pub(super) fn relays(&mut self, source: u128, hash_key: [u64; 2]) {
        self.sources |= 1 << (keyed_hash(source, hash_key) & 63);
    }

    /// Whether it forwards for many others, as a router does. Only a mirror has to guess.
    pub(super) fn is_relay(&self) -> bool {
        self.sources.count_ones() >= RELAYS
    }

    /// An ARP request, or an announcement.
    pub(super) fn asks(&mut self, target: u128, hash_key: [u64; 2], now_ns: u64) {
        let epoch = now_ns / EPOCH_NS;
        if epoch != self.arp_epoch {
            self.arp_epoch = epoch;
            self.arp = 0;
            if self.sweep.as_ref().is_some_and(|s| epoch > s.epoch + EPOCHS as u64) {
                self.sweep = None;
            }
        }
        self.arp = self.arp.saturating_add(1);
        self.asked = self.asked.saturating_add(1);
        if self.arp <= SWEEP_FROM && self.sweep.is_none() {
            return;
        }
        let sweep = self.sweep.get_or_insert_with(|| {
            Box::new(Sweep { maps: [[0; WORDS]; EPOCHS], frames: [0; EPOCHS], epoch })
        });
        sweep.turn(epoch);
        let i = index(sweep.epoch, EPOCHS);
        let bit = index(keyed_hash(target, hash_key), WORDS * 64);
        sweep.maps[i][bit / 64] |= 1 << (bit % 64);
        sweep.frames[i] = sweep.frames[i].saturating_add(1);
    }

    /// Requests that have not been told.
    pub(super) fn take_asked(&mut self) -> u32 {
        std::mem::take(&mut self.asked)
    }

    pub(super) fn asking(&self) -> Asking {
        let Some(s) = &self.sweep else { return Asking::default() };
        let (now, before) = (index(s.epoch, EPOCHS), index(s.epoch + EPOCHS as u64 - 1, EPOCHS));
        Asking {
            fast: estimate([&s.maps[now], &s.maps[before]].into_iter()),
            slow: estimate(s.maps.iter()),
            frames: s.frames[now].max(s.frames[before]),
        }
    }

    /// Broadcast frames.
    pub(super) fn broadcasts(&mut self, n: u64, now_ns: u64) {
        let second = now_ns / SECOND_NS;
        let gone = second.saturating_sub(self.loud.second).min(SECONDS as u64);
        for s in 0..gone {
            self.loud.counts[index(self.loud.second + 1 + s, SECONDS)] = 0;
        }
        self.loud.second = self.loud.second.max(second);
        self.loud.counts[index(self.loud.second, SECONDS)] += n;
        self.loud.fresh += n;
    }

    /// Broadcast frames in five seconds, and how many since the last time.
    pub(super) fn loudness(&mut self) -> (u64, u64) {
        (self.loud.counts.iter().sum(), std::mem::take(&mut self.loud.fresh))
    }

    /// It answered a probe for an address. True from the third address within a minute.
    pub(super) fn answers_probe(&mut self, address: IpAddr, now_ns: u64) -> bool {
        if now_ns.saturating_sub(self.probes.since_ns) > PROBES_NS {
            self.probes = Probes { since_ns: now_ns, ..Probes::default() };
        }
        if !self.probes.addresses.contains(&Some(address))
            && let Some(free) = self.probes.addresses.iter_mut().find(|a| a.is_none())
        {
            *free = Some(address);
        }
        self.probes.addresses.iter().all(Option::is_some)
    }

    pub(super) fn heard_with(&mut self, address: IpAddr) {
        let home = &mut self.home[usize::from(address.is_ipv6())];
        *home = home.or(Some(address));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: [u64; 2] = [0x9e6c_63d0_876a_9f5b, 0xc2b2_ae3d_27d4_eb4f];

    #[test]
    fn a_sweep_is_counted_to_within_a_few_addresses_and_forgotten() {
        let mut s = Station::default();
        for i in 0..254u64 {
            s.asks(u128::from(i) + 0x0a00_0001, KEY, i * 10_000_000);
        }
        let a = s.asking();
        assert!((225.0..270.0).contains(&a.fast) && (225.0..270.0).contains(&a.slow), "{a:?}");
        s.asks(1, KEY, 40 * SECOND_NS);
        assert!(s.asking().fast < 3.0 && s.asking().slow > 220.0);
        s.asks(1, KEY, 200 * SECOND_NS);
        assert!(s.asking().slow < 3.0);
    }

    #[test]
    fn a_count_is_told_whole_once_and_then_by_what_is_new() {
        let mut f = Fresh::default();
        f.add(2);
        assert_eq!(f.take(3), 0);
        f.add(2);
        assert_eq!(f.take(3), 4);
        f.add(1);
        assert_eq!((f.take(3), f.take(3)), (1, 0));
    }

    #[test]
    fn broadcasts_are_those_of_five_seconds() {
        let mut s = Station::default();
        for second in 0..10 {
            s.broadcasts(100, second * SECOND_NS);
        }
        assert_eq!(s.loudness(), (500, 1_000));
    }
}
