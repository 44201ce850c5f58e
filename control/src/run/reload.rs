//! Reading configuration and inventory again: on a thread of its own, since a large inventory takes longer than a tick has.

use std::path::Path;
use std::sync::Arc;

use api::{ErrorCode, Failure, Payload, Response};
use config::{Config, Inventory};
use crossbeam::channel::{Receiver, Sender, unbounded};
use mio::Waker;

use super::{Shell, now, startup};
use crate::effect::ClientId;
use crate::office::Settings;
use crate::{inventory, log};

/// What was read.
struct Read {
    config: Result<Config, String>,
    /// What the configuration names; the one in force stays when it is wrong.
    inventory: Result<Option<Arc<Inventory>>, String>,
    /// How mail goes out.
    mail: Option<Arc<Settings>>,
}

/// Who waits for a reading, and how it comes back.
pub(super) struct Reloads {
    results: (Sender<Read>, Receiver<Read>),
    waker: Arc<Waker>,
    /// A reading is under way, for these.
    reading: Option<Vec<ClientId>>,
    /// Asked since it began: what they mean may not have been read.
    again: Option<Vec<ClientId>>,
}

fn read(path: &Path) -> Read {
    let config = Config::load(path).and_then(|c| c.validate_for_run().map(|()| c));
    let inventory = match &config {
        Ok(c) => c.load_inventory().map(|i| i.map(Arc::new)).map_err(|e| e.to_string()),
        Err(_) => Ok(None),
    };
    let config = config.map_err(|e| e.to_string());
    // Templates that are wrong are a mistake of the configuration.
    match config.and_then(|c| Settings::of(&c).map(|mail| (c, mail))) {
        Ok((config, mail)) => Read { config: Ok(config), inventory, mail },
        Err(e) => Read { config: Err(e), inventory, mail: None },
    }
}

impl Reloads {
    pub(super) fn new(waker: Arc<Waker>) -> Reloads {
        Reloads { results: unbounded(), waker, reading: None, again: None }
    }
}

impl Shell {
    /// Has configuration and inventory read again. Whoever asks is answered when they are in force, or not.
    pub(super) fn begin_reload(&mut self, client: Option<ClientId>) {
        if self.reloads.reading.is_some() {
            self.reloads.again.get_or_insert_default().extend(client);
            return;
        }
        let (path, results) = (self.options.config.clone(), self.reloads.results.0.clone());
        let waker = Arc::clone(&self.reloads.waker);
        let spawned = self.affinity.with_all_cores(|| {
            std::thread::Builder::new().name("reload".into()).spawn(move || {
                // Nobody listens any more when cordond stops; the next tick finds what a failed waking leaves.
                let _ = results.send(read(&path));
                let _ = waker.wake();
            })
        });
        self.reloads.reading = Some(client.into_iter().collect());
        if let Err(e) = spawned {
            let e = format!("nothing was read: starting a thread: {e}");
            self.end_reload(Read { config: Err(e), inventory: Ok(None), mail: None });
        }
    }

    /// Puts in force what was read.
    pub(super) fn take_reloads(&mut self) {
        while let Ok(read) = self.reloads.results.1.try_recv() {
            self.end_reload(read);
        }
    }

    fn end_reload(&mut self, read: Read) {
        let result = self.put_in_force(read);
        let response = || match &result {
            Ok(text) => Response::Ok(Payload::Done(text.clone())),
            Err(e) => Response::Error(Failure::new(
                ErrorCode::Refused,
                e.clone(),
                "what was in force stays in force; correct the file and reload again",
            )),
        };
        for client in self.reloads.reading.take().unwrap_or_default() {
            self.reply(client, response());
        }
        if let Some(clients) = self.reloads.again.take() {
            self.begin_reload(None);
            if let Some(reading) = &mut self.reloads.reading {
                reading.extend(clients);
            }
        }
        self.settle();
    }

    /// The configuration first, which may be good while the inventory is not.
    fn put_in_force(&mut self, read: Read) -> Result<String, String> {
        let path = self.options.config.display().to_string();
        let restart = read.config.as_ref().map(|new| startup::needs_restart(self.control.config(), new));
        let restart = restart.unwrap_or_default();
        if let Err(e) = read.config.and_then(|new| self.control.reload(new, now())) {
            let text = format!("{path} was not taken: {e}");
            log::error(&text);
            self.control.complain("configuration", &text, "correct the file, then: cordon reload");
            return Err(text);
        }
        self.control.content("configuration");
        self.control.content("templates");
        self.mail.send_replace(read.mail);
        self.hooks.send_replace(Arc::new(self.control.config().webhooks.clone()));
        if let Some(site) = &self.site {
            site.reload();
        }
        let mut text = format!("{path} is in force");
        if !restart.is_empty() {
            text += &format!("; a restart of cordond is needed for {}", restart.join(", "));
        }
        match read.inventory {
            Ok(new) => {
                self.control.content("inventory");
                if let Some(i) = &new {
                    text += &format!("; {} with {} servers too", i.source(), i.servers().len());
                    for notice in i.notices() {
                        text += &format!("\nNote: {notice}");
                    }
                }
                if let Some(old) = self.control.set_inventory(new, now()) {
                    // Should there be no thread, it is let go here, late.
                    let drop_it = std::thread::Builder::new().name("reload".into());
                    let _ = self.affinity.with_all_cores(|| drop_it.spawn(move || drop(old)));
                }
                log::info(&text);
                Ok(text)
            }
            Err(e) => {
                log::info(&text);
                let text = format!(
                    "{text}, but the inventory was not taken, and the one before stays in force: {e}"
                );
                log::error(&text);
                self.control.complain("inventory", &text, inventory::NEXT_STEP);
                Err(text)
            }
        }
    }
}
