//! `cordon-dataplane`, run as it is in production: its configuration file, its two shared files, one worker.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed};
use std::time::{Duration, Instant};

use region::{Class, Facts, PageKind, Side, Verdict};

use crate::cases::{Locks, Traffic};
use crate::child::{Child, Thread};
use crate::control::{Control, capacities};
use crate::machine::Stage;
use crate::sample::Reading;

const STARTED: Duration = Duration::from_secs(30);

/// A running dataplane.
pub(crate) struct Dataplane {
    // Before control: it reads what control has mapped.
    child: Child,
    worker: Thread,
    control: Control,
    facts: Arc<Facts>,
    traffic: Traffic,
}

impl Dataplane {
    pub(crate) fn start(stage: &Stage, traffic: &Traffic) -> Result<Dataplane, String> {
        let tables = stage.folder("tables")?;
        // Nothing of an earlier start: neither counters nor flags.
        for file in [region::facts::path(&tables), region::policy::path(&tables)] {
            let _ = fs::remove_file(file);
        }
        let mut control = Control::publish(&tables, traffic)?;
        let config = stage.memory.join("cordon.toml");
        fs::write(&config, configuration(stage, traffic)?)
            .map_err(|e| format!("{}: {e}", config.display()))?;
        let args = ["--config".as_ref(), config.as_os_str()];
        let runtime = stage.folder("run")?;
        let mut child = Child::start("cordon-dataplane", &stage.dataplane, args, &stage.cpus(), &runtime)?;
        child.wait_for(0, "forwarding: ", STARTED)?;
        let facts = Arc::new(Facts::open(&tables).map_err(|e| child.complaint(&e.to_string()))?);
        if facts.header().phase.load(Acquire) != 1 {
            return Err(child.complaint("it says that it forwards, and its facts say that it does not"));
        }
        let worker = child.thread("worker0", STARTED)?;
        control.attach(&facts);
        Ok(Dataplane { child, worker, control, facts, traffic: *traffic })
    }

    /// Goes on, with these locks in force.
    pub(crate) fn go(&self, locks: &Locks) -> Result<(), String> {
        self.child.freeze(false)?;
        self.control.enforce(&self.facts, locks, &self.traffic)
    }

    /// Stands still.
    pub(crate) fn halt(&self) -> Result<(), String> {
        self.child.freeze(true)
    }

    /// Counters of the worker.
    pub(crate) fn read(&mut self) -> Result<Reading, String> {
        self.child.alive()?;
        let on_cpu_ns = self.worker.on_cpu_ns()?;
        let Some(w) = self.facts.workers().first() else { return Err("facts hold no worker".to_owned()) };
        let mut r = Reading {
            at: Instant::now(),
            on_cpu_ns,
            packets: 0,
            bytes: 0,
            dropped: 0,
            odd: 0,
            busy_cycles: w.busy_cycles.load(Relaxed),
        };
        for side in Side::ALL {
            let c = w.side(side);
            r.packets += c.rx_packets.load(Relaxed);
            r.bytes += c.rx_bytes.load(Relaxed);
            let verdict = |v: Verdict| c.verdict_packets[v.index()].load(Relaxed);
            r.dropped += verdict(Verdict::DropLockedOut) + verdict(Verdict::DropLockedIn);
            let class = |k: Class| c.class_packets[k.index()].load(Relaxed);
            r.odd += verdict(Verdict::DropTxFull) + class(Class::Malformed) + class(Class::NonIp);
            r.odd += c.foreign.load(Relaxed) + c.no_slot.load(Relaxed);
        }
        Ok(r)
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

fn configuration(stage: &Stage, traffic: &Traffic) -> Result<String, String> {
    let sizes = capacities(traffic);
    let quoted = |s: &str| format!("{s:?}");
    let eal = stage.eal("cordon");
    let eal: Vec<String> = eal.iter().map(|a| quoted(a)).collect();
    let path = |name: &str| stage.folder(name).map(|p| quoted(&p.display().to_string()));
    Ok(format!(
        "[run]\ndir = {run}\ntables = {tables}\nstate = {run}\n\
         [dataplane]\ncores = [{core}]\neal = [{eal}]\nstart_wait = \"10s\"\n\
         [tables]\nhosts = {hosts}\nipv6_hosts = {hosts_v6}\nlocks = {locks}\n\
         [control]\nmetrics = \"off\"\n\
         [[wire]]\nname = \"bench\"\ninside = \"routed\"\ninside_port = {inside}\noutside_port = {outside}\n\
         [[network]]\nprefix = \"10.0.0.0/{length}\"\n\
         [[network]]\nprefix = \"2001:db8::/32\"\n",
        run = path("run")?,
        tables = path("tables")?,
        core = stage.worker_core,
        eal = eal.join(", "),
        hosts = sizes.hosts_v4,
        hosts_v6 = sizes.hosts_v6,
        locks = sizes.locks,
        inside = quoted(&traffic.device(0, Side::Inside)),
        outside = quoted(&traffic.device(1, Side::Outside)),
        length = traffic.prefix_length(),
    ))
}
