//! `cordon-traffic`: writes a capture of ordinary hosting load with attacks in it, or a plain mix for benches, and
//! beside it what is really in there. The same options always give the same bytes, on every machine: no floating
//! point, no clock, no randomness but the seed.
#![forbid(unsafe_code)]

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;

mod args;
mod attack;
mod dns;
mod frame;
mod mix;
mod ordinary;
mod pcap;
mod plan;
mod rng;
mod truth;

use args::Arguments;
use frame::Frame;
use pcap::Writer;
use truth::Truth;

/// Capture time of the first instant: 2026-01-01T00:00:00Z. Fixed, so that the bytes are.
const START_NS: u64 = 1_767_225_600_000_000_000;

/// Where frames go: into the file, and into the count of what is true.
struct Sink {
    writer: Writer,
    truth: Truth,
}

impl Sink {
    /// A frame, of an attack of this number or not; `at_ns` counts from the start of the capture.
    fn put(&mut self, at_ns: u64, attack: Option<usize>, frame: &Frame) -> io::Result<()> {
        self.truth.count(START_NS + at_ns, attack, frame);
        self.writer.packet(START_NS + at_ns, frame.bytes())
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(summary) => {
            // Nobody can be told that this failed.
            let _ = io::stdout().write_all(summary.as_bytes());
            ExitCode::SUCCESS
        }
        Err(message) => {
            let _ = writeln!(io::stderr(), "cordon-traffic: {message}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<String, String> {
    let plan = plan::Plan::new(arguments)?;
    let out = &arguments.out;
    let file = File::create(out).map_err(|e| failed("create", out, &e))?;
    let writer = Writer::new(file).map_err(|e| failed("write", out, &e))?;
    let mut sink = Sink { writer, truth: Truth::new(&plan) };
    let written = if plan.mix.is_some() { mix::write(&plan, &mut sink) } else { load(&plan, &mut sink) };
    let Sink { writer, truth } = sink;
    written.and_then(|()| writer.finish()).map_err(|e| failed("write", out, &e))?;

    let beside = PathBuf::from(format!("{}.truth.json", out.display()));
    let json = truth.json(&plan);
    std::fs::write(&beside, format!("{json:#}\n")).map_err(|e| failed("write", &beside, &e))?;
    Ok(truth.table(&plan))
}

/// Ordinary load and attacks, merged by time.
fn load(plan: &plan::Plan, sink: &mut Sink) -> io::Result<()> {
    let mut ordinary = ordinary::Ordinary::new(plan);
    let mut attacks: Vec<attack::Flood> = plan.attacks.iter().map(|a| attack::Flood::new(plan, a)).collect();
    let mut frame = Frame::new();
    loop {
        let (mut at_ns, mut who) = (ordinary.next_ns(), None);
        for (i, a) in attacks.iter().enumerate() {
            if a.next_ns() < at_ns {
                (at_ns, who) = (a.next_ns(), Some(i));
            }
        }
        if at_ns >= plan.length_ns {
            return Ok(());
        }
        match who.and_then(|i| attacks.get_mut(i)) {
            Some(a) => a.write(&mut frame),
            None => ordinary.write(&mut frame),
        }
        sink.put(at_ns, who, &frame)?;
    }
}

fn failed(what: &str, path: &Path, e: &io::Error) -> String {
    format!("{what} {}: {e}; is the folder there, writable, and not full?", path.display())
}
