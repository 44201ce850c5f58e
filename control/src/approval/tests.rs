//! What waits for a latched rule, and what comes of it.

use api::{Action, Request, Response, Step};
use config::{Measure, Rule, Way};
use region::HostFlags;

use crate::detect::Level;
use crate::effect::StoreOp;
use crate::testing::Desk;

const SYN: Rule = Rule::Limit(Measure::Syn, Way::Out);

fn approve(targets: &[&str]) -> Request {
    let targets = targets.iter().map(|t| t.parse().expect("a target")).collect();
    Request::BreakerApprove { rule: "syn-out".into(), targets }
}

#[test]
fn what_waits_is_locked_with_an_operators_approval_and_the_rule_stays_latched() {
    let mut desk = Desk::new("[breaker]\nlocks_min = 2\n");
    assert!(matches!(desk.ask(approve(&[])), Response::Error(_)), "nothing is latched");
    for host in 1..=6 {
        desk.find(host, SYN, Level::Lock);
    }
    assert_eq!(desk.control.locks().len(), 2);
    let row = desk.control.incidents().rows()[4].clone();
    assert_eq!(
        (row.action, row.would),
        (Action::Observe, Some(Action::Lock)),
        "a dry run says what it would do"
    );
    assert_eq!(row.timeline.last().map(|e| e.step), Some(Step::WouldLock));

    assert!(matches!(desk.ask(approve(&["192.0.2.200"])), Response::Error(_)), "it does not wait");
    let rows = desk.rows(approve(&["192.0.2.4"]));
    assert_eq!((rows.len(), rows[0].who.as_str(), rows[0].rule.as_deref()), (1, "root", Some("syn-out")));
    assert!(rows[0].incident.is_some() && rows[0].enforced);
    assert_eq!((desk.bits(4), desk.bits(5)), (HostFlags::LOCK_OUT, 0));
    let waiting = desk.control.breakers().row(SYN).expect("latched").waiting.clone();
    assert_eq!(waiting, ["192.0.2.3", "192.0.2.5", "192.0.2.6"]);
    desk.find(4, SYN, Level::Lock);
    let written = |op: &StoreOp| matches!(op, StoreOp::WriteEvidence { incident, .. } if Some(incident) == rows[0].incident.as_ref());
    let case = desk.control.cases.keys().any(|(a, _)| a == "192.0.2.4");
    assert!(case || desk.stored.iter().any(written), "its evidence begins");

    assert_eq!(desk.rows(approve(&[])).len(), 3);
    assert_eq!((1..=6).filter(|h| desk.bits(*h) != 0).count(), 6);
    desk.find(7, SYN, Level::Lock);
    assert_eq!(desk.bits(7), 0, "it is latched all the same");
    let audited = desk.audit().iter().filter(|a| a.contains("breaker approve syn-out")).count();
    assert_eq!(audited, 2);
}

#[test]
fn a_server_that_is_protected_by_now_is_not_locked_with_the_others() {
    let mut desk = Desk::new("[breaker]\nlocks_min = 1\n");
    for host in [1, 3, 4] {
        desk.find(host, SYN, Level::Lock);
    }
    desk.control.config.never_lock = vec!["192.0.2.3/32".parse().expect("a prefix")];
    assert!(matches!(desk.ask(approve(&["192.0.2.3"])), Response::Error(_)));
    assert_eq!(desk.rows(approve(&[])).len(), 1);
    assert_eq!((desk.bits(3), desk.bits(4)), (0, HostFlags::LOCK_OUT));
}
