//! How many contacts failed, were answered, or cannot be judged, over each window; by port, by destination, together.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use super::flow::{TCP, UDP};
use crate::detect::Level;

/// What names a contact: retries from other source ports are the same contact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) remote: IpAddr,
    pub(super) protocol: u8,
    pub(super) port: u16,
}

/// How a contact ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Outcome {
    Failed,
    Answered,
    /// Silent while silence says nothing, or stopped by time exceeded.
    Unknown,
    /// Silent while nothing at all came in to the host: worth a warning, no proof.
    Unheard,
}

/// One of the two windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Span {
    Fast,
    Slow,
}

/// Contacts by outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Count {
    pub(super) failed: u32,
    pub(super) answered: u32,
    pub(super) unknown: u32,
    pub(super) unheard: u32,
}

impl Count {
    fn of(&mut self, o: Outcome) -> &mut u32 {
        match o {
            Outcome::Failed => &mut self.failed,
            Outcome::Answered => &mut self.answered,
            Outcome::Unknown => &mut self.unknown,
            Outcome::Unheard => &mut self.unheard,
        }
    }

    fn change(&mut self, o: Outcome, n: u32, plus: bool) {
        let c = self.of(o);
        *c = if plus { c.saturating_add(n) } else { c.saturating_sub(n) };
    }

    pub(super) fn sum(&self) -> u32 {
        self.lost(Level::Warn).saturating_add(self.answered).saturating_add(self.unknown)
    }

    /// Contacts that failed, as far as they may be held against the host.
    pub(super) fn lost(&self, level: Level) -> u32 {
        match level {
            Level::Warn => self.failed.saturating_add(self.unheard),
            Level::Lock => self.failed,
        }
    }

    /// Whether at least `percent` of the contacts failed.
    pub(super) fn failed_share(&self, level: Level, percent: u32) -> bool {
        u64::from(self.lost(level)) * 100 >= u64::from(self.sum()) * u64::from(percent)
    }

    /// As a destination: answered anywhere, else failed anywhere, else unheard anywhere, else unknown.
    fn as_one(&self) -> Option<Outcome> {
        match (self.answered, self.failed, self.unheard, self.unknown) {
            (0, 0, 0, 0) => None,
            (0, 0, 0, _) => Some(Outcome::Unknown),
            (0, 0, _, _) => Some(Outcome::Unheard),
            (0, _, _, _) => Some(Outcome::Failed),
            _ => Some(Outcome::Answered),
        }
    }
}

/// Contacts over both windows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) fast: Count,
    pub(super) slow: Count,
}

impl Tally {
    fn over(&mut self, s: Span) -> &mut Count {
        match s {
            Span::Fast => &mut self.fast,
            Span::Slow => &mut self.slow,
        }
    }

    fn is_empty(&self) -> bool {
        self.fast.sum() == 0 && self.slow.sum() == 0
    }
}

/// A destination: contacts of every kind, and those to ports of TCP and UDP.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Destination {
    all: Tally,
    pub(super) ports: Tally,
}

/// A protocol and port.
pub(super) type Port = (u8, u16);

/// All tallies of a host.
#[derive(Debug, Default)]
pub(super) struct Tallies {
    /// By protocol and port: distinct destinations.
    pub(super) ports: HashMap<Port, Tally>,
    /// By destination: distinct ports.
    pub(super) hosts: HashMap<IpAddr, Destination>,
    /// All contacts.
    pub(super) total: Tally,
    /// Distinct destinations; one that answered on any port counts as answered.
    pub(super) destinations: Tally,
    /// Failed contacts to unused internal addresses in the slow window.
    pub(super) unused: u32,
    /// Contacts that were let go before their time still count by port until it comes: (second in which it does, port,
    /// outcome) → how many; one map for each window.
    ghosts: [BTreeMap<(u64, Port, Outcome), u32>; 2],
}

/// Entries of each map of ghosts; beyond them a contact stops to count when it is let go.
const GHOSTS_MAX: usize = 4_096;
const SECOND_NS: u64 = 1_000_000_000;

impl Tallies {
    /// Counts a contact in (`plus`) or out of a window.
    pub(super) fn change(&mut self, s: Span, k: &Key, o: Outcome, unused: bool, plus: bool) {
        self.change_port(s, (k.protocol, k.port), o, 1, plus);
        self.change_host(s, k, o, plus);
        if unused && o == Outcome::Failed && s == Span::Slow {
            self.unused = if plus { self.unused + 1 } else { self.unused.saturating_sub(1) };
        }
    }

    fn change_port(&mut self, s: Span, port: Port, o: Outcome, n: u32, plus: bool) {
        self.total.over(s).change(o, n, plus);
        let t = self.ports.entry(port).or_default();
        t.over(s).change(o, n, plus);
        if t.is_empty() {
            self.ports.remove(&port);
        }
    }

    fn change_host(&mut self, s: Span, k: &Key, o: Outcome, plus: bool) {
        let d = self.hosts.entry(k.remote).or_default();
        let before = d.all.over(s).as_one();
        d.all.over(s).change(o, 1, plus);
        let after = d.all.over(s).as_one();
        if matches!(k.protocol, TCP | UDP) {
            d.ports.over(s).change(o, 1, plus);
        }
        if d.all.is_empty() {
            self.hosts.remove(&k.remote);
        }
        if before != after {
            let all = self.destinations.over(s);
            if let Some(o) = before {
                all.change(o, 1, false);
            }
            if let Some(o) = after {
                all.change(o, 1, true);
            }
        }
    }

    /// Lets a contact go before it leaves a window at `leaves_ns`: its destination stops to count, its port does not.
    pub(super) fn let_go(&mut self, s: Span, k: &Key, o: Outcome, unused: bool, leaves_ns: u64) {
        let port = (k.protocol, k.port);
        let ghosts = &mut self.ghosts[s as usize];
        let entry = (leaves_ns / SECOND_NS + 1, port, o);
        if ghosts.len() >= GHOSTS_MAX && !ghosts.contains_key(&entry) {
            self.change(s, k, o, unused, false);
            return;
        }
        *ghosts.entry(entry).or_default() += 1;
        self.change_host(s, k, o, false);
        if unused && o == Outcome::Failed && s == Span::Slow {
            self.unused = self.unused.saturating_sub(1);
        }
    }

    /// Ends the ghosts whose time has come.
    pub(super) fn expire_ghosts(&mut self, now_ns: u64) {
        for s in [Span::Fast, Span::Slow] {
            while let Some(e) = self.ghosts[s as usize].first_entry() {
                let (second, port, o) = *e.key();
                if second * SECOND_NS > now_ns {
                    break;
                }
                let n = e.remove();
                self.change_port(s, port, o, n, false);
            }
        }
    }

    /// Whether anything counts.
    pub(super) fn is_empty(&self) -> bool {
        self.total.is_empty()
    }
}
