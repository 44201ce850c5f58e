//! Locks by hand: both directions and one, prefixes, exceptions, an end, IPv6, the never-lock list. A lock is in force
//! when the command returns: the very next packet is dropped.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails here")]

mod common;

use std::time::{Duration, Instant};

use common::site::{SOON, Site};
use common::stream::Stream;
use common::{Namespaces, eventually, skip};

const SERVER: &str = Namespaces::SERVER;
const SERVER_2: &str = Namespaces::SERVER_2;
const REMOTE: &str = Namespaces::REMOTE;
const GATEWAY: &str = Namespaces::GATEWAY;
const SERVER_V6: &str = Namespaces::SERVER_V6;
const REMOTE_V6: &str = Namespaces::REMOTE_V6;

const PAUSE: Duration = Duration::from_millis(4);

/// Whether datagrams pass: out of the server, and into it.
fn passes(site: &Site, server: &str, remote: &str) -> [bool; 2] {
    [site.passes("in", server, remote), site.passes("out", remote, server)]
}

fn lock(site: &Site, options: &[&str]) -> serde_json::Value {
    let rows = site.ask(&[&["lock", "--reason", "abuse"], options].concat());
    assert_eq!(rows.as_array().map(Vec::len), Some(1), "{rows}");
    assert_eq!(rows[0]["enforced"], true, "{rows}");
    rows[0].clone()
}

#[test]
fn a_manual_lock_holds_in_its_directions_from_the_answer_on() {
    if !common::have_root_and_netns() {
        skip!("needs root and network namespaces");
    }
    let site = Site::new("");
    let _cordond = site.start();
    assert_eq!(passes(&site, SERVER, REMOTE), [true, true]);
    for (direction, expected) in [("both", [false, false]), ("out", [false, true]), ("in", [true, false])] {
        lock(&site, &[SERVER, "--direction", direction]);
        assert_eq!(passes(&site, SERVER, REMOTE), expected, "{direction}");
        assert_eq!(passes(&site, SERVER_2, REMOTE), [true, true], "{direction}: the neighbour");
        assert_eq!(site.ask(&["show", SERVER])["enforced"], direction);
        site.ask(&["unlock", SERVER]);
        assert_eq!(passes(&site, SERVER, REMOTE), [true, true], "after {direction}");
    }
    // What is enforced is the union of all rows.
    lock(&site, &[SERVER, "--direction", "in"]);
    site.ask(&["lock", SERVER, "--reason", "non-payment", "--direction", "out"]);
    assert_eq!(passes(&site, SERVER, REMOTE), [false, false]);
    let refused = site.cli.json(&["unlock", SERVER]).unwrap_err();
    assert_eq!(refused.code, 1, "two reasons, and none named: {refused:?}");
    site.ask(&["unlock", SERVER, "--reason", "abuse"]);
    assert_eq!(passes(&site, SERVER, REMOTE), [false, true]);
    site.ask(&["unlock", SERVER, "--all"]);
    assert_eq!(passes(&site, SERVER, REMOTE), [true, true]);
    // Drops of both directions were counted for the host, and nothing else was dropped.
    let mark = site.at_rest();
    assert_eq!(site.counted(SERVER, "out.dropped"), mark.verdict("drop_locked_out"));
    assert_eq!(site.counted(SERVER, "inbound.dropped"), mark.verdict("drop_locked_in"));
    assert_eq!((mark.verdict("drop_locked_out"), mark.verdict("drop_locked_in")), (4, 3));
}

#[test]
fn a_prefix_covers_its_hosts_an_exception_passes_and_a_term_ends() {
    if !common::have_root_and_netns() {
        skip!("needs root and network namespaces");
    }
    let site = Site::new("");
    let _cordond = site.start();
    site.ns.add_address("in", "10.77.0.16/24");
    lock(&site, &["10.77.0.8/29"]);
    for (server, expected) in [(SERVER, false), (SERVER_2, false), ("10.77.0.16", true)] {
        assert_eq!(passes(&site, server, REMOTE), [expected; 2], "{server}");
    }
    let refused = site.cli.json(&["unlock", SERVER]).unwrap_err();
    assert!(refused.code == 4 && refused.message.contains("10.77.0.8/29"), "{refused:?}");
    site.ask(&["unlock", "10.77.0.8/29"]);

    lock(&site, &[SERVER, "--except", REMOTE]);
    assert_eq!(passes(&site, SERVER, REMOTE), [true, true], "the exception");
    assert_eq!(passes(&site, SERVER, GATEWAY), [false, false]);
    // Exceptions of one lock open no other.
    lock(&site, &[SERVER_2]);
    assert_eq!(passes(&site, SERVER_2, REMOTE), [false, false]);
    site.ask(&["unlock", SERVER]);
    site.ask(&["unlock", SERVER_2]);

    let row = lock(&site, &[SERVER, "--for", "4s"]);
    assert!(row["until"].is_string(), "{row}");
    // The ping's end is what decides, not its beginning: on a slow machine the lock may be over before.
    let dropped = || site.at_rest().verdict("drop_locked_out");
    let before = dropped();
    let passed = site.passes("in", SERVER, REMOTE);
    assert!(!passed && dropped() == before + 1 || site.locks().is_empty());
    eventually("the lock ends by itself", SOON, || site.locks().is_empty().then_some(()));
    assert_eq!(passes(&site, SERVER, REMOTE), [true, true]);
    let refused = site.cli.json(&["unlock", SERVER]).unwrap_err();
    assert_eq!(refused.code, 4, "{refused:?}");
}

#[test]
fn an_ipv6_server_is_its_whole_prefix_even_before_it_has_spoken() {
    if !common::have_root_and_netns() {
        skip!("needs root and network namespaces");
    }
    let mut site = Site::new("");
    site.networks = vec!["10.77.0.0/24".to_owned(), "fd77::/48".to_owned()];
    site.write_config();
    for address in ["fd77::99", "fd77:0:0:1::10"] {
        site.ns.add_address("in", &format!("{address}/64"));
        neighbour(&site, address);
    }
    let _cordond = site.start();
    // No packet of it has been seen: the lock itself makes the host known.
    lock(&site, &["fd77:0:0:1::/64"]);
    assert_eq!(passes(&site, "fd77:0:0:1::10", REMOTE_V6), [false, false]);
    assert_eq!(passes(&site, SERVER_V6, REMOTE_V6), [true, true], "another server");

    lock(&site, &["fd77::/64", "--direction", "out"]);
    for address in [SERVER_V6, "fd77::99"] {
        assert_eq!(passes(&site, address, REMOTE_V6), [false, true], "{address}");
    }
    assert_eq!(site.counted("fd77::/64", "out.dropped"), 2);
    assert_eq!(site.counted(SERVER_V6, "out.dropped"), 2, "an address names its server");
    let refused = site.cli.json(&["lock", SERVER_V6, "--reason", "abuse"]).unwrap_err();
    assert!(refused.code == 1 && refused.message.contains("fd77::/64"), "{refused:?}");
    site.ask(&["unlock", "fd77::/64"]);
    lock(&site, &["fd77::/48"]);
    for address in [SERVER_V6, "fd77:0:0:1::10"] {
        assert_eq!(passes(&site, address, REMOTE_V6), [false, false], "{address}");
    }
    site.ask(&["unlock", "fd77::/48"]);
    site.ask(&["unlock", "fd77:0:0:1::/64"]);
    assert_eq!(passes(&site, "fd77:0:0:1::10", REMOTE_V6), [true, true]);
}

/// The outside knows where an address of the inside is, so that no neighbour discovery stands beside what is counted.
fn neighbour(site: &Site, address: &str) {
    let mac = Namespaces::SERVER_MAC;
    let route = ["-6", "route", "replace", address, "dev", "out0"];
    site.ns.run("out", "ip", &route, SOON).expect_success();
    let entry = ["neigh", "replace", address, "lladdr", mac, "dev", "out0", "nud", "permanent"];
    site.ns.run("out", "ip", &entry, SOON).expect_success();
}

#[test]
fn the_never_lock_list_binds_until_the_operator_means_it() {
    if !common::have_root_and_netns() {
        skip!("needs root and network namespaces");
    }
    let site = Site::new(
        "[limits.out]\nsyn = { warn_fast = 200, lock_fast = 500 }\n[never_lock]\nprefixes = [\"10.77.0.11/32\"]\n",
    );
    let _cordond = site.start();
    // A detector warns and says why it does not lock.
    site.hping3("in", 2_000, &["-S", "-p", "80", "-a", SERVER_2, REMOTE]);
    site.wait_quiet(SERVER_2);
    let incident = site.incidents(SERVER_2).pop().unwrap();
    assert_eq!(incident["action"], "warn", "{incident}");
    assert!(incident["held_back"].as_str().unwrap().contains("never-lock"), "{incident}");
    assert!(site.locks().is_empty());

    for target in [SERVER_2, "10.77.0.0/28"] {
        let refused = site.cli.json(&["lock", target, "--reason", "abuse"]).unwrap_err();
        assert!(refused.code == 1 && refused.message.contains("--force"), "{refused:?}");
    }
    assert_eq!(passes(&site, SERVER_2, REMOTE), [true, true]);
    lock(&site, &[SERVER_2, "--force"]);
    assert_eq!(passes(&site, SERVER_2, REMOTE), [false, false]);
}

#[test]
fn a_maintenance_unlock_lets_a_server_in_to_the_packet_and_survives_both_daemons() {
    if !common::have_root_and_netns() {
        skip!("needs root and network namespaces");
    }
    let site = Site::new("");
    // Started together: a dataplane alone would wait for its first policy.
    let cordond = site.start_control(&[]);
    let mut dataplane = site.start_dataplane();
    let incarnation = site.wait_enforcing(0)["incarnation"].as_u64().unwrap();
    lock(&site, &[SERVER]);
    // Rounds in which the lock is in force: each sends one packet each way, which is dropped and counted.
    let mut locked = 0;
    let mut held = |site: &Site| {
        assert_eq!(passes(site, SERVER, REMOTE), [false, false]);
        locked += 1;
        let mark = site.at_rest();
        (mark.verdict("drop_locked_out"), mark.verdict("drop_locked_in")) == (locked, locked)
    };
    assert!(held(&site));
    let rows = site.ask(&["unlock", SERVER, "--for", "1h"]);
    assert!(rows[0]["enforced"] == false && rows[0]["suspended"]["until"].is_string(), "{rows}");
    assert_eq!(passes(&site, SERVER, REMOTE), [true, true], "from the answer on");

    let repair = Stream::start(&site.ns, "in", SERVER, REMOTE, PAUSE);
    repair.wait_sent(20, SOON);
    cordond.kill9();
    repair.wait_sent(200, SOON);
    let cordond = site.start_control(&[]);
    site.wait_enforcing(0);
    repair.wait_sent(50, SOON);
    assert!(repair.stop(SOON).lost().is_empty(), "without cordond, and with another one");
    site.ask(&["resume", SERVER]);
    assert!(held(&site), "from the answer on");

    // The end of its time, with cordond there.
    site.ask(&["unlock", SERVER, "--for", "2s"]);
    let enforced = |site: &Site| site.ask(&["list"])[0]["enforced"] == true;
    eventually("the maintenance ends by itself", SOON, || enforced(&site).then_some(()));
    assert!(held(&site), "exactly what came before it and after it was dropped");

    // And without it: the lock is late, and comes with the next cordond.
    site.ask(&["unlock", SERVER, "--for", "2s"]);
    let asked = Instant::now();
    cordond.kill9();
    let late = Stream::start(&site.ns, "in", SERVER, REMOTE, PAUSE);
    eventually("the time is over", SOON, || (asked.elapsed() > Duration::from_secs(2)).then_some(()));
    late.wait_sent(50, SOON);
    assert!(late.stop(SOON).lost().is_empty());
    let cordond = site.start_control(&[]);
    eventually("it is locked again", SOON, || enforced(&site).then_some(()));
    assert!(held(&site));

    // Another life of the dataplane takes over what stands in policy.
    site.ask(&["unlock", SERVER, "--for", "1h"]);
    dataplane.kill9();
    dataplane = site.start_dataplane();
    site.wait_enforcing(incarnation);
    assert_eq!(passes(&site, SERVER, REMOTE), [true, true]);
    site.ask(&["resume", SERVER]);
    assert_eq!(passes(&site, SERVER, REMOTE), [false, false]);
    cordond.kill9();
    assert!(dataplane.is_running());
}
