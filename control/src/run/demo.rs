//! `cordond run --demo`: says what happens until an incident and a lock have been seen, then what to try.

use std::io::Write;
use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use region::Side;

use crate::control::Control;

const PAUSE: Duration = Duration::from_secs(1);

/// What was said so far.
#[derive(Debug)]
pub(super) struct Demo {
    started: Instant,
    last: Option<Instant>,
    explained: bool,
}

fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    // A terminal that is gone needs no demo.
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}

impl Demo {
    pub(super) fn new(now: Instant) -> Demo {
        Demo { started: now, last: None, explained: false }
    }

    pub(super) fn look(&mut self, control: &Control, now: Instant) {
        if self.explained || self.last.is_some_and(|l| now.duration_since(l) < PAUSE) {
            return;
        }
        self.last = Some(now);
        let seconds = now.duration_since(self.started).as_secs();
        let Some(facts) = control.facts() else {
            return say(&format!("{seconds:4} s  waiting for the dataplane"));
        };
        let received: u64 = facts
            .workers()
            .iter()
            .flat_map(|w| Side::ALL.map(|s| w.side(s).rx_packets.load(Relaxed)))
            .fold(0, u64::wrapping_add);
        let incidents = control.incidents().rows().len();
        say(&format!(
            "{seconds:4} s  {received:>12} packets  {incidents} incidents  {} locks",
            control.locks().len()
        ));
        if incidents > 0 && !control.locks().is_empty() {
            self.explain(control);
        }
    }

    fn explain(&mut self, control: &Control) {
        self.explained = true;
        let config = control.config();
        let here = std::env::current_exe().ok().and_then(|e| e.parent().map(|d| d.join("cordon")));
        let program = here.filter(|p| p.exists()).unwrap_or_else(|| Path::new("cordon").to_owned());
        let cordon = format!("{} --socket {}", program.display(), config.control.socket.display());
        let target = control.locks().rows().next().map(|r| r.target.to_string()).unwrap_or_default();
        let metrics = match config.control.metrics {
            Some(address) => format!("curl -s http://{address}/metrics"),
            None => "(metrics are off)".to_owned(),
        };
        say(&format!(
            "\nA server was found attacking and is locked. Try in another terminal:\n\n  \
             {cordon} status\n  {cordon} incidents\n  {cordon} list\n  {cordon} show {target}\n  \
             {cordon} unlock {target} --all\n  {metrics}\n\nCtrl-C ends it.\n"
        ));
    }
}
