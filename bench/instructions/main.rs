//! The packet path alone, on fixed inputs: what `valgrind --tool=callgrind` counts of it, or with `--time` what it takes.
//!
//! Only [`measured`] is counted (`--toggle-collect`), so that the making of packets is not; see
//! `tests/valgrind_instructions.rs`, which compares the counts with `budgets.txt`.

mod cases;
mod frames;

use std::hint::black_box;
use std::time::Instant;

use clap::Parser;
use pipeline::{BURST, Frame, Mode, Pipeline};
use region::{Facts, Policy, Verdict};

use crate::cases::{CASES, Case};

/// Rounds of `--time`; the best one counts, since others share the machine.
const ROUNDS: usize = 40;

/// Runs a case of the packet path: counted under callgrind, or timed.
#[derive(Debug, Parser)]
#[command(name = "cordon-instructions")]
struct Arguments {
    /// Name of a case; all of them for none
    case: Vec<String>,
    /// Print nanoseconds a packet, the best of several rounds
    #[arg(long)]
    time: bool,
    /// Show the cases
    #[arg(long)]
    list: bool,
}

/// Everything a worker needs.
struct Stage {
    facts: Facts,
    policy: Policy,
    pipeline: Pipeline,
}

impl Stage {
    #[inline(never)]
    fn pass(&mut self, bursts: &[[Frame<'_>; BURST]]) {
        let mut verdicts = [Verdict::Forward; BURST];
        for burst in bursts {
            self.pipeline.poll(&self.facts, Some(&self.policy));
            self.pipeline.run(&self.facts, Some(&self.policy), burst, &mut verdicts);
            black_box(&verdicts);
        }
    }
}

/// What callgrind counts; it is told the name.
#[inline(never)]
fn measured(stage: &mut Stage, bursts: &[[Frame<'_>; BURST]]) {
    black_box(&mut *stage).pass(bursts);
}

fn run(case: &Case, time: bool) -> Result<String, Box<dyn std::error::Error>> {
    let bytes = frames::all(case);
    let bursts = frames::bursts(case, &bytes);
    let (warm_up, counted) = bursts.split_at(bursts.len() / 2);
    let (facts, policy) = case.tables()?;
    let pipeline = Pipeline::new(0, Mode::Inline, &facts);
    let mut stage = Stage { facts, policy, pipeline };
    let packets = counted.len() * BURST;
    // Inserts IPv6 hosts, and leaves the state in which a worker spends its life.
    stage.pass(warm_up);
    if !time {
        measured(&mut stage, counted);
        return Ok(format!("{} {packets}", case.name));
    }
    let mut best = f64::INFINITY;
    for _ in 0..ROUNDS {
        let began = Instant::now();
        measured(&mut stage, counted);
        #[expect(clippy::cast_precision_loss, reason = "a few million nanoseconds")]
        let each = began.elapsed().as_nanos() as f64 / packets as f64;
        best = best.min(each);
    }
    Ok(format!("{:<14} {best:6.2} ns a packet", case.name))
}

#[expect(clippy::print_stdout, reason = "what it prints is what it is for")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments = Arguments::parse();
    for case in CASES {
        if !arguments.case.is_empty() && !arguments.case.iter().any(|c| c == case.name) {
            continue;
        }
        if arguments.list {
            println!("{:<14} {}", case.name, case.what);
        } else {
            println!("{}", run(case, arguments.time)?);
        }
    }
    Ok(())
}
