//! Webhooks: each program that is told has a task of its own, so that one that is down holds up nobody else.
//!
//! What keeps everything from being sent (no connection, no key) is no message's fault: all wait. What a program answers
//! to one message, or that it does not, defers that one; after some in a row all wait here too. An outcome is recorded
//! before the next message goes out on the same connection.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use api::Time;
use config::Webhook;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

use super::ledger::{Ledger, sleep_until};
use super::webhook::{Answer, Endpoint, Line, Trouble};
use crate::effect::WEBHOOK;
use crate::log;
use crate::store::{Ears, Outcome, Parcel, Post};

/// Rows of one claim.
const BATCH: usize = 200;
/// Messages in a row that are not taken, after which a program counts as out of order.
const STRIKES: u32 = 3;
/// Pauses after the first, second, … time that nothing could be sent.
const PAUSES_S: [u64; 6] = [2, 5, 15, 30, 60, 120];
/// Seconds until a message that was not taken is tried again.
const AGAIN_S: [u64; 7] = [10, 30, 120, 300, 600, 1_800, 3_600];

/// How it goes. Written by the office; read by control.
#[derive(Debug, Default)]
pub struct HookStats {
    sent: AtomicU64,
    failures: AtomicU64,
    /// By the webhook's name.
    trouble: Mutex<BTreeMap<String, String>>,
}

impl HookStats {
    /// Messages that were taken since cordond started.
    pub fn sent(&self) -> u64 {
        self.sent.load(Relaxed)
    }

    /// Attempts that failed since then.
    pub fn failures(&self) -> u64 {
        self.failures.load(Relaxed)
    }

    /// Which webhooks do not go out at present, and why; none when all do.
    pub fn trouble(&self) -> Option<String> {
        let all = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        let lines: Vec<String> =
            all.iter().map(|(name, why)| format!("webhook {name} does not go out: {why}")).collect();
        (!lines.is_empty()).then(|| lines.join("; "))
    }

    fn say(&self, name: &str, trouble: Option<&str>) {
        let mut all = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        match (all.get(name), trouble) {
            (Some(a), Some(b)) if a == b => {}
            (_, Some(new)) => {
                log::error(&format!("webhook {name} does not go out: {new}; it waits in the outbox"));
                all.insert(name.to_owned(), new.to_owned());
            }
            (Some(_), None) => {
                log::info(&format!("webhook {name} goes out again"));
                all.remove(name);
            }
            (None, None) => {}
        }
    }

    fn forget(&self, name: &str) {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
    }
}

/// What all offices share, one after the other.
#[derive(Clone, Debug)]
pub struct Hooks {
    post: Post,
    wanted: watch::Receiver<Arc<Vec<Webhook>>>,
    stats: Arc<HookStats>,
    ledger: Ledger,
}

impl Hooks {
    /// Follows the configuration.
    pub fn new(post: Post, wanted: watch::Receiver<Arc<Vec<Webhook>>>) -> Hooks {
        Hooks { ledger: Ledger::new(post.clone()), post, wanted, stats: Arc::default() }
    }

    /// How it goes.
    pub fn stats(&self) -> &Arc<HookStats> {
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
                    self.stats.forget(name);
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

enum Round {
    Worked,
    /// Nothing to do until then.
    Idle(Option<Time>),
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
                    self.hooks.stats.say(&self.hook.name, Some(&text));
                    self.endpoint = None;
                    let pause = Duration::from_secs(PAUSES_S[failures.min(PAUSES_S.len() - 1)]);
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
                self.hooks.stats.say(&self.hook.name, None);
            }
            return Ok(Round::Idle(claim.next));
        }
        let endpoint = match &self.endpoint {
            Some(endpoint) => Arc::clone(endpoint),
            None => {
                let opened = Endpoint::open(&self.hook).await;
                let opened = opened.inspect_err(|_| self.failed_once())?;
                Arc::clone(self.endpoint.insert(Arc::new(opened)))
            }
        };
        let hands = claim.parcels.len().min(usize::try_from(self.hook.connections).unwrap_or(1)).max(1);
        let pile = Arc::new(Mutex::new(VecDeque::from(claim.parcels)));
        let mut workers = JoinSet::new();
        for _ in 0..hands {
            let worker = Worker {
                hook: self.hook.clone(),
                hooks: self.hooks.clone(),
                strikes: Arc::clone(&self.strikes),
                endpoint: Arc::clone(&endpoint),
                pile: Arc::clone(&pile),
                origin: claim.origin.clone(),
            };
            workers.spawn(worker.run());
        }
        let mut trouble = None;
        while let Some(ended) = workers.join_next().await {
            match ended {
                Ok(Ok(())) => {}
                Ok(Err(t)) => trouble = Some(t),
                Err(e) => trouble = Some(Trouble(format!("a worker ended: {e}"))),
            }
        }
        trouble.map_or(Ok(Round::Worked), Err)
    }

    fn failed_once(&self) {
        self.hooks.stats.failures.fetch_add(1, Relaxed);
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
    pile: Arc<Mutex<VecDeque<Parcel>>>,
    origin: String,
}

impl Worker {
    fn next(&self) -> Option<Parcel> {
        self.pile.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    async fn run(self) -> Result<(), Trouble> {
        let mut line: Option<Line> = None;
        while let Some(parcel) = self.next() {
            let id = message_id(&parcel.id, &self.origin);
            let sent = self.endpoint.send(&mut line, &id, &parcel.body, Time::now()).await;
            let sent = sent.inspect_err(|_| {
                self.hooks.stats.failures.fetch_add(1, Relaxed);
            })?;
            self.settle(&parcel, sent).await?;
        }
        Ok(())
    }

    async fn settle(&self, parcel: &Parcel, answer: Answer) -> Result<(), Trouble> {
        let stats = &self.hooks.stats;
        match answer {
            Answer::Taken => {
                stats.sent.fetch_add(1, Relaxed);
                self.strikes.store(0, Relaxed);
                stats.say(&self.hook.name, None);
                self.record(parcel, Outcome::Delivered { note: None }).await
            }
            Answer::Refused(error) => {
                stats.failures.fetch_add(1, Relaxed);
                self.failed(parcel, error).await
            }
            Answer::Later { error, wait } => {
                stats.failures.fetch_add(1, Relaxed);
                let strikes = self.strikes.fetch_add(1, Relaxed) + 1;
                self.later(parcel, &error, wait).await?;
                if strikes >= STRIKES {
                    return Err(Trouble(error));
                }
                stats.say(&self.hook.name, Some(&error));
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

    #[test]
    fn trouble_is_told_by_name_and_forgotten_when_it_is_over() {
        let stats = HookStats::default();
        stats.say("a", Some("it answers 500"));
        stats.say("b", Some("refused"));
        let said = stats.trouble().expect("trouble");
        assert_eq!(said, "webhook a does not go out: it answers 500; webhook b does not go out: refused");
        stats.say("a", None);
        stats.forget("b");
        assert_eq!(stats.trouble(), None);
    }
}
