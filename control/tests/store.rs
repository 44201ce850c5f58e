//! The store by itself: what is kept, what is refused, what happens to a damaged file.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::time::Duration;

use api::{
    Action, ActionTaken, BreakerRow, Direction, IncidentRow, Kind, LockRow, Reason, Step, Suspension, Time,
    TimelineEntry,
};
use cordond::effect::{BatchId, Loaded, StoreOp};
use cordond::store::{FILE, Opened, Places, Store, StoreError};
use region::locks::{LockedRange, Range};
use region::segment::SegmentRules;
use region::{Addr, Capacities, HostFlags, Policy};
use rusqlite::Connection;

const SOON: Duration = Duration::from_secs(20);

fn open_with(dir: &Path, in_force: Option<&Policy>) -> Opened {
    Store::open(Places { state: dir, scratch: dir, in_force }, || ()).unwrap()
}

fn open(dir: &Path) -> Opened {
    open_with(dir, None)
}

fn reopened(dir: &Path) -> Loaded {
    let opened = open(dir);
    assert_eq!((&opened.notice, &opened.loaded.damage), (&None, &None));
    assert_eq!(opened.store.stop(SOON), 0);
    opened.loaded
}

fn store(s: &Store, id: u64, ops: Vec<StoreOp>) -> Result<(), String> {
    s.submit(BatchId(id), ops, false);
    let stored = s.wait(SOON).unwrap();
    assert_eq!(stored.batch, BatchId(id));
    stored.result
}

fn ms(n: i64) -> Time {
    Time::from_unix_ms(1_790_000_000_000 + n)
}

fn lock_row(id: u64, target: &str) -> LockRow {
    LockRow {
        case: Some("4711".into()),
        note: Some("a note with 'quotes' and ü".into()),
        rule: Some("syn-out".into()),
        incident: Some("C-2026-000007".into()),
        until: Some(ms(2)),
        except: vec!["2001:db8::/32".parse().unwrap(), "203.0.113.0/24".parse().unwrap()],
        generation: 9,
        ..LockRow::new(id, target.parse().unwrap(), Direction::Out, Reason::NonPayment, "root", ms(1))
    }
}

/// A row whose server is let in for maintenance.
fn suspended(id: u64) -> LockRow {
    let s = Suspension { since: ms(11), until: ms(12), who: "anna".into() };
    LockRow { suspended: Some(s), ..lock_row(id, "2001:db8:7::/48") }
}

fn incident(number: u64, opened: Time, closed: Option<Time>) -> IncidentRow {
    IncidentRow {
        id: format!("C-2026-{number:06}"),
        kind: Kind::AttackOut,
        address: Some("192.0.2.10".into()),
        mac: None,
        direction: Direction::Out,
        action: Action::Lock,
        actions: vec![
            ActionTaken { action: Action::Warn, at: ms(3) },
            ActionTaken { action: Action::Lock, at: ms(4) },
        ],
        rule: "syn-out/default".into(),
        opened,
        first_seen: ms(1),
        last_seen: ms(5),
        protocol: Some("tcp".into()),
        case: Some("worm-port".into()),
        ports: vec![23, 2323],
        attack: None,
        contacts: 130,
        answered: 2,
        measure: "syn".into(),
        window: "fast".into(),
        limit: 5_000,
        peak: 40_000,
        packets: 1 << 40,
        bytes: 1 << 50,
        seconds: 3,
        dropped: 17,
        held_back: None,
        would: None,
        state: api::State::Locked,
        timeline: vec![
            TimelineEntry { at: ms(1), step: Step::Opened, detail: None },
            TimelineEntry { at: ms(11), step: Step::Suspended, detail: Some("by anna".into()) },
        ],
        closed,
        files: vec!["summary.log".into()],
        files_removed: None,
        server: None,
        customer: None,
    }
}

fn nets(list: &[&str]) -> Vec<ipnet::IpNet> {
    list.iter().map(|n| n.parse().unwrap()).collect()
}

fn on_server() -> LockRow {
    LockRow { addresses: nets(&["192.0.2.2/32", "2001:db8::/64"]), ..lock_row(7, "server:78") }
}

#[test]
fn the_last_good_inventory_is_kept_in_the_form_in_which_it_came() {
    let dir = tempfile::tempdir().unwrap();
    let site = config::Site { groups: None, networks: &[], ipv6_host_length: 64 };
    let keep = |i| StoreOp::KeepInventory(std::sync::Arc::new(i));
    let opened = open(dir.path());
    assert_eq!(cordond::store::last_good(dir.path()), None);
    let csv = "id,addresses\n1,192.0.2.1\n";
    let toml = "[[server]]\nid = \"2\"\naddresses = [\"192.0.2.2\"]\n";
    let of_csv = config::Inventory::parse_csv(csv, "i.csv", site).unwrap();
    assert_eq!(store(&opened.store, 1, vec![keep(of_csv)]), Ok(()));
    let kept = cordond::store::last_good(dir.path()).unwrap();
    assert_eq!(
        (kept.extension().unwrap(), std::fs::read_to_string(&kept).unwrap()),
        ("csv".as_ref(), csv.into())
    );
    let of_toml = config::Inventory::parse_toml(toml, "i.toml", site).unwrap();
    assert_eq!(store(&opened.store, 2, vec![keep(of_toml)]), Ok(()));
    let kept = cordond::store::last_good(dir.path()).unwrap();
    assert_eq!(
        (kept.extension().unwrap(), std::fs::read_to_string(&kept).unwrap()),
        ("toml".as_ref(), toml.into())
    );
}

#[test]
fn what_was_stored_is_loaded_again() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(dir.path());
    let breaker =
        BreakerRow { rule: "udp-out".into(), since: ms(5), locks: 20, waiting: vec!["192.0.2.9".into()] };
    let ops = vec![
        StoreOp::PutLock(Box::new(lock_row(4, "192.0.2.10"))),
        StoreOp::PutLock(Box::new(lock_row(5, "2001:db8:7::/48"))),
        StoreOp::PutLock(Box::new(lock_row(6, "server:77"))),
        StoreOp::PutLock(Box::new(LockRow {
            addresses: nets(&["192.0.2.1/32"]),
            ..lock_row(7, "server:78")
        })),
        // What it covers has changed.
        StoreOp::PutLock(Box::new(on_server())),
        StoreOp::PutIncident(Box::new(incident(7, ms(0), None))),
        StoreOp::PutExemption {
            target: "192.0.2.0/28".parse().unwrap(),
            rule: "syn-out".into(),
            until: ms(9),
        },
        StoreOp::SetRuleMode { rule: "icmp-in".into(), observe: true },
        StoreOp::SetRuleMode { rule: "icmp-out".into(), observe: true },
        StoreOp::SetRuleMode { rule: "icmp-out".into(), observe: false },
        StoreOp::SetBreaker { rule: "udp-out".into(), latched: Some(breaker.clone()) },
        StoreOp::SetBreaker { rule: "udp-in".into(), latched: Some(breaker.clone()) },
        StoreOp::SetBreaker { rule: "udp-in".into(), latched: None },
        StoreOp::SetBypass(true),
        StoreOp::WriteEvidence {
            incident: "C-2026-000007".into(),
            name: "summary.log".into(),
            bytes: "Sum\n".into(),
        },
        StoreOp::RemoveLock { id: 6, who: "root".into(), at: ms(10) },
        // Of a row that is gone by then nothing comes back.
        StoreOp::SuspendLock { row: Box::new(suspended(6)), who: "anna".into(), at: ms(11) },
        StoreOp::SuspendLock { row: Box::new(suspended(5)), who: "anna".into(), at: ms(11) },
    ];
    assert_eq!(store(&first.store, 1, ops), Ok(()));
    assert_eq!(first.store.stop(SOON), 0);
    let l = reopened(dir.path());
    assert_eq!(l.locks, [lock_row(4, "192.0.2.10"), suspended(5), on_server()]);
    assert_eq!((l.last_lock, l.last_incident, l.bypass), (7, 7, true));
    assert_eq!(l.incidents, [incident(7, ms(0), None)]);
    assert_eq!(l.exemptions, [("192.0.2.0/28".parse().unwrap(), "syn-out".to_owned(), ms(9))]);
    assert_eq!((l.observing, l.breakers), (vec!["icmp-in".to_owned()], vec![breaker]));
    assert_eq!(l.hash_key, first.loaded.hash_key);
    assert_ne!(l.hash_key, [0, 0]);
    let evidence = dir.path().join("evidence/C-2026-000007/summary.log");
    assert_eq!(std::fs::read_to_string(evidence).unwrap(), "Sum\n");
}

#[test]
fn a_batch_is_stored_whole_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let opened = open(dir.path());
    let bad = StoreOp::WriteEvidence { incident: "../../etc".into(), name: "x".into(), bytes: Vec::new() };
    let e =
        store(&opened.store, 1, vec![StoreOp::PutLock(Box::new(lock_row(1, "192.0.2.1"))), bad]).unwrap_err();
    assert!(e.contains("no name for a file"), "{e}");
    assert_eq!(store(&opened.store, 2, vec![StoreOp::PutLock(Box::new(lock_row(2, "192.0.2.2")))]), Ok(()));
    opened.store.stop(SOON);
    let ids: Vec<u64> = reopened(dir.path()).locks.iter().map(|r| r.id).collect();
    assert_eq!(ids, [2]);
}

#[test]
fn history_and_audit_cannot_be_rewritten() {
    let dir = tempfile::tempdir().unwrap();
    let opened = open(dir.path());
    let audit = StoreOp::Audit { at: ms(1), who: "root".into(), what: "lock 192.0.2.1".into() };
    let changed = LockRow { until: None, ..lock_row(1, "192.0.2.1") };
    let ops = vec![
        StoreOp::PutLock(Box::new(lock_row(1, "192.0.2.1"))),
        StoreOp::PutLock(Box::new(changed)),
        StoreOp::RemoveLock { id: 1, who: "anna".into(), at: ms(2) },
        StoreOp::RemoveLock { id: 1, who: "anna".into(), at: ms(3) },
        audit,
    ];
    assert_eq!(store(&opened.store, 1, ops), Ok(()));
    opened.store.stop(SOON);
    let db = Connection::open(dir.path().join(FILE)).unwrap();
    let events: Vec<(String, String)> = db
        .prepare("SELECT event, who FROM lock_history ORDER BY seq")
        .unwrap()
        .query_map([], |r| Ok((r.get(0)?, r.get(1)?)))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    assert_eq!(events, [pair("locked", "root"), pair("changed", "root"), pair("unlocked", "anna")]);
    for sql in [
        "UPDATE audit SET who = 'nobody'",
        "DELETE FROM audit",
        "UPDATE lock_history SET at = 0",
        "DELETE FROM lock_history",
    ] {
        let e = db.execute(sql, []).unwrap_err().to_string();
        assert!(e.contains("append only"), "{sql}: {e}");
    }
}

#[test]
fn retention_forgets_old_closed_incidents_but_gives_no_number_twice() {
    let dir = tempfile::tempdir().unwrap();
    let opened = open(dir.path());
    let put = |n, opened, closed| StoreOp::PutIncident(Box::new(incident(n, opened, closed)));
    let evidence = |n: u64| StoreOp::WriteEvidence {
        incident: format!("C-2026-{n:06}"),
        name: "summary.log".into(),
        bytes: "x".into(),
    };
    let ops = vec![
        put(7, ms(0), Some(ms(1))),
        put(8, ms(0), None),
        put(9, ms(100), Some(ms(101))),
        put(10, ms(0), Some(ms(1))),
        evidence(10),
        evidence(8),
        // Lock 1 names incident 7.
        StoreOp::PutLock(Box::new(lock_row(1, "192.0.2.1"))),
    ];
    assert_eq!(store(&opened.store, 1, ops), Ok(()));
    assert_eq!(store(&opened.store, 2, vec![StoreOp::Retain { since: ms(50), evidence_max: 0 }]), Ok(()));
    opened.store.stop(SOON);
    let l = reopened(dir.path());
    let mut left: Vec<&str> = l.incidents.iter().map(|i| i.id.as_str()).collect();
    left.sort_unstable();
    assert_eq!(
        left,
        ["C-2026-000007", "C-2026-000008", "C-2026-000009"],
        "old, closed and not in use: only number 10"
    );
    assert_eq!(l.last_incident, 10);
    assert!(!dir.path().join("evidence/C-2026-000010").exists());
    assert!(dir.path().join("evidence/C-2026-000008/summary.log").exists());
}

#[test]
fn evidence_is_bounded_and_that_of_open_incidents_and_standing_locks_stays() {
    let dir = tempfile::tempdir().unwrap();
    let opened = open(dir.path());
    let s = &opened.store;
    let bound = |evidence_max| StoreOp::Retain { since: ms(-1), evidence_max };
    let write = |n: u64, bytes: usize| StoreOp::WriteEvidence {
        incident: format!("C-2026-{n:06}"),
        name: "dump.log".into(),
        bytes: vec![b'x'; bytes],
    };
    let put = |n, closed| StoreOp::PutIncident(Box::new(incident(n, ms(0), closed)));
    // 7 is named by a standing lock, 8 is open; 9 to 12 are closed, 10 first.
    let ops = vec![put(7, Some(ms(1))), put(8, None), put(9, Some(ms(20))), put(10, Some(ms(10)))];
    assert_eq!(store(s, 1, ops), Ok(()));
    let ops = vec![
        put(11, Some(ms(30))),
        put(12, Some(ms(40))),
        StoreOp::PutLock(Box::new(lock_row(1, "192.0.2.1"))),
    ];
    assert_eq!(store(s, 2, ops), Ok(()));
    assert_eq!(store(s, 3, (7..=12).map(|n| write(n, 1_000)).collect()), Ok(()));
    let there = |dir: &Path| -> Vec<u64> {
        (7..=12).filter(|n| dir.join(format!("evidence/C-2026-{n:06}/dump.log")).exists()).collect()
    };
    assert_eq!(there(dir.path()).len(), 6, "without a bound");
    s.submit(BatchId(4), vec![bound(4_500)], false);
    let gone = s.wait(SOON).unwrap().gone;
    assert_eq!(there(dir.path()), [7, 8, 11, 12], "the oldest closed ones go");
    let names: Vec<&str> = gone.iter().map(|g| g.incident.as_str()).collect();
    assert_eq!(names, ["C-2026-000010", "C-2026-000009"]);
    assert!(gone.iter().all(|g| !g.forgotten));
    // From now on every file is weighed; one that is written again counts once.
    assert_eq!(store(s, 5, vec![write(8, 1_100)]), Ok(()));
    assert_eq!(there(dir.path()), [7, 8, 11, 12]);
    assert_eq!(store(s, 6, vec![write(8, 1_600)]), Ok(()));
    assert_eq!(there(dir.path()), [7, 8, 12]);
    assert_eq!(store(s, 7, vec![write(8, 100_000)]), Ok(()));
    assert_eq!(there(dir.path()), [7, 8], "what must stay does, bound or not");
    assert_eq!(opened.store.stop(SOON), 0);
    let l = reopened(dir.path());
    let removed = |n: u64| {
        let id = format!("C-2026-{n:06}");
        l.incidents.iter().find(|i| i.id == id).unwrap().files_removed.is_some()
    };
    assert_eq!((7..=12).filter(|n| removed(*n)).collect::<Vec<_>>(), [9, 10, 11, 12], "their rows say so");
    let db = Connection::open(dir.path().join(FILE)).unwrap();
    let said: i64 =
        db.query_row("SELECT count(*) FROM audit WHERE what LIKE '%make room%'", [], |r| r.get(0)).unwrap();
    assert_eq!(said, 3);
}

#[test]
fn a_damaged_file_is_set_aside_and_what_policy_enforces_is_taken_over() {
    let dir = tempfile::tempdir().unwrap();
    let opened = open(dir.path());
    let key = opened.loaded.hash_key;
    let evidence =
        StoreOp::WriteEvidence { incident: "C-2026-000041".into(), name: "a.log".into(), bytes: "x".into() };
    let rows =
        (1..500).map(|i| StoreOp::PutLock(Box::new(lock_row(i, "192.0.2.7")))).chain([evidence]).collect();
    assert_eq!(store(&opened.store, 1, rows), Ok(()));
    opened.store.stop(SOON);

    // Pages in the middle are overwritten.
    let file = dir.path().join(FILE);
    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[4096..middle].fill(0x5a);
    std::fs::write(&file, &bytes).unwrap();

    let capacities = Capacities { workers: 1, hosts_v4: 256, hosts_v6: 16, locks: 64 };
    let policy = Policy::anonymous(capacities, 64, key).unwrap();
    let range = Range::of_prefix(Addr::V4(0xc000_0207), 32);
    policy
        .publish_locks(&[LockedRange { range, bits: HostFlags::LOCK_OUT }], &[], &SegmentRules::default())
        .unwrap();
    let again = open_with(dir.path(), Some(&policy));
    let damage = again.loaded.damage.unwrap();
    assert!(damage.contains("set aside as") && damage.contains("1 locks taken over"), "{damage}");
    let aside: Vec<String> = std::fs::read_dir(dir.path())
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .filter(|n| n.starts_with("cordon.db.damaged-") && !n.ends_with("-wal") && !n.ends_with("-shm"))
        .collect();
    assert_eq!(aside.len(), 1);
    assert_eq!(std::fs::read(dir.path().join(&aside[0])).unwrap(), bytes, "nothing of it is lost");
    assert_eq!(again.loaded.locks.len(), 1);
    assert_eq!(again.loaded.hash_key, key, "another key would make policy a stranger's file");
    assert_eq!(again.loaded.last_incident, 41, "evidence still bears that number");
    assert_eq!(again.store.stop(SOON), 0);
    let kept = reopened(dir.path()).locks;
    assert_eq!(
        (kept.len(), kept[0].target.to_string().as_str(), kept[0].rule.as_deref()),
        (1, "192.0.2.7", None)
    );
}

#[test]
fn no_database_at_all_and_garbage_instead_of_one_are_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(open(dir.path()).loaded.damage, None, "a first start is no damage");
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(
        dir.path().join(FILE),
        b"this is no database, not at all, whatever its name says".repeat(100),
    )
    .unwrap();
    assert!(open(dir.path()).loaded.damage.is_some());
}

#[test]
fn a_newer_file_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    open(dir.path()).store.stop(SOON);
    let db = Connection::open(dir.path().join(FILE)).unwrap();
    db.execute("INSERT INTO schema_version VALUES (999, 0)", []).unwrap();
    drop(db);
    let e =
        Store::open(Places { state: dir.path(), scratch: dir.path(), in_force: None }, || ()).unwrap_err();
    assert!(matches!(&e, StoreError::Unusable(t) if t.contains("newer cordond")), "{e}");
    assert!(dir.path().join(FILE).exists());
}

#[test]
fn a_second_store_on_the_same_files_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(dir.path());
    let e =
        Store::open(Places { state: dir.path(), scratch: dir.path(), in_force: None }, || ()).unwrap_err();
    assert!(e.to_string().contains(&format!("process {}", std::process::id())), "{e}");
    first.store.stop(SOON);
    open(dir.path());
}
