//! The outbox in the store: written with its cause, handed out in order and at a pace, recorded.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::time::Duration;

use api::{ErrorCode, Event, OutboxRow, OutboxState, Payload, Response, Time};
use cordond::effect::{BatchId, ClientId, MAIL, Message, OutboxAsk, StoreOp, Tell};
use cordond::store::{Claim, FILE, Outcome, Pace, Parcel, Places, Store};
use letters::{Letter, Party};

const SOON: Duration = Duration::from_secs(20);
const PACE: Option<Pace> = Some(Pace { per_minute: 3, per_hour: 5 });

fn ms(n: i64) -> Time {
    Time::from_unix_ms(1_790_000_000_000 + n)
}

fn letter(event: Event, customer: Option<&str>) -> Letter {
    let party = Party {
        customer: customer.map(str::to_owned),
        name: None,
        to: vec!["someone@example.net".into()],
        language: "en".into(),
    };
    Letter::new(event, party, ms(0), vec!["192.0.2.10".into()], "cordon")
}

fn tell(id: &str, thread: &str, event: Event, customer: Option<&str>, due: Time) -> StoreOp {
    let message = Message::Mail(Box::new(letter(event, customer)));
    StoreOp::Tell(Box::new(Tell { id: id.into(), thread: thread.into(), created: ms(0), due, message }))
}

/// A store, and a clock for the office's side.
struct Rig {
    store: Store,
    runtime: tokio::runtime::Runtime,
}

impl Rig {
    fn new(dir: &Path) -> Rig {
        let store = Store::open(Places { state: dir, scratch: dir, in_force: None }, || ()).unwrap().store;
        Rig { store, runtime: tokio::runtime::Builder::new_current_thread().build().unwrap() }
    }

    fn put(&self, ops: Vec<StoreOp>) {
        self.store.submit(BatchId(1), ops, false);
        assert_eq!(self.store.wait(SOON).unwrap().result, Ok(()));
    }

    fn claim(&self, now: Time, pace: Option<Pace>) -> Claim {
        self.runtime.block_on(self.store.post().claim(MAIL, None, now, pace, 100)).unwrap()
    }

    fn ids(&self, now: Time, pace: Option<Pace>) -> Vec<String> {
        self.claim(now, pace).parcels.into_iter().map(|p| p.id).collect()
    }

    fn record(&self, id: &str, outcome: Outcome, at: Time) {
        self.runtime.block_on(self.store.post().record(id.into(), outcome, at)).unwrap();
    }

    fn delivered(&self, id: &str, at: Time) {
        self.record(id, Outcome::Delivered { note: None }, at);
    }

    fn ask(&self, ask: OutboxAsk) -> Response {
        self.store.ask(ClientId(1), ask);
        let deadline = std::time::Instant::now() + SOON;
        loop {
            // The store answers in order: a result after the question means that the question was answered.
            self.put(Vec::new());
            if let Some((_, response)) = self.store.answers().next() {
                return response;
            }
            assert!(std::time::Instant::now() < deadline);
        }
    }

    fn rows(&self) -> Vec<OutboxRow> {
        match self.ask(OutboxAsk::List { all: true, limit: 1_000 }) {
            Response::Ok(Payload::Outbox(rows)) => rows,
            other => panic!("{other:?}"),
        }
    }

    fn row(&self, id: &str) -> OutboxRow {
        self.rows().into_iter().find(|r| r.id == id).unwrap_or_else(|| panic!("no {id}"))
    }
}

#[test]
fn a_row_is_told_once_kept_over_restarts_and_handed_out_until_it_is_recorded() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::new(dir.path());
    rig.put(vec![
        tell("a.locked.desk", "a", Event::Locked, None, ms(10)),
        tell("a.locked.desk", "a", Event::Locked, None, ms(99)),
    ]);
    let early = rig.claim(ms(9), PACE);
    assert_eq!((early.parcels.len(), early.next), (0, Some(ms(10))), "not before it is due");
    rig.store.stop(SOON);
    // As after kill -9 between the claim and its record.
    let rig = Rig::new(dir.path());
    let first = rig.claim(ms(10), PACE);
    assert_eq!(first, rig.claim(ms(10), PACE), "nothing is lost by asking");
    let Parcel { id, event, audience, body, .. } = &first.parcels[0];
    assert_eq!((id.as_str(), *event, audience.as_str()), ("a.locked.desk", Event::Locked, "desk"));
    assert_eq!(serde_json::from_str::<Letter>(body).unwrap(), letter(Event::Locked, None));
    assert_eq!(first.origin.len(), 16);
    rig.delivered("a.locked.desk", ms(11));
    rig.store.stop(SOON);
    let rig = Rig::new(dir.path());
    assert_eq!(rig.claim(ms(1_000_000), PACE).parcels, []);
    assert_eq!(rig.row("a.locked.desk").state, OutboxState::Delivered);
}

#[test]
fn a_row_is_there_only_if_its_cause_is() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::new(dir.path());
    let bad = StoreOp::WriteEvidence { incident: "../x".into(), name: "x".into(), bytes: Vec::new() };
    rig.store.submit(BatchId(1), vec![tell("a.locked.desk", "a", Event::Locked, None, ms(0)), bad], false);
    assert!(rig.store.wait(SOON).unwrap().result.is_err());
    assert_eq!(rig.rows(), []);
}

#[test]
fn a_thread_keeps_its_order_and_knows_its_first_message() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::new(dir.path());
    rig.put(vec![
        tell("a.locked.desk", "a", Event::Locked, None, ms(0)),
        tell("a.unlocked.desk", "a", Event::Unlocked, None, ms(0)),
        tell("b.locked.desk", "b", Event::Locked, None, ms(0)),
        tell("a.unlocked.k1", "a", Event::Unlocked, Some("k1"), ms(0)),
    ]);
    assert_eq!(rig.ids(ms(1), None), ["a.locked.desk", "b.locked.desk", "a.unlocked.k1"]);
    // Greylisted: what belongs behind it waits too, others do not.
    let deferred =
        Outcome::Deferred { until: ms(500), accepted: vec!["x@y".into()], error: "450 later".into() };
    rig.record("a.locked.desk", deferred, ms(2));
    assert_eq!(rig.ids(ms(3), None), ["b.locked.desk", "a.unlocked.k1"]);
    let again = rig.claim(ms(500), None);
    assert_eq!(again.parcels[0].id, "a.locked.desk");
    assert_eq!(
        (again.parcels[0].attempts, again.parcels[0].accepted.as_slice()),
        (1, &["x@y".to_owned()][..])
    );
    rig.delivered("a.locked.desk", ms(501));
    let last = rig.claim(ms(502), None);
    let unlocked = last.parcels.iter().find(|p| p.id == "a.unlocked.desk").unwrap();
    assert_eq!(unlocked.first.as_deref(), Some("a.locked.desk"));
    assert_eq!(last.parcels.iter().find(|p| p.id == "a.unlocked.k1").unwrap().first, None);
    // A first message that nobody takes holds back nothing, and nobody has it to refer to.
    rig.put(vec![
        tell("c.locked.desk", "c", Event::Locked, None, ms(0)),
        tell("c.unlocked.desk", "c", Event::Unlocked, None, ms(0)),
    ]);
    rig.record("c.locked.desk", Outcome::Failed { error: "550 no".into() }, ms(503));
    let c = rig.claim(ms(504), None).parcels.into_iter().find(|p| p.id == "c.unlocked.desk").unwrap();
    assert_eq!(c.first, None);
}

#[test]
fn many_at_once_become_one_digest_and_the_next_waits_a_minute() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::new(dir.path());
    let many = |from: usize, to: usize| {
        (from..to)
            .map(|i| tell(&format!("i{i}.locked.desk"), &format!("i{i}"), Event::Locked, None, ms(0)))
            .collect::<Vec<_>>()
    };
    rig.put(many(0, 3));
    assert_eq!(rig.claim(ms(0), PACE).parcels.len(), 3, "three a minute are no storm");
    rig.delivered("i0.locked.desk", ms(1));
    rig.put(many(3, 400));
    let claim = rig.claim(ms(2), PACE);
    let [digest] = claim.parcels.as_slice() else { panic!("{:?}", claim.parcels) };
    assert_eq!((digest.event, digest.parts.len()), (Event::Digest, 399));
    assert_eq!(
        (digest.parts[0].id.as_str(), digest.parts[398].id.as_str()),
        ("i1.locked.desk", "i399.locked.desk")
    );
    assert_eq!(rig.claim(ms(2), PACE).parcels, claim.parcels, "the same digest until it is recorded");
    rig.put(many(400, 500));
    rig.delivered(&digest.id, ms(3));
    let held = rig.claim(ms(4), PACE);
    assert_eq!((held.parcels.len(), held.next), (0, Some(ms(60_003))), "a digest uses up its minute");
    let second = rig.claim(ms(60_003), PACE);
    assert_eq!((second.parcels.len(), second.parcels[0].parts.len()), (1, 100));
    // What comes later in a thread refers to the digest that began it.
    rig.put(vec![tell("i7.unlocked.desk", "i7", Event::Unlocked, None, ms(0))]);
    rig.delivered(&second.parcels[0].id, ms(60_004));
    let later = rig.claim(ms(120_005), PACE);
    assert_eq!(later.parcels[0].first.as_ref(), Some(&digest.id));
    assert_eq!(rig.row("i7.locked.desk").digest.as_ref(), Some(&digest.id));
}

#[test]
fn a_digest_that_waits_holds_back_what_belongs_behind_its_parts() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::new(dir.path());
    rig.put((0..9).map(|i| tell(&format!("i{i}"), &format!("t{i}"), Event::Locked, None, ms(0))).collect());
    let digest = rig.claim(ms(0), PACE).parcels.remove(0);
    let deferred = Outcome::Deferred { until: ms(900), accepted: Vec::new(), error: "450".into() };
    rig.record(&digest.id, deferred, ms(1));
    rig.put(vec![
        tell("u3", "t3", Event::Unlocked, None, ms(0)),
        tell("n1", "new", Event::Locked, None, ms(0)),
    ]);
    assert_eq!(rig.ids(ms(2), PACE), ["n1"]);
    assert_eq!(rig.ids(ms(900), PACE)[0], digest.id);
}

#[test]
fn a_customer_gets_at_most_so_many_in_an_hour_and_the_rest_in_one() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::new(dir.path());
    let mut now = 0;
    for i in 0..5 {
        now = i * 61_000;
        rig.put(vec![tell(&format!("i{i}"), &format!("t{i}"), Event::Warned, Some("k1"), ms(now))]);
        assert_eq!(rig.ids(ms(now), PACE), [format!("i{i}")]);
        rig.delivered(&format!("i{i}"), ms(now));
    }
    rig.put(
        (5..8)
            .map(|i| tell(&format!("i{i}"), &format!("t{i}"), Event::Warned, Some("k1"), ms(now)))
            .collect(),
    );
    rig.put(vec![tell("other", "t", Event::Warned, Some("k2"), ms(now))]);
    let held = rig.claim(ms(now + 61_000), PACE);
    assert_eq!(
        held.parcels.iter().map(|p| p.id.as_str()).collect::<Vec<_>>(),
        ["other"],
        "nobody else suffers"
    );
    assert_eq!(held.next, Some(ms(3_600_000)));
    let after = rig.claim(ms(3_600_001), PACE);
    let mine: Vec<_> = after.parcels.iter().filter(|p| p.audience == "customer:k1").collect();
    assert_eq!((mine.len(), mine[0].parts.len()), (1, 3));
}

#[test]
fn an_operator_sees_retries_and_withdraws() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::new(dir.path());
    rig.put(vec![
        tell("a", "a", Event::Locked, None, ms(0)),
        tell("b", "b", Event::Locked, None, ms(0)),
        tell("c", "c", Event::Locked, None, ms(5_000_000)),
        tell("d", "d", Event::Locked, None, ms(0)),
    ]);
    rig.record("a", Outcome::Failed { error: "550 no such user".into() }, ms(1));
    rig.delivered("b", ms(1));
    let who = || "anna".to_owned();
    let failure = |r: Response| match r {
        Response::Error(f) => f.code,
        Response::Ok(p) => panic!("{p:?}"),
    };
    assert_eq!(rig.row("a").error.as_deref(), Some("550 no such user"));
    assert!(matches!(rig.ask(OutboxAsk::Retry { id: "a".into(), who: who(), at: ms(2) }), Response::Ok(_)));
    assert!(matches!(rig.ask(OutboxAsk::Retry { id: "c".into(), who: who(), at: ms(2) }), Response::Ok(_)));
    assert!(matches!(rig.ask(OutboxAsk::Drop { id: "d".into(), who: who(), at: ms(2) }), Response::Ok(_)));
    assert_eq!(rig.ids(ms(2), None), ["a", "c"]);
    let again = rig.ask(OutboxAsk::Retry { id: "b".into(), who: who(), at: ms(2) });
    assert_eq!(failure(again), ErrorCode::Refused, "it has left");
    assert_eq!(
        failure(rig.ask(OutboxAsk::Drop { id: "d".into(), who: who(), at: ms(3) })),
        ErrorCode::Refused
    );
    assert_eq!(
        failure(rig.ask(OutboxAsk::Drop { id: "x".into(), who: who(), at: ms(3) })),
        ErrorCode::NotFound
    );
    let Response::Ok(Payload::Outbox(rows)) = rig.ask(OutboxAsk::List { all: false, limit: 10 }) else {
        panic!("no rows")
    };
    assert_eq!(rows.iter().map(|r| r.id.as_str()).collect::<Vec<_>>(), ["a", "c"]);
    assert_eq!(rig.store.post().bell().fill().failed, 0);
    rig.store.stop(SOON);
    let db = rusqlite::Connection::open(dir.path().join(FILE)).unwrap();
    let audit: Vec<String> = db
        .prepare("SELECT who || ' ' || what FROM audit ORDER BY seq")
        .unwrap()
        .query_map([], |r| r.get(0))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    assert_eq!(audit, ["anna outbox retry a", "anna outbox retry c", "anna outbox drop d"]);
}

#[test]
fn what_is_withdrawn_or_old_is_not_sent() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::new(dir.path());
    rig.put(vec![
        tell("a.locked", "a", Event::Locked, None, ms(0)),
        tell("a.evidence", "a", Event::Evidence, None, ms(0)),
        StoreOp::Withdraw { thread: "a".into(), event: Event::Evidence, at: ms(1), why: "a misfire".into() },
    ]);
    assert_eq!(rig.ids(ms(1), None), ["a.locked"]);
    assert_eq!(rig.row("a.evidence").error.as_deref(), Some("a misfire"));
    rig.put(vec![StoreOp::Retain { since: ms(100), evidence_max: 0 }]);
    assert_eq!(rig.rows().iter().map(|r| r.id.clone()).collect::<Vec<_>>(), ["a.locked"], "what waits stays");
}

#[test]
fn ten_thousand_rows_are_one_digest_and_ten_thousand_customers_are_handed_out_in_turn() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::new(dir.path());
    let both = (0..10_000).flat_map(|i| {
        let customer = format!("k{i}");
        [
            tell(&format!("i{i}.desk"), &format!("i{i}"), Event::Locked, None, ms(0)),
            tell(&format!("i{i}.{customer}"), &format!("i{i}"), Event::Locked, Some(&customer), ms(0)),
        ]
    });
    rig.put(both.collect());
    let (mut digests, mut singles, mut now) = (0, 0, 0);
    loop {
        let claim = rig.claim(ms(now), PACE);
        if claim.parcels.is_empty() {
            break;
        }
        assert!(claim.parcels.len() <= 100);
        for p in claim.parcels {
            now += 1;
            digests += usize::from(p.event == Event::Digest && p.parts.len() == 10_000);
            singles += usize::from(p.event == Event::Locked);
            rig.delivered(&p.id, ms(now));
        }
        if singles >= 300 {
            break;
        }
    }
    assert_eq!((digests, singles), (1, 399), "the desk first, then a hundred at a time");
    rig.claim(ms(now), PACE);
    let fill = rig.store.post().bell().fill();
    assert_eq!((fill.waiting, fill.oldest), (9_601, Some(ms(0))));
}
