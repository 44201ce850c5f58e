//! `dpdk-testpmd`, interactive, on the same devices: one start for all of its forwarding modes.

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr, connect, recv, send, setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};
use region::Side;

use crate::cases::Traffic;
use crate::child::{Child, Thread};
use crate::machine::Stage;
use crate::sample::Reading;
use crate::stop;

const STARTED: Duration = Duration::from_secs(30);
const OBEYED: Duration = Duration::from_secs(10);
const PREFIX: &str = "testpmd";
/// Longest answer that is read: DPDK's own limit.
const ANSWER_MAX: usize = 16_384;

/// Forwarding modes that are compared, by what they do with a packet.
pub(crate) const MODES: [(&str, &str); 4] = [
    ("io", "nothing"),
    ("macswap", "swaps MAC addresses"),
    ("5tswap", "parses, swaps MAC and IP addresses and ports"),
    ("csum", "parses, computes checksums"),
];

/// A running testpmd.
pub(crate) struct Testpmd {
    child: Child,
    worker: Thread,
    telemetry: Telemetry,
}

impl Testpmd {
    pub(crate) fn start(stage: &Stage, traffic: &Traffic) -> Result<Testpmd, String> {
        let mut args =
            vec!["-l".to_owned(), stage.cpus(), "--main-lcore".to_owned(), stage.other_core.to_string()];
        args.extend(stage.eal(PREFIX));
        for (i, side) in Side::ALL.into_iter().enumerate() {
            args.push(format!("--vdev={}", traffic.device(i, side)));
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
            let stats = self.telemetry.stats(port).map_err(|e| self.child.complaint(&e))?;
            let count = |key: &str| stats.get(key).and_then(serde_json::Value::as_u64).unwrap_or(0);
            r.packets += count("ipackets");
            r.bytes += count("ibytes");
            r.odd += count("oerrors") + count("rx_nombuf");
        }
        Ok(r)
    }
}

/// DPDK's telemetry socket: a question a message, an answer a message.
struct Telemetry {
    socket: OwnedFd,
    path: PathBuf,
}

impl Telemetry {
    fn connect(path: &Path) -> Result<Telemetry, String> {
        let say = |call: &str, e: nix::Error| format!("{call}({}): {e}", path.display());
        let socket = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None)
            .map_err(|e| say("socket", e))?;
        let patience = TimeVal::seconds(5);
        setsockopt(&socket, sockopt::ReceiveTimeout, &patience).map_err(|e| say("setsockopt", e))?;
        let address = UnixAddr::new(path).map_err(|e| say("address of a socket", e))?;
        stop::wait("telemetry", OBEYED, || Ok(connect(socket.as_raw_fd(), &address).ok()))
            .map_err(|e| format!("connect({}): {e}", path.display()))?;
        let telemetry = Telemetry { socket, path: path.to_owned() };
        // It introduces itself.
        telemetry.receive()?;
        Ok(telemetry)
    }

    fn receive(&self) -> Result<Vec<u8>, String> {
        let mut answer = vec![0; ANSWER_MAX];
        let n = recv(self.socket.as_raw_fd(), &mut answer, MsgFlags::empty())
            .map_err(|e| format!("recv({}): {e}", self.path.display()))?;
        answer.truncate(n);
        Ok(answer)
    }

    fn stats(&self, port: usize) -> Result<serde_json::Map<String, serde_json::Value>, String> {
        let question = format!("/ethdev/stats,{port}");
        send(self.socket.as_raw_fd(), question.as_bytes(), MsgFlags::MSG_NOSIGNAL)
            .map_err(|e| format!("send({}): {e}", self.path.display()))?;
        let answer = self.receive()?;
        let value: serde_json::Value = serde_json::from_slice(&answer)
            .map_err(|e| format!("{question}: {e} in {}", String::from_utf8_lossy(&answer)))?;
        let stats = value.get("/ethdev/stats").and_then(serde_json::Value::as_object);
        stats.cloned().ok_or_else(|| format!("{question}: no such answer: {value}"))
    }
}
