//! `cordond replay` over every capture of the folder: hosts.json has to agree with tests/oracle/hosts.py to the packet and
//! byte, and so do the totals.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails here")]

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use common::run;
use serde_json::{Value, json};

/// For one capture.
const REPLAY: Duration = Duration::from_secs(60);
/// For all of them.
const ORACLE: Duration = Duration::from_secs(120);
/// More prefixes of one family than these do not fit the tables' default sizes.
const PREFIXES_MAX: usize = 200;

struct Capture {
    path: PathBuf,
    internal: Vec<String>,
}

/// The captures of the folder that have an answer to "which addresses are internal?".
fn captures(folder: &Path, internal: impl Fn(&Path, &str) -> Vec<String>) -> Vec<Capture> {
    let manifest = fs::read_to_string(folder.join("MANIFEST.tsv")).unwrap();
    let mut lines = manifest.lines();
    let head: Vec<&str> = lines.next().unwrap().split('\t').collect();
    let column = |name: &str| head.iter().position(|h| *h == name).unwrap();
    let (file, server) = (column("file"), column("internal"));
    let all = lines.map(|line| {
        let fields: Vec<&str> = line.split('\t').collect();
        let path = folder.join(fields[file]);
        let internal = internal(&path, fields[server]);
        Capture { path, internal }
    });
    all.filter(|c| !c.internal.is_empty()).collect()
}

/// The /24s and /64s of the addresses that tshark found (lines SRC of the statistics beside a capture).
fn everyone(capture: &Path) -> Vec<String> {
    let stats = fs::read_to_string(format!("{}.stats.tsv", capture.display())).unwrap();
    let (mut v4, mut v6) = (BTreeSet::new(), BTreeSet::new());
    for line in stats.lines() {
        let mut fields = line.split('\t');
        if fields.next() != Some("SRC") {
            continue;
        }
        match fields.next().unwrap().parse() {
            Ok(IpAddr::V4(a)) => v4.insert(ipnet::Ipv4Net::new(a, 24).unwrap().trunc()),
            Ok(IpAddr::V6(a)) => {
                v6.insert(ipnet::Ipv6Net::new(a, 64).unwrap().trunc());
                continue;
            }
            // tshark names no destination in a header that is cut within it.
            Err(_) => continue,
        };
    }
    let v4 = v4.into_iter().take(PREFIXES_MAX).map(|n| n.to_string());
    v4.chain(v6.into_iter().take(PREFIXES_MAX).map(|n| n.to_string())).collect()
}

/// What the oracle says of each capture, from one process for all.
fn oracle(captures: &[Capture], folder: &Path) -> Vec<Value> {
    let jobs = folder.join("jobs");
    let mut file = fs::File::create(&jobs).unwrap();
    for c in captures {
        writeln!(file, "{}", json!({ "capture": c.path, "internal": c.internal })).unwrap();
    }
    let mut command = Command::new("/usr/bin/python3");
    command.arg(common::root().join("tests/oracle/hosts.py")).arg("--jobs").arg(&jobs);
    let answers = run(&command, ORACLE).expect_success();
    let answers: Vec<Value> = answers.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(answers.len(), captures.len());
    answers
}

fn json_file(path: &Path) -> Result<Value, String> {
    let text = fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
    serde_json::from_str(&text).map_err(|e| format!("{}: {e}", path.display()))
}

/// Replays one capture and compares; the difference in words.
fn compare(capture: &Capture, expected: &Value, out: &Path) -> Result<(), String> {
    let mut command = Command::new(common::bin("cordond"));
    command.arg("replay").arg(&capture.path).args(["--lab", "--out"]).arg(out);
    for prefix in &capture.internal {
        command.args(["--internal", prefix]);
    }
    let done = run(&command, REPLAY);
    if expected["totals"]["packets"] == 0 && done.status.code() == Some(1) {
        // A file without one whole packet may be refused, with a message that names it.
        let named = done.stderr.contains(&capture.path.display().to_string());
        return if named { Ok(()) } else { Err(format!("refused without naming the file: {}", done.stderr)) };
    }
    if !done.status.success() {
        return Err(format!("{}: {}", done.status, done.stderr));
    }
    let (hosts, totals) = (json_file(&out.join("hosts.json"))?, json_file(&out.join("totals.json"))?);
    if hosts["hosts"] != expected["hosts"] {
        return Err(hosts_differ(&hosts["hosts"], &expected["hosts"]));
    }
    let want = &expected["totals"];
    let arp = totals["arp"].as_u64().unwrap_or(0);
    let non_ip = totals["non_ip"].as_u64().map(|n| n + arp);
    let seen = json!({
        "packets": totals["received"]["packets"], "bytes": totals["received"]["bytes"],
        "malformed": totals["malformed"], "non_ip": non_ip, "arp": want["arp"],
    });
    if &seen != want { Err(format!("totals {totals}, counted apart {want}")) } else { Ok(()) }
}

/// The first host that differs.
fn hosts_differ(seen: &Value, want: &Value) -> String {
    let list = |v: &Value| v.as_array().cloned().unwrap_or_default();
    let (seen, want) = (list(seen), list(want));
    let first = (0..seen.len().max(want.len())).find(|i| seen.get(*i) != want.get(*i)).unwrap_or(0);
    let show = |v: &[Value]| v.get(first).map_or("nothing".into(), Value::to_string);
    format!(
        "{} hosts for {}; host {first}: {}, counted apart {}",
        seen.len(),
        want.len(),
        show(&seen),
        show(&want)
    )
}

/// Replays all captures, on all cores, and fails with every difference.
fn agree(captures: &[Capture]) {
    let folder = tempfile::tempdir().unwrap();
    let expected = oracle(captures, folder.path());
    let (next, differences) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let workers = thread::available_parallelism().map_or(2, usize::from);
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some((i, capture)) =
                    Some(next.fetch_add(1, Relaxed)).and_then(|i| Some((i, captures.get(i)?)))
                {
                    let out = folder.path().join(i.to_string());
                    if let Err(e) = compare(capture, &expected[i], &out) {
                        differences.lock().unwrap().push(format!("{}: {e}", capture.path.display()));
                    }
                }
            });
        }
    });
    let differences = differences.into_inner().unwrap();
    let (n, all) = (differences.len(), captures.len());
    assert!(differences.is_empty(), "{n} of {all} captures differ:\n{}", differences.join("\n"));
}

#[test]
fn captures_counters_of_the_named_server_agree_with_an_independent_count() {
    let Some(folder) = common::captures_dir() else { common::skip!("no captures") };
    let captures =
        captures(&folder, |_, server| if server == "-" { Vec::new() } else { vec![server.to_owned()] });
    assert!(captures.len() > 100, "only {} captures name a server", captures.len());
    agree(&captures);
}

#[test]
fn captures_counters_of_everyone_agree_with_an_independent_count() {
    let Some(folder) = common::captures_dir() else { common::skip!("no captures") };
    let captures = captures(&folder, |path, _| {
        let prefixes = everyone(path);
        // Captures without IP still have totals.
        if prefixes.is_empty() { vec!["192.0.2.0/24".into()] } else { prefixes }
    });
    assert!(captures.len() > 100, "only {} captures", captures.len());
    agree(&captures);
}
