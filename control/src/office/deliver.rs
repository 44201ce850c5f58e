//! What mail and webhooks have in common: how it goes, what is of no use, and several connections for one pile.

use std::collections::{BTreeMap, VecDeque};
use std::error::Error;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use api::Time;
use tokio::task::JoinSet;

use crate::log;
use crate::store::Parcel;

/// Rows of one claim.
pub(super) const BATCH: usize = 200;
/// Pauses after the first, second, … time that nothing could be sent.
const PAUSES_S: [u64; 6] = [2, 5, 15, 30, 60, 120];

/// Nothing can be sent at all: the connection, a key, or the other side as a whole is of no use; no row is to blame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Trouble(pub(super) String);

/// What a round came to.
pub(super) enum Round {
    Worked,
    /// Nothing to do until then.
    Idle(Option<Time>),
}

/// How long to wait after so many rounds in a row ended in trouble, before this one.
pub(super) fn pause_after(failures: usize) -> Duration {
    Duration::from_secs(PAUSES_S[failures.min(PAUSES_S.len() - 1)])
}

/// An error with its causes, on one line.
pub(super) fn told(e: &dyn Error) -> String {
    let mut text = e.to_string();
    let mut cause = e.source();
    while let Some(c) = cause {
        let more = c.to_string();
        if !text.contains(&more) {
            text += &format!(": {more}");
        }
        cause = c.source();
    }
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(400).collect()
}

/// How it goes. Written by the office; read by control.
#[derive(Debug, Default)]
pub struct Deliveries {
    sent: AtomicU64,
    failures: AtomicU64,
    /// By what does not go out.
    trouble: Mutex<BTreeMap<String, String>>,
}

impl Deliveries {
    /// What was taken since cordond started.
    pub fn sent(&self) -> u64 {
        self.sent.load(Relaxed)
    }

    /// Attempts that failed since then.
    pub fn failures(&self) -> u64 {
        self.failures.load(Relaxed)
    }

    /// What does not go out at present, and why; none when all does.
    pub fn trouble(&self) -> Option<String> {
        let all = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        let lines: Vec<String> =
            all.iter().map(|(what, why)| format!("{what} does not go out: {why}")).collect();
        (!lines.is_empty()).then(|| lines.join("; "))
    }

    pub(super) fn sent_once(&self) {
        self.sent.fetch_add(1, Relaxed);
    }

    pub(super) fn failed_once(&self) {
        self.failures.fetch_add(1, Relaxed);
    }

    pub(super) fn say(&self, what: &str, trouble: Option<&str>) {
        let mut all = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        match (all.get(what), trouble) {
            (Some(a), Some(b)) if a == b => {}
            (_, Some(new)) => {
                log::error(&format!("{what} does not go out: {new}; it waits in the outbox"));
                all.insert(what.to_owned(), new.to_owned());
            }
            (Some(_), None) => {
                log::info(&format!("{what} goes out again"));
                all.remove(what);
            }
            (None, None) => {}
        }
    }

    /// It is not to go out any more.
    pub(super) fn forget(&self, what: &str) {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).remove(what);
    }
}

/// What was claimed, for all connections.
#[derive(Clone, Debug)]
pub(super) struct Pile(Arc<Mutex<VecDeque<Parcel>>>);

impl Pile {
    pub(super) fn next(&self) -> Option<Parcel> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }
}

/// Lets at most so many connections work off what was claimed. The trouble: that of the last one that had any.
pub(super) async fn share<F>(
    parcels: Vec<Parcel>,
    connections: u32,
    work: impl Fn(Pile) -> F,
) -> Result<(), Trouble>
where
    F: Future<Output = Result<(), Trouble>> + Send + 'static,
{
    let hands = parcels.len().min(usize::try_from(connections).unwrap_or(1)).max(1);
    let pile = Pile(Arc::new(Mutex::new(VecDeque::from(parcels))));
    let mut workers = JoinSet::new();
    for _ in 0..hands {
        workers.spawn(work(pile.clone()));
    }
    let mut trouble = None;
    while let Some(ended) = workers.join_next().await {
        match ended {
            Ok(Ok(())) => {}
            Ok(Err(t)) => trouble = Some(t),
            Err(e) => trouble = Some(Trouble(format!("a worker ended: {e}"))),
        }
    }
    trouble.map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trouble_is_told_by_name_and_forgotten_when_it_is_over() {
        let stats = Deliveries::default();
        stats.say("webhook a", Some("it answers 500"));
        stats.say("webhook b", Some("refused"));
        let said = stats.trouble().expect("trouble");
        assert_eq!(said, "webhook a does not go out: it answers 500; webhook b does not go out: refused");
        stats.say("webhook a", None);
        stats.forget("webhook b");
        assert_eq!(stats.trouble(), None);
    }
}
