//! `dpdk-testpmd`, interactive, on the same devices: one start for all of its forwarding modes.

use std::path::Path;
use std::time::{Duration, Instant};

use region::Side;

use crate::cable;
use crate::child::{Child, Thread};
use crate::machine::Stage;
use crate::sample::Reading;
use crate::telemetry::Telemetry;
use crate::traffic::{Devices, Owner, Timing, Traffic};

const STARTED: Duration = Duration::from_secs(30);
const OBEYED: Duration = Duration::from_secs(10);
const PREFIX: &str = "testpmd";
/// A running testpmd.
pub(crate) struct Testpmd {
    child: Child,
    workers: Vec<Thread>,
    telemetry: Telemetry,
}

impl Testpmd {
    pub(crate) fn start(stage: &Stage, traffic: &Traffic) -> Result<Testpmd, String> {
        Testpmd::start_timed(stage, traffic, &Timing::default())
    }

    /// On devices that are timed.
    pub(crate) fn start_timed(stage: &Stage, traffic: &Traffic, timing: &Timing) -> Result<Testpmd, String> {
        // Its first thread, which listens to what is typed, then one a worker; by numbers, since two may share a core.
        // A worker without packets would only cost time.
        let workers = if traffic.one_queue { 1 } else { traffic.workers };
        let cores = stage.worker_cores(workers);
        let numbered = (1..).zip(&cores).map(|(n, core)| format!(",{n}@{core}"));
        let lcores = format!("--lcores=0@{}{}", stage.other_core, numbered.collect::<String>());
        let mut args = vec![lcores, "--main-lcore=0".to_owned()];
        args.extend(stage.eal(PREFIX));
        for (i, side) in Side::ALL.into_iter().enumerate() {
            args.push(format!("--vdev={}", traffic.device(Owner::Peer, i, side, &stage.captures(), timing)));
        }
        // As many buffers in the pool as cordon-dataplane has in both of its own.
        // What goes round is not thrown away at the beginning of a turn.
        args.extend(
            ["--", "-i", "--burst=32", "--total-num-mbufs=32768", "--no-flush-rx"].map(str::to_owned),
        );
        args.extend(["nb-cores", "rxq", "txq"].map(|count| format!("--{count}={}", cores.len())));
        let runtime = stage.folder("run")?;
        let mut child =
            Child::start("dpdk-testpmd", Path::new("dpdk-testpmd"), args, &stage.cpus(), &runtime)?;
        // The last of what it says before it listens.
        child.wait_for(0, "Checking link statuses", STARTED)?;
        let workers = (1..=cores.len()).map(|n| child.thread(&format!("rte-worker-{n}"), STARTED));
        let workers = workers.collect::<Result<_, _>>()?;
        let path = runtime.join("dpdk").join(PREFIX).join("dpdk_telemetry.v2");
        let telemetry = Telemetry::connect(&path).map_err(|e| child.complaint(&e))?;
        if traffic.devices == Devices::Cable {
            cable::set_going(stage, Owner::Peer, traffic)?;
        }
        Ok(Testpmd { child, workers, telemetry })
    }

    /// Begins to forward in a mode.
    pub(crate) fn go(&mut self, mode: &str) -> Result<(), String> {
        let mark = self.child.mark();
        self.child.type_line(&format!("set fwd {mode}"))?;
        self.child.wait_for(mark, &format!("Set {mode} packet forwarding mode"), OBEYED)?;
        let mark = self.child.mark();
        self.child.type_line("start")?;
        self.child.wait_for(mark, "packet forwarding", OBEYED)
    }

    /// Stops to forward: its worker sleeps.
    pub(crate) fn halt(&mut self) -> Result<(), String> {
        let mark = self.child.mark();
        self.child.type_line("stop")?;
        self.child.wait_for(mark, "Done.", OBEYED)
    }

    /// Counters of the workers together: those of both ports.
    pub(crate) fn read(&mut self) -> Result<Reading, String> {
        self.child.alive()?;
        let mut on_cpu_ns = 0;
        for worker in &self.workers {
            on_cpu_ns += worker.on_cpu_ns()?;
        }
        let at = Instant::now();
        let threads = self.workers.len() as u64;
        let mut r =
            Reading { at, on_cpu_ns, packets: 0, bytes: 0, dropped: 0, odd: 0, busy_cycles: 0, threads };
        for port in 0..Side::ALL.len() {
            let s = self.telemetry.stats(port).map_err(|e| self.child.complaint(&e))?;
            r.packets += s.received;
            r.bytes += s.received_bytes;
            r.odd += s.lost;
        }
        Ok(r)
    }
}
