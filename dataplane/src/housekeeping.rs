//! The dataplane's other thread: port statistics and links, the policy mapping, IPv6 hosts that control asks for, the
//! bypass switch, the watchdog, signals. Ten rounds a second.

use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::time::{Duration, Instant, SystemTime};

use dpdk::Port;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signalfd::SignalFd;
use nix::time::{ClockId, clock_gettime};
use region::facts::PortCell;
use region::policy::REQUESTS_MAX;
use region::{Facts, Policy};

use crate::links::{LinkAction, WireLinks};
use crate::log;
use crate::slot::PolicySlot;

/// Time between two rounds.
pub(crate) const ROUND: Duration = Duration::from_millis(100);

/// A wire as housekeeping sees it.
pub(crate) struct Wire {
    pub(crate) name: String,
    pub(crate) ports: [Port; 2],
    pub(crate) links_follow: bool,
    /// `inside = "l2"`.
    pub(crate) segment: bool,
    pub(crate) links: WireLinks,
    pub(crate) up: [bool; 2],
}

/// State between rounds.
pub(crate) struct Housekeeping {
    pub(crate) facts: Arc<Facts>,
    pub(crate) slot: Arc<PolicySlot>,
    pub(crate) policy: Option<Arc<Policy>>,
    /// Mappings that a worker may still hold.
    pub(crate) retired: Vec<Arc<Policy>>,
    pub(crate) wires: Vec<Wire>,
    pub(crate) tables_dir: PathBuf,
    pub(crate) bypass_file: PathBuf,
    pub(crate) signals: SignalFd,
    pub(crate) polls_seen: Vec<u64>,
    pub(crate) told: Option<String>,
}

impl Housekeeping {
    /// Rounds until a signal says stop, or a worker has ended without being told to.
    pub(crate) fn run(&mut self, worker_ended: impl Fn() -> bool) {
        let mut next = Instant::now();
        while !self.stop_requested(next) {
            if worker_ended() {
                // Its queue moves no packet any more; a new life does, and this one cannot make a worker anew.
                log::error("a worker has ended: stopping, so that the supervisor starts anew");
                return;
            }
            self.round();
            next = (next + ROUND).max(Instant::now());
        }
    }

    /// Waits for a signal until `deadline`; true when one says stop.
    pub(crate) fn stop_requested(&self, deadline: Instant) -> bool {
        let wait = deadline.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(wait).unwrap_or(PollTimeout::ZERO);
        let mut fds = [PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
        // An interrupted wait only makes this round early.
        matches!(poll(&mut fds, timeout), Ok(n) if n > 0)
    }

    fn round(&mut self) {
        self.publish_clock();
        self.look_at_bypass();
        self.attach_policy();
        self.answer_requests();
        for i in 0..self.wires.len() {
            self.look_after_wire(i);
        }
        region::facts::add(&self.facts.header().housekeeping_rounds, 1);
        self.feed_watchdog();
    }

    /// Says how the workers' clock stands to the system's, so that times in facts can be read. Called once before the
    /// first packet, too.
    pub(crate) fn publish_clock(&self) {
        let mono = clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Duration::from);
        let ticks = dpdk::tsc();
        let unix = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let ns = |d: Duration| u64::try_from(d.as_nanos()).unwrap_or(u64::MAX);
        self.facts.set_clock(ticks, ns(mono), ns(unix));
    }

    /// Takes the operator's switch over. Called once before the first packet, too.
    pub(crate) fn look_at_bypass(&self) {
        let bypass = self.bypass_file.exists();
        if self.facts.header().bypass_direct.swap(u64::from(bypass), Relaxed) != u64::from(bypass) {
            let what = if bypass {
                "on: everything is forwarded, no lock is enforced"
            } else {
                "off: locks are enforced again"
            };
            log::warning(&format!("bypass (direct) {what}"));
        }
    }

    /// Takes up the policy file when there is a new one. True when a policy is in force that has something to enforce.
    pub(crate) fn attach_policy(&mut self) -> bool {
        self.retired.retain(|p| Arc::strong_count(p) > 1);
        if let Some(p) = &self.policy
            && p.is_current(&self.tables_dir)
        {
            return true;
        }
        let mine = self.facts.capacities();
        let opened = Policy::open(&self.tables_dir).map_err(|e| e.to_string()).and_then(|p| {
            let c = p.capacities();
            if (c.hosts_v4, c.hosts_v6) == (mine.hosts_v4, mine.hosts_v6) {
                return Ok(p);
            }
            Err(format!(
                "the policy file has tables for {} + {} hosts, this process for {} + {}: restart cordon-dataplane after changing [tables]",
                c.hosts_v4, c.hosts_v6, mine.hosts_v4, mine.hosts_v6
            ))
        });
        match opened {
            Ok(p) if p.is_ready() => {
                // Requests made while nobody listened are answered now; older ones are repeated by control.
                let made = p.header().v6_requests_made.load(Acquire);
                let done = made.saturating_sub(REQUESTS_MAX as u64);
                self.facts.header().v6_requests_done.store(done, Release);
                let p = Arc::new(p);
                self.retired.extend(self.policy.replace(Arc::clone(&p)));
                self.slot.publish(Some(p));
                self.told = None;
                log::info("policy attached: locks are enforced");
                true
            }
            Ok(_) => self.policy.is_some(),
            Err(e) => {
                if self.told.as_deref() != Some(&e) {
                    let state = if self.policy.is_some() {
                        "the policy from before stays in force"
                    } else {
                        "no policy"
                    };
                    log::warning(&format!("{state}: {e}"));
                    self.told = Some(e);
                }
                self.policy.is_some()
            }
        }
    }

    /// Publishes what the ports are and have counted: before the first packet, and when the workers have ended.
    pub(crate) fn publish_ports(&self) {
        for (i, wire) in self.wires.iter().enumerate() {
            for (side, port) in wire.ports.iter().enumerate() {
                if let Some(cell) = self.facts.ports().get(i * 2 + side) {
                    cell.wire.store(i as u64, Relaxed);
                    cell.side.store(side as u64, Relaxed);
                    publish_port(cell, port, port.link());
                }
            }
        }
    }

    fn answer_requests(&self) {
        let Some(policy) = &self.policy else { return };
        let done = &self.facts.header().v6_requests_done;
        let made = policy.header().v6_requests_made.load(Acquire);
        // Of more than the table holds the older ones are overwritten; a scribbled number costs no more than that.
        let mut next = done.load(Relaxed).max(made.saturating_sub(REQUESTS_MAX as u64));
        while next < made {
            let r = policy.request_v6(next);
            self.facts.insert_v6(r.key, policy.hash_key(), r.quota, r.network_slot);
            next += 1;
            done.store(next, Release);
        }
    }

    fn look_after_wire(&mut self, i: usize) {
        let facts = Arc::clone(&self.facts);
        let cells = facts.ports();
        let Some(wire) = self.wires.get_mut(i) else { return };
        let mut up = [false; 2];
        for (side, port) in wire.ports.iter().enumerate() {
            let link = port.link();
            up[side] = link.up;
            let Some(cell) = cells.get(i * 2 + side) else { continue };
            publish_port(cell, port, link);
            if link.up != wire.up[side] {
                wire.up[side] = link.up;
                cell.link_changes.store(cell.link_changes.load(Relaxed) + 1, Relaxed);
                let state = if link.up { "up" } else { "down" };
                let held = if wire.links.held[side] { " (follows the other side)" } else { "" };
                log::warning(&format!("wire {}: link of {} {state}{held}", wire.name, port.name()));
            }
        }
        if !wire.links_follow {
            return;
        }
        if let Some(action) = wire.links.decide(up) {
            let (side, state) = match action {
                LinkAction::Hold(side) => (side, false),
                LinkAction::Release(side) => (side, true),
            };
            match wire.ports[side].set_link(state) {
                Ok(()) => wire.links.done(action),
                Err(e) => {
                    // Asking again ten times a second would change nothing: this driver cannot.
                    wire.links_follow = false;
                    log::warning(&format!("wire {}: links do not follow each other: {e}", wire.name));
                }
            }
            for (side, held) in wire.links.held.iter().enumerate() {
                if let Some(cell) = cells.get(i * 2 + side) {
                    cell.held_down.store(u64::from(*held), Relaxed);
                }
            }
        }
    }

    /// systemd's watchdog is fed only while every worker moves.
    fn feed_watchdog(&mut self) {
        let mut all = true;
        for (seen, w) in self.polls_seen.iter_mut().zip(self.facts.workers()) {
            let polls = w.polls.load(Relaxed);
            all &= polls != *seen;
            *seen = polls;
        }
        if all {
            config::systemd::notify("WATCHDOG=1");
        }
    }
}

fn publish_port(cell: &PortCell, port: &Port, link: dpdk::Link) {
    cell.port_id.store(u64::from(port.id()), Relaxed);
    cell.link_up.store(u64::from(link.up), Relaxed);
    cell.speed_mbps.store(u64::from(link.speed_mbps), Relaxed);
    let numa = port.socket().and_then(|s| u64::try_from(s).ok()).map_or(0, |s| s + 1);
    cell.numa.store(numa, Relaxed);
    let Ok(s) = port.stats() else { return };
    for (c, v) in [
        (&cell.ipackets, s.ipackets),
        (&cell.opackets, s.opackets),
        (&cell.ibytes, s.ibytes),
        (&cell.obytes, s.obytes),
        (&cell.imissed, s.imissed),
        (&cell.ierrors, s.ierrors),
        (&cell.oerrors, s.oerrors),
        (&cell.rx_nombuf, s.rx_nombuf),
    ] {
        c.store(v, Relaxed);
    }
}
