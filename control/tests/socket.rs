//! The control socket under abuse.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

use api::{ErrorCode, Payload, REQUEST_MAX, Request, Response};
use common::{Client, Rig, SOON, failure, lock, rows};

#[test]
fn garbage_gets_a_clear_answer_and_the_next_client_is_served() {
    let rig = Rig::new();
    let daemon = rig.start();
    let cases: [(&[u8], &str); 6] = [
        (b"hello\n", "not understood"),
        (b"\n", "not understood"),
        (b"\xff\xfe\x00\n", "not understood"),
        (b"{\"v\":1,\"op\":\"explode\"}\n", "not understood"),
        (b"{\"v\":99,\"op\":\"list\"}\n", "version 99"),
        (b"{\"v\":1,\"op\":\"lock\",\"target\":\"192.0.2.1\",\"reason\":\"abuse\",\"direction\":\"out\",\"surprise\":1}\n", "surprise"),
    ];
    for (bytes, says) in cases {
        let mut client = Client::connect(&rig.socket());
        client.send(bytes);
        let refused = failure(client.answer());
        assert_eq!(refused.code, ErrorCode::BadRequest);
        assert!(refused.message.contains(says), "{says}: {refused}");
        assert_eq!(client.line(), "", "the connection ends");
    }
    assert!(daemon.list().is_empty());
}

#[test]
fn a_request_without_end_is_refused_at_its_limit() {
    let rig = Rig::new();
    let _daemon = rig.start();
    let mut client = Client::connect(&rig.socket());
    client.send(&vec![b'x'; REQUEST_MAX + 1]);
    assert!(failure(client.answer()).message.contains("longer than"));
    let mut client = Client::connect(&rig.socket());
    client.send(b"{\"v\":1,\"op\":\"list\"}");
    client.stream.get_ref().shutdown(std::net::Shutdown::Write).unwrap();
    assert!(failure(client.answer()).message.contains("end of line"));
}

#[test]
fn requests_in_pieces_in_rows_and_half_closed_are_answered_in_order() {
    let rig = Rig::new();
    let _daemon = rig.start();
    let mut client = Client::connect(&rig.socket());
    for b in b"{\"v\":1,\"op\":\"list\"}\n" {
        client.send(&[*b]);
    }
    assert!(rows(client.answer()).is_empty());
    let line = |r: &Request| r.to_line().unwrap() + "\n";
    let all: String = (1..=30).map(|i| line(&lock(&format!("192.0.2.{i}")))).collect();
    client.send((all + &line(&Request::List)).as_bytes());
    client.stream.get_ref().shutdown(std::net::Shutdown::Write).unwrap();
    for i in 1..=30 {
        assert_eq!(rows(client.answer())[0].target.to_string(), format!("192.0.2.{i}"));
    }
    assert_eq!(rows(client.answer()).len(), 30);
    assert_eq!(client.line(), "");
}

#[test]
fn who_asked_is_recorded() {
    let rig = Rig::new();
    let daemon = rig.start();
    let me = nix::unistd::User::from_uid(nix::unistd::getuid()).unwrap().unwrap().name;
    assert_eq!(rows(daemon.ask(&lock("192.0.2.1")))[0].who, me);
}

#[test]
fn silent_and_slow_clients_are_let_go_and_nobody_waits_for_them() {
    let rig = Rig::new();
    let daemon = rig.start();
    let started = Instant::now();
    let mut silent = Client::connect(&rig.socket());
    let mut slow = Client::connect(&rig.socket());
    slow.send(b"{\"v\":1,");
    // A client that asks much and reads nothing.
    let mut deaf = UnixStream::connect(rig.socket()).unwrap();
    deaf.set_nonblocking(true).unwrap();
    let list = Request::List.to_line().unwrap() + "\n";
    while deaf.write(list.as_bytes()).is_ok() {}
    while silent.stream.get_ref().set_read_timeout(Some(Duration::from_millis(1))).is_ok()
        && started.elapsed() < Duration::from_secs(1)
    {
        let asked = Instant::now();
        assert!(daemon.list().is_empty());
        assert!(asked.elapsed() < Duration::from_millis(500), "others are served meanwhile");
    }
    silent.stream.get_ref().set_read_timeout(Some(SOON)).unwrap();
    assert_eq!(silent.line(), "");
    let took = started.elapsed();
    assert!(took > Duration::from_secs(9) && took < Duration::from_secs(12), "{took:?}");
    assert!(failure(slow.answer()).message.contains("not complete within 10 s"));
    assert_eq!(slow.line(), "");
    // What the deaf one was sent can still be read; then the connection is over, however long it never read.
    deaf.set_nonblocking(false).unwrap();
    deaf.set_read_timeout(Some(SOON)).unwrap();
    let mut all = Vec::new();
    let _ = deaf.read_to_end(&mut all);
}

#[test]
fn the_sixty_fifth_client_is_told_so_and_places_become_free() {
    let rig = Rig::new();
    let daemon = rig.start();
    let mut others: Vec<Client> = (0..64).map(|_| Client::connect(&rig.socket())).collect();
    // Connections are taken in order: when the last of them is served, all have a place.
    assert!(rows(others[63].ask(&Request::List)).is_empty());
    let mut late = Client::connect(&rig.socket());
    assert!(failure(late.answer()).message.contains("64 clients"));
    assert_eq!(late.line(), "");
    others.truncate(10);
    daemon.until("a place", |d| {
        let _ = d;
        let mut client = Client::connect(&rig.socket());
        client.stream.get_mut().write_all((Request::List.to_line().unwrap() + "\n").as_bytes()).ok()?;
        matches!(client.answer(), Response::Ok(_)).then_some(())
    });
}

#[test]
fn a_long_answer_reaches_a_reader_whole() {
    let rig = Rig::new();
    let daemon = rig.start();
    let mut client = Client::connect(&rig.socket());
    let line = |i: u32| lock(&format!("192.0.2.{}", i % 256)).to_line().unwrap() + "\n";
    // More rows than the clerk's threshold, more bytes than a socket's buffer.
    for i in 0..1_500 {
        client.send(line(i).as_bytes());
        rows(client.answer());
    }
    let list = daemon.list();
    assert_eq!(list.len(), 1_500);
    assert_eq!(list.iter().map(|r| r.id).max(), Some(1_500));
}

#[test]
fn only_owner_and_group_may_use_it_and_a_dead_ones_socket_is_replaced() {
    let rig = Rig::new();
    let mut daemon = rig.start();
    let mode = std::fs::metadata(rig.socket()).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o660);
    daemon.kill();
    assert!(rig.socket().exists(), "a killed one leaves it behind");
    assert!(rig.start().list().is_empty());
}

#[test]
fn what_somebody_uses_is_not_taken_away() {
    let rig = Rig::new();
    let listener = UnixListener::bind(rig.socket()).unwrap();
    let mut daemon = rig.launch(&[]);
    assert!(!daemon.ended_within(SOON).unwrap().success());
    assert!(daemon.log().contains("another program listens"), "{}", daemon.log());
    drop(listener);
    std::fs::remove_file(rig.socket()).unwrap();
    std::fs::write(rig.socket(), "precious").unwrap();
    let mut daemon = rig.launch(&[]);
    assert!(!daemon.ended_within(SOON).unwrap().success());
    assert!(daemon.log().contains("is no socket"), "{}", daemon.log());
    assert_eq!(std::fs::read_to_string(rig.socket()).unwrap(), "precious");
}

#[test]
fn an_unknown_group_leaves_the_socket_to_its_owner_and_says_so() {
    let rig = Rig::with("group = \"no-such-group-here\"");
    let daemon = rig.start();
    let mode = std::fs::metadata(rig.socket()).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
    match daemon.ask(&Request::Status) {
        Response::Ok(Payload::Status(s)) => {
            assert!(s.attention.iter().any(|a| a.text.contains("no-such-group-here")), "{:?}", s.attention);
        }
        other => panic!("{other:?}"),
    }
}
