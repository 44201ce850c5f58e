//! What is an offence, and what only looks like one.

mod arp;
mod bounds;
mod services;
mod sources;

use ipnet::IpNet;

use super::testing::{ip, mac};
use super::{Assignment, Inventory, Level, Mac, Side};

pub(super) const SERVER: &str = "10.0.0.5";
pub(super) const OTHER: &str = "10.0.0.6";
pub(super) const GATEWAY: &str = "10.0.0.1";
pub(super) const SIDES: [Side; 2] = [Side::Inside, Side::Mirror];

pub(super) fn warn(case: &'static str, m: Mac) -> Vec<(&'static str, Mac, Level)> {
    vec![(case, m, Level::Warn)]
}

/// 10.0.0.N and fd00:N:: belong to the server with MAC N.
pub(super) fn inventory(is_complete: bool) -> Inventory {
    let all = (1..=9u8).map(|n| Assignment {
        prefix: IpNet::from(ip(&format!("10.0.0.{n}"))),
        server: format!("s{n}"),
        macs: vec![mac(n)],
        group: None,
        customer: Some(format!("c{}", n / 2)),
    });
    Inventory::new(all.collect(), is_complete)
}
