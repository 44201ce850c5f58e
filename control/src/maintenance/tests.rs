//! Maintenance unlocks and locks that lift themselves, on a clock of the test's own.

use api::{Direction, LockRow, Reason, Request, Response, State, Step, Target};
use config::{Measure, Rule, Way};
use region::HostFlags;

use crate::detect::Level;
use crate::effect::{Loaded, StoreOp};
use crate::testing::Desk;

const SYN: Rule = Rule::Limit(Measure::Syn, Way::Out);
const UDP: Rule = Rule::Limit(Measure::Udp, Way::Out);
const IN: Rule = Rule::Limit(Measure::Syn, Way::In);
const MINUTE: u64 = 60_000;

fn target(host: u8) -> Target {
    format!("192.0.2.{host}").parse().expect("a target")
}

fn let_in(desk: &mut Desk, host: u8, minutes: i64) -> Vec<LockRow> {
    let until = Some(desk.now.time().plus_ms(minutes * 60_000));
    desk.rows(Request::Unlock { target: target(host), reason: None, all: false, until })
}

fn lock(host: u8) -> Request {
    Request::Lock {
        target: target(host),
        reason: Reason::NonPayment,
        direction: Direction::In,
        note: None,
        case: None,
        until: None,
        except: Vec::new(),
        force: false,
        external_ref: None,
    }
}

fn steps(desk: &Desk, host: u8) -> Vec<Step> {
    let address = Some(target(host).to_string());
    let rows = desk.control.incidents().rows();
    rows.iter().filter(|r| r.address == address).flat_map(|r| &r.timeline).map(|e| e.step).collect()
}

#[test]
fn a_server_is_let_in_for_a_time_and_then_locked_again_by_itself() {
    let mut desk = Desk::new("");
    desk.find(7, SYN, Level::Lock);
    assert_eq!(desk.bits(7), HostFlags::LOCK_OUT);
    let rows = let_in(&mut desk, 7, 30);
    assert_eq!((rows.len(), desk.bits(7)), (1, 0), "in force with the answer");
    let s = rows[0].suspended.as_ref().expect("suspended");
    assert_eq!((s.who.as_str(), rows[0].enforced), ("root", false));
    let kept = desk
        .stored
        .iter()
        .any(|op| matches!(op, StoreOp::SuspendLock { row, .. } if row.suspended.is_some()));
    assert!(kept, "on disk before it is in force");
    desk.wait(30 * MINUTE - 1);
    assert_eq!(desk.bits(7), 0);
    desk.wait(1);
    assert_eq!(desk.bits(7), HostFlags::LOCK_OUT, "at its time, to the tick");
    let row = desk.control.locks().rows().next().expect("a row");
    assert!(row.enforced && row.suspended.is_none());
    assert!(
        desk.audit().iter().any(|a| a.contains("resume 192.0.2.7") && a.contains("is over")),
        "{:?}",
        desk.audit()
    );
    let seen = steps(&desk, 7);
    assert!(seen.ends_with(&[Step::Closed, Step::Resumed]) && seen.contains(&Step::Suspended), "{seen:?}");
}

#[test]
fn what_an_operator_locked_for_stays_enforced_unless_it_is_named() {
    let mut desk = Desk::new("");
    desk.find(7, SYN, Level::Lock);
    desk.rows(lock(7));
    let rows = let_in(&mut desk, 7, 30);
    assert_eq!(desk.bits(7), HostFlags::LOCK_IN, "the invoice is not paid by repairing the server");
    assert_eq!(rows.iter().filter(|r| r.suspended.is_some()).count(), 1);
    assert_eq!(rows.len(), 2, "the answer says what still stands");
    let until = Some(desk.now.time().plus_ms(60_000));
    desk.rows(Request::Unlock { target: target(7), reason: Some(Reason::NonPayment), all: false, until });
    assert_eq!(desk.bits(7), 0);
    desk.rows(Request::Resume { target: target(7) });
    assert_eq!(desk.bits(7), HostFlags::LOCK_OUT | HostFlags::LOCK_IN, "the end can be called");
    assert!(matches!(desk.ask(Request::Resume { target: target(7) }), Response::Error(_)), "once");
    // A lock by hand in the middle is a decision, and holds at once.
    let_in(&mut desk, 7, 30);
    let until = Some(desk.now.time().plus_ms(60_000));
    desk.rows(Request::Unlock { target: target(7), reason: None, all: true, until });
    assert_eq!(desk.bits(7), 0);
    desk.rows(lock(7));
    assert_eq!(desk.bits(7), HostFlags::LOCK_IN);
}

#[test]
fn the_same_offence_makes_no_second_lock_and_another_one_does() {
    let mut desk = Desk::new("");
    desk.find(7, SYN, Level::Lock);
    let_in(&mut desk, 7, 30);
    for _ in 0..50 {
        desk.wait(100);
        desk.find(7, SYN, Level::Lock);
    }
    assert_eq!((desk.control.locks().len(), desk.bits(7)), (1, 0));
    let row = desk.control.incidents().rows()[0];
    assert_eq!((row.last_seen, row.state), (desk.now.time(), State::Locked), "the incident goes on");
    desk.find(7, UDP, Level::Lock);
    assert_eq!((desk.control.locks().len(), desk.bits(7)), (2, HostFlags::LOCK_OUT));
}

#[test]
fn with_a_grace_an_offence_after_it_ends_the_maintenance() {
    let mut desk = Desk::new("[unlock]\nmaintenance_grace = \"5m\"\n");
    desk.find(7, SYN, Level::Lock);
    let_in(&mut desk, 7, 30);
    desk.wait(4 * MINUTE);
    desk.find(7, SYN, Level::Lock);
    assert_eq!(desk.bits(7), 0, "who repairs a server may need a while");
    desk.wait(MINUTE);
    desk.find(7, SYN, Level::Warn);
    assert_eq!(desk.bits(7), 0, "a warning is no lock");
    desk.find(7, SYN, Level::Lock);
    assert_eq!(desk.bits(7), HostFlags::LOCK_OUT);
    assert!(desk.audit().iter().any(|a| a.contains("it offends again")), "{:?}", desk.audit());
}

#[test]
fn a_maintenance_that_ended_while_cordond_was_down_is_over_at_its_start() {
    let mut desk = Desk::new("");
    desk.find(7, SYN, Level::Lock);
    desk.find(8, SYN, Level::Lock);
    let_in(&mut desk, 7, 30);
    let_in(&mut desk, 8, 90);
    let locks = desk.control.locks().rows().cloned().collect();
    let loaded = Loaded { hash_key: [1, 2], locks, last_lock: 2, ..Loaded::default() };
    let again = Desk::with("", loaded, 60 * MINUTE);
    assert_eq!((again.bits(7), again.bits(8)), (HostFlags::LOCK_OUT, 0));
}

#[test]
fn a_suspended_lock_is_lifted_like_any_other() {
    let mut desk = Desk::new("");
    desk.find(7, SYN, Level::Lock);
    let_in(&mut desk, 7, 30);
    let since = desk.now.time().plus_ms(-60_000);
    let rows = desk.rows(Request::UnlockRule { rule: "syn-out".into(), since, dry_run: false });
    assert_eq!((rows.len(), desk.control.locks().len()), (1, 0));
    desk.wait(60 * MINUTE);
    assert_eq!(desk.bits(7), 0, "what was lifted does not come back");
    let past = Some(desk.now.time());
    for until in [past, Some(desk.now.time().plus_ms(8 * 86_400_000))] {
        desk.find(7, SYN, Level::Lock);
        let r = desk.ask(Request::Unlock { target: target(7), reason: None, all: false, until });
        assert!(matches!(r, Response::Error(_)), "{r:?}");
    }
}

#[test]
fn outbound_locks_are_lifted_by_hand_unless_the_configuration_says_otherwise() {
    let mut desk = Desk::new("[rules.udp-out]\nunlock = \"30m\"\n");
    desk.find(7, SYN, Level::Lock);
    desk.find(8, UDP, Level::Lock);
    let listed = desk.rows(Request::List);
    assert_eq!(listed.iter().map(|r| r.if_quiet).collect::<Vec<_>>(), [false, true]);
    desk.wait(20 * MINUTE);
    // Dropped packets count: it is still at it.
    desk.find(8, UDP, Level::Lock);
    desk.wait(29 * MINUTE);
    assert_eq!(desk.bits(8), HostFlags::LOCK_OUT);
    desk.wait(2 * MINUTE);
    assert_eq!(
        (desk.bits(7), desk.bits(8)),
        (HostFlags::LOCK_OUT, 0),
        "a bot without its master is quiet too"
    );
    // A relapse within a day is somebody's work.
    desk.find(8, UDP, Level::Lock);
    desk.wait(5 * 60 * MINUTE);
    assert_eq!(desk.bits(8), HostFlags::LOCK_OUT);
    // One that comes later is trusted again.
    desk.rows(Request::Unlock { target: target(8), reason: None, all: true, until: None });
    desk.wait(30 * 60 * MINUTE);
    desk.find(8, UDP, Level::Lock);
    desk.wait(31 * MINUTE);
    assert_eq!(desk.bits(8), 0);
}

#[test]
fn quiet_that_nobody_saw_is_no_evidence() {
    let mut desk = Desk::new("[unlock]\noutbound = \"30m\"\n");
    desk.find(7, SYN, Level::Lock);
    desk.find(8, IN, Level::Lock);
    let locks = desk.control.locks().rows().cloned().collect();
    let incidents = desk.control.incidents().rows().into_iter().cloned().collect();
    let loaded = Loaded { hash_key: [1, 2], locks, incidents, last_lock: 2, ..Loaded::default() };
    let mut again = Desk::with("[unlock]\noutbound = \"30m\"\n", loaded, 60 * MINUTE);
    again.wait(30_000);
    assert_eq!((again.bits(7), again.bits(8)), (HostFlags::LOCK_OUT, HostFlags::LOCK_IN));
    again.wait(31_000);
    assert_eq!((again.bits(7), again.bits(8)), (HostFlags::LOCK_OUT, 0), "the attack is over");
    again.wait(30 * MINUTE);
    assert_eq!(again.bits(7), 0);
}
