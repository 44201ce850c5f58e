//! The table for people, and the same with every sample for programs.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::machine::Stage;
use crate::measure::{Results, Row};
use crate::sample::{Sample, Spread, ratio};
use crate::testpmd::MODES;

/// What the run stood on, in one paragraph.
fn head(stage: &Stage, results: &Results) -> String {
    let hugepages = if stage.hugepages { "2 MiB pages" } else { "4 KiB pages (no hugepages to be had)" };
    let tables = if results.huge_tables { "2 MiB pages" } else { "4 KiB pages" };
    let f = &stage.facts;
    let every = results.rows.iter().flat_map(|r| r.cordon.iter().chain(r.testpmd.iter().flatten()));
    let share = Spread::of(every.map(Sample::core_share));
    format!(
        "{}, TSC {:.2} GHz, Linux {}, DPDK {}, commit {}\n\
         one worker on core {}, everything else on core {}; buffers on {hugepages}, tables on {tables}\n\
         {} rounds of {:?} in {:.0} s; cycles are TSC cycles of the worker's own time on its core,\n\
         of which it had {:.0} % (median; at least {:.0} %)\n",
        f.cpu,
        ratio(results.tsc_hz, 1_000_000_000),
        f.kernel,
        f.dpdk,
        f.commit,
        stage.worker_core,
        stage.other_core,
        results.pace.rounds,
        results.pace.window,
        results.took.as_secs_f64(),
        share.median * 100.0,
        share.least * 100.0,
    )
}

/// The table.
pub(crate) fn table(stage: &Stage, results: &Results) -> String {
    let mut text = head(stage, results);
    let _ = write!(text, "\n{:<17}{:>7}  {:<20}{:>7}", "", "Mpps", "cycles (min-max)", "beyond");
    for (mode, _) in MODES {
        let _ = write!(text, "{mode:>9}");
    }
    for (mode, _) in MODES {
        let _ = write!(text, "{:>10}", format!("x {mode}"));
    }
    text += "\n";
    for row in &results.rows {
        line(&mut text, row, results.tsc_hz);
    }
    text += "\nMpps, cycles: cordon-dataplane, cycles a packet with the device's own; beyond: cycles more than testpmd io.\n";
    text += "Then cycles a packet of testpmd: ";
    let modes: Vec<String> = MODES.iter().map(|(mode, what)| format!("{mode} {what}")).collect();
    text += &modes.join("; ");
    text += ".\nx MODE: packets/s of cordon-dataplane as a multiple of testpmd's.\n";
    let mut doubted = results.rows.iter().filter(|r| !r.doubts.is_empty()).peekable();
    if doubted.peek().is_some() {
        text += "\nNOT TO BE TRUSTED:\n";
    }
    for row in doubted {
        let _ = writeln!(text, "{}: {}", row.case.name, row.doubts.join("; "));
    }
    text
}

fn cycles(samples: &[Sample], tsc_hz: u64) -> Spread {
    Spread::of(samples.iter().map(|s| s.cycles(tsc_hz)))
}

fn pps(samples: &[Sample]) -> Spread {
    Spread::of(samples.iter().map(Sample::pps))
}

fn line(text: &mut String, row: &Row, tsc_hz: u64) {
    let own = cycles(&row.cordon, tsc_hz);
    let mpps = pps(&row.cordon).median / 1e6;
    let spread = format!("{:.1} ({:.1}-{:.1})", own.median, own.least, own.most);
    let beyond = own.median - cycles(&row.testpmd[0], tsc_hz).median;
    let _ = write!(text, "{:<17}{mpps:>7.2}  {spread:<20}{beyond:>7.1}", row.case.name);
    for samples in &row.testpmd {
        let _ = write!(text, "{:>9.1}", cycles(samples, tsc_hz).median);
    }
    for samples in &row.testpmd {
        let _ = write!(text, "{:>10.2}", pps(&row.cordon).median / pps(samples).median);
    }
    text.push('\n');
}

fn subject(samples: &[Sample], tsc_hz: u64) -> Value {
    let spread = |s: Spread| json!({ "median": s.median, "min": s.least, "max": s.most });
    let each: Vec<Value> = samples
        .iter()
        .map(|s| {
            json!({
                "packets": s.packets, "bytes": s.bytes, "dropped": s.dropped, "odd": s.odd,
                "on_cpu_ns": s.on_cpu_ns, "wall_ns": s.wall_ns, "busy_cycles": s.busy_cycles,
            })
        })
        .collect();
    json!({
        "cycles_per_packet": spread(cycles(samples, tsc_hz)),
        "packets_per_second": spread(pps(samples)),
        "samples": each,
    })
}

/// Writes everything.
pub(crate) fn write_json(path: &Path, stage: &Stage, results: &Results) -> Result<(), String> {
    let hz = results.tsc_hz;
    let rows: Vec<Value> = results
        .rows
        .iter()
        .map(|row| {
            let testpmd: serde_json::Map<String, Value> = MODES
                .iter()
                .zip(&row.testpmd)
                .map(|((mode, _), samples)| ((*mode).to_owned(), subject(samples, hz)))
                .collect();
            json!({
                "name": row.case.name, "what": row.case.what, "doubts": row.doubts,
                "devices": region::Side::ALL.map(|s| row.case.traffic.device(s.index(), s)),
                "locks": row.case.locks.count, "locked_percent": row.case.locks.percent,
                "by_address": row.case.locks.by_address,
                "cordon": subject(&row.cordon, hz), "testpmd": testpmd,
            })
        })
        .collect();
    let f = &stage.facts;
    let all = json!({
        "cpu": f.cpu, "kernel": f.kernel, "dpdk": f.dpdk, "commit": f.commit, "tsc_hz": hz,
        "worker_core": stage.worker_core, "hugepages": stage.hugepages, "huge_tables": results.huge_tables,
        "rounds": results.pace.rounds, "window_ms": u64::try_from(results.pace.window.as_millis()).unwrap_or(0),
        "seconds": results.took.as_secs_f64(), "cases": rows,
    });
    let text = serde_json::to_string_pretty(&all).map_err(|e| e.to_string())?;
    fs::write(path, text + "\n").map_err(|e| format!("write({}): {e}", path.display()))
}
