//! Kinds of attack, by the names of the field.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A UDP service that answers whoever asks, with more than it was asked: what reflection attacks use. The port, its name
/// in incidents, and as people write it.
const SERVICES: [(u16, &str, &str); 24] = [
    (17, "qotd", "QOTD"),
    (19, "chargen", "CharGEN"),
    (53, "dns", "DNS"),
    (69, "tftp", "TFTP"),
    (111, "portmap", "Portmap"),
    (123, "ntp", "NTP"),
    (137, "netbios", "NetBIOS"),
    (161, "snmp", "SNMP"),
    (177, "xdmcp", "XDMCP"),
    (389, "cldap", "CLDAP"),
    (427, "slp", "SLP"),
    (520, "rip", "RIP"),
    (1434, "mssql", "MSSQL"),
    (1900, "ssdp", "SSDP"),
    (3283, "ard", "ARD"),
    (3702, "ws-discovery", "WS-Discovery"),
    (5093, "sentinel", "Sentinel"),
    (5353, "mdns", "mDNS"),
    (5683, "coap", "CoAP"),
    (10001, "ubiquiti", "Ubiquiti"),
    (11211, "memcached", "memcached"),
    (27015, "steam", "Steam"),
    (27960, "quake", "Quake"),
    (37810, "dvr", "DVR"),
];

/// A UDP service of reflection attacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Service(usize);

impl Service {
    /// How many are known.
    pub const COUNT: usize = SERVICES.len();

    /// All of them, in order of port.
    pub fn all() -> impl Iterator<Item = Service> {
        (0..Service::COUNT).map(Service)
    }

    /// The service that answers from a port.
    pub fn of_port(port: u16) -> Option<Service> {
        SERVICES.binary_search_by_key(&port, |(p, _, _)| *p).ok().map(Service)
    }

    /// Its place in [`Service::all`].
    pub fn index(self) -> usize {
        self.0
    }

    /// Its port.
    pub fn port(self) -> u16 {
        SERVICES[self.0].0
    }

    fn of_name(name: &str) -> Option<Service> {
        SERVICES.iter().position(|(_, n, _)| *n == name).map(Service)
    }
}

/// What an attack consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum AttackKind {
    /// TCP SYN.
    Syn,
    /// SYN-ACK that nobody asked for: reflected, or backscatter of somebody who spoofs the server's address.
    SynAck,
    /// RST that nothing provoked.
    Rst,
    /// Small TCP segments of no conversation.
    Ack,
    /// UDP.
    Udp,
    /// ICMP.
    Icmp,
    /// Fragments.
    Fragments,
    /// Another IP protocol.
    OtherProtocol,
    /// Answers of a reflector's service that the server did not ask for.
    Amplification(Service),
    /// Answers of the server's own, far larger than their questions.
    Amplifier(Service),
    /// Small frames of several kinds.
    SmallPackets,
    /// Much in large frames.
    Bandwidth,
    /// Many new flows.
    Flows,
    /// Several of these, or what cannot be told.
    Mixed,
}

const PLAIN: [(AttackKind, &str, &str); 12] = [
    (AttackKind::Syn, "syn-flood", "SYN flood"),
    (AttackKind::SynAck, "syn-ack-flood", "SYN-ACK flood"),
    (AttackKind::Rst, "rst-flood", "RST flood"),
    (AttackKind::Ack, "ack-flood", "ACK flood"),
    (AttackKind::Udp, "udp-flood", "UDP flood"),
    (AttackKind::Icmp, "icmp-flood", "ICMP flood"),
    (AttackKind::Fragments, "fragment-flood", "fragment flood"),
    (AttackKind::OtherProtocol, "protocol-flood", "flood of another IP protocol"),
    (AttackKind::SmallPackets, "small-packet-flood", "small-packet flood"),
    (AttackKind::Bandwidth, "bandwidth", "bandwidth"),
    (AttackKind::Flows, "flows", "flows"),
    (AttackKind::Mixed, "mixed", "mixed"),
];
const AMPLIFICATION: &str = "amplification";
const AMPLIFIER: &str = "amplifier";

impl AttackKind {
    /// As people write it: `SYN flood`, `DNS amplification`.
    pub fn title(self) -> String {
        match self {
            AttackKind::Amplification(s) => format!("{} {AMPLIFICATION}", SERVICES[s.0].2),
            AttackKind::Amplifier(s) => format!("{} {AMPLIFIER}", SERVICES[s.0].2),
            plain => PLAIN.iter().find(|(k, _, _)| *k == plain).map_or("", |(_, _, t)| t).to_owned(),
        }
    }
}

impl fmt::Display for AttackKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AttackKind::Amplification(s) => write!(f, "{}-{AMPLIFICATION}", SERVICES[s.0].1),
            AttackKind::Amplifier(s) => write!(f, "{}-{AMPLIFIER}", SERVICES[s.0].1),
            plain => f.write_str(PLAIN.iter().find(|(k, _, _)| k == plain).map_or("", |(_, n, _)| n)),
        }
    }
}

impl FromStr for AttackKind {
    type Err = String;
    fn from_str(s: &str) -> Result<AttackKind, String> {
        let plain = PLAIN.iter().find(|(_, n, _)| *n == s).map(|(k, _, _)| *k);
        let by_service = || {
            let (service, what) = s.rsplit_once('-')?;
            let service = Service::of_name(service)?;
            match what {
                AMPLIFICATION => Some(AttackKind::Amplification(service)),
                AMPLIFIER => Some(AttackKind::Amplifier(service)),
                _ => None,
            }
        };
        plain.or_else(by_service).ok_or_else(|| format!("`{s}` is no kind of attack"))
    }
}

impl TryFrom<String> for AttackKind {
    type Error = String;
    fn try_from(s: String) -> Result<AttackKind, String> {
        s.parse()
    }
}

impl From<AttackKind> for String {
    fn from(k: AttackKind) -> String {
        k.to_string()
    }
}

/// What is known of an attack's kind, and by what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Attack {
    /// What it consists of.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub name: AttackKind,
    /// `tcp`, `udp`, `icmp`, `ip-47`; none where there are several.
    pub protocol: Option<String>,
    /// Of reflection the services' ports; of other attacks those that are attacked, where they are few. From exact flows.
    pub ports: Vec<u16>,
    /// How much of what the server sent, or was sent, is of this kind, percent of packets.
    pub share_percent: u8,
}

impl fmt::Display for Attack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.name.title())?;
        match self.ports[..] {
            [] => {}
            [port] => write!(f, ", port {port}")?,
            _ => {
                let ports: Vec<String> = self.ports.iter().map(u16::to_string).collect();
                write!(f, ", ports {}", ports.join(" "))?;
            }
        }
        if self.name == AttackKind::Mixed {
            Ok(())
        } else {
            write!(f, ", {} % of packets", self.share_percent)
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_name_of_its_own_and_is_read_again() {
        let services = Service::all().flat_map(|s| [AttackKind::Amplification(s), AttackKind::Amplifier(s)]);
        let all: Vec<AttackKind> = PLAIN.iter().map(|(k, _, _)| *k).chain(services).collect();
        for kind in &all {
            assert_eq!(kind.to_string().parse(), Ok(*kind));
            assert!(!kind.title().is_empty());
        }
        let names: std::collections::BTreeSet<String> = all.iter().map(|k| k.to_string()).collect();
        assert_eq!(names.len(), all.len());
        assert!("dns-flood".parse::<AttackKind>().is_err());
    }

    #[test]
    fn services_are_found_by_their_ports() {
        for s in Service::all() {
            assert_eq!(Service::of_port(s.port()), Some(s));
        }
        assert_eq!(Service::of_port(443), None);
        let dns = AttackKind::Amplification(Service::of_port(53).unwrap());
        assert_eq!(
            (dns.to_string().as_str(), dns.title().as_str()),
            ("dns-amplification", "DNS amplification")
        );
    }

    #[test]
    fn an_attack_reads_as_a_line() {
        let attack = |name, ports| Attack { name, protocol: None, ports, share_percent: 98 };
        assert_eq!(attack(AttackKind::Syn, vec![80]).to_string(), "SYN flood, port 80, 98 % of packets");
        assert_eq!(attack(AttackKind::Udp, vec![]).to_string(), "UDP flood, 98 % of packets");
        assert_eq!(attack(AttackKind::Mixed, vec![]).to_string(), "mixed");
    }
}
