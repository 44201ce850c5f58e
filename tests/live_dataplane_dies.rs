//! The dataplane is killed: it comes back, and what is locked is locked from its first packet on, whoever is alive and
//! whatever the configuration says by then.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails here")]
#![expect(clippy::print_stdout, reason = "what was measured")]

mod common;

use std::time::{Duration, Instant};

use common::site::{SOON, Site};
use common::stream::{Flow, Stream, percentile};
use common::{Namespaces, skip};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const SERVER: &str = Namespaces::SERVER;
const SERVER_2: &str = Namespaces::SERVER_2;
const REMOTE: &str = Namespaces::REMOTE;
const PAUSE: Duration = Duration::from_millis(1);
/// What was sent while the wire was down does not come; what is on its way does.
const LOST: Duration = Duration::from_millis(300);

/// From a moment to the first packet that arrives of those sent after it.
fn back(flow: &Flow, killed: Instant) -> Duration {
    let later = flow.sent.iter().zip(&flow.arrived).filter(|(sent, _)| **sent > killed);
    later.filter_map(|(_, arrived)| *arrived).min().expect("the wire came back") - killed
}

#[test]
fn a_killed_dataplane_is_started_again_and_locks_hold_from_its_first_packet() {
    if !common::have_root_and_netns() {
        skip!("needs root and network namespaces");
    }
    let site = Site::new("");
    let _cordond = site.start();
    site.ask(&["lock", SERVER, "--reason", "abuse"]);
    let locked = Stream::start(&site.ns, "in", SERVER, REMOTE, PAUSE);
    let locked_in = Stream::start(&site.ns, "out", REMOTE, SERVER, PAUSE);
    let mut outages = Vec::new();
    // The first restart comes at once; the pauses of later ones are deliberate.
    for round in 0..2 {
        let free = Stream::start(&site.ns, "in", SERVER_2, REMOTE, PAUSE);
        free.wait_arrived(100, SOON);
        let status = site.status();
        let pid = i32::try_from(status["dataplane_pid"].as_i64().unwrap()).unwrap();
        kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
        let killed = Instant::now();
        site.wait_enforcing(status["incarnation"].as_u64().unwrap());
        free.wait_arrived(200, SOON);
        outages.push(back(&free.stop(LOST), killed));
        assert_eq!((locked.arrived(), locked_in.arrived()), (0, 0), "round {round}");
    }
    println!(
        "with cordond: from kill -9 to the first forwarded packet: {outages:.1?} (a pause of 1 s before the second)"
    );
    drop((locked, locked_in));
    // The new life has seen the locked server, and dropped all it saw.
    let seen = site.at_rest().verdict("drop_locked_out");
    assert!(seen > 0);
    assert_eq!(site.counted(SERVER, "out.packets"), seen);
    assert_eq!(site.counted(SERVER, "out.dropped"), seen);
    assert_eq!(site.locks(), [format!("{SERVER} both abuse")]);
    assert_eq!(site.ask(&["incidents"]), serde_json::json!([]));
    site.wait_accounted();
    assert!(site.attention().contains("ended with signal: 9"), "{}", site.attention());
}

/// An address of another network, whose prefix stands before the others in the configuration.
fn add_network(site: &mut Site, number: u8) -> String {
    site.networks.insert(0, format!("10.{number}.0.0/24"));
    site.write_config();
    let address = format!("10.{number}.0.10");
    site.ns.add_address("in", &format!("{address}/24"));
    let route = ["route", "add", &format!("10.{number}.0.0/24"), "dev", "out0"];
    site.ns.run("out", "ip", &route, SOON).expect_success();
    address
}

/// The lock is where it was, and nowhere else.
fn only_the_server_is_locked(site: &Site, others: &[&str]) {
    let locked = |address| [site.passes("in", address, REMOTE), site.passes("out", REMOTE, address)];
    assert_eq!(locked(SERVER), [false, false]);
    for other in others {
        assert_eq!(locked(other), [true, true], "{other}");
    }
}

#[test]
fn a_prefix_that_is_added_while_the_dataplane_is_dead_moves_no_lock() {
    if !common::have_root_and_netns() {
        skip!("needs root and network namespaces");
    }
    let mut site = Site::new("");
    // As two services of the machine.
    let cordond = site.start_control(&[]);
    assert!(site.attention().contains("no packet passes"), "{}", site.attention());
    let dataplane = site.start_dataplane();
    let first = site.wait_enforcing(0);
    site.ask(&["lock", SERVER, "--reason", "abuse"]);
    let locked = Stream::start(&site.ns, "in", SERVER, REMOTE, PAUSE);
    let locked_in = Stream::start(&site.ns, "out", REMOTE, SERVER, PAUSE);
    locked.wait_sent(50, SOON);

    dataplane.kill9();
    common::eventually("cordond says that the wire is down", SOON, || {
        site.attention().contains("no packet passes").then_some(())
    });
    let new = add_network(&mut site, 70);
    site.ask(&["reload"]);
    let dataplane = site.start_dataplane();
    let second = site.wait_enforcing(first["incarnation"].as_u64().unwrap());
    locked.wait_sent(100, SOON);
    assert_eq!((locked.arrived(), locked_in.arrived()), (0, 0), "after a reload");
    drop((locked, locked_in));
    only_the_server_is_locked(&site, &[SERVER_2, &new]);

    // Both are killed, the configuration changes, and the dataplane comes back first.
    let locked = Stream::start(&site.ns, "in", SERVER, REMOTE, PAUSE);
    let locked_in = Stream::start(&site.ns, "out", REMOTE, SERVER, PAUSE);
    let free = Stream::start(&site.ns, "in", SERVER_2, REMOTE, PAUSE);
    free.wait_arrived(50, SOON);
    cordond.kill9();
    dataplane.kill9();
    let newest = add_network(&mut site, 71);
    let dataplane = site.start_dataplane();
    free.wait_arrived(200, SOON);
    assert_eq!((locked.arrived(), locked_in.arrived()), (0, 0), "without cordond");
    let _cordond = site.start_control(&[]);
    site.wait_enforcing(second["incarnation"].as_u64().unwrap());
    free.wait_arrived(200, SOON);
    assert_eq!((locked.arrived(), locked_in.arrived()), (0, 0), "with cordond again");
    drop((locked, locked_in, free));
    only_the_server_is_locked(&site, &[SERVER_2, &new, &newest]);
    assert_eq!(site.locks(), [format!("{SERVER} both abuse")]);
    assert!(dataplane.term(SOON).success());
}

#[test]
fn a_dataplane_that_is_restarted_by_its_own_service_is_back_in_the_time_that_is_printed() {
    if !common::have_root_and_netns() {
        skip!("needs root and network namespaces");
    }
    let site = Site::new("");
    let _cordond = site.start_control(&[]);
    let mut dataplane = site.start_dataplane();
    site.wait_enforcing(0);
    let mut outages: Vec<Duration> = (0..3)
        .map(|_| {
            let free = Stream::start(&site.ns, "in", SERVER_2, REMOTE, PAUSE);
            free.wait_arrived(50, SOON);
            dataplane.kill9();
            let killed = Instant::now();
            dataplane = site.start_dataplane();
            free.wait_arrived(50, SOON);
            back(&free.stop(LOST), killed)
        })
        .collect();
    let all = format!("{outages:.1?}");
    println!(
        "two services: from kill -9 to the first forwarded packet: median {:.1?} of {all}",
        percentile(&mut outages, 50)
    );
    assert!(outages.iter().all(|o| *o < SOON));
}
