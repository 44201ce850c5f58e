//! `cordond run --demo`: says how to ask, then what happens until an incident and a lock have been seen, then what to
//! try.

use std::io::Write;
use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use api::Target;
use region::Side;

use crate::control::Control;
use crate::store::folder;

const PAUSE: Duration = Duration::from_secs(1);
/// The pause when nothing was found for a while: not every capture holds an attack.
const LATER_PAUSE: Duration = Duration::from_secs(10);
const WHILE: Duration = Duration::from_secs(60);

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
        let lasts = now.duration_since(self.started);
        let pause = if lasts < WHILE { PAUSE } else { LATER_PAUSE };
        if self.explained || self.last.is_some_and(|l| now.duration_since(l) < pause) {
            return;
        }
        if self.last.replace(now).is_none() {
            welcome(control);
        }
        let seconds = lasts.as_secs();
        let Some(facts) = control.facts() else {
            return say(&format!("{seconds:4} s  waiting for the dataplane"));
        };
        let received: u64 = facts
            .workers()
            .iter()
            .flat_map(|w| Side::ALL.map(|s| w.side(s).rx_packets.load(Relaxed)))
            .fold(0, u64::wrapping_add);
        let incidents = control.incidents().rows().len();
        let locks = control.locks().len();
        say(&format!(
            "{seconds:4} s  {received:>12} packets  {incidents} incident{}  {locks} lock{}",
            plural(incidents),
            plural(locks)
        ));
        for lock in control.locks().rows() {
            // Not one that was locked by hand.
            if let (Some(rule), Some(incident)) = (&lock.rule, &lock.incident) {
                self.explained = true;
                return explain(control, &lock.target, rule, incident);
            }
        }
    }
}

/// What to try.
fn explain(control: &Control, target: &Target, rule: &str, incident: &str) {
    let config = control.config();
    let evidence = folder(&config.run.state, incident).join("summary.log");
    let evidence = evidence.display();
    let metrics = match config.control.metrics {
        Some(address) => format!("curl -s http://{address}/metrics"),
        None => "(metrics are off)".to_owned(),
    };
    say(&format!(
        "\nA server was found attacking and is locked. Try in the other terminal:\n\n  \
             cordon status\n  \
             cordon top\n  \
             cordon list\n  \
             cordon incident {incident}\n  \
             cat {evidence}\n  \
             cordon show {target}\n\n\
             While it attacks it is locked again as soon as it is unlocked, unless the rule leaves it alone:\n\n  \
             cordon exempt {target} --rule {rule} --for 1h\n  \
             cordon unlock {target} --all\n\n\
             By hand, and what a monitoring system reads:\n\n  \
             cordon lock {target} --reason abuse --note 'phishing' --for 2h\n  \
             {metrics}\n\n\
             Ctrl-C ends all.\n"
    ));
}

/// How to reach this cordond.
fn welcome(control: &Control) {
    // For whoever is in the folder of the programs' build, and has no `cordon` in PATH.
    let here = std::env::current_exe().ok().and_then(|e| e.parent().map(Path::to_owned));
    let path = here
        .filter(|d| d.join("cordon").exists())
        .map_or_else(String::new, |d| format!("PATH={}:$PATH ", d.display()));
    let socket = control.config().control.socket.display();
    say(&format!(
        "\nIn another terminal:\n\n  export {path}CORDON_SOCKET={socket}\n  cordon status\n\nCtrl-C ends it.\n"
    ));
}

const fn plural(n: usize) -> &'static str {
    if n == 1 { "" } else { "s" }
}
