//! Who asks, and what they may.
//!
//! The control socket's callers may do everything: the file's mode has let them in. Those of the HTTP API have a token with a
//! role. What a role may do is decided here, by control, for every request and every row that it would touch: a mistake in
//! a handler must not unlock anybody.

use std::net::IpAddr;

use api::{ErrorCode, Failure, LockRow, Reason, Request, Role, Target};
use ipnet::IpNet;

/// Whoever asks. Found out by the part that took the request in, never said by the asker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// A user of this machine, or `token:NAME`.
    pub who: String,
    /// What it may do.
    pub role: Role,
    /// Number of its token; none for the control socket.
    pub token: Option<u64>,
    /// Where it asks from; none for the control socket.
    pub from: Option<IpAddr>,
}

fn denied(message: impl Into<String>, hint: &str) -> Failure {
    Failure::new(ErrorCode::Permission, message, hint)
}

impl Caller {
    /// A user of this machine.
    pub fn local(who: &str) -> Caller {
        Caller { who: who.to_owned(), role: Role::Admin, token: None, from: None }
    }

    /// Who, and from where: for the audit log.
    pub fn signature(&self) -> String {
        match self.from {
            Some(from) => format!("{} from {from}", self.who),
            None => self.who.clone(),
        }
    }

    /// Whether it may read what customers did, and the evidence of it.
    pub fn reads_incidents(&self) -> bool {
        self.role != Role::Billing
    }

    /// What speaks against a request, whatever it would touch.
    pub fn may(&self, request: &Request) -> Result<(), Failure> {
        if self.token.is_none() {
            return Ok(());
        }
        let (read, act, admin) = match request {
            Request::List | Request::Locks { .. } | Request::LockById { .. } | Request::Show { .. } => {
                return Ok(());
            }
            Request::Status
            | Request::Top { .. }
            | Request::Incidents { .. }
            | Request::IncidentPage { .. }
            | Request::Incident { .. }
            | Request::Evidence { .. }
            | Request::Rules
            | Request::BreakerStatus
            | Request::Exemptions => (true, false, false),
            Request::Lock { reason, force, target, .. } => {
                self.may_lock(*reason, *force, target)?;
                return Ok(());
            }
            // Which rows it would touch is looked at when they are known.
            Request::Unlock { .. } | Request::UnlockById { .. } => {
                if self.role == Role::Viewer {
                    return Err(self.lacks("lift locks"));
                }
                return Ok(());
            }
            Request::Resume { .. } | Request::Exempt { .. } => (false, true, false),
            Request::UnlockRule { .. }
            | Request::BreakerReset { .. }
            | Request::BreakerApprove { .. }
            | Request::Rule { .. } => (false, false, true),
            Request::Outbox { .. }
            | Request::RtbhList
            | Request::RtbhAnnounce { .. }
            | Request::RtbhWithdraw { .. }
            | Request::OutboxRetry { .. }
            | Request::OutboxDrop { .. }
            | Request::Tokens
            | Request::TokenCreate { .. }
            | Request::TokenRevoke { .. }
            | Request::Reload
            | Request::Bypass { .. } => {
                return Err(denied(
                    "this cannot be done over the HTTP API",
                    "use the command `cordon` on the machine",
                ));
            }
        };
        match self.role {
            Role::Admin => Ok(()),
            Role::Operator if read || act => Ok(()),
            Role::Viewer if read => Ok(()),
            Role::Operator | Role::Viewer | Role::Billing => {
                Err(self.lacks(if admin || act { "do this" } else { "read this" }))
            }
        }
    }

    fn lacks(&self, what: &str) -> Failure {
        denied(
            format!("a token with the role {} may not {what}", self.role),
            "use a token with another role: `cordon token create NAME --role ROLE` makes one",
        )
    }

    fn owns(&self, reason: Reason) -> bool {
        match self.role {
            Role::Admin => true,
            Role::Operator => reason != Reason::NonPayment,
            Role::Billing => reason == Reason::NonPayment,
            Role::Viewer => false,
        }
    }

    fn may_lock(&self, reason: Reason, force: bool, target: &Target) -> Result<(), Failure> {
        if !self.owns(reason) {
            return Err(self.lacks(&format!("lock for {reason}")));
        }
        if self.role != Role::Billing {
            return Ok(());
        }
        if force {
            return Err(self.lacks("lock what is on the never-lock list"));
        }
        // A customer's servers; whoever means more says so to a person.
        let wide = match target.prefix() {
            Some(IpNet::V4(n)) => n.prefix_len() < 24,
            Some(IpNet::V6(n)) => n.prefix_len() < 48,
            None => false,
        };
        if wide {
            return Err(self.lacks("lock a prefix shorter than /24, or /48 of IPv6"));
        }
        Ok(())
    }

    /// Whether it may lift or suspend a row.
    pub fn may_lift(&self, row: &LockRow) -> Result<(), Failure> {
        if self.owns(row.reason) {
            return Ok(());
        }
        let LockRow { id, target, reason, .. } = row;
        Err(self.lacks(&format!("lift lock {id} on {target}, which is for {reason}")))
    }
}
