//! The store's tables. A change of them is a new entry of [`MIGRATIONS`], never an edit of an old one.

/// Each entry leads from the version before to the next one; the number of entries is the version of this program.
pub(super) const MIGRATIONS: &[&str] =
    &[V1, V2_OUTBOX, V3_MAINTENANCE, V4_RTBH, V5_EVIDENCE, V6_ROOM, V7_INVENTORY, V8_API];

/// References of programs that lock, and tokens of the HTTP API.
const V8_API: &str = "
ALTER TABLE locks ADD COLUMN external_ref TEXT;

-- Every reference that was ever used, and the row that came of it: also of rows that were lifted, so that a request
-- which arrives late does not lock again.
CREATE TABLE external_refs (
    ref     TEXT PRIMARY KEY,
    lock_id INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- digest: SHA-256 of the secret, in hexadecimal. Tokens that were revoked stay, for whoever reads the audit log.
CREATE TABLE tokens (
    id        INTEGER PRIMARY KEY,
    name      TEXT NOT NULL,
    role      TEXT NOT NULL,
    digest    TEXT NOT NULL UNIQUE,
    created   INTEGER NOT NULL,
    who       TEXT NOT NULL,
    until     INTEGER,
    revoked   INTEGER,
    last_used INTEGER
) STRICT;
";

/// The addresses that a lock on a server covers, as the inventory had them last.
const V7_INVENTORY: &str = "
CREATE TABLE lock_addresses (
    lock_id INTEGER NOT NULL REFERENCES locks (id) ON DELETE CASCADE,
    prefix  TEXT NOT NULL,
    PRIMARY KEY (lock_id, prefix)
) STRICT, WITHOUT ROWID;
";

/// Timed maintenance unlocks, and timelines of incidents.
const V3_MAINTENANCE: &str = "
ALTER TABLE locks ADD COLUMN suspended_since INTEGER;
ALTER TABLE locks ADD COLUMN suspended_until INTEGER;
ALTER TABLE locks ADD COLUMN suspended_by TEXT;

CREATE TABLE incident_steps (
    incident TEXT NOT NULL REFERENCES incidents (id) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    at       INTEGER NOT NULL,
    step     TEXT NOT NULL,
    detail   TEXT,
    PRIMARY KEY (incident, position)
) STRICT, WITHOUT ROWID;
";

/// Remotely triggered blackholes; body: the row as JSON.
const V4_RTBH: &str = "
CREATE TABLE rtbh (
    address TEXT PRIMARY KEY,
    body    TEXT NOT NULL
) STRICT, WITHOUT ROWID;
";

/// What `cordon evidence` looks for.
const V5_EVIDENCE: &str = "
CREATE INDEX lock_history_at ON lock_history (at);
CREATE INDEX incidents_address ON incidents (address);
";

/// Files of evidence that were removed to make room.
const V6_ROOM: &str = "
ALTER TABLE incidents ADD COLUMN files_removed INTEGER;
";

const V1: &str = "
-- Settings of the installation: hash_key, origin, last_incident, bypass.
CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- The lock list. Times are milliseconds since 1970, UTC.
CREATE TABLE locks (
    id         INTEGER PRIMARY KEY,
    target     TEXT NOT NULL,
    direction  TEXT NOT NULL CHECK (direction IN ('out', 'in', 'both')),
    reason     TEXT NOT NULL,
    case_no    TEXT,
    note       TEXT,
    who        TEXT NOT NULL,
    rule       TEXT,
    incident   TEXT,
    created    INTEGER NOT NULL,
    until      INTEGER,
    generation INTEGER NOT NULL,
    -- The appliance that made the row.
    origin     TEXT NOT NULL
) STRICT;
CREATE INDEX locks_target ON locks (target);

-- Who may still reach a locked target.
CREATE TABLE lock_exceptions (
    lock_id INTEGER NOT NULL REFERENCES locks (id) ON DELETE CASCADE,
    prefix  TEXT NOT NULL,
    PRIMARY KEY (lock_id, prefix)
) STRICT, WITHOUT ROWID;

-- What happened to every row there ever was.
CREATE TABLE lock_history (
    seq     INTEGER PRIMARY KEY AUTOINCREMENT,
    at      INTEGER NOT NULL,
    event   TEXT NOT NULL CHECK (event IN ('locked', 'changed', 'unlocked')),
    lock_id INTEGER NOT NULL,
    who     TEXT NOT NULL,
    row     TEXT NOT NULL
) STRICT;
CREATE INDEX lock_history_lock ON lock_history (lock_id);
CREATE TRIGGER lock_history_keep BEFORE UPDATE ON lock_history
BEGIN SELECT RAISE(ABORT, 'lock_history is append only'); END;
CREATE TRIGGER lock_history_stay BEFORE DELETE ON lock_history
BEGIN SELECT RAISE(ABORT, 'lock_history is append only'); END;

-- Who did what.
CREATE TABLE audit (
    seq  INTEGER PRIMARY KEY AUTOINCREMENT,
    at   INTEGER NOT NULL,
    who  TEXT NOT NULL,
    what TEXT NOT NULL
) STRICT;
CREATE TRIGGER audit_keep BEFORE UPDATE ON audit
BEGIN SELECT RAISE(ABORT, 'audit is append only'); END;
CREATE TRIGGER audit_stay BEFORE DELETE ON audit
BEGIN SELECT RAISE(ABORT, 'audit is append only'); END;

-- body: the incident as JSON, without its actions.
CREATE TABLE incidents (
    id      TEXT PRIMARY KEY,
    number  INTEGER NOT NULL,
    kind    TEXT NOT NULL,
    address TEXT,
    opened  INTEGER NOT NULL,
    closed  INTEGER,
    body    TEXT NOT NULL
) STRICT;
CREATE INDEX incidents_opened ON incidents (opened);

CREATE TABLE incident_actions (
    incident TEXT NOT NULL REFERENCES incidents (id) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    action   TEXT NOT NULL,
    at       INTEGER NOT NULL,
    PRIMARY KEY (incident, position)
) STRICT, WITHOUT ROWID;

-- Rules that only observe.
CREATE TABLE rule_modes (
    rule    TEXT PRIMARY KEY,
    observe INTEGER NOT NULL CHECK (observe IN (0, 1))
) STRICT, WITHOUT ROWID;

CREATE TABLE exemptions (
    target TEXT NOT NULL,
    rule   TEXT NOT NULL,
    until  INTEGER NOT NULL,
    PRIMARY KEY (target, rule)
) STRICT, WITHOUT ROWID;

-- Latched rules. waiting: targets as a JSON list.
CREATE TABLE breakers (
    rule    TEXT PRIMARY KEY,
    since   INTEGER NOT NULL,
    locks   INTEGER NOT NULL,
    waiting TEXT NOT NULL
) STRICT, WITHOUT ROWID;
";

const V2_OUTBOX: &str = "
-- What people and programs outside are told. seq: the order in which it happened.
CREATE TABLE outbox (
    seq      INTEGER PRIMARY KEY AUTOINCREMENT,
    id       TEXT NOT NULL UNIQUE,
    kind     TEXT NOT NULL,
    audience TEXT NOT NULL,
    event    TEXT NOT NULL,
    thread   TEXT NOT NULL,
    created  INTEGER NOT NULL,
    due      INTEGER NOT NULL,
    state    TEXT NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'delivered', 'merged', 'failed', 'dropped')),
    attempts INTEGER NOT NULL DEFAULT 0,
    error    TEXT,
    -- When it left the state 'waiting'.
    done     INTEGER,
    -- The digest that it is a part of.
    digest   TEXT,
    -- Addresses that have taken it, as a JSON list: after a partial delivery only the others are tried again.
    accepted TEXT NOT NULL DEFAULT '[]',
    -- What is told, as JSON.
    body     TEXT NOT NULL
) STRICT;
CREATE INDEX outbox_due ON outbox (kind, state, due);
CREATE INDEX outbox_thread ON outbox (thread, audience, seq);
CREATE INDEX outbox_audience ON outbox (audience, state, done);
CREATE INDEX outbox_digest ON outbox (digest) WHERE digest IS NOT NULL;
";
