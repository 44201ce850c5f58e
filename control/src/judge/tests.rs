//! What the ladder leaves alone, and what it forgets.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use api::{Action, Request, Target};
use config::{Ceiling, Config, Measure, Rule, Way};
use ipnet::IpNet;

use crate::detect::{Finding, Level, Over};
use crate::scan::{HostScan, Opener, ScanFinding, ScanKind, Variant};
use crate::testing::Desk;

const HOUR: u64 = 3_600_000;
const UDP: Rule = Rule::Limit(Measure::Udp, Way::Out);

fn scan(variant: Variant, level: Level, unheard: bool) -> Finding {
    ScanFinding::for_tests(ScanKind::Netscan, variant, level, unheard).into()
}

fn action(desk: &Desk, host: u8) -> Action {
    let address = Some(format!("192.0.2.{host}"));
    desk.control.incidents().rows().into_iter().find(|r| r.address == address).unwrap().action
}

#[test]
fn the_hour_of_a_warning_begins_with_what_may_become_a_lock() {
    let mut desk = Desk::new("");
    // A busy mail server: more destinations than the ceiling, answered, for two hours.
    for _ in 0..120 {
        desk.find_this(10, &scan(Variant::Smtp, Level::Warn, false));
        desk.wait(HOUR / 60);
    }
    // A bad minute.
    desk.find_this(10, &scan(Variant::WormPort, Level::Warn, false));
    assert_eq!((action(&desk, 10), desk.bits(10)), (Action::Warn, 0));
    for _ in 0..59 {
        desk.wait(HOUR / 60);
        desk.find_this(10, &scan(Variant::WormPort, Level::Warn, false));
        assert_eq!(desk.bits(10), 0);
    }
    desk.wait(HOUR / 60);
    desk.find_this(10, &scan(Variant::WormPort, Level::Warn, false));
    assert_ne!(desk.bits(10), 0, "a bad hour");
}

#[test]
fn who_hears_nothing_is_not_locked_by_the_deadline_either() {
    let mut desk = Desk::new("");
    for _ in 0..130 {
        desk.find_this(10, &scan(Variant::Port, Level::Warn, true));
        desk.wait(HOUR / 60);
    }
    assert_eq!((action(&desk, 10), desk.bits(10)), (Action::Warn, 0));
}

#[test]
fn a_protected_or_exempted_address_protects_the_server_that_has_it() {
    let sections =
        "[[network]]\nprefix = \"2001:db8:1::/48\"\n[never_lock]\nprefixes = [\"2001:db8:1:7::53/128\"]\n";
    let mut desk = Desk::new(sections);
    let finding =
        Finding { rule: UDP, level: Level::Lock, over: Over::Fast, limit: 1, observed: 2, scan: None };
    let ceiling = |desk: &Desk, net: &str| {
        let net: IpNet = net.parse().unwrap();
        desk.control.ceiling(&net, &finding, Ceiling::Lock, desk.now.time()).0
    };
    assert_eq!(ceiling(&desk, "2001:db8:1:7::/64"), Ceiling::Warn);
    assert_eq!(ceiling(&desk, "2001:db8:1:8::/64"), Ceiling::Lock);
    let target: Target = "2001:db8:1:8::25".parse().unwrap();
    let until = desk.now.time().plus_ms(60_000);
    desk.ask(Request::Exempt { target, rule: UDP.to_string(), until });
    assert_eq!(ceiling(&desk, "2001:db8:1:8::/64"), Ceiling::Observe);
    assert_eq!(ceiling(&desk, "2001:db8:1:9::/64"), Ceiling::Lock);
}

#[test]
fn contacts_from_before_a_new_beginning_do_not_come_back() {
    let config = Config::replay_default();
    let env = crate::scan::Env {
        can_judge_silence: true,
        lab: false,
        is_internal: &|_| false,
        is_live_internal: &|_| false,
        locked_ns: None,
        heard_ns: None,
        missed_ns: None,
    };
    let second = 1_000_000_000;
    let begin = 1_000 * second;
    let row = |n: u32, at_ns: u64| crate::scan::Flow {
        remote: std::net::Ipv4Addr::from(0x2d40_0000 + n).into(),
        protocol: 6,
        local_port: 40_000,
        remote_port: 443,
        first_ns: at_ns,
        last_ns: at_ns,
        out_packets: 1,
        out_bytes: 60,
        in_packets: 0,
        in_bytes: 0,
        opener: Opener::Syn,
        answered: false,
        refused: crate::scan::Refused::No,
        first_frame_len: 60,
    };
    let nothing = |opened_ns: u64| {
        let mut scan = HostScan::anew(begin);
        for n in 0..1_000 {
            scan.flow(crate::scan::FlowId(n.into()), &row(n, opened_ns));
        }
        scan.judge(begin + 6 * second, &config.scan, &env).is_empty()
    };
    assert!(nothing(begin - second / 10));
    assert!(!nothing(begin));
}
