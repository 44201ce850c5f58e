//! `cargo bench -p cordon --bench lock`: how long a server that scans with 10,000 packets a second goes on: from the contact
//! that crosses the limit, and from the first packet, to the lock in the books of `cordond` and on the wire. The real
//! programs in network namespaces; each run is another server.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "what cannot be measured here is not to be reported")]

#[path = "../../tests/common/mod.rs"]
mod common;

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::Parser;
use common::Namespaces;
use common::internet::{connect, server};
use common::packets::{SYN, at, nth, tcp};
use common::raw::Raw;
use common::site::{SOON, Site};
use common::stream::{Stream, percentile};
use serde_json::{Value, json};

/// Contacts in a minute that fail, at which a netscan locks by default.
const LIMIT: u32 = 360;
const PPS: u32 = 10_000;
/// A scan ends by itself after so many packets.
const PACKETS: u32 = 2 * PPS;
/// How long the silence of those who open so many a second lasts before it is a failure.
const SILENCE: Duration = Duration::from_millis(300);
/// From the first packet of such a scan to its lock, at most.
const PROMISED: Duration = Duration::from_millis(500);
/// Datagrams of the same server, numbered: the first that is lost was the first to be dropped.
const PAUSE: Duration = Duration::from_millis(1);
/// More locks than the breaker lets pass by default.
const SECTIONS: &str = "[breaker]\nlocks_min = 1000\n";
/// Answered: a wire on which nothing ever comes in tells nothing about answers.
const PINGS: [&str; 7] = ["-q", "-n", "-i", "0.02", "-I", Namespaces::SERVER_2, Namespaces::REMOTE];

/// Whom a scan goes for: its name, the first address, and how long after a contact it has failed.
const CASES: [(&str, Ipv4Addr, Duration); 2] = [
    ("refused", Ipv4Addr::new(45, 64, 64, 0), Duration::ZERO),
    ("silent", Ipv4Addr::new(45, 65, 64, 0), SILENCE),
];

/// Times from crossing to lock.
#[derive(Debug, Parser)]
#[command(name = "lock")]
struct Arguments {
    /// Runs of each case
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u8).range(1..=100))]
    runs: u8,
    /// 5 runs of each case
    #[arg(long)]
    quick: bool,
    /// What cargo says to a benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

/// One run.
struct Run {
    /// From the contact that crosses the limit to the time of the lock in the list.
    listed: Duration,
    /// From the contact that crosses the limit to the first packet that was dropped.
    dropped: Duration,
    /// From the scan's first packet to that.
    whole: Duration,
    rule: String,
}

/// The moment at which each packet was sent, on both clocks of it.
struct Scan {
    wall: SystemTime,
    sent: Vec<Instant>,
}

/// Sends a scan at its pace, until it is over or `stop` says so.
fn scan(raw: &Raw, from: Ipv4Addr, targets: Ipv4Addr, stop: impl Fn() -> bool) -> Scan {
    let (wall, began) = (SystemTime::now(), Instant::now());
    let mut sent = Vec::with_capacity(PACKETS as usize);
    while sent.len() < PACKETS as usize && !stop() {
        let due = began.elapsed().as_micros() * u128::from(PPS) / 1_000_000 + 1;
        while (sent.len() as u128) < due.min(u128::from(PACKETS)) {
            let n = u32::try_from(sent.len()).unwrap();
            sent.push(Instant::now());
            raw.send(&tcp(at(from, 40_000), at(nth(targets, n), 8_443), SYN));
        }
        std::thread::sleep(Duration::from_micros(100));
    }
    Scan { wall, sent }
}

fn measure(site: &Site, number: u8, targets: Ipv4Addr, silence: Duration) -> Run {
    let address = server(site, number);
    let stream = Stream::start(&site.ns, "in", &address, Namespaces::REMOTE, PAUSE);
    stream.wait_arrived(50, SOON);
    let raw = Raw::open(&site.ns, "in");
    // What went before ended with a tick; a scan begins anywhere between two.
    std::thread::sleep(Duration::from_millis(u64::from(number) * 37 % 100));
    // Nobody asks cordond while it has to decide: it is over when datagrams are lost.
    let lost = || stream.sent() > stream.arrived() + 50;
    let scan = scan(&raw, address.parse().unwrap(), targets, lost);
    let row = site.wait_locked(&address);
    stream.wait_cut_off(20, SOON);
    let flow = stream.stop(Duration::from_millis(150));
    let first_dropped = flow.arrived.iter().rposition(Option::is_some).unwrap() + 1;
    let crossed = scan.sent[LIMIT as usize - 1] + silence;
    // A datagram may lie with its sender for a moment after its time was taken.
    let dropped = flow.sent[first_dropped].max(crossed);
    let listed = humantime::parse_rfc3339(row["created"].as_str().unwrap()).unwrap();
    let listed = listed.duration_since(UNIX_EPOCH).unwrap() - scan.wall.duration_since(UNIX_EPOCH).unwrap();
    Run {
        // The list's times are in whole milliseconds.
        listed: listed.saturating_sub(crossed - scan.sent[0]),
        dropped: dropped - crossed,
        whole: dropped - scan.sent[0],
        rule: row["rule"].as_str().unwrap().to_owned(),
    }
}

fn millis(d: Duration) -> f64 {
    d.as_secs_f64() * 1e3
}

/// Percentiles of one figure, in milliseconds.
fn figure(text: &mut String, what: &str, runs: &[Run], of: impl Fn(&Run) -> Duration) -> (Value, Duration) {
    let mut all: Vec<Duration> = runs.iter().map(of).collect();
    let [p50, p99, most] = [50, 99, 100].map(|p| percentile(&mut all, p));
    let [a, b, c] = [p50, p99, most].map(millis);
    let _ = writeln!(text, "  {what:<52} p50 {a:>6.1} ms  p99 {b:>6.1} ms  most {c:>6.1} ms");
    (json!({ "what": what, "p50_ms": a, "p99_ms": b, "max_ms": c }), p99)
}

fn main() {
    let arguments = Arguments::parse();
    if !arguments.bench {
        return;
    }
    if !common::have_root_and_netns() {
        eprintln!("lock: this benchmark needs root and network namespaces");
        std::process::exit(1);
    }
    let runs = if arguments.quick { 5 } else { arguments.runs };
    let mut text = format!("From a scan of {PPS} packets a second to its lock, {runs} runs\n");
    let (mut cases, mut claims) = (Vec::new(), Vec::new());
    for (name, targets, silence) in CASES {
        let site = Site::new(SECTIONS);
        connect(&site);
        let _cordond = site.start();
        let _ping = site.ns.spawn("in", "ping", &PINGS);
        let seen: Vec<Run> = (0..runs).map(|n| measure(&site, 20 + n, targets, silence)).collect();
        let _ = writeln!(text, "\n{name}:");
        let figures = [
            figure(&mut text, "crossing of the limit to the lock in the list", &seen, |r| r.listed),
            figure(&mut text, "crossing of the limit to the first dropped packet", &seen, |r| r.dropped),
            figure(&mut text, "first packet to the first dropped one", &seen, |r| r.whole),
        ];
        let mut rules: Vec<&str> = seen.iter().map(|r| r.rule.as_str()).collect();
        rules.sort_unstable();
        rules.dedup();
        let _ = writeln!(text, "  locked by {}", rules.join(", "));
        let (p99, what) =
            (figures[2].1, format!("ms from the first packet of a scan ({name}) to its lock, p99"));
        let holds = p99 <= PROMISED;
        claims.push(
            json!({ "what": what, "at_most": millis(PROMISED), "median": millis(p99), "holds": holds }),
        );
        let _ = writeln!(
            text,
            "  {:<6} {:.1}, at most {:.1}: {what}",
            if holds { "yes" } else { "NO" },
            millis(p99),
            millis(PROMISED)
        );
        let figures = figures.map(|(f, _)| f);
        cases.push(json!({ "targets": name, "pps": PPS, "runs": runs, "rules": rules, "figures": figures }));
    }
    std::io::stdout().write_all(text.as_bytes()).unwrap();
    let target = std::env::current_exe().unwrap().ancestors().nth(3).map(PathBuf::from).unwrap();
    std::fs::create_dir_all(target.join("bench")).unwrap();
    let all = serde_json::to_string_pretty(&json!({ "cases": cases, "claims": claims })).unwrap();
    std::fs::write(target.join("bench/lock.json"), all + "\n").unwrap();
}
