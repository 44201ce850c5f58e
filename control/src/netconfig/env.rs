//! What the operator has told us: internal prefixes, gateways, who may run DHCP, who may route, and, if there is one, the
//! inventory.

use std::net::IpAddr;

use config::{Inventory, Server};
use ipnet::IpNet;

use super::Mac;

/// A router inside an internal prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gateway {
    /// Its address.
    pub address: IpAddr,
    /// Its hardware address, when the operator names it.
    pub mac: Option<Mac>,
}

/// A device that may do what servers may not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allowed {
    /// By hardware address.
    Mac(Mac),
    /// By the source address of its messages.
    Address(IpAddr),
}

/// Whether `mac` may use an address of `owner`: it is one of its own, of the same server, of the same customer, or the
/// inventory does not say which MAC that server has.
pub(super) fn may_use(inventory: &Inventory, mac: Mac, owner: &Server) -> bool {
    if owner.macs.is_empty() || owner.macs.contains(&mac.0) {
        return true;
    }
    let same_customer = |s: &Server| s.customer.is_some() && s.customer == owner.customer;
    inventory.of_mac(mac.0).is_some_and(|s| s.id == owner.id || same_customer(s))
}

/// What is known from outside the traffic.
#[derive(Clone, Copy, Debug, Default)]
pub struct Env<'a> {
    /// Internal prefixes; none when they are not known.
    pub internal: &'a [IpNet],
    /// Gateways.
    pub gateways: &'a [Gateway],
    /// Who may answer DHCP.
    pub dhcp_servers: &'a [Allowed],
    /// Who may advertise itself as a router.
    pub routers: &'a [Allowed],
    /// Switches on the inside that may speak spanning tree.
    pub bridges: &'a [Mac],
    /// The inventory, if there is one.
    pub inventory: Option<&'a Inventory>,
    /// When to warn and when to lock.
    pub limits: Limits,
}

impl Env<'_> {
    /// Whether an address is a gateway's.
    pub fn is_gateway(&self, a: IpAddr) -> bool {
        self.gateways.iter().any(|g| g.address == a)
    }

    /// Whether a hardware address is a gateway's.
    pub fn is_gateway_mac(&self, mac: Mac) -> bool {
        self.gateways.iter().any(|g| g.mac == Some(mac))
    }

    /// Whether an address is internal.
    pub fn is_internal(&self, a: IpAddr) -> bool {
        self.internal.iter().any(|n| n.contains(&a))
    }
}

/// Whether a list names a device.
pub(super) fn lists(list: &[Allowed], mac: Mac, address: Option<IpAddr>) -> bool {
    list.iter().any(|a| match a {
        Allowed::Mac(m) => *m == mac,
        Allowed::Address(a) => Some(*a) == address,
    })
}

/// When to warn and when to lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Addresses asked for by ARP or neighbour discovery in 10 to 20 seconds.
    pub sweep_fast: u32,
    /// Addresses asked for in 60 seconds.
    pub sweep_slow: u32,
    /// ARP requests and announcements in 10 seconds, whatever they ask for.
    pub arp_frames: u32,
    /// Broadcast frames in 5 seconds.
    pub broadcasts: u64,
    /// DHCP clients in 60 seconds that do nothing but take addresses, some of them from group addresses; twice as many
    /// where there is no such proof.
    pub dhcp_clients: usize,
    /// Packets with an address that is nobody's.
    pub wrong_sources: u64,
    /// Packets with an address that cannot be a source; a few are a broken stack or a test.
    pub impossible_sources: u64,
    /// Certain offences (see [`super::Level::Lock`]) before a lock.
    pub lock_frames: u64,
    /// The time over which they must go on.
    pub lock_after_ns: u64,
}

impl Default for Limits {
    /// From captures: an ARP sweep of a /24 asks for 254 addresses in one to ten seconds; a gateway whose DHCP server
    /// hands out 100 leases asks for 100 in a minute and is ordinary.
    fn default() -> Limits {
        Limits {
            sweep_fast: 120,
            sweep_slow: 220,
            arp_frames: 1_000,
            broadcasts: 2_500,
            dhcp_clients: 20,
            wrong_sources: 3,
            impossible_sources: 10,
            lock_frames: 10,
            lock_after_ns: 10_000_000_000,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_move_within_a_server_and_a_customer_only() {
        let text = "id,addresses,macs,customer\n\
                    a,10.0.0.1,02:00:00:00:00:01 02:00:00:00:00:11,c1\n\
                    b,10.0.0.2,02:00:00:00:00:02,c1\n\
                    c,10.0.0.3,02:00:00:00:00:03,\n\
                    d,10.0.0.4,02:00:00:00:00:04,\n\
                    e,10.0.0.5,,\n";
        let site = config::Site { groups: None, networks: &[], ipv6_host_length: 64 };
        let i = Inventory::parse_csv(text, "test", site).unwrap_or_else(|e| panic!("{e}"));
        let may = |mac: u8, a: &str| {
            let owner = i.of_address(a.parse().expect("an address")).expect("listed");
            may_use(&i, Mac([2, 0, 0, 0, 0, mac]), owner)
        };
        assert!(may(1, "10.0.0.1") && may(0x11, "10.0.0.1") && may(2, "10.0.0.1"));
        assert!(!may(3, "10.0.0.1") && !may(9, "10.0.0.1"));
        // Two servers without a customer have none in common.
        assert!(!may(4, "10.0.0.3"));
        // Whose hardware address is not known.
        assert!(may(9, "10.0.0.5"));
    }
}
