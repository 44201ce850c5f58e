//! Reading everything that control needs at its start.

use std::path::Path;
use std::str::FromStr;

use api::{
    ActionTaken, BreakerRow, IncidentRow, LockEvent, LockRow, Span, Suspension, Target, Time, TimelineEntry,
    TokenRow,
};
use ipnet::IpNet;
use rusqlite::{Connection, OptionalExtension, Row, params, types::Type};

use super::db::{Db, Fault};
use super::evidence;
use crate::effect::{Loaded, Token};

/// Closed incidents that control keeps at hand.
const CLOSED_MAX: i64 = 10_000;

/// Reads it all.
pub(super) fn load(db: &Db, dir: &Path) -> Result<Loaded, Fault> {
    let mut loaded = read(db.connection()).map_err(|e| match e {
        // Rows that are no rows of ours: the file was changed by hand, or is damaged where quick_check does not look.
        rusqlite::Error::FromSqlConversionFailure(..) | rusqlite::Error::InvalidColumnType(..) => {
            Fault::Damaged(format!(
                "{}: a row cannot be understood: {e}",
                dir.join(super::db::FILE).display()
            ))
        }
        e => db.fault("reading", &e),
    })?;
    // Evidence outlives a lost database; its incidents' numbers must not be given again.
    loaded.last_incident = loaded.last_incident.max(evidence::last_number(dir));
    Ok(loaded)
}

fn parsed<T: FromStr<Err: std::fmt::Display>>(row: &Row<'_>, column: usize) -> rusqlite::Result<T> {
    let text: String = row.get(column)?;
    text.parse().map_err(|e: T::Err| wrong(column, format!("`{text}`: {e}")))
}

fn wrong(column: usize, why: String) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Text, why.into())
}

fn decoded<T: serde::de::DeserializeOwned>(row: &Row<'_>, column: usize) -> rusqlite::Result<T> {
    let text: String = row.get(column)?;
    serde_json::from_str(&text).map_err(|e| wrong(column, e.to_string()))
}

fn time(row: &Row<'_>, column: usize) -> rusqlite::Result<Time> {
    row.get(column).map(Time::from_unix_ms)
}

fn unsigned(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    row.get::<_, i64>(column).map(|n| u64::try_from(n).unwrap_or(0))
}

fn read(c: &Connection) -> rusqlite::Result<Loaded> {
    let meta = |key: &str| -> rusqlite::Result<Option<String>> {
        c.query_row("SELECT value FROM meta WHERE key = ?1", [key], |r| r.get(0)).optional()
    };
    let key = meta("hash_key")?.unwrap_or_default();
    let half = |part: Option<&str>| part.and_then(|p| u64::from_str_radix(p, 16).ok());
    let hash_key = match (half(key.get(..16)), half(key.get(16..))) {
        (Some(a), Some(b)) => [a, b],
        _ => return Err(wrong(0, "the installation's key is no hexadecimal number".into())),
    };
    Ok(Loaded {
        hash_key,
        locks: locks(c)?,
        last_lock: c
            .query_row("SELECT coalesce(max(lock_id), 0) FROM lock_history", [], |r| unsigned(r, 0))?,
        incidents: incidents(c)?,
        last_incident: meta("last_incident")?.and_then(|n| n.parse().ok()).unwrap_or(0),
        exemptions: c
            .prepare("SELECT target, rule, until FROM exemptions")?
            .query_map([], |r| Ok((parsed::<Target>(r, 0)?, r.get(1)?, time(r, 2)?)))?
            .collect::<rusqlite::Result<_>>()?,
        observing: c
            .prepare("SELECT rule FROM rule_modes WHERE observe = 1")?
            .query_map([], |r| r.get(0))?
            .collect::<rusqlite::Result<_>>()?,
        breakers: c
            .prepare("SELECT rule, since, locks, waiting FROM breakers")?
            .query_map([], |r| {
                Ok(BreakerRow {
                    rule: r.get(0)?,
                    since: time(r, 1)?,
                    locks: unsigned(r, 2)?,
                    waiting: decoded(r, 3)?,
                })
            })?
            .collect::<rusqlite::Result<_>>()?,
        rtbh: c
            .prepare("SELECT body FROM rtbh")?
            .query_map([], |r| decoded(r, 0))?
            .collect::<rusqlite::Result<_>>()?,
        bypass: meta("bypass")?.as_deref() == Some("on"),
        tokens: tokens(c)?,
        references: c
            .prepare("SELECT ref, lock_id FROM external_refs")?
            .query_map([], |r| Ok((r.get(0)?, unsigned(r, 1)?)))?
            .collect::<rusqlite::Result<_>>()?,
        damage: None,
        inventory: None,
    })
}

fn locks(c: &Connection) -> rusqlite::Result<Vec<LockRow>> {
    let mut exceptions = c.prepare("SELECT prefix FROM lock_exceptions WHERE lock_id = ?1")?;
    let mut addresses = c.prepare("SELECT prefix FROM lock_addresses WHERE lock_id = ?1")?;
    let mut rows = c.prepare(
        "SELECT id, target, direction, reason, case_no, note, who, rule, incident, created, until, generation,
         suspended_since, suspended_until, suspended_by, external_ref FROM locks ORDER BY id",
    )?;
    rows.query_map([], |r| {
        let id: i64 = r.get(0)?;
        let except = exceptions.query_map([id], |e| parsed(e, 0))?.collect::<rusqlite::Result<_>>()?;
        let addresses = addresses.query_map([id], |e| parsed(e, 0))?.collect::<rusqlite::Result<_>>()?;
        Ok(LockRow {
            id: unsigned(r, 0)?,
            target: parsed(r, 1)?,
            direction: parsed(r, 2)?,
            reason: parsed(r, 3)?,
            case: r.get(4)?,
            note: r.get(5)?,
            who: r.get(6)?,
            rule: r.get(7)?,
            incident: r.get(8)?,
            created: time(r, 9)?,
            until: r.get::<_, Option<i64>>(10)?.map(Time::from_unix_ms),
            except,
            generation: unsigned(r, 11)?,
            // Whether it can be enforced depends on the configuration, and is found anew.
            enforced: true,
            why_not: None,
            suspended: suspension(r)?,
            if_quiet: false,
            addresses,
            remark: None,
            server: None,
            customer: None,
            external_ref: r.get(15)?,
        })
    })?
    .collect()
}

fn tokens(c: &Connection) -> rusqlite::Result<Vec<Token>> {
    let mut rows = c.prepare(
        "SELECT id, name, role, digest, created, who, until, revoked, last_used FROM tokens ORDER BY id",
    )?;
    let maybe = |r: &Row<'_>, column| r.get::<_, Option<i64>>(column).map(|t| t.map(Time::from_unix_ms));
    rows.query_map([], |r| {
        let row = TokenRow {
            id: unsigned(r, 0)?,
            name: r.get(1)?,
            role: parsed(r, 2)?,
            created: time(r, 4)?,
            who: r.get(5)?,
            until: maybe(r, 6)?,
            revoked: maybe(r, 7)?,
            last_used: maybe(r, 8)?,
        };
        Ok(Token { row, digest: r.get(3)? })
    })?
    .collect()
}

/// Columns 12 to 14 of a lock.
fn suspension(r: &Row<'_>) -> rusqlite::Result<Option<Suspension>> {
    let Some(until) = r.get::<_, Option<i64>>(13)? else { return Ok(None) };
    let since = r.get::<_, Option<i64>>(12)?.unwrap_or(until);
    Ok(Some(Suspension {
        since: Time::from_unix_ms(since),
        until: Time::from_unix_ms(until),
        who: r.get::<_, Option<String>>(14)?.unwrap_or_default(),
    }))
}

/// One incident.
pub(super) fn incident(c: &Connection, id: &str) -> rusqlite::Result<Option<IncidentRow>> {
    let mut rows = c.prepare("SELECT body, files_removed, id FROM incidents WHERE id = ?1")?;
    let mut full = full(c)?;
    rows.query_row([id], |r| full(r)).optional()
}

/// Incidents of an address that meet a stretch of time.
pub(super) fn incidents_of(c: &Connection, address: &str, span: Span) -> rusqlite::Result<Vec<IncidentRow>> {
    let mut rows = c.prepare(
        "SELECT body, files_removed, id FROM incidents
         WHERE address = ?1 AND opened <= ?3 AND coalesce(closed, ?3) >= ?2",
    )?;
    let mut full = full(c)?;
    rows.query_map(params![address, span.since.unix_ms(), span.until.unix_ms()], |r| full(r))?.collect()
}

/// What happened, in a stretch of time, to locks that cover an address.
pub(super) fn lock_events(c: &Connection, net: &IpNet, span: Span) -> rusqlite::Result<Vec<LockEvent>> {
    const MOST: i64 = 1_000_000;
    let mut rows = c.prepare(
        "SELECT at, event, who, row FROM lock_history WHERE at >= ?1 AND at <= ?2 ORDER BY seq LIMIT ?3",
    )?;
    let mut found = Vec::new();
    let mut rows = rows.query(params![span.since.unix_ms(), span.until.unix_ms(), MOST])?;
    while let Some(r) = rows.next()? {
        let row: LockRow = decoded(r, 3)?;
        if row.target.prefix().is_some_and(|p| p.contains(net)) {
            found.push(LockEvent { at: time(r, 0)?, event: r.get(1)?, who: r.get(2)?, row });
        }
    }
    Ok(found)
}

fn incidents(c: &Connection) -> rusqlite::Result<Vec<IncidentRow>> {
    let mut rows = c.prepare(
        "SELECT body, files_removed, id FROM incidents WHERE closed IS NULL
         UNION ALL SELECT * FROM (SELECT body, files_removed, id FROM incidents WHERE closed IS NOT NULL ORDER BY opened DESC LIMIT ?1)",
    )?;
    let mut full = full(c)?;
    rows.query_map([CLOSED_MAX], |r| full(r))?.collect()
}

/// Reads incidents of `body, files_removed` with what stands in other tables.
fn full<'c>(
    c: &'c Connection,
) -> rusqlite::Result<impl FnMut(&Row<'_>) -> rusqlite::Result<IncidentRow> + 'c> {
    let mut actions =
        c.prepare("SELECT action, at FROM incident_actions WHERE incident = ?1 ORDER BY position")?;
    let mut steps =
        c.prepare("SELECT at, step, detail FROM incident_steps WHERE incident = ?1 ORDER BY position")?;
    Ok(move |r: &Row<'_>| {
        let mut row: IncidentRow = decoded(r, 0)?;
        row.files_removed = r.get::<_, Option<i64>>(1)?.map(Time::from_unix_ms);
        row.actions = actions
            .query_map([&row.id], |a| Ok(ActionTaken { action: parsed(a, 0)?, at: time(a, 1)? }))?
            .collect::<rusqlite::Result<_>>()?;
        row.timeline = steps
            .query_map([&row.id], |e| {
                Ok(TimelineEntry { at: time(e, 0)?, step: parsed(e, 1)?, detail: e.get(2)? })
            })?
            .collect::<rusqlite::Result<_>>()?;
        Ok(row)
    })
}
