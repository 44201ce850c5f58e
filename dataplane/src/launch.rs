//! Start and stop, symmetric: facts, EAL, pools, ports, workers; and back.

use std::sync::Arc;
use std::sync::atomic::{
    AtomicBool,
    Ordering::{Relaxed, Release},
};
use std::thread::JoinHandle;
use std::time::{Instant, SystemTime};

use dpdk::{Eal, Pool, Port, PortSettings, RingPort};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use region::{Facts, Side};

use crate::feed::Feed;
use crate::housekeeping::{Housekeeping, ROUND, Wire};
use crate::links::WireLinks;
use crate::log;
use crate::plan::{Cores, Plan, PlanError};
use crate::slot::{PolicyHandle, PolicySlot};
use crate::worker::{Lane, Worker};

/// Packets a ring of the demo's ports holds.
const FEED_RING: u32 = 4096;
/// Bytes a buffer has room for: a full frame of the usual MTU; larger frames take several, where the device can.
const DATA_ROOM: u16 = 2048;
/// Frame bytes beyond the MTU: Ethernet header and two tags.
const FRAME_OVERHEAD: u16 = 22;

/// Why the dataplane does not run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LaunchError {
    #[error(transparent)]
    Plan(#[from] PlanError),
    #[error(transparent)]
    Region(#[from] region::RegionError),
    #[error(transparent)]
    Dpdk(#[from] dpdk::Error),
    #[error("{call}: {source}")]
    System { call: &'static str, source: std::io::Error },
    #[error("worker {0} ended: {1}")]
    Worker(usize, String),
}

fn system(call: &'static str, source: impl Into<std::io::Error>) -> LaunchError {
    LaunchError::System { call, source: source.into() }
}

/// Runs the dataplane until a signal stops it.
pub(crate) fn run(plan: &Plan) -> Result<(), LaunchError> {
    // Before any other thread exists, so that all inherit the mask and only housekeeping hears signals.
    let mut stop_signals = SigSet::empty();
    stop_signals.add(Signal::SIGTERM);
    stop_signals.add(Signal::SIGINT);
    stop_signals.thread_block().map_err(|e| system("pthread_sigmask", e))?;
    let signals = SignalFd::with_flags(&stop_signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
        .map_err(|e| system("signalfd", e))?;

    // EAL pins this thread: the cores that the process may use have to be read before.
    let allowed: Vec<usize> =
        core_affinity::get_core_ids().unwrap_or_default().iter().map(|c| c.id).collect();
    let cores = plan.choose_cores(&allowed)?;
    std::fs::create_dir_all(&plan.tables_dir).map_err(|e| system("mkdir of [run] tables", e))?;
    let incarnation = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos();
    let incarnation = u64::try_from(incarnation).unwrap_or(u64::MAX);
    // First of all: a second instance is refused here, before it touches a NIC.
    let facts = Arc::new(Facts::create(&plan.tables_dir, plan.capacities, incarnation)?);
    log::info(&format!("facts: {} MiB on {:?} pages", facts.size() >> 20, facts.page_kind()));

    let eal = Eal::init(&plan.eal_arguments(&cores))?;
    facts.header().tsc_hz.store(dpdk::tsc_hz(), Relaxed);
    let slot = Arc::new(PolicySlot::default());
    let stop = Arc::new(AtomicBool::new(false));
    let (wires, feed) = open_wires(plan, &stop)?;
    let mut housekeeping = Housekeeping {
        facts: Arc::clone(&facts),
        slot: Arc::clone(&slot),
        policy: None,
        retired: Vec::new(),
        wires,
        tables_dir: plan.tables_dir.clone(),
        bypass_file: plan.run_dir.join("bypass"),
        signals,
        polls_seen: vec![u64::MAX; usize::from(plan.queues)],
        told: None,
    };
    facts.header().ports.store(housekeeping.wires.len() as u64 * 2, Relaxed);
    if wait_for_policy(plan, &mut housekeeping) {
        let threads = start_workers(plan, &cores, &facts, &slot, &stop, &housekeeping.wires)?;
        let feeder = feed.map(|f| std::thread::spawn(move || f.run()));
        facts.header().phase.store(1, Release);
        let _ = sd_notify::notify(false, &[sd_notify::NotifyState::Ready]);
        log::info(&format!(
            "forwarding: {} wire(s), {} worker(s) on cores {:?}",
            plan.wires.len(),
            plan.queues,
            cores.workers
        ));
        housekeeping.run();
        facts.header().phase.store(2, Release);
        let _ = sd_notify::notify(false, &[sd_notify::NotifyState::Stopping]);
        stop.store(true, Relaxed);
        join_workers(threads)?;
        if let Some(f) = feeder {
            let _ = f.join();
        }
    }
    housekeeping.last_counters();
    // Ports before EAL: a port is stopped and closed when it is dropped.
    drop(housekeeping);
    eal.cleanup()?;
    log::info("stopped");
    Ok(())
}

/// Waits at most `start_wait` for a policy, so that locks hold from the first packet. False when told to stop.
fn wait_for_policy(plan: &Plan, housekeeping: &mut Housekeeping) -> bool {
    let deadline = Instant::now() + plan.start_wait;
    let mut told = false;
    while !housekeeping.attach_policy() {
        if Instant::now() >= deadline {
            log::warning(&format!(
                "no policy after {:?}: forwarding WITHOUT ENFORCING ANYTHING until cordond is up (systemctl start cordond)",
                plan.start_wait
            ));
            return true;
        }
        if !told {
            log::info(&format!("waiting for cordond, at most {:?}", plan.start_wait));
            told = true;
        }
        if housekeeping.stop_requested((Instant::now() + ROUND / 4).min(deadline)) {
            return false;
        }
    }
    true
}

fn open_wires(plan: &Plan, stop: &Arc<AtomicBool>) -> Result<(Vec<Wire>, Option<Feed>), LaunchError> {
    let mut feed = None;
    let mut wires = Vec::new();
    for (i, w) in plan.wires.iter().enumerate() {
        let mut ports = if let Some(f) = &plan.feed
            && i == 0
        {
            let (inside, inside_end) = RingPort::create(w.ports[0].device(), plan.queues, FEED_RING)?;
            let (outside, outside_end) = RingPort::create(w.ports[1].device(), plan.queues, FEED_RING)?;
            let pool = Pool::new("feed", plan.mbufs.max(FEED_RING * 3), 256, DATA_ROOM, -1)?;
            feed =
                Some(Feed { plan: f.clone(), ends: [inside_end, outside_end], pool, stop: Arc::clone(stop) });
            [inside, outside]
        } else {
            [Port::by_name(w.ports[0].device())?, Port::by_name(w.ports[1].device())?]
        };
        for (side, port) in ports.iter_mut().enumerate() {
            open_port(plan, port, &format!("w{i}{}", Side::ALL[side].name()))?;
        }
        wires.push(Wire {
            name: w.name.clone(),
            ports,
            links_follow: w.links_follow,
            links: WireLinks::default(),
            up: [true, true],
        });
    }
    Ok((wires, feed))
}

fn open_port(plan: &Plan, port: &mut Port, label: &str) -> Result<(), LaunchError> {
    let socket = port.socket().unwrap_or(-1);
    let whole = plan.mtu.saturating_add(FRAME_OVERHEAD);
    let room = if whole <= DATA_ROOM || port.can_scatter()? { DATA_ROOM } else { whole };
    let mut pools = Vec::new();
    for q in 0..plan.queues {
        // Buffers lie on the NUMA node of the port, in a pool of each queue's own: no two workers share one.
        pools.push(Pool::new(&format!("{label}q{q}"), plan.mbufs, 256, room, socket)?);
    }
    let settings = PortSettings {
        queues: plan.queues,
        rx_descriptors: plan.rx_descriptors,
        tx_descriptors: plan.tx_descriptors,
        mtu: plan.mtu,
    };
    let mut remarks = port.configure(&settings, &pools)?;
    remarks.extend(port.start(plan.queues)?);
    for remark in remarks {
        log::info(&remark);
    }
    Ok(())
}

type WorkerThread = JoinHandle<Result<(), dpdk::Error>>;

fn start_workers(
    plan: &Plan,
    cores: &Cores,
    facts: &Arc<Facts>,
    slot: &Arc<PolicySlot>,
    stop: &Arc<AtomicBool>,
    wires: &[Wire],
) -> Result<Vec<WorkerThread>, LaunchError> {
    let mut threads = Vec::new();
    for (index, core) in (0..plan.queues).zip(&cores.workers) {
        let lanes = wires
            .iter()
            .flat_map(|w| {
                let [inside, outside] = &w.ports;
                [
                    Lane { rx: inside.rx_queue(index), tx: outside.tx_queue(index), side: Side::Inside },
                    Lane { rx: outside.rx_queue(index), tx: inside.tx_queue(index), side: Side::Outside },
                ]
            })
            .collect();
        let worker = Worker {
            index: usize::from(index),
            lanes,
            facts: Arc::clone(facts),
            policy: PolicyHandle::new(Arc::clone(slot)),
            stop: Arc::clone(stop),
            idle_sleep: plan.idle_sleep,
        };
        let core = *core;
        if let Some(w) = facts.workers().get(usize::from(index)) {
            w.core.store(core as u64 + 1, Relaxed);
        }
        let run = move || {
            if !core_affinity::set_for_current(core_affinity::CoreId { id: core }) {
                log::warning(&format!("worker {index} cannot be pinned to core {core}; it runs unpinned"));
            }
            worker.run()
        };
        let thread = std::thread::Builder::new().name(format!("worker{index}")).spawn(run);
        threads.push(thread.map_err(|e| system("spawning a worker", e))?);
    }
    Ok(threads)
}

fn join_workers(threads: Vec<WorkerThread>) -> Result<(), LaunchError> {
    let mut failed = Ok(());
    for (i, t) in threads.into_iter().enumerate() {
        let why = match t.join() {
            Ok(Ok(())) => continue,
            Ok(Err(e)) => e.to_string(),
            Err(_) => "it panicked, see above".to_owned(),
        };
        failed = Err(LaunchError::Worker(i, why));
    }
    failed
}
