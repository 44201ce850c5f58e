//! Reports in XARF v4 (xarf.org) for the desk: what a server of ours did, for programs that pass such reports on.

use std::io::Cursor;
use std::net::IpAddr;
use std::num::NonZeroU16;
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

/// A packet of the offence, out of the evidence: of a protocol that has ports, and from one that can be named.
struct Example {
    protocol: u8,
    source: IpAddr,
    source_port: NonZeroU16,
    destination: IpAddr,
    destination_port: u16,
}

/// The report of a scan or of an outgoing attack; none for what XARF has no word for, and for what cannot be shown: the
/// schemas of both types require a source port beside an address, so ICMP, and an incident without packets, have none.
pub(super) fn report(letter: &Letter, mail: &Mail, files: &[(&str, &[u8])], origin: &str) -> Option<Value> {
    let i = letter.incident.as_deref()?;
    let kind = match i.kind {
        Kind::Netscan | Kind::Portscan => "port_scan",
        Kind::AttackOut => "ddos",
        Kind::AttackIn | Kind::Misconfiguration => return None,
    };
    let server = i.address.as_deref()?;
    let (_, dump) = files.iter().find(|(name, _)| *name == "dump.pcapng")?;
    let example = example(dump, server, i)?;
    let protocol = word(example.protocol)?;
    let us = json!({ "org": mail.provider, "contact": mail.from.address, "domain": mail.from.domain() });
    let mut report = json!({
        "xarf_version": VERSION,
        "report_id": uuid(origin, &i.id),
        "timestamp": i.last_seen,
        "reporter": us,
        "sender": us,
        // Its server may be a /64, which is no address: this one has sent what is shown.
        "source_identifier": example.source.to_string(),
        "source_port": example.source_port,
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
    put("destination_ip", example.destination.to_string().into());
    if example.destination_port > 0 {
        put("destination_port", example.destination_port.into());
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
        6 => Some("tcp"),
        17 => Some("udp"),
        132 => Some("sctp"),
        _ => None,
    }
}

/// The first recorded packet of the server that fits the incident. Of a port scan any will do, since its ports are no more
/// than a choice of those it tried.
fn example(pcapng: &[u8], server: &str, i: &IncidentRow) -> Option<Example> {
    let net: ipnet::IpNet =
        server.parse().or_else(|_| server.parse::<IpAddr>().map(ipnet::IpNet::from)).ok()?;
    let protocol = match i.protocol.as_deref() {
        Some(name) => Some(number(name)?),
        None => None,
    };
    let ports = i.attack.as_ref().map_or(&i.ports, |a| &a.ports);
    let mut capture = Capture::read(Path::new("dump.pcapng"), Cursor::new(pcapng.to_vec())).ok()?;
    let mut first = None;
    while let Ok(Some(packet)) = capture.next_packet() {
        let Some(found) = sent(packet.bytes, packet.wire_len) else { continue };
        if !net.contains(&found.source) || net.contains(&found.destination) {
            continue;
        }
        if protocol.is_some_and(|n| n != found.protocol) {
            continue;
        }
        // A reflector's port is that which it sends from.
        let of = |port: &u16| [found.destination_port, found.source_port.get()].contains(port);
        if ports.is_empty() || ports.iter().any(of) {
            return Some(found);
        }
        if i.kind == Kind::Portscan {
            first.get_or_insert(found);
        }
    }
    first
}

/// A packet with its addresses and ports; none when it lacks one of them.
fn sent(bytes: &[u8], wire_len: u32) -> Option<Example> {
    let p = pipeline::parse::parse(bytes, wire_len);
    let address = |n: u128| match p.class {
        Class::Ipv4 => u32::try_from(n & 0xffff_ffff).ok().map(|n| IpAddr::from(std::net::Ipv4Addr::from(n))),
        Class::Ipv6 => Some(IpAddr::from(std::net::Ipv6Addr::from(n))),
        Class::Arp | Class::NonIp | Class::Malformed => None,
    };
    // Ports stand at the same place in TCP, UDP and SCTP; other protocols have none.
    word(p.protocol).filter(|_| p.transport > 0)?;
    let port = |at: usize| {
        let from = usize::from(p.transport) + at;
        bytes.get(from..from + 2).map(|b| u16::from_be_bytes([b[0], b[1]]))
    };
    Some(Example {
        protocol: p.protocol,
        source: address(p.source)?,
        source_port: NonZeroU16::new(port(0)?)?,
        destination: address(p.destination)?,
        destination_port: port(2)?,
    })
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

    fn incident(more: &Value) -> IncidentRow {
        let mut row = json!({
            "id": "C-2026-000001", "kind": "attack-out", "address": "192.0.2.10", "mac": null,
            "direction": "out", "action": "lock", "actions": [], "rule": "packets-out/default",
            "opened": "2026-11-24T18:00:00Z", "first_seen": "2026-11-24T18:00:00Z",
            "last_seen": "2026-11-24T18:00:00Z", "protocol": "udp", "attack": null, "measure": "packets",
            "window": "fast", "limit": 1, "peak": 2, "packets": 3, "bytes": 4, "seconds": 5, "dropped": 0,
            "held_back": null, "closed": null, "files": [],
        });
        for (key, value) in more.as_object().expect("an object") {
            row[key] = value.clone();
        }
        serde_json::from_value(row).expect("a row")
    }

    #[test]
    fn what_was_found_out_goes_before_what_was_measured() {
        let of = |attack: Value, measure: &str| {
            vector(&incident(&json!({ "attack": attack, "measure": measure })))
        };
        let kind = |name: &str| json!({"name": name, "protocol": "udp", "ports": [], "share_percent": 99});
        assert_eq!(of(kind("ntp-amplifier"), "packets").as_deref(), Some("ntp_amplification"));
        assert_eq!(of(kind("ack-flood"), "packets").as_deref(), Some("ack_flood"));
        assert_eq!(of(kind("mixed"), "udp"), None);
        assert_eq!(of(Value::Null, "syn").as_deref(), Some("syn_flood"));
        assert_eq!(of(Value::Null, "packets"), None);
    }

    /// A packet from one address and port to another.
    fn packet(protocol: u8, from: (&str, u16), to: (&str, u16)) -> Vec<u8> {
        let ports = [from.1.to_be_bytes(), to.1.to_be_bytes()].concat();
        let carried = match protocol {
            1 => vec![8, 0, 0, 0, 0, 0, 0, 0],
            6 => [&ports[..], &[0; 8], &[0x50, 2, 0, 0, 0, 0, 0, 0]].concat(),
            _ => [&ports[..], &[0, 8, 0, 0]].concat(),
        };
        let length = u8::try_from(carried.len()).expect("a small packet");
        let octets = |a: IpAddr| match a {
            IpAddr::V4(a) => a.octets().to_vec(),
            IpAddr::V6(a) => a.octets().to_vec(),
        };
        let [source, target] = [from.0, to.0].map(|a| octets(a.parse().expect("an address")));
        let head = if source.len() == 4 {
            [&[8, 0, 0x45, 0, 0, 20 + length, 0, 0, 0, 0, 64, protocol, 0, 0][..], &source, &target].concat()
        } else {
            [&[0x86, 0xdd, 0x60, 0, 0, 0, 0, length, protocol, 64][..], &source, &target].concat()
        };
        [&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2][..], &head, &carried].concat()
    }

    fn dump(packets: &[Vec<u8>]) -> Vec<u8> {
        let mut w = crate::evidence::pcapng::Writer::new(Vec::new(), "a test", "cordon").expect("a capture");
        for bytes in packets {
            let wire_len = u32::try_from(bytes.len()).expect("a small packet");
            w.packet(&capture::Packet { time_ns: 0, bytes, wire_len }).expect("memory");
        }
        w.finish().expect("memory")
    }

    /// The report to the desk of an incident with these packets.
    fn reported(more: &Value, packets: Option<&[Vec<u8>]>) -> Option<Value> {
        let config = "[run]\ndir = \"/run/cordon\"\n[[wire]]\nname = \"w\"\ninside = \"l2\"\ninside_port = \"net_null0\"\noutside_port = \"net_null1\"\n[[network]]\nprefix = \"192.0.2.0/24\"\n[mail]\nserver = \"127.0.0.1\"\nfrom = \"abuse@example.net\"\nprovider = \"P\"\ndesk = [\"noc@example.net\"]\n";
        let mail = config::Config::parse(config, "a test").expect("a configuration").mail.expect("mail");
        let row = incident(more);
        let at = row.opened;
        let party = letters::Party { customer: None, name: None, to: Vec::new(), language: "en".to_owned() };
        let letter = Letter {
            incident: Some(Box::new(row)),
            ..Letter::new(api::Event::Locked, party, at, Vec::new(), "cordon")
        };
        let dump = packets.map(dump);
        let files: Vec<(&str, &[u8])> = dump.iter().map(|d| ("dump.pcapng", d.as_slice())).collect();
        report(&letter, &mail, &files, "1")
    }

    /// Source, its port, destination, its port, protocol.
    fn told(report: &Value) -> (&str, u64, &str, Option<u64>, &str) {
        let text = |key: &str| report[key].as_str().expect(key);
        (
            text("source_identifier"),
            report["source_port"].as_u64().expect("a source port"),
            text("destination_ip"),
            report["destination_port"].as_u64(),
            text("protocol"),
        )
    }

    #[test]
    fn the_packet_that_is_told_is_one_of_the_offence() {
        let (server, other) = ("192.0.2.10", "203.0.113.5");
        let packets = [
            packet(17, (other, 53), (server, 999)),
            packet(17, ("192.0.2.11", 1), (other, 2)),
            packet(6, (server, 22), ("203.0.113.6", 50_000)),
            packet(17, (server, 4_000), (other, 123)),
            packet(17, (server, 5_000), (other, 161)),
            packet(6, (server, 6_000), (other, 23)),
        ];
        let of = |more: Value| reported(&more, Some(&packets));
        let any = of(json!({})).expect("a report");
        assert_eq!(told(&any), (server, 4_000, other, Some(123), "udp"));
        let scan = json!({"kind": "netscan", "protocol": "udp", "ports": [161]});
        assert_eq!(told(&of(scan).expect("a report")), (server, 5_000, other, Some(161), "udp"));
        let worm = json!({"kind": "netscan", "protocol": "tcp", "ports": [23]});
        assert_eq!(told(&of(worm).expect("a report")), (server, 6_000, other, Some(23), "tcp"));
        let attack = json!({"name": "udp-flood", "protocol": "udp", "ports": [161], "share_percent": 99});
        let flood = of(json!({ "attack": attack })).expect("a report");
        assert_eq!(told(&flood), (server, 5_000, other, Some(161), "udp"));
        // A reflector sends from its service's port.
        let answers = [packet(17, (server, 9), (other, 7)), packet(17, (server, 123), (other, 40_000))];
        let attack = json!({"name": "ntp-amplifier", "protocol": "udp", "ports": [123], "share_percent": 99});
        let reflected = reported(&json!({ "attack": attack }), Some(&answers)).expect("a report");
        assert_eq!(told(&reflected), (server, 123, other, Some(40_000), "udp"));
        // The ports of a port scan are a choice of them; a network scan's are what it is about.
        let ports = json!({"kind": "portscan", "protocol": "tcp", "ports": [80]});
        assert_eq!(told(&of(ports).expect("a report")), (server, 22, "203.0.113.6", Some(50_000), "tcp"));
        assert_eq!(of(json!({"kind": "netscan", "protocol": "tcp", "ports": [80]})), None);
    }

    #[test]
    fn a_server_with_a_network_is_told_by_the_address_that_has_sent() {
        let packets = [packet(6, ("2001:db8:0:1::5", 4_000), ("2001:db8:2::1", 22))];
        let scan =
            json!({"kind": "netscan", "address": "2001:db8:0:1::/64", "protocol": "tcp", "ports": [22]});
        let report = reported(&scan, Some(&packets)).expect("a report");
        assert_eq!(told(&report), ("2001:db8:0:1::5", 4_000, "2001:db8:2::1", Some(22), "tcp"));
    }

    #[test]
    fn without_a_known_source_port_there_is_no_report() {
        let (server, other) = (("192.0.2.10", 4_000), ("203.0.113.5", 22));
        let tcp = [packet(6, server, other)];
        assert!(reported(&json!({"protocol": "tcp"}), Some(&tcp)).is_some());
        assert_eq!(reported(&json!({"protocol": "tcp"}), None), None, "no packets");
        assert_eq!(reported(&json!({"protocol": "tcp"}), Some(&[])), None, "an empty dump");
        assert_eq!(reported(&json!({"protocol": "udp"}), Some(&tcp)), None, "another protocol");
        assert_eq!(reported(&json!({"protocol": "tcp"}), Some(&[packet(6, other, server)])), None);
        // A port of what else the server did is not the offence's.
        let ping = packet(1, server, other);
        for packets in [&[ping.clone()][..], &[ping.clone(), tcp[0].clone()]] {
            assert_eq!(reported(&json!({"protocol": "icmp", "measure": "icmp"}), Some(packets)), None);
        }
        assert_eq!(reported(&json!({ "protocol": null }), Some(&[ping])), None);
        // Port 0 is none; a fragment that is not the first has none.
        assert_eq!(reported(&json!({"protocol": "tcp"}), Some(&[packet(6, ("192.0.2.10", 0), other)])), None);
        let mut fragment = tcp[0].clone();
        fragment[21] = 1;
        assert_eq!(reported(&json!({"protocol": "tcp"}), Some(&[fragment])), None);
    }
}
