//! DPDK's `l3fwd`, built from its source package (`bench/source/build.sh`).

use std::fmt::Write;
use std::fs;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use region::Side;

use crate::child::{Child, Thread};
use crate::machine::Stage;
use crate::peer::Lookup;
use crate::sample::Reading;
use crate::telemetry::Telemetry;
use crate::traffic::{INTERNAL_V4, Owner, SERVER_PORT, Timing, Traffic};

const STARTED: Duration = Duration::from_secs(60);
/// Rules of the access list, beside its routes.
const RULES: u32 = 1000;
const INSIDE_PORT: usize = Side::Inside.index();
const OUTSIDE_PORT: usize = Side::Outside.index();

/// A running l3fwd: it polls from its start on, and is stopped in its tracks when it is not its turn.
pub(crate) struct L3fwd {
    child: Child,
    worker: Thread,
    telemetry: Telemetry,
}

impl L3fwd {
    pub(crate) fn start(stage: &Stage, traffic: &Traffic, lookup: Lookup) -> Result<L3fwd, String> {
        let (prefix, mode) = match lookup {
            Lookup::Lpm => ("l3fwd-lpm", "lpm"),
            Lookup::Acl => ("l3fwd-acl", "acl"),
            Lookup::Exact => ("l3fwd-em", "em"),
        };
        let core = stage.worker_core;
        // One core: one transmit queue of each port, and its first thread is the one that forwards.
        let mut args = vec!["-l".to_owned(), core.to_string()];
        args.extend(stage.eal(prefix));
        for (i, side) in Side::ALL.into_iter().enumerate() {
            args.push(format!(
                "--vdev={}",
                traffic.device(Owner::Peer, i, side, &stage.captures(), &Timing::default())
            ));
        }
        let [v4, v6] = rules(stage, traffic, lookup, prefix)?;
        args.extend(["--", "-p", "0x3", "-P", "--parse-ptype"].map(str::to_owned));
        args.push(format!("--config=(0,0,{core}),(1,0,{core})"));
        args.push(format!("--lookup={mode}"));
        args.push(format!("--rule_ipv4={}", v4.display()));
        args.push(format!("--rule_ipv6={}", v6.display()));
        let runtime = stage.folder("run")?;
        let mut child = Child::start("l3fwd", &stage.l3fwd, args, &stage.cpus(), &runtime)?;
        child.wait_for(0, "entering main loop", STARTED)?;
        let worker = child.thread("l3fwd", STARTED)?;
        let path = runtime.join("dpdk").join(prefix).join("dpdk_telemetry.v2");
        let telemetry = Telemetry::connect(&path).map_err(|e| child.complaint(&e))?;
        child.freeze(true)?;
        Ok(L3fwd { child, worker, telemetry })
    }

    pub(crate) fn freeze(&self, frozen: bool) -> Result<(), String> {
        self.child.freeze(frozen)
    }

    /// Counters of both ports. What is received and not sent is odd.
    pub(crate) fn read(&mut self) -> Result<Reading, String> {
        self.child.alive()?;
        let on_cpu_ns = self.worker.on_cpu_ns()?;
        let at = Instant::now();
        let mut r =
            Reading { at, on_cpu_ns, packets: 0, bytes: 0, dropped: 0, odd: 0, busy_cycles: 0, threads: 1 };
        let mut sent = 0;
        for port in 0..Side::ALL.len() {
            let s = self.telemetry.stats(port).map_err(|e| self.child.complaint(&e))?;
            r.packets += s.received;
            r.bytes += s.received_bytes;
            sent += s.sent;
            r.odd += s.lost;
        }
        // A few wait for their burst to fill.
        let missing = r.packets.saturating_sub(sent);
        r.odd += if missing > r.packets / 1000 + 4096 { missing } else { 0 };
        Ok(r)
    }
}

/// Files of routes and rules for IPv4 and IPv6, in l3fwd's format.
fn rules(stage: &Stage, traffic: &Traffic, lookup: Lookup, name: &str) -> Result<[PathBuf; 2], String> {
    let v4 = match lookup {
        Lookup::Lpm => routes(""),
        Lookup::Acl => access_list() + &routes("0.0.0.0/0 ports"),
        Lookup::Exact => exact(traffic)?,
    };
    // Never matched, but l3fwd wants one.
    let v6 = match lookup {
        Lookup::Lpm => "R2001:db8::/32 0\n".to_owned(),
        Lookup::Acl => {
            "R0:0:0:0:0:0:0:0/0 2001:db8:0:0:0:0:0:0/32 0 : 65535 0 : 65535 0x00/0x00 0\n".to_owned()
        }
        Lookup::Exact => "R2001:db8:0:0:0:0:0:1 3fff:0:0:0:0:0:0:1 443 9 0x06 0\n".to_owned(),
    };
    let write = |family: &str, text: String| {
        let path = stage.memory.join(format!("{name}-{family}.cfg"));
        fs::write(&path, text).map_err(|e| format!("write({}): {e}", path.display()))?;
        Ok::<_, String>(path)
    };
    Ok([write("v4", v4)?, write("v6", v6)?])
}

/// 256 routes to the servers' /24s, 256 to the rest of the world. With `source`, as lines of an access list.
fn routes(source: &str) -> String {
    let mut text = String::new();
    for i in 0..256 {
        for (network, bits, port) in
            [(INTERNAL_V4 + (i << 8), 24, INSIDE_PORT), (0x4000_0000 + (i << 22), 10, OUTSIDE_PORT)]
        {
            let to = format!("{}/{bits}", Ipv4Addr::from(network));
            let _ = if source.is_empty() {
                writeln!(text, "R{to} {port}")
            } else {
                writeln!(text, "R0.0.0.0/0 {to} 0 : 65535 0 : 65535 0x00/0x00 {port}")
            };
        }
    }
    text
}

/// 250 servers locked in both directions, as locks of ours say it, and 500 rules of a firewall: a network far away may not
/// reach a service of a network of servers. They match none of the traffic.
fn access_list() -> String {
    let mut text = String::new();
    for i in 0..RULES / 4 {
        let server = Ipv4Addr::from(INTERNAL_V4 + 0x1_0000 + 131 * i);
        let _ = writeln!(text, "@{server}/32 0.0.0.0/0 0 : 65535 0 : 65535 0x00/0x00");
        let _ = writeln!(text, "@0.0.0.0/0 {server}/32 0 : 65535 0 : 65535 0x00/0x00");
    }
    for i in 0..RULES / 2 {
        let from_bits = 12 + i % 13;
        let from = Ipv4Addr::from(
            (0x8000_0000 | i.wrapping_mul(0x9e37_79b1) >> 1) >> (32 - from_bits) << (32 - from_bits),
        );
        let to_bits = [24, 26, 28, 32][i as usize % 4];
        let to = Ipv4Addr::from(
            (INTERNAL_V4 | i.wrapping_mul(0x85eb_ca6b) >> 16) >> (32 - to_bits) << (32 - to_bits),
        );
        let (first, last) = if i % 3 == 0 { (1024, 65_535) } else { (20 + i, 20 + i) };
        let protocol = if i % 4 == 0 { 17 } else { 6 };
        let _ = writeln!(
            text,
            "@{from}/{from_bits} {to}/{to_bits} 0 : 65535 {first} : {last} {protocol:#04x}/0xff"
        );
    }
    text
}

fn exact(traffic: &Traffic) -> Result<String, String> {
    let flows = traffic.exact_flows().ok_or("there are no flows to match exactly")?;
    let mut text = String::new();
    for f in flows {
        let (server, external) = (Ipv4Addr::from(f.server), Ipv4Addr::from(f.external));
        let (port, protocol) = (f.external_port, f.protocol);
        // Destination, source, their ports, protocol, where to.
        let _ = writeln!(text, "R{server} {external} {SERVER_PORT} {port} {protocol:#04x} {INSIDE_PORT}");
        let _ = writeln!(text, "R{external} {server} {port} {SERVER_PORT} {protocol:#04x} {OUTSIDE_PORT}");
    }
    Ok(text)
}
