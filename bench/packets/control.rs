//! The part of `cordond` that costs the packet path anything: it publishes networks and locks, and at every tick turns
//! the worker to a new bitmap, reads the lines of the hosts that moved and writes down what it has seen of them.
//!
//! Most rows are measured with it and not with the daemon itself: what that decides depends on time, and a row has to
//! enforce and watch what it says. Rows with everything on are measured with `cordond` (see [`crate::dataplane`]).

use std::path::Path;
use std::sync::atomic::{
    AtomicBool,
    Ordering::{Acquire, Relaxed},
};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use region::addressing::{Addressing, BlockV4, NetworkV6};
use region::locks::{LockedRange, Range};
use region::policy::Bindings;
use region::segment::SegmentRules;
use region::{Addr, Capacities, Dir, Facts, HostFlags, HostId, Mac, Policy, WatchSlot};

use crate::cases::Inside;
use crate::locks::{Locks, hosts_of};
use crate::stop;
use crate::traffic::{INTERNAL_V4, Traffic, device_of};

const TICK: Duration = Duration::from_millis(100);
const ACKNOWLEDGED: Duration = Duration::from_secs(5);
const IPV6_HOST_BITS: u8 = 64;
/// Rows of a watched host in a generation, and packets of it that are kept in a tick: those of `cordond`.
const FLOW_QUOTA: u32 = 8192;
const EVIDENCE_QUOTA: u32 = 64;
/// Ticks after which a watch generation ends.
const GENERATION_TICKS: u64 = 600;

/// Control of one life of the dataplane.
pub(crate) struct Control {
    policy: Arc<Policy>,
    /// Host numbers whose flags are set.
    flagged: Mutex<Vec<u32>>,
    ticks: Option<(Arc<AtomicBool>, JoinHandle<()>)>,
}

/// Table sizes, for the configuration file too.
pub(crate) fn capacities(traffic: &Traffic) -> Capacities {
    Capacities {
        workers: traffic.workers.into(),
        hosts_v4: traffic.addresses.max(256),
        // A quarter full: at half, one host in 2,000 finds no slot within the table's 16 probes.
        hosts_v6: if traffic.ipv6 { traffic.hosts.next_power_of_two() * 4 } else { 16_384 },
        locks: 131_072,
    }
}

impl Control {
    /// Makes the policy file, before the dataplane starts.
    pub(crate) fn publish(tables: &Path, traffic: &Traffic, inside: Inside) -> Result<Control, String> {
        let capacities = capacities(traffic);
        let key = [0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210];
        let opened = Policy::open_or_create(tables, capacities, IPV6_HOST_BITS, key);
        let (policy, _) = opened.map_err(|e| e.to_string())?;
        let v6 = Addr::V6(0x2001_0db8 << 96);
        let addressing = Addressing {
            v4: vec![BlockV4 { first: INTERNAL_V4, length: traffic.prefix_length(), base: HostId(0) }],
            v6: vec![NetworkV6 { range: Range::of_prefix(v6, 32), quota: capacities.hosts_v6, slot: 0 }],
        };
        policy.publish_addressing(&addressing).map_err(|e| e.to_string())?;
        policy.publish_locks(&[], &[], &SegmentRules::default()).map_err(|e| e.to_string())?;
        if inside == Inside::Bound {
            for host in 0..traffic.hosts {
                policy.bind(HostId(host), Some(Mac(device_of(host))));
            }
            policy.set_bindings(Bindings::Count);
        }
        Ok(Control { policy: Arc::new(policy), flagged: Mutex::default(), ticks: None })
    }

    /// Takes charge of a dataplane that forwards: flags hold, and ticks begin.
    pub(crate) fn attach(&mut self, facts: &Arc<Facts>) {
        self.policy.set_quotas(FLOW_QUOTA, EVIDENCE_QUOTA);
        self.policy.set_epoch(2);
        self.policy.turn_generation();
        self.policy.flags_hold_for(facts.header().incarnation.load(Relaxed));
        let ended = Arc::new(AtomicBool::new(false));
        let (policy, facts, end) = (Arc::clone(&self.policy), Arc::clone(facts), Arc::clone(&ended));
        let thread = thread::spawn(move || {
            while !end.load(Relaxed) {
                tick(&policy, &facts);
                thread::sleep(TICK);
            }
        });
        self.ticks = Some((ended, thread));
    }

    /// Puts a lock list in force and watches the first hosts: flags first taken back, then derived anew.
    pub(crate) fn enforce(
        &self,
        facts: &Facts,
        locks: &Locks,
        watched: u32,
        traffic: &Traffic,
    ) -> Result<(), String> {
        let ranges = locks.ranges(traffic);
        stop::wait("the worker's word on the lock list before", ACKNOWLEDGED, || {
            Ok(self.policy.locks_acknowledged(facts).then_some(()))
        })?;
        self.policy.publish_locks(&ranges, &[], &SegmentRules::default()).map_err(|e| e.to_string())?;
        self.flag(&ranges, watched);
        let life = if locks.by_address { 0 } else { facts.header().incarnation.load(Relaxed) };
        self.policy.flags_hold_for(life);
        Ok(())
    }

    fn flag(&self, ranges: &[LockedRange], watched: u32) {
        let mut flagged = self.flagged.lock().unwrap_or_else(PoisonError::into_inner);
        for host in flagged.drain(..) {
            self.policy.set_flags(HostId(host), HostFlags(0));
        }
        for range in ranges {
            for host in hosts_of(range) {
                self.policy.set_flags(HostId(host), HostFlags(range.bits));
                flagged.push(host);
            }
        }
        for host in 0..watched {
            let slot = u16::try_from(host + 1).unwrap_or(0);
            self.policy.set_watch_slot(HostId(host), WatchSlot(slot));
            self.policy.set_flags(HostId(host), HostFlags(HostFlags::WATCH));
            flagged.push(host);
        }
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        if let Some((ended, thread)) = self.ticks.take() {
            ended.store(true, Relaxed);
            let _ = thread.join();
        }
    }
}

/// One tick.
fn tick(policy: &Policy, facts: &Facts) {
    for worker in 0..facts.workers().len() {
        tick_worker(policy, facts, worker);
        policy.set_evidence_read(worker, facts.evidence(worker).head());
        policy.set_link_read(worker, facts.link(worker).head());
    }
    if policy.tick(0).is_multiple_of(GENERATION_TICKS) && policy.generation_acknowledged(facts) {
        policy.turn_generation();
    }
}

fn tick_worker(policy: &Policy, facts: &Facts, worker: usize) {
    let asked = policy.tick(worker);
    if facts.workers()[worker].seen_tick.load(Acquire) != asked {
        // A worker that stands still is not asked again.
        return;
    }
    facts.touched(worker, asked.wrapping_sub(1)).for_each_word(|word, bits| {
        let mut left = bits;
        while left != 0 {
            let id = word * 64 + left.trailing_zeros() as usize;
            left &= left - 1;
            merge(policy, facts, HostId(u32::try_from(id).unwrap_or(u32::MAX)));
        }
    });
    policy.set_tick(worker, asked + 1);
}

/// What control does with a host that moved, up to the decision.
fn merge(policy: &Policy, facts: &Facts, host: HostId) {
    for dir in Dir::ALL {
        let totals = facts.totals(host, dir);
        if totals.since(&policy.accounted(host, dir)).packets != 0 {
            policy.set_accounted(host, dir, &totals);
        }
    }
    if host.0 >= facts.capacities().hosts_v4 {
        policy.set_flags(host, HostFlags(HostFlags::KNOWN));
    }
}
