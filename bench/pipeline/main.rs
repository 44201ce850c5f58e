//! `cargo bench -p cordon --bench pipeline`: cycles a packet of the packet path alone, over an array of prepared packets, with
//! neither device nor control. Cases and packets are those of `bench/instructions`.
//!
//! A packet's cycles are the median over chunks of 64 bursts, each too short for others on the core to disturb many of
//! them; cases take turns in each round, after a pass over all packets that is not timed.

#[path = "../instructions/cases.rs"]
mod cases;
#[path = "../instructions/frames.rs"]
mod frames;

use std::fmt::Write as _;
use std::hint::black_box;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Parser;
use dpdk::tsc;
use pipeline::{BURST, Mode, Pipeline};
use region::{Facts, Policy, Verdict};
use serde_json::{Value, json};

use crate::cases::{CASES, Case};

/// Bursts between two looks at the clock.
const CHUNK: usize = 64;

/// Cycles a packet that this kind of machine was found to need with tables of this shape and nothing else around them.
const ORIENTATION: &[(&str, f64)] = &[
    ("one-flow", 40.0),
    ("hosts-64k-tcp", 60.0),
    ("hosts-64k-udp", 95.0),
    ("hosts-64k", 80.0),
    ("fresh", 125.0),
    ("fresh-1m", 200.0),
    ("flood-watched", 180.0),
    ("locked", 45.0),
];

type Failure = Box<dyn std::error::Error>;

/// Times the packet path alone.
#[derive(Debug, Parser)]
#[command(name = "pipeline")]
struct Arguments {
    /// Three rounds instead of nine
    #[arg(long)]
    quick: bool,
    /// Only cases whose name contains this (repeatable)
    #[arg(long, value_name = "NAME")]
    case: Vec<String>,
    /// What cargo says to a benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

/// Everything a worker needs, and its packets.
struct Stage {
    case: &'static Case,
    facts: Facts,
    policy: Policy,
    pipeline: Pipeline,
    bytes: Vec<u8>,
    /// One figure a round.
    cycles: Vec<f64>,
}

impl Stage {
    fn new(case: &'static Case) -> Result<Stage, Failure> {
        let (facts, policy) = case.tables()?;
        let pipeline = Pipeline::new(0, Mode::Inline, &facts);
        Ok(Stage { case, facts, policy, pipeline, bytes: frames::all(case), cycles: Vec::new() })
    }

    fn round(&mut self) {
        let mut verdicts = [Verdict::Forward; BURST];
        let mut chunk = Vec::with_capacity(CHUNK);
        let mut each = Vec::new();
        for pass in 0..2 {
            for first in (0..self.case.packets() / frames::BURST_U32).step_by(CHUNK) {
                chunk.clear();
                let numbers = (first..).take(CHUNK);
                chunk.extend(numbers.map(|n| frames::burst(self.case, &self.bytes, n)));
                let began = tsc();
                for burst in &chunk {
                    self.pipeline.poll(&self.facts, Some(&self.policy));
                    self.pipeline.run(&self.facts, Some(&self.policy), burst, &mut verdicts);
                    black_box(&verdicts);
                }
                if pass == 1 {
                    each.push(figure(tsc().wrapping_sub(began)) / figure((CHUNK * BURST) as u64));
                }
                // As control does: what was kept of watched hosts is read.
                self.policy.set_evidence_read(0, self.facts.evidence(0).head());
            }
        }
        self.cycles.push(median(&mut each));
    }
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
fn figure(n: u64) -> f64 {
    n as f64
}

fn median(figures: &mut [f64]) -> f64 {
    figures.sort_by(f64::total_cmp);
    let n = figures.len();
    if n == 0 { f64::NAN } else { f64::midpoint(figures[(n - 1) / 2], figures[n / 2]) }
}

/// Ticks of the TSC in a second.
fn tsc_hz() -> f64 {
    let (began, from) = (Instant::now(), tsc());
    while began.elapsed() < Duration::from_millis(50) {
        std::hint::spin_loop();
    }
    figure(tsc().wrapping_sub(from)) / began.elapsed().as_secs_f64()
}

fn rows(stages: &mut [Stage], hz: f64) -> (String, Vec<Value>) {
    let mut text = format!(
        "The packet path alone, TSC {:.2} GHz, bursts of {BURST}: TSC cycles a packet, median over rounds\n\n\
         {:<15}{:>7}  {:<15}{:>8}{:>12}\n",
        hz / 1e9,
        "",
        "cycles",
        "(least-most)",
        "Mpps",
        "orientation"
    );
    let mut values = Vec::new();
    for stage in stages {
        let cycles = median(&mut stage.cycles);
        let (least, most) = (stage.cycles[0], stage.cycles[stage.cycles.len() - 1]);
        let about = ORIENTATION.iter().find(|(name, _)| *name == stage.case.name).map(|(_, c)| *c);
        let shown = about.map_or(String::new(), |c| format!("{c:.0}"));
        let spread = format!("({least:.1}-{most:.1})");
        let _ = writeln!(
            text,
            "{:<15}{cycles:>7.1}  {spread:<15}{:>8.2}{shown:>12}  {}",
            stage.case.name,
            hz / cycles / 1e6,
            stage.case.what
        );
        values.push(json!({
            "name": stage.case.name, "what": stage.case.what, "hosts": stage.case.hosts,
            "cycles": cycles, "min": least, "max": most, "orientation": about,
        }));
    }
    (text, values)
}

fn main() -> Result<(), Failure> {
    let arguments = Arguments::parse();
    if !arguments.bench {
        return Ok(());
    }
    let wanted =
        |c: &&Case| arguments.case.is_empty() || arguments.case.iter().any(|w| c.name.contains(w.as_str()));
    let mut stages = CASES.iter().filter(wanted).map(Stage::new).collect::<Result<Vec<_>, _>>()?;
    for round in 0..if arguments.quick { 3 } else { 9 } {
        for i in 0..stages.len() {
            let last = stages.len() - 1;
            stages[if round % 2 == 0 { i } else { last - i }].round();
        }
    }
    let hz = tsc_hz();
    let (text, values) = rows(&mut stages, hz);
    io::stdout().write_all(text.as_bytes())?;
    let target =
        std::env::current_exe()?.ancestors().nth(3).map(PathBuf::from).ok_or("no target directory")?;
    std::fs::create_dir_all(target.join("bench"))?;
    let all = serde_json::to_string_pretty(&json!({ "tsc_hz": hz, "cases": values }))?;
    std::fs::write(target.join("bench/pipeline.json"), all + "\n")?;
    Ok(())
}
