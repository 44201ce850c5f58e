//! What goes into a wire comes out of it: the real `cordon-dataplane` between capture files (`net_pcap`), byte for byte
//! and in order, or without exactly the packets that are locked; and every packet is accounted for.
//!
//! Each port plays a file of its own, so that both directions run at once.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails here")]

mod common;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use common::dataplane::{Appliance, BOTH, Balance, STOP, assert_balanced, range};
use common::pcap::{self, Frames, assert_same};
use common::skip;
use region::locks::Exception;
use region::segment::{Guard, Guards, SegmentRules};
use region::{Class, Dir, Facts, HostFlags, Mac, Side, Verdict};

const VLAN: &[u16] = &[0x8100];
const QINQ: &[u16] = &[0x88a8, 0x8100];
const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
const ARP: u16 = 0x0806;
/// `net_pcap` writes no more of a frame that came in several segments.
const FRAME_MAX: usize = 16_128;

/// A wire whose two ports play these frames.
fn wire(frames: [&[Vec<u8>]; 2]) -> Appliance {
    let mut appliance = Appliance::new("", "");
    for (file, frames) in ["inside.pcap", "outside.pcap"].iter().zip(frames) {
        pcap::write(&appliance.path(file), frames);
    }
    let port = |i: usize, side: &str| {
        let (from, to) =
            (appliance.path(&format!("{side}.pcap")), appliance.path(&format!("{side}-sent.pcap")));
        format!("net_pcap{i},rx_pcap={},tx_pcap={}", from.display(), to.display())
    };
    let ports = [port(0, "inside"), port(1, "outside")];
    appliance.set_wire(&ports[0], &ports[1]);
    appliance
}

/// Plays both files to their ends and stops. Returns what each side received and its balance, and the facts.
fn play(appliance: &Appliance, frames: [&[Vec<u8>]; 2]) -> ([Frames; 2], [Balance; 2], Facts) {
    let daemon = appliance.start();
    for side in Side::ALL {
        appliance.wait_received(side, frames[side.index()].len() as u64);
    }
    let status = daemon.term(STOP);
    assert!(status.success(), "{status}: {}", daemon.log());
    let facts = appliance.facts();
    let balance = assert_balanced(&facts);
    for side in Side::ALL {
        let (b, frames) = (balance[side.index()], frames[side.index()]);
        assert_eq!(b.received, frames.len() as u64, "received {}", side.name());
        assert_eq!(b.received_bytes, frames.iter().map(|f| f.len() as u64).sum::<u64>());
    }
    let read = |name| pcap::read(&appliance.path(name));
    ([read("inside-sent.pcap"), read("outside-sent.pcap")], balance, facts)
}

/// Both directions come out as they went in.
fn assert_unchanged(frames: [&[Vec<u8>]; 2]) -> Facts {
    let ([to_inside, to_outside], balance, facts) = play(&wire(frames), frames);
    assert_same("inside to outside", &to_outside, frames[0]);
    assert_same("outside to inside", &to_inside, frames[1]);
    for b in balance {
        assert_eq!(b.packets(Verdict::Forward), b.received);
    }
    facts
}

/// The frames of every capture that is Ethernet; those of `malformed/` only if asked for.
fn captured(folder: &Path, malformed: bool) -> Vec<Frames> {
    let manifest = std::fs::read_to_string(folder.join("MANIFEST.tsv")).unwrap();
    let names = manifest.lines().skip(1).map(|l| l.split('\t').next().unwrap());
    let files: Vec<PathBuf> =
        names.filter(|n| malformed || !n.starts_with("malformed/")).map(|n| folder.join(n)).collect();
    let read = |path: &PathBuf| {
        // Some hold not one whole packet, some are cut: what can be read goes through the wire.
        let mut file = capture::Capture::open(path).ok()?;
        let mut frames = Vec::new();
        while let Ok(Some(p)) = file.next_packet() {
            frames.push(p.bytes[..p.bytes.len().min(FRAME_MAX)].to_vec());
        }
        Some(frames)
    };
    let all: Vec<Frames> = files.iter().filter_map(read).filter(|f| !f.is_empty()).collect();
    assert!(all.len() * 10 > files.len() * 8, "only {} of {} captures can be read", all.len(), files.len());
    all
}

/// An Ethernet frame with these tags.
fn frame(tags: &[u16], ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let mut f = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    for (vlan, tpid) in (100u16..).zip(tags) {
        f.extend_from_slice(&tpid.to_be_bytes());
        f.extend_from_slice(&vlan.to_be_bytes());
    }
    f.extend_from_slice(&ethertype.to_be_bytes());
    f.extend_from_slice(payload);
    f
}

/// A UDP packet between two addresses of one family; `n` makes it different from others.
fn udp(tags: &[u16], source: IpAddr, destination: IpAddr, n: u16) -> Vec<u8> {
    let mut udp = vec![0; 8];
    udp[0..2].copy_from_slice(&n.to_be_bytes());
    udp[5] = 8;
    match (source, destination) {
        (IpAddr::V4(s), IpAddr::V4(d)) => {
            let mut ip = vec![0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0];
            ip.extend([s.octets(), d.octets()].concat());
            frame(tags, IPV4, &[ip, udp].concat())
        }
        (IpAddr::V6(s), IpAddr::V6(d)) => {
            let mut ip = vec![0x60, 0, 0, 0, 0, 8, 17, 64];
            ip.extend([s.octets(), d.octets()].concat());
            frame(tags, IPV6, &[ip, udp].concat())
        }
        _ => panic!("{source} and {destination} are of two families"),
    }
}

#[test]
fn captures_pass_unchanged_in_both_directions() {
    let Some(folder) = common::captures_dir() else { skip!("no captures") };
    let mut all = captured(&folder, true);
    let inside = all.concat();
    all.reverse();
    let outside = all.concat();
    assert!(inside.len() > 100_000, "only {} packets", inside.len());
    let facts = assert_unchanged([&inside, &outside]);
    // Without policy nothing is enforced, but what packets are is still counted.
    let class = |c: Class| {
        let sides = facts.workers().iter().flat_map(|w| &w.sides);
        sides.map(|s| s.class_packets[c.index()].load(std::sync::atomic::Ordering::Relaxed)).sum::<u64>()
    };
    assert!(class(Class::Malformed) > 0, "captures with malformed headers are among them");
    assert_eq!(Class::ALL.map(class).iter().sum::<u64>(), (inside.len() + outside.len()) as u64);
}

#[test]
fn frames_of_every_length_pass_unchanged() {
    // From one byte over a buffer's 2,048 to jumbo frames in five segments.
    let patterned = |length: usize, salt: usize| -> Vec<u8> {
        (0..length).map(|i| u8::try_from((i * 7 + i / 251 + length * 31 + salt) % 256).unwrap()).collect()
    };
    let lengths = || {
        (1..=70).chain(1500..1530).chain(2030..2070).chain((2100..9018).step_by(97)).chain([9018, FRAME_MAX])
    };
    let inside: Frames = lengths().map(|l| patterned(l, 0)).collect();
    let outside: Frames = lengths().rev().map(|l| patterned(l, 1)).collect();
    assert_unchanged([&inside, &outside]);
}

#[test]
fn packets_stay_on_their_wire() {
    let to =
        |wire: u8, n: u16| udp(&[], IpAddr::from([192, 0, 2, wire]), IpAddr::from([198, 51, 100, wire]), n);
    let frames: Vec<Frames> = (0..4).map(|port| (0..500).map(|n| to(port, n)).collect()).collect();
    let mut appliance = wire([&frames[0], &frames[1]]);
    for (i, name) in [(2, "inside2"), (3, "outside2")] {
        pcap::write(&appliance.path(&format!("{name}.pcap")), &frames[i]);
    }
    let port = |i: usize, name: &str| {
        let (from, to) =
            (appliance.path(&format!("{name}.pcap")), appliance.path(&format!("{name}-sent.pcap")));
        format!("net_pcap{i},rx_pcap={},tx_pcap={}", from.display(), to.display())
    };
    let second = [port(2, "inside2"), port(3, "outside2")];
    appliance.add_wire(&second[0], &second[1]);
    let daemon = appliance.start();
    for side in Side::ALL {
        appliance.wait_received(side, 1000);
    }
    assert!(daemon.term(STOP).success());
    assert_balanced(&appliance.facts());
    for (file, sent) in [("outside", 0), ("inside", 1), ("outside2", 2), ("inside2", 3)] {
        assert_same(file, &pcap::read(&appliance.path(&format!("{file}-sent.pcap"))), &frames[sent]);
    }
}

/// Locked servers of the made-up traffic, and what of theirs is to be dropped: (server, outbound, inbound).
const SERVERS: [(&str, bool, bool); 9] = [
    ("192.0.2.10", true, true),
    ("192.0.2.11", true, false),
    ("192.0.2.12", false, true),
    // Inside a locked /28, and beside it.
    ("192.0.2.79", true, true),
    ("192.0.2.80", false, false),
    ("192.0.2.63", false, false),
    ("2001:db8:10:1::5", true, true),
    ("2001:db8:10:2::5", false, false),
    // Locked, except for one remote network.
    ("192.0.2.13", true, true),
];
const EXCEPTED: &str = "192.0.2.13";
const RESCUE: &str = "198.51.100.7";

#[test]
fn exactly_the_packets_of_locked_servers_are_missing() {
    let mut streams = [Frames::new(), Frames::new()];
    let mut passing = [Frames::new(), Frames::new()];
    let mut dropped = [0u64; 2];
    for n in 0..40 {
        for (server, out, inbound) in SERVERS {
            let server_ip: IpAddr = server.parse().unwrap();
            let remotes =
                if server_ip.is_ipv4() { [RESCUE, "203.0.113.9"] } else { ["2001:db8:ffff::1", "2a00::1"] };
            for (remote, tags) in remotes.iter().flat_map(|r| [(r, &[][..]), (r, VLAN), (r, QINQ)]) {
                let remote_ip: IpAddr = remote.parse().unwrap();
                let saved = server == EXCEPTED && *remote == RESCUE;
                for (side, locked) in [(0, out && !saved), (1, inbound && !saved)] {
                    let (from, to) = if side == 0 { (server_ip, remote_ip) } else { (remote_ip, server_ip) };
                    let packet = udp(tags, from, to, n);
                    if locked {
                        dropped[side] += 1;
                    } else {
                        passing[side].push(packet.clone());
                    }
                    streams[side].push(packet);
                }
            }
        }
        // What belongs to no host passes, whatever addresses are claimed in it: ARP, other protocols, broken headers.
        for (side, stream) in streams.iter_mut().enumerate() {
            let mut broken = udp(&[], "192.0.2.10".parse().unwrap(), "192.0.2.10".parse().unwrap(), n);
            broken[14] = 0x43;
            for f in [frame(&[], ARP, &[10; 28]), frame(VLAN, 0x88cc, &[3; 50]), broken] {
                passing[side].push(f.clone());
                stream.push(f);
            }
        }
    }
    let frames = [streams[0].as_slice(), streams[1].as_slice()];
    let mut appliance = wire(frames);
    appliance.networks = vec!["192.0.2.0/24".into(), "2001:db8:10::/48".into()];
    let decisions = appliance.policy(
        &[
            ("192.0.2.10", BOTH),
            ("192.0.2.11", HostFlags::LOCK_OUT),
            ("192.0.2.12", HostFlags::LOCK_IN),
            (EXCEPTED, BOTH | HostFlags::EXCEPT),
            ("192.0.2.64/28", BOTH),
            ("2001:db8:10:1::/64", BOTH),
        ],
        &[Exception { hosts: range(EXCEPTED), remotes: range("198.51.100.0/24") }],
    );
    let ([to_inside, to_outside], balance, facts) = play(&appliance, frames);
    assert_same("inside to outside", &to_outside, &passing[0]);
    assert_same("outside to inside", &to_inside, &passing[1]);
    for (side, reason) in [(0, Verdict::DropLockedOut), (1, Verdict::DropLockedIn)] {
        assert_eq!(balance[side].packets(reason), dropped[side]);
        assert_eq!(balance[side].packets(Verdict::Forward) + dropped[side], balance[side].received);
    }
    // Cordon sees what it drops: the lines count it, and say so.
    for (server, out, inbound) in SERVERS.into_iter().filter(|(s, ..)| s.contains('.')) {
        for (dir, locked) in [(Dir::Out, out), (Dir::In, inbound)] {
            let line = decisions.line(&facts, server, dir);
            let expected = if !locked {
                0
            } else if server == EXCEPTED {
                120
            } else {
                240
            };
            assert_eq!((line.packets, line.dropped, line.udp), (240, expected, 240), "{server} {dir:?}");
        }
    }
    let host = decisions.host_v6(&facts, "2001:db8:10:1::5").unwrap();
    for dir in Dir::ALL {
        let line = facts.totals(host, dir);
        // A locked server that is heard of from outside first has no line until it speaks itself.
        assert_eq!(line.packets, u64::from(line.dropped));
    }
    assert_eq!(facts.totals(host, Dir::Out).packets, 240);
}

/// ARP: this address is at that device.
fn claim(device: [u8; 6], address: &str) -> Vec<u8> {
    let address: std::net::Ipv4Addr = address.parse().unwrap();
    let head = [0, 1, 8, 0, 6, 4, 0, 2];
    let mut f = frame(&[], ARP, &[&head[..], &device, &address.octets(), &[0; 10]].concat());
    f[6..12].copy_from_slice(&device);
    f
}

#[test]
fn guards_and_locked_devices_lose_exactly_their_frames() {
    let (gateway, server, locked) = ([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2], [2, 0, 0, 0, 0, 3]);
    let mut streams = [Vec::new(), Vec::new()];
    let mut passing = [Vec::new(), Vec::new()];
    let (mut guarded, mut cut_off) = ([0; 2], [0; 2]);
    let bpdu = |from: [u8; 6]| {
        let mut f = vec![0x01, 0x80, 0xc2, 0, 0, 0];
        f.extend_from_slice(&from);
        f.extend_from_slice(&[0, 38, 0x42, 0x42, 3]);
        f.resize(60, 0);
        f
    };
    for n in 0..200 {
        let addresses = ("192.0.2.10".parse().unwrap(), "198.51.100.7".parse().unwrap());
        for from in [server, locked] {
            for (inside, mut f) in [
                (true, udp(&[], addresses.0, addresses.1, n)),
                (true, claim(from, "192.0.2.1")),
                (true, claim(from, "192.0.2.10")),
                (true, bpdu(from)),
                (false, udp(&[], addresses.1, addresses.0, n)),
            ] {
                let own = if inside { 6..12 } else { 0..6 };
                f[own].copy_from_slice(&from);
                let side = usize::from(!inside);
                streams[side].push(f.clone());
                if from == locked {
                    cut_off[side] += 1;
                } else if f == claim(server, "192.0.2.1") || f == bpdu(server) {
                    guarded[side] += 1;
                } else {
                    passing[side].push(f);
                }
            }
        }
        // The gateway and its switch may, from either side.
        for (side, f) in
            [(0, claim(gateway, "192.0.2.1")), (1, claim(server, "192.0.2.1")), (1, bpdu(server))]
        {
            streams[side].push(f.clone());
            passing[side].push(f);
        }
    }
    let frames = [streams[0].as_slice(), streams[1].as_slice()];
    let mut appliance = wire(frames);
    appliance.networks = vec!["192.0.2.0/24".into()];
    let decisions = appliance.policy(&[], &[]);
    let rules = SegmentRules {
        guards: Guards::of(&[Guard::Arp, Guard::Stp]),
        gateways: vec![range("192.0.2.1").first],
        devices: vec![(Mac(gateway), Guards::ALL)],
        locked: vec![(Mac(locked), BOTH)],
        ..SegmentRules::default()
    };
    decisions.policy.publish_locks(&[], &[], &rules).unwrap();
    let ([to_inside, to_outside], balance, _) = play(&appliance, frames);
    assert_same("inside to outside", &to_outside, &passing[0]);
    assert_same("outside to inside", &to_inside, &passing[1]);
    for side in [0, 1] {
        let dropped = [Verdict::DropGuarded, Verdict::DropLockedMac].map(|v| balance[side].packets(v));
        assert_eq!(dropped, [guarded[side], cut_off[side]]);
    }
    assert_eq!((guarded, cut_off), ([400, 0], [800, 200]));
}

/// Source and destination of a frame whose IP header can be trusted (formats.md, section 5), tags looked through.
fn addresses(frame: &[u8]) -> Option<[IpAddr; 2]> {
    let mut at = 12;
    let be16 = |at: usize| Some(u16::from_be_bytes(frame.get(at..at + 2)?.try_into().unwrap()));
    while matches!(be16(at)?, 0x8100 | 0x88a8 | 0x9100) {
        at += 4;
    }
    let ip = frame.get(at + 2..)?;
    match be16(at)? {
        IPV4 if ip.len() >= 20 && ip[0] >> 4 == 4 => {
            let (header, total) = (usize::from(ip[0] & 15) * 4, usize::from(ip[2]) << 8 | usize::from(ip[3]));
            let address = |from: usize| IpAddr::from(<[u8; 4]>::try_from(&ip[from..from + 4]).unwrap());
            (header >= 20 && header <= ip.len() && total >= header).then(|| [address(12), address(16)])
        }
        IPV6 if ip.len() >= 40 && ip[0] >> 4 == 6 => {
            let address = |from: usize| IpAddr::from(<[u8; 16]>::try_from(&ip[from..from + 16]).unwrap());
            Some([address(8), address(24)])
        }
        _ => None,
    }
}

#[test]
fn captures_lose_exactly_the_packets_of_their_locked_servers() {
    let Some(folder) = common::captures_dir() else { skip!("no captures") };
    let manifest = std::fs::read_to_string(folder.join("MANIFEST.tsv")).unwrap();
    let column = manifest.lines().next().unwrap().split('\t').position(|h| h == "internal").unwrap();
    let named = manifest.lines().skip(1).filter_map(|l| l.split('\t').nth(column));
    let servers: BTreeSet<IpAddr> =
        named.filter_map(|n| n.strip_suffix("/32").or(n.strip_suffix("/128"))?.parse().ok()).collect();
    assert!(servers.len() > 20, "the captures name {} servers", servers.len());

    let frames = captured(&folder, false).concat();
    let passing = |end: usize| -> Frames {
        let locked = |f: &&Vec<u8>| addresses(f).is_some_and(|a| servers.contains(&a[end]));
        frames.iter().filter(|f| !locked(f)).cloned().collect()
    };
    let (to_outside, to_inside) = (passing(0), passing(1));
    let streams = [frames.as_slice(), frames.as_slice()];
    let mut appliance = wire(streams);
    // Each address is a network of its own: a longer one would take in their neighbours.
    appliance.ipv6_host_length = 128;
    appliance.networks = servers.iter().filter(|s| s.is_ipv4()).map(|s| format!("{s}/32")).collect();
    let v6: BTreeSet<String> = servers.iter().filter(|s| s.is_ipv6()).map(|s| format!("{s}/128")).collect();
    appliance.networks.extend(v6);
    let names: Vec<String> = servers.iter().map(IpAddr::to_string).collect();
    let locks: Vec<(&str, u8)> = names.iter().map(|n| (n.as_str(), BOTH)).collect();
    let _decisions = appliance.policy(&locks, &[]);
    let (sent, balance, _) = play(&appliance, streams);
    assert_same("inside to outside", &sent[1], &to_outside);
    assert_same("outside to inside", &sent[0], &to_inside);
    let gone = |passing: &Frames| (frames.len() - passing.len()) as u64;
    assert!(gone(&to_outside) > 1000 && gone(&to_inside) > 1000);
    assert_eq!(balance[0].packets(Verdict::DropLockedOut), gone(&to_outside));
    assert_eq!(balance[1].packets(Verdict::DropLockedIn), gone(&to_inside));
}
