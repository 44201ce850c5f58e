//! `cordond`: decides who is locked, and tells the dataplane and the operator.
#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use cordond::{dump, log, replay, run, supervise};

/// Cordon's control: counts, detects, locks, reports.
#[derive(Parser)]
#[command(
    version,
    after_help = "The operator's command is `cordon`; `cordon check` validates a configuration file."
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs until SIGTERM or SIGINT; SIGHUP reads the configuration again.
    ///
    /// Locks stay in force when it ends, and packets flow.
    Run(Run),
    /// Runs a capture through the same code, on the capture's own clock. Needs neither root nor a NIC.
    Replay(replay::Options),
    /// Prints the packets of a capture as the traffic dump of a mail does.
    Dump(dump::Options),
    #[command(name = supervise::BECOME, hide = true)]
    BecomeDataplane {
        #[arg(long)]
        config: PathBuf,
    },
}

#[derive(Args)]
struct Run {
    /// The configuration file, the same one that cordon-dataplane reads.
    #[arg(long, default_value = config::DEFAULT_PATH)]
    config: PathBuf,
    /// Start cordon-dataplane, and again when it dies; adopt one that runs. It survives cordond.
    #[arg(long)]
    with_dataplane: bool,
    /// Stop the dataplane when cordond stops: the wires are down then.
    #[arg(long, requires = "with_dataplane")]
    stop_dataplane_on_exit: bool,
    /// Print progress until a lock was seen, then what to try; stop the dataplane on exit.
    #[arg(long)]
    demo: bool,
}

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Run(r) => run::run(&run::Options {
            config: r.config,
            with_dataplane: r.with_dataplane,
            stop_dataplane_on_exit: r.stop_dataplane_on_exit || r.demo,
            demo: r.demo,
        }),
        Command::Replay(options) => replay::run(&options),
        Command::Dump(options) => dump::run(&options),
        Command::BecomeDataplane { config } => Err(supervise::become_dataplane(&config)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            log::error(&e);
            ExitCode::FAILURE
        }
    }
}
