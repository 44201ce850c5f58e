//! The table for people, and the same with every sample for programs.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::claims;
use crate::latency::{IDLE_US, Latency, Quantiles};
use crate::machine::Stage;
use crate::measure::{Results, Row};
use crate::peer::{PEERS, Peer};
use crate::sample::{Sample, Spread, ratio};
use crate::traffic::{Owner, Timing};

/// What the run stood on, in one paragraph.
fn head(stage: &Stage, results: &Results) -> String {
    let hugepages = if stage.hugepages { "2 MiB pages" } else { "4 KiB pages (no hugepages to be had)" };
    let tables = if results.huge_tables { "2 MiB pages" } else { "4 KiB pages" };
    let f = &stage.facts;
    let every = results.rows.iter().flat_map(|r| r.cordon.iter().chain(r.peers.iter().flat_map(|(_, s)| s)));
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
    for peer in PEERS {
        let _ = write!(text, "{:>8}", peer.name());
    }
    for peer in PEERS {
        let _ = write!(text, "{:>10}", format!("x {}", peer.name()));
    }
    text += "\n";
    for row in &results.rows {
        line(&mut text, row, results.tsc_hz);
    }
    text += "\nMpps, cycles: cordon-dataplane, cycles a packet with the device's own; beyond: cycles more than testpmd io.\n";
    text +=
        "Then cycles a packet of others, and packets/s of cordon-dataplane as a multiple (x) of theirs:\n";
    for peer in PEERS {
        let _ = writeln!(text, "  {:<8} {}", peer.name(), peer.what());
    }
    for l in &results.latencies {
        latency(&mut text, l);
    }
    let claims = claims::of(results);
    if !claims.is_empty() {
        text += "\nWhat must be shown (median over rounds, least and most):\n";
    }
    for c in &claims {
        text += &c.line();
    }
    for failure in &results.failures {
        let _ = writeln!(text, "\nNOT MEASURED: {failure}");
    }
    let mut doubted = results.rows.iter().filter(|r| !r.doubts.is_empty()).peekable();
    if doubted.peek().is_some() {
        text += "\nNOT TO BE TRUSTED:\n";
    }
    for row in doubted {
        let _ = writeln!(text, "{}: {}", row.case.name, row.doubts.join("; "));
    }
    text
}

fn latency(text: &mut String, l: &Latency) {
    let show = |q: &Quantiles| format!("{:.1} / {:.1} / {:.1}", q.p50, q.p99, q.p999);
    let _ = writeln!(
        text,
        "latency at {} % ({:.2} Mpps), µs p50 / p99 / p99.9: {}, {} lost; workers sleep {IDLE_US} µs when idle: {}, {} lost; \
         testpmd io at the same rate: {}",
        l.load_percent,
        l.offered / 1e6,
        show(&l.cordon),
        l.missed[0],
        show(&l.sleeper),
        l.missed[1],
        show(&l.testpmd)
    );
}

fn cycles(samples: &[Sample], tsc_hz: u64) -> Spread {
    Spread::of(samples.iter().map(|s| s.cycles(tsc_hz)))
}

fn pps(samples: &[Sample]) -> Spread {
    Spread::of(samples.iter().map(|s| s.pps))
}

fn line(text: &mut String, row: &Row, tsc_hz: u64) {
    let own = cycles(&row.cordon, tsc_hz);
    let mpps = pps(&row.cordon).median / 1e6;
    let spread = format!("{:.1} ({:.1}-{:.1})", own.median, own.least, own.most);
    let io = row.of(Peer::Testpmd("io")).unwrap_or_default();
    let beyond = own.median - cycles(io, tsc_hz).median;
    let _ = write!(text, "{:<17}{mpps:>7.2}  {spread:<20}{beyond:>7.1}", row.case.name);
    for peer in PEERS {
        let of = row.of(peer).map_or_else(|| "-".to_owned(), |s| format!("{:.1}", cycles(s, tsc_hz).median));
        let _ = write!(text, "{of:>8}");
    }
    for peer in PEERS {
        let times = |s| format!("{:.2}", pps(&row.cordon).median / pps(s).median);
        let of = row.of(peer).map_or_else(|| "-".to_owned(), times);
        let _ = write!(text, "{of:>10}");
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
                "on_cpu_ns": s.on_cpu_ns, "wall_ns": s.wall_ns, "busy_cycles": s.busy_cycles, "workers": s.workers,
            })
        })
        .collect();
    json!({
        "cycles_per_packet": spread(cycles(samples, tsc_hz)),
        "packets_per_second": spread(pps(samples)),
        "samples": each,
    })
}

fn microseconds(q: &Quantiles) -> Value {
    json!({ "p50": q.p50, "p99": q.p99, "p99.9": q.p999 })
}

/// Writes everything.
pub(crate) fn write_json(path: &Path, stage: &Stage, results: &Results) -> Result<(), String> {
    let hz = results.tsc_hz;
    let rows: Vec<Value> = results
        .rows
        .iter()
        .map(|row| {
            let peers: serde_json::Map<String, Value> =
                row.peers.iter().map(|(p, s)| (p.name().to_owned(), subject(s, hz))).collect();
            json!({
                "name": row.case.name, "what": row.case.what, "doubts": row.doubts,
                "devices": region::Side::ALL.map(|s| row.case.traffic.device(Owner::Cordon, s.index(), s, ".", &Timing::default())),
                "locks": row.case.locks.count, "locked_percent": row.case.locks.percent,
                "by_address": row.case.locks.by_address,
                "inside": format!("{:?}", row.case.inside).to_lowercase(), "hosts": row.case.traffic.hosts, "watched": row.case.watched, "workers": row.case.traffic.workers,
                "cordon": subject(&row.cordon, hz), "peers": peers,
            })
        })
        .collect();
    let f = &stage.facts;
    let all = json!({
        "cpu": f.cpu, "kernel": f.kernel, "dpdk": f.dpdk, "commit": f.commit, "tsc_hz": hz,
        "worker_core": stage.worker_core, "hugepages": stage.hugepages, "huge_tables": results.huge_tables,
        "rounds": results.pace.rounds, "window_ms": u64::try_from(results.pace.window.as_millis()).unwrap_or(0),
        "seconds": results.took.as_secs_f64(), "cases": rows, "failures": results.failures,
        "latencies": results.latencies.iter().map(|l| json!({
            "load_percent": l.load_percent, "offered": l.offered,
            "cordon": microseconds(&l.cordon), "lost": l.missed[0],
            "sleeper": microseconds(&l.sleeper), "sleeper_lost": l.missed[1], "testpmd_io": microseconds(&l.testpmd),
        })).collect::<Vec<_>>(),
        "claims": claims::of(results).iter().map(claims::Claim::json).collect::<Vec<_>>(),
    });
    let text = serde_json::to_string_pretty(&all).map_err(|e| e.to_string())?;
    // In one step: whoever interrupts the run leaves a whole file.
    let part = path.with_extension("part");
    fs::write(&part, text + "\n").map_err(|e| format!("write({}): {e}", part.display()))?;
    fs::rename(&part, path).map_err(|e| format!("rename({}): {e}", path.display()))
}
