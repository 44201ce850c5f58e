//! Histories of hosts, in a file of their own: it may grow to gigabytes, and neither the start of cordond nor the lock list
//! must wait for it or share its damage. What a power failure takes of it is a gap, which the answer tells.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::time::Duration;

use api::{Span, Time};
use rusqlite::{Connection, ErrorCode, Transaction, params};

use crate::claim::{Found, Question};
use crate::history::{HistoryOp, HistoryRow, Tally, decode, encode};
use crate::log;

const FILE: &str = "history.db";
/// What is younger stays in pieces as they came.
const FINE_MS: i64 = 86_400_000;
/// Older pieces are joined to this length.
const COARSE_MS: i64 = 3_600_000;
/// Hours that are joined in one go.
const JOIN_MAX: usize = 48;
/// Bytes that wait for a failing disk; the oldest become a gap.
const WAITING_MAX: usize = 64 << 20;
/// What a row costs beside its body.
const ROW_BYTES: u64 = 64;

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS pieces (
    block TEXT NOT NULL,
    until INTEGER NOT NULL,
    since INTEGER NOT NULL,
    body  BLOB NOT NULL,
    PRIMARY KEY (block, until)
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS pieces_until ON pieces (until);
-- When every host was counted.
CREATE TABLE IF NOT EXISTS watched (since INTEGER PRIMARY KEY, until INTEGER NOT NULL) STRICT;
-- What of that was lost on its way here.
CREATE TABLE IF NOT EXISTS gaps (since INTEGER NOT NULL, until INTEGER NOT NULL) STRICT;
-- bytes: of all pieces. joined: up to when they are of an hour. forgotten: up to when there are none.
CREATE TABLE IF NOT EXISTS state (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
";

/// The file, and what waits for it.
#[derive(Debug)]
pub(super) struct History {
    path: PathBuf,
    conn: Option<Connection>,
    waiting: VecDeque<HistoryOp>,
    waiting_bytes: usize,
    lost: Option<Span>,
    /// Why it cannot be written at present.
    failure: Option<String>,
}

type Result<T> = std::result::Result<T, rusqlite::Error>;

fn signed(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

fn time(ms: i64) -> Time {
    Time::from_unix_ms(ms)
}

fn size(op: &HistoryOp) -> usize {
    match op {
        HistoryOp::Rows(rows) => rows.iter().map(|r| r.body.len() + r.block.len() + 64).sum(),
        HistoryOp::Watched { .. } | HistoryOp::Keep { .. } => 64,
    }
}

impl History {
    pub(super) fn new(state: &Path) -> History {
        History {
            path: state.join(FILE),
            conn: None,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            lost: None,
            failure: None,
        }
    }

    /// Takes an operation, and applies all that wait in order. An error is told once, and its end.
    pub(super) fn take(&mut self, op: HistoryOp) {
        self.waiting_bytes += size(&op);
        self.waiting.push_back(op);
        self.write();
        while self.waiting_bytes > WAITING_MAX
            && let Some(op) = self.waiting.pop_front()
        {
            self.waiting_bytes -= size(&op);
            if let HistoryOp::Rows(rows) = op {
                for r in rows {
                    let lost = self.lost.get_or_insert(Span { since: r.since, until: r.until });
                    *lost = Span { since: lost.since.min(r.since), until: lost.until.max(r.until) };
                }
            }
        }
    }

    /// Whether something waits for the disk, and why.
    pub(super) fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }

    fn write(&mut self) {
        match self.try_write() {
            Ok(()) => {
                if self.failure.take().is_some() {
                    log::info("the history of hosts can be written again");
                }
            }
            Err(e) => {
                if self.failure.is_none() {
                    log::error(&format!(
                        "writing {}: {e}; tried again every few minutes; is the disk full? see df and dmesg",
                        self.path.display()
                    ));
                }
                self.failure = Some(e.to_string());
                self.set_aside_if_damaged(&e);
            }
        }
    }

    fn try_write(&mut self) -> Result<()> {
        self.open()?;
        while let Some(op) = self.waiting.front() {
            let Some(conn) = &mut self.conn else { return Ok(()) };
            let tx = conn.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
            if let Some(lost) = self.lost {
                tx.execute(
                    "INSERT INTO gaps VALUES (?1, ?2)",
                    params![lost.since.unix_ms(), lost.until.unix_ms()],
                )?;
            }
            match op {
                HistoryOp::Rows(rows) => put(&tx, rows)?,
                HistoryOp::Watched { since, until } => {
                    let since = (*since).max(time(state(&tx, "forgotten")?));
                    tx.execute(
                        "INSERT INTO watched VALUES (?1, ?2) ON CONFLICT DO UPDATE SET until = excluded.until",
                        params![since.unix_ms(), until.unix_ms()],
                    )?;
                }
                HistoryOp::Keep { now, since, bytes_max } => {
                    join(&tx, *now)?;
                    forget(&tx, *since)?;
                    shrink(&tx, *bytes_max)?;
                }
            }
            tx.commit()?;
            self.lost = None;
            self.waiting_bytes -= self.waiting.pop_front().map_or(0, |op| size(&op));
        }
        Ok(())
    }

    fn open(&mut self) -> Result<()> {
        if self.conn.is_some() {
            return Ok(());
        }
        let conn = Connection::open(&self.path)?;
        conn.busy_timeout(Duration::from_secs(2))?;
        // NORMAL: a power failure takes the last minutes, and damages nothing.
        conn.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;")?;
        conn.execute_batch(SCHEMA)?;
        self.conn = Some(conn);
        Ok(())
    }

    fn set_aside_if_damaged(&mut self, e: &rusqlite::Error) {
        match e.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {}
            Some(ErrorCode::DiskFull | ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => return,
            // A connection made on a failing disk stays useless.
            _ => return self.conn = None,
        }
        self.conn = None;
        let aside = self.path.with_extension("db.damaged");
        for suffix in ["", "-wal", "-shm"] {
            let of = |p: &Path| PathBuf::from(format!("{}{suffix}", p.display()));
            // Where it cannot be moved it stays, and the error is told again.
            let _ = std::fs::rename(of(&self.path), of(&aside));
        }
        log::error(&format!(
            "{} was damaged: set aside as {}, and a new one begun",
            self.path.display(),
            aside.display()
        ));
    }

    /// What is known of a host.
    pub(super) fn find(&mut self, q: &Question) -> std::result::Result<Found, String> {
        self.write();
        let found = self.open().and_then(|()| match &self.conn {
            Some(conn) => find(conn, q),
            None => Ok(Found::default()),
        });
        found.map_err(|e| {
            self.set_aside_if_damaged(&e);
            format!("reading {}: {e}", self.path.display())
        })
    }
}

fn state(tx: &Transaction<'_>, name: &str) -> Result<i64> {
    tx.prepare_cached("SELECT coalesce(max(value), 0) FROM state WHERE name = ?1")?
        .query_row([name], |r| r.get(0))
}

fn set_state(tx: &Transaction<'_>, name: &str, value: i64) -> Result<()> {
    tx.prepare_cached("INSERT OR REPLACE INTO state VALUES (?1, ?2)")?.execute(params![name, value])?;
    Ok(())
}

fn grow(tx: &Transaction<'_>, bytes: i64) -> Result<()> {
    let all = state(tx, "bytes")?;
    set_state(tx, "bytes", (all + bytes).max(0))
}

fn cost(r: &HistoryRow) -> i64 {
    signed(r.body.len() as u64 + r.block.len() as u64 + ROW_BYTES)
}

fn put(tx: &Transaction<'_>, rows: &[HistoryRow]) -> Result<()> {
    let mut insert = tx.prepare_cached("INSERT OR IGNORE INTO pieces VALUES (?1, ?2, ?3, ?4)")?;
    let mut bytes = 0;
    for r in rows {
        // Two pieces of a block may end in the same millisecond.
        let mut until = r.until.unix_ms();
        while insert.execute(params![r.block, until, r.since.unix_ms(), r.body])? == 0 {
            until += 1;
        }
        bytes += cost(r);
    }
    grow(tx, bytes)
}

const COST: &str = "length(body) + length(block) + 64";

/// Joins pieces of the hours that are older than a day, a bounded number of hours at a time.
fn join(tx: &Transaction<'_>, now: Time) -> Result<()> {
    let end = (now.unix_ms() - FINE_MS).div_euclid(COARSE_MS) * COARSE_MS;
    let mut from = state(tx, "joined")?;
    for _ in 0..JOIN_MAX {
        let first: Option<i64> = tx
            .prepare_cached("SELECT min(until) FROM pieces WHERE until > ?1 AND until <= ?2")?
            .query_row(params![from, end], |r| r.get(0))?;
        let Some(first) = first else {
            from = from.max(end);
            break;
        };
        // The hour that this piece ends in: (hour, hour + 1].
        let hour = (first - 1).div_euclid(COARSE_MS) * COARSE_MS;
        join_hour(tx, hour, hour + COARSE_MS)?;
        from = hour + COARSE_MS;
    }
    set_state(tx, "joined", from)
}

fn join_hour(tx: &Transaction<'_>, after: i64, to: i64) -> Result<()> {
    let mut blocks: BTreeMap<String, (i64, i64, BTreeMap<u8, Tally>)> = BTreeMap::new();
    let mut bytes = 0;
    {
        let mut read = tx.prepare_cached(
            "SELECT block, since, until, body FROM pieces WHERE until > ?1 AND until <= ?2",
        )?;
        let mut rows = read.query(params![after, to])?;
        while let Some(r) = rows.next()? {
            let (block, since, until): (String, i64, i64) = (r.get(0)?, r.get(1)?, r.get(2)?);
            let body = r.get_ref(3)?.as_blob().unwrap_or_default();
            bytes -= signed(body.len() as u64 + block.len() as u64 + ROW_BYTES);
            let (s, u, hosts) = blocks.entry(block).or_insert((since, until, BTreeMap::new()));
            (*s, *u) = ((*s).min(since), (*u).max(until));
            for (octet, tally) in decode(body) {
                hosts.entry(octet).or_default().add(&tally);
            }
        }
    }
    tx.prepare_cached("DELETE FROM pieces WHERE until > ?1 AND until <= ?2")?.execute(params![after, to])?;
    grow(tx, bytes)?;
    let rows: Vec<HistoryRow> = blocks
        .into_iter()
        .map(|(block, (since, until, hosts))| HistoryRow {
            block,
            since: time(since),
            until: time(until),
            body: encode(hosts.iter().map(|(o, t)| (*o, t))),
        })
        .collect();
    put(tx, &rows)
}

/// Forgets what ended before a time, and that it was known.
fn forget(tx: &Transaction<'_>, since: Time) -> Result<()> {
    let ms = since.unix_ms();
    if ms <= state(tx, "forgotten")? {
        return Ok(());
    }
    set_state(tx, "forgotten", ms)?;
    let bytes: i64 = tx
        .prepare_cached(&format!("SELECT coalesce(sum({COST}), 0) FROM pieces WHERE until <= ?1"))?
        .query_row([ms], |r| r.get(0))?;
    if bytes > 0 {
        tx.execute("DELETE FROM pieces WHERE until <= ?1", [ms])?;
        grow(tx, -bytes)?;
    }
    tx.execute("DELETE FROM watched WHERE until <= ?1", [ms])?;
    // Two lives that both began before are one stretch now.
    tx.execute("UPDATE OR REPLACE watched SET since = ?1 WHERE since < ?1", [ms])?;
    tx.execute("DELETE FROM gaps WHERE until <= ?1", [ms])?;
    Ok(())
}

/// Forgets the oldest hours until the rest fits.
fn shrink(tx: &Transaction<'_>, bytes_max: u64) -> Result<()> {
    let most = signed(bytes_max);
    while state(tx, "bytes")? > most {
        let first: Option<i64> = tx.query_row("SELECT min(until) FROM pieces", [], |r| r.get(0))?;
        let Some(first) = first else { return set_state(tx, "bytes", 0) };
        forget(tx, time((first - 1).div_euclid(COARSE_MS) * COARSE_MS + COARSE_MS))?;
    }
    Ok(())
}

fn spans(conn: &Connection, table: &str) -> Result<Vec<Span>> {
    let mut read = conn.prepare(&format!("SELECT since, until FROM {table} ORDER BY since"))?;
    let rows = read.query_map([], |r| Ok(Span { since: time(r.get(0)?), until: time(r.get(1)?) }))?;
    rows.collect()
}

fn find(conn: &Connection, q: &Question) -> Result<Found> {
    let mut found = Found::default();
    let mut read = conn.prepare_cached(
        "SELECT since, until, body FROM pieces WHERE block = ?1 AND until > ?2 AND since < ?3 ORDER BY until",
    )?;
    let mut rows = read.query(params![q.block, q.asked.since.unix_ms(), q.asked.until.unix_ms()])?;
    while let Some(r) = rows.next()? {
        let span = Span { since: time(r.get(0)?), until: time(r.get(1)?) };
        let body = r.get_ref(2)?.as_blob().unwrap_or_default();
        for (_, tally) in decode(body).into_iter().filter(|(octet, _)| *octet == q.octet) {
            found.tally.add(&tally);
            let c = found.covered.get_or_insert(span);
            *c = Span { since: c.since.min(span.since), until: c.until.max(span.until) };
        }
    }
    found.known = without(spans(conn, "watched")?, &spans(conn, "gaps")?);
    Ok(found)
}

/// `known` less `gaps`.
fn without(known: Vec<Span>, gaps: &[Span]) -> Vec<Span> {
    let mut left = known;
    for g in gaps {
        left = left
            .into_iter()
            .flat_map(|k| {
                [
                    Span { since: k.since, until: k.until.min(g.since) },
                    Span { since: k.since.max(g.until), until: k.until },
                ]
            })
            .filter(|s| s.since < s.until)
            .collect();
        left.dedup();
    }
    left
}

#[cfg(test)]
mod tests;
