//! The packet path alone, on fixed inputs: what `valgrind --tool=callgrind` counts of it; `bench/pipeline` times it.
//!
//! Only [`measured`] is counted (`--toggle-collect`), so that the making of packets is not; see
//! `tests/valgrind_instructions.rs`, which compares the counts with `budgets.txt`.

mod cases;
mod frames;

use std::hint::black_box;

use clap::Parser;
use pipeline::{BURST, Frame, Mode, Pipeline};
use region::{Facts, Policy, Verdict};

use crate::cases::{CASES, Case};

/// Runs a case of the packet path: counted under callgrind.
#[derive(Debug, Parser)]
#[command(name = "cordon-instructions")]
struct Arguments {
    /// Name of a case; all of them for none
    case: Vec<String>,
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

fn run(case: &Case) -> Result<String, Box<dyn std::error::Error>> {
    let bytes = frames::all(case);
    let bursts: Vec<_> =
        (0..case.packets() / frames::BURST_U32).map(|n| frames::burst(case, &bytes, n)).collect();
    let (warm_up, counted) = bursts.split_at(bursts.len() / 2);
    let (facts, policy) = case.tables()?;
    let pipeline = Pipeline::new(0, Mode::Inline, &facts);
    let mut stage = Stage { facts, policy, pipeline };
    let packets = counted.len() * BURST;
    // Inserts IPv6 hosts, and leaves the state in which a worker spends its life.
    stage.pass(warm_up);
    measured(&mut stage, counted);
    Ok(format!("{} {packets}", case.name))
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
            println!("{}", run(case)?);
        }
    }
    Ok(())
}
