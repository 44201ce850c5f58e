//! `dpdk-testpmd`, interactive, on the same devices: one start for all of its forwarding modes.

use std::path::Path;
use std::time::{Duration, Instant};

use region::Side;

use crate::child::{Child, Thread};
use crate::machine::Stage;
use crate::sample::Reading;
use crate::telemetry::Telemetry;
use crate::traffic::{Timing, Traffic};

const STARTED: Duration = Duration::from_secs(30);
const OBEYED: Duration = Duration::from_secs(10);
const PREFIX: &str = "testpmd";
/// A running testpmd.
pub(crate) struct Testpmd {
    child: Child,
    worker: Thread,
    telemetry: Telemetry,
}

impl Testpmd {
    pub(crate) fn start(stage: &Stage, traffic: &Traffic) -> Result<Testpmd, String> {
        Testpmd::start_timed(stage, traffic, &Timing::default())
    }

    /// On devices that are timed.
    pub(crate) fn start_timed(stage: &Stage, traffic: &Traffic, timing: &Timing) -> Result<Testpmd, String> {
        let mut args =
            vec!["-l".to_owned(), stage.cpus(), "--main-lcore".to_owned(), stage.other_core.to_string()];
        args.extend(stage.eal(PREFIX));
        for (i, side) in Side::ALL.into_iter().enumerate() {
            args.push(format!("--vdev={}", traffic.device(i, side, &stage.captures(), timing)));
        }
        // As many buffers in the pool as cordon-dataplane has in both of its own.
        args.extend(["--", "-i", "--nb-cores=1", "--burst=32", "--total-num-mbufs=32768"].map(str::to_owned));
        let runtime = stage.folder("run")?;
        let mut child =
            Child::start("dpdk-testpmd", Path::new("dpdk-testpmd"), args, &stage.cpus(), &runtime)?;
        // The last of what it says before it listens.
        child.wait_for(0, "Checking link statuses", STARTED)?;
        let worker = child.thread(&format!("rte-worker-{}", stage.worker_core), STARTED)?;
        let path = runtime.join("dpdk").join(PREFIX).join("dpdk_telemetry.v2");
        let telemetry = Telemetry::connect(&path).map_err(|e| child.complaint(&e))?;
        Ok(Testpmd { child, worker, telemetry })
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

    /// Counters of the worker: those of both ports.
    pub(crate) fn read(&mut self) -> Result<Reading, String> {
        self.child.alive()?;
        let on_cpu_ns = self.worker.on_cpu_ns()?;
        let at = Instant::now();
        let mut r = Reading { at, on_cpu_ns, packets: 0, bytes: 0, dropped: 0, odd: 0, busy_cycles: 0 };
        for port in 0..Side::ALL.len() {
            let s = self.telemetry.stats(port).map_err(|e| self.child.complaint(&e))?;
            r.packets += s.received;
            r.bytes += s.received_bytes;
            r.odd += s.lost;
        }
        Ok(r)
    }
}
