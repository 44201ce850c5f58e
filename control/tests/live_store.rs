//! The store on a disk that is full, or cannot be written. Needs root: it mounts small file systems of its own.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use api::{Action, Direction, IncidentRow, Kind, LockRow, Reason, State, Time};
use cordond::effect::{BatchId, StoreOp};
use cordond::store::{Opened, Places, Store};
use tempfile::TempDir;

const SOON: Duration = Duration::from_secs(20);

/// A file system of 1 MiB in memory.
struct Disk(TempDir);

fn run(program: &str, arguments: &[&str]) {
    let out = Command::new(program).args(arguments).output().unwrap();
    assert!(out.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&out.stderr));
}

impl Disk {
    fn mount() -> Disk {
        let dir = tempfile::Builder::new().prefix("cordon-disk").tempdir().unwrap();
        run(
            "mount",
            &["-t", "tmpfs", "-o", "size=1m,mode=0700", "cordon-test", dir.path().to_str().unwrap()],
        );
        Disk(dir)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn remount(&self, how: &str) {
        run("mount", &["-o", &format!("remount,{how}"), self.path().to_str().unwrap()]);
    }

    /// Leaves no byte free.
    fn fill(&self) {
        use std::io::Write;
        let mut f = std::fs::File::create(self.path().join("ballast")).unwrap();
        let full = loop {
            if let Err(e) = f.write_all(&[0; 4096]) {
                break e;
            }
        };
        assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
    }

    fn free(&self) {
        std::fs::remove_file(self.path().join("ballast")).unwrap();
    }

    fn open(&self) -> Opened {
        let scratch = Path::new("/dev/shm");
        Store::open(Places { state: self.path(), scratch, in_force: None }, || ()).unwrap()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.path()).output();
    }
}

fn row(id: u64) -> StoreOp {
    StoreOp::PutLock(Box::new(LockRow {
        // Large enough to need new pages.
        note: Some("x".repeat(9_000)),
        ..LockRow::new(
            id,
            format!("10.0.{}.{}", id / 250, id % 250).parse().unwrap(),
            Direction::Both,
            Reason::Abuse,
            "root",
            Time::from_unix_ms(0),
        )
    }))
}

fn plain_incident() -> IncidentRow {
    let at = Time::from_unix_ms(1);
    IncidentRow {
        id: String::new(),
        kind: Kind::AttackOut,
        address: Some("10.0.0.1".into()),
        mac: None,
        direction: Direction::Out,
        action: Action::Lock,
        actions: Vec::new(),
        rule: "syn-out/default".into(),
        opened: at,
        first_seen: at,
        last_seen: at,
        protocol: None,
        case: None,
        ports: Vec::new(),
        attack: None,
        contacts: 0,
        answered: 0,
        measure: "syn".into(),
        window: "fast".into(),
        limit: 1,
        peak: 2,
        packets: 3,
        bytes: 4,
        seconds: 1,
        dropped: 0,
        held_back: None,
        would: None,
        state: State::Closed,
        timeline: Vec::new(),
        closed: None,
        files: Vec::new(),
        files_removed: None,
        server: None,
        customer: None,
    }
}

/// The next result about a batch; others' are skipped.
fn result_of(s: &Store, batch: u64) -> Result<(), String> {
    let deadline = Instant::now() + SOON;
    loop {
        let stored = s.wait(deadline.saturating_duration_since(Instant::now())).expect("a result in time");
        if stored.batch == BatchId(batch) {
            return stored.result;
        }
    }
}

/// Waits until a batch that is tried again succeeds.
fn success_of(s: &Store, batch: u64) {
    while result_of(s, batch).is_err() {}
}

fn ids(o: &Opened) -> Vec<u64> {
    o.loaded.locks.iter().map(|r| r.id).collect()
}

/// `break_it` makes writing fail with a message that contains `says`, `mend` ends that.
fn failing(disk: &Disk, says: &str, break_it: impl Fn(), mend: impl Fn()) {
    let opened = disk.open();
    let s = &opened.store;
    s.submit(BatchId(1), vec![row(1)], false);
    assert_eq!(result_of(s, 1), Ok(()));
    break_it();

    s.submit(BatchId(2), vec![row(2)], true);
    let e = result_of(s, 2).unwrap_err();
    assert!(e.contains(says), "a detector's: {e}");
    let asked = Instant::now();
    s.submit(BatchId(3), vec![row(3)], false);
    let e = result_of(s, 3).unwrap_err();
    assert!(e.contains(says), "a manual one: {e}");
    assert!(asked.elapsed() < Duration::from_secs(5), "who asks is told at once");
    s.submit(BatchId(4), vec![StoreOp::RemoveLock { id: 2, who: "root".into(), at: Time::now() }], true);

    mend();
    success_of(s, 2);
    success_of(s, 4);
    s.submit(BatchId(5), vec![row(5)], false);
    assert_eq!(result_of(s, 5), Ok(()));
    assert_eq!(s.stop(SOON), 0);
    assert_eq!(ids(&disk.open()), [1, 5], "2 came and went in order, 3 was refused and did not come back");
}

#[test]
fn live_a_full_disk_is_said_and_detectors_are_stored_when_there_is_room() {
    let disk = Disk::mount();
    failing(&disk, "free space on the file system", || disk.fill(), || disk.free());
}

#[test]
fn live_a_read_only_disk_is_said_and_detectors_are_stored_when_it_can_be_written() {
    let disk = Disk::mount();
    let opened = disk.open();
    opened.store.submit(BatchId(1), vec![row(1)], false);
    assert_eq!(result_of(&opened.store, 1), Ok(()));
    opened.store.stop(SOON);
    drop(opened);
    disk.remount("ro");

    let opened = disk.open();
    assert_eq!(ids(&opened), [1], "what it has is read");
    let notice = opened.notice.as_ref().unwrap();
    assert!(notice.text.contains("cannot be written"), "{notice:?}");
    let s = &opened.store;
    s.submit(BatchId(2), vec![row(2)], true);
    s.submit(BatchId(3), vec![row(3)], false);
    let e = result_of(s, 3).unwrap_err();
    assert!(e.contains("writable") || e.contains("may cordond's user write"), "{e}");
    disk.remount("rw");
    success_of(s, 2);
    assert_eq!(s.stop(SOON), 0);
    assert_eq!(ids(&disk.open()), [1, 2]);
}

#[test]
fn live_a_journal_that_was_not_merged_counts_on_a_read_only_disk_too() {
    let disk = Disk::mount();
    let opened = disk.open();
    opened.store.submit(BatchId(1), vec![row(1)], false);
    assert_eq!(result_of(&opened.store, 1), Ok(()));
    // As after a power failure: files are copied while the store is open.
    let crashed = Disk::mount();
    for name in ["cordon.db", "cordon.db-wal"] {
        std::fs::copy(disk.path().join(name), crashed.path().join(name)).unwrap();
    }
    assert!(std::fs::metadata(crashed.path().join("cordon.db-wal")).unwrap().len() > 0);
    crashed.remount("ro");
    assert_eq!(ids(&crashed.open()), [1]);
    opened.store.stop(SOON);
}

#[test]
fn live_on_a_full_disk_old_evidence_gives_way_to_locks_and_new_evidence() {
    let disk = Disk::mount();
    let opened = disk.open();
    let s = &opened.store;
    let incident = |n: u64, closed: Option<Time>| {
        StoreOp::PutIncident(Box::new(IncidentRow {
            id: format!("C-2026-{n:06}"),
            closed,
            ..plain_incident()
        }))
    };
    let write = |n: u64, bytes: usize| StoreOp::WriteEvidence {
        incident: format!("C-2026-{n:06}"),
        name: "dump.log".into(),
        bytes: vec![b'x'; bytes],
    };
    let closed = Some(Time::from_unix_ms(5));
    s.submit(
        BatchId(1),
        vec![incident(1, closed), write(1, 300_000), incident(2, None), write(2, 100_000)],
        true,
    );
    success_of(s, 1);
    disk.fill();
    s.submit(BatchId(2), vec![row(1)], false);
    assert_eq!(result_of(s, 2), Ok(()), "a lock is worth more than the files of what is over");
    s.submit(BatchId(3), vec![write(2, 120_000)], true);
    success_of(s, 3);
    assert!(!disk.path().join("evidence/C-2026-000001").exists());
    assert_eq!(
        std::fs::metadata(disk.path().join("evidence/C-2026-000002/dump.log")).unwrap().len(),
        120_000
    );
    // Nothing is left that may go: it is said, and waits.
    s.submit(BatchId(4), vec![write(2, 500_000)], true);
    let e = result_of(s, 4).unwrap_err();
    assert!(e.contains("free space"), "{e}");
    disk.free();
    success_of(s, 4);
    assert_eq!(s.stop(SOON), 0);
}
