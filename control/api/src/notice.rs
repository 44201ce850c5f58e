//! What a webhook is sent.

use serde::{Deserialize, Serialize};

use crate::{Event, IncidentRow, LockRow, Reason, Time, Why};

/// The body of a webhook, JSON, laid out as standardwebhooks.com asks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Notice {
    /// What happened.
    #[serde(rename = "type")]
    pub event: Event,
    /// When. Of an attempt to deliver it, the header has the time.
    pub timestamp: Time,
    /// The facts.
    pub data: NoticeData,
}

/// What happened to whom.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NoticeData {
    /// The incident, or `L-` and the lock's number: the same for all that belongs together.
    pub thread: String,
    /// What it is about: addresses and prefixes, a MAC address, or `server:ID`.
    pub targets: Vec<String>,
    /// Servers of the inventory that these are.
    pub servers: Vec<NoticeServer>,
    /// Who did it: a user, or `cordon` for a detector.
    pub who: String,
    /// The incident as it stood then, without its timeline.
    pub incident: Option<Box<IncidentRow>>,
    /// The lock that was made or lifted.
    pub lock: Option<Box<LockRow>>,
    /// Other reasons for which the target stays locked.
    pub still: Vec<Reason>,
    /// A warning that is still true then becomes a lock; a maintenance window ends then.
    pub deadline: Option<Time>,
    /// What ended a lock.
    pub why: Option<Why>,
    /// The rule that a correction is about.
    pub rule: Option<String>,
    /// Incidents that a correction takes back.
    pub incidents: Vec<String>,
    /// What a customer wrote.
    pub text: Option<String>,
}

/// A server of the inventory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NoticeServer {
    /// Its id.
    pub id: String,
    /// Its customer.
    pub customer: Option<String>,
}
