//! Cordon as an operator runs it: its three real programs around the box of the namespaces.

use std::net::UdpSocket;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use region::{Dir, Facts, HostId, Policy};
use serde_json::Value;
use tempfile::TempDir;

use super::{Cli, Daemon, Namespaces, bin, eventually};

/// What starting, or a condition that has to come true, may take on a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(60);
/// Rings with room for some seconds of a test's traffic: a worker that gets no core for a while loses nothing.
const RING: &str = "framecnt=8192";

/// Namespaces, folders and a configuration; the programs are started by the test.
pub(crate) struct Site {
    // Dropped first: it ends what runs in the namespaces.
    pub(crate) ns: Namespaces,
    folder: TempDir,
    tables: TempDir,
    queues: u16,
    /// IPv4 addresses that the tables have room for.
    pub(crate) hosts: u32,
    /// Prefixes of the servers.
    pub(crate) networks: Vec<String>,
    /// Gateways of the first of them.
    pub(crate) gateways: Vec<String>,
    /// Further sections of the configuration.
    pub(crate) sections: String,
    /// The operator's command.
    pub(crate) cli: Cli,
}

/// Packets that the hosts' interfaces have sent and received, and what Cordon says of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    /// Sent by the hosts of the inside, the outside.
    pub(crate) sent: [u64; 2],
    /// Received by them.
    pub(crate) arrived: [u64; 2],
    /// Received by Cordon.
    pub(crate) received: u64,
    /// Verdicts by name.
    verdicts: Vec<(String, u64)>,
}

impl Mark {
    /// Packets with a verdict.
    pub(crate) fn verdict(&self, name: &str) -> u64 {
        self.verdicts.iter().find(|(n, _)| n == name).unwrap_or_else(|| panic!("{name}: {self:?}")).1
    }
}

impl Site {
    /// One worker, the namespaces' own prefixes, and these sections of the configuration.
    pub(crate) fn new(sections: &str) -> Site {
        Site::with_queues(1, sections)
    }

    /// The same with so many queues and workers.
    pub(crate) fn with_queues(queues: u16, sections: &str) -> Site {
        let ns = Namespaces::new();
        ns.fix_neighbours();
        let folder = tempfile::Builder::new().prefix("cordon-live-").tempdir().unwrap();
        let cli = Cli::new(folder.path().join("cordon.sock"));
        let site = Site {
            ns,
            folder,
            // Where there is memory for it: that is what the product's tables want.
            tables: tempfile::Builder::new().prefix("cordon-live-").tempdir_in("/dev/shm").unwrap(),
            queues,
            hosts: 4096,
            networks: vec!["10.77.0.0/24".to_owned(), "fd77::/64".to_owned()],
            gateways: Vec::new(),
            sections: sections.to_owned(),
            cli,
        };
        site.write_config();
        site
    }

    /// Writes the configuration as the fields have it now.
    pub(crate) fn write_config(&self) {
        let dir = self.folder.path().display();
        let tables = self.tables.path().display();
        let port =
            |i: u8, interface| format!("net_af_packet{i},iface={interface},qpairs={},{RING}", self.queues);
        let mut text = format!(
            "[run]\ndir = \"{dir}\"\ntables = \"{tables}\"\nstate = \"{dir}/state\"\n\
             [tables]\nhosts = {}\nipv6_hosts = 1024\nlocks = 4096\n\
             [dataplane]\nqueues = {}\nmbufs = 4096\nrx_descriptors = 256\ntx_descriptors = 256\nidle_sleep = \"50us\"\n\
             eal = [\"--no-huge\", \"--no-shconf\", \"--no-pci\", \"--no-telemetry\", \"-m\", \"256\", \
             \"--file-prefix={}\"]\n\
             [[wire]]\nname = \"w\"\ninside = \"l2\"\ninside_port = \"{}\"\noutside_port = \"{}\"\n",
            self.hosts,
            self.queues,
            self.ns.name("box"),
            port(0, "box_in"),
            port(1, "box_out"),
        );
        for (i, prefix) in self.networks.iter().enumerate() {
            text += &format!("[[network]]\nprefix = \"{prefix}\"\n");
            if i == 0 {
                text += &format!("gateways = {:?}\n", self.gateways);
            }
        }
        std::fs::write(self.config(), text + &self.sections).unwrap();
    }

    /// The configuration file.
    pub(crate) fn config(&self) -> PathBuf {
        self.folder.path().join("cordon.toml")
    }

    /// `[run] tables`
    pub(crate) fn tables(&self) -> PathBuf {
        self.tables.path().to_owned()
    }

    /// A file of an incident's evidence.
    pub(crate) fn evidence(&self, incident: &str, name: &str) -> PathBuf {
        self.folder.path().join("state/evidence").join(incident).join(name)
    }

    /// Starts cordond with these options, and waits until it is ready.
    pub(crate) fn start_control(&self, options: &[&str]) -> Daemon {
        let config = self.config();
        let arguments = [&["run", "--config", config.to_str().unwrap()], options].concat();
        let cordond = self.ns.spawn("box", bin("cordond"), &arguments);
        cordond.wait_for_line("ready", SOON);
        cordond
    }

    /// Starts the dataplane on its own, and waits until it forwards.
    pub(crate) fn start_dataplane(&self) -> Daemon {
        let config = self.config();
        let dataplane =
            self.ns.spawn("box", bin("cordon-dataplane"), &["--config", config.to_str().unwrap()]);
        dataplane.wait_for_line("forwarding: ", SOON);
        dataplane
    }

    /// Starts cordond, which starts the dataplane; packets pass and locks are enforced when this returns.
    pub(crate) fn start(&self) -> Daemon {
        let cordond = self.start_control(&["--with-dataplane"]);
        self.wait_enforcing(0);
        cordond
    }

    /// Waits until a dataplane of another life than this one enforces what cordond says; its status then.
    pub(crate) fn wait_enforcing(&self, old_incarnation: u64) -> Value {
        eventually("packets are forwarded and locks enforced", SOON, || {
            let status = self.status();
            let other = status["incarnation"].as_u64().is_some_and(|i| i != old_incarnation);
            (other && status["dataplane"] == "forwarding" && status["enforcing"] == true).then_some(status)
        })
    }

    /// The answer to a request that has to be granted.
    pub(crate) fn ask(&self, arguments: &[&str]) -> Value {
        self.cli.json(arguments).unwrap_or_else(|r| panic!("cordon {arguments:?}: {r:?}"))
    }

    /// `cordon status`
    pub(crate) fn status(&self) -> Value {
        self.ask(&["status"])
    }

    /// What needs attention, as one text.
    pub(crate) fn attention(&self) -> String {
        self.status()["attention"].to_string()
    }

    /// A number of what `cordon show` says, such as `out.packets`.
    pub(crate) fn counted(&self, target: &str, path: &str) -> u64 {
        let shown = self.ask(&["show", target]);
        let pointer = format!("/{}", path.replace('.', "/"));
        shown.pointer(&pointer).and_then(Value::as_u64).unwrap_or_else(|| panic!("{path}: {shown}"))
    }

    /// `TARGET DIRECTION REASON` of every row of the lock list.
    pub(crate) fn locks(&self) -> Vec<String> {
        let word = |row: &Value, key: &str| row[key].as_str().unwrap().to_owned();
        let list = self.ask(&["list"]);
        let mut rows: Vec<String> = list
            .as_array()
            .unwrap_or_else(|| panic!("{list}"))
            .iter()
            .map(|r| ["target", "direction", "reason"].map(|k| word(r, k)).join(" "))
            .collect();
        rows.sort();
        rows
    }

    /// Incidents of an address, latest first.
    pub(crate) fn incidents(&self, address: &str) -> Vec<Value> {
        let all = self.ask(&["incidents"]);
        all.as_array().unwrap().iter().filter(|i| i["address"] == address).cloned().collect()
    }

    /// Waits until a server is locked; the row of the list.
    pub(crate) fn wait_locked(&self, target: &str) -> Value {
        eventually(&format!("{target} is locked"), SOON, || {
            let list = self.ask(&["list"]);
            list.as_array().unwrap().iter().find(|r| r["target"] == target).cloned()
        })
    }

    /// Waits until a host has done nothing of its own for a whole second: the window that locks is empty then.
    pub(crate) fn wait_quiet(&self, address: &str) {
        eventually(&format!("{address} is quiet"), SOON, || {
            let top = self.ask(&["top", "-n", "1000"]);
            let moves = top.as_array().unwrap().iter().any(|r| r["address"] == address);
            (!moves).then_some(())
        });
    }

    /// Counters of the hosts' interfaces and of Cordon, when nothing moves.
    pub(crate) fn at_rest(&self) -> Mark {
        let mut before = None;
        eventually("all is at rest", SOON, || {
            let now = self.mark();
            let rests = before.as_ref() == Some(&now) && self.status()["balanced"] == true;
            before = Some(now.clone());
            rests.then_some(now)
        })
    }

    fn mark(&self) -> Mark {
        let status = self.status();
        let count = |v: &Value| v.as_u64().unwrap_or_else(|| panic!("{status}"));
        let verdicts = status["verdicts"].as_array().unwrap();
        let [inside, outside] = ["in", "out"].map(|side| self.interface(side));
        Mark {
            sent: [inside.0, outside.0],
            arrived: [inside.1, outside.1],
            received: count(&status["received_packets"]),
            verdicts: verdicts
                .iter()
                .map(|v| (v["verdict"].as_str().unwrap().to_owned(), count(&v["packets"])))
                .collect(),
        }
    }

    /// Packets that a host's interface has sent and received, by the kernel's count.
    fn interface(&self, side: &str) -> (u64, u64) {
        let interface = format!("{side}0");
        let said = self.ns.run(side, "ip", &["-j", "-s", "link", "show", "dev", &interface], SOON);
        let link: Value = serde_json::from_str(&said.expect_success()).unwrap();
        let packets = |way: &str| link[0]["stats64"][way]["packets"].as_u64().unwrap();
        (packets("tx"), packets("rx"))
    }

    /// Since `before`, every packet that a host sent was received by Cordon, which forwarded or dropped it by a named
    /// reason, and every forwarded one arrived. Nothing else may have moved. Returns what moved.
    pub(crate) fn assert_nothing_lost(&self, before: &Mark) -> Mark {
        let end = Instant::now() + SOON;
        let since = |a: [u64; 2], b: [u64; 2]| (a[0] - b[0]) + (a[1] - b[1]);
        loop {
            let now = self.at_rest();
            let of = |name| now.verdict(name) - before.verdict(name);
            let decided: u64 = now.verdicts.iter().map(|(name, _)| of(name)).sum();
            let received = now.received - before.received;
            let sent_to_decided = [since(now.sent, before.sent), received, decided];
            let forwarded_to_arrived = [of("forward"), since(now.arrived, before.arrived)];
            let good = sent_to_decided == [received; 3] && forwarded_to_arrived == [of("forward"); 2];
            if good && of("drop_tx_full") == 0 {
                return now;
            }
            // At rest between the host's interface and the worker is no rest yet.
            assert!(
                Instant::now() < end,
                "sent, received, decided: {sent_to_decided:?}; forwarded, arrived: {forwarded_to_arrived:?}; {before:?} {now:?}"
            );
        }
    }

    /// Waits until everything that the dataplane has counted, of every host, was taken over by cordond.
    pub(crate) fn wait_accounted(&self) {
        let (facts, policy) = (Facts::open(&self.tables()).unwrap(), Policy::open(&self.tables()).unwrap());
        let all = || (0..facts.capacities().hosts()).flat_map(|h| Dir::ALL.map(|d| (HostId(h), d)));
        eventually("every count is accounted", SOON, || {
            all().all(|(h, d)| facts.totals(h, d) == policy.accounted(h, d)).then_some(())
        });
        assert!(all().map(|(h, d)| facts.totals(h, d).packets).sum::<u64>() > 0, "nothing was counted");
    }

    /// Whether a datagram arrives. One that does not is known to be dropped when all is at rest.
    pub(crate) fn passes(&self, side: &str, from: &str, to: &str) -> bool {
        self.pass(side, &[[from, to]])[0]
    }

    /// The same of a datagram for each pair of addresses, all at once.
    pub(crate) fn pass(&self, side: &str, from_to: &[[&str; 2]]) -> Vec<bool> {
        let other = if side == "in" { "out" } else { "in" };
        let bound = |a: &str| UdpSocket::bind((a, 0)).unwrap_or_else(|e| panic!("{a}: {e}"));
        let receivers: Vec<UdpSocket> =
            self.ns.within(other, || from_to.iter().map(|[_, to]| bound(to)).collect());
        let senders: Vec<UdpSocket> =
            self.ns.within(side, || from_to.iter().map(|[from, _]| bound(from)).collect());
        let before = self.at_rest();
        for (sender, receiver) in senders.iter().zip(&receivers) {
            sender.send_to(b"x", receiver.local_addr().unwrap()).unwrap();
        }
        self.assert_nothing_lost(&before);
        let arrived = |receiver: &UdpSocket| {
            receiver.set_nonblocking(true).unwrap();
            receiver.recv(&mut [0; 1]).is_ok()
        };
        receivers.iter().map(arrived).collect()
    }

    /// Packets of hping3, at most 2,500 a second; returns how many it sent.
    pub(crate) fn hping3(&self, side: &str, count: u64, options: &[&str]) -> u64 {
        let amount = count.to_string();
        let arguments = [&["-n", "-q", "-i", "u400", "-c", &amount], options].concat();
        let done = self.ns.run(side, "hping3", &arguments, SOON);
        // hping3 fails when nobody answers, which is what a lock is for.
        let line = done.stderr.lines().chain(done.stdout.lines()).find(|l| l.contains("packets transmitted"));
        let line = line.unwrap_or_else(|| panic!("hping3: {done:?}"));
        line.split_whitespace().next().and_then(|n| n.parse().ok()).unwrap_or_else(|| panic!("{line}"))
    }
}

/// Ends a ping that has to have been answered; the last answer may have been on its way.
pub(crate) fn all_answered(ping: Daemon) {
    ping.signal(Signal::SIGINT);
    let said = ping.finish(SOON).expect_success();
    let line = said.lines().find(|l| l.contains("packets transmitted")).unwrap_or_else(|| panic!("{said}"));
    let numbers: Vec<u64> = line.split_whitespace().filter_map(|w| w.parse().ok()).collect();
    assert!(numbers[0] > 100 && numbers[0] - numbers[1] <= 1, "{said}");
}
