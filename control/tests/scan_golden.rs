//! The scan rules against real captures: every YES raises a finding of its kind, no NO or HARD NO does, with one and the
//! same defaults. The captures are test data beside the project; where they are missing, the tests say so and pass.
#![allow(
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking and tells what it saw"
)]

#[path = "scan_golden/flows.rs"]
mod flows;
#[path = "scan_golden/headers.rs"]
mod headers;

use std::net::IpAddr;
use std::path::PathBuf;

use cordond::scan::ScanKind;

struct Case {
    file: PathBuf,
    name: String,
    host: IpAddr,
    duration_s: f64,
    expect: [(ScanKind, String); 2],
}

fn cases() -> Option<Vec<Case>> {
    let folder = std::env::var_os("CORDON_CAPTURES").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/captures"),
        PathBuf::from,
    );
    let Ok(manifest) = std::fs::read_to_string(folder.join("MANIFEST.tsv")) else {
        println!("skipped: no captures at {}; set CORDON_CAPTURES", folder.display());
        return None;
    };
    let cases = manifest.lines().skip(1).filter_map(|line| {
        let column: Vec<&str> = line.split('\t').collect();
        let host = column.get(5)?.split('/').next()?.parse().ok()?;
        Some(Case {
            file: folder.join(column[0]),
            name: column[0].to_owned(),
            host,
            duration_s: column[11].parse().unwrap_or(0.0),
            expect: [(ScanKind::Netscan, column[6].to_owned()), (ScanKind::Portscan, column[7].to_owned())],
        })
    });
    Some(cases.collect())
}

/// All captures; `drop_ns` as in [`flows::play`]. What is over by then cannot be found in flows that were not kept.
fn judge_all(drop_ns: u64) {
    let Some(cases) = cases() else { return };
    let mut wrong = Vec::new();
    let mut yes = 0;
    for case in &cases {
        let found = flows::play(&case.file, case.host, drop_ns);
        for (kind, expected) in &case.expect {
            let words = found.words(*kind);
            #[expect(clippy::cast_precision_loss, reason = "a fraction of a second")]
            let over = case.duration_s * 1e9 <= drop_ns as f64;
            let wanted = expected.starts_with("YES") && !over;
            yes += usize::from(wanted);
            if wanted || words != "-" {
                println!("{:<44} {kind:?}: {words}   [{expected}]", case.name);
            }
            if wanted == (words == "-") {
                wrong.push(format!("{} {kind:?}: {words}, expected {expected}", case.name));
            }
        }
    }
    assert!(yes >= 10, "the manifest names only {yes} scans");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn captures_raise_what_they_should_and_nothing_else() {
    judge_all(0);
}

#[test]
fn captures_still_do_when_the_watch_begins_200_ms_late() {
    judge_all(200_000_000);
}
