//! Neighbour discovery, routers, DHCP and spanning tree.

use super::super::testing::*;
use super::super::{Allowed, Env, Gateway, Level, Mac, Side};
use super::{SIDES, inventory, warn};

#[test]
fn neighbour_discovery_is_judged_like_arp() {
    let (a, b) = ("fe80::5", "fe80::6");
    let mut s = Scene::new(Side::Mirror, Env::default());
    for _ in 0..3 {
        s.see(&advertises(mac(9), a, mac(6), b)).see(&advertises(mac(9), b, mac(5), a)).wait_ms(2_000);
    }
    assert_eq!(s.cases(), warn("nd-spoof", mac(9)));
    // Both the owner and the spoofer answer.
    let mut s = Scene::new(Side::Inside, Env::default());
    for _ in 0..2 {
        s.see(&solicits(mac(6), b, a)).see(&advertises(mac(5), a, mac(6), b));
        s.see(&advertises(mac(9), a, mac(6), b)).wait_ms(30_000);
    }
    assert_eq!(s.cases(), warn("nd-spoof", mac(9)));
    // No new device gets an address.
    let mut s = Scene::new(Side::Inside, Env::default());
    for n in 1..=3 {
        let wanted = format!("2001:db8::{n}");
        s.see(&solicits(mac(n), "::", &wanted)).see(&advertises(mac(9), &wanted, ALL_NODES, "ff02::1"));
        s.wait_ms(2_000);
    }
    assert_eq!(s.cases(), warn("nd-spoof", mac(9)));
    let gateways = [Gateway { address: ip("fe80::1"), mac: None }];
    let mut s = Scene::new(Side::Inside, Env { gateways: &gateways, ..Env::default() });
    s.see(&advertises(mac(9), "fe80::1", ALL_NODES, "ff02::1"));
    assert_eq!(s.cases(), warn("nd-spoof", mac(9)));
}

#[test]
fn autoconfiguration_is_no_offence() {
    for side in SIDES {
        let mut s = Scene::new(side, Env::default());
        for n in 1..20u8 {
            for own in [format!("fe80::{n}"), format!("2001:db8::{n}"), format!("2001:db8::abcd:{n}")] {
                s.see(&solicits(mac(n), "::", &own)).wait_ms(1_000);
                s.see(&advertises(mac(n), &own, ALL_NODES, "ff02::1"));
                s.see(&solicits(mac(n), &own, "fe80::ffff"));
                s.from(Side::Outside, &advertises(mac(200), "fe80::ffff", mac(n), &own));
            }
        }
        assert_eq!(s.cases(), [], "{side:?}");
    }
}

#[test]
fn servers_do_not_advertise_themselves_as_routers() {
    let ra = routes(mac(9), "fe80::9", "2001:db8:bad::", 0, 1800);
    let mut s = Scene::new(Side::Inside, Env::default());
    s.see(&ra);
    assert_eq!(s.cases(), warn("rogue-ra", mac(9)));
    for allowed in [Allowed::Mac(mac(9)), Allowed::Address(ip("fe80::9"))] {
        let routers = [allowed];
        let mut s = Scene::new(Side::Inside, Env { routers: &routers, ..Env::default() });
        s.see(&ra).wait_ms(1_000);
        assert_eq!(s.cases(), []);
    }
    // From outside, and alone on a segment: somebody has to be the router.
    for side in [Side::Outside, Side::Mirror] {
        let mut s = Scene::new(side, Env::default());
        for _ in 0..5 {
            s.see(&ra).wait_ms(3_000);
        }
        assert_eq!(s.cases(), []);
    }
    // On a mirror, with a list.
    let routers = [Allowed::Mac(mac(1))];
    let mut s = Scene::new(Side::Mirror, Env { routers: &routers, ..Env::default() });
    s.see(&routes(mac(1), "fe80::1", "2001:db8::", 0, 1800)).see(&ra);
    assert_eq!(s.cases(), warn("rogue-ra", mac(9)));
}

#[test]
fn a_second_router_is_a_rogue_by_what_it_says() {
    let second = |prefix: &str, preference| {
        let mut s = Scene::new(Side::Mirror, Env::default());
        s.see(&routes(mac(1), "fe80::1", "2001:db8::", 0, 1800)).wait_ms(3_000);
        s.see(&routes(mac(9), "fe80::9", prefix, preference, 1800));
        s.cases()
    };
    assert_eq!(second("2001:db8:bad::", 0), warn("rogue-ra", mac(9)));
    assert_eq!(second("2001:db8::", 1), warn("rogue-ra", mac(9)));
    // Two routers for one prefix are ordinary.
    assert_eq!(second("2001:db8::", 0), []);
    assert_eq!(second("2001:db8::", 3), []);
}

#[test]
fn an_advertisement_under_the_routers_address_is_forged() {
    let router = Mac([0x64, 0, 0x6a, 0x5b, 0x8e, 0xb3]);
    let own = "fe80::6600:6aff:fe5b:8eb3";
    for side in SIDES {
        let mut s = Scene::new(side, Env::default());
        s.from(
            if side == Side::Inside { Side::Outside } else { side },
            &routes(router, own, "2001:db8::", 0, 1800),
        );
        s.see(&routes(mac(9), own, "2001:db8::", 0, 0));
        assert_eq!(s.cases(), warn("rogue-ra", mac(9)));
        assert_eq!(s.found[0].victim, Some(router));
    }
}

#[test]
fn a_flood_of_routers_is_told_as_one() {
    for side in SIDES {
        let mut s = Scene::new(side, Env::default());
        for n in 0..200u8 {
            let prefix = format!("2001:db8:{n:x}::");
            s.see(&routes(Mac([2, 7, n, 1, 2, n]), &format!("fe80::{n:x}:1"), &prefix, 0, 1800));
            s.wait_ms(u64::from(n % 50 == 0) * 100);
        }
        let found = s.cases();
        assert!(!found.is_empty() && found.len() <= 33, "{side:?}: {} findings", found.len());
        assert!(s.found.iter().any(|f| f.is_forged));
    }
}

fn lease<'a>(kind: u8, server: &'a str, resolver: &'a str) -> Lease<'a> {
    Lease { kind, client: mac(50), server, given: "10.0.0.50", resolver }
}

#[test]
fn servers_do_not_answer_dhcp_unless_they_are_listed() {
    let offer = offers(mac(9), &lease(2, "10.0.0.9", "10.0.0.9"));
    let mut s = Scene::new(Side::Inside, Env::default());
    s.see(&offer);
    assert_eq!(s.cases(), warn("rogue-dhcp", mac(9)));
    for list in [[Allowed::Mac(mac(9))], [Allowed::Address(ip("10.0.0.9"))]] {
        let mut s = Scene::new(Side::Inside, Env { dhcp_servers: &list, ..Env::default() });
        s.see(&offer);
        assert_eq!(s.cases(), []);
    }
    let list = [Allowed::Mac(mac(1))];
    let mut s = Scene::new(Side::Mirror, Env { dhcp_servers: &list, ..Env::default() });
    s.see(&offer);
    assert_eq!(s.cases(), warn("rogue-dhcp", mac(9)));
    // Somebody has to give addresses.
    for side in [Side::Outside, Side::Mirror] {
        let mut s = Scene::new(side, Env::default());
        s.see(&offer).wait_ms(500).see(&offers(mac(9), &lease(5, "10.0.0.9", "10.0.0.9")));
        assert_eq!(s.cases(), []);
    }
}

#[test]
fn a_second_dhcp_server_is_a_rogue_if_it_leads_elsewhere() {
    let second = |server, resolver| {
        let mut s = Scene::new(Side::Mirror, Env::default());
        s.see(&offers(mac(9), &lease(2, server, resolver))).wait_ms(100);
        s.see(&offers(mac(1), &lease(2, "10.0.0.1", "10.0.0.1"))).wait_ms(100);
        s.see(&offers(mac(1), &lease(5, "10.0.0.1", "10.0.0.1")));
        s.cases()
    };
    // It is the one whose offer nobody took.
    assert_eq!(second("10.0.0.9", "10.0.0.66"), warn("rogue-dhcp", mac(9)));
    // A fail-over pair hands out the same options; a server with two network cards has one identifier.
    assert_eq!(second("10.0.0.9", "10.0.0.1"), []);
    assert_eq!(second("10.0.0.1", "10.0.0.66"), []);
}

#[test]
fn clients_that_are_made_up_starve_the_others() {
    for side in SIDES {
        let mut s = Scene::new(side, Env::default());
        for n in 0..100u8 {
            // Rolled dice, then the same without group addresses.
            for group in [1, 0] {
                let client = Mac([n << 1 | group, n.wrapping_mul(37), n ^ 0x5a, 1, 2, n]);
                s.see(&discovers(client, client)).wait_ms(100);
            }
        }
        let found = s.cases();
        assert!(found.iter().any(|f| f.0 == "dhcp-starvation"), "{side:?}");
        assert!(s.found.iter().all(|f| f.is_forged));
        let mut s = Scene::new(side, Env::default());
        for n in 0..100u8 {
            let client = Mac([n << 1 & 0xfe, n.wrapping_mul(37), n ^ 0x5a, 1, 2, n]);
            s.see(&discovers(client, client)).wait_ms(100);
        }
        let found = s.cases();
        assert_eq!(found.iter().map(|f| f.0).collect::<Vec<_>>(), ["dhcp-starvation"], "{side:?}");
        // One device for many.
        let mut s = Scene::new(side, Env::default());
        for n in 0..30u8 {
            s.see(&discovers(mac(9), Mac([2, 4, 6, n, n, n]))).wait_ms(100);
        }
        assert_eq!(s.cases(), warn("dhcp-starvation", mac(9)));
    }
}

#[test]
fn a_rack_that_comes_back_from_a_power_cut_is_no_attack() {
    for side in SIDES {
        // Four makers; they ask again and again.
        let mut s = Scene::new(side, Env::default());
        for n in 0..200u8 {
            let client = Mac([0, 0x16, 0x3e + n % 4, 1, 2, n]);
            s.see(&discovers(client, client)).see(&discovers(client, client)).wait_ms(100);
        }
        assert_eq!(s.cases(), [], "{side:?}");
        // A recording of DHCP alone, on a large network of everybody's devices.
        let mut s = Scene::new(side, Env::default());
        for n in 0..200u8 {
            let client = Mac([n & 0xfc, n.wrapping_mul(37), n ^ 0x5a, 1, 2, n]);
            s.see(&discovers(client, client)).wait_ms(100);
            s.see(&requests(client, client)).wait_ms(100);
        }
        assert_eq!(s.cases(), [], "{side:?}");
        // Made-up addresses of a wireless network: its clients go on to use their leases.
        let mut s = Scene::new(side, Env::default());
        for n in 0..200u8 {
            let client = Mac([n << 2 | 2, n.wrapping_mul(37), n ^ 0x5a, 1, 2, n]);
            s.see(&discovers(client, client)).wait_ms(100);
            s.see(&asks(client, "0.0.0.0", &format!("10.0.3.{n}")));
        }
        assert_eq!(s.cases(), [], "{side:?}");
    }
    let mut s = Scene::new(Side::Outside, Env::default());
    for n in 0..100u8 {
        s.see(&discovers(mac(9), Mac([2, n, 6, n, n, n]))).wait_ms(100);
    }
    assert_eq!(s.cases(), []);
}

#[test]
fn servers_do_not_speak_spanning_tree_and_switches_do() {
    let bpdu = hello(mac(9), (0x8001, mac(1)), (0x8001, mac(9)));
    for (side, expected) in
        [(Side::Inside, warn("stp", mac(9))), (Side::Mirror, vec![]), (Side::Outside, vec![])]
    {
        let mut s = Scene::new(side, Env::default());
        for _ in 0..5 {
            s.see(&bpdu).wait_ms(2_000);
        }
        assert_eq!(s.cases(), expected);
    }
    let bridges = [mac(9)];
    let mut s = Scene::new(Side::Inside, Env { bridges: &bridges, ..Env::default() });
    s.see(&bpdu).see(&bpdu);
    assert_eq!(s.cases(), []);
    // A reflection.
    let mut s = Scene::new(Side::Inside, Env::default());
    s.see(&bpdu);
    assert_eq!(s.cases(), []);
}

#[test]
fn a_taken_root_is_blamed_on_the_one_who_took_it() {
    let mut s = Scene::new(Side::Mirror, Env::default());
    for _ in 0..5 {
        s.see(&hello(mac(1), (0x8001, mac(1)), (0x8001, mac(1)))).wait_ms(2_000);
    }
    // A switch passes the news on.
    for _ in 0..3 {
        s.see(&hello(mac(2), (0x0001, mac(9)), (0x8001, mac(2)))).wait_ms(2_000);
    }
    assert_eq!(s.cases(), warn("stp", mac(9)));
    assert_eq!(s.found[0].victim, Some(mac(1)));
    // On a wire, with the inventory: a server that takes the root goes on to be locked.
    let known = inventory(true);
    let mut s = Scene::new(Side::Inside, Env { inventory: Some(&known), ..Env::default() });
    s.from(Side::Outside, &hello(mac(1), (0x8001, mac(1)), (0x8001, mac(1))));
    for _ in 0..12 {
        s.see(&hello(mac(9), (0x0001, mac(9)), (0x0001, mac(9)))).wait_ms(2_000);
    }
    assert_eq!(s.cases(), [("stp", mac(9), Level::Warn), ("stp", mac(9), Level::Lock)]);
}

#[test]
fn a_flood_of_roots_is_told_as_one() {
    let mut s = Scene::new(Side::Mirror, Env::default());
    for n in 0..100u8 {
        let m = Mac([2, 7, n, 1, 2, n]);
        s.see(&hello(m, (0x8001, m), (0x8001, m))).wait_ms(100);
    }
    let found = s.cases();
    assert_eq!(found.iter().map(|f| f.0).collect::<Vec<_>>(), ["stp"]);
    assert!(s.found.iter().all(|f| f.is_forged));
}
