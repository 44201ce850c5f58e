//! `cordon-dataplane`, run as it is in production: its configuration file, its two shared files, and either the real
//! `cordond` or the part of it that costs the packet path anything.

use std::fmt::Write as _;
use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed};
use std::time::{Duration, Instant};

use region::{Class, Facts, PageKind, Policy, Side, Verdict};

use crate::cable;
use crate::cases::{Brain, Case, Inside};
use crate::child::{Child, Thread};
use crate::control::{Control, capacities};
use crate::locks::NO_LOCKS;
use crate::machine::Stage;
use crate::sample::Reading;
use crate::stop;
use crate::traffic::{Devices, INTERNAL_V4, Owner, Timing, Traffic, device_of};

const STARTED: Duration = Duration::from_secs(30);

/// Who writes policy.
enum Policies {
    Script(Control),
    Cordond(Child),
}

/// A running dataplane.
pub(crate) struct Dataplane {
    // Before control: it reads what control has mapped.
    child: Child,
    workers: Vec<Thread>,
    policies: Policies,
    facts: Arc<Facts>,
    traffic: Traffic,
}

impl Dataplane {
    /// Starts it with the traffic and the brain of a case.
    pub(crate) fn start(stage: &Stage, case: &Case, timing: &Timing) -> Result<Dataplane, String> {
        let traffic = &case.traffic;
        // Nothing of an earlier start: neither counters nor flags, locks or incidents.
        let tables = stage.folder("tables")?;
        for folder in [tables.clone(), stage.folder("state")?] {
            fs::remove_dir_all(&folder).map_err(|e| format!("rm({}): {e}", folder.display()))?;
        }
        let tables_again = stage.folder("tables")?;
        stage.folder("state")?;
        let config = stage.memory.join("cordon.toml");
        fs::write(&config, configuration(stage, case, timing)?)
            .map_err(|e| format!("{}: {e}", config.display()))?;
        let mut policies = match case.brain {
            Brain::Script => Policies::Script(Control::publish(&tables_again, traffic, case.inside)?),
            Brain::Cordond => Policies::Cordond(cordond(stage, &config)?),
        };
        let args = ["--config".as_ref(), config.as_os_str()];
        let runtime = stage.folder("run")?;
        let mut child = Child::start("cordon-dataplane", &stage.dataplane, args, &stage.cpus(), &runtime)?;
        child.wait_for(0, "forwarding: ", STARTED)?;
        let facts = Arc::new(Facts::open(&tables).map_err(|e| child.complaint(&e.to_string()))?);
        if facts.header().phase.load(Acquire) != 1 {
            return Err(child.complaint("it says that it forwards, and its facts say that it does not"));
        }
        let workers = (0..traffic.workers).map(|w| child.thread(&format!("worker{w}"), STARTED));
        let workers = workers.collect::<Result<_, _>>()?;
        match &mut policies {
            Policies::Script(control) => control.attach(&facts),
            Policies::Cordond(child) => in_charge(child, &tables, &facts)?,
        }
        if traffic.devices == Devices::Cable {
            cable::set_going(stage, Owner::Cordon, traffic)?;
        }
        Ok(Dataplane { child, workers, policies, facts, traffic: *traffic })
    }

    /// Goes on, with what a case enforces and watches.
    pub(crate) fn go(&self, case: &Case) -> Result<(), String> {
        self.child.freeze(false)?;
        match &self.policies {
            Policies::Script(control) => {
                control.enforce(&self.facts, &case.locks, case.watched, &self.traffic)
            }
            Policies::Cordond(_) if case.locks == NO_LOCKS && case.watched == 0 => Ok(()),
            Policies::Cordond(_) => Err("cordond decides itself whom to lock and to watch".to_owned()),
        }
    }

    /// Stands still.
    pub(crate) fn halt(&self) -> Result<(), String> {
        self.child.freeze(true)
    }

    /// Counters of each worker.
    pub(crate) fn read(&mut self) -> Result<Vec<Reading>, String> {
        self.child.alive()?;
        if let Policies::Cordond(cordond) = &mut self.policies {
            cordond.alive()?;
        }
        let mut readings = Vec::new();
        for (thread, w) in self.workers.iter().zip(self.facts.workers()) {
            let on_cpu_ns = thread.on_cpu_ns()?;
            let mut r = Reading {
                at: Instant::now(),
                on_cpu_ns,
                packets: 0,
                bytes: 0,
                dropped: 0,
                odd: 0,
                busy_cycles: w.busy_cycles.load(Relaxed),
                threads: 1,
            };
            for side in Side::ALL {
                let c = w.side(side);
                r.packets += c.rx_packets.load(Relaxed);
                r.bytes += c.rx_bytes.load(Relaxed);
                let verdict = |v: Verdict| c.verdict_packets[v.index()].load(Relaxed);
                r.dropped += verdict(Verdict::DropLockedOut) + verdict(Verdict::DropLockedIn);
                let class = |k: Class| c.class_packets[k.index()].load(Relaxed);
                r.odd +=
                    verdict(Verdict::DropTxFull) + verdict(Verdict::DropSpoofed) + class(Class::Malformed);
                // net_null's buffers are no packets.
                if self.traffic.devices != Devices::Null {
                    r.odd += class(Class::NonIp) + c.foreign.load(Relaxed) + c.no_slot.load(Relaxed);
                }
            }
            readings.push(r);
        }
        Ok(readings)
    }

    /// Packets that came since the start and that the receive rings had no room for, once that is known.
    pub(crate) fn missed(&self) -> Result<u64, String> {
        let rounds = || self.facts.header().housekeeping_rounds.load(Relaxed);
        // Of the round that is on its way some ports may have been read before.
        let enough = rounds() + 2;
        stop::wait("counters of ports", STARTED, || Ok((rounds() >= enough).then_some(())))?;
        Ok(self.facts.ports().iter().map(|p| p.imissed.load(Relaxed)).sum())
    }

    /// Ticks of the TSC in a second.
    pub(crate) fn tsc_hz(&self) -> u64 {
        self.facts.header().tsc_hz.load(Relaxed)
    }

    /// Whether the tables lie on huge pages.
    pub(crate) fn tables_are_huge(&self) -> bool {
        self.facts.page_kind() == PageKind::Huge
    }
}

fn cordond(stage: &Stage, config: &Path) -> Result<Child, String> {
    let args = ["run".as_ref(), "--config".as_ref(), config.as_os_str()];
    let core = stage.other_core.to_string();
    Child::start("cordond", &stage.cordond, args, &core, &stage.folder("run")?)
}

/// Waits until `cordond` has taken charge of this life of the dataplane.
fn in_charge(child: &mut Child, tables: &Path, facts: &Facts) -> Result<(), String> {
    let life = facts.header().incarnation.load(Relaxed);
    stop::wait("cordond in charge", STARTED, || {
        child.alive()?;
        let policy = Policy::open(tables).ok();
        Ok(policy.filter(|p| p.versions().flags_incarnation == life).map(|_| ()))
    })
    .map_err(|e| child.complaint(&e))
}

/// An inventory that gives each server its hardware address.
fn inventory(traffic: &Traffic) -> String {
    let mut text = "id,addresses,macs\n".to_owned();
    for host in 0..traffic.hosts {
        let [a, b, c, d, e, f] = device_of(host);
        let address = Ipv4Addr::from(INTERNAL_V4 + host);
        let _ = writeln!(text, "s{host},{address},{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}");
    }
    text
}

fn configuration(stage: &Stage, case: &Case, timing: &Timing) -> Result<String, String> {
    let traffic = &case.traffic;
    let inside = if case.inside == Inside::Routed { "routed" } else { "l2" };
    let mut inventory_key = String::new();
    if case.inside == Inside::Bound {
        let path = stage.memory.join("inventory.csv");
        fs::write(&path, inventory(traffic)).map_err(|e| format!("write({}): {e}", path.display()))?;
        inventory_key = format!("[inventory]\nfile = {:?}\n", path.display().to_string());
    }
    let sizes = capacities(traffic);
    let quoted = |s: &str| format!("{s:?}");
    let eal = stage.eal("cordon");
    let eal: Vec<String> = eal.iter().map(|a| quoted(a)).collect();
    let path = |name: &str| stage.folder(name).map(|p| quoted(&p.display().to_string()));
    let device = |i, side| quoted(&traffic.device(Owner::Cordon, i, side, &stage.captures(), timing));
    // A server that may send as fast as its port does has no limit of packets; all other rules are on. They only observe:
    // a row has to enforce what it says.
    let rules: Vec<String> = ["packets", "syn", "udp", "icmp", "fragments"]
        .iter()
        .flat_map(|m| ["out", "in"].map(|d| format!("{m}-{d}")))
        .chain(["netscan".to_owned(), "portscan".to_owned()])
        .map(|rule| format!("[rules.{rule}]\naction = \"observe\"\n"))
        .collect();
    Ok(format!(
        "[run]\ndir = {run}\ntables = {tables}\nstate = {state}\n\
         [dataplane]\ncores = {cores:?}\neal = [{eal}]\nstart_wait = \"10s\"\nidle_sleep = \"{idle_us}us\"\n\
         [tables]\nhosts = {hosts}\nipv6_hosts = {hosts_v6}\nlocks = {locks}\n\
         [control]\nmetrics = \"off\"\n{inventory_key}\
         [[wire]]\nname = \"bench\"\ninside = \"{inside}\"\ninside_port = {inside_port}\n\
         outside_port = {outside_port}\n\
         [[network]]\nprefix = \"10.0.0.0/{length}\"\n\
         [[network]]\nprefix = \"2001:db8::/32\"\n\
         [limits.out]\npackets = {{ lock_mean = 0 }}\n[limits.in]\npackets = {{ lock_mean = 0 }}\n{rules}",
        run = path("run")?,
        tables = path("tables")?,
        state = path("state")?,
        cores = stage.worker_cores(traffic.workers),
        eal = eal.join(", "),
        idle_us = case.idle_us,
        hosts = sizes.hosts_v4,
        hosts_v6 = sizes.hosts_v6,
        locks = sizes.locks,
        inside_port = device(0, Side::Inside),
        outside_port = device(1, Side::Outside),
        length = traffic.prefix_length(),
        rules = rules.concat(),
    ))
}
