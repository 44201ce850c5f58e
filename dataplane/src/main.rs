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

/// What the first lines of help do not say.
const HELP: &str = "\
It owns the ports of every [[wire]], which carry nothing while it does not run; start it before cordond, as root or with
the capabilities of the shipped unit. One instance for each [run] tables directory: a second one is refused.

  SIGTERM, SIGINT   stop: workers first, then ports; takes less than a second
  policy            read from [run] tables, where cordond writes it; locks hold from the first packet, with cordond
                    alive or dead. A cold start waits for it ([dataplane] start_wait), then forwards without enforcing.
  bypass            a file of that name in [run] dir: forward everything, enforce nothing (cordon bypass --direct)
  configuration     read once, at start; `cordon check FILE` validates it. If it is broken, the last good one in policy
                    is used, and that is said.

Exit codes: 0 stopped by a signal, 1 failed or refused (standard error says why), 2 wrong usage or configuration.
What it does is shown by `cordon status`; what it needs of the machine, hugepages and NICs, is shown by hugepages.sh.";

/// Cordon's packet mover: forwards every packet between the two ports of each wire, counts it, and drops what is locked.
#[derive(Parser)]
#[command(version, after_help = HELP)]
struct Arguments {
    /// The configuration file, the same one that cordond reads.
    #[arg(long, value_name = "FILE", default_value = config::DEFAULT_PATH)]
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
