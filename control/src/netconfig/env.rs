//! What the operator has told us: internal prefixes, gateways, who may run DHCP, who may route, and, if there is one, the
//! inventory.

use std::collections::HashMap;
use std::net::IpAddr;

use ipnet::IpNet;
use region::Addr;

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

/// Whom an address or a prefix belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// The address, or the prefix.
    pub prefix: IpNet,
    /// The server.
    pub server: String,
    /// Its hardware addresses; none when they are not known.
    pub macs: Vec<Mac>,
    /// Its group.
    pub group: Option<String>,
    /// Its customer: addresses may move between servers of one customer.
    pub customer: Option<String>,
}

/// The inventory: who has which address and which MAC.
#[derive(Clone, Debug, Default)]
pub struct Inventory {
    assignments: Vec<Assignment>,
    /// By network, for each prefix length that occurs; the longest first.
    by_prefix: Vec<(u8, HashMap<u128, usize>)>,
    by_mac: HashMap<Mac, usize>,
    /// Every server and every address is listed: what is not is unknown or unassigned.
    pub is_complete: bool,
}

/// IPv4 as in ::ffff:0:0/96.
fn number(a: IpAddr) -> u128 {
    Addr::from(a).as_u128()
}

fn mask(length: u8) -> u128 {
    u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0)
}

impl Inventory {
    /// An inventory; of two assignments of one prefix the later counts.
    pub fn new(assignments: Vec<Assignment>, is_complete: bool) -> Inventory {
        let mut inventory = Inventory { is_complete, ..Inventory::default() };
        for (i, a) in assignments.iter().enumerate() {
            let length = match a.prefix {
                IpNet::V4(p) => p.prefix_len() + 96,
                IpNet::V6(p) => p.prefix_len(),
            };
            let at = match inventory.by_prefix.iter().position(|(l, _)| *l == length) {
                Some(at) => at,
                None => {
                    inventory.by_prefix.push((length, HashMap::new()));
                    inventory.by_prefix.len() - 1
                }
            };
            inventory.by_prefix[at].1.insert(number(a.prefix.network()), i);
            for m in &a.macs {
                inventory.by_mac.entry(*m).or_insert(i);
            }
        }
        inventory.by_prefix.sort_by_key(|(l, _)| std::cmp::Reverse(*l));
        inventory.assignments = assignments;
        inventory
    }

    /// Whom an address belongs to: the longest prefix counts.
    pub fn owner(&self, a: IpAddr) -> Option<&Assignment> {
        let n = number(a);
        let i = self.by_prefix.iter().find_map(|(l, nets)| nets.get(&(n & mask(*l))))?;
        self.assignments.get(*i)
    }

    /// Whose hardware address it is.
    pub fn server(&self, mac: Mac) -> Option<&Assignment> {
        self.assignments.get(*self.by_mac.get(&mac)?)
    }

    /// Whether `mac` may use an address of `owner`: it is one of its own, of the same server, of the same customer, or
    /// the inventory does not say which MAC that server has.
    pub fn may_use(&self, mac: Mac, owner: &Assignment) -> bool {
        if owner.macs.is_empty() || owner.macs.contains(&mac) {
            return true;
        }
        self.server(mac).is_some_and(|s| {
            s.server == owner.server || (s.customer.is_some() && s.customer == owner.customer)
        })
    }
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

    fn assignment(prefix: &str, server: &str, mac: u8, customer: Option<&str>) -> Assignment {
        Assignment {
            prefix: prefix.parse().expect("a prefix"),
            server: server.to_owned(),
            macs: vec![Mac([2, 0, 0, 0, 0, mac])],
            group: None,
            customer: customer.map(str::to_owned),
        }
    }

    #[test]
    fn the_longest_prefix_names_the_owner() {
        let i = Inventory::new(
            vec![
                assignment("10.0.0.0/24", "rack", 1, None),
                assignment("10.0.0.7/32", "seven", 7, None),
                assignment("fd00:7::/64", "seven", 7, None),
                assignment("::/0", "everything", 9, None),
            ],
            true,
        );
        let owner = |a: &str| i.owner(a.parse().expect("an address")).map(|a| a.server.as_str());
        assert_eq!(owner("10.0.0.7"), Some("seven"));
        assert_eq!(owner("10.0.0.8"), Some("rack"));
        assert_eq!(owner("fd00:7::1"), Some("seven"));
        assert_eq!(owner("fd00:8::1"), Some("everything"));
        assert_eq!(i.server(Mac([2, 0, 0, 0, 0, 7])).map(|a| a.server.as_str()), Some("seven"));
    }

    #[test]
    fn addresses_move_within_a_server_and_a_customer_only() {
        let i = Inventory::new(
            vec![
                assignment("10.0.0.1/32", "a", 1, Some("c1")),
                assignment("10.0.0.2/32", "b", 2, Some("c1")),
                assignment("10.0.0.3/32", "c", 3, None),
                assignment("10.0.0.4/32", "d", 4, None),
            ],
            false,
        );
        let may = |mac: u8, a: &str| {
            let owner = i.owner(a.parse().expect("an address")).expect("listed");
            i.may_use(Mac([2, 0, 0, 0, 0, mac]), owner)
        };
        assert!(may(1, "10.0.0.1") && may(2, "10.0.0.1"));
        assert!(!may(3, "10.0.0.1") && !may(9, "10.0.0.1"));
        // Two servers without a customer have none in common.
        assert!(!may(4, "10.0.0.3"));
    }
}
