//! `cordond replay`, and what it writes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use super::packets::{BEGIN_S, Recording};
use super::{bin, run};

/// For one capture on a busy machine.
const REPLAY: Duration = Duration::from_secs(120);

/// A finished replay; its folder goes when it is dropped.
pub(crate) struct Replayed {
    folder: TempDir,
    /// Incidents, in order of opening.
    pub(crate) incidents: Vec<Value>,
}

/// Replays a capture; the error is what it said.
pub(crate) fn replay(capture: &Path, options: &[&str]) -> Result<Replayed, String> {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(bin("cordond"));
    command.arg("replay").arg(capture).arg("--out").arg(folder.path()).args(options);
    let done = run(&command, REPLAY);
    if !done.status.success() {
        return Err(format!("{}: {}: {}", capture.display(), done.status, done.stderr));
    }
    let text = fs::read_to_string(folder.path().join("incidents.json")).unwrap();
    let all: Value = serde_json::from_str(&text).unwrap();
    Ok(Replayed { incidents: all["incidents"].as_array().unwrap().clone(), folder })
}

/// Replays what a test has recorded.
pub(crate) fn play(recording: Recording, options: &[&str]) -> Replayed {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("recorded.pcap");
    recording.write(&path);
    replay(&path, options).unwrap_or_else(|e| panic!("{e}"))
}

impl Replayed {
    /// Incidents of an address.
    pub(crate) fn of(&self, address: &str) -> Vec<&Value> {
        self.incidents.iter().filter(|i| i["address"] == address).collect()
    }

    /// The incident of an address and kind; there must be just one.
    pub(crate) fn one(&self, address: &str, kind: &str) -> &Value {
        let all: Vec<&Value> = self.of(address).into_iter().filter(|i| i["kind"] == kind).collect();
        assert_eq!(all.len(), 1, "{kind} of {address}: {:?}", self.short());
        all[0]
    }

    /// `ADDRESS KIND ACTION CASE` of each, for messages.
    pub(crate) fn short(&self) -> Vec<String> {
        let word = |v: &Value| v.as_str().unwrap_or("-").to_owned();
        let keys = ["address", "kind", "action", "case", "held_back"];
        self.incidents.iter().map(|i| keys.map(|k| word(&i[k])).join(" ")).collect()
    }

    /// Which servers were locked, in order of address.
    pub(crate) fn locked(&self) -> Vec<&str> {
        let mut all: Vec<&str> = self
            .incidents
            .iter()
            .filter(|i| i["action"] == "lock")
            .filter_map(|i| i["address"].as_str())
            .collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// A file of an incident's evidence.
    pub(crate) fn evidence(&self, incident: &Value, name: &str) -> PathBuf {
        self.folder.path().join(incident["id"].as_str().unwrap()).join(name)
    }

    /// A file in the folder.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

/// When something was done about an incident, nanoseconds after a recording's beginning (to the millisecond).
pub(crate) fn done_ns(incident: &Value, action: &str) -> Option<u64> {
    let all = incident["actions"].as_array().unwrap();
    let at = all.iter().find(|a| a["action"] == action)?["at"].as_str().unwrap();
    Some(time_ns(at) - BEGIN_S * 1_000_000_000)
}

/// `2013-11-13T18:14:27.100Z` in nanoseconds since 1970.
fn time_ns(text: &str) -> u64 {
    let stamp: std::time::SystemTime = humantime::parse_rfc3339(text).unwrap();
    u64::try_from(stamp.duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos()).unwrap()
}
