//! Requests and responses.

use std::fmt;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::domain::{Direction, Reason, Target, Time};
use crate::report::{BreakerRow, HostReport, IncidentRow, LockRow, StatusReport, TopRow};

/// A request with the protocol's version.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Envelope {
    /// [`crate::VERSION`].
    pub v: u32,
    /// The request.
    #[serde(flatten)]
    pub request: Request,
}

/// Order of `top`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TopBy {
    /// Packets a second.
    #[default]
    Packets,
    /// Bits a second.
    Bits,
    /// SYN a second.
    Syn,
}

/// What the operator asks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "kebab-case")]
pub enum Request {
    /// How is everything?
    Status,
    /// Who moves most?
    Top {
        /// Order.
        by: TopBy,
        /// Direction; `both` adds them.
        direction: Direction,
        /// Rows.
        limit: usize,
    },
    /// The lock list.
    List,
    /// Everything about a target.
    Show {
        /// Address, prefix or server.
        target: Target,
    },
    /// Lock by hand.
    Lock {
        /// What.
        target: Target,
        /// Why.
        reason: Reason,
        /// Which way.
        direction: Direction,
        /// A note.
        note: Option<String>,
        /// A case number.
        case: Option<String>,
        /// Until when.
        until: Option<Time>,
        /// Who may still reach it.
        except: Vec<IpNet>,
        /// Even if it is on the never-lock list.
        force: bool,
    },
    /// Unlock by hand: one reason, or all of them.
    Unlock {
        /// What.
        target: Target,
        /// Only this reason.
        reason: Option<Reason>,
        /// Whatever the reason.
        all: bool,
    },
    /// Take back what a rule did since a time.
    UnlockRule {
        /// The rule.
        rule: String,
        /// Since when.
        since: Time,
        /// Only say what would be done.
        dry_run: bool,
    },
    /// Incidents, latest first.
    Incidents {
        /// Only open ones.
        open: bool,
        /// Most rows.
        limit: usize,
    },
    /// One incident.
    Incident {
        /// Its id.
        id: String,
    },
    /// Latched rules.
    BreakerStatus,
    /// Let a latched rule lock again.
    BreakerReset {
        /// The rule.
        rule: String,
    },
    /// A rule leaves a target alone for a while.
    Exempt {
        /// Address or prefix.
        target: Target,
        /// The rule.
        rule: String,
        /// Until when.
        until: Time,
    },
    /// Set a rule to observing, or back.
    Rule {
        /// The rule.
        rule: String,
        /// True: it only observes.
        observe: bool,
    },
    /// Read the configuration again.
    Reload,
    /// Forward everything, enforce nothing; or back.
    Bypass {
        /// On or off.
        on: bool,
    },
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Response {
    /// It was done.
    Ok(Payload),
    /// It was not.
    Error(Failure),
}

/// What comes back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", content = "data", rename_all = "kebab-case")]
pub enum Payload {
    /// `status`
    Status(Box<StatusReport>),
    /// `top`
    Top(Vec<TopRow>),
    /// `list`, and the rows that `lock` and `unlock` touched.
    Locks(Vec<LockRow>),
    /// `show`
    Host(Box<HostReport>),
    /// `incidents`
    Incidents(Vec<IncidentRow>),
    /// `incident`
    Incident(Box<IncidentRow>),
    /// `breaker`
    Breaker(Vec<BreakerRow>),
    /// Done; a sentence for the operator.
    Done(String),
}

/// Why it was not done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// For programs.
    pub code: ErrorCode,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub hint: String,
}

impl Failure {
    /// Puts one together.
    pub fn new(code: ErrorCode, message: impl Into<String>, hint: impl Into<String>) -> Failure {
        Failure { code, message: message.into(), hint: hint.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n  {}", self.message, self.hint)
    }
}

/// Kinds of failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorCode {
    /// The request is not understood.
    BadRequest,
    /// There is no such thing.
    NotFound,
    /// It is against a rule that an operator may overrule.
    Refused,
    /// The caller may not.
    Permission,
    /// cordond could not do it (disk, dataplane).
    Failed,
}

impl ErrorCode {
    /// Exit code of the CLI.
    pub const fn exit_code(self) -> u8 {
        match self {
            ErrorCode::Refused | ErrorCode::Failed => 1,
            ErrorCode::BadRequest => 2,
            ErrorCode::NotFound => 4,
            ErrorCode::Permission => 5,
        }
    }
}
