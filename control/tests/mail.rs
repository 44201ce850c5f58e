//! Mail from end to end: a lock on one side, a real SMTP server on the other, and Python's mail library to read what came.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use api::{OutboxState, Request, Response};
use common::outside::{Counterpart, certificate, done, outbox, unlock};
use common::{Rig, free_port, lock, rows};
use serde::Deserialize;

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mail").join(name)
}

/// The Python that has aiosmtpd: Debian's, or the one in front of it.
fn python() -> &'static str {
    let has = |p: &&'static str| {
        let import = Command::new(p).args(["-c", "import aiosmtpd"]).stderr(Stdio::null()).status();
        import.is_ok_and(|s| s.success())
    };
    ["python3", "/usr/bin/python3"]
        .into_iter()
        .find(has)
        .expect("python3-aiosmtpd is not installed (./setup.sh test)")
}

#[derive(Clone, Debug, Deserialize)]
struct Taken {
    from: String,
    to: Vec<String>,
    login: Option<String>,
    tls: bool,
    mail: String,
}

/// A mail server in a process of its own.
fn server(port: u16, tls: &[&str]) -> Counterpart {
    Counterpart::start(python(), &file("server.py"), port, tls)
}

#[derive(Debug, Deserialize)]
struct File {
    r#type: String,
    base64: String,
}

/// A mail as Python's library reads it.
#[derive(Debug, Deserialize)]
struct Read {
    headers: BTreeMap<String, String>,
    names: Vec<String>,
    defects: Vec<String>,
    to: Vec<String>,
    from: (String, String),
    date: String,
    body: String,
    longest: usize,
    ascii: bool,
    bare: usize,
    files: BTreeMap<String, File>,
}

fn read(mail: &str) -> Read {
    let raw: Vec<u8> = mail.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect();
    let mut child = Command::new(python())
        .arg(file("parse.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(&raw).unwrap();
    let out = child.wait_with_output().unwrap();
    let read: Read = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(read.defects, Vec::<String>::new(), "{mail}");
    // RFC 5322 section 2.1.1, RFC 5321 section 4.5.3.1.6; and a single Message-ID, Date, From, Subject.
    assert!(
        read.longest <= 998 && read.ascii && read.bare == 0,
        "{} {} {}",
        read.longest,
        read.ascii,
        read.bare
    );
    for once in ["message-id", "date", "from", "subject", "to", "auto-submitted", "mime-version"] {
        assert_eq!(read.names.iter().filter(|n| *n == once).count(), 1, "{once}\n{mail}");
    }
    assert_eq!(read.headers["auto-submitted"], "auto-generated");
    assert!(read.files.values().all(|f| !f.r#type.is_empty() && !f.base64.is_empty()), "{:?}", read.files);
    assert!(read.body.lines().all(|l| l.chars().count() <= 78), "{}", read.body);
    read
}

const FROM: &str = "from = \"Störungsstelle <abuse@example.net>\"\nprovider = \"Beispiel-Höster\"\ndesk = [\"noc@example.net\", \"night@example.net\"]\ndelay = \"0s\"\n";

fn with_mail(rig: &Rig, port: u16, more: &str) {
    let mail = format!("[mail]\nserver = \"127.0.0.1\"\nport = {port}\ntls = \"none\"\n{FROM}{more}\n");
    rig.write_config(&(rig.text("", "192.0.2.0/24") + &mail));
}

#[test]
fn smtp_a_lock_and_its_end_reach_the_desk_in_one_thread() {
    let server = server(free_port().port(), &[]);
    let rig = Rig::new();
    with_mail(
        &rig,
        server.port,
        "reply_to = \"support@example.net\"\nticket_url = \"https://example.net/ticket\"",
    );
    let daemon = rig.start();
    rows(daemon.ask(&lock("192.0.2.10")));
    let taken = server.took::<Taken>();
    assert_eq!((taken.from.as_str(), taken.to.len(), taken.tls), ("abuse@example.net", 2, false));
    let first = read(&taken.mail);
    assert_eq!(first.headers["subject"], "[Cordon L-1] 192.0.2.10 locked: abuse");
    assert_eq!(first.from, ("Störungsstelle".to_owned(), "abuse@example.net".to_owned()));
    assert_eq!(first.to, ["noc@example.net", "night@example.net"]);
    assert_eq!(first.headers["reply-to"], "support@example.net");
    assert!(
        first.body.contains("> a test") && first.body.contains("https://example.net/ticket"),
        "{}",
        first.body
    );
    assert!(first.files.is_empty(), "a lock by hand has no evidence: {:?}", first.files);
    let id = first.headers["message-id"].clone();
    assert!(id.starts_with("<L-1.locked-by-hand.desk.") && id.ends_with("@example.net>"), "{id}");
    assert!(first.date.ends_with("+00:00") && !first.headers.contains_key("references"));

    rows(daemon.ask(&unlock("192.0.2.10")));
    let second = read(&server.took::<Taken>().mail);
    assert_eq!(second.headers["subject"], "[Cordon L-1] 192.0.2.10 unlocked");
    assert_eq!((&second.headers["in-reply-to"], &second.headers["references"]), (&id, &id));
    assert_ne!(second.headers["message-id"], id);
    done(&daemon, "L-1.unlocked.1.desk", OutboxState::Delivered);
    server.is_silent();
}

#[test]
fn smtp_nothing_is_lost_while_the_server_is_away_and_nothing_comes_twice() {
    let port = free_port().port();
    let rig = Rig::new();
    with_mail(&rig, port, "");
    let mut daemon = rig.start();
    for i in 10..14 {
        rows(daemon.ask(&lock(&format!("192.0.2.{i}"))));
    }
    daemon.until("status says it", |d| d.attention().contains("mail does not go out").then_some(()));
    daemon.kill();
    let daemon = rig.start();
    let server = server(port, &[]);
    daemon.until("a retry by hand ends the pause", |d| {
        d.ask(&Request::OutboxRetry { id: "L-1.locked-by-hand.desk".into() });
        outbox(d).iter().all(|r| r.state == OutboxState::Delivered).then_some(())
    });
    let mut subjects: Vec<String> =
        (0..4).map(|_| read(&server.took::<Taken>().mail).headers["subject"].clone()).collect();
    subjects.sort();
    let expected: Vec<String> =
        (1..5).map(|i| format!("[Cordon L-{i}] 192.0.2.{} locked: abuse", i + 9)).collect();
    assert_eq!(subjects, expected);
    server.is_silent();
    daemon.until("all is well", |d| (!d.attention().contains("mail does not")).then_some(()));
}

#[test]
fn smtp_a_mail_that_was_taken_unrecorded_comes_again_under_the_same_message_id() {
    let mut server = server(free_port().port(), &[]);
    let rig = Rig::new();
    with_mail(&rig, server.port, "");
    let mut daemon = rig.start();
    server.order("hold");
    rows(daemon.ask(&lock("192.0.2.10")));
    let first = read(&server.took::<Taken>().mail);
    daemon.kill();
    server.order("accept");
    let daemon = rig.start();
    let second = read(&server.took::<Taken>().mail);
    assert_eq!(first.headers["message-id"], second.headers["message-id"]);
    assert_eq!(first.headers["date"], second.headers["date"]);
    done(&daemon, "L-1.locked-by-hand.desk", OutboxState::Delivered);
    server.is_silent();
}

#[test]
fn smtp_each_recipient_has_an_answer_of_its_own() {
    let mut server = server(free_port().port(), &[]);
    let rig = Rig::new();
    with_mail(&rig, server.port, "");
    let daemon = rig.start();
    // One address is wrong: the other has its mail.
    server.order("refuse night@example.net");
    rows(daemon.ask(&lock("192.0.2.10")));
    assert_eq!(server.took::<Taken>().to, ["noc@example.net"]);
    let row = done(&daemon, "L-1.locked-by-hand.desk", OutboxState::Delivered);
    assert!(
        row.error.as_ref().is_some_and(|e| e.contains("night@example.net") && e.contains("550")),
        "{row:?}"
    );
    // One is greylisted: only that one is asked again.
    server.order("accept");
    server.order("greylist noc@example.net");
    rows(daemon.ask(&lock("192.0.2.11")));
    assert_eq!(server.took::<Taken>().to, ["night@example.net"]);
    let id = "L-2.locked-by-hand.desk";
    let waits = daemon.until("it waits", |d| outbox(d).into_iter().find(|r| r.id == id && r.attempts == 1));
    assert!(
        waits.due.unix_ms() - waits.created.unix_ms() > 60_000 && waits.error.unwrap().contains("greylisted")
    );
    server.order("accept");
    daemon.ask(&Request::OutboxRetry { id: id.into() });
    assert_eq!(server.took::<Taken>().to, ["noc@example.net"]);
    done(&daemon, id, OutboxState::Delivered);
    // All are refused: it has failed, status says so, and an operator may try again.
    server.order("refuse noc@example.net");
    server.order("refuse night@example.net");
    rows(daemon.ask(&lock("192.0.2.12")));
    let id = "L-3.locked-by-hand.desk";
    done(&daemon, id, OutboxState::Failed);
    daemon.until("status says it", |d| d.attention().contains("have failed").then_some(()));
    server.order("accept");
    daemon.ask(&Request::OutboxRetry { id: id.into() });
    assert_eq!(server.took::<Taken>().to.len(), 2);
    done(&daemon, id, OutboxState::Delivered);
    server.is_silent();
}

#[test]
fn smtp_a_server_that_dies_in_the_middle_or_refuses_or_is_slow_loses_nothing() {
    let mut server = server(free_port().port(), &[]);
    let rig = Rig::new();
    with_mail(&rig, server.port, "");
    let daemon = rig.start();
    server.order("die");
    rows(daemon.ask(&lock("192.0.2.10")));
    daemon.until("status says it", |d| d.attention().contains("mail does not go out").then_some(()));
    assert!(outbox(&daemon).iter().all(|r| r.state == OutboxState::Waiting && r.attempts == 0));
    server.order("accept");
    server.order("slow 0.5");
    daemon.ask(&Request::OutboxRetry { id: "L-1.locked-by-hand.desk".into() });
    // Control does not notice that the server is slow.
    let asked = Instant::now();
    rows(daemon.ask(&lock("192.0.2.11")));
    assert!(asked.elapsed() < Duration::from_secs(5));
    let ids =
        [server.took::<Taken>(), server.took::<Taken>()].map(|t| read(&t.mail).headers["message-id"].clone());
    assert_ne!(ids[0], ids[1]);
    server.order("data 554 5.6.0 this looks like a virus");
    rows(daemon.ask(&lock("192.0.2.12")));
    let row = done(&daemon, "L-3.locked-by-hand.desk", OutboxState::Failed);
    assert!(row.error.unwrap().contains("554"));
    server.order("data 452 4.3.1 no space");
    rows(daemon.ask(&lock("192.0.2.13")));
    let id = "L-4.locked-by-hand.desk";
    let row = daemon.until("it waits", |d| outbox(d).into_iter().find(|r| r.id == id && r.attempts == 1));
    assert!(row.state == OutboxState::Waiting && row.error.unwrap().contains("452"));
}

#[test]
fn smtp_login_and_tls_of_both_kinds_work_and_the_password_is_nowhere() {
    let dir = tempfile::tempdir().unwrap();
    let path = |n: &str| dir.path().join(n).to_str().unwrap().to_owned();
    let (key, cert) = certificate(dir.path());
    let (key, cert) = (key.to_str().unwrap(), cert.to_str().unwrap());
    std::fs::write(path("password"), "a secret with ä\n").unwrap();
    for kind in ["starttls", "tls"] {
        let server = server(free_port().port(), &[cert, key, kind]);
        let rig = Rig::new();
        let mail = |password: &str, ca: &str| {
            format!(
                "[mail]\nserver = \"localhost\"\nport = {}\ntls = \"{kind}\"\nuser = \"cordon\"\npassword_file = \"{password}\"\n{ca}{FROM}",
                server.port
            )
        };
        let text = rig.text("", "192.0.2.0/24");
        // A certificate that nobody vouches for is refused, and nothing was said in the clear.
        rig.write_config(&(text.clone() + &mail(&path("password"), "")));
        let daemon = rig.start();
        rows(daemon.ask(&lock("192.0.2.10")));
        let said = daemon.until("it is refused", |d| {
            let text = d.attention();
            text.contains("mail does not go out").then_some(text)
        });
        assert!(said.to_lowercase().contains("certificate"), "{said}");
        // A wrong password says so; the right one is never seen again.
        std::fs::write(path("wrong"), "guess").unwrap();
        let ca = format!("ca_file = \"{cert}\"\n");
        rig.write_config(&(text.clone() + &mail(&path("wrong"), &ca)));
        assert!(matches!(daemon.ask(&Request::Reload), Response::Ok(_)));
        daemon.until("it is refused", |d| d.attention().contains("logging in as cordon").then_some(()));
        rig.write_config(&(text + &mail(&path("password"), &ca)));
        assert!(matches!(daemon.ask(&Request::Reload), Response::Ok(_)));
        let taken = server.took::<Taken>();
        assert_eq!((taken.login.as_deref(), taken.tls), (Some("cordon"), true));
        read(&taken.mail);
        let log = daemon.log();
        assert!(!log.contains("a secret") && !log.contains("guess"), "{log}");
        done(&daemon, "L-1.locked-by-hand.desk", OutboxState::Delivered);
    }
}
