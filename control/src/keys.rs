//! Tokens of the HTTP API: control keeps them, the office looks a secret up.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use api::{ErrorCode, Failure, Role, Time, TokenRow};
use subtle::{Choice, ConstantTimeEq};

use crate::control::Control;
use crate::effect::{StoreOp, Token};
use crate::requests::{Prepared, Then, bad, not_found, refused};

/// Its last use is kept to the minute: a write to disk for every request would be too dear.
const USE_MS: i64 = 60_000;
/// Longest name.
const NAME_MAX: usize = 64;

/// What the office needs of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// Its number.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// What it may do.
    pub role: Role,
    digest: String,
    until: Option<Time>,
}

/// The keys that open something, published by control for the office.
#[derive(Debug, Default)]
pub struct Ring {
    keys: Mutex<Arc<Vec<Key>>>,
}

impl Ring {
    /// False when the office holds it at this moment: then try again. Control never waits for the office.
    fn publish(&self, keys: Vec<Key>) -> bool {
        match self.keys.try_lock() {
            Ok(mut slot) => {
                *slot = Arc::new(keys);
                true
            }
            Err(_) => false,
        }
    }

    /// The key that a secret is. How long it takes says nothing about any key.
    pub fn find(&self, secret: &str, at: Time) -> Option<Key> {
        let digest = api::token::digest(secret);
        let keys = Arc::clone(&self.keys.lock().unwrap_or_else(PoisonError::into_inner));
        let mut found = None;
        for key in keys.iter() {
            let same: Choice = key.digest.as_bytes().ct_eq(digest.as_bytes());
            if bool::from(same) {
                found = Some(key);
            }
        }
        found.filter(|k| k.until.is_none_or(|u| u > at)).cloned()
    }
}

/// All tokens that there ever were.
#[derive(Debug, Default)]
pub(crate) struct Tokens {
    rows: BTreeMap<u64, Token>,
    ring: Arc<Ring>,
    /// The ring does not show the rows yet.
    behind: bool,
}

impl Tokens {
    pub(crate) fn restore(tokens: Vec<Token>) -> Tokens {
        let rows = tokens.into_iter().map(|t| (t.row.id, t)).collect();
        let mut all = Tokens { rows, ring: Arc::default(), behind: true };
        all.publish();
        all
    }

    pub(crate) fn ring(&self) -> Arc<Ring> {
        Arc::clone(&self.ring)
    }

    /// Shows the office what there is. Call each tick.
    pub(crate) fn publish(&mut self) {
        if !self.behind {
            return;
        }
        let good = self.rows.values().filter(|t| t.row.revoked.is_none());
        let key = |t: &Token| Key {
            id: t.row.id,
            name: t.row.name.clone(),
            role: t.row.role,
            digest: t.digest.clone(),
            until: t.row.until,
        };
        self.behind = !self.ring.publish(good.map(key).collect());
    }

    pub(crate) fn rows(&self) -> Vec<TokenRow> {
        self.rows.values().map(|t| t.row.clone()).collect()
    }

    pub(crate) fn put(&mut self, token: Token) {
        self.rows.insert(token.row.id, token);
        self.behind = true;
        self.publish();
    }

    /// Notes that a token is used; what has to be stored for it. The failure: it opens nothing any more.
    pub(crate) fn used(&mut self, id: u64, at: Time) -> Result<Option<StoreOp>, Failure> {
        let Some(token) = self.rows.get_mut(&id).filter(|t| t.row.is_good(at)) else {
            return Err(Failure::new(
                ErrorCode::Permission,
                "this token was revoked, or its time is over",
                "`cordon token list` says which are good; `cordon token create` makes one",
            ));
        };
        if token.row.last_used.is_some_and(|last| at.unix_ms().saturating_sub(last.unix_ms()) < USE_MS) {
            return Ok(None);
        }
        token.row.last_used = Some(at);
        Ok(Some(StoreOp::PutToken(Box::new(token.clone()))))
    }
}

impl Control {
    /// The keys that the office knows.
    pub fn ring(&self) -> Arc<Ring> {
        self.tokens.ring()
    }

    pub(crate) fn prepare_token(
        &self,
        who: &str,
        name: String,
        role: Role,
        digest: String,
        until: Option<Time>,
    ) -> Result<Prepared, Failure> {
        let at = self.now.time();
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if name.is_empty() || name.len() > NAME_MAX || !name.chars().all(plain) {
            return Err(bad(
                format!("a token's name has 1 to {NAME_MAX} letters, digits, dots, dashes and underscores"),
                "name it after the program that uses it, such as whmcs",
            ));
        }
        if !api::token::is_digest(&digest) {
            return Err(bad(
                "the digest of a token has 64 hexadecimal digits",
                "let `cordon token create` make the token",
            ));
        }
        if let Some(until) = until.filter(|u| *u <= at) {
            return Err(bad(format!("the token would end at {until}, which is over"), "name a time to come"));
        }
        let taken = |t: &&Token| (t.row.name == name && t.row.is_good(at)) || t.digest == digest;
        if self.tokens.rows.values().any(|t| taken(&t)) {
            return Err(Failure::new(
                ErrorCode::Conflict,
                format!("there is a token named {name}"),
                format!("choose another name, or `cordon token revoke {name}` first"),
            ));
        }
        if self.waiting.values().any(|w| matches!(w.then, Then::Token(_))) {
            return Err(refused("another token is being changed at this moment", "ask again"));
        }
        let last = self.tokens.rows.last_key_value().map_or(0, |(id, _)| *id);
        let row = TokenRow {
            id: last + 1,
            name,
            role,
            created: at,
            who: who.to_owned(),
            until,
            revoked: None,
            last_used: None,
        };
        let what = format!("token create {} ({role})", row.name);
        Ok(Prepared::put_token(Token { row, digest }, what))
    }

    pub(crate) fn prepare_revocation(&self, name: &str) -> Result<Prepared, Failure> {
        let at = self.now.time();
        let mut good = self.tokens.rows.values().filter(|t| t.row.name == name && t.row.revoked.is_none());
        let Some(token) = good.next_back() else {
            return Err(not_found(
                format!("there is no token named {name} that could be revoked"),
                "`cordon token list` lists them",
            ));
        };
        let mut token = token.clone();
        token.row.revoked = Some(at);
        Ok(Prepared::put_token(token, format!("token revoke {name}")))
    }
}

impl Prepared {
    fn put_token(token: Token, what: String) -> Prepared {
        let op = StoreOp::PutToken(Box::new(token.clone()));
        Prepared::Store(vec![op], Then::Token(Box::new(token)), what)
    }
}
