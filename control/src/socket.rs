//! The control socket: one JSON line a request, one a response; nothing here ever waits.
//!
//! The socket's file mode says who may ask; who did ask comes from the kernel (`SO_PEERCRED`). What may take long, a
//! user's name from a directory service and a large answer's text, is left to the [`clerk`].

mod clerk;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use api::{ErrorCode, Failure, REQUEST_MAX, Request, Response};
use mio::net::{UnixListener, UnixStream};
use mio::{Interest, Registry, Token, Waker};
use nix::sys::socket::{getsockopt, sockopt};

use crate::effect::ClientId;
use crate::log;
use crate::store::Notice;
use clerk::{Clerk, Job, Report};

/// Clients at a time.
pub const CLIENTS_MAX: usize = 64;
/// A request has to arrive, and an answer to be taken, within this time.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// A user's name has to be found within this time; the number serves otherwise.
const NAME_PATIENCE: Duration = Duration::from_secs(2);
/// Clients have tokens from here on.
pub const FIRST_CLIENT: usize = 1024;

/// Why there is no control socket.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Somebody listens there.
    #[error("another program listens on {}: stop it, or choose another [control] socket", .0.display())]
    InUse(PathBuf),
    /// There is something else.
    #[error("{} exists and is no socket: remove it, or choose another [control] socket", .0.display())]
    NoSocket(PathBuf),
    /// A call failed.
    #[error("{call} {}: {source}; cordond must be able to write its directory", path.display())]
    Io {
        /// The call.
        call: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

/// A request, and who asks.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Whom to answer.
    pub client: ClientId,
    /// User name.
    pub who: String,
    /// What is asked.
    pub request: Request,
}

#[derive(Debug)]
enum State {
    /// Until when the request has to be complete.
    Reading(Instant),
    /// The request waits for the name of its user.
    Naming(Request, Instant),
    /// The request is with control, or its answer with the clerk.
    Waiting,
    /// Until when some more of the answer has to be taken.
    Writing(Instant),
}

#[derive(Debug)]
struct Client {
    stream: UnixStream,
    uid: Option<u32>,
    state: State,
    input: Vec<u8>,
    output: Vec<u8>,
    written: usize,
    /// The client sends no more.
    eof: bool,
    /// Close when the answer is out.
    closing: bool,
}

/// The listening socket and its clients.
#[derive(Debug)]
pub struct Socket {
    listener: UnixListener,
    path: PathBuf,
    clients: BTreeMap<u64, Client>,
    next: u64,
    names: HashMap<u32, String>,
    /// Clients that may have another request in hand: epoll tells of each arrival once.
    again: VecDeque<u64>,
    asked: Vec<Asked>,
    clerk: Clerk,
}

impl Socket {
    /// Listens on `path`. The second value says why others than its owner cannot use it, if so.
    pub fn bind(
        path: &Path,
        group: Option<&str>,
        registry: &Registry,
        token: Token,
        waker: Arc<Waker>,
    ) -> Result<(Socket, Option<Notice>), SocketError> {
        let failed = |call| move |source| SocketError::Io { call, path: path.to_owned(), source };
        if let Some(dir) = path.parent().filter(|d| !d.exists()) {
            std::fs::DirBuilder::new()
                .recursive(true)
                .mode(0o755)
                .create(dir)
                .map_err(failed("mkdir for"))?;
        }
        remove_stale(path)?;
        // Nobody else gets in between the socket's making and the setting of its mode.
        let before = nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o177));
        let bound = UnixListener::bind(path);
        nix::sys::stat::umask(before);
        let mut listener = bound.map_err(failed("bind"))?;
        let notice = group.and_then(|g| give_to(path, g).err()).map(|why| {
            let next_step = "create the group or correct [control] group, let cordond's user be a member, and restart cordond";
            let text = format!("only the owner may use {}: {why}", path.display());
            log::error(&format!("{text}; {next_step}"));
            Notice { text, next_step: next_step.to_owned() }
        });
        if notice.is_none() {
            let mode = std::fs::Permissions::from_mode(0o660);
            std::fs::set_permissions(path, mode).map_err(failed("chmod"))?;
        }
        registry.register(&mut listener, token, Interest::READABLE).map_err(failed("epoll_ctl"))?;
        let clerk = Clerk::start(waker).map_err(failed("starting the clerk of"))?;
        let socket = Socket {
            listener,
            path: path.to_owned(),
            clients: BTreeMap::new(),
            next: FIRST_CLIENT as u64,
            names: HashMap::from([(0, "root".to_owned())]),
            again: VecDeque::new(),
            asked: Vec::new(),
            clerk,
        };
        Ok((socket, notice))
    }

    /// Takes new clients in.
    pub fn accept(&mut self, registry: &Registry, now: Instant) {
        loop {
            let mut stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                // Nobody is left, or no file descriptor: the next tick tries again.
                Err(_) => return,
            };
            if self.clients.len() >= CLIENTS_MAX {
                let busy = Failure::new(
                    ErrorCode::Failed,
                    format!("{CLIENTS_MAX} clients are connected already"),
                    "try again, and see who holds connections open: ss -xp",
                );
                // A small line fits into the socket's buffer; if not, the client sees the end of the connection.
                let _ = stream.write(format!("{}\n", Response::Error(busy).to_line()).as_bytes());
                continue;
            }
            let id = self.next;
            self.next += 1;
            let Ok(token) = usize::try_from(id) else { continue };
            if registry.register(&mut stream, Token(token), Interest::READABLE | Interest::WRITABLE).is_err()
            {
                continue;
            }
            let uid = getsockopt(&stream, sockopt::PeerCredentials).ok().map(|c| c.uid());
            let client = Client {
                stream,
                uid,
                state: State::Reading(now + PATIENCE),
                input: Vec::new(),
                output: Vec::new(),
                written: 0,
                eof: false,
                closing: false,
            };
            self.clients.insert(id, client);
            self.again.push_back(id);
        }
    }

    /// Something happened on a client's connection. `hung_up`: nobody is left to read an answer.
    pub fn ready(&mut self, token: Token, hung_up: bool, now: Instant) {
        let id = token.0 as u64;
        self.advance(id, now);
        // While a disk hangs, clients that gave up must not take the places of others.
        if hung_up && self.clients.get(&id).is_some_and(|c| matches!(c.state, State::Waiting)) {
            self.clients.remove(&id);
        }
    }

    /// Whether a client may have more for us without a further event.
    pub fn has_more(&self) -> bool {
        !self.again.is_empty()
    }

    /// Goes on with the clients that may have more, and takes what the clerk has done. Call once a round.
    pub fn go_on(&mut self, now: Instant) {
        for id in std::mem::take(&mut self.again) {
            self.advance(id, now);
        }
        for report in self.clerk.reports() {
            match report {
                Report::Name { uid, name } => {
                    self.names.insert(uid, name);
                    let asking: Vec<u64> =
                        self.clients.iter().filter(|(_, c)| c.uid == Some(uid)).map(|(id, _)| *id).collect();
                    for id in asking {
                        self.named(id);
                    }
                }
                Report::Line { client, line } => self.send(client.0, line, now),
            }
        }
    }

    /// Requests that arrived since the last call.
    pub fn take_asked(&mut self) -> Vec<Asked> {
        std::mem::take(&mut self.asked)
    }

    /// Answers a client. One that has gone meanwhile is no error.
    pub fn answer(&mut self, client: ClientId, response: Response, now: Instant) {
        if !self.clients.contains_key(&client.0) {
            return;
        }
        if clerk::is_long(&response) {
            self.clerk.ask(Job::Write { client, response });
        } else {
            self.send(client.0, response.to_line(), now);
        }
    }

    /// Ends connections that take too long. Call once a tick.
    pub fn expire(&mut self, now: Instant) {
        let mut slow = Vec::new();
        let mut nameless = Vec::new();
        for (id, c) in &self.clients {
            match &c.state {
                State::Reading(until) | State::Writing(until) if *until <= now => slow.push(*id),
                State::Naming(_, until) if *until <= now => nameless.push(*id),
                _ => {}
            }
        }
        for id in nameless {
            if let Some(uid) = self.clients.get(&id).and_then(|c| c.uid) {
                self.names.entry(uid).or_insert_with(|| format!("uid:{uid}"));
            }
            self.named(id);
        }
        for id in slow {
            let Some(client) = self.clients.get_mut(&id) else { continue };
            if matches!(client.state, State::Reading(_)) && !client.input.is_empty() {
                let late = Failure::new(
                    ErrorCode::BadRequest,
                    format!("the request was not complete within {} s", PATIENCE.as_secs()),
                    "send one JSON object on one line, with its end of line",
                );
                let line = format!("{}\n", Response::Error(late).to_line());
                let _ = client.stream.write(line.as_bytes());
            }
            self.clients.remove(&id);
        }
    }

    /// The user's name is known now, or never will be.
    fn named(&mut self, id: u64) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        let uid = client.uid;
        if let State::Naming(..) = client.state
            && let State::Naming(request, _) = std::mem::replace(&mut client.state, State::Waiting)
        {
            let name = uid.and_then(|u| self.names.get(&u).cloned());
            let who = name.unwrap_or_else(|| "unknown".to_owned());
            self.asked.push(Asked { client: ClientId(id), who, request });
        }
    }

    fn send(&mut self, id: u64, mut line: String, now: Instant) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        line.push('\n');
        client.output = line.into_bytes();
        client.written = 0;
        client.state = State::Writing(now + PATIENCE);
        self.again.push_back(id);
    }

    /// Writes what there is to write, or reads up to the next request.
    fn advance(&mut self, id: u64, now: Instant) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        match client.step(now) {
            Step::Wait => {}
            Step::Close => {
                self.clients.remove(&id);
            }
            Step::Request(request) => {
                let known = client.uid.is_none_or(|u| self.names.contains_key(&u));
                client.state = State::Naming(request, now + NAME_PATIENCE);
                if known {
                    self.named(id);
                } else if let Some(uid) = client.uid {
                    self.clerk.ask(Job::Name { uid });
                }
            }
            Step::Refuse(failure) => {
                client.closing = true;
                self.send(id, Response::Error(failure).to_line(), now);
            }
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // A file that stays is found stale and removed at the next start.
        let _ = std::fs::remove_file(&self.path);
    }
}

enum Step {
    Wait,
    Close,
    Request(Request),
    Refuse(Failure),
}

impl Client {
    fn step(&mut self, now: Instant) -> Step {
        if let State::Writing(_) = self.state {
            match self.flush(now) {
                Ok(true) if self.closing => return Step::Close,
                Ok(true) => self.state = State::Reading(now + PATIENCE),
                Ok(false) => return Step::Wait,
                Err(_) => return Step::Close,
            }
        }
        if !matches!(self.state, State::Reading(_)) {
            return Step::Wait;
        }
        let bad =
            |message: String, hint: &str| Step::Refuse(Failure::new(ErrorCode::BadRequest, message, hint));
        let mut piece = [0u8; 16 << 10];
        loop {
            if let Some(end) = self.input.iter().position(|b| *b == b'\n') {
                let rest = self.input.split_off(end + 1);
                let line = std::mem::replace(&mut self.input, rest);
                let line = line.strip_suffix(b"\n").unwrap_or(&line);
                return match Request::from_line(line) {
                    Ok(request) => Step::Request(request),
                    Err(failure) => Step::Refuse(failure),
                };
            }
            if self.input.len() > REQUEST_MAX {
                return bad(
                    format!("the request is longer than {REQUEST_MAX} bytes"),
                    "send one JSON object on one line",
                );
            }
            if self.eof {
                return if self.input.is_empty() {
                    Step::Close
                } else {
                    bad(
                        "the request does not end with an end of line".into(),
                        "send one JSON object on one line",
                    )
                };
            }
            match self.stream.read(&mut piece) {
                Ok(0) => self.eof = true,
                Ok(n) => self.input.extend_from_slice(piece.get(..n).unwrap_or_default()),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Step::Wait,
                Err(_) => return Step::Close,
            }
        }
    }

    /// True when everything is out.
    fn flush(&mut self, now: Instant) -> io::Result<bool> {
        while let Some(rest) = self.output.get(self.written..).filter(|r| !r.is_empty()) {
            match self.stream.write(rest) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(n) => {
                    self.written += n;
                    self.state = State::Writing(now + PATIENCE);
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(e) => return Err(e),
            }
        }
        self.output = Vec::new();
        Ok(true)
    }
}

/// Removes a socket on which nobody listens any more.
fn remove_stale(path: &Path) -> Result<(), SocketError> {
    use nix::errno::Errno;
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
    use std::os::fd::AsRawFd;
    let failed =
        |call: &'static str| move |source: io::Error| SocketError::Io { call, path: path.to_owned(), source };
    let kind = match std::fs::symlink_metadata(path) {
        Ok(m) => m.file_type(),
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(failed("stat")(e)),
    };
    if !kind.is_socket() {
        return Err(SocketError::NoSocket(path.to_owned()));
    }
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let probe = socket(AddressFamily::Unix, SockType::Stream, flags, None)
        .map_err(|e| failed("socket for")(e.into()))?;
    let address = UnixAddr::new(path).map_err(|e| failed("connect")(e.into()))?;
    match connect(probe.as_raw_fd(), &address) {
        Err(Errno::ECONNREFUSED) => std::fs::remove_file(path).map_err(failed("unlink")),
        Err(Errno::ENOENT) => Ok(()),
        // A full backlog is somebody's too.
        Ok(()) | Err(Errno::EAGAIN) => Err(SocketError::InUse(path.to_owned())),
        Err(e) => Err(failed("connect")(e.into())),
    }
}

fn give_to(path: &Path, group: &str) -> Result<(), String> {
    let found = nix::unistd::Group::from_name(group)
        .map_err(|e| format!("looking up group {group}: {}", e.desc()))?;
    let Some(found) = found else { return Err(format!("there is no group {group}")) };
    std::os::unix::fs::chown(path, None, Some(found.gid.as_raw())).map_err(|e| format!("chgrp {group}: {e}"))
}
