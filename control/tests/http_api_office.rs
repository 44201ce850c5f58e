//! The HTTP API when its office hangs, over TLS, and as its own document describes it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;
#[path = "common/http.rs"]
mod http;

use std::io::Write;
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use api::{Request, Response, Role};
use http::{Reply, Site, wire};
use nix::sys::ptrace;
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use region::Policy;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, crypto::ring};

use common::{Daemon, Rig};

/// Threads of this name, by their ids.
fn threads(daemon: &Daemon, name: &str) -> Vec<Pid> {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", daemon.pid())).unwrap();
    let named = tasks
        .flatten()
        .filter(|t| std::fs::read_to_string(t.path().join("comm")).is_ok_and(|c| c.trim_end() == name));
    named.map(|t| Pid::from_raw(t.file_name().to_str().unwrap().parse().unwrap())).collect()
}

#[test]
fn control_ticks_on_while_the_office_hangs_and_another_takes_over() {
    let site = Site::new();
    let policy = Policy::open(site.rig.tables.path()).unwrap();
    let last_tick = || policy.header().last_tick_unix_ns.load(Relaxed);
    let stuck = threads(&site.daemon, "office")[0];
    // Only this thread stands still, wherever it is: a debugger does that.
    ptrace::seize(stuck, ptrace::Options::empty()).unwrap();
    ptrace::interrupt(stuck).unwrap();
    waitpid(stuck, Some(WaitPidFlag::__WALL)).unwrap();
    let mut waiting = site.connect();
    waiting.write_all(wire("GET", "/api/v1/locks", Some(site.token(Role::Viewer)), None).as_bytes()).unwrap();
    let began = last_tick();
    let mut longest = 0;
    site.daemon.until("three seconds of ticks", |_| {
        let before = last_tick();
        site.daemon.until("the next tick", |_| (last_tick() != before).then_some(()));
        longest = longest.max(last_tick() - before);
        (last_tick() - began > 3_000_000_000).then_some(())
    });
    // A loaded machine makes a tick late, but none waits for the office, which hangs for five seconds and more.
    assert!(longest < 2_000_000_000, "a tick took {longest} ns");
    assert_eq!(threads(&site.daemon, "office"), [stuck], "the office still hangs");
    let said =
        site.daemon.until("a complaint", |d| Some(d.attention()).filter(|a| a.contains("office hangs")));
    assert!(said.contains("HTTP API"), "{said}");
    // Whoever has waited is served by the next one.
    let reply = Reply::read(waiting);
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(site.get("/api/v1/status").status, 200);
    ptrace::detach(stuck, None).unwrap();
    site.daemon.until("the end of the one that hung", |d| (threads(d, "office").len() == 1).then_some(()));
    assert_eq!(site.get("/api/v1/status").status, 200);
}

/// Writes a new certificate for `localhost`, and what a client has to trust for it.
fn certify(rig: &Rig) -> CertificateDer<'static> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(rig.dir.path().join("api.crt"), made.cert.pem()).unwrap();
    std::fs::write(rig.dir.path().join("api.key"), made.signing_key.serialize_pem()).unwrap();
    CertificateDer::from_pem_slice(made.cert.pem().as_bytes()).unwrap()
}

/// Asks over TLS, trusting this certificate only. None: there is no trust.
fn ask_tls(site: &Site, trusted: &CertificateDer<'static>) -> Option<Reply> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    let mut stream = StreamOwned::new(ClientConnection::new(Arc::new(config), name).unwrap(), site.connect());
    let asked =
        stream.write_all(wire("GET", "/api/v1/status", Some(site.token(Role::Viewer)), None).as_bytes());
    asked.ok().map(|()| Reply::read(stream))
}

#[test]
fn tls_is_spoken_and_certificates_change_with_a_reload() {
    let mut lines = String::new();
    let address = common::free_port();
    let rig = Rig::with("");
    for (key, file) in [("tls_cert", "api.crt"), ("tls_key", "api.key")] {
        lines += &format!("{key} = \"{}\"\n", rig.dir.path().join(file).display());
    }
    let first = certify(&rig);
    rig.write_config(&rig.text(&format!("[api]\nlisten = \"{address}\"\n{lines}"), "192.0.2.0/24"));
    let site = Site::of(rig, address);
    assert_eq!(ask_tls(&site, &first).unwrap().status, 200);
    let plain = site.call("GET", "/api/v1/status", Some(site.token(Role::Viewer)), None);
    assert_eq!(plain.status, 0, "nothing goes in the clear: {plain:?}");
    // A new one, after a reload and not before.
    let second = certify(&site.rig);
    assert!(ask_tls(&site, &second).is_none());
    assert!(matches!(site.daemon.ask(&Request::Reload), Response::Ok(_)));
    site.daemon
        .until("the new certificate", |_| ask_tls(&site, &second).filter(|r| r.status == 200).map(|_| ()));
    assert!(ask_tls(&site, &first).is_none());
    // One that is broken leaves the old one in use, and is told of.
    std::fs::write(site.rig.dir.path().join("api.crt"), "broken").unwrap();
    assert!(matches!(site.daemon.ask(&Request::Reload), Response::Ok(_)));
    site.daemon.until("a complaint", |d| d.attention().contains("api.crt has no certificate").then_some(()));
    assert_eq!(ask_tls(&site, &second).unwrap().status, 200);
    // Mended again.
    let third = certify(&site.rig);
    site.daemon.until("contentment", |d| (!d.attention().contains("api.crt")).then_some(()));
    assert_eq!(ask_tls(&site, &third).unwrap().status, 200);
    // Those who connect and say nothing keep nobody else from a handshake.
    let silent: Vec<TcpStream> = (0..20).map(|_| site.connect()).collect();
    assert_eq!(ask_tls(&site, &third).unwrap().status, 200);
    drop(silent);
}

#[test]
fn a_port_that_is_taken_is_told_of_and_waited_for() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let rig = Rig::with(&format!("[api]\nlisten = \"{address}\""));
    let daemon = rig.start();
    daemon.until("a complaint", |d| d.attention().contains("choose another [api] listen").then_some(()));
    drop(taken);
    daemon.until("the API", |_| TcpStream::connect(address).ok().map(|_| ()));
    daemon.until("contentment", |d| (!d.attention().contains("[api] listen")).then_some(()));
}

/// Where `setup.sh test` puts it, or where it is said to be.
fn schemathesis() -> PathBuf {
    std::env::var_os("CORDON_SCHEMATHESIS").map_or_else(|| "schemathesis".into(), PathBuf::from)
}

#[test]
fn schemathesis_finds_no_answer_that_the_document_does_not_describe() {
    let site = Site::new();
    for n in 1..=3 {
        let body = format!(r#"{{"target":"192.0.2.{n}","reason":"abuse","external_ref":"r{n}"}}"#);
        assert_eq!(site.post("/api/v1/locks", &body).status, 201);
    }
    // Requests without a good token run into the limit of failures, which is no contradiction: `http_api.rs` looks at them. A
    // target that looks like one need not be one: what is refused as wrong may well fit the document.
    let out = Command::new(schemathesis())
        .arg("run")
        .arg(format!("http://{}/api/v1/openapi.json", site.address))
        .args(["-H", &format!("Authorization: Bearer {}", site.token(Role::Admin))])
        .args(["--phases", "examples,coverage,fuzzing", "--generation-deterministic", "--max-examples", "30"])
        .args(["--exclude-checks", "positive_data_acceptance,ignored_auth,missing_required_header"])
        .args(["--request-timeout", "20", "--warnings", "off", "--no-color"])
        .current_dir(site.rig.dir.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success(), "{text}\n{}", String::from_utf8_lossy(&out.stderr));
    assert!(text.contains("Tested: 20"), "all operations: {text}");
}
