//! DPDK's telemetry socket: a question a message, an answer a message.

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr, connect, recv, send, setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};

use crate::stop;

const OPENED: Duration = Duration::from_secs(10);
/// Longest answer that is read: DPDK's own limit.
const ANSWER_MAX: usize = 16_384;

/// Counters of a port.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PortStats {
    pub(crate) received: u64,
    pub(crate) received_bytes: u64,
    pub(crate) sent: u64,
    /// Not sent, or not received for want of a buffer.
    pub(crate) lost: u64,
}

/// A process of DPDK's that is asked.
pub(crate) struct Telemetry {
    socket: OwnedFd,
    path: PathBuf,
}

impl Telemetry {
    pub(crate) fn connect(path: &Path) -> Result<Telemetry, String> {
        let say = |call: &str, e: nix::Error| format!("{call}({}): {e}", path.display());
        let socket = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None)
            .map_err(|e| say("socket", e))?;
        let patience = TimeVal::seconds(5);
        setsockopt(&socket, sockopt::ReceiveTimeout, &patience).map_err(|e| say("setsockopt", e))?;
        let address = UnixAddr::new(path).map_err(|e| say("address of a socket", e))?;
        stop::wait("telemetry", OPENED, || Ok(connect(socket.as_raw_fd(), &address).ok()))
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

    pub(crate) fn stats(&self, port: usize) -> Result<PortStats, String> {
        let question = format!("/ethdev/stats,{port}");
        send(self.socket.as_raw_fd(), question.as_bytes(), MsgFlags::MSG_NOSIGNAL)
            .map_err(|e| format!("send({}): {e}", self.path.display()))?;
        let answer = self.receive()?;
        let value: serde_json::Value = serde_json::from_slice(&answer)
            .map_err(|e| format!("{question}: {e} in {}", String::from_utf8_lossy(&answer)))?;
        let stats = value.get("/ethdev/stats").and_then(serde_json::Value::as_object);
        let stats = stats.ok_or_else(|| format!("{question}: no such answer: {value}"))?;
        let count = |key: &str| stats.get(key).and_then(serde_json::Value::as_u64).unwrap_or(0);
        Ok(PortStats {
            received: count("ipackets"),
            received_bytes: count("ibytes"),
            sent: count("opackets"),
            lost: count("oerrors") + count("rx_nombuf"),
        })
    }
}
