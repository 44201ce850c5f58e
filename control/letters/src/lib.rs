//! What customers and the desk are told.
//!
//! [`Letter`] holds facts and no wording: control makes it when something happens, the store keeps it, and whoever
//! delivers it makes a text of it. No network and no clock.
#![forbid(unsafe_code)]

mod facts;

pub use facts::{Letter, Party};
