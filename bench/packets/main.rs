//! `cargo bench -p cordon`: packets a second and cycles a packet of the real `cordon-dataplane`, one worker, beside
//! `dpdk-testpmd` and `l3fwd` on the same virtual devices in the same run. See [`args`] for options, [`cases`] for what is measured.
#![forbid(unsafe_code)]

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;

mod args;
mod cable;
mod cases;
mod child;
mod claims;
mod control;
mod dataplane;
mod l3fwd;
mod latency;
mod locks;
mod machine;
mod measure;
mod peer;
mod report;
mod sample;
mod stop;
mod telemetry;
mod testpmd;
mod traffic;

use args::Arguments;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(report) => {
            // Nobody can be told that this failed.
            let _ = io::stdout().write_all(report.text.as_bytes());
            if report.failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(message) => {
            let _ = writeln!(io::stderr(), "bench: {message}");
            ExitCode::FAILURE
        }
    }
}

/// What is to be printed, and how much could not be measured.
struct Report {
    text: String,
    failures: usize,
}

fn run(arguments: &Arguments) -> Result<Report, String> {
    let only = |text: String| Ok(Report { text, failures: 0 });
    if arguments.list {
        return only(cases::list());
    }
    let chosen = cases::chosen(&arguments.case)?;
    if !arguments.bench {
        let advice = "This program loads a core for minutes; it is started by: cargo bench -p cordon\n";
        return only(advice.to_owned());
    }
    let stage = machine::Stage::prepare(arguments.dataplane.as_deref(), arguments.small_pages)?;
    // A choice of cases leaves the results of a whole run alone: the performance page is made of those.
    let name = if arguments.case.is_empty() { "packets.json" } else { "packets-chosen.json" };
    let path = stage.out.join(name);
    let keep = |results: &measure::Results| report::write_json(&path, &stage, results);
    let results = measure::all(&stage, &chosen, &arguments.pace(), keep)?;
    let text = report::table(&stage, &results) + &format!("\nEvery sample stands in {}\n", path.display());
    Ok(Report { text, failures: results.failures.len() })
}
