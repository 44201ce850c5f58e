//! From the file's own types to a [`Config`]: defaults, and everything that serde cannot check.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::ops::{Range, RangeInclusive};
use std::time::Duration;

use ipnet::IpNet;
use toml::Spanned;

use crate::error::{ConfigErrors, Problem};
use crate::limits::{Limits, Measure, Way, check};
use crate::raw;
use crate::rules::{Rule, RuleSettings};
use crate::{
    Breaker, Config, Control, DEFAULT_GROUP, Dataplane, Evidence, Feed, Network, Run, Tables, Unlock, Wire,
};

pub(crate) fn parse(text: &str, source: &str) -> Result<Config, ConfigErrors> {
    let file: raw::File = toml::from_str(text).map_err(|e| {
        let message = e.message().lines().collect::<Vec<_>>().join(" ");
        let advice = "see cordon.example.toml for every section and key";
        let problem = match e.span() {
            Some(span) => Problem::at(span, message, advice),
            None => Problem::general(message, advice),
        };
        ConfigErrors::new(source, text, vec![problem])
    })?;
    let mut v = Validator { problems: Vec::new() };
    let config = v.config(file, text, source);
    if v.problems.is_empty() { Ok(config) } else { Err(ConfigErrors::new(source, text, v.problems)) }
}

pub(crate) fn defaults() -> Config {
    Validator { problems: Vec::new() }.config(raw::File::default(), "", "defaults")
}

struct Validator {
    problems: Vec<Problem>,
}

impl Validator {
    fn wrong(&mut self, span: Range<usize>, message: impl Into<String>, advice: impl Into<String>) {
        self.problems.push(Problem::at(span, message, advice));
    }

    /// A number within a range, or its default.
    fn number<T: Copy + PartialOrd + Display>(
        &mut self,
        key: &str,
        value: Option<Spanned<T>>,
        default: T,
        range: RangeInclusive<T>,
    ) -> T {
        let Some(value) = value else { return default };
        let n = *value.get_ref();
        if !range.contains(&n) {
            let advice = format!("choose a number from {} to {}", range.start(), range.end());
            self.wrong(value.span(), format!("{key} = {n} is out of range"), advice);
        }
        n
    }

    fn config(&mut self, f: raw::File, text: &str, source: &str) -> Config {
        let dir = f.run.dir.unwrap_or_else(|| "/run/cordon".into());
        let run = Run {
            tables: f.run.tables.unwrap_or_else(|| "/dev/shm/cordon".into()),
            state: f.run.state.unwrap_or_else(|| "/var/lib/cordon".into()),
            dir,
        };
        let tables = self.tables(f.tables);
        let limits = self.limits(&Limits::default(), f.limits);
        let groups = self.groups(&limits, f.group);
        let networks = self.networks(f.network, &groups, tables);
        let wires = self.wires(f.wire);
        let rules = self.rules(f.rules);
        let control = self.control(f.control, &run);
        let dataplane = self.dataplane(f.dataplane);
        let share = self.number("share", f.breaker.share, 0.005, 0.0..=1.0);
        let plain = |p: raw::Prefixes| p.prefixes.into_iter().map(|p| p.0).collect();
        let or = |s: Option<raw::Span>, seconds| s.map_or(Duration::from_secs(seconds), |s| s.0);
        Config {
            source: source.to_owned(),
            text: text.to_owned(),
            run,
            dataplane,
            tables,
            control,
            wires,
            networks,
            limits,
            groups,
            rules,
            never_lock: plain(f.never_lock),
            exceptions: plain(f.exceptions),
            breaker: Breaker {
                locks_min: f.breaker.locks_min.unwrap_or(20),
                share,
                window: or(f.breaker.window, 600),
            },
            unlock: Unlock {
                inbound_hold: or(f.unlock.inbound_hold, 600),
                inbound_quiet: or(f.unlock.inbound_quiet, 60),
            },
            evidence: Evidence {
                locale: f.evidence.locale,
                retention_days: f.evidence.retention_days.unwrap_or(90),
            },
        }
    }

    fn tables(&mut self, t: raw::Tables) -> Tables {
        let span = t.hosts.as_ref().map(Spanned::span);
        let hosts = self.number("hosts", t.hosts, 65_536, 256..=4_194_304);
        if let Some(span) = span
            && !hosts.is_multiple_of(256)
        {
            let advice =
                format!("write {}: hosts are given out in blocks of 256", hosts.next_multiple_of(256));
            self.wrong(span, format!("hosts = {hosts} is no multiple of 256"), advice);
        }
        let span = t.ipv6_hosts.as_ref().map(Spanned::span);
        let ipv6_hosts = self.number("ipv6_hosts", t.ipv6_hosts, 16_384, 16..=1_048_576);
        if let Some(span) = span
            && !ipv6_hosts.is_power_of_two()
        {
            let advice = format!("write {}: the table is a hash table", ipv6_hosts.next_power_of_two());
            self.wrong(span, format!("ipv6_hosts = {ipv6_hosts} is no power of two"), advice);
        }
        Tables {
            hosts,
            ipv6_hosts,
            locks: self.number("locks", t.locks, 131_072, 16..=4_194_304),
            ipv6_host_length: self.number("ipv6_host_length", t.ipv6_host_length, 64, 48..=128),
        }
    }

    fn dataplane(&mut self, d: raw::Dataplane) -> Dataplane {
        let cores_span = d.cores.as_ref().map(Spanned::span);
        let cores = d.cores.map(Spanned::into_inner).unwrap_or_default();
        if let Some(span) = cores_span.clone()
            && cores.iter().collect::<BTreeSet<_>>().len() != cores.len()
        {
            self.wrong(span, "cores names a core twice", "give every worker a core of its own");
        }
        let default = u16::try_from(cores.len().max(1)).unwrap_or(1);
        let queues_span = d.queues.as_ref().map(Spanned::span);
        let queues = self.number("queues", d.queues, default, 1..=64);
        if let Some(span) = queues_span
            && !cores.is_empty()
            && usize::from(queues) != cores.len()
        {
            let message = format!("queues = {queues}, but cores names {}", cores.len());
            self.wrong(span, message, "each queue has one worker on one core: leave queues out, or cores");
        }
        let idle_span = d.idle_sleep.as_ref().map(Spanned::span);
        let idle_sleep = d.idle_sleep.map_or(Duration::ZERO, |s| s.into_inner().0);
        if let Some(span) = idle_span
            && idle_sleep > Duration::from_millis(10)
        {
            self.wrong(
                span,
                "idle_sleep is longer than 10ms",
                "packets would wait that long: choose 100us or less, 0us on an appliance",
            );
        }
        let feed = d.feed.map(|f| Feed {
            capture: f.capture,
            speed: self.number("speed", f.speed, 1.0, 0.001..=1000.0),
            repeat: f.repeat.unwrap_or(true),
        });
        Dataplane {
            cores,
            queues,
            housekeeping_core: d.housekeeping_core,
            eal: d.eal,
            mtu: self.number("mtu", d.mtu, 1500, 68..=9700),
            rx_descriptors: self.number("rx_descriptors", d.rx_descriptors, 1024, 32..=8192),
            tx_descriptors: self.number("tx_descriptors", d.tx_descriptors, 1024, 32..=8192),
            mbufs: self.number("mbufs", d.mbufs, 16_384, 512..=4_194_304),
            start_wait: d.start_wait.map_or(Duration::from_secs(5), |s| s.0),
            idle_sleep,
            feed,
        }
    }

    fn control(&mut self, c: raw::Control, run: &Run) -> Control {
        let metrics = match c.metrics {
            None => "127.0.0.1:9477".parse().ok(),
            Some(m) if m.get_ref() == "off" => None,
            Some(m) => {
                let parsed = m.get_ref().parse().ok();
                if parsed.is_none() {
                    let message = format!("metrics = \"{}\" is no address and port", m.get_ref());
                    self.wrong(m.span(), message, "write \"127.0.0.1:9477\", \"[::1]:9477\" or \"off\"");
                }
                parsed
            }
        };
        Control {
            core: c.core,
            socket: c.socket.unwrap_or_else(|| run.dir.join("cordon.sock")),
            group: c.group,
            metrics,
        }
    }

    fn wires(&mut self, raw: Vec<raw::Wire>) -> Vec<Wire> {
        let mut names: BTreeSet<String> = BTreeSet::new();
        let mut ports: BTreeSet<String> = BTreeSet::new();
        let mut wires = Vec::new();
        for w in raw {
            if !names.insert(w.name.get_ref().clone()) {
                let message = format!("there are two wires named \"{}\"", w.name.get_ref());
                self.wrong(w.name.span(), message, "give each wire a name of its own");
            }
            for p in [&w.inside_port, &w.outside_port] {
                let device = p.get_ref().split(',').next().unwrap_or("").to_owned();
                if device.is_empty() {
                    self.wrong(
                        p.span(),
                        "a port has no name",
                        "write a PCI address (lspci) or a DPDK device such as \"net_tap0,iface=x\"",
                    );
                } else if !ports.insert(device.clone()) {
                    self.wrong(
                        p.span(),
                        format!("port {device} is named twice"),
                        "a port belongs to one side of one wire",
                    );
                }
            }
            let Some(inside) = w.inside else {
                self.wrong(
                    w.name.span(),
                    format!("wire \"{}\" does not say what its inside port sees", w.name.get_ref()),
                    "write inside = \"l2\" where the servers' own segment is on that port (their MAC addresses are seen), \
                     inside = \"routed\" where a router stands in between; there is no default, since a wrong one locks innocents",
                );
                continue;
            };
            wires.push(Wire {
                name: w.name.into_inner(),
                inside,
                inside_port: w.inside_port.into_inner(),
                outside_port: w.outside_port.into_inner(),
                links_follow: w.links_follow.unwrap_or(true),
            });
        }
        wires
    }

    fn networks(
        &mut self,
        raw: Vec<raw::Network>,
        groups: &BTreeMap<String, Limits>,
        tables: Tables,
    ) -> Vec<Network> {
        let mut seen: Vec<IpNet> = Vec::new();
        let mut networks = Vec::new();
        let mut blocks: u64 = 0;
        for n in raw {
            let (span, prefix) = (n.prefix.span(), n.prefix.get_ref().0);
            if let Some(other) = seen.iter().find(|o| o.contains(&prefix) || prefix.contains(*o)) {
                self.wrong(
                    span.clone(),
                    format!("{prefix} overlaps the network {other}"),
                    "networks are disjoint: remove one, or split the larger",
                );
            }
            seen.push(prefix);
            if let IpNet::V4(v4) = prefix {
                blocks += (1u64 << (32 - u32::from(v4.prefix_len()))).next_multiple_of(256);
                if blocks > u64::from(tables.hosts) {
                    let message = format!(
                        "the IPv4 networks up to {prefix} take {blocks} host ids, [tables] hosts = {}",
                        tables.hosts
                    );
                    let advice = format!(
                        "set hosts = {} in [tables] and restart cordon-dataplane",
                        blocks.next_power_of_two()
                    );
                    self.wrong(span.clone(), message, advice);
                }
            }
            if let IpNet::V6(v6) = prefix
                && v6.prefix_len() < 16
            {
                self.wrong(
                    span.clone(),
                    format!("{prefix} is too short"),
                    "name the prefixes that your servers have",
                );
            }
            let group = match n.group {
                None => DEFAULT_GROUP.to_owned(),
                Some(g) => {
                    if g.get_ref() != DEFAULT_GROUP && !groups.contains_key(g.get_ref()) {
                        let message = format!("there is no group \"{}\"", g.get_ref());
                        self.wrong(g.span(), message, "add a [[group]] with that name, or leave group out");
                    }
                    g.into_inner()
                }
            };
            for g in &n.gateways {
                if !prefix.contains(g.get_ref()) {
                    self.wrong(
                        g.span(),
                        format!("gateway {} is not in {prefix}", g.get_ref()),
                        "a gateway lies inside its network",
                    );
                }
            }
            networks.push(Network {
                prefix,
                group,
                gateways: n.gateways.into_iter().map(Spanned::into_inner).collect(),
                antispoof: n.antispoof,
            });
        }
        networks
    }

    fn groups(&mut self, default: &Limits, raw: Vec<raw::Group>) -> BTreeMap<String, Limits> {
        let mut groups = BTreeMap::new();
        for g in raw {
            let (span, name) = (g.name.span(), g.name.into_inner());
            let limits = self.limits(default, g.limits);
            if name == DEFAULT_GROUP || name.is_empty() {
                self.wrong(
                    span,
                    format!("a group cannot be named \"{name}\""),
                    "set the limits of the default group in [limits]",
                );
            } else if groups.insert(name.clone(), limits).is_some() {
                self.wrong(
                    span,
                    format!("there are two groups named \"{name}\""),
                    "give each group a name of its own",
                );
            }
        }
        groups
    }

    fn limits(&mut self, base: &Limits, raw: raw::Limits) -> Limits {
        let mut limits = base.clone();
        let both = [(Way::Out, raw.out), (Way::In, raw.inbound)];
        for (way, (key, l)) in both.into_iter().flat_map(|(w, m)| m.into_iter().map(move |e| (w, e))) {
            let Ok(measure) = key.get_ref().parse::<Measure>() else {
                let known: Vec<_> = Measure::ALL.iter().map(|m| m.name()).collect();
                let message = format!("nothing named `{}` is measured", key.get_ref());
                self.wrong(key.span(), message, format!("the measures are {}", known.join(" ")));
                continue;
            };
            let limit = limits.get_mut(way, measure);
            for (to, from) in [
                (&mut limit.warn_fast, l.warn_fast),
                (&mut limit.lock_fast, l.lock_fast),
                (&mut limit.warn_mean, l.warn_mean),
                (&mut limit.lock_mean, l.lock_mean),
            ] {
                *to = from.unwrap_or(*to);
            }
            if let Err(e) = check(measure, limit) {
                self.wrong(
                    key.span(),
                    format!("limits.{way}.{measure}: {e}"),
                    "change one of the two; 0 switches a limit off",
                );
            }
        }
        limits
    }

    fn rules(&mut self, raw: BTreeMap<Spanned<String>, raw::Rule>) -> BTreeMap<Rule, RuleSettings> {
        let mut rules = BTreeMap::new();
        for (name, r) in raw {
            let rule = match name.get_ref().parse::<Rule>() {
                Ok(rule) => rule,
                Err(e) => {
                    let (message, advice) = e.split_once("; ").unwrap_or((&e, "see cordon.example.toml"));
                    self.wrong(name.span(), message, advice);
                    continue;
                }
            };
            let d = RuleSettings::default_for(rule);
            rules.insert(
                rule,
                RuleSettings {
                    action: r.action.unwrap_or(d.action),
                    deadline: r.deadline.map_or(d.deadline, |s| s.0),
                    lock: r.lock.unwrap_or(d.lock),
                },
            );
        }
        rules
    }
}
