//! Scans: who contacts many hosts (netscan) or many ports of a host (portscan) and is not answered.
//!
//! Everything here is pure: [`HostScan`] is given exact flows of one watched host and the time, and says which rules of
//! the table of limits ([`ScanLimits`]) are crossed, with the rows that prove it. No clock, no I/O, no estimate; the same
//! flows and times always give the same findings.
//!
//! - [`flow`]: the exact rows that the dataplane keeps, and which of them open a contact;
//! - [`space`]: addresses that are no contact, ports that offer a service;
//! - `tally`: how many contacts failed over the last 60 and 300 seconds;
//! - [`host`]: a host's contacts, from the opening packet to their outcome;
//! - `rules`: the limits; [`finding`]: what was found.

pub mod finding;
pub mod flow;
pub mod host;
pub mod limits;
mod peers;
mod rules;
pub mod space;
mod tally;

pub use finding::{Proof, ScanFinding, ScanKind, Variant};
pub use flow::{Flow, FlowId, Opener, Refused, TCP, UDP};
pub use host::{CONTACTS_MAX, Env, HostScan};
pub use limits::{Limit, ScanLimits};

#[cfg(test)]
mod testkit;
#[cfg(test)]
mod tests_benign;
#[cfg(test)]
mod tests_evil;
