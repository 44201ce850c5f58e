//! An internet behind the box: more addresses than the namespaces have, that answer, refuse, or are silent; and what a
//! server's own interface saw of it.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::Signal;
use tempfile::TempDir;

use super::site::{SOON, Site};
use super::{Daemon, Namespaces, pcap};

/// All of these addresses are the outside host's own: it accepts where something listens, and refuses elsewhere.
pub(crate) const THERE: &str = "45.64.0.0/16";
/// Nobody has these.
pub(crate) const SILENT: &str = "45.65.0.0/16";
/// The same in IPv6.
pub(crate) const SILENT_V6: &str = "2a00:78::/32";

/// Puts it behind the box of a site.
pub(crate) fn connect(site: &Site) {
    let ip = |side: &str, arguments: &str| {
        let words: Vec<&str> = arguments.split_whitespace().collect();
        site.ns.run(side, "ip", &words, SOON).expect_success();
    };
    let (gateway, gateway6) = (Namespaces::GATEWAY, Namespaces::GATEWAY_V6);
    // Whoever spoofs addresses is answered like anybody.
    ip("in", &format!("route add default via {gateway} dev in0 onlink"));
    ip("in", &format!("-6 route add {SILENT_V6} via {gateway6} dev in0"));
    ip("out", &format!("route add local {THERE} dev lo"));
    // Whoever refuses does so each time.
    let knobs = ["-qw", "net.ipv4.icmp_ratelimit=0"];
    site.ns.run("out", "sysctl", &knobs, SOON).expect_success();
}

/// One more server of the site; its neighbour outside knows it.
pub(crate) fn server(site: &Site, number: u8) -> String {
    let address = format!("10.77.0.{number}");
    site.ns.add_address("in", &format!("{address}/24"));
    let neighbour =
        format!("neigh replace {address} lladdr {} dev out0 nud permanent", Namespaces::SERVER_MAC);
    let words: Vec<&str> = neighbour.split_whitespace().collect();
    site.ns.run("out", "ip", &words, SOON).expect_success();
    address
}

/// tcpdump at the servers' interface.
pub(crate) struct Witness {
    tcpdump: Daemon,
    folder: TempDir,
}

/// A contact as the server's interface sent it: second since 1970, destination, port (of ICMP the type), source.
pub(crate) type Sent = (u64, IpAddr, u16, IpAddr);

impl Witness {
    pub(crate) fn start(site: &Site) -> Witness {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("in0.pcap");
        let options =
            ["-i", "in0", "-n", "-U", "-B", "65536", "-Z", "root", "-w", path.to_str().unwrap(), "ip or ip6"];
        let tcpdump = site.ns.spawn("in", "tcpdump", &options);
        tcpdump.wait_for_line("listening on", SOON);
        Witness { tcpdump, folder }
    }

    /// What the servers sent.
    pub(crate) fn end(self) -> BTreeSet<Sent> {
        self.frames().into_iter().filter_map(|(t, f)| sent(t.as_secs(), &f)).collect()
    }

    /// All frames with their times.
    pub(crate) fn frames(self) -> Vec<(Duration, Vec<u8>)> {
        self.tcpdump.signal(Signal::SIGINT);
        let done = self.tcpdump.finish(SOON);
        assert!(done.stderr.contains("0 packets dropped by kernel"), "{}", done.stderr);
        pcap::read_timed(&self.folder.path().join("in0.pcap"))
    }
}

fn sent(second: u64, f: &[u8]) -> Option<Sent> {
    let (from, to, protocol, l4) = match f.get(12..14)? {
        [0x08, 0x00] => {
            let four = |at: usize| <[u8; 4]>::try_from(f.get(at..at + 4)?).ok().map(IpAddr::from);
            (four(26)?, four(30)?, *f.get(23)?, f.get(14 + usize::from(f[14] & 15) * 4..)?)
        }
        [0x86, 0xdd] => {
            let sixteen = |at: usize| <[u8; 16]>::try_from(f.get(at..at + 16)?).ok().map(IpAddr::from);
            (sixteen(22)?, sixteen(38)?, *f.get(20)?, f.get(54..)?)
        }
        _ => return None,
    };
    let port = match protocol {
        1 | 58 => u16::from(*l4.first()?),
        _ => u16::from_be_bytes([*l4.get(2)?, *l4.get(3)?]),
    };
    Some((second, to, port, from))
}

/// The rows of a netscan or portscan log.
pub(crate) fn rows(log: &Path) -> Vec<Sent> {
    let text = std::fs::read_to_string(log).unwrap_or_else(|e| panic!("{}: {e}", log.display()));
    text.lines().filter(|l| l.contains(" => ")).map(|l| row(l).unwrap_or_else(|| panic!("{l}"))).collect()
}

/// `Thu Nov 13 18:14:27 2013:   192.0.2.1 =>         65.98.236.0:   22`
fn row(line: &str) -> Option<Sent> {
    let (time, rest) = line.split_once(":   ")?;
    let (source, destination) = rest.split_once(" =>")?;
    let (address, port) = destination.rsplit_once(':')?;
    let words: Vec<&str> = time.split_whitespace().collect();
    let [_, month, day, clock, year] = words[..] else { return None };
    let names = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let month = names.iter().position(|n| *n == month)? + 1;
    let stamp = humantime::parse_rfc3339(&format!("{year}-{month:02}-{:0>2}T{clock}Z", day)).ok()?;
    let second = stamp.duration_since(std::time::UNIX_EPOCH).ok()?.as_secs();
    Some((second, address.trim().parse().ok()?, port.trim().parse().ok()?, source.trim().parse().ok()?))
}

/// Fails unless each row is a packet that was sent, to the second (a second begins for two clocks at almost one time).
pub(crate) fn assert_sent(what: &str, rows: &[Sent], sent: &BTreeSet<Sent>) {
    for (second, to, port, from) in rows {
        let near = second - 1..=second + 1;
        let found = near.clone().any(|s| sent.contains(&(s, *to, *port, *from)));
        assert!(found, "{what}: no packet {from} => {to}:{port} near {second}");
    }
}

/// How many packets tshark reads of a file.
pub(crate) fn tshark(file: &PathBuf) -> usize {
    let mut command = std::process::Command::new("tshark");
    command.arg("-n").arg("-r").arg(file);
    super::run(&command, SOON).expect_success().lines().count()
}

/// Lets time pass for the detector: as many answered pings, one a second.
pub(crate) fn wait_seconds(site: &Site, seconds: u32) {
    let count = (seconds + 1).to_string();
    let options = ["-q", "-n", "-i", "1", "-c", &count, "-I", Namespaces::SERVER_2, Namespaces::REMOTE];
    site.ns.run("in", "ping", &options, SOON).expect_success();
}
