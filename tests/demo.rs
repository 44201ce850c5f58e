//! What a newcomer does first, `make run`: the real daemons, the project's own traffic, everything that is printed to be
//! tried, and nothing left behind.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails here")]

mod common;

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use common::{Cli, Daemon, Metrics, bin, eventually, http_get, root, run};
use nix::sys::signal::Signal;
use serde_json::Value;

/// The attack begins some seconds after the start, and again every 20 s; a busy machine has all the time that it wants.
const FOUND: Duration = Duration::from_secs(120);
const SOON: Duration = Duration::from_secs(30);

/// The running script. A test that fails still has it tidy up.
struct Demo(Daemon);

impl Demo {
    fn start(variables: &[(&str, &str)]) -> Demo {
        let mut command = Command::new(root().join("bench/demo/run.sh"));
        command.env("CORDON_BIN", bin("cordond").parent().unwrap());
        for name in ["CAPTURE", "SPEED", "INTERNAL", "METRICS"] {
            command.env_remove(name);
        }
        command.envs(variables.iter().copied());
        Demo(Daemon::spawn("run.sh", &command))
    }

    /// The lines that are indented: commands.
    fn commands(&self) -> Vec<String> {
        self.0.log().lines().filter_map(|l| l.strip_prefix("  ")).map(str::to_owned).collect()
    }

    /// As Ctrl-C does; then nothing may be left.
    fn interrupt(&self, folder: &Path) {
        self.0.signal(Signal::SIGINT);
        let status = self.0.wait_exit(SOON);
        assert_eq!(status.code(), Some(130), "{}", self.0.log());
        assert!(!folder.exists(), "{} is left", folder.display());
        assert_eq!(processes_of(folder), Vec::<String>::new());
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        if self.0.is_running() {
            self.0.signal(Signal::SIGTERM);
            self.0.wait_exit(SOON);
        }
    }
}

/// Command lines that name a folder.
fn processes_of(folder: &Path) -> Vec<String> {
    let name = folder.to_string_lossy().into_owned();
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = all.filter_map(|p| std::fs::read(p.path().join("cmdline")).ok());
    lines.map(|l| String::from_utf8_lossy(&l).replace('\0', " ")).filter(|l| l.contains(&name)).collect()
}

/// An address that was free a moment ago.
fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

#[test]
fn the_demo_finds_the_attack_and_all_it_prints_can_be_tried_and_it_leaves_nothing() {
    let metrics = free_address();
    let demo = Demo::start(&[("METRICS", &metrics.to_string())]);
    let export = demo.0.wait_for_line("CORDON_SOCKET=", SOON).trim().to_owned();
    let socket = PathBuf::from(export.split("CORDON_SOCKET=").nth(1).unwrap());
    let folder = socket.parent().unwrap().to_owned();
    demo.0.wait_for_line("A server was found attacking and is locked.", FOUND);
    demo.0.wait_for_line("Ctrl-C ends all.", SOON);

    let cli = Cli::new(&socket);
    let locks = cli.json(&["list"]).unwrap();
    let lock = &locks[0];
    assert_eq!((&lock["rule"], &lock["enforced"]), (&Value::from("syn-out"), &Value::from(true)), "{locks}");
    let target = lock["target"].as_str().unwrap();
    let truth = std::fs::read_to_string(folder.join("demo.pcap.truth.json")).unwrap();
    let truth: Value = serde_json::from_str(&truth).unwrap();
    assert_eq!(truth["attacks"][0]["address"], target);
    let incident = cli.json(&["incident", lock["incident"].as_str().unwrap()]).unwrap();
    assert_eq!((&incident["address"], &incident["action"]), (&lock["target"], &Value::from("lock")));
    // The other attack stays below the limit that locks.
    let other = truth["attacks"][1]["address"].as_str().unwrap();
    eventually("the second incident", FOUND, || {
        let all = cli.json(&["incidents"]).unwrap();
        all.as_array().unwrap().iter().any(|i| i["address"] == other && i["action"] == "warn").then_some(())
    });
    eventually("metrics that know of the lock", SOON, || {
        let text = http_get(metrics, "/metrics", SOON).ok()?;
        let locked = Metrics::parse(&text).unwrap().get("cordon_locks", &[("reason", "attack-out")])?;
        (locked >= 1.0).then_some(())
    });

    let tried: Vec<String> =
        demo.commands().into_iter().filter(|c| c.starts_with("cordon ") || c.starts_with("cat ")).collect();
    assert!(tried.len() > 8, "{tried:?}");
    for command in &tried {
        let done = run(Command::new("sh").args(["-c", &format!("{export}; {command}")]), SOON);
        assert!(done.status.success(), "{command}: {}{}", done.stdout, done.stderr);
        assert!(
            !done.stdout.is_empty() && done.stderr.is_empty(),
            "{command}: {}{}",
            done.stdout,
            done.stderr
        );
    }
    demo.interrupt(&folder);
}

#[test]
fn captures_that_cannot_be_played_are_refused_with_what_to_do() {
    for (variables, words) in [
        (&[("CAPTURE", "/nonexistent.pcap")][..], &["cannot read /nonexistent.pcap", "CAPTURE="][..]),
        (&[("CAPTURE", concat!(env!("CARGO_MANIFEST_DIR"), "/Makefile"))], &["is no capture"]),
        (&[("SPEED", "fast")], &["SPEED=fast is no number"]),
        (&[("INTERNAL", "10.0.0.0/8")], &["INTERNAL", "CAPTURE="]),
        (&[("METRICS", "here")], &["METRICS=here", "127.0.0.1:"]),
    ] {
        let demo = Demo::start(variables);
        let status = demo.0.wait_exit(SOON);
        // The streams may end later than the process.
        demo.0.wait_for_line("  next: ", SOON);
        let said = demo.0.log();
        assert_eq!(status.code(), Some(1), "{variables:?}: {said}");
        assert!(words.iter().all(|w| said.contains(w)), "{variables:?}: {said}");
    }
}
