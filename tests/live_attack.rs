//! A server attacks, a server is attacked: the three real programs, real tools on both sides.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails here")]

mod common;

use std::net::TcpListener;

use common::site::{SOON, Site};
use common::{Namespaces, eventually, skip};

const SERVER: &str = Namespaces::SERVER;
const REMOTE: &str = Namespaces::REMOTE;

/// So low that a flood of some thousand packets crosses it at once, and so high that nothing else does.
const LIMITS: &str = "
[limits.out]
syn = { warn_fast = 200, lock_fast = 500 }
[limits.in]
syn = { warn_fast = 200, lock_fast = 500 }
[unlock]
inbound_hold = \"2s\"
inbound_quiet = \"2s\"
";

/// More than a second of packets beyond the limit, so that some of them meet the lock on a busy machine too.
const FLOOD: u64 = 5_000;

#[test]
fn ping_and_tcp_pass_while_all_is_counted() {
    if !common::have_root_and_netns() {
        skip!("needs root and network namespaces");
    }
    let site = Site::new("");
    let _cordond = site.start();
    let before = site.at_rest();
    for (from, to) in [(SERVER, REMOTE), (Namespaces::SERVER_V6, Namespaces::REMOTE_V6)] {
        let pings = ["-q", "-n", "-c", "20", "-i", "0.01", "-I", from, to];
        let said = site.ns.run("in", "ping", &pings, SOON).expect_success();
        assert!(said.contains("20 packets transmitted, 20 received"), "{said}");
    }
    let server = site.ns.spawn("out", "iperf3", &["--server", "--one-off", "--forceflush"]);
    server.wait_for_line("Server listening", SOON);
    let transfer = ["--client", REMOTE, "--bytes", "32M", "--json"];
    let report = site.ns.run("in", "iperf3", &transfer, SOON).expect_success();
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    assert!(report["end"]["sum_received"]["bytes"].as_u64().unwrap() > 16 << 20, "{report}");
    assert!(server.wait_exit(SOON).success());

    let after = site.assert_nothing_lost(&before);
    let sent = after.sent[0] - before.sent[0];
    let shown = |target, path| site.counted(target, path);
    assert_eq!(shown(SERVER, "out.icmp"), 20);
    assert_eq!(shown("fd77::/64", "out.icmp"), 20);
    assert_eq!(
        shown(SERVER, "out.packets") + shown("fd77::/64", "out.packets"),
        sent,
        "every packet from inside belongs to one of the two"
    );
    assert!(shown(SERVER, "out.tcp") > 1_000);
    assert!(site.locks().is_empty() && site.incidents(SERVER).is_empty());
}

#[test]
fn a_server_that_floods_is_locked_and_let_back_by_the_operator() {
    if !common::have_root_and_netns() {
        skip!("needs root and network namespaces");
    }
    let site = Site::new(LIMITS);
    let _cordond = site.start();
    assert!(site.ns.pings("in", SERVER, REMOTE));
    let before = site.at_rest();

    // The kernel outside answers each with a reset, which is no answer that would excuse it.
    let transmitted = site.hping3("in", FLOOD, &["-S", "-p", "80", REMOTE]);
    assert_eq!(transmitted, FLOOD);
    let row = site.wait_locked(SERVER);
    assert_eq!(
        (&row["direction"], &row["reason"], &row["rule"]),
        (&"out".into(), &"attack-out".into(), &"syn-out".into())
    );
    assert_eq!(row["enforced"], true);

    let after = site.assert_nothing_lost(&before);
    let dropped = after.verdict("drop_locked_out");
    assert!(dropped > 0 && dropped < FLOOD, "{after:?}");
    assert_eq!(after.verdict("drop_locked_in"), 0);
    // Locked traffic goes on being counted for the host.
    assert_eq!(site.counted(SERVER, "out.syn"), FLOOD);
    assert_eq!(site.counted(SERVER, "out.dropped"), dropped);

    let before = site.at_rest();
    assert!(!site.ns.pings("in", SERVER, REMOTE), "what it sends is locked");
    assert!(site.ns.pings("in", Namespaces::SERVER_2, REMOTE), "its neighbour is not");
    let after = site.assert_nothing_lost(&before);
    assert_eq!(after.verdict("drop_locked_out") - before.verdict("drop_locked_out"), 1);
    assert!(site.passes("out", REMOTE, SERVER), "what it is sent is not locked");
    assert!(!site.passes("in", SERVER, REMOTE));

    evidence(&site, row["incident"].as_str().unwrap());

    site.wait_quiet(SERVER);
    let lifted = site.ask(&["unlock", SERVER]);
    assert_eq!(lifted.as_array().map(Vec::len), Some(1), "{lifted}");
    assert!(site.ns.pings("in", SERVER, REMOTE), "it is back at once");
    assert!(site.locks().is_empty());
    let incidents = site.incidents(SERVER);
    assert_eq!(incidents.len(), 1, "a flood is one incident: {incidents:?}");
}

/// The incident, as the operator sees it, and its file.
fn evidence(site: &Site, id: &str) {
    let incident = site.ask(&["incident", id]);
    for (key, expected) in [
        ("kind", "attack-out"),
        ("address", SERVER),
        ("action", "lock"),
        ("rule", "syn-out/default"),
        ("direction", "out"),
        ("protocol", "tcp"),
    ] {
        assert_eq!(incident[key], expected, "{incident}");
    }
    assert_eq!(incident["limit"], 500);
    assert!(incident["peak"].as_u64().unwrap() > 500, "{incident}");
    assert_eq!(incident["files"], serde_json::json!(["summary.log", "dump.log", "dump.pcapng"]));
    let path = site.evidence(id, "summary.log");
    let log = eventually("evidence", SOON, || std::fs::read_to_string(&path).ok());
    for line in ["Direction OUT", "Internal 10.77.0.10", "Threshold SYN 500 packets/s", "Sum "] {
        assert!(log.contains(line), "{line}: {log}");
    }
}

#[test]
fn the_victim_of_a_flood_is_locked_inbound_never_for_its_answers_and_let_back_when_it_ends() {
    if !common::have_root_and_netns() {
        skip!("needs root and network namespaces");
    }
    let site = Site::new(LIMITS);
    let _cordond = site.start();
    // A port that answers with SYN-ACK, and one that answers with RST.
    let _listener = site.ns.within("in", || TcpListener::bind((SERVER, 8080)).unwrap());
    for (round, port) in ["8080", "81"].iter().enumerate() {
        let before = site.at_rest();
        assert_eq!(site.hping3("out", FLOOD, &["-S", "-p", port, "-a", REMOTE, SERVER]), FLOOD);
        let row = site.wait_locked(SERVER);
        assert_eq!((&row["direction"], &row["reason"]), (&"in".into(), &"attack-in".into()), "{row}");
        let after = site.at_rest();
        let dropped = after.verdict("drop_locked_in") - before.verdict("drop_locked_in");
        assert!(dropped > 0, "{after:?}");
        assert_eq!(after.verdict("drop_locked_out"), 0, "{after:?}");
        assert_eq!(site.counted(SERVER, "inbound.syn"), FLOOD * (round as u64 + 1));
        assert!(site.counted(SERVER, "out.tcp") > 100, "it answered until it was locked");
        assert!(site.passes("in", SERVER, REMOTE), "what it sends passes");
        // Dropped traffic is counted, so the end of the attack is seen.
        eventually("the lock lifts itself", SOON, || site.locks().is_empty().then_some(()));
        assert!(site.ns.pings("out", REMOTE, SERVER));
    }
    let incidents = site.incidents(SERVER);
    assert!(incidents.iter().all(|i| i["kind"] == "attack-in"), "{incidents:?}");
    assert!(!incidents.is_empty());
}
