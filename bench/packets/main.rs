//! `cargo bench -p cordon`: packets a second and cycles a packet of the real `cordon-dataplane`, one worker, beside
//! `dpdk-testpmd` and `l3fwd` on the same virtual devices in the same run. See [`args`] for options, [`cases`] for what is measured.
#![forbid(unsafe_code)]

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;

mod args;
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
        Ok(text) => {
            // Nobody can be told that this failed.
            let _ = io::stdout().write_all(text.as_bytes());
            ExitCode::SUCCESS
        }
        Err(message) => {
            let _ = writeln!(io::stderr(), "bench: {message}");
            ExitCode::FAILURE
        }
    }
}

/// What is to be printed.
fn run(arguments: &Arguments) -> Result<String, String> {
    if arguments.list {
        return Ok(cases::list());
    }
    let chosen = cases::chosen(&arguments.case)?;
    if !arguments.bench {
        return Ok(
            "This program loads a core for minutes; it is started by: cargo bench -p cordon\n".to_owned()
        );
    }
    let stage = machine::Stage::prepare(arguments.dataplane.as_deref(), arguments.small_pages)?;
    let results = measure::all(&stage, &chosen, &arguments.pace())?;
    let path = stage.out.join("packets.json");
    report::write_json(&path, &stage, &results)?;
    Ok(report::table(&stage, &results) + &format!("\nEvery sample stands in {}\n", path.display()))
}
