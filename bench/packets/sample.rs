//! Readings of a worker, and what lies between two of them.

use std::time::Instant;

/// Counters of a worker at one instant.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reading {
    pub(crate) at: Instant,
    pub(crate) on_cpu_ns: u64,
    pub(crate) packets: u64,
    pub(crate) bytes: u64,
    /// Of `packets`, those dropped on purpose.
    pub(crate) dropped: u64,
    /// Of `packets`, those that should not be: lost, malformed, in no network.
    pub(crate) odd: u64,
    /// TSC cycles that the worker itself counts as busy; zero where it does not count.
    pub(crate) busy_cycles: u64,
    /// Workers whose counters these are.
    pub(crate) threads: u64,
}

/// One measurement, over all workers that had packets.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    pub(crate) wall_ns: u64,
    /// Of all workers together.
    pub(crate) on_cpu_ns: u64,
    pub(crate) workers: u64,
    pub(crate) packets: u64,
    pub(crate) bytes: u64,
    pub(crate) dropped: u64,
    pub(crate) odd: u64,
    pub(crate) busy_cycles: u64,
    /// Packets in a second of each worker's own time, added up.
    pub(crate) pps: f64,
}

impl Sample {
    /// What happened between two readings of each worker.
    pub(crate) fn between(from: &[Reading], to: &[Reading]) -> Sample {
        let mut all = Sample {
            wall_ns: 0,
            on_cpu_ns: 0,
            workers: 0,
            packets: 0,
            bytes: 0,
            dropped: 0,
            odd: 0,
            busy_cycles: 0,
            pps: 0.0,
        };
        for (from, to) in from.iter().zip(to) {
            let wall = to.at.duration_since(from.at).as_nanos();
            all.wall_ns = all.wall_ns.max(u64::try_from(wall).unwrap_or(u64::MAX));
            let packets = to.packets.saturating_sub(from.packets);
            if packets == 0 {
                continue;
            }
            let on_cpu_ns = to.on_cpu_ns.saturating_sub(from.on_cpu_ns);
            all.workers += to.threads;
            all.on_cpu_ns += on_cpu_ns;
            all.packets += packets;
            all.bytes += to.bytes.saturating_sub(from.bytes);
            all.dropped += to.dropped.saturating_sub(from.dropped);
            all.odd += to.odd.saturating_sub(from.odd);
            all.busy_cycles += to.busy_cycles.wrapping_sub(from.busy_cycles);
            all.pps += ratio(packets * to.threads, on_cpu_ns) * 1e9;
        }
        all
    }

    /// An error when nothing happened.
    pub(crate) fn checked(self) -> Result<Sample, String> {
        if self.packets == 0 || self.on_cpu_ns == 0 {
            return Err(format!(
                "no packet came in {} ms, of which the worker had its core for {}",
                self.wall_ns / 1_000_000,
                self.on_cpu_ns / 1_000_000
            ));
        }
        Ok(self)
    }

    /// TSC cycles of a worker's own time for a packet.
    pub(crate) fn cycles(&self, tsc_hz: u64) -> f64 {
        ratio(self.on_cpu_ns, self.packets) * ratio(tsc_hz, 1_000_000_000)
    }

    /// Part of the time in which a worker had its core.
    pub(crate) fn core_share(&self) -> f64 {
        ratio(self.on_cpu_ns, self.wall_ns * self.workers)
    }

    /// Part of its packets that were dropped on purpose.
    pub(crate) fn dropped_share(&self) -> f64 {
        ratio(self.dropped, self.packets)
    }
}

/// Median, least and most of some figures.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

impl Spread {
    /// Of at least one figure.
    pub(crate) fn of(figures: impl IntoIterator<Item = f64>) -> Spread {
        let mut all: Vec<f64> = figures.into_iter().collect();
        all.sort_by(f64::total_cmp);
        let at = |i: usize| all.get(i).copied().unwrap_or(f64::NAN);
        let n = all.len().max(1);
        Spread { median: (at((n - 1) / 2) + at(n / 2)) / 2.0, least: at(0), most: at(n - 1) }
    }
}

/// a / b as a figure to show.
#[expect(clippy::cast_precision_loss, reason = "figures to show, far below 2^53")]
pub(crate) fn ratio(a: u64, b: u64) -> f64 {
    a as f64 / b as f64
}
