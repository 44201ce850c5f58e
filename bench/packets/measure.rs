//! Rounds: everything that is compared takes its turn in each, forwards in one and backwards in the next.

use std::time::{Duration, Instant};

use crate::cases::Case;
use crate::dataplane::Dataplane;
use crate::latency::{self, Latency};
use crate::machine::{Stage, note};
use crate::peer::{Peer, Peers};
use crate::sample::{Reading, Sample};
use crate::stop;
use crate::traffic::{Devices, Timing};

/// How far the part of dropped packets may be from what a case says.
const DROPPED_TOLERANCE: f64 = 0.01;

/// A worker that has less than one part in so many of its core is not waited for.
const PATIENCE: u32 = 10;

/// The case whose latency is measured.
const LATENCY_OF: &str = "hosts-64k";

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
    pub(crate) peers: Vec<(Peer, Vec<Sample>)>,
    /// What was found to be wrong with the measurement itself.
    pub(crate) doubts: Vec<String>,
}

impl Row {
    /// Samples of a peer.
    pub(crate) fn of(&self, peer: Peer) -> Option<&[Sample]> {
        self.peers.iter().find(|(p, _)| *p == peer).map(|(_, s)| s.as_slice())
    }
}

/// Everything measured.
pub(crate) struct Results {
    pub(crate) pace: Pace,
    pub(crate) rows: Vec<Row>,
    pub(crate) tsc_hz: u64,
    pub(crate) huge_tables: bool,
    pub(crate) latencies: Vec<Latency>,
    pub(crate) took: Duration,
    /// What could not be measured, and why.
    pub(crate) failures: Vec<String>,
}

impl Results {
    fn new(pace: &Pace) -> Results {
        Results {
            pace: *pace,
            rows: Vec::new(),
            tsc_hz: 0,
            huge_tables: true,
            latencies: Vec::new(),
            took: Duration::ZERO,
            failures: Vec::new(),
        }
    }
}

/// A turn in a round.
#[derive(Clone, Copy)]
enum Turn {
    /// The case of this index.
    Cordon(usize),
    /// The peer of this index.
    Peer(usize),
}

/// Measures all cases; neighbours with the same traffic together. What fails is told and left out. `keep` gets what there is
/// whenever there is more, so that a run that is interrupted leaves it.
pub(crate) fn all(
    stage: &Stage,
    cases: &[Case],
    pace: &Pace,
    mut keep: impl FnMut(&Results) -> Result<(), String>,
) -> Result<Results, String> {
    let began = Instant::now();
    let mut results = Results::new(pace);
    let mut done = 0;
    let alike = |a: &Case, b: &Case| a.traffic == b.traffic && a.brain == b.brain && a.inside == b.inside;
    for group in cases.chunk_by(alike) {
        let Some(first) = group.first() else { continue };
        let names: Vec<&str> = group.iter().map(|c| c.name).collect();
        let names = names.join(" ");
        let so_far = began.elapsed().as_secs();
        note(&format!("{so_far:>4} s: {}-{} of {}: {names}", done + 1, done + group.len(), cases.len()));
        done += group.len();
        let outcome = if first.traffic.devices == Devices::Cable && !stage.cables {
            Err("there is no virtual cable".to_owned())
        } else {
            measure(stage, group, first, &mut results)
        };
        go_on(outcome.map_err(|e| format!("{names}: {e}")), &mut results)?;
        results.took = began.elapsed();
        keep(&results)?;
    }
    if let Some(row) = results.rows.iter().find(|r| r.case.name == LATENCY_OF) {
        match latency::measure(stage, &row.case, &row.cordon, pace, results.tsc_hz) {
            Ok(latencies) => results.latencies = latencies,
            Err(e) => go_on(Err(format!("latency: {e}")), &mut results)?,
        }
    }
    results.took = began.elapsed();
    keep(&results)?;
    Ok(results)
}

/// Goes on after what has failed, unless somebody wants the run to end.
fn go_on(outcome: Result<(), String>, results: &mut Results) -> Result<(), String> {
    if let Err(e) = outcome {
        stop::check()?;
        note(&format!("NOT MEASURED: {e}"));
        results.failures.push(e);
    }
    Ok(())
}

/// Measures cases that share traffic, brain and peers with the first.
fn measure(stage: &Stage, cases: &[Case], first: &Case, results: &mut Results) -> Result<(), String> {
    let pace = results.pace;
    // Peers sleep until told to forward, the dataplane polls from the start.
    let mut peers = Peers::start(stage, &first.traffic, first.peers)?;
    let mut dataplane = Dataplane::start(stage, first, &Timing::default())?;
    dataplane.halt()?;
    results.tsc_hz = dataplane.tsc_hz();
    results.huge_tables &= dataplane.tables_are_huge();
    let mut turns: Vec<Turn> =
        (0..cases.len()).map(Turn::Cordon).chain((0..first.peers.len()).map(Turn::Peer)).collect();
    let mut cordon = vec![Vec::new(); cases.len()];
    let mut of_peers = vec![Vec::new(); first.peers.len()];
    for _ in 0..pace.rounds {
        for turn in &turns {
            match *turn {
                Turn::Cordon(i) => {
                    dataplane.go(&cases[i])?;
                    cordon[i].push(window(&pace, || dataplane.read())?);
                    dataplane.halt()?;
                }
                Turn::Peer(i) => {
                    peers.go(first.peers[i])?;
                    of_peers[i].push(window(&pace, || Ok(vec![peers.read(first.peers[i])?]))?);
                    peers.halt(first.peers[i])?;
                }
            }
        }
        turns.reverse();
    }
    let of_peers: Vec<(Peer, Vec<Sample>)> = first.peers.iter().copied().zip(of_peers).collect();
    results.rows.extend(cases.iter().zip(cordon).map(|(case, cordon)| {
        let doubts = doubts(case, &cordon, &of_peers);
        Row { case: *case, cordon, peers: of_peers.clone(), doubts }
    }));
    Ok(())
}

/// A measurement over `pace.window` of a worker's own time: one that has to share its core is watched for longer.
pub(crate) fn window(
    pace: &Pace,
    mut read: impl FnMut() -> Result<Vec<Reading>, String>,
) -> Result<Sample, String> {
    stop::nap(pace.warm_up)?;
    let from = read()?;
    let mut left = pace.window;
    loop {
        stop::nap(left)?;
        let sample = Sample::between(&from, &read()?);
        left = pace.window.saturating_sub(Duration::from_nanos(sample.on_cpu_ns / sample.workers.max(1)));
        // Not for the last bit: the kernel's clock of a thread moves in steps.
        if left < pace.window / 10 || Duration::from_nanos(sample.wall_ns) > pace.window * PATIENCE {
            return sample.checked();
        }
    }
}

/// Checks that what was measured is what the case says.
fn doubts(case: &Case, cordon: &[Sample], peers: &[(Peer, Vec<Sample>)]) -> Vec<String> {
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
    for (peer, samples) in peers {
        let lossy = samples.iter().filter(|s| s.odd != 0);
        doubts.extend(lossy.map(|s| format!("{}: {} of {} packets lost", peer.name(), s.odd, s.packets)));
    }
    doubts
}
