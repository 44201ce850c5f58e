//! What became of attempts, on its way to the disk.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use api::Time;

use crate::store::{Outcome, Post};

/// Longest sleep: the clock may be set meanwhile.
const SLEEP_MAX: Duration = Duration::from_secs(60);

/// How long to sleep when nothing is due before a time.
pub(super) fn sleep_until(next: Option<Time>) -> Duration {
    let ms = next.map_or(i64::MAX, |t| t.unix_ms().saturating_sub(Time::now().unix_ms()).max(1));
    SLEEP_MAX.min(Duration::from_millis(u64::try_from(ms).unwrap_or(u64::MAX)))
}

/// Outcomes that are not on disk yet. They outlive an office: what was taken must not be sent again.
#[derive(Clone, Debug)]
pub(super) struct Ledger {
    post: Post,
    unrecorded: Arc<Mutex<HashMap<String, (Outcome, Time)>>>,
}

impl Ledger {
    pub(super) fn new(post: Post) -> Ledger {
        Ledger { post, unrecorded: Arc::default() }
    }

    /// Puts on disk what is known and not there yet.
    pub(super) async fn settle(&self) -> Result<(), String> {
        let known: Vec<(String, (Outcome, Time))> = {
            let all = self.unrecorded.lock().unwrap_or_else(PoisonError::into_inner);
            all.iter().map(|(id, o)| (id.clone(), o.clone())).collect()
        };
        for (id, (outcome, at)) in known {
            self.put_on_disk(&id, outcome, at).await?;
        }
        Ok(())
    }

    /// Records an outcome; on disk when it returns.
    pub(super) async fn record(&self, id: &str, outcome: Outcome) -> Result<(), String> {
        let at = Time::now();
        {
            let mut all = self.unrecorded.lock().unwrap_or_else(PoisonError::into_inner);
            all.insert(id.to_owned(), (outcome.clone(), at));
        }
        self.put_on_disk(id, outcome, at).await
    }

    /// It stays among the unrecorded when that fails.
    async fn put_on_disk(&self, id: &str, outcome: Outcome, at: Time) -> Result<(), String> {
        let recorded = self.post.record(id.to_owned(), outcome, at).await;
        recorded.map_err(|e| format!("what was sent cannot be recorded: {e}"))?;
        self.unrecorded.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
        Ok(())
    }
}
