//! What the deciding core asks of the world. It does nothing itself: no clock, no file, no socket.

use std::sync::Arc;

use api::{Event, IncidentRow, LockRow, Notice, Response, Target, Time, TokenRow};
use config::Inventory;
use letters::Letter;

use crate::claim::Question;
use crate::history::HistoryOp;

/// Time as the core sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Monotonic.
    pub mono_ns: u64,
    /// Since 1970.
    pub unix_ns: i128,
}

impl Now {
    /// As written into rows.
    pub fn time(&self) -> Time {
        Time::from_unix_ns(self.unix_ns)
    }
}

/// Who waits for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientId(pub u64);

/// A batch of store operations, one transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BatchId(pub u64);

/// One change of what is kept.
#[derive(Clone, Debug, PartialEq)]
pub enum StoreOp {
    /// Adds or replaces a row of the lock list.
    PutLock(Box<LockRow>),
    /// Suspends a row, or ends that. A row that is gone by then stays gone.
    SuspendLock {
        /// The row, as it is from now on.
        row: Box<LockRow>,
        /// Who did it.
        who: String,
        /// When.
        at: Time,
    },
    /// Takes a row off the list; it stays in the history.
    RemoveLock {
        /// The row.
        id: u64,
        /// Who took it off.
        who: String,
        /// When.
        at: Time,
    },
    /// Adds or replaces an incident.
    PutIncident(Box<IncidentRow>),
    /// A rule leaves a target alone.
    PutExemption {
        /// Address or prefix.
        target: Target,
        /// The rule.
        rule: String,
        /// Until when.
        until: Time,
    },
    /// A rule observes, or acts again.
    SetRuleMode {
        /// The rule.
        rule: String,
        /// True: it only observes.
        observe: bool,
    },
    /// A rule's breaker; none when it is reset.
    SetBreaker {
        /// The rule.
        rule: String,
        /// Its state.
        latched: Option<api::BreakerRow>,
    },
    /// Adds or replaces a remotely triggered blackhole.
    PutRtbh(Box<api::RtbhRow>),
    /// It is withdrawn.
    RemoveRtbh(std::net::IpAddr),
    /// Bypass on or off.
    SetBypass(bool),
    /// A file of evidence.
    WriteEvidence {
        /// The incident.
        incident: String,
        /// Name of the file.
        name: String,
        /// Its content.
        bytes: Vec<u8>,
    },
    /// An inventory that is in force, kept as the last good one.
    KeepInventory(Arc<Inventory>),
    /// Somebody outside is to be told. A row of the same id takes the newer facts while it waits: nothing is told twice.
    Tell(Box<Tell>),
    /// What was not delivered yet of a thread, of one kind of event, is withdrawn.
    Withdraw {
        /// The thread.
        thread: String,
        /// The event.
        event: Event,
        /// When.
        at: Time,
        /// Why, for the operator.
        why: String,
    },
    /// Adds a token of the HTTP API, or says that it was revoked or used.
    PutToken(Box<Token>),
    /// A line of the audit log.
    Audit {
        /// When.
        at: Time,
        /// Who.
        who: String,
        /// What.
        what: String,
    },
    /// Forgets incidents closed before a time, and bounds evidence from now on.
    Retain {
        /// The oldest to keep.
        since: Time,
        /// Most bytes of evidence; 0: no bound.
        evidence_max: u64,
    },
}

/// A token of the HTTP API as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// What may be shown.
    pub row: TokenRow,
    /// The digest of its secret.
    pub digest: String,
}

/// A row for the outbox.
#[derive(Clone, Debug, PartialEq)]
pub struct Tell {
    /// Made of what it tells: letters, digits, `.`, `-` and `_`.
    pub id: String,
    /// The incident or lock that it belongs to.
    pub thread: String,
    /// When it happened.
    pub created: Time,
    /// Not to be delivered before.
    pub due: Time,
    /// What is told.
    pub message: Message,
}

/// What is told, and how.
#[derive(Clone, Debug, PartialEq)]
pub enum Message {
    /// By mail.
    Mail(Box<Letter>),
    /// By a request over HTTP to a program.
    Webhook {
        /// Of the `[[webhook]]`.
        name: String,
        /// The body.
        notice: Box<Notice>,
    },
}

impl Message {
    /// The word for how it is delivered.
    pub fn kind(&self) -> &'static str {
        match self {
            Message::Mail(_) => MAIL,
            Message::Webhook { .. } => WEBHOOK,
        }
    }

    /// Who is told.
    pub fn audience(&self) -> String {
        match self {
            Message::Mail(letter) => letter.party.audience(),
            Message::Webhook { name, .. } => format!("webhook:{name}"),
        }
    }

    /// What is told.
    pub fn event(&self) -> Event {
        match self {
            Message::Mail(letter) => letter.event,
            Message::Webhook { notice, .. } => notice.event,
        }
    }

    /// As it is kept.
    pub fn body(&self) -> serde_json::Result<String> {
        match self {
            Message::Mail(letter) => serde_json::to_string(letter),
            Message::Webhook { notice, .. } => serde_json::to_string(notice),
        }
    }
}

/// The kind of outbox rows that go by mail.
pub const MAIL: &str = "mail";
/// The kind of those that go to programs.
pub const WEBHOOK: &str = "webhook";

/// What an operator asks of the outbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OutboxAsk {
    /// Rows, oldest first.
    List {
        /// Also what is done.
        all: bool,
        /// Most rows.
        limit: usize,
    },
    /// Try one again, at once.
    Retry {
        /// Its id.
        id: String,
        /// Who asks.
        who: String,
        /// When.
        at: Time,
    },
    /// Withdraw one.
    Drop {
        /// Its id.
        id: String,
        /// Who asks.
        who: String,
        /// When.
        at: Time,
    },
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Store these in one transaction. `retry`: a detector's, tried again until it is stored; otherwise somebody waits
    /// and is told of a failure.
    Store {
        /// Number for the result.
        batch: BatchId,
        /// The operations.
        ops: Vec<StoreOp>,
        /// Never give up.
        retry: bool,
    },
    /// Answer a client.
    Reply(ClientId, Response),
    /// Ask the store about the outbox, for a client.
    AskOutbox(ClientId, OutboxAsk),
    /// Keep this of histories, in order. What cannot be kept is a gap, and said to be one.
    History(HistoryOp),
    /// Answer a client with an incident that the store may have.
    AskIncident(ClientId, String),
    /// Answer a client from histories.
    AskEvidence(ClientId, Box<Question>),
    /// Read configuration and inventory again, then call [`crate::control::Control::reload`] and
    /// [`crate::control::Control::set_inventory`].
    ReadConfig(ClientId),
}

/// What the store had when cordond started.
#[derive(Clone, Debug, Default)]
pub struct Loaded {
    /// The installation's key for keyed hashes.
    pub hash_key: [u64; 2],
    /// Rows of the lock list.
    pub locks: Vec<LockRow>,
    /// The highest row number ever given.
    pub last_lock: u64,
    /// Open incidents, and the latest closed ones.
    pub incidents: Vec<IncidentRow>,
    /// The highest incident number ever given.
    pub last_incident: u64,
    /// Exemptions.
    pub exemptions: Vec<(Target, String, Time)>,
    /// Rules set to observe.
    pub observing: Vec<String>,
    /// Latched rules.
    pub breakers: Vec<api::BreakerRow>,
    /// Remotely triggered blackholes.
    pub rtbh: Vec<api::RtbhRow>,
    /// Bypass.
    pub bypass: bool,
    /// Tokens of the HTTP API, also those that were revoked.
    pub tokens: Vec<Token>,
    /// References of programs that locked, and the rows that came of them.
    pub references: Vec<(String, u64)>,
    /// What went wrong with the store, loudly.
    pub damage: Option<String>,
    /// The inventory, which has a file of its own.
    pub inventory: Option<Arc<Inventory>>,
}
