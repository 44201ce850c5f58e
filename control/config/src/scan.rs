//! Limits of the scan rules: how many contacts may fail.

/// A count over each window at which a rule warns; 0 turns it off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScanLimit {
    /// In 60 s.
    pub fast: u32,
    /// In 300 s.
    pub slow: u32,
}

/// Limits of the scan rules. Counts are of distinct destinations (netscan) or ports (portscan) in a window, shares are
/// in percent of the first contacts in it, 0 turns a limit off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScanLimits {
    /// Failed destinations on one protocol and port.
    pub netscan_port: ScanLimit,
    /// … on a worm port.
    pub netscan_worm: ScanLimit,
    /// Failed destinations on any ports together.
    pub netscan_any: ScanLimit,
    /// Ports (of TCP and UDP) that worms try.
    pub worm_ports: Vec<u16>,
    /// Failed ports on one host.
    pub portscan: ScanLimit,
    /// A lock comes at so many times the warning's limit; 0: never.
    pub lock_factor: u32,
    /// Only if this share failed: netscan and portscan.
    pub failed_percent: u32,
    /// Only if this share failed: lock on a worm port.
    pub worm_lock_failed_percent: u32,
    /// Only if this share failed: warning on a worm port ("nearly all").
    pub worm_warn_failed_percent: u32,
    /// Failed contacts to unused internal addresses in 300 s from which the limits of netscans are divided.
    pub unused_hits: u32,
    /// … by so much.
    pub unused_divisor: u32,
    /// TCP ports on which first contacts count, answered or not: what brute force goes for.
    pub ceiling_ports: Vec<u16>,
    /// Destinations on one of them in 60 s; warns.
    pub ceiling: u32,
    /// Destinations on SMTP (TCP 25) in 60 s, answered or not; warns.
    pub smtp: u32,
    /// First contacts of any kind in 60 s, answered or not; warns.
    pub any_contacts: u32,
    /// A peer-to-peer node is answered by at least this share.
    pub p2p_answered_percent: u32,
    /// Silence of so long is a failure, ns.
    pub silence_ns: u64,
    /// … of a host that opens contacts fast and is hardly answered, ns.
    pub silence_fast_ns: u64,
    /// Contacts in a second that are fast.
    pub fast_contacts: u32,
    /// Answered by less than this share is hardly answered.
    pub fast_answered_percent: u32,
}

impl Default for ScanLimits {
    fn default() -> Self {
        ScanLimits {
            netscan_port: ScanLimit { fast: 90, slow: 250 },
            netscan_worm: ScanLimit { fast: 30, slow: 80 },
            netscan_any: ScanLimit { fast: 300, slow: 0 },
            worm_ports: vec![22, 23, 25, 135, 139, 445, 1433, 2323, 3306, 3389, 5555, 5900, 6379, 8080],
            portscan: ScanLimit { fast: 100, slow: 250 },
            lock_factor: 4,
            failed_percent: 50,
            worm_lock_failed_percent: 20,
            worm_warn_failed_percent: 90,
            unused_hits: 3,
            unused_divisor: 3,
            ceiling_ports: vec![22, 445, 3389],
            ceiling: 200,
            smtp: 200,
            any_contacts: 10_000,
            p2p_answered_percent: 10,
            silence_ns: 5_000_000_000,
            silence_fast_ns: 300_000_000,
            fast_contacts: 1_000,
            fast_answered_percent: 10,
        }
    }
}
