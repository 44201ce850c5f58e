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
/// From the first packet of a scan of 10,000 a second; half a second on a machine that does nothing else.
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
fn a_scan_of_ten_thousand_a_second_is_locked_soon_after_its_first_packet() {
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
    let mut latencies = Vec::new();
    for run in 0..5 {
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
        let at = row["created"].as_str().unwrap();
        let at = humantime::parse_rfc3339(at).unwrap().duration_since(std::time::UNIX_EPOCH).unwrap();
        latencies.push(at.saturating_sub(first));
    }
    let [p50, most] = [50, 100].map(|p| percentile(&mut latencies, p));
    println!(
        "from the first packet of 10,000 a second to the lock: p50 {p50:.1?}, at most {most:.1?}, 5 runs"
    );
    assert!(p50 < BOUND_FAST, "{latencies:?}");
}
