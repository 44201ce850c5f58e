//! Requests of programs that may come twice.
//!
//! A billing system that got no answer asks again. Under the same reference it gets the row that its first request made,
//! also when cordond was killed between the commit and the answer: references are stored with their rows. They outlive
//! them: a repetition that arrives after the lock was lifted must not lock a customer again who has paid meanwhile.

use api::{ErrorCode, Failure, LockRow, Payload, Request};

use crate::control::Control;
use crate::effect::ClientId;
use crate::requests::{Answer, Then, bad};

/// Longest reference, in bytes.
pub(crate) const REFERENCE_MAX: usize = 128;

/// What becomes of a request with a reference.
pub(crate) enum Repeat {
    /// It is the first one.
    New,
    /// It gets its answer together with the first one.
    Joined,
    /// It has its answer.
    Known(Answer),
}

fn conflict(message: String, hint: &str) -> Repeat {
    Repeat::Known(Err(Failure::new(ErrorCode::Conflict, message, hint)))
}

/// Whether a request asks for just this row.
fn asks_for(request: &Request, row: &LockRow) -> bool {
    let Request::Lock { target, reason, direction, note, case, until, except, .. } = request else {
        return false;
    };
    (target, reason, direction, note, case, until, except)
        == (&row.target, &row.reason, &row.direction, &row.note, &row.case, &row.until, &row.except)
}

impl Control {
    /// Looks whether a request was made before.
    pub(crate) fn repeat(&mut self, client: ClientId, request: &Request) -> Repeat {
        let Request::Lock { external_ref: Some(reference), .. } = request else { return Repeat::New };
        if reference.is_empty()
            || reference.len() > REFERENCE_MAX
            || !reference.chars().all(|c| c.is_ascii_graphic())
        {
            return Repeat::Known(Err(bad(
                format!("a reference has 1 to {REFERENCE_MAX} ASCII characters and no space"),
                "name the request as your own system does, such as whmcs:invoice-4711",
            )));
        }
        let differs = |id: u64| {
            conflict(
                format!("{reference} was used for another request, which made lock {id}"),
                "use a new reference for another lock; the same request under the same reference is done once",
            )
        };
        for waiting in self.waiting.values_mut() {
            let Then::Lock(row) = &waiting.then else { continue };
            if row.external_ref.as_ref() == Some(reference) {
                if !asks_for(request, row) {
                    return differs(row.id);
                }
                waiting.also.push(client);
                return Repeat::Joined;
            }
        }
        let Some(id) = self.references.get(reference).copied() else { return Repeat::New };
        match self.locks.get(id) {
            Some(row) if asks_for(request, row) => {
                Repeat::Known(Ok(Payload::Lock(Box::new(self.told([row].into_iter()).remove(0)))))
            }
            Some(_) => differs(id),
            None => conflict(
                format!("lock {id}, which {reference} asked for, was lifted: it is not made again"),
                "use a new reference to lock again",
            ),
        }
    }
}
