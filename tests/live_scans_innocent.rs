//! Ordinary work of servers, beside each other and at full speed, is no scan and no attack: nobody is locked.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails here")]

mod common;

use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use common::internet::{connect, server, wait_seconds};
use common::site::{SOON, Site};
use common::{Daemon, Namespaces, eventually, skip};

const CONNECTIONS: u16 = 500;
const CLIENTS: u16 = 1_000;

/// The n-th address of the internet's answering part, in a /20 of its own.
fn there(block: u8, n: u16) -> Ipv4Addr {
    let [high, low] = n.to_be_bytes();
    Ipv4Addr::new(45, 64, block + high, low)
}

/// Connections to as many addresses; returns how many were answered.
fn connections(site: &Site) -> usize {
    let listener = site.ns.within("out", || TcpListener::bind(("0.0.0.0", 8443)).unwrap());
    std::thread::spawn(move || listener.incoming().take(CONNECTIONS.into()).for_each(drop));
    site.ns.within("in", || {
        let to = (0..CONNECTIONS).map(|n| (there(16, n), 8443).into());
        to.filter(|a| TcpStream::connect_timeout(a, SOON).is_ok()).count()
    })
}

/// A server of datagrams and its clients, each with an address of its own; returns how many were answered.
fn datagrams(site: &Site, address: &str) -> usize {
    let socket = site.ns.within("in", || UdpSocket::bind((address, 53)).unwrap());
    let to = socket.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut question = [0; 64];
        for _ in 0..CLIENTS {
            let (n, from) = socket.recv_from(&mut question).unwrap();
            socket.send_to(&question[..n], from).unwrap();
        }
    });
    site.ns.within("out", || {
        (0..CLIENTS)
            .filter(|n| {
                let client = UdpSocket::bind((there(32, *n), 0)).unwrap();
                client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
                client.send_to(b"question", to).unwrap();
                client.recv(&mut [0; 64]).is_ok()
            })
            .count()
    })
}

/// Ordinary work of six servers, beside each other, each of which has to succeed; takes longer than silence takes to be a
/// failure. Returns their addresses.
fn work(site: &Site) -> [String; 6] {
    let [fast, web, pinger, tracer, names, victim] = [20, 21, 22, 23, 24, 25].map(|n| server(site, n));
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("file"), vec![0x55; 8 << 20]).unwrap();
    let directory = folder.path().to_str().unwrap();
    let options = ["-u", "-m", "http.server", "8000", "--bind", "0.0.0.0", "--directory", directory];
    let http = site.ns.spawn("out", "python3", &options);
    http.wait_for_line("Serving HTTP", SOON);
    let iperf = site.ns.spawn("out", "iperf3", &["--server", "--one-off", "--forceflush"]);
    iperf.wait_for_line("Server listening", SOON);
    let transfer = site.ns.spawn("in", "iperf3", &["--client", "45.64.1.1", "--bind", &fast, "--time", "12"]);

    for n in 1..=20 {
        let url = format!("http://45.64.2.{n}:8000/file");
        let options = ["-sS", "--interface", &web, "-o", "/dev/null", "-w", "%{size_download}", &url];
        let said = site.ns.run("in", "curl", &options, SOON).expect_success();
        assert_eq!(said.trim(), (8 << 20).to_string());
    }
    assert_eq!(connections(site), usize::from(CONNECTIONS));
    assert_eq!(datagrams(site, &names), usize::from(CLIENTS));
    let sweep = ["-n", "-sn", "-PE", "--send-ip", "-e", "in0", "-S", &pinger, "45.64.48.0/24"];
    let said = site.ns.run("in", "nmap", &sweep, SOON).expect_success();
    assert!(said.contains("256 hosts up"), "{said}");
    // To somebody who is there and to somebody who is not; and what it sends, faster than it does.
    for to in ["45.64.3.1", "45.65.3.1"] {
        let probes = ["-2", "-s", "40000", "-p", "++33434", "-a", &tracer, "-I", "in0", to];
        assert_eq!(site.hping3("in", 90, &probes), 90);
        let options = ["-n", "-w", "0.2", "-q", "3", "-m", "20", "-s", &tracer, to];
        site.ns.run("in", "traceroute", &options, SOON).expect_success();
    }
    // One port of the victim answers with SYN-ACK, the other with RST; nobody has sent what they answer.
    let _listener = site.ns.within("in", || TcpListener::bind((victim.as_str(), 8080)).unwrap());
    for port in ["8080", "81"] {
        assert_eq!(site.hping3("out", 5_000, &["-S", "-p", port, "--rand-source", &victim]), 5_000);
    }
    let said = transfer.finish(SOON).expect_success();
    assert!(said.contains("receiver"), "{said}");
    wait_seconds(site, 7);

    assert!(site.counted(&victim, "inbound.syn") >= 10_000, "the flood has come");
    assert!(site.counted(&victim, "out.tcp") > 1_000, "and was answered");
    assert!(site.counted(&fast, "out.bytes") > 100 << 20, "at full speed");
    assert!(site.counted(Namespaces::SERVER, "out.syn") >= CONNECTIONS.into());
    [fast, web, pinger, tracer, names, victim]
}

fn problem() -> Option<String> {
    if !common::have_root_and_netns() {
        return Some("needs root and network namespaces".to_owned());
    }
    let tools = ["nmap", "masscan", "zmap", "hping3", "iperf3", "curl", "traceroute", "python3"];
    common::lacks(&tools).map(|tool| format!("{tool} is not installed (./setup.sh test)"))
}

#[test]
fn ordinary_work_is_no_scan_and_locks_nobody() {
    if let Some(problem) = problem() {
        skip!("{problem}");
    }
    let site = Site::new("");
    connect(&site);
    let _cordond = site.start();
    work(&site);
    assert_eq!(site.locks(), [] as [String; 0]);
    let all = site.ask(&["incidents"]);
    assert_eq!(all.as_array().unwrap().len(), 0, "{all}");
}

/// Attackers beside ordinary work: reason of the lock, tool, options; SERVER stands for the attacker's address.
const ATTACKS: [(&str, &str, &str); 5] = [
    (
        "netscan",
        "zmap",
        "-p 22 -r 600 -T 1 -i in0 -G 02:00:00:77:00:01 -S SERVER -C /dev/null -b /dev/null -o /dev/null \
         --disable-syslog -q 45.65.32.0/22",
    ),
    (
        "netscan",
        "masscan",
        "-p 443 45.65.64.0/18 --adapter in0 --adapter-ip SERVER --router-mac 02-00-00-77-00-01 --rate 600 --wait 0",
    ),
    (
        "portscan",
        "nmap",
        "-n -Pn -sS --max-retries 0 --min-rate 300 --max-rate 600 --send-ip -e in0 -S SERVER -p 1-5000 45.64.0.1",
    ),
    (
        "portscan",
        "nmap",
        "-n -Pn -sU --max-retries 0 --min-rate 300 --max-rate 600 --send-ip -e in0 -S SERVER -p 1-5000 45.64.0.2",
    ),
    ("attack-out", "hping3", "-n -q -S -p 80 -i u250 -c 20000 -I in0 -a SERVER 45.65.128.1"),
];
/// What the flood crosses while a whole core is busy with ordinary work.
const LIMITS: &str = "[limits.out]\nsyn = { warn_fast = 500, lock_fast = 1_000 }\n";

#[test]
fn beside_attacks_ordinary_work_goes_on_and_only_the_attackers_are_locked() {
    if let Some(problem) = problem() {
        skip!("{problem}");
    }
    let site = Site::new(LIMITS);
    connect(&site);
    let _cordond = site.start();
    let attackers: Vec<String> = (60..).take(ATTACKS.len()).map(|n| server(&site, n)).collect();
    let running: Vec<Daemon> = ATTACKS
        .iter()
        .zip(&attackers)
        .map(|((_, tool, options), address)| {
            let options = options.replace("SERVER", address);
            let words: Vec<&str> = options.split_whitespace().collect();
            site.ns.spawn("in", *tool, &words)
        })
        .collect();
    let innocent = work(&site);
    for ((reason, ..), address) in ATTACKS.iter().zip(&attackers) {
        let row = format!("{address} out {reason}");
        eventually(&row, SOON, || site.locks().contains(&row).then_some(()));
    }
    drop(running);
    // A tool that the machine held up catches up so fast that it is a flood besides.
    let locks = site.locks();
    let by_attacker = |row: &String| attackers.iter().any(|a| row.starts_with(&format!("{a} out ")));
    assert!(locks.iter().all(by_attacker), "{locks:?}");
    let all = site.ask(&["incidents"]);
    let blamed = |a: &&String| all.as_array().unwrap().iter().any(|i| i["address"] == a.as_str());
    assert_eq!(innocent.iter().find(blamed), None, "{all}");
    for own in [Namespaces::SERVER, Namespaces::SERVER_2] {
        assert!(!blamed(&&own.to_owned()), "{own}: {all}");
        assert!(site.ns.pings("in", own, Namespaces::REMOTE));
    }
}
