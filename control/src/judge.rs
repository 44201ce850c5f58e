//! The ladder: from a finding to observing, warning, or a lock.

#[cfg(test)]
mod tests;

use api::{Action, LockRow, Reason, Target, Time};
use config::{Ceiling, LockScope, Rule, Way};
use ipnet::IpNet;
use region::HostId;

use crate::breaker::Permit;
use crate::control::Control;
use crate::detect::{Finding, Level, needs_answers};
use crate::effect::StoreOp;
use crate::incident::direction;
use crate::window::{SLOW_NS, Sums};

/// A host as a person writes it: IPv4 hosts without their length.
pub(crate) fn name(net: &IpNet) -> String {
    Target::Prefix(*net).to_string()
}

fn further_than(action: Action, ceiling: Ceiling) -> bool {
    match ceiling {
        Ceiling::Observe => action > Action::Observe,
        Ceiling::Warn => action > Action::Warn,
        Ceiling::Lock => false,
    }
}

fn highest(ceiling: Ceiling) -> Action {
    match ceiling {
        Ceiling::Observe => Action::Observe,
        Ceiling::Warn => Action::Warn,
        Ceiling::Lock => Action::Lock,
    }
}

impl Control {
    /// Deals with one finding about one host.
    pub(crate) fn judge(&mut self, host: HostId, group: &str, f: &Finding, sums: &Sums, span_ns: u64) {
        let facts = self.facts().cloned();
        let Some(net) = self.networks.target(host, facts.as_deref()) else { return };
        let address = name(&net);
        let settings = self.config.rule(f.rule);
        let (now_ns, at) = (self.now.mono_ns, self.now.time());
        // What proves a scan says when it began; a limit is about its window at most.
        let began = match &f.scan {
            Some(s) => s.first_ns,
            None => {
                self.windows.get(&host).map_or(now_ns, |w| w.began_ns).max(now_ns.saturating_sub(SLOW_NS))
            }
        };
        let first = at.plus_ms(-i64::try_from(now_ns.saturating_sub(began) / 1_000_000).unwrap_or(0));
        if self.incidents.get(&address, f.rule).is_none() {
            let server = self.server_of(&Target::Prefix(net));
            let (server, customer) = server.map(|s| (s.id.clone(), s.customer.clone())).unzip();
            let open = self.incidents.open(&address, group, f, at, first, now_ns);
            (open.row.server, open.row.customer) = (server, customer.flatten());
        }
        let attack = self.attack(host, f, sums);
        // What the slow window holds, in which time it came.
        let seconds = self.windows.get(&host).map_or(1, |w| w.seconds(now_ns));
        let (mut action, locked_before, warned_ns) = match self.incidents.get(&address, f.rule) {
            None => return,
            Some(open) => {
                grow(open, f, sums, seconds, at, now_ns);
                if let Some(better) = attack.and_then(|a| crate::attack::better(open.row.attack.as_ref(), a))
                {
                    // Another name is stored at once; a share that grows is like a peak.
                    let same = open.row.attack.as_ref().is_some_and(|a| a.name == better.name);
                    open.dirty |= !same;
                    open.row.attack = Some(better);
                }
                let action = match f.level {
                    Level::Warn => Action::Warn,
                    Level::Lock => Action::Lock,
                };
                (action, open.row.action == Action::Lock, open.warned_ns)
            }
        };
        // A warning that is still true at its deadline becomes a lock.
        let overdue = |d: std::time::Duration| {
            warned_ns.is_some_and(|w| u128::from(now_ns.saturating_sub(w)) >= d.as_nanos())
        };
        if action == Action::Warn && settings.deadline.is_some_and(overdue) {
            action = Action::Lock;
        }
        self.grow_case(&address, f);
        if let Some(id) = self.lock_of(&address, f.rule) {
            self.offended.insert(id, at);
            // An earlier incident locked it, and nobody has lifted that: there is nothing more to do.
            let stands = self.locks.get(id).is_some_and(|r| r.suspended.is_none());
            if !locked_before
                && stands
                && let Some(open) = self.incidents.get(&address, f.rule)
            {
                open.act(Action::Lock, at);
            }
            if action == Action::Lock {
                self.offends_in_maintenance(&address, f.rule);
            }
            let wants = |o: &mut crate::incident::Open| std::mem::take(&mut o.wants_evidence);
            if self.incidents.get(&address, f.rule).is_some_and(wants) {
                self.open_case(host, &address, f);
            }
            return;
        }
        // What the rule comes to by itself, were nothing in its way.
        let can_judge = !needs_answers(f.rule) || (self.blind(&net).is_none() && !self.rtbh.hides(&net));
        let would = if can_judge { action.min(highest(f.ceiling())) } else { Action::Observe };
        let (ceiling, mut why) = self.ceiling(&net, f, settings.action, at);
        if further_than(action, ceiling) {
            action = highest(ceiling);
        } else {
            why = None;
        }
        if action == Action::Lock {
            let asked = self.breakers.ask(
                f.rule,
                &address,
                &self.config.breaker,
                self.stats.sending_hosts,
                now_ns,
                at,
            );
            if asked != Permit::Granted {
                why = Some(format!(
                    "the breaker of {} is latched: it only observes; see `cordon breaker status`",
                    f.rule
                ));
                action = Action::Observe;
            }
            if asked == Permit::LatchedNow {
                self.breaker_latched(f.rule, at);
            }
        }
        let Some(open) = self.incidents.get(&address, f.rule) else { return };
        let again = action == Action::Lock && locked_before;
        let new = open.act(action, at) || again;
        if action < would {
            open.would(would, at);
        }
        // What held it back stays said while the attack fades; it is over when more is done.
        if why != open.row.held_back && (why.is_some() || new) {
            open.row.held_back = why;
            open.dirty = true;
        }
        // The deadline runs for what may become a lock: a busy mail server is warned of all day, and its first bad minute
        // is not the end of an hour.
        if action >= Action::Warn && open.warned_ns.is_none() && f.ceiling() == Ceiling::Lock {
            open.warned_ns = Some(now_ns);
        }
        if !new {
            return;
        }
        let id = open.row.id.clone();
        if action == Action::Lock {
            self.lock_by_rule(net, f.rule, settings.lock, &id, at);
            #[expect(clippy::cast_precision_loss, reason = "seconds for a histogram")]
            self.stats.detections.push(span_ns as f64 / 1e9);
        }
        if action == Action::Warn {
            let tells = self.incidents.by_id(&id).map(|i| self.tell_warned(i)).unwrap_or_default();
            self.tells.extend(tells);
        }
        if action >= Action::Warn {
            self.open_case(host, &address, f);
        }
    }

    /// Whether a rule does nothing but record, by a command or by the configuration.
    pub(crate) fn only_observes(&self, rule: Rule) -> bool {
        self.observing.contains(&rule) || self.config.rule(rule).action == Ceiling::Observe
    }

    /// The kind of attack that a finding is about, as far as it can be told now.
    fn attack(&self, host: HostId, f: &Finding, sums: &Sums) -> Option<api::Attack> {
        let Rule::Limit(_, way) = f.rule else { return None };
        let watched = self.watch.get(host);
        let made = watched.map(|w| w.mix.made(self.now.mono_ns, way as usize)).unwrap_or_default();
        let amplifies = match (watched, way) {
            (Some(w), Way::Out) => w.mix.amplifies(self.now.mono_ns),
            _ => Vec::new(),
        };
        crate::attack::attack(f, sums, &made, &amplifies)
    }

    /// The lock that a rule has on an address.
    pub(crate) fn lock_of(&self, address: &str, rule: Rule) -> Option<u64> {
        let target = address.parse::<Target>().ok()?;
        let (rule, net) = (rule.to_string(), target.prefix()?);
        let rows = self.locks.covering(&net);
        rows.iter().find(|r| r.target == target && r.rule.as_deref() == Some(&rule)).map(|r| r.id)
    }

    /// The furthest a rule may go against a host at present, and why not further.
    fn ceiling(&self, net: &IpNet, f: &Finding, configured: Ceiling, at: Time) -> (Ceiling, Option<String>) {
        let rule = f.rule;
        // A part of a server is enough: an IPv6 server is a whole prefix, and cannot be locked but for one address.
        let target_meets =
            |t: &Target| self.is_within(net, t) || t.prefix().is_some_and(|p| net.contains(&p));
        if let Some((_, _, until)) =
            self.exemptions.iter().find(|(t, r, until)| *r == rule && *until > at && target_meets(t))
        {
            return (Ceiling::Observe, Some(format!("exempted from {rule} until {until}")));
        }
        if self.observing.contains(&rule) {
            return (
                Ceiling::Observe,
                Some(format!("{rule} is set to observe; `cordon rule {rule} enforce` ends it")),
            );
        }
        if needs_answers(rule)
            && let Some(why) = self.blind(net)
        {
            return (Ceiling::Observe, Some(format!("cannot judge by missing answers: {why}")));
        }
        if needs_answers(rule) && self.rtbh.hides(net) {
            return (
                Ceiling::Observe,
                Some("cannot judge by missing answers: it is blackholed upstream".to_owned()),
            );
        }
        if configured > Ceiling::Warn && self.protected_by(net).is_some() {
            return (
                Ceiling::Warn,
                Some("on the never-lock list: only an operator locks it, with --force".to_owned()),
            );
        }
        if f.ceiling() < configured {
            let why = match f.scan.as_deref() {
                Some(s) if s.variant.may_lock() => {
                    "nothing at all comes in to it any more: what it asks may fail for that".to_owned()
                }
                s => {
                    let case = s.map_or("it", |s| s.variant.name());
                    format!("{case} is no proof of abuse: it never locks")
                }
            };
            return (f.ceiling(), Some(why));
        }
        let why = (configured < Ceiling::Lock).then(|| {
            let word = if configured == Ceiling::Warn { "warn" } else { "observe" };
            format!("{rule} is configured to {word}")
        });
        (configured, why)
    }

    /// A detector's lock: flags first, then the store. (Mail comes after both.)
    fn lock_by_rule(&mut self, net: IpNet, rule: Rule, scope: LockScope, incident: &str, at: Time) {
        let row = self.row_of_rule(net, rule, scope, Some(incident.to_owned()), "cordon", at);
        let (target, reason) = (row.target.clone(), row.reason);
        self.locks.insert(row.clone());
        self.write_flags_of(&row);
        self.publish_locks = true;
        let what = format!("lock {target} {} ({reason}) by {rule}, incident {incident}", row.direction);
        let tells = self.tell_locked(&row, self.incidents.by_id(incident));
        let mut ops =
            vec![StoreOp::PutLock(Box::new(row)), StoreOp::Audit { at, who: "cordon".to_owned(), what }];
        ops.extend(tells);
        self.keep(ops);
    }

    /// A row for the lock list, as a rule makes it.
    pub(crate) fn row_of_rule(
        &mut self,
        net: IpNet,
        rule: Rule,
        scope: LockScope,
        incident: Option<String>,
        who: &str,
        at: Time,
    ) -> LockRow {
        let (id, generation) = self.locks.next_id();
        let reason = match rule {
            Rule::Limit(_, Way::Out) => Reason::AttackOut,
            Rule::Limit(_, Way::In) => Reason::AttackIn,
            Rule::Netscan => Reason::Netscan,
            Rule::Portscan => Reason::Portscan,
            Rule::Misconfiguration => Reason::Misconfiguration,
        };
        let direction = match scope {
            LockScope::Direction => direction(rule),
            LockScope::Both => api::Direction::Both,
        };
        LockRow {
            rule: Some(rule.to_string()),
            incident,
            generation,
            ..LockRow::new(id, Target::Prefix(net), direction, reason, who, at)
        }
    }

    fn breaker_latched(&mut self, rule: Rule, at: Time) {
        let latched = self.breakers.row(rule).cloned();
        self.keep(vec![
            StoreOp::SetBreaker { rule: rule.to_string(), latched },
            StoreOp::Audit { at, who: "cordon".to_owned(), what: format!("breaker of {rule} latched") },
        ]);
    }
}

/// An open incident takes in what was found.
fn grow(open: &mut crate::incident::Open, f: &Finding, sums: &Sums, seconds: u64, at: Time, now_ns: u64) {
    let way = match f.rule {
        Rule::Limit(_, way) => way,
        Rule::Netscan | Rule::Portscan | Rule::Misconfiguration => Way::Out,
    };
    let c = &sums.slow[way as usize];
    open.found(now_ns, at);
    open.row.packets = open.row.packets.max(c.packets);
    open.row.bytes = open.row.bytes.max(c.bytes);
    open.row.dropped = open.row.dropped.max(c.dropped);
    open.row.seconds = open.row.seconds.max(seconds);
    // Peaks of a going incident change every tick; they are stored with the next action, or at its end.
    open.row.peak = open.row.peak.max(f.observed);
    if let Some(s) = &f.scan {
        open.row.contacts = open.row.contacts.max(s.contacts.into());
        open.row.answered = open.row.answered.max(s.answered.into());
        if s.level == Level::Lock || open.row.action < Action::Lock {
            open.row.ports.clone_from(&s.ports);
            open.row.case = Some(s.variant.name().to_owned());
        }
    }
    if f.level == Level::Lock && open.row.limit < f.limit {
        open.row.limit = f.limit;
        open.row.window = f.over.name();
        open.dirty = true;
    }
}
