//! What forging costs.

use std::net::IpAddr;

use super::super::testing::*;
use super::super::{Env, Gateway, Mac, Side};
use super::{GATEWAY, SERVER};

#[test]
fn forged_devices_and_addresses_grow_nothing_and_are_told_as_one() {
    let gateways = [Gateway { address: ip(GATEWAY), mac: None }];
    let mut s = Scene::new(Side::Inside, Env { gateways: &gateways, ..Env::default() });
    for n in 0..50_000u32 {
        let b = n.to_be_bytes();
        let from = Mac([2, b[0], b[1], b[2], b[3], 1]);
        s.see(&announces(from, GATEWAY));
        s.see(&announces(mac(9), &format!("10.{}.{}.{}", b[1], b[2], b[3])));
        if n % 1_000 == 0 {
            s.wait_ms(100);
        }
    }
    let found = s.cases();
    assert!(found.len() < 60, "{} findings", found.len());
    assert!(s.found.iter().any(|f| f.is_forged));
}

#[test]
fn a_gateway_is_guarded_even_against_one_who_claims_everything_before() {
    let gateways: Vec<Gateway> = ["10.9.9.9"].iter().map(|a| Gateway { address: ip(a), mac: None }).collect();
    let mut s = Scene::new(Side::Inside, Env { gateways: &gateways, ..Env::default() });
    for n in 0..2_000u32 {
        s.see(&answers(mac(9), &format!("10.0.{}.{}", n / 250, n % 250 + 1), mac(5), SERVER));
        if n % 100 == 0 {
            s.wait_ms(100);
        }
    }
    s.see(&answers(mac(9), "10.9.9.9", mac(5), SERVER)).wait_ms(100);
    let claimed: Vec<Option<IpAddr>> = s.found.iter().map(|f| f.claimed).collect();
    assert!(s.found.iter().any(|f| f.text.contains("gateway")), "{claimed:?}");
}

#[test]
fn equal_frames_at_equal_times_give_equal_findings() {
    let once = || {
        let mut s = Scene::new(Side::Mirror, Env::default());
        for n in 0..100u8 {
            s.see(&answers(mac(n % 7), SERVER, mac(1), GATEWAY)).see(&answers(
                mac(n % 5),
                GATEWAY,
                mac(5),
                SERVER,
            ));
            s.wait_ms(500);
        }
        s.cases();
        s.found
    };
    assert_eq!(once(), once());
}
