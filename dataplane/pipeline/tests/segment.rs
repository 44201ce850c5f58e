//! What guards and locks of hardware addresses drop on a servers' segment, and what passes beside it.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::atomic::Ordering::Relaxed;

use pipeline::{Frame, Mode, Pipeline};
use region::addressing::{Addressing, BlockV4};
use region::locks::{LockedRange, Range};
use region::policy::Bindings;
use region::segment::{Guard, Guards, SegmentRules};
use region::{Addr, Capacities, Dir, Facts, HostFlags, HostId, Mac, Policy, Side, Verdict};

const SIZES: Capacities = Capacities { workers: 1, hosts_v4: 512, hosts_v6: 64, locks: 16 };
const SERVER: u32 = 0xc000_020a; // 192.0.2.10
const GATEWAY: u32 = 0xc000_0201;
const REMOTE: u32 = 0xc633_6407; // 198.51.100.7
const ROUTER: Mac = Mac([2, 0, 0, 0, 0, 0xee]);

const fn mac(n: u8) -> Mac {
    Mac([2, 0, 0, 0, 0, n])
}

struct Bench {
    facts: Facts,
    policy: Policy,
    pipeline: Pipeline,
}

impl Bench {
    fn new(mode: Mode, rules: &SegmentRules) -> Bench {
        let facts = Facts::anonymous(SIZES).unwrap();
        let policy = Policy::anonymous(SIZES, 64, [1, 2]).unwrap();
        let v4 = vec![BlockV4 { first: 0xc000_0200, length: 24, base: HostId(0) }];
        policy.publish_addressing(&Addressing { v4, v6: vec![] }).unwrap();
        policy.publish_locks(&[], &[], rules).unwrap();
        policy.flags_hold_for(1);
        let pipeline = Pipeline::new(0, mode, &facts);
        Bench { facts, policy, pipeline }
    }

    /// Verdicts of a burst.
    fn burst(&mut self, side: Side, segment: bool, frames: &[&[u8]]) -> Vec<Verdict> {
        let frames: Vec<Frame> = frames
            .iter()
            .map(|bytes| Frame { bytes, length: u32::try_from(bytes.len()).unwrap(), side, time: 0, segment })
            .collect();
        let mut verdicts = vec![Verdict::DropTxFull; frames.len()];
        self.pipeline.poll(&self.facts, Some(&self.policy));
        let passed = self.pipeline.run(&self.facts, Some(&self.policy), &frames, &mut verdicts);
        let forwarded = verdicts.iter().filter(|v| !v.is_drop()).count();
        assert_eq!(passed.packets, forwarded as u64);
        verdicts
    }

    fn pass(&mut self, side: Side, frame: &[u8]) -> Verdict {
        self.burst(side, true, &[frame])[0]
    }

    /// Packets that a side dropped for a reason.
    fn dropped(&self, side: Side, v: Verdict) -> u64 {
        self.facts.workers()[0].side(side).verdict_packets[v.index()].load(Relaxed)
    }
}

fn ethernet(from: Mac, to: Mac, ethertype: u16, payload: &[u8]) -> Vec<u8> {
    [&to.0[..], &from.0, &ethertype.to_be_bytes(), payload].concat()
}

fn claims(from: Mac, address: u32) -> Vec<u8> {
    let head = [0, 1, 8, 0, 6, 4, 0, 2];
    let body = [&head[..], &from.0, &address.to_be_bytes(), &[0; 10]].concat();
    ethernet(from, Mac::BROADCAST, 0x0806, &body)
}

fn packet(from: Mac, to: Mac, source: u32, destination: u32, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let total = u16::try_from(20 + payload.len()).unwrap().to_be_bytes();
    let head = [0x45, 0, total[0], total[1], 0, 0, 0, 0, 64, protocol, 0, 0];
    let body = [&head[..], &source.to_be_bytes(), &destination.to_be_bytes(), payload].concat();
    ethernet(from, to, 0x0800, &body)
}

fn offer(from: Mac) -> Vec<u8> {
    let mut udp = vec![0, 67, 0, 68, 0, 248, 0, 0, 2, 1, 6, 0];
    udp.resize(248, 0);
    packet(from, Mac::BROADCAST, SERVER, u32::MAX, 17, &udp)
}

fn all_guards() -> SegmentRules {
    SegmentRules {
        guards: Guards::ALL,
        gateways: vec![Addr::V4(GATEWAY).as_u128()],
        devices: vec![(ROUTER, Guards::of(&[Guard::Arp]))],
        ..SegmentRules::default()
    }
}

#[test]
fn guarded_frames_are_dropped_from_inside_and_their_neighbours_in_the_burst_pass() {
    let mut b = Bench::new(Mode::Inline, &all_guards());
    let tcp = packet(mac(9), ROUTER, SERVER, REMOTE, 6, &[0; 20]);
    let own = claims(mac(9), SERVER);
    let (claim, offer, vouched) = (claims(mac(9), GATEWAY), offer(mac(9)), claims(ROUTER, GATEWAY));
    let frames: [&[u8]; 6] = [&tcp, &claim, &own, &offer, &vouched, &tcp];
    use Verdict::{DropGuarded, Forward};
    let all = [Forward, DropGuarded, Forward, DropGuarded, Forward, Forward];
    assert_eq!(b.burst(Side::Inside, true, &frames), all);
    assert_eq!(b.dropped(Side::Inside, DropGuarded), 2);
    // The offer came from an address of ours: its line knows that it was dropped.
    let line = b.facts.totals(HostId(10), Dir::Out);
    assert_eq!((line.packets, line.dropped), (3, 1));
    // Control is shown them, and which guard it was.
    let ring = b.facts.link(0);
    let seen: Vec<_> = (0..ring.head()).filter_map(|n| ring.get(n)?.guarded).collect();
    assert_eq!(seen, [Guard::Arp, Guard::Dhcp]);
}

#[test]
fn nothing_is_guarded_from_outside_on_routed_wires_or_in_bypass() {
    let mut b = Bench::new(Mode::Inline, &all_guards());
    let (claim, offer) = (claims(mac(9), GATEWAY), offer(mac(9)));
    let frames: [&[u8]; 2] = [&claim, &offer];
    assert_eq!(b.burst(Side::Outside, true, &frames), [Verdict::Forward; 2]);
    assert_eq!(b.burst(Side::Inside, false, &frames), [Verdict::Forward; 2]);
    b.policy.set_bypass(true);
    assert_eq!(b.burst(Side::Inside, true, &frames), [Verdict::Forward; 2]);
    b.policy.set_bypass(false);
    assert_eq!(b.burst(Side::Inside, true, &frames), [Verdict::DropGuarded; 2]);
}

#[test]
fn a_mirror_guards_too_and_counts_every_packet_once() {
    let mut b = Bench::new(Mode::Mirror, &all_guards());
    assert_eq!(b.pass(Side::Outside, &claims(mac(9), GATEWAY)), Verdict::DropGuarded);
    assert_eq!(b.pass(Side::Outside, &claims(ROUTER, GATEWAY)), Verdict::Forward);
    let all: u64 = Side::ALL.iter().flat_map(|s| Verdict::ALL.map(|v| b.dropped(*s, v))).sum();
    assert_eq!(all, 2);
}

#[test]
fn a_locked_device_is_silent_whatever_address_it_uses() {
    let both = HostFlags::LOCK_OUT | HostFlags::LOCK_IN;
    let locked = vec![(mac(9), both), (mac(8), HostFlags::LOCK_OUT)];
    let mut b = Bench::new(Mode::Inline, &SegmentRules { locked, ..SegmentRules::default() });
    let out = |n, source| packet(mac(n), ROUTER, source, REMOTE, 6, &[0; 20]);
    let back = |n| packet(ROUTER, mac(n), REMOTE, SERVER, 6, &[0; 20]);
    let arp = claims(mac(9), SERVER);
    let unknown = ethernet(mac(9), ROUTER, 0x88cc, &[0; 40]);
    let frames = [out(9, SERVER), out(9, 0x0909_0909), out(7, SERVER), out(8, SERVER), arp, unknown];
    let frames: Vec<&[u8]> = frames.iter().map(Vec::as_slice).collect();
    use Verdict::{DropLockedMac, Forward};
    let gone = [DropLockedMac, DropLockedMac, Forward, DropLockedMac, DropLockedMac, DropLockedMac];
    assert_eq!(b.burst(Side::Inside, true, &frames), gone);
    assert_eq!(b.pass(Side::Outside, &back(9)), DropLockedMac);
    assert_eq!(b.pass(Side::Outside, &back(8)), Forward, "one direction");
    assert_eq!(b.pass(Side::Outside, &back(7)), Forward);
    assert_eq!((b.dropped(Side::Inside, DropLockedMac), b.dropped(Side::Outside, DropLockedMac)), (5, 1));
    // Behind a router one address stands for all.
    assert_eq!(b.burst(Side::Inside, false, &frames[..1]), [Forward]);
    b.policy.set_bypass(true);
    assert_eq!(b.pass(Side::Inside, frames[0]), Forward);
}

fn bind(b: &Bench, host: u32, to: u8, mode: Bindings) {
    b.policy.bind(HostId(host), Some(mac(to)));
    b.policy.set_bindings(mode);
}

#[test]
fn what_another_device_sends_with_a_bound_address_does_not_count_for_its_host() {
    let mut b = Bench::new(Mode::Inline, &all_guards());
    let from = |m: Mac, source| packet(m, ROUTER, source, REMOTE, 6, &[0; 20]);
    let line = |b: &Bench, host| b.facts.totals(HostId(host), Dir::Out).packets;
    let marks = |b: &Bench, host| b.facts.marks(HostId(host)).other_mac;
    bind(&b, 10, 9, Bindings::Count);
    let (own, other, free) = (from(mac(9), SERVER), from(mac(0x55), SERVER), from(mac(0x55), SERVER + 1));
    let frames: [&[u8]; 4] = [&own, &other, &free, &other];
    assert_eq!(b.burst(Side::Inside, true, &frames), [Verdict::Forward; 4]);
    assert_eq!((line(&b, 10), marks(&b, 10)), (1, 2), "its own packet only");
    assert_eq!((line(&b, 11), marks(&b, 11)), (1, 0), "who is not bound may send from anywhere");
    // A virtual router, a port beside its own, and a device that may route.
    b.policy.bind(HostId(12), Some(Mac([0, 0x16, 0x3e, 0, 0, 1])));
    for m in [Mac([0, 0, 0x5e, 0, 1, 7]), Mac([0, 0x16, 0x3e, 0, 0, 2])] {
        assert_eq!(b.pass(Side::Inside, &from(m, SERVER + 2)), Verdict::Forward);
    }
    assert_eq!((line(&b, 12), marks(&b, 12)), (2, 0));
    // From outside and behind a router it is another matter.
    b.burst(Side::Outside, true, &[&other]);
    b.burst(Side::Inside, false, &[&other]);
    assert_eq!((line(&b, 10), marks(&b, 10)), (2, 2));
    b.policy.set_bindings(Bindings::Drop);
    assert_eq!(b.burst(Side::Inside, true, &frames)[..2], [Verdict::Forward, Verdict::DropSpoofed]);
    assert_eq!((line(&b, 10), b.dropped(Side::Inside, Verdict::DropSpoofed)), (3, 2));
    b.policy.set_bypass(true);
    assert_eq!(b.pass(Side::Inside, &other), Verdict::Forward);
}

#[test]
fn the_lock_of_an_address_holds_whoever_sends_from_it() {
    let mut b = Bench::new(Mode::Inline, &SegmentRules::default());
    bind(&b, 10, 9, Bindings::Count);
    let address = Addr::V4(SERVER).as_u128();
    let locked = [LockedRange { range: Range { first: address, last: address }, bits: HostFlags::LOCK_OUT }];
    b.policy.publish_locks(&locked, &[], &SegmentRules::default()).unwrap();
    b.policy.set_flags(HostId(10), HostFlags(HostFlags::LOCK_OUT));
    let other = packet(mac(0x55), ROUTER, SERVER, REMOTE, 6, &[0; 20]);
    assert_eq!(b.pass(Side::Inside, &other), Verdict::DropLockedOut);
    assert_eq!(b.facts.totals(HostId(10), Dir::Out).packets, 0);
}

#[test]
fn a_flood_from_another_device_leaves_room_for_what_others_say() {
    let mut b = Bench::new(Mode::Inline, &SegmentRules::default());
    bind(&b, 10, 9, Bindings::Count);
    let other = packet(mac(0x55), ROUTER, SERVER, REMOTE, 6, &[0; 20]);
    let burst = [other.as_slice(); 32];
    for _ in 0..32 {
        b.burst(Side::Inside, true, &burst);
    }
    assert_eq!((b.facts.marks(HostId(10)).other_mac, b.facts.link(0).head()), (1_024, 11));
}
