//! Peer-to-peer nodes: a class of their own, never more than a warning.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use super::flow::{TCP, UDP};
use super::host::{Contact, HostScan, State};
use super::limits::ScanLimits;
use super::space::is_service;
use super::tally::{Key, Outcome};

/// Contacts of one kind within a window.
#[derive(Default)]
struct Group<'a> {
    remotes: HashSet<&'a IpAddr>,
    ports: HashSet<u16>,
    failed: u32,
    answered: u32,
}

impl<'a> Group<'a> {
    fn add(&mut self, k: &'a Key, o: Outcome) {
        self.remotes.insert(&k.remote);
        self.ports.insert(k.port);
        match o {
            Outcome::Failed | Outcome::Unheard => self.failed += 1,
            Outcome::Answered => self.answered += 1,
            Outcome::Unknown => {}
        }
    }

    fn answered_share(&self, percent: u32) -> bool {
        let sum = u64::from(self.failed) + u64::from(self.answered);
        percent > 0 && sum > 0 && u64::from(self.answered) * 100 >= sum * u64::from(percent)
    }

    /// Nearly every destination on a port of its own: addresses and ports learned from peers. A scan of many hosts tries
    /// the same few ports on all of them.
    fn many_ports(&self) -> bool {
        self.ports.len() >= 10 && self.ports.len() * 2 >= self.remotes.len()
    }
}

impl HostScan {
    /// Whether what failed within the window is the doing of a peer-to-peer node. `port`: the finding is about this
    /// protocol and port; else about all.
    ///
    /// - UDP: one source port, many destinations and ports, a tenth answered. Also towards one port, if it is
    ///   none on which servers are known to listen: the nodes of a network share a default (30303, 6346, 4001), and a
    ///   sweep for a service goes for the service's port, whatever else it sends from that source port.
    /// - TCP takes a new source port for each connection, so there it is the destinations' ports that tell; or that one
    ///   port is the network's default, offers no service, and is answered by a tenth.
    pub(super) fn is_peer_to_peer(
        &self,
        port: Option<(u8, u16)>,
        window_ns: u64,
        limits: &ScanLimits,
    ) -> bool {
        let counted = || {
            self.contacts.iter().filter_map(|(k, c): (&Key, &Contact)| match c.state {
                State::Counted(o) if c.at_ns.saturating_add(window_ns) > self.now_ns => Some((k, c, o)),
                _ => None,
            })
        };
        let concerns = |k: &Key| port.is_none_or(|(protocol, port)| k.protocol == protocol && k.port == port);
        let lost = |o: Outcome| matches!(o, Outcome::Failed | Outcome::Unheard);
        let failed = counted().filter(|(k, _, o)| concerns(k) && lost(*o)).count();
        // The source port of most of the failed UDP contacts in question.
        let mut sources: HashMap<u16, usize> = HashMap::new();
        for (_, c, _) in counted().filter(|(k, _, o)| concerns(k) && k.protocol == UDP && lost(*o)) {
            *sources.entry(c.local_port).or_default() += 1;
        }
        let mut explained = 0;
        if let Some((source, n)) = sources.into_iter().max_by_key(|(source, n)| (*n, *source)) {
            let (mut node, mut default_ports) = (Group::default(), Group::default());
            for (k, _, o) in counted().filter(|(k, c, _)| k.protocol == UDP && c.local_port == source) {
                node.add(k, o);
                if concerns(k) && !is_service(UDP, k.port) {
                    default_ports.add(k, o);
                }
            }
            // A peer may sit on any port, but only a sweep has most of its destinations on one service's.
            let sweeps = port.is_some_and(|(_, p)| is_service(UDP, p)) && n * 4 > node.remotes.len();
            if node.many_ports() && node.answered_share(limits.p2p_answered_percent) && !sweeps {
                explained += n;
            } else if default_ports.answered_share(limits.p2p_answered_percent) {
                explained += usize::try_from(default_ports.failed).unwrap_or(0);
            }
        }
        if let Some((TCP, p)) = port.filter(|(_, p)| !is_service(TCP, *p)) {
            let mut dials = Group::default();
            for (k, _, o) in counted().filter(|(k, _, _)| k.protocol == TCP && k.port == p) {
                dials.add(k, o);
            }
            if dials.answered_share(limits.p2p_answered_percent) {
                explained += usize::try_from(dials.failed).unwrap_or(0);
            }
        }
        if port.is_none() {
            let mut dials = Group::default();
            for (k, _, o) in counted().filter(|(k, _, _)| k.protocol == TCP && !is_service(TCP, k.port)) {
                dials.add(k, o);
            }
            if dials.answered_share(limits.p2p_answered_percent) && dials.many_ports() {
                explained += usize::try_from(dials.failed).unwrap_or(0);
            }
        }
        failed > 0 && explained * 2 >= failed
    }
}
