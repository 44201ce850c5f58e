//! Watched hosts: who is watched, and what the dataplane keeps of them.
//!
//! The fan-out maps nominate (an estimate, never more), the exact flows of a watched host confirm. A host is watched
//! while it has a reason: contacts that nobody answers, many ports, a limit that is near, an open incident; and for
//! [`LINGER_NS`] longer, so that a slow scan stays in sight. There are [`WATCHED_MAX`] slots. Weak reasons are good
//! enough while slots are free and the packets of those watched are few; they make room for strong ones.

mod flows;
mod hearing;
mod mix;
mod reader;
mod remotes;
mod room;
#[cfg(test)]
mod tests;
mod ways;

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::net::IpAddr;

use region::flows::{Evidence, FLOWS_MAX, WATCHED_MAX};
use region::{Addr, Facts, Fanout, HostId, Policy, WatchSlot};

use crate::scan::{FlowId, HostScan, Opener};
use flows::HostFlows;
pub(crate) use hearing::Hearing;
pub(crate) use mix::Made;
use mix::Mix;
use reader::Readers;
pub(crate) use remotes::Remotes;
use room::Kept;
use ways::Ways;

/// A watch bit that a tick sets has reached every worker by its end, which is this much later at most.
const TICK_NS: u64 = 100_000_000;
/// Length of an epoch of the fan-out maps: two of them are judged together.
const EPOCH_NS: u64 = 10_000_000_000;
/// A watch generation lasts so long, or until a table is half full.
const GENERATION_NS: u64 = 60_000_000_000;
/// A host stays watched for so long after its last reason: longer than the slowest window.
const LINGER_NS: u64 = 330_000_000_000;
/// Unanswered contacts, or ports, in two epochs that are a strong reason: a quarter of the lowest limit comes to fewer.
const STRONG: f64 = 5.0;
/// Externals that came first or answered in two epochs, from which on a map is so full that it hides who does not answer.
const FULL: f64 = 1_000.0;
/// What a host behind a full map is worth: more than other weak reasons, and no suspicion.
const HIDDEN: f64 = STRONG - 1.0;
/// Externals contacted in two epochs (20 s) that are a quarter of 200 in 60 s: first contacts on ports of logins, and SMTP.
const CONTACTS: f64 = 16.0;
/// A strong reason makes room for one that is so many times as strong.
const STRONGER: f64 = 2.0;
/// A host is suspicious for so long after its last strong reason.
const SUSPICIOUS_NS: u64 = 60_000_000_000;
/// Packets a second of all hosts that are watched for a weak reason.
const WEAK_PACKETS: u64 = 200_000;
/// Rows that a watched host may take of a worker in a generation.
const FLOW_QUOTA: u32 = 8_192;
/// Packets that a watched host may record in a tick on a worker.
const EVIDENCE_QUOTA: u32 = 64;
/// Packets kept of a watched host, and of one with an open case.
const RECENT_MAX: usize = 256;
const RECENT_CASE_MAX: usize = 2_048;

/// Why a host is to be watched.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Reason {
    /// It must be, whoever has to make room.
    pub(crate) strong: bool,
    /// The higher, the sooner.
    pub(crate) score: f64,
    /// Its packets in the last second.
    pub(crate) packets: u64,
}

impl Reason {
    /// What fan-out maps say. `opens`: first contacts in this tick.
    pub(crate) fn of_fanout(f: &Fanout, opens: u64, packets: u64) -> Option<Reason> {
        let unanswered = f.unanswered();
        let ports = f.ports.estimate();
        // Every new contact is unanswered for a moment; ports alone say little of a host that is answered.
        let score = unanswered.max(if unanswered > 0.5 { ports } else { 0.0 });
        (opens > 0 && score > 0.5).then_some(Reason { strong: score >= STRONG, score, packets })
    }

    /// So many first contacts, answered or not, that a rule may ask for them.
    pub(crate) fn of_contacts(f: &Fanout, opens: u64, packets: u64) -> Option<Reason> {
        let many = opens > 0 && f.contacted.estimate() > CONTACTS;
        many.then_some(Reason { strong: false, score: 0.5, packets })
    }

    /// What a full map says: nothing. `asks`: more was asked than came back in this tick. Thousands of clients, or
    /// somebody who spoofs as many, are to hide nobody's scan.
    pub(crate) fn of_full_map(f: &Fanout, asks: bool, packets: u64) -> Option<Reason> {
        let hidden = asks && f.answered.estimate() > FULL;
        hidden.then_some(Reason { strong: false, score: HIDDEN, packets })
    }

    /// A limit that is near, or an open incident.
    pub(crate) fn strong(packets: u64) -> Reason {
        Reason { strong: true, score: f64::MAX, packets }
    }
}

/// A packet that was recorded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record {
    /// Nanoseconds since 1970.
    pub(crate) unix_ns: u64,
    pub(crate) packet: Evidence,
}

/// What is known of a watched host.
#[derive(Debug)]
pub(crate) struct Watched {
    slot: WatchSlot,
    /// Monotonic time from which its flows are complete.
    pub(crate) began_ns: u64,
    reason: Reason,
    reason_ns: u64,
    /// Last time that it had a strong one.
    strong_ns: u64,
    pub(crate) scan: HostScan,
    pub(crate) hearing: Hearing,
    flows: HostFlows,
    pub(crate) remotes: Remotes,
    pub(crate) mix: Mix,
    pub(crate) recent: VecDeque<Record>,
    /// Flows that began since the last tick, by direction of their first packet.
    new_flows: [u64; 2],
    /// When packets that came in last found no row, which may have been answers to another worker's questions.
    pub(crate) missed_ns: Option<u64>,
    /// Evidence of it is being collected.
    pub(crate) case: bool,
}

/// All watched hosts.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    hosts: BTreeMap<HostId, Watched>,
    of_slot: HashMap<WatchSlot, HostId>,
    /// Slots by the generation from which on they may be given again.
    freed: VecDeque<(u64, WatchSlot)>,
    next_slot: u16,
    readers: Readers,
    ways: Ways,
    candidates: Vec<(HostId, Reason)>,
    /// First contacts of hosts that are not watched, of this tick.
    early: HashMap<HostId, Vec<reader::Change>>,
    /// Nominated for a strong reason in this tick.
    suspects: HashSet<HostId>,
    /// Hosts with a strong reason wait for a slot that a generation has to end for.
    starved: bool,
    epoch: u32,
    epoch_ns: u64,
    turned_ns: u64,
    /// Records lost since the dataplane began.
    pub(crate) evidence_lost: u64,
}

impl Watch {
    /// A dataplane is there: nobody is watched, and what its tables say of earlier slots is left behind.
    pub(crate) fn attach(&mut self, policy: &Policy, facts: &Facts, now_ns: u64) {
        self.forget_all(policy);
        policy.set_quotas(FLOW_QUOTA, EVIDENCE_QUOTA);
        let generation = policy.turn_generation();
        self.readers = Readers::begin(facts, generation);
        self.ways = Ways::default();
        self.turned_ns = now_ns;
        self.next_slot = 1;
        self.evidence_lost = 0;
        self.freed.clear();
        for w in 0..facts.workers().len() {
            policy.set_evidence_read(w, facts.evidence(w).head());
            policy.set_link_read(w, facts.link(w).head());
        }
        self.epoch = policy.epoch().wrapping_add(2).max(2);
        self.epoch_ns = now_ns;
        policy.set_epoch(self.epoch);
    }

    /// Takes the slots of all hosts away; flags are the caller's.
    pub(crate) fn forget_all(&mut self, policy: &Policy) {
        for host in std::mem::take(&mut self.hosts).into_keys() {
            policy.set_watch_slot(host, WatchSlot(0));
        }
        self.of_slot.clear();
        self.candidates.clear();
    }

    /// Whether a host is watched.
    pub(crate) fn is_watched(&self, host: HostId) -> bool {
        self.hosts.contains_key(&host)
    }

    /// Whether a host looks like an offender: what it asks may well go unanswered.
    pub(crate) fn is_suspicious(&self, host: HostId) -> bool {
        self.suspects.contains(&host) || self.hosts.get(&host).is_some_and(|w| w.reason.strong)
    }

    /// A watched host.
    pub(crate) fn get(&self, host: HostId) -> Option<&Watched> {
        self.hosts.get(&host)
    }

    /// A watched host.
    pub(crate) fn get_mut(&mut self, host: HostId) -> Option<&mut Watched> {
        self.hosts.get_mut(&host)
    }

    /// Watched hosts, in order.
    pub(crate) fn hosts(&self) -> Vec<HostId> {
        self.hosts.keys().copied().collect()
    }

    /// Flows of a watched host that began since the last call, by direction.
    pub(crate) fn take_new_flows(&mut self, host: HostId) -> [u64; 2] {
        self.hosts.get_mut(&host).map(|w| std::mem::take(&mut w.new_flows)).unwrap_or_default()
    }

    /// Answers since the last call that a watched host sent as an amplifier.
    pub(crate) fn amplified(&mut self, host: HostId, now_ns: u64) -> u64 {
        self.hosts.get_mut(&host).map_or(0, |w| w.mix.take_amplified(now_ns))
    }

    /// How many are watched.
    pub(crate) fn len(&self) -> usize {
        self.hosts.len()
    }

    /// The epoch of the fan-out maps.
    pub(crate) fn epoch(&self) -> u32 {
        self.epoch
    }

    /// Notes a reason to watch a host.
    pub(crate) fn nominate(&mut self, host: HostId, reason: Reason, now_ns: u64) {
        self.suspects.extend(reason.strong.then_some(host));
        match self.hosts.get_mut(&host) {
            Some(w) => {
                // A host that repeats itself opens nothing new, and is as suspicious as before.
                if reason.strong || now_ns.saturating_sub(w.strong_ns) > SUSPICIOUS_NS {
                    w.reason = reason;
                }
                w.reason_ns = now_ns;
                w.strong_ns = if reason.strong { now_ns } else { w.strong_ns };
            }
            None => self.candidates.push((host, reason)),
        }
    }

    /// Takes in what the dataplane has written since the last tick.
    pub(crate) fn read(&mut self, policy: &Policy, facts: &Facts, now_ns: u64) {
        self.share_room();
        let clock = facts.clock();
        let (hosts, of_slot, early) = (&mut self.hosts, &self.of_slot, &mut self.early);
        let (ways, workers) = (&mut self.ways, facts.workers().len());
        early.clear();
        self.readers.read(policy, facts, |change| {
            let host = change.record.key.host;
            match hosts.get_mut(&host) {
                Some(w) => w.take(&change, &clock, now_ns, ways, workers),
                // First contacts of a host that may be watched at the end of this tick.
                None => early.entry(host).or_default().push(change),
            }
        });
        self.readers.read_cells(facts, |slot, packets, bytes, lost| {
            self.evidence_lost += lost;
            if let Some(w) = of_slot.get(&slot).and_then(|h| hosts.get_mut(h)) {
                w.remotes.add_other(now_ns, packets, bytes);
                if packets[1] > 0 && ways.are_apart(workers) {
                    w.missed_ns = Some(now_ns);
                }
            }
        });
        for worker in 0..facts.workers().len() {
            let ring = facts.evidence(worker);
            let head = ring.head();
            let mut at = policy.evidence_read(worker, head);
            while at < head {
                if let Some(packet) = ring.get(at) {
                    let record = Record { unix_ns: clock.unix_ns(packet.time), packet };
                    if let Some(w) = of_slot.get(&packet.slot).and_then(|h| hosts.get_mut(h)) {
                        w.record(record);
                    }
                }
                at += 1;
            }
            policy.set_evidence_read(worker, head);
        }
    }

    /// Bounds what all watched hosts keep together: a fair share each, as soon as all is full.
    fn share_room(&mut self) {
        let mut kept = Kept::default();
        for w in self.hosts.values() {
            kept.contacts += w.scan.len();
            kept.flows += w.flows.len();
            kept.remotes += w.remotes.len();
        }
        let most = kept.shares();
        for w in self.hosts.values_mut() {
            w.scan.set_room(most.contacts);
            w.flows.set_room(most.flows);
            w.remotes.set_room(most.remotes);
        }
    }

    /// Ends a generation when it is time and everything of the one before was read; turns the epoch.
    pub(crate) fn turn(&mut self, policy: &Policy, facts: &Facts, now_ns: u64) {
        if now_ns.saturating_sub(self.epoch_ns) >= EPOCH_NS {
            // After a silence of several epochs no map of before is to be taken for the previous one.
            let passed = now_ns.saturating_sub(self.epoch_ns) / EPOCH_NS;
            self.epoch = self.epoch.wrapping_add(u32::try_from(passed.min(2)).unwrap_or(2));
            self.epoch_ns = now_ns;
            policy.set_epoch(self.epoch);
        }
        let due = now_ns.saturating_sub(self.turned_ns) >= GENERATION_NS
            || self.readers.rows_most() > FLOWS_MAX / 2
            || (self.starved && !self.freed.is_empty());
        if due && policy.generation_acknowledged(facts) && self.readers.are_current(policy.generation()) {
            policy.turn_generation();
            self.turned_ns = now_ns;
        }
    }

    /// Lets go of hosts without a reason and takes in those that were nominated. Returns the hosts whose flag changes.
    pub(crate) fn assign(&mut self, policy: &Policy, facts: &Facts, now_ns: u64) -> Vec<HostId> {
        let (clock, workers) = (facts.clock(), facts.workers().len());
        let mut changed = Vec::new();
        let idle = |w: &Watched| !w.case && w.reason_ns.saturating_add(LINGER_NS) < now_ns;
        let gone: Vec<HostId> = self.hosts.iter().filter(|(_, w)| idle(w)).map(|(h, _)| *h).collect();
        for host in gone {
            self.let_go(host, policy);
            changed.push(host);
        }
        self.suspects.clear();
        let mut candidates = std::mem::take(&mut self.candidates);
        candidates.sort_by(|(a, x), (b, y)| {
            y.strong.cmp(&x.strong).then_with(|| y.score.total_cmp(&x.score)).then_with(|| a.cmp(b))
        });
        candidates.dedup_by_key(|(h, _)| *h);
        let weak = |w: &&Watched| !w.reason.strong;
        let mut weak_packets: u64 = self.hosts.values().filter(weak).map(|w| w.reason.packets).sum();
        let mut waiting = Vec::new();
        for (host, reason) in candidates {
            if self.hosts.contains_key(&host) {
                continue;
            }
            if !reason.strong && weak_packets + reason.packets > WEAK_PACKETS {
                continue;
            }
            let Some(slot) = self.free_slot() else {
                if !reason.strong {
                    break;
                }
                waiting.push(reason.score);
                continue;
            };
            if !reason.strong {
                weak_packets += reason.packets;
            }
            policy.set_watch_slot(host, slot);
            self.of_slot.insert(slot, host);
            let mut watched = Watched::new(slot, reason, now_ns);
            let early = self.early.remove(&host).unwrap_or_default();
            if self.ways.are_apart(workers) {
                // What was asked until now may have been answered where nobody looked.
                watched.scan.ignore_before(now_ns + TICK_NS);
            }
            for change in early {
                watched.take(&change, &clock, now_ns, &mut self.ways, workers);
            }
            self.hosts.insert(host, watched);
            changed.push(host);
        }
        self.starved = !waiting.is_empty();
        self.make_room(policy, &waiting, &mut changed);
        changed
    }

    /// A slot that nobody has.
    fn free_slot(&mut self) -> Option<WatchSlot> {
        if usize::from(self.next_slot.max(1)) < WATCHED_MAX {
            self.next_slot = self.next_slot.max(1) + 1;
            return Some(WatchSlot(self.next_slot - 1));
        }
        let free = self.freed.front().is_some_and(|(generation, _)| *generation < self.readers.current());
        free.then(|| self.freed.pop_front()).flatten().map(|(_, slot)| slot)
    }

    /// Takes slots of hosts with weaker reasons away for those who wait with strong ones (scores, the strongest first).
    /// They may be given again when the generation has ended. Hosts whose evidence is being collected come last: but were
    /// they never let go, a thousand that scan would hide all others.
    fn make_room(&mut self, policy: &Policy, waiting: &[f64], changed: &mut Vec<HostId>) {
        let Some(mut waiting) = waiting.get(self.freed.len()..).map(<[f64]>::iter) else { return };
        let Some(mut by) = waiting.next() else { return };
        let watched = self.hosts.iter();
        let mut weakest: Vec<(bool, bool, f64, HostId)> =
            watched.map(|(h, w)| (w.case, w.reason.strong, w.reason.score, *h)).collect();
        weakest.sort_by(|a, b| {
            (a.0, a.1).cmp(&(b.0, b.1)).then_with(|| a.2.total_cmp(&b.2)).then_with(|| a.3.cmp(&b.3))
        });
        for (case, strong, score, host) in weakest {
            // Those who come anew have seen less of their time: among equals, who is watched stays.
            if (case || strong) && score * STRONGER > *by {
                continue;
            }
            self.let_go(host, policy);
            changed.push(host);
            match waiting.next() {
                Some(next) => by = next,
                None => return,
            }
        }
    }

    fn let_go(&mut self, host: HostId, policy: &Policy) {
        if let Some(w) = self.hosts.remove(&host) {
            policy.set_watch_slot(host, WatchSlot(0));
            self.of_slot.remove(&w.slot);
            self.freed.push_back((policy.generation(), w.slot));
        }
    }
}

impl Watched {
    fn new(slot: WatchSlot, reason: Reason, now_ns: u64) -> Watched {
        Watched {
            slot,
            began_ns: now_ns,
            reason,
            reason_ns: now_ns,
            strong_ns: if reason.strong { now_ns } else { 0 },
            scan: HostScan::new(),
            hearing: Hearing::default(),
            flows: HostFlows::new(),
            remotes: Remotes::default(),
            mix: Mix::default(),
            recent: VecDeque::new(),
            new_flows: [0; 2],
            missed_ns: None,
            case: false,
        }
    }

    fn record(&mut self, r: Record) {
        let most = if self.case { RECENT_CASE_MAX } else { RECENT_MAX };
        // Once a case is open what led to it stays; before, the latest packets are the ones that matter.
        if self.recent.len() >= most {
            if self.case {
                return;
            }
            self.recent.pop_front();
        }
        self.recent.push_back(r);
    }

    fn take(
        &mut self,
        change: &reader::Change,
        clock: &region::facts::Clock,
        now_ns: u64,
        ways: &mut Ways,
        workers: usize,
    ) {
        let began_ns = self.began_ns;
        let flows::Taken { id, flow, is_new, is_kept, together } = self.flows.take(change, clock, began_ns);
        together.into_iter().for_each(|t| ways.note(t));
        // A row without ports, or beyond what is kept, finds no question by itself.
        let stray = !is_kept || flow.local_port == 0 || flow.remote_port == 0;
        if stray && flow.answered && change.packets[1] > 0 && ways.are_apart(workers) {
            self.scan.heard_from(flow.remote, flow.protocol, flow.last_ns);
        }
        match flow.opener {
            Opener::None | Opener::Reaction | Opener::Fragment => {}
            Opener::RemoteFirst => self.new_flows[1] += u64::from(is_new),
            _ => self.new_flows[0] += u64::from(is_new),
        }
        let inbound = change.packets[1] > change.packets[0];
        self.new_flows[usize::from(inbound)] += change.began;
        self.remotes.add(now_ns, change, is_new);
        self.mix.add(now_ns, change);
        self.scan.flow(FlowId(id), &flow);
    }

    /// The host's own address in the flow of a contact.
    pub(crate) fn local_of(&self, p: &crate::scan::Proof) -> Option<IpAddr> {
        self.flows.local_of(p)
    }

    /// Forgets what lies beyond every window. Call now and then.
    pub(crate) fn prune(&mut self, now_ns: u64) {
        self.flows.prune(now_ns.saturating_sub(LINGER_NS));
    }
}

/// An address out of the form that both families share.
pub(crate) fn address(a: u128) -> IpAddr {
    match u32::try_from(a ^ 0xffff_0000_0000) {
        Ok(v4) => Addr::V4(v4).into(),
        Err(_) => Addr::V6(a).into(),
    }
}
