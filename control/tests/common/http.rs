//! A client of the HTTP API that sends just what it is told.
#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    reason = "every test binary uses its own part of what is here"
)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use api::{Payload, Request, Response, Role};
use serde_json::Value;

use crate::common::{Daemon, Rig, SOON, free_port};

/// An answer.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Reply {
    pub fn read(mut stream: impl Read) -> Reply {
        let mut bytes = Vec::new();
        // Whoever refuses a body closes while it is sent: what was read until then counts.
        let _ = stream.read_to_end(&mut bytes);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
        Reply { status, head: head.to_ascii_lowercase(), body: body.to_owned() }
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    /// The text of a problem, which it has to be.
    pub fn problem(&self) -> String {
        assert!(self.head.contains("content-type: application/problem+json"), "{self:?}");
        let json = self.json();
        assert_eq!(json["status"], self.status, "{self:?}");
        format!("{}: {}; {}", json["code"], json["detail"], json["hint"])
    }
}

/// A request as it goes over the wire.
pub fn wire(method: &str, path: &str, token: Option<&str>, body: Option<&str>) -> String {
    let mut text = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n");
    if let Some(token) = token {
        text += &format!("Authorization: Bearer {token}\r\n");
    }
    if let Some(body) = body {
        text += &format!("Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    } else {
        text += "\r\n";
    }
    text
}

/// A cordond with an HTTP API, and a token of each role.
pub struct Site {
    pub rig: Rig,
    pub daemon: Daemon,
    pub address: SocketAddr,
    pub tokens: Vec<(Role, String)>,
}

impl Site {
    pub fn new() -> Site {
        Site::with("", |_| ())
    }

    /// With further lines in `[api]`, after something was done to its directories.
    pub fn with(lines: &str, before: impl FnOnce(&Rig)) -> Site {
        let address = free_port();
        let rig = Rig::with(&format!("[api]\nlisten = \"{address}\"\n{lines}"));
        before(&rig);
        Site::of(rig, address)
    }

    /// On directories and a configuration that are there.
    pub fn of(rig: Rig, address: SocketAddr) -> Site {
        let daemon = rig.start();
        let tokens = Role::ALL.iter().map(|r| (*r, token(&daemon, r.name(), *r))).collect();
        let site = Site { rig, daemon, address, tokens };
        site.daemon.until("the API", |_| TcpStream::connect(address).ok().map(|_| ()));
        site
    }

    pub fn token(&self, role: Role) -> &str {
        self.tokens.iter().find(|(r, _)| *r == role).map(|(_, t)| t.as_str()).unwrap()
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        stream.set_write_timeout(Some(SOON)).unwrap();
        stream
    }

    /// Sends these bytes and takes the answer.
    pub fn send(&self, bytes: &[u8]) -> Reply {
        let mut stream = self.connect();
        let _ = stream.write_all(bytes);
        Reply::read(stream)
    }

    pub fn call(&self, method: &str, path: &str, token: Option<&str>, body: Option<&str>) -> Reply {
        self.send(wire(method, path, token, body).as_bytes())
    }

    /// As one who may everything.
    pub fn get(&self, path: &str) -> Reply {
        self.call("GET", path, Some(self.token(Role::Admin)), None)
    }

    pub fn post(&self, path: &str, body: &str) -> Reply {
        self.call("POST", path, Some(self.token(Role::Admin)), Some(body))
    }
}

/// Makes a token.
pub fn token(daemon: &Daemon, name: &str, role: Role) -> String {
    let secret = api::token::secret().unwrap();
    let digest = api::token::digest(&secret);
    match daemon.ask(&Request::TokenCreate { name: name.to_owned(), role, digest, until: None }) {
        Response::Ok(Payload::Tokens(rows)) => assert_eq!(rows[0].name, name),
        other => panic!("{other:?}"),
    }
    secret
}
