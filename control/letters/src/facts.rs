//! The facts of a letter.

use api::{Event, IncidentRow, LockRow, Reason, Time};
use serde::{Deserialize, Serialize};

/// Who is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Party {
    /// The customer; none for the desk.
    pub customer: Option<String>,
    /// What the customer is called, if that is known.
    pub name: Option<String>,
    /// Addresses of the letter.
    pub to: Vec<String>,
    /// `en`, `de`, …
    pub language: String,
}

impl Party {
    /// `desk`, or `customer:ID`.
    pub fn audience(&self) -> String {
        self.customer.as_ref().map_or_else(|| "desk".to_owned(), |c| format!("customer:{c}"))
    }
}

/// What a letter says, before it is put into words.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Letter {
    /// What happened.
    pub event: Event,
    /// To whom it is said.
    pub party: Party,
    /// When it happened.
    pub at: Time,
    /// What it is about: addresses and prefixes as people write them, a MAC address, or `server:ID`.
    pub targets: Vec<String>,
    /// Servers of the inventory that these are.
    pub servers: Vec<String>,
    /// The incident, as it stood then.
    pub incident: Option<Box<IncidentRow>>,
    /// The lock that was made or lifted.
    pub lock: Option<Box<LockRow>>,
    /// Other reasons for which the target stays locked.
    pub still: Vec<Reason>,
    /// A warning that is still true then becomes a lock; a maintenance window ends then.
    pub deadline: Option<Time>,
    /// Who did it: a user of this machine, or `cordon`. For the desk only.
    pub who: String,
    /// Why it was done, for people: of an unlock, what ended the lock.
    pub why: Option<String>,
    /// The rule, where no incident names it.
    pub rule: Option<String>,
    /// Incidents that a correction takes back.
    pub incidents: Vec<String>,
}
