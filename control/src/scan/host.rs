//! A watched host's contacts, from the packet that opens one to its outcome.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;

use super::finding::ScanFinding;
use super::flow::{Flow, FlowId, Opener, Refused, TCP};
use super::limits::{FAST_NS, SLOW_NS, ScanLimits};
use super::space::{is_bogon, is_group};
use super::tally::{Key, Outcome, Span, Tallies};

/// Contacts that are kept of a host. More than these in 300 s: the oldest that are decided are let go, and count on by
/// port only; while none is decided, new ones are counted as [`HostScan::overflow`].
pub const CONTACTS_MAX: usize = 8_192;
/// Events kept in order: each contact has one that is live, and those it had before it was repeated.
const EVENTS_MAX: usize = 2 * CONTACTS_MAX;
/// Remotes of which it is remembered when they were heard; as many as rows without ports of two workers in a minute.
const HEARD_MAX: usize = 4 * CONTACTS_MAX;
/// For so long, when there are that many.
const HEARD_NS: u64 = 10_000_000_000;
const SECOND_NS: u64 = 1_000_000_000;

/// What a judgement needs to know besides flows.
pub struct Env<'a> {
    /// Whether missing answers say anything: both directions are seen, and the box sees most connections answered.
    pub can_judge_silence: bool,
    /// Private and shared space counts as ordinary destinations: a laboratory.
    pub lab: bool,
    /// Whether an address is the provider's own.
    pub is_internal: &'a dyn Fn(IpAddr) -> bool,
    /// Whether an internal address is in use.
    pub is_live_internal: &'a dyn Fn(IpAddr) -> bool,
    /// Since when the host is locked, or blackholed inbound: what it asks from then on gets no answers, and silence says
    /// nothing. One whose answers are kept from it was locked from the beginning.
    pub locked_ns: Option<u64>,
    /// When something came in to the host for the last time, if until then it was spoken with: while nothing at all comes in,
    /// silence is more likely the way's fault than the host's.
    pub heard_ns: Option<u64>,
    /// When answers may have been missed for the last time: what was asked until then may not have been silent.
    pub missed_ns: Option<u64>,
}

impl Env<'_> {
    /// Whether silence says something about a contact that was opened at this time.
    fn is_told_by_silence(&self, opened_ns: u64) -> bool {
        self.can_judge_silence
            && self.locked_ns.is_none_or(|locked_ns| opened_ns < locked_ns)
            && self.missed_ns.is_none_or(|missed_ns| missed_ns < opened_ns)
    }

    /// Whether nothing at all has come in since a contact was opened.
    fn is_unheard(&self, opened_ns: u64) -> bool {
        self.heard_ns.is_some_and(|heard_ns| heard_ns < opened_ns)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Not yet seen by a judgement.
    Fresh,
    /// No answer yet.
    Pending,
    /// Counted.
    Counted(Outcome),
    /// Towards space in which nobody is.
    Bogon,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Contact {
    /// When it was opened.
    pub(super) first_ns: u64,
    /// When its outcome was counted.
    pub(super) at_ns: u64,
    /// Last packet of its flows.
    last_ns: u64,
    /// Opened anew at this time, later than the fast window.
    again_ns: Option<u64>,
    pub(super) size: u32,
    /// Which of its events is live.
    seq: u32,
    pub(super) local_port: u16,
    pub(super) opener: Opener,
    answered: bool,
    refused: Refused,
    pub(super) state: State,
    in_fast: bool,
    unused: bool,
    touched: bool,
}

#[derive(Clone, Copy, Debug)]
struct Event {
    at_ns: u64,
    key: Key,
    seq: u32,
}

/// What is known of one watched host.
///
/// Memory: at most [`CONTACTS_MAX`] contacts, as many ports and destinations, twice as many events, and 8,192 sums of
/// contacts let go: measured, at most 7 MiB for a host that fills them.
#[derive(Debug)]
pub struct HostScan {
    /// Contacts that may be kept, at most [`CONTACTS_MAX`].
    contacts_max: usize,
    pub(super) contacts: HashMap<Key, Contact>,
    /// Contacts to look at in the next judgement.
    touched: Vec<Key>,
    /// Contacts without an answer, by opening.
    pending: VecDeque<(u64, Key)>,
    /// Contacts opened within a second.
    recent: VecDeque<(u64, Key)>,
    /// Counted contacts, by time; those before `fast` have left the fast window.
    order: VecDeque<Event>,
    fast: usize,
    pub(super) tallies: Tallies,
    /// Local TCP ports on which the host accepts connections, a bit each.
    listens: Option<Box<[u64; 1024]>>,
    /// When something last came from a remote that may answer any of its contacts of a protocol.
    heard: HashMap<(IpAddr, u8), u64>,
    bogons: u32,
    overflow: u64,
    /// What the last judgement found.
    pub(super) found: Vec<ScanFinding>,
    pub(super) now_ns: u64,
    /// What was opened before is not counted.
    began_ns: u64,
}

impl Default for HostScan {
    fn default() -> HostScan {
        HostScan {
            contacts_max: CONTACTS_MAX,
            contacts: HashMap::new(),
            touched: Vec::new(),
            pending: VecDeque::new(),
            recent: VecDeque::new(),
            order: VecDeque::new(),
            fast: 0,
            tallies: Tallies::default(),
            listens: None,
            heard: HashMap::new(),
            bogons: 0,
            overflow: 0,
            found: Vec::new(),
            now_ns: 0,
            began_ns: 0,
        }
    }
}

impl HostScan {
    /// Nothing known.
    pub fn new() -> HostScan {
        HostScan::default()
    }

    /// Sets how many contacts may be kept from now on, where that is fewer than [`CONTACTS_MAX`].
    pub fn set_room(&mut self, contacts: usize) {
        self.contacts_max = contacts.min(CONTACTS_MAX);
    }

    /// Nothing known: what was opened before `now_ns` is forgotten, and does not come back.
    pub fn anew(now_ns: u64) -> HostScan {
        HostScan { now_ns, began_ns: now_ns, ..HostScan::new() }
    }

    /// Leaves out what was opened before `began_ns`.
    pub fn ignore_before(&mut self, began_ns: u64) {
        self.began_ns = began_ns;
    }

    /// Something came from a remote that may be an answer, and nothing says to which contact: it excuses what was asked of it
    /// until then.
    pub fn heard_from(&mut self, remote: IpAddr, protocol: u8, at_ns: u64) {
        if self.heard.len() >= HEARD_MAX && !self.heard.contains_key(&(remote, protocol)) {
            let since_ns = self.now_ns.saturating_sub(HEARD_NS);
            self.heard.retain(|_, t| *t >= since_ns);
            if self.heard.len() >= HEARD_MAX {
                return;
            }
        }
        let latest_ns = self.heard.entry((remote, protocol)).or_default();
        *latest_ns = at_ns.max(*latest_ns);
    }

    fn was_heard(&self, key: &Key, opened_ns: u64) -> bool {
        self.heard.get(&(key.remote, key.protocol)).is_some_and(|t| *t >= opened_ns)
    }

    /// Takes a row that is new or changed.
    pub fn flow(&mut self, _id: FlowId, f: &Flow) {
        if !f.opens_contact() {
            self.learn_listener(f);
            return;
        }
        if f.opener == Opener::Ack && self.listens_on(f.local_port) {
            return;
        }
        let key = Key { remote: f.remote, protocol: f.protocol, port: f.remote_port };
        let known = self.contacts.contains_key(&key);
        if !known && (!self.is_new(f) || f.first_ns < self.began_ns) {
            return;
        }
        if self.contacts.len() >= self.contacts_max && !known && !self.let_one_go() {
            self.overflow += 1;
            return;
        }
        // A row that outlives its contact opens it again when it goes on unanswered.
        let first_ns = if self.is_stale(f) { f.last_ns } else { f.first_ns };
        match self.contacts.entry(key) {
            Entry::Vacant(v) => {
                v.insert(Contact {
                    first_ns,
                    at_ns: 0,
                    last_ns: f.last_ns,
                    again_ns: None,
                    size: f.first_frame_len,
                    seq: 0,
                    local_port: f.local_port,
                    opener: f.opener,
                    answered: f.answered,
                    refused: f.refused,
                    state: State::Fresh,
                    in_fast: false,
                    unused: false,
                    touched: true,
                });
                self.touched.push(key);
            }
            Entry::Occupied(o) => {
                let c = o.into_mut();
                c.answered |= f.answered;
                c.last_ns = c.last_ns.max(f.last_ns);
                if c.refused == Refused::No || f.refused == Refused::Rst || f.refused == Refused::Unreachable
                {
                    c.refused = if f.refused == Refused::No { c.refused } else { f.refused };
                }
                let anew =
                    if f.first_ns > c.at_ns { Some(f.first_ns) } else { (!f.answered).then_some(f.last_ns) };
                if let (State::Counted(_), Some(t)) = (c.state, anew)
                    && t > c.at_ns.saturating_add(FAST_NS)
                {
                    c.again_ns = Some(t);
                }
                if !c.touched {
                    c.touched = true;
                    self.touched.push(key);
                }
            }
        }
    }

    /// Whether a row whose contact is not kept opens one: it is new since the last judgement, or goes on unanswered after
    /// its contact has left the slow window. Others belong to contacts that were let go, and are counted already.
    fn is_new(&self, f: &Flow) -> bool {
        f.first_ns.saturating_add(SECOND_NS) >= self.now_ns || (!f.answered && self.is_stale(f))
    }

    /// Whether the row began before the slow window.
    fn is_stale(&self, f: &Flow) -> bool {
        f.first_ns.saturating_add(SLOW_NS) < self.now_ns
    }

    /// Says which limits are crossed at `now_ns`. Called once a tick, after the tick's rows.
    pub fn judge(&mut self, now_ns: u64, limits: &ScanLimits, env: &Env<'_>) -> Vec<ScanFinding> {
        self.now_ns = self.now_ns.max(now_ns);
        let mut touched = std::mem::take(&mut self.touched);
        for key in touched.drain(..) {
            self.look_at(key, env);
        }
        self.touched = touched;
        self.decide_silent(limits, env);
        self.expire();
        self.found = if self.tallies.is_empty() { Vec::new() } else { self.findings(limits) };
        self.found.clone()
    }

    /// Distinct contacts to private, shared and other bogon space in the last 300 s: wrong configuration.
    pub fn bogons(&self) -> u32 {
        self.bogons
    }

    /// Openings that found no room.
    pub fn overflow(&self) -> u64 {
        self.overflow
    }

    /// Contacts that are kept.
    pub fn len(&self) -> usize {
        self.contacts.len()
    }

    /// Whether nothing is kept: the host may be let go.
    pub fn is_empty(&self) -> bool {
        self.contacts.is_empty() && self.tallies.is_empty()
    }

    fn learn_listener(&mut self, f: &Flow) {
        if f.shows_listener() {
            let ports = self.listens.get_or_insert_with(|| Box::new([0; 1024]));
            ports[usize::from(f.local_port / 64)] |= 1 << (f.local_port % 64);
        }
    }

    fn listens_on(&self, port: u16) -> bool {
        self.listens.as_ref().is_some_and(|p| p[usize::from(port / 64)] & 1 << (port % 64) != 0)
    }

    fn look_at(&mut self, key: Key, env: &Env<'_>) {
        let Some(c) = self.contacts.get_mut(&key) else { return };
        c.touched = false;
        let refused = matches!(c.refused, Refused::Rst | Refused::Unreachable);
        match c.state {
            State::Fresh => self.admit(key, env),
            State::Pending if c.answered => self.count(key, Outcome::Answered),
            State::Pending if refused => self.count(key, Outcome::Failed),
            State::Pending | State::Bogon => {}
            State::Counted(o) => {
                let better = match o {
                    Outcome::Failed | Outcome::Unknown | Outcome::Unheard if c.answered => Outcome::Answered,
                    Outcome::Unknown | Outcome::Unheard if refused => Outcome::Failed,
                    _ => o,
                };
                if better != o {
                    self.correct(key, o, better);
                }
                self.repeat(key, env);
            }
        }
    }

    fn admit(&mut self, key: Key, env: &Env<'_>) {
        let internal = (env.is_internal)(key.remote);
        let Some(c) = self.contacts.get_mut(&key) else { return };
        let late = c.first_ns.saturating_add(SLOW_NS) < self.now_ns;
        if is_group(key.remote) || late {
            self.contacts.remove(&key);
            return;
        }
        if !internal && !env.lab && is_bogon(key.remote) {
            c.state = State::Bogon;
            self.bogons += 1;
            self.push_event(key);
            return;
        }
        c.state = State::Pending;
        c.unused = internal && !(env.is_live_internal)(key.remote);
        let (first_ns, answered, refused) = (c.first_ns, c.answered, c.refused);
        self.recent.push_back((first_ns, key));
        if self.recent.len() > CONTACTS_MAX {
            self.recent.pop_front();
        }
        if answered {
            self.count(key, Outcome::Answered);
        } else if matches!(refused, Refused::Rst | Refused::Unreachable) {
            self.count(key, Outcome::Failed);
        } else {
            if self.pending.len() >= EVENTS_MAX {
                let contacts = &self.contacts;
                self.pending.retain(|(_, k)| contacts.get(k).is_some_and(|c| c.state == State::Pending));
            }
            self.pending.push_back((first_ns, key));
        }
    }

    /// How long silence has to last: shorter for those who open contacts fast and are hardly answered.
    fn silence_ns(&mut self, limits: &ScanLimits) -> u64 {
        while self.recent.front().is_some_and(|(t, _)| t.saturating_add(SECOND_NS) <= self.now_ns) {
            self.recent.pop_front();
        }
        let few = usize::try_from(limits.fast_contacts).unwrap_or(usize::MAX);
        if limits.fast_contacts == 0 || self.recent.len() < few {
            return limits.silence_ns;
        }
        let (mut aged, mut answered) = (0usize, 0usize);
        for (t, key) in &self.recent {
            if t.saturating_add(limits.silence_fast_ns) > self.now_ns {
                break;
            }
            if let Some(c) = self.contacts.get(key) {
                aged += 1;
                answered += usize::from(c.answered || self.was_heard(key, c.first_ns));
            }
        }
        let percent = usize::try_from(limits.fast_answered_percent).unwrap_or(0);
        // A tenth of a second's contacts is enough to tell.
        let hardly = aged >= few / 10 && answered * 100 < aged * percent;
        if hardly { limits.silence_fast_ns } else { limits.silence_ns }
    }

    fn decide_silent(&mut self, limits: &ScanLimits, env: &Env<'_>) {
        let silence_ns = self.silence_ns(limits);
        while let Some((first_ns, key)) = self.pending.front().copied() {
            let unheard = env.is_unheard(first_ns);
            // What nobody hears is not decided in haste.
            let wait_ns = if unheard { limits.silence_ns.max(silence_ns) } else { silence_ns };
            if first_ns.saturating_add(wait_ns) > self.now_ns {
                break;
            }
            self.pending.pop_front();
            let Some(c) = self.contacts.get_mut(&key).filter(|c| c.state == State::Pending) else { continue };
            c.last_ns = c.first_ns.saturating_add(wait_ns);
            let (opener, port, exceeded) = (c.opener, c.local_port, c.refused == Refused::TimeExceeded);
            let keeps_up = opener == Opener::Ack && key.protocol == TCP && self.listens_on(port);
            let silent = env.is_told_by_silence(first_ns) && !exceeded && !keeps_up;
            let outcome = match (silent, unheard) {
                _ if self.was_heard(&key, first_ns) => Outcome::Answered,
                (true, false) => Outcome::Failed,
                (true, true) => Outcome::Unheard,
                (false, _) => Outcome::Unknown,
            };
            self.count(key, outcome);
        }
    }

    /// Gives a contact its outcome.
    fn count(&mut self, key: Key, o: Outcome) {
        let Some(c) = self.contacts.get_mut(&key) else { return };
        c.state = State::Counted(o);
        c.in_fast = true;
        let unused = c.unused;
        self.tallies.change(Span::Fast, &key, o, unused, true);
        self.tallies.change(Span::Slow, &key, o, unused, true);
        self.push_event(key);
    }

    /// An answer that comes late excuses; a refusal that comes late tells.
    fn correct(&mut self, key: Key, was: Outcome, is: Outcome) {
        let Some(c) = self.contacts.get_mut(&key) else { return };
        c.state = State::Counted(is);
        let (unused, in_fast) = (c.unused, c.in_fast);
        for s in [Span::Fast, Span::Slow] {
            if s == Span::Slow || in_fast {
                self.tallies.change(s, &key, was, unused, false);
                self.tallies.change(s, &key, is, unused, true);
            }
        }
    }

    /// A contact that is opened again after it left the fast window counts in it again, with the outcome it had until
    /// another is seen.
    fn repeat(&mut self, key: Key, env: &Env<'_>) {
        let room = self.order.len() < EVENTS_MAX;
        let Some(c) = self.contacts.get_mut(&key) else { return };
        let Some(again_ns) = c.again_ns.take() else { return };
        let State::Counted(o) = c.state else { return };
        let left = !c.in_fast || c.at_ns.saturating_add(FAST_NS) <= self.now_ns;
        if !left || !room || !env.is_told_by_silence(again_ns) {
            return;
        }
        let (was_in_fast, unused) = (c.in_fast, c.unused);
        c.first_ns = again_ns;
        c.last_ns = c.last_ns.max(again_ns);
        c.in_fast = true;
        c.seq = c.seq.wrapping_add(1);
        if !was_in_fast {
            self.tallies.change(Span::Fast, &key, o, unused, true);
        }
        self.push_event(key);
    }

    /// Puts a contact last in the order of time.
    fn push_event(&mut self, key: Key) {
        let back_ns = self.order.back().map_or(0, |e| e.at_ns);
        let Some(c) = self.contacts.get_mut(&key) else { return };
        c.at_ns = c.last_ns.min(self.now_ns).max(back_ns);
        self.order.push_back(Event { at_ns: c.at_ns, key, seq: c.seq });
    }

    fn expire(&mut self) {
        while let Some(e) = self.order.get(self.fast).copied() {
            if e.at_ns.saturating_add(FAST_NS) > self.now_ns {
                break;
            }
            self.fast += 1;
            let Some(c) = self.contacts.get_mut(&e.key).filter(|c| c.seq == e.seq && c.in_fast) else {
                continue;
            };
            c.in_fast = false;
            if let State::Counted(o) = c.state {
                let unused = c.unused;
                self.tallies.change(Span::Fast, &e.key, o, unused, false);
            }
        }
        while let Some(e) = self.order.front().copied() {
            if e.at_ns.saturating_add(SLOW_NS) > self.now_ns {
                break;
            }
            self.order.pop_front();
            self.fast = self.fast.saturating_sub(1);
            let Entry::Occupied(o) = self.contacts.entry(e.key) else { continue };
            if o.get().seq != e.seq {
                continue;
            }
            let c = o.remove();
            match c.state {
                State::Counted(o) => self.tallies.change(Span::Slow, &e.key, o, c.unused, false),
                State::Bogon => self.bogons = self.bogons.saturating_sub(1),
                State::Fresh | State::Pending => {}
            }
        }
        self.tallies.expire_ghosts(self.now_ns);
    }

    /// Lets the oldest counted contact go. False when none is counted.
    fn let_one_go(&mut self) -> bool {
        while let Some(e) = self.order.pop_front() {
            self.fast = self.fast.saturating_sub(1);
            let Entry::Occupied(o) = self.contacts.entry(e.key) else { continue };
            if o.get().seq != e.seq {
                continue;
            }
            let c = o.remove();
            match c.state {
                State::Counted(o) => {
                    if c.in_fast {
                        self.tallies.let_go(Span::Fast, &e.key, o, c.unused, e.at_ns.saturating_add(FAST_NS));
                    }
                    self.tallies.let_go(Span::Slow, &e.key, o, c.unused, e.at_ns.saturating_add(SLOW_NS));
                }
                State::Bogon => self.bogons = self.bogons.saturating_sub(1),
                State::Fresh | State::Pending => {}
            }
            return true;
        }
        false
    }
}
