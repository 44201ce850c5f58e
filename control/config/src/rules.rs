//! Rules by name, and how far each may go.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::limits::{Measure, Way};

/// A rule of the detectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Rule {
    /// A packet limit: `syn-out`, `packets-in`, …
    Limit(Measure, Way),
    /// Many destinations that do not answer.
    Netscan,
    /// Many ports of a destination that do not answer.
    Portscan,
    /// Wrong network configuration on the servers' own segment.
    Misconfiguration,
}

impl Rule {
    /// All of them.
    pub fn all() -> impl Iterator<Item = Rule> {
        let limits =
            Way::ALL.into_iter().flat_map(|w| Measure::ALL.into_iter().map(move |m| Rule::Limit(m, w)));
        limits.chain([Rule::Netscan, Rule::Portscan, Rule::Misconfiguration])
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Rule::Limit(m, w) => write!(f, "{m}-{w}"),
            Rule::Netscan => f.write_str("netscan"),
            Rule::Portscan => f.write_str("portscan"),
            Rule::Misconfiguration => f.write_str("misconfiguration"),
        }
    }
}

impl FromStr for Rule {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        Rule::all().find(|r| r.to_string() == s).ok_or_else(|| {
            let known: Vec<_> = Rule::all().map(|r| r.to_string()).collect();
            format!("unknown rule `{s}`; the rules are {}", known.join(" "))
        })
    }
}

/// The furthest a rule may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Ceiling {
    /// Records what it would have done.
    Observe,
    /// Warns.
    Warn,
    /// Locks.
    Lock,
}

/// What a lock of a rule covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LockScope {
    /// The direction of the limit.
    Direction,
    /// Both directions.
    Both,
}

/// `[rules.NAME]`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RuleSettings {
    /// The furthest it may go.
    pub action: Ceiling,
    /// A warning that is still true after so long becomes a lock.
    pub deadline: Option<Duration>,
    /// What a lock covers.
    pub lock: LockScope,
    /// How its locks end, where the rule says so itself.
    pub unlock: Option<Unlocking>,
}

/// How a lock against a server that offended ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unlocking {
    /// Somebody lifts it.
    ByHand,
    /// By itself, when the server has not offended for so long.
    Quiet(Duration),
}

impl RuleSettings {
    /// What stands when the file says nothing.
    pub fn default_for(rule: Rule) -> RuleSettings {
        let deadline = match rule {
            // Whoever is abused as an amplifier has to mend a service, and is locked where a group says so.
            Rule::Limit(Measure::Amplifier, _) => None,
            Rule::Limit(_, Way::Out) | Rule::Netscan | Rule::Portscan => Some(Duration::from_secs(3600)),
            // A server that is attacked is not locked for having been attacked long.
            Rule::Limit(_, Way::In) => None,
            Rule::Misconfiguration => None,
        };
        // A MAC says whose address has to be locked only where an inventory does.
        let action = if rule == Rule::Misconfiguration { Ceiling::Warn } else { Ceiling::Lock };
        RuleSettings { action, deadline, lock: LockScope::Direction, unlock: None }
    }
}
