//! The policy file: what control has decided.

use std::path::{Path, PathBuf};
use std::sync::atomic::{
    AtomicU8, AtomicU16, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};

use crate::addr::Mac;
use crate::addressing::{Addressing, AddressingTable, TooMany};
use crate::facts::Facts;
use crate::flows::{EVIDENCE_MAX, WATCHED_MAX, WatchSlot};
use crate::host::{self, Dir, HostFlags, HostId, HostLine, LineTotals, RareLine};
use crate::layout::{Capacities, Planner, Section, WORKERS_MAX};
use crate::link::LINK_MAX;
use crate::locks::{EXCEPTIONS_MAX, Exception, ExceptionCell, LockCell, LockedRange, excepted, locked_at};
use crate::map::{Mapping, PageKind, RegionError, WriterLock, shared_struct};
use crate::segment::{SegmentCells, SegmentRules, SegmentTable};

const MAGIC: u64 = u64::from_le_bytes(*b"CORDONpo");
/// Longest configuration text that is kept.
pub const CONFIG_MAX: usize = 1 << 20;
/// Requests for IPv6 hosts that can wait for housekeeping.
pub const REQUESTS_MAX: usize = 1024;

shared_struct! {
    /// Start of the file. Written by control; read by the dataplane, the first line once a burst.
    pub struct PolicyHeader {
        magic: AtomicU64,
        layout_hash: AtomicU64,
        /// Parity is the copy in force.
        addressing_version: AtomicU64,
        /// Parity is the copy in force.
        locks_version: AtomicU64,
        /// 1: forward everything, enforce nothing.
        bypass: AtomicU64,
        /// The incarnation of the dataplane whose host flags stand here; for any other they are looked up by address.
        flags_incarnation: AtomicU64,
        hash_key: [AtomicU64; 2],
        /// The tick each worker is asked to turn to.
        ticks: [AtomicU64; WORKERS_MAX],
        /// Process id.
        pub pid: AtomicU64,
        /// Bits of an IPv6 address that name a host.
        ipv6_host_length: AtomicU64,
        hosts_v4: AtomicU64,
        hosts_v6: AtomicU64,
        locks: AtomicU64,
        /// Nanoseconds since 1970 at control's last tick.
        pub last_tick_unix_ns: AtomicU64,
        /// The incarnation whose counters `accounted` follows.
        pub accounted_incarnation: AtomicU64,
        config_version: AtomicU64,
        config_len: [AtomicU64; 2],
        config_hash: [AtomicU64; 2],
        /// What both versions began with.
        first_version: AtomicU64,
        /// Requests for IPv6 hosts made so far.
        pub v6_requests_made: AtomicU64,
        /// Epoch of the fan-out maps.
        epoch: AtomicU64,
        /// Watch generation: parity is the flow table that workers fill.
        generation: AtomicU64,
        /// Rows that a watched host may take of a worker in a generation.
        flow_quota: AtomicU64,
        /// Records that a watched host may write in a tick on a worker.
        evidence_quota: AtomicU64,
        /// How far control has read each worker's evidence ring.
        evidence_read: [AtomicU64; WORKERS_MAX],
        /// How far control has read each worker's ring of link frames.
        link_read: [AtomicU64; WORKERS_MAX],
        /// [`Bindings`] as a number.
        bindings: AtomicU64,
    }
}

shared_struct! {
    /// One copy of the enforced lock list. Written by control while no worker reads it; read by the dataplane.
    struct LockHeader {
        locks_len: AtomicU64,
        exceptions_len: AtomicU64,
        spare: [AtomicU64; 6],
        exceptions: [ExceptionCell; EXCEPTIONS_MAX],
        segment: SegmentCells,
    }
}

#[derive(Clone, Copy, Debug)]
struct Layout {
    capacities: Capacities,
    addressing: [Section; 2],
    lock_headers: Section,
    locks: [Section; 2],
    flags: Section,
    watch: Section,
    macs: Section,
    accounted: Section,
    accounted_rare: Section,
    requests: Section,
    config: [Section; 2],
    size: usize,
    hash: u64,
}

impl Layout {
    fn new(c: Capacities) -> Layout {
        let mut p = Planner::new("policy", size_of::<PolicyHeader>());
        let addressing = [p.table::<AddressingTable>(1), p.table::<AddressingTable>(1)];
        let lock_headers = p.table::<LockHeader>(2);
        // Flattening n ranges gives at most 2 n - 1; both families share the table.
        let locks = [p.table::<LockCell>(c.locks as usize * 2), p.table::<LockCell>(c.locks as usize * 2)];
        let flags = p.table::<AtomicU8>(c.hosts() as usize);
        let watch = p.table::<AtomicU16>(c.hosts() as usize);
        let macs = p.table::<AtomicU64>(c.hosts() as usize);
        let accounted = p.table::<HostLine>(c.hosts() as usize);
        let accounted_rare = p.table::<RareLine>(c.hosts() as usize);
        let requests = p.table::<[AtomicU64; 4]>(REQUESTS_MAX);
        let config = [p.table::<AtomicU8>(CONFIG_MAX), p.table::<AtomicU8>(CONFIG_MAX)];
        let (size, hash) = p.finish();
        Layout {
            capacities: c,
            addressing,
            lock_headers,
            locks,
            flags,
            watch,
            macs,
            accounted,
            accounted_rare,
            requests,
            config,
            size,
            hash,
        }
    }
}

/// The policy file, mapped.
#[derive(Debug)]
pub struct Policy {
    map: Mapping,
    layout: Layout,
    _lock: Option<WriterLock>,
}

/// The file's name in the tables directory.
pub fn path(dir: &Path) -> PathBuf {
    dir.join("policy")
}

/// What becomes of packets from inside whose source address belongs to another hardware address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Bindings {
    /// No host is bound.
    #[default]
    Off,
    /// They are counted, and do not count for the host.
    Count,
    /// They are dropped, too.
    Drop,
}

/// What a worker reads once a burst.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Versions {
    /// Addressing version; parity is the copy.
    pub addressing: u64,
    /// Lock-list version; parity is the copy.
    pub locks: u64,
    /// Forward everything, enforce nothing.
    pub bypass: bool,
    /// The incarnation for which host flags hold.
    pub flags_incarnation: u64,
}

/// What bounds the watching of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WatchLimits {
    /// Rows of a worker in a generation.
    pub flow_quota: u32,
    /// Records of a worker in a tick.
    pub evidence_quota: u32,
    /// How far control has read the worker's ring.
    pub evidence_read: u64,
    /// How far control has read the worker's ring of link frames.
    pub link_read: u64,
}

/// A request of control to insert an IPv6 host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestV6 {
    /// Key: the address's first bits, the rest zero.
    pub key: u128,
    /// See [`crate::addressing::NetworkV6::quota`].
    pub quota: u32,
    /// See [`crate::addressing::NetworkV6::slot`].
    pub network_slot: u32,
}

impl Policy {
    /// Opens the policy file in `dir` for writing, or makes one when there is none or it has another layout. Refuses
    /// while another control lives. The second value says whether an earlier policy was taken over.
    pub fn open_or_create(
        dir: &Path,
        capacities: Capacities,
        ipv6_host_length: u8,
        hash_key: [u64; 2],
    ) -> Result<(Policy, bool), RegionError> {
        let path = path(dir);
        let lock = WriterLock::acquire(&path)?;
        let layout = Layout::new(capacities);
        if let Ok(old) = Mapping::open(&path, true)
            && old.len() == layout.size
        {
            let h = old.header::<PolicyHeader>();
            let same = h.magic.load(Acquire) == MAGIC
                && h.layout_hash.load(Relaxed) == layout.hash
                && h.ipv6_host_length.load(Relaxed) == u64::from(ipv6_host_length)
                && h.hash_key[0].load(Relaxed) == hash_key[0]
                && h.hash_key[1].load(Relaxed) == hash_key[1];
            if same {
                h.pid.store(u64::from(std::process::id()), Relaxed);
                return Ok((Policy { map: old, layout, _lock: Some(lock) }, true));
            }
        }
        let (map, fresh) = Mapping::create(&path, layout.size)?;
        let policy = Policy { map, layout, _lock: Some(lock) };
        policy.initialise(ipv6_host_length, hash_key);
        // A worker may still report versions of a policy that this one replaces. Versions of two files never meet.
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let start = u64::try_from(now.as_nanos()).unwrap_or(0) & !1;
        policy.header().first_version.store(start, Relaxed);
        policy.header().addressing_version.store(start, Relaxed);
        policy.header().locks_version.store(start, Release);
        Mapping::publish(&fresh, &path)?;
        Ok((policy, false))
    }

    /// Policy in memory of this process, for replay, benches and tests.
    pub fn anonymous(
        capacities: Capacities,
        ipv6_host_length: u8,
        hash_key: [u64; 2],
    ) -> Result<Policy, RegionError> {
        let layout = Layout::new(capacities);
        let policy = Policy { map: Mapping::anonymous(layout.size)?, layout, _lock: None };
        policy.initialise(ipv6_host_length, hash_key);
        Ok(policy)
    }

    fn initialise(&self, ipv6_host_length: u8, hash_key: [u64; 2]) {
        let h = self.header();
        let c = self.layout.capacities;
        h.layout_hash.store(self.layout.hash, Relaxed);
        h.hash_key[0].store(hash_key[0], Relaxed);
        h.hash_key[1].store(hash_key[1], Relaxed);
        h.ipv6_host_length.store(u64::from(ipv6_host_length.clamp(1, 128)), Relaxed);
        h.hosts_v4.store(u64::from(c.hosts_v4), Relaxed);
        h.hosts_v6.store(u64::from(c.hosts_v6), Relaxed);
        h.locks.store(u64::from(c.locks), Relaxed);
        h.pid.store(u64::from(std::process::id()), Relaxed);
        h.magic.store(MAGIC, Release);
    }

    /// Maps the policy for reading.
    pub fn open(dir: &Path) -> Result<Policy, RegionError> {
        let path = path(dir);
        let map = Mapping::open(&path, false)?;
        let mismatch =
            |what, found, expected| RegionError::Mismatch { path: path.clone(), what, found, expected };
        if map.len() < size_of::<PolicyHeader>() {
            return Err(mismatch("length", map.len() as u64, size_of::<PolicyHeader>() as u64));
        }
        let h = map.header::<PolicyHeader>();
        let magic = h.magic.load(Acquire);
        if magic != MAGIC {
            return Err(mismatch("magic number", magic, MAGIC));
        }
        let bounded = |c: &AtomicU64| u32::try_from(c.load(Relaxed)).unwrap_or(0).min(1 << 26);
        let capacities = Capacities {
            workers: 0,
            hosts_v4: bounded(&h.hosts_v4),
            hosts_v6: bounded(&h.hosts_v6),
            locks: bounded(&h.locks),
        };
        let layout = Layout::new(capacities);
        let found = h.layout_hash.load(Relaxed);
        if found != layout.hash {
            return Err(mismatch("layout hash", found, layout.hash));
        }
        if map.len() < layout.size {
            return Err(mismatch("length", map.len() as u64, layout.size as u64));
        }
        Ok(Policy { map, layout, _lock: None })
    }

    /// Whether the file under this name is still the one mapped here.
    pub fn is_current(&self, dir: &Path) -> bool {
        use std::os::unix::fs::MetadataExt;
        std::fs::metadata(path(dir)).is_ok_and(|m| m.ino() == self.map.inode())
    }

    /// The process that writes the policy in `dir`, when one lives.
    pub fn writer(dir: &Path) -> Option<i32> {
        WriterLock::holder(&path(dir))
    }

    /// Sizes of the tables.
    pub fn capacities(&self) -> Capacities {
        self.layout.capacities
    }

    /// Start of the file.
    #[inline]
    pub fn header(&self) -> &PolicyHeader {
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

    // ---- read by the dataplane ----

    /// What changes, read once a burst.
    #[inline]
    pub fn versions(&self) -> Versions {
        let h = self.header();
        Versions {
            addressing: h.addressing_version.load(Acquire),
            locks: h.locks_version.load(Acquire),
            bypass: h.bypass.load(Relaxed) != 0,
            flags_incarnation: h.flags_incarnation.load(Acquire),
        }
    }

    /// Whether addressing and the lock list have both been published: before, there is nothing to enforce yet.
    pub fn is_ready(&self) -> bool {
        let first = self.header().first_version.load(Relaxed);
        let v = self.versions();
        v.addressing != first && v.locks != first
    }

    /// The tick a worker is asked to turn to.
    #[inline]
    pub fn tick(&self, worker: usize) -> u64 {
        self.header().ticks[worker % WORKERS_MAX].load(Relaxed)
    }

    /// The epoch of the fan-out maps.
    #[inline]
    pub fn epoch(&self) -> u32 {
        #[expect(clippy::cast_possible_truncation, reason = "written from a u32")]
        let epoch = self.header().epoch.load(Relaxed) as u32;
        epoch
    }

    /// The watch generation.
    #[inline]
    pub fn generation(&self) -> u64 {
        self.header().generation.load(Acquire)
    }

    /// The slot of a watched host; 0 for a host that is not watched.
    #[inline]
    pub fn watch_slot(&self, host: HostId) -> WatchSlot {
        let cells: &[AtomicU16] = self.map.table(self.layout.watch);
        let slot = cells.get(host.index()).map_or(0, |c| c.load(Relaxed));
        WatchSlot(if usize::from(slot) < WATCHED_MAX { slot } else { 0 })
    }

    /// Rows a watched host may take of a worker in a generation, records it may write in a tick, and how far the worker's
    /// ring has been read.
    #[inline]
    pub fn watch_limits(&self, worker: usize) -> WatchLimits {
        let h = self.header();
        let narrow = |c: &AtomicU64| u32::try_from(c.load(Relaxed)).unwrap_or(u32::MAX);
        WatchLimits {
            flow_quota: narrow(&h.flow_quota),
            evidence_quota: narrow(&h.evidence_quota),
            evidence_read: h.evidence_read[worker % WORKERS_MAX].load(Acquire),
            link_read: h.link_read[worker % WORKERS_MAX].load(Acquire),
        }
    }

    /// The installation's secret for keyed hashes.
    #[inline]
    pub fn hash_key(&self) -> [u64; 2] {
        let k = &self.header().hash_key;
        [k[0].load(Relaxed), k[1].load(Relaxed)]
    }

    /// Mask that leaves the bits of an IPv6 address that name a host.
    #[inline]
    pub fn ipv6_host_mask(&self) -> u128 {
        let length = self.header().ipv6_host_length.load(Relaxed).clamp(1, 128);
        u128::MAX << (128 - length)
    }

    /// The copy of addressing that a version names.
    #[inline]
    pub fn addressing(&self, version: u64) -> &AddressingTable {
        &self.map.table::<AddressingTable>(self.layout.addressing[usize::from(version % 2 == 1)])[0]
    }

    /// Flags of all hosts.
    #[inline]
    pub fn flags(&self) -> FlagTable<'_> {
        FlagTable(self.map.table(self.layout.flags))
    }

    /// What becomes of packets that break a binding.
    #[inline]
    pub fn bindings(&self) -> Bindings {
        match self.header().bindings.load(Relaxed) {
            1 => Bindings::Count,
            2 => Bindings::Drop,
            _ => Bindings::Off,
        }
    }

    /// The hardware addresses that hosts are bound to; of none by default.
    #[inline]
    pub fn bound(&self) -> BoundTable<'_> {
        BoundTable(self.map.table(self.layout.macs))
    }

    fn lock_copy(&self, version: u64) -> (&LockHeader, &[LockCell]) {
        let i = usize::from(version % 2 == 1);
        let h = &self.map.table::<LockHeader>(self.layout.lock_headers)[i];
        (h, self.map.table(self.layout.locks[i]))
    }

    /// Lock bits over an address ([`crate::Addr::as_u128`]), by binary search in the list of a version.
    #[inline(never)]
    pub fn locked_at(&self, version: u64, address: u128) -> HostFlags {
        let (h, cells) = self.lock_copy(version);
        let n = usize::try_from(h.locks_len.load(Relaxed)).unwrap_or(0).min(cells.len());
        HostFlags(locked_at(&cells[..n], address))
    }

    /// Whether `remote` may still talk to the locked `host`.
    #[inline(never)]
    pub fn excepted(&self, version: u64, host: u128, remote: u128) -> bool {
        let (h, _) = self.lock_copy(version);
        let n = usize::try_from(h.exceptions_len.load(Relaxed)).unwrap_or(0).min(EXCEPTIONS_MAX);
        excepted(&h.exceptions[..n], host, remote)
    }

    /// What holds on the servers' segment, in the copy that a version of the lock list names.
    #[inline]
    pub fn segment(&self, version: u64) -> SegmentTable<'_> {
        SegmentTable(&self.lock_copy(version).0.segment)
    }

    /// The hardware addresses whose lock is in force, as [`Policy::enforced`].
    pub fn enforced_macs(&self) -> Vec<(Mac, u8)> {
        self.segment(self.versions().locks).all_locked()
    }

    /// The lock list in force, for a control whose store has lost it.
    pub fn enforced(&self) -> (Vec<LockedRange>, Vec<Exception>) {
        let (h, cells) = self.lock_copy(self.versions().locks);
        let n = usize::try_from(h.locks_len.load(Relaxed)).unwrap_or(0).min(cells.len());
        let m = usize::try_from(h.exceptions_len.load(Relaxed)).unwrap_or(0).min(EXCEPTIONS_MAX);
        let ranges = cells[..n].iter().map(LockCell::read).filter(|l| l.bits != 0).collect();
        (ranges, h.exceptions[..m].iter().map(ExceptionCell::read).collect())
    }

    /// The request of a number, for housekeeping.
    pub fn request_v6(&self, number: u64) -> RequestV6 {
        let cells: &[[AtomicU64; 4]] = self.map.table(self.layout.requests);
        let c = &cells[usize::try_from(number % REQUESTS_MAX as u64).unwrap_or(0)];
        let narrow = |i: usize| u32::try_from(c[i].load(Relaxed)).unwrap_or(0);
        RequestV6 {
            key: u128::from(c[0].load(Relaxed)) << 64 | u128::from(c[1].load(Relaxed)),
            quota: narrow(2),
            network_slot: narrow(3),
        }
    }

    /// The last configuration that was good, as text; `None` where there is none or it is damaged.
    pub fn config_text(&self) -> Option<String> {
        let h = self.header();
        let version = h.config_version.load(Acquire);
        if version == 0 {
            return None;
        }
        let i = usize::from(version % 2 == 1);
        let cells: &[AtomicU8] = self.map.table(self.layout.config[i]);
        let n = usize::try_from(h.config_len[i].load(Relaxed)).ok().filter(|n| *n <= CONFIG_MAX)?;
        let bytes: Vec<u8> = cells[..n].iter().map(|c| c.load(Relaxed)).collect();
        (checksum(&bytes) == h.config_hash[i].load(Relaxed)).then(|| String::from_utf8(bytes).ok()).flatten()
    }

    // ---- written by control ----

    /// Whether every worker has turned to the version of addressing in force, so that the other copy is idle.
    pub fn addressing_acknowledged(&self, facts: &Facts) -> bool {
        let v = self.header().addressing_version.load(Relaxed);
        facts.workers().iter().all(|w| w.seen_addressing.load(Acquire) == v)
    }

    /// Whether every worker has turned to the version of the lock list in force.
    pub fn locks_acknowledged(&self, facts: &Facts) -> bool {
        let v = self.header().locks_version.load(Relaxed);
        facts.workers().iter().all(|w| w.seen_locks.load(Acquire) == v)
    }

    /// Writes addressing into the idle copy and turns to it. Call only when [`Policy::addressing_acknowledged`], or
    /// while no dataplane lives.
    pub fn publish_addressing(&self, a: &Addressing) -> Result<u64, TooMany> {
        let v = self.header().addressing_version.load(Relaxed) + 1;
        self.addressing(v).write(a)?;
        self.header().addressing_version.store(v, Release);
        Ok(v)
    }

    /// Writes the flattened lock list, and what holds on the servers' segment, into the idle copy and turns to it. Call
    /// only when [`Policy::locks_acknowledged`], or while no dataplane lives. What does not fit is an error, and the
    /// list in force stays.
    pub fn publish_locks(
        &self,
        locks: &[LockedRange],
        exceptions: &[Exception],
        segment: &SegmentRules,
    ) -> Result<u64, TooMany> {
        let v = self.header().locks_version.load(Relaxed) + 1;
        let (h, cells) = self.lock_copy(v);
        if locks.len() > cells.len() {
            return Err(TooMany { what: "locked ranges", limit: cells.len() });
        }
        if exceptions.len() > EXCEPTIONS_MAX {
            return Err(TooMany { what: "exceptions", limit: EXCEPTIONS_MAX });
        }
        h.segment.write(segment)?;
        for (c, l) in cells.iter().zip(locks) {
            c.write(l);
        }
        for (c, e) in h.exceptions.iter().zip(exceptions) {
            c.write(e);
        }
        h.locks_len.store(locks.len() as u64, Relaxed);
        h.exceptions_len.store(exceptions.len() as u64, Relaxed);
        self.header().locks_version.store(v, Release);
        Ok(v)
    }

    /// Sets a host's flags: in force for the next packet.
    pub fn set_flags(&self, host: HostId, flags: HostFlags) {
        let cells: &[AtomicU8] = self.map.table(self.layout.flags);
        if let Some(c) = cells.get(host.index()) {
            c.store(flags.0, Relaxed);
        }
    }

    /// Binds a host to a hardware address, or with `None` to none: in force for the next packet.
    pub fn bind(&self, host: HostId, mac: Option<Mac>) {
        let cells: &[AtomicU64] = self.map.table(self.layout.macs);
        if let Some(c) = cells.get(host.index()) {
            c.store(mac.map_or(0, Mac::number), Relaxed);
        }
    }

    /// Says what becomes of packets that break a binding.
    pub fn set_bindings(&self, b: Bindings) {
        let number = match b {
            Bindings::Off => 0,
            Bindings::Count => 1,
            Bindings::Drop => 2,
        };
        self.header().bindings.store(number, Relaxed);
    }

    /// Declares that the flags hold for this incarnation of the dataplane. Set every flag before.
    pub fn flags_hold_for(&self, incarnation: u64) {
        self.header().flags_incarnation.store(incarnation, Release);
    }

    /// Turns the fan-out maps to a new epoch.
    pub fn set_epoch(&self, epoch: u32) {
        self.header().epoch.store(u64::from(epoch), Relaxed);
    }

    /// Ends the watch generation and begins the next one. Call only when [`Policy::generation_acknowledged`], with
    /// the tables of the generation before the present one read to their end.
    pub fn turn_generation(&self) -> u64 {
        let next = self.header().generation.load(Relaxed) + 1;
        self.header().generation.store(next, Release);
        next
    }

    /// Whether every worker has turned to the present watch generation.
    pub fn generation_acknowledged(&self, facts: &Facts) -> bool {
        let g = self.header().generation.load(Relaxed);
        facts.workers().iter().all(|w| w.seen_generation.load(Acquire) == g)
    }

    /// Gives a host a watch slot, or with 0 takes it away. Set [`HostFlags::WATCH`] after, or clear it before.
    pub fn set_watch_slot(&self, host: HostId, slot: WatchSlot) {
        let cells: &[AtomicU16] = self.map.table(self.layout.watch);
        if let Some(c) = cells.get(host.index()) {
            c.store(slot.0, Relaxed);
        }
    }

    /// Sets the quotas of watched hosts.
    pub fn set_quotas(&self, flow_rows: u32, evidence_records: u32) {
        self.header().flow_quota.store(u64::from(flow_rows), Relaxed);
        self.header().evidence_quota.store(u64::from(evidence_records), Relaxed);
    }

    /// Says how far a worker's evidence ring has been read.
    pub fn set_evidence_read(&self, worker: usize, number: u64) {
        self.header().evidence_read[worker % WORKERS_MAX].store(number, Release);
    }

    /// How far a worker's evidence ring has been read; not further behind than the ring is long.
    pub fn evidence_read(&self, worker: usize, head: u64) -> u64 {
        let read = self.header().evidence_read[worker % WORKERS_MAX].load(Relaxed);
        if head.wrapping_sub(read) > EVIDENCE_MAX as u64 {
            head.saturating_sub(EVIDENCE_MAX as u64)
        } else {
            read
        }
    }

    /// Says how far a worker's ring of link frames has been read.
    pub fn set_link_read(&self, worker: usize, number: u64) {
        self.header().link_read[worker % WORKERS_MAX].store(number, Release);
    }

    /// How far a worker's ring of link frames has been read; not further behind than the ring is long.
    pub fn link_read(&self, worker: usize, head: u64) -> u64 {
        let read = self.header().link_read[worker % WORKERS_MAX].load(Relaxed);
        if head.wrapping_sub(read) > LINK_MAX as u64 { head.saturating_sub(LINK_MAX as u64) } else { read }
    }

    /// Forward everything, enforce nothing; or back.
    pub fn set_bypass(&self, on: bool) {
        self.header().bypass.store(u64::from(on), Relaxed);
    }

    /// Asks a worker to turn to a tick.
    pub fn set_tick(&self, worker: usize, tick: u64) {
        self.header().ticks[worker % WORKERS_MAX].store(tick, Relaxed);
    }

    /// What control has merged of a host so far. Survives control, so that nothing of a gap is missed.
    pub fn accounted(&self, host: HostId, dir: Dir) -> LineTotals {
        self.accounted_lines(host).map_or(LineTotals::default(), |(line, rare)| host::read(line, rare, dir))
    }

    /// Asks the cache for what was merged of a host.
    pub fn prefetch_accounted(&self, host: HostId) {
        if let Some((line, rare)) = self.accounted_lines(host) {
            crate::map::prefetch(line);
            crate::map::prefetch(rare);
        }
    }

    /// Records what control has merged.
    pub fn set_accounted(&self, host: HostId, dir: Dir, totals: &LineTotals) {
        if let Some((line, rare)) = self.accounted_lines(host) {
            host::write(line, rare, dir, totals);
        }
    }

    fn accounted_lines(&self, host: HostId) -> Option<(&HostLine, &RareLine)> {
        let lines: &[HostLine] = self.map.table(self.layout.accounted);
        let rare: &[RareLine] = self.map.table(self.layout.accounted_rare);
        Some((lines.get(host.index())?, rare.get(host.index())?))
    }

    /// Asks housekeeping for an IPv6 host. False when too many wait: ask again later.
    pub fn ask_v6(&self, facts: &Facts, r: RequestV6) -> bool {
        let made = self.header().v6_requests_made.load(Relaxed);
        let done = facts.header().v6_requests_done.load(Acquire);
        if made.wrapping_sub(done) >= REQUESTS_MAX as u64 {
            return false;
        }
        let cells: &[[AtomicU64; 4]] = self.map.table(self.layout.requests);
        let c = &cells[usize::try_from(made % REQUESTS_MAX as u64).unwrap_or(0)];
        #[expect(clippy::cast_possible_truncation, reason = "the two halves of a 128-bit number")]
        let halves = [(r.key >> 64) as u64, r.key as u64];
        c[0].store(halves[0], Relaxed);
        c[1].store(halves[1], Relaxed);
        c[2].store(u64::from(r.quota), Relaxed);
        c[3].store(u64::from(r.network_slot), Relaxed);
        self.header().v6_requests_made.store(made + 1, Release);
        true
    }

    /// Keeps a configuration that was found good. False when it is longer than [`CONFIG_MAX`].
    pub fn keep_config(&self, text: &str) -> bool {
        let bytes = text.as_bytes();
        if bytes.len() > CONFIG_MAX {
            return false;
        }
        let h = self.header();
        let v = h.config_version.load(Relaxed) + 1;
        let i = usize::from(v % 2 == 1);
        let cells: &[AtomicU8] = self.map.table(self.layout.config[i]);
        for (c, b) in cells.iter().zip(bytes) {
            c.store(*b, Relaxed);
        }
        h.config_len[i].store(bytes.len() as u64, Relaxed);
        h.config_hash[i].store(checksum(bytes), Relaxed);
        h.config_version.store(v, Release);
        true
    }
}

/// FNV-1a: finds a text that was cut or scribbled over.
fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3))
}

/// Flags of all hosts, borrowed; of none by default.
#[derive(Clone, Copy, Default)]
pub struct FlagTable<'a>(&'a [AtomicU8]);

impl FlagTable<'_> {
    /// The flags of a host; `None` when the id is beyond the table.
    #[inline(always)]
    pub fn find(&self, host: HostId) -> Option<HostFlags> {
        self.0.get(host.index()).map(|f| HostFlags(f.load(Relaxed)))
    }

    /// Flags of a host; none for an id beyond the table.
    #[inline(always)]
    pub fn get(&self, host: HostId) -> HostFlags {
        // Spelt out: `get` asks once more whether the reference it has made is null.
        HostFlags(if host.index() < self.0.len() { self.0[host.index()].load(Relaxed) } else { 0 })
    }

    /// Asks the cache for a host's flags.
    #[inline(always)]
    pub fn prefetch(&self, host: HostId) {
        if let Some(f) = self.0.get(host.index()) {
            crate::map::prefetch(f);
        }
    }
}

/// Hardware addresses that hosts are bound to, borrowed. Written by control; read by the dataplane.
#[derive(Clone, Copy)]
pub struct BoundTable<'a>(&'a [AtomicU64]);

impl BoundTable<'_> {
    /// The hardware address that a host is bound to.
    #[inline(always)]
    pub fn get(&self, host: HostId) -> Option<Mac> {
        let [_, _, mac @ ..] = self.0.get(host.index())?.load(Relaxed).to_be_bytes();
        (mac != [0; 6]).then_some(Mac(mac))
    }

    /// Asks the cache for a host's.
    #[inline(always)]
    pub fn prefetch(&self, host: HostId) {
        if let Some(c) = self.0.get(host.index()) {
            crate::map::prefetch(c);
        }
    }
}
