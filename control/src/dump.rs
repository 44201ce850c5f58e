//! `cordond dump`: a capture as the traffic dump of a mail shows it.

use std::io::{BufWriter, ErrorKind, Write};
use std::path::PathBuf;

use capture::Capture;
use clap::Args;

use crate::evidence::dump;
use crate::log;

/// What the command line says.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// The capture: pcap or pcapng, of Ethernet frames.
    file: PathBuf,
    /// Print at most so many packets.
    #[arg(long, value_name = "N")]
    count: Option<u64>,
}

/// Prints a capture. The error is for the operator.
pub fn run(options: &Options) -> Result<(), String> {
    let mut capture = Capture::open(&options.file).map_err(|e| e.to_string())?;
    let out = BufWriter::with_capacity(1 << 16, std::io::stdout().lock());
    match print(&mut capture, options.count.unwrap_or(u64::MAX), out) {
        Err(Failure::Output(e)) if e.kind() == ErrorKind::BrokenPipe => return Ok(()),
        Err(Failure::Output(e)) => return Err(format!("standard output: {e}")),
        Err(Failure::Input(e)) => return Err(e.to_string()),
        Ok(()) => {}
    }
    if let Some(damage) = capture.damage() {
        log::warning(&format!("{damage}; what came before it is printed"));
    }
    Ok(())
}

enum Failure {
    Input(capture::CaptureError),
    Output(std::io::Error),
}

fn print(capture: &mut Capture, count: u64, mut out: impl Write) -> Result<(), Failure> {
    let mut line = String::new();
    let mut printed = 0;
    while printed < count {
        let Some(packet) = capture.next_packet().map_err(Failure::Input)? else { break };
        if printed == 0 {
            writeln!(out, "{}", dump::header(packet.time_ns)).map_err(Failure::Output)?;
        }
        line.clear();
        dump::line(&mut line, &packet);
        line.push('\n');
        out.write_all(line.as_bytes()).map_err(Failure::Output)?;
        printed += 1;
    }
    out.flush().map_err(Failure::Output)
}
