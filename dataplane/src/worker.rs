//! The burst loop: one thread for each queue, pinned, polling that queue of both ports of every wire.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use dpdk::{BURST, Burst, Registration, RxQueue, TxQueue, tsc};
use pipeline::{Frame, Mode, Pipeline};
use region::facts::add;
use region::{Facts, Policy, Side, Verdict};

use crate::slot::PolicyHandle;

/// Bursts, full ones as they came, for which packets wait at most for company: with two ports some 10 us.
const HELD_BURSTS_MAX: u32 = 4;
/// Looks at all queues in a row that found nothing, after which a worker that may sleep does so. A gap between two packets
/// of a busy wire is shorter.
const IDLE_POLLS: u32 = 64;

/// One direction through a wire: what is received on one port is sent on the other.
pub(crate) struct Lane {
    pub(crate) rx: RxQueue,
    pub(crate) tx: TxQueue,
    pub(crate) side: Side,
    /// The wire shows the servers' own segment.
    pub(crate) segment: bool,
    held: Held,
}

/// What was judged and waits to be sent with more.
///
/// A transmit costs a system call or a NIC's doorbell, however few packets it takes. Of a full burst whose packets are
/// mostly locked few are left, and behind it more are waiting; behind any other burst there is nothing to wait for.
#[derive(Default)]
struct Held {
    packets: Burst,
    /// Bursts for which the oldest has waited.
    bursts: u32,
}

impl Held {
    /// Whether packets have to go now: all that there is room for are together, the receive queue has run empty, or the
    /// oldest has waited long enough.
    fn is_due(&self, queue_ran_empty: bool) -> bool {
        self.packets.len() == BURST || queue_ran_empty || self.bursts >= HELD_BURSTS_MAX
    }
}

/// Everything a worker thread owns.
pub(crate) struct Worker {
    pub(crate) index: usize,
    pub(crate) lanes: Vec<Lane>,
    pub(crate) facts: Arc<Facts>,
    pub(crate) policy: PolicyHandle,
    pub(crate) stop: Arc<AtomicBool>,
    /// Zero on an appliance; on machines without cores to spare the worker sleeps so long when all queues have been empty
    /// for a while.
    pub(crate) idle_sleep: Duration,
}

impl Worker {
    /// Polls until told to stop.
    pub(crate) fn run(mut self) -> Result<(), dpdk::Error> {
        let _registration = Registration::register()?;
        let mut path = Pipeline::new(self.index, Mode::Inline, &self.facts);
        let mut burst = Burst::new();
        let Some(counters) = self.facts.workers().get(self.index) else { return Ok(()) };
        if !self.idle_sleep.is_zero() {
            // Else the kernel adds 50 us to every sleep. Should it refuse, sleeps are that much longer.
            let _ = nix::sys::prctl::set_timerslack(1);
        }
        let mut idle_polls = 0;
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
                idle_polls = 0;
            } else if idle_polls < IDLE_POLLS {
                idle_polls += 1;
            } else if !self.idle_sleep.is_zero() {
                std::thread::sleep(self.idle_sleep);
            }
        }
        for lane in &mut self.lanes {
            lane.flush(&path, &self.facts);
        }
        Ok(())
    }
}

impl Lane {
    /// What is received on `rx` goes out on `tx`.
    pub(crate) fn new(rx: RxQueue, tx: TxQueue, side: Side, segment: bool) -> Lane {
        Lane { rx, tx, side, segment, held: Held::default() }
    }

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
            if !self.held.packets.is_empty() {
                self.flush(path, facts);
            }
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
        let alone = self.held.packets.is_empty() && (passed.packets == n as u64 || n < BURST);
        if alone {
            self.send(path, facts, burst, passed.bytes);
        } else {
            self.gather(path, facts, burst, n < BURST);
        }
        n
    }

    /// Puts what is left of a burst to what waits already, in order, and sends what is due.
    #[inline(never)]
    fn gather(&mut self, path: &Pipeline, facts: &Facts, burst: &mut Burst, queue_ran_empty: bool) {
        self.held.packets.take_from(burst);
        if !burst.is_empty() {
            self.flush(path, facts);
            self.held.packets.take_from(burst);
        }
        self.held.bursts += 1;
        if self.held.is_due(queue_ran_empty) {
            self.flush(path, facts);
        }
    }

    /// Sends what waits.
    fn flush(&mut self, path: &Pipeline, facts: &Facts) {
        let mut packets = std::mem::take(&mut self.held.packets);
        self.held.bursts = 0;
        let bytes = packets.bytes();
        self.send(path, facts, &mut packets, bytes);
    }

    /// Sends a burst of so many bytes, counts what was and what was not sent, and frees that.
    #[inline]
    fn send(&mut self, path: &Pipeline, facts: &Facts, burst: &mut Burst, bytes: u64) {
        let sent = if burst.is_empty() { 0 } else { self.tx.send(burst) };
        let left = burst.bytes();
        let full = (burst.len() as u64, left);
        path.transmitted(facts, self.side, (sent as u64, bytes - left), full);
        burst.free();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_wait_for_no_more_than_a_few_full_bursts() {
        let mut held = Held::default();
        for bursts in 1..HELD_BURSTS_MAX {
            held.bursts = bursts;
            assert!(!held.is_due(false), "more is coming, and it has waited for {bursts} bursts");
            assert!(held.is_due(true), "nothing more to wait for");
        }
        held.bursts = HELD_BURSTS_MAX;
        assert!(held.is_due(false));
    }
}
