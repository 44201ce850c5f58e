//! Webhooks: each program that is told has a task of its own, so that one that is down holds up nobody else.
//!
//! What keeps everything from being sent (no connection, no key) is no message's fault: all wait. What a program answers
//! to one message, or that it does not, defers that one; after some in a row all wait here too. An outcome is recorded
//! before the next message goes out on the same connection.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use api::Time;
use config::Webhook;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

use super::deliver::{BATCH, Deliveries, Pile, Round, Trouble, pause_after, share};
use super::ledger::{Ledger, sleep_until};
use super::webhook::{Answer, Endpoint, Line};
use crate::effect::WEBHOOK;
use crate::log;
use crate::store::{Ears, Outcome, Parcel, Post};

/// Messages in a row that are not taken, after which a program counts as out of order.
const STRIKES: u32 = 3;
/// Seconds until a message that was not taken is tried again.
const AGAIN_S: [u64; 7] = [10, 30, 120, 300, 600, 1_800, 3_600];

/// What a webhook is called where it does not go out.
fn what(name: &str) -> String {
    format!("webhook {name}")
}

/// What all offices share, one after the other.
#[derive(Clone, Debug)]
pub struct Hooks {
    post: Post,
    wanted: watch::Receiver<Arc<Vec<Webhook>>>,
    stats: Arc<Deliveries>,
    ledger: Ledger,
}

impl Hooks {
    /// Follows the configuration.
    pub fn new(post: Post, wanted: watch::Receiver<Arc<Vec<Webhook>>>) -> Hooks {
        Hooks { ledger: Ledger::new(post.clone()), post, wanted, stats: Arc::default() }
    }

    /// How it goes.
    pub fn stats(&self) -> &Arc<Deliveries> {
        &self.stats
    }

    /// Works until it is dropped.
    pub(super) async fn run(mut self) -> String {
        let mut running: BTreeMap<String, (Webhook, AbortHandle)> = BTreeMap::new();
        let mut tasks = JoinSet::new();
        loop {
            let wanted = Arc::clone(&self.wanted.borrow_and_update());
            running.retain(|name, (hook, task)| {
                let stays = wanted.contains(hook);
                if !stays {
                    // An attempt that this breaks off is made again, with the same id.
                    task.abort();
                    self.stats.forget(&what(name));
                }
                stays
            });
            for hook in wanted.iter() {
                if !running.contains_key(&hook.name) {
                    let caller = Caller {
                        hook: hook.clone(),
                        hooks: self.clone(),
                        strikes: Arc::default(),
                        endpoint: None,
                    };
                    running.insert(hook.name.clone(), (hook.clone(), tasks.spawn(caller.run())));
                }
            }
            self.disown(&wanted).await;
            loop {
                tokio::select! {
                    changed = self.wanted.changed() => match changed {
                        Ok(()) => break,
                        Err(_) => return "nobody is left to say where webhooks go".to_owned(),
                    },
                    Some(ended) = tasks.join_next() => match ended {
                        Err(e) if e.is_cancelled() => {}
                        Err(e) => return format!("a webhook's task ended: {e}"),
                        Ok(()) => return "a webhook's task ended".to_owned(),
                    },
                }
            }
        }
    }

    /// Nobody will ever take what waits for a webhook that is configured no more.
    async fn disown(&self, wanted: &[Webhook]) {
        let audiences = wanted.iter().map(Webhook::audience).collect();
        match self.post.disown(WEBHOOK, audiences, Time::now()).await {
            Ok(0) => {}
            Ok(n) => log::warning(&format!(
                "{n} messages waited for webhooks that the configuration names no more: they are withdrawn; `cordon outbox list --all` has them"
            )),
            // They stay, and are seen in the outbox.
            Err(e) => log::error(&format!("withdrawing what waits for former webhooks: {e}")),
        }
    }
}

/// Tells one program.
struct Caller {
    hook: Webhook,
    hooks: Hooks,
    /// Messages in a row that were not taken.
    strikes: Arc<AtomicU32>,
    /// Read again after trouble: keys and certificates may be new.
    endpoint: Option<Arc<Endpoint>>,
}

impl Caller {
    async fn run(mut self) {
        let mut failures = 0;
        let mut ears = self.hooks.post.bell().ears();
        loop {
            match self.round().await {
                Ok(Round::Worked) => failures = 0,
                Ok(Round::Idle(next)) => wait(sleep_until(next), &mut ears, true).await,
                Err(Trouble(text)) => {
                    self.hooks.stats.say(&what(&self.hook.name), Some(&text));
                    self.endpoint = None;
                    let pause = pause_after(failures);
                    failures += 1;
                    wait(pause, &mut ears, false).await;
                }
            }
        }
    }

    /// Claims what is due and sends it.
    async fn round(&mut self) -> Result<Round, Trouble> {
        self.hooks.ledger.settle().await.map_err(Trouble)?;
        let audience = self.hook.audience();
        let claim = self.hooks.post.claim(WEBHOOK, Some(&audience), Time::now(), None, BATCH).await;
        let claim = claim.map_err(|e| Trouble(format!("the outbox cannot be read: {e}")))?;
        if claim.parcels.is_empty() {
            if claim.next.is_none() {
                self.hooks.stats.say(&what(&self.hook.name), None);
            }
            return Ok(Round::Idle(claim.next));
        }
        let endpoint = match &self.endpoint {
            Some(endpoint) => Arc::clone(endpoint),
            None => {
                let opened = Endpoint::open(&self.hook).await;
                let opened = opened.inspect_err(|_| self.hooks.stats.failed_once())?;
                Arc::clone(self.endpoint.insert(Arc::new(opened)))
            }
        };
        share(claim.parcels, self.hook.connections, |pile| {
            let worker = Worker {
                hook: self.hook.clone(),
                hooks: self.hooks.clone(),
                strikes: Arc::clone(&self.strikes),
                endpoint: Arc::clone(&endpoint),
                pile,
                origin: claim.origin.clone(),
            };
            worker.run()
        })
        .await?;
        Ok(Round::Worked)
    }
}

/// An operator who wants something tried ends it, and so does a new row where that matters.
async fn wait(pause: Duration, ears: &mut Ears, for_new: bool) {
    let sleep = tokio::time::sleep(pause);
    if for_new {
        tokio::select! {
            () = sleep => {}
            _ = ears.rung() => {}
        }
    } else {
        tokio::select! {
            () = sleep => {}
            () = ears.urgent() => {}
        }
    }
}

/// The name of a message in the world, the same at every attempt. The standard wants no dots in it.
fn message_id(row: &str, origin: &str) -> String {
    format!("msg_{}_{origin}", row.replace('.', "_"))
}

/// One connection, and the pile that all share.
struct Worker {
    hook: Webhook,
    hooks: Hooks,
    strikes: Arc<AtomicU32>,
    endpoint: Arc<Endpoint>,
    pile: Pile,
    origin: String,
}

impl Worker {
    async fn run(self) -> Result<(), Trouble> {
        let mut line: Option<Line> = None;
        while let Some(parcel) = self.pile.next() {
            let id = message_id(&parcel.id, &self.origin);
            let sent = self.endpoint.send(&mut line, &id, &parcel.body, Time::now()).await;
            let sent = sent.inspect_err(|_| self.hooks.stats.failed_once())?;
            self.settle(&parcel, sent).await?;
        }
        Ok(())
    }

    async fn settle(&self, parcel: &Parcel, answer: Answer) -> Result<(), Trouble> {
        let stats = &self.hooks.stats;
        match answer {
            Answer::Taken => {
                stats.sent_once();
                self.strikes.store(0, Relaxed);
                stats.say(&what(&self.hook.name), None);
                self.record(parcel, Outcome::Delivered { note: None }).await
            }
            Answer::Refused(error) => {
                stats.failed_once();
                self.failed(parcel, error).await
            }
            Answer::Later { error, wait } => {
                stats.failed_once();
                let strikes = self.strikes.fetch_add(1, Relaxed) + 1;
                self.later(parcel, &error, wait).await?;
                if strikes >= STRIKES {
                    return Err(Trouble(error));
                }
                stats.say(&what(&self.hook.name), Some(&error));
                Ok(())
            }
        }
    }

    async fn later(&self, parcel: &Parcel, error: &str, wait: Option<Duration>) -> Result<(), Trouble> {
        let now = Time::now();
        if now > parcel.created.plus(self.hook.give_up) {
            return self.failed(parcel, format!("given up: {error}")).await;
        }
        let step = usize::try_from(parcel.attempts).unwrap_or(usize::MAX).min(AGAIN_S.len() - 1);
        let pause = Duration::from_secs(AGAIN_S[step]).max(wait.unwrap_or_default());
        let outcome =
            Outcome::Deferred { until: now.plus(pause), accepted: Vec::new(), error: error.to_owned() };
        self.record(parcel, outcome).await
    }

    async fn failed(&self, parcel: &Parcel, error: String) -> Result<(), Trouble> {
        log::error(&format!("webhook {} to {} failed for good: {error}", parcel.id, self.hook.name));
        self.record(parcel, Outcome::Failed { error }).await
    }

    async fn record(&self, parcel: &Parcel, outcome: Outcome) -> Result<(), Trouble> {
        self.hooks.ledger.record(&parcel.id, outcome).await.map_err(Trouble)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_named_by_its_row_and_the_installation() {
        let id = message_id("C-2026-000001.locked.7.w-billing", "0123456789abcdef");
        assert_eq!(id, "msg_C-2026-000001_locked_7_w-billing_0123456789abcdef");
    }
}
