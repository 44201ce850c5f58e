//! What guards drop, and what has to pass them.

use pipeline::guard::guard;
use pipeline::segment::Frame;
use region::segment::{Guard, Guards, SegmentRules};
use region::{Addr, Capacities, Policy};

use super::super::Mac;
use super::super::testing::*;

fn policy(guards: Guards) -> Policy {
    let number = |a: &str| Addr::from(ip(a)).as_u128();
    let may = Guards::of(&[Guard::Dhcp, Guard::Ra, Guard::Stp]);
    let rules = SegmentRules {
        guards,
        gateways: vec![number("10.0.0.1"), number("fe80::1")],
        devices: vec![(mac(1), Guards::of(&[Guard::Arp, Guard::Nd])), (mac(2), may)],
        addresses: vec![(number("10.0.0.3"), may)],
        locked: Vec::new(),
    };
    let sizes = Capacities { workers: 0, hosts_v4: 256, hosts_v6: 16, locks: 16 };
    let policy = Policy::anonymous(sizes, 64, [1, 2]).expect("memory");
    policy.publish_locks(&[], &[], &rules).expect("fits");
    policy
}

fn guarded(policy: &Policy, frame: &[u8]) -> Option<Guard> {
    guard(&Frame::parse(frame)?, &policy.segment(policy.versions().locks))
}

fn offer(from: Mac, server: &str) -> Vec<u8> {
    offers(from, &Lease { kind: 2, client: mac(50), server, given: "10.0.0.50", resolver: "10.0.0.9" })
}

#[test]
fn what_does_harm_at_once_is_dropped() {
    let (on, off) = (policy(Guards::ALL), policy(Guards::default()));
    let dropped: [(Vec<u8>, Guard); 8] = [
        (announces(mac(9), "10.0.0.1"), Guard::Arp),
        (answers(mac(9), "10.0.0.1", mac(5), "10.0.0.5"), Guard::Arp),
        (asks(mac(9), "10.0.0.1", "10.0.0.5"), Guard::Arp),
        (advertises(mac(9), "fe80::1", mac(5), "fe80::5"), Guard::Nd),
        (solicits(mac(9), "fe80::1", "fe80::5"), Guard::Nd),
        (offer(mac(9), "10.0.0.9"), Guard::Dhcp),
        (routes(mac(9), "fe80::9", "2001:db8::", 0, 1800), Guard::Ra),
        (hello(mac(9), (1, mac(9)), (1, mac(9))), Guard::Stp),
    ];
    for (frame, by) in dropped {
        assert_eq!(guarded(&on, &frame), Some(by));
        // In a VLAN, too; and not when the guard is off.
        let tagged = [&frame[..12], &[0x81, 0, 0, 7], &frame[12..]].concat();
        assert_eq!(guarded(&on, &tagged), Some(by));
        assert_eq!(guarded(&off, &frame), None);
        let others: Vec<Guard> = Guard::ALL.into_iter().filter(|g| *g != by).collect();
        assert_eq!(guarded(&policy(Guards::of(&others)), &frame), None);
    }
}

#[test]
fn what_servers_need_passes() {
    let on = policy(Guards::ALL);
    let virtual_router = Mac([0, 0, 0x5e, 0, 1, 7]);
    let passes: [Vec<u8>; 12] = [
        asks(mac(9), "10.0.0.9", "10.0.0.1"),
        asks(mac(9), "0.0.0.0", "10.0.0.1"),
        announces(mac(1), "10.0.0.1"),
        announces(virtual_router, "10.0.0.1"),
        routes(virtual_router, "fe80::9", "2001:db8::", 0, 1800),
        solicits(mac(9), "::", "fe80::1"),
        solicits(mac(9), "fe80::9", "fe80::1"),
        discovers(mac(9), mac(9)),
        offer(mac(2), "10.0.0.9"),
        offer(mac(9), "10.0.0.3"),
        hello(mac(2), (1, mac(9)), (1, mac(9))),
        ipv4(mac(9), mac(1), "10.0.0.9", "198.51.100.1", 6, &[0; 20]),
    ];
    for (i, frame) in passes.iter().enumerate() {
        assert_eq!(guarded(&on, frame), None, "{i}");
    }
}

#[test]
fn an_offer_from_any_port_is_one() {
    let on = policy(Guards::ALL);
    let mut frame = offer(mac(9), "10.0.0.9");
    frame[34..36].copy_from_slice(&1067u16.to_be_bytes());
    assert_eq!(guarded(&on, &frame), Some(Guard::Dhcp));
    // Version 6: advertise, reply; and what clients and relays say.
    for (kind, to, by) in
        [(2, 546, Some(Guard::Dhcp)), (7, 546, Some(Guard::Dhcp)), (1, 547, None), (13, 547, None)]
    {
        let [a, b] = u16::to_be_bytes(to);
        let body = [2, 0x23, a, b, 0, 12, 0, 0, kind, 1, 2, 3];
        let frame = ipv6(mac(9), ALL_NODES, ("fe80::9", "fe80::5"), 17, 64, &body);
        assert_eq!(guarded(&on, &frame), by, "{kind}");
    }
}

#[test]
fn an_advertisement_behind_other_headers_is_found() {
    let on = policy(Guards::ALL);
    let plain = routes(mac(9), "fe80::9", "2001:db8::", 0, 1800);
    let ra = &plain[54..];
    // Destination options, a hundred of them, fragment headers, and a first fragment that ends before (RFC 7113).
    let options = [&[58, 0, 1, 4, 0, 0, 0, 0][..], ra].concat();
    let many = [&[60, 0, 1, 4, 0, 0, 0, 0].repeat(99)[..], &options].concat();
    let fragment = [&[58, 0, 0, 1, 0, 0, 0, 7][..], ra].concat();
    let hidden = [&[60, 0, 0, 1, 0, 0, 0, 7][..], &[58, 9, 0, 0, 0, 0, 0, 0]].concat();
    let before = [&[60, 0, 0, 1, 0, 0, 0, 7][..], &[58, 0, 1, 4, 0, 0, 0, 0]].concat();
    for (next, body) in [(60, options), (60, many), (44, fragment), (44, hidden), (44, before)] {
        let frame = ipv6(mac(9), ALL_NODES, ("fe80::9", "ff02::1"), next, 255, &body);
        assert_eq!(guarded(&on, &frame), Some(Guard::Ra), "{next} {}", frame.len());
    }
    // What a router has forwarded is no neighbour discovery; large pings in fragments are none either.
    let far = ipv6(mac(9), mac(1), ("2001:db8::9", "2001:db8::1"), 58, 64, ra);
    assert_eq!(guarded(&on, &far), None);
    let ping = [&[58, 0, 0, 1, 0, 0, 0, 7, 128, 0][..], &[0; 64]].concat();
    let ping = ipv6(mac(9), mac(1), ("fe80::9", "fe80::5"), 44, 255, &ping);
    assert_eq!(guarded(&on, &ping), None);
}
