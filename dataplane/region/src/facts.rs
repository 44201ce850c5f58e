//! The facts file: what the dataplane reports.

use std::path::{Path, PathBuf};
use std::sync::atomic::{
    AtomicU8, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};

use crate::addressing::NETWORKS_V6_MAX;
use crate::fanout::{Fanout, FanoutMap, MAPS, Map, index};
use crate::flows::{
    BUCKETS, EVIDENCE_MAX, EvidenceRecord, EvidenceRing, FLOWS_MAX, FlowRow, FlowTable, WATCHED_MAX,
    WatchCell,
};
use crate::host::{self, Dir, HostId, HostLine, HostMarks, LineTotals, Marks, RareLine, Traits};
use crate::hosts_v6::{HostsV6, SlotV6};
use crate::layout::{Capacities, PORTS_MAX, Planner, Section, WORKERS_MAX};
use crate::link::{LINK_MAX, LinkHead, LinkRecord, LinkRing};
use crate::map::{Mapping, PageKind, RegionError, WriterLock, prefetch, prefetch_to_write, shared_struct};
use crate::touched::{Touched, sizes};
use crate::verdict::{Class, Side, Verdict};

const MAGIC: u64 = u64::from_le_bytes(*b"CORDONfa");

shared_struct! {
    /// Start of the file. Written by housekeeping; read by control.
    pub struct FactsHeader {
        magic: AtomicU64,
        layout_hash: AtomicU64,
        hosts_v4: AtomicU64,
        hosts_v6: AtomicU64,
        workers: AtomicU64,
        /// Differs between any two lives of the dataplane: nanoseconds since 1970 at its start.
        pub incarnation: AtomicU64,
        /// Process id.
        pub pid: AtomicU64,
        /// Ticks of the TSC in a second.
        pub tsc_hz: AtomicU64,
        /// Counts up at every round of housekeeping.
        pub housekeeping_rounds: AtomicU64,
        /// 1 while the operator's `bypass` file exists.
        pub bypass_direct: AtomicU64,
        /// 0 starting (no packet yet), 1 forwarding, 2 stopping.
        pub phase: AtomicU64,
        /// Ports in use, at most [`PORTS_MAX`].
        pub ports: AtomicU64,
        /// Requests for IPv6 hosts that housekeeping has answered, counted as control counts them.
        pub v6_requests_done: AtomicU64,
        /// Raised before and after the clock below is written: a reader that finds it odd, or changed, reads again.
        clock_sequence: AtomicU64,
        /// A worker's clock, CLOCK_MONOTONIC and nanoseconds since 1970, at one moment of the latest round.
        clock: [AtomicU64; 3],
        /// Hosts inserted for each IPv6 network, by [`crate::addressing::NetworkV6::slot`]; written by workers and housekeeping.
        v6_used: [AtomicU64; NETWORKS_V6_MAX],
    }
}

shared_struct! {
    /// One port. Written by housekeeping; read by control.
    #[repr(align(64))]
    pub struct PortCell {
        /// Index of its wire in the configuration.
        pub wire: AtomicU64,
        /// [`Side`] as a number.
        pub side: AtomicU64,
        /// 1 while the link is up.
        pub link_up: AtomicU64,
        /// Mbit/s, 0 unknown.
        pub speed_mbps: AtomicU64,
        /// 1 while this side is held down because the other side's link is down.
        pub held_down: AtomicU64,
        /// Packets the port has received.
        pub ipackets: AtomicU64,
        /// Packets the port has sent.
        pub opackets: AtomicU64,
        /// Bytes received.
        pub ibytes: AtomicU64,
        /// Bytes sent.
        pub obytes: AtomicU64,
        /// Packets the NIC dropped because its receive queue was full.
        pub imissed: AtomicU64,
        /// Packets received with errors.
        pub ierrors: AtomicU64,
        /// Packets that failed to be sent.
        pub oerrors: AtomicU64,
        /// Times no buffer was free.
        pub rx_nombuf: AtomicU64,
        /// DPDK port number.
        pub port_id: AtomicU64,
        /// Times the link changed.
        pub link_changes: AtomicU64,
        /// NUMA node plus 1, 0 unknown.
        pub numa: AtomicU64,
    }
}

shared_struct! {
    /// Counters of one side of a worker.
    pub struct SideCounters {
        /// Packets received.
        pub rx_packets: AtomicU64,
        /// Bytes received, without FCS.
        pub rx_bytes: AtomicU64,
        /// Packets by what became of them, by [`Verdict`].
        pub verdict_packets: [AtomicU64; Verdict::COUNT],
        /// Bytes by what became of them.
        pub verdict_bytes: [AtomicU64; Verdict::COUNT],
        /// Packets by what they were, by [`Class`].
        pub class_packets: [AtomicU64; Class::COUNT],
        /// Packets in VLAN or QinQ tags.
        pub tagged: AtomicU64,
        /// IP packets whose own side's address is in no internal network (inside: source, outside: destination).
        pub foreign: AtomicU64,
        /// Packets that entered outside with an internal source.
        pub internal_source_outside: AtomicU64,
        /// Packets of IPv6 hosts for which the table had no slot, or their network no quota left.
        pub no_slot: AtomicU64,
    }
}

shared_struct! {
    /// One worker. Written by this worker, once a burst or once a packet; read by control and housekeeping.
    #[repr(align(64))]
    pub struct WorkerCounters {
        /// Polls of all its queues, empty ones included.
        pub polls: AtomicU64,
        /// Polls that brought packets.
        pub busy_polls: AtomicU64,
        /// TSC cycles spent in polls that brought packets.
        pub busy_cycles: AtomicU64,
        /// TSC at the last poll.
        pub last_tsc: AtomicU64,
        /// The addressing version this worker works with.
        pub seen_addressing: AtomicU64,
        /// The lock-list version this worker works with.
        pub seen_locks: AtomicU64,
        /// The tick into whose bitmap this worker writes.
        pub seen_tick: AtomicU64,
        /// 1 while locks are enforced: policy is there and bypass is off.
        pub enforcing: AtomicU64,
        /// Core number plus 1.
        pub core: AtomicU64,
        /// The watch generation into whose tables this worker writes.
        pub seen_generation: AtomicU64,
        spare: [AtomicU64; 6],
        /// By [`Side`].
        pub sides: [SideCounters; 2],
    }
}

// ---- no cache line is written by two workers ----
//
// Tables begin on a cache line (`Planner::table`), and a worker's part of each is made of whole ones: because its elements
// are, or because their number is rounded up.

/// Bytes of a cache line.
const LINE: usize = 64;
/// A word that has a line to itself.
type OwnLine = [AtomicU64; 8];

/// Elements that a worker's part holds so that `n` fit and its last line is its own.
const fn whole_lines<T>(n: usize) -> usize {
    n.next_multiple_of(LINE / size_of::<T>())
}

const fn is_whole<T>(n: usize) -> bool {
    (size_of::<T>() * n).is_multiple_of(LINE)
}

const _: () = {
    assert!(is_whole::<WorkerCounters>(1) && align_of::<WorkerCounters>() == LINE);
    assert!(is_whole::<PortCell>(1) && is_whole::<OwnLine>(1));
    assert!(is_whole::<HostLine>(1) && is_whole::<RareLine>(1) && is_whole::<FanoutMap>(1));
    assert!(is_whole::<FlowRow>(1) && is_whole::<AtomicU64>(BUCKETS));
    assert!(is_whole::<WatchCell>(1) && is_whole::<EvidenceRecord>(1));
    assert!(is_whole::<LinkRecord>(1) && is_whole::<LinkHead>(1));
    assert!(is_whole::<AtomicU64>(whole_lines::<AtomicU64>(1)));
    assert!(is_whole::<AtomicU8>(whole_lines::<AtomicU8>(1)));
    assert!(is_whole::<HostMarks>(whole_lines::<HostMarks>(1)));
};

#[derive(Clone, Copy, Debug)]
struct Layout {
    capacities: Capacities,
    ports: Section,
    workers: Section,
    lines: Section,
    rare: Section,
    touched_words: Section,
    touched_summary: Section,
    slots_v6: Section,
    fanout: Section,
    flow_rows: Section,
    flow_buckets: Section,
    flow_lens: Section,
    early: Section,
    watch_cells: Section,
    evidence: Section,
    evidence_heads: Section,
    link: Section,
    link_heads: Section,
    macs: Section,
    marks: Section,
    size: usize,
    hash: u64,
}

impl Layout {
    fn new(capacities: Capacities) -> Layout {
        let workers = (capacities.workers as usize).min(WORKERS_MAX);
        let hosts = capacities.hosts() as usize;
        let (words, summary) = sizes(capacities.hosts());
        let mut p = Planner::new("facts", size_of::<FactsHeader>());
        let ports = p.table::<PortCell>(PORTS_MAX);
        let counters = p.table::<WorkerCounters>(workers);
        let lines = p.table::<HostLine>(workers * hosts);
        let rare = p.table::<RareLine>(workers * hosts);
        let touched_words = p.table::<AtomicU64>(workers * 2 * whole_lines::<AtomicU64>(words));
        let touched_summary = p.table::<AtomicU64>(workers * 2 * whole_lines::<AtomicU64>(summary));
        let slots_v6 = p.table::<SlotV6>(capacities.hosts_v6 as usize);
        let fanout = p.table::<FanoutMap>(workers * hosts * MAPS);
        let flow_rows = p.table::<FlowRow>(workers * 2 * FLOWS_MAX);
        let flow_buckets = p.table::<AtomicU64>(workers * 2 * BUCKETS);
        let flow_lens = p.table::<OwnLine>(workers * 2);
        let early = p.table::<AtomicU8>(workers * whole_lines::<AtomicU8>(hosts));
        let watch_cells = p.table::<WatchCell>(workers * WATCHED_MAX);
        let evidence = p.table::<EvidenceRecord>(workers * EVIDENCE_MAX);
        let evidence_heads = p.table::<OwnLine>(workers);
        let link = p.table::<LinkRecord>(workers * LINK_MAX);
        let link_heads = p.table::<LinkHead>(workers);
        let macs = p.table::<AtomicU64>(workers * whole_lines::<AtomicU64>(hosts));
        let marks = p.table::<HostMarks>(workers * whole_lines::<HostMarks>(hosts));
        let (size, hash) = p.finish();
        Layout {
            capacities,
            ports,
            workers: counters,
            lines,
            rare,
            touched_words,
            touched_summary,
            slots_v6,
            fanout,
            flow_rows,
            flow_buckets,
            flow_lens,
            early,
            watch_cells,
            evidence,
            evidence_heads,
            link,
            link_heads,
            macs,
            marks,
            size,
            hash,
        }
    }
}

/// The facts file, mapped.
#[derive(Debug)]
pub struct Facts {
    map: Mapping,
    layout: Layout,
    /// Held by the writer.
    _lock: Option<WriterLock>,
}

/// The file's name in the tables directory.
pub fn path(dir: &Path) -> PathBuf {
    dir.join("facts")
}

impl Facts {
    /// Makes a new facts file in `dir`, replacing that of an earlier life. Refuses while another writer lives.
    pub fn create(dir: &Path, capacities: Capacities, incarnation: u64) -> Result<Facts, RegionError> {
        let path = path(dir);
        let lock = WriterLock::acquire(&path)?;
        let layout = Layout::new(capacities);
        let (map, fresh) = Mapping::create(&path, layout.size)?;
        let facts = Facts { map, layout, _lock: Some(lock) };
        facts.initialise(incarnation);
        Mapping::publish(&fresh, &path)?;
        Ok(facts)
    }

    /// Facts in memory of this process, for replay, benches and tests.
    pub fn anonymous(capacities: Capacities) -> Result<Facts, RegionError> {
        let layout = Layout::new(capacities);
        let facts = Facts { map: Mapping::anonymous(layout.size)?, layout, _lock: None };
        facts.initialise(1);
        Ok(facts)
    }

    fn initialise(&self, incarnation: u64) {
        let h = self.header();
        h.layout_hash.store(self.layout.hash, Relaxed);
        h.hosts_v4.store(u64::from(self.layout.capacities.hosts_v4), Relaxed);
        h.hosts_v6.store(u64::from(self.layout.capacities.hosts_v6), Relaxed);
        h.workers.store(u64::from(self.layout.capacities.workers), Relaxed);
        h.incarnation.store(incarnation, Relaxed);
        h.pid.store(u64::from(std::process::id()), Relaxed);
        h.magic.store(MAGIC, Release);
    }

    /// Maps the facts of a running or past dataplane for reading. Table sizes come from the file, bounded.
    pub fn open(dir: &Path) -> Result<Facts, RegionError> {
        let path = path(dir);
        let map = Mapping::open(&path, false)?;
        let mismatch =
            |what, found, expected| RegionError::Mismatch { path: path.clone(), what, found, expected };
        if map.len() < size_of::<FactsHeader>() {
            return Err(mismatch("length", map.len() as u64, size_of::<FactsHeader>() as u64));
        }
        let h = map.header::<FactsHeader>();
        let magic = h.magic.load(Acquire);
        if magic != MAGIC {
            return Err(mismatch("magic number", magic, MAGIC));
        }
        let bounded = |c: &AtomicU64, max: u32| u32::try_from(c.load(Relaxed)).unwrap_or(0).min(max);
        let capacities = Capacities {
            workers: bounded(&h.workers, u32::try_from(WORKERS_MAX).unwrap_or(64)),
            hosts_v4: bounded(&h.hosts_v4, 1 << 26),
            hosts_v6: bounded(&h.hosts_v6, 1 << 26),
            locks: 0,
        };
        let layout = Layout::new(capacities);
        let found = h.layout_hash.load(Relaxed);
        if found != layout.hash {
            return Err(mismatch("layout hash", found, layout.hash));
        }
        if map.len() < layout.size {
            return Err(mismatch("length", map.len() as u64, layout.size as u64));
        }
        Ok(Facts { map, layout, _lock: None })
    }

    /// Whether the file under this name is still the one mapped here.
    pub fn is_current(&self, dir: &Path) -> bool {
        use std::os::unix::fs::MetadataExt;
        std::fs::metadata(path(dir)).is_ok_and(|m| m.ino() == self.map.inode())
    }

    /// The process that writes the facts in `dir`, when one lives.
    pub fn writer(dir: &Path) -> Option<i32> {
        WriterLock::holder(&path(dir))
    }

    /// Sizes of the tables.
    pub fn capacities(&self) -> Capacities {
        self.layout.capacities
    }

    /// Start of the file.
    #[inline]
    pub fn header(&self) -> &FactsHeader {
        self.map.header()
    }

    /// The pages behind the tables.
    pub fn page_kind(&self) -> PageKind {
        self.map.page_kind()
    }

    /// Bytes of the file.
    pub fn size(&self) -> usize {
        self.map.len()
    }

    /// Ports, [`PORTS_MAX`] of them; the header says how many are in use.
    pub fn ports(&self) -> &[PortCell] {
        self.map.table(self.layout.ports)
    }

    /// Workers.
    #[inline]
    pub fn workers(&self) -> &[WorkerCounters] {
        self.map.table(self.layout.workers)
    }

    /// The lines of a worker's hosts.
    #[inline]
    fn lines(&self, worker: usize) -> (&[HostLine], &[RareLine]) {
        let n = self.layout.capacities.hosts() as usize;
        let own = worker * n..(worker + 1) * n;
        let (lines, rare): (&[HostLine], &[RareLine]) =
            (self.map.table(self.layout.lines), self.map.table(self.layout.rare));
        (lines.get(own.clone()).unwrap_or(&[]), rare.get(own).unwrap_or(&[]))
    }

    /// The bitmap of a worker for the ticks of a parity.
    #[inline]
    pub fn touched(&self, worker: usize, tick: u64) -> Touched<'_> {
        let (words, summary) = sizes(self.layout.capacities.hosts());
        let (words, summary) = (whole_lines::<AtomicU64>(words), whole_lines::<AtomicU64>(summary));
        let i = worker * 2 + usize::from(tick % 2 == 1);
        let w: &[AtomicU64] = self.map.table(self.layout.touched_words);
        let s: &[AtomicU64] = self.map.table(self.layout.touched_summary);
        Touched::new(
            w.get(i * words..(i + 1) * words).unwrap_or(&[]),
            s.get(i * summary..(i + 1) * summary).unwrap_or(&[]),
        )
    }

    /// Sum of all workers' lines of a host in a direction.
    pub fn totals(&self, host: HostId, dir: Dir) -> LineTotals {
        let workers = self.layout.capacities.workers as usize;
        (0..workers)
            .filter_map(|w| {
                let (lines, rare) = self.lines(w);
                Some(host::read(lines.get(host.index())?, rare.get(host.index())?, dir))
            })
            .fold(LineTotals::default(), |sum, l| sum.plus(&l))
    }

    /// Asks the cache for a host's lines of all workers.
    pub fn prefetch_totals(&self, host: HostId) {
        for w in 0..self.layout.capacities.workers as usize {
            let (lines, rare) = self.lines(w);
            if let (Some(line), Some(rare)) = (lines.get(host.index()), rare.get(host.index())) {
                crate::map::prefetch(line);
                crate::map::prefetch(rare);
            }
        }
    }

    /// Turns a worker to a new tick: clears the bitmap it will write from now on, then reports the tick as seen.
    /// Only the worker itself calls this.
    pub fn turn_to_tick(&self, worker: usize, tick: u64) {
        if let Some(w) = self.workers().get(worker) {
            self.touched(worker, tick).clear();
            w.seen_tick.store(tick, Release);
        }
    }

    /// What one worker writes, with everything resolved that stays the same.
    pub fn writer_for(&self, worker: usize) -> WorkerFacts<'_> {
        let n = whole_lines::<AtomicU8>(self.layout.capacities.hosts() as usize);
        let early: &[AtomicU8] = self.map.table(self.layout.early);
        let (lines, rare) = self.lines(worker);
        WorkerFacts {
            lines,
            rare,
            fanout: self.fanout_maps(worker),
            early: early.get(worker * n..(worker + 1) * n).unwrap_or(&[]),
            macs: self.macs(worker),
            marks: self.marks_of(worker),
            facts: self,
            worker,
        }
    }

    // ---- what hosts contact ----

    fn fanout_maps(&self, worker: usize) -> &[FanoutMap] {
        let n = self.layout.capacities.hosts() as usize * MAPS;
        self.map.table::<FanoutMap>(self.layout.fanout).get(worker * n..(worker + 1) * n).unwrap_or(&[])
    }

    fn macs(&self, worker: usize) -> &[AtomicU64] {
        let n = whole_lines::<AtomicU64>(self.layout.capacities.hosts() as usize);
        let all: &[AtomicU64] = self.map.table(self.layout.macs);
        all.get(worker * n..(worker + 1) * n).unwrap_or(&[])
    }

    fn marks_of(&self, worker: usize) -> &[HostMarks] {
        let n = whole_lines::<HostMarks>(self.layout.capacities.hosts() as usize);
        let all: &[HostMarks] = self.map.table(self.layout.marks);
        all.get(worker * n..(worker + 1) * n).unwrap_or(&[])
    }

    /// Signs that others use a host's address, summed over workers.
    pub fn marks(&self, host: HostId) -> Marks {
        let workers = self.layout.capacities.workers as usize;
        let cells = (0..workers).filter_map(|w| self.marks_of(w).get(host.index()));
        cells.map(HostMarks::read).fold(Marks::default(), |a, b| Marks {
            unprovoked: a.unprovoked.wrapping_add(b.unprovoked),
            outside: a.outside.wrapping_add(b.outside),
            other_mac: a.other_mac.wrapping_add(b.other_mac),
        })
    }

    /// A host's maps of `epoch` and the one before, merged over workers.
    pub fn fanout(&self, host: HostId, epoch: u32) -> Fanout {
        let mut f = Fanout::default();
        let workers = self.layout.capacities.workers as usize;
        for maps in (0..workers).map(|w| self.fanout_maps(w)) {
            for e in [epoch, epoch.wrapping_sub(1)] {
                let sets = [
                    (Map::Contacted, &mut f.contacted),
                    (Map::Answered, &mut f.answered),
                    (Map::Ports, &mut f.ports),
                ];
                for (map, bits) in sets {
                    if let Some(m) = maps.get(index(host.index(), e, map)) {
                        m.add_to(e, bits);
                    }
                }
            }
        }
        f
    }

    // ---- watched hosts ----

    /// The flow table of a worker for a generation's parity.
    #[inline]
    pub fn flows(&self, worker: usize, generation: u64) -> FlowTable<'_> {
        let i = worker * 2 + usize::from(generation % 2 == 1);
        let rows: &[FlowRow] = self.map.table(self.layout.flow_rows);
        let buckets: &[AtomicU64] = self.map.table(self.layout.flow_buckets);
        let lens: &[OwnLine] = self.map.table(self.layout.flow_lens);
        FlowTable {
            rows: rows.get(i * FLOWS_MAX..(i + 1) * FLOWS_MAX).unwrap_or(&[]),
            buckets: buckets.get(i * BUCKETS..(i + 1) * BUCKETS).unwrap_or(&[]),
            len: &lens[i.min(lens.len() - 1)][0],
            cells: self.watch_cells(worker),
            generation,
        }
    }

    /// What is counted of each watched host beside its rows, by slot.
    #[inline]
    pub fn watch_cells(&self, worker: usize) -> &[WatchCell] {
        let all: &[WatchCell] = self.map.table(self.layout.watch_cells);
        all.get(worker * WATCHED_MAX..(worker + 1) * WATCHED_MAX).unwrap_or(&[])
    }

    /// The evidence ring of a worker.
    #[inline]
    pub fn evidence(&self, worker: usize) -> EvidenceRing<'_> {
        let records: &[EvidenceRecord] = self.map.table(self.layout.evidence);
        let heads: &[OwnLine] = self.map.table(self.layout.evidence_heads);
        EvidenceRing {
            records: records.get(worker * EVIDENCE_MAX..(worker + 1) * EVIDENCE_MAX).unwrap_or(&[]),
            head: &heads[worker.min(heads.len() - 1)][0],
            cells: self.watch_cells(worker),
        }
    }

    /// The ring of a worker for frames of the segment's own protocols.
    #[inline]
    pub fn link(&self, worker: usize) -> LinkRing<'_> {
        let records: &[LinkRecord] = self.map.table(self.layout.link);
        let heads: &[LinkHead] = self.map.table(self.layout.link_heads);
        LinkRing {
            records: records.get(worker * LINK_MAX..(worker + 1) * LINK_MAX).unwrap_or(&[]),
            head: &heads[worker.min(heads.len() - 1)],
        }
    }

    /// Turns a worker to a new watch generation. Only the worker itself calls this.
    pub fn turn_to_generation(&self, worker: usize, generation: u64) {
        if let Some(w) = self.workers().get(worker) {
            self.flows(worker, generation).clear();
            w.seen_generation.store(generation, Release);
        }
    }

    /// Says how a worker's clock, CLOCK_MONOTONIC and the time since 1970 stand to each other at this moment. Only
    /// housekeeping calls this, and replay.
    pub fn set_clock(&self, ticks: u64, mono_ns: u64, unix_ns: u64) {
        let h = self.header();
        let sequence = h.clock_sequence.load(Relaxed);
        h.clock_sequence.store(sequence.wrapping_add(1), Relaxed);
        std::sync::atomic::fence(Release);
        for (c, v) in h.clock.iter().zip([ticks, mono_ns, unix_ns]) {
            c.store(v, Relaxed);
        }
        h.clock_sequence.store(sequence.wrapping_add(2), Release);
    }

    /// How the clocks stand to each other.
    pub fn clock(&self) -> Clock {
        let h = self.header();
        // A torn reading costs a wrong time, never a wait: housekeeping writes ten times a second.
        for _ in 0..8 {
            let before = h.clock_sequence.load(Acquire);
            let [ticks, mono_ns, unix_ns] = [0, 1, 2].map(|i: usize| h.clock[i].load(Relaxed));
            std::sync::atomic::fence(Acquire);
            if before.is_multiple_of(2) && h.clock_sequence.load(Relaxed) == before {
                return Clock { hz: h.tsc_hz.load(Relaxed).max(1), ticks, mono_ns, unix_ns };
            }
        }
        Clock { hz: 1_000_000_000, ticks: 0, mono_ns: 0, unix_ns: 0 }
    }

    // ---- IPv6 hosts ----

    /// IPv6 hosts inserted so far.
    #[inline]
    pub fn hosts_v6(&self) -> HostsV6<'_> {
        HostsV6 { slots: self.map.table(self.layout.slots_v6), first: self.layout.capacities.hosts_v4 }
    }

    /// The host of an IPv6 key (the address's first bits, the rest zero).
    pub fn find_v6(&self, key: u128, hash_key: [u64; 2]) -> Option<HostId> {
        self.hosts_v6().find(key, keyed_hash(key, hash_key))
    }

    /// Finds or inserts an IPv6 key, within its network's quota. Called by workers, housekeeping and replay.
    pub fn insert_v6(&self, key: u128, hash_key: [u64; 2], quota: u32, network_slot: u32) -> Option<HostId> {
        let used = &self.header().v6_used[network_slot as usize % NETWORKS_V6_MAX];
        self.hosts_v6().insert(key, keyed_hash(key, hash_key), used, u64::from(quota))
    }

    /// The key in the slot of an IPv6 host.
    pub fn key_v6(&self, host: HostId) -> Option<u128> {
        self.hosts_v6().key(host)
    }

    /// How many IPv6 hosts were inserted so far.
    pub fn hosts_v6_used(&self) -> u64 {
        self.header().v6_used.iter().map(|u| u.load(Relaxed)).sum()
    }
}

/// Folded multiplication under a secret key: an outsider who does not know it cannot aim at one bucket.
#[inline]
pub fn keyed_hash(key: u128, hash_key: [u64; 2]) -> u64 {
    #[expect(clippy::cast_possible_truncation, reason = "the two halves of a 128-bit number")]
    let fold = |a: u64, b: u64| {
        let p = u128::from(a) * u128::from(b);
        (p >> 64) as u64 ^ p as u64
    };
    #[expect(clippy::cast_possible_truncation, reason = "the two halves of a 128-bit number")]
    let (hi, lo) = ((key >> 64) as u64, key as u64);
    // The constants (digits of the golden ratio, of pi and of e) keep a weak key, of a test or a replay, from making a weak
    // hash.
    let first = fold(hi ^ hash_key[0] ^ 0x243f_6a88_85a3_08d3, lo ^ hash_key[1] ^ 0x9e37_79b9_7f4a_7c15);
    fold(first ^ hash_key[1], (hash_key[0] ^ 0xb7e1_5162_8aed_2a6b) | 1)
}

/// Workers' clock beside the system's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    /// Ticks a second.
    pub hz: u64,
    /// Ticks at the moment of the others.
    pub ticks: u64,
    /// CLOCK_MONOTONIC.
    pub mono_ns: u64,
    /// Since 1970.
    pub unix_ns: u64,
}

impl Clock {
    /// Nanoseconds from the moment of this reading to `ticks`; negative before it.
    pub fn since_ns(&self, ticks: u64) -> i64 {
        let d = i128::from(ticks.wrapping_sub(self.ticks).cast_signed());
        i64::try_from(d * 1_000_000_000 / i128::from(self.hz)).unwrap_or(0)
    }

    /// CLOCK_MONOTONIC at `ticks`.
    pub fn mono_ns(&self, ticks: u64) -> u64 {
        self.mono_ns.saturating_add_signed(self.since_ns(ticks))
    }

    /// Nanoseconds since 1970 at `ticks`.
    pub fn unix_ns(&self, ticks: u64) -> u64 {
        self.unix_ns.saturating_add_signed(self.since_ns(ticks))
    }
}

/// The part of facts that one worker writes.
#[derive(Clone, Copy)]
pub struct WorkerFacts<'a> {
    lines: &'a [HostLine],
    rare: &'a [RareLine],
    fanout: &'a [FanoutMap],
    /// For each host the generation of its latest row of a first contact.
    early: &'a [AtomicU8],
    /// For each host the device that it was last heard from, and in which minute.
    macs: &'a [AtomicU64],
    marks: &'a [HostMarks],
    /// The whole file, for IPv6 hosts and counters.
    pub facts: &'a Facts,
    /// Which worker.
    pub worker: usize,
}

impl<'a> WorkerFacts<'a> {
    /// Whether the tables have a place for a host.
    #[inline(always)]
    pub fn has(&self, host: HostId) -> bool {
        host.index() < self.lines.len()
    }

    /// Asks the cache for the line of a host.
    #[inline(always)]
    pub fn prefetch_line(&self, host: HostId) {
        if let Some(line) = self.lines.get(host.index()) {
            prefetch_to_write(line);
        }
    }

    /// Counts one packet of a host. False, and nothing is counted, when the id is beyond the tables.
    #[inline(always)]
    pub fn count(&self, host: HostId, dir: Dir, bytes: u32, traits: Traits, dropped: bool) -> bool {
        let Some(line) = self.lines.get(host.index()) else { return false };
        line.count(dir, bytes, traits, dropped);
        if traits.has(Traits::RARE)
            && let Some(rare) = self.rare.get(host.index())
        {
            rare.count(dir, traits);
        }
        true
    }

    /// Asks the cache for the line of what is rare.
    #[inline(always)]
    pub fn prefetch_rare(&self, host: HostId) {
        if let Some(line) = self.rare.get(host.index()) {
            prefetch_to_write(line);
        }
    }

    /// Counts a first contact of a host.
    #[inline(always)]
    pub fn count_opened(&self, host: HostId) {
        if let Some(rare) = self.rare.get(host.index()) {
            rare.count_opened();
        }
    }

    /// Asks the cache for a map of a host.
    #[inline(always)]
    pub fn prefetch_fanout(&self, host: HostId, epoch: u32, map: Map) {
        if let Some(m) = self.fanout.get(index(host.index(), epoch, map)) {
            prefetch(m);
        }
    }

    /// Notes which device a host is heard from. True when it is another one than before, or was not looked at for a minute
    /// (512 ticks).
    #[inline(always)]
    pub fn is_new_device(&self, host: HostId, mac: &[u8; 6], tick: u64) -> bool {
        let Some(cell) = self.macs.get(host.index()) else { return false };
        let [a, b, c, d, e, f] = *mac;
        let word = u64::from_be_bytes([0, 0, a, b, c, d, e, f]) | (tick >> 9 & 0xffff) << 48;
        let new = cell.load(Relaxed) != word;
        if new {
            cell.store(word, Relaxed);
        }
        new
    }

    /// A connection was answered or refused that the host had not asked for lately.
    #[inline]
    pub fn mark_unprovoked(&self, host: HostId) {
        if let Some(m) = self.marks.get(host.index()) {
            m.add_unprovoked();
        }
    }

    /// A packet with the host's address as source came from another hardware address than it is bound to. Says how many did.
    pub fn mark_other_mac(&self, host: HostId) -> u32 {
        self.marks.get(host.index()).map_or(0, HostMarks::add_other_mac)
    }

    /// A packet with the host's address as source entered outside.
    #[inline]
    pub fn mark_outside(&self, host: HostId) {
        if let Some(m) = self.marks.get(host.index()) {
            m.add_outside();
        }
    }

    /// Whether a bit is set in a map of a host.
    #[inline(always)]
    pub fn has_fanout(&self, host: HostId, epoch: u32, map: Map, hash: u64) -> bool {
        self.fanout.get(index(host.index(), epoch, map)).is_some_and(|m| m.has(epoch, hash))
    }

    /// Asks the cache for what [`WorkerFacts::early`] reads.
    #[inline(always)]
    pub fn prefetch_early(&self, host: HostId) {
        if let Some(e) = self.early.get(host.index()) {
            prefetch(e);
        }
    }

    /// Notes that a host that is not watched has a row of a first contact in this generation.
    #[inline(always)]
    pub fn set_early(&self, host: HostId, generation: u64) {
        if let Some(e) = self.early.get(host.index()) {
            e.store(early_tag(generation), Relaxed);
        }
    }

    /// Whether a host has rows of first contacts: in this generation, in the one before.
    #[inline(always)]
    pub fn early(&self, host: HostId, generation: u64) -> (bool, bool) {
        let tag = self.early.get(host.index()).map_or(0, |e| e.load(Relaxed));
        (tag == early_tag(generation), tag == early_tag(generation.wrapping_sub(1)))
    }

    /// Sets a bit in a map of a host. True when it is new in this epoch.
    #[inline(always)]
    pub fn touch_fanout(&self, host: HostId, epoch: u32, map: Map, hash: u64) -> bool {
        self.fanout.get(index(host.index(), epoch, map)).is_some_and(|m| m.touch(epoch, hash))
    }

    /// Whether an external answered the host, or came first, in this epoch or the one before.
    #[inline(always)]
    pub fn is_peer(&self, host: HostId, epoch: u32, hash: u64) -> bool {
        [epoch, epoch.wrapping_sub(1)].into_iter().any(|e| self.has_fanout(host, e, Map::Answered, hash))
    }

    /// Marks a host as touched in this tick's bitmap.
    #[inline(always)]
    pub fn mark(&self, touched: &Touched<'_>, host: HostId) {
        touched.mark(host);
    }

    /// This worker's counters.
    #[inline]
    pub fn counters(&self) -> Option<&'a WorkerCounters> {
        self.facts.workers().get(self.worker)
    }
}

/// A generation in a byte; never 0.
#[inline(always)]
fn early_tag(generation: u64) -> u8 {
    let tag = (generation % 255) as u8;
    tag + 1
}

/// Adds to a counter that has one writer: compiles to a plain addition.
#[inline(always)]
pub fn add(counter: &AtomicU64, n: u64) {
    counter.store(counter.load(Relaxed).wrapping_add(n), Relaxed);
}

impl WorkerCounters {
    /// Counters of a side.
    #[inline]
    pub fn side(&self, side: Side) -> &SideCounters {
        &self.sides[side.index()]
    }
}
