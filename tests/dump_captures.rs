//! `cordond dump` over every capture of the folder: line for line what tcpdump printed (FILE.tcpdump.txt), but for the
//! differences that `RULES` names. Where tcpdump is installed, the same for packets that were cut.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails here")]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use common::run;

/// For one capture.
const DUMP: Duration = Duration::from_secs(60);

/// One packet, as tcpdump and as we print it.
struct Pair<'a> {
    /// tcpdump's line, without its time.
    theirs: &'a str,
    /// Its time.
    their_time: &'a str,
    ours: &'a str,
    our_time: &'a str,
    /// Bytes kept and length on the wire, as the file says.
    record: Option<(u32, u32)>,
}

/// A difference and why it stays.
struct Rule {
    name: &'static str,
    applies: fn(&Pair<'_>) -> bool,
}

/// Ethertypes that tcpdump decodes and we only name: clocks (PTP), encryption (MACsec), OAM (CFM), service chaining (NSH),
/// Arista's timestamps, and what no server has sent for decades.
const NAMED_ONLY: &[&str] =
    &["0x88f7", "0x88e5", "0x8902", "0xabcd", "0x894f", "0xd28b", "0xfefe", "0x880b", "0x88ca"];

const RULES: &[Rule] = &[
    Rule {
        name: "a fraction of a second that is one or more: we carry it over, tcpdump prints it as it is",
        applies: |p| p.their_time.len() > "00:00:00.000000".len() && p.theirs == p.ours,
    },
    Rule {
        name: "a time that tcpdump cannot convert (after 2038): we print it",
        applies: |p| p.theirs.strip_prefix("time] ") == Some(p.ours),
    },
    Rule {
        name: "a packet without bytes or length, or longer than 256 KiB: tcpdump prints no line",
        applies: |p| p.theirs.starts_with("header: ") && p.their_time == "[Invalid",
    },
    Rule {
        name: "a length on the wire below what was kept: we take what was kept",
        applies: |p| p.record.is_some_and(|(kept, wire)| wire < kept),
    },
    Rule {
        name: "an ethertype that we only name",
        applies: |p| NAMED_ONLY.iter().any(|t| p.ours.contains(&format!("Unknown Ethertype ({t})"))),
    },
    Rule { name: "AppleTalk: we only name it", applies: |p| p.ours.contains(", Appletalk") },
    Rule {
        name: "IPX and ISO (IS-IS) in LLC frames: we only name them",
        applies: |p| [" IPX ", " OSI "].iter().any(|n| p.ours.contains(&format!("{n}Unnumbered, ui, "))),
    },
    Rule {
        name: "names and passwords (PAP): evidence does not repeat them",
        applies: |p| p.theirs.starts_with(&format!("{}, ", p.ours)) && p.ours.contains(" PAP, "),
    },
    Rule {
        name: "node information (RFC 4620): we name query and reply, not what was asked",
        applies: |p| p.ours.contains("who-are-you re") && p.theirs.contains(" node information "),
    },
    Rule {
        name: "IGRP: a protocol number and a length",
        applies: |p| p.theirs.contains(": igrp: ") && p.ours.contains(":  ip-proto-9 "),
    },
    Rule {
        name: "a fragment header beyond the end of the packet: tcpdump prints a length below zero as 2^64 less 8",
        applies: |p| p.theirs.contains("|18446744073709551608)"),
    },
    Rule {
        name: "VRRP that tcpdump takes for cut behind a malformed packet, and prints whole when it is alone in a file",
        applies: |p| p.theirs.strip_suffix(" [|vrrp]").is_some_and(|whole| p.ours.starts_with(whole)),
    },
];

/// `(bytes kept, length on the wire)` of the packets of a pcap file with Ethernet frames, and the frames.
fn records(path: &Path) -> Vec<(u32, u32, Vec<u8>)> {
    let bytes = fs::read(path).unwrap();
    let word: fn([u8; 4]) -> u32 = match bytes.get(..4) {
        Some([0xd4, 0xc3, 0xb2, 0xa1] | [0x4d, 0x3c, 0xb2, 0xa1]) => u32::from_le_bytes,
        Some([0xa1, 0xb2, 0xc3, 0xd4] | [0xa1, 0xb2, 0x3c, 0x4d]) => u32::from_be_bytes,
        _ => return Vec::new(),
    };
    let at = |n: usize| Some(word(bytes.get(n..n + 4)?.try_into().unwrap()));
    let (mut n, mut found) = (24, Vec::new());
    while let (Some(kept), Some(wire)) = (at(n + 8), at(n + 12)) {
        let end = n + 16 + kept as usize;
        let Some(frame) = bytes.get(n + 16..end) else { break };
        found.push((kept, wire, frame.to_vec()));
        n = end;
    }
    found
}

/// Writes frames with their lengths on the wire as a pcap file.
fn write_pcap<'a>(path: &Path, frames: impl Iterator<Item = (&'a [u8], u32)>) {
    let mut out = Vec::new();
    for word in [0xa1b2_c3d4, 0x0004_0002, 0, 0, 262_144, 1_u32] {
        out.extend(word.to_le_bytes());
    }
    for (i, (frame, wire)) in frames.enumerate() {
        let kept = u32::try_from(frame.len()).unwrap();
        for word in [1_384_366_467 + u32::try_from(i).unwrap() / 1000, 123_456, kept, wire] {
            out.extend(word.to_le_bytes());
        }
        out.extend(frame);
    }
    fs::write(path, out).unwrap();
}

/// The captures in a folder that have an oracle beside them.
fn captures(folder: &Path) -> Vec<PathBuf> {
    let names = fs::read_dir(folder).unwrap().map(|e| e.unwrap().path().display().to_string());
    let mut all: Vec<PathBuf> =
        names.filter_map(|n| n.strip_suffix(".tcpdump.txt").map(PathBuf::from)).collect();
    all.sort();
    all
}

fn is_time(word: &str) -> bool {
    word.len() >= 15
        && word.bytes().zip(*b"00:00:00.000000").all(
            |(w, f)| {
                if f == b'0' { w.is_ascii_digit() } else { w == f }
            },
        )
}

/// The lines of packets: time and rest. tcpdump adds lines of hex dump.
fn packets(text: &str) -> Vec<(&str, &str)> {
    let lines = text.lines().filter_map(|l| l.split_once(' '));
    lines
        .filter(|(t, rest)| is_time(t) || *t == "[Invalid" || (*t == "[Error" && rest.contains("time]")))
        .collect()
}

fn dump(path: &Path) -> common::Finished {
    let mut command = Command::new(common::bin("cordond"));
    command.arg("dump").arg(path);
    run(&command, DUMP)
}

/// What the lines of one capture came to.
#[derive(Default)]
struct Outcome {
    unexplained: Vec<String>,
    rules: BTreeMap<&'static str, usize>,
}

impl Outcome {
    fn agrees(&self) -> bool {
        self.unexplained.is_empty() && self.rules.is_empty()
    }
}

/// Compares line for line.
fn compare(path: &Path, theirs: &str, ours: &str) -> Outcome {
    let mut outcome = Outcome::default();
    let (theirs, ours) = (packets(theirs), packets(ours));
    let records = records(path);
    if theirs.len() != ours.len() {
        outcome.unexplained.push(format!("{} packets for {}", ours.len(), theirs.len()));
    }
    for (i, (&(their_time, theirs), &(our_time, ours))) in theirs.iter().zip(&ours).enumerate() {
        // `[Error converting time] IP …`
        let theirs = theirs.strip_prefix("converting ").filter(|_| their_time == "[Error").unwrap_or(theirs);
        let record = records.get(i).map(|(kept, wire, _)| (*kept, *wire));
        let pair = Pair { theirs, their_time, ours, our_time, record };
        if (pair.their_time, pair.theirs) == (pair.our_time, pair.ours) {
            continue;
        }
        match RULES.iter().find(|r| (r.applies)(&pair)) {
            Some(rule) => *outcome.rules.entry(rule.name).or_default() += 1,
            None => outcome.unexplained.push(format!(
                "packet {}:\n  tcpdump {} {:?}\n  cordond {} {:?}",
                i + 1,
                pair.their_time,
                pair.theirs,
                pair.our_time,
                pair.ours
            )),
        }
    }
    outcome
}

/// One capture against its oracle.
fn against_oracle(path: &Path) -> Outcome {
    let mut outcome = Outcome::default();
    let done = dump(path);
    let name = path.display().to_string();
    let complaint = fs::read_to_string(format!("{name}.tcpdump.err")).unwrap_or_default();
    if complaint.contains("an interface has a snapshot length") {
        let rule = "interfaces with different snapshot lengths: tcpdump refuses the file, we read it";
        *outcome.rules.entry(rule).or_default() += 1;
        assert!(done.status.success(), "{name}: {}", done.stderr);
        return outcome;
    }
    if !done.status.success() {
        assert_eq!(done.status.code(), Some(1), "{name}: {}", done.stderr);
        assert!(done.stderr.contains(&name), "the message names no file: {}", done.stderr);
        let rule = if done.stderr.contains("only Ethernet") {
            "a link that is not Ethernet: refused"
        } else {
            "a file that is no capture: refused"
        };
        *outcome.rules.entry(rule).or_default() += 1;
        return outcome;
    }
    let oracle = fs::read(format!("{name}.tcpdump.txt")).unwrap();
    compare(path, &String::from_utf8_lossy(&oracle), &done.stdout)
}

/// All of a folder, on all cores: how many agree wholly, and the rules that were needed.
fn folder(
    captures: &[PathBuf],
    judge: impl Fn(&Path) -> Outcome + Sync,
) -> (usize, BTreeMap<&'static str, usize>) {
    let next = AtomicUsize::new(0);
    let outcomes = Mutex::new(Vec::new());
    let workers = thread::available_parallelism().map_or(2, usize::from);
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some(path) = captures.get(next.fetch_add(1, Relaxed)) {
                    let outcome = judge(path);
                    outcomes.lock().unwrap().push((path.clone(), outcome));
                }
            });
        }
    });
    let outcomes = outcomes.into_inner().unwrap();
    assert_eq!(outcomes.len(), captures.len());
    let mut unexplained = Vec::new();
    let mut rules = BTreeMap::new();
    for (path, o) in &outcomes {
        if let Some(first) = o.unexplained.first() {
            unexplained.push(format!("{}: {} lines, first {first}", path.display(), o.unexplained.len()));
        }
        for (rule, n) in &o.rules {
            *rules.entry(*rule).or_default() += n;
        }
    }
    assert!(unexplained.is_empty(), "{} captures differ:\n{}", unexplained.len(), unexplained.join("\n"));
    (outcomes.iter().filter(|(_, o)| o.agrees()).count(), rules)
}

#[test]
fn captures_dump_is_what_tcpdump_prints() {
    let Some(dir) = common::captures_dir() else { common::skip!("no captures") };
    let all = captures(&dir);
    assert!(all.len() > 50, "only {} captures", all.len());
    let (agree, rules) = folder(&all, against_oracle);
    eprintln!("{agree} of {} captures agree line for line", all.len());
    assert_eq!(agree, all.len(), "rules that were needed: {rules:#?}");
}

#[test]
fn captures_dump_of_malformed_packets_differs_by_named_rules_only() {
    let Some(dir) = common::captures_dir() else { common::skip!("no captures") };
    let all = captures(&dir.join("malformed"));
    let (agree, rules) = folder(&all, against_oracle);
    eprintln!("{agree} of {} captures agree line for line; lines by rule: {rules:#?}", all.len());
}

#[test]
fn captures_dump_of_cut_packets_is_what_tcpdump_prints() {
    let Some(dir) = common::captures_dir() else { common::skip!("no captures") };
    if let Some(tool) = common::lacks(&["tcpdump"]) {
        common::skip!("{tool} is not installed");
    }
    let scratch = tempfile::tempdir().unwrap();
    let all = captures(&dir);
    let (agree, _) = folder(&all, |path| {
        let frames = records(path);
        let cut = scratch.path().join(path.file_name().unwrap());
        // What evidence keeps of a packet, and less.
        let lengths = [100, 54, 42, 38, 24];
        let frames = frames.iter().filter(|(kept, wire, _)| 0 < *kept && kept <= wire && *wire <= 262_144);
        write_pcap(
            &cut,
            frames.enumerate().map(|(i, (_, wire, frame))| {
                let keep = lengths[i % lengths.len()].min(frame.len());
                (&frame[..keep], *wire)
            }),
        );
        let mut tcpdump = Command::new("tcpdump");
        tcpdump.args(["-nn", "-q", "-r"]).arg(&cut).env("TZ", "UTC");
        let theirs = run(&tcpdump, DUMP);
        let ours = dump(&cut);
        assert!(theirs.status.success() && ours.status.success(), "{}: {}", theirs.stderr, ours.stderr);
        compare(&cut, &theirs.stdout, &ours.stdout)
    });
    assert_eq!(agree, all.len());
}

/// The same numbers everywhere (xorshift64).
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap() % n.max(1)
    }
}

#[test]
fn captures_dump_survives_random_changes() {
    let Some(dir) = common::captures_dir() else { common::skip!("no captures") };
    let mut r = Random(0x5bd1_e995_9d1b_58d3);
    let mut frames: Vec<(Vec<u8>, u32)> = Vec::new();
    for path in captures(&dir).iter().chain(&captures(&dir.join("malformed"))) {
        for (_, wire, frame) in records(path).into_iter().take(50).filter(|r| !r.2.is_empty()) {
            for _ in 0..4 {
                let mut f = frame.clone();
                for _ in 0..=r.below(8) {
                    let at = r.below(f.len().min(120));
                    f[at] = u8::try_from(r.below(256)).unwrap();
                }
                f.truncate(1 + r.below(f.len()));
                frames.push((f, wire));
            }
        }
    }
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("changed.pcap");
    write_pcap(&path, frames.iter().map(|(f, wire)| (&f[..], *wire)));
    let lines = dump(&path).expect_success();
    assert_eq!(lines.lines().count(), frames.len() + 1);
}

/// A capture of 60-byte frames that are nobody's.
fn small_capture(path: &Path, packets: usize) {
    let mut frame = [0; 60];
    frame[12..14].copy_from_slice(&0x88b5_u16.to_be_bytes());
    write_pcap(path, (0..packets).map(|_| (&frame[..], 60)));
}

#[test]
fn dump_prints_a_head_line_and_as_many_packets_as_it_is_asked_for() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("a.pcap");
    small_capture(&path, 5);
    let line =
        "18:14:27.123456 00:00:00:00:00:00 > 00:00:00:00:00:00, Unknown Ethertype (0x88b5), length 60: ";
    let mut command = Command::new(common::bin("cordond"));
    command.arg("dump").arg(&path).args(["--count", "2"]);
    let out = run(&command, DUMP).expect_success();
    assert_eq!(out.lines().collect::<Vec<_>>(), ["Traffic from 2013-11-13 on, all times UTC", line, line]);
    assert_eq!(dump(&path).expect_success().lines().count(), 6);
}

#[test]
fn dump_says_what_is_wrong_with_a_file() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("a.pcap");
    let refused = |what: &str| {
        let done = dump(&path);
        assert_eq!(done.status.code(), Some(1));
        assert_eq!(done.stdout, "");
        let named = done.stderr.contains(&path.display().to_string());
        assert!(named && done.stderr.contains(what), "{}", done.stderr);
    };
    refused("No such file");
    fs::write(&path, "no capture, certainly none").unwrap();
    refused("not a pcap or pcapng file");
    small_capture(&path, 3);
    let mut bytes = fs::read(&path).unwrap();
    bytes.truncate(bytes.len() - 10);
    fs::write(&path, &bytes).unwrap();
    let done = dump(&path);
    assert!(done.status.success());
    assert_eq!(done.stdout.lines().count(), 3);
    assert!(done.stderr.contains("what came before it is printed"), "{}", done.stderr);
    bytes[20] = 113;
    fs::write(&path, &bytes).unwrap();
    refused("only Ethernet");
}

#[test]
fn dump_ends_quietly_when_its_reader_does() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("a.pcap");
    small_capture(&path, 50_000);
    let mut command = Command::new(common::bin("cordond"));
    command.arg("dump").arg(&path).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut first = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut first).unwrap();
    assert!(first.starts_with("Traffic from "));
    let done = child.wait_with_output().unwrap();
    assert!(done.status.success(), "{}", done.status);
    assert_eq!(String::from_utf8_lossy(&done.stderr), "");
}
