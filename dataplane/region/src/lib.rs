//! Two files in shared memory, each with one writer.
//!
//! | file | writer | readers | holds |
//! |---|---|---|---|
//! | `facts` | `cordon-dataplane` | `cordond`, `cordon` | counters, host lines, touched bits, IPv6 hosts, ports, fan-out maps, watched flows, evidence |
//! | `policy` | `cordond` | `cordon-dataplane` | addressing, lock list, host flags, exceptions, ticks, watched hosts |
//!
//! Everything in them is an atomic: a reader sees old or new values, never undefined behaviour. A reader maps its
//! file read-only and bounds every index it reads, so a scribbled file gives wrong numbers and never a crash.
//! Unsafe code lives in [`map`] alone.

pub mod addr;
pub mod addressing;
pub mod facts;
pub mod fanout;
pub mod flows;
pub mod host;
pub mod hosts_v6;
pub mod layout;
pub mod link;
pub mod locks;
pub mod map;
pub mod policy;
pub mod reflectors;
pub mod segment;
pub mod touched;
pub mod verdict;

pub use addr::{Addr, Mac};
pub use facts::{Facts, WorkerCounters};
pub use fanout::Fanout;
pub use flows::WatchSlot;
pub use host::{Dir, HostFlags, HostId, HostLine, HostMarks, LineTotals, Marks, Traits};
pub use layout::Capacities;
pub use map::{PageKind, RegionError, prefetch, prefetch_to_write};
pub use policy::Policy;
pub use verdict::{Class, Side, Verdict};
