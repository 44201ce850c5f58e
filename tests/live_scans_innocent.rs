//! Ordinary work of servers, beside each other and at full speed, is no scan and no attack: nobody is locked.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails here")]

mod common;

use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use common::internet::{connect, server, wait_seconds};
use common::site::{SOON, Site};
use common::{Namespaces, skip};

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

#[test]
fn ordinary_work_is_no_scan_and_locks_nobody() {
    if !common::have_root_and_netns() {
        skip!("needs root and network namespaces");
    }
    if let Some(tool) = common::lacks(&["nmap", "hping3", "iperf3", "curl", "python3"]) {
        skip!("{tool} is not installed");
    }
    let site = Site::new("");
    connect(&site);
    let _cordond = site.start();
    let [fast, web, pinger, tracer, names, victim] = [20, 21, 22, 23, 24, 25].map(|n| server(&site, n));

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
    assert_eq!(connections(&site), usize::from(CONNECTIONS));
    assert_eq!(datagrams(&site, &names), usize::from(CLIENTS));
    let sweep = ["-n", "-sn", "-PE", "--send-ip", "-e", "in0", "-S", &pinger, "45.64.48.0/24"];
    let said = site.ns.run("in", "nmap", &sweep, SOON).expect_success();
    assert!(said.contains("256 hosts up"), "{said}");
    // What traceroute sends, to somebody who is there and to somebody who is not; and itself, where it is installed.
    for to in ["45.64.3.1", "45.65.3.1"] {
        let probes = ["-2", "-s", "40000", "-p", "++33434", "-a", &tracer, "-I", "in0", to];
        assert_eq!(site.hping3("in", 90, &probes), 90);
        if common::tool("traceroute").is_some() {
            let options = ["-n", "-w", "0.2", "-q", "3", "-m", "20", "-s", &tracer, to];
            site.ns.run("in", "traceroute", &options, SOON).expect_success();
        }
    }
    // One port of the victim answers with SYN-ACK, the other with RST; nobody has sent what they answer.
    let _listener = site.ns.within("in", || TcpListener::bind((victim.as_str(), 8080)).unwrap());
    for port in ["8080", "81"] {
        assert_eq!(site.hping3("out", 5_000, &["-S", "-p", port, "--rand-source", &victim]), 5_000);
    }
    let said = transfer.finish(SOON).expect_success();
    assert!(said.contains("receiver"), "{said}");
    // Longer than silence takes to be a failure.
    wait_seconds(&site, 7);

    assert_eq!(site.locks(), [] as [String; 0]);
    let all = site.ask(&["incidents"]);
    let scans = all.as_array().unwrap().iter().filter(|i| i["kind"] == "netscan" || i["kind"] == "portscan");
    assert_eq!(scans.count(), 0, "{all}");
    assert_eq!(all.as_array().unwrap().len(), 0, "{all}");
    assert!(site.counted(&victim, "inbound.syn") >= 10_000, "the flood has come");
    assert!(site.counted(&victim, "out.tcp") > 1_000, "and was answered");
    assert!(site.counted(&fast, "out.bytes") > 100 << 20, "at full speed");
    assert!(site.counted(Namespaces::SERVER, "out.syn") >= CONNECTIONS.into());
}
