//! Room for evidence: a bound on all of it together, and what gives way on a full disk. The files of the oldest closed incident
//! go first, its row stays and says so; never those of an open incident, or of one that a standing lock names.

use api::Time;
use rusqlite::params;

use super::db::{Db, Fault, audit};
use super::evidence;
use crate::log;

/// What is freed on a full disk: the store and the evidence that could not be written have to fit.
const FREED_MIN: u64 = 16 << 20;

/// What became of an incident that control has at hand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gone {
    /// The incident.
    pub incident: String,
    /// When.
    pub at: Time,
    /// The incident itself is forgotten, not its files alone.
    pub forgotten: bool,
}

/// How much there is, and may be.
#[derive(Debug, Default)]
pub(super) struct Room {
    /// Bytes of all folders; none before they were counted.
    pub(super) bytes: Option<u64>,
    /// Most of them; 0: no bound.
    pub(super) bytes_max: u64,
    /// What control has to be told.
    pub(super) gone: Vec<Gone>,
}

impl Db {
    /// Removes files until all fit below the bound.
    pub(super) fn keep_within_bound(&mut self) -> Result<(), Fault> {
        if self.room.bytes_max == 0 {
            return Ok(());
        }
        let all = match self.room.bytes {
            Some(bytes) => bytes,
            None => evidence::bytes(self.state()),
        };
        self.room.bytes = Some(all);
        let excess = all.saturating_sub(self.room.bytes_max);
        if excess > 0 {
            self.remove_oldest(excess)?;
        }
        Ok(())
    }

    /// Makes room on a full disk. False when there is nothing that may go.
    pub(super) fn make_room(&mut self) -> bool {
        match self.remove_oldest(FREED_MIN) {
            Ok(freed) => freed > 0,
            Err(e) => {
                log::error(&format!("making room: {e}"));
                false
            }
        }
    }

    /// Removes files of closed incidents, oldest first, until so many bytes are free. Says how many are.
    fn remove_oldest(&mut self, wanted: u64) -> Result<u64, Fault> {
        let read = |db: &Db| -> rusqlite::Result<Vec<String>> {
            let mut rows = db.connection().prepare(
                "SELECT id FROM incidents WHERE closed IS NOT NULL AND files_removed IS NULL
                 AND id NOT IN (SELECT incident FROM locks WHERE incident IS NOT NULL) ORDER BY closed, number",
            )?;
            rows.query_map([], |r| r.get(0))?.collect()
        };
        let ids = read(self).map_err(|e| self.fault("reading", &e))?;
        let (mut freed, mut removed) = (0, Vec::new());
        for id in ids {
            if freed >= wanted {
                break;
            }
            let bytes = evidence::bytes_of(self.state(), &id);
            if bytes > 0 && evidence::remove(self.state(), &id) {
                freed += bytes;
                removed.push(id);
            }
        }
        if removed.is_empty() {
            return Ok(0);
        }
        self.room.bytes = self.room.bytes.map(|b| b.saturating_sub(freed));
        let at = Time::now();
        let (first, n) = (removed.first().cloned().unwrap_or_default(), removed.len());
        let what =
            format!("evidence of {n} closed incidents from {first} on removed to make room: {freed} bytes");
        log::warning(&what);
        self.room.gone.extend(removed.iter().map(|i| Gone { incident: i.clone(), at, forgotten: false }));
        self.transact(|tx| {
            for id in &removed {
                tx.prepare_cached("UPDATE incidents SET files_removed = ?2 WHERE id = ?1")?
                    .execute(params![id, at.unix_ms()])?;
            }
            audit(tx, at, "cordon", &what)
        })?;
        Ok(freed)
    }
}
