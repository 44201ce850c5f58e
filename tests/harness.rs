//! The tests' own tools, as far as they need no privileges.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails here")]

mod common;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use common::{Daemon, Metrics, run};

const SOON: Duration = Duration::from_secs(10);

fn sh(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    command
}

/// The message of a failure that has to come.
fn failure(work: impl FnOnce()) -> String {
    let panic = catch_unwind(AssertUnwindSafe(work)).expect_err("this has to fail");
    panic.downcast_ref::<String>().cloned().unwrap_or_default()
}

#[test]
fn a_line_is_waited_for_and_found_again() {
    let d = Daemon::spawn("speaker", &sh("echo one; echo two >&2; read x <&2; sleep 60"));
    assert_eq!(d.wait_for_line("tw", SOON), "two");
    assert_eq!(d.wait_for_line("one", SOON), "one");
    assert!(d.is_running());
    assert_eq!(d.mark(), 2);
}

#[test]
fn a_line_that_never_comes_fails_at_the_deadline_with_the_log() {
    let d = Daemon::spawn("silent", &sh("echo hello; exec sleep 60"));
    d.wait_for_line("hello", SOON);
    let begin = Instant::now();
    let message = failure(|| drop(d.wait_for_line("never", Duration::from_millis(200))));
    assert!((Duration::from_millis(200)..SOON).contains(&begin.elapsed()));
    assert!(
        message.contains("no line with \"never\": not within 200ms") && message.contains("hello"),
        "{message}"
    );
}

#[test]
fn a_line_of_a_process_that_ended_is_not_waited_for() {
    let d = Daemon::spawn("short", &sh("echo gone >&2; exit 3"));
    let begin = Instant::now();
    let message = failure(|| drop(d.wait_for_line("never", Duration::from_secs(60))));
    assert!(message.contains("it ended") && message.contains("gone"), "{message}");
    assert!(begin.elapsed() < SOON);
    assert_eq!(d.wait_exit(SOON).code(), Some(3));
}

#[test]
fn a_process_that_does_not_heed_sigterm_fails_and_is_killed() {
    let polite = Daemon::spawn("polite", &sh("trap 'exit 7' TERM; echo up; while :; do sleep 0.05; done"));
    polite.wait_for_line("up", SOON);
    assert_eq!(polite.term(SOON).code(), Some(7));

    let rude = Daemon::spawn("rude", &sh("trap '' TERM; echo up; while :; do sleep 0.05; done"));
    rude.wait_for_line("up", SOON);
    let message = failure(|| {
        rude.term(Duration::from_millis(200));
    });
    assert!(message.contains("rude has not ended"), "{message}");
    let process = format!("/proc/{}", rude.id());
    assert!(std::path::Path::new(&process).exists());
    drop(rude);
    assert!(!std::path::Path::new(&process).exists(), "a dropped daemon is killed and reaped");
}

#[test]
fn a_command_ends_within_its_deadline_or_fails() {
    let done = run(&sh("printf 'a\\nb'; echo c >&2; exit 2"), SOON);
    assert_eq!((done.status.code(), done.stdout.as_str(), done.stderr.as_str()), (Some(2), "a\nb\n", "c\n"));
    assert!(
        failure(|| drop(run(&sh("exec sleep 60"), Duration::from_millis(100)))).contains("not ended within")
    );
}

#[test]
fn what_a_test_started_dies_with_the_thread_that_started_it() {
    let pid = thread::spawn(|| {
        let d = Daemon::spawn("orphan", &sh("echo up; exec sleep 60"));
        d.wait_for_line("up", SOON);
        let pid = d.id();
        // As if the test had been killed: nothing is dropped.
        std::mem::forget(d);
        pid
    });
    let pid = pid.join().unwrap();
    common::eventually("the orphan dies", SOON, || {
        (!std::path::Path::new(&format!("/proc/{pid}")).exists()).then_some(())
    });
}

#[test]
fn eventually_gives_up_at_its_deadline() {
    let mut asked = 0;
    assert_eq!(
        common::eventually("three", SOON, || {
            asked += 1;
            (asked == 3).then_some(asked)
        }),
        3
    );
    let message = failure(|| common::eventually("the moon", Duration::from_millis(50), || None));
    assert_eq!(message, "not within 50ms: the moon");
}

#[test]
fn metrics_are_fetched_and_read() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let text = "# HELP a_total x\n# TYPE a_total counter\na_total{side=\"in\",q=\"0\"} 3\na_total{side=\"in\",q=\"1\"} 4\n\
                a_total{side=\"out\",q=\"0\"} 1e3 1700000000000\nb 0.5\nc_bucket{le=\"+Inf\",n=\"a\\\"},b\\\\\"} +Inf\n";
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = [0; 512];
        let n = stream.read(&mut request).unwrap();
        assert!(request[..n].starts_with(b"GET /metrics HTTP/1.0\r\n"));
        write!(stream, "HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\n{text}").unwrap();
    });
    let m = Metrics::fetch(port, SOON).unwrap();
    server.join().unwrap();
    assert_eq!(m.get("a_total", &[("side", "in"), ("q", "1")]), Some(4.0));
    assert_eq!(m.sum("a_total", &[("side", "in")]), 7.0);
    assert_eq!((m.get("b", &[]), m.get("d", &[])), (Some(0.5), None));
    assert_eq!(m.get("c_bucket", &[("n", "a\"},b\\")]), Some(f64::INFINITY));
    assert_eq!(m.names().count(), 5);
    assert!(Metrics::parse("a_total{x=\"1} 2").is_err());
}

#[test]
fn a_program_that_is_not_built_is_named() {
    assert!(failure(|| drop(common::bin("cordon-nonesuch"))).contains("run cargo build --workspace"));
    assert!(common::bin("cordon-traffic").is_file());
}
