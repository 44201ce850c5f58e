//! What tests from outside share: network namespaces, daemons, the operator's command, metrics, captures.
//!
//! Every wait has a deadline. Whatever is started dies with the test (`setpriv --pdeathsig`), and namespaces are removed when
//! dropped; those that a killed test left behind are swept by the next.
#![allow(dead_code, unused_imports, unused_macros, reason = "every test binary uses its own part")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails here")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

mod cli;
mod daemon;
pub(crate) mod dataplane;
pub(crate) mod internet;
mod namespaces;
pub(crate) mod packets;
pub(crate) mod pcap;
mod promtext;
pub(crate) mod raw;
pub(crate) mod replay;
pub(crate) mod site;
pub(crate) mod stream;

pub(crate) use cli::{Cli, Refused};
pub(crate) use daemon::{Daemon, Finished, run};
pub(crate) use namespaces::Namespaces;
pub(crate) use promtext::{Metrics, http_get};

/// Says why a test cannot be run on this machine, and leaves it. What can be known by name is left out by tests/run.sh
/// before, and counted; this is for the rest.
macro_rules! skip {
    ($($why:tt)+) => {{
        eprintln!("skipped: {}", format_args!($($why)+));
        return;
    }};
}
pub(crate) use skip;

/// Asks until there is an answer, for conditions that nothing announces (a counter that another process moves). Where
/// there is an event, wait for that instead.
pub(crate) fn eventually<T>(what: &str, deadline: Duration, mut ask: impl FnMut() -> Option<T>) -> T {
    const POLL: Duration = Duration::from_millis(10);
    let end = Instant::now() + deadline;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < end, "not within {deadline:?}: {what}");
        std::thread::sleep(POLL);
    }
}

/// A program of this workspace, of the profile that is being tested.
pub(crate) fn bin(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    // target/PROFILE/deps/TEST
    let path = test.ancestors().nth(2).unwrap().join(name);
    let release = if cfg!(debug_assertions) { "" } else { " --release" };
    assert!(path.exists(), "{} is missing: run cargo build --workspace{release} first", path.display());
    path
}

/// A tool of the system.
pub(crate) fn tool(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
    places.map(|p| p.join(name)).find(|p| p.is_file())
}

/// The first of these tools that is missing.
pub(crate) fn lacks<'a>(names: &[&'a str]) -> Option<&'a str> {
    names.iter().copied().find(|n| tool(n).is_none())
}

/// The captures, where there are any.
pub(crate) fn captures_dir() -> Option<PathBuf> {
    let place =
        std::env::var_os("CORDON_CAPTURES").map_or_else(|| root().join("../shared/captures"), PathBuf::from);
    place.join("MANIFEST.tsv").is_file().then_some(place)
}

/// The repository.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Whether network namespaces can be made here.
pub(crate) fn have_root_and_netns() -> bool {
    nix::unistd::geteuid().is_root()
        && lacks(&["ip", "ethtool", "ping", "setpriv", "unshare", "sysctl"]).is_none()
        && Command::new("unshare").args(["--net", "true"]).status().is_ok_and(|s| s.success())
}
