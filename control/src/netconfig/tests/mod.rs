//! What is an offence, and what only looks like one.

mod arp;
mod bounds;
mod guards;
mod services;
mod sources;

use config::Inventory;

use super::testing::mac;
use super::{Level, Mac, Side};

pub(super) const SERVER: &str = "10.0.0.5";
pub(super) const OTHER: &str = "10.0.0.6";
pub(super) const GATEWAY: &str = "10.0.0.1";
pub(super) const SIDES: [Side; 2] = [Side::Inside, Side::Mirror];

pub(super) fn warn(case: &'static str, m: Mac) -> Vec<(&'static str, Mac, Level)> {
    vec![(case, m, Level::Warn)]
}

/// 10.0.0.N belongs to the server with MAC N.
pub(super) fn inventory(is_complete: bool) -> Inventory {
    let mut text = format!("complete,{is_complete}\nid,addresses,macs,customer\n");
    for n in 1..=9u8 {
        text += &format!("s{n},10.0.0.{n},{},c{}\n", mac(n), n / 2);
    }
    let site = config::Site { groups: None, networks: &[], ipv6_host_length: 64 };
    Inventory::parse_csv(&text, "test", site).unwrap_or_else(|e| panic!("{e}"))
}
