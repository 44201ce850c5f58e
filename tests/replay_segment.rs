//! `cordond replay` finds wrong network configuration in the captures that have some, and in no other.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails here")]

mod common;

use std::fs;
use std::process::Command;
use std::time::Duration;

use common::run;
use serde_json::Value;

const REPLAY: Duration = Duration::from_secs(60);

/// What a capture is expected to show, from its line of the manifest: an incident, none, or either.
fn expected(column: &str, category: &str) -> Option<bool> {
    if column.starts_with("YES") {
        return Some(true);
    }
    // Words that leave it to the reader: grey cases, roles that are no offence by themselves.
    let grey = ["grey", "seen", "RA ", "legit", "invalid", "starvation", "learned", "MACs", "PVST", "flag"];
    if column.contains("unless") || grey.iter().any(|w| column.contains(w)) || category == "malformed" {
        return None;
    }
    Some(false)
}

#[test]
fn captures_wrong_configuration_is_found_where_there_is_some_and_nowhere_else() {
    let Some(folder) = common::captures_dir() else { common::skip!("no captures") };
    let manifest = fs::read_to_string(folder.join("MANIFEST.tsv")).unwrap();
    let mut lines = manifest.lines();
    let head: Vec<&str> = lines.next().unwrap().split('\t').collect();
    let column = |name: &str| head.iter().position(|h| *h == name).unwrap();
    let (file, internal, netconfig, category) =
        (column("file"), column("internal"), column("expect_netconfig"), column("category"));
    let out = tempfile::tempdir().unwrap();
    let (mut wrong, mut found, mut silent) = (Vec::new(), 0, 0);
    for line in lines {
        let f: Vec<&str> = line.split('\t').collect();
        let Some(expected) = expected(f[netconfig], f[category]) else { continue };
        let mut command = Command::new(common::bin("cordond"));
        command.arg("replay").arg(folder.join(f[file])).args(["--lab", "--out"]).arg(out.path());
        command.args(["--internal", if f[internal] == "-" { "192.0.2.0/24" } else { f[internal] }]);
        run(&command, REPLAY).expect_success();
        let text = fs::read_to_string(out.path().join("incidents.json")).unwrap();
        let incidents: Value = serde_json::from_str(&text).unwrap();
        let of_kind = |i: &&Value| i["kind"] == "misconfiguration";
        let incidents: Vec<&Value> =
            incidents["incidents"].as_array().unwrap().iter().filter(of_kind).collect();
        if incidents.is_empty() == expected {
            wrong.push(format!("{}: {} expected, {incidents:?}", f[file], f[netconfig]));
        }
        for i in &incidents {
            found += 1;
            let id = i["id"].as_str().unwrap();
            let log = fs::read_to_string(out.path().join(id).join("misconfiguration.log")).unwrap();
            assert!(
                log.contains(i["mac"].as_str().unwrap()) && log.contains(i["case"].as_str().unwrap()),
                "{log}"
            );
            assert_eq!(i["action"], "warn", "without an inventory nobody is locked: {i}");
        }
        silent += usize::from(!expected);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(found >= 10 && silent >= 40, "{found} found, {silent} expected to be silent");
}
