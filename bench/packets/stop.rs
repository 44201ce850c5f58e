//! Ctrl-C and SIGTERM end the run in order: children killed, hugepages given back.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal};

static REQUESTED: AtomicBool = AtomicBool::new(false);
/// Longest piece of a wait, so that stopping takes no longer.
const SLICE: Duration = Duration::from_millis(20);

/// Listens for signals from here on. Children inherit the blocked signals: they are ended by other means.
pub(crate) fn listen() -> Result<(), String> {
    let mut set = SigSet::empty();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        set.add(signal);
    }
    set.thread_block().map_err(|e| format!("pthread_sigmask: {e}"))?;
    thread::spawn(move || {
        if set.wait().is_ok() {
            REQUESTED.store(true, Relaxed);
        }
    });
    Ok(())
}

/// An error once somebody wants the run to end.
pub(crate) fn check() -> Result<(), String> {
    if REQUESTED.load(Relaxed) { Err("stopped by a signal".to_owned()) } else { Ok(()) }
}

/// Sleeps, unless somebody wants the run to end.
pub(crate) fn nap(time: Duration) -> Result<(), String> {
    let until = Instant::now() + time;
    loop {
        check()?;
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        thread::sleep(left.min(SLICE));
    }
}

/// Asks again and again until there is an answer, at most for `deadline`.
pub(crate) fn wait<T>(
    what: &str,
    deadline: Duration,
    mut ask: impl FnMut() -> Result<Option<T>, String>,
) -> Result<T, String> {
    let until = Instant::now() + deadline;
    loop {
        if let Some(answer) = ask()? {
            return Ok(answer);
        }
        if Instant::now() >= until {
            return Err(format!("{what}: not within {deadline:?}"));
        }
        nap(SLICE)?;
    }
}
