//! From the file's own types to a [`Config`]: defaults, and everything that serde cannot check.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use toml::Spanned;

use crate::error::{ConfigErrors, Problem};
use crate::inventory::Format;
use crate::limits::{Limits, Measure, Way, check};
use crate::raw;
use crate::rules::{Rule, RuleSettings, Unlocking};
use crate::scan::ScanLimits;
use crate::values::Validator;
use crate::{
    Breaker, Config, Control, DEFAULT_GROUP, Dataplane, Device, Evidence, Feed, Guards, HOSTS_MAX,
    LINK_DEVICES_MAX, Link, Run, Tables, Unlock,
};

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(86_400);
/// Longest path of a Unix socket, from `sockaddr_un` without its final zero.
const SOCKET_PATH_MAX: usize = 107;

pub(crate) fn parse(text: &str, source: &str) -> Result<Config, ConfigErrors> {
    let file: raw::File = toml::from_str(text).map_err(|e| {
        let message = e.message().lines().collect::<Vec<_>>().join(" ");
        let advice = if text.parse::<toml::Table>().is_err() {
            "this is no TOML: write key = value, text in double quotes, section names in [brackets]"
        } else {
            "see cordon.example.toml for every section and key"
        };
        let problem = match e.span() {
            Some(span) => Problem::at(span, message, advice),
            None => Problem::general(message, advice),
        };
        ConfigErrors::new(source, text, vec![problem])
    })?;
    let mut v = Validator { text, problems: Vec::new() };
    let config = v.config(file, source);
    if v.problems.is_empty() { Ok(config) } else { Err(ConfigErrors::new(source, text, v.problems)) }
}

pub(crate) fn defaults() -> Config {
    Validator { text: "", problems: Vec::new() }.config(raw::File::default(), "defaults")
}

impl Validator<'_> {
    fn config(&mut self, f: raw::File, source: &str) -> Config {
        let run = Run {
            dir: self.path("dir", f.run.dir, "/run/cordon"),
            tables: self.path("tables", f.run.tables, "/dev/shm/cordon"),
            state: self.path("state", f.run.state, "/var/lib/cordon"),
        };
        let tables = self.tables(f.tables);
        let limits = self.limits(&Limits::default(), f.limits);
        let groups = self.groups(&limits, f.group);
        let networks = self.networks(f.network, &groups, tables);
        let wires = self.wires(f.wire);
        let scan = self.scan(f.scan);
        let link = self.link(&f.link);
        let d = Guards::default();
        let guards = Guards {
            dhcp: f.guards.dhcp.unwrap_or(d.dhcp),
            ra: f.guards.ra.unwrap_or(d.ra),
            stp: f.guards.stp.unwrap_or(d.stp),
            arp: f.guards.arp.unwrap_or(d.arp),
            nd: f.guards.nd.unwrap_or(d.nd),
            bindings: f.guards.bindings.unwrap_or(d.bindings),
        };
        let rules = self.rules(f.rules);
        let control_core = f.control.core.clone();
        let control = self.control(f.control, &run);
        let api = self.api(f.api);
        let dataplane = self.dataplane(f.dataplane, control_core);
        Config {
            source: source.to_owned(),
            text: self.text.to_owned(),
            run,
            dataplane,
            tables,
            control,
            api,
            wires,
            networks,
            limits,
            groups,
            scan,
            link,
            guards,
            rules,
            never_lock: self.prefixes(f.never_lock),
            exceptions: self.prefixes(f.exceptions),
            breaker: Breaker {
                locks_min: self.number("locks_min", f.breaker.locks_min, 20, 1..=1_000_000),
                share: self.number("share", f.breaker.share, 0.005, 0.0..=1.0),
                window: self.duration("window", f.breaker.window, 600 * SECOND, SECOND..=DAY),
            },
            unlock: Unlock {
                inbound_hold: self.duration(
                    "inbound_hold",
                    f.unlock.inbound_hold,
                    600 * SECOND,
                    Duration::ZERO..=30 * DAY,
                ),
                inbound_quiet: self.duration(
                    "inbound_quiet",
                    f.unlock.inbound_quiet,
                    60 * SECOND,
                    SECOND..=30 * DAY,
                ),
                outbound: match self.unlocking("outbound", f.unlock.outbound) {
                    Some(Unlocking::Quiet(d)) => Some(d),
                    Some(Unlocking::ByHand) | None => None,
                },
                maintenance_grace: match f.unlock.maintenance_grace {
                    Some(off) if off.get_ref() == "off" => None,
                    None => None,
                    some => Some(self.duration("maintenance_grace", some, SECOND, Duration::ZERO..=7 * DAY)),
                },
            },
            rtbh: self.rtbh(f.rtbh),
            evidence: Evidence {
                locale: f.evidence.locale,
                retention_days: self.number("retention_days", f.evidence.retention_days, 90, 1..=3_650),
                size_max: match f.evidence.size_max {
                    Some(off) if off.get_ref() == "off" => 0,
                    some => self.size("size_max", some, 20 << 30, 1 << 20),
                },
                history_days: self.number("history_days", f.evidence.history_days, 90, 1..=3_650),
                history_max: self.size("history_max", f.evidence.history_max, 4 << 30, 1 << 20),
                style: f.evidence.style,
                rows_max: self.number("rows_max", f.evidence.rows_max, 1_000, 1..=8_192),
                externals_max: self.number("externals_max", f.evidence.externals_max, 50, 1..=1_024),
            },
            inventory: self.inventory(f.inventory),
            mail: self.mail(f.mail),
            webhooks: self.webhooks(f.webhook),
        }
    }

    /// `"by-hand"`, or how long a server has to be quiet: longer than its incident stays open, so that an offence after the
    /// unlock is a new incident.
    fn unlocking(&mut self, key: &str, value: Option<raw::Text>) -> Option<Unlocking> {
        match value {
            None => None,
            Some(hand) if hand.get_ref() == "by-hand" => Some(Unlocking::ByHand),
            some => Some(Unlocking::Quiet(self.duration(key, some, 3600 * SECOND, 600 * SECOND..=30 * DAY))),
        }
    }

    fn inventory(&mut self, raw: raw::Inventory) -> Option<PathBuf> {
        let span = raw.file.as_ref()?.span();
        let path = self.path("file", raw.file, "");
        if Format::of(&path).is_none() {
            let message = format!("file = \"{}\" ends neither in .toml nor in .csv", path.display());
            self.wrong(span, message, "the ending says how the inventory is written: rename the file");
        }
        Some(path)
    }

    fn prefixes(&mut self, raw: raw::Prefixes) -> Vec<IpNet> {
        raw.prefixes.iter().filter_map(|p| self.prefix(p)).collect()
    }

    fn tables(&mut self, t: raw::Tables) -> Tables {
        let span = t.hosts.as_ref().map(Spanned::span);
        let hosts = self.number("hosts", t.hosts, 65_536, 256..=HOSTS_MAX);
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

    fn dataplane(&mut self, d: raw::Dataplane, control_core: Option<Spanned<usize>>) -> Dataplane {
        let cores_span = d.cores.as_ref().map(Spanned::span);
        let cores = d.cores.map(Spanned::into_inner).unwrap_or_default();
        if let Some(span) = cores_span
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
        // Longer, and a receive ring of the usual size overflows before the worker looks again.
        let idle_sleep =
            self.duration("idle_sleep", d.idle_sleep, Duration::ZERO, Duration::ZERO..=SECOND / 10_000);
        // A worker that sleeps when idle leaves room on its core; one that polls does not.
        if idle_sleep.is_zero() {
            for (key, core) in [("housekeeping_core", &d.housekeeping_core), ("core", &control_core)] {
                if let Some(core) = core
                    && cores.contains(core.get_ref())
                {
                    let message =
                        format!("{key} = {}: a worker polls on that core all the time", core.get_ref());
                    self.wrong(core.span(), message, "choose a core that [dataplane] cores does not name");
                }
            }
        }
        let feed = d.feed.map(|f| Feed {
            capture: f.capture,
            speed: self.number("speed", f.speed, 1.0, 0.001..=1000.0),
            repeat: f.repeat.unwrap_or(true),
        });
        Dataplane {
            cores,
            queues,
            housekeeping_core: d.housekeeping_core.map(Spanned::into_inner),
            eal: d.eal,
            mtu: self.number("mtu", d.mtu, 1500, 68..=9700),
            rx_descriptors: self.number("rx_descriptors", d.rx_descriptors, 1024, 32..=8192),
            tx_descriptors: self.number("tx_descriptors", d.tx_descriptors, 1024, 32..=8192),
            mbufs: self.number("mbufs", d.mbufs, 16_384, 512..=4_194_304),
            start_wait: self.duration("start_wait", d.start_wait, 5 * SECOND, Duration::ZERO..=600 * SECOND),
            idle_sleep,
            feed,
        }
    }

    fn control(&mut self, c: raw::Control, run: &Run) -> Control {
        let metrics = match c.metrics {
            None => Some(SocketAddr::from(([127, 0, 0, 1], 9477))),
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
        let span = c.socket.as_ref().map(Spanned::span);
        let default = run.dir.join("cordon.sock");
        let socket = self.path("socket", c.socket, &default.to_string_lossy());
        let length = socket.as_os_str().as_bytes().len();
        if length > SOCKET_PATH_MAX {
            let message =
                format!("the control socket's path has {length} bytes, Linux allows {SOCKET_PATH_MAX}");
            let advice = "choose a shorter socket in [control], or a shorter dir in [run]";
            match span {
                Some(span) => self.wrong(span, message, advice),
                None => self.problems.push(Problem::general(message, advice)),
            }
        }
        Control { core: c.core.map(Spanned::into_inner), socket, group: c.group, metrics }
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
            if let Err(e) = check(way, measure, limit) {
                self.wrong(
                    key.span(),
                    format!("limits.{way}.{measure}: {e}"),
                    "change one of the two; 0 switches a limit off",
                );
            }
        }
        limits
    }

    fn link(&mut self, l: &raw::Link) -> Link {
        let mut devices = |list: &[raw::Text]| list.iter().filter_map(|d| self.device(d)).collect::<Vec<_>>();
        let (dhcp_servers, routers, bridges) =
            (devices(&l.dhcp_servers), devices(&l.routers), devices(&l.bridges));
        let all = [&l.dhcp_servers, &l.routers, &l.bridges].into_iter().flatten();
        if let Some(first) = all.clone().nth(LINK_DEVICES_MAX) {
            let message =
                format!("[link] names {} devices, there is room for {LINK_DEVICES_MAX}", all.count());
            let advice = "name those on the inside only: what comes from outside needs no leave";
            self.wrong(first.span(), message, advice);
        }
        let mut macs = Vec::new();
        for (device, text) in bridges.iter().zip(&l.bridges) {
            match device {
                Device::Mac(mac) => macs.push(*mac),
                Device::Address(_) => {
                    let message =
                        format!("`{}` is no MAC address: spanning tree has no others", text.get_ref());
                    self.wrong(text.span(), message, "write it like \"02:00:5e:10:00:01\"");
                }
            }
        }
        Link { dhcp_servers, routers, bridges: macs }
    }

    fn scan(&mut self, s: raw::Scan) -> ScanLimits {
        let d = ScanLimits::default();
        let mut percent = |key: &str, value, default| self.number::<u32>(key, value, default, 0..=100);
        let failed_percent = percent("failed_percent", s.failed_percent, d.failed_percent);
        let worm_lock_failed_percent =
            percent("worm_lock_failed_percent", s.worm_lock_failed_percent, d.worm_lock_failed_percent);
        let worm_warn_failed_percent =
            percent("worm_warn_failed_percent", s.worm_warn_failed_percent, d.worm_warn_failed_percent);
        let p2p_answered_percent =
            percent("peer_to_peer_answered_percent", s.peer_to_peer_answered_percent, d.p2p_answered_percent);
        let tenth = SECOND / 10;
        let silence_fast = self.duration(
            "silence_fast",
            s.silence_fast,
            Duration::from_nanos(d.silence_fast_ns),
            tenth..=60 * SECOND,
        );
        let silence =
            self.duration("silence", s.silence, Duration::from_nanos(d.silence_ns), tenth..=60 * SECOND);
        let ns = |d: Duration| u64::try_from(d.as_nanos()).unwrap_or(u64::MAX);
        ScanLimits {
            netscan_port: s.netscan_port.unwrap_or(d.netscan_port),
            netscan_worm: s.netscan_worm.unwrap_or(d.netscan_worm),
            netscan_any: s.netscan_any.unwrap_or(d.netscan_any),
            worm_ports: s.worm_ports.unwrap_or(d.worm_ports),
            portscan: s.portscan.unwrap_or(d.portscan),
            lock_factor: self.number("lock_factor", s.lock_factor, d.lock_factor, 0..=1_000),
            failed_percent,
            worm_lock_failed_percent,
            worm_warn_failed_percent,
            unused_hits: s.unused_hits.unwrap_or(d.unused_hits),
            unused_divisor: self.number("unused_divisor", s.unused_divisor, d.unused_divisor, 1..=100),
            ceiling_ports: s.ceiling_ports.unwrap_or(d.ceiling_ports),
            ceiling: s.ceiling.unwrap_or(d.ceiling),
            smtp: s.smtp.unwrap_or(d.smtp),
            any_contacts: s.any_contacts.unwrap_or(d.any_contacts),
            p2p_answered_percent,
            silence_ns: ns(silence),
            silence_fast_ns: ns(silence_fast),
            fast_contacts: d.fast_contacts,
            fast_answered_percent: d.fast_answered_percent,
        }
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
            if let (Rule::Limit(_, Way::In), Some(u)) = (rule, &r.unlock) {
                let message = format!("{rule}: unlock is for rules about what a server does");
                self.wrong(
                    u.span(),
                    message,
                    "locks against an attack on a server follow [unlock] inbound_hold and inbound_quiet",
                );
            }
            rules.insert(
                rule,
                RuleSettings {
                    action: r.action.unwrap_or(d.action),
                    deadline: match r.deadline {
                        None => d.deadline,
                        Some(off) if off.get_ref() == "off" => None,
                        some => Some(self.duration("deadline", some, SECOND, SECOND..=30 * DAY)),
                    },
                    lock: r.lock.unwrap_or(d.lock),
                    unlock: self.unlocking("unlock", r.unlock),
                },
            );
        }
        rules
    }
}
