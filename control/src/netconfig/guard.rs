//! Guards: frames of servers that do harm at once, and are dropped before anybody decides anything.
//!
//! What switches call DHCP snooping, RA guard (RFC 6105, RFC 7113), BPDU guard and dynamic ARP inspection, reduced to what
//! needs no learning: a server does not answer DHCP, does not advertise itself as a router, does not speak spanning tree,
//! and does not claim a gateway's address. [`guard`] reads one frame and one table; it allocates nothing, and its time is
//! bounded by the frame's bytes and the logarithm of the table. It is for frames that enter on the inside port of a wire
//! that sees the servers' own segment.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::env::{Env, Gateway};
use super::frame::{Frame, What};
use super::{Allowed, Case, Mac};

/// What is guarded, and who may pass. Compiled by control, read by the packet path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GuardTable {
    /// Claims on a gateway's address by ARP.
    pub arp: bool,
    /// The same by neighbour discovery.
    pub nd: bool,
    /// Answers of DHCP.
    pub dhcp: bool,
    /// Router advertisements and redirects.
    pub ra: bool,
    /// Spanning tree.
    pub stp: bool,
    gateways_v4: Vec<Ipv4Addr>,
    gateways_v6: Vec<Ipv6Addr>,
    gateway_macs: Vec<Mac>,
    dhcp_servers: Devices,
    routers: Devices,
    bridges: Vec<Mac>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Devices {
    macs: Vec<Mac>,
    addresses: Vec<IpAddr>,
}

impl Devices {
    fn new(list: &[Allowed]) -> Devices {
        let mut d = Devices::default();
        for a in list {
            match a {
                Allowed::Mac(m) => d.macs.push(*m),
                Allowed::Address(a) => d.addresses.push(*a),
            }
        }
        d.macs.sort_unstable();
        d.addresses.sort_unstable();
        d
    }

    fn contain(&self, mac: Mac, address: Option<IpAddr>) -> bool {
        self.macs.binary_search(&mac).is_ok()
            || address.is_some_and(|a| self.addresses.binary_search(&a).is_ok())
    }
}

impl GuardTable {
    /// The table of an environment, with all guards on.
    pub fn new(env: &Env) -> GuardTable {
        let addresses = || env.gateways.iter().map(|g: &Gateway| g.address);
        let mut t = GuardTable {
            arp: true,
            nd: true,
            dhcp: true,
            ra: true,
            stp: true,
            gateways_v4: addresses()
                .filter_map(|a| if let IpAddr::V4(a) = a { Some(a) } else { None })
                .collect(),
            gateways_v6: addresses()
                .filter_map(|a| if let IpAddr::V6(a) = a { Some(a) } else { None })
                .collect(),
            gateway_macs: env.gateways.iter().filter_map(|g| g.mac).collect(),
            dhcp_servers: Devices::new(env.dhcp_servers),
            routers: Devices::new(env.routers),
            bridges: env.bridges.to_vec(),
        };
        t.gateways_v4.sort_unstable();
        t.gateways_v6.sort_unstable();
        t.gateway_macs.sort_unstable();
        t.bridges.sort_unstable();
        t
    }

    fn is_gateway_v6(&self, a: Ipv6Addr) -> bool {
        self.gateways_v6.binary_search(&a).is_ok()
    }
}

/// The case of a frame from inside that has to be dropped.
pub fn guard(frame: &[u8], table: &GuardTable) -> Option<Case> {
    let f = Frame::parse(frame)?;
    let is_gateway = table.gateway_macs.binary_search(&f.source).is_ok();
    let source = f.ip.map(|(s, _)| s);
    match f.what {
        What::Arp(a) => {
            let claims = table.arp && !is_gateway && table.gateways_v4.binary_search(&a.sender_ip).is_ok();
            claims.then_some(Case::ArpSpoof)
        }
        What::Nd(n) => match n.kind {
            134 | 137 if table.ra && !is_gateway && !table.routers.contain(f.source, source) => {
                Some(if n.kind == 134 { Case::RogueRa } else { Case::NdSpoof })
            }
            // A solicitation with the source :: (duplicate address detection) claims nothing.
            136 => (table.nd && !is_gateway && table.is_gateway_v6(n.target)).then_some(Case::NdSpoof),
            133 | 135 => {
                let of_gateway = matches!(source, Some(IpAddr::V6(s)) if table.is_gateway_v6(s));
                (table.nd && !is_gateway && of_gateway && n.link.is_some()).then_some(Case::NdSpoof)
            }
            _ => None,
        },
        // A chain of headers that hides what it carries (RFC 7113 section 3).
        What::HiddenNd => {
            (table.ra && !is_gateway && !table.routers.contain(f.source, source)).then_some(Case::RogueRa)
        }
        What::Dhcp(d) => {
            let answers = table.dhcp && d.to_client && !table.dhcp_servers.contain(f.source, source);
            answers.then_some(Case::RogueDhcp)
        }
        What::Dhcp6 { kind, to_client } => {
            let answers = table.dhcp && to_client && matches!(kind, 2 | 7 | 10);
            (answers && !table.dhcp_servers.contain(f.source, source)).then_some(Case::RogueDhcp)
        }
        What::Bpdu(_) => (table.stp && table.bridges.binary_search(&f.source).is_err()).then_some(Case::Stp),
        What::Other => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    fn table() -> GuardTable {
        let gateways = [
            Gateway { address: ip("10.0.0.1"), mac: Some(mac(1)) },
            Gateway { address: ip("fe80::1"), mac: None },
        ];
        let allowed = [Allowed::Mac(mac(2)), Allowed::Address(ip("10.0.0.3"))];
        let bridges = [mac(2)];
        GuardTable::new(&Env {
            gateways: &gateways,
            dhcp_servers: &allowed,
            routers: &allowed,
            bridges: &bridges,
            ..Env::default()
        })
    }

    fn offer(from: Mac, server: &str) -> Vec<u8> {
        offers(from, &Lease { kind: 2, client: mac(50), server, given: "10.0.0.50", resolver: "10.0.0.9" })
    }

    #[test]
    fn what_does_harm_at_once_is_dropped() {
        let t = table();
        let dropped: [(Vec<u8>, Case); 8] = [
            (announces(mac(9), "10.0.0.1"), Case::ArpSpoof),
            (answers(mac(9), "10.0.0.1", mac(5), "10.0.0.5"), Case::ArpSpoof),
            (asks(mac(9), "10.0.0.1", "10.0.0.5"), Case::ArpSpoof),
            (advertises(mac(9), "fe80::1", mac(5), "fe80::5"), Case::NdSpoof),
            (solicits(mac(9), "fe80::1", "fe80::5"), Case::NdSpoof),
            (offer(mac(9), "10.0.0.9"), Case::RogueDhcp),
            (routes(mac(9), "fe80::9", "2001:db8::", 0, 1800), Case::RogueRa),
            (hello(mac(9), (1, mac(9)), (1, mac(9))), Case::Stp),
        ];
        for (frame, case) in dropped {
            assert_eq!(guard(&frame, &t), Some(case));
            // In a VLAN, too; and not when the guard is off.
            let tagged = [&frame[..12], &[0x81, 0, 0, 7], &frame[12..]].concat();
            assert_eq!(guard(&tagged, &t), Some(case));
            assert_eq!(guard(&frame, &GuardTable::default()), None);
        }
    }

    #[test]
    fn what_servers_need_passes() {
        let t = table();
        let passes: [Vec<u8>; 11] = [
            asks(mac(9), "10.0.0.9", "10.0.0.1"),
            asks(mac(9), "0.0.0.0", "10.0.0.1"),
            announces(mac(1), "10.0.0.1"),
            solicits(mac(9), "::", "fe80::1"),
            solicits(mac(9), "fe80::9", "fe80::1"),
            discovers(mac(9), mac(9)),
            offer(mac(2), "10.0.0.9"),
            offer(mac(9), "10.0.0.3"),
            routes(mac(2), "fe80::9", "2001:db8::", 0, 1800),
            hello(mac(2), (1, mac(9)), (1, mac(9))),
            ipv4(mac(9), mac(1), "10.0.0.9", "198.51.100.1", 6, &[0; 20]),
        ];
        for (i, frame) in passes.iter().enumerate() {
            assert_eq!(guard(frame, &t), None, "{i}");
        }
    }

    #[test]
    fn an_advertisement_behind_other_headers_is_found() {
        let t = table();
        let plain = routes(mac(9), "fe80::9", "2001:db8::", 0, 1800);
        let ra = &plain[54..];
        // Destination options, then fragment headers (RFC 7113).
        let options = [&[58, 0, 1, 4, 0, 0, 0, 0][..], ra].concat();
        let fragment = [&[58, 0, 0, 1, 0, 0, 0, 7][..], ra].concat();
        let hidden = [&[60, 0, 0, 1, 0, 0, 0, 7][..], &[58, 9, 0, 0, 0, 0, 0, 0]].concat();
        for (next, body) in [(60, options), (44, fragment), (44, hidden)] {
            let frame = ipv6(mac(9), ALL_NODES, ("fe80::9", "ff02::1"), next, 255, &body);
            assert_eq!(guard(&frame, &t), Some(Case::RogueRa), "{next}");
        }
        // What a router has forwarded is no neighbour discovery.
        let far = ipv6(mac(9), mac(1), ("2001:db8::9", "2001:db8::1"), 58, 64, ra);
        assert_eq!(guard(&far, &t), None);
    }
}
