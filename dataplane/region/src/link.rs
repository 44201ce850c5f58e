//! Frames of a segment's own protocols (ARP, neighbour discovery, DHCP, spanning tree, ...) on their way to control, which
//! looks for wrong network configuration. A ring for each worker, like that of evidence, with longer records: the options of
//! a DHCP message begin behind its first 280 bytes.

use std::sync::atomic::{
    AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};

use crate::facts::add;
use crate::map::shared_struct;
use crate::segment::Guard;
use crate::verdict::Side;

/// Records of a worker's ring.
pub const LINK_MAX: usize = 2_048;
/// Bytes of a frame that a record keeps.
pub const LINK_BYTES: usize = 616;
/// Records that a worker writes in a tick.
pub const LINK_QUOTA: u64 = 512;

shared_struct! {
    /// A frame. Written by this worker; read by control.
    #[repr(align(64))]
    pub struct LinkRecord {
        time: AtomicU64,
        /// Bytes kept, the side that it entered on, the guard that dropped it, and the length of the frame without FCS.
        meta: AtomicU64,
        spare: AtomicU64,
        bytes: [AtomicU64; LINK_BYTES / 8],
    }
}
const _: () = assert!(size_of::<LinkRecord>() == 640);

shared_struct! {
    /// Where a ring is written. Written by this worker; read by control.
    #[repr(align(64))]
    pub struct LinkHead {
        head: AtomicU64,
        /// Tick in the upper half, records written in it in the lower one.
        quota: AtomicU64,
        /// Frames that were not recorded.
        pub lost: AtomicU64,
        spare: [AtomicU64; 5],
    }
}

/// A frame as it was recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkFrame<B> {
    /// Worker's clock.
    pub time: u64,
    /// The side that it entered on.
    pub side: Side,
    /// Length of the frame without FCS.
    pub length: u32,
    /// The guard that dropped it.
    pub guarded: Option<Guard>,
    /// The bytes that were kept.
    pub bytes: B,
}

/// The ring of one worker, borrowed.
#[derive(Clone, Copy)]
pub struct LinkRing<'a> {
    pub(crate) records: &'a [LinkRecord],
    pub(crate) head: &'a LinkHead,
}

impl LinkRing<'_> {
    /// Copies a frame. `read`: how far control has read. Only the owning worker calls this.
    pub fn push(&self, f: &LinkFrame<&[u8]>, read: u64, tick: u64) {
        let head = self.head.head.load(Relaxed);
        let full = head.wrapping_sub(read) >= self.records.len() as u64;
        let quota = u32::try_from(LINK_QUOTA).unwrap_or(u32::MAX);
        if full || !crate::flows::within(&self.head.quota, tick, quota) {
            add(&self.head.lost, 1);
            return;
        }
        let mask = (LINK_MAX - 1) as u64;
        let Some(r) = usize::try_from(head & mask).ok().and_then(|i| self.records.get(i)) else { return };
        let kept = f.bytes.len().min(LINK_BYTES);
        for (to, from) in r.bytes.iter().zip(f.bytes[..kept].chunks(8)) {
            let mut word = [0; 8];
            word[..from.len()].copy_from_slice(from);
            to.store(u64::from_le_bytes(word), Relaxed);
        }
        r.time.store(f.time, Relaxed);
        let guarded = f.guarded.map_or(0, |g| g as u64 + 1);
        let meta = kept as u64 | (f.side as u64) << 16 | guarded << 17 | u64::from(f.length) << 32;
        r.meta.store(meta, Relaxed);
        self.head.head.store(head + 1, Release);
    }

    /// How far it is written.
    pub fn head(&self) -> u64 {
        self.head.head.load(Acquire)
    }

    /// Frames that were not recorded.
    pub fn lost(&self) -> u64 {
        self.head.lost.load(Relaxed)
    }

    /// The record of a number below [`LinkRing::head`], at most the ring's length behind it.
    pub fn get(&self, number: u64) -> Option<LinkFrame<Vec<u8>>> {
        let mask = (LINK_MAX - 1) as u64;
        let r = self.records.get(usize::try_from(number & mask).ok()?)?;
        let meta = r.meta.load(Relaxed);
        let kept = usize::try_from(meta & 0xffff).unwrap_or(0).min(LINK_BYTES);
        let mut bytes: Vec<u8> = r.bytes.iter().flat_map(|w| w.load(Relaxed).to_le_bytes()).collect();
        bytes.truncate(kept);
        Some(LinkFrame {
            time: r.time.load(Relaxed),
            side: if meta >> 16 & 1 == 0 { Side::Inside } else { Side::Outside },
            length: u32::try_from(meta >> 32).unwrap_or(0),
            guarded: usize::try_from(meta >> 17 & 7)
                .ok()
                .and_then(|g| Guard::ALL.get(g.checked_sub(1)?))
                .copied(),
            bytes,
        })
    }
}
