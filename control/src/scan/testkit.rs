//! A made-up host for the tests: rows at given times, judged every 100 ms.
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking, and its numbers are small"
)]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::flow::{ICMP, ICMPV6, TCP, UDP};
use super::{Env, Flow, FlowId, HostScan, Opener, Refused, ScanFinding, ScanKind, ScanLimits, Variant};
use crate::detect::Level;

pub(super) const MS: u64 = 1_000_000;
pub(super) const S: u64 = 1_000 * MS;
pub(super) const BEGINS_NS: u64 = 1_000 * S;

/// What comes back, and after how many ms.
#[derive(Clone, Copy, Debug)]
pub(super) enum Back {
    Nothing,
    Answer(u64),
    Rst(u64),
    Unreachable(u64),
    TimeExceeded(u64),
}

/// A public address: the n-th of a sequence that looks random and never repeats.
pub(super) fn random4(n: u32) -> IpAddr {
    Ipv4Addr::from(0x3200_0000 | (n.wrapping_mul(0x9e37_79b1) & 0x00ff_ffff)).into()
}

/// A public address: the n-th in order.
pub(super) fn sequential4(n: u32) -> IpAddr {
    Ipv4Addr::from(0x5e10_0000 + n).into()
}

/// A public IPv6 address.
pub(super) fn random6(n: u32) -> IpAddr {
    let n = u128::from(n);
    Ipv6Addr::from((0x2a01_04f8 << 96) | (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) << 40) | n).into()
}

/// A row whose first packet the host sends.
pub(super) fn row(remote: IpAddr, opener: Opener, local_port: u16, remote_port: u16) -> Flow {
    let protocol = match opener {
        Opener::Udp => UDP,
        Opener::IcmpRequest if remote.is_ipv6() => ICMPV6,
        Opener::IcmpRequest => ICMP,
        Opener::OtherProtocol => 47,
        _ => TCP,
    };
    Flow {
        remote,
        protocol,
        local_port,
        remote_port,
        first_ns: 0,
        last_ns: 0,
        out_packets: 1,
        out_bytes: 60,
        in_packets: 0,
        in_bytes: 0,
        opener,
        answered: false,
        refused: Refused::No,
        first_frame_len: 60,
    }
}

/// A SYN from a port of its own.
pub(super) fn syn(n: u32, remote: IpAddr, port: u16) -> Flow {
    row(remote, Opener::Syn, 32_768 + u16::try_from(n % 28_000).unwrap(), port)
}

/// What a host does, and what it knows.
pub(super) struct Script {
    rows: Vec<(u64, u64, Flow)>,
    next: u64,
    pub(super) limits: ScanLimits,
    pub(super) can_judge_silence: bool,
    pub(super) lab: bool,
    pub(super) locked_ns: Option<u64>,
    pub(super) heard_ns: Option<u64>,
    pub(super) missed_ns: Option<u64>,
    pub(super) is_internal: fn(IpAddr) -> bool,
    pub(super) is_live_internal: fn(IpAddr) -> bool,
}

/// What came of it.
pub(super) struct Verdict {
    /// Every finding of every tick, with the time since the beginning, ns.
    pub(super) found: Vec<(u64, ScanFinding)>,
    pub(super) scan: HostScan,
}

impl Script {
    pub(super) fn new() -> Script {
        Script {
            rows: Vec::new(),
            next: 0,
            limits: ScanLimits::default(),
            can_judge_silence: true,
            lab: false,
            locked_ns: None,
            heard_ns: None,
            missed_ns: None,
            is_internal: |_| false,
            is_live_internal: |_| false,
        }
    }

    /// Opens a row at `at_ns` after the beginning.
    pub(super) fn open(&mut self, at_ns: u64, mut f: Flow, back: Back) {
        self.next += 1;
        let at_ns = BEGINS_NS + at_ns;
        (f.first_ns, f.last_ns) = (at_ns, at_ns);
        self.rows.push((at_ns, self.next, f));
        let after_ms = match back {
            Back::Nothing => return,
            Back::Answer(ms) => {
                f.answered = true;
                ms
            }
            Back::Rst(ms) => {
                f.refused = Refused::Rst;
                ms
            }
            Back::Unreachable(ms) => {
                f.refused = Refused::Unreachable;
                ms
            }
            Back::TimeExceeded(ms) => {
                f.refused = Refused::TimeExceeded;
                ms
            }
        };
        (f.in_packets, f.in_bytes) = (1, 60);
        f.last_ns = at_ns + after_ms * MS;
        self.rows.push((f.last_ns, self.next, f));
    }

    /// Shows a row again at `at_ns`: the last that was opened, changed.
    pub(super) fn change_last(&mut self, at_ns: u64, change: impl Fn(&mut Flow)) {
        let Some((_, id, mut f)) = self.rows.last().copied() else { return };
        f.last_ns = BEGINS_NS + at_ns;
        change(&mut f);
        self.rows.push((f.last_ns, id, f));
    }

    /// Runs until `for_ns` after the beginning, and on until what is pending is decided.
    pub(super) fn run(mut self, for_ns: u64) -> Verdict {
        self.rows.sort_by_key(|(t, id, _)| (*t, *id));
        let env = Env {
            can_judge_silence: self.can_judge_silence,
            lab: self.lab,
            is_internal: &self.is_internal,
            is_live_internal: &self.is_live_internal,
            locked_ns: self.locked_ns,
            heard_ns: self.heard_ns,
            missed_ns: self.missed_ns,
        };
        let mut scan = HostScan::new();
        let mut found = Vec::new();
        let mut rows = self.rows.iter().peekable();
        let mut tick_ns = BEGINS_NS + 100 * MS;
        while tick_ns <= BEGINS_NS + for_ns + 6 * S {
            while let Some((_, id, f)) = rows.next_if(|(t, _, _)| *t < tick_ns) {
                scan.flow(FlowId(*id), f);
            }
            let all = scan.judge(tick_ns, &self.limits, &env);
            found.extend(all.into_iter().map(|f| (tick_ns - BEGINS_NS, f)));
            tick_ns += 100 * MS;
        }
        Verdict { found, scan }
    }
}

impl Verdict {
    /// The furthest that was found of a kind.
    pub(super) fn level(&self, kind: ScanKind) -> Option<Level> {
        self.found.iter().filter(|(_, f)| f.kind == kind).map(|(_, f)| f.level).max()
    }

    /// When it first was locked, ns after the beginning.
    pub(super) fn locked_at(&self) -> Option<u64> {
        self.found.iter().find(|(_, f)| f.level == Level::Lock).map(|(t, _)| *t)
    }

    pub(super) fn variants(&self) -> Vec<Variant> {
        let mut all: Vec<_> = self.found.iter().map(|(_, f)| f.variant).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    pub(super) fn assert_nothing(&self) {
        assert!(self.found.is_empty(), "{:?}", self.found.first());
    }

    pub(super) fn assert_no_lock(&self) {
        assert!(self.locked_at().is_none(), "{:?}", self.found.iter().find(|(_, f)| f.level == Level::Lock));
    }
}
