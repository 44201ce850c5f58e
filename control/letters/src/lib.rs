//! What customers and the desk are told.
//!
//! [`Letter`] holds facts and no wording: control makes it when something happens, the store keeps it, and whoever
//! delivers it makes a [`Text`] of it with [`Templates`]. No network and no clock.
#![forbid(unsafe_code)]

mod facts;
mod format;
mod samples;
mod templates;
mod view;

pub use facts::{Letter, Party};
pub use samples::{house as sample_house, letters as samples};
pub use templates::{Problem, Templates};
pub use view::{Digest, House, Text};
