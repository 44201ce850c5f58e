//! The courier: takes what is due out of the outbox and hands it to the mail server.
//!
//! Trouble with the server or the connection is nobody's fault: the rows stay as they are, and all wait. What the server
//! says of one mail concerns that row alone. An outcome is recorded before the next mail goes out on the same connection.

use std::sync::Arc;
use std::time::Duration;

use api::Time;
use tokio::sync::watch;

use super::compose::{Settings, compose};
use super::deliver::{BATCH, Deliveries, Pile, Round, Trouble, pause_after, share};
use super::ledger::{Ledger, sleep_until};
use super::smtp::{Connection, Sent, list};
use crate::effect::MAIL;
use crate::log;
use crate::store::{Ears, Outcome, Pace, Parcel, Post};

/// What is said not to go out.
const MAILS: &str = "mail";
/// A burst of rows is waited for, so that it becomes one digest.
const GATHER: Duration = Duration::from_millis(200);
/// Minutes until a row that the server did not take for now is tried again. Greylisting asks for some minutes.
const AGAIN_MIN: [i64; 7] = [2, 5, 10, 20, 30, 60, 120];

/// What all offices share, one after the other.
#[derive(Clone, Debug)]
pub struct Courier {
    post: Post,
    settings: watch::Receiver<Option<Arc<Settings>>>,
    stats: Arc<Deliveries>,
    ledger: Ledger,
}

impl Courier {
    /// A courier that follows the settings.
    pub fn new(post: Post, settings: watch::Receiver<Option<Arc<Settings>>>) -> Courier {
        Courier { ledger: Ledger::new(post.clone()), post, settings, stats: Arc::default() }
    }

    /// How it goes.
    pub fn stats(&self) -> &Arc<Deliveries> {
        &self.stats
    }

    /// Works until it is dropped.
    pub(super) async fn run(mut self) -> String {
        let mut failures = 0;
        let mut ears = self.post.bell().ears();
        loop {
            let Some(settings) = self.settings.borrow_and_update().clone() else {
                self.stats.say(MAILS, None);
                if self.settings.changed().await.is_err() {
                    return "nobody is left to say where mail goes".to_owned();
                }
                continue;
            };
            match self.round(&settings).await {
                Ok(Round::Worked) => failures = 0,
                Ok(Round::Idle(next)) => self.sleep_until(next, &mut ears).await,
                Err(Trouble(text)) => {
                    self.stats.failed_once();
                    self.stats.say(MAILS, Some(&text));
                    let pause = pause_after(failures);
                    failures += 1;
                    self.pause(pause, &mut ears).await;
                }
            }
        }
    }

    /// Waits; an operator who wants something tried, and other settings, end it.
    async fn pause(&mut self, pause: Duration, ears: &mut Ears) {
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = ears.urgent() => {}
            _ = self.settings.changed() => self.settings.mark_changed(),
        }
    }

    async fn sleep_until(&mut self, next: Option<Time>, ears: &mut Ears) {
        let sleep = sleep_until(next);
        tokio::select! {
            () = tokio::time::sleep(sleep) => {}
            new = ears.rung() => if new {
                tokio::time::sleep(GATHER).await;
            },
            _ = self.settings.changed() => self.settings.mark_changed(),
        }
    }

    /// Claims what is due and sends it.
    async fn round(&self, settings: &Arc<Settings>) -> Result<Round, Trouble> {
        self.ledger.settle().await.map_err(Trouble)?;
        let mail = &settings.mail;
        let pace = Pace { per_minute: mail.digest_above, per_hour: mail.customer_per_hour };
        let claim = self.post.claim(MAIL, None, Time::now(), Some(pace), BATCH).await;
        let claim = claim.map_err(|e| Trouble(format!("the outbox cannot be read: {e}")))?;
        if claim.parcels.is_empty() {
            return Ok(Round::Idle(claim.next));
        }
        share(claim.parcels, mail.connections, |pile| {
            let worker = Worker {
                courier: self.clone(),
                settings: Arc::clone(settings),
                pile,
                origin: claim.origin.clone(),
            };
            worker.run()
        })
        .await?;
        self.stats.say(MAILS, None);
        Ok(Round::Worked)
    }

    async fn record(&self, id: &str, outcome: Outcome) -> Result<(), Trouble> {
        self.ledger.record(id, outcome).await.map_err(Trouble)
    }
}

/// One connection, and the pile that all share.
struct Worker {
    courier: Courier,
    settings: Arc<Settings>,
    pile: Pile,
    origin: String,
}

impl Worker {
    async fn run(self) -> Result<(), Trouble> {
        let mut connection = None;
        while let Some(parcel) = self.pile.next() {
            let (settings, origin) = (Arc::clone(&self.settings), self.origin.clone());
            let parcel = Arc::new(parcel);
            let theirs = Arc::clone(&parcel);
            let composed = tokio::task::spawn_blocking(move || compose(&theirs, &settings, &origin)).await;
            let ready = match composed {
                Ok(Ok(ready)) => ready,
                Ok(Err(error)) => {
                    self.failed(&parcel, error).await?;
                    continue;
                }
                Err(e) => {
                    self.failed(&parcel, format!("writing the mail: {e}")).await?;
                    continue;
                }
            };
            let mut open = match connection.take() {
                Some(open) => open,
                None => Connection::open(&self.settings.mail).await?,
            };
            let sent = open.send(&ready.from, &ready.to, &ready.bytes).await?;
            self.settle(&parcel, sent).await?;
            connection = Some(open);
        }
        if let Some(open) = connection {
            open.close().await;
        }
        Ok(())
    }

    async fn settle(&self, parcel: &Parcel, sent: Sent) -> Result<(), Trouble> {
        match sent {
            Sent::Taken { later, refused, .. } if later.is_empty() => {
                self.courier.stats.sent_once();
                let note = (!refused.is_empty()).then(|| format!("refused for {}", list(&refused)));
                self.courier.record(&parcel.id, Outcome::Delivered { note }).await
            }
            Sent::Taken { accepted, later, refused } => {
                self.courier.stats.sent_once();
                // Who refused for good is not asked again either.
                let mut done = parcel.accepted.clone();
                done.extend(accepted);
                done.extend(refused.iter().map(|(a, _)| a.clone()));
                self.later(parcel, list(&[later, refused].concat()), done).await
            }
            Sent::Later(error) => self.later(parcel, error, parcel.accepted.clone()).await,
            Sent::Refused(error) => self.failed(parcel, error).await,
        }
    }

    async fn later(&self, parcel: &Parcel, error: String, accepted: Vec<String>) -> Result<(), Trouble> {
        self.courier.stats.failed_once();
        let now = Time::now();
        if now > parcel.created.plus(self.settings.mail.give_up) {
            let error = format!("given up: {error}");
            log::error(&format!("mail {} to {}: {error}", parcel.id, parcel.audience));
            return self.courier.record(&parcel.id, Outcome::Failed { error }).await;
        }
        let step = usize::try_from(parcel.attempts).unwrap_or(usize::MAX).min(AGAIN_MIN.len() - 1);
        let until = now.plus_ms(AGAIN_MIN[step] * 60_000);
        self.courier.record(&parcel.id, Outcome::Deferred { until, accepted, error }).await
    }

    async fn failed(&self, parcel: &Parcel, error: String) -> Result<(), Trouble> {
        self.courier.stats.failed_once();
        log::error(&format!("mail {} to {} failed for good: {error}", parcel.id, parcel.audience));
        self.courier.record(&parcel.id, Outcome::Failed { error }).await
    }
}
