//! A port whose other end is in this process: what is pushed is received, what is sent can be popped.

use std::ffi::CString;
use std::ptr::NonNull;

use dpdk_sys as sys;

use crate::burst::{BURST, Burst};
use crate::error::Error;
use crate::port::Port;

/// The far end of a `net_ring` port: one pair of rings for each queue.
#[derive(Debug)]
pub struct RingPort {
    to_port: Vec<NonNull<sys::rte_ring>>,
    from_port: Vec<NonNull<sys::rte_ring>>,
}

// SAFETY: rings are made for a producer and a consumer on different threads; this end has one owner.
unsafe impl Send for RingPort {}

fn ring(name: &str, size: u32) -> Result<NonNull<sys::rte_ring>, Error> {
    let c_name = CString::new(name)
        .map_err(|_| Error::because("rte_ring_create", name, "the name holds a NUL byte", 22))?;
    // Flags 0: many producers and consumers, so that a test may push from several threads.
    // SAFETY: a terminated name that DPDK copies, and numbers.
    let raw = unsafe { sys::rte_ring_create(c_name.as_ptr(), size.next_power_of_two(), -1, 0) };
    NonNull::new(raw).ok_or_else(|| Error::from_errno("rte_ring_create", name))
}

impl RingPort {
    /// Makes a port of `queues` queue pairs with rings of `size` packets, and its far end.
    pub fn create(name: &str, queues: u16, size: u32) -> Result<(Port, RingPort), Error> {
        const CALL: &str = "rte_eth_from_rings";
        let mut rings = RingPort { to_port: Vec::new(), from_port: Vec::new() };
        for q in 0..queues {
            rings.to_port.push(ring(&format!("{name}_rx{q}"), size)?);
            rings.from_port.push(ring(&format!("{name}_tx{q}"), size)?);
        }
        let raw = |v: &[NonNull<sys::rte_ring>]| v.iter().map(|r| r.as_ptr()).collect::<Vec<_>>();
        let (mut rx, mut tx) = (raw(&rings.to_port), raw(&rings.from_port));
        let c_name =
            CString::new(name).map_err(|_| Error::because(CALL, name, "the name holds a NUL byte", 22))?;
        let n = u32::from(queues);
        // SAFETY: both arrays hold n rings; DPDK copies the pointers, and the rings live as long as the process.
        let id =
            unsafe { sys::rte_eth_from_rings(c_name.as_ptr(), rx.as_mut_ptr(), n, tx.as_mut_ptr(), n, 0) };
        let id = u16::try_from(id).map_err(|_| Error::from_errno(CALL, name))?;
        Ok((Port::of_id(id, name), rings))
    }

    /// Queue pairs.
    pub fn queues(&self) -> usize {
        self.to_port.len()
    }

    /// Hands packets to the port's receive queue; what it does not take stays in the burst.
    pub fn push(&mut self, queue: usize, burst: &mut Burst) -> usize {
        let Some(r) = self.to_port.get(queue) else { return 0 };
        let n = u32::try_from(burst.len).unwrap_or(0);
        // SAFETY: the first n packets are this burst's own; those taken belong to the ring afterwards.
        let taken = unsafe { sys::shim_ring_enqueue(r.as_ptr(), burst.packets.as_mut_ptr(), n) };
        let taken = usize::try_from(taken).unwrap_or(0).min(burst.len);
        burst.forget_first(taken);
        taken
    }

    /// Takes what the port has sent into an empty burst.
    pub fn pop(&mut self, queue: usize, burst: &mut Burst) -> usize {
        let Some(r) = self.from_port.get(queue) else { return 0 };
        if !burst.is_empty() {
            return 0;
        }
        let n = u32::try_from(BURST).unwrap_or(0);
        // SAFETY: the array has room for BURST packets.
        let got = unsafe { sys::shim_ring_dequeue(r.as_ptr(), burst.packets.as_mut_ptr(), n) };
        burst.len = usize::try_from(got).unwrap_or(0).min(BURST);
        burst.len
    }
}
