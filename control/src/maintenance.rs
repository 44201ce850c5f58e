//! Timed maintenance unlocks, and locks that lift themselves.
//!
//! A suspended row stays on the list and enforces nothing until its time has come. Store first, then flags, then the answer;
//! its end is the other way round, as with a detector's lock: flags first. Detectors go on: what the server does by the rule
//! that has locked it lets its incident grow, and makes no second lock; another rule locks it anew.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use api::{Failure, LockRow, Reason, Step, Suspension, Target, Time};
use config::{Config, Rule};

use crate::control::Control;
use crate::effect::StoreOp;
use crate::requests::{Prepared, Then, bad, not_found, refused};

/// Longest maintenance: what takes longer is an unlock.
const MAINTENANCE_MAX_MS: i64 = 7 * 86_400_000;
/// A server that was locked by the same rule so lately is not trusted to have become quiet.
const RELAPSE_MS: i64 = 86_400_000;

impl Control {
    // ---- maintenance ----

    /// Checks a maintenance unlock, and says what has to be on disk before it begins.
    pub(crate) fn prepare_suspension(
        &mut self,
        who: &str,
        target: &Target,
        reason: Option<Reason>,
        all: bool,
        until: Time,
    ) -> Result<Prepared, Failure> {
        let at = self.now.time();
        if until <= at {
            return Err(bad(
                format!("the maintenance would end at {until}, which is over"),
                "name a time to come",
            ));
        }
        if until > at.plus_ms(MAINTENANCE_MAX_MS) {
            return Err(refused(
                format!("a maintenance until {until} is longer than 7 days"),
                "unlock it without --for, or name a nearer time",
            ));
        }
        // Whoever repairs what a detector found is not freed of what an operator locked for.
        let found: Vec<u64> =
            self.rows_on(target).iter().filter(|r| r.is_detectors()).map(|r| r.id).collect();
        let ids = if reason.is_none() && !all && !found.is_empty() {
            found
        } else {
            self.rows_to_lift(target, reason, all)?
        };
        let suspension = Suspension { since: at, until, who: who.to_owned() };
        let mut ops = self.suspended_rows(&ids, Some(&suspension), who, at);
        ops.extend(self.tell_maintenance(&ids, who, until));
        let what = format!("unlock {target} for maintenance until {until} (rows {ids:?})");
        Ok(Prepared::Store(
            ops,
            Then::Suspend { who: who.to_owned(), target: target.clone(), ids, suspension: Some(suspension) },
            what,
        ))
    }

    /// Checks the early end of a maintenance unlock.
    pub(crate) fn prepare_resumption(&mut self, who: &str, target: &Target) -> Result<Prepared, Failure> {
        let suspended = self.rows_on(target).into_iter().filter(|r| r.suspended.is_some());
        let ids: Vec<u64> = suspended.map(|r| r.id).collect();
        if ids.is_empty() {
            return Err(not_found(
                format!("no lock on {target} is suspended"),
                "`cordon list` says which are; `cordon unlock TARGET --for 30m` suspends one",
            ));
        }
        let ops = self.suspended_rows(&ids, None, who, self.now.time());
        let what = format!("resume {target} (rows {ids:?})");
        Ok(Prepared::Store(
            ops,
            Then::Suspend { who: who.to_owned(), target: target.clone(), ids, suspension: None },
            what,
        ))
    }

    fn suspended_rows(
        &mut self,
        ids: &[u64],
        suspension: Option<&Suspension>,
        who: &str,
        at: Time,
    ) -> Vec<StoreOp> {
        let generation = self.locks.next_generation();
        let rows = ids.iter().filter_map(|id| self.locks.get(*id));
        let change = |row: &LockRow| StoreOp::SuspendLock {
            row: Box::new(LockRow { suspended: suspension.cloned(), generation, ..row.clone() }),
            who: who.to_owned(),
            at,
        };
        rows.map(change).collect()
    }

    /// Puts a suspension, or its end, in force. Rows that were lifted meanwhile stay lifted.
    pub(crate) fn suspend(&mut self, ids: &[u64], suspension: Option<&Suspension>, who: &str) {
        let at = self.now.time();
        let generation = self.locks.next_generation();
        for id in ids {
            let Some(row) = self.locks.get(*id) else { continue };
            let mut row = LockRow { suspended: suspension.cloned(), generation, ..row.clone() };
            self.set_enforced(&mut row);
            if let Some(incident) = &row.incident {
                let (step, detail) = match suspension {
                    Some(s) => (Step::Suspended, format!("until {}, by {who}", s.until)),
                    None => (Step::Resumed, format!("by {who}")),
                };
                self.incidents.note(incident, step, Some(detail), at);
            }
            self.locks.insert(row.clone());
            self.write_flags_of(&row);
            if suspension.is_some() {
                self.begin_anew(&row, false);
            }
        }
        self.publish_locks = true;
    }

    /// Ends suspensions by itself: flags first, then the store.
    pub(crate) fn resume(&mut self, ids: &[u64], why: &str) {
        let at = self.now.time();
        self.suspend(ids, None, "cordon");
        for id in ids {
            let Some(row) = self.locks.get(*id).cloned() else { continue };
            let what = format!("resume {} ({}): {why}", row.target, row.reason);
            self.keep(vec![
                StoreOp::SuspendLock { row: Box::new(row), who: "cordon".to_owned(), at },
                StoreOp::Audit { at, who: "cordon".to_owned(), what },
            ]);
        }
    }

    /// Ends what has come to its time.
    pub(crate) fn end_maintenance(&mut self) {
        let at = self.now.time();
        let over = |r: &&LockRow| r.suspended.as_ref().is_some_and(|s| s.until <= at);
        let ids: Vec<u64> = self.locks.rows().filter(over).map(|r| r.id).collect();
        if !ids.is_empty() {
            self.resume(&ids, "the maintenance is over");
        }
    }

    /// A server does, while it is let in, what its rule locks for. Ends the maintenance if its grace is over.
    pub(crate) fn offends_in_maintenance(&mut self, address: &str, rule: Rule) {
        let (Some(grace), Ok(target)) = (self.config.unlock.maintenance_grace, address.parse::<Target>())
        else {
            return;
        };
        let (at, name) = (self.now.time(), rule.to_string());
        let over = |r: &&LockRow| {
            r.rule.as_deref() == Some(&name)
                && r.suspended.as_ref().is_some_and(|s| s.since.plus(grace) <= at)
        };
        let ids: Vec<u64> = self.locks.on(&target).into_iter().filter(over).map(|r| r.id).collect();
        if !ids.is_empty() {
            self.resume(&ids, "it offends again");
        }
    }

    /// Rows that say what stands on a target now: those on it, and wider ones.
    pub(crate) fn rows_over(&self, target: &Target) -> Vec<LockRow> {
        let rows = match target.prefix() {
            Some(net) => self.locks.covering(&net),
            None => self.rows_on(target),
        };
        rows.into_iter().cloned().collect()
    }

    /// Says of a row whether the dataplane enforces it.
    pub(crate) fn set_enforced(&self, row: &mut LockRow) {
        row.why_not = match &row.suspended {
            Some(s) => Some(format!("it is suspended until {} by {}", s.until, s.who)),
            None => self.why_not(row),
        };
        row.enforced = row.why_not.is_none();
        row.remark = self.remark(row);
    }

    // ---- quiet ----

    /// Whether a detector's lock lifts itself, since it was seen for long enough that nothing is wrong any more: dropped
    /// traffic is still counted. Why, for the audit log.
    pub(crate) fn is_over(&self, row: &LockRow) -> Option<&'static str> {
        let (quiet, held) = self.quiet_of(row).filter(|_| !self.by_hand.contains(&row.id))?;
        let at = self.now.time();
        // Nobody looked before this life of the dataplane was attached.
        let looked = self.life.as_ref().map(|l| l.attached)?;
        if self.bypass
            || row.target.prefix().is_some_and(|net| self.rtbh.holds(&net))
            || at < row.created.plus(held)
        {
            return None;
        }
        let last = self.offended.get(&row.id).map_or(row.created, |t| row.created.max(*t));
        if at < last.max(looked).plus(quiet) {
            return None;
        }
        Some(if row.reason == Reason::AttackIn { "the attack is over" } else { "it was quiet long enough" })
    }

    /// How long a server has to be quiet, and how long its lock is held at least; none: somebody lifts it.
    fn quiet_of(&self, row: &LockRow) -> Option<(Duration, Duration)> {
        let rule = row.rule.as_ref()?;
        let unlock = &self.config.unlock;
        match row.reason {
            Reason::AttackIn => Some((unlock.inbound_quiet, unlock.inbound_hold)),
            Reason::AttackOut | Reason::Netscan | Reason::Portscan => {
                self.quiet_rules.get(rule).map(|d| (*d, *d))
            }
            Reason::Misconfiguration | Reason::NonPayment | Reason::Abuse => None,
        }
    }

    /// Whether a lock lifts itself once the server is quiet.
    pub(crate) fn ends_if_quiet(&self, row: &LockRow) -> bool {
        self.quiet_of(row).is_some()
    }

    /// Whether the same rule had locked the server within a day before: then somebody has to look at it.
    pub(crate) fn relapsed(&self, id: u64) -> bool {
        let Some(row) = self.locks.get(id).filter(|r| r.reason != Reason::AttackIn && r.until.is_none())
        else {
            return false;
        };
        let (Some(rule), Some(incident)) = (&row.rule, &row.incident) else { return true };
        let since = row.created.plus_ms(-RELAPSE_MS);
        self.incidents.locked_within(&row.target.to_string(), rule, incident, since..row.created)
    }

    /// The rules whose locks lift themselves when a server that offended is quiet, by name.
    pub(crate) fn quiet_rules(config: &Config) -> BTreeMap<String, Duration> {
        let quiet = |r: Rule| Some((r.to_string(), config.outbound_quiet(r)?));
        Rule::all().filter_map(quiet).collect()
    }

    /// Rows as they are told: with how each ends.
    pub(crate) fn told<'r>(&self, rows: impl Iterator<Item = &'r LockRow>) -> Vec<LockRow> {
        rows.map(|r| {
            let mut row = LockRow { if_quiet: self.ends_if_quiet(r), ..r.clone() };
            if let Some(s) = self.server_of(&r.target) {
                (row.server, row.customer) = (Some(s.id.clone()), s.customer.clone());
            }
            row
        })
        .collect()
    }
}
