//! Who is told, when, and under which id.

use api::{Direction, Event, Reason, Request};
use config::{Measure, Rule, Way};

use super::{CLOSES, SETTLE};
use crate::detect::Level;
use crate::effect::{MAIL, Message, StoreOp, Tell, WEBHOOK};
use crate::testing::Desk;

const BOTH: &str = "[mail]\nserver = \"localhost\"\nfrom = \"abuse@example.net\"\ndesk = [\"noc@example.net\"]\n\
    [[webhook]]\nname = \"billing\"\nurl = \"https://billing.example.net/\"\nsecret_file = \"/k\"\n\
    [[webhook]]\nname = \"few\"\nurl = \"https://few.example.net/\"\nsecret_file = \"/k\"\nevents = [\"unlocked\"]\n";

fn tells(desk: &Desk) -> Vec<Tell> {
    let tells = desk.stored.iter().filter_map(|op| match op {
        StoreOp::Tell(t) => Some((**t).clone()),
        _ => None,
    });
    tells.collect()
}

fn by_hand(desk: &mut Desk) {
    desk.rows(Request::Lock {
        target: "192.0.2.10".parse().expect("a target"),
        reason: Reason::NonPayment,
        direction: Direction::Both,
        note: None,
        case: Some("R-77".into()),
        until: None,
        except: Vec::new(),
        force: false,
        external_ref: None,
    });
}

#[test]
fn a_lock_by_hand_is_told_at_once_to_everybody_who_wants_it_and_to_nobody_else() {
    let mut desk = Desk::new(BOTH);
    by_hand(&mut desk);
    let told = tells(&desk);
    let ids: Vec<&str> = told.iter().map(|t| t.id.as_str()).collect();
    assert_eq!(ids, ["L-1.locked-by-hand.w-billing", "L-1.locked-by-hand.desk"]);
    assert!(told.iter().all(|t| t.due == t.created && t.thread == "L-1"), "{told:?}");
    let Message::Webhook { notice, .. } = &told[0].message else { panic!("{told:?}") };
    let row = notice.data.lock.as_deref().expect("the lock");
    assert_eq!((row.reason, row.case.as_deref()), (Reason::NonPayment, Some("R-77")));
    assert_eq!(
        (notice.event, notice.data.targets.as_slice()),
        (Event::LockedByHand, &["192.0.2.10".into()][..])
    );
}

#[test]
fn a_program_hears_of_a_lock_at_once_and_people_when_the_logs_hold_something() {
    let mut desk = Desk::new(BOTH);
    desk.find(10, Rule::Limit(Measure::Udp, Way::Out), Level::Lock);
    let told = tells(&desk);
    let of = |kind: &str, event: Event| {
        let found = told.iter().find(|t| t.message.kind() == kind && t.message.event() == event);
        let t = found.unwrap_or_else(|| panic!("{kind} {event}: {told:?}"));
        t.due.unix_ms() - t.created.unix_ms()
    };
    let ms = |d: std::time::Duration| i64::try_from(d.as_millis()).expect("a short time");
    assert_eq!(of(WEBHOOK, Event::Locked), 0);
    assert_eq!(of(MAIL, Event::Locked), 10_000 + ms(SETTLE));
    assert_eq!(of(WEBHOOK, Event::Evidence), ms(CLOSES + SETTLE));
    assert_eq!(of(MAIL, Event::Evidence), ms(CLOSES + SETTLE));
}

#[test]
fn nobody_is_told_unless_the_operator_says_so_and_programs_need_no_mail() {
    let mut desk = Desk::new("");
    by_hand(&mut desk);
    assert_eq!(tells(&desk), []);
    let (_, hooks) = BOTH.split_once("[[webhook]]").expect("a webhook");
    let mut desk = Desk::new(&format!("[[webhook]]{hooks}"));
    by_hand(&mut desk);
    assert_eq!(tells(&desk).len(), 1);
}
