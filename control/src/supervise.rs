//! Starting the dataplane and keeping it alive: `cordond run --with-dataplane`.
//!
//! The dataplane is no child in spirit: it runs in a session of its own, survives cordond, and is adopted by the next one.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use region::Facts;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::log;

/// The hidden command of cordond that becomes the dataplane.
pub const BECOME: &str = "become-dataplane";
/// Pauses before the first, second, … restart.
const PAUSES_S: [u64; 5] = [0, 1, 2, 5, 10];
/// A dataplane that lived so long begins with the first pause again.
const STEADY: Duration = Duration::from_secs(60);
/// A dataplane that is told to stop has this time before it is killed.
const STOP: Duration = Duration::from_secs(5);

/// A process, told apart from others that may get its number later.
#[derive(Debug)]
struct Process {
    pid: i32,
    fd: OwnedFd,
    /// When this cordond started it itself.
    child: Option<Child>,
    since: Instant,
}

impl Process {
    fn open(pid: i32, child: Option<Child>, now: Instant) -> io::Result<Process> {
        let id = Pid::from_raw(pid).ok_or(io::ErrorKind::InvalidInput)?;
        let fd = pidfd_open(id, PidfdFlags::empty())?;
        Ok(Process { pid, fd, child, since: now })
    }

    /// Waits for its end, at most so long.
    fn ended_within(&self, wait: Duration) -> bool {
        use std::os::fd::AsFd;
        let timeout = PollTimeout::try_from(wait).unwrap_or(PollTimeout::MAX);
        let mut fds = [PollFd::new(self.fd.as_fd(), PollFlags::POLLIN)];
        matches!(poll(&mut fds, timeout), Ok(n) if n > 0)
    }

    /// How it ended; known only of a child.
    fn status(&mut self) -> Option<ExitStatus> {
        self.child.as_mut().and_then(|c| c.wait().ok())
    }
}

/// Keeps one dataplane alive.
#[derive(Debug)]
pub struct Supervisor {
    config: PathBuf,
    tables: PathBuf,
    log_file: PathBuf,
    process: Option<Process>,
    failures: usize,
    next_start: Instant,
    token: Token,
    /// What went wrong last, for the operator.
    trouble: Option<String>,
}

impl Supervisor {
    /// For the dataplane of a configuration.
    pub fn new(config: &Path, tables: &Path, run_dir: &Path, token: Token, now: Instant) -> Supervisor {
        Supervisor {
            config: config.to_owned(),
            tables: tables.to_owned(),
            log_file: run_dir.join("dataplane.log"),
            process: None,
            failures: 0,
            next_start: now,
            token,
            trouble: None,
        }
    }

    /// Looks after the dataplane: adopts one that lives, starts one when its time has come. Call each tick, and when the
    /// token is ready.
    pub fn look(&mut self, registry: &Registry, now: Instant) {
        self.bury(registry, now);
        if self.process.is_some() {
            return;
        }
        if let Some(pid) = Facts::writer(&self.tables).filter(|p| *p > 0) {
            match Process::open(pid, None, now) {
                Ok(p) => {
                    log::info(&format!("adopted the dataplane that runs, process {pid}"));
                    self.keep(p, registry);
                }
                Err(e) => self.trouble = Some(format!("pidfd_open({pid}): {e}")),
            }
        } else if now >= self.next_start {
            match self.start(now) {
                Ok(p) => {
                    log::info(&format!(
                        "started the dataplane, process {}; its log is {}",
                        p.pid,
                        self.log_file.display()
                    ));
                    self.keep(p, registry);
                }
                Err(e) => self.failed(format!("starting the dataplane: {e}"), now),
            }
        }
    }

    /// What is wrong, if anything.
    pub fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    /// When it wants to be called, apart from ticks.
    pub fn next_start(&self) -> Option<Instant> {
        self.process.is_none().then_some(self.next_start)
    }

    fn keep(&mut self, process: Process, registry: &Registry) {
        // Without the event its end is found at the next tick.
        let _ = registry.register(&mut SourceFd(&process.fd.as_raw_fd()), self.token, Interest::READABLE);
        self.process = Some(process);
    }

    /// Takes note of the dataplane's end.
    fn bury(&mut self, registry: &Registry, now: Instant) {
        if let Some(p) = &self.process
            && now.duration_since(p.since) >= STEADY
        {
            self.failures = 0;
            self.trouble = None;
        }
        let Some(mut p) = self.process.take_if(|p| p.ended_within(Duration::ZERO)) else { return };
        let _ = registry.deregister(&mut SourceFd(&p.fd.as_raw_fd()));
        let how = p.status().map_or_else(|| "ended".to_owned(), |s| format!("ended with {s}"));
        self.failed(format!("the dataplane, process {}, {how}; see {}", p.pid, self.log_file.display()), now);
    }

    fn failed(&mut self, text: String, now: Instant) {
        let pause = PAUSES_S[self.failures.min(PAUSES_S.len() - 1)];
        self.failures += 1;
        self.next_start = now + Duration::from_secs(pause);
        let when = if pause == 0 { "at once".to_owned() } else { format!("in {pause} s") };
        log::error(&format!("{text}; it is started again {when}"));
        self.trouble = Some(text);
    }

    fn start(&self, now: Instant) -> io::Result<Process> {
        let log = OpenOptions::new().create(true).append(true).mode(0o640).open(&self.log_file)?;
        // This program, under whatever name it has after an upgrade, makes the new session and then becomes the dataplane.
        let child = Command::new("/proc/self/exe")
            .arg(BECOME)
            .arg("--config")
            .arg(&self.config)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .env_remove("NOTIFY_SOCKET")
            .env_remove("WATCHDOG_USEC")
            .env_remove("WATCHDOG_PID")
            .env_remove("JOURNAL_STREAM")
            .spawn()?;
        let pid = i32::try_from(child.id()).unwrap_or(0);
        Process::open(pid, Some(child), now)
    }

    /// Stops the dataplane: asks, waits, kills.
    pub fn stop(mut self) {
        let Some(mut p) = self.process.take() else { return };
        log::info(&format!("stopping the dataplane, process {}", p.pid));
        let asked = pidfd_send_signal(&p.fd, Signal::TERM);
        if asked.is_ok() && !p.ended_within(STOP) {
            log::warning("the dataplane does not stop by itself and is killed");
            let _ = pidfd_send_signal(&p.fd, Signal::KILL);
            p.ended_within(STOP);
        }
        if p.child.is_some() && p.ended_within(Duration::ZERO) {
            p.status();
        }
    }
}

/// Becomes the dataplane; returns only when that fails. Called in the process that [`Supervisor`] starts.
pub fn become_dataplane(config: &Path) -> String {
    if let Err(e) = nix::unistd::setsid() {
        return format!("setsid: {}", e.desc());
    }
    // cordond hears its signals from a descriptor; a new program begins with none blocked.
    let _ = nix::sys::signal::SigSet::all().thread_unblock();
    let program = program();
    let error = Command::new(&program).arg("--config").arg(config).exec();
    format!("exec {}: {error}; install cordon-dataplane beside cordond, or in PATH", program.display())
}

/// The dataplane's program: beside this one, or from PATH.
fn program() -> PathBuf {
    const NAME: &str = "cordon-dataplane";
    let here = std::env::current_exe().ok().and_then(|e| e.parent().map(|d| d.join(NAME)));
    here.filter(|p| File::open(p).is_ok()).unwrap_or_else(|| NAME.into())
}
