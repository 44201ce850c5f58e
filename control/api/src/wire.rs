//! Requests and responses.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::domain::{Direction, Reason, Role, Target, Time};
use crate::report::{
    BreakerRow, EvidenceReport, ExemptionRow, HostReport, IncidentRow, LockRow, OutboxRow, RtbhRow, RuleRow,
    StatusReport, TokenRow, TopRow,
};
use crate::{REQUEST_MAX, VERSION};

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

/// What the operator asks. A field that cordond does not know is refused, never ignored: a lock must not be wider than
/// was asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// How is everything?
    Status,
    /// Who moves most?
    Top {
        /// Order.
        #[serde(default)]
        by: TopBy,
        /// Direction; `both` adds them.
        direction: Direction,
        /// Most rows.
        limit: usize,
    },
    /// The lock list.
    List,
    /// A page of the lock list, in order of row numbers.
    Locks {
        /// Only locks for this reason.
        #[serde(default)]
        reason: Option<Reason>,
        /// Only locks that meet this target.
        #[serde(default)]
        target: Option<Target>,
        /// Only locks on servers of this customer, as the inventory has it.
        #[serde(default)]
        customer: Option<String>,
        /// Only the lock that was asked for under this reference.
        #[serde(default)]
        external_ref: Option<String>,
        /// Only rows with higher numbers.
        #[serde(default)]
        after: u64,
        /// Most rows.
        limit: usize,
    },
    /// One row of the lock list.
    LockById {
        /// Its number.
        id: u64,
    },
    /// Everything about a target.
    Show {
        /// Address, prefix or server.
        target: Target,
    },
    /// Did an address really do what somebody claims?
    Evidence {
        /// Address, or the prefix of an IPv6 server.
        target: Target,
        /// From; none: 24 hours ago.
        since: Option<Time>,
        /// To; none: now.
        until: Option<Time>,
        /// So many addresses or ports it is said to have scanned.
        claimed: Option<u64>,
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
        #[serde(default)]
        except: Vec<IpNet>,
        /// Even if it is on the never-lock list.
        #[serde(default)]
        force: bool,
        /// A reference of the program that asks: the same request under the same reference is done once.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        external_ref: Option<String>,
    },
    /// Unlock by hand: one reason, or all of them.
    Unlock {
        /// What.
        target: Target,
        /// Only this reason.
        reason: Option<Reason>,
        /// Whatever the reason.
        #[serde(default)]
        all: bool,
        /// Only until then: a maintenance unlock. The rows stay on the list, and are enforced again by themselves.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        until: Option<Time>,
    },
    /// Lift one row of the lock list.
    UnlockById {
        /// Its number.
        id: u64,
    },
    /// End a maintenance unlock before its time.
    Resume {
        /// What.
        target: Target,
    },
    /// Take back what a rule did since a time.
    UnlockRule {
        /// The rule.
        rule: String,
        /// Since when.
        since: Time,
        /// Only say what would be done.
        #[serde(default)]
        dry_run: bool,
    },
    /// Incidents, latest first.
    Incidents {
        /// Only open ones.
        #[serde(default)]
        open: bool,
        /// Most rows.
        limit: usize,
    },
    /// A page of the incidents, latest first.
    IncidentPage {
        /// Only open ones.
        #[serde(default)]
        open: bool,
        /// Only those about this target, or a part of it.
        #[serde(default)]
        target: Option<Target>,
        /// Only those that were opened before this one.
        #[serde(default)]
        before: Option<String>,
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
    /// Lock what a latched rule would have locked.
    BreakerApprove {
        /// The rule.
        rule: String,
        /// Only these; none: all that wait.
        #[serde(default)]
        targets: Vec<Target>,
    },
    /// Remotely triggered blackholes.
    RtbhList,
    /// Ask the routers upstream to drop what is sent to a locked address.
    RtbhAnnounce {
        /// The address.
        address: IpAddr,
        /// Until when; none: as long as is configured.
        #[serde(default)]
        until: Option<Time>,
        /// A note.
        #[serde(default)]
        note: Option<String>,
    },
    /// Take that back.
    RtbhWithdraw {
        /// The address.
        address: IpAddr,
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
    /// All rules, and what they may do.
    Rules,
    /// Whom rules leave alone.
    Exemptions,
    /// Tokens of the HTTP API.
    Tokens,
    /// A new token of the HTTP API. Its secret stays with whoever made it; cordond gets to know its digest only.
    TokenCreate {
        /// Its name.
        name: String,
        /// What it may do.
        role: Role,
        /// The digest of its secret ([`crate::token::digest`]).
        digest: String,
        /// Until when; none: until it is revoked.
        #[serde(default)]
        until: Option<Time>,
    },
    /// Makes a token useless, at once.
    TokenRevoke {
        /// Its name.
        name: String,
    },
    /// What is to be delivered to people and programs outside, oldest first.
    Outbox {
        /// Also what is done: delivered, merged, dropped.
        #[serde(default)]
        all: bool,
        /// Most rows.
        limit: usize,
    },
    /// Try a row of the outbox again, at once.
    OutboxRetry {
        /// Its id.
        id: String,
    },
    /// Withdraw a row of the outbox.
    OutboxDrop {
        /// Its id.
        id: String,
    },
    /// Read the configuration again.
    Reload,
    /// Forward everything, enforce nothing; or back.
    Bypass {
        /// On or off.
        on: bool,
    },
}

impl Request {
    /// The line that asks for it, without its end.
    pub fn to_line(&self) -> Result<String, Failure> {
        let line = serde_json::to_string(&Envelope { v: VERSION, request: self.clone() }).map_err(|e| {
            Failure::new(
                ErrorCode::BadRequest,
                format!("the request cannot be written: {e}"),
                "leave out what is unusual",
            )
        })?;
        if line.len() > REQUEST_MAX {
            let message = format!("the request has {} bytes, {REQUEST_MAX} are allowed", line.len());
            return Err(Failure::new(
                ErrorCode::BadRequest,
                message,
                "use a shorter note, or fewer --except",
            ));
        }
        Ok(line)
    }

    /// Reads a line, without its end. The failure is the answer to send.
    pub fn from_line(line: &[u8]) -> Result<Request, Failure> {
        /// The version alone, so that a request of another version is not blamed for its other fields.
        #[derive(Deserialize)]
        struct Version {
            v: u32,
        }
        let bad = |message: String, hint: &str| Failure::new(ErrorCode::BadRequest, message, hint);
        if line.len() > REQUEST_MAX {
            let message = format!("the request is longer than {REQUEST_MAX} bytes");
            return Err(bad(message, "send one JSON object on one line"));
        }
        let version: Version = serde_json::from_slice(line).map_err(|e| {
            let message = format!("the request is not understood: {e}");
            bad(message, "send one JSON object on one line, such as {\"v\":1,\"op\":\"status\"}")
        })?;
        if version.v != VERSION {
            let message =
                format!("the request is of protocol version {}, cordond speaks {VERSION}", version.v);
            return Err(bad(message, "use the cordon command that was installed with cordond"));
        }
        serde_json::from_slice::<Envelope>(line).map(|e| e.request).map_err(|e| {
            let message = format!("the request is not understood: {e}");
            bad(message, "cordon and cordond may be of different versions: compare cordon --version with cordon status")
        })
    }
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

impl Response {
    /// The line that says it, without its end.
    pub fn to_line(&self) -> String {
        serde_json::to_string(self).unwrap_or_else(|e| {
            // Strings, numbers and lists always can be written; whatever else it may be, the client hears of it.
            let cause = e.to_string().replace(['"', '\\'], "'");
            format!(
                r#"{{"error":{{"code":"failed","message":"the answer cannot be written: {cause}","hint":"report this"}}}}"#
            )
        })
    }

    /// Reads a line, without its end.
    pub fn from_line(line: &[u8]) -> Result<Response, serde_json::Error> {
        serde_json::from_slice(line)
    }
}

/// What comes back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", content = "data", rename_all = "kebab-case")]
pub enum Payload {
    /// `status`
    Status(Box<StatusReport>),
    /// `top`
    Top(Vec<TopRow>),
    /// `list`, and the rows that `lock` and `unlock` touched. After a maintenance unlock and its end: all rows that cover
    /// the target.
    Locks(Vec<LockRow>),
    /// A row of the lock list that stands: one that was asked for, or that an earlier request under the same reference made.
    Lock(Box<LockRow>),
    /// `rules`
    Rules(Vec<RuleRow>),
    /// `exemptions`
    Exemptions(Vec<ExemptionRow>),
    /// `token`
    Tokens(Vec<TokenRow>),
    /// `show`
    Host(Box<HostReport>),
    /// `evidence`
    Evidence(Box<EvidenceReport>),
    /// `incidents`
    Incidents(Vec<IncidentRow>),
    /// `incident`
    Incident(Box<IncidentRow>),
    /// `breaker`
    Breaker(Vec<BreakerRow>),
    /// `rtbh`
    Rtbh(Vec<RtbhRow>),
    /// `outbox`
    Outbox(Vec<OutboxRow>),
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
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum ErrorCode {
    /// The request is not understood.
    BadRequest,
    /// There is no such thing.
    NotFound,
    /// It is against a rule that an operator may overrule.
    Refused,
    /// It contradicts something that stands: a reference that was used for something else, a name that is taken.
    Conflict,
    /// The caller may not.
    Permission,
    /// cordond could not do it (disk, dataplane).
    Failed,
    /// cordond does not answer, or not in its language. Said by clients, never by cordond.
    Unreachable,
}

impl ErrorCode {
    /// Exit code of the CLI.
    pub const fn exit_code(self) -> u8 {
        match self {
            ErrorCode::Refused | ErrorCode::Conflict | ErrorCode::Failed => 1,
            ErrorCode::BadRequest => 2,
            ErrorCode::Unreachable => 3,
            ErrorCode::NotFound => 4,
            ErrorCode::Permission => 5,
        }
    }
}
