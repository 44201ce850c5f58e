//! A cordond that says what a test wants, and sample rows.
#![allow(dead_code, clippy::unwrap_used, reason = "shared by several tests, which fail by panicking")]

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use api::{
    Action, ActionTaken, Direction, IncidentRow, Kind, LockRow, Payload, Reason, Request, Response, Target,
    Time,
};
use tempfile::TempDir;

/// No test waits longer.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// A socket with a thread behind it that takes one request.
pub(crate) struct Fake {
    pub(crate) dir: TempDir,
    requests: Receiver<Result<Request, api::Failure>>,
    /// Dropped with the fake: the end of a connection that is kept open.
    _open: Sender<()>,
}

impl Fake {
    /// Answers with a payload.
    pub(crate) fn ok(payload: Payload) -> Fake {
        Fake::says(format!("{}\n", Response::Ok(payload).to_line()).into_bytes(), false)
    }

    /// Answers with a failure.
    pub(crate) fn failure(code: api::ErrorCode, message: &str, hint: &str) -> Fake {
        let failure = api::Failure::new(code, message, hint);
        Fake::says(format!("{}\n", Response::Error(failure).to_line()).into_bytes(), false)
    }

    /// Answers with bytes, then closes, or keeps the connection open.
    pub(crate) fn says(answer: Vec<u8>, keep_open: bool) -> Fake {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join("cordon.sock")).unwrap();
        let (seen, requests) = channel();
        let (open, until) = channel::<()>();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.set_read_timeout(Some(DEADLINE)).unwrap();
            let mut line = Vec::new();
            BufReader::new(&stream).read_until(b'\n', &mut line).unwrap();
            line.pop();
            let _ = seen.send(Request::from_line(&line));
            let _ = stream.write_all(&answer);
            if keep_open {
                let _ = until.recv_timeout(DEADLINE);
            }
        });
        Fake { dir, requests, _open: open }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.path().join("cordon.sock")
    }

    /// Runs the command against it.
    pub(crate) fn run(&self, words: &[&str]) -> Ran {
        cordon(&self.socket(), words)
    }

    /// What it was asked.
    pub(crate) fn request(&self) -> Request {
        self.requests.recv_timeout(DEADLINE).unwrap().unwrap()
    }
}

/// What a command printed.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl From<Output> for Ran {
    fn from(o: Output) -> Ran {
        Ran {
            code: o.status.code().unwrap(),
            out: String::from_utf8(o.stdout).unwrap(),
            err: String::from_utf8(o.stderr).unwrap(),
        }
    }
}

impl Ran {
    /// The exit code and words of both outputs; whatever is printed holds no escape code.
    #[track_caller]
    pub(crate) fn is(self, code: i32, out: &[&str], err: &[&str]) -> Ran {
        assert_eq!(self.code, code, "{self:?}");
        for w in out {
            assert!(self.out.contains(w), "`{w}` is not in:\n{}", self.out);
        }
        for w in err {
            assert!(self.err.contains(w), "`{w}` is not in:\n{}", self.err);
        }
        assert!(!self.out.contains('\x1b') && !self.err.contains('\x1b'), "{self:?}");
        self
    }

    /// Every line fits, but for commands to copy, which are as long as the options that were given.
    #[track_caller]
    pub(crate) fn fits(self) -> Ran {
        for line in self.out.lines().filter(|l| !l.contains("cordon --socket ")) {
            assert!(line.chars().count() <= 100, "{} characters: {line}", line.chars().count());
        }
        self
    }
}

pub(crate) fn command(words: &[&str]) -> Command {
    let mut c = Command::new(env!("CARGO_BIN_EXE_cordon"));
    c.args(words);
    c
}

/// Runs the command against a socket.
pub(crate) fn cordon(socket: &Path, words: &[&str]) -> Ran {
    let mut c = command(words);
    c.arg("--socket").arg(socket);
    c.output().unwrap().into()
}

pub(crate) fn connect_until_full(path: &Path) -> Vec<UnixStream> {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
    use std::os::fd::AsRawFd;
    let address = UnixAddr::new(path).unwrap();
    let mut held = Vec::new();
    loop {
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let fd = socket(AddressFamily::Unix, SockType::Stream, flags, None).unwrap();
        match connect(fd.as_raw_fd(), &address) {
            Ok(()) => held.push(UnixStream::from(fd)),
            Err(nix::errno::Errno::EAGAIN) => return held,
            Err(e) => panic!("{e}"),
        }
    }
}

pub(crate) fn target(s: &str) -> Target {
    s.parse().unwrap()
}

pub(crate) fn ago(ms: i64) -> Time {
    Time::now().plus_ms(-ms)
}

pub(crate) fn lock(id: u64, on: &str) -> LockRow {
    LockRow {
        case: Some("4711".to_owned()),
        note: Some("three reminders".to_owned()),
        generation: 7,
        ..LockRow::new(id, target(on), Direction::Both, Reason::NonPayment, "alice", ago(7_800_000))
    }
}

pub(crate) fn incident(id: &str, address: &str) -> IncidentRow {
    IncidentRow {
        id: id.to_owned(),
        kind: Kind::AttackOut,
        address: Some(address.to_owned()),
        mac: None,
        direction: Direction::Out,
        action: Action::Lock,
        actions: vec![
            ActionTaken { action: Action::Warn, at: ago(61_000) },
            ActionTaken { action: Action::Lock, at: ago(60_000) },
        ],
        rule: "syn-out/default".to_owned(),
        opened: ago(61_000),
        first_seen: ago(62_000),
        last_seen: ago(0),
        protocol: Some("tcp".to_owned()),
        case: None,
        ports: Vec::new(),
        attack: None,
        contacts: 0,
        answered: 0,
        measure: "syn".to_owned(),
        window: "fast".to_owned(),
        limit: 5_000,
        peak: 135_580,
        packets: 40_674_000,
        bytes: 5_909_000_000,
        seconds: 62,
        dropped: 40_000_000,
        held_back: None,
        would: None,
        state: api::State::Locked,
        timeline: Vec::new(),
        closed: None,
        files: vec!["summary.txt".to_owned()],
        files_removed: None,
        server: None,
        customer: None,
    }
}
