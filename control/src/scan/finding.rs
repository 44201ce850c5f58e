//! What was found, and the exact rows that prove it.

use std::net::IpAddr;

use super::flow::Opener;
use super::host::{Contact, HostScan, State};
use super::tally::{Key, Outcome};
use crate::detect::Level;

/// Many hosts, or many ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ScanKind {
    /// One source, many destinations.
    Netscan,
    /// One source, one destination, many ports.
    Portscan,
}

/// Which row of the table of rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Variant {
    /// Failed destinations on one protocol and port.
    Port,
    /// … on a worm port.
    WormPort,
    /// … on any ports together.
    AnyPort,
    /// One of these at the lower limit for those who tried unused internal space.
    UnusedSpace,
    /// One of these by a peer-to-peer node: no more than a warning.
    PeerToPeer,
    /// First contacts on a port that brute force goes for, answered or not.
    FirstContacts,
    /// Destinations on SMTP, answered or not.
    Smtp,
    /// First contacts of any kind, answered or not.
    AnyContacts,
    /// Failed ports on one host.
    Ports,
}

impl Variant {
    /// All of them.
    pub const ALL: [Variant; 9] = [
        Variant::Port,
        Variant::WormPort,
        Variant::AnyPort,
        Variant::UnusedSpace,
        Variant::PeerToPeer,
        Variant::FirstContacts,
        Variant::Smtp,
        Variant::AnyContacts,
        Variant::Ports,
    ];

    /// Whether it may be a proof of abuse: else it never locks.
    pub const fn may_lock(self) -> bool {
        match self {
            Variant::PeerToPeer | Variant::FirstContacts | Variant::Smtp | Variant::AnyContacts => false,
            Variant::Port | Variant::WormPort | Variant::AnyPort | Variant::UnusedSpace | Variant::Ports => {
                true
            }
        }
    }

    /// Its name in incidents: what stands behind the slash of `netscan/…`.
    pub const fn name(self) -> &'static str {
        match self {
            Variant::Port => "port",
            Variant::WormPort => "worm-port",
            Variant::AnyPort => "any-port",
            Variant::UnusedSpace => "unused-space",
            Variant::PeerToPeer => "peer-to-peer",
            Variant::FirstContacts => "first-contacts",
            Variant::Smtp => "smtp",
            Variant::AnyContacts => "any-contacts",
            Variant::Ports => "ports",
        }
    }

    /// Whether it judges by missing answers; else contacts count, answered or not.
    pub const fn needs_failure(self) -> bool {
        !matches!(self, Variant::FirstContacts | Variant::Smtp | Variant::AnyContacts)
    }
}

/// Which contacts a finding is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    Port(u8, u16),
    Remote(IpAddr),
    All,
}

/// A limit that was crossed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScanFinding {
    /// What it is.
    pub kind: ScanKind,
    /// By which rule.
    pub variant: Variant,
    /// How far.
    pub level: Level,
    /// How most of its contacts were opened.
    pub technique: Opener,
    /// The protocol of most of them.
    pub protocol: u8,
    /// The ports that were tried most, at most [`PORTS_MAX`]; of ICMP the types.
    pub ports: Vec<u16>,
    /// The destination, where there is one only.
    pub remote: Option<IpAddr>,
    /// First contacts in the window: distinct destinations, of a portscan distinct ports.
    pub contacts: u32,
    /// Those that failed.
    pub failed: u32,
    /// Those that were answered.
    pub answered: u32,
    /// The limit that was crossed.
    pub limit: u32,
    /// Its window, ns.
    pub window_ns: u64,
    /// It rests on contacts that were opened while nothing at all came in to the host: silence proves nothing then.
    pub unheard: bool,
    /// First of the contacts that prove it, ns; as of at most a second ago.
    pub first_ns: u64,
    /// Last of them, ns; as of at most a second ago.
    pub last_ns: u64,
    pub(super) scope: Scope,
    /// When the rows were last gone through for it.
    pub(super) described_ns: u64,
}

#[cfg(test)]
impl ScanFinding {
    /// One about which nothing else is known.
    pub(crate) fn for_tests(kind: ScanKind, variant: Variant, level: Level, unheard: bool) -> ScanFinding {
        ScanFinding {
            kind,
            variant,
            level,
            unheard,
            technique: Opener::Syn,
            protocol: 6,
            ports: vec![25],
            remote: None,
            contacts: 400,
            failed: 400,
            answered: 0,
            limit: 90,
            window_ns: 60_000_000_000,
            first_ns: 0,
            last_ns: 0,
            scope: Scope::All,
            described_ns: 0,
        }
    }
}

/// Most ports that a finding names.
pub const PORTS_MAX: usize = 10;

/// One contact: a row of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Proof {
    /// When it was opened, ns.
    pub time_ns: u64,
    /// The destination.
    pub remote: IpAddr,
    /// Its port; of ICMP the type.
    pub remote_port: u16,
    /// The host's port.
    pub local_port: u16,
    /// IP protocol number.
    pub protocol: u8,
    /// Length of the first frame without FCS, bytes.
    pub size: u32,
}

impl HostScan {
    /// The contacts that a finding of the last judgement rests on: all within its window that failed, or, where the rule
    /// does not ask for answers, all that are kept. In no order.
    pub(super) fn evidence<'a>(
        &'a self,
        f: &'a ScanFinding,
    ) -> impl Iterator<Item = (&'a Key, &'a Contact)> + 'a {
        let all = !f.variant.needs_failure();
        self.contacts.iter().filter(move |(k, c)| {
            let in_scope = match f.scope {
                Scope::Port(protocol, port) => k.protocol == protocol && k.port == port,
                Scope::Remote(remote) => k.remote == remote && matches!(k.protocol, 6 | 17),
                Scope::All => true,
            };
            let counts = match c.state {
                State::Counted(o) => {
                    all || o == Outcome::Failed || (o == Outcome::Unheard && f.level == Level::Warn)
                }
                State::Fresh | State::Pending | State::Bogon => false,
            };
            in_scope && counts && c.at_ns.saturating_add(f.window_ns) > self.now_ns
        })
    }

    /// The exact rows that prove a finding of the last judgement, in order of time: at most `rows_max`, and how many more
    /// there are.
    pub fn proof(&self, f: &ScanFinding, rows_max: usize) -> (Vec<Proof>, usize) {
        let mut rows: Vec<Proof> = self
            .evidence(f)
            .map(|(k, c)| Proof {
                time_ns: c.first_ns,
                remote: k.remote,
                remote_port: k.port,
                local_port: c.local_port,
                protocol: k.protocol,
                size: c.size,
            })
            .collect();
        rows.sort_unstable();
        let more = rows.len().saturating_sub(rows_max);
        rows.truncate(rows_max);
        (rows, more)
    }
}
