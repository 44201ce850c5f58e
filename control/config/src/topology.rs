//! Wires and networks: what stands where.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::ops::Range;

use ipnet::IpNet;

use crate::error::line_of;
use crate::limits::Limits;
use crate::raw;
use crate::values::Validator;
use crate::{DEFAULT_GROUP, HOSTS_MAX, Network, Tables, Wire};

impl Validator<'_> {
    pub(crate) fn wires(&mut self, raw: Vec<raw::Wire>) -> Vec<Wire> {
        let mut names: BTreeSet<String> = BTreeSet::new();
        let mut ports: BTreeSet<String> = BTreeSet::new();
        let mut wires = Vec::new();
        for w in raw {
            if w.name.get_ref().is_empty() {
                self.wrong(w.name.span(), "a wire needs a name", "status and metrics show it");
            } else if !names.insert(w.name.get_ref().clone()) {
                let message = format!("there are two wires named \"{}\"", w.name.get_ref());
                self.wrong(w.name.span(), message, "give each wire a name of its own");
            }
            for p in [&w.inside_port, &w.outside_port] {
                let device = device(p.get_ref());
                if device.is_empty() {
                    self.wrong(
                        p.span(),
                        "a port has no name",
                        "write a PCI address (lspci) or a DPDK device such as \"net_tap0,iface=x\"",
                    );
                } else if !ports.insert(device.clone()) {
                    self.wrong(
                        p.span(),
                        format!("port {device} is named twice"),
                        "a port belongs to one side of one wire",
                    );
                }
            }
            let Some(inside) = w.inside else {
                self.wrong(
                    w.name.span(),
                    format!("wire \"{}\" does not say what its inside port sees", w.name.get_ref()),
                    "write inside = \"l2\" where the servers' own segment is on that port (their MAC addresses are seen), \
                     inside = \"routed\" where a router stands in between; there is no default, since a wrong one locks innocents",
                );
                continue;
            };
            wires.push(Wire {
                name: w.name.into_inner(),
                inside,
                inside_port: w.inside_port.into_inner(),
                outside_port: w.outside_port.into_inner(),
                links_follow: w.links_follow.unwrap_or(true),
            });
        }
        wires
    }

    pub(crate) fn networks(
        &mut self,
        raw: Vec<raw::Network>,
        groups: &BTreeMap<String, Limits>,
        tables: Tables,
    ) -> Vec<Network> {
        let mut seen: Vec<(IpNet, usize)> = Vec::new();
        let mut networks = Vec::new();
        let mut ids: u64 = 0;
        for n in raw {
            let span = n.prefix.span();
            let prefix = self.prefix(&n.prefix);
            if let Some(prefix) = prefix {
                if let Some((other, line)) =
                    seen.iter().find(|(o, _)| o.contains(&prefix) || prefix.contains(o))
                {
                    let message = format!(
                        "{prefix} on line {} overlaps {other} on line {line}",
                        line_of(self.text, span.start)
                    );
                    self.wrong(
                        span.clone(),
                        message,
                        "networks are disjoint: remove one, or split the larger",
                    );
                }
                seen.push((prefix, line_of(self.text, span.start)));
                self.check_size(prefix, &span, &mut ids, tables);
            }
            let group = match n.group {
                None => DEFAULT_GROUP.to_owned(),
                Some(g) => {
                    if g.get_ref() != DEFAULT_GROUP && !groups.contains_key(g.get_ref()) {
                        let message = format!("there is no group \"{}\"", g.get_ref());
                        self.wrong(g.span(), message, "add a [[group]] with that name, or leave group out");
                    }
                    g.into_inner()
                }
            };
            let mut gateways = Vec::new();
            for g in &n.gateways {
                match g.get_ref().parse::<IpAddr>() {
                    Err(_) => {
                        let message = format!("gateway `{}` is no address", g.get_ref());
                        self.wrong(g.span(), message, "write one address, without a prefix length");
                    }
                    Ok(a) if prefix.is_some_and(|p| !p.contains(&a)) => {
                        let message = format!("gateway {a} is not in {}", n.prefix.get_ref());
                        self.wrong(
                            g.span(),
                            message,
                            "a gateway lies inside its network: correct it, or move it there",
                        );
                    }
                    Ok(a) => gateways.push(a),
                }
            }
            if let Some(prefix) = prefix {
                networks.push(Network { prefix, name: n.name, group, gateways, antispoof: n.antispoof });
            }
        }
        networks
    }

    /// Whether the tables have room for a network; `ids` counts the IPv4 host ids of those before it.
    fn check_size(&mut self, prefix: IpNet, span: &Range<usize>, ids: &mut u64, tables: Tables) {
        match prefix {
            IpNet::V4(v4) => {
                *ids += (1u64 << (32 - u32::from(v4.prefix_len()))).next_multiple_of(256);
                if *ids > u64::from(tables.hosts) {
                    let message = format!(
                        "the IPv4 networks up to {prefix} take {ids} host ids, [tables] hosts = {}",
                        tables.hosts
                    );
                    let advice = if *ids <= u64::from(HOSTS_MAX) {
                        format!(
                            "set hosts = {} in [tables] and restart cordon-dataplane",
                            ids.next_power_of_two()
                        )
                    } else {
                        format!(
                            "one appliance has room for {HOSTS_MAX}: name only the prefixes of your servers"
                        )
                    };
                    self.wrong(span.clone(), message, advice);
                }
            }
            IpNet::V6(v6) if v6.prefix_len() < 16 => {
                let message = format!("{prefix} is too short");
                self.wrong(span.clone(), message, "name the prefixes that your servers have");
            }
            IpNet::V6(v6) if v6.prefix_len() > tables.ipv6_host_length => {
                let message = format!(
                    "{prefix} is longer than ipv6_host_length = {}: the network would be a part of one host",
                    tables.ipv6_host_length
                );
                let advice = format!(
                    "name the whole /{}, or raise ipv6_host_length in [tables]",
                    tables.ipv6_host_length
                );
                self.wrong(span.clone(), message, advice);
            }
            IpNet::V6(_) => {}
        }
    }
}

/// The device that a port names, in one spelling: DPDK reads `01:00.0` as `0000:01:00.0`.
fn device(port: &str) -> String {
    let name = port.split(',').next().unwrap_or("").trim().to_ascii_lowercase();
    if name.contains('.') && name.matches(':').count() == 1 { format!("0000:{name}") } else { name }
}
