//! `cordond run --with-dataplane`, with a stand-in for the dataplane: a script that tells of its start and then waits.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::time::{Duration, Instant};

use common::{Rig, SOON, readable};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getsid};
use region::{Capacities, Facts};
use tempfile::TempDir;

/// A cordond with the stand-in beside it.
struct Stage {
    rig: Rig,
    _programs: TempDir,
    /// Each start of the stand-in is a line here: its process id.
    starts: File,
    alive: Vec<Pid>,
}

impl Stage {
    fn set() -> Stage {
        // Links to programs need the file system on which they lie.
        let programs = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let mut rig = Rig::new();
        rig.program = programs.path().join("cordond");
        std::fs::hard_link(env!("CARGO_BIN_EXE_cordond"), &rig.program).unwrap();
        let fifo = rig.dir.path().join("starts");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        // Open for both, so that it neither blocks nor ends.
        let starts =
            File::options().read(true).write(true).custom_flags(nix::libc::O_NONBLOCK).open(&fifo).unwrap();
        let script = programs.path().join("cordon-dataplane");
        std::fs::write(&script, format!("#!/bin/sh\necho $$ $1 $2 >{}\nexec sleep 120\n", fifo.display()))
            .unwrap();
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
        Stage { rig, _programs: programs, starts, alive: Vec::new() }
    }

    /// The process id of the next start.
    fn started(&mut self, within: Duration) -> Option<Pid> {
        if !readable(&self.starts, within) {
            return None;
        }
        let mut buffer = [0; 512];
        let n = self.starts.read(&mut buffer).unwrap();
        let line = String::from_utf8_lossy(&buffer[..n]).into_owned();
        let config = format!("--config {}", self.rig.config.display());
        let pid = line.trim().strip_suffix(&config).unwrap_or_else(|| panic!("{line}")).trim();
        let pid = Pid::from_raw(pid.parse().unwrap());
        self.alive.push(pid);
        Some(pid)
    }
}

fn lives(pid: Pid) -> bool {
    // A process that nobody has waited for yet is dead all the same.
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|s| !s.contains(") Z "))
}

impl Drop for Stage {
    fn drop(&mut self) {
        for pid in self.alive.iter().filter(|p| lives(**p)) {
            let _ = kill(*pid, Signal::SIGKILL);
        }
    }
}

#[test]
fn a_dead_dataplane_is_started_again_at_once_and_then_more_slowly() {
    let mut stage = Stage::set();
    let daemon = stage.rig.start_with(&["--with-dataplane"]);
    let first = stage.started(SOON).unwrap_or_else(|| panic!("{}", daemon.log()));
    assert_eq!(getsid(Some(first)).unwrap(), first, "a session of its own");
    let killed = Instant::now();
    kill(first, Signal::SIGKILL).unwrap();
    let second = stage.started(SOON).unwrap();
    let took = killed.elapsed();
    assert!(took < Duration::from_millis(500), "by the event of its death: {took:?}");
    kill(second, Signal::SIGKILL).unwrap();
    assert_eq!(stage.started(Duration::from_millis(700)), None, "a pause of a second");
    let third = stage.started(SOON).unwrap();
    assert!(lives(third) && !lives(second));
    assert!(daemon.log().contains("signal: 9"), "{}", daemon.log());
    eprintln!("death of the dataplane to the start of the next: {took:?}");
}

#[test]
fn the_dataplane_survives_cordond_unless_told_otherwise() {
    let mut stage = Stage::set();
    let mut daemon = stage.rig.start_with(&["--with-dataplane"]);
    let first = stage.started(SOON).unwrap();
    daemon.signal(Signal::SIGTERM);
    assert!(daemon.ended_within(Duration::from_secs(1)).unwrap().success(), "{}", daemon.log());
    assert!(lives(first));
    kill(first, Signal::SIGKILL).unwrap();
    let mut daemon = stage.rig.start_with(&["--with-dataplane", "--stop-dataplane-on-exit"]);
    let second = stage.started(SOON).unwrap();
    daemon.signal(Signal::SIGTERM);
    assert!(daemon.ended_within(SOON).unwrap().success());
    assert!(!lives(second));
}

#[test]
fn a_dataplane_that_lives_is_adopted_and_none_started_beside_it() {
    let mut stage = Stage::set();
    // This test itself is the dataplane.
    let capacities = Capacities { workers: 1, hosts_v4: 1024, hosts_v6: 256, locks: 0 };
    let facts = Facts::create(stage.rig.tables.path(), capacities, 3).unwrap();
    let daemon = stage.rig.start_with(&["--with-dataplane"]);
    daemon.until("attached", |d| (d.status().incarnation == Some(3)).then_some(()));
    assert!(
        daemon.log().contains(&format!("adopted the dataplane that runs, process {}", std::process::id()))
    );
    assert_eq!(stage.started(Duration::from_millis(300)), None);
    drop(facts);
}

#[test]
fn without_the_option_nothing_is_started() {
    let mut stage = Stage::set();
    let daemon = stage.rig.start();
    daemon.status();
    assert_eq!(stage.started(Duration::from_millis(300)), None);
}
