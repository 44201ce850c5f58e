//! Safe wrappers over the part of DPDK that Cordon uses: EAL, pools, ports, queues, bursts.
//!
//! A burst is the unit: receive, transmit and free work on up to [`BURST`] packets with one call into DPDK each, and
//! packet fields are read through `rte_mbuf`'s own layout without a call. Unsafe code is confined to this crate.

pub mod burst;
pub mod eal;
mod error;
pub mod pool;
pub mod port;
pub mod ring;

pub use burst::{BURST, Burst};
pub use eal::{Eal, Registration, prefetch_bytes, tsc, tsc_hz};
pub use error::Error;
pub use pool::Pool;
pub use port::{Link, Port, PortSettings, RxQueue, Stats, TxQueue};
pub use ring::RingPort;
