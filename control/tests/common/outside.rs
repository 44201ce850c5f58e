//! The world outside: programs in Python that take what leaves the desk, and are as bad as real ones on request.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use api::{OutboxRow, OutboxState, Payload, Request, Response};
use serde_json::Value;

use super::{Daemon, SOON};

/// A process that prints its port, then a line of JSON for everything it takes, and obeys a line for a line.
pub struct Counterpart {
    child: Child,
    orders: ChildStdin,
    said: Receiver<Value>,
    pub port: u16,
}

impl Counterpart {
    pub fn start(python: &str, script: &Path, port: u16, arguments: &[&str]) -> Counterpart {
        let mut child = Command::new(python)
            .arg(script)
            .arg(port.to_string())
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let orders = child.stdin.take().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (sender, said) = channel();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if sender.send(serde_json::from_str(&line).unwrap()).is_err() {
                    return;
                }
            }
        });
        let mut counterpart = Counterpart { child, orders, said, port };
        let up = counterpart.said.recv_timeout(SOON).unwrap();
        counterpart.port = up["port"].as_u64().unwrap().try_into().unwrap();
        counterpart
    }

    /// What it is to do from now on.
    pub fn order(&mut self, order: &str) {
        writeln!(self.orders, "{order}").unwrap();
        let word = order.split(' ').next().unwrap();
        assert_eq!(self.said.recv_timeout(SOON).unwrap()["did"], word);
    }

    /// The next thing that it took.
    pub fn took<T: serde::de::DeserializeOwned>(&self) -> T {
        let value = self.said.recv_timeout(SOON).expect("something to be taken");
        serde_json::from_value(value.clone()).unwrap_or_else(|e| panic!("{e}: {value}"))
    }

    /// That nothing more comes, as far as a short wait tells.
    pub fn is_silent(&self) {
        assert_eq!(self.said.recv_timeout(Duration::from_millis(400)), Err(RecvTimeoutError::Timeout));
    }
}

impl Drop for Counterpart {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Every row of the outbox.
pub fn outbox(daemon: &Daemon) -> Vec<OutboxRow> {
    match daemon.ask(&Request::Outbox { all: true, limit: 1_000 }) {
        Response::Ok(Payload::Outbox(rows)) => rows,
        other => panic!("{other:?}"),
    }
}

/// Waits until a row is in a state.
pub fn done(daemon: &Daemon, id: &str, state: OutboxState) -> OutboxRow {
    daemon.until(&format!("{id} is {state}"), |d| {
        outbox(d).into_iter().find(|r| r.id == id && r.state == state)
    })
}

/// Waits until a row that still waits was tried so often.
pub fn tried(daemon: &Daemon, id: &str, attempts: u32) -> OutboxRow {
    daemon.until(&format!("{id} was tried {attempts} times"), |d| {
        let waits = |r: &OutboxRow| r.id == id && r.attempts == attempts && r.state == OutboxState::Waiting;
        outbox(d).into_iter().find(waits)
    })
}

/// Has a row tried again at once.
pub fn retry(daemon: &Daemon, id: &str) {
    assert!(matches!(daemon.ask(&Request::OutboxRetry { id: id.into() }), Response::Ok(_)));
}

pub fn unlock(target: &str) -> Request {
    Request::Unlock { target: target.parse().unwrap(), reason: None, all: true, until: None }
}

/// A key and a certificate for `localhost` that nobody vouches for.
pub fn certificate(dir: &Path) -> (PathBuf, PathBuf) {
    let (key, cert) = (dir.join("key.pem"), dir.join("cert.pem"));
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"])
        .args(["-addext", "subjectAltName=DNS:localhost"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .arg("-keyout")
        .arg(&key)
        .arg("-out")
        .arg(&cert)
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert!(made.success());
    (key, cert)
}
