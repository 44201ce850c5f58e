//! `cordond replay`: a capture through the same packet path and the same deciding core, in one thread, on the capture's
//! own clock. The same capture always gives the same bytes.

mod output;

use std::collections::HashMap;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use capture::Capture;
use clap::{Args, ValueEnum};
use config::{Antispoof, Config, DEFAULT_GROUP, HOSTS_MAX, Inventory, Network, Site};
use indicatif::{ProgressBar, ProgressStyle};
use ipnet::IpNet;
use pipeline::parse::parse;
use pipeline::{BURST, Frame, Mode, Pipeline};
use region::{Addr, Capacities, Class, Dir, Facts, HostId, Policy, Side, Verdict};

use crate::control::{Control, Use};
use crate::effect::{Effect, Loaded, Now, StoreOp};
use crate::log;

/// Time between two ticks, as in [`crate::run::TICK`].
const TICK_NS: u64 = 100_000_000;
/// Where the monotonic clock begins: before it lies room for every window.
const CLOCK_BEGINS_NS: u64 = 1_000_000_000_000;
/// The clock runs on for so long after the last packet, so that what is pending is decided.
const RUN_ON_NS: u64 = 10_000_000_000;
/// The key of keyed hashes: a replay is to give the same bytes everywhere.
const HASH_KEY: [u64; 2] = [0x5bd1_e995_9d1b_58d3, 0xc2b2_ae3d_27d4_eb4f];

/// What the command line says.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// The capture: pcap or pcapng, of Ethernet frames.
    file: PathBuf,
    /// The configuration [default: the defaults of every limit, and --internal].
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where to write hosts.json, incidents.json, totals.json, and a folder of evidence for each incident.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// A prefix of servers; replaces those of the configuration (repeatable).
    #[arg(long, value_name = "PREFIX", value_parser = prefix)]
    internal: Vec<IpNet>,
    /// Overrides a limit, such as out.syn.lock_fast=500 (repeatable).
    #[arg(long, value_name = "KEY=VALUE", value_parser = limit)]
    limit: Vec<(String, u64)>,
    /// What the inside of the wire shows: the servers' own segment, or a router.
    #[arg(long, value_enum, default_value_t = WireKind::L2)]
    wire: WireKind,
    /// Which server has which addresses; replaces that of the configuration. TOML or CSV.
    #[arg(long, value_name = "FILE")]
    inventory: Option<PathBuf>,
    /// Private and shared address space counts as ordinary destinations: captures from laboratories.
    #[arg(long)]
    lab: bool,
    /// Print what was found as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum WireKind {
    L2,
    Routed,
}

fn prefix(s: &str) -> Result<IpNet, String> {
    match s.parse::<api::Target>() {
        Ok(api::Target::Prefix(net)) => Ok(net),
        Ok(api::Target::Server(_) | api::Target::Mac(_)) => Err("only prefixes can be internal".to_owned()),
        Err(e) => Err(e),
    }
}

fn limit(s: &str) -> Result<(String, u64), String> {
    let (key, value) = s.split_once('=').ok_or("write KEY=VALUE, such as out.syn.lock_fast=500")?;
    let number = value.replace('_', "").parse().map_err(|_| format!("`{value}` is no whole number"))?;
    Ok((key.trim().to_owned(), number))
}

/// Runs a replay. The error is for the operator.
pub fn run(options: &Options) -> Result<(), String> {
    let config = configuration(options)?;
    let inventory = inventory(options, &config)?;
    let mut capture = Capture::open(&options.file).map_err(|e| e.to_string())?;
    let size = std::fs::metadata(&options.file).map_or(0, |m| m.len());
    output::prepare(&options.out)?;
    let bar = progress(size);
    let mut replay = Replay::new(config, inventory, options.lab, options.wire == WireKind::L2)?;
    let mut read: u64 = 0;
    while let Some(p) = capture.next_packet().map_err(|e| e.to_string())? {
        replay.packet(p.time_ns, p.bytes, p.wire_len, &options.out)?;
        read += 1;
        if read.is_multiple_of(16_384) {
            bar.set_position(capture.consumed());
        }
    }
    replay.end(&options.out)?;
    bar.finish_and_clear();
    let damage = capture.damage().map(str::to_owned);
    if let Some(d) = &damage {
        log::warning(&format!("{d}; what came before it is counted"));
    }
    if replay.backwards > 0 {
        log::warning(&format!(
            "{} timestamps run backwards; they were taken for the time before them",
            replay.backwards
        ));
    }
    output::write(&options.out, &replay, damage.as_deref())?;
    output::say(options.json, &options.out, &replay);
    Ok(())
}

fn progress(size: u64) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(size);
    let style = ProgressStyle::with_template("{bar:40} {bytes}/{total_bytes} {bytes_per_sec}, {eta} left");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}

/// The configuration with what the command line changes.
fn configuration(options: &Options) -> Result<Config, String> {
    let mut config = match &options.config {
        Some(path) => Config::load(path).map_err(|e| e.to_string())?,
        None => Config::replay_default(),
    };
    if !options.internal.is_empty() {
        config.networks = distinct(&options.internal).into_iter().map(network).collect();
    }
    if config.networks.is_empty() {
        return Err(
            "no server is known: name their prefixes with --internal, or a file with --config".to_owned()
        );
    }
    for (key, value) in &options.limit {
        let all = std::iter::once(&mut config.limits).chain(config.groups.values_mut());
        for limits in all {
            limits.set(key, *value).map_err(|e| format!("--limit {key}={value}: {e}"))?;
        }
    }
    Ok(config)
}

/// The inventory that the command line or the configuration names. A capture shows a part of the network: neither its
/// prefixes nor, without a configuration, the groups have to be known.
fn inventory(options: &Options, config: &Config) -> Result<Option<Arc<Inventory>>, String> {
    let Some(path) = options.inventory.as_ref().or(config.inventory.as_ref()) else { return Ok(None) };
    let groups = options.config.is_some().then_some(&config.groups);
    let site = Site { groups, networks: &[], ..config.site() };
    Inventory::load(path, site).map(|i| Some(Arc::new(i))).map_err(|e| e.to_string())
}

/// Prefixes that lie in no other one, in order.
fn distinct(prefixes: &[IpNet]) -> Vec<IpNet> {
    let mut all = prefixes.to_vec();
    all.sort_unstable();
    all.dedup();
    let nested = |p: &IpNet| prefixes.iter().any(|q| q != p && q.contains(p));
    all.retain(|p| !nested(p));
    all
}

fn network(prefix: IpNet) -> Network {
    Network {
        prefix,
        name: None,
        group: DEFAULT_GROUP.to_owned(),
        gateways: Vec::new(),
        antispoof: Antispoof::default(),
    }
}

/// Tables large enough for the networks, whatever the configuration says of an appliance.
fn capacities(config: &Config) -> Result<Capacities, String> {
    let size = |p: &IpNet| match p {
        IpNet::V4(n) => 1u64 << (32 - n.prefix_len()),
        IpNet::V6(_) => 0,
    };
    let needed: u64 = config.networks.iter().map(|n| size(&n.prefix)).sum();
    if needed > u64::from(HOSTS_MAX) {
        return Err(format!(
            "the networks have {needed} IPv4 addresses, {HOSTS_MAX} are supported: name fewer or smaller ones"
        ));
    }
    let needed = u32::try_from(needed).unwrap_or(HOSTS_MAX);
    Ok(Capacities {
        workers: 1,
        hosts_v4: config.tables.hosts.max(needed),
        hosts_v6: config.tables.ipv6_hosts,
        locks: config.tables.locks,
    })
}

/// Packets that wait for their burst.
struct Batch {
    bytes: Vec<Vec<u8>>,
    wire_len: [u32; BURST],
    time: [u64; BURST],
    len: usize,
}

/// A capture on its way through the product.
pub(crate) struct Replay {
    facts: Arc<Facts>,
    policy: Arc<Policy>,
    control: Control,
    path: Pipeline,
    batch: Batch,
    /// The capture shows the servers' own segment.
    segment: bool,
    /// Time of the first packet, nanoseconds since 1970.
    first_ns: Option<i128>,
    /// Time of the latest packet, nanoseconds since the first.
    now_ns: u64,
    /// The next boundary, nanoseconds since the first packet.
    next_tick_ns: u64,
    /// Timestamps that ran backwards.
    backwards: u64,
    /// Bytes that frames had on the wire and have not in the capture, by verdict, and by host and direction.
    missing: [u64; Verdict::COUNT],
    missing_of: HashMap<(HostId, Dir), u64>,
}

impl Replay {
    fn new(
        config: Config,
        inventory: Option<Arc<Inventory>>,
        lab: bool,
        segment: bool,
    ) -> Result<Replay, String> {
        let capacities = capacities(&config)?;
        let length = config.tables.ipv6_host_length;
        let facts = Arc::new(Facts::anonymous(capacities).map_err(|e| e.to_string())?);
        let policy = Arc::new(Policy::anonymous(capacities, length, HASH_KEY).map_err(|e| e.to_string())?);
        let loaded = Loaded { hash_key: HASH_KEY, inventory, ..Loaded::default() };
        let mut control = Control::new(Use::Replay, config, Arc::clone(&policy), loaded, Now::default())?;
        control.set_lab(lab);
        let path = Pipeline::new(0, Mode::Mirror, &facts);
        let batch = Batch { bytes: vec![Vec::new(); BURST], wire_len: [0; BURST], time: [0; BURST], len: 0 };
        Ok(Replay {
            facts,
            policy,
            control,
            path,
            batch,
            segment,
            first_ns: None,
            now_ns: 0,
            next_tick_ns: TICK_NS,
            backwards: 0,
            missing: [0; Verdict::COUNT],
            missing_of: HashMap::new(),
        })
    }

    fn now(&self, since_first_ns: u64) -> Now {
        Now {
            mono_ns: CLOCK_BEGINS_NS + since_first_ns,
            unix_ns: self.first_ns.unwrap_or(0) + i128::from(since_first_ns),
        }
    }

    fn packet(
        &mut self,
        time_ns: i128,
        bytes: &[u8],
        wire_len: u32,
        out: &std::path::Path,
    ) -> Result<(), String> {
        let first = match self.first_ns {
            Some(first) => first,
            None => {
                self.first_ns = Some(time_ns);
                // The packet path's clock is the monotonic one.
                self.facts.header().tsc_hz.store(1_000_000_000, Relaxed);
                let unix_ns = u64::try_from(time_ns).unwrap_or(0);
                self.facts.set_clock(CLOCK_BEGINS_NS, CLOCK_BEGINS_NS, unix_ns);
                self.control.attach(Arc::clone(&self.facts), self.now(0));
                // Publishes networks and turns the packet path to the first tick.
                self.tick(0, out)?;
                time_ns
            }
        };
        let since = match u64::try_from(time_ns - first) {
            Ok(t) if t >= self.now_ns => t,
            _ => {
                self.backwards += 1;
                self.now_ns
            }
        };
        if since >= self.next_tick_ns {
            self.flush();
            self.ticks_until(since, out)?;
        }
        self.now_ns = since;
        let i = self.batch.len;
        self.batch.bytes[i].clear();
        self.batch.bytes[i].extend_from_slice(bytes);
        self.batch.wire_len[i] = wire_len;
        self.batch.time[i] = CLOCK_BEGINS_NS + since;
        self.batch.len += 1;
        if self.batch.len == BURST {
            self.flush();
        }
        Ok(())
    }

    /// All boundaries up to `since`. While nothing is open and nothing moves, time passes without ticks: they would
    /// change nothing.
    fn ticks_until(&mut self, since: u64, out: &std::path::Path) -> Result<(), String> {
        while self.next_tick_ns <= since {
            let at = self.next_tick_ns;
            self.tick(at, out)?;
            self.next_tick_ns = at + TICK_NS;
            if self.control.is_settled() {
                self.next_tick_ns += (since.saturating_sub(at) / TICK_NS).saturating_sub(1) * TICK_NS;
            }
        }
        Ok(())
    }

    fn tick(&mut self, at: u64, out: &std::path::Path) -> Result<(), String> {
        self.control.tick(self.now(at));
        self.path.poll(&self.facts, Some(&self.policy));
        for effect in self.control.take_effects() {
            let Effect::Store { ops, .. } = effect else { continue };
            for op in ops {
                if let StoreOp::WriteEvidence { incident, name, bytes } = op {
                    output::evidence(out, &incident, &name, &bytes)?;
                }
            }
        }
        self.control.take_stats();
        Ok(())
    }

    /// Runs what waits through the packet path.
    fn flush(&mut self) {
        let n = std::mem::take(&mut self.batch.len);
        let mut frames = [Frame::default(); BURST];
        for (i, f) in frames[..n].iter_mut().enumerate() {
            *f = Frame {
                bytes: &self.batch.bytes[i],
                length: self.batch.wire_len[i],
                side: Side::Outside,
                time: self.batch.time[i],
                segment: self.segment,
            };
        }
        let mut verdicts = [Verdict::Forward; BURST];
        self.path.poll(&self.facts, Some(&self.policy));
        self.path.run(&self.facts, Some(&self.policy), &frames[..n], &mut verdicts[..n]);
        for (f, v) in frames[..n].iter().zip(&verdicts) {
            let kept = u32::try_from(f.bytes.len()).unwrap_or(u32::MAX);
            let missing = u64::from(f.length.saturating_sub(kept));
            if missing > 0 {
                self.missing[v.index()] += missing;
                let p = parse(f.bytes, f.length);
                for (address, dir) in [(p.source, Dir::Out), (p.destination, Dir::In)] {
                    let address = match p.class {
                        Class::Ipv4 => Addr::V4(u32::try_from(address).unwrap_or(0)),
                        Class::Ipv6 => Addr::V6(address),
                        Class::Arp | Class::NonIp | Class::Malformed => continue,
                    };
                    let host = self.control.networks().host(address.into(), Some(&self.facts), HASH_KEY);
                    if let Some(host) = host {
                        *self.missing_of.entry((host, dir)).or_default() += missing;
                    }
                }
            }
        }
    }

    /// The capture is over; the clock runs on.
    fn end(&mut self, out: &std::path::Path) -> Result<(), String> {
        if self.first_ns.is_none() {
            return Ok(());
        }
        self.flush();
        self.ticks_until(self.now_ns + RUN_ON_NS, out)
    }
}
