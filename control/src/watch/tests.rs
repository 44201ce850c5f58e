//! Who is watched when not all can be.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use region::facts::keyed_hash;
use region::fanout::Map;
use region::{Capacities, Facts, Fanout, HostId, Policy};

use super::{Reason, WATCHED_MAX, Watch};

const TICK_NS: u64 = 100_000_000;
const KEY: [u64; 2] = [0x1234_5678_9abc_def0, 0x0fed_cba9_8765_4321];

struct Bench {
    facts: Facts,
    policy: Policy,
    watch: Watch,
    now_ns: u64,
}

impl Bench {
    fn new() -> Bench {
        let capacities = Capacities { workers: 1, hosts_v4: 8_192, hosts_v6: 8, locks: 8 };
        let mut b = Bench {
            facts: Facts::anonymous(capacities).unwrap(),
            policy: Policy::anonymous(capacities, 64, KEY).unwrap(),
            watch: Watch::default(),
            now_ns: 1_000_000_000_000,
        };
        b.watch.attach(&b.policy, &b.facts, b.now_ns);
        b.facts.turn_to_generation(0, b.policy.generation());
        b
    }

    /// A tick in which these hosts are nominated.
    fn tick(&mut self, nominated: impl Iterator<Item = (u32, bool, f64)>) {
        self.now_ns += TICK_NS;
        self.watch.read(&self.policy, &self.facts, self.now_ns);
        for (host, strong, score) in nominated {
            self.watch.nominate(HostId(host), Reason { strong, score, packets: 1 }, self.now_ns);
        }
        self.watch.assign(&self.policy, &self.facts, self.now_ns);
        self.watch.turn(&self.policy, &self.facts, self.now_ns);
        self.facts.turn_to_generation(0, self.policy.generation());
    }

    /// All slots are taken.
    fn full(strong: bool, score: f64) -> Bench {
        let mut b = Bench::new();
        b.tick((0..2_000).map(|h| (h, strong, score)));
        assert_eq!(b.watch.len(), WATCHED_MAX - 1);
        b
    }
}

#[test]
fn those_with_strong_reasons_wait_for_a_slot_for_some_ticks_and_not_for_a_minute() {
    let mut b = Bench::full(false, 1.0);
    let scanners = 3_000..3_050;
    for _ in 0..4 {
        b.tick(scanners.clone().map(|h| (h, true, 8.0)));
    }
    assert!(scanners.clone().all(|h| b.watch.is_watched(HostId(h))));
    assert_eq!(b.watch.len(), WATCHED_MAX - 1, "no more made room than had to");
}

#[test]
fn among_the_strong_one_that_is_twice_as_strong_is_seen_and_an_equal_waits() {
    let mut b = Bench::full(true, 8.0);
    for _ in 0..10 {
        b.tick([(3_000, true, 15.0), (3_001, true, 17.0), (3_002, false, 100.0)].into_iter());
    }
    let watched = [3_000, 3_001, 3_002].map(|h| b.watch.is_watched(HostId(h)));
    assert_eq!(watched, [false, true, false]);
    assert_eq!(b.watch.len(), WATCHED_MAX - 1);
}

#[test]
fn an_open_case_makes_room_after_all_others_and_only_for_who_is_twice_as_strong() {
    let mut b = Bench::full(true, 8.0);
    let all: Vec<HostId> = b.watch.hosts();
    let (other, cases) = all.split_last().unwrap();
    for host in cases {
        b.watch.get_mut(*host).unwrap().case = true;
    }
    for _ in 0..10 {
        b.tick([(3_000, true, 17.0)].into_iter());
    }
    assert!(b.watch.is_watched(HostId(3_000)) && !b.watch.is_watched(*other), "there was one without a case");
    b.watch.get_mut(HostId(3_000)).unwrap().case = true;
    for _ in 0..10 {
        b.tick([(3_001, true, 15.0), (3_002, true, 17.0), (3_003, false, 100.0)].into_iter());
    }
    let watched = [3_001, 3_002, 3_003].map(|h| b.watch.is_watched(HostId(h)));
    assert_eq!(watched, [false, true, false]);
    assert_eq!(b.watch.len(), WATCHED_MAX - 1, "no more made room than had to");
}

#[test]
fn a_full_map_is_a_reason_only_when_more_is_asked_than_comes_back() {
    let empty = Fanout::default();
    assert_eq!(Reason::of_full_map(&empty, true, 1), None);
    let b = Bench::new();
    for external in 0..10_000 {
        let hash = keyed_hash(external, KEY);
        b.facts.writer_for(0).touch_fanout(HostId(1), b.watch.epoch(), Map::Answered, hash);
    }
    let full = b.facts.fanout(HostId(1), b.watch.epoch());
    assert_eq!(Reason::of_fanout(&full, 1, 1), None, "it hides all");
    assert_eq!(Reason::of_full_map(&full, false, 1), None);
    assert!(Reason::of_full_map(&full, true, 1).is_some_and(|r| !r.strong));
}
