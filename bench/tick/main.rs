//! `cargo bench -p cordon --bench tick`: how long a tick of control takes, by how many hosts moved and how many are
//! configured. The real core of `cordond` on facts that the real packet path has written; its store and its office, which
//! it never waits for, are left out.
#![forbid(unsafe_code)]

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use clap::Parser;
use config::Config;
use cordond::control::{Control, Use};
use cordond::effect::{Loaded, Now};
use pipeline::{BURST, Frame, Mode, Pipeline};
use region::{Capacities, Facts, Policy, Side, Verdict};
use serde_json::json;

const TICK_NS: u64 = 100_000_000;
const CLOCK_BEGINS_NS: u64 = 1_000_000_000_000;
const HASH_KEY: [u64; 2] = [0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210];
/// First of the servers: 10.0.0.0.
const SERVERS: u32 = 0x0a00_0000;

/// Hosts configured, a power of two, and hosts that move in every tick.
const CASES: &[(u32, u32)] =
    &[(1 << 10, 1000), (1 << 20, 1000), (1 << 20, 10_000), (1 << 20, 100_000), (1 << 20, 1_000_000)];
/// A tick with a million hosts configured takes at most so many times one with a thousand, when a thousand move.
const PROMISED: f64 = 1.1;

type Failure = Box<dyn std::error::Error>;

/// Times control's tick.
#[derive(Debug, Parser)]
#[command(name = "tick")]
struct Arguments {
    /// Few ticks of each case
    #[arg(long)]
    quick: bool,
    /// Only cases in which at most so many hosts move
    #[arg(long, value_name = "N", default_value_t = u32::MAX, hide_default_value = true)]
    most: u32,
    /// What cargo says to a benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

/// A control and a packet path on tables of their own.
struct Stage {
    configured: u32,
    active: u32,
    facts: Arc<Facts>,
    policy: Arc<Policy>,
    control: Control,
    path: Pipeline,
    now_ns: u64,
    /// Microseconds, one figure a tick.
    took: Vec<f64>,
}

impl Stage {
    fn new(configured: u32, active: u32) -> Result<Stage, Failure> {
        let prefix = 32 - configured.trailing_zeros();
        let text = format!("[tables]\nhosts = {configured}\n[[network]]\nprefix = \"10.0.0.0/{prefix}\"\n");
        let config = Config::parse(&text, "bench")?;
        let c = Capacities { workers: 1, hosts_v4: configured, hosts_v6: 16_384, locks: 131_072 };
        let facts = Arc::new(Facts::anonymous(c)?);
        let policy = Arc::new(Policy::anonymous(c, 64, HASH_KEY)?);
        let loaded = Loaded { hash_key: HASH_KEY, ..Loaded::default() };
        let now = Now { mono_ns: CLOCK_BEGINS_NS, unix_ns: 1_700_000_000_000_000_000 };
        let mut control = Control::new(Use::Replay, config, Arc::clone(&policy), loaded, now)?;
        facts.header().tsc_hz.store(1_000_000_000, Relaxed);
        facts.set_clock(CLOCK_BEGINS_NS, CLOCK_BEGINS_NS, 1_700_000_000_000_000_000);
        control.attach(Arc::clone(&facts), now);
        let path = Pipeline::new(0, Mode::Inline, &facts);
        let mut stage =
            Stage { configured, active, facts, policy, control, path, now_ns: 0, took: Vec::new() };
        // Publishes networks, and makes room for what moves.
        for _ in 0..4 {
            stage.tick();
        }
        stage.took.clear();
        Ok(stage)
    }

    /// A packet of each active host, spread over all that are configured, then a tick that is timed.
    fn tick(&mut self) {
        self.path.poll(&self.facts, Some(&self.policy));
        let step = self.configured / self.active.max(1);
        let mut bytes = [frame(); BURST];
        let mut verdicts = [Verdict::Forward; BURST];
        let burst = u32::try_from(BURST).unwrap_or(1);
        let time = CLOCK_BEGINS_NS + self.now_ns;
        for first in (0..self.active).step_by(BURST) {
            let n = burst.min(self.active - first);
            for (host, f) in (first..first + n).zip(&mut bytes) {
                f[26..30].copy_from_slice(&(SERVERS + host * step).to_be_bytes());
            }
            let frames: [Frame<'_>; BURST] = std::array::from_fn(|i| Frame {
                bytes: &bytes[i],
                length: 60,
                side: Side::Inside,
                time,
                segment: false,
            });
            let n = n as usize;
            self.path.run(&self.facts, Some(&self.policy), &frames[..n], &mut verdicts[..n]);
        }
        self.path.poll(&self.facts, Some(&self.policy));
        self.now_ns += TICK_NS;
        let now = Now {
            mono_ns: CLOCK_BEGINS_NS + self.now_ns,
            unix_ns: 1_700_000_000_000_000_000 + i128::from(self.now_ns),
        };
        let began = Instant::now();
        self.control.tick(now);
        self.took.push(began.elapsed().as_secs_f64() * 1e6);
        self.control.take_effects();
    }
}

/// TCP with ACK from a server to 64.0.0.1.
fn frame() -> [u8; 60] {
    let mut f = [0; 60];
    f[12..16].copy_from_slice(&[8, 0, 0x45, 0]);
    f[17] = 40;
    f[23] = 6;
    f[30..34].copy_from_slice(&[64, 0, 0, 1]);
    f[34..38].copy_from_slice(&[0x01, 0xbb, 0x80, 0]);
    f[46] = 0x50;
    f[47] = 0x10;
    f
}

fn median(figures: &mut [f64]) -> f64 {
    figures.sort_by(f64::total_cmp);
    let n = figures.len();
    if n == 0 { f64::NAN } else { f64::midpoint(figures[(n - 1) / 2], figures[n / 2]) }
}

fn main() -> Result<(), Failure> {
    let arguments = Arguments::parse();
    if !arguments.bench {
        return Ok(());
    }
    let chosen = CASES.iter().filter(|(_, active)| *active <= arguments.most.max(1000));
    let mut stages = chosen.map(|(c, a)| Stage::new(*c, *a)).collect::<Result<Vec<_>, _>>()?;
    // What is compared takes turns, so that what slows the machine for a while slows both; ticks of a million hosts in between
    // would leave nothing in the caches that a control finds there.
    for alike in stages.chunk_by_mut(|a, b| a.active == b.active) {
        for _ in 0..if arguments.quick { 15 } else { 100 } {
            alike.iter_mut().for_each(Stage::tick);
        }
    }
    let mut text =
        "A tick of control, median over ticks\n\n configured    moved         µs  (least-most)\n".to_owned();
    let mut rows = Vec::new();
    let mut medians = Vec::new();
    for s in &mut stages {
        let us = median(&mut s.took);
        let (least, most) = (s.took[0], s.took[s.took.len() - 1]);
        let _ = writeln!(text, "{:>11}{:>9}{us:>11.1}  ({least:.1}-{most:.1})", s.configured, s.active);
        rows.push(json!({
            "configured": s.configured, "active": s.active, "us": us, "min": least, "max": most,
        }));
        medians.push(us);
    }
    let (got, what) = (
        medians[1] / medians[0],
        "a tick with 1 M hosts configured and 1,000 active, beside 1,000 configured",
    );
    let holds = got <= PROMISED;
    let verdict = if holds { "yes" } else { "NO" };
    let _ = writeln!(text, "\n  {verdict:<6} {got:.2}, at most {PROMISED:.2}: {what}");
    io::stdout().write_all(text.as_bytes())?;
    let target =
        std::env::current_exe()?.ancestors().nth(3).map(PathBuf::from).ok_or("no target directory")?;
    std::fs::create_dir_all(target.join("bench"))?;
    let claim = json!({ "what": what, "at_most": PROMISED, "median": got, "holds": holds });
    let all = serde_json::to_string_pretty(&json!({ "cases": rows, "claims": [claim] }))?;
    std::fs::write(target.join("bench/tick.json"), all + "\n")?;
    Ok(())
}
