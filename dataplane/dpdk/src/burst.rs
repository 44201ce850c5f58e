//! Up to [`BURST`] packets that this value owns.

use dpdk_sys::rte_mbuf;

use crate::eal::prefetch_bytes;
use crate::pool::Pool;

/// Most packets in a burst.
pub const BURST: usize = 32;

/// An array of owned mbufs: the first `len` are valid. What is left when it is dropped is freed.
pub struct Burst {
    pub(crate) packets: [*mut rte_mbuf; BURST],
    pub(crate) len: usize,
}

// SAFETY: an mbuf has one owner, and DPDK's pools take frees from any registered or unregistered thread.
unsafe impl Send for Burst {}

impl Default for Burst {
    fn default() -> Self {
        Burst { packets: [std::ptr::null_mut(); BURST], len: 0 }
    }
}

impl Drop for Burst {
    fn drop(&mut self) {
        self.free();
    }
}

impl Burst {
    /// An empty burst.
    pub fn new() -> Burst {
        Burst::default()
    }

    /// Packets held.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no packet is held.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    #[inline(always)]
    fn mbufs(&self) -> impl Iterator<Item = &rte_mbuf> {
        // SAFETY: the first `len` pointers are mbufs owned by this burst, and nobody else writes them meanwhile.
        self.packets[..self.len.min(BURST)].iter().map(|p| unsafe { &**p })
    }

    /// Packets in order: the bytes of the first segment, and the length over all segments, without FCS.
    #[inline(always)]
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], u32)> {
        self.mbufs().map(|m| {
            // SAFETY: data_off lies inside the segment's buffer, as the driver set it.
            let start = unsafe { m.buf_addr.cast::<u8>().add(usize::from(m.data_off)) };
            // SAFETY: data_len bytes from there are the packet's, initialised by the driver, and owned by this burst.
            let bytes = unsafe { std::slice::from_raw_parts(start, usize::from(m.data_len)) };
            (bytes, m.pkt_len)
        })
    }

    /// Bytes of all packets, over all their segments.
    #[inline]
    pub fn bytes(&self) -> u64 {
        self.mbufs().map(|m| u64::from(m.pkt_len)).sum()
    }

    /// Takes packets from the front of another burst, in order and as many as there is room for.
    #[inline]
    pub fn take_from(&mut self, other: &mut Burst) {
        let at = self.len.min(BURST);
        let n = other.len.min(BURST - at);
        self.packets[at..at + n].copy_from_slice(&other.packets[..n]);
        self.len = at + n;
        other.forget_first(n);
    }

    /// Asks the cache for all packets' headers; reads their descriptors.
    #[inline(always)]
    pub fn prefetch_headers(&self) {
        for m in self.mbufs() {
            prefetch_bytes(m.buf_addr.cast::<u8>().wrapping_add(usize::from(m.data_off)));
        }
    }

    /// Keeps the packets for which `keep` says so, in order, and frees the others in bulk.
    #[inline]
    pub fn retain(&mut self, mut keep: impl FnMut(usize) -> bool) {
        let mut others = [std::ptr::null_mut(); BURST];
        let (mut kept, mut freed) = (0, 0);
        for i in 0..self.len.min(BURST) {
            let p = self.packets[i];
            if keep(i) {
                self.packets[kept] = p;
                kept += 1;
            } else {
                others[freed] = p;
                freed += 1;
            }
        }
        self.len = kept;
        free_bulk(&mut others[..freed]);
    }

    /// Frees every packet held.
    #[inline]
    pub fn free(&mut self) {
        let n = self.len.min(BURST);
        self.len = 0;
        free_bulk(&mut self.packets[..n]);
    }

    /// Removes the first `n` packets, which somebody else owns by now.
    #[inline]
    pub(crate) fn forget_first(&mut self, n: usize) {
        self.packets.copy_within(n..self.len, 0);
        self.len -= n;
    }

    /// Adds a frame copied from `bytes`, in as many segments as it needs. False, and nothing is added, when the burst is
    /// full, the pool is empty, or the frame is longer than 65,535 bytes.
    pub fn push_copy(&mut self, pool: &Pool, bytes: &[u8]) -> bool {
        if self.len == BURST || bytes.len() > usize::from(u16::MAX) {
            return false;
        }
        let mut parts = bytes.chunks(pool.data_room());
        let first = parts.next().unwrap_or(&[]);
        let Some(head) = pool.allocate_copy(first) else { return false };
        for part in parts {
            let tail = pool.allocate_copy(part);
            // SAFETY: both are fresh single packets of one pool; chaining hands the tail over to the head.
            let chained = tail.is_some_and(|t| unsafe { dpdk_sys::shim_chain(head, t) } == 0);
            if !chained {
                let mut both = [head, tail.unwrap_or(std::ptr::null_mut())];
                let n = if tail.is_some() { 2 } else { 1 };
                free_bulk(&mut both[..n]);
                return false;
            }
        }
        self.packets[self.len] = head;
        self.len += 1;
        true
    }
}

/// Frees mbufs with one call.
#[inline]
pub(crate) fn free_bulk(packets: &mut [*mut rte_mbuf]) {
    if packets.is_empty() {
        return;
    }
    let n = u32::try_from(packets.len()).unwrap_or(0);
    // SAFETY: the caller owned these mbufs and gives them up.
    unsafe { dpdk_sys::shim_free_bulk(packets.as_mut_ptr(), n) };
}
