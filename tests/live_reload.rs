//! A new configuration under traffic, and two queues instead of one.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails here")]

mod common;

use std::time::Duration;

use common::site::{SOON, Site, all_answered};
use common::stream::Stream;
use common::{Namespaces, skip};
use serde_json::Value;

const SERVER: &str = Namespaces::SERVER;
const SERVER_2: &str = Namespaces::SERVER_2;
const REMOTE: &str = Namespaces::REMOTE;
const PAUSE: Duration = Duration::from_millis(1);

#[test]
fn reloads_under_traffic_lose_no_packet_and_open_no_lock() {
    if !common::have_root_and_netns() {
        skip!("needs root and network namespaces");
    }
    let mut site = Site::new("");
    let _cordond = site.start();
    site.ask(&["lock", SERVER, "--reason", "abuse"]);
    let before = site.at_rest();
    let ping = site.ns.spawn("in", "ping", &["-q", "-n", "-i", "0.002", "-I", SERVER_2, REMOTE]);
    let free = Stream::start(&site.ns, "in", SERVER_2, REMOTE, PAUSE);
    let inbound = Stream::start(&site.ns, "out", REMOTE, SERVER_2, PAUSE);
    let locked = Stream::start(&site.ns, "in", SERVER, REMOTE, PAUSE);
    let own = site.networks.clone();
    for round in 0..10u8 {
        // Networks come and go around those that stay, and every tenth of them has limits of its own.
        site.networks = (0..round % 4).map(|i| format!("10.{}.0.0/24", 100 + round * 4 + i)).collect();
        site.networks.extend(own.clone());
        site.sections = format!("[limits.out]\nsyn = {{ lock_fast = {} }}\n", 5_000 + u32::from(round));
        if round % 3 == 1 {
            site.sections += "[exceptions]\nprefixes = [\"198.51.100.7/32\"]\n";
        }
        site.write_config();
        site.ask(&["reload"]);
        free.wait_sent(50, SOON);
        // One that is wrong is refused, and changes nothing.
        site.networks.push("10.0.0.0/33".to_owned());
        site.write_config();
        let refused = site.cli.json(&["reload"]).unwrap_err();
        assert!(refused.message.contains("10.0.0.0/33"), "{refused:?}");
        free.wait_sent(50, SOON);
    }
    all_answered(ping);
    let [free, inbound] = [free, inbound].map(|s| s.stop(SOON));
    assert_eq!((free.lost(), inbound.lost()), (vec![], vec![]));
    assert_eq!(locked.arrived(), 0);
    let locked = locked.stop(Duration::ZERO);
    let after = site.assert_nothing_lost(&before);
    assert_eq!(after.verdict("drop_locked_out"), locked.sent.len() as u64);
    // A network that stays keeps its servers' counters.
    assert_eq!(site.counted(SERVER, "out.dropped"), locked.sent.len() as u64);
    assert_eq!(site.counted(SERVER_2, "out.udp"), free.sent.len() as u64);
}

#[test]
fn a_network_that_leaves_the_configuration_and_comes_back_brings_its_locks_and_no_counts_of_others() {
    if !common::have_root_and_netns() {
        skip!("needs root and network namespaces");
    }
    let mut site = Site::new("");
    let _cordond = site.start();
    site.ask(&["lock", SERVER, "--reason", "abuse"]);
    assert!(!site.passes("in", SERVER, REMOTE));
    let counted = site.counted(SERVER, "out.packets");
    assert!(counted > 0);

    // Another network takes its place, and may get its host ids.
    site.networks = vec!["10.88.0.0/24".to_owned()];
    site.write_config();
    site.ask(&["reload"]);
    assert!(site.passes("in", SERVER, REMOTE), "no server of ours any more");
    let row = site.wait_locked(SERVER);
    assert_eq!(row["enforced"], false, "{row}");
    assert!(site.attention().contains("is not enforced"), "{}", site.attention());
    site.ask(&["reload"]);
    assert_eq!(site.counted("10.88.0.10", "out.packets"), 0, "it has sent nothing");

    site.networks = vec!["10.77.0.0/24".to_owned()];
    site.write_config();
    site.ask(&["reload"]);
    assert_eq!(site.wait_locked(SERVER)["enforced"], true);
    assert!(!site.passes("in", SERVER, REMOTE));
    assert_eq!(site.incidents(SERVER), Vec::<Value>::new());
    site.wait_accounted();
}

#[test]
fn two_queues_count_together_and_lock_together() {
    if !common::have_root_and_netns() {
        skip!("needs root and network namespaces");
    }
    let site = Site::with_queues(2, "[limits.out]\nsyn = { warn_fast = 200, lock_fast = 500 }\n");
    let _cordond = site.start();
    let before = site.at_rest();
    assert!(site.ns.pings("in", SERVER, REMOTE));
    let server = site.ns.spawn("out", "iperf3", &["--server", "--one-off", "--forceflush"]);
    server.wait_for_line("Server listening", SOON);
    let transfer = ["--client", REMOTE, "--bytes", "16M", "--parallel", "8", "--json"];
    site.ns.run("in", "iperf3", &transfer, SOON).expect_success();
    // Every SYN has a port of its own, so that the kernel spreads them over both queues.
    let flood = 5_000;
    assert_eq!(site.hping3("in", flood, &["-S", "-p", "80", "-a", SERVER_2, REMOTE]), flood);
    site.wait_locked(SERVER_2);
    let after = site.assert_nothing_lost(&before);
    assert_eq!(site.counted(SERVER_2, "out.syn"), flood);
    assert_eq!(site.counted(SERVER_2, "out.dropped"), after.verdict("drop_locked_out"));
    assert!(after.verdict("drop_locked_out") > 0);

    let status = site.status();
    let workers: Vec<u64> =
        status["workers"].as_array().unwrap().iter().map(|w| w["packets"].as_u64().unwrap()).collect();
    assert!(workers.len() == 2 && workers.iter().all(|n| *n > 500), "both queues work: {workers:?}");
    assert_eq!(workers.iter().sum::<u64>(), after.received);
    assert!(status["workers"].as_array().unwrap().iter().all(|w| w["alive"] == Value::Bool(true)));

    // A lock by hand holds on both from its answer on: flows of many ports, none passes.
    site.ask(&["lock", SERVER, "--reason", "abuse"]);
    let before = site.at_rest();
    site.hping3("in", 200, &["-2", "-p", "9", REMOTE]);
    let after = site.assert_nothing_lost(&before);
    assert_eq!(after.verdict("drop_locked_out") - before.verdict("drop_locked_out"), 200);
    site.ask(&["unlock", SERVER]);
    let before = site.at_rest();
    site.hping3("in", 200, &["-2", "-p", "9", REMOTE]);
    let after = site.assert_nothing_lost(&before);
    assert_eq!(after.verdict("drop_locked_out") - before.verdict("drop_locked_out"), 0);
    assert!(after.arrived[1] - before.arrived[1] >= 200);
}
