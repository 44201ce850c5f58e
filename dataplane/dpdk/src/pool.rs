//! Packet buffer pools.

use std::ffi::CString;
use std::ptr::NonNull;

use dpdk_sys::{rte_mbuf, rte_mempool};

use crate::error::Error;

/// A pool of packet buffers. It lives as long as the process: queues of ports and bursts hold buffers of it.
#[derive(Clone, Copy, Debug)]
pub struct Pool {
    raw: NonNull<rte_mempool>,
    data_room: usize,
}

// SAFETY: DPDK's pools are made for use by many threads.
unsafe impl Send for Pool {}
// SAFETY: as above.
unsafe impl Sync for Pool {}

impl Pool {
    /// A pool of `count` buffers with room for `data_room` bytes each, `cache` of them kept for each thread, on the NUMA
    /// node `socket` (-1: any).
    pub fn new(name: &str, count: u32, cache: u32, data_room: u16, socket: i32) -> Result<Pool, Error> {
        const CALL: &str = "rte_pktmbuf_pool_create";
        let object = format!("{name}, {count} buffers");
        let c_name =
            CString::new(name).map_err(|_| Error::because(CALL, name, "the name holds a NUL byte", 22))?;
        let room = data_room.saturating_add(dpdk_sys::SHIM_HEADROOM);
        // SAFETY: the name is a terminated string that DPDK copies; everything else is numbers.
        let raw =
            unsafe { dpdk_sys::rte_pktmbuf_pool_create(c_name.as_ptr(), count, cache, 0, room, socket) };
        let raw = NonNull::new(raw).ok_or_else(|| {
            let e = Error::from_errno(CALL, object);
            if e.errno == 12 {
                return e.advise(
                    "too little memory: reserve more hugepages (hugepages.sh), raise -m in [dataplane] eal, or lower mbufs",
                );
            }
            e
        })?;
        Ok(Pool { raw, data_room: usize::from(data_room) })
    }

    /// Bytes a buffer has room for.
    pub fn data_room(&self) -> usize {
        self.data_room
    }

    /// Buffers in the pool and its caches.
    pub fn available(&self) -> u32 {
        // SAFETY: the pool lives as long as the process.
        unsafe { dpdk_sys::rte_mempool_avail_count(self.raw.as_ptr()) }
    }

    /// Buffers somebody holds.
    pub fn in_use(&self) -> u32 {
        // SAFETY: the pool lives as long as the process.
        unsafe { dpdk_sys::rte_mempool_in_use_count(self.raw.as_ptr()) }
    }

    pub(crate) fn raw(&self) -> *mut rte_mempool {
        self.raw.as_ptr()
    }

    /// A buffer with a copy of `bytes`, at most [`Pool::data_room`]; none when the pool is empty.
    pub(crate) fn allocate_copy(&self, bytes: &[u8]) -> Option<*mut rte_mbuf> {
        let mut one = [std::ptr::null_mut(); 1];
        // SAFETY: the array has room for the one packet asked for.
        if unsafe { dpdk_sys::shim_alloc_bulk(self.raw(), one.as_mut_ptr(), 1) } != 0 {
            return None;
        }
        let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
        // SAFETY: a fresh mbuf of this pool; append checks the room and returns null where it is too small.
        let to = unsafe { dpdk_sys::shim_append(one[0], length) };
        if to.is_null() {
            crate::burst::free_bulk(&mut one);
            return None;
        }
        // SAFETY: append made room for `length` bytes at `to`, which nobody else knows of.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), to.cast::<u8>(), usize::from(length)) };
        Some(one[0])
    }
}
