//! One question to cordond, one answer, one deadline for both.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use api::{ErrorCode, Failure, Payload, Request, Response};
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, setsockopt, socket, sockopt};
use nix::sys::time::TimeVal;
use nix::unistd::{Gid, Group};

/// Longest answer that is read, bytes: a list of 100,000 locks has 40 MB.
const ANSWER_MAX: usize = 256 << 20;

/// Asks, and waits for the answer until `timeout` has passed.
pub(crate) fn ask(path: &Path, timeout: Duration, request: &Request) -> Result<Payload, Failure> {
    let line = request.to_line()?;
    let deadline = Instant::now() + timeout;
    let mut stream = open(path, timeout)?;
    let sent = stream.write_all(format!("{line}\n").as_bytes());
    // cordond may answer and close before it has read everything, for instance when the caller may not ask: the answer
    // says more than the failed write.
    let answer = read_line(&mut stream, path, deadline, timeout);
    if let (Err(e), Err(_)) = (&sent, &answer) {
        return Err(unreachable(
            format!("{}: the request cannot be sent: {e}", path.display()),
            "see `systemctl status cordond`; nothing was done",
        ));
    }
    match Response::from_line(&answer?) {
        Ok(Response::Ok(payload)) => Ok(payload),
        Ok(Response::Error(failure)) => Err(failure),
        Err(e) => Err(unreachable(
            format!("{}: the answer is not understood: {e}", path.display()),
            "is it cordond's socket? If so, compare `cordon --version` with `cordond --version`",
        )),
    }
}

fn unreachable(message: String, hint: &str) -> Failure {
    Failure::new(ErrorCode::Unreachable, message, hint)
}

/// Connects within a deadline. std's connect has none: it waits for ever while the backlog of a hanging cordond is full.
fn open(path: &Path, timeout: Duration) -> Result<UnixStream, Failure> {
    let fd = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).map_err(|e| {
        unreachable(format!("socket: {e}"), "is the limit of open files reached? see `ulimit -n`")
    })?;
    let wait = TimeVal::new(
        i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
        i64::from(timeout.subsec_micros()).max(i64::from(timeout.as_secs() == 0)),
    );
    setsockopt(&fd, sockopt::SendTimeout, &wait)
        .map_err(|e| unreachable(format!("setsockopt(SO_SNDTIMEO): {e}"), "choose a shorter --timeout"))?;
    let address = UnixAddr::new(path).map_err(|e| {
        let message = format!("{} cannot be a socket: {e}", path.display());
        Failure::new(
            ErrorCode::BadRequest,
            message,
            "a socket's path has at most 107 bytes: choose a shorter one",
        )
    })?;
    connect(fd.as_raw_fd(), &address).map_err(|e| refused(path, e))?;
    Ok(UnixStream::from(fd))
}

/// Why there is no connection, and what to do.
fn refused(path: &Path, e: Errno) -> Failure {
    let shown = path.display();
    match e {
        Errno::ENOENT => unreachable(
            format!("cordond does not run here: there is no {shown}"),
            "start it with `systemctl start cordond`, or name its socket with --socket; \
             packets and locks do not depend on it",
        ),
        Errno::ECONNREFUSED => unreachable(
            format!("cordond does not run: nobody listens on {shown}"),
            "see `journalctl -u cordond`, then `systemctl start cordond`; packets and locks do not depend on it; \
             `cordon bypass on --direct` works without it",
        ),
        Errno::EAGAIN => unreachable(
            format!("cordond does not accept connections on {shown} in time: it hangs, or is overloaded"),
            "see `journalctl -u cordond`, then `systemctl restart cordond`; packets and locks do not depend on it",
        ),
        Errno::EACCES | Errno::EPERM => {
            let hint = match group(path) {
                Some(g) => {
                    format!("run as root, or join the group {g}: usermod -aG {g} USER, then log in again")
                }
                None => "run as root, or join the group that [control] group names".to_owned(),
            };
            Failure::new(ErrorCode::Permission, format!("you may not use {shown}"), hint)
        }
        e => unreachable(format!("connect {shown}: {}", e.desc()), "is it cordond's socket? see --socket"),
    }
}

/// The group that may use a socket.
fn group(path: &Path) -> Option<String> {
    let gid = Gid::from_raw(std::fs::metadata(path).ok()?.gid());
    (gid.as_raw() != 0).then(|| Group::from_gid(gid).ok().flatten().map(|g| g.name)).flatten()
}

/// Everything up to the first end of line.
fn read_line(
    stream: &mut UnixStream,
    path: &Path,
    deadline: Instant,
    timeout: Duration,
) -> Result<Vec<u8>, Failure> {
    let shown = path.display();
    let mut line = Vec::new();
    let mut piece = vec![0u8; 64 << 10];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        // A zero would mean to wait for ever.
        let n = if left.is_zero() {
            Err(ErrorKind::TimedOut.into())
        } else {
            stream.set_read_timeout(Some(left)).and_then(|()| stream.read(&mut piece))
        };
        match n {
            Ok(0) => {
                return Err(unreachable(
                    format!("{shown}: cordond closed the connection before its answer was complete"),
                    "see `journalctl -u cordond`; what was asked may have been done: look before asking again",
                ));
            }
            Ok(n) => {
                let piece = piece.get(..n).unwrap_or_default();
                if let Some(end) = piece.iter().position(|b| *b == b'\n') {
                    line.extend_from_slice(piece.get(..end).unwrap_or_default());
                    return Ok(line);
                }
                line.extend_from_slice(piece);
                if line.len() > ANSWER_MAX {
                    return Err(unreachable(
                        format!("{shown}: the answer does not end within {} MiB", ANSWER_MAX >> 20),
                        "is it cordond's socket? see --socket",
                    ));
                }
            }
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                return Err(unreachable(
                    format!(
                        "{shown}: cordond has not answered within {}",
                        humantime::format_duration(timeout)
                    ),
                    "it may still do what was asked: look before asking again, or wait longer with --timeout 30s",
                ));
            }
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => {
                return Err(unreachable(
                    format!("{shown}: the answer cannot be read: {e}"),
                    "see `journalctl -u cordond`; what was asked may have been done: look before asking again",
                ));
            }
        }
    }
}
