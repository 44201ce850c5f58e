//! Reports in XARF v4 (xarf.org) for the desk: what a server of ours did, for programs that pass such reports on.

use std::io::Cursor;
use std::net::IpAddr;
use std::path::Path;

use api::{Action, AttackKind, IncidentRow, Kind};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use capture::Capture;
use config::Mail;
use letters::Letter;
use region::Class;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

const VERSION: &str = "4.2.0";
/// The specification's bound for one item of evidence.
const ITEM_MAX: usize = 5 << 20;
/// Dumps that are larger are in the mail itself, and not here a second time.
const DUMP_MAX: usize = 256 << 10;

/// A packet of the offence, out of the evidence.
struct Example {
    protocol: u8,
    source_port: u16,
    destination: IpAddr,
    destination_port: u16,
}

/// The report of a scan or of an outgoing attack; none for what XARF has no word for, and for what cannot be shown.
pub(super) fn report(letter: &Letter, mail: &Mail, files: &[(&str, &[u8])], origin: &str) -> Option<Value> {
    let i = letter.incident.as_deref()?;
    let kind = match i.kind {
        Kind::Netscan | Kind::Portscan => "port_scan",
        Kind::AttackOut => "ddos",
        Kind::AttackIn | Kind::Misconfiguration => return None,
    };
    let server = i.address.as_deref()?;
    let wanted = i.protocol.as_deref().and_then(number);
    let dump = files.iter().find(|(name, _)| *name == "dump.pcapng");
    let example = dump.and_then(|(_, bytes)| example(bytes, server, wanted, &i.ports));
    let protocol = match (i.protocol.as_deref(), &example) {
        (Some(p @ ("tcp" | "udp" | "icmp" | "sctp")), _) => p,
        (None, Some(e)) => word(e.protocol)?,
        _ => return None,
    };
    // A /64 is no address; its network's first one stands for it.
    let source = server.split('/').next().unwrap_or(server);
    let us = json!({ "org": mail.provider, "contact": mail.from.address, "domain": mail.from.domain() });
    let mut report = json!({
        "xarf_version": VERSION,
        "report_id": uuid(origin, &i.id),
        "timestamp": i.last_seen,
        "reporter": us,
        "sender": us,
        "source_identifier": source,
        "category": "connection",
        "type": kind,
        "protocol": protocol,
        "first_seen": i.first_seen,
        "last_seen": i.last_seen,
        "evidence_source": "flow_analysis",
        "confidence": if i.action == Action::Lock { 1.0 } else { 0.8 },
        "description": format!("{}: rule {}, limit {}, observed {}", i.id, i.rule, i.limit, i.peak),
        "evidence": evidence(files),
    });
    let map = report.as_object_mut()?;
    let mut put = |key: &str, value: Value| {
        map.insert(key.to_owned(), value);
    };
    if let Some(e) = &example {
        if e.source_port > 0 {
            put("source_port", e.source_port.into());
        }
        put("destination_ip", e.destination.to_string().into());
        if e.destination_port > 0 {
            put("destination_port", e.destination_port.into());
        }
    }
    if kind == "ddos" {
        put("duration_seconds", i.seconds.max(1).into());
        match i.measure.as_str() {
            "bits" => put("peak_bps", i.peak.max(1).into()),
            "flows" => {}
            _ => put("peak_pps", i.peak.max(1).into()),
        }
        if let Some(vector) = vector(i) {
            put("attack_vector", vector.into());
        }
        put("mitigation_applied", letter.lock.is_some().into());
    }
    Some(report)
}

/// The attack in XARF's words, which name reflection after its service; none where it has no single one.
fn vector(i: &IncidentRow) -> Option<String> {
    match i.attack.as_ref().map(|a| a.name) {
        Some(AttackKind::Mixed | AttackKind::Bandwidth | AttackKind::Flows) => None,
        // Whoever sends a reflector's answers is a part of the amplification.
        Some(AttackKind::Amplifier(s)) => Some(words(AttackKind::Amplification(s))),
        Some(kind) => Some(words(kind)),
        // Not looked into: what was measured tells it, if it is of one kind.
        None => match i.measure.as_str() {
            measure @ ("syn" | "udp" | "icmp") => Some(format!("{measure}_flood")),
            _ => None,
        },
    }
}

fn words(kind: AttackKind) -> String {
    kind.to_string().replace('-', "_")
}

fn number(protocol: &str) -> Option<u8> {
    match protocol {
        "tcp" => Some(6),
        "udp" => Some(17),
        "sctp" => Some(132),
        _ => None,
    }
}

fn word(protocol: u8) -> Option<&'static str> {
    match protocol {
        1 | 58 => Some("icmp"),
        6 => Some("tcp"),
        17 => Some("udp"),
        132 => Some("sctp"),
        _ => None,
    }
}

/// The first recorded packet of the server that fits the incident, or the first of it at all.
fn example(pcapng: &[u8], server: &str, protocol: Option<u8>, ports: &[u16]) -> Option<Example> {
    let net: ipnet::IpNet =
        server.parse().or_else(|_| server.parse::<IpAddr>().map(ipnet::IpNet::from)).ok()?;
    let mut capture = Capture::read(Path::new("dump.pcapng"), Cursor::new(pcapng.to_vec())).ok()?;
    let mut first = None;
    while let Ok(Some(packet)) = capture.next_packet() {
        let p = pipeline::parse::parse(packet.bytes, packet.wire_len);
        let address = |n: u128| match p.class {
            Class::Ipv4 => {
                u32::try_from(n & 0xffff_ffff).ok().map(|n| IpAddr::from(std::net::Ipv4Addr::from(n)))
            }
            Class::Ipv6 => Some(IpAddr::from(std::net::Ipv6Addr::from(n))),
            Class::Arp | Class::NonIp | Class::Malformed => None,
        };
        let (Some(from), Some(to)) = (address(p.source), address(p.destination)) else { continue };
        if !net.contains(&from) || net.contains(&to) {
            continue;
        }
        // Ports stand at the same place in TCP, UDP and SCTP; other protocols have none.
        let has_ports = matches!(p.protocol, 6 | 17 | 132) && p.transport > 0;
        let port = |at: usize| {
            let from = usize::from(p.transport) + at;
            let bytes = packet.bytes.get(from..from + 2).filter(|_| has_ports)?;
            Some(u16::from_be_bytes([bytes[0], bytes[1]]))
        };
        let found = Example {
            protocol: p.protocol,
            source_port: port(0).unwrap_or(0),
            destination: to,
            destination_port: port(2).unwrap_or(0),
        };
        let fits = protocol.is_none_or(|n| n == found.protocol)
            && (ports.is_empty() || ports.contains(&found.destination_port));
        if fits {
            return Some(found);
        }
        if protocol.is_none_or(|n| n == found.protocol) {
            first.get_or_insert(found);
        }
    }
    first
}

fn evidence(files: &[(&str, &[u8])]) -> Value {
    let items = files.iter().filter(|(name, bytes)| {
        name.ends_with(".log") && bytes.len() <= if *name == "dump.log" { DUMP_MAX } else { ITEM_MAX }
    });
    let item = |(name, bytes): &(&str, &[u8])| {
        json!({
            "content_type": "text/plain",
            "description": name,
            "payload": STANDARD.encode(bytes),
            "hash": format!("sha256:{}", hex(&Sha256::digest(bytes))),
            "size": bytes.len(),
        })
    };
    items.map(item).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// The same id for the same incident at every attempt. Its bits look random, which is all that version 4 of RFC 9562 says
/// of them.
fn uuid(origin: &str, incident: &str) -> String {
    let digest = Sha256::digest(format!("cordon xarf {origin} {incident}").as_bytes());
    let h = hex(&digest);
    let part = |from: usize, to: usize| h.get(from..to).unwrap_or_default();
    let variant = ["8", "9", "a", "b"][usize::from(digest[8] & 3)];
    format!("{}-{}-4{}-{variant}{}-{}", part(0, 8), part(8, 12), part(13, 16), part(17, 20), part(20, 32))
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::Service;

    #[test]
    fn an_attack_is_named_as_the_specification_names_it() {
        let service = |port| Service::of_port(port).expect("a service");
        assert_eq!(words(AttackKind::Syn), "syn_flood");
        assert_eq!(words(AttackKind::Udp), "udp_flood");
        assert_eq!(words(AttackKind::Icmp), "icmp_flood");
        assert_eq!(words(AttackKind::Amplification(service(53))), "dns_amplification");
        assert_eq!(words(AttackKind::Amplification(service(11211))), "memcached_amplification");
    }

    #[test]
    fn what_was_found_out_goes_before_what_was_measured() {
        let of = |attack: Value, measure: &str| {
            let row = json!({
                "id": "C-2026-000001", "kind": "attack-out", "address": "192.0.2.10", "mac": null,
                "direction": "out", "action": "lock", "actions": [], "rule": "packets-out/default",
                "opened": "2026-11-24T18:00:00Z", "first_seen": "2026-11-24T18:00:00Z",
                "last_seen": "2026-11-24T18:00:00Z", "protocol": "udp", "attack": attack, "measure": measure,
                "window": "fast", "limit": 1, "peak": 2, "packets": 3, "bytes": 4, "seconds": 5, "dropped": 0,
                "held_back": null, "closed": null, "files": [],
            });
            vector(&serde_json::from_value(row).expect("a row"))
        };
        let kind = |name: &str| json!({"name": name, "protocol": "udp", "ports": [], "share_percent": 99});
        assert_eq!(of(kind("ntp-amplifier"), "packets").as_deref(), Some("ntp_amplification"));
        assert_eq!(of(kind("ack-flood"), "packets").as_deref(), Some("ack_flood"));
        assert_eq!(of(kind("mixed"), "udp"), None);
        assert_eq!(of(Value::Null, "syn").as_deref(), Some("syn_flood"));
        assert_eq!(of(Value::Null, "packets"), None);
    }
}
