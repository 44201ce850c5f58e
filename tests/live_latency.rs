//! From the crossing of a limit to the first dropped packet, measured outside of Cordon: a server sends numbered
//! datagrams, and the first that does not arrive is the first that was dropped.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails here")]
#![expect(clippy::print_stdout, reason = "what was measured")]

mod common;

use std::time::{Duration, Instant};

use common::site::{SOON, Site};
use common::stream::{Stream, percentile};
use common::{Namespaces, skip};

const LIMIT: usize = 500;
const RUNS: u8 = 20;
/// At most some 4,000 a second.
const PAUSE: Duration = Duration::from_micros(200);
/// A tick is 100 ms. The rest is for machines that do other things as well; what is measured is printed.
const BOUND: Duration = Duration::from_secs(2);

/// The first packet that makes more than the limit within a second.
fn crossing(sent: &[Instant]) -> usize {
    let second = Duration::from_secs(1);
    (LIMIT..sent.len()).find(|i| sent[*i] - sent[i - LIMIT] < second).expect("the flood crosses the limit")
}

#[test]
fn a_flood_is_dropped_a_tick_after_it_crosses_the_limit() {
    if !common::have_root_and_netns() {
        skip!("needs root and network namespaces");
    }
    let site = Site::new(&format!("[limits.out]\nudp = {{ warn_fast = 200, lock_fast = {LIMIT} }}\n"));
    let _cordond = site.start();
    // A wire on which nothing ever comes in tells nothing about answers, and rules that need them would only observe.
    let pings = ["-q", "-n", "-i", "0.05", "-I", Namespaces::SERVER_2, Namespaces::REMOTE];
    let _ping = site.ns.spawn("in", "ping", &pings);
    let mut latencies = Vec::new();
    for run in 0..RUNS {
        let server = format!("10.77.0.{}", 20 + run);
        site.ns.add_address("in", &format!("{server}/24"));
        let stream = Stream::start(&site.ns, "in", &server, Namespaces::REMOTE, PAUSE);
        site.wait_locked(&server);
        stream.wait_sent(20, SOON);
        let flow = stream.stop(Duration::from_millis(150));
        let first_dropped = flow.arrived.iter().rposition(Option::is_some).unwrap() + 1;
        assert!(first_dropped < flow.sent.len(), "run {run}: all arrived though it is locked");
        assert!(flow.lost().into_iter().all(|i| i >= first_dropped), "run {run}: lost before the lock");
        let crossed = crossing(&flow.sent);
        assert!(first_dropped > crossed, "run {run}: locked below the limit");
        latencies.push(flow.sent[first_dropped] - flow.sent[crossed]);
        let only_out = format!("{server} out attack-out");
        assert!(site.locks().contains(&only_out), "{:?}", site.locks());
    }
    let [p50, p99] = [50, 99].map(|p| percentile(&mut latencies, p));
    println!(
        "from the crossing of the limit to the first dropped packet: p50 {p50:.1?}, p99 {p99:.1?}, {RUNS} runs"
    );
    assert!(p50 < BOUND, "{latencies:?}");
}
