//! The burst loop: one thread for each queue, pinned, polling that queue of both ports of every wire.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use dpdk::{BURST, Burst, Registration, RxQueue, TxQueue, tsc};
use pipeline::{Frame, Mode, Pipeline};
use region::facts::add;
use region::{Facts, Policy, Side, Verdict};

use crate::slot::PolicyHandle;

/// One direction through a wire: what is received on one port is sent on the other.
pub(crate) struct Lane {
    pub(crate) rx: RxQueue,
    pub(crate) tx: TxQueue,
    pub(crate) side: Side,
    /// The wire shows the servers' own segment.
    pub(crate) segment: bool,
}

/// Everything a worker thread owns.
pub(crate) struct Worker {
    pub(crate) index: usize,
    pub(crate) lanes: Vec<Lane>,
    pub(crate) facts: Arc<Facts>,
    pub(crate) policy: PolicyHandle,
    pub(crate) stop: Arc<AtomicBool>,
    /// Zero on an appliance; on machines without cores to spare the worker sleeps so long when all queues are empty.
    pub(crate) idle_sleep: Duration,
}

impl Worker {
    /// Polls until told to stop.
    pub(crate) fn run(mut self) -> Result<(), dpdk::Error> {
        let _registration = Registration::register()?;
        let mut path = Pipeline::new(self.index, Mode::Inline, &self.facts);
        let mut burst = Burst::new();
        let Some(counters) = self.facts.workers().get(self.index) else { return Ok(()) };
        while !self.stop.load(Relaxed) {
            let began = tsc();
            let policy = self.policy.refresh();
            path.poll(&self.facts, policy);
            let mut received = 0;
            for lane in &mut self.lanes {
                received += lane.pass(&mut path, &mut burst, &self.facts, policy, began);
            }
            add(&counters.polls, 1);
            counters.last_tsc.store(began, Relaxed);
            if received > 0 {
                add(&counters.busy_polls, 1);
                add(&counters.busy_cycles, tsc().wrapping_sub(began));
            } else if !self.idle_sleep.is_zero() {
                std::thread::sleep(self.idle_sleep);
            }
        }
        Ok(())
    }
}

impl Lane {
    /// One burst: receive, judge, send, and free what is not sent.
    #[inline]
    fn pass(
        &mut self,
        path: &mut Pipeline,
        burst: &mut Burst,
        facts: &Facts,
        policy: Option<&Policy>,
        time: u64,
    ) -> usize {
        let n = self.rx.receive(burst);
        if n == 0 {
            return 0;
        }
        burst.prefetch_headers();
        let mut verdicts = [Verdict::Forward; BURST];
        let mut frames = [Frame::default(); BURST];
        for (f, (bytes, length)) in frames.iter_mut().zip(burst.iter()) {
            *f = Frame { bytes, length, side: self.side, time, segment: self.segment };
        }
        let passed = path.run(facts, policy, &frames[..n], &mut verdicts[..n]);
        if passed.packets != n as u64 {
            burst.retain(|i| !verdicts[i].is_drop());
        }
        let sent = if burst.is_empty() { 0 } else { self.tx.send(burst) };
        let left: u64 = burst.iter().map(|(_, length)| u64::from(length)).sum();
        let full = (burst.len() as u64, left);
        path.transmitted(facts, self.side, (sent as u64, passed.bytes - left), full);
        burst.free();
        n
    }
}
