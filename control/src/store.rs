//! The store: SQLite on a thread of its own, so that a hanging disk stops no tick.
//!
//! Batches go in by a channel, results come back by another and a call that wakes the control thread. One batch is one
//! transaction, and batches are applied in the order in which they were given: while a detector's batch waits for a
//! failing disk, one that somebody waits for fails at once instead of overtaking it.

mod archive;
mod db;
mod evidence;
mod history;
mod kept;
mod load;
mod outbox;
mod post;
mod recover;
mod room;
mod schema;

use std::collections::VecDeque;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use api::{Response, Time};
use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, unbounded};
use region::map::WriterLock;
use region::{Policy, RegionError};

use crate::claim::Question;
use crate::effect::{BatchId, ClientId, Loaded, OutboxAsk, StoreOp};
use crate::history::HistoryOp;
use crate::log;
use archive::Archive;
use db::{Db, Fault, Mode};

pub use db::FILE;
pub use evidence::folder;
pub use evidence::path as evidence_path;
pub use kept::last_good;
pub use outbox::{Claim, Fill, Outcome, Pace, Parcel, Part};
pub use post::{Bell, Ears, Post};
pub use room::Gone;

/// First pause after a failure; doubles up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// Why there is no store at all.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another cordond uses the same directory.
    #[error(transparent)]
    Held(RegionError),
    /// The file is from a newer version.
    #[error("{0}")]
    Unusable(String),
    /// The system has no random numbers or no thread.
    #[error("{call}: {source}; the machine lacks resources")]
    System {
        /// The call.
        call: &'static str,
        /// The cause.
        source: std::io::Error,
    },
}

/// Something about the store that the operator has to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// What.
    pub text: String,
    /// What to do.
    pub next_step: String,
}

/// What became of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Which one.
    pub batch: BatchId,
    /// The error is for the operator. A batch that is tried again reports its first failure, and its success.
    pub result: Result<(), String>,
    /// Incidents that are forgotten since, or have no files any more.
    pub gone: Vec<Gone>,
}

struct Batch {
    id: BatchId,
    ops: Vec<StoreOp>,
    retry: bool,
}

enum Job {
    Batch(Batch),
    /// The office's.
    Post(post::Job),
    /// A client's.
    Outbox(ClientId, OutboxAsk),
    Stop,
}

/// The store's side that control holds.
#[derive(Debug)]
pub struct Store {
    jobs: Sender<Job>,
    results: Receiver<Stored>,
    answers: Receiver<(ClientId, Response)>,
    done: Receiver<usize>,
    waiting: Arc<AtomicU64>,
    archive: Archive,
    bell: Arc<Bell>,
}

/// An opened store, and what it had.
#[derive(Debug)]
pub struct Opened {
    /// The store.
    pub store: Store,
    /// What it had.
    pub loaded: Loaded,
    /// It cannot be written at present.
    pub notice: Option<Notice>,
}

/// Where the store lies, and what it may need.
#[derive(Clone, Copy, Debug)]
pub struct Places<'a> {
    /// `[run] state`
    pub state: &'a Path,
    /// Memory, to read a copy of a database that lies on a disk which cannot be written.
    pub scratch: &'a Path,
    /// The policy that stands from before: a store that has lost its rows takes over what it enforces.
    pub in_force: Option<&'a Policy>,
}

impl Store {
    /// Opens or makes the database and starts the thread; `wake` is called when there is a result. A damaged file is set
    /// aside and one that cannot be written is read: only a second cordond or a newer file are errors.
    pub fn open(places: Places<'_>, wake: impl Fn() + Send + Sync + 'static) -> Result<Opened, StoreError> {
        let dir = places.state.to_owned();
        // What fails here fails again, with its reason, when the database is opened.
        let _ = DirBuilder::new().recursive(true).mode(0o750).create(&dir);
        let lock = match WriterLock::acquire(&dir.join(FILE)) {
            Ok(lock) => Some(lock),
            Err(e @ RegionError::Held { .. }) => return Err(StoreError::Held(e)),
            // A directory that cannot be written has no second writer either.
            Err(_) => None,
        };
        let hash_key = match places.in_force {
            Some(p) => p.hash_key(),
            None => db::random_key()
                .map_err(|source| StoreError::System { call: "reading /dev/urandom", source })?,
        };
        let start = start(places, hash_key)?;
        let (jobs, job_queue) = unbounded();
        let (result_sender, results) = unbounded();
        let (answer_sender, answers) = unbounded();
        let wake: Arc<dyn Fn() + Send + Sync> = Arc::new(wake);
        let archive = Archive::start(places.state, answer_sender.clone(), Arc::clone(&wake))
            .map_err(|source| StoreError::System { call: "starting the thread of histories", source })?;
        let (done_sender, done) = unbounded();
        let bell = Arc::new(Bell::default());
        let waiting = Arc::new(AtomicU64::new(0));
        let mut keeper = Keeper {
            dir,
            db: start.db,
            loaded: start.complete,
            hash_key,
            pending: VecDeque::new(),
            pause: PAUSE_MIN,
            next_try: None,
            failure: String::new(),
            results: result_sender,
            answers: answer_sender,
            bell: Arc::clone(&bell),
            wake,
            waiting: Arc::clone(&waiting),
        };
        std::thread::Builder::new()
            .name("store".into())
            .spawn(move || {
                keeper.run(&job_queue);
                // Closing merges the journal into the file.
                keeper.db = None;
                drop(lock);
                // Control may have stopped waiting.
                let _ = done_sender.send(keeper.pending.len());
            })
            .map_err(|source| StoreError::System { call: "starting the store's thread", source })?;
        let store = Store { jobs, results, answers, done, waiting, archive, bell };
        if !start.recovered.is_empty() {
            store.submit(BatchId(0), start.recovered, true);
        }
        Ok(Opened { store, loaded: start.loaded, notice: start.notice })
    }

    /// Hands a batch over. `retry`: tried until it is stored; otherwise tried once.
    pub fn submit(&self, id: BatchId, ops: Vec<StoreOp>, retry: bool) {
        self.waiting.fetch_add(1, Relaxed);
        if self.jobs.send(Job::Batch(Batch { id, ops, retry })).is_err() {
            log::error("the store's thread is gone: nothing is stored any more; restart cordond");
        }
    }

    /// What became of batches since the last call.
    pub fn results(&self) -> impl Iterator<Item = Stored> {
        self.results.try_iter()
    }

    /// Asks about the outbox, for a client; the answer comes with [`Store::answers`].
    pub fn ask(&self, client: ClientId, ask: OutboxAsk) {
        // Without the thread the client times out by itself.
        let _ = self.jobs.send(Job::Outbox(client, ask));
    }

    /// Keeps histories, in order; what cannot be kept is a gap in the end.
    pub fn keep_history(&self, op: HistoryOp) {
        self.archive.keep(op);
    }

    /// Asks what an address did, for a client; the answer comes with [`Store::answers`].
    pub fn ask_evidence(&self, client: ClientId, question: Box<Question>) {
        self.archive.ask(client, question);
    }

    /// Asks for an incident, for a client; the answer comes with [`Store::answers`].
    pub fn ask_incident(&self, client: ClientId, id: String) {
        self.archive.ask_incident(client, id);
    }

    /// Whether the history of hosts cannot be written at present.
    pub fn history_fails(&self) -> bool {
        self.archive.fails()
    }

    /// Answers for clients since the last call.
    pub fn answers(&self) -> impl Iterator<Item = (ClientId, Response)> {
        self.answers.try_iter()
    }

    /// The office's handle on the outbox.
    pub fn post(&self) -> Post {
        Post::new(self.jobs.clone(), Arc::clone(&self.bell))
    }

    /// Waits for a result; for tests.
    pub fn wait(&self, timeout: Duration) -> Option<Stored> {
        self.results.recv_timeout(timeout).ok()
    }

    /// Batches that are not stored yet.
    pub fn waiting(&self) -> &Arc<AtomicU64> {
        &self.waiting
    }

    /// Stores what was handed over, but does not wait longer than `patience` for it; nothing can be handed over after.
    /// Returns how many batches are not stored.
    pub fn stop(&self, patience: Duration) -> usize {
        // A thread that is gone has said how many it had.
        let _ = self.jobs.send(Job::Stop);
        let unknown = |_| usize::try_from(self.waiting.load(Relaxed)).unwrap_or(usize::MAX);
        let began = Instant::now();
        let lost = self.done.recv_timeout(patience).unwrap_or_else(unknown);
        self.archive.stop(patience.saturating_sub(began.elapsed()));
        lost
    }
}

struct Start {
    db: Option<Db>,
    loaded: Loaded,
    /// Control knows everything that the file has.
    complete: bool,
    notice: Option<Notice>,
    recovered: Vec<StoreOp>,
}

fn start(places: Places<'_>, hash_key: [u64; 2]) -> Result<Start, StoreError> {
    let dir = places.state;
    let read = |mode| {
        let db = Db::open(dir, mode, hash_key)?;
        let loaded = load::load(&db, dir)?;
        Ok((db, loaded))
    };
    let (db, mut loaded) = match read(Mode::Start) {
        Ok(found) => found,
        Err(Fault::Lasting(text)) => return Err(StoreError::Unusable(text)),
        Err(Fault::Passing(text) | Fault::Full(text)) => {
            return Ok(without_writing(places, hash_key, text));
        }
        Err(Fault::Damaged(text)) => {
            let aside = match set_aside(dir) {
                Ok(aside) => aside,
                Err(e) => {
                    return Ok(without_writing(
                        places,
                        hash_key,
                        format!("{text}; and it cannot be set aside: {e}"),
                    ));
                }
            };
            let (db, mut loaded) = match read(Mode::Start) {
                Ok(found) => found,
                Err(Fault::Lasting(e)) => return Err(StoreError::Unusable(e)),
                Err(Fault::Passing(e) | Fault::Full(e) | Fault::Damaged(e)) => {
                    return Ok(without_writing(places, hash_key, e));
                }
            };
            let damage = format!(
                "the store was damaged ({text}); it was set aside as {} and a new one begun",
                aside.display()
            );
            log::error(&damage);
            log::error(
                "  restore cordon.db from a backup (stop cordond first); until then check the lock list: cordon list",
            );
            loaded.damage = Some(damage);
            (db, loaded)
        }
    };
    let mut recovered = Vec::new();
    if db.fresh {
        recovered = take_over(places.in_force, &mut loaded);
    }
    Ok(Start { db: Some(db), loaded, complete: true, notice: None, recovered })
}

/// Gives a store without rows those that the policy file enforces: a lost store must not unlock anybody.
fn take_over(in_force: Option<&Policy>, loaded: &mut Loaded) -> Vec<StoreOp> {
    let at = Time::now();
    let rows = in_force.map(|p| recover::rows(p, at, loaded.last_lock)).unwrap_or_default();
    let Some(last) = rows.last() else { return Vec::new() };
    let what = format!("{} locks taken over from the policy file: the store had none", rows.len());
    log::warning(&format!("{what}; they stay in force, see cordon list"));
    loaded.last_lock = last.id;
    let mut ops: Vec<StoreOp> = rows.iter().cloned().map(|r| StoreOp::PutLock(Box::new(r))).collect();
    ops.push(StoreOp::Audit { at, who: "recovery".to_owned(), what: what.clone() });
    loaded.locks.extend(rows);
    let before = loaded.damage.take().unwrap_or_else(|| "the store is new".to_owned());
    loaded.damage = Some(format!("{before}; {what}"));
    ops
}

/// A disk that cannot be written, or not even read: what can be read is, and what is enforced stays.
fn without_writing(places: Places<'_>, hash_key: [u64; 2], why: String) -> Start {
    let notice = |text: String| {
        log::error(&text);
        let next_step =
            "repair the disk, then restart cordond; locks are enforced meanwhile, but none is kept"
                .to_owned();
        Some(Notice { text, next_step })
    };
    match copy(places, hash_key) {
        Ok(loaded) => {
            let notice = notice(format!("the store cannot be written: {why}"));
            Start { db: None, loaded, complete: true, notice, recovered: Vec::new() }
        }
        Err(e) => {
            let mut loaded = Loaded { hash_key, ..Loaded::default() };
            take_over(places.in_force, &mut loaded);
            loaded.damage = None;
            let notice = notice(format!("there is no store: {why}; reading it fails too: {e}"));
            Start { db: None, loaded, complete: false, notice, recovered: Vec::new() }
        }
    }
}

/// Reads a copy of the database in memory: what is in its journal counts too, and merging that needs a place to write.
fn copy(places: Places<'_>, hash_key: [u64; 2]) -> Result<Loaded, String> {
    let dir = places.scratch.join(format!("store-{}", std::process::id()));
    let copied = || -> Result<(), std::io::Error> {
        DirBuilder::new().recursive(true).mode(0o700).create(&dir)?;
        std::fs::copy(places.state.join(FILE), dir.join(FILE))?;
        let journal = format!("{FILE}-wal");
        match std::fs::copy(places.state.join(&journal), dir.join(&journal)) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        }
    };
    let loaded = copied().map_err(|e| e.to_string()).and_then(|()| {
        let db = Db::open(&dir, Mode::Copy, hash_key).map_err(|e| e.to_string())?;
        load::load(&db, places.state).map_err(|e| e.to_string())
    });
    let _ = std::fs::remove_dir_all(&dir);
    loaded
}

/// Renames a damaged database with its journal.
fn set_aside(dir: &Path) -> std::io::Result<PathBuf> {
    let stamp: String = Time::now().to_string().chars().filter(|c| c.is_ascii_alphanumeric()).collect();
    let name = |suffix: &str| dir.join(format!("{FILE}{suffix}"));
    let aside = |suffix: &str| dir.join(format!("{FILE}.damaged-{stamp}{suffix}"));
    std::fs::rename(name(""), aside(""))?;
    for suffix in ["-wal", "-shm"] {
        // Often there is none; one that stayed would be taken for the new file's journal.
        if name(suffix).exists() {
            std::fs::rename(name(suffix), aside(suffix))?;
        }
    }
    Ok(aside(""))
}

/// The thread's state.
struct Keeper {
    dir: PathBuf,
    db: Option<Db>,
    loaded: bool,
    hash_key: [u64; 2],
    /// Detectors' batches that are not stored yet, in order.
    pending: VecDeque<Batch>,
    pause: Duration,
    /// Set while the disk fails.
    next_try: Option<Instant>,
    failure: String,
    results: Sender<Stored>,
    answers: Sender<(ClientId, Response)>,
    bell: Arc<Bell>,
    wake: Arc<dyn Fn() + Send + Sync>,
    waiting: Arc<AtomicU64>,
}

impl Keeper {
    fn run(&mut self, jobs: &Receiver<Job>) {
        loop {
            let job = match self.next_try {
                None => jobs.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(at) => jobs.recv_deadline(at),
            };
            match job {
                Ok(Job::Batch(batch)) => self.take(batch),
                Ok(Job::Post(job)) => self.serve(job),
                Ok(Job::Outbox(client, ask)) => {
                    let answer = self.answer(&ask);
                    // Nobody listens any more when control stops.
                    let _ = self.answers.send((client, answer));
                    (self.wake)();
                }
                Err(RecvTimeoutError::Timeout) => self.try_pending(),
                Ok(Job::Stop) | Err(RecvTimeoutError::Disconnected) => {
                    self.try_pending();
                    return;
                }
            }
        }
    }

    fn take(&mut self, batch: Batch) {
        if batch.retry {
            self.supersede(&batch);
            self.pending.push_back(batch);
            if self.next_try.is_none() {
                self.try_pending();
            }
            return;
        }
        self.try_pending();
        let result = if self.pending.is_empty() {
            self.apply(&batch.ops)
        } else {
            Err(Fault::Passing(self.failure.clone()))
        };
        self.report(batch.id, result.map_err(|e| e.to_string()), true);
    }

    /// A later state of an incident replaces one that still waits: a disk that fails for hours fills no memory.
    fn supersede(&mut self, batch: &Batch) {
        for op in &batch.ops {
            let StoreOp::PutIncident(new) = op else { continue };
            for waiting in &mut self.pending {
                waiting.ops.retain(|o| !matches!(o, StoreOp::PutIncident(old) if old.id == new.id));
            }
        }
    }

    fn try_pending(&mut self) {
        while let Some(batch) = self.pending.pop_front() {
            match self.apply(&batch.ops) {
                Ok(()) => {
                    self.pause = PAUSE_MIN;
                    if self.next_try.take().is_some() {
                        log::info("the store can be written again");
                    }
                    self.report(batch.id, Ok(()), true);
                }
                Err(Fault::Lasting(text)) => {
                    log::error(&format!("not stored: {text}"));
                    self.report(batch.id, Err(text), true);
                }
                Err(Fault::Passing(text) | Fault::Full(text) | Fault::Damaged(text)) => {
                    if self.next_try.is_none() {
                        log::error(&format!("{text}; tried again until it is stored"));
                    }
                    self.report(batch.id, Err(text), false);
                    self.pending.push_front(batch);
                    self.next_try = Some(Instant::now() + self.pause);
                    self.pause = (self.pause * 2).min(PAUSE_MAX);
                    return;
                }
            }
        }
    }

    fn apply(&mut self, ops: &[StoreOp]) -> Result<(), Fault> {
        let result = self.with_db(|db| db.apply(ops));
        if let Err(f) = &result {
            self.failure = f.to_string();
        } else if ops.iter().any(|op| matches!(op, StoreOp::Tell(_))) {
            self.bell.ring();
        }
        result
    }

    fn with_db<T>(&mut self, work: impl FnOnce(&mut Db) -> Result<T, Fault>) -> Result<T, Fault> {
        if !self.loaded {
            let path = self.dir.join(FILE);
            return Err(Fault::Passing(format!(
                "{} could not be read when cordond started: what it has must not be overwritten; repair it, then restart cordond",
                path.display()
            )));
        }
        let db = match self.db.take() {
            Some(db) => db,
            None => Db::open(&self.dir, Mode::Again, self.hash_key)?,
        };
        let result = work(self.db.insert(db));
        if result.is_err() {
            self.db.take_if(|db| !db.usable);
        }
        result
    }

    fn report(&mut self, batch: BatchId, result: Result<(), String>, last: bool) {
        if last {
            self.waiting.fetch_sub(1, Relaxed);
        }
        // Nobody listens any more when control stops.
        let gone = self.db.as_mut().map(|db| std::mem::take(&mut db.room.gone)).unwrap_or_default();
        let _ = self.results.send(Stored { batch, result, gone });
        (self.wake)();
    }
}
