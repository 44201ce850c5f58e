//! Questions of the office to control, and the way back.
//!
//! The office asks what the control socket asks, and waits as its clients do; control takes questions in when it has time,
//! and waits for nothing. Whoever gave up is not served: a request that was answered with "late" must not be done later.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use api::{Request, Response};
use crossbeam::channel::{Receiver, Sender, TrySendError, bounded};
use mio::Waker;
use tokio::sync::oneshot;

use crate::access::Caller;
use crate::effect::ClientId;

/// Questions that wait for control, or for the disk; more are refused.
const QUESTIONS_MAX: usize = 256;
/// Questions that control takes in at a time: a tick must not wait for many.
const AT_A_TIME: usize = 32;
/// Control has to begin within this time.
const BEGIN: Duration = Duration::from_secs(5);
/// And to answer within this time of its beginning.
const PATIENCE: Duration = Duration::from_secs(10);
/// Numbers of the office's clients begin here: those of the socket do not get so far.
const FIRST: u64 = 1 << 63;

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Silence {
    /// Too many ask. Nothing was done.
    Busy,
    /// Control has not begun, and will not. Nothing was done.
    NotBegun,
    /// Control has begun, and what it changes is not on disk: it may be later.
    Late,
    /// cordond stops.
    Gone,
}

#[derive(Debug)]
struct Question {
    caller: Caller,
    request: Request,
    begun: oneshot::Sender<()>,
    reply: oneshot::Sender<Response>,
}

/// The office's end.
#[derive(Clone, Debug)]
pub struct Line {
    questions: Sender<Question>,
    waker: Arc<Waker>,
}

impl Line {
    /// Asks control, and waits for its answer, at most for a while.
    pub async fn ask(&self, caller: Caller, request: Request) -> Result<Response, Silence> {
        let (begun, has_begun) = oneshot::channel();
        let (reply, answer) = oneshot::channel();
        match self.questions.try_send(Question { caller, request, begun, reply }) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => return Err(Silence::Busy),
            Err(TrySendError::Disconnected(_)) => return Err(Silence::Gone),
        }
        // The next tick finds what a failed waking leaves.
        let _ = self.waker.wake();
        // Giving up drops the receiver: control cannot begin any more.
        match tokio::time::timeout(BEGIN, has_begun).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => return Err(Silence::NotBegun),
        }
        match tokio::time::timeout(PATIENCE, answer).await {
            Ok(reply) => reply.map_err(|_| Silence::Gone),
            Err(_) => Err(Silence::Late),
        }
    }
}

/// A question that control takes in.
#[derive(Debug)]
pub struct Asked {
    /// Whom to answer.
    pub client: ClientId,
    /// Who asks.
    pub caller: Caller,
    /// What is asked.
    pub request: Request,
}

/// Control's end.
#[derive(Debug)]
pub struct Desk {
    questions: Receiver<Question>,
    open: HashMap<u64, oneshot::Sender<Response>>,
    next: u64,
}

impl Desk {
    /// Both ends.
    pub fn new(waker: Arc<Waker>) -> (Desk, Line) {
        let (sender, questions) = bounded(QUESTIONS_MAX);
        let desk = Desk { questions, open: HashMap::new(), next: FIRST };
        (desk, Line { questions: sender, waker })
    }

    /// Questions that arrived, a few at a time.
    pub fn take_asked(&mut self) -> Vec<Asked> {
        let mut asked = Vec::new();
        while asked.len() < AT_A_TIME
            && let Ok(q) = self.questions.try_recv()
        {
            // Whose answers wait for the disk and who has given up takes no place.
            if self.open.len() >= QUESTIONS_MAX {
                self.open.retain(|_, reply| !reply.is_closed());
            }
            if self.open.len() >= QUESTIONS_MAX || q.begun.send(()).is_err() {
                continue;
            }
            let client = ClientId(self.next);
            self.next += 1;
            self.open.insert(client.0, q.reply);
            asked.push(Asked { client, caller: q.caller, request: q.request });
        }
        asked
    }

    /// Whether there are more.
    pub fn has_more(&self) -> bool {
        !self.questions.is_empty()
    }

    /// Whether a client is the office's.
    pub fn has(client: ClientId) -> bool {
        client.0 >= FIRST
    }

    /// Answers. Whoever has gone meanwhile is no error.
    pub fn answer(&mut self, client: ClientId, response: Response) {
        if let Some(reply) = self.open.remove(&client.0) {
            let _ = reply.send(response);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use api::Payload;
    use mio::{Poll, Token};

    fn desk() -> (Desk, Line, Poll) {
        let poll = Poll::new().unwrap();
        let waker = Arc::new(Waker::new(poll.registry(), Token(0)).unwrap());
        let (desk, line) = Desk::new(waker);
        (desk, line, poll)
    }

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap()
    }

    /// Lets others work until so many questions wait.
    async fn until_asked(desk: &Desk, questions: usize) {
        for _ in 0..10_000 {
            if desk.questions.len() == questions {
                return;
            }
            tokio::task::yield_now().await;
        }
        panic!("{} questions wait, not {questions}", desk.questions.len());
    }

    fn done() -> Response {
        Response::Ok(Payload::Done("done".into()))
    }

    #[test]
    fn an_answer_comes_back_to_whoever_asked() {
        let (mut desk, line, _poll) = desk();
        runtime().block_on(async {
            let ask = |who: &'static str| {
                let line = line.clone();
                tokio::spawn(async move { line.ask(Caller::local(who), Request::Status).await })
            };
            let (a, b) = (ask("a"), ask("b"));
            until_asked(&desk, 2).await;
            let asked = desk.take_asked();
            assert_eq!(asked.len(), 2);
            assert!(asked.iter().all(|q| Desk::has(q.client)) && !desk.has_more());
            for q in asked.into_iter().rev() {
                desk.answer(q.client, Response::Ok(Payload::Done(q.caller.who)));
            }
            let said = |r: Result<Response, Silence>| r.unwrap();
            assert_eq!(said(a.await.unwrap()), Response::Ok(Payload::Done("a".into())));
            assert_eq!(said(b.await.unwrap()), Response::Ok(Payload::Done("b".into())));
        });
    }

    #[test]
    fn what_control_takes_in_too_late_is_not_done() {
        let (mut desk, line, _poll) = desk();
        runtime().block_on(async {
            let asked = tokio::spawn(async move { line.ask(Caller::local("a"), Request::Status).await });
            until_asked(&desk, 1).await;
            assert_eq!(asked.await.unwrap(), Err(Silence::NotBegun), "the clock is the test's: nobody waits");
            assert!(desk.has_more() && desk.take_asked().is_empty());
        });
    }

    #[test]
    fn whoever_waits_for_a_disk_gives_up_and_makes_place() {
        let (mut desk, line, _poll) = desk();
        runtime().block_on(async {
            for _ in 0..QUESTIONS_MAX {
                let line = line.clone();
                tokio::spawn(async move { line.ask(Caller::local("a"), Request::Status).await });
            }
            until_asked(&desk, QUESTIONS_MAX).await;
            assert_eq!(line.ask(Caller::local("b"), Request::Status).await, Err(Silence::Busy));
            let mut taken = 0;
            while desk.has_more() {
                let asked = desk.take_asked();
                assert!(!asked.is_empty() && asked.len() <= AT_A_TIME);
                taken += asked.len();
            }
            assert_eq!(taken, QUESTIONS_MAX);
            let late = tokio::spawn({
                let line = line.clone();
                async move { line.ask(Caller::local("c"), Request::Status).await }
            });
            until_asked(&desk, 1).await;
            assert!(desk.take_asked().is_empty(), "all places are taken");
            assert_eq!(late.await.unwrap(), Err(Silence::NotBegun));
            tokio::time::sleep(PATIENCE + Duration::from_secs(1)).await;
            let asks = tokio::spawn(async move { line.ask(Caller::local("d"), Request::Status).await });
            until_asked(&desk, 1).await;
            let asked = desk.take_asked();
            assert_eq!(asked.len(), 1, "those who gave up make place");
            desk.answer(asked[0].client, done());
            assert_eq!(asks.await.unwrap(), Ok(done()));
        });
    }
}
