//! Processes that run beside a test.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::Pid;

/// How long a killed process may take to be gone.
const KILLED: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stream {
    Out,
    Err,
}

#[derive(Default)]
struct State {
    lines: Vec<(Stream, String)>,
    streams_ended: u8,
    status: Option<ExitStatus>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Waits until `done` says so, or the deadline passes.
    fn wait(&self, deadline: Duration, mut done: impl FnMut(&State) -> bool) -> MutexGuard<'_, State> {
        let guard = self.changed.wait_timeout_while(self.lock(), deadline, |s| !done(s));
        guard.unwrap_or_else(|e| e.into_inner()).0
    }
}

/// A running process. Its output is kept, and printed if the test fails; it is killed when dropped.
pub(crate) struct Daemon {
    name: String,
    pid: Pid,
    shared: Arc<Shared>,
}

/// What a process left.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Finished {
    /// Standard output of a process that has to succeed.
    pub(crate) fn expect_success(self) -> String {
        assert!(self.status.success(), "{}: {}{}", self.status, self.stdout, self.stderr);
        self.stdout
    }
}

/// Runs a command to its end, at most until the deadline.
pub(crate) fn run(command: &Command, deadline: Duration) -> Finished {
    Daemon::spawn(&format!("{:?}", command.get_program()), command).finish(deadline)
}

/// The same command, which dies with this thread.
pub(crate) fn mortal(command: &Command) -> Command {
    let mut wrapped = Command::new("setpriv");
    wrapped.args(["--pdeathsig", "KILL", "--"]).arg(command.get_program()).args(command.get_args());
    for (key, value) in command.get_envs() {
        match value {
            Some(value) => wrapped.env(key, value),
            None => wrapped.env_remove(key),
        };
    }
    if let Some(dir) = command.get_current_dir() {
        wrapped.current_dir(dir);
    }
    wrapped
}

impl Daemon {
    /// Starts it; `name` is for messages.
    #[expect(clippy::zombie_processes, reason = "the waiter thread reaps it")]
    pub(crate) fn spawn(name: &str, command: &Command) -> Daemon {
        let mut wrapped = mortal(command);
        wrapped.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = wrapped.spawn().unwrap_or_else(|e| panic!("{name} cannot be started: {e}"));
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
        let shared = Arc::new(Shared::default());
        keep(Stream::Out, child.stdout.take().unwrap(), &shared);
        keep(Stream::Err, child.stderr.take().unwrap(), &shared);
        let waiter = shared.clone();
        thread::spawn(move || {
            // First without reaping: while nobody knows the status, the id stays this process's and can be signalled.
            let _ = waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT);
            let mut state = waiter.lock();
            state.status = Some(match waitpid(pid, None) {
                Ok(WaitStatus::Exited(_, code)) => ExitStatus::from_raw((code & 0xff) << 8),
                Ok(WaitStatus::Signaled(_, signal, _)) => ExitStatus::from_raw(signal as i32),
                other => panic!("waitpid({pid}): {other:?}"),
            });
            waiter.changed.notify_all();
        });
        Daemon { name: name.into(), pid, shared }
    }

    /// Process id.
    pub(crate) fn id(&self) -> i32 {
        self.pid.as_raw()
    }

    /// Whether it has not ended.
    pub(crate) fn is_running(&self) -> bool {
        self.shared.lock().status.is_none()
    }

    /// Number of lines so far, a place to wait from.
    pub(crate) fn mark(&self) -> usize {
        self.shared.lock().lines.len()
    }

    /// Waits for a line that contains `text`, of all lines so far and to come; returns it.
    pub(crate) fn wait_for_line(&self, text: &str, deadline: Duration) -> String {
        self.wait_for_line_after(0, text, deadline)
    }

    /// The same, of the lines since a mark.
    pub(crate) fn wait_for_line_after(&self, mark: usize, text: &str, deadline: Duration) -> String {
        let found =
            |s: &State| s.lines.iter().skip(mark).find(|(_, l)| l.contains(text)).map(|(_, l)| l.clone());
        let mut line = None;
        let state = self.shared.wait(deadline, |s| {
            line = found(s);
            // Both streams at their end: nothing can come any more.
            line.is_some() || s.streams_ended == 2
        });
        let ended = state.streams_ended == 2;
        drop(state);
        line.unwrap_or_else(|| {
            let why = if ended { "it ended".to_owned() } else { format!("not within {deadline:?}") };
            panic!("{}: no line with {text:?}: {why}; it said:\n{}", self.name, self.log())
        })
    }

    /// Waits for its end.
    pub(crate) fn wait_exit(&self, deadline: Duration) -> ExitStatus {
        let status = self.shared.wait(deadline, |s| s.status.is_some()).status;
        status.unwrap_or_else(|| {
            panic!("{} has not ended within {deadline:?}; it said:\n{}", self.name, self.log())
        })
    }

    /// SIGTERM, and its end. One that does not heed it is a failure (and is killed).
    pub(crate) fn term(&self, deadline: Duration) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        self.wait_exit(deadline)
    }

    /// SIGKILL, and its end.
    pub(crate) fn kill9(&self) -> ExitStatus {
        self.signal(Signal::SIGKILL);
        self.wait_exit(KILLED)
    }

    /// Sends a signal, if it runs.
    pub(crate) fn signal(&self, signal: Signal) {
        let state = self.shared.lock();
        if state.status.is_none() {
            kill(self.pid, signal).unwrap_or_else(|e| panic!("kill({}, {signal}): {e}", self.name));
        }
    }

    /// Waits for its end and the end of its output.
    pub(crate) fn finish(self, deadline: Duration) -> Finished {
        let end = Instant::now() + deadline;
        let status = self.wait_exit(deadline);
        let left = end.saturating_duration_since(Instant::now());
        drop(self.shared.wait(left, |s| s.streams_ended == 2));
        Finished { status, stdout: self.text(Some(Stream::Out)), stderr: self.text(Some(Stream::Err)) }
    }

    /// What it said so far, on both streams.
    pub(crate) fn log(&self) -> String {
        self.text(None)
    }

    fn text(&self, only: Option<Stream>) -> String {
        let state = self.shared.lock();
        let lines = state.lines.iter().filter(|(s, _)| only.is_none_or(|o| o == *s));
        lines.flat_map(|(_, l)| [l.as_str(), "\n"]).collect()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let state = self.shared.lock();
        if state.status.is_none() {
            let _ = kill(self.pid, Signal::SIGKILL);
        }
        drop(state);
        drop(self.shared.wait(KILLED, |s| s.status.is_some()));
        if thread::panicking() {
            eprintln!("---- {} ({}) said:\n{}----", self.name, self.pid, self.log());
        }
    }
}

/// Reads a stream until its end, which may be later than the process's: children inherit it.
fn keep(stream: Stream, from: impl Read + Send + 'static, shared: &Arc<Shared>) {
    let shared = shared.clone();
    thread::spawn(move || {
        let mut reader = BufReader::new(from);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
            let text = String::from_utf8_lossy(&line).trim_end_matches('\n').to_owned();
            shared.lock().lines.push((stream, text));
            shared.changed.notify_all();
            line.clear();
        }
        shared.lock().streams_ended += 1;
        shared.changed.notify_all();
    });
}
