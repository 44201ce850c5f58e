//! The circuit breaker: a typo in a threshold must not take down a data centre.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use api::{BreakerRow, Time};
use config::{Breaker as Settings, Rule};

/// Most waiting targets that are listed by name.
const WAITING_MAX: usize = 10_000;

/// Breakers of all rules.
#[derive(Clone, Debug, Default)]
pub struct Breakers {
    /// Monotonic times of each rule's locks within the window.
    recent: BTreeMap<Rule, VecDeque<u64>>,
    latched: BTreeMap<Rule, BreakerRow>,
    /// Latched rules for which more wait than is stored.
    changed: BTreeSet<Rule>,
}

/// Whether a rule may lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permit {
    /// Yes; the lock is counted.
    Granted,
    /// No, and this request latched the rule.
    LatchedNow,
    /// No, the rule was latched before.
    Latched,
}

impl Breakers {
    /// With what was latched before cordond started.
    pub fn restore(rows: Vec<BreakerRow>) -> Breakers {
        let latched = rows.into_iter().filter_map(|r| Some((r.rule.parse().ok()?, r))).collect();
        Breakers { latched, ..Breakers::default() }
    }

    /// Asks for one more lock of a rule.
    pub fn ask(
        &mut self,
        rule: Rule,
        target: &str,
        settings: &Settings,
        active_hosts: u64,
        mono_ns: u64,
        at: Time,
    ) -> Permit {
        if let Some(row) = self.latched.get_mut(&rule) {
            if row.waiting.len() < WAITING_MAX && !row.waiting.iter().any(|w| w == target) {
                row.waiting.push(target.to_owned());
                self.changed.insert(rule);
            }
            return Permit::Latched;
        }
        let recent = self.recent.entry(rule).or_default();
        let window = u64::try_from(settings.window.as_nanos()).unwrap_or(u64::MAX);
        while recent.front().is_some_and(|t| t.saturating_add(window) <= mono_ns) {
            recent.pop_front();
        }
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a share of a number of hosts; the product is not negative"
        )]
        let share = (settings.share * active_hosts as f64) as u64;
        let most = u64::from(settings.locks_min).max(share);
        if recent.len() as u64 >= most {
            let row = BreakerRow {
                rule: rule.to_string(),
                since: at,
                locks: recent.len() as u64,
                waiting: vec![target.to_owned()],
            };
            self.latched.insert(rule, row);
            return Permit::LatchedNow;
        }
        recent.push_back(mono_ns);
        Permit::Granted
    }

    /// Latched rules for which more wait than when this was last asked.
    pub fn take_changed(&mut self) -> Vec<(Rule, BreakerRow)> {
        let changed = std::mem::take(&mut self.changed);
        changed.into_iter().filter_map(|rule| Some((rule, self.latched.get(&rule)?.clone()))).collect()
    }

    /// Takes targets off the list of those that wait for a latched rule.
    pub fn approve(&mut self, rule: Rule, targets: &[String]) {
        if let Some(row) = self.latched.get_mut(&rule) {
            row.waiting.retain(|w| !targets.contains(w));
            self.changed.insert(rule);
        }
    }

    /// Latched rules.
    pub fn rows(&self) -> Vec<BreakerRow> {
        self.latched.values().cloned().collect()
    }

    /// The state of a rule, when it is latched.
    pub fn row(&self, rule: Rule) -> Option<&BreakerRow> {
        self.latched.get(&rule)
    }

    /// Lets a rule lock again. False when it was not latched.
    pub fn reset(&mut self, rule: Rule) -> bool {
        self.recent.remove(&rule);
        self.latched.remove(&rule).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use config::{Config, Measure, Way};

    const RULE: Rule = Rule::Limit(Measure::Syn, Way::Out);

    #[test]
    fn a_rule_that_locks_too_many_is_latched_alone_until_it_is_reset() {
        let s = Config::replay_default().breaker;
        let (mut b, at) = (Breakers::default(), Time::from_unix_ms(0));
        for i in 0..20 {
            assert_eq!(b.ask(RULE, &format!("h{i}"), &s, 100, i, at), Permit::Granted);
        }
        assert_eq!(b.ask(RULE, "h20", &s, 100, 21, at), Permit::LatchedNow);
        assert_eq!(b.ask(RULE, "h21", &s, 100, 22, at), Permit::Latched);
        assert_eq!(b.ask(RULE, "h21", &s, 100, 23, at), Permit::Latched);
        let other = Rule::Limit(Measure::Udp, Way::Out);
        assert_eq!(b.ask(other, "h1", &s, 100, 24, at), Permit::Granted);
        assert_eq!(b.rows()[0].waiting, ["h20", "h21"]);
        assert_eq!(b.take_changed().len(), 1, "who waits is stored, once a tick");
        assert_eq!(b.take_changed().len(), 0);
        let day = 86_400_000_000_000;
        assert_eq!(
            b.ask(RULE, "h22", &s, 100, day, at),
            Permit::Latched,
            "it stays latched however long it takes"
        );
        assert!(b.reset(RULE) && !b.reset(RULE));
        assert_eq!(b.ask(RULE, "h22", &s, 100, day, at), Permit::Granted);
    }

    #[test]
    fn the_window_slides_and_large_sites_may_lock_more() {
        let s = Config::replay_default().breaker;
        let (mut b, at) = (Breakers::default(), Time::from_unix_ms(0));
        let minute = 60_000_000_000;
        for i in 0..100 {
            assert_eq!(
                b.ask(RULE, "x", &s, 0, i * minute, at),
                Permit::Granted,
                "ten in ten minutes is no storm"
            );
        }
        let mut b = Breakers::default();
        let granted = (0..1000).filter(|i| b.ask(RULE, "x", &s, 20_000, *i, at) == Permit::Granted).count();
        assert_eq!(granted, 100, "0.5 % of 20,000");
    }
}
