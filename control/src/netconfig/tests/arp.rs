//! Claims by ARP, and sweeps.

use super::super::testing::*;
use super::super::{Env, Gateway, Level, Mac, Side};
use super::{GATEWAY, OTHER, SERVER, SIDES, inventory, warn};

#[test]
fn who_tells_each_of_two_that_it_is_the_other_is_a_spoofer() {
    for side in SIDES {
        let mut s = Scene::new(side, Env::default());
        for _ in 0..3 {
            s.see(&answers(mac(9), SERVER, mac(1), GATEWAY)).see(&answers(mac(9), GATEWAY, mac(5), SERVER));
            s.wait_ms(2_000);
        }
        assert_eq!(s.cases(), warn("arp-spoof", mac(9)), "{side:?}");
    }
}

#[test]
fn who_goes_on_answering_what_nobody_asked_is_a_spoofer_where_questions_are_seen() {
    let poison = |s: &mut Scene| {
        for _ in 0..4 {
            s.see(&answers(mac(9), SERVER, mac(6), OTHER)).wait_ms(2_000);
        }
    };
    let mut s = Scene::new(Side::Mirror, Env::default());
    s.see(&asks(mac(9), "10.0.0.9", GATEWAY)).see(&answers(mac(1), GATEWAY, mac(9), "10.0.0.9"));
    poison(&mut s);
    assert_eq!(s.cases(), warn("arp-spoof", mac(9)));
    // One direction only: nobody knows what was asked, unless it is far too much.
    let mut s = Scene::new(Side::Mirror, Env::default());
    s.see(&asks(mac(9), "10.0.0.9", GATEWAY));
    poison(&mut s);
    assert_eq!(s.cases(), []);
    for _ in 0..2 {
        poison(&mut s);
    }
    assert_eq!(s.cases(), warn("arp-spoof", mac(9)));
    // Answers to many.
    let mut s = Scene::new(Side::Mirror, Env::default());
    for n in 1..=60u8 {
        s.see(&answers(mac(1), GATEWAY, mac(n), &format!("10.0.1.{n}"))).wait_ms(500);
    }
    assert_eq!(s.cases(), []);
}

#[test]
fn answers_whose_questions_were_lost_accuse_nobody() {
    let mut s = Scene::new(Side::Mirror, Env::default());
    s.see(&asks(mac(9), "10.0.0.9", GATEWAY)).see(&answers(mac(1), GATEWAY, mac(9), "10.0.0.9"));
    for _ in 0..4 {
        let now = s.now_ns;
        s.watcher.missed(now);
        s.see(&answers(mac(9), SERVER, mac(6), OTHER)).wait_ms(2_000);
    }
    assert_eq!(s.cases(), []);
}

#[test]
fn who_asks_for_what_it_claims_is_a_spoofer() {
    let mut s = Scene::new(Side::Mirror, Env::default());
    s.see(&answers(mac(9), GATEWAY, mac(5), SERVER)).wait_ms(9_000);
    s.see(&asks(mac(9), "10.0.0.9", GATEWAY));
    assert_eq!(s.cases(), warn("arp-spoof", mac(9)));
}

#[test]
fn an_address_that_two_devices_answer_for_is_told() {
    for side in SIDES {
        let mut s = Scene::new(side, Env::default());
        for _ in 0..2 {
            s.see(&asks(mac(1), GATEWAY, SERVER)).see(&answers(mac(5), SERVER, mac(1), GATEWAY));
            s.see(&answers(mac(9), SERVER, mac(1), GATEWAY)).wait_ms(30_000);
        }
        assert_eq!(s.cases(), warn("arp-spoof", mac(9)));
        assert_eq!(s.found[0].victim, Some(mac(5)));
    }
}

#[test]
fn who_answers_every_probe_keeps_others_from_having_addresses() {
    let mut s = Scene::new(Side::Mirror, Env::default());
    for n in 1..=3 {
        let wanted = format!("10.0.0.{n}");
        s.see(&asks(mac(n), "0.0.0.0", &wanted)).see(&answers(mac(9), &wanted, mac(n), "0.0.0.0"));
        s.wait_ms(2_000);
    }
    assert_eq!(s.cases(), warn("arp-spoof", mac(9)));
    // Once is what RFC 5227 asks of the one who has the address.
    let mut s = Scene::new(Side::Mirror, Env::default());
    for _ in 0..4 {
        s.see(&asks(mac(1), "0.0.0.0", SERVER))
            .see(&answers(mac(5), SERVER, mac(1), "0.0.0.0"))
            .wait_ms(2_000);
    }
    assert_eq!(s.cases(), []);
}

#[test]
fn claims_in_the_name_of_a_third_are_told() {
    let mut s = Scene::new(Side::Mirror, Env::default());
    for _ in 0..3 {
        s.see(&asks(mac(1), GATEWAY, SERVER)).see(&answers_as(mac(9), mac(77), SERVER, mac(1), GATEWAY));
        s.wait_ms(9_000);
    }
    assert_eq!(s.cases(), warn("arp-spoof", mac(9)));
}

#[test]
fn what_servers_do_at_boot_and_on_fail_over_is_no_offence() {
    let vrrp = Mac([0, 0, 0x5e, 0, 1, 7]);
    for side in SIDES {
        let mut s = Scene::new(side, Env::default());
        // Boot: probes, announcements, questions.
        for _ in 0..3 {
            s.see(&asks(mac(5), "0.0.0.0", SERVER)).wait_ms(1_000);
        }
        s.see(&announces(mac(5), SERVER)).see(&announces(mac(5), SERVER)).wait_ms(100);
        s.see(&asks(mac(5), SERVER, GATEWAY)).from(Side::Outside, &answers(mac(1), GATEWAY, mac(5), SERVER));
        s.wait_ms(60_000);
        // Another server takes the address over, and gives it back an hour later.
        s.see(&announces(mac(6), SERVER)).see(&announces(mac(6), SERVER)).wait_ms(10_000);
        s.see(&asks(mac(6), SERVER, GATEWAY)).wait_ms(600_000);
        s.see(&announces(mac(5), SERVER)).wait_ms(1_000);
        // A virtual router beside its two real ones, announcing from time to time.
        for n in 0..10 {
            let real = format!("10.0.0.{}", 2 + n % 2);
            s.see(&announces(vrrp, "10.0.0.2")).see(&asks(mac(2 + n % 2), &real, GATEWAY)).wait_ms(5_000);
        }
        // One device with twenty addresses.
        for n in 20..40 {
            let own = format!("10.0.0.{n}");
            s.see(&asks(mac(1), GATEWAY, &own)).see(&answers(mac(8), &own, mac(1), GATEWAY)).wait_ms(100);
        }
        assert_eq!(s.cases(), [], "{side:?}");
    }
}

#[test]
fn a_gateways_address_is_not_for_servers() {
    let gateways = [Gateway { address: ip(GATEWAY), mac: Some(mac(1)) }];
    let env = Env { gateways: &gateways, ..Env::default() };
    for side in SIDES {
        let mut s = Scene::new(side, env);
        s.see(&announces(mac(9), GATEWAY));
        assert_eq!(s.cases(), warn("arp-spoof", mac(9)));
        assert_eq!(s.found[0].victim, Some(mac(1)));
        let mut s = Scene::new(side, env);
        s.see(&announces(mac(1), GATEWAY)).see(&asks(mac(1), GATEWAY, SERVER));
        s.from(Side::Outside, &announces(mac(9), GATEWAY));
        assert_eq!(s.cases(), []);
    }
}

#[test]
fn only_the_inventory_makes_a_lock_and_only_of_what_goes_on() {
    let known = inventory(true);
    let gateways = [Gateway { address: ip(GATEWAY), mac: None }];
    let env = Env { inventory: Some(&known), gateways: &gateways, ..Env::default() };
    let claim = |env, times, claimed: &str| {
        let mut s = Scene::new(Side::Inside, env);
        for _ in 0..times {
            s.see(&answers(mac(9), claimed, mac(4), "10.0.0.4")).wait_ms(1_000);
        }
        s.cases()
    };
    let with = |level| ("arp-spoof", mac(9), level);
    assert_eq!(claim(env, 3, SERVER), [with(Level::Warn)]);
    assert_eq!(claim(env, 20, SERVER), [with(Level::Warn), with(Level::Lock)]);
    assert_eq!(claim(env, 20, GATEWAY), [with(Level::Warn), with(Level::Lock)]);
    // 8 and 9 are of one customer.
    assert_eq!(claim(env, 20, "10.0.0.8"), []);
    // A device that nobody knows has no addresses to take off.
    let mut s = Scene::new(Side::Inside, env);
    for _ in 0..20 {
        s.see(&answers(mac(99), SERVER, mac(4), "10.0.0.4")).wait_ms(1_000);
    }
    assert_eq!(s.cases(), [("arp-spoof", mac(99), Level::Warn), ("unknown-mac", mac(99), Level::Warn)]);
    // Without the inventory it goes no further than the warning, however certain.
    let without = Env { inventory: None, ..env };
    assert_eq!(claim(without, 200, GATEWAY), [with(Level::Warn)]);
}

#[test]
fn a_sweep_is_a_storm_and_a_gateway_that_looks_for_its_servers_is_not() {
    let sweep = |s: &mut Scene, from, n: u32| {
        for i in 0..n {
            s.see(&asks(from, "10.0.0.9", &format!("10.0.{}.{}", i / 250, 1 + i % 250)));
            s.wait_ms(u64::from(i % 10 == 0) * 100);
        }
    };
    for side in SIDES {
        let mut s = Scene::new(side, Env::default());
        sweep(&mut s, mac(9), 250);
        assert_eq!(s.cases(), warn("arp-storm", mac(9)));
        let mut s = Scene::new(side, Env::default());
        sweep(&mut s, mac(9), 90);
        assert_eq!(s.cases(), []);
    }
    let mut s = Scene::new(Side::Outside, Env::default());
    sweep(&mut s, mac(1), 1_000);
    assert_eq!(s.cases(), []);
    // On a mirror a router shows by what it forwards.
    let mut s = Scene::new(Side::Mirror, Env::default());
    for n in 1..30 {
        s.see(&ipv4(mac(1), mac(5), &format!("198.51.100.{n}"), SERVER, 6, &[0; 20]));
    }
    sweep(&mut s, mac(1), 500);
    assert_eq!(s.cases(), []);
}
