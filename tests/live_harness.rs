//! The tests' own namespaces: made, usable, and gone afterwards.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails here")]

mod common;

use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::time::Duration;

use common::{Namespaces, skip};

const SOON: Duration = Duration::from_secs(10);

/// A Linux bridge where the appliance will stand.
fn bridge(ns: &Namespaces) {
    for arguments in [
        "link add br0 type bridge",
        "link set box_in master br0",
        "link set box_out master br0",
        "link set br0 up",
    ] {
        let arguments: Vec<&str> = arguments.split(' ').collect();
        ns.run("box", "ip", &arguments, SOON).expect_success();
    }
}

#[test]
fn hosts_reach_each_other_through_a_bridge_in_the_box() {
    if !common::have_root_and_netns() {
        skip!("needs root and network namespaces");
    }
    let ns = Namespaces::new();
    assert!(!ns.pings("in", Namespaces::SERVER, Namespaces::GATEWAY), "nothing forwards in the box yet");
    bridge(&ns);
    for (from, to) in [
        (Namespaces::SERVER, Namespaces::GATEWAY),
        (Namespaces::SERVER_2, Namespaces::REMOTE),
        (Namespaces::SERVER_V6, Namespaces::GATEWAY_V6),
        (Namespaces::SERVER_V6, Namespaces::REMOTE_V6),
    ] {
        // The neighbour that could not be reached before is asked for anew after a moment.
        assert!((0..10).any(|_| ns.pings("in", from, to)), "{from} -> {to}");
    }
    assert!(ns.pings("out", Namespaces::REMOTE, Namespaces::SERVER_2));
    ns.fix_neighbours();
    assert!(ns.pings("out", Namespaces::REMOTE_V6, Namespaces::SERVER_V6));
    ns.add_address("in", "10.77.0.99/24");
    assert!(ns.pings("in", "10.77.0.99", Namespaces::GATEWAY));

    // Sockets of this very process, on either side.
    let listener = ns.within("out", || TcpListener::bind((Namespaces::REMOTE, 7777)).unwrap());
    let client =
        ns.within("in", || TcpStream::connect_timeout(&"10.78.0.1:7777".parse().unwrap(), SOON).unwrap());
    assert_eq!(listener.accept().unwrap().1, client.local_addr().unwrap());
}

#[test]
fn namespaces_are_gone_afterwards_and_so_is_what_ran_in_them() {
    if !common::have_root_and_netns() {
        skip!("needs root and network namespaces");
    }
    let (a, b) = (Namespaces::new(), Namespaces::new());
    assert_ne!(a.name("in"), b.name("in"));
    let paths: Vec<String> = [&a, &b]
        .iter()
        .flat_map(|n| ["in", "box", "out"].map(|s| format!("/run/netns/{}", n.name(s))))
        .collect();
    assert!(paths.iter().all(|p| Path::new(p).exists()));

    // A grandchild that outlives its parent, as a dataplane outlives cordond.
    let parent = a.spawn("box", "sh", &["-c", "setsid sleep 60 & echo $!; wait"]);
    let pid = parent.wait_for_line("", SOON);
    parent.kill9();
    let process = format!("/proc/{pid}");
    assert!(Path::new(&process).exists(), "the grandchild lives on");
    drop(a);
    common::eventually("init reaps the grandchild", SOON, || dead(&process).then_some(()));
    drop(b);
    let left: Vec<&String> = paths.iter().filter(|p| Path::new(p).exists()).collect();
    assert!(left.is_empty(), "{left:?}");
}

/// Gone, or a zombie that waits for its parent.
fn dead(process: &str) -> bool {
    let stat = std::fs::read_to_string(format!("{process}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_none_or(|s| s.trim_start().is_empty() || s.trim_start().starts_with('Z'))
}

#[test]
fn what_a_killed_test_left_is_swept() {
    if !common::have_root_and_netns() {
        skip!("needs root and network namespaces");
    }
    // A process that is surely gone: its id is free again once it has been waited for.
    let mut gone = std::process::Command::new("true").spawn().unwrap();
    gone.wait().unwrap();
    let stale = format!("cor{}in", gone.id());
    let add = std::process::Command::new("ip").args(["netns", "add", &stale]).status().unwrap();
    assert!(add.success());
    drop(Namespaces::new());
    assert!(!Path::new("/run/netns").join(&stale).exists());
}
