//! The table of rules, from tallies to findings.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::finding::{PORTS_MAX, ScanFinding, ScanKind, Scope, Variant};
use super::flow::{Opener, TCP, UDP};
use super::host::HostScan;
use super::limits::{FAST_NS, Limit, SLOW_NS, ScanLimits};
use super::tally::{Count, Port, Tally};
use crate::detect::Level;

/// Shares that have to have failed for a warning and for a lock, percent.
#[derive(Clone, Copy)]
struct Shares {
    warn: u32,
    lock: u32,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Crossing {
    level: Level,
    limit: u32,
    window_ns: u64,
    count: Count,
    /// It would not be crossed without contacts that were opened while nothing at all came in to the host.
    unheard: bool,
}

/// The furthest limit that is reached.
fn crossing(limit: Limit, divisor: u32, factor: u32, shares: Shares, t: &Tally) -> Option<Crossing> {
    let warn = |n: u32| if n == 0 { 0 } else { (n / divisor.max(1)).max(1) };
    let lock = |n: u32| warn(n).saturating_mul(factor);
    [
        (Level::Lock, lock(limit.fast), FAST_NS, t.fast, shares.lock),
        (Level::Lock, lock(limit.slow), SLOW_NS, t.slow, shares.lock),
        (Level::Warn, warn(limit.fast), FAST_NS, t.fast, shares.warn),
        (Level::Warn, warn(limit.slow), SLOW_NS, t.slow, shares.warn),
    ]
    .into_iter()
    .find(|(level, limit, _, count, percent)| {
        *limit > 0 && count.lost(*level) >= *limit && count.failed_share(*level, *percent)
    })
    .map(|(level, limit, window_ns, count, percent)| {
        let unheard = count.lost(Level::Lock) < limit || !count.failed_share(Level::Lock, percent);
        Crossing { level, limit, window_ns, count, unheard }
    })
}

/// For so long what the rows say of a finding stands, ns.
const DESCRIBED_NS: u64 = 1_000_000_000;

/// Takes over what the rows said of the same finding.
fn adopt(f: &mut ScanFinding, old: &ScanFinding) {
    f.technique = old.technique;
    (f.first_ns, f.last_ns, f.described_ns) = (old.first_ns, old.last_ns, old.described_ns);
    if !matches!(f.scope, Scope::Port(..)) {
        f.protocol = old.protocol;
        f.ports.clone_from(&old.ports);
    }
}

impl HostScan {
    /// All that is found, the furthest first.
    pub(super) fn findings(&self, limits: &ScanLimits) -> Vec<ScanFinding> {
        let mut found = self.one_port(limits);
        found.extend(self.any_port(limits));
        found.extend(self.portscan(limits));
        found.extend(self.ceilings(limits));
        for f in &mut found {
            let same = |o: &&ScanFinding| {
                (o.kind, o.variant, o.level, o.scope, o.window_ns)
                    == (f.kind, f.variant, f.level, f.scope, f.window_ns)
            };
            match self.found.iter().find(same).filter(|o| self.is_fresh(o)) {
                Some(old) => adopt(f, old),
                None => self.describe(f),
            }
        }
        found.sort_by_key(|f| (std::cmp::Reverse(f.level), f.kind, f.variant));
        found
    }

    /// Whether the rows were gone through for a finding within the last second: they are many, and ticks are too.
    fn is_fresh(&self, f: &ScanFinding) -> bool {
        f.described_ns.saturating_add(DESCRIBED_NS) > self.now_ns
    }

    /// Whether a crossing is a peer-to-peer node's doing. What was seen a second ago stands as long as it cannot turn
    /// into a lock: a node that was one still is, and what was warned of or locked before goes no further by it.
    fn by_peers(&self, port: Option<Port>, c: &Crossing, limits: &ScanLimits) -> bool {
        let scope = port.map_or(Scope::All, |(protocol, port)| Scope::Port(protocol, port));
        let before = self.found.iter().find(|f| f.scope == scope && f.variant.needs_failure());
        if let Some(f) = before.filter(|f| self.is_fresh(f)) {
            if f.variant == Variant::PeerToPeer {
                return true;
            }
            if f.level >= c.level {
                return false;
            }
        }
        self.is_peer_to_peer(port, c.window_ns, limits)
    }

    fn draft(&self, kind: ScanKind, variant: Variant, scope: Scope, c: Crossing) -> ScanFinding {
        let (protocol, ports, remote) = match scope {
            Scope::Port(protocol, port) => (protocol, vec![port], None),
            Scope::Remote(remote) => (TCP, Vec::new(), Some(remote)),
            Scope::All => (TCP, Vec::new(), None),
        };
        ScanFinding {
            kind,
            variant,
            level: c.level,
            technique: Opener::None,
            protocol,
            ports,
            remote,
            contacts: c.count.sum(),
            failed: c.count.lost(c.level),
            answered: c.count.answered,
            limit: c.limit,
            window_ns: c.window_ns,
            unheard: c.unheard,
            first_ns: 0,
            last_ns: 0,
            scope,
            described_ns: 0,
        }
    }

    /// By how much limits are divided: unused internal space holds nobody, so who tries it is looking for somebody.
    fn divisor(&self, limits: &ScanLimits) -> u32 {
        let tried = limits.unused_hits > 0 && self.tallies.unused >= limits.unused_hits;
        if tried { limits.unused_divisor.max(1) } else { 1 }
    }

    /// Netscans on one protocol and port: at most one finding a variant, its strongest port first.
    fn one_port(&self, limits: &ScanLimits) -> Vec<ScanFinding> {
        let divisor = self.divisor(limits);
        let half = Shares { warn: limits.failed_percent, lock: limits.failed_percent };
        let worm = Shares { warn: limits.worm_warn_failed_percent, lock: limits.worm_lock_failed_percent };
        let judge = |port: Port, t: &Tally, divisor: u32| {
            let plain = crossing(limits.netscan_port, divisor, limits.lock_factor, half, t);
            let is_worm = matches!(port.0, TCP | UDP) && limits.worm_ports.contains(&port.1);
            let on_worm = is_worm
                .then(|| crossing(limits.netscan_worm, divisor, limits.lock_factor, worm, t))
                .flatten()
                .map(|c| (c, Variant::WormPort));
            let plain = plain.map(|c| (c, Variant::Port));
            match (plain, on_worm) {
                (Some(p), Some(w)) => Some(if p.0.level > w.0.level { p } else { w }),
                (p, w) => p.or(w),
            }
        };
        if self.tallies.total.slow.lost(Level::Warn) == 0 {
            return Vec::new();
        }
        let mut by_variant: BTreeMap<Variant, Vec<(Port, Crossing)>> = BTreeMap::new();
        for (port, t) in self.tallies.ports.iter().filter(|(_, t)| t.slow.lost(Level::Warn) > 0) {
            let Some((c, variant)) = judge(*port, t, divisor) else { continue };
            let earned = divisor == 1 || judge(*port, t, 1).is_some_and(|(d, _)| d.level >= c.level);
            let variant = if earned { variant } else { Variant::UnusedSpace };
            let peers = self.by_peers(Some(*port), &c, limits);
            let (c, variant) = if peers {
                (Crossing { level: Level::Warn, ..c }, Variant::PeerToPeer)
            } else {
                (c, variant)
            };
            by_variant.entry(variant).or_default().push((*port, c));
        }
        let mut found = Vec::new();
        for (variant, mut ports) in by_variant {
            ports.sort_by_key(|(port, c)| (std::cmp::Reverse((c.level, c.count.lost(c.level))), *port));
            let Some(((protocol, port), c)) = ports.first().copied() else { continue };
            let mut f = self.draft(ScanKind::Netscan, variant, Scope::Port(protocol, port), c);
            f.ports =
                ports.iter().filter(|(p, _)| p.0 == protocol).map(|(p, _)| p.1).take(PORTS_MAX).collect();
            found.push(f);
        }
        found
    }

    /// A netscan over any ports together: distinct destinations; one that answers on any port is no failed one.
    fn any_port(&self, limits: &ScanLimits) -> Option<ScanFinding> {
        let divisor = self.divisor(limits);
        let half = Shares { warn: limits.failed_percent, lock: limits.failed_percent };
        let t = &self.tallies.destinations;
        let mut c = crossing(limits.netscan_any, divisor, limits.lock_factor, half, t)?;
        let earned = divisor == 1
            || crossing(limits.netscan_any, 1, limits.lock_factor, half, t)
                .is_some_and(|d| d.level >= c.level);
        let mut variant = if earned { Variant::AnyPort } else { Variant::UnusedSpace };
        if self.by_peers(None, &c, limits) {
            c.level = Level::Warn;
            variant = Variant::PeerToPeer;
        }
        Some(self.draft(ScanKind::Netscan, variant, Scope::All, c))
    }

    /// The strongest portscan of one host.
    fn portscan(&self, limits: &ScanLimits) -> Option<ScanFinding> {
        let half = Shares { warn: limits.failed_percent, lock: limits.failed_percent };
        let least = [limits.portscan.fast, limits.portscan.slow].into_iter().filter(|n| *n > 0).min()?;
        if self.tallies.total.slow.lost(Level::Warn) < least {
            return None;
        }
        let strongest = self
            .tallies
            .hosts
            .iter()
            .filter(|(_, d)| d.ports.slow.lost(Level::Warn) >= least)
            .filter_map(|(remote, d)| {
                crossing(limits.portscan, 1, limits.lock_factor, half, &d.ports).map(|c| (*remote, c))
            })
            .max_by_key(|(remote, c): &(IpAddr, Crossing)| {
                (c.level, c.count.lost(c.level), std::cmp::Reverse(*remote))
            });
        strongest.map(|(remote, c)| self.draft(ScanKind::Portscan, Variant::Ports, Scope::Remote(remote), c))
    }

    /// First contacts, answered or not: an outsider who helps could answer everything, and brute force is answered.
    fn ceilings(&self, limits: &ScanLimits) -> Vec<ScanFinding> {
        let mut found = Vec::new();
        let mut ask = |variant: Variant, scope: Scope, count: Count, limit: u32| {
            if limit > 0 && count.sum() >= limit {
                let c = Crossing { level: Level::Warn, limit, window_ns: FAST_NS, count, unheard: false };
                found.push(self.draft(ScanKind::Netscan, variant, scope, c));
            }
        };
        let tcp = |port: u16| self.tallies.ports.get(&(TCP, port)).copied().unwrap_or_default().fast;
        let busiest =
            limits.ceiling_ports.iter().copied().max_by_key(|p| (tcp(*p).sum(), std::cmp::Reverse(*p)));
        if let Some(port) = busiest {
            ask(Variant::FirstContacts, Scope::Port(TCP, port), tcp(port), limits.ceiling);
        }
        ask(Variant::Smtp, Scope::Port(TCP, 25), tcp(25), limits.smtp);
        ask(Variant::AnyContacts, Scope::All, self.tallies.total.fast, limits.any_contacts);
        found
    }

    /// Adds what the rows say: when, how, on which ports.
    fn describe(&self, f: &mut ScanFinding) {
        let mut openers: BTreeMap<Opener, u32> = BTreeMap::new();
        let mut ports: BTreeMap<Port, u32> = BTreeMap::new();
        let (mut first_ns, mut last_ns) = (u64::MAX, 0);
        for (k, c) in self.evidence(f) {
            first_ns = first_ns.min(c.first_ns);
            last_ns = last_ns.max(c.first_ns);
            *openers.entry(c.opener).or_default() += 1;
            *ports.entry((k.protocol, k.port)).or_default() += 1;
        }
        let most = |o: &(&Opener, &u32)| (*o.1, std::cmp::Reverse(*o.0));
        f.technique = openers.iter().max_by_key(most).map_or(Opener::None, |(o, _)| *o);
        f.first_ns = if last_ns == 0 { self.now_ns } else { first_ns };
        f.last_ns = if last_ns == 0 { self.now_ns } else { last_ns };
        f.described_ns = self.now_ns;
        if matches!(f.scope, Scope::Port(..)) {
            return;
        }
        let mut protocols: BTreeMap<u8, u32> = BTreeMap::new();
        for ((protocol, _), n) in &ports {
            *protocols.entry(*protocol).or_default() += n;
        }
        f.protocol = protocols.iter().max_by_key(|(p, n)| (**n, **p)).map_or(TCP, |(p, _)| *p);
        let mut top: Vec<_> = ports.into_iter().filter(|((p, _), _)| *p == f.protocol).collect();
        top.sort_by_key(|((_, port), n)| (std::cmp::Reverse(*n), *port));
        f.ports = top.into_iter().map(|((_, port), _)| port).take(PORTS_MAX).collect();
    }
}
