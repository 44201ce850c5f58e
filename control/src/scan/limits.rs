//! The limits of the scan rules: the defaults that the field suggests, each adjustable.

/// Length of the fast window, ns.
pub const FAST_NS: u64 = 60 * 1_000_000_000;
/// Length of the slow window, ns.
pub const SLOW_NS: u64 = 300 * 1_000_000_000;

pub use config::{ScanLimit as Limit, ScanLimits};
