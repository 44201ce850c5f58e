//! The office: one tokio thread for everything that may be slow or down. Control starts it, looks whether its heart
//! beats, and starts another when it does not; it never waits for it.

pub mod api;
mod compose;
mod courier;
mod deliver;
pub mod desk;
pub mod gobgp;
mod hooks;
mod http;
mod ledger;
mod secret;
mod smtp;
mod webhook;
mod work;
mod xarf;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use prometheus::Registry;

use crate::log;
pub use compose::Settings;
pub use courier::Courier;
pub use deliver::Deliveries;
pub use hooks::Hooks;
use work::Door;

/// The heart beats so often.
const BEAT: Duration = Duration::from_millis(500);
/// After so long without a beat the office counts as hanging.
const HANGS: Duration = Duration::from_secs(5);
/// Pauses before the first, second, … restart.
const PAUSES_S: [u64; 5] = [1, 2, 5, 15, 60];
/// An office that lived so long begins with the first pause again.
const STEADY: Duration = Duration::from_secs(60);
/// Offices that hang are left behind, each with a thread; more are not.
const HANGING_MAX: usize = 8;

/// Shows that the office's thread moves.
#[derive(Debug)]
pub struct Heart {
    born: Instant,
    /// Milliseconds since `born`. Written by the office; read by control.
    beat_ms: AtomicU64,
    /// Written by control: another office has taken over.
    replaced: AtomicBool,
}

impl Heart {
    fn new() -> Heart {
        Heart { born: Instant::now(), beat_ms: AtomicU64::new(0), replaced: AtomicBool::new(false) }
    }

    /// Says that the thread moves. False when it is no longer wanted.
    pub fn beat(&self) -> bool {
        let ms = u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.beat_ms.store(ms, Relaxed);
        !self.replaced.load(Relaxed)
    }

    fn silent_for(&self, now: Instant) -> Duration {
        let beat = self.born + Duration::from_millis(self.beat_ms.load(Relaxed));
        now.saturating_duration_since(beat)
    }
}

/// What the office's thread does, until it ends and says why.
pub type Work = Box<dyn FnOnce(Arc<Heart>) -> String + Send>;

#[derive(Debug)]
struct Running {
    thread: JoinHandle<String>,
    heart: Arc<Heart>,
    since: Instant,
}

/// What an office does.
#[derive(Debug)]
pub struct Services {
    /// Where metrics are served, if they are.
    pub metrics: Option<SocketAddr>,
    /// The metrics.
    pub registry: Registry,
    /// The HTTP API, if there is one.
    pub api: Option<Arc<api::Site>>,
    /// Announcements to routers upstream.
    pub speaker: Arc<gobgp::Speaker>,
    /// Mail.
    pub courier: Courier,
    /// Webhooks.
    pub hooks: Hooks,
}

/// Keeps the office open.
pub struct Office {
    make: Box<dyn FnMut() -> io::Result<Work>>,
    hangs: Duration,
    running: Option<Running>,
    hanging: Vec<JoinHandle<String>>,
    failures: usize,
    next_start: Instant,
    restarts: u64,
    trouble: Option<String>,
}

impl std::fmt::Debug for Office {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Office")
            .field("running", &self.running)
            .field("trouble", &self.trouble)
            .finish_non_exhaustive()
    }
}

impl Office {
    /// An office that does all this.
    pub fn serving(services: Services, now: Instant) -> Office {
        let Services { metrics, registry, api, speaker, courier, hooks } = services;
        let door = metrics.map(Door::new);
        let make = move || -> io::Result<Work> {
            let listener = match &door {
                Some(door) => Some(door.listener().map_err(|e| {
                    let text = format!("{e}; free the port, or choose another [control] metrics");
                    io::Error::new(e.kind(), text)
                })?),
                None => None,
            };
            let rooms = work::Rooms {
                listener,
                registry: registry.clone(),
                site: api.clone(),
                speaker: Arc::clone(&speaker),
                courier: courier.clone(),
                hooks: hooks.clone(),
            };
            Ok(Box::new(move |heart| work::run(rooms, &heart)))
        };
        Office::new(Box::new(make), HANGS, now)
    }

    fn new(make: Box<dyn FnMut() -> io::Result<Work>>, hangs: Duration, now: Instant) -> Office {
        Office {
            make,
            hangs,
            running: None,
            hanging: Vec::new(),
            failures: 0,
            next_start: now,
            restarts: 0,
            trouble: None,
        }
    }

    /// Looks after the office. Call each tick.
    pub fn look(&mut self, now: Instant) {
        self.hanging.retain(|t| !t.is_finished());
        if let Some(r) = &self.running {
            if r.thread.is_finished() {
                if let Some(r) = self.running.take() {
                    let why = r.thread.join().unwrap_or_else(|_| "it panicked".to_owned());
                    self.failed(format!("the office ended: {why}"), now);
                }
            } else if r.heart.silent_for(now) > self.hangs {
                if let Some(r) = self.running.take() {
                    r.heart.replaced.store(true, Relaxed);
                    self.hanging.push(r.thread);
                    self.failed("the office hangs and is left behind".to_owned(), now);
                }
            } else if now.saturating_duration_since(r.since) > STEADY {
                self.failures = 0;
                self.trouble = None;
            }
        }
    }

    /// Whether [`Office::open`] is due.
    pub fn is_due(&self, now: Instant) -> bool {
        self.running.is_none() && now >= self.next_start && self.hanging.len() < HANGING_MAX
    }

    /// Opens the office, or tries to.
    pub fn open(&mut self, now: Instant) {
        let heart = Arc::new(Heart::new());
        let theirs = Arc::clone(&heart);
        let work = (self.make)();
        let started =
            work.and_then(|w| std::thread::Builder::new().name("office".into()).spawn(move || w(theirs)));
        match started {
            Ok(thread) => {
                self.restarts += u64::from(self.failures > 0);
                self.running = Some(Running { thread, heart, since: now });
            }
            Err(e) => self.failed(format!("the office cannot open: {e}"), now),
        }
    }

    fn failed(&mut self, text: String, now: Instant) {
        let pause = PAUSES_S[self.failures.min(PAUSES_S.len() - 1)];
        self.failures += 1;
        self.next_start = now + Duration::from_secs(pause);
        let more = if self.hanging.len() < HANGING_MAX {
            format!("tried again in {pause} s")
        } else {
            "restart cordond".into()
        };
        log::error(&format!("{text}; {more}"));
        self.trouble = Some(text);
    }

    /// What is wrong, if anything.
    pub fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    /// How often it was started anew.
    pub fn restarts(&self) -> u64 {
        self.restarts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    /// Calls `look` and `open` on a clock of its own until `until` holds.
    fn run(office: &mut Office, clock: &mut Instant, until: impl Fn(&Office) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !until(office) {
            assert!(Instant::now() < deadline, "{office:?}");
            office.look(*clock);
            if office.is_due(*clock) {
                office.open(*clock);
            }
            *clock += Duration::from_millis(100);
            std::thread::yield_now();
        }
    }

    #[test]
    fn an_office_that_panics_is_opened_again_and_says_so() {
        let (sender, receiver) = mpsc::channel::<()>();
        let mut stay = Some(receiver);
        let mut first = true;
        let make = move || -> io::Result<Work> {
            if std::mem::take(&mut first) {
                return Ok(Box::new(|_| panic!("a test of what a panic does")));
            }
            let stay = stay.take().expect("one restart");
            Ok(Box::new(move |heart| {
                while stay.recv_timeout(Duration::from_millis(1)) == Err(mpsc::RecvTimeoutError::Timeout) {
                    heart.beat();
                }
                String::new()
            }))
        };
        let mut clock = Instant::now();
        let mut office = Office::new(Box::new(make), Duration::MAX, clock);
        run(&mut office, &mut clock, |o| o.restarts() == 1);
        assert!(office.trouble().is_some_and(|t| t.contains("panicked")), "{office:?}");
        clock += STEADY + BEAT;
        office.look(clock);
        assert_eq!(office.trouble(), None, "all is well after a minute");
        drop(sender);
    }

    #[test]
    fn an_office_that_hangs_is_replaced_and_not_waited_for() {
        let (sender, receiver) = mpsc::channel::<()>();
        let receiver = Arc::new(std::sync::Mutex::new(receiver));
        let make = move || -> io::Result<Work> {
            let never = Arc::clone(&receiver);
            Ok(Box::new(move |_| {
                let _ = never.lock().map(|n| n.recv());
                String::new()
            }))
        };
        let mut clock = Instant::now();
        let mut office = Office::new(Box::new(make), HANGS, clock);
        run(&mut office, &mut clock, |o| o.restarts() == 2);
        assert!(office.trouble().is_some_and(|t| t.contains("hangs")), "{office:?}");
        assert!(office.hanging.len() == 2);
        drop(sender);
    }
}
