//! The facts of a letter.

use api::{Event, IncidentRow, LockRow, Reason, Time, Why};
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
    /// What ended a lock.
    pub why: Option<Why>,
    /// The rule that a correction is about.
    pub rule: Option<String>,
    /// Incidents that a correction takes back.
    pub incidents: Vec<String>,
    /// Remote prefixes that a maintenance window is open for; empty: all.
    pub from: Vec<String>,
    /// What a customer wrote.
    pub text: Option<String>,
    /// For the desk: the customers that are told, with their addresses.
    pub told: Vec<String>,
}

impl Letter {
    /// A letter with nothing but what every letter has.
    pub fn new(event: Event, party: Party, at: Time, targets: Vec<String>, who: &str) -> Letter {
        Letter {
            event,
            party,
            at,
            targets,
            servers: Vec::new(),
            incident: None,
            lock: None,
            still: Vec::new(),
            deadline: None,
            who: who.to_owned(),
            why: None,
            rule: None,
            incidents: Vec::new(),
            from: Vec::new(),
            text: None,
            told: Vec::new(),
        }
    }

    /// The number that people name: the incident's, or `L-` and that of the lock.
    pub fn reference(&self) -> Option<String> {
        self.incident_id().map(str::to_owned).or_else(|| self.lock.as_ref().map(|l| format!("L-{}", l.id)))
    }

    /// The incident that it belongs to.
    pub fn incident_id(&self) -> Option<&str> {
        let of_lock = self.lock.as_ref().and_then(|l| l.incident.as_deref());
        let of_correction = self.incidents.first().map(String::as_str);
        self.incident.as_ref().map(|i| i.id.as_str()).or(of_lock).or(of_correction)
    }
}
