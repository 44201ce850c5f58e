//! Source addresses and broadcasts.

use ipnet::IpNet;

use super::super::testing::*;
use super::super::{Env, Mac, Side};
use super::{SERVER, inventory, warn};

fn packets(s: &mut Scene, from: Mac, source: &str, n: u32) {
    for _ in 0..n {
        s.see(&ipv4(from, mac(1), source, "198.51.100.1", 17, &[0; 8])).wait_ms(100);
    }
}

#[test]
fn addresses_outside_every_prefix_or_of_nobody_are_told() {
    let internal: [IpNet; 1] = ["10.0.0.0/24".parse().expect("a prefix")];
    let env = Env { internal: &internal, ..Env::default() };
    let run = |env, source: &str, n| {
        let mut s = Scene::new(Side::Inside, env);
        packets(&mut s, mac(9), source, n);
        s.cases()
    };
    assert_eq!(run(env, "192.168.7.7", 5), warn("unassigned-source", mac(9)));
    assert_eq!(run(env, "192.168.7.7", 2), []);
    assert_eq!(run(env, "10.0.0.200", 50), []);
    assert_eq!(run(env, "169.254.1.1", 50), []);
    let (whole, part) = (inventory(true), inventory(false));
    assert_eq!(
        run(Env { inventory: Some(&whole), ..env }, "10.0.0.200", 5),
        warn("unassigned-source", mac(9))
    );
    assert_eq!(run(Env { inventory: Some(&part), ..env }, "10.0.0.200", 5), []);
    // Without prefixes nothing is outside of them.
    assert_eq!(run(Env::default(), "192.168.7.7", 50), []);
}

#[test]
fn the_address_of_another_is_a_wrong_mac_and_a_stranger_is_unknown() {
    let known = inventory(true);
    let env = Env { inventory: Some(&known), ..Env::default() };
    let mut s = Scene::new(Side::Inside, env);
    packets(&mut s, mac(9), SERVER, 3);
    assert_eq!(s.cases(), warn("wrong-mac", mac(9)));
    assert_eq!((s.found[0].victim, s.found[0].server.as_deref()), (Some(mac(5)), Some("s9")));
    let mut s = Scene::new(Side::Inside, env);
    packets(&mut s, mac(5), SERVER, 100);
    assert_eq!(s.cases(), []);
    let mut s = Scene::new(Side::Inside, env);
    packets(&mut s, mac(99), "169.254.0.1", 5);
    assert_eq!(s.cases(), warn("unknown-mac", mac(99)));
    // A router of the customer's, virtual, and an inventory that does not list everything.
    let mut s = Scene::new(Side::Inside, env);
    packets(&mut s, Mac([0, 0, 0x5e, 0, 1, 7]), "169.254.0.1", 5);
    assert_eq!(s.cases(), []);
    let part = inventory(false);
    let mut s = Scene::new(Side::Inside, Env { inventory: Some(&part), ..Env::default() });
    packets(&mut s, mac(99), "10.0.0.99", 5);
    assert_eq!(s.cases(), []);
}

#[test]
fn groups_and_loopback_are_no_sources_and_having_no_address_yet_is_no_offence() {
    for source in ["224.0.0.1", "127.0.0.1", "255.255.255.255", "0.0.0.0"] {
        let mut s = Scene::new(Side::Inside, Env::default());
        packets(&mut s, mac(9), source, 12);
        assert_eq!(s.cases(), warn("invalid-source", mac(9)), "{source}");
    }
    let mut s = Scene::new(Side::Mirror, Env::default());
    for _ in 0..20 {
        s.see(&ipv6(mac(9), ALL_NODES, ("ff02::1", "ff02::1"), 58, 255, &[128, 0, 0, 0]));
    }
    assert_eq!(s.cases(), warn("invalid-source", mac(9)));
    let mut s = Scene::new(Side::Inside, Env::default());
    for _ in 0..50 {
        s.see(&discovers(mac(9), mac(9))).see(&solicits(mac(9), "::", "fe80::9"));
        s.see(&ipv4(mac(9), Mac([1, 0, 0x5e, 0, 0, 22]), "0.0.0.0", "224.0.0.22", 2, &[0; 8])).wait_ms(100);
    }
    assert_eq!(s.cases(), []);
}

#[test]
fn a_broadcast_storm_is_told_and_ordinary_broadcasts_are_not() {
    let mut s = Scene::new(Side::Inside, Env::default());
    for _ in 0..40 {
        s.from(Side::Inside, &ipv4(mac(9), ALL, SERVER, "10.0.0.255", 17, &[0; 8]));
        let now = s.now_ns;
        s.watcher.broadcasts(Side::Inside, now, mac(9), 150);
        s.watcher.broadcasts(Side::Inside, now, mac(8), 20);
        s.watcher.broadcasts(Side::Outside, now, mac(1), 500);
        s.wait_ms(100);
    }
    assert_eq!(s.cases(), warn("broadcast-storm", mac(9)));
}
