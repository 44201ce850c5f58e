//! Reading the workers' flow tables: what is new or changed since the last tick, each generation to its end.

use std::sync::atomic::Ordering::{Acquire, Relaxed};

use region::flows::{FlowRecord, WATCHED_MAX};
use region::{Facts, Policy, WatchSlot};

/// A row that changed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Change {
    /// Whose row it is.
    pub(super) worker: usize,
    /// As it stands.
    pub(super) record: FlowRecord,
    /// Packets since the last reading, by direction.
    pub(super) packets: [u64; 2],
    /// Bytes since the last reading.
    pub(super) bytes: [u64; 2],
    /// Flows that began in a row without ports.
    pub(super) began: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Row {
    began: u64,
    stamp: (u64, u64),
    packets: [u64; 2],
    bytes: [u64; 2],
}

/// What was read of a worker.
#[derive(Debug, Default)]
struct Reader {
    /// The generation that is being read.
    generation: u64,
    rows: Vec<Row>,
    /// Packets and bytes without a row, records lost: by slot, as they stood.
    cells: Vec<([u64; 2], [u64; 2], u64)>,
}

/// All workers'.
#[derive(Debug, Default)]
pub(super) struct Readers {
    workers: Vec<Reader>,
}

impl Readers {
    /// From a generation on that was just begun.
    pub(super) fn begin(facts: &Facts, generation: u64) -> Readers {
        let reader = |w| Reader { generation, rows: Vec::new(), cells: cells(facts, w) };
        Readers { workers: (0..facts.workers().len()).map(reader).collect() }
    }

    /// The generation that every worker has reached, and whose predecessors were read to their end.
    pub(super) fn current(&self) -> u64 {
        self.workers.iter().map(|r| r.generation).min().unwrap_or(0)
    }

    /// Whether everything before `generation` was read.
    pub(super) fn are_current(&self, generation: u64) -> bool {
        self.workers.iter().all(|r| r.generation == generation)
    }

    /// Rows in the fullest table.
    pub(super) fn rows_most(&self) -> usize {
        self.workers.iter().map(|r| r.rows.len()).max().unwrap_or(0)
    }

    /// Calls `each` with every row that is new or has changed.
    pub(super) fn read(&mut self, policy: &Policy, facts: &Facts, mut each: impl FnMut(Change)) {
        let latest = policy.generation();
        for (w, (r, counters)) in self.workers.iter_mut().zip(facts.workers()).enumerate() {
            let seen = counters.seen_generation.load(Acquire);
            if seen == r.generation {
                r.table(facts, w, &mut each);
            } else if seen == r.generation + 1 && seen <= latest {
                // The worker has turned: the table is complete, and is read for the last time.
                r.table(facts, w, &mut each);
                r.generation = seen;
                r.rows.clear();
                r.table(facts, w, &mut each);
            }
            // Else the worker has not yet come to the first generation that is read here.
        }
    }

    /// Calls `each` with what was counted without a row: slot, packets and bytes by direction, records lost.
    pub(super) fn read_cells(
        &mut self,
        facts: &Facts,
        mut each: impl FnMut(WatchSlot, [u64; 2], [u64; 2], u64),
    ) {
        for (w, r) in self.workers.iter_mut().enumerate() {
            for (slot, (now, was)) in cells(facts, w).into_iter().zip(&mut r.cells).enumerate() {
                if now == *was {
                    continue;
                }
                let since = |a: [u64; 2], b: [u64; 2]| [a[0].wrapping_sub(b[0]), a[1].wrapping_sub(b[1])];
                let slot = WatchSlot(u16::try_from(slot).unwrap_or(0));
                each(slot, since(now.0, was.0), since(now.1, was.1), now.2.wrapping_sub(was.2));
                *was = now;
            }
        }
    }
}

fn cells(facts: &Facts, worker: usize) -> Vec<([u64; 2], [u64; 2], u64)> {
    let both = |c: &[std::sync::atomic::AtomicU64; 2]| [c[0].load(Relaxed), c[1].load(Relaxed)];
    let cells = facts.watch_cells(worker).iter().take(WATCHED_MAX);
    cells.map(|c| (both(&c.other_packets), both(&c.other_bytes), c.evidence_lost.load(Relaxed))).collect()
}

impl Reader {
    fn table(&mut self, facts: &Facts, worker: usize, each: &mut impl FnMut(Change)) {
        let rows = facts.flows(worker, self.generation).rows();
        let known = self.rows.len().min(rows.len());
        self.rows.resize(rows.len(), Row::default());
        for (i, (row, was)) in rows.iter().zip(&mut self.rows).enumerate() {
            let stamp = row.stamp();
            let first = i >= known;
            if stamp == was.stamp && !first {
                continue;
            }
            let record = row.read();
            let since = |a: [u64; 2], b: [u64; 2]| [a[0].wrapping_sub(b[0]), a[1].wrapping_sub(b[1])];
            let (packets, bytes) = (since(record.packets, was.packets), since(record.bytes, was.bytes));
            // The counters may have moved on since the stamp was taken: what was read is what is remembered.
            let read = record.packets[0].wrapping_add(record.packets[1]);
            let began = record.began.wrapping_sub(was.began);
            *was = Row {
                stamp: (read, record.flags),
                packets: record.packets,
                bytes: record.bytes,
                began: record.began,
            };
            each(Change { worker, record, packets, bytes, began });
        }
    }
}
