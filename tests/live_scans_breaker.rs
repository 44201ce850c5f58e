//! Too many servers scan at once: the breaker of that rule trips and says so, everything else goes on.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails here")]

mod common;

use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

use common::internet::{connect, server};
use common::site::{SOON, Site};
use common::{Namespaces, eventually, skip};

/// The default: so many locks of a rule in ten minutes.
const LOCKS: usize = 20;
const SCANNERS: u8 = 24;
const PINGS: [&str; 7] = ["-q", "-n", "-i", "0.05", "-I", Namespaces::SERVER_2, Namespaces::REMOTE];

/// Asks a worm's port of more hosts than lock it, from each server; nobody listens there.
fn sweep(site: &Site, servers: &[String]) {
    site.ns.within("in", || {
        let sockets: Vec<UdpSocket> =
            servers.iter().map(|s| UdpSocket::bind((s.as_str(), 0)).unwrap()).collect();
        for n in 0..140 {
            for socket in &sockets {
                socket.send_to(b"anybody?", (Ipv4Addr::new(45, 64, 7, n), 3389)).unwrap();
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    });
}

#[test]
fn the_breaker_of_netscan_trips_and_other_rules_and_manual_locks_go_on() {
    if !common::have_root_and_netns() {
        skip!("needs root and network namespaces");
    }
    if let Some(tool) = common::lacks(&["nmap"]) {
        skip!("{tool} is not installed");
    }
    let site = Site::new("");
    connect(&site);
    let _cordond = site.start();
    let _ping = site.ns.spawn("in", "ping", &PINGS);
    let servers: Vec<String> = (20..20 + SCANNERS).map(|n| server(&site, n)).collect();
    sweep(&site, &servers);
    let rest = usize::from(SCANNERS) - LOCKS;
    let row = eventually("the breaker trips and the others wait", SOON, || {
        let rows = site.ask(&["breaker", "status"]);
        let row = rows.as_array().unwrap().iter().find(|r| r["rule"] == "netscan")?.clone();
        (row["waiting"].as_array().unwrap().len() == rest).then_some(row)
    });
    assert_eq!(row["locks"], LOCKS, "{row}");
    assert!(site.locks().iter().all(|l| l.ends_with(" out netscan")) && site.locks().len() == LOCKS);
    let shown = site.cli.run(&["breaker", "status"]).expect_success();
    assert!(shown.contains("netscan"), "{shown}");
    assert!(site.cli.run(&["status"]).stdout.contains("netscan"), "{}", site.attention());
    for waiting in row["waiting"].as_array().unwrap() {
        let address = waiting.as_str().unwrap();
        let why = site.incidents(address)[0]["held_back"].to_string();
        assert!(why.contains("the breaker of netscan is latched"), "{why}");
        assert!(site.ns.pings("in", address, Namespaces::REMOTE), "{address} only waits");
    }

    // Another rule.
    let other = server(&site, 60);
    let options = "-n -Pn -sS --max-retries 0 --min-rate 500 --max-rate 900 --send-ip -e in0 -p 1-1000";
    let options = format!("{options} -S {other} 45.64.0.1");
    let words: Vec<&str> = options.split_whitespace().collect();
    let _nmap = site.ns.spawn("in", "nmap", &words);
    assert_eq!(site.wait_locked(&other)["reason"], "portscan");
    // By hand.
    let waiting = row["waiting"][0].as_str().unwrap();
    site.ask(&["lock", waiting, "--reason", "abuse"]);
    assert!(!site.ns.pings("in", waiting, Namespaces::REMOTE));

    // Let on again, it locks.
    site.ask(&["breaker", "reset", "netscan"]);
    let again = server(&site, 61);
    sweep(&site, std::slice::from_ref(&again));
    assert_eq!(site.wait_locked(&again)["reason"], "netscan");
}
