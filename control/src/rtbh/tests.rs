use super::*;

const LIMITS: config::Rtbh = config::Rtbh {
    gobgp: None,
    program: std::path::PathBuf::new(),
    communities: Vec::new(),
    next_hop: None,
    next_hop_v6: None,
    uplink_bits: 10_000_000_000,
    fill_percent: 80,
    hold: Duration::from_secs(600),
    hold_max: Duration::from_secs(1500),
    probe: Duration::from_secs(60),
    announced_max: 2,
};

fn a(n: u8) -> IpAddr {
    IpAddr::from([192, 0, 2, n])
}

/// Seconds of a clock of the test's own.
struct Clock(Rtbh, u64);

impl Clock {
    /// Steps once a second; the BGP speaker does what it is told, a second later.
    fn run(&mut self, seconds: u64, uplink: u64, attacked: &[(u8, u64)], locked: &[u8]) -> Vec<StoreOp> {
        let attacked: Vec<_> = attacked.iter().map(|(n, b)| (a(*n), *b, None)).collect();
        let mut ops = Vec::new();
        for _ in 0..seconds {
            self.1 += 1;
            let present = self.0.announced();
            let seen = Seen { uplink_bits: uplink, attacked: &attacked, present: Some(&present) };
            let clock = (Time::from_unix_ms(self.1.cast_signed() * 1000), self.1 * 1_000_000_000);
            ops.extend(self.0.step(clock, &seen, &LIMITS, |x| locked.iter().any(|n| a(*n) == x)));
        }
        ops
    }

    fn state(&self, n: u8) -> Option<RtbhState> {
        self.0.row(a(n)).map(|r| r.state)
    }
}

fn clock() -> Clock {
    Clock(Rtbh::default(), 1_000_000)
}

#[test]
fn only_a_full_uplink_is_relieved_and_by_as_few_as_are_enough() {
    let mut c = clock();
    let attacked = [(1, 5_000_000_000), (2, 3_000_000_000), (3, 1_000_000_000)];
    c.run(10, 7_900_000_000, &attacked, &[1, 2, 3]);
    assert_eq!(c.0.rows().count(), 0, "it fits");
    c.run(3, 9_500_000_000, &attacked, &[1, 2, 3]);
    assert_eq!(c.0.rows().count(), 0, "a burst of less than three seconds");
    c.run(1, 9_500_000_000, &attacked, &[1, 2, 3]);
    assert_eq!(c.0.announced(), BTreeSet::from([a(1)]), "the rest fits");
    assert!(c.0.hides(&IpNet::from(a(1))) && !c.0.hides(&IpNet::from(a(2))));
}

#[test]
fn nothing_is_announced_that_is_not_attacked_and_no_more_than_allowed() {
    let mut c = clock();
    c.run(20, 9_900_000_000, &[], &[1]);
    assert_eq!(c.0.rows().count(), 0, "a full uplink alone is no attack");
    let attacked = [(1, 100), (2, 100), (3, 100)];
    c.run(20, 9_900_000_000, &attacked, &[1, 2, 3]);
    assert_eq!(c.0.announced().len(), LIMITS.announced_max);
    assert!(c.0.is_at_its_limit);
}

#[test]
fn after_a_hold_the_route_is_withdrawn_and_comes_back_for_longer_if_the_uplink_fills_again() {
    let mut c = clock();
    let (flood, locked) = ([(1, 9_000_000_000)], [1]);
    c.run(4, 9_500_000_000, &flood, &locked);
    assert_eq!(c.state(1), Some(RtbhState::Announced));
    c.run(599, 500_000_000, &[], &locked);
    assert_eq!(c.state(1), Some(RtbhState::Announced), "quiet proves nothing while it is announced");
    c.run(2, 500_000_000, &[], &locked);
    assert_eq!(c.state(1), Some(RtbhState::Probing));
    assert!(c.0.announced().is_empty() && !c.0.hides(&IpNet::from(a(1))) && c.0.holds(&IpNet::from(a(1))));
    c.run(5, 9_500_000_000, &flood, &locked);
    let row = c.0.row(a(1)).expect("a row").clone();
    assert_eq!((row.state, row.round), (RtbhState::Announced, 1));
    assert!(row.until.unix_ms() - row.since.unix_ms() > 1_800_000, "twice as long");
    c.run(1201, 500_000_000, &[], &locked);
    assert_eq!(c.state(1), Some(RtbhState::Probing));
    let ops = c.run(62, 500_000_000, &[], &locked);
    assert_eq!(c.state(1), None, "the attack is over");
    assert!(ops.contains(&StoreOp::RemoveRtbh(a(1))));
    assert_eq!(hold(&LIMITS, 9), LIMITS.hold_max);
}

#[test]
fn a_lifted_lock_takes_the_route_with_it_and_the_row_stays_until_it_is_gone() {
    let mut c = clock();
    c.run(4, 9_500_000_000, &[(1, 9_000_000_000)], &[1]);
    let present = BTreeSet::from([a(1)]);
    let step = |c: &mut Clock, present: Option<&BTreeSet<IpAddr>>| {
        c.1 += 1;
        let seen = Seen { uplink_bits: 0, attacked: &[], present };
        let clock = (Time::from_unix_ms(c.1.cast_signed() * 1000), c.1 * 1_000_000_000);
        c.0.step(clock, &seen, &LIMITS, |_| false)
    };
    step(&mut c, None);
    assert_eq!(c.state(1), Some(RtbhState::Withdrawing));
    step(&mut c, None);
    step(&mut c, Some(&present));
    assert_eq!(c.state(1), Some(RtbhState::Withdrawing), "the speaker still has it, or does not answer");
    assert_eq!(step(&mut c, Some(&BTreeSet::new())), [StoreOp::RemoveRtbh(a(1))]);
}

#[test]
fn what_an_operator_announced_is_probed_too() {
    let mut c = clock();
    let row = RtbhRow {
        address: a(7),
        state: RtbhState::Announced,
        since: Time::from_unix_ms(1_000_000_000),
        until: Time::from_unix_ms(1_000_010_000),
        round: 0,
        who: "root".into(),
        incident: None,
        note: None,
        present: None,
    };
    c.0.put(row);
    c.run(11, 0, &[(7, 1_000)], &[7]);
    assert_eq!(c.state(7), Some(RtbhState::Announced), "probed, and the attack goes on");
    assert_eq!(c.0.row(a(7)).map(|r| (r.round, r.who.as_str())), Some((1, "root")));
}

#[test]
fn a_flood_that_fills_the_uplink_is_announced_and_its_lock_waits_for_the_probe() {
    use std::sync::atomic::Ordering::Relaxed;

    use crate::detect::Level;
    use crate::testing::Desk;
    let mut desk = Desk::new(
        "[rtbh]\ngobgp = \"127.0.0.1:1\"\nuplink_bits = 1_000_000\nprobe = \"5s\"\n[unlock]\ninbound_hold = \"1s\"\ninbound_quiet = \"1s\"\n",
    );
    let rule = "packets-in".parse().expect("a rule");
    let flood = |desk: &mut Desk, seconds: u32| {
        for _ in 0..seconds * 10 {
            let facts = desk.control.facts().expect("facts");
            let side = facts.workers()[0].side(region::Side::Outside);
            side.rx_bytes.store(side.rx_bytes.load(Relaxed) + 20_000, Relaxed);
            desk.find(10, rule, Level::Lock);
            desk.wait(100);
        }
    };
    flood(&mut desk, 3);
    assert!(desk.control.to_announce().is_empty());
    flood(&mut desk, 2);
    assert_eq!(desk.control.to_announce(), BTreeSet::from([a(10)]));
    let said = desk.audit();
    assert!(said.iter().any(|s| s.starts_with("rtbh 192.0.2.10: announce until")), "{said:?}");
    desk.wait(599_000);
    assert_ne!(desk.bits(10), 0, "quiet proves nothing while nothing can arrive");
    desk.wait(5_000);
    assert!(desk.control.to_announce().is_empty() && desk.control.to_withdraw() == BTreeSet::from([a(10)]));
    assert_ne!(desk.bits(10), 0);
    // The speaker says that the route is gone; then nothing is heard of the attack.
    for _ in 0..80 {
        desk.control.speaker_has(&BTreeSet::new(), BTreeSet::new());
        desk.wait(100);
    }
    assert_eq!((desk.bits(10), desk.control.to_withdraw().len()), (0, 0));
}
