//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

use crate::measure::Pace;

const AFTER: &str = "\
Run it as root on a machine that does nothing else: cargo bench -p cordon -- --quick
Every figure is normalised by the worker thread's own time on its core; rounds of all that is compared are interleaved.
A row shows the median over rounds, and the least and the most. All cases take about twelve minutes; results are written
after each, so that a run that is interrupted keeps what it has.";

/// Packets a second and cycles a packet of cordon-dataplane, beside dpdk-testpmd on the same devices in the same run.
#[derive(Debug, Parser)]
#[command(name = "packets", after_help = AFTER, max_term_width = 100)]
pub(crate) struct Arguments {
    /// Two short rounds: some five minutes for everything, enough to see that it works
    #[arg(long)]
    pub(crate) quick: bool,
    /// Only cases whose name contains this (repeatable)
    #[arg(long, value_name = "NAME")]
    pub(crate) case: Vec<String>,
    /// Rounds of each case [default: 5]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) rounds: Option<u16>,
    /// Length of one measurement [default: 400ms]
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub(crate) window: Option<Duration>,
    /// Show the cases, and measure nothing
    #[arg(long)]
    pub(crate) list: bool,
    /// Measure this binary instead of building cordon-dataplane
    #[arg(long, value_name = "PATH")]
    pub(crate) dataplane: Option<PathBuf>,
    /// Put the shared tables on 4 KiB pages, as a plain /dev/shm does
    #[arg(long)]
    pub(crate) small_pages: bool,
    /// What cargo says to a benchmark
    #[arg(long, hide = true)]
    pub(crate) bench: bool,
}

impl Arguments {
    pub(crate) fn pace(&self) -> Pace {
        let (rounds, window_ms) = if self.quick { (2, 200) } else { (5, 400) };
        Pace {
            rounds: self.rounds.unwrap_or(rounds),
            window: self.window.unwrap_or(Duration::from_millis(window_ms)),
            warm_up: Duration::from_millis(150),
        }
    }
}
