//! A thread for what may take long on behalf of the control socket.

use std::io;
use std::sync::Arc;

use api::{Payload, Response};
use crossbeam::channel::{Receiver, Sender, unbounded};
use mio::Waker;
use nix::unistd::{Uid, User};

use crate::effect::ClientId;

/// Rows from which an answer is left to the clerk: 1,000 rows of the lock list take about a millisecond to write.
const LONG: usize = 1_000;

/// What the clerk is asked.
#[derive(Debug)]
pub(super) enum Job {
    /// The name of a user: a directory service may be asked for it.
    Name {
        /// The user.
        uid: u32,
    },
    /// The line of a long answer.
    Write {
        /// For whom.
        client: ClientId,
        /// The answer.
        response: Response,
    },
}

/// What the clerk found.
#[derive(Debug)]
pub(super) enum Report {
    /// A user's name.
    Name {
        /// The user.
        uid: u32,
        /// Its name, or its number.
        name: String,
    },
    /// An answer's line.
    Line {
        /// For whom.
        client: ClientId,
        /// Without its end.
        line: String,
    },
}

/// Whether writing an answer takes long.
pub(super) fn is_long(response: &Response) -> bool {
    let Response::Ok(payload) = response else { return false };
    let rows = match payload {
        Payload::Top(rows) => rows.len(),
        Payload::Locks(rows) => rows.len(),
        Payload::Incidents(rows) => rows.len(),
        Payload::Outbox(rows) => rows.len(),
        Payload::Host(h) => h.locks.len() + h.incidents.len(),
        Payload::Rtbh(rows) => rows.len(),
        Payload::Evidence(e) => e.incidents.len() + e.lock_events.len() + e.locks.len(),
        Payload::Breaker(rows) => rows.iter().map(|r| r.waiting.len()).sum(),
        Payload::Status(s) => s.breaker.iter().map(|r| r.waiting.len()).sum(),
        Payload::Rules(rows) => rows.len(),
        Payload::Exemptions(rows) => rows.len(),
        Payload::Tokens(rows) => rows.len(),
        Payload::Incident(_) | Payload::Lock(_) | Payload::Done(_) => 0,
    };
    rows >= LONG
}

/// The thread's handle. It ends with it.
#[derive(Debug)]
pub(super) struct Clerk {
    jobs: Sender<Job>,
    reports: Receiver<Report>,
}

impl Clerk {
    pub(super) fn start(waker: Arc<Waker>) -> io::Result<Clerk> {
        let (jobs, queue) = unbounded();
        let (sender, reports) = unbounded();
        let work = move || {
            for job in queue {
                if sender.send(done(job)).is_err() {
                    return;
                }
                // The next tick finds what a failed waking leaves.
                let _ = waker.wake();
            }
        };
        std::thread::Builder::new().name("clerk".into()).spawn(work)?;
        Ok(Clerk { jobs, reports })
    }

    pub(super) fn ask(&self, job: Job) {
        // Without the thread names become numbers after a while, and clients time out by themselves.
        let _ = self.jobs.send(job);
    }

    pub(super) fn reports(&self) -> Vec<Report> {
        self.reports.try_iter().collect()
    }
}

fn done(job: Job) -> Report {
    match job {
        Job::Name { uid } => {
            let user = User::from_uid(Uid::from_raw(uid)).ok().flatten();
            Report::Name { uid, name: user.map_or_else(|| format!("uid:{uid}"), |u| u.name) }
        }
        Job::Write { client, response } => Report::Line { client, line: response.to_line() },
    }
}
