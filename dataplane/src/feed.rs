//! The demo's feed: plays a capture into `net_ring` ports at its own pace, each packet on the side its source is on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use capture::{Capture, CaptureError};
use dpdk::{Burst, Pool, Registration, RingPort};
use region::{Addr, Class, Side};

use crate::log;
use crate::plan::FeedPlan;

/// Most of a wait that is spent in one piece, so that stopping takes no longer.
const NAP: Duration = Duration::from_millis(20);
/// The longest silence of a capture that is played: recorded clocks jump by years.
const SILENCE_MAX_NS: i128 = 60_000_000_000;

/// Everything the feeding thread owns.
pub(crate) struct Feed {
    pub(crate) plan: FeedPlan,
    /// Far ends of the inside and the outside port.
    pub(crate) ends: [RingPort; 2],
    pub(crate) pool: Pool,
    pub(crate) stop: Arc<AtomicBool>,
    /// Packets that found no buffer or no place in a ring.
    pub(crate) lost: u64,
}

impl Feed {
    /// Plays the capture once, or again and again, until told to stop.
    pub(crate) fn run(mut self) {
        let _registration = match Registration::register() {
            Ok(r) => r,
            Err(e) => return log::error(&format!("the feed cannot run: {e}")),
        };
        let mut rounds = 0u64;
        loop {
            let played = match self.play() {
                Ok(packets) => packets,
                Err(e) => return log::error(&format!("feed: {e}")),
            };
            rounds += 1;
            // A short capture is over a thousand times a second: said once, and summed up at the end.
            if rounds == 1 {
                let again = if self.plan.repeat && played > 0 { ", again and again" } else { "" };
                let (file, lost) = (self.plan.capture.display(), self.lost);
                log::info(&format!("feed: {played} packets of {file} played, {lost} of them lost{again}"));
            }
            if !self.plan.repeat || played == 0 || self.stop.load(Relaxed) {
                break;
            }
        }
        self.drain_until_stopped();
        if rounds > 1 {
            log::info(&format!("feed: played {rounds} times, {} packets lost in all", self.lost));
        }
    }

    fn play(&mut self) -> Result<u64, CaptureError> {
        let mut file = Capture::open(&self.plan.capture)?;
        let (mut last, mut since, mut played) = (None, 0i128, 0u64);
        let began = Instant::now();
        let mut bursts = [Burst::new(), Burst::new()];
        while let Some(p) = file.next_packet()? {
            if self.stop.load(Relaxed) {
                break;
            }
            since += (p.time_ns - last.replace(p.time_ns).unwrap_or(p.time_ns)).clamp(0, SILENCE_MAX_NS);
            #[expect(clippy::cast_precision_loss, reason = "a pace, not a count")]
            let due =
                began + Duration::try_from_secs_f64(since as f64 / 1e9 / self.plan.speed).unwrap_or_default();
            if due > Instant::now() {
                self.push(&mut bursts);
                wait_until(due, &self.stop);
                self.drain();
            }
            let side = self.side_of(p.bytes);
            let burst = &mut bursts[side.index()];
            if !burst.push_copy(&self.pool, p.bytes) {
                self.push(&mut bursts);
                self.lost += u64::from(!bursts[side.index()].push_copy(&self.pool, p.bytes));
            }
            played += 1;
        }
        if let Some(damage) = file.damage() {
            log::warning(&format!("feed: {damage}"));
        }
        self.push(&mut bursts);
        Ok(played)
    }

    fn side_of(&self, bytes: &[u8]) -> Side {
        let p = pipeline::parse::parse(bytes, u32::try_from(bytes.len()).unwrap_or(0));
        let source = match p.class {
            Class::Ipv4 => Addr::V4(u32::try_from(p.source).unwrap_or(0)).as_u128(),
            _ => p.source,
        };
        let internal = self.plan.internal.iter().any(|r| r.contains(source));
        if internal { Side::Inside } else { Side::Outside }
    }

    /// Hands over what waits. A full ring means the worker is behind: as on a NIC, what does not fit is lost.
    fn push(&mut self, bursts: &mut [Burst; 2]) {
        for (end, burst) in self.ends.iter_mut().zip(bursts) {
            end.push(0, burst);
            self.lost += burst.len() as u64;
            burst.free();
        }
        self.drain();
    }

    /// Frees what the ports have sent: the demo's servers and internet.
    fn drain(&mut self) {
        let mut burst = Burst::new();
        for end in &mut self.ends {
            for q in 0..end.queues() {
                while end.pop(q, &mut burst) > 0 {
                    burst.free();
                }
            }
        }
    }

    fn drain_until_stopped(&mut self) {
        while !self.stop.load(Relaxed) {
            self.drain();
            std::thread::sleep(NAP);
        }
    }
}

/// Waits for a packet's time: the pace is what is played, there is no event to wait for.
fn wait_until(due: Instant, stop: &AtomicBool) {
    loop {
        let left = due.saturating_duration_since(Instant::now());
        if left.is_zero() || stop.load(Relaxed) {
            return;
        }
        std::thread::sleep(left.min(NAP));
    }
}
