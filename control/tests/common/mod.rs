//! A cordond of one's own: directories, configuration, start, questions, end.
#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    reason = "every test binary uses its own part of what is here"
)]

pub mod outside;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use api::{Direction, LockRow, Payload, Reason, Request, Response, StatusReport};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

/// Longest wait for anything that should happen at once.
pub const SOON: Duration = Duration::from_secs(20);

/// Directories and configuration of one cordond.
pub struct Rig {
    pub dir: TempDir,
    pub tables: TempDir,
    pub config: PathBuf,
    pub program: PathBuf,
}

impl Rig {
    pub fn new() -> Rig {
        Rig::with("")
    }

    /// With further lines in `[control]`.
    pub fn with(control: &str) -> Rig {
        let dir = tempfile::Builder::new().prefix("cordon-test").tempdir().unwrap();
        let tables = tempfile::Builder::new().prefix("cordon-test").tempdir_in("/dev/shm").unwrap();
        let config = dir.path().join("cordon.toml");
        let program = env!("CARGO_BIN_EXE_cordond").into();
        let rig = Rig { dir, tables, config, program };
        rig.write_config(&rig.text(control, "192.0.2.0/24"));
        rig
    }

    pub fn write_config(&self, text: &str) {
        std::fs::write(&self.config, text).unwrap();
    }

    /// A good configuration.
    pub fn text(&self, control: &str, network: &str) -> String {
        let metrics = if control.contains("metrics") { "" } else { "metrics = \"off\"" };
        format!(
            "[run]\ndir = \"{0}\"\ntables = \"{1}\"\nstate = \"{0}/state\"\n\
             [tables]\nhosts = 1024\nipv6_hosts = 256\nlocks = 4096\n\
             [control]\n{metrics}\n{control}\n\
             [[wire]]\nname = \"w\"\ninside = \"l2\"\ninside_port = \"net_null0\"\noutside_port = \"net_null1\"\n\
             [[network]]\nprefix = \"{network}\"\n",
            self.dir.path().display(),
            self.tables.path().display(),
        )
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("cordon.sock")
    }

    pub fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    /// Starts cordond and waits until it says that it is ready.
    pub fn start(&self) -> Daemon {
        self.start_with(&[])
    }

    pub fn start_with(&self, arguments: &[&str]) -> Daemon {
        let mut daemon = self.launch(arguments);
        daemon.wait_ready();
        daemon
    }

    /// Starts cordond.
    pub fn launch(&self, arguments: &[&str]) -> Daemon {
        let notify = self.dir.path().join("notify");
        let _ = std::fs::remove_file(&notify);
        let listener = UnixDatagram::bind(&notify).unwrap();
        listener.set_read_timeout(Some(SOON)).unwrap();
        let log = self.dir.path().join("log");
        let out = std::fs::OpenOptions::new().create(true).append(true).open(&log).unwrap();
        let child = Command::new(&self.program)
            .arg("run")
            .arg("--config")
            .arg(&self.config)
            .args(arguments)
            .env("NOTIFY_SOCKET", &notify)
            .env_remove("JOURNAL_STREAM")
            .stdin(Stdio::null())
            .stdout(out.try_clone().unwrap())
            .stderr(out)
            .spawn()
            .unwrap();
        Daemon { child, notify: listener, log, socket: self.socket() }
    }
}

/// A running cordond, killed when it goes out of scope.
pub struct Daemon {
    pub child: Child,
    notify: UnixDatagram,
    pub log: PathBuf,
    socket: PathBuf,
}

impl Daemon {
    fn wait_ready(&mut self) {
        let mut buffer = [0u8; 1024];
        loop {
            let n = self
                .notify
                .recv(&mut buffer)
                .unwrap_or_else(|e| panic!("cordond is not ready: {e}\n{}", self.log()));
            if buffer[..n].starts_with(b"READY=1") {
                return;
            }
            assert!(self.child.try_wait().unwrap().is_none(), "cordond ended\n{}", self.log());
        }
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    pub fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).unwrap())
    }

    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).unwrap();
    }

    /// Kills it as no program can prevent.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits for its end, at most so long.
    pub fn ended_within(&mut self, wait: Duration) -> Option<ExitStatus> {
        let id = rustix::process::Pid::from_raw(self.pid().as_raw()).unwrap();
        let fd = rustix::process::pidfd_open(id, rustix::process::PidfdFlags::empty()).unwrap();
        readable(&fd, wait).then(|| self.child.wait().unwrap())
    }

    /// Asks and takes the answer.
    pub fn ask(&self, request: &Request) -> Response {
        Client::connect(&self.socket).ask(request)
    }

    pub fn list(&self) -> Vec<LockRow> {
        match self.ask(&Request::List) {
            Response::Ok(Payload::Locks(rows)) => rows,
            other => panic!("{other:?}"),
        }
    }

    pub fn targets(&self) -> Vec<String> {
        let mut all: Vec<String> = self.list().iter().map(|r| r.target.to_string()).collect();
        all.sort();
        all
    }

    pub fn status(&self) -> StatusReport {
        match self.ask(&Request::Status) {
            Response::Ok(Payload::Status(s)) => *s,
            other => panic!("{other:?}"),
        }
    }

    /// Everything that needs attention, as one text.
    pub fn attention(&self) -> String {
        self.status().attention.iter().map(|a| format!("{}; {}\n", a.text, a.next_step)).collect()
    }

    /// Asks until the answer satisfies; every question waits for its answer, so this is no spinning.
    pub fn until<T>(&self, what: &str, mut found: impl FnMut(&Daemon) -> Option<T>) -> T {
        let deadline = Instant::now() + SOON;
        loop {
            if let Some(t) = found(self) {
                return t;
            }
            assert!(Instant::now() < deadline, "{what}\n{}", self.log());
            std::thread::yield_now();
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A connection to the control socket.
pub struct Client {
    pub stream: BufReader<UnixStream>,
}

impl Client {
    pub fn connect(path: &Path) -> Client {
        let stream = UnixStream::connect(path).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        stream.set_write_timeout(Some(SOON)).unwrap();
        Client { stream: BufReader::new(stream) }
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.get_mut().write_all(bytes).unwrap();
    }

    /// The next line; empty at the end of the connection.
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.stream.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    pub fn answer(&mut self) -> Response {
        let line = self.line();
        Response::from_line(line.as_bytes()).unwrap_or_else(|e| panic!("{e}: {line}"))
    }

    pub fn ask(&mut self, request: &Request) -> Response {
        self.send(format!("{}\n", request.to_line().unwrap()).as_bytes());
        self.answer()
    }
}

/// A request to lock an address or prefix in both directions.
pub fn lock(target: &str) -> Request {
    Request::Lock {
        target: target.parse().unwrap(),
        reason: Reason::Abuse,
        direction: Direction::Both,
        note: Some("a test".into()),
        case: None,
        until: None,
        except: Vec::new(),
        force: false,
        external_ref: None,
    }
}

/// The rows of an answer that must be good.
pub fn rows(response: Response) -> Vec<LockRow> {
    match response {
        Response::Ok(Payload::Locks(rows)) => rows,
        other => panic!("{other:?}"),
    }
}

/// The failure of an answer that must be bad.
pub fn failure(response: Response) -> api::Failure {
    match response {
        Response::Error(f) => f,
        other => panic!("{other:?}"),
    }
}

/// Whether something can be read within a time.
pub fn readable(fd: impl std::os::fd::AsFd, wait: Duration) -> bool {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    let deadline = Instant::now() + wait;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let mut fds = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::try_from(left).unwrap()) {
            Ok(n) => return n > 0,
            Err(nix::errno::Errno::EINTR) => {}
            Err(e) => panic!("poll: {e}"),
        }
    }
}

/// `GET path`: head and body.
pub fn get(address: SocketAddr, path: &str) -> std::io::Result<(String, String)> {
    let mut stream = std::net::TcpStream::connect_timeout(&address, SOON)?;
    stream.set_read_timeout(Some(SOON))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    Ok((head.to_owned(), body.to_owned()))
}

/// A TCP port that is free at present.
pub fn free_port() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}
