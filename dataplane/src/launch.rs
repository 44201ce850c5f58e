//! Start and stop, symmetric: facts, EAL, pools, ports, workers; and back.

use std::path::PathBuf;
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
/// Buffers that a pool keeps for each thread.
const POOL_CACHE: u16 = 256;

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
    #[error("mkdir({}), [run] tables: {source}; choose a directory that this user may write, or make it", path.display())]
    Tables { path: PathBuf, source: std::io::Error },
    #[error("worker {0} ended: {1}; restart cordon-dataplane, and report it if that does not help")]
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
    std::fs::create_dir_all(&plan.tables_dir)
        .map_err(|source| LaunchError::Tables { path: plan.tables_dir.clone(), source })?;
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
    housekeeping.publish_ports();
    facts.header().ports.store(housekeeping.wires.len() as u64 * 2, Release);
    let mut outcome = Ok(());
    warn_of_distant_ports(&cores, &housekeeping.wires);
    if wait_for_policy(plan, &mut housekeeping) {
        housekeeping.publish_clock();
        housekeeping.look_at_bypass();
        let threads = start_workers(plan, &cores, &facts, &slot, &stop, &housekeeping.wires)?;
        let feeder = feed.map(|f| std::thread::spawn(move || f.run()));
        facts.header().phase.store(1, Release);
        config::systemd::notify("READY=1");
        log::info(&format!(
            "forwarding: {} wire(s), {} worker(s) on cores {:?}",
            plan.wires.len(),
            plan.queues,
            cores.workers
        ));
        housekeeping.run(|| threads.iter().any(JoinHandle::is_finished));
        facts.header().phase.store(2, Release);
        config::systemd::notify("STOPPING=1");
        stop.store(true, Relaxed);
        outcome = join_workers(threads);
        if let Some(f) = feeder {
            let _ = f.join();
        }
    }
    housekeeping.publish_ports();
    // Ports before EAL: a port is stopped and closed when it is dropped.
    drop(housekeeping);
    eal.cleanup()?;
    outcome?;
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
            let (ends, stop) = ([inside_end, outside_end], Arc::clone(stop));
            feed = Some(Feed { plan: f.clone(), ends, pool, stop, lost: 0 });
            [inside, outside]
        } else {
            [Port::by_name(w.ports[0].device())?, Port::by_name(w.ports[1].device())?]
        };
        for side in Side::ALL {
            // Packets of several segments only where the side that sends them can.
            let other = &ports[side.opposite().index()];
            let segments = ports[side.index()].can_scatter()? && other.can_send_segments()?;
            open_port(plan, &mut ports[side.index()], segments, &format!("w{i}{}", side.name()))?;
        }
        wires.push(Wire {
            name: w.name.clone(),
            ports,
            links_follow: w.links_follow,
            segment: w.segment,
            links: WireLinks::default(),
            up: [true, true],
        });
    }
    Ok((wires, feed))
}

fn open_port(plan: &Plan, port: &mut Port, segments: bool, label: &str) -> Result<(), LaunchError> {
    let socket = port.socket().unwrap_or(-1);
    let (room, mbufs) = (data_room(plan.mtu, segments), plan.mbufs_for_rings());
    if mbufs != plan.mbufs {
        log::warning(&format!(
            "{}: {mbufs} packet buffers a queue instead of {}, which would not fill its rings; raise [dataplane] mbufs, or lower the descriptors",
            port.name(),
            plan.mbufs
        ));
    }
    let mut pools = Vec::new();
    for q in 0..plan.queues {
        // Buffers lie on the NUMA node of the port, in a pool of each queue's own: no two workers share one.
        pools.push(Pool::new(&format!("{label}q{q}"), mbufs, u32::from(POOL_CACHE), room, socket)?);
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

/// Bytes of a buffer: a usual frame, or a whole jumbo frame where it cannot be divided. Then whole kilobytes:
/// `net_af_packet` wants room for a frame of its ring, which is a little longer than the longest frame.
fn data_room(mtu: u16, segments: bool) -> u16 {
    let whole = mtu.saturating_add(FRAME_OVERHEAD);
    if whole <= DATA_ROOM || segments { DATA_ROOM } else { whole.next_multiple_of(1024) }
}

/// Every packet of a port on another NUMA node than its worker's core crosses the sockets' interconnect twice.
fn warn_of_distant_ports(cores: &Cores, wires: &[Wire]) {
    for port in wires.iter().flat_map(|w| &w.ports) {
        let Some(home) = port.socket() else { continue };
        let distant = |core: &&usize| node_of_core(**core).is_some_and(|node| node != home);
        let distant: Vec<&usize> = cores.workers.iter().filter(distant).collect();
        if !distant.is_empty() {
            log::warning(&format!(
                "{} is on NUMA node {home}, workers on cores {distant:?} are not: choose [dataplane] cores of that node (lscpu shows them)",
                port.name()
            ));
        }
    }
}

/// The NUMA node of a core, where the kernel tells.
fn node_of_core(core: usize) -> Option<i32> {
    let entries = std::fs::read_dir(format!("/sys/devices/system/cpu/cpu{core}")).ok()?;
    entries.flatten().find_map(|e| e.file_name().to_str()?.strip_prefix("node")?.parse().ok())
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
                let lane = |from: &Port, to: &Port, side| {
                    Lane::new(from.rx_queue(index), to.tx_queue(index), side, w.segment)
                };
                [lane(inside, outside, Side::Inside), lane(outside, inside, Side::Outside)]
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
        match std::thread::Builder::new().name(format!("worker{index}")).spawn(run) {
            Ok(thread) => threads.push(thread),
            Err(e) => {
                // Those that run already have to leave the ports before these are closed.
                stop.store(true, Relaxed);
                let _ = join_workers(threads);
                return Err(system("spawning a worker", e));
            }
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_that_cannot_be_divided_fits_one_buffer() {
        assert_eq!(data_room(1500, false), DATA_ROOM);
        assert_eq!(data_room(9000, true), DATA_ROOM);
        assert_eq!(data_room(9000, false), 9216);
        assert_eq!(data_room(9700, false), 10_240);
    }
}
