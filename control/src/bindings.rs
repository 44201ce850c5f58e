//! Which addresses are bound to a MAC: packets from inside that break a binding are not the server's own.
//!
//! Bound are only addresses of a server that the inventory gives exactly one MAC, and whose customer has no other server:
//! addresses move between servers of one customer, and one cell holds one MAC. A server with several MACs, and one that the
//! inventory gives none, may send from any.

use std::collections::HashMap;

use config::{BindingAction, Inventory, Rule};
use ipnet::IpNet;
use region::policy::Bindings;
use region::{HostId, Mac};

use crate::control::{Control, Use};

/// The MACs that servers are bound to, by their ids.
pub(crate) type Bound = HashMap<String, Mac>;

/// Whom an inventory binds.
pub(crate) fn bound(inventory: Option<&Inventory>) -> Bound {
    let Some(inventory) = inventory else { return Bound::new() };
    let mut servers_of: HashMap<&str, u32> = HashMap::new();
    for customer in inventory.servers().iter().filter_map(|s| s.customer.as_deref()) {
        *servers_of.entry(customer).or_default() += 1;
    }
    let alone = |c: &Option<String>| c.as_deref().is_none_or(|c| servers_of.get(c) == Some(&1));
    let one = inventory.servers().iter().filter(|s| alone(&s.customer));
    one.filter_map(|s| match s.macs.as_slice() {
        [mac] => Some((s.id.clone(), Mac(*mac))),
        _ => None,
    })
    .collect()
}

impl Control {
    /// Binds a host as the inventory says; `None`: it is nobody's.
    pub(crate) fn bind(&self, host: HostId, net: Option<&IpNet>) {
        let mac = net.filter(|_| !self.bound.is_empty()).and_then(|net| {
            let server = self.inventory.as_ref()?.of_host(net)?;
            self.bound.get(&server.id).copied()
        });
        self.policy.bind(host, mac);
    }

    /// Says what becomes of packets that break a binding. A rule that only observes drops nothing.
    pub(crate) fn publish_bindings(&self) {
        let observing = self.only_observes(Rule::Misconfiguration);
        let none = self.bound.is_empty() || self.usage != Use::Live;
        self.policy.set_bindings(match self.config.guards.bindings {
            _ if none => Bindings::Off,
            BindingAction::Off => Bindings::Off,
            BindingAction::Drop if !observing => Bindings::Drop,
            BindingAction::Count | BindingAction::Drop => Bindings::Count,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_server_with_one_mac_whose_addresses_cannot_move_is_bound() {
        let text = "id,addresses,macs,customer\n\
                    one,192.0.2.1,02:00:00:00:00:01,\n\
                    alone,192.0.2.2,02:00:00:00:00:02,K-1\n\
                    two-ports,192.0.2.3,02:00:00:00:00:03 02:00:00:00:00:04,\n\
                    unknown,192.0.2.5,,\n\
                    left,192.0.2.6,02:00:00:00:00:06,K-2\n\
                    right,192.0.2.7,02:00:00:00:00:07,K-2\n";
        let site = config::Site { groups: None, networks: &[], ipv6_host_length: 64 };
        let inventory = Inventory::parse_csv(text, "test", site).unwrap_or_else(|e| panic!("{e}"));
        let mut ids: Vec<String> = bound(Some(&inventory)).into_keys().collect();
        ids.sort();
        assert_eq!(ids, ["alone", "one"]);
        assert!(bound(None).is_empty());
    }
}
