//! What is kept of a host's contacts: fan-out, first contacts, exact flows of watched hosts, evidence.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::atomic::Ordering::Relaxed;

use pipeline::{Frame, Mode, Pipeline};
use region::addressing::{Addressing, BlockV4};
use region::flows::{FLOWS_MAX, FlowRecord, Opener, flag};
use region::{Addr, Capacities, Dir, Facts, HostFlags, HostId, Policy, Side, Verdict, WatchSlot};

const CAPACITIES: Capacities = Capacities { workers: 1, hosts_v4: 256, hosts_v6: 64, locks: 16 };
const KEY: [u64; 2] = [0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210];
const SERVER: u32 = 0xc000_020a; // 192.0.2.10
const HOST: HostId = HostId(10);
const REMOTE: u32 = 0xc633_6407; // 198.51.100.7
const SYN: u8 = 2;
const SYN_ACK: u8 = 0x12;
const RST_ACK: u8 = 0x14;
const ACK: u8 = 0x10;

struct Bench {
    facts: Facts,
    policy: Policy,
    pipeline: Pipeline,
    time: u64,
}

impl Bench {
    fn new() -> Bench {
        let facts = Facts::anonymous(CAPACITIES).unwrap();
        let policy = Policy::anonymous(CAPACITIES, 64, KEY).unwrap();
        let v4 = vec![BlockV4 { first: 0xc000_0200, length: 24, base: HostId(0) }];
        policy.publish_addressing(&Addressing { v4, v6: Vec::new() }).unwrap();
        policy.flags_hold_for(1);
        policy.set_epoch(2);
        policy.set_quotas(1_000, 8);
        policy.turn_generation();
        let pipeline = Pipeline::new(0, Mode::Inline, &facts);
        Bench { facts, policy, pipeline, time: 1_000 }
    }

    fn watched() -> Bench {
        let b = Bench::new();
        b.policy.set_watch_slot(HOST, WatchSlot(1));
        b.policy.set_flags(HOST, HostFlags(HostFlags::WATCH));
        b
    }

    fn pass(&mut self, side: Side, bytes: &[u8]) {
        let length = u32::try_from(bytes.len()).unwrap();
        self.time += 1;
        let frame = Frame { bytes, length, side, time: self.time, segment: true };
        self.pipeline.poll(&self.facts, Some(&self.policy));
        self.pipeline.run(&self.facts, Some(&self.policy), &[frame], &mut [Verdict::Forward]);
    }

    fn out(&mut self, remote: u32, protocol: u8, segment: &[u8]) {
        self.pass(Side::Inside, &ip(SERVER, remote, protocol, segment));
    }

    fn back(&mut self, remote: u32, protocol: u8, segment: &[u8]) {
        self.pass(Side::Outside, &ip(remote, SERVER, protocol, segment));
    }

    fn rows(&self) -> Vec<FlowRecord> {
        self.facts.flows(0, self.policy.generation()).rows().iter().map(|r| r.read()).collect()
    }

    fn opens(&self) -> u32 {
        self.facts.totals(HOST, Dir::Out).opens
    }
}

fn ip(source: u32, destination: u32, protocol: u8, segment: &[u8]) -> Vec<u8> {
    let mut f = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, 0x45, 0];
    f.extend(u16::try_from(20 + segment.len()).unwrap().to_be_bytes());
    f.extend([0, 1, 0, 0, 64, protocol, 0, 0]);
    f.extend(source.to_be_bytes());
    f.extend(destination.to_be_bytes());
    f.extend(segment);
    f
}

fn tcp(source: u16, destination: u16, flags: u8) -> Vec<u8> {
    let mut t = [source.to_be_bytes(), destination.to_be_bytes()].concat();
    t.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, flags, 0, 0, 0, 0, 0, 0]);
    t
}

fn udp(source: u16, destination: u16) -> Vec<u8> {
    [source.to_be_bytes(), destination.to_be_bytes(), [0, 8], [0, 0]].concat()
}

fn icmp(kind: u8, code: u8, quoted: &[u8]) -> Vec<u8> {
    let mut m = vec![kind, code, 0, 0, 0, 0, 0, 0];
    m.extend(quoted);
    m
}

fn remote(i: u32) -> u32 {
    REMOTE + i * 256
}

#[test]
fn every_new_contact_leaves_a_row_before_anybody_watches_and_answers_find_it() {
    let mut b = Bench::new();
    for i in 0..4 {
        b.out(remote(i), 6, &tcp(40_000, 22, SYN));
    }
    b.out(remote(0), 6, &tcp(40_000, 22, SYN));
    b.back(remote(1), 6, &tcp(22, 40_000, SYN_ACK));
    b.back(remote(2), 6, &tcp(22, 40_000, RST_ACK));
    // The error quotes the packet that it is about.
    let quoted = ip(SERVER, remote(3), 6, &tcp(40_000, 22, SYN));
    b.back(0x0102_0304, 1, &icmp(3, 1, &quoted[14..]));
    let rows = b.rows();
    assert_eq!(rows.len(), 4, "a retry is no new contact: {rows:?}");
    assert!(rows.iter().all(|r| r.opener == Opener::Syn && r.key.remote_port == 22));
    assert_eq!(
        rows.iter().map(|r| r.flags).collect::<Vec<_>>(),
        [0, flag::ANSWERED, flag::RST, flag::UNREACHABLE]
    );
    assert_eq!(b.opens(), 4);
    let f = b.facts.fanout(HOST, 2);
    assert!((f.unanswered() - 3.0).abs() < 0.1, "{}", f.unanswered());
}

#[test]
fn ports_of_one_destination_are_new_contacts_each() {
    let mut b = Bench::new();
    for port in 1..=100 {
        b.out(REMOTE, 6, &tcp(40_000, port, SYN));
    }
    // Ports share the bits of a map: a few of a hundred do not look new.
    assert!(b.rows().len() > 85, "{}", b.rows().len());
    assert!((b.facts.fanout(HOST, 2).ports.estimate() - 100.0).abs() < 15.0);
}

#[test]
fn replies_are_no_contacts() {
    let mut b = Bench::new();
    for i in 0..50 {
        b.back(remote(i), 17, &udp(5_000, 53));
        b.out(remote(i), 17, &udp(53, 5_000));
        b.back(remote(i), 6, &tcp(6_000, 80, SYN));
        b.out(remote(i), 6, &tcp(80, 6_000, SYN_ACK));
        b.back(remote(i), 1, &icmp(8, 0, &[]));
        b.out(remote(i), 1, &icmp(0, 0, &[]));
        b.out(remote(i), 6, &tcp(80, 6_000, RST_ACK));
    }
    assert_eq!((b.opens(), b.rows().len()), (0, 0));
    assert_eq!(b.facts.fanout(HOST, 2).unanswered(), 0.0);
}

#[test]
fn a_watched_host_has_exact_flows_in_both_directions() {
    let mut b = Bench::watched();
    b.out(REMOTE, 6, &tcp(40_000, 443, SYN));
    b.back(REMOTE, 6, &tcp(443, 40_000, SYN_ACK));
    for _ in 0..10 {
        b.out(REMOTE, 6, &tcp(40_000, 443, ACK));
    }
    b.back(remote(1), 17, &udp(9_000, 53));
    b.out(remote(1), 17, &udp(53, 9_000));
    b.out(remote(2), 1, &icmp(8, 0, &[]));
    b.back(remote(2), 1, &icmp(0, 0, &[]));
    let rows = b.rows();
    let seen: Vec<_> = rows.iter().map(|r| (r.opener, r.packets, r.flags)).collect();
    assert_eq!(
        seen,
        [
            (Opener::Syn, [11, 1], flag::ANSWERED),
            (Opener::RemoteFirst, [1, 1], flag::ANSWERED),
            (Opener::IcmpRequest, [1, 1], flag::ANSWERED),
        ]
    );
    assert_eq!(rows[0].local, Addr::V4(SERVER).as_u128());
    assert_eq!((rows[0].key.local_port, rows[0].key.remote_port), (40_000, 443));
    assert_eq!((rows[0].first, rows[0].last), (1_001, 1_012));
}

#[test]
fn what_is_beyond_the_quota_is_counted_and_nothing_is_lost() {
    let mut b = Bench::watched();
    b.policy.set_quotas(100, 8);
    for i in 0..300 {
        b.out(remote(i), 17, &udp(1_000, 9));
    }
    let rows = b.rows();
    let cell = &b.facts.watch_cells(0)[1];
    let in_rows: u64 = rows.iter().map(|r| r.packets[0]).sum();
    // A hundred flows, a hundred externals without ports, and the rest.
    assert_eq!((rows.len(), in_rows, cell.other_packets[0].load(Relaxed)), (200, 200, 100));
    assert_eq!(b.facts.totals(HOST, Dir::Out).packets, 300);
    // A new generation has room again.
    b.policy.turn_generation();
    b.out(remote(5_000), 17, &udp(1_000, 9));
    assert_eq!(b.rows().len(), 1);
}

#[test]
fn a_flood_to_one_external_is_counted_exactly_beyond_the_quota() {
    let mut b = Bench::watched();
    b.policy.set_quotas(100, 8);
    for port in 1_000..6_000 {
        b.out(REMOTE, 6, &tcp(port, 80, SYN));
    }
    let rows = b.rows();
    let rest = rows.last().unwrap();
    assert_eq!((rows.len(), rest.key.remote_port, rest.packets[0], rest.began), (101, 0, 4_900, 4_900));
    assert_eq!(b.facts.watch_cells(0)[1].other_packets[0].load(Relaxed), 0);
}

#[test]
fn a_flood_of_first_contacts_leaves_half_of_the_table_to_watched_hosts() {
    let mut b = Bench::watched();
    for i in 0..u32::try_from(FLOWS_MAX).unwrap() {
        // Another server of the network.
        b.pass(Side::Inside, &ip(SERVER + 1, 0x0a00_0000 + i * 7, 6, &tcp(1, 80, SYN)));
        // Maps fill; a new epoch makes all contacts new.
        if i % 200 == 0 {
            b.policy.set_epoch(2 + i / 200);
        }
    }
    let before = b.rows().len();
    b.out(REMOTE, 6, &tcp(40_000, 443, SYN));
    assert_eq!(b.rows().len(), before + 1);
    assert!(before <= FLOWS_MAX / 2);
}

#[test]
fn an_answer_after_the_turn_of_a_generation_is_not_lost() {
    let mut b = Bench::new();
    b.out(REMOTE, 6, &tcp(40_000, 22, SYN));
    b.policy.turn_generation();
    b.back(REMOTE, 6, &tcp(22, 40_000, SYN_ACK));
    let rows = b.rows();
    assert_eq!(
        rows.iter().map(|r| (r.opener, r.flags)).collect::<Vec<_>>(),
        [(Opener::None, flag::ANSWERED)]
    );
}

#[test]
fn evidence_keeps_the_beginning_of_packets_up_to_a_quota_and_counts_what_it_loses() {
    let mut b = Bench::watched();
    let long = [udp(1, 2), vec![7; 500]].concat();
    for _ in 0..20 {
        b.out(REMOTE, 17, &long);
    }
    let ring = b.facts.evidence(0);
    assert_eq!(ring.head(), 8);
    let e = ring.get(0).unwrap();
    assert_eq!((e.slot, e.dir, e.length, e.frame().len()), (WatchSlot(1), Dir::Out, 542, 104));
    assert_eq!(e.frame(), &ip(SERVER, REMOTE, 17, &long)[..104]);
    assert_eq!(b.facts.watch_cells(0)[1].evidence_lost.load(Relaxed), 12);
}

#[test]
fn strange_segments_and_sweeps_are_told_by_how_they_begin() {
    let mut b = Bench::watched();
    for (i, (flags, opener)) in
        [(1, Opener::Fin), (0, Opener::Null), (0x29, Opener::Xmas), (ACK, Opener::Ack), (4, Opener::Reaction)]
            .into_iter()
            .enumerate()
    {
        let to = remote(u32::try_from(i).unwrap());
        b.out(to, 6, &tcp(40_000, 80, flags));
        assert_eq!(b.rows().last().unwrap().opener, opener);
    }
    b.out(remote(50), 47, &[0; 8]);
    assert_eq!(b.rows().last().unwrap().opener, Opener::OtherProtocol);
}

#[test]
fn frames_of_the_segment_and_the_first_of_each_device_go_to_control() {
    let mut b = Bench::new();
    let mut arp = vec![0xff; 6];
    arp.extend([2, 0, 0, 0, 0, 9, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    arp.extend([0; 20]);
    b.pass(Side::Inside, &arp);
    b.pass(Side::Outside, &arp);
    let mut bpdu = vec![0x01, 0x80, 0xc2, 0, 0, 0, 2, 0, 0, 0, 0, 9, 0, 38, 0x42, 0x42, 3];
    bpdu.extend([0; 43]);
    b.pass(Side::Inside, &bpdu);
    b.out(REMOTE, 17, &udp(67, 68));
    // An ordinary packet: the first of its device, then not again until another device uses the address.
    for _ in 0..3 {
        b.out(REMOTE, 6, &tcp(1, 2, ACK));
    }
    let mut other = ip(SERVER, REMOTE, 6, &tcp(1, 2, ACK));
    other[11] = 77;
    b.pass(Side::Inside, &other);
    // A source that is nobody's, and the internet's.
    b.pass(Side::Inside, &ip(0x0909_0909, REMOTE, 6, &tcp(1, 2, ACK)));
    b.back(REMOTE, 6, &tcp(2, 1, ACK));
    let ring = b.facts.link(0);
    let seen: Vec<_> = (0..ring.head()).map(|n| ring.get(n).unwrap()).collect();
    let sides: Vec<Side> = seen.iter().map(|f| f.side).collect();
    use Side::{Inside, Outside};
    assert_eq!(sides, [Inside, Outside, Inside, Inside, Inside, Inside, Inside]);
    assert_eq!(seen[0].bytes, arp);
    assert_eq!((seen[2].bytes.as_slice(), seen[2].length), (bpdu.as_slice(), 60));
    assert_eq!((seen[5].bytes[11], ring.lost()), (77, 0));
}
