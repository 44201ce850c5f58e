//! What a replay writes: hosts.json, incidents.json, totals.json, evidence.

use std::fs;
use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;

use api::Traffic;
use region::facts::SideCounters;
use region::{Class, Dir, HostId, Side, Verdict};
use serde::Serialize;
use serde_json::{Value, json};

use super::Replay;
use crate::report::traffic;

fn failed(doing: &str, path: &Path, e: &std::io::Error) -> String {
    format!("{doing} {}: {e}; choose another --out, or make it writable", path.display())
}

/// A folder of an incident's evidence, as [`evidence`] makes it.
fn is_evidence(name: &str) -> bool {
    let mut parts = name.split('-');
    let digits = |p: Option<&str>| p.is_some_and(|p| p.len() >= 4 && p.bytes().all(|b| b.is_ascii_digit()));
    parts.next() == Some("C") && digits(parts.next()) && digits(parts.next()) && parts.next().is_none()
}

/// Makes the folder. Evidence of an earlier replay in it goes: it would be taken for this one's.
pub(super) fn prepare(out: &Path) -> Result<(), String> {
    fs::create_dir_all(out).map_err(|e| failed("mkdir", out, &e))?;
    for entry in fs::read_dir(out).map_err(|e| failed("reading", out, &e))?.flatten() {
        if is_evidence(&entry.file_name().to_string_lossy()) {
            fs::remove_dir_all(entry.path()).map_err(|e| failed("removing", &entry.path(), &e))?;
        }
    }
    Ok(())
}

/// Writes a file of evidence.
pub(super) fn evidence(out: &Path, incident: &str, name: &str, bytes: &[u8]) -> Result<(), String> {
    let dir = out.join(incident);
    fs::create_dir_all(&dir).map_err(|e| failed("mkdir", &dir, &e))?;
    let path = dir.join(name);
    fs::write(&path, bytes).map_err(|e| failed("writing", &path, &e))
}

/// The counters of formats.md, section 5.
#[derive(Serialize)]
struct Counters {
    packets: u64,
    bytes: u64,
    tcp: u64,
    syn: u64,
    udp: u64,
    icmp: u64,
    fragments: u64,
    other: u64,
}

#[derive(Serialize)]
struct Host {
    address: String,
    out: Counters,
    #[serde(rename = "in")]
    inbound: Counters,
}

fn counters(t: &Traffic, missing: u64) -> Counters {
    Counters {
        packets: t.packets,
        bytes: t.bytes.saturating_sub(missing),
        tcp: t.tcp,
        syn: t.syn,
        udp: t.udp,
        icmp: t.icmp,
        fragments: t.fragments,
        other: t.other,
    }
}

/// Every internal address that moved, in order of address.
fn hosts(r: &Replay) -> Vec<Host> {
    let mut found = Vec::new();
    for id in 0..r.facts.capacities().hosts() {
        let host = HostId(id);
        let [out, inbound] = Dir::ALL.map(|dir| traffic(&r.facts, host, dir));
        if out.packets + inbound.packets == 0 {
            continue;
        }
        let Some(net) = r.control.networks().target(host, Some(&r.facts)) else { continue };
        let missing = |dir| r.missing_of.get(&(host, dir)).copied().unwrap_or(0);
        let line = Host {
            address: api::Target::Prefix(net).to_string(),
            out: counters(&out, missing(Dir::Out)),
            inbound: counters(&inbound, missing(Dir::In)),
        };
        found.push((net, line));
    }
    found.sort_unstable_by_key(|(net, _)| *net);
    found.into_iter().map(|(_, line)| line).collect()
}

fn sum(r: &Replay, field: impl Fn(&SideCounters) -> u64) -> u64 {
    let workers = r.facts.workers().iter();
    workers.flat_map(|w| Side::ALL.map(|s| field(w.side(s)))).sum()
}

fn totals(r: &Replay, damage: Option<&str>) -> Value {
    let verdict = |v: Verdict| {
        let packets = sum(r, |s| s.verdict_packets[v.index()].load(Relaxed));
        let bytes = sum(r, |s| s.verdict_bytes[v.index()].load(Relaxed));
        json!({ "packets": packets, "bytes": bytes.saturating_sub(r.missing[v.index()]) })
    };
    let dropped: serde_json::Map<String, Value> = Verdict::ALL
        .into_iter()
        .filter(|v| v.is_drop())
        .map(|v| (v.name().trim_start_matches("drop_").replace('_', "-"), verdict(v)))
        .collect();
    let class = |c: Class| sum(r, |s| s.class_packets[c.index()].load(Relaxed));
    let missing: u64 = r.missing.iter().sum();
    json!({
        "received": {
            "packets": sum(r, |s| s.rx_packets.load(Relaxed)),
            "bytes": sum(r, |s| s.rx_bytes.load(Relaxed)).saturating_sub(missing),
        },
        "forwarded": verdict(Verdict::Forward),
        "dropped": dropped,
        "malformed": class(Class::Malformed),
        "non_ip": class(Class::NonIp),
        "arp": class(Class::Arp),
        "timestamps_backwards": r.backwards,
        "damage": damage,
    })
}

/// Writes the three files.
pub(super) fn write(out: &Path, r: &Replay, damage: Option<&str>) -> Result<(), String> {
    let incidents = r.control.incidents().rows();
    for (name, value) in [
        ("hosts.json", json!({ "hosts": hosts(r) })),
        ("incidents.json", json!({ "incidents": incidents })),
        ("totals.json", totals(r, damage)),
    ] {
        let path = out.join(name);
        let text = serde_json::to_string_pretty(&value).map_err(|e| format!("writing {name}: {e}"))?;
        fs::write(&path, text + "\n").map_err(|e| failed("writing", &path, &e))?;
    }
    Ok(())
}

/// Says what was found, on standard output.
pub(super) fn say(as_json: bool, out: &Path, r: &Replay) {
    use std::io::Write;
    let packets = sum(r, |s| s.rx_packets.load(Relaxed));
    let incidents = r.control.incidents().rows();
    let mut text = String::new();
    if as_json {
        let value = json!({ "packets": packets, "incidents": incidents, "out": out });
        text = format!("{value}\n");
    } else {
        let n = incidents.len();
        let s = if n == 1 { "" } else { "s" };
        text += &format!("{packets} packets, {n} incident{s}; written to {}\n", out.display());
        for i in &incidents {
            let who = i.address.as_deref().or(i.mac.as_deref()).unwrap_or("unknown");
            text += &format!("  {}  {}  {who}  {}: {}", i.id, i.first_seen, i.kind, i.action);
            text += &format!(" ({})\n", i.rule);
        }
    }
    // A reader that has seen enough is no error.
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}
