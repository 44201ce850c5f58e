//! Virtual cables (veth) whose two ends are the two ports of one forwarder: what it sends on one side it receives on the
//! other. So frames go round for ever, without a generator that would take a core, and what is measured is the forwarder with
//! the kernel's work for it.

use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};

use nix::sched::{CloneFlags, unshare};
use region::Side;

use crate::machine::{Stage, output};
use crate::traffic::{Owner, Traffic, plain_frame};

/// Frames that go round in each direction: fewer than a ring of the driver holds, so that none is ever lost.
const FRAMES: u32 = 256;

/// Sends frames from a file past the queueing discipline: else every socket on the end would get a copy, as if received.
const SEND: &str = "import socket, sys
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
s.setsockopt(263, 20, 1)
s.bind((sys.argv[1], 0))
for frame in open(sys.argv[2]): s.send(bytes.fromhex(frame))";

/// The interface that is a forwarder's port.
pub(crate) fn end(owner: Owner, side: Side) -> String {
    let name = match owner {
        Owner::Cordon => "own",
        Owner::Peer => "peer",
    };
    format!("{name}{}", side.index())
}

/// Gives this process a network of its own, with a cable for each forwarder; it ends with the process.
pub(crate) fn lay() -> Result<(), String> {
    unshare(CloneFlags::CLONE_NEWNET).map_err(|e| format!("unshare: {e}"))?;
    for owner in [Owner::Cordon, Owner::Peer] {
        let ends = Side::ALL.map(|s| end(owner, s));
        let [a, b] = &ends;
        ip(&["link", "add", a, "type", "veth", "peer", "name", b])?;
        for end in &ends {
            // Nobody but the forwarder is to say anything here.
            let path = format!("/proc/sys/net/ipv6/conf/{end}/disable_ipv6");
            // A kernel without IPv6 has no such switch.
            let _ = fs::write(path, "1");
            ip(&["link", "set", end, "arp", "off", "up"])?;
        }
    }
    Ok(())
}

fn ip(words: &[&str]) -> Result<(), String> {
    output(Command::new("ip").args(words)).map(|_| ())
}

/// Sets frames going on the cable of a forwarder that listens.
pub(crate) fn set_going(stage: &Stage, owner: Owner, traffic: &Traffic) -> Result<(), String> {
    for side in Side::ALL {
        let path = stage.memory.join(format!("round-{}.hex", side.name()));
        let mut file = fs::File::create(&path).map_err(|e| format!("create({}): {e}", path.display()))?;
        for i in 0..FRAMES {
            let hex: String =
                plain_frame(side, i % traffic.hosts).iter().map(|b| format!("{b:02x}")).collect();
            writeln!(file, "{hex}").map_err(|e| format!("write({}): {e}", path.display()))?;
        }
        // What leaves the other end arrives at this side.
        let mut python = Command::new("python3");
        python.args(["-c", SEND, &end(owner, side.opposite())]).arg(&path).stdin(Stdio::null());
        output(&mut python)?;
    }
    Ok(())
}
