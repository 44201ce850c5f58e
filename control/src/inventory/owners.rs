//! Whose a host is, at the cost of one look: asked for every host that moves, in every tick.

use std::collections::HashMap;
use std::net::IpAddr;

use config::Inventory;
use ipnet::IpNet;
use region::locks::Range;
use region::{Addr, HostId};

use crate::networks::Networks;

/// Nobody's.
const NOBODY: u32 = u32::MAX;

/// Servers of hosts, by their place in the inventory.
#[derive(Debug, Default)]
pub(crate) struct Owners {
    v4: Vec<u32>,
    /// As far as they were asked for.
    v6: HashMap<HostId, u32>,
}

impl Owners {
    /// Of an inventory in these networks.
    pub(crate) fn new(inventory: Option<&Inventory>, networks: &Networks, hosts_v4: u32) -> Owners {
        let Some(inventory) = inventory else { return Owners::default() };
        let mut v4 = vec![NOBODY; usize::try_from(hosts_v4).unwrap_or(0)];
        let is_v4 = |a: u128| matches!(IpAddr::from(Addr::V6(a)).to_canonical(), IpAddr::V4(_));
        // A prefix that lies in another comes after it, and says whose its hosts are.
        for (first, last, server) in inventory.assignments().filter(|(first, _, _)| is_v4(*first)) {
            for host in networks.hosts_v4_in(&Range { first, last }) {
                if let Some(owner) = v4.get_mut(usize::try_from(host.0).unwrap_or(usize::MAX)) {
                    *owner = server;
                }
            }
        }
        Owners { v4, v6: HashMap::new() }
    }

    /// Forgets IPv6 hosts: in a new life of the dataplane their ids mean others.
    pub(crate) fn forget_v6(&mut self) {
        self.v6.clear();
    }

    /// The server of a host. `net` says which prefix it is, of an IPv6 host that is asked for the first time.
    pub(crate) fn of(
        &mut self,
        host: HostId,
        inventory: &Inventory,
        net: impl FnOnce() -> Option<IpNet>,
    ) -> Option<u32> {
        let at = usize::try_from(host.0).unwrap_or(usize::MAX);
        let owner = match self.v4.get(at) {
            Some(owner) => *owner,
            None => match self.v6.get(&host) {
                Some(owner) => *owner,
                None => {
                    let server = inventory.of_host(&net()?);
                    let place = server.and_then(|s| inventory.place(&s.id)).unwrap_or(NOBODY);
                    self.v6.insert(host, place);
                    place
                }
            },
        };
        (owner != NOBODY).then_some(owner)
    }
}
