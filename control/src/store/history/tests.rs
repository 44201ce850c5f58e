//! Histories on disk: sums stay what they are, whatever is joined, forgotten, lost or damaged.

use super::*;
use crate::window::Counts;

const T0: i64 = 1_790_000_000_000 - 1_790_000_000_000 % COARSE_MS;
const MINUTE: i64 = 60_000;

fn tally(packets: u64) -> Tally {
    let out = Counts { packets, bytes: 60 * packets, ..Counts::default() };
    Tally { pair: [out, Counts::default()], ..Tally::default() }
}

/// A piece of five minutes for hosts 9 and 10 of the block, which ends at this minute.
fn rows(block: &str, minute: i64, packets: u64) -> HistoryOp {
    let (a, b) = (tally(packets), tally(1));
    HistoryOp::Rows(vec![HistoryRow {
        block: block.into(),
        since: time(T0 + (minute - 5) * MINUTE),
        until: time(T0 + minute * MINUTE),
        body: encode([(9, &b), (10, &a)].into_iter()),
    }])
}

fn ask(h: &mut History, from: i64, to: i64) -> Found {
    let q = Question {
        target: "192.0.2.10".parse().expect("a target"),
        block: "192.0.2.0/24".into(),
        octet: 10,
        asked: Span { since: time(T0 + from * MINUTE), until: time(T0 + to * MINUTE) },
        claimed: None,
        recent: None,
        incidents: Vec::new(),
        locks: Vec::new(),
        blind: None,
    };
    h.find(&q).expect("found")
}

fn sum(h: &mut History, from: i64, to: i64) -> u64 {
    ask(h, from, to).tally.pair[0].packets
}

fn keep(h: &mut History, now: i64, since: i64, bytes_max: u64) {
    h.take(HistoryOp::Keep { now: time(T0 + now * MINUTE), since: time(T0 + since * MINUTE), bytes_max });
}

fn number_of_rows(dir: &Path) -> i64 {
    let c = Connection::open(dir.join(FILE)).expect("a file");
    c.query_row("SELECT count(*) FROM pieces", [], |r| r.get(0)).expect("a count")
}

#[test]
fn what_is_joined_and_reopened_adds_up_and_what_is_forgotten_is_unknown() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut h = History::new(dir.path());
    // Three days.
    for i in 1..=3 * 288 {
        h.take(rows("192.0.2.0/24", i * 5, 7));
        h.take(rows("198.51.100.0/24", i * 5, 1_000));
    }
    let watched = HistoryOp::Watched { since: time(T0), until: time(T0 + 3 * 1440 * MINUTE) };
    h.take(watched.clone());
    assert_eq!(sum(&mut h, 0, 3 * 1440), 7 * 864);
    assert_eq!(sum(&mut h, 60, 70), 14, "pieces that begin or end at the border are not in it");
    keep(&mut h, 3 * 1440, -9_999, u64::MAX);
    assert_eq!(number_of_rows(dir.path()), 2 * (48 + 288), "two days in hours, one in pieces");
    assert_eq!(sum(&mut h, 0, 3 * 1440), 7 * 864);
    let hour = ask(&mut h, 61, 62);
    assert_eq!(hour.tally.pair[0].packets, 84, "an old minute is known by its hour alone");
    assert_eq!(hour.covered.map(|c| c.since), Some(time(T0 + 60 * MINUTE)));

    drop(h);
    let mut h = History::new(dir.path());
    keep(&mut h, 3 * 1440, 1440, u64::MAX);
    assert_eq!(sum(&mut h, 0, 3 * 1440), 7 * 576);
    // The same life goes on: of what was forgotten it must not say again that it is known.
    h.take(watched);
    let known = ask(&mut h, 0, 3 * 1440).known;
    assert_eq!(known.iter().map(|k| k.since).min(), Some(time(T0 + 1440 * MINUTE)), "{known:?}");
}

#[test]
fn the_oldest_goes_when_there_is_too_much() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut h = History::new(dir.path());
    for i in 1..=288 {
        h.take(rows("192.0.2.0/24", i * 5, 7));
    }
    h.take(HistoryOp::Watched { since: time(T0), until: time(T0 + 1440 * MINUTE) });
    let all = sum(&mut h, 0, 1440);
    keep(&mut h, 1440, -9_999, 10_000);
    let left = sum(&mut h, 0, 1440);
    assert!(left > 0 && left < all, "{left} of {all}");
    let first = ask(&mut h, 0, 1440).known[0].since;
    assert!(first > time(T0), "and is not known any more");
    assert_eq!(sum(&mut h, 0, (first.unix_ms() - T0) / MINUTE), 0);
}

#[test]
fn what_a_failing_disk_does_not_take_waits_and_becomes_a_gap_in_the_end() {
    let dir = tempfile::tempdir().expect("a directory");
    // A directory in its place: nothing can be opened.
    let path = dir.path().join(FILE);
    std::fs::create_dir(&path).expect("a directory");
    let mut h = History::new(dir.path());
    h.take(rows("192.0.2.0/24", 5, 7));
    assert!(h.failure().is_some());
    std::fs::remove_dir(&path).expect("removed");
    h.take(rows("192.0.2.0/24", 10, 7));
    assert!(h.failure().is_none());
    h.take(HistoryOp::Watched { since: time(T0), until: time(T0 + 10 * MINUTE) });
    assert_eq!(sum(&mut h, 0, 10), 14, "nothing is lost by a disk that fails for a while");

    // For longer than memory lasts.
    h.conn = None;
    std::fs::rename(&path, dir.path().join("aside")).expect("renamed");
    std::fs::create_dir(&path).expect("a directory");
    let large = |minute: i64| {
        HistoryOp::Rows(vec![HistoryRow {
            block: "198.51.100.0/24".into(),
            since: time(T0 + (minute - 5) * MINUTE),
            until: time(T0 + minute * MINUTE),
            body: vec![0; WAITING_MAX / 4],
        }])
    };
    for i in 3..=8 {
        h.take(large(i * 5));
    }
    assert!(h.waiting_bytes <= WAITING_MAX);
    std::fs::remove_dir(&path).expect("removed");
    std::fs::rename(dir.path().join("aside"), &path).expect("renamed");
    h.take(HistoryOp::Watched { since: time(T0), until: time(T0 + 60 * MINUTE) });
    let known = ask(&mut h, 0, 60).known;
    let gap = Span { since: time(T0 + 10 * MINUTE), until: time(T0 + 25 * MINUTE) };
    assert_eq!(
        known,
        [
            Span { since: time(T0), until: gap.since },
            Span { since: gap.until, until: time(T0 + 60 * MINUTE) }
        ]
    );
}

#[test]
fn a_damaged_file_is_set_aside_and_a_new_one_begun() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join(FILE);
    std::fs::write(&path, b"this is no database at all, whatever its name says".repeat(100))
        .expect("written");
    let mut h = History::new(dir.path());
    h.take(rows("192.0.2.0/24", 5, 7));
    h.take(rows("192.0.2.0/24", 10, 7));
    assert!(h.failure().is_none(), "{:?}", h.failure());
    assert_eq!(sum(&mut h, 0, 60), 14);
    assert!(dir.path().join("history.db.damaged").exists());
}
