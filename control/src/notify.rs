//! What systemd is told (sd_notify(3)); nothing when cordond was not started by systemd.

use std::time::{Duration, Instant};

use sd_notify::NotifyState;

/// systemd is told no more often than this.
const PAUSE: Duration = Duration::from_secs(1);

/// Keeps track of what was told.
#[derive(Debug, Default)]
pub struct Notifier {
    last: Option<Instant>,
    status: String,
}

fn tell(state: &[NotifyState<'_>]) {
    // Nobody listens, or nobody can be helped.
    let _ = sd_notify::notify(false, state);
}

impl Notifier {
    /// Start is complete.
    pub fn ready(&self) {
        tell(&[NotifyState::Ready]);
    }

    /// cordond is about to stop.
    pub fn stopping(&self) {
        tell(&[NotifyState::Stopping]);
    }

    /// Feeds the watchdog, and says in a line how things are. Call each tick.
    pub fn alive(&mut self, now: Instant, status: impl FnOnce() -> String) {
        if self.last.is_some_and(|l| now.duration_since(l) < PAUSE) {
            return;
        }
        self.last = Some(now);
        tell(&[NotifyState::Watchdog]);
        let status = status();
        if status != self.status {
            tell(&[NotifyState::Status(&status)]);
            self.status = status;
        }
    }
}
