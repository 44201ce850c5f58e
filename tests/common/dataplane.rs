//! The real `cordon-dataplane` on virtual devices: its configuration, its facts, and a policy written by the test.

use std::fmt::Write;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use region::addressing::{Addressing, BlockV4, NetworkV6};
use region::locks::{Exception, LockedRange, Range, flatten};
use region::segment::SegmentRules;
use region::{Addr, Capacities, Dir, Facts, HostFlags, HostId, LineTotals, Policy, Side, Verdict};
use tempfile::TempDir;

use super::{Daemon, Namespaces, bin, eventually};

/// What starting, or a condition that has to come true, may take on a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(30);
/// SIGTERM to exit: what the product promises.
pub(crate) const STOP: Duration = Duration::from_secs(1);

const HOSTS_V4: u32 = 65_536;
const HOSTS_V6: u32 = 1_024;
const LOCKS: u32 = 1_024;
/// Only its being the same in every life matters.
const HASH_KEY: [u64; 2] = [0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210];

/// A dataplane that a test configures and starts, in a folder of its own.
pub(crate) struct Appliance {
    folder: TempDir,
    wires: Vec<[String; 2]>,
    /// Lines of `[dataplane]` beyond those that keep it light.
    pub(crate) dataplane: Vec<String>,
    /// How long an idle worker sleeps.
    pub(crate) idle_sleep: String,
    /// How long a cold start waits for policy: by default not at all, which also is what a test without policy needs.
    pub(crate) start_wait: &'static str,
    /// Prefixes of servers.
    pub(crate) networks: Vec<String>,
    /// Bits of an IPv6 address that name a server.
    pub(crate) ipv6_host_length: u8,
}

impl Appliance {
    /// Between these two DPDK devices.
    pub(crate) fn new(inside: &str, outside: &str) -> Appliance {
        Appliance {
            folder: tempfile::Builder::new().prefix("cordon-wire-").tempdir().unwrap(),
            wires: vec![[inside.to_owned(), outside.to_owned()]],
            dataplane: Vec::new(),
            idle_sleep: "50us".to_owned(),
            start_wait: "0s",
            networks: vec!["10.77.0.0/24".to_owned(), "fd77::/64".to_owned()],
            ipv6_host_length: 64,
        }
    }

    /// Replaces the first wire: for devices whose arguments name files of the folder.
    pub(crate) fn set_wire(&mut self, inside: &str, outside: &str) {
        self.wires[0] = [inside.to_owned(), outside.to_owned()];
    }

    /// One more wire.
    pub(crate) fn add_wire(&mut self, inside: &str, outside: &str) {
        self.wires.push([inside.to_owned(), outside.to_owned()]);
    }

    /// A path in the folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The shared tables.
    pub(crate) fn tables(&self) -> PathBuf {
        self.path("tables")
    }

    /// The configuration's text.
    pub(crate) fn config(&self) -> String {
        let folder = self.folder.path().display();
        let mut t = format!(
            "[run]\ndir = \"{folder}/run\"\ntables = \"{folder}/tables\"\nstate = \"{folder}/state\"\n\
             [tables]\nhosts = {HOSTS_V4}\nipv6_hosts = {HOSTS_V6}\nlocks = {LOCKS}\nipv6_host_length = {}\n\
             [dataplane]\nmbufs = 2048\nrx_descriptors = 256\ntx_descriptors = 256\nidle_sleep = \"{}\"\n\
             start_wait = \"{}\"\n\
             eal = [\"--no-huge\", \"--no-shconf\", \"--no-telemetry\", \"-m\", \"256\", \"--file-prefix=cordon-test-{}\"]\n",
            self.ipv6_host_length,
            self.idle_sleep,
            self.start_wait,
            std::process::id()
        );
        for line in &self.dataplane {
            writeln!(t, "{line}").unwrap();
        }
        for (i, [inside, outside]) in self.wires.iter().enumerate() {
            write!(
                t,
                "[[wire]]\nname = \"wire{i}\"\ninside = \"l2\"\ninside_port = \"{inside}\"\noutside_port = \"{outside}\"\n"
            )
            .unwrap();
        }
        for prefix in &self.networks {
            writeln!(t, "[[network]]\nprefix = \"{prefix}\"").unwrap();
        }
        t
    }

    /// Writes a configuration file; returns its path.
    pub(crate) fn write_config(&self, text: &str) -> PathBuf {
        let path = self.path("cordon.toml");
        std::fs::write(&path, text).unwrap();
        path
    }

    /// The command that starts it.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(bin("cordon-dataplane"));
        command.arg("--config").arg(self.write_config(&self.config()));
        command
    }

    /// Starts it and waits until it forwards.
    pub(crate) fn start(&self) -> Daemon {
        let daemon = Daemon::spawn("cordon-dataplane", &self.command());
        daemon.wait_for_line("forwarding: ", SOON);
        daemon
    }

    /// The same in the box of the namespaces.
    pub(crate) fn start_in(&self, ns: &Namespaces) -> Daemon {
        let daemon = self.spawn_in(ns, &self.write_config(&self.config()));
        daemon.wait_for_line("forwarding: ", SOON);
        daemon
    }

    /// Starts it in the box with a configuration file.
    pub(crate) fn spawn_in(&self, ns: &Namespaces, config: &Path) -> Daemon {
        ns.spawn("box", bin("cordon-dataplane"), &["--config", &config.to_string_lossy()])
    }

    /// What it reports, of this life or of the last.
    pub(crate) fn facts(&self) -> Facts {
        Facts::open(&self.tables()).unwrap()
    }

    /// Waits until as many packets as expected have come in from a side, and every one of them has its verdict.
    pub(crate) fn wait_received(&self, side: Side, packets: u64) {
        let facts = self.facts();
        eventually(&format!("{packets} packets received {}", side.name()), SOON, || {
            let seen = Balance::of(&facts, side);
            assert!(seen.received <= packets, "{}: {seen:?}, more than were sent", side.name());
            (seen.received == packets && seen.decided() == packets).then_some(())
        });
    }

    /// Policy as cordond would leave it, with these networks' servers and locks. The lock list is in force for every life.
    pub(crate) fn policy(&self, locks: &[Lock], exceptions: &[Exception]) -> Decisions {
        std::fs::create_dir_all(self.tables()).unwrap();
        let capacities = Capacities { workers: 0, hosts_v4: HOSTS_V4, hosts_v6: HOSTS_V6, locks: LOCKS };
        let (policy, _) =
            Policy::open_or_create(&self.tables(), capacities, self.ipv6_host_length, HASH_KEY).unwrap();
        let mut addressing = Addressing::default();
        let mut base = 0;
        for prefix in &self.networks {
            match prefix.parse::<ipnet::IpNet>().unwrap() {
                ipnet::IpNet::V4(n) => {
                    let block =
                        BlockV4 { first: n.network().to_bits(), length: n.prefix_len(), base: HostId(base) };
                    base += u32::try_from(block.size().next_multiple_of(256)).unwrap();
                    addressing.v4.push(block);
                }
                ipnet::IpNet::V6(n) => addressing.v6.push(NetworkV6 {
                    range: range(&n.to_string()),
                    quota: HOSTS_V6,
                    slot: u32::try_from(addressing.v6.len()).unwrap(),
                }),
            }
        }
        addressing.v4.sort_by_key(|b| b.first);
        addressing.v6.sort_by_key(|n| n.range);
        policy.publish_addressing(&addressing).unwrap();
        let decisions = Decisions { policy, addressing };
        decisions.publish(locks, exceptions);
        decisions
    }
}

/// A lock: a prefix and [`HostFlags`] bits.
pub(crate) type Lock<'a> = (&'a str, u8);
/// Both directions.
pub(crate) const BOTH: u8 = HostFlags::LOCK_OUT | HostFlags::LOCK_IN;

/// The addresses of a prefix, or one address.
pub(crate) fn range(text: &str) -> Range {
    let net = text.parse::<ipnet::IpNet>().unwrap_or_else(|_| {
        ipnet::IpNet::from(text.parse::<IpAddr>().unwrap_or_else(|e| panic!("{text}: {e}")))
    });
    Range::of_prefix(Addr::from(net.network()), net.prefix_len())
}

/// The policy of a test, whose process is its writer while this value lives.
pub(crate) struct Decisions {
    pub(crate) policy: Policy,
    addressing: Addressing,
}

impl Decisions {
    /// Publishes the lock list. Call it while no dataplane lives, or when the last one was acknowledged.
    pub(crate) fn publish(&self, locks: &[Lock], exceptions: &[Exception]) {
        let rows: Vec<LockedRange> =
            locks.iter().map(|(prefix, bits)| LockedRange { range: range(prefix), bits: *bits }).collect();
        self.policy.publish_locks(&flatten(&rows), exceptions, &SegmentRules::default()).unwrap();
    }

    /// The host of an IPv4 address.
    pub(crate) fn host(&self, address: &str) -> HostId {
        let a = address.parse::<std::net::Ipv4Addr>().unwrap().to_bits();
        let around =
            |b: &&BlockV4| u64::from(a).checked_sub(u64::from(b.first)).is_some_and(|i| i < b.size());
        let block = self.addressing.v4.iter().find(around).unwrap_or_else(|| panic!("{address}: no server"));
        HostId(block.base.0 + (a - block.first))
    }

    /// The host of an IPv6 address, once it has spoken.
    pub(crate) fn host_v6(&self, facts: &Facts, address: &str) -> Option<HostId> {
        let a = address.parse::<std::net::Ipv6Addr>().unwrap().to_bits();
        facts.find_v6(a & self.policy.ipv6_host_mask(), self.policy.hash_key())
    }

    /// A server's counters.
    pub(crate) fn line(&self, facts: &Facts, address: &str, dir: Dir) -> LineTotals {
        facts.totals(self.host(address), dir)
    }
}

/// What came in from one side, and what became of it, summed over the workers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Balance {
    pub(crate) received: u64,
    pub(crate) received_bytes: u64,
    packets: [u64; Verdict::COUNT],
    bytes: [u64; Verdict::COUNT],
}

impl Balance {
    pub(crate) fn of(facts: &Facts, side: Side) -> Balance {
        let mut b = Balance::default();
        for c in facts.workers().iter().map(|w| w.side(side)) {
            b.received += c.rx_packets.load(Relaxed);
            b.received_bytes += c.rx_bytes.load(Relaxed);
            for v in Verdict::ALL {
                b.packets[v.index()] += c.verdict_packets[v.index()].load(Relaxed);
                b.bytes[v.index()] += c.verdict_bytes[v.index()].load(Relaxed);
            }
        }
        b
    }

    /// Packets with a verdict.
    pub(crate) fn packets(&self, v: Verdict) -> u64 {
        self.packets[v.index()]
    }

    /// Packets that have one at all.
    pub(crate) fn decided(&self) -> u64 {
        self.packets.iter().sum()
    }
}

/// Received = sent + dropped by reason, to the packet and byte, on both sides. Only at rest.
pub(crate) fn assert_decided(facts: &Facts) -> [Balance; 2] {
    Side::ALL.map(|side| {
        let b = Balance::of(facts, side);
        assert_eq!(b.received, b.decided(), "packets from {}: {b:?}", side.name());
        assert_eq!(b.received_bytes, b.bytes.iter().sum::<u64>(), "bytes from {}: {b:?}", side.name());
        b
    })
}

/// The same, and the ports received and sent so many. Only at rest.
pub(crate) fn assert_balanced(facts: &Facts) -> [Balance; 2] {
    let balance = assert_decided(facts);
    let in_use = usize::try_from(facts.header().ports.load(Relaxed)).unwrap();
    let ports = |side: Side| {
        facts.ports()[..in_use].iter().filter(move |c| c.side.load(Relaxed) == side.index() as u64)
    };
    for side in Side::ALL {
        let b = balance[side.index()];
        let received: u64 = ports(side).map(|c| c.ipackets.load(Relaxed)).sum();
        assert_eq!(b.received, received, "what the ports of {} received", side.name());
        let other = side.opposite();
        let sent: u64 = ports(other).map(|c| c.opackets.load(Relaxed) + c.oerrors.load(Relaxed)).sum();
        assert_eq!(b.packets(Verdict::Forward), sent, "what the ports of {} sent", other.name());
    }
    balance
}
