//! The outbox: what people and programs outside are told. Rows come in with the change that causes them; the office asks
//! for what is due, delivers it, and has it recorded here.
//!
//! Rows of one thread and audience leave in order: one that waits holds back those that came after it. When more is due
//! to an audience than its pace allows, all of it becomes one digest.

use api::{Event, OutboxRow, OutboxState, Time};
use rusqlite::{OptionalExtension, Row, Transaction, params};

use super::db::{Failure, Fault};
use crate::effect::Tell;

const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 3_600_000;
/// Parts of a digest that are handed out in full; of more there is only the number.
const MEMBERS_MAX: i64 = 20_000;

/// How many messages an audience may be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// In a minute; more become a digest, which uses up the minute.
    pub per_minute: u32,
    /// In an hour, to a customer.
    pub per_hour: u32,
}

/// A message to deliver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parcel {
    /// The row's id.
    pub id: String,
    /// Who is told.
    pub audience: String,
    /// What is told.
    pub event: Event,
    /// When it happened.
    pub created: Time,
    /// Failed attempts so far.
    pub attempts: u32,
    /// Addresses that have taken it.
    pub accepted: Vec<String>,
    /// The body, JSON; of a digest that of its latest part.
    pub body: String,
    /// The id of the first message of the thread that went out.
    pub first: Option<String>,
    /// Of a digest: its parts in order.
    pub parts: Vec<Part>,
}

/// A part of a digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The row's id.
    pub id: String,
    /// The body, JSON.
    pub body: String,
}

/// What became of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Taken. `note`: what was not quite as it should be.
    Delivered {
        /// For the operator.
        note: Option<String>,
    },
    /// Not now.
    Deferred {
        /// When to try again.
        until: Time,
        /// Addresses that have taken it.
        accepted: Vec<String>,
        /// Why.
        error: String,
    },
    /// Never.
    Failed {
        /// Why.
        error: String,
    },
}

/// What is due.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claim {
    /// In order.
    pub parcels: Vec<Parcel>,
    /// When to ask again, at the latest; none while nothing waits.
    pub next: Option<Time>,
    /// The installation's random name, for ids that are unique in the world.
    pub origin: String,
}

/// How full the outbox is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fill {
    /// Rows that wait.
    pub waiting: u64,
    /// When the oldest of those became due; none while nothing is due.
    pub oldest: Option<Time>,
    /// Rows that failed.
    pub failed: u64,
}

fn count(n: i64) -> u64 {
    u64::try_from(n).unwrap_or(0)
}

fn lasting(text: String) -> Failure {
    Failure::Other(Fault::Lasting(text))
}

/// Adds a row. One with the same id stays, and takes the newer facts while it waits. A webhook whose time has come does
/// not: whoever has taken an attempt and could not say so knows its id, and ignores the next one.
pub(super) fn put(tx: &Transaction<'_>, tell: &Tell) -> Result<(), Failure> {
    let body = tell.message.body().map_err(|e| lasting(format!("writing JSON: {e}")))?;
    tx.prepare_cached(
        "INSERT INTO outbox (id, kind, audience, event, thread, created, due, body)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
         ON CONFLICT (id) DO UPDATE SET body = excluded.body
         WHERE state = 'waiting' AND (kind = 'mail' OR (due > created AND attempts = 0))",
    )?
    .execute(params![
        tell.id,
        tell.message.kind(),
        tell.message.audience(),
        tell.message.event().name(),
        tell.thread,
        tell.created.unix_ms(),
        tell.due.unix_ms(),
        body
    ])?;
    Ok(())
}

/// Takes back what still waits of a thread and event.
pub(super) fn withdraw(
    tx: &Transaction<'_>,
    thread: &str,
    event: Event,
    at: Time,
    why: &str,
) -> Result<(), Failure> {
    tx.prepare_cached(
        "UPDATE outbox SET state = 'dropped', done = ?3, error = ?4 WHERE thread = ?1 AND event = ?2 AND state = 'waiting'",
    )?
    .execute(params![thread, event.name(), at.unix_ms(), why])?;
    Ok(())
}

/// Withdraws what waits for others than these; how many rows that were.
pub(super) fn disown(
    tx: &Transaction<'_>,
    kind: &str,
    audiences: &[String],
    at: Time,
) -> Result<usize, Failure> {
    let audiences = serde_json::to_string(audiences).map_err(|e| lasting(format!("writing JSON: {e}")))?;
    Ok(tx.execute(
        "UPDATE outbox SET state = 'dropped', done = ?3, error = 'the configuration names it no more'
         WHERE kind = ?1 AND state = 'waiting' AND audience NOT IN (SELECT value FROM json_each(?2))",
        params![kind, audiences, at.unix_ms()],
    )?)
}

/// Forgets what was done with before a time.
pub(super) fn retain(tx: &Transaction<'_>, since: Time) -> Result<(), Failure> {
    tx.execute("DELETE FROM outbox WHERE state <> 'waiting' AND done < ?1", [since.unix_ms()])?;
    Ok(())
}

fn word<T: std::str::FromStr<Err = String>>(r: &Row<'_>, i: usize) -> rusqlite::Result<T> {
    let text: String = r.get(i)?;
    text.parse().map_err(|e: String| {
        rusqlite::Error::FromSqlConversionFailure(i, rusqlite::types::Type::Text, e.into())
    })
}

fn when(r: &Row<'_>, i: usize) -> rusqlite::Result<Time> {
    r.get(i).map(Time::from_unix_ms)
}

const COLUMNS: &str = "id, kind, audience, event, thread, created, due, state, attempts, error, done, digest";

fn row(r: &Row<'_>) -> rusqlite::Result<OutboxRow> {
    Ok(OutboxRow {
        id: r.get(0)?,
        kind: r.get(1)?,
        audience: r.get(2)?,
        event: word(r, 3)?,
        thread: r.get(4)?,
        created: when(r, 5)?,
        due: when(r, 6)?,
        state: word(r, 7)?,
        attempts: r.get(8)?,
        error: r.get(9)?,
        done: r.get::<_, Option<i64>>(10)?.map(Time::from_unix_ms),
        digest: r.get(11)?,
    })
}

/// Rows in order; without `all` those that wait or have failed.
pub(super) fn list(tx: &Transaction<'_>, all: bool, limit: usize) -> Result<Vec<OutboxRow>, Failure> {
    let which = if all { "" } else { "WHERE state IN ('waiting', 'failed')" };
    // The latest rows, in order.
    let sql = format!("SELECT {COLUMNS} FROM outbox {which} ORDER BY seq DESC LIMIT ?1");
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut rows: Vec<OutboxRow> =
        tx.prepare(&sql)?.query_map([limit], row)?.collect::<rusqlite::Result<_>>()?;
    rows.reverse();
    Ok(rows)
}

/// One row.
pub(super) fn get(tx: &Transaction<'_>, id: &str) -> Result<Option<OutboxRow>, Failure> {
    let sql = format!("SELECT {COLUMNS} FROM outbox WHERE id = ?1");
    Ok(tx.prepare_cached(&sql)?.query_row([id], row).optional()?)
}

/// Makes a row due at once. What has left by then is not sent again.
pub(super) fn retry(tx: &Transaction<'_>, id: &str, at: Time) -> Result<bool, Failure> {
    let changed = tx
        .prepare_cached(
            "UPDATE outbox SET state = 'waiting', due = min(due, ?2), attempts = 0, done = NULL
             WHERE id = ?1 AND state IN ('waiting', 'failed', 'dropped')",
        )?
        .execute(params![id, at.unix_ms()])?;
    Ok(changed > 0)
}

/// Withdraws a row that waits or has failed.
pub(super) fn drop_row(tx: &Transaction<'_>, id: &str, at: Time, why: &str) -> Result<bool, Failure> {
    let changed = tx
        .prepare_cached(
            "UPDATE outbox SET state = 'dropped', done = ?2, error = ?3 WHERE id = ?1 AND state IN ('waiting', 'failed')",
        )?
        .execute(params![id, at.unix_ms(), why])?;
    Ok(changed > 0)
}

/// Records what became of an attempt. A row that was dropped meanwhile and was taken all the same counts as delivered.
pub(super) fn record(tx: &Transaction<'_>, id: &str, outcome: &Outcome, at: Time) -> Result<(), Failure> {
    match outcome {
        Outcome::Delivered { note } => {
            tx.prepare_cached(
                "UPDATE outbox SET state = 'delivered', done = ?2, error = ?3, attempts = attempts + 1 WHERE id = ?1",
            )?
            .execute(params![id, at.unix_ms(), note])?;
        }
        Outcome::Deferred { until, accepted, error } => {
            let accepted =
                serde_json::to_string(accepted).map_err(|e| lasting(format!("writing JSON: {e}")))?;
            tx.prepare_cached(
                "UPDATE outbox SET due = ?2, accepted = ?3, error = ?4, attempts = attempts + 1
                 WHERE id = ?1 AND state = 'waiting'",
            )?
            .execute(params![id, until.unix_ms(), accepted, error])?;
        }
        Outcome::Failed { error } => {
            tx.prepare_cached(
                "UPDATE outbox SET state = 'failed', done = ?2, error = ?3, attempts = attempts + 1
                 WHERE id = ?1 AND state = 'waiting'",
            )?
            .execute(params![id, at.unix_ms(), error])?;
        }
    }
    Ok(())
}

/// How full it is.
pub(super) fn fill(tx: &Transaction<'_>, at: Time) -> Result<Fill, Failure> {
    let one = |sql: &str| -> rusqlite::Result<i64> { tx.prepare_cached(sql)?.query_row([], |r| r.get(0)) };
    let oldest: Option<i64> = tx
        .prepare_cached("SELECT min(due) FROM outbox WHERE state = 'waiting' AND due <= ?1")?
        .query_row([at.unix_ms()], |r| r.get(0))?;
    Ok(Fill {
        waiting: count(one("SELECT count(*) FROM outbox WHERE state = 'waiting'")?),
        oldest: oldest.map(Time::from_unix_ms),
        failed: count(one("SELECT count(*) FROM outbox WHERE state = 'failed'")?),
    })
}

/// A row may leave when nothing before it waits in its thread, by itself or in a digest.
const IN_TURN: &str = "NOT EXISTS (
        SELECT 1 FROM outbox e LEFT JOIN outbox d ON d.id = e.digest
        WHERE e.thread = o.thread AND e.audience = o.audience AND e.kind = o.kind AND e.seq < o.seq
          AND (e.state = 'waiting' OR (e.state = 'merged' AND d.state = 'waiting')))";

/// What is due of a kind, to one audience or to all: at most `most` messages, and digests where an audience would get
/// more than its pace.
pub(super) fn claim(
    tx: &Transaction<'_>,
    kind: &str,
    audience: Option<&str>,
    now: Time,
    pace: Option<Pace>,
    most: usize,
    origin: &str,
) -> Result<Claim, Failure> {
    let mut claim = Claim { origin: origin.to_owned(), ..Claim::default() };
    let next: Option<i64> = tx
        .prepare_cached(
            "SELECT min(due) FROM outbox
             WHERE kind = ?1 AND state = 'waiting' AND due > ?2 AND (?3 IS NULL OR audience = ?3)",
        )?
        .query_row(params![kind, now.unix_ms(), audience], |r| r.get(0))?;
    claim.next = next.map(Time::from_unix_ms);
    let audiences: Vec<(String, i64)> = tx
        .prepare_cached(
            "SELECT audience, count(*) FROM outbox
             WHERE kind = ?1 AND state = 'waiting' AND due <= ?2 AND (?3 IS NULL OR audience = ?3)
             GROUP BY audience ORDER BY audience <> 'desk', min(due), min(seq)",
        )?
        .query_map(params![kind, now.unix_ms(), audience], |r| Ok((r.get(0)?, r.get(1)?)))?
        .collect::<rusqlite::Result<_>>()?;
    for (audience, due) in audiences {
        let left = most.saturating_sub(claim.parcels.len());
        if left == 0 {
            claim.next = Some(now);
            break;
        }
        let mut room = i64::try_from(left).unwrap_or(i64::MAX);
        if let Some(pace) = pace {
            let (free, again) = room_of(tx, kind, &audience, pace, now)?;
            if free == 0 {
                claim.next = Some(claim.next.map_or(again, |n| n.min(again)));
                continue;
            }
            // Many at once, or more than there is room for: one digest of all.
            if due > free && due > 1 && merge(tx, kind, &audience, now)? {
                room = 1;
            }
            room = room.min(free);
        }
        take(tx, kind, &audience, now, room, &mut claim.parcels)?;
    }
    Ok(claim)
}

/// How many messages an audience may be sent now, and if none, when again.
fn room_of(
    tx: &Transaction<'_>,
    kind: &str,
    audience: &str,
    pace: Pace,
    now: Time,
) -> Result<(i64, Time), Failure> {
    let sent = |since: i64| -> rusqlite::Result<(i64, Option<i64>, Option<i64>)> {
        tx.prepare_cached(
            "SELECT count(*), min(done), max(CASE WHEN event = 'digest' THEN done END) FROM outbox
             WHERE audience = ?1 AND state = 'delivered' AND done > ?2 AND kind = ?3",
        )?
        .query_row(params![audience, since, kind], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?)))
    };
    let (in_minute, first, digest) = sent(now.unix_ms() - MINUTE_MS)?;
    if let Some(digest) = digest {
        return Ok((0, Time::from_unix_ms(digest + MINUTE_MS)));
    }
    let minute = i64::from(pace.per_minute) - in_minute;
    if minute <= 0 {
        return Ok((0, Time::from_unix_ms(first.unwrap_or(now.unix_ms()) + MINUTE_MS)));
    }
    if audience == "desk" {
        return Ok((minute, now));
    }
    let (in_hour, first, _) = sent(now.unix_ms() - HOUR_MS)?;
    let hour = i64::from(pace.per_hour) - in_hour;
    if hour <= 0 {
        return Ok((0, Time::from_unix_ms(first.unwrap_or(now.unix_ms()) + HOUR_MS)));
    }
    Ok((minute.min(hour), now))
}

/// Puts all that is due to an audience into one digest; false when it is a digest already that waits.
fn merge(tx: &Transaction<'_>, kind: &str, audience: &str, now: Time) -> Result<bool, Failure> {
    let last: Option<(i64, String, i64)> = tx
        .prepare_cached(
            "SELECT seq, body, count(*) OVER () FROM outbox
             WHERE kind = ?1 AND audience = ?2 AND state = 'waiting' AND due <= ?3 AND event <> 'digest'
             ORDER BY seq DESC LIMIT 1",
        )?
        .query_row(params![kind, audience, now.unix_ms()], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?)))
        .optional()?;
    let Some((seq, body, parts)) = last else { return Ok(false) };
    if parts < 2 {
        return Ok(false);
    }
    let id = format!("digest.{seq}");
    tx.prepare_cached(
        "INSERT INTO outbox (id, kind, audience, event, thread, created, due, body) VALUES (?1, ?2, ?3, 'digest', ?1, ?4, ?4, ?5)",
    )?
    .execute(params![id, kind, audience, now.unix_ms(), body])?;
    tx.prepare_cached(
        "UPDATE outbox SET state = 'merged', done = ?3, digest = ?4
         WHERE kind = ?1 AND audience = ?2 AND state = 'waiting' AND due <= ?3 AND event <> 'digest'",
    )?
    .execute(params![kind, audience, now.unix_ms(), id])?;
    Ok(true)
}

fn take(
    tx: &Transaction<'_>,
    kind: &str,
    audience: &str,
    now: Time,
    most: i64,
    parcels: &mut Vec<Parcel>,
) -> Result<(), Failure> {
    // Digests first: what they hold is older than what came after them.
    let sql = format!(
        "SELECT id, event, created, attempts, accepted, body, thread FROM outbox o
         WHERE kind = ?1 AND audience = ?2 AND state = 'waiting' AND due <= ?3 AND {IN_TURN}
         ORDER BY event <> 'digest', seq LIMIT ?4"
    );
    let mut statement = tx.prepare_cached(&sql)?;
    let mut rows = statement.query(params![kind, audience, now.unix_ms(), most])?;
    while let Some(r) = rows.next()? {
        let accepted: String = r.get(4)?;
        let (id, thread): (String, String) = (r.get(0)?, r.get(6)?);
        let event: Event = word(r, 1)?;
        let parts = if event == Event::Digest { parts_of(tx, &id)? } else { Vec::new() };
        parcels.push(Parcel {
            first: first_of(tx, kind, &thread, audience, &id)?,
            id,
            audience: audience.to_owned(),
            event,
            created: when(r, 2)?,
            attempts: r.get(3)?,
            accepted: serde_json::from_str(&accepted).unwrap_or_default(),
            body: r.get(5)?,
            parts,
        });
    }
    Ok(())
}

fn parts_of(tx: &Transaction<'_>, digest: &str) -> Result<Vec<Part>, Failure> {
    let mut statement =
        tx.prepare_cached("SELECT id, body FROM outbox WHERE digest = ?1 ORDER BY seq LIMIT ?2")?;
    let parts =
        statement.query_map(params![digest, MEMBERS_MAX], |r| Ok(Part { id: r.get(0)?, body: r.get(1)? }))?;
    Ok(parts.collect::<rusqlite::Result<_>>()?)
}

/// The first message of a thread that an audience has, or a digest that held it.
fn first_of(
    tx: &Transaction<'_>,
    kind: &str,
    thread: &str,
    audience: &str,
    id: &str,
) -> Result<Option<String>, Failure> {
    let first = tx
        .prepare_cached(
            "SELECT coalesce(digest, id) FROM outbox
             WHERE thread = ?1 AND audience = ?2 AND kind = ?3 AND state IN ('delivered', 'merged') AND id <> ?4
             ORDER BY seq LIMIT 1",
        )?
        .query_row(params![thread, audience, kind, id], |r| r.get(0))
        .optional()?;
    Ok(first)
}

/// Whether a row is still to be delivered, for the operator's refusals.
pub(super) fn is_done(row: &OutboxRow) -> bool {
    matches!(row.state, OutboxState::Delivered | OutboxState::Merged)
}
