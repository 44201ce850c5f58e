//! SQLite: opening, migrating, and applying one batch.

use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use api::{IncidentRow, LockRow, Time};
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, Transaction, params};

use super::room::{Gone, Room};
use super::schema::MIGRATIONS;
use super::{evidence, kept, outbox};
use crate::effect::{StoreOp, Token};
use crate::log;

/// The database's name in the state directory.
pub const FILE: &str = "cordon.db";

/// Why a batch was not stored, or the database not opened.
#[derive(Debug)]
pub(super) enum Fault {
    /// The file's contents are broken.
    Damaged(String),
    /// Disk full: may work when there is room.
    Full(String),
    /// Read-only, failing, gone: may work another time.
    Passing(String),
    /// Trying again would fail again.
    Lasting(String),
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Fault::Damaged(s) | Fault::Full(s) | Fault::Passing(s) | Fault::Lasting(s) => f.write_str(s),
        }
    }
}

/// What a failure of SQLite comes to, in the operator's terms.
fn fault(path: &Path, doing: &str, e: &rusqlite::Error) -> Fault {
    let dir = path.parent().unwrap_or(path).display();
    let shown = path.display();
    let say = |advice: &str| format!("{doing} {shown}: {e}; {advice}");
    let Some(code) = e.sqlite_error_code() else {
        return Fault::Lasting(say("report this"));
    };
    match code {
        ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => {
            Fault::Damaged(say("restart cordond: it sets a damaged file aside"))
        }
        ErrorCode::DiskFull => Fault::Full(say(&format!("free space on the file system of {dir}"))),
        ErrorCode::ReadOnly => Fault::Passing(say(&format!(
            "make {dir} writable (mount -o remount,rw; see dmesg for disk errors)"
        ))),
        ErrorCode::SystemIoFailure => Fault::Passing(say("is the disk full or failing? see df and dmesg")),
        ErrorCode::CannotOpen | ErrorCode::PermissionDenied | ErrorCode::AuthorizationForStatementDenied => {
            Fault::Passing(say(&format!("does {dir} exist, and may cordond's user write there?")))
        }
        ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::FileLockingProtocolFailed => {
            Fault::Passing(say("another program holds it; end that program's transaction"))
        }
        ErrorCode::OutOfMemory => Fault::Passing(say("the machine is out of memory")),
        _ => Fault::Lasting(say("report this")),
    }
}

/// How to open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// At start: makes the file when there is none, and checks it.
    Start,
    /// Later: the file must be there. One that was lost must not be replaced by an empty one unseen.
    Again,
    /// A copy, to read what is there.
    Copy,
}

/// An open database.
#[derive(Debug)]
pub(super) struct Db {
    conn: Connection,
    path: PathBuf,
    origin: String,
    /// It was made by this opening.
    pub(super) fresh: bool,
    /// A connection made on a read-only or failing disk stays useless; one whose disk is full does not.
    pub(super) usable: bool,
    pub(super) room: Room,
}

impl Db {
    /// Opens the database in `dir`. A new one gets `hash_key`.
    pub(super) fn open(dir: &Path, mode: Mode, hash_key: [u64; 2]) -> Result<Db, Fault> {
        let path = dir.join(FILE);
        let mut flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        if mode == Mode::Start {
            flags |= OpenFlags::SQLITE_OPEN_CREATE;
            // It holds the installation's secret. SQLite gives its journal the same mode; what fails here fails again below.
            let _ = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o640).open(&path);
        }
        let conn = Connection::open_with_flags(&path, flags).map_err(|e| fault(&path, "opening", &e))?;
        let mut db =
            Db { conn, path, origin: String::new(), fresh: false, usable: true, room: Room::default() };
        db.prepare(mode, hash_key).map_err(|e| match e {
            Failure::Sqlite(e) => fault(&db.path, "opening", &e),
            Failure::Other(f) => f,
        })?;
        Ok(db)
    }

    fn prepare(&mut self, mode: Mode, hash_key: [u64; 2]) -> Result<(), Failure> {
        self.conn.busy_timeout(Duration::from_secs(2))?;
        let journal: String = self.conn.query_row("PRAGMA journal_mode = WAL", [], |r| r.get(0))?;
        if !journal.eq_ignore_ascii_case("wal") {
            let text = format!(
                "opening {}: the journal is {journal}, not WAL; is it on a network file system?",
                self.path.display()
            );
            return Err(Failure::Other(Fault::Passing(text)));
        }
        // FULL: a commit is on disk before it is reported, also when the power fails.
        self.conn.execute_batch("PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;")?;
        if mode != Mode::Again {
            let verdict: String = self.conn.query_row("PRAGMA quick_check(1)", [], |r| r.get(0))?;
            if verdict != "ok" {
                return Err(Failure::Other(Fault::Damaged(format!("{}: {verdict}", self.path.display()))));
            }
        }
        self.migrate(hash_key)?;
        self.origin = self.meta("origin")?.unwrap_or_default();
        Ok(())
    }

    fn migrate(&mut self, hash_key: [u64; 2]) -> Result<(), Failure> {
        let path = self.path.clone();
        let tx = self.conn.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        tx.execute_batch(
            "CREATE TABLE IF NOT EXISTS schema_version (version INTEGER PRIMARY KEY, applied INTEGER NOT NULL) STRICT",
        )?;
        let found: i64 =
            tx.query_row("SELECT coalesce(max(version), 0) FROM schema_version", [], |r| r.get(0))?;
        let (found, known) = (usize::try_from(found).unwrap_or(usize::MAX), MIGRATIONS.len());
        if found > known {
            let text = format!(
                "{} was written by a newer cordond (its schema is version {found}, this program knows {known}): install that \
                 version again, or restore the file from a backup made before",
                path.display()
            );
            return Err(Failure::Other(Fault::Lasting(text)));
        }
        for (i, sql) in MIGRATIONS.iter().enumerate().skip(found) {
            tx.execute_batch(sql)?;
            let version = i64::try_from(i + 1).unwrap_or(i64::MAX);
            tx.execute(
                "INSERT INTO schema_version VALUES (?1, ?2)",
                params![version, Time::now().unix_ms()],
            )?;
        }
        if found == 0 {
            let [a, b] = hash_key;
            let put = "INSERT INTO meta VALUES (?1, ?2)";
            tx.execute(put, ["hash_key", &format!("{a:016x}{b:016x}")])?;
            tx.execute(put, ["origin", &format!("{:016x}", random_key().map_or(a ^ b, |k| k[0]))])?;
            self.fresh = true;
        }
        tx.commit()?;
        Ok(())
    }

    fn meta(&self, key: &str) -> rusqlite::Result<Option<String>> {
        self.conn.query_row("SELECT value FROM meta WHERE key = ?1", [key], |r| r.get(0)).optional()
    }

    /// For the loader.
    pub(super) fn connection(&self) -> &Connection {
        &self.conn
    }

    /// A failure of this database in the operator's terms.
    pub(super) fn fault(&self, doing: &str, e: &rusqlite::Error) -> Fault {
        fault(&self.path, doing, e)
    }

    /// The state directory.
    pub(super) fn state(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new("/"))
    }

    /// Applies a batch: all of it, or nothing. On a full disk old evidence gives way to it.
    pub(super) fn apply(&mut self, ops: &[StoreOp]) -> Result<(), Fault> {
        match self.apply_once(ops) {
            Err(Fault::Full(_)) if self.make_room() => self.apply_once(ops)?,
            applied => applied?,
        }
        let writes = |op: &StoreOp| matches!(op, StoreOp::WriteEvidence { .. } | StoreOp::Retain { .. });
        if ops.iter().any(writes)
            && let Err(e) = self.keep_within_bound()
        {
            // What was asked for is done; the next evidence tries again.
            log::error(&format!("keeping evidence within its bound: {e}"));
        }
        Ok(())
    }

    fn apply_once(&mut self, ops: &[StoreOp]) -> Result<(), Fault> {
        let dir = self.state().to_owned();
        let origin = self.origin.clone();
        let (forgotten, grown) = self.transact(|tx| {
            let (mut forgotten, mut grown) = (Vec::new(), 0i64);
            for op in ops {
                match op {
                    StoreOp::WriteEvidence { incident, name, bytes } => {
                        grown += evidence::write(&dir, incident, name, bytes).map_err(Failure::Other)?;
                    }
                    StoreOp::KeepInventory(inventory) => {
                        kept::keep(&dir, inventory).map_err(Failure::Other)?;
                    }
                    StoreOp::Retain { since, .. } => forgotten.extend(retain(tx, *since)?),
                    _ => apply(tx, op, &origin)?,
                }
            }
            Ok((forgotten, grown))
        })?;
        self.room.bytes = self.room.bytes.map(|b| b.saturating_add_signed(grown));
        for op in ops {
            if let StoreOp::Retain { evidence_max, .. } = op {
                self.room.bytes_max = *evidence_max;
            }
        }
        for incident in forgotten {
            let bytes = evidence::bytes_of(&dir, &incident);
            if evidence::remove(&dir, &incident) {
                self.room.bytes = self.room.bytes.map(|b| b.saturating_sub(bytes));
            }
            self.room.gone.push(Gone { incident, at: Time::now(), forgotten: true });
        }
        Ok(())
    }

    /// Runs something in a transaction: all of it is done, or nothing.
    pub(super) fn transact<T>(
        &mut self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, Failure>,
    ) -> Result<T, Fault> {
        let path = self.path.clone();
        let run = || -> Result<T, Failure> {
            let tx = self.conn.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
            let done = work(&tx)?;
            tx.commit()?;
            Ok(done)
        };
        let result = run();
        if let Err(Failure::Sqlite(e)) = &result {
            let code = e.sqlite_error_code();
            self.usable = matches!(
                code,
                Some(
                    ErrorCode::DiskFull
                        | ErrorCode::DatabaseBusy
                        | ErrorCode::DatabaseLocked
                        | ErrorCode::ConstraintViolation
                )
            );
        }
        result.map_err(|e| match e {
            Failure::Sqlite(e) => fault(&path, "writing", &e),
            Failure::Other(f) => f,
        })
    }

    /// The installation's random name.
    pub(super) fn origin(&self) -> &str {
        &self.origin
    }
}

/// 128 bits from the system's random source.
pub(super) fn random_key() -> std::io::Result<[u64; 2]> {
    use std::io::Read;
    let mut bytes = [[0u8; 8]; 2];
    let mut source = std::fs::File::open("/dev/urandom")?;
    for b in &mut bytes {
        source.read_exact(b)?;
    }
    Ok(bytes.map(u64::from_ne_bytes))
}

/// What may end a transaction.
#[derive(Debug)]
pub(super) enum Failure {
    Sqlite(rusqlite::Error),
    Other(Fault),
}

impl From<rusqlite::Error> for Failure {
    fn from(e: rusqlite::Error) -> Failure {
        Failure::Sqlite(e)
    }
}

fn signed(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

fn json<T: serde::Serialize>(value: &T) -> Result<String, Failure> {
    serde_json::to_string(value).map_err(|e| Failure::Other(Fault::Lasting(format!("writing JSON: {e}"))))
}

fn apply(tx: &Transaction<'_>, op: &StoreOp, origin: &str) -> Result<(), Failure> {
    match op {
        StoreOp::PutLock(row) => put_lock(tx, row, origin)?,
        StoreOp::SuspendLock { row, who, at } => suspend_lock(tx, row, who, *at)?,
        StoreOp::RemoveLock { id, who, at } => {
            let id = signed(*id);
            tx.prepare_cached(
                "INSERT INTO lock_history (at, event, lock_id, who, row)
                 SELECT ?2, 'unlocked', lock_id, ?3, row FROM lock_history
                 WHERE lock_id = ?1 AND EXISTS (SELECT 1 FROM locks WHERE id = ?1) ORDER BY seq DESC LIMIT 1",
            )?
            .execute(params![id, at.unix_ms(), who])?;
            tx.prepare_cached("DELETE FROM locks WHERE id = ?1")?.execute([id])?;
        }
        StoreOp::PutIncident(row) => put_incident(tx, row)?,
        StoreOp::PutExemption { target, rule, until } => {
            tx.execute(
                "INSERT INTO exemptions VALUES (?1, ?2, ?3) ON CONFLICT DO UPDATE SET until = excluded.until",
                params![target.to_string(), rule, until.unix_ms()],
            )?;
        }
        StoreOp::SetRuleMode { rule, observe } => {
            tx.execute(
                "INSERT INTO rule_modes VALUES (?1, ?2) ON CONFLICT DO UPDATE SET observe = excluded.observe",
                params![rule, observe],
            )?;
        }
        StoreOp::SetBreaker { rule, latched: Some(b) } => {
            tx.execute(
                "INSERT INTO breakers VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO UPDATE
                 SET since = excluded.since, locks = excluded.locks, waiting = excluded.waiting",
                params![rule, b.since.unix_ms(), signed(b.locks), json(&b.waiting)?],
            )?;
        }
        StoreOp::SetBreaker { rule, latched: None } => {
            tx.execute("DELETE FROM breakers WHERE rule = ?1", [rule])?;
        }
        StoreOp::PutRtbh(row) => {
            tx.execute(
                "INSERT OR REPLACE INTO rtbh VALUES (?1, ?2)",
                params![row.address.to_string(), json(row)?],
            )?;
        }
        StoreOp::RemoveRtbh(a) => {
            tx.execute("DELETE FROM rtbh WHERE address = ?1", [a.to_string()])?;
        }
        StoreOp::SetBypass(on) => {
            tx.execute(
                "INSERT OR REPLACE INTO meta VALUES ('bypass', ?1)",
                [if *on { "on" } else { "off" }],
            )?;
        }
        StoreOp::Audit { at, who, what } => audit(tx, *at, who, what)?,
        StoreOp::PutToken(token) => put_token(tx, token)?,
        StoreOp::Tell(tell) => outbox::put(tx, tell)?,
        StoreOp::Withdraw { thread, event, at, why } => outbox::withdraw(tx, thread, *event, *at, why)?,
        StoreOp::WriteEvidence { .. } | StoreOp::KeepInventory(_) | StoreOp::Retain { .. } => {}
    }
    Ok(())
}

/// A line of the audit log.
pub(super) fn audit(tx: &Transaction<'_>, at: Time, who: &str, what: &str) -> Result<(), Failure> {
    let mut line = tx.prepare_cached("INSERT INTO audit (at, who, what) VALUES (?1, ?2, ?3)")?;
    line.execute(params![at.unix_ms(), who, what])?;
    Ok(())
}

fn put_lock(tx: &Transaction<'_>, row: &LockRow, origin: &str) -> Result<(), Failure> {
    let id = signed(row.id);
    let known: bool = tx
        .prepare_cached("SELECT EXISTS (SELECT 1 FROM locks WHERE id = ?1)")?
        .query_row([id], |r| r.get(0))?;
    tx.prepare_cached(
        "INSERT INTO locks (id, target, direction, reason, case_no, note, who, rule, incident, created, until, generation, origin,
         external_ref)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14) ON CONFLICT (id) DO UPDATE SET
         target = excluded.target, direction = excluded.direction, reason = excluded.reason, case_no = excluded.case_no,
         note = excluded.note, who = excluded.who, rule = excluded.rule, incident = excluded.incident,
         created = excluded.created, until = excluded.until, generation = excluded.generation",
    )?
    .execute(params![
        id,
        row.target.to_string(),
        row.direction.name(),
        row.reason.name(),
        row.case,
        row.note,
        row.who,
        row.rule,
        row.incident,
        row.created.unix_ms(),
        row.until.map(Time::unix_ms),
        signed(row.generation),
        origin,
        row.external_ref,
    ])?;
    if let Some(reference) = &row.external_ref {
        tx.prepare_cached("INSERT OR IGNORE INTO external_refs VALUES (?1, ?2)")?
            .execute(params![reference, id])?;
    }
    tx.prepare_cached("DELETE FROM lock_exceptions WHERE lock_id = ?1")?.execute([id])?;
    for prefix in &row.except {
        tx.execute("INSERT OR IGNORE INTO lock_exceptions VALUES (?1, ?2)", params![id, prefix.to_string()])?;
    }
    tx.prepare_cached("DELETE FROM lock_addresses WHERE lock_id = ?1")?.execute([id])?;
    for prefix in &row.addresses {
        tx.execute("INSERT OR IGNORE INTO lock_addresses VALUES (?1, ?2)", params![id, prefix.to_string()])?;
    }
    tx.prepare_cached("INSERT INTO lock_history (at, event, lock_id, who, row) VALUES (?1, ?2, ?3, ?4, ?5)")?
        .execute(params![
            Time::now().unix_ms(),
            if known { "changed" } else { "locked" },
            id,
            row.who,
            json(row)?
        ])?;
    Ok(())
}

fn put_token(tx: &Transaction<'_>, token: &Token) -> Result<(), Failure> {
    let row = &token.row;
    tx.prepare_cached(
        "INSERT INTO tokens VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) ON CONFLICT (id) DO UPDATE
         SET revoked = excluded.revoked, last_used = excluded.last_used",
    )?
    .execute(params![
        signed(row.id),
        row.name,
        row.role.name(),
        token.digest,
        row.created.unix_ms(),
        row.who,
        row.until.map(Time::unix_ms),
        row.revoked.map(Time::unix_ms),
        row.last_used.map(Time::unix_ms),
    ])?;
    Ok(())
}

fn suspend_lock(tx: &Transaction<'_>, row: &LockRow, who: &str, at: Time) -> Result<(), Failure> {
    let (id, s) = (signed(row.id), row.suspended.as_ref());
    let changed = tx
        .prepare_cached(
            "UPDATE locks SET suspended_since = ?2, suspended_until = ?3, suspended_by = ?4, generation = ?5 WHERE id = ?1",
        )?
        .execute(params![
            id,
            s.map(|s| s.since.unix_ms()),
            s.map(|s| s.until.unix_ms()),
            s.map(|s| &s.who),
            signed(row.generation),
        ])?;
    if changed > 0 {
        tx.prepare_cached(
            "INSERT INTO lock_history (at, event, lock_id, who, row) VALUES (?1, 'changed', ?2, ?3, ?4)",
        )?
        .execute(params![at.unix_ms(), id, who, json(row)?])?;
    }
    Ok(())
}

/// `C-YYYY-NNNNNN` ends in the incident's number.
pub(super) fn number_of(incident: &str) -> u64 {
    incident.rsplit('-').next().and_then(|n| n.parse().ok()).unwrap_or(0)
}

fn put_incident(tx: &Transaction<'_>, row: &IncidentRow) -> Result<(), Failure> {
    let number = signed(number_of(&row.id));
    let body = json(&IncidentRow { actions: Vec::new(), timeline: Vec::new(), ..row.clone() })?;
    tx.prepare_cached(
        "INSERT INTO incidents (id, number, kind, address, opened, closed, body)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT (id) DO UPDATE SET
         kind = excluded.kind, address = excluded.address, opened = excluded.opened, closed = excluded.closed,
         body = excluded.body",
    )?
    .execute(params![
        row.id,
        number,
        row.kind.name(),
        row.address,
        row.opened.unix_ms(),
        row.closed.map(Time::unix_ms),
        body
    ])?;
    for (position, a) in row.actions.iter().enumerate() {
        tx.prepare_cached("INSERT OR REPLACE INTO incident_actions VALUES (?1, ?2, ?3, ?4)")?.execute(
            params![row.id, i64::try_from(position).unwrap_or(i64::MAX), a.action.name(), a.at.unix_ms()],
        )?;
    }
    // A timeline only grows.
    let known: i64 = tx
        .prepare_cached("SELECT count(*) FROM incident_steps WHERE incident = ?1")?
        .query_row([&row.id], |r| r.get(0))?;
    for (position, e) in row.timeline.iter().enumerate().skip(usize::try_from(known).unwrap_or(0)) {
        tx.prepare_cached("INSERT INTO incident_steps VALUES (?1, ?2, ?3, ?4, ?5)")?.execute(params![
            row.id,
            i64::try_from(position).unwrap_or(i64::MAX),
            e.at.unix_ms(),
            e.step.name(),
            e.detail
        ])?;
    }
    // Numbers are never given twice, also when retention has forgotten the incident.
    tx.prepare_cached(
        "INSERT INTO meta VALUES ('last_incident', ?1) ON CONFLICT (key) DO UPDATE SET value = excluded.value
         WHERE CAST(excluded.value AS INTEGER) > CAST(value AS INTEGER)",
    )?
    .execute([number.to_string()])?;
    Ok(())
}

/// Forgets incidents closed before `since`, but none that a standing lock names. Returns their ids.
fn retain(tx: &Transaction<'_>, since: Time) -> Result<Vec<String>, Failure> {
    let mut forget = tx.prepare(
        "DELETE FROM incidents WHERE closed IS NOT NULL AND closed < ?1
         AND id NOT IN (SELECT incident FROM locks WHERE incident IS NOT NULL) RETURNING id",
    )?;
    let ids = forget.query_map([since.unix_ms()], |r| r.get(0))?.collect::<rusqlite::Result<_>>()?;
    tx.execute("DELETE FROM exemptions WHERE until < ?1", [Time::now().unix_ms()])?;
    outbox::retain(tx, since)?;
    Ok(ids)
}
