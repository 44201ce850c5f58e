//! cordond from outside: it keeps what it said, refuses what it must, and stops in time.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::process::Command;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use api::{ErrorCode, Request};
use common::{Client, Rig, SOON, failure, lock, rows};
use nix::sys::signal::Signal;
use pipeline::{Frame, Mode, Pipeline};
use region::{Addr, Capacities, Facts, Policy, Side, Verdict};

/// Whether the policy file enforces a lock on an address, as a dataplane would find it.
fn enforced(rig: &Rig, address: [u8; 4]) -> bool {
    let policy = Policy::open(rig.tables.path()).unwrap();
    let a = Addr::V4(u32::from_be_bytes(address)).as_u128();
    policy.locked_at(policy.versions().locks, a).0 != 0
}

#[test]
fn an_answered_lock_survives_kill_9_at_any_moment_after_the_answer() {
    let rig = Rig::new();
    let mut answered: Vec<String> = Vec::new();
    for round in 0..20 {
        let mut daemon = rig.start();
        let mut client = Client::connect(&rig.socket());
        // A varying number of locks puts the kill at different places of the store's journal.
        for i in 0..=round % 4 {
            let target = format!("192.0.2.{}", round * 5 + i);
            rows(client.ask(&lock(&target)));
            answered.push(target);
        }
        // In every second round the kill meets a request on its way.
        let under_way = format!("192.0.2.{}", round * 5 + 4);
        if round % 2 == 1 {
            client.send((lock(&under_way).to_line().unwrap() + "\n").as_bytes());
        }
        daemon.kill();
        answered.sort();
        let again = rig.start();
        let mut listed = again.targets();
        let log = again.log();
        if listed.contains(&under_way) {
            answered.push(under_way);
            answered.sort();
        }
        listed.sort();
        assert_eq!(listed, answered, "round {round}\n{log}");
    }
    assert!(answered.len() >= 50);
}

#[test]
fn a_maintenance_unlock_survives_kill_9_and_ends_whether_cordond_is_there_or_not() {
    let rig = Rig::new();
    let mut daemon = rig.start();
    for host in [10, 11, 12] {
        rows(daemon.ask(&lock(&format!("192.0.2.{host}"))));
    }
    let let_in = |daemon: &common::Daemon, host: u8, ms: i64| {
        let until = api::Time::now().plus_ms(ms);
        let target = format!("192.0.2.{host}").parse().unwrap();
        rows(daemon.ask(&Request::Unlock { target, reason: None, all: false, until: Some(until) }));
        until
    };
    let_in(&daemon, 10, 3_600_000);
    let soon = let_in(&daemon, 11, 1_000);
    // In force with the answer, whatever comes.
    assert!(!enforced(&rig, [192, 0, 2, 10]) && enforced(&rig, [192, 0, 2, 12]));
    daemon.kill();
    while api::Time::now() <= soon {
        std::thread::yield_now();
    }
    assert!(!enforced(&rig, [192, 0, 2, 11]), "nobody is there to lock again");
    let mut daemon = rig.start();
    daemon.until("the lock is back", |_| enforced(&rig, [192, 0, 2, 11]).then_some(()));
    assert!(!enforced(&rig, [192, 0, 2, 10]));
    let listed = daemon.list();
    let s = listed[0].suspended.as_ref().unwrap();
    assert!(!s.who.is_empty() && s.until > api::Time::now(), "{s:?}");
    assert!(daemon.attention().contains("1 locks are suspended"), "{}", daemon.attention());
    let_in(&daemon, 12, 500);
    daemon.until("the maintenance ends by itself", |_| enforced(&rig, [192, 0, 2, 12]).then_some(()));
    daemon.kill();
    let daemon = rig.start();
    assert!(enforced(&rig, [192, 0, 2, 12]) && daemon.list()[2].suspended.is_none(), "its end was stored");
}

#[test]
fn a_second_cordond_is_refused_and_told_of_the_first() {
    let rig = Rig::new();
    let first = rig.start();
    let mut second = rig.launch(&[]);
    let status = second.ended_within(SOON).unwrap();
    assert!(!status.success());
    assert!(second.log().contains(&format!("process {}", first.child.id())), "{}", second.log());
    assert_eq!(first.targets().len(), 0, "the first one is not disturbed");
}

#[test]
fn sigterm_ends_it_within_a_second_and_leaves_locks_in_force() {
    let rig = Rig::new();
    let mut daemon = rig.start();
    rows(daemon.ask(&lock("192.0.2.10")));
    daemon.until("the lock is enforced", |_| enforced(&rig, [192, 0, 2, 10]).then_some(()));
    let _idle = Client::connect(&rig.socket());
    let asked = Instant::now();
    daemon.signal(Signal::SIGTERM);
    let status =
        daemon.ended_within(Duration::from_secs(1)).unwrap_or_else(|| panic!("it lives\n{}", daemon.log()));
    assert!(
        status.success() && asked.elapsed() < Duration::from_secs(1),
        "{status} after {:?}",
        asked.elapsed()
    );
    assert!(enforced(&rig, [192, 0, 2, 10]), "stopping control unlocks nobody");
    assert!(!rig.socket().exists());
}

#[test]
fn a_broken_configuration_at_start_falls_back_on_the_last_good_one() {
    let rig = Rig::new();
    let mut first = rig.start();
    rows(first.ask(&lock("192.0.2.10")));
    first.kill();
    let good = std::fs::read_to_string(&rig.config).unwrap();
    // It names its places, but is no TOML; limits that make no sense come out the same.
    rig.write_config(&good.replace("hosts = 1024", "hosts = = 1024"));
    let daemon = rig.start();
    assert_eq!(daemon.targets(), ["192.0.2.10"]);
    let attention = daemon.attention();
    assert!(attention.contains("last good configuration"), "{attention}");
    assert!(
        daemon.log().contains("cordon.toml:"),
        "the place of the mistake is in the log\n{}",
        daemon.log()
    );
    rig.write_config(&good);
    daemon.signal(Signal::SIGHUP);
    daemon.until("the complaint ends", |d| (!d.attention().contains("last good")).then_some(()));
}

#[test]
fn without_any_good_configuration_it_does_not_start_and_says_why() {
    let rig = Rig::new();
    let good = std::fs::read_to_string(&rig.config).unwrap();
    rig.write_config(&good.replace("inside = \"l2\"\n", ""));
    let mut daemon = rig.launch(&[]);
    assert!(!daemon.ended_within(SOON).unwrap().success());
    let log = daemon.log();
    assert!(log.contains("does not say what its inside port sees") && log.contains("cordon check"), "{log}");
    assert!(!log.contains("panicked"), "{log}");
}

#[test]
fn a_reload_with_a_mistake_changes_nothing_and_a_good_one_does() {
    let rig = Rig::new();
    let daemon = rig.start();
    rig.write_config(&rig.text("", "192.0.2.0/33"));
    let refused = failure(daemon.ask(&Request::Reload));
    assert!(refused.message.contains("192.0.2.0/33"), "{refused}");
    assert_eq!(
        rows(daemon.ask(&lock("192.0.2.10"))).first().map(|r| r.enforced),
        Some(true),
        "the old network stands"
    );
    assert!(daemon.attention().contains("was not taken"), "{}", daemon.attention());
    rig.write_config(&rig.text("", "198.51.100.0/24"));
    match daemon.ask(&Request::Reload) {
        api::Response::Ok(_) => {}
        other => panic!("{other:?}"),
    }
    assert!(!daemon.attention().contains("was not taken"), "{}", daemon.attention());
    let row = daemon.list().remove(0);
    assert!(!row.enforced && row.why_not.is_some(), "the lock's network has gone: {row:?}");
}

#[test]
fn a_manual_lock_does_not_wait_for_a_tick() {
    let rig = Rig::new();
    let daemon = rig.start();
    let mut client = Client::connect(&rig.socket());
    let mut times: Vec<Duration> = (0..41)
        .map(|i| {
            let asked = Instant::now();
            rows(client.ask(&lock(&format!("192.0.2.{i}"))));
            asked.elapsed()
        })
        .collect();
    times.sort();
    let median = times[times.len() / 2];
    // Answers that waited for a tick of 100 ms would take 100 ms one after the other.
    assert!(median < Duration::from_millis(50), "median {median:?}, all {times:?}\n{}", daemon.log());
    eprintln!("manual lock to answer: median {median:?}, longest {:?}", times[times.len() - 1]);
}

#[test]
fn locks_stay_enforced_when_the_store_is_damaged() {
    let rig = Rig::new();
    let mut first = rig.start();
    rows(first.ask(&lock("192.0.2.10")));
    rows(first.ask(&lock("192.0.2.64/27")));
    first.until("the locks are enforced", |_| enforced(&rig, [192, 0, 2, 65]).then_some(()));
    // A clean end: after a kill the journal still has everything, and no damage to the file itself matters.
    first.signal(Signal::SIGTERM);
    first.ended_within(SOON).unwrap();
    std::fs::write(rig.state().join("cordon.db"), [0x5a; 40_000]).unwrap();
    let mut daemon = rig.start();
    assert!(enforced(&rig, [192, 0, 2, 10]) && enforced(&rig, [192, 0, 2, 65]));
    assert_eq!(daemon.targets(), ["192.0.2.10", "192.0.2.64/27"]);
    let attention = daemon.attention();
    assert!(attention.contains("set aside") && attention.contains("backup"), "{attention}");
    assert!(daemon.log().contains("set aside"), "{}", daemon.log());
    daemon.kill();
    let again = rig.start();
    assert_eq!(again.targets().len(), 2, "what was taken over is stored");
}

#[test]
fn it_starts_without_a_disk_and_refuses_what_it_cannot_keep() {
    let rig = Rig::new();
    // A file where the directory should be: nothing can be written there, whoever asks.
    std::fs::write(rig.state(), "").unwrap();
    let daemon = rig.start();
    let refused = failure(daemon.ask(&lock("192.0.2.10")));
    assert_eq!(refused.code, ErrorCode::Failed, "{refused}");
    assert!(daemon.targets().is_empty());
    assert!(daemon.attention().contains("there is no store"), "{}", daemon.attention());
}

#[test]
fn a_dataplane_is_attached_when_it_comes_and_let_go_when_it_dies() {
    let rig = Rig::new();
    let daemon = rig.start();
    assert_eq!(daemon.status().incarnation, None);
    assert!(daemon.attention().contains("dataplane"), "{}", daemon.attention());
    let capacities = Capacities { workers: 1, hosts_v4: 1024, hosts_v6: 256, locks: 0 };
    for life in [11, 12] {
        let facts = Facts::create(rig.tables.path(), capacities, life).unwrap();
        facts.header().phase.store(1, Relaxed);
        daemon.until("attached", |d| (d.status().incarnation == Some(life)).then_some(()));
        drop(facts);
        daemon.until("let go", |d| (d.status().incarnation.is_none()).then_some(()));
    }
    // One life follows another without a tick in between.
    let old = Facts::create(rig.tables.path(), capacities, 13).unwrap();
    daemon.until("attached", |d| (d.status().incarnation == Some(13)).then_some(()));
    drop(old);
    let _new = Facts::create(rig.tables.path(), capacities, 14).unwrap();
    daemon.until("attached again", |d| (d.status().incarnation == Some(14)).then_some(()));
}

#[test]
fn a_dataplane_with_other_tables_is_refused_with_a_reason() {
    let rig = Rig::new();
    let daemon = rig.start();
    let other = Capacities { workers: 1, hosts_v4: 2048, hosts_v6: 256, locks: 0 };
    let _facts = Facts::create(rig.tables.path(), other, 5).unwrap();
    daemon.until("a complaint", |d| d.attention().contains("2048 IPv4").then_some(()));
    assert_eq!(daemon.status().incarnation, None);
}

#[test]
fn help_names_what_it_does() {
    let out = Command::new(env!("CARGO_BIN_EXE_cordond")).args(["run", "--help"]).output().unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    assert!(out.status.success() && text.contains("--with-dataplane") && text.contains("SIGHUP"), "{text}");
}

/// What `cordon evidence` says of a host, or nothing while it cannot be asked.
fn evidence(daemon: &common::Daemon, address: &str) -> api::EvidenceReport {
    let request =
        Request::Evidence { target: address.parse().unwrap(), since: None, until: None, claimed: None };
    match daemon.ask(&request) {
        api::Response::Ok(api::Payload::Evidence(e)) => *e,
        other => panic!("{other:?}"),
    }
}

/// Lets a server send datagrams, as a worker counts them.
fn send(facts: &Facts, policy: &Policy, packets: usize) {
    let mut frame = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, 0x45, 0, 0, 28].to_vec();
    frame.extend([0, 1, 0, 0, 64, 17, 0, 0, 192, 0, 2, 10, 198, 51, 100, 7, 0, 53, 0, 53, 0, 8, 0, 0]);
    let mut path = Pipeline::new(0, Mode::Inline, facts);
    for _ in 0..packets {
        let frame = Frame { bytes: &frame, length: 60, side: Side::Inside, time: 0, segment: false };
        path.poll(facts, Some(policy));
        path.run(facts, Some(policy), &[frame], &mut [Verdict::Forward]);
    }
}

#[test]
fn what_a_server_sent_outlives_cordond_and_what_was_not_seen_is_said() {
    let rig = Rig::new();
    let mut daemon = rig.start();
    let capacities = Capacities { workers: 1, hosts_v4: 1024, hosts_v6: 256, locks: 0 };
    let now = || u64::try_from(api::Time::now().unix_ms()).unwrap() * 1_000_000;
    let facts = Facts::create(rig.tables.path(), capacities, now()).unwrap();
    facts.header().phase.store(1, Relaxed);
    daemon.until("attached", |d| d.status().incarnation);
    let policy = Policy::open(rig.tables.path()).unwrap();
    let sent = |d: &common::Daemon| evidence(d, "192.0.2.10").out.traffic.packets;
    send(&facts, &policy, 12);
    daemon.until("12 packets are told", |d| (sent(d) == 12).then_some(()));
    let told = evidence(&daemon, "192.0.2.10");
    assert_eq!((told.out.traffic.udp, told.inbound.traffic.packets), (12, 0));
    assert!(told.findings[0].contains("sent 12 packets"), "{told:?}");
    assert!(!told.unknown.is_empty(), "before its start nothing was counted: {told:?}");

    // A clean stop hands over what there is; what comes while nobody is there is taken in afterwards.
    daemon.signal(Signal::SIGTERM);
    daemon.ended_within(SOON).unwrap();
    send(&facts, &policy, 30);
    let mut daemon = rig.start();
    daemon.until("all 42 are told", |d| (sent(d) == 42).then_some(()));
    let gaps = evidence(&daemon, "192.0.2.10").unknown.len();
    assert_eq!(gaps, 1, "only what was before the first start");

    // kill -9 takes what no pass had read: that is said, and nothing is told twice.
    daemon.kill();
    send(&facts, &policy, 100);
    let mut daemon = rig.start();
    daemon.until("the gap's packets are told", |d| (sent(d) >= 112).then_some(()));
    let told = evidence(&daemon, "192.0.2.10");
    assert!((112..=142).contains(&told.out.traffic.packets), "{told:?}");
    assert_eq!(told.unknown.len(), 2, "{told:?}");
    assert!(told.findings[0].contains("the part of this time that Cordon saw"), "{told:?}");

    // The dataplane's end.
    let before = told.out.traffic.packets;
    send(&facts, &policy, 5);
    daemon.until("5 more are told", |d| (sent(d) == before + 5).then_some(()));
    drop(facts);
    daemon.until("let go", |d| d.status().incarnation.is_none().then_some(()));
    assert_eq!(sent(&daemon), before + 5, "what a dead dataplane counted stays");
    let facts = Facts::create(rig.tables.path(), capacities, now()).unwrap();
    facts.header().phase.store(1, Relaxed);
    daemon.until("attached", |d| d.status().incarnation);
    send(&facts, &policy, 7);
    daemon.until("another life counts on", |d| (sent(d) == before + 12).then_some(()));
    daemon.signal(Signal::SIGTERM);
    daemon.ended_within(SOON).unwrap();
    assert_eq!(sent(&rig.start()), before + 12);
}

#[test]
fn an_incident_that_is_no_longer_at_hand_is_read_from_the_store() {
    let rig = Rig::new();
    rig.start().kill();
    // One more than stays in memory; the store has them all.
    let db = rusqlite::Connection::open(rig.state().join("cordon.db")).unwrap();
    let put = "INSERT INTO incidents (id, number, kind, address, opened, closed, body)
               VALUES (?1, ?2, 'attack-out', '192.0.2.10', 1767225600000 + ?2, 1767225601000 + ?2, ?3)";
    db.execute_batch("BEGIN").unwrap();
    for n in 1..=10_001 {
        let id = format!("C-2026-{n:06}");
        let body = format!(
            r#"{{"id":"{id}","kind":"attack-out","address":"192.0.2.10","mac":null,"direction":"out","action":"lock","actions":[],
            "rule":"syn-out/default","opened":"2026-01-01T00:00:00Z","first_seen":"2026-01-01T00:00:00Z",
            "last_seen":"2026-01-01T00:00:00Z","protocol":null,"measure":"syn","window":"fast","limit":1,"peak":2,"packets":3,
            "bytes":4,"seconds":1,"dropped":0,"held_back":null,"closed":"2026-01-01T00:00:01Z","files":[]}}"#
        );
        db.execute(put, rusqlite::params![id, n, body]).unwrap();
    }
    db.execute_batch("COMMIT").unwrap();
    drop(db);
    // Retention would forget what closed so long ago.
    rig.write_config(&(rig.text("", "192.0.2.0/24") + "[evidence]\nretention_days = 3650\n"));
    let daemon = rig.start();
    for id in ["C-2026-000001", "C-2026-010001"] {
        match daemon.ask(&Request::Incident { id: id.into() }) {
            api::Response::Ok(api::Payload::Incident(i)) => assert_eq!(i.id, id),
            other => panic!("{other:?}"),
        }
    }
    let none = failure(daemon.ask(&Request::Incident { id: "C-2026-999999".into() }));
    assert_eq!(none.code, ErrorCode::NotFound, "{none}");
}
