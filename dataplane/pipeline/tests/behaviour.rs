//! What becomes of packets, and what is counted.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::atomic::Ordering::Relaxed;

use pipeline::{Frame, Mode, Pipeline};
use region::addressing::{Addressing, BlockV4, NetworkV6};
use region::locks::{Exception, LockedRange, Range};
use region::segment::SegmentRules;
use region::{Addr, Capacities, Class, Dir, Facts, HostFlags, HostId, LineTotals, Policy, Side, Verdict};

const CAPACITIES: Capacities = Capacities { workers: 1, hosts_v4: 512, hosts_v6: 64, locks: 16 };
const KEY: [u64; 2] = [0x1234_5678_9abc_def0, 0x0fed_cba9_8765_4321];
const SERVER: u32 = 0xc000_020a; // 192.0.2.10
const REMOTE: u32 = 0xc633_6407; // 198.51.100.7
const SERVER6: u128 = (0x2001_0db8 << 96) + (1 << 64) + 5;
const REMOTE6: u128 = (0x2001_0db9 << 96) + 7;

struct Bench {
    facts: Facts,
    policy: Policy,
    pipeline: Pipeline,
}

impl Bench {
    fn new(mode: Mode) -> Bench {
        let facts = Facts::anonymous(CAPACITIES).unwrap();
        let policy = Policy::anonymous(CAPACITIES, 64, KEY).unwrap();
        let v4 = vec![BlockV4 { first: 0xc000_0200, length: 24, base: HostId(0) }];
        let v6 = vec![NetworkV6 { range: Range::of_prefix(Addr::V6(SERVER6), 48), quota: 8, slot: 0 }];
        policy.publish_addressing(&Addressing { v4, v6 }).unwrap();
        policy.flags_hold_for(1);
        let pipeline = Pipeline::new(0, mode, &facts);
        Bench { facts, policy, pipeline }
    }

    fn pass(&mut self, side: Side, bytes: &[u8]) -> Verdict {
        let length = u32::try_from(bytes.len()).unwrap();
        let mut verdicts = [Verdict::DropTxFull];
        self.pipeline.poll(&self.facts, Some(&self.policy));
        self.pipeline.run(
            &self.facts,
            Some(&self.policy),
            &[Frame { bytes, length, side, time: 0, segment: false }],
            &mut verdicts,
        );
        verdicts[0]
    }

    fn line(&self, host: u32, dir: Dir) -> LineTotals {
        self.facts.totals(HostId(host), dir)
    }

    fn class(&self, side: Side, class: Class) -> u64 {
        self.facts.workers()[0].side(side).class_packets[class.index()].load(Relaxed)
    }
}

fn ethernet(ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let mut f = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    f.extend(ethertype.to_be_bytes());
    f.extend(payload);
    f
}

fn ipv4(source: u32, destination: u32, protocol: u8, fragment: u16, l4: &[u8]) -> Vec<u8> {
    let total = u16::try_from(20 + l4.len()).unwrap();
    let mut p = vec![0x45, 0];
    p.extend(total.to_be_bytes());
    p.extend([0, 1]);
    p.extend(fragment.to_be_bytes());
    p.extend([64, protocol, 0, 0]);
    p.extend(source.to_be_bytes());
    p.extend(destination.to_be_bytes());
    p.extend(l4);
    p
}

fn ipv6(source: u128, destination: u128, next: u8, rest: &[u8]) -> Vec<u8> {
    let mut p = vec![0x60, 0, 0, 0];
    p.extend(u16::try_from(rest.len()).unwrap().to_be_bytes());
    p.extend([next, 64]);
    p.extend(source.to_be_bytes());
    p.extend(destination.to_be_bytes());
    p.extend(rest);
    p
}

fn tcp(flags: u8) -> Vec<u8> {
    let mut t = vec![0; 20];
    t[12] = 0x50;
    t[13] = flags;
    t
}

fn out_tcp(flags: u8) -> Vec<u8> {
    ethernet(0x800, &ipv4(SERVER, REMOTE, 6, 0, &tcp(flags)))
}

fn in_udp() -> Vec<u8> {
    ethernet(0x800, &ipv4(REMOTE, SERVER, 17, 0, &[0; 8]))
}

#[test]
fn inline_a_packet_counts_for_its_own_side_only() {
    let mut b = Bench::new(Mode::Inline);
    let hairpin = ethernet(0x800, &ipv4(SERVER, SERVER + 1, 17, 0, &[0; 8]));
    assert_eq!(b.pass(Side::Inside, &hairpin), Verdict::Forward);
    assert_eq!((b.line(10, Dir::Out).packets, b.line(11, Dir::In).packets), (1, 0));
    assert_eq!(b.pass(Side::Outside, &hairpin), Verdict::Forward);
    assert_eq!((b.line(10, Dir::Out).packets, b.line(11, Dir::In).packets), (1, 1));
    let outside = b.facts.workers()[0].side(Side::Outside);
    assert_eq!(
        outside.internal_source_outside.load(Relaxed),
        1,
        "an internal source outside is counted, not blamed"
    );
}

#[test]
fn in_a_mirror_both_ends_count() {
    let mut b = Bench::new(Mode::Mirror);
    let between = ethernet(0x800, &ipv4(SERVER, SERVER + 1, 17, 0, &[0; 8]));
    b.pass(Side::Outside, &between);
    assert_eq!((b.line(10, Dir::Out).packets, b.line(11, Dir::In).packets), (1, 1));
    b.pass(Side::Outside, &ethernet(0x86dd, &ipv6(REMOTE6, SERVER6, 17, &[0; 8])));
    let host = b.facts.find_v6(SERVER6 >> 64 << 64, KEY).unwrap();
    assert_eq!(b.facts.totals(host, Dir::In).udp, 1, "a mirror inserts IPv6 hosts from both sides");
}

#[test]
fn headers_become_counters() {
    let mut b = Bench::new(Mode::Inline);
    for flags in [0x02, 0x12, 0x04, 0x14, 0x10, 0x01, 0x00, 0x29] {
        b.pass(Side::Inside, &out_tcp(flags));
    }
    let l = b.line(10, Dir::Out);
    assert_eq!((l.packets, l.tcp, l.syn, l.syn_ack, l.reactions_tcp, l.small), (8, 8, 1, 1, 3, 8));
    assert_eq!(l.bytes, 8 * 54);
    for kind in [8, 0, 3, 11, 13] {
        b.pass(Side::Inside, &ethernet(0x800, &ipv4(SERVER, REMOTE, 1, 0, &[kind, 0, 0, 0])));
    }
    let l = b.line(10, Dir::Out);
    assert_eq!((l.icmp, l.reactions_icmp), (5, 3));
    // First, middle and last fragment; flags in a later fragment's payload are no flags.
    for fragment in [0x2000, 0x2001, 0x0002] {
        b.pass(Side::Inside, &ethernet(0x800, &ipv4(SERVER, REMOTE, 6, fragment, &tcp(0x02))));
    }
    let l = b.line(10, Dir::Out);
    assert_eq!((l.fragments, l.syn, l.tcp), (3, 2, 11));
    b.pass(Side::Inside, &ethernet(0x800, &ipv4(SERVER, REMOTE, 47, 0, &[0; 200])));
    let l = b.line(10, Dir::Out);
    assert_eq!((l.other(), l.small), (1, 16));
}

#[test]
fn tags_are_looked_through_and_tunnels_are_not() {
    let mut b = Bench::new(Mode::Inline);
    let ip = ipv4(SERVER, REMOTE, 17, 0, &[0; 8]);
    let tagged = |types: &[u16], inner: u16| {
        let mut payload = Vec::new();
        for t in types[1..].iter().copied().chain([inner]) {
            payload.extend([0, 7]);
            payload.extend(t.to_be_bytes());
        }
        payload.extend(&ip);
        ethernet(types[0], &payload)
    };
    b.pass(Side::Inside, &tagged(&[0x8100], 0x800));
    b.pass(Side::Inside, &tagged(&[0x88a8, 0x8100], 0x800));
    assert_eq!(b.line(10, Dir::Out).udp, 2);
    assert_eq!(b.facts.workers()[0].side(Side::Inside).tagged.load(Relaxed), 2);
    b.pass(Side::Inside, &tagged(&[0x8100], 0x8847));
    b.pass(Side::Inside, &ethernet(0x8847, &ip));
    b.pass(Side::Inside, &tagged(&[0x8100; 5], 0x800));
    assert_eq!(b.class(Side::Inside, Class::NonIp), 3);
    assert_eq!(b.line(10, Dir::Out).udp, 2);
}

#[test]
fn ipv6_extension_headers_are_walked_and_bounded() {
    let mut b = Bench::new(Mode::Inline);
    let v6 = |next, rest: &[u8]| ethernet(0x86dd, &ipv6(SERVER6, REMOTE6, next, rest));
    // Hop-by-hop, then destination options, then UDP.
    let mut chain = vec![60, 0, 0, 0, 0, 0, 0, 0, 17, 0, 0, 0, 0, 0, 0, 0];
    chain.extend([0; 8]);
    b.pass(Side::Inside, &v6(0, &chain));
    let host = b.facts.find_v6(SERVER6 >> 64 << 64, KEY).expect("a server that speaks is inserted");
    let read = |b: &Bench| b.facts.totals(host, Dir::Out);
    assert_eq!(read(&b).udp, 1);
    // A first fragment of TCP with SYN, a later one, and an atomic one.
    let fragment = |field: u16, flags: u8| {
        let mut f = vec![6, 0];
        f.extend(field.to_be_bytes());
        f.extend([0, 0, 0, 1]);
        f.extend(tcp(flags));
        v6(44, &f)
    };
    b.pass(Side::Inside, &fragment(0x0001, 2));
    b.pass(Side::Inside, &fragment(0x0008, 2));
    b.pass(Side::Inside, &fragment(0x0000, 2));
    let l = read(&b);
    assert_eq!((l.tcp, l.syn, l.fragments), (3, 2, 2));
    // A chain without end and a cut one count as other, once each.
    let endless: Vec<u8> = [0u8, 0, 0, 0, 0, 0, 0, 0].repeat(40);
    b.pass(Side::Inside, &v6(0, &endless));
    b.pass(Side::Inside, &v6(0, &[17]));
    assert_eq!(read(&b).other(), 2);
    assert_eq!(b.class(Side::Inside, Class::Malformed), 0);
}

#[test]
fn what_cannot_be_trusted_is_forwarded_and_belongs_to_no_host() {
    let mut b = Bench::new(Mode::Inline);
    let good = ipv4(SERVER, REMOTE, 17, 0, &[0; 8]);
    let mut bad: Vec<Vec<u8>> = Vec::new();
    for (at, value) in [(0, 0x55), (0, 0x44), (0, 0x4f), (3, 19)] {
        let mut p = good.clone();
        p[at] = value;
        bad.push(ethernet(0x800, &p));
    }
    bad.push(ethernet(0x800, &good[..19]));
    bad.push(ethernet(0x86dd, &[0x60; 39]));
    bad.push(ethernet(0x86dd, &[0x40; 40]));
    bad.push(vec![0; 13]);
    bad.push(vec![]);
    for p in &bad {
        assert_eq!(b.pass(Side::Inside, p), Verdict::Forward, "{p:x?}");
    }
    assert_eq!(b.class(Side::Inside, Class::Malformed), bad.len() as u64);
    assert_eq!(b.line(10, Dir::Out), LineTotals::default());
    // A total length beyond the frame is a cut capture and fine.
    let mut cut = good.clone();
    cut[2] = 5;
    b.pass(Side::Inside, &ethernet(0x800, &cut));
    assert_eq!(b.line(10, Dir::Out).udp, 1);
}

#[test]
fn a_lock_drops_its_direction_counts_it_and_lets_exceptions_through() {
    let mut b = Bench::new(Mode::Inline);
    b.policy.set_flags(HostId(10), HostFlags(HostFlags::LOCK_OUT));
    assert_eq!(b.pass(Side::Inside, &out_tcp(2)), Verdict::DropLockedOut);
    assert_eq!(b.pass(Side::Outside, &in_udp()), Verdict::Forward);
    assert_eq!(
        (b.line(10, Dir::Out).packets, b.line(10, Dir::Out).dropped, b.line(10, Dir::In).dropped),
        (1, 1, 0)
    );
    b.policy.set_flags(HostId(10), HostFlags(HostFlags::LOCK_OUT | HostFlags::LOCK_IN | HostFlags::EXCEPT));
    assert_eq!(b.pass(Side::Outside, &in_udp()), Verdict::DropLockedIn);
    let remotes = Range::of_prefix(Addr::V4(REMOTE), 32);
    let hosts = Range::of_prefix(Addr::V4(SERVER), 32);
    b.policy.publish_locks(&[], &[Exception { hosts, remotes }], &SegmentRules::default()).unwrap();
    assert_eq!(b.pass(Side::Outside, &in_udp()), Verdict::Forward);
    assert_eq!(b.pass(Side::Inside, &out_tcp(2)), Verdict::Forward);
    let elsewhere = ethernet(0x800, &ipv4(SERVER, REMOTE + 1, 17, 0, &[0; 8]));
    assert_eq!(b.pass(Side::Inside, &elsewhere), Verdict::DropLockedOut);
    b.policy.set_bypass(true);
    assert_eq!(b.pass(Side::Inside, &elsewhere), Verdict::Forward);
    let c = b.facts.workers()[0].side(Side::Inside);
    assert_eq!(c.verdict_packets[Verdict::DropLockedOut.index()].load(Relaxed), 2);
    assert_eq!(c.verdict_bytes[Verdict::DropLockedOut.index()].load(Relaxed), 54 + 42);
}

#[test]
fn flags_of_another_life_are_not_used_and_locks_hold_by_address() {
    let mut b = Bench::new(Mode::Inline);
    // Flags written for a dataplane that is gone: host 11 locked; the list by address says host 10.
    b.policy.flags_hold_for(99);
    b.policy.set_flags(HostId(11), HostFlags(HostFlags::LOCK_OUT));
    let range = Range::of_prefix(Addr::V4(SERVER), 32);
    b.policy
        .publish_locks(&[LockedRange { range, bits: HostFlags::LOCK_OUT }], &[], &SegmentRules::default())
        .unwrap();
    assert_eq!(b.pass(Side::Inside, &out_tcp(2)), Verdict::DropLockedOut);
    let neighbour = ethernet(0x800, &ipv4(SERVER + 1, REMOTE, 17, 0, &[0; 8]));
    assert_eq!(b.pass(Side::Inside, &neighbour), Verdict::Forward);
}

#[test]
fn an_ipv6_host_in_a_locked_prefix_is_locked_from_its_first_packet() {
    let mut b = Bench::new(Mode::Inline);
    let range = Range::of_prefix(Addr::V6(SERVER6), 56);
    let bits = HostFlags::LOCK_OUT | HostFlags::LOCK_IN;
    b.policy.publish_locks(&[LockedRange { range, bits }], &[], &SegmentRules::default()).unwrap();
    let out = ethernet(0x86dd, &ipv6(SERVER6, REMOTE6, 17, &[0; 8]));
    let back = ethernet(0x86dd, &ipv6(REMOTE6, SERVER6, 17, &[0; 8]));
    assert_eq!(b.pass(Side::Outside, &back), Verdict::DropLockedIn, "before the host has ever spoken");
    assert_eq!(b.facts.hosts_v6_used(), 0, "packets from outside insert nobody");
    assert_eq!(b.pass(Side::Inside, &out), Verdict::DropLockedOut);
    let host = b.facts.find_v6(SERVER6 >> 64 << 64, KEY).unwrap();
    assert_eq!(b.facts.totals(host, Dir::Out).dropped, 1);
    // Control takes charge: from now on its flags decide.
    b.policy.set_flags(host, HostFlags(HostFlags::KNOWN));
    assert_eq!(b.pass(Side::Inside, &out), Verdict::Forward);
}

#[test]
fn strict_networks_drop_their_own_sources_from_outside() {
    let mut b = Bench::new(Mode::Inline);
    b.policy.set_flags(HostId(10), HostFlags(HostFlags::STRICT));
    let spoofed = ethernet(0x800, &ipv4(SERVER, SERVER + 1, 17, 0, &[0; 8]));
    assert_eq!(b.pass(Side::Outside, &spoofed), Verdict::DropSpoofed);
    assert_eq!(b.line(10, Dir::Out).packets, 0, "never attributed to the claimed source");
    assert_eq!(b.line(11, Dir::In).dropped, 1);
    assert_eq!(b.pass(Side::Inside, &spoofed), Verdict::Forward);
}

#[test]
fn without_policy_everything_is_forwarded_and_counted() {
    let mut b = Bench::new(Mode::Inline);
    let frame = out_tcp(2);
    let mut verdicts = [Verdict::DropTxFull];
    b.pipeline.poll(&b.facts, None);
    let frames = [Frame { bytes: &frame, length: 54, side: Side::Inside, time: 0, segment: false }];
    b.pipeline.run(&b.facts, None, &frames, &mut verdicts);
    assert_eq!(verdicts, [Verdict::Forward]);
    assert_eq!(b.class(Side::Inside, Class::Ipv4), 1);
    assert_eq!(b.facts.workers()[0].enforcing.load(Relaxed), 0);
}

#[test]
fn touched_hosts_are_those_of_the_tick() {
    let mut b = Bench::new(Mode::Inline);
    let touched = |b: &Bench, tick| {
        let mut ids = Vec::new();
        b.facts.touched(0, tick).for_each_word(|word, bits| ids.push((word, bits)));
        ids
    };
    b.policy.set_tick(0, 1);
    b.pass(Side::Inside, &out_tcp(2));
    b.policy.set_tick(0, 2);
    b.pipeline.poll(&b.facts, Some(&b.policy));
    assert_eq!(b.facts.workers()[0].seen_tick.load(Relaxed), 2);
    assert_eq!(touched(&b, 1), [(0, 1 << 10)]);
    assert_eq!(touched(&b, 2), []);
    b.pass(Side::Outside, &ethernet(0x800, &ipv4(REMOTE, SERVER + 60, 17, 0, &[0; 8])));
    b.policy.set_tick(0, 3);
    b.pipeline.poll(&b.facts, Some(&b.policy));
    assert_eq!(touched(&b, 2), [(1, 1 << 6)]);
    assert_eq!(touched(&b, 3), [], "the bitmap of tick 1 was cleared before it is used again");
}

#[test]
fn what_was_received_is_what_was_sent_and_dropped() {
    let mut b = Bench::new(Mode::Inline);
    b.policy.set_flags(HostId(10), HostFlags(HostFlags::LOCK_OUT));
    let (mut forwarded, mut seed) = (0u64, 5u64);
    for i in 0..5000u64 {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let mut p = if i % 2 == 0 { out_tcp(2) } else { in_udp() };
        let at = usize::try_from(seed >> 33).unwrap() % p.len();
        p[at] ^= u8::try_from(seed >> 25 & 0xff).unwrap();
        p.truncate(usize::try_from(seed >> 40).unwrap() % (p.len() + 1));
        let side = if seed & 1 == 0 { Side::Inside } else { Side::Outside };
        if b.pass(side, &p) == Verdict::Forward {
            forwarded += 1;
            b.pipeline.transmitted(&b.facts, side, (1, p.len() as u64), (0, 0));
        }
    }
    let (mut received, mut ended, mut classes, mut sent) = (0, 0, 0, 0);
    for side in Side::ALL {
        let c = b.facts.workers()[0].side(side);
        received += c.rx_packets.load(Relaxed);
        ended += c.verdict_packets.iter().map(|v| v.load(Relaxed)).sum::<u64>();
        classes += c.class_packets.iter().map(|v| v.load(Relaxed)).sum::<u64>();
        sent += c.verdict_packets[0].load(Relaxed);
        let bytes: u64 = c.verdict_bytes.iter().map(|v| v.load(Relaxed)).sum();
        assert_eq!(bytes, c.rx_bytes.load(Relaxed));
    }
    assert_eq!((received, ended, classes, sent), (5000, 5000, 5000, forwarded));
}

#[test]
fn udp_ports_count_while_nobody_answers_and_no_more_when_somebody_does() {
    let datagram = |from: u32, to: u32, port: u16| {
        let [high, low] = port.to_be_bytes();
        ethernet(0x800, &ipv4(from, to, 17, 0, &[0x9c, 0x40, high, low, 0, 8, 0, 0]))
    };
    let mut b = Bench::new(Mode::Inline);
    for port in 1..=100 {
        b.pass(Side::Inside, &datagram(SERVER, REMOTE, port));
    }
    let opens = b.line(10, Dir::Out).opens;
    assert!((80..=100).contains(&opens), "each port is a contact, but for bits that they share: {opens}");
    let ports = |b: &Bench| b.facts.fanout(HostId(10), b.policy.epoch()).ports.estimate();
    assert!((90.0..110.0).contains(&ports(&b)), "{}", ports(&b));

    let mut b = Bench::new(Mode::Inline);
    b.pass(Side::Outside, &datagram(REMOTE, SERVER, 40_000));
    for port in 1..=100 {
        b.pass(Side::Inside, &datagram(SERVER, REMOTE, port));
    }
    assert_eq!(b.line(10, Dir::Out).opens, 0, "it came first");
    assert!(ports(&b) < 0.5, "{}", ports(&b));
}

#[test]
fn answers_that_nobody_asked_for_and_frames_from_outside_tell_that_others_use_an_address() {
    const SYN: u8 = 0x02;
    const SYN_ACK: u8 = 0x12;
    const RST_ACK: u8 = 0x14;
    let mut b = Bench::new(Mode::Inline);
    let frame = |from, to, flags, sequence: u8| {
        let mut segment = tcp(flags);
        segment[4] = sequence;
        ethernet(0x0800, &ipv4(from, to, 6, 0, &segment))
    };
    let mut marks = |frames: &[(Side, Vec<u8>)]| {
        let before = b.facts.marks(HostId(10));
        for (side, f) in frames {
            b.pass(*side, f);
        }
        let after = b.facts.marks(HostId(10));
        (after.unprovoked - before.unprovoked, after.outside - before.outside)
    };
    let asked = [
        (Side::Inside, frame(SERVER, REMOTE, SYN, 1)),
        (Side::Outside, frame(REMOTE, SERVER, SYN_ACK, 1)),
        (Side::Outside, frame(REMOTE, SERVER, RST_ACK, 0)),
    ];
    assert_eq!(marks(&asked), (0, 0), "what it asked for");
    let stranger = REMOTE + 1;
    let unasked = [
        (Side::Outside, frame(stranger, SERVER, SYN_ACK, 1)),
        (Side::Outside, frame(stranger, SERVER, RST_ACK, 0)),
    ];
    assert_eq!(marks(&unasked), (2, 0), "somebody else has asked in its name");
    let ordinary = [
        // Somebody ends a connection that may have stood for long; somebody begins one.
        (Side::Outside, frame(stranger, SERVER, RST_ACK, 7)),
        (Side::Outside, frame(stranger, SERVER, 0x04, 0)),
        (Side::Outside, frame(stranger, SERVER, SYN, 0)),
        (Side::Inside, frame(SERVER, stranger, SYN_ACK, 1)),
    ];
    assert_eq!(marks(&ordinary), (0, 0));
    let spoofed =
        [(Side::Outside, frame(SERVER, REMOTE, SYN, 1)), (Side::Outside, frame(SERVER, REMOTE, SYN, 1))];
    assert_eq!(marks(&spoofed), (0, 2));
    assert_eq!(b.line(10, Dir::Out).syn, 1, "what comes from outside is none of its own");
}
