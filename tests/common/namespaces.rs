//! Two hosts and a box between them, in network namespaces.
//!
//! ```text
//! in                                  box                          out
//! 10.77.0.10, .11  fd77::10   in0 --- box_in  (appliance)  box_out --- out0   10.77.0.1  fd77::1
//!                                                                             10.78.0.1  fd78::1
//! ```
//!
//! Nothing forwards in the box by itself. The box's interfaces have no addresses and say nothing. 10.78.0.0/24 and
//! fd78::/64 are remote networks without a router: both sides take each other for neighbours.

use std::fs::File;
use std::net::Shutdown;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::daemon::{Daemon, Finished, mortal, run};
use super::eventually;

/// What a set-up command may take.
const COMMAND: Duration = Duration::from_secs(20);
const SIDES: [&str; 3] = ["in", "box", "out"];
const FOLDER: &str = "/run/netns";

/// The namespaces `in`, `box` and `out`, removed when dropped, with the processes in them.
pub(crate) struct Namespaces {
    prefix: String,
}

impl Namespaces {
    /// The servers' first address.
    pub(crate) const SERVER: &str = "10.77.0.10";
    /// The servers' second address.
    pub(crate) const SERVER_2: &str = "10.77.0.11";
    /// The servers' IPv6 address.
    pub(crate) const SERVER_V6: &str = "fd77::10";
    /// The outside, on the servers' own segment.
    pub(crate) const GATEWAY: &str = "10.77.0.1";
    /// The same in IPv6.
    pub(crate) const GATEWAY_V6: &str = "fd77::1";
    /// The outside, in no network of the servers'.
    pub(crate) const REMOTE: &str = "10.78.0.1";
    /// The same in IPv6.
    pub(crate) const REMOTE_V6: &str = "fd78::1";
    /// MAC of `in0`.
    pub(crate) const SERVER_MAC: &str = "02:00:00:77:00:10";
    /// MAC of `out0`.
    pub(crate) const GATEWAY_MAC: &str = "02:00:00:77:00:01";

    /// Makes them. Needs root; see [`super::have_root_and_netns`].
    pub(crate) fn new() -> Namespaces {
        static MADE: AtomicU32 = AtomicU32::new(0);
        sweep();
        let number = match MADE.fetch_add(1, Relaxed) {
            0 => String::new(),
            n => format!("_{n}"),
        };
        let made = Namespaces { prefix: format!("cor{}{number}", std::process::id()) };
        for side in SIDES {
            ip(&format!("netns add {}", made.name(side)));
            ip(&format!("-n {} link set lo up", made.name(side)));
        }
        made.join("in", "in0", "box_in", Self::SERVER_MAC);
        made.join("out", "out0", "box_out", Self::GATEWAY_MAC);
        made.add_address("in", &format!("{}/24", Self::SERVER));
        made.add_address("in", &format!("{}/24", Self::SERVER_2));
        made.add_address("in", &format!("{}/64", Self::SERVER_V6));
        made.add_address("out", &format!("{}/24", Self::GATEWAY));
        made.add_address("out", &format!("{}/64", Self::GATEWAY_V6));
        made.add_address("out", &format!("{}/24", Self::REMOTE));
        made.add_address("out", &format!("{}/64", Self::REMOTE_V6));
        ip(&format!("-n {} route add 10.78.0.0/24 dev in0 src {}", made.name("in"), Self::SERVER));
        ip(&format!("-n {} -6 route add fd78::/64 dev in0", made.name("in")));
        made
    }

    /// A veth pair from a host to the box. Offloads are off at both ends: they leave checksums unfinished and make
    /// frames larger than the MTU.
    fn join(&self, side: &str, host: &str, boxed: &str, mac: &str) {
        let (ns, middle) = (self.name(side), self.name("box"));
        ip(&format!(
            "link add name {host} netns {ns} address {mac} type veth peer name {boxed} netns {middle}"
        ));
        for (side, interface) in [(side, host), ("box", boxed)] {
            let off = ["-K", interface, "tx", "off", "rx", "off", "gso", "off", "tso", "off", "gro", "off"];
            self.run(side, "ethtool", &off, COMMAND).expect_success();
        }
        // The box's end is the appliance's alone; the host's end asks for no router and takes its addresses at once.
        let off = |knob: &str, value: u8| format!("net.ipv6.conf.{knob}={value}");
        self.run("box", "sysctl", &["-qw", &off(&format!("{boxed}.disable_ipv6"), 1)], COMMAND)
            .expect_success();
        // It reports its multicast groups at once, not at some time within the next seconds beside what is counted.
        let quiet = ["accept_dad=0", "router_solicitations=0", "mldv2_unsolicited_report_interval=1"];
        let quiet = quiet.map(|q| format!("net.ipv6.conf.{host}.{q}"));
        self.run(side, "sysctl", &["-qw", &quiet[0], &quiet[1], &quiet[2]], COMMAND).expect_success();
        ip(&format!("-n {middle} link set {boxed} arp off up"));
        ip(&format!("-n {ns} link set {host} addrgenmode none up"));
    }

    /// The name that `ip netns` knows.
    pub(crate) fn name(&self, side: &str) -> String {
        assert!(SIDES.contains(&side), "{side}: there are {SIDES:?}");
        format!("{}{side}", self.prefix)
    }

    /// One more address (with its prefix length) on the host of a side, at once usable.
    pub(crate) fn add_address(&self, side: &str, address: &str) {
        let nodad = if address.contains(':') { " nodad" } else { "" };
        ip(&format!("-n {} addr add {address} dev {side}0{nodad}", self.name(side)));
    }

    /// Fixed neighbour entries on both sides, so that no ARP or neighbour discovery stands beside what is counted.
    pub(crate) fn fix_neighbours(&self) {
        for (side, addresses, mac) in [
            ("in", &[Self::GATEWAY, Self::GATEWAY_V6, Self::REMOTE, Self::REMOTE_V6][..], Self::GATEWAY_MAC),
            ("out", &[Self::SERVER, Self::SERVER_2, Self::SERVER_V6][..], Self::SERVER_MAC),
        ] {
            for address in addresses {
                ip(&format!(
                    "-n {} neigh replace {address} lladdr {mac} dev {side}0 nud permanent",
                    self.name(side)
                ));
            }
        }
    }

    /// A command that will run on a side and die with this thread.
    pub(crate) fn command(&self, side: &str, program: impl Into<PathBuf>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name(side)]).arg(program.into());
        mortal(&command)
    }

    /// Runs a command on a side to its end.
    pub(crate) fn run(&self, side: &str, program: &str, arguments: &[&str], deadline: Duration) -> Finished {
        let mut command = self.command(side, program);
        command.args(arguments);
        run(&command, deadline)
    }

    /// Starts a process on a side.
    pub(crate) fn spawn(&self, side: &str, program: impl Into<PathBuf>, arguments: &[&str]) -> Daemon {
        let program = program.into();
        let mut command = self.command(side, &program);
        command.args(arguments);
        Daemon::spawn(&format!("{} ({side})", program.display()), &command)
    }

    /// Whether `to` answers a ping from `side` within a second.
    pub(crate) fn pings(&self, side: &str, from: &str, to: &str) -> bool {
        self.run(side, "ping", &["-q", "-n", "-c", "1", "-W", "1", "-I", from, to], COMMAND).status.success()
    }

    /// Does something within a side's network, on a thread of its own: sockets opened there are that side's.
    pub(crate) fn within<T: Send>(&self, side: &str, work: impl FnOnce() -> T + Send) -> T {
        let path = format!("{FOLDER}/{}", self.name(side));
        thread::scope(|scope| {
            let worker = scope.spawn(move || {
                let namespace = File::open(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
                setns(namespace, CloneFlags::CLONE_NEWNET).unwrap_or_else(|e| panic!("setns({path}): {e}"));
                work()
            });
            worker.join().unwrap_or_else(|e| std::panic::resume_unwind(e))
        })
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        for side in SIDES {
            remove(&self.name(side));
        }
    }
}

fn ip(arguments: &str) {
    let mut command = Command::new("ip");
    command.args(arguments.split_whitespace());
    let done = run(&command, COMMAND);
    assert!(done.status.success(), "ip {arguments}: {}", done.stderr);
}

/// Ends what runs in a namespace and removes it; interfaces go with it. Never panics: it runs while another test
/// failure is under way.
fn remove(name: &str) {
    let pids = || {
        let listed = Command::new("ip").args(["netns", "pids", name]).output();
        let text = listed.map(|o| String::from_utf8_lossy(&o.stdout).into_owned()).unwrap_or_default();
        text.split_whitespace().filter_map(|p| p.parse().ok()).map(Pid::from_raw).collect::<Vec<Pid>>()
    };
    let end = std::time::Instant::now() + COMMAND;
    loop {
        let running = pids();
        if running.is_empty() || std::time::Instant::now() > end {
            break;
        }
        for pid in running {
            let _ = kill(pid, Signal::SIGKILL);
        }
        // A killed process is gone soon; nothing tells when it is no child of ours.
        thread::sleep(Duration::from_millis(5));
    }
    match Command::new("ip").args(["netns", "del", name]).output() {
        Ok(o) if o.status.success() => {}
        other => eprintln!("ip netns del {name}: {other:?}"),
    }
}

/// Removes what tests that were killed left behind: names of processes that are gone.
fn sweep() {
    let Ok(entries) = std::fs::read_dir(FOLDER) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(rest) = name.strip_prefix("cor") else { continue };
        let pid: String = rest.chars().take_while(char::is_ascii_digit).collect();
        let ours = SIDES.iter().any(|s| name.ends_with(s)) && !pid.is_empty();
        if ours && !std::path::Path::new(&format!("/proc/{pid}")).exists() {
            remove(&name);
        }
    }
}
