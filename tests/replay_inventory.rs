//! `cordond replay` over the captures of the folder with an inventory that names their servers and MACs, as an operator
//! has one: bindings are on then, and rules ask whose an address is. Nobody who was innocent without it becomes suspect,
//! and no scan is hidden.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails here")]

mod common;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use common::replay::{Replayed, replay};
use common::run;
use serde_json::{Value, json};

/// For the oracle, and all captures.
const ORACLE: Duration = Duration::from_secs(120);

/// A capture that names a server.
struct Capture {
    path: PathBuf,
    internal: String,
    /// No column of the manifest says or leaves open that somebody did anything.
    innocent: bool,
    inventory: String,
}

fn captures(folder: &Path) -> Vec<Capture> {
    let manifest = fs::read_to_string(folder.join("MANIFEST.tsv")).unwrap();
    let mut lines = manifest.lines();
    let head: Vec<&str> = lines.next().unwrap().split('\t').collect();
    let column = |name: &str| head.iter().position(|h| *h == name).unwrap();
    let [file, category, internal] = ["file", "category", "internal"].map(column);
    let verdicts = ["expect_netscan", "expect_portscan", "expect_flood", "expect_netconfig"].map(column);
    // Decoders' regressions have sources that no server can have: multicast, link-local, the zero MAC.
    let all = lines.map(|line| line.split('\t').collect::<Vec<&str>>());
    let all = all.filter(|fields| fields[category] != "malformed").map(|fields| {
        let no = |c: &usize| {
            let verdict = fields[*c].to_ascii_lowercase();
            verdict.starts_with("no") || verdict.starts_with("hard no")
        };
        Capture {
            path: folder.join(fields[file]),
            internal: fields[internal].to_owned(),
            innocent: verdicts.iter().all(no),
            inventory: String::new(),
        }
    });
    all.filter(|c| c.internal != "-").collect()
}

/// Writes an inventory for each: its server with every MAC that sends with its address.
fn inventories(captures: &mut [Capture], folder: &Path) {
    let jobs = folder.join("jobs");
    let job = |c: &Capture| json!({ "capture": c.path, "internal": [c.internal] }).to_string();
    fs::write(&jobs, captures.iter().map(job).collect::<Vec<_>>().join("\n")).unwrap();
    let mut command = Command::new("/usr/bin/python3");
    command.arg(common::root().join("tests/oracle/hosts.py")).arg("--jobs").arg(&jobs);
    let answers = run(&command, ORACLE).expect_success();
    assert_eq!(answers.lines().count(), captures.len());
    for (n, (capture, answer)) in captures.iter_mut().zip(answers.lines()).enumerate() {
        let answer: Value = serde_json::from_str(answer).unwrap();
        let macs = answer["macs"].as_object().unwrap();
        assert!(macs.len() <= 1, "{}: one server", capture.path.display());
        let senders: Vec<&str> =
            macs.values().flat_map(|m| m.as_array().unwrap()).map(|m| m.as_str().unwrap()).collect();
        let mut text = String::from("id,addresses,macs\n");
        writeln!(text, "SERVER-1,{},{}", capture.internal, senders.join(" ")).unwrap();
        let path = folder.join(format!("{n}.csv"));
        fs::write(&path, text).unwrap();
        capture.inventory = path.to_str().unwrap().to_owned();
    }
}

/// What was found, without names and times. Of wrong configuration the device alone: an inventory lets a rule say whose
/// address it claimed, without one that is a guess.
fn verdicts(seen: &Replayed) -> Vec<String> {
    let keys = ["mac", "kind", "case", "rule", "direction", "action", "protocol", "ports", "address"];
    let of = |i: &Value| {
        let keys = &keys[..keys.len() - usize::from(i["kind"] == "misconfiguration")];
        keys.iter().map(|k| i[*k].to_string()).collect::<Vec<_>>().join(" ")
    };
    let mut all: Vec<String> = seen.incidents.iter().map(of).collect();
    all.sort();
    all
}

/// What is wrong with a capture's verdict, in words.
fn wrong(c: &Capture) -> Option<String> {
    let options = ["--lab", "--internal", &c.internal];
    let known = replay(&c.path, &[&options[..], &["--inventory", &c.inventory]].concat());
    let (plain, known) = match (replay(&c.path, &options), known) {
        (Ok(plain), Ok(known)) => (plain, known),
        (Err(e), _) | (_, Err(e)) => return Some(e),
    };
    if c.innocent && !known.locked().is_empty() {
        return Some(format!("locked: {:?}", known.short()));
    }
    let (before, after) = (verdicts(&plain), verdicts(&known));
    (before != after).then(|| format!("{before:?}, with the inventory {after:?}"))
}

#[test]
fn captures_verdicts_are_the_same_with_an_inventory_and_nobody_innocent_is_locked() {
    let Some(folder) = common::captures_dir() else { common::skip!("no captures") };
    let place = tempfile::tempdir().unwrap();
    let mut captures = captures(&folder);
    inventories(&mut captures, place.path());
    let innocent = captures.iter().filter(|c| c.innocent).count();
    assert!(captures.len() > 60 && innocent >= 40, "{} captures, {innocent} innocent", captures.len());
    let (next, found) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let workers = thread::available_parallelism().map_or(2, usize::from);
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some(c) = captures.get(next.fetch_add(1, Relaxed)) {
                    if let Some(w) = wrong(c) {
                        found.lock().unwrap().push(format!("{}: {w}", c.path.display()));
                    }
                }
            });
        }
    });
    let found = found.into_inner().unwrap();
    assert!(found.is_empty(), "{} of {}:\n{}", found.len(), captures.len(), found.join("\n"));
}
