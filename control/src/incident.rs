//! Incidents: opened by a finding, growing while it lasts, closed after silence.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use api::{Action, ActionTaken, Direction, IncidentRow, Kind, State, Step, Time, TimelineEntry};
use config::{Measure, Rule, Way};

use crate::detect::Finding;
use crate::effect::Now;
use crate::netconfig;
use crate::scan::Variant;
use crate::store::Gone;

/// An incident closes when nothing was found for so long.
pub const QUIET_NS: u64 = 300 * 1_000_000_000;
/// An open incident in which nothing was found for so long is called quiet.
pub const LULL_NS: u64 = 10 * 1_000_000_000;
/// Found again so long after it was opened, it is called growing.
const GROWS_NS: u64 = 1_000_000_000;
/// Entries of a timeline. An attack that comes and goes for days must not fill the store.
const TIMELINE_MAX: usize = 200;
/// Closed incidents kept in memory for `cordon incidents`; all are in the store.
const CLOSED_KEPT: usize = 10_000;

/// What is known of an open incident besides its row.
#[derive(Clone, Debug)]
pub struct Open {
    /// The row.
    pub row: IncidentRow,
    /// The rule.
    pub rule: Rule,
    /// Monotonic time of the last finding.
    pub last_ns: u64,
    /// Monotonic time of the first warning.
    pub warned_ns: Option<u64>,
    /// Whether the stored row is behind.
    pub dirty: bool,
    /// Monotonic time of its opening.
    opened_ns: u64,
    /// Somebody approved of its lock before anything was written: its evidence begins with the next finding.
    pub wants_evidence: bool,
}

/// All incidents.
#[derive(Clone, Debug, Default)]
pub struct Incidents {
    open: BTreeMap<(String, Rule), Open>,
    /// By number: in order of opening.
    closed: BTreeMap<u64, IncidentRow>,
    /// Open ones by number.
    keys: BTreeMap<u64, (String, Rule)>,
    /// Closed ones to which something happened since they were last stored.
    changed: BTreeSet<u64>,
    last: u64,
    /// Opened since start, by kind.
    pub opened: BTreeMap<Kind, u64>,
}

/// What kind of incident a rule's finding is.
pub fn kind(rule: Rule) -> Kind {
    match rule {
        Rule::Limit(_, Way::Out) => Kind::AttackOut,
        Rule::Limit(_, Way::In) => Kind::AttackIn,
        Rule::Netscan => Kind::Netscan,
        Rule::Portscan => Kind::Portscan,
        Rule::Misconfiguration => Kind::Misconfiguration,
    }
}

/// The direction of a rule.
pub fn direction(rule: Rule) -> Direction {
    match rule {
        Rule::Limit(_, Way::Out) | Rule::Netscan | Rule::Portscan | Rule::Misconfiguration => Direction::Out,
        Rule::Limit(_, Way::In) => Direction::In,
    }
}

fn measure(rule: Rule) -> &'static str {
    match rule {
        Rule::Limit(m, _) => m.name(),
        Rule::Netscan | Rule::Portscan => "contacts",
        Rule::Misconfiguration => "frames",
    }
}

/// The name of an IP protocol number in incidents.
fn protocol_name(number: u8) -> String {
    match number {
        1 | 58 => "icmp".to_owned(),
        6 => "tcp".to_owned(),
        17 => "udp".to_owned(),
        n => format!("ip-{n}"),
    }
}

fn protocol(f: &Finding) -> Option<String> {
    let p = match f.rule {
        Rule::Limit(Measure::Syn, _) => "tcp",
        Rule::Limit(Measure::Udp, _) => "udp",
        Rule::Limit(Measure::Icmp, _) => "icmp",
        Rule::Limit(..) => return None,
        Rule::Netscan | Rule::Portscan => return f.scan.as_ref().map(|s| protocol_name(s.protocol)),
        Rule::Misconfiguration => return None,
    };
    Some(p.to_owned())
}

/// Where an incident stands about which so much was done.
fn state_of(action: Action) -> State {
    match action {
        Action::Observe => State::Opened,
        Action::Warn => State::Warned,
        Action::Lock => State::Locked,
    }
}

/// `C-YYYY-NNNNNN` ends in the incident's number.
fn number(id: &str) -> u64 {
    id.rsplit('-').next().and_then(|n| n.parse().ok()).unwrap_or(0)
}

fn note(row: &mut IncidentRow, step: Step, detail: Option<String>, at: Time) {
    if row.timeline.len() < TIMELINE_MAX {
        row.timeline.push(TimelineEntry { at, step, detail });
    }
}

/// What tells open incidents about wrong configuration apart.
pub fn link_key(case: &str, mac: &str) -> String {
    format!("{case} {mac}")
}

impl Incidents {
    /// With what the store had. Incidents that were open go on: an upgrade of the brain is no end of an attack, and a
    /// warning keeps its deadline. What is silent closes in its time.
    pub fn restore(rows: Vec<IncidentRow>, last: u64, now: Now) -> Incidents {
        let mut all = Incidents { last, ..Incidents::default() };
        for mut row in rows {
            if row.timeline.is_empty() {
                // From before there were timelines.
                row.state = if row.closed.is_some() { State::Closed } else { state_of(row.action) };
            }
            let rule = row.rule.split('/').next().and_then(|r| r.parse().ok());
            let key = match (rule, &row.case, &row.mac) {
                (Some(Rule::Misconfiguration), Some(case), Some(mac)) => Some(link_key(case, mac)),
                _ => row.address.clone(),
            };
            let (None, Some(rule), Some(address)) = (row.closed, rule, key) else {
                let closed = Some(row.closed.unwrap_or(now.time()));
                all.closed.insert(number(&row.id), IncidentRow { closed, state: State::Closed, ..row });
                continue;
            };
            let never = |case: &str| Variant::ALL.iter().any(|v| v.name() == case && !v.may_lock());
            let may_lock = !row.case.as_deref().is_some_and(never);
            let warned =
                row.actions.iter().filter(|_| may_lock).find(|a| a.action >= Action::Warn).map(|a| a.at);
            let ago_ms = |t: Time| u64::try_from(now.time().unix_ms() - t.unix_ms()).unwrap_or(0);
            let warned_ns = warned.map(|t| now.mono_ns.saturating_sub(ago_ms(t).saturating_mul(1_000_000)));
            let opened_ns = now.mono_ns.saturating_sub(ago_ms(row.opened).saturating_mul(1_000_000));
            let open = Open {
                row,
                rule,
                last_ns: now.mono_ns,
                warned_ns,
                dirty: false,
                opened_ns,
                wants_evidence: false,
            };
            all.keys.insert(number(&open.row.id), (address.clone(), rule));
            all.open.insert((address, rule), open);
        }
        all
    }

    /// The open incident of a host and rule.
    pub fn get(&mut self, address: &str, rule: Rule) -> Option<&mut Open> {
        self.open.get_mut(&(address.to_owned(), rule))
    }

    /// Opens one.
    pub fn open(
        &mut self,
        address: &str,
        group: &str,
        f: &Finding,
        at: Time,
        first: Time,
        mono_ns: u64,
    ) -> &mut Open {
        self.last += 1;
        let kind = kind(f.rule);
        *self.opened.entry(kind).or_default() += 1;
        let row = IncidentRow {
            id: format!("C-{}-{:06}", at.year(), self.last),
            kind,
            address: Some(address.to_owned()),
            mac: None,
            direction: direction(f.rule),
            action: Action::Observe,
            actions: Vec::new(),
            rule: format!("{}/{group}", f.rule),
            opened: at,
            first_seen: first,
            last_seen: at,
            protocol: protocol(f),
            case: f.scan.as_ref().map(|s| s.variant.name().to_owned()),
            ports: f.scan.as_ref().map(|s| s.ports.clone()).unwrap_or_default(),
            attack: None,
            contacts: f.scan.as_ref().map_or(0, |s| s.contacts.into()),
            answered: f.scan.as_ref().map_or(0, |s| s.answered.into()),
            measure: measure(f.rule).to_owned(),
            window: f.over.name(),
            limit: f.limit,
            peak: f.observed,
            packets: 0,
            bytes: 0,
            seconds: 1,
            dropped: 0,
            held_back: None,
            would: None,
            state: State::Opened,
            timeline: Vec::new(),
            closed: None,
            files: Vec::new(),
            files_removed: None,
            server: None,
            customer: None,
        };
        let mut open = Open {
            row,
            rule: f.rule,
            last_ns: mono_ns,
            warned_ns: None,
            dirty: true,
            opened_ns: mono_ns,
            wants_evidence: false,
        };
        open.note(Step::Opened, None, at);
        self.keys.insert(self.last, (address.to_owned(), f.rule));
        self.open.entry((address.to_owned(), f.rule)).insert_entry(open).into_mut()
    }

    /// Opens one about wrong network configuration.
    pub fn open_link(&mut self, f: &netconfig::Finding, at: Time, first: Time, mono_ns: u64) -> &mut Open {
        let rule = Rule::Misconfiguration;
        let finding = Finding {
            rule,
            level: crate::detect::Level::Warn,
            over: crate::detect::Over::Fast,
            limit: 0,
            observed: f.count,
            scan: None,
        };
        let key = link_key(f.case.name(), &f.mac.to_string());
        let open = self.open(&key, "default", &finding, at, first, mono_ns);
        open.row.address = f.address.map(|a| a.to_string());
        open.row.mac = Some(f.mac.to_string());
        open.row.case = Some(f.case.name().to_owned());
        open.row.window = "any".to_owned();
        open
    }

    /// Closes those in which nothing was found for [`QUIET_NS`].
    pub fn close_quiet(&mut self, mono_ns: u64, at: Time) -> Vec<IncidentRow> {
        let quiet: Vec<_> = self
            .open
            .iter()
            .filter(|(_, o)| o.last_ns + QUIET_NS <= mono_ns)
            .map(|(k, _)| k.clone())
            .collect();
        let mut rows = Vec::new();
        for key in quiet {
            if let Some(mut o) = self.open.remove(&key) {
                o.row.closed = Some(at);
                o.row.state = State::Closed;
                note(&mut o.row, Step::Closed, None, at);
                rows.push(o.row.clone());
                self.keys.remove(&number(&o.row.id));
                self.closed.insert(number(&o.row.id), o.row);
            }
        }
        while self.closed.len() > CLOSED_KEPT {
            self.closed.pop_first();
        }
        rows
    }

    /// Says of open ones in which nothing was found for [`LULL_NS`] that they are quiet.
    pub fn note_lulls(&mut self, mono_ns: u64, at: Time) {
        for o in self.open.values_mut() {
            if o.row.state != State::Quiet && o.last_ns + LULL_NS <= mono_ns {
                o.row.state = State::Quiet;
                o.note(Step::Quiet, None, at);
            }
        }
    }

    /// Notes what happened to an incident, open or closed.
    pub fn note(&mut self, id: &str, step: Step, detail: Option<String>, at: Time) {
        let n = number(id);
        if let Some(row) = self.closed.get_mut(&n) {
            note(row, step, detail, at);
            self.changed.insert(n);
        } else if let Some(open) = self.keys.get(&n).and_then(|k| self.open.get_mut(k)) {
            open.note(step, detail, at);
        }
    }

    /// The store has forgotten an incident, or removed its files.
    pub fn gone(&mut self, g: &Gone) {
        let n = number(&g.incident);
        if g.forgotten {
            self.changed.remove(&n);
            self.closed.remove(&n);
        } else if let Some(row) = self.closed.get_mut(&n) {
            row.files_removed = Some(g.at);
        }
    }

    /// Whether a rule has locked an address, by another incident than `id`, within a time.
    pub fn locked_within(&self, address: &str, rule: &str, id: &str, within: Range<Time>) -> bool {
        let same = |r: &&IncidentRow| {
            r.id != id
                && r.address.as_deref() == Some(address)
                && r.rule.split('/').next() == Some(rule)
                && r.actions.iter().any(|a| a.action == Action::Lock && within.contains(&a.at))
        };
        self.closed.values().any(|r| same(&r))
    }

    /// Rows that changed since they were last stored.
    pub fn take_dirty(&mut self) -> Vec<IncidentRow> {
        let changed = std::mem::take(&mut self.changed);
        let closed = changed.iter().filter_map(|n| self.closed.get(n)).cloned();
        let dirty = self.open.values_mut().filter(|o| o.dirty);
        let open = dirty.map(|o| {
            o.dirty = false;
            o.row.clone()
        });
        closed.chain(open).collect()
    }

    /// Open incidents.
    pub fn open_rows(&self) -> impl Iterator<Item = &Open> {
        self.open.values()
    }

    /// How many are open.
    pub fn open_count(&self) -> u64 {
        self.open.len() as u64
    }

    /// All that are in memory, in order of opening.
    pub fn rows(&self) -> Vec<&IncidentRow> {
        let mut rows: Vec<&IncidentRow> =
            self.closed.values().chain(self.open.values().map(|o| &o.row)).collect();
        rows.sort_by(|a, b| a.opened.cmp(&b.opened).then_with(|| a.id.cmp(&b.id)));
        rows
    }

    /// One by its id.
    pub fn by_id(&self, id: &str) -> Option<&IncidentRow> {
        let closed = self.closed.get(&number(id)).filter(|r| r.id == id);
        let open = || self.keys.get(&number(id)).and_then(|k| self.open.get(k));
        closed.or_else(|| open().map(|o| &o.row).filter(|r| r.id == id))
    }
}

impl Open {
    /// Records that something was done. True when it goes further than before.
    pub fn act(&mut self, action: Action, at: Time) -> bool {
        let further = action > self.row.action || self.row.actions.is_empty();
        if further {
            self.row.action = action;
            self.row.actions.push(ActionTaken { action, at });
            self.dirty = true;
            match action {
                Action::Observe => {}
                Action::Warn => self.note(Step::Warned, None, at),
                Action::Lock => self.note(Step::Locked, None, at),
            }
            if action > Action::Observe {
                self.row.state = state_of(action);
            }
        }
        further
    }

    /// Records that more would have been done.
    pub fn would(&mut self, action: Action, at: Time) {
        if self.row.would.is_some_and(|w| w >= action) {
            return;
        }
        self.row.would = Some(action);
        self.dirty = true;
        match action {
            Action::Observe => {}
            Action::Warn => self.note(Step::WouldWarn, None, at),
            Action::Lock => self.note(Step::WouldLock, None, at),
        }
    }

    /// It was found again.
    pub fn found(&mut self, mono_ns: u64, at: Time) {
        self.last_ns = mono_ns;
        self.row.last_seen = at;
        match self.row.state {
            State::Quiet => {
                self.row.state = match self.row.action {
                    Action::Observe => State::Growing,
                    a => state_of(a),
                };
                self.note(Step::Active, None, at);
            }
            State::Opened if self.opened_ns + GROWS_NS <= mono_ns => {
                self.row.state = State::Growing;
                self.note(Step::Growing, None, at);
            }
            State::Opened | State::Growing | State::Warned | State::Locked | State::Closed => {}
        }
    }

    /// An entry of the timeline.
    pub fn note(&mut self, step: Step, detail: Option<String>, at: Time) {
        note(&mut self.row, step, detail, at);
        self.dirty = true;
    }
}
