//! A deciding core of one's own for unit tests: facts and policy in memory, a clock that stands still until it is moved, and a
//! store that remembers what it was told.

use std::collections::VecDeque;
use std::sync::Arc;

use api::{LockRow, Payload, Request, Response};
use config::{Config, Rule};
use region::{Capacities, Facts, HostFlags, HostId, Policy};

use crate::claim::Question;
use crate::control::{Control, Use};
use crate::detect::{Finding, Level, Over};
use crate::effect::{ClientId, Effect, Loaded, Now, StoreOp};
use crate::history::HistoryOp;

/// What a test's clock begins at.
const BEGIN_NS: u64 = 1_000_000_000_000_000;
const UNIX_NS: i128 = 1_790_000_000_000_000_000;

pub(crate) struct Desk {
    pub(crate) control: Control,
    pub(crate) now: Now,
    /// Everything that was stored, in order.
    pub(crate) stored: Vec<StoreOp>,
    /// What it was told of histories.
    pub(crate) history: Vec<HistoryOp>,
    /// Questions that it was asked.
    pub(crate) questions: Vec<Question>,
    answers: VecDeque<Response>,
}

impl Desk {
    /// One network, 192.0.2.0/24, and these sections.
    pub(crate) fn new(sections: &str) -> Desk {
        Desk::with(sections, Loaded { hash_key: [1, 2], ..Loaded::default() }, 0)
    }

    /// The same beside a dataplane that lives.
    pub(crate) fn live(sections: &str) -> Desk {
        Desk::make(Use::Live, sections, Loaded { hash_key: [1, 2], ..Loaded::default() }, 0)
    }

    /// The same with what a store had, so many milliseconds later.
    pub(crate) fn with(sections: &str, loaded: Loaded, later_ms: u64) -> Desk {
        Desk::make(Use::Replay, sections, loaded, later_ms)
    }

    fn make(usage: Use, sections: &str, loaded: Loaded, later_ms: u64) -> Desk {
        let text = format!(
            "[tables]\nhosts = 256\nipv6_hosts = 16\n[[network]]\nprefix = \"192.0.2.0/24\"\n{sections}"
        );
        let config = Config::parse(&text, "test").expect("a configuration");
        let capacities = Capacities { workers: 1, hosts_v4: 256, hosts_v6: 16, locks: 1024 };
        let policy = Arc::new(Policy::anonymous(capacities, 64, [1, 2]).expect("memory"));
        let mut now = Now { mono_ns: BEGIN_NS, unix_ns: UNIX_NS };
        forward(&mut now, later_ms);
        let mut control = Control::new(usage, config, policy, loaded, now).expect("a core");
        control.attach(Arc::new(Facts::anonymous(capacities).expect("memory")), now);
        let mut desk = Desk {
            control,
            now,
            stored: Vec::new(),
            history: Vec::new(),
            questions: Vec::new(),
            answers: VecDeque::new(),
        };
        desk.wait(0);
        desk
    }

    /// Lets time pass, then a tick.
    pub(crate) fn wait(&mut self, ms: u64) {
        forward(&mut self.now, ms);
        self.control.tick(self.now);
        self.settle();
    }

    /// Asks as `root`, and answers for the disk.
    pub(crate) fn ask(&mut self, request: Request) -> Response {
        self.control.request(ClientId(1), "root", request, self.now);
        self.settle();
        self.answers.pop_front().expect("an answer")
    }

    /// Asks, and leaves the answer to the store.
    pub(crate) fn tell(&mut self, request: Request) {
        self.control.request(ClientId(1), "root", request, self.now);
        self.settle();
    }

    /// The rows of an answer that must be good.
    pub(crate) fn rows(&mut self, request: Request) -> Vec<LockRow> {
        match self.ask(request) {
            Response::Ok(Payload::Locks(rows)) => rows,
            other => panic!("{other:?}"),
        }
    }

    fn settle(&mut self) {
        loop {
            let effects = self.control.take_effects();
            if effects.is_empty() {
                return;
            }
            for effect in effects {
                match effect {
                    Effect::Store { batch, ops, .. } => {
                        self.stored.extend(ops);
                        self.control.stored(batch, Ok(()), self.now);
                    }
                    Effect::History(op) => self.history.push(op),
                    Effect::AskEvidence(_, question) => self.questions.push(*question),
                    Effect::Reply(_, response) => self.answers.push_back(response),
                    other => panic!("{other:?}"),
                }
            }
        }
    }

    /// A detector finds that the last byte's host crosses a limit.
    pub(crate) fn find(&mut self, host: u8, rule: Rule, level: Level) {
        let finding = Finding { rule, level, over: Over::Fast, limit: 5_000, observed: 9_000, scan: None };
        self.find_this(host, &finding);
    }

    /// The same, of any kind.
    pub(crate) fn find_this(&mut self, host: u8, finding: &Finding) {
        let id = self.control.networks().host_v4(0xc000_0200 | u32::from(host)).expect("a host");
        self.control.judge(id, "default", finding, &Default::default(), 1);
        self.settle();
    }

    /// Lock bits of the last byte's host.
    pub(crate) fn bits(&self, host: u8) -> u8 {
        let id: HostId = self.control.networks().host_v4(0xc000_0200 | u32::from(host)).expect("a host");
        self.control.policy().flags().get(id).0 & (HostFlags::LOCK_OUT | HostFlags::LOCK_IN)
    }

    /// The audit log.
    pub(crate) fn audit(&self) -> Vec<&str> {
        let what = self.stored.iter().filter_map(|op| match op {
            StoreOp::Audit { what, .. } => Some(what.as_str()),
            _ => None,
        });
        what.collect()
    }
}

fn forward(now: &mut Now, ms: u64) {
    now.mono_ns += ms * 1_000_000;
    now.unix_ns += i128::from(ms) * 1_000_000;
}
