//! Others that forward packets, on the same devices.

use crate::l3fwd::L3fwd;
use crate::machine::Stage;
use crate::sample::Reading;
use crate::testpmd::Testpmd;
use crate::traffic::Traffic;

/// How l3fwd finds where a packet goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lookup {
    Lpm,
    Acl,
    Exact,
}

/// Somebody to compare with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    /// `dpdk-testpmd` in a forwarding mode.
    Testpmd(&'static str),
    L3fwd(Lookup),
}

/// All of them, in the order of the table.
pub(crate) const PEERS: [Peer; 7] = [
    Peer::Testpmd("io"),
    Peer::Testpmd("macswap"),
    Peer::Testpmd("5tswap"),
    Peer::Testpmd("csum"),
    Peer::L3fwd(Lookup::Lpm),
    Peer::L3fwd(Lookup::Acl),
    Peer::L3fwd(Lookup::Exact),
];

impl Peer {
    /// As the table names it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Peer::Testpmd(mode) => mode,
            Peer::L3fwd(Lookup::Lpm) => "lpm",
            Peer::L3fwd(Lookup::Acl) => "acl",
            Peer::L3fwd(Lookup::Exact) => "em",
        }
    }

    /// What it does with a packet.
    pub(crate) fn what(self) -> &'static str {
        match self {
            Peer::Testpmd("io") => "testpmd, does nothing",
            Peer::Testpmd("macswap") => "testpmd, swaps MAC addresses",
            Peer::Testpmd("5tswap") => "testpmd, parses, swaps MAC and IP addresses and ports",
            Peer::Testpmd(_) => "testpmd, parses, computes checksums",
            Peer::L3fwd(Lookup::Lpm) => "l3fwd, looks up one of 512 routes",
            Peer::L3fwd(Lookup::Acl) => "l3fwd, checks 1,000 rules, looks up a route",
            Peer::L3fwd(Lookup::Exact) => "l3fwd, looks up each flow among all there are",
        }
    }
}

/// The programs behind some peers, running; all but one sleep.
pub(crate) struct Peers {
    testpmd: Option<Testpmd>,
    l3fwd: Vec<(Lookup, L3fwd)>,
}

impl Peers {
    pub(crate) fn start(stage: &Stage, traffic: &Traffic, peers: &[Peer]) -> Result<Peers, String> {
        let wants_testpmd = peers.iter().any(|p| matches!(p, Peer::Testpmd(_)));
        let testpmd = wants_testpmd.then(|| Testpmd::start(stage, traffic)).transpose()?;
        let mut l3fwd = Vec::new();
        for peer in peers {
            if let Peer::L3fwd(lookup) = *peer {
                l3fwd.push((lookup, L3fwd::start(stage, traffic, lookup)?));
            }
        }
        Ok(Peers { testpmd, l3fwd })
    }

    fn router(&mut self, lookup: Lookup) -> Result<&mut L3fwd, String> {
        let found = self.l3fwd.iter_mut().find(|(l, _)| *l == lookup);
        found.map(|(_, p)| p).ok_or_else(|| "l3fwd was not started".to_owned())
    }

    fn testpmd(&mut self) -> Result<&mut Testpmd, String> {
        self.testpmd.as_mut().ok_or_else(|| "testpmd was not started".to_owned())
    }

    pub(crate) fn go(&mut self, peer: Peer) -> Result<(), String> {
        match peer {
            Peer::Testpmd(mode) => self.testpmd()?.go(mode),
            Peer::L3fwd(lookup) => self.router(lookup)?.freeze(false),
        }
    }

    pub(crate) fn halt(&mut self, peer: Peer) -> Result<(), String> {
        match peer {
            Peer::Testpmd(_) => self.testpmd()?.halt(),
            Peer::L3fwd(lookup) => self.router(lookup)?.freeze(true),
        }
    }

    pub(crate) fn read(&mut self, peer: Peer) -> Result<Reading, String> {
        match peer {
            Peer::Testpmd(_) => self.testpmd()?.read(),
            Peer::L3fwd(lookup) => self.router(lookup)?.read(),
        }
    }
}
