//! cordond: decides who is locked, keeps the lock list, and tells the dataplane and the operator.
//!
//! The deciding core ([`control::Control`]) does nothing by itself: it is given time, facts and requests, and asks for
//! effects. The shell ([`run`]) gives it a clock, a store, a socket and an office; [`replay`] gives it a capture.
#![forbid(unsafe_code)]

pub mod access;
mod approval;
mod attack;
mod bindings;
pub mod breaker;
mod case;
pub mod claim;
pub mod control;
pub mod detect;
pub mod dump;
pub mod effect;
mod enforce;
pub mod evidence;
mod guards;
pub mod history;
pub mod incident;
mod inventory;
mod judge;
pub mod keys;
mod link;
pub mod locklist;
pub mod log;
mod maintenance;
mod merge;
mod meter;
pub mod metrics;
mod moved;
pub mod netconfig;
pub mod networks;
pub mod notify;
pub mod office;
mod references;
pub mod replay;
mod report;
mod requests;
mod rtbh;
pub mod run;
pub mod scan;
pub mod socket;
pub mod store;
pub mod summary;
pub mod supervise;
mod tell;
#[cfg(test)]
mod testing;
pub mod visibility;
mod watch;
pub mod window;
