//! What systemd is told (sd_notify(3)); nothing when cordond was not started by systemd.

use std::time::{Duration, Instant};

use config::systemd::notify;

/// systemd is told no more often than this.
const PAUSE: Duration = Duration::from_secs(1);

/// Keeps track of what was told.
#[derive(Debug, Default)]
pub struct Notifier {
    last: Option<Instant>,
    status: String,
}

impl Notifier {
    /// Start is complete.
    pub fn ready(&self) {
        notify("READY=1");
    }

    /// cordond is about to stop.
    pub fn stopping(&self) {
        notify("STOPPING=1");
    }

    /// Feeds the watchdog, and says in a line how things are. Call each tick.
    pub fn alive(&mut self, now: Instant, status: impl FnOnce() -> String) {
        if self.last.is_some_and(|l| now.duration_since(l) < PAUSE) {
            return;
        }
        self.last = Some(now);
        notify("WATCHDOG=1");
        let status = status();
        if status != self.status {
            notify(&format!("STATUS={status}"));
            self.status = status;
        }
    }
}
