//! Locks on a server of the inventory, on the wire: they cover all its addresses and prefixes and nobody else's, and follow
//! when the inventory changes.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails here")]

mod common;

use common::site::{SOON, Site};
use common::{Daemon, Namespaces, eventually, skip};

/// Addresses of the first server: two by themselves, two of a prefix, and of its IPv6 network.
const FIRST: &str = "10.77.0.20";
const MOVES: &str = "10.77.0.21";
const IN_PREFIX: &str = "10.77.0.33";
const PREFIX_END: &str = "10.77.0.39";
const SIX: &str = "fd79:0:0:1::10";
/// Of the second server: by itself, and within the first one's prefix.
const OTHER: &str = "10.77.0.40";
const CARVED: &str = "10.77.0.35";
const OTHER_SIX: &str = "fd79:0:0:2::10";
/// Nobody's until the first server gets it.
const NEW: &str = "10.77.0.50";
const ALL: [&str; 9] = [FIRST, MOVES, IN_PREFIX, PREFIX_END, SIX, OTHER, CARVED, OTHER_SIX, NEW];

/// Writes the inventory: addresses of the first and the second server.
fn write(site: &Site, first: &[&str], second: &[&str]) -> String {
    let path = site.config().with_file_name("inventory.toml");
    let text = [("DX-1", first), ("DX-2", second)]
        .map(|(id, addresses)| format!("[[server]]\nid = \"{id}\"\naddresses = {addresses:?}\n"));
    std::fs::write(&path, text.concat()).unwrap();
    path.to_str().unwrap().to_owned()
}

/// A site with these servers, all of whose addresses can speak with the outside.
fn start() -> (Site, Daemon) {
    let mut site = Site::new("");
    site.networks.push("fd79::/48".to_owned());
    let inventory = write(
        &site,
        &[FIRST, MOVES, "10.77.0.32/29", "fd79:0:0:1::/64"],
        &[OTHER, CARVED, "fd79:0:0:2::/64"],
    );
    site.sections = format!("[inventory]\nfile = \"{inventory}\"\n");
    site.write_config();
    let ip = |side: &str, arguments: &str| {
        let words: Vec<&str> = arguments.split_whitespace().collect();
        site.ns.run(side, "ip", &words, SOON).expect_success();
    };
    ip("out", "-6 route add fd79::/48 dev out0");
    for address in ALL {
        let length = if address.contains(':') { 64 } else { 24 };
        site.ns.add_address("in", &format!("{address}/{length}"));
        let mac = Namespaces::SERVER_MAC;
        ip("out", &format!("neigh replace {address} lladdr {mac} dev out0 nud permanent"));
    }
    let cordond = site.start();
    (site, cordond)
}

/// Addresses from which nothing reaches the outside, and those that nothing reaches from there.
fn silent(site: &Site) -> [Vec<&'static str>; 2] {
    let remote = |a: &str| if a.contains(':') { Namespaces::REMOTE_V6 } else { Namespaces::REMOTE };
    let not = |passed: Vec<bool>| ALL.into_iter().zip(passed).filter(|(_, p)| !p).map(|(a, _)| a).collect();
    [not(site.pass("in", &ALL.map(|a| [a, remote(a)]))), not(site.pass("out", &ALL.map(|a| [remote(a), a])))]
}

/// Reloads, and waits until the inventory in force gives the second server so many addresses and prefixes.
fn reload(site: &Site, second: usize) {
    site.ask(&["reload"]);
    eventually("the new inventory is in force", SOON, || {
        let shown = site.ask(&["show", OTHER]);
        (shown["server"]["addresses"].as_array()?.len() == second).then_some(())
    });
}

/// Waits until an address reaches the outside, or does not any more.
fn wait_passes(site: &Site, address: &str, passes: bool) {
    eventually(&format!("{address} passes: {passes}"), SOON, || {
        (site.passes("in", address, Namespaces::REMOTE) == passes).then_some(())
    });
}

#[test]
fn a_lock_on_a_server_covers_what_the_inventory_gives_it_and_follows_when_that_changes() {
    if !common::have_root_and_netns() {
        skip!("needs root and network namespaces");
    }
    let (site, _cordond) = start();
    let none: [Vec<&str>; 2] = [Vec::new(), Vec::new()];
    assert_eq!(silent(&site), none);

    site.ask(&["lock", "server:DX-1", "--reason", "abuse"]);
    assert_eq!(site.locks(), ["server:DX-1 both abuse"]);
    let own = vec![FIRST, MOVES, IN_PREFIX, PREFIX_END, SIX];
    assert_eq!(
        silent(&site),
        [own.clone(), own],
        "all of it, and nothing of another server within its prefix"
    );

    // One address goes to the other server, the first gets a new one.
    write(
        &site,
        &[FIRST, "10.77.0.32/29", "fd79:0:0:1::/64", NEW],
        &[OTHER, CARVED, "fd79:0:0:2::/64", MOVES],
    );
    reload(&site, 4);
    wait_passes(&site, NEW, false);
    let own = vec![FIRST, IN_PREFIX, PREFIX_END, SIX, NEW];
    assert_eq!(silent(&site), [own.clone(), own], "the lock has followed, and {MOVES} is free");

    // To a server with a lock of its own: what it gets has that one then.
    site.ask(&["lock", "server:DX-2", "--reason", "non-payment", "--direction", "out"]);
    assert_eq!(silent(&site)[0], ALL, "{MOVES} is the second server's now");
    assert_eq!(silent(&site)[1], [FIRST, IN_PREFIX, PREFIX_END, SIX, NEW]);
    write(&site, &[FIRST, NEW], &[OTHER, MOVES, "10.77.0.32/29", "fd79:0:0:1::/64", "fd79:0:0:2::/64"]);
    reload(&site, 5);
    eventually("prefixes move as addresses do", SOON, || {
        (silent(&site) == [ALL.to_vec(), vec![FIRST, NEW]]).then_some(())
    });

    site.ask(&["unlock", "server:DX-1"]);
    site.ask(&["unlock", "server:DX-2"]);
    assert_eq!(site.locks(), [] as [String; 0]);
    assert_eq!(silent(&site), none);
}

/// Nobody has the address: that the lock lets go of it would be an unlock that nobody has asked for.
#[test]
fn a_locked_server_that_leaves_the_inventory_stays_locked_also_without_cordond() {
    if !common::have_root_and_netns() {
        skip!("needs root and network namespaces");
    }
    let (site, cordond) = start();
    site.ask(&["lock", "server:DX-1", "--reason", "abuse"]);
    write(&site, &[FIRST], &[OTHER, CARVED, NEW, "fd79:0:0:2::/64"]);
    reload(&site, 4);
    let own = [FIRST, MOVES, IN_PREFIX, PREFIX_END, SIX].map(String::from);
    assert_eq!(silent(&site)[0], own);
    let path = site.config().with_file_name("inventory.toml");
    std::fs::write(&path, "[[server]]\nid = \"DX-2\"\naddresses = [\"10.77.0.40\"]\n").unwrap();
    reload(&site, 1);
    cordond.kill9();
    let blocked = |address: &str| !site.ns.pings("in", address, Namespaces::REMOTE);
    assert!(blocked(FIRST) && blocked(MOVES) && !blocked(OTHER), "nobody is there who could change it");
    // And a cordond that finds the inventory without the server.
    let _cordond = site.start_control(&["--with-dataplane"]);
    site.wait_enforcing(0);
    assert_eq!(silent(&site)[0], own);
    assert_eq!(site.locks(), ["server:DX-1 both abuse"]);
    site.ask(&["unlock", "server:DX-1"]);
    assert!(!blocked(FIRST) && !blocked(MOVES));
}
