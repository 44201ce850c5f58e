//! The outbox between the store's thread, the office that delivers, and the operator who looks.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

use api::{ErrorCode, Failure, OutboxRow, Payload, Response, Time};
use crossbeam::channel::Sender;
use tokio::sync::{oneshot, watch};

use super::db::Fault;
use super::outbox::{self, Claim, Fill, Outcome, Pace};
use super::{Keeper, db};
use crate::effect::OutboxAsk;

/// Rings when there is something new to deliver, and shows how full the outbox is.
#[derive(Debug, Default)]
pub struct Bell {
    new: watch::Sender<()>,
    urgent: watch::Sender<()>,
    waiting: AtomicU64,
    /// Milliseconds since 1970; 0 for none.
    oldest_ms: AtomicI64,
    failed: AtomicU64,
}

/// Hears the bell; everybody who delivers has a pair.
#[derive(Debug)]
pub struct Ears {
    new: watch::Receiver<()>,
    urgent: watch::Receiver<()>,
}

impl Ears {
    /// Waits until an operator wants something tried at once.
    pub async fn urgent(&mut self) {
        heard(&mut self.urgent).await;
    }

    /// Waits for that or a new row; true for the row.
    pub async fn rung(&mut self) -> bool {
        tokio::select! {
            () = heard(&mut self.urgent) => false,
            () = heard(&mut self.new) => true,
        }
    }
}

async fn heard(bell: &mut watch::Receiver<()>) {
    // A bell that is gone never rings again.
    if bell.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

impl Bell {
    /// There is a new row.
    pub(super) fn ring(&self) {
        self.new.send_replace(());
    }

    /// Listens from now on.
    pub fn ears(&self) -> Ears {
        Ears { new: self.new.subscribe(), urgent: self.urgent.subscribe() }
    }

    /// How full the outbox was when the office or an operator last asked.
    pub fn fill(&self) -> Fill {
        let oldest = self.oldest_ms.load(Relaxed);
        Fill {
            waiting: self.waiting.load(Relaxed),
            oldest: (oldest != 0).then(|| Time::from_unix_ms(oldest)),
            failed: self.failed.load(Relaxed),
        }
    }

    fn show(&self, fill: &Fill) {
        self.waiting.store(fill.waiting, Relaxed);
        self.oldest_ms.store(fill.oldest.map_or(0, Time::unix_ms), Relaxed);
        self.failed.store(fill.failed, Relaxed);
    }
}

/// What the office asks.
#[derive(Debug)]
pub(super) enum Job {
    Claim {
        kind: &'static str,
        audience: Option<String>,
        now: Time,
        pace: Option<Pace>,
        most: usize,
        reply: oneshot::Sender<Result<Claim, String>>,
    },
    Record {
        id: String,
        outcome: Outcome,
        at: Time,
        reply: oneshot::Sender<Result<(), String>>,
    },
    Disown {
        kind: &'static str,
        audiences: Vec<String>,
        at: Time,
        reply: oneshot::Sender<Result<usize, String>>,
    },
}

/// The office's handle.
#[derive(Clone, Debug)]
pub struct Post {
    jobs: Sender<super::Job>,
    bell: Arc<Bell>,
}

const GONE: &str = "the store's thread is gone: restart cordond";

impl Post {
    pub(super) fn new(jobs: Sender<super::Job>, bell: Arc<Bell>) -> Post {
        Post { jobs, bell }
    }

    /// Rings when there is something new.
    pub fn bell(&self) -> &Arc<Bell> {
        &self.bell
    }

    /// What is due, to one audience or to all. It stays due until an outcome is recorded.
    pub async fn claim(
        &self,
        kind: &'static str,
        audience: Option<&str>,
        now: Time,
        pace: Option<Pace>,
        most: usize,
    ) -> Result<Claim, String> {
        let (reply, answer) = oneshot::channel();
        let audience = audience.map(str::to_owned);
        self.ask(Job::Claim { kind, audience, now, pace, most, reply })?;
        answer.await.map_err(|_| GONE.to_owned())?
    }

    /// Records what became of an attempt; on disk when it returns.
    pub async fn record(&self, id: String, outcome: Outcome, at: Time) -> Result<(), String> {
        let (reply, answer) = oneshot::channel();
        self.ask(Job::Record { id, outcome, at, reply })?;
        answer.await.map_err(|_| GONE.to_owned())?
    }

    /// Withdraws what waits for others than these; how many rows that were.
    pub async fn disown(
        &self,
        kind: &'static str,
        audiences: Vec<String>,
        at: Time,
    ) -> Result<usize, String> {
        let (reply, answer) = oneshot::channel();
        self.ask(Job::Disown { kind, audiences, at, reply })?;
        answer.await.map_err(|_| GONE.to_owned())?
    }

    fn ask(&self, job: Job) -> Result<(), String> {
        self.jobs.send(super::Job::Post(job)).map_err(|_| GONE.to_owned())
    }
}

fn no_such(id: &str) -> Failure {
    Failure::new(
        ErrorCode::NotFound,
        format!("there is no {id} in the outbox"),
        "`cordon outbox list --all` lists what there is",
    )
}

impl Keeper {
    /// Serves the office. Whoever asked may be gone by now: then nobody needs the answer.
    pub(super) fn serve(&mut self, job: Job) {
        match job {
            Job::Claim { kind, audience, now, pace, most, reply } => {
                let claimed = self.with_db(|db| {
                    let origin = db.origin().to_owned();
                    db.transact(|tx| {
                        let claim = outbox::claim(tx, kind, audience.as_deref(), now, pace, most, &origin)?;
                        Ok((claim, outbox::fill(tx, now)?))
                    })
                });
                let claimed = claimed.map(|(claim, fill)| {
                    self.bell.show(&fill);
                    claim
                });
                let _ = reply.send(claimed.map_err(|e| e.to_string()));
            }
            Job::Record { id, outcome, at, reply } => {
                // Counting all rows again would cost more than the record; the next claim does.
                let recorded = self.with_db(|db| db.transact(|tx| outbox::record(tx, &id, &outcome, at)));
                let _ = reply.send(recorded.map_err(|e| e.to_string()));
            }
            Job::Disown { kind, audiences, at, reply } => {
                let disowned = self.with_db(|db| db.transact(|tx| outbox::disown(tx, kind, &audiences, at)));
                let _ = reply.send(disowned.map_err(|e| e.to_string()));
            }
        }
    }

    /// Answers an operator.
    pub(super) fn answer(&mut self, ask: &OutboxAsk) -> Response {
        let answered = match ask {
            OutboxAsk::List { all, limit } => self
                .with_db(|db| db.transact(|tx| outbox::list(tx, *all, *limit)))
                .map(Payload::Outbox)
                .map(Ok),
            OutboxAsk::Retry { id, who, at } => {
                let done = self.change(id, who, *at, |tx, row| {
                    let what = format!("outbox retry {}", row.id);
                    Ok(outbox::retry(tx, &row.id, *at)?.then_some(what))
                });
                if matches!(done, Ok(Ok(_))) {
                    self.bell.urgent.send_replace(());
                }
                done.map(|d| d.map(|()| Payload::Done(format!("{id} is tried again at once."))))
            }
            OutboxAsk::Drop { id, who, at } => self
                .change(id, who, *at, |tx, row| {
                    let what = format!("outbox drop {}", row.id);
                    Ok(outbox::drop_row(tx, &row.id, *at, &format!("withdrawn by {who}"))?.then_some(what))
                })
                .map(|d| d.map(|()| Payload::Done(format!("{id} is withdrawn and will not be sent.")))),
        };
        match answered {
            Ok(Ok(payload)) => Response::Ok(payload),
            Ok(Err(failure)) => Response::Error(failure),
            Err(fault) => Response::Error(Failure::new(
                ErrorCode::Failed,
                format!("the outbox cannot be reached: {fault}"),
                "mend the disk of [run] state and ask again",
            )),
        }
    }

    /// Changes a row, with a line in the audit log.
    fn change(
        &mut self,
        id: &str,
        who: &str,
        at: Time,
        work: impl FnOnce(&rusqlite::Transaction<'_>, &OutboxRow) -> Result<Option<String>, db::Failure>,
    ) -> Result<Result<(), Failure>, Fault> {
        self.with_db(|db| {
            db.transact(|tx| {
                let Some(row) = outbox::get(tx, id)? else { return Ok(Err(no_such(id))) };
                let Some(what) = work(tx, &row)? else {
                    let text = if outbox::is_done(&row) { "it has left" } else { "it is withdrawn already" };
                    return Ok(Err(Failure::new(
                        ErrorCode::Refused,
                        format!("{id} is {}: {text}", row.state),
                        "`cordon outbox list --all` says how far each one is",
                    )));
                };
                db::audit(tx, at, who, &what)?;
                Ok(Ok(()))
            })
        })
    }
}
