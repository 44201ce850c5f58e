//! The packet path: parse → locate → enforce → account → observe. It knows no DPDK and no clock, allocates nothing, and cannot
//! fail: every frame gets a verdict. The dataplane feeds it from NIC queues, replay from a capture.
#![forbid(unsafe_code)]

mod burst;
pub mod guard;
mod link;
mod observe;
pub mod parse;
pub mod segment;
mod tally;
mod view;

pub use burst::{Mode, Passed, Pipeline};
use region::Side;

/// Most frames in one call of [`Pipeline::run`].
pub const BURST: usize = 32;

/// One frame as it was received.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// The bytes at hand: the first segment, or what a capture kept.
    pub bytes: &'a [u8],
    /// Length of the frame without FCS; the bytes that are counted.
    pub length: u32,
    /// The port it entered on. Found from the addresses in [`Mode::Mirror`].
    pub side: Side,
    /// When it was received, on the worker's clock (see [`region::facts::Clock`]).
    pub time: u64,
    /// The wire shows the servers' own segment: control sees what its protocols say.
    pub segment: bool,
}

impl Default for Frame<'_> {
    fn default() -> Self {
        Frame { bytes: &[], length: 0, side: Side::Outside, time: 0, segment: false }
    }
}
