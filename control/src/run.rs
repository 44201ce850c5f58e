//! The control thread: a clock of 100 ms, signals, the control socket, the store's results, the dataplane's comings and
//! goings. Start and stop stand here, symmetric.

mod affinity;
mod attach;
mod demo;
mod reload;
mod startup;

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use api::Response;
use config::Webhook;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use tokio::sync::watch;

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::time::{ClockId, clock_gettime};
use std::os::fd::AsRawFd;

use crate::control::Control;
use crate::effect::{BatchId, ClientId, Effect, Now};
use crate::log;
use crate::metrics::{Board, Snapshot};
use crate::notify::Notifier;
use crate::office::api::Site;
use crate::office::desk::Desk;
use crate::office::gobgp::{Speaker, Wanted};
use crate::office::{Deliveries, Office, Settings};
use crate::socket::{FIRST_CLIENT, Socket};
use crate::store::Store;
use crate::supervise::Supervisor;
use affinity::Affinity;
use demo::Demo;
use reload::Reloads;

/// Time between two ticks.
pub const TICK: Duration = Duration::from_millis(100);
/// What the store may still write when cordond stops.
const LAST_WRITES: Duration = Duration::from_millis(500);
/// A disk that has not answered for so long hangs.
const DISK_HANGS: Duration = Duration::from_secs(5);

const WAKE: Token = Token(0);
const SIGNALS: Token = Token(1);
const LISTENER: Token = Token(2);
const DATAPLANE: Token = Token(3);

/// What the command line says.
#[derive(Clone, Debug)]
pub struct Options {
    /// The configuration file.
    pub config: PathBuf,
    /// Start the dataplane and keep it alive.
    pub with_dataplane: bool,
    /// Stop the dataplane when cordond stops.
    pub stop_dataplane_on_exit: bool,
    /// Print progress and what to try next.
    pub demo: bool,
}

/// Both clocks.
fn now() -> Now {
    let mono = clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Duration::from);
    let unix = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Now {
        mono_ns: u64::try_from(mono.as_nanos()).unwrap_or(u64::MAX),
        unix_ns: i128::try_from(unix.as_nanos()).unwrap_or(i128::MAX),
    }
}

/// Runs cordond until a signal stops it. The error is for the operator.
pub fn run(options: &Options) -> Result<(), String> {
    // Before any other thread exists, so that all inherit the mask and only this one hears signals.
    let mut set = SigSet::empty();
    for s in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        set.add(s);
    }
    set.thread_block().map_err(|e| format!("pthread_sigmask: {e}"))?;
    let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
    let signals = SignalFd::with_flags(&set, flags).map_err(|e| format!("signalfd: {e}"))?;
    let poll = Poll::new().map_err(|e| format!("epoll_create: {e}"))?;
    let waker = Waker::new(poll.registry(), WAKE).map_err(|e| format!("eventfd: {e}"))?;
    poll.registry()
        .register(&mut SourceFd(&signals.as_raw_fd()), SIGNALS, Interest::READABLE)
        .map_err(|e| format!("epoll_ctl(signalfd): {e}"))?;
    let mut shell = startup::start(options, poll, Arc::new(waker), signals)?;
    shell.turn();
    shell.stop();
    Ok(())
}

/// Everything around the deciding core.
struct Shell {
    options: Options,
    /// `[run] tables` as it was at the start: a reload cannot move the files.
    tables: PathBuf,
    control: Control,
    store: Store,
    /// Batches that the store has not spoken about, and since when.
    submitted: BTreeMap<BatchId, Instant>,
    socket: Option<Socket>,
    office: Office,
    /// How mail goes out, for the office.
    mail: watch::Sender<Option<Arc<Settings>>>,
    mail_stats: Arc<Deliveries>,
    /// Who is sent webhooks, for the office.
    hooks: watch::Sender<Arc<Vec<Webhook>>>,
    hook_stats: Arc<Deliveries>,
    speaker: Arc<Speaker>,
    /// Questions of the office.
    desk: Desk,
    site: Option<Arc<Site>>,
    supervisor: Option<Supervisor>,
    board: Arc<Board>,
    affinity: Affinity,
    notifier: Notifier,
    demo: Option<Demo>,
    poll: Poll,
    signals: SignalFd,
    ticks_missed: u64,
    started: f64,
    reloads: Reloads,
    /// The last thing said about attaching to facts.
    attach_trouble: Option<String>,
}

impl Shell {
    /// The loop.
    fn turn(&mut self) {
        let mut events = Events::with_capacity(256);
        // The first tick is at once: a dataplane that runs is attached before anything else.
        let mut next = Instant::now();
        let mut first = true;
        loop {
            let more = self.socket.as_ref().is_some_and(Socket::has_more) || self.desk.has_more();
            let wait = if more { Duration::ZERO } else { next.saturating_duration_since(Instant::now()) };
            match self.poll.poll(&mut events, Some(wait)) {
                Ok(()) => {}
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => {
                    log::error(&format!("epoll_wait: {e}; cordond stops, locks stay in force"));
                    return;
                }
            }
            if self.take_events(&events) {
                return;
            }
            self.take_stored();
            self.take_reloads();
            self.take_requests();
            let at = Instant::now();
            if at >= next {
                self.tick(at);
                next += TICK;
                let late = Instant::now().saturating_duration_since(next);
                let missed = u32::try_from(late.as_nanos() / TICK.as_nanos()).unwrap_or(u32::MAX);
                // What came late is merged with its measured time; ticks that fell into it are not made up for.
                next += TICK * missed;
                self.ticks_missed += u64::from(missed);
                if std::mem::take(&mut first) {
                    self.notifier.ready();
                    log::info("ready");
                }
            }
        }
    }

    /// True when a signal says stop.
    fn take_events(&mut self, events: &Events) -> bool {
        let at = Instant::now();
        for event in events {
            match event.token() {
                WAKE => {}
                SIGNALS if self.take_signals() => return true,
                DATAPLANE => {
                    self.look_after_dataplane(at);
                    self.attach_or_detach();
                }
                LISTENER => {
                    if let Some(s) = &mut self.socket {
                        s.accept(self.poll.registry(), at);
                    }
                }
                client if client.0 >= FIRST_CLIENT => {
                    if let Some(s) = &mut self.socket {
                        s.ready(client, event.is_write_closed() || event.is_error(), at);
                    }
                }
                _ => {}
            }
        }
        false
    }

    fn take_signals(&mut self) -> bool {
        while let Ok(Some(info)) = self.signals.read_signal() {
            let number = i32::try_from(info.ssi_signo).unwrap_or(0);
            match Signal::try_from(number) {
                // What becomes of it is said in the log.
                Ok(Signal::SIGHUP) => self.begin_reload(None),
                Ok(s) => {
                    log::info(&format!("{s}: stopping; locks stay in force"));
                    return true;
                }
                Err(_) => {}
            }
        }
        false
    }

    /// Does what the core asks for.
    fn settle(&mut self) {
        loop {
            let effects = self.control.take_effects();
            if effects.is_empty() {
                return;
            }
            for effect in effects {
                match effect {
                    Effect::Store { batch, ops, retry } => {
                        self.submitted.insert(batch, Instant::now());
                        self.store.submit(batch, ops, retry);
                    }
                    Effect::Reply(client, response) => self.reply(client, response),
                    Effect::AskOutbox(client, ask) => self.store.ask(client, ask),
                    Effect::History(op) => self.store.keep_history(op),
                    Effect::AskIncident(client, id) => self.store.ask_incident(client, id),
                    Effect::AskEvidence(client, question) => self.store.ask_evidence(client, question),
                    Effect::ReadConfig(client) => self.begin_reload(Some(client)),
                }
            }
        }
    }

    fn reply(&mut self, client: ClientId, response: Response) {
        if Desk::has(client) {
            self.desk.answer(client, response);
        } else if let Some(s) = &mut self.socket {
            s.answer(client, response, Instant::now());
        }
    }

    fn take_stored(&mut self) {
        let results: Vec<_> = self.store.results().collect();
        for stored in results {
            self.submitted.remove(&stored.batch);
            if stored.result.is_ok() {
                self.control.content("disk");
            }
            self.control.stored(stored.batch, stored.result, now());
            self.control.gone(&stored.gone);
        }
        let answers: Vec<_> = self.store.answers().collect();
        for (client, response) in answers {
            self.reply(client, response);
        }
        self.settle();
    }

    fn take_requests(&mut self) {
        if let Some(socket) = &mut self.socket {
            socket.go_on(Instant::now());
            for asked in socket.take_asked() {
                self.control.request(asked.client, &asked.who, asked.request, now());
            }
        }
        for asked in self.desk.take_asked() {
            self.control.ask(asked.client, &asked.caller, asked.request, now());
        }
        self.settle();
    }

    fn tick(&mut self, at: Instant) {
        self.look_after_dataplane(at);
        self.attach_or_detach();
        self.hear_speaker();
        self.control.tick(now());
        let flags_written = at.elapsed();
        self.settle();
        self.look_after_the_rest(at);
        self.tell_speaker();
        self.publish(flags_written);
        self.board.tick.observe(at.elapsed().as_secs_f64());
    }

    /// What the BGP speaker has of what was wanted.
    fn hear_speaker(&mut self) {
        let Some(seen) = self.speaker.take_seen() else { return };
        match seen.trouble {
            Some(text) => self.control.complain(
                "gobgp",
                text,
                "look at `gobgp neighbor` and gobgpd's log; locks are enforced here meanwhile",
            ),
            None => self.control.content("gobgp"),
        }
        if let Some(present) = seen.present {
            self.control.speaker_has(&seen.announced, present);
        }
    }

    fn tell_speaker(&mut self) {
        let settings = self.control.config().rtbh.clone();
        self.speaker.want(Wanted {
            settings: settings.gobgp.is_some().then_some(settings),
            announced: self.control.to_announce(),
            withdrawn: self.control.to_withdraw(),
        });
    }

    fn look_after_dataplane(&mut self, at: Instant) {
        let Some(supervisor) = &mut self.supervisor else { return };
        let registry = self.poll.registry();
        // A child inherits the cores that its parent may use.
        self.affinity.with_all_cores(|| supervisor.look(registry, at));
        match supervisor.trouble() {
            Some(text) => {
                let text = text.to_owned();
                self.control.complain(
                    "supervisor",
                    text,
                    "see the log; cordon-dataplane is started again by itself",
                );
            }
            None => self.control.content("supervisor"),
        }
    }

    fn look_after_the_rest(&mut self, at: Instant) {
        if let Some(socket) = &mut self.socket {
            socket.accept(self.poll.registry(), at);
            socket.expire(at);
        }
        self.office.look(at);
        if self.office.is_due(at) {
            self.affinity.with_all_cores(|| self.office.open(at));
        }
        if self.store.history_fails() {
            let text = "the history of hosts cannot be written: `cordon evidence` will have a gap";
            self.control.complain(
                "history",
                text,
                "free space on the disk of [run] state; see df and the log",
            );
        } else {
            self.control.content("history");
        }
        match self.office.trouble() {
            Some(text) => {
                let text = format!("{text}; metrics and HTTP API are missing or were");
                self.control.complain(
                    "office",
                    text,
                    "nothing needs to be done if it is gone in a minute; see the log",
                );
            }
            None => self.control.content("office"),
        }
        self.look_after_mail();
        if let Some(site) = &self.site {
            match site.trouble() {
                Some(text) => self.control.complain(
                    "api",
                    format!("the HTTP API is not served as configured: {text}"),
                    "correct [api] or its files, then: cordon reload",
                ),
                None => self.control.content("api"),
            }
        }
        let hangs = self
            .submitted
            .values()
            .next()
            .is_some_and(|since| at.saturating_duration_since(*since) > DISK_HANGS);
        if hangs {
            let text = "the disk of the store does not answer: nothing is stored, manual locks wait";
            self.control.complain("disk-hangs", text, "see dmesg; detectors go on locking meanwhile");
        } else {
            self.control.content("disk-hangs");
        }
        let control = &self.control;
        self.notifier.alive(at, || {
            let up = if control.facts().is_some() { "dataplane up" } else { "DATAPLANE DOWN" };
            format!(
                "{up}, {} locks, {} open incidents",
                control.locks().len(),
                control.incidents().open_count()
            )
        });
        if let Some(demo) = &mut self.demo {
            demo.look(control, at);
        }
    }

    fn look_after_mail(&mut self) {
        match self.mail_stats.trouble() {
            Some(text) => {
                let next = "see [mail] and the mail server; it waits: cordon outbox, cordon outbox retry ID";
                self.control.complain("mail", text, next);
            }
            None => self.control.content("mail"),
        }
        match self.hook_stats.trouble() {
            Some(text) => self.control.complain(
                "webhooks",
                text,
                "see its [[webhook]] and the program there; they wait: cordon outbox, cordon outbox retry ID",
            ),
            None => self.control.content("webhooks"),
        }
        match self.store.post().bell().fill().failed {
            0 => self.control.content("outbox"),
            n => self.control.complain(
                "outbox",
                format!("{n} messages to people and programs outside have failed"),
                "cordon outbox says which and why; outbox retry ID sends one again, outbox drop ID gives it up",
            ),
        }
    }

    fn publish(&mut self, flags_written: Duration) {
        let stats = self.control.take_stats();
        for seconds in &stats.detections {
            self.board.detection.observe(seconds + flags_written.as_secs_f64());
        }
        let control = &self.control;
        let latched = |r: config::Rule| control.breakers().row(r).is_some();
        self.board.publish(Snapshot {
            facts: control.facts().cloned(),
            policy: Some(Arc::clone(control.policy())),
            wires: control.config().wires.iter().map(|w| w.name.clone()).collect(),
            locks: control.locks().by_reason(),
            incidents: control.incidents().opened.iter().map(|(k, n)| (*k, *n)).collect(),
            incidents_open: control.incidents().open_count(),
            breakers: config::Rule::all().map(|r| (r.to_string(), latched(r))).collect(),
            lock_ranges: stats.ranges,
            active_hosts: stats.active_hosts,
            histories: stats.windows,
            ticks: stats.ticks,
            watched: stats.watched,
            evidence_lost: stats.evidence_lost,
            ticks_missed: self.ticks_missed,
            store_waiting: self.store.waiting().load(std::sync::atomic::Ordering::Relaxed),
            office_restarts: self.office.restarts(),
            outbox: self.store.post().bell().fill(),
            mails_sent: self.mail_stats.sent(),
            mail_failures: self.mail_stats.failures(),
            webhooks_sent: self.hook_stats.sent(),
            webhook_failures: self.hook_stats.failures(),
            started: self.started,
        });
    }

    /// Everything in the order opposite to its start. Policy stays as it is: what is locked stays locked.
    fn stop(mut self) {
        self.notifier.stopping();
        self.control.stop(now());
        self.settle();
        let lost = self.store.stop(LAST_WRITES);
        // Who waits for an answer gets it if it is there by now.
        self.take_stored();
        if let Some(mut socket) = self.socket.take() {
            socket.go_on(Instant::now());
        }
        if lost > 0 {
            log::error(&format!(
                "{lost} changes could not be stored: after the next start cordond does not know of them; see cordon list then"
            ));
        }
        if self.options.stop_dataplane_on_exit
            && let Some(supervisor) = self.supervisor.take()
        {
            supervisor.stop();
        }
        log::info("stopped");
    }
}
