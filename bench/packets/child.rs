//! A process that is measured: its output is kept, it dies with us, and it is killed when dropped.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::stop;

/// Lines of output that an error message repeats.
const TAIL: usize = 12;
/// Longer than between two updates of a running thread's time by the kernel.
const CLOCK_TICK: Duration = Duration::from_millis(15);

/// A running process.
pub(crate) struct Child {
    name: &'static str,
    process: std::process::Child,
    said: Arc<Mutex<Vec<String>>>,
}

impl Child {
    /// Starts it on the cores of `cpus` (a list as taskset takes it), with a runtime directory for DPDK.
    pub(crate) fn start<I>(
        name: &'static str,
        program: &Path,
        args: I,
        cpus: &str,
        runtime: &Path,
    ) -> Result<Child, String>
    where
        I: IntoIterator,
        I::Item: AsRef<OsStr>,
    {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--", "taskset", "-c", cpus, "stdbuf", "-oL"]);
        command.arg(program).args(args).env("RUNTIME_DIRECTORY", runtime).env_remove("NOTIFY_SOCKET");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = command.spawn().map_err(|e| format!("{name} cannot be started: {e}"))?;
        let said = Arc::new(Mutex::new(Vec::new()));
        if let Some(out) = process.stdout.take() {
            keep(out, &said);
        }
        if let Some(err) = process.stderr.take() {
            keep(err, &said);
        }
        Ok(Child { name, process, said })
    }

    fn lines(&self) -> Vec<String> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// An error message with what it said last.
    pub(crate) fn complaint(&self, what: &str) -> String {
        let lines = self.lines();
        let tail = lines[lines.len().saturating_sub(TAIL)..].join("\n    ");
        format!("{}: {what}; it said last:\n    {tail}", self.name)
    }

    /// An error when it has ended.
    pub(crate) fn alive(&mut self) -> Result<(), String> {
        match self.process.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => {
                // Its last words may still be on their way.
                thread::sleep(Duration::from_millis(50));
                Err(self.complaint(&format!("it ended: {status}")))
            }
            Err(e) => Err(format!("waitpid({}): {e}", self.name)),
        }
    }

    /// Number of lines so far: a place to wait from.
    pub(crate) fn mark(&self) -> usize {
        self.lines().len()
    }

    /// Waits for a line since `mark` that contains `text`.
    pub(crate) fn wait_for(&mut self, mark: usize, text: &str, deadline: Duration) -> Result<(), String> {
        let found = stop::wait(text, deadline, || {
            let found = self.lines().iter().skip(mark).any(|l| l.contains(text));
            self.alive()?;
            Ok(found.then_some(()))
        });
        found.map_err(|e| self.complaint(&format!("no \"{text}\" ({e})")))
    }

    /// Types a line.
    pub(crate) fn type_line(&mut self, line: &str) -> Result<(), String> {
        let Some(input) = &mut self.process.stdin else { return Ok(()) };
        let written = writeln!(input, "{line}").and_then(|()| input.flush());
        written.map_err(|e| self.complaint(&format!("it does not listen: {e}")))
    }

    /// Stops it in its tracks, or lets it go on.
    pub(crate) fn freeze(&self, frozen: bool) -> Result<(), String> {
        let signal = if frozen { Signal::SIGSTOP } else { Signal::SIGCONT };
        kill(self.pid(), signal).map_err(|e| format!("kill({}, {signal}): {e}", self.name))
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.process.id()).unwrap_or(0))
    }

    /// Its thread of this name.
    pub(crate) fn thread(&mut self, name: &str, deadline: Duration) -> Result<Thread, String> {
        let tasks = PathBuf::from(format!("/proc/{}/task", self.process.id()));
        stop::wait(name, deadline, || {
            self.alive()?;
            let entries = fs::read_dir(&tasks).into_iter().flatten().flatten();
            let mut named = entries.filter(|t| {
                fs::read_to_string(t.path().join("comm")).is_ok_and(|comm| comm.trim_end() == name)
            });
            Ok(named.next().map(|t| Thread { schedstat: t.path().join("schedstat") }))
        })
        .map_err(|e| self.complaint(&format!("it has no thread {name} ({e})")))
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn keep(from: impl Read + Send + 'static, said: &Arc<Mutex<Vec<String>>>) {
    let said = Arc::clone(said);
    thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            said.lock().unwrap_or_else(PoisonError::into_inner).push(line);
        }
    });
}

/// A thread whose time on its core is read.
pub(crate) struct Thread {
    schedstat: PathBuf,
}

impl Thread {
    /// Nanoseconds on a core so far. The kernel updates this a few hundred times a second: waits for an update, so
    /// that whatever the caller reads next belongs to the same instant.
    pub(crate) fn on_cpu_ns(&self) -> Result<u64, String> {
        let first = self.read()?;
        let until = Instant::now() + CLOCK_TICK;
        while Instant::now() < until {
            let now = self.read()?;
            if now != first {
                return Ok(now);
            }
        }
        Ok(first)
    }

    fn read(&self) -> Result<u64, String> {
        let text = fs::read_to_string(&self.schedstat)
            .map_err(|e| format!("read({}): {e}", self.schedstat.display()))?;
        let first = text.split_whitespace().next().and_then(|n| n.parse().ok());
        first.ok_or_else(|| format!("{} holds no time: {text}", self.schedstat.display()))
    }
}
