//! From the contact that crosses a limit, and from a scan's first packet, to the lock, measured outside of Cordon.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails here")]
#![expect(clippy::print_stdout, reason = "what was measured")]

mod common;

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use common::internet::{Witness, connect, server};
use common::site::{SOON, Site};
use common::stream::{Stream, percentile};
use common::{Namespaces, eventually, skip};

/// Destinations that refuse, in a minute, at which a netscan locks by default.
const LIMIT: usize = 360;
const RUNS: u8 = 24;
const PAUSE: Duration = Duration::from_millis(1);
/// A tick is 100 ms. The rest is for machines that do other things as well; what is measured is printed.
const BOUND: Duration = Duration::from_secs(2);
/// From the first packet of a scan of 10,000 a second, where nothing holds Cordon up: what is promised.
const PROMISED: Duration = Duration::from_millis(500);
/// Runs of that; on a machine that does other things as well one of them has to keep the promise.
const RUNS_FAST: u8 = 8;
/// And half of them this.
const BOUND_FAST: Duration = Duration::from_secs(5);
/// More locks than the breaker lets pass by default.
const MANY: &str = "[breaker]\nlocks_min = 1000\n";
const PINGS: [&str; 7] = ["-q", "-n", "-i", "0.05", "-I", Namespaces::SERVER_2, Namespaces::REMOTE];

/// Asks a port on which nobody listens, of as many hosts as the limit, and a few more; when each was asked.
fn sweep(site: &Site, server: &str, run: u8) -> Vec<Instant> {
    site.ns.within("in", || {
        let socket = UdpSocket::bind((server, 0)).unwrap();
        (0..LIMIT + 40)
            .map(|n| {
                let [high, low] = u16::try_from(n).unwrap().to_be_bytes();
                let now = Instant::now();
                socket
                    .send_to(b"anybody?", (std::net::Ipv4Addr::new(45, 64, run * 4 + high, low), 9_999))
                    .unwrap();
                std::thread::sleep(PAUSE);
                now
            })
            .collect()
    })
}

fn since_1970(time: &serde_json::Value) -> Duration {
    let time = humantime::parse_rfc3339(time.as_str().unwrap()).unwrap();
    time.duration_since(std::time::UNIX_EPOCH).unwrap()
}

#[test]
fn a_netscan_is_dropped_a_tick_after_it_crosses_the_limit() {
    if !common::have_root_and_netns() {
        skip!("needs root and network namespaces");
    }
    let site = Site::new(MANY);
    connect(&site);
    let _cordond = site.start();
    let _ping = site.ns.spawn("in", "ping", &PINGS);
    let mut latencies = Vec::new();
    for run in 0..RUNS {
        let address = server(&site, 20 + run);
        let stream = Stream::start(&site.ns, "in", &address, Namespaces::REMOTE, PAUSE);
        stream.wait_arrived(1, SOON);
        let asked = sweep(&site, &address, run);
        site.wait_locked(&address);
        stream.wait_cut_off(20, SOON);
        let flow = stream.stop(Duration::from_millis(150));
        let first_dropped = flow.arrived.iter().rposition(Option::is_some).unwrap() + 1;
        assert!(flow.lost().into_iter().all(|i| i >= first_dropped), "run {run}: lost before the lock");
        let (dropped, crossed) = (flow.sent[first_dropped], asked[LIMIT - 1]);
        assert!(dropped > crossed, "run {run}: locked below the limit");
        latencies.push(dropped - crossed);
    }
    let [p50, p99] = [50, 99].map(|p| percentile(&mut latencies, p));
    println!(
        "from the contact that crosses the limit to the first dropped packet: p50 {p50:.1?}, p99 {p99:.1?}, {RUNS} runs"
    );
    assert!(p50 < BOUND, "{latencies:?}");
}

#[test]
fn a_scan_of_ten_thousand_a_second_is_locked_within_half_a_second_of_its_first_packet() {
    if !common::have_root_and_netns() {
        skip!("needs root and network namespaces");
    }
    if let Some(tool) = common::lacks(&["masscan", "tcpdump"]) {
        skip!("{tool} is not installed");
    }
    let site = Site::new(MANY);
    connect(&site);
    let _cordond = site.start();
    let _ping = site.ns.spawn("in", "ping", &PINGS);
    let (mut latencies, mut own) = (Vec::new(), Vec::new());
    for run in 0..RUNS_FAST {
        let address = server(&site, 20 + run);
        let witness = Witness::start(&site);
        let options = format!(
            "-p 443 45.65.0.0/16 --adapter in0 --adapter-ip {address} --router-mac 02-00-00-77-00-01 --rate 10000 --wait 0"
        );
        let words: Vec<&str> = options.split_whitespace().collect();
        let masscan = site.ns.spawn("in", "masscan", &words);
        let row = site.wait_locked(&address);
        drop(masscan);
        let frames = witness.frames();
        let from: std::net::Ipv4Addr = address.parse().unwrap();
        let first = frames.iter().find(|(_, f)| f.get(26..30) == Some(&from.octets()[..])).unwrap().0;
        // 5,000 SYNs in a second are a flood too: whichever rule is first locks, and the scan is found all the same.
        let scan = eventually("the scan is found", SOON, || {
            let incidents = site.incidents(&address);
            incidents.into_iter().find(|i| i["kind"] == "netscan" && i["action"] == "lock")
        });
        assert_eq!(scan["ports"], serde_json::json!([443]), "{scan}");
        latencies.push(since_1970(&row["created"]).saturating_sub(first));
        // By Cordon's own times: from the first contact that proves the scan.
        let actions = scan["actions"].as_array().unwrap();
        let locked = actions.iter().find(|a| a["action"] == "lock").unwrap();
        let proven = since_1970(&scan["first_seen"]);
        assert!(proven + Duration::from_millis(1) >= first, "{scan}: before its first packet, {first:?}");
        own.push(since_1970(&locked["at"]).saturating_sub(proven));
    }
    for (what, all) in [("first packet", &mut latencies), ("first contact in the books", &mut own)] {
        let [least, p50, most] = [0, 50, 100].map(|p| percentile(all, p));
        println!(
            "from the {what} of 10,000 a second to the lock: {least:.1?} to {most:.1?}, p50 {p50:.1?}, {RUNS_FAST} runs"
        );
        assert!(least < PROMISED && p50 < BOUND_FAST, "{what}: {all:?}");
    }
}
