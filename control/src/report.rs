//! What control tells an operator: `status`, `top`, `show`.

use std::sync::atomic::Ordering::Relaxed;

use api::{
    Attention, Direction, GuardsReport, HostReport, PortReport, ServerReport, Severity, StatusReport, Target,
    TopBy, TopRow, Traffic, VerdictCount, WireReport, WorkerReport,
};
use ipnet::IpNet;
use region::segment::Guard;
use region::{Class, Dir, Facts, HostFlags, HostId, PageKind, Side, Verdict};

use crate::control::Control;
use crate::guards::Post;
use crate::locklist;
use crate::meter::Rate;

/// A worker that has not polled for so long stands still.
const STILL_NS: u64 = 1_000_000_000;
/// Losses are spoken of for so long after the last one.
const LOSS_NS: u64 = 60 * 1_000_000_000;

fn sum(facts: &Facts, field: impl Fn(&region::facts::SideCounters) -> u64) -> u64 {
    let workers = facts.workers().iter();
    workers.flat_map(|w| Side::ALL.map(|s| field(w.side(s)))).fold(0, u64::wrapping_add)
}

/// What is seen of the dataplane from one tick to the next.
#[derive(Debug, Default)]
pub(crate) struct Pulse {
    /// For each worker: polls at the last change, and when that was.
    polls: Vec<(u64, u64)>,
    /// Packets lost before a worker saw them, and when the last of them were.
    missed: (u64, Option<u64>),
}

impl Pulse {
    /// Looks again. Call each tick.
    pub(crate) fn take(&mut self, facts: &Facts, now_ns: u64) {
        let first = self.polls.is_empty();
        self.polls.resize(facts.workers().len(), (u64::MAX, now_ns));
        for (seen, w) in self.polls.iter_mut().zip(facts.workers()) {
            let polls = w.polls.load(Relaxed);
            if polls != seen.0 {
                *seen = (polls, now_ns);
            }
        }
        let missed =
            in_use(facts).iter().map(|p| p.imissed.load(Relaxed).wrapping_add(p.rx_nombuf.load(Relaxed)));
        let missed = missed.fold(0, u64::wrapping_add);
        if missed != self.missed.0 {
            self.missed = (missed, if first { self.missed.1 } else { Some(now_ns) });
        }
    }

    fn stands_still(&self, worker: usize, now_ns: u64) -> bool {
        self.polls.get(worker).is_some_and(|(_, at)| now_ns.saturating_sub(*at) > STILL_NS)
    }

    fn loses(&self, now_ns: u64) -> bool {
        self.missed.1.is_some_and(|at| now_ns.saturating_sub(at) < LOSS_NS)
    }
}

fn in_use(facts: &Facts) -> &[region::facts::PortCell] {
    let n = usize::try_from(facts.header().ports.load(Relaxed)).unwrap_or(0);
    facts.ports().get(..n).unwrap_or(facts.ports())
}

impl Control {
    /// `cordon status`
    pub(crate) fn status(&self) -> StatusReport {
        let facts = self.facts().map(|f| &**f);
        let counted = |field: fn(&region::facts::SideCounters) -> u64| facts.map_or(0, |f| sum(f, field));
        let verdicts: Vec<VerdictCount> = Verdict::ALL
            .iter()
            .map(|v| VerdictCount {
                verdict: v.name().to_owned(),
                packets: facts.map_or(0, |f| sum(f, |s| s.verdict_packets[v.index()].load(Relaxed))),
                bytes: facts.map_or(0, |f| sum(f, |s| s.verdict_bytes[v.index()].load(Relaxed))),
            })
            .collect();
        let received = counted(|s| s.rx_packets.load(Relaxed));
        let class = |c: Class| facts.map_or(0, |f| sum(f, |s| s.class_packets[c.index()].load(Relaxed)));
        let direct = facts.is_some_and(|f| f.header().bypass_direct.load(Relaxed) != 0);
        let small = |k: PageKind| k == PageKind::Small;
        let pages = small(self.policy.page_kind()) || facts.is_some_and(|f| small(f.page_kind()));
        StatusReport {
            attention: self.attention(facts, direct, pages),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started: self.started,
            dataplane: match facts.map(|f| f.header().phase.load(Relaxed)) {
                None => "down",
                Some(0) => "starting",
                Some(1) => "forwarding",
                Some(_) => "stopping",
            }
            .to_owned(),
            dataplane_pid: facts.map(|f| f.header().pid.load(Relaxed)),
            incarnation: self.life.as_ref().map(|l| l.incarnation),
            enforcing: facts.is_some_and(|f| f.workers().iter().all(|w| w.enforcing.load(Relaxed) != 0)),
            bypass: match (direct, self.bypass) {
                (true, _) => "direct",
                (false, true) => "on",
                (false, false) => "off",
            }
            .to_owned(),
            received_packets: received,
            received_bytes: counted(|s| s.rx_bytes.load(Relaxed)),
            balanced: verdicts.iter().map(|v| v.packets).fold(0, u64::wrapping_add) == received,
            verdicts,
            malformed: class(Class::Malformed),
            non_ip: class(Class::NonIp),
            wires: facts.map(|f| self.wires(f)).unwrap_or_default(),
            workers: facts.map(|f| self.workers(f)).unwrap_or_default(),
            active_hosts: self.stats.active_hosts,
            locks: self.locks.by_reason(),
            guards: self.sees_segment().then(|| self.guards()),
            open_incidents: self.incidents.open_count(),
            breaker: self.breakers.rows(),
            pages: if pages { "small" } else { "huge" }.to_owned(),
            config: self.config.source.clone(),
        }
    }

    fn guards(&self) -> GuardsReport {
        let rules = &self.published_segment;
        let of = |post: Post| {
            self.segment.posts.gateways().filter(|(_, p)| *p == post).map(|(a, _)| a).collect::<Vec<_>>()
        };
        let on = Guard::ALL.into_iter().filter(|g| rules.guards.has(*g));
        GuardsReport {
            on: on.map(|g| g.name().to_owned()).collect(),
            gateways: of(Post::Guarded),
            unheard: of(Post::Silent),
            inside: of(Post::Inside),
        }
    }

    fn wires(&self, facts: &Facts) -> Vec<WireReport> {
        let ports = in_use(facts);
        let report = |i: usize, side: Side, device: &str| {
            let cell = ports.get(i * 2 + side.index())?;
            let get = |c: &std::sync::atomic::AtomicU64| c.load(Relaxed);
            Some(PortReport {
                side: side.name().to_owned(),
                device: device.to_owned(),
                link_up: get(&cell.link_up) != 0,
                held_down: get(&cell.held_down) != 0,
                speed_mbps: get(&cell.speed_mbps),
                received: get(&cell.ipackets),
                sent: get(&cell.opackets),
                missed: get(&cell.imissed),
                errors: get(&cell.ierrors)
                    .wrapping_add(get(&cell.oerrors))
                    .wrapping_add(get(&cell.rx_nombuf)),
            })
        };
        let wires = self.config.wires.iter().enumerate();
        wires
            .map(|(i, w)| WireReport {
                name: w.name.clone(),
                inside: match w.inside {
                    config::Inside::L2 => "l2",
                    config::Inside::Routed => "routed",
                }
                .to_owned(),
                ports: [report(i, Side::Inside, &w.inside_port), report(i, Side::Outside, &w.outside_port)]
                    .into_iter()
                    .flatten()
                    .collect(),
            })
            .collect()
    }

    fn workers(&self, facts: &Facts) -> Vec<WorkerReport> {
        let now_ns = self.now.mono_ns;
        let workers = facts.workers().iter().enumerate();
        workers
            .map(|(i, w)| {
                let packets = Side::ALL.iter().map(|s| w.side(*s).rx_packets.load(Relaxed)).sum::<u64>();
                #[expect(clippy::cast_precision_loss, reason = "a mean for people")]
                let cycles = w.busy_cycles.load(Relaxed) as f64 / packets.max(1) as f64;
                WorkerReport {
                    worker: i,
                    core: w.core.load(Relaxed).checked_sub(1),
                    packets,
                    cycles_per_packet: if packets == 0 { 0.0 } else { cycles },
                    alive: !self.pulse.stands_still(i, now_ns),
                }
            })
            .collect()
    }

    /// What needs a person, most urgent first.
    fn attention(&self, facts: Option<&Facts>, direct: bool, small_pages: bool) -> Vec<Attention> {
        let mut all = Vec::new();
        let mut say =
            |severity, text: String, next_step: String| all.push(Attention { severity, text, next_step });
        for (about, (text, next_step)) in &self.complaints {
            let severity = match *about {
                "dataplane" | "acknowledgement" | "facts" | "locks" | "addressing" => Severity::Critical,
                _ => Severity::Warning,
            };
            // What is wrong with a file comes with an excerpt of it, which `cordon check` shows better.
            let first = text.lines().next().unwrap_or_default();
            say(severity, first.to_owned(), next_step.clone());
        }
        if direct {
            let text = "bypass (direct) is on: everything is forwarded, no lock is enforced";
            say(Severity::Critical, text.to_owned(), "cordon bypass off --direct".to_owned());
        } else if self.bypass {
            let text = "bypass is on: everything is forwarded, no lock is enforced";
            say(Severity::Critical, text.to_owned(), "cordon bypass off".to_owned());
        }
        let now_ns = self.now.mono_ns;
        if let Some(facts) = facts {
            // A dataplane that starts waits for its policy before a worker polls.
            let forwards = facts.header().phase.load(Relaxed) == 1;
            let workers = facts.workers().iter().enumerate();
            for (i, _) in workers.filter(|(i, _)| forwards && self.pulse.stands_still(*i, now_ns)) {
                let text = format!("worker {i} stands still: what its queue receives is not forwarded");
                say(
                    Severity::Critical,
                    text,
                    "look at the dataplane's log; systemctl restart cordon-dataplane".to_owned(),
                );
            }
            if self.pulse.loses(now_ns) {
                let text = "packets were lost before a worker saw them (missed, or no buffer) within the last minute";
                let next = "raise [dataplane] queues or rx_descriptors; `cordon status` names the port";
                say(Severity::Critical, text.to_owned(), next.to_owned());
            }
            for (w, ports) in self.config.wires.iter().zip(in_use(facts).chunks(2)) {
                for (side, p) in Side::ALL.iter().zip(ports) {
                    if p.link_up.load(Relaxed) == 0 && p.held_down.load(Relaxed) == 0 {
                        let text = format!("wire {}: the link of its {} port is down", w.name, side.name());
                        say(
                            Severity::Critical,
                            text,
                            "check cable, transceiver and the device at its other end".to_owned(),
                        );
                    }
                }
            }
        }
        if let Some(e) = &self.store_error {
            let next = "mend the disk of [run] state: locks are enforced meanwhile, but none is kept";
            say(Severity::Critical, format!("the store fails: {e}"), next.to_owned());
        }
        for b in self.breakers.rows() {
            let text = format!(
                "the breaker of {} is latched since {}: it only observes; {} wait",
                b.rule,
                b.since,
                b.waiting.len()
            );
            let next = format!(
                "`cordon breaker status` says who; if the limit is right: cordon breaker reset {}",
                b.rule
            );
            say(Severity::Critical, text, next);
        }
        for (family, v) in ["IPv4", "IPv6"].into_iter().zip(&self.visibility) {
            let Some(why) = v.blind(self.now.mono_ns) else { continue };
            let text = format!("rules that judge by missing answers only observe, over {family}: {why}");
            say(
                Severity::Warning,
                text,
                "check routing: both directions have to pass this appliance".to_owned(),
            );
        }
        for row in self.locks.rows().filter(|r| !r.enforced && r.suspended.is_none()).take(5) {
            let why = row.why_not.as_deref().unwrap_or("unknown");
            let next = format!("`cordon show {}`; unlock it, or configure its network", row.target);
            say(Severity::Warning, format!("lock {} on {} is not enforced: {why}", row.id, row.target), next);
        }
        let remarks = self.locks.rows().filter_map(|r| Some((r, r.remark.as_ref()?)));
        for (row, remark) in remarks.take(5) {
            let next = format!("`cordon show {}`; unlock it, or correct the inventory", row.target);
            say(Severity::Warning, format!("lock {} on {}: {remark}", row.id, row.target), next);
        }
        let suspended = self.locks.rows().filter(|r| r.suspended.is_some()).count();
        if suspended > 0 {
            let text = format!("{suspended} locks are suspended for maintenance");
            say(
                Severity::Notice,
                text,
                "`cordon list` says until when; cordon resume TARGET ends one".to_owned(),
            );
        }
        for rule in &self.observing {
            say(Severity::Notice, format!("{rule} is set to observe"), format!("cordon rule {rule} enforce"));
        }
        if small_pages && facts.is_some() {
            let text = "the shared tables lie on 4 KiB pages: a packet costs more on large tables";
            let next = "mount a tmpfs with huge=advise or a hugetlbfs at [run] tables; ./hugepages.sh status";
            say(Severity::Notice, text.to_owned(), next.to_owned());
        }
        all.sort_by_key(|a| a.severity);
        all
    }

    /// `cordon top`
    pub(crate) fn top(&self, by: TopBy, direction: Direction, limit: usize) -> Vec<TopRow> {
        let (out, inbound) = (direction != Direction::In, direction != Direction::Out);
        let total = |r: &[Rate; 2]| {
            let pick = |wanted: bool, r: Rate| if wanted { r } else { Rate::default() };
            let (a, b) = (pick(out, r[0]), pick(inbound, r[1]));
            Rate { packets: a.packets + b.packets, bytes: a.bytes + b.bytes, syn: a.syn + b.syn }
        };
        let key = |r: &Rate| match by {
            TopBy::Packets => r.packets,
            TopBy::Bits => r.bytes,
            TopBy::Syn => r.syn,
        };
        let mut rows: Vec<(HostId, Rate)> = self
            .meters
            .moving(self.now.mono_ns)
            .map(|(h, r)| (h, total(&r)))
            .filter(|(_, r)| r.packets > 0)
            .collect();
        rows.sort_by_key(|(h, r)| (std::cmp::Reverse(key(r)), *h));
        rows.truncate(limit);
        let facts = self.facts().map(|f| &**f);
        let wanted = (u8::from(out) * HostFlags::LOCK_OUT) | (u8::from(inbound) * HostFlags::LOCK_IN);
        rows.into_iter()
            .filter_map(|(host, r)| {
                let net = self.networks.target(host, facts)?;
                Some(TopRow {
                    address: Target::Prefix(net).to_string(),
                    group: self.group_shown(&net, host).unwrap_or_default(),
                    packets_per_second: r.packets,
                    bits_per_second: r.bytes.saturating_mul(8),
                    syn_per_second: r.syn,
                    locked: self.locks.flags(&net) & wanted != 0,
                })
            })
            .collect()
    }

    /// `cordon show`
    pub(crate) fn show(&self, target: Target) -> HostReport {
        let facts = self.facts().map(|f| &**f);
        let net = target.prefix();
        let server = self.server_of(&target);
        let nets = match &target {
            Target::Prefix(net) => vec![*net],
            Target::Mac(_) => Vec::new(),
            Target::Server(id) => {
                let before = self.locks.on(&target).into_iter().flat_map(|r| &r.addresses);
                self.addresses_of(id, &before.copied().collect::<Vec<_>>())
            }
        };
        let internal = nets.iter().any(|n| self.networks.meets(&crate::networks::range(n)));
        let host = net.and_then(|n| self.host_of(&n));
        let names = |r: &api::IncidentRow| {
            let address = r.address.as_ref().and_then(|a| a.parse::<Target>().ok()?.prefix());
            let is_in = |b: IpNet| nets.iter().any(|a| a.contains(&b) || b.contains(a));
            address.is_some_and(is_in)
                || matches!(&target, Target::Server(id) if r.server.as_ref() == Some(id))
        };
        let flags = |n: &IpNet| self.locks.flags(n);
        // Of a server what holds for all of it.
        let enforced = nets.iter().map(flags).reduce(|a, b| a & b).and_then(locklist::direction);
        let locks = self.told(self.rows_over(&target).iter());
        let traffic = |dir| Some(traffic(facts?, host?, dir));
        HostReport {
            internal,
            group: match (net, host) {
                (Some(net), Some(host)) => self.group_shown(&net, host),
                _ => server.and_then(|s| s.group.clone()),
            },
            never_lock: match &target {
                Target::Mac(m) => self.is_needed(*m).is_some(),
                Target::Prefix(_) | Target::Server(_) => nets.iter().any(|n| self.protected_by(n).is_some()),
            },
            enforced: match &target {
                Target::Mac(m) if self.sees_segment() => {
                    self.locks.macs().get(m).and_then(|b| locklist::direction(*b))
                }
                _ => enforced.filter(|_| internal),
            },
            out: traffic(Dir::Out),
            inbound: traffic(Dir::In),
            locks,
            incidents: self
                .incidents
                .rows()
                .into_iter()
                .rev()
                .filter(|r| names(r))
                .take(100)
                .cloned()
                .collect(),
            exemptions: self
                .exemptions
                .iter()
                .filter(|(t, _, _)| *t == target || net.is_some_and(|n| self.is_within(&n, t)))
                .map(|(_, rule, until)| (rule.to_string(), *until))
                .collect(),
            bound: host.and_then(|h| self.policy.bound().get(h)).map(|m| m.to_string()),
            server: server.map(server_report),
            target,
        }
    }

    fn group_shown(&self, net: &IpNet, host: HostId) -> Option<String> {
        let server = self.server_of(&Target::Prefix(*net)).and_then(|s| s.group.clone());
        let facts = self.facts().map(|f| &**f);
        server.or_else(|| self.networks.group(host, facts).map(|g| g.name.clone()))
    }

    /// The host that a prefix names, when it names just one.
    fn host_of(&self, net: &ipnet::IpNet) -> Option<HostId> {
        let one = match net {
            ipnet::IpNet::V4(n) => n.prefix_len() == 32,
            ipnet::IpNet::V6(n) => n.prefix_len() >= self.networks.ipv6_length(),
        };
        let facts = self.facts().map(|f| &**f);
        one.then(|| self.networks.host(net.network(), facts, self.policy.hash_key())).flatten()
    }
}

fn server_report(s: &config::Server) -> ServerReport {
    let mac = |m: &[u8; 6]| crate::netconfig::Mac(*m).to_string();
    ServerReport {
        id: s.id.clone(),
        name: s.name.clone(),
        addresses: s.addresses.clone(),
        macs: s.macs.iter().map(mac).collect(),
        group: s.group.clone(),
        customer: s.customer.clone(),
        contacts: s.contacts.clone(),
        language: s.language.clone(),
        tags: s.tags.clone(),
    }
}

/// Totals of a host in a direction since the dataplane started.
pub(crate) fn traffic(facts: &Facts, host: HostId, dir: Dir) -> Traffic {
    let t = facts.totals(host, dir);
    Traffic {
        packets: t.packets,
        bytes: t.bytes,
        dropped: t.dropped.into(),
        tcp: t.tcp.into(),
        syn: t.syn.into(),
        udp: t.udp.into(),
        icmp: t.icmp.into(),
        fragments: t.fragments.into(),
        other: t.other().into(),
    }
}
