//! `cordon-dataplane`: forwards packets between the ports of its wires, counts them, and drops what is locked.
//! Started by systemd or by `cordond run --with-dataplane`; decides nothing itself.
#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

mod feed;
mod from_config;
mod housekeeping;
mod launch;
mod links;
mod log;
mod plan;
mod slot;
mod worker;

/// Cordon's packet mover: forwards, counts, and drops what is locked.
#[derive(Parser)]
#[command(version, after_help = "It is stopped by SIGTERM. What it does is shown by `cordon status`.")]
struct Arguments {
    /// The configuration file, the same one that cordond reads.
    #[arg(long, default_value = "/etc/cordon/cordon.toml")]
    config: PathBuf,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let plan = match from_config::plan(&arguments.config) {
        Ok(plan) => plan,
        Err(e) => {
            log::error(&e);
            return ExitCode::from(2);
        }
    };
    match launch::run(&plan) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            log::error(&e.to_string());
            ExitCode::FAILURE
        }
    }
}
