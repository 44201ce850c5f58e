//! Webhooks from end to end: a lock on one side, on the other a program that is sent them and misbehaves.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::path::Path;

use api::{Event, Notice, OutboxState, Request, Response};
use common::outside::{Counterpart, certificate, done, outbox, retry, tried, unlock};
use common::{Daemon, Rig, free_port, lock, rows};
use serde::Deserialize;

/// 32 bytes.
const KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

fn receiver(port: u16, more: &[&str]) -> Counterpart {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/webhook/receiver.py");
    Counterpart::start("python3", &script, port, &[&[KEY], more].concat())
}

/// A request as Python read it.
#[derive(Clone, Debug, Deserialize)]
struct Taken {
    id: String,
    path: String,
    r#type: String,
    host: String,
    signed: bool,
    age: f64,
    body: String,
}

impl Taken {
    /// What it says; every request has to be signed, and now.
    fn notice(&self) -> Notice {
        assert!(self.signed && self.age < 60.0 && self.r#type == "application/json", "{self:?}");
        serde_json::from_str(&self.body).unwrap()
    }
}

/// A `[[webhook]]` for a program at a port of this machine.
fn hook(rig: &Rig, name: &str, url: &str, more: &str) -> String {
    let secret = rig.dir.path().join("secret");
    std::fs::write(&secret, format!("whsec_{KEY}\n")).unwrap();
    format!(
        "[[webhook]]\nname = \"{name}\"\nurl = \"{url}\"\nsecret_file = \"{}\"\n{more}\n",
        secret.display()
    )
}

fn at(port: u16) -> String {
    format!("http://127.0.0.1:{port}/hooks/cordon?tenant=7")
}

fn with(rig: &Rig, hooks: &[String]) {
    rig.write_config(&(rig.text("", "192.0.2.0/24") + &hooks.concat()));
}

fn reload(daemon: &Daemon) {
    assert!(matches!(daemon.ask(&Request::Reload), Response::Ok(_)));
}

const FIRST: &str = "L-1.locked-by-hand.w-billing";

#[test]
fn webhook_a_lock_and_its_end_are_told_signed_and_in_order() {
    let program = receiver(0, &[]);
    let rig = Rig::new();
    with(&rig, &[hook(&rig, "billing", &at(program.port), "")]);
    let daemon = rig.start();
    rows(daemon.ask(&lock("192.0.2.10")));
    let first: Taken = program.took();
    assert_eq!(first.path, "/hooks/cordon?tenant=7");
    assert_eq!(first.host, format!("127.0.0.1:{}", program.port));
    let notice = first.notice();
    let row = notice.data.lock.clone().unwrap();
    assert_eq!((notice.event, notice.timestamp), (Event::LockedByHand, row.created));
    assert_eq!(
        (notice.data.thread.as_str(), notice.data.targets.as_slice()),
        ("L-1", &["192.0.2.10".into()][..])
    );
    assert_eq!((row.id, row.note.as_deref()), (1, Some("a test")));
    assert!(
        first.id.starts_with("msg_L-1_locked-by-hand_w-billing_") && !first.id.contains('.'),
        "{}",
        first.id
    );
    rows(daemon.ask(&unlock("192.0.2.10")));
    let second: Taken = program.took();
    assert_eq!(second.notice().event, Event::Unlocked);
    assert_ne!(second.id, first.id);
    done(&daemon, "L-1.unlocked.1.w-billing", OutboxState::Delivered);
    program.is_silent();
}

#[test]
fn webhook_nothing_is_lost_while_the_program_is_away_and_nothing_comes_twice() {
    let port = free_port().port();
    let rig = Rig::new();
    with(&rig, &[hook(&rig, "billing", &at(port), "")]);
    let mut daemon = rig.start();
    for i in 10..14 {
        rows(daemon.ask(&lock(&format!("192.0.2.{i}"))));
    }
    daemon
        .until("status says it", |d| d.attention().contains("webhook billing does not go out").then_some(()));
    assert!(
        outbox(&daemon)
            .iter()
            .all(|r| r.state == OutboxState::Waiting && r.attempts == 0 && r.kind == "webhook")
    );
    daemon.kill();
    let daemon = rig.start();
    let program = receiver(port, &[]);
    daemon.until("a retry by hand ends the pause", |d| {
        d.ask(&Request::OutboxRetry { id: FIRST.into() });
        outbox(d).iter().all(|r| r.state == OutboxState::Delivered).then_some(())
    });
    let mut threads: Vec<String> = (0..4).map(|_| program.took::<Taken>().notice().data.thread).collect();
    threads.sort();
    assert_eq!(threads, ["L-1", "L-2", "L-3", "L-4"]);
    program.is_silent();
    daemon.until("all is well", |d| (!d.attention().contains("does not go out")).then_some(()));
}

#[test]
fn webhook_what_was_taken_unrecorded_comes_again_with_the_same_id_and_body() {
    let mut program = receiver(0, &[]);
    let rig = Rig::new();
    with(&rig, &[hook(&rig, "billing", &at(program.port), "")]);
    let mut daemon = rig.start();
    program.order("hold");
    rows(daemon.ask(&lock("192.0.2.10")));
    let first: Taken = program.took();
    daemon.kill();
    program.order("accept");
    let daemon = rig.start();
    let second: Taken = program.took();
    second.notice();
    assert_eq!((first.id, first.body), (second.id, second.body));
    done(&daemon, FIRST, OutboxState::Delivered);
    program.is_silent();
}

#[test]
fn webhook_a_program_that_fails_hangs_or_dies_gets_it_again_with_the_same_id() {
    let mut program = receiver(0, &[]);
    let rig = Rig::new();
    with(&rig, &[hook(&rig, "billing", &at(program.port), "timeout = \"1s\"")]);
    let daemon = rig.start();
    program.order("status 500");
    rows(daemon.ask(&lock("192.0.2.10")));
    let row = tried(&daemon, FIRST, 1);
    let pause = row.due.unix_ms() - row.created.unix_ms();
    assert!(row.error.unwrap().contains("500 Internal Server Error") && pause >= 10_000, "{pause}");
    daemon
        .until("status says it", |d| d.attention().contains("webhook billing does not go out").then_some(()));
    let id = program.took::<Taken>().id;
    for (order, why) in [("hang", "no answer for 1 s"), ("cut", "breaks off"), ("status 503 90", "503")] {
        program.order(order);
        retry(&daemon, FIRST);
        let row = tried(&daemon, FIRST, 1);
        assert!(row.error.as_ref().unwrap().contains(why), "{row:?}");
        // 90 s is what the program asked for.
        let pause = row.due.unix_ms() - row.created.unix_ms();
        assert_eq!(pause >= 90_000, order.ends_with("90"), "{order}: {pause}");
        let taken: Taken = program.took();
        taken.notice();
        assert_eq!(taken.id, id);
    }
    // It is gone for good: nobody is asked again but by an operator.
    program.order("status 410");
    retry(&daemon, FIRST);
    let row = done(&daemon, FIRST, OutboxState::Failed);
    assert!(row.error.unwrap().contains("410 Gone"));
    program.took::<Taken>();
    daemon.until("status says it", |d| d.attention().contains("have failed").then_some(()));
    program.order("accept");
    retry(&daemon, FIRST);
    done(&daemon, FIRST, OutboxState::Delivered);
    assert_eq!(program.took::<Taken>().id, id);
    program.is_silent();
}

#[test]
fn webhook_a_redirect_leads_nowhere() {
    let other = receiver(0, &[]);
    let mut program = receiver(0, &[]);
    let rig = Rig::new();
    with(&rig, &[hook(&rig, "billing", &at(program.port), "")]);
    let daemon = rig.start();
    program.order(&format!("redirect http://127.0.0.1:{}/", other.port));
    rows(daemon.ask(&lock("192.0.2.10")));
    let row = tried(&daemon, FIRST, 1);
    assert!(row.error.unwrap().contains("redirects are not followed"));
    other.is_silent();
}

#[test]
fn webhook_one_that_is_down_holds_up_nobody_else_and_each_gets_its_events() {
    let (mut down, up, few) = (receiver(0, &[]), receiver(0, &[]), receiver(0, &[]));
    down.order("hang");
    let rig = Rig::new();
    let hooks = [
        hook(&rig, "a-down", &at(down.port), ""),
        hook(&rig, "b-up", &at(up.port), ""),
        hook(&rig, "c-few", &at(few.port), "events = [\"unlocked\"]"),
    ];
    with(&rig, &hooks);
    let daemon = rig.start();
    rows(daemon.ask(&lock("192.0.2.10")));
    assert_eq!(up.took::<Taken>().notice().event, Event::LockedByHand);
    rows(daemon.ask(&unlock("192.0.2.10")));
    assert_eq!(up.took::<Taken>().notice().event, Event::Unlocked);
    assert_eq!(few.took::<Taken>().notice().event, Event::Unlocked);
    few.is_silent();
    // One that is configured no more has nothing waiting; an operator sees what there was.
    with(&rig, &hooks[1..]);
    reload(&daemon);
    let row = done(&daemon, "L-1.unlocked.1.w-a-down", OutboxState::Dropped);
    assert!(row.error.unwrap().contains("names it no more"));
    assert!(outbox(&daemon).iter().all(|r| r.state != OutboxState::Waiting));
}

#[test]
fn webhook_tls_is_checked_and_the_key_is_nowhere() {
    let dir = tempfile::tempdir().unwrap();
    let (key, cert) = certificate(dir.path());
    let program = receiver(0, &[cert.to_str().unwrap(), key.to_str().unwrap()]);
    let rig = Rig::new();
    let url = format!("https://localhost:{}/token-in-the-path", program.port);
    // A certificate that nobody vouches for is refused, and nothing was said.
    with(&rig, &[hook(&rig, "billing", &url, "")]);
    let daemon = rig.start();
    rows(daemon.ask(&lock("192.0.2.10")));
    let refused = |words: &str| {
        daemon.until(words, |d| {
            let text = d.attention();
            (text.contains("webhook billing does not go out") && text.to_lowercase().contains(words))
                .then_some(())
        });
    };
    refused("certificate");
    // A file that holds no key says so, and not what it holds.
    let ca = format!("ca_file = \"{}\"", cert.display());
    let good = hook(&rig, "billing", &url, &ca);
    std::fs::write(dir.path().join("bad"), "not-a-key-at-all").unwrap();
    let secret = rig.dir.path().join("secret").display().to_string();
    with(&rig, &[good.replace(&secret, &dir.path().join("bad").display().to_string())]);
    reload(&daemon);
    refused("has no key");
    program.is_silent();
    with(&rig, &[good]);
    reload(&daemon);
    program.took::<Taken>().notice();
    done(&daemon, FIRST, OutboxState::Delivered);
    let log = daemon.log();
    for secret in [KEY, "not-a-key-at-all", "token-in-the-path"] {
        assert!(!log.contains(secret), "{secret}\n{log}");
    }
}
