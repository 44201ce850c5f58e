//! Rounds: everything that is compared takes its turn in each, forwards in one and backwards in the next.

use std::time::{Duration, Instant};

use crate::cases::{Case, Traffic};
use crate::dataplane::Dataplane;
use crate::machine::{Stage, note};
use crate::sample::{Reading, Sample};
use crate::stop;
use crate::testpmd::{MODES, Testpmd};

/// How far the part of dropped packets may be from what a case says.
const DROPPED_TOLERANCE: f64 = 0.01;

/// A worker that has less than one part in so many of its core is not waited for.
const PATIENCE: u32 = 10;

/// How long and how often.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    pub(crate) rounds: u16,
    pub(crate) window: Duration,
    /// Between the start of a turn and its measurement.
    pub(crate) warm_up: Duration,
}

/// A case with its samples, one a round.
pub(crate) struct Row {
    pub(crate) case: Case,
    pub(crate) cordon: Vec<Sample>,
    /// By [`MODES`].
    pub(crate) testpmd: [Vec<Sample>; MODES.len()],
    /// What was found to be wrong with the measurement itself.
    pub(crate) doubts: Vec<String>,
}

/// Everything measured.
pub(crate) struct Results {
    pub(crate) pace: Pace,
    pub(crate) rows: Vec<Row>,
    pub(crate) tsc_hz: u64,
    pub(crate) huge_tables: bool,
    pub(crate) took: Duration,
}

/// A turn in a round.
#[derive(Clone, Copy)]
enum Turn {
    /// The case of this index.
    Cordon(usize),
    /// The mode of this index.
    Testpmd(usize),
}

/// Measures all cases; neighbours with the same traffic together.
pub(crate) fn all(stage: &Stage, cases: &[Case], pace: &Pace) -> Result<Results, String> {
    let began = Instant::now();
    let mut results =
        Results { pace: *pace, rows: Vec::new(), tsc_hz: 0, huge_tables: true, took: Duration::ZERO };
    let mut done = 0;
    for group in cases.chunk_by(|a, b| a.traffic == b.traffic) {
        let Some(first) = group.first() else { continue };
        let names: Vec<&str> = group.iter().map(|c| c.name).collect();
        note(&format!("{}-{} of {}: {}", done + 1, done + group.len(), cases.len(), names.join(" ")));
        done += group.len();
        results.rows.extend(
            measure(stage, &first.traffic, group, pace, &mut results.tsc_hz, &mut results.huge_tables)
                .map_err(|e| format!("{}: {e}", first.name))?,
        );
    }
    results.took = began.elapsed();
    Ok(results)
}

fn measure(
    stage: &Stage,
    traffic: &Traffic,
    cases: &[Case],
    pace: &Pace,
    tsc_hz: &mut u64,
    huge_tables: &mut bool,
) -> Result<Vec<Row>, String> {
    // testpmd sleeps until told to forward, the dataplane polls from the start.
    let mut testpmd = Testpmd::start(stage, traffic)?;
    let mut dataplane = Dataplane::start(stage, traffic)?;
    dataplane.halt()?;
    *tsc_hz = dataplane.tsc_hz();
    *huge_tables &= dataplane.tables_are_huge();
    let mut turns: Vec<Turn> =
        (0..cases.len()).map(Turn::Cordon).chain((0..MODES.len()).map(Turn::Testpmd)).collect();
    let mut cordon = vec![Vec::new(); cases.len()];
    let mut modes: [Vec<Sample>; MODES.len()] = Default::default();
    for _ in 0..pace.rounds {
        for turn in &turns {
            match *turn {
                Turn::Cordon(i) => {
                    dataplane.go(&cases[i].locks)?;
                    cordon[i].push(window(pace, || dataplane.read())?);
                    dataplane.halt()?;
                }
                Turn::Testpmd(i) => {
                    testpmd.go(MODES[i].0)?;
                    modes[i].push(window(pace, || testpmd.read())?);
                    testpmd.halt()?;
                }
            }
        }
        turns.reverse();
    }
    let rows = cases.iter().zip(cordon).map(|(case, cordon)| {
        let doubts = doubts(case, &cordon, &modes);
        Row { case: *case, cordon, testpmd: modes.clone(), doubts }
    });
    Ok(rows.collect())
}

/// A measurement over `pace.window` of the worker's own time: one that has to share its core is watched for longer.
fn window(pace: &Pace, mut read: impl FnMut() -> Result<Reading, String>) -> Result<Sample, String> {
    stop::nap(pace.warm_up)?;
    let from = read()?;
    let mut left = pace.window;
    loop {
        stop::nap(left)?;
        let sample = Sample::between(&from, &read()?);
        left = pace.window.saturating_sub(Duration::from_nanos(sample.on_cpu_ns));
        // Not for the last bit: the kernel's clock of a thread moves in steps.
        if left < pace.window / 10 || Duration::from_nanos(sample.wall_ns) > pace.window * PATIENCE {
            return sample.checked();
        }
    }
}

/// Checks that what was measured is what the case says.
fn doubts(case: &Case, cordon: &[Sample], modes: &[Vec<Sample>]) -> Vec<String> {
    let mut doubts = Vec::new();
    let expected = f64::from(case.locks.percent) / 100.0;
    for s in cordon {
        if (s.dropped_share() - expected).abs() > DROPPED_TOLERANCE {
            doubts.push(format!(
                "{:.1} % were dropped as locked, not {:.0} %",
                s.dropped_share() * 100.0,
                expected * 100.0
            ));
        }
        if s.odd != 0 {
            doubts
                .push(format!("cordon: {} of {} packets lost, malformed or in no network", s.odd, s.packets));
        }
    }
    for (samples, (mode, _)) in modes.iter().zip(MODES) {
        doubts.extend(
            samples
                .iter()
                .filter(|s| s.odd != 0)
                .map(|s| format!("{mode}: {} of {} packets lost", s.odd, s.packets)),
        );
    }
    doubts
}
