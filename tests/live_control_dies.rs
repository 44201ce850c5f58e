//! cordond is killed while packets flow and a lock is in force: nobody on the wire notices, and nothing is forgotten.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails here")]

mod common;

use std::path::Path;
use std::time::Duration;

use common::site::{SOON, Site, all_answered};
use common::stream::Stream;
use common::{Namespaces, eventually, skip};
use region::Facts;

const SERVER: &str = Namespaces::SERVER;
const SERVER_2: &str = Namespaces::SERVER_2;
const REMOTE: &str = Namespaces::REMOTE;
const STEADY: &str = "10.77.0.12";

/// A server that sends 250 a second stays below; what it sent in a gap of seconds would not, taken for a second's.
const LIMITS: &str = "[limits.out]\nudp = { warn_fast = 400, lock_fast = 500 }\n";
const PAUSE: Duration = Duration::from_millis(4);
const IN_A_GAP: usize = 700;

#[test]
fn killing_cordond_loses_no_packet_no_count_and_no_lock() {
    if !common::have_root_and_netns() {
        skip!("needs root and network namespaces");
    }
    let site = Site::new(LIMITS);
    site.ns.add_address("in", &format!("{STEADY}/24"));
    let mut cordond = site.start();
    site.ask(&["lock", SERVER, "--reason", "abuse"]);
    let first = site.status();
    let before = site.at_rest();

    let pings = ["-q", "-n", "-i", "0.002", "-I", SERVER_2, REMOTE];
    let ping = site.ns.spawn("in", "ping", &pings);
    let steady = Stream::start(&site.ns, "in", STEADY, REMOTE, PAUSE);
    let inbound = Stream::start(&site.ns, "out", REMOTE, SERVER_2, PAUSE);
    let locked = Stream::start(&site.ns, "in", SERVER, REMOTE, PAUSE);
    let locked_in = Stream::start(&site.ns, "out", REMOTE, SERVER, PAUSE);
    for round in 0..3 {
        steady.wait_sent(100, SOON);
        cordond.kill9();
        steady.wait_sent(IN_A_GAP, SOON);
        cordond = site.start_control(&["--with-dataplane"]);
        // The dataplane is none of its children, and is not started a second time.
        cordond.wait_for_line("adopted the dataplane", SOON);
        let again = site.wait_enforcing(0);
        for key in ["incarnation", "dataplane_pid"] {
            assert_eq!(again[key], first[key], "round {round}: {key}");
        }
        steady.wait_sent(300, SOON);
        assert_eq!((locked.arrived(), locked_in.arrived()), (0, 0), "round {round}: the lock holds");
    }
    all_answered(ping);
    let [steady, inbound] = [steady, inbound].map(|s| s.stop(SOON));
    let [locked, locked_in] = [locked, locked_in].map(|s| s.stop(Duration::ZERO));
    assert_eq!((steady.lost(), inbound.lost()), (vec![], vec![]));

    let after = site.assert_nothing_lost(&before);
    let (out, inb) = (locked.sent.len() as u64, locked_in.sent.len() as u64);
    assert_eq!(after.verdict("drop_locked_out"), out);
    assert_eq!(after.verdict("drop_locked_in"), inb);
    assert_eq!(site.counted(SERVER, "out.dropped"), out);
    assert_eq!(site.counted(SERVER, "inbound.dropped"), inb);
    assert_eq!(site.counted(STEADY, "out.packets"), steady.sent.len() as u64);
    site.wait_accounted();

    let incidents = site.ask(&["incidents"]);
    assert_eq!(incidents, serde_json::json!([]), "a gap is no attack");
    assert_eq!(site.locks(), [format!("{SERVER} both abuse")]);
}

#[test]
fn an_attack_that_begins_while_cordond_is_dead_is_found_when_it_is_back_and_what_it_did_before_is_kept() {
    if !common::have_root_and_netns() {
        skip!("needs root and network namespaces");
    }
    let site = Site::new(LIMITS);
    let cordond = site.start();
    // Something comes in, so that the wire is known to show both directions.
    let _ping = site.ns.spawn("in", "ping", &["-q", "-n", "-i", "0.05", "-I", SERVER_2, REMOTE]);
    let fast = Duration::from_micros(200);
    let before = Stream::start(&site.ns, "in", SERVER, REMOTE, fast);
    let row = site.wait_locked(SERVER);
    let first = row["incident"].as_str().unwrap().to_owned();
    eventually("the incident is stored", SOON, || {
        site.evidence(&first, "summary.log").exists().then_some(())
    });
    cordond.kill9();

    site.ns.add_address("in", &format!("{STEADY}/24"));
    let during = Stream::start(&site.ns, "in", STEADY, REMOTE, fast);
    during.wait_sent(3 * IN_A_GAP, SOON);
    assert!(during.arrived() > 0, "nobody was there to lock it");
    let _cordond = site.start_control(&["--with-dataplane"]);
    let row = site.wait_locked(STEADY);
    during.wait_cut_off(200, SOON);
    let second = row["incident"].as_str().unwrap();
    assert!(second > first.as_str(), "numbers go on: {first}, {second}");
    before.wait_cut_off(200, SOON);
    let kept = site.ask(&["incident", &first]);
    assert_eq!((&kept["action"], &kept["closed"]), (&"lock".into(), &serde_json::Value::Null), "{kept}");
    assert_eq!(site.incidents(SERVER).len(), 1, "an attack that goes on is no second one");
    assert_eq!(site.locks(), [SERVER, STEADY].map(|s| format!("{s} out attack-out")));
}

#[test]
fn a_new_policy_file_takes_over_from_the_old_one_without_a_gap() {
    if !common::have_root_and_netns() {
        skip!("needs root and network namespaces");
    }
    let site = Site::new("");
    let cordond = site.start();
    site.ask(&["lock", SERVER, "--reason", "abuse"]);
    let locked = Stream::start(&site.ns, "in", SERVER, REMOTE, PAUSE);
    let locked_in = Stream::start(&site.ns, "out", REMOTE, SERVER, PAUSE);
    let free = Stream::start(&site.ns, "in", SERVER_2, REMOTE, PAUSE);
    cordond.kill9();
    // As after an upgrade that changes the tables: cordond begins a file of its own, which the dataplane takes up.
    std::fs::remove_file(site.tables().join("policy")).unwrap();
    free.wait_sent(100, SOON);
    let cordond = site.start_control(&["--with-dataplane"]);
    cordond.wait_for_line("policy: new", SOON);
    site.wait_enforcing(0);
    free.wait_sent(300, SOON);
    assert_eq!((locked.arrived(), locked_in.arrived()), (0, 0));
    // It is the new one that is obeyed.
    site.ask(&["unlock", SERVER]);
    locked.wait_arrived(10, SOON);
    locked_in.wait_arrived(10, SOON);
    assert_eq!(free.stop(SOON).lost(), Vec::<usize>::new());
    drop((locked, locked_in));
    site.wait_accounted();
}

#[test]
fn a_dataplane_outlives_cordond_and_both_ends_of_its_life_are_clean() {
    if !common::have_root_and_netns() {
        skip!("needs root and network namespaces");
    }
    let site = Site::new("");
    let cordond = site.start();
    let status = site.status();
    let pid = status["dataplane_pid"].as_u64().unwrap();
    assert!(cordond.term(SOON).success(), "{}", cordond.log());
    assert!(Path::new(&format!("/proc/{pid}")).exists());
    assert!(site.ns.pings("in", SERVER, REMOTE), "the wire is up without cordond");
    let refused = site.cli.json(&["status"]).unwrap_err();
    assert_eq!(refused.code, 3, "{refused:?}");

    // The next one adopts it, and ends it when it is told to.
    let cordond = site.start_control(&["--with-dataplane", "--stop-dataplane-on-exit"]);
    cordond.wait_for_line(&format!("adopted the dataplane that runs, process {pid}"), SOON);
    assert_eq!(site.wait_enforcing(0)["incarnation"], status["incarnation"]);
    assert!(cordond.term(SOON).success(), "{}", cordond.log());
    eventually("the dataplane has ended", SOON, || Facts::writer(&site.tables()).is_none().then_some(()));
    assert!(!site.ns.pings("in", SERVER, REMOTE), "nothing forwards any more");
}
