//! Counters of a burst on their way to shared memory.

use region::Class;
use region::facts::{SideCounters, add};

use crate::BURST;

/// What a burst from one side was. Five classes and the tagged ones share a register, eight bits each.
#[derive(Clone, Copy, Default)]
pub(crate) struct Tally {
    packets: u64,
    bytes: u64,
    shapes: u64,
}

const SHAPE_BITS: usize = 8;
const TAGGED: usize = Class::COUNT * SHAPE_BITS;
const _: () = assert!(BURST < 1 << SHAPE_BITS && TAGGED + SHAPE_BITS <= 64);

impl Tally {
    /// Notes a packet.
    #[inline(always)]
    pub(crate) fn note(&mut self, length: u32, class: Class, tagged: bool) {
        self.packets += 1;
        self.bytes += u64::from(length);
        self.shapes += 1 << (class.index() * SHAPE_BITS) | u64::from(tagged) << TAGGED;
    }

    /// Adds up. Most bursts are of one class, and zeros are not written.
    #[inline(always)]
    pub(crate) fn flush(&self, to: &SideCounters) {
        if self.packets == 0 {
            return;
        }
        add(&to.rx_packets, self.packets);
        add(&to.rx_bytes, self.bytes);
        let shape = |at: usize| self.shapes >> at & ((1 << SHAPE_BITS) - 1);
        for (i, c) in to.class_packets.iter().enumerate() {
            let n = shape(i * SHAPE_BITS);
            if n != 0 {
                add(c, n);
            }
        }
        let tagged = shape(TAGGED);
        if tagged != 0 {
            add(&to.tagged, tagged);
        }
    }

    /// Packets and bytes.
    #[inline(always)]
    pub(crate) fn sum(&self) -> (u64, u64) {
        (self.packets, self.bytes)
    }
}
