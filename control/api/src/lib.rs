//! What goes over the control socket: one JSON object on a line each way.
//!
//! Every request carries `"v": 1`. Times are RFC 3339 in UTC with milliseconds. A client sends a line, reads a line, and
//! may send the next one on the same connection. By hand:
//!
//! ```text
//! echo '{"v":1,"op":"list"}' | socat - UNIX-CONNECT:/run/cordon/cordon.sock
//! ```
#![forbid(unsafe_code)]

mod attack;
mod domain;
mod notice;
mod report;
pub mod token;
mod wire;

pub use attack::{Attack, AttackKind, Service};
pub use domain::{
    Action, Direction, Event, Kind, Mac, OutboxState, Reason, Role, State, Step, Target, Time, Why,
};
pub use notice::{Notice, NoticeData, NoticeServer};
pub use report::{
    ActionTaken, Attention, BreakerRow, Counted, EvidenceReport, ExemptionRow, GuardsReport, HostReport,
    IncidentRow, LimitState, LockEvent, LockRow, OutboxRow, PortReport, RtbhRow, RtbhState, RuleRow,
    ServerReport, Severity, Span, StatusReport, Suspension, TimelineEntry, TokenRow, TopRow, Traffic,
    VerdictCount, WireReport, WorkerReport,
};
pub use wire::{Envelope, ErrorCode, Failure, Payload, Request, Response, TopBy};

/// Version of the protocol.
pub const VERSION: u32 = 1;
/// Longest line either side sends as a request, in bytes.
pub const REQUEST_MAX: usize = 64 * 1024;
