//! A thread for histories: an hour of them takes longer to join than a lock by hand may wait for its commit.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use api::{ErrorCode, Failure, Payload, Response};
use crossbeam::channel::{Receiver, Sender, unbounded};
use rusqlite::{Connection, OpenFlags};

use super::history::History;
use super::{FILE, load};
use crate::claim::{self, Found, Question};
use crate::effect::ClientId;
use crate::history::HistoryOp;

enum Job {
    Keep(HistoryOp),
    /// A client's.
    Answer(ClientId, Box<Question>),
    /// A client's.
    Incident(ClientId, String),
    Stop,
}

/// The thread's handle.
#[derive(Debug)]
pub(super) struct Archive {
    jobs: Sender<Job>,
    done: Receiver<()>,
    fails: Arc<AtomicBool>,
}

impl Archive {
    /// Starts it; `wake` is called when there is an answer.
    pub(super) fn start(
        state: &Path,
        answers: Sender<(ClientId, Response)>,
        wake: Arc<dyn Fn() + Send + Sync>,
    ) -> std::io::Result<Archive> {
        let (jobs, queue) = unbounded();
        let (sender, done) = unbounded();
        let fails = Arc::new(AtomicBool::new(false));
        let shown = Arc::clone(&fails);
        let (mut history, store) = (History::new(state), state.join(FILE));
        std::thread::Builder::new().name("history".into()).spawn(move || {
            for job in queue {
                match job {
                    Job::Keep(op) => {
                        history.take(op);
                        shown.store(history.failure().is_some(), Relaxed);
                    }
                    Job::Answer(client, question) => {
                        // Nobody listens any more when control stops.
                        let _ = answers.send((client, answer(&mut history, &store, *question)));
                        wake();
                    }
                    Job::Incident(client, id) => {
                        let _ = answers.send((client, incident(&store, &id)));
                        wake();
                    }
                    Job::Stop => break,
                }
            }
            // Closing merges the journal into the file.
            drop(history);
            let _ = sender.send(());
        })?;
        Ok(Archive { jobs, done, fails })
    }

    /// Without the thread, what is missing is told by its missing.
    pub(super) fn keep(&self, op: HistoryOp) {
        let _ = self.jobs.send(Job::Keep(op));
    }

    /// Without the thread the client times out by itself.
    pub(super) fn ask(&self, client: ClientId, question: Box<Question>) {
        let _ = self.jobs.send(Job::Answer(client, question));
    }

    /// Without the thread the client times out by itself.
    pub(super) fn ask_incident(&self, client: ClientId, id: String) {
        let _ = self.jobs.send(Job::Incident(client, id));
    }

    /// Whether nothing can be written at present.
    pub(super) fn fails(&self) -> bool {
        self.fails.load(Relaxed)
    }

    /// Writes what was handed over, but does not wait longer than `patience`.
    pub(super) fn stop(&self, patience: Duration) {
        let _ = self.jobs.send(Job::Stop);
        // What is not written by then is a gap, and told as one.
        let _ = self.done.recv_timeout(patience);
    }
}

/// What an address did, from histories and from the store.
fn answer(history: &mut History, store: &Path, question: Question) -> Response {
    let found = history.find(&question).and_then(|found| {
        rest(store, &question, found).map_err(|e| format!("reading {}: {e}", store.display()))
    });
    match found {
        Ok(found) => Response::Ok(Payload::Evidence(Box::new(claim::report(question, found)))),
        Err(e) => Response::Error(Failure::new(
            ErrorCode::Failed,
            format!("the history cannot be read: {e}"),
            "mend the disk of [run] state and ask again",
        )),
    }
}

/// The store, through a connection that can only read.
fn reader(store: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let c = Connection::open_with_flags(store, flags)?;
    c.busy_timeout(Duration::from_secs(2))?;
    Ok(c)
}

/// An incident of the store.
fn incident(store: &Path, id: &str) -> Response {
    match reader(store).and_then(|c| load::incident(&c, id)) {
        Ok(Some(row)) => Response::Ok(Payload::Incident(Box::new(row))),
        Ok(None) => Response::Error(Failure::new(
            ErrorCode::NotFound,
            format!("there is no incident {id}"),
            "`cordon incidents` lists the latest",
        )),
        Err(e) => Response::Error(Failure::new(
            ErrorCode::Failed,
            format!("reading {}: {e}", store.display()),
            "mend the disk of [run] state and ask again",
        )),
    }
}

/// Incidents and locks.
fn rest(store: &Path, q: &Question, found: Found) -> rusqlite::Result<Found> {
    let Some(net) = q.target.prefix() else { return Ok(found) };
    let c = reader(store)?;
    Ok(Found {
        incidents: load::incidents_of(&c, &q.target.to_string(), q.asked)?,
        lock_events: load::lock_events(&c, &net, q.asked)?,
        ..found
    })
}
