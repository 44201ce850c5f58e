//! How long packets are on their way through the box: they arrive by the clock at parts of the rate that it was seen to
//! forward, and the source counts, when they leave, how long ago they came.

use std::fs;
use std::path::{Path, PathBuf};

use region::Side;

use crate::cases::Case;
use crate::dataplane::Dataplane;
use crate::machine::{Stage, note};
use crate::measure::{Pace, window};
use crate::peer::Peer;
use crate::sample::{Sample, Spread, ratio};
use crate::stop;
use crate::testpmd::Testpmd;
use crate::traffic::Timing;

/// Loads, per cent of what was seen to be forwarded.
const LOADS: [u32; 3] = [10, 50, 90];
/// Bins of a gauge: one tick each up to here, then so many for each power of two (`bench/source/source.h`).
const STEPS: usize = 32;
const BINS: usize = 1184;

/// Longest sleep of an idle worker that may be configured.
pub(crate) const IDLE_US: u32 = 100;

/// Latencies at a load.
pub(crate) struct Latency {
    pub(crate) load_percent: u32,
    /// Packets a second, both sides together.
    pub(crate) offered: f64,
    pub(crate) cordon: Quantiles,
    /// With workers that sleep when idle, [`IDLE_US`] at a time.
    pub(crate) sleeper: Quantiles,
    /// Packets lost in the receive rings, in the same order.
    pub(crate) missed: [u64; 2],
    /// `testpmd io` at the same rate.
    pub(crate) testpmd: Quantiles,
}

/// In microseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Quantiles {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
}

/// Measures a case whose most packets a second are known.
pub(crate) fn measure(
    stage: &Stage,
    case: &Case,
    samples: &[Sample],
    pace: &Pace,
    tsc_hz: u64,
) -> Result<Vec<Latency>, String> {
    let most = Spread::of(samples.iter().map(|s| s.pps)).median;
    let mut all = Vec::new();
    for load_percent in LOADS {
        note(&format!("latency of {} at {load_percent} % load", case.name));
        let offered = most * f64::from(load_percent) / 100.0;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "some million packets")]
        let rate = (offered / 2.0) as u32;
        let (cordon, missed) = of_cordon(stage, case, pace, rate, tsc_hz)?;
        let sleeps = Case { idle_us: IDLE_US, ..*case };
        let (sleeper, missed_asleep) = of_cordon(stage, &sleeps, pace, rate, tsc_hz)?;
        let missed = [missed, missed_asleep];
        let theirs = timing(stage, "testpmd", rate);
        let mut testpmd = Testpmd::start_timed(stage, &case.traffic, &theirs)?;
        testpmd.go(Peer::Testpmd("io").name())?;
        let testpmd = quantiles(&theirs, tsc_hz, || window(pace, || Ok(vec![testpmd.read()?])).map(|_| ()))?;
        all.push(Latency { load_percent, offered, cordon, sleeper, missed, testpmd });
    }
    Ok(all)
}

/// Latencies of a dataplane of its own, and packets that it missed.
fn of_cordon(
    stage: &Stage,
    case: &Case,
    pace: &Pace,
    rate: u32,
    tsc_hz: u64,
) -> Result<(Quantiles, u64), String> {
    let timing = timing(stage, "own", rate);
    let mut dataplane = Dataplane::start(stage, case, &timing)?;
    dataplane.go(case)?;
    stop::nap(pace.warm_up)?;
    let before = dataplane.missed()?;
    // By the clock: one that sleeps uses little of its core.
    let quantiles = quantiles(&timing, tsc_hz, || stop::nap(pace.window * 2))?;
    dataplane.read()?;
    Ok((quantiles, dataplane.missed()? - before))
}

fn timing(stage: &Stage, name: &str, rate: u32) -> Timing {
    let gauge = |side: Side| {
        let path = stage.memory.join(format!("gauge-{name}-{}", side.name()));
        // A new one, of zeros.
        let _ = fs::remove_file(&path);
        path.display().to_string()
    };
    Timing { rate, gauges: Side::ALL.map(gauge) }
}

/// What the gauges count while `measure` goes on.
fn quantiles(
    timing: &Timing,
    tsc_hz: u64,
    measure: impl FnOnce() -> Result<(), String>,
) -> Result<Quantiles, String> {
    let read = || -> Result<Vec<u64>, String> {
        let mut sum = vec![0; BINS];
        for path in &timing.gauges {
            for (s, b) in sum.iter_mut().zip(bins(Path::new(path))?) {
                *s += b;
            }
        }
        Ok(sum)
    };
    let before = read()?;
    measure()?;
    let during: Vec<u64> = read()?.iter().zip(&before).map(|(a, b)| a - b).collect();
    let us = |quantile: f64| ratio(at(&during, quantile), tsc_hz) * 1e6;
    Ok(Quantiles { p50: us(0.5), p99: us(0.99), p999: us(0.999) })
}

fn bins(path: &Path) -> Result<Vec<u64>, String> {
    let bytes = fs::read(path).map_err(|e| format!("read({}): {e}", PathBuf::from(path).display()))?;
    let words = bytes.chunks_exact(8).map(|w| u64::from_ne_bytes(w.try_into().unwrap_or_default()));
    Ok(words.collect())
}

/// The upper end, in ticks, of the bin in which a quantile lies.
fn at(bins: &[u64], quantile: f64) -> u64 {
    let total: u64 = bins.iter().sum();
    let mut seen = 0;
    for (i, n) in bins.iter().enumerate() {
        seen += n;
        if ratio(seen, total) >= quantile {
            return upper_end(i);
        }
    }
    0
}

fn upper_end(bin: usize) -> u64 {
    if bin < STEPS {
        return bin as u64;
    }
    let (power, step) = (bin / STEPS - 1, bin % STEPS);
    ((STEPS + step + 1) as u64) << power
}
