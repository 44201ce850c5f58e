//! Servers scan, with the tools that are used for it, and are locked at the default limits, each with its evidence.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails here")]

mod common;

use std::net::TcpListener;

use common::internet::{self, Witness, assert_sent, connect, rows, server, tshark};
use common::site::{SOON, Site};
use common::{Namespaces, eventually, skip};
use serde_json::Value;

/// A scan: its name, the tool, its options (SERVER stands for the scanning server's address), what it must be found as:
/// kind, protocol, the port where it is one, the limit that locks.
struct Scan {
    name: &'static str,
    tool: &'static str,
    options: &'static str,
    kind: &'static str,
    protocol: &'static str,
    port: Option<u16>,
    limit: u64,
}

const fn portscan(name: &'static str, protocol: &'static str, options: &'static str) -> Scan {
    Scan { name, tool: "nmap", options, kind: "portscan", protocol, port: None, limit: 400 }
}

const fn netscan(
    name: &'static str,
    tool: &'static str,
    protocol: &'static str,
    port: u16,
    options: &'static str,
) -> Scan {
    let worm = port == 23;
    let limit = if worm { 120 } else { 360 };
    Scan { name, tool, options, kind: "netscan", protocol, port: Some(port), limit }
}

const PORTSCANS: [Scan; 6] = [
    portscan("-sS, silent", "tcp", "-sS -p 1-1000 45.65.0.1"),
    portscan("-sS, refused", "tcp", "-sS -p 1-1000 45.64.0.1"),
    portscan("-sF, silent", "tcp", "-sF -p 1-1000 45.65.0.2"),
    portscan("-sN, refused", "tcp", "-sN -p 1-1000 45.64.0.2"),
    portscan("-sX, refused", "tcp", "-sX -p 1-1000 45.64.0.3"),
    portscan("-sU, unreachable", "udp", "-sU -p 1-1000 45.64.0.4"),
];
const NMAP: &str = "-n -Pn --max-retries 0 --min-rate 500 --max-rate 900 --send-ip -e in0 -S SERVER";

const MASSCAN: &str =
    "--adapter in0 --adapter-ip SERVER --router-mac 02-00-00-77-00-01 --rate 900 --wait 0 --seed 1";
const NETSCANS: [Scan; 5] = [
    netscan("masscan, silent", "masscan", "tcp", 443, "-p 443 45.65.4.0/22"),
    netscan("masscan, refused", "masscan", "tcp", 8443, "-p 8443 45.64.4.0/22"),
    netscan("masscan of a worm port", "masscan", "tcp", 23, "-p 23 45.65.8.0/23"),
    netscan(
        "hping3, UDP",
        "hping3",
        "udp",
        161,
        "-n -q -2 -p 161 -i u1200 -c 1000 -I in0 -a SERVER --rand-dest 45.65.x.x",
    ),
    netscan(
        "nmap, echo",
        "nmap",
        "icmp",
        8,
        "-n -sn -PE --max-retries 0 --min-rate 500 --max-rate 900 --send-ip -e in0 -S SERVER 45.65.16.0/22",
    ),
];

/// Pings that are answered: a wire on which nothing ever comes in tells nothing about answers.
const PINGS: [&str; 7] = ["-q", "-n", "-i", "0.05", "-I", Namespaces::SERVER_2, Namespaces::REMOTE];

fn start(site: &Site, scan: &Scan, address: &str) -> common::Daemon {
    let common = match scan.tool {
        "nmap" if scan.kind == "portscan" => NMAP,
        "masscan" => MASSCAN,
        _ => "",
    };
    let options = format!("{common} {}", scan.options).replace("SERVER", address);
    let words: Vec<&str> = options.split_whitespace().collect();
    site.ns.spawn("in", scan.tool, &words)
}

/// The incident of a lock, whose evidence is complete.
fn incident(site: &Site, row: &Value, name: &str) -> Value {
    let id = row["incident"].as_str().unwrap();
    eventually(&format!("{name}: evidence"), SOON, || {
        let incident = site.ask(&["incident", id]);
        let files = incident["files"].as_array()?.clone();
        let there = |f: &Value| site.evidence(id, f.as_str().unwrap()).is_file();
        (files.iter().any(|f| f == "dump.pcapng") && files.iter().all(there)).then_some(incident)
    })
}

/// Starts a scan, waits for its lock; the incident.
fn locks(site: &Site, scan: &Scan, address: &str) -> Value {
    let (name, reason) = (scan.name, scan.kind);
    let running = start(site, scan, address);
    let row = site.wait_locked(address);
    assert_eq!((&row["direction"], &row["reason"]), (&"out".into(), &reason.into()), "{name}: {row}");
    assert_eq!(row["rule"], scan.kind, "{name}: {row}");
    let incident = incident(site, &row, name);
    for (key, expected) in [
        ("kind", scan.kind),
        ("address", address),
        ("protocol", scan.protocol),
        ("action", "lock"),
        ("direction", "out"),
        ("window", "60s"),
    ] {
        assert_eq!(incident[key], expected, "{name}: {key}: {incident}");
    }
    assert_eq!(incident["limit"], scan.limit, "{name}: {incident}");
    let ports: Vec<u64> = incident["ports"].as_array().unwrap().iter().map(|p| p.as_u64().unwrap()).collect();
    match scan.port {
        Some(port) => assert_eq!(ports, [u64::from(port)], "{name}"),
        None => {
            assert!(ports.iter().all(|p| (1..=1_000).contains(p)) && ports.len() == 10, "{name}: {ports:?}")
        }
    }
    let shown = site.cli.run(&["incident", incident["id"].as_str().unwrap()]).expect_success();
    for word in [address, scan.kind, "lock", scan.protocol] {
        assert!(shown.contains(word), "{name}: {word}: {shown}");
    }
    drop(running);
    incident
}

/// The rows of the log are packets that the server has sent, each contact once, at least as many as the limit; the dump
/// holds them too.
fn evidence(site: &Site, name: &str, incident: &Value, sent: &std::collections::BTreeSet<internet::Sent>) {
    let id = incident["id"].as_str().unwrap();
    let log = format!("{}.log", incident["kind"].as_str().unwrap());
    let rows = rows(&site.evidence(id, &log));
    assert!(
        rows.len() as u64 >= incident["limit"].as_u64().unwrap(),
        "{name}: {} rows: {incident}",
        rows.len()
    );
    let distinct: std::collections::BTreeSet<_> = rows.iter().map(|(_, to, port, _)| (to, port)).collect();
    assert_eq!(distinct.len(), rows.len(), "{name}: a contact is one row");
    assert!(rows.is_sorted_by_key(|r| r.0), "{name}: in order of time");
    assert_sent(name, &rows, sent);
    let packets = tshark(&site.evidence(id, "dump.pcapng"));
    let lines = std::fs::read_to_string(site.evidence(id, "dump.log")).unwrap().lines().count();
    assert!(packets > 0, "{name}");
    assert_eq!(lines, packets + 1, "{name}: a line that gives the date, and one each packet");
}

#[test]
fn port_and_network_scans_of_real_tools_are_locked_with_exact_rows() {
    if !common::have_root_and_netns() {
        skip!("needs root and network namespaces");
    }
    if let Some(tool) = common::lacks(&["nmap", "masscan", "hping3", "tcpdump", "tshark"]) {
        skip!("{tool} is not installed");
    }
    let site = Site::new("");
    connect(&site);
    let _cordond = site.start();
    let witness = Witness::start(&site);
    let _ping = site.ns.spawn("in", "ping", &PINGS);
    let mut found = Vec::new();
    for (number, scan) in (20..).zip(PORTSCANS.iter().chain(&NETSCANS)) {
        let address = server(&site, number);
        found.push((scan.name, locks(&site, scan, &address)));
        assert!(
            site.ns.pings("in", Namespaces::SERVER, Namespaces::REMOTE),
            "{}: its neighbour is not",
            scan.name
        );
        assert!(!site.ns.pings("in", &address, Namespaces::REMOTE), "{}", scan.name);
    }
    let sent = witness.end();
    for (name, incident) in &found {
        evidence(&site, name, incident, &sent);
    }
    assert_eq!(site.locks().len(), PORTSCANS.len() + NETSCANS.len(), "{:?}", site.locks());
}

#[test]
fn a_scan_over_ipv6_locks_the_servers_network() {
    if !common::have_root_and_netns() {
        skip!("needs root and network namespaces");
    }
    if let Some(tool) = common::lacks(&["nmap", "tcpdump", "tshark"]) {
        skip!("{tool} is not installed");
    }
    let site = Site::new("");
    connect(&site);
    let _cordond = site.start();
    let witness = Witness::start(&site);
    let _ping = site.ns.spawn("in", "ping", &PINGS);
    let options = "-6 -n -Pn -sS --max-retries 0 --min-rate 500 --max-rate 900 -e in0 -p 1-1000 2a00:78::1";
    let words: Vec<&str> = options.split_whitespace().collect();
    let _nmap = site.ns.spawn("in", "nmap", &words);
    let row = site.wait_locked("fd77::/64");
    assert_eq!((&row["direction"], &row["reason"]), (&"out".into(), &"portscan".into()), "{row}");
    let incident = incident(&site, &row, "IPv6");
    assert_eq!((&incident["protocol"], &incident["limit"]), (&"tcp".into(), &400.into()), "{incident}");
    assert!(!site.ns.pings("in", Namespaces::SERVER_V6, Namespaces::REMOTE_V6));
    assert!(site.ns.pings("in", Namespaces::SERVER, Namespaces::REMOTE), "IPv4 is another server's");
    evidence(&site, "IPv6", &incident, &witness.end());
}

#[test]
fn a_sweep_that_is_answered_locks_nobody_and_one_for_logins_is_warned_of() {
    if !common::have_root_and_netns() {
        skip!("needs root and network namespaces");
    }
    if let Some(tool) = common::lacks(&["hping3"]) {
        skip!("{tool} is not installed");
    }
    let site = Site::new("");
    connect(&site);
    let _cordond = site.start();
    let _listeners =
        site.ns.within("out", || [22, 443].map(|port| TcpListener::bind(("0.0.0.0", port)).unwrap()));
    let [logins, web] = [20, 21].map(|n| server(&site, n));
    for (address, port) in [(&logins, "22"), (&web, "443")] {
        let sweep = ["-S", "-p", port, "-I", "in0", "-a", address, "--rand-dest", "45.64.x.x"];
        assert_eq!(site.hping3("in", 500, &sweep), 500);
    }
    let warned = eventually("logins are warned of", SOON, || site.incidents(&logins).into_iter().next());
    assert_eq!((&warned["kind"], &warned["case"]), (&"netscan".into(), &"first-contacts".into()), "{warned}");
    eventually("it is a warning", SOON, || (site.incidents(&logins)[0]["action"] == "warn").then_some(()));
    // Longer than silence takes to be a failure.
    internet::wait_seconds(&site, 7);
    assert_eq!(site.incidents(&web), [] as [Value; 0], "what is answered is no scan");
    assert_eq!(site.locks(), [] as [String; 0]);
}
