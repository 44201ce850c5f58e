//! Exact flows of watched hosts, first contacts of all others, and copies of packets.
//!
//! **Flows.** Each worker has two tables by parity of the watch generation. Rows are taken from a slab in order and
//! found through buckets under the keyed hash, with bounded probes. A row's key is written before the table's length is
//! raised with Release, and never again within its generation; its counters are the worker's. Control ends a generation;
//! each worker turns to the other table at its next burst and says so. From then on the first one is complete, and stays
//! as it is until control ends the next generation. A host that has used up its quota of rows gets rows by external and
//! protocol alone, with a reflector's port where there is one, since it names an attack; what finds no row at all is counted in
//! the host's [`WatchCell`], so that nothing is lost from a sum. What comes in says in such a row, too, that it may be an
//! answer: where both directions of a flow come to different workers, the worker with the answers has fewer rows left for
//! them than the one with the questions, since it cannot tell them from what others begin.
//!
//! **First contacts.** A host that is not watched leaves a row for each new contact that it opens, while its worker's
//! table is not half full: a scan of a thousand ports in a tenth of a second is over before anybody could set a watch.
//! Only answers and refusals are noted in such a row.
//!
//! **Evidence.** A ring of 128-byte records for each worker: written by the worker, read by control, which says in policy
//! how far it has read. A full ring, or a host beyond its quota of the tick, loses the record and counts it.

use std::sync::atomic::{
    AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};

use crate::facts::{add, keyed_hash};
use crate::host::{Dir, HostId};
use crate::locks::{load128, store128};
use crate::map::{prefetch, prefetch_to_write, shared_struct};
use crate::reflectors::is_reflector;

/// Rows of a table: one worker, one generation.
pub const FLOWS_MAX: usize = 32_768;
/// Buckets of a table.
pub const BUCKETS: usize = FLOWS_MAX * 2;
/// Hosts that can be watched at once; slot 0 is nobody's.
pub const WATCHED_MAX: usize = 1024;
/// Records of a worker's evidence ring.
pub const EVIDENCE_MAX: usize = 16_384;
/// Bytes of a packet that a record keeps.
pub const EVIDENCE_BYTES: usize = 104;
/// IP protocol numbers.
const TCP: u8 = 6;
const UDP: u8 = 17;
/// Buckets that a look-up visits.
const PROBES: usize = 8;
/// Bits of a bucket word that hold a row's number plus one.
const ROW_BITS: u32 = 16;
const ROW: u64 = (1 << ROW_BITS) - 1;
const _: () = assert!(FLOWS_MAX as u64 <= ROW);

/// Number of a watched host, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WatchSlot(pub u16);

/// What the packet that began a flow was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Opener {
    /// In the middle of a conversation, or not known.
    None = 0,
    /// The external address came first.
    RemoteFirst = 1,
    /// The host only answers: SYN-ACK, RST, ICMP errors and replies.
    Reaction = 2,
    /// TCP with SYN and without ACK.
    Syn = 3,
    /// TCP with FIN alone.
    Fin = 4,
    /// TCP without any flag, or with flags that a tiny fragment hides (RFC 1858).
    Null = 5,
    /// TCP with FIN, PSH and URG.
    Xmas = 6,
    /// TCP with ACK alone and without payload.
    Ack = 7,
    /// UDP to an address that did not come first.
    Udp = 8,
    /// An ICMP message that asks.
    IcmpRequest = 9,
    /// Another IP protocol.
    OtherProtocol = 10,
    /// A fragment that is not the first one: its ports are not known.
    Fragment = 11,
    /// UDP to an address that came first or answered lately: a conversation from before the watch, or a new question to
    /// somebody who answers.
    UdpToPeer = 12,
}

impl Opener {
    const ALL: [Opener; 13] = [
        Opener::None,
        Opener::RemoteFirst,
        Opener::Reaction,
        Opener::Syn,
        Opener::Fin,
        Opener::Null,
        Opener::Xmas,
        Opener::Ack,
        Opener::Udp,
        Opener::IcmpRequest,
        Opener::OtherProtocol,
        Opener::Fragment,
        Opener::UdpToPeer,
    ];

    /// Whether it may be a contact of the host's own: what others began or it only answers is none.
    pub const fn asks(self) -> bool {
        match self {
            Opener::Syn
            | Opener::Fin
            | Opener::Null
            | Opener::Xmas
            | Opener::Ack
            | Opener::Udp
            | Opener::IcmpRequest
            | Opener::OtherProtocol => true,
            Opener::None | Opener::RemoteFirst | Opener::Reaction | Opener::Fragment | Opener::UdpToPeer => {
                false
            }
        }
    }

    fn of(n: u64) -> Opener {
        usize::try_from(n).ok().and_then(|n| Opener::ALL.get(n)).copied().unwrap_or(Opener::None)
    }
}

/// Bits of a row's flags.
pub mod flag {
    /// Something other than a refusal came back.
    pub const ANSWERED: u64 = 1;
    /// RST came back.
    pub const RST: u64 = 1 << 1;
    /// An ICMP unreachable that quotes the flow came back.
    pub const UNREACHABLE: u64 = 1 << 2;
    /// The host sent SYN and ACK: it accepts connections on its port.
    pub const ACCEPTS: u64 = 1 << 3;
    /// An ICMP time exceeded that quotes the flow came back: a traceroute, or a loop.
    pub const TIME_EXCEEDED: u64 = 1 << 4;
}

/// What tells one flow from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FlowKey {
    /// The host.
    pub host: HostId,
    /// The other end, as [`crate::Addr::as_u128`] writes it.
    pub remote: u128,
    /// IP protocol number.
    pub protocol: u8,
    /// The host's port; 0 where there is none.
    pub local_port: u16,
    /// The other end's port; for ICMP the type of the host's or of the remote's message.
    pub remote_port: u16,
}

impl FlowKey {
    #[inline]
    fn meta(&self) -> u64 {
        u64::from(self.protocol) << 32 | u64::from(self.local_port) << 16 | u64::from(self.remote_port)
    }

    #[inline]
    fn hash(&self, hash_key: [u64; 2]) -> u64 {
        let own = u128::from(self.meta()) << 64 ^ u128::from(self.host.0);
        keyed_hash(self.remote.rotate_left(32) ^ own, hash_key)
    }

    /// The key of the row that stands for all flows with an external beyond the quota.
    fn without_ports(&self) -> FlowKey {
        let kept = |port| if self.protocol == UDP && is_reflector(port) { port } else { 0 };
        FlowKey { local_port: kept(self.local_port), remote_port: kept(self.remote_port), ..*self }
    }

    fn of(host: u64, meta: u64, remote: u128) -> FlowKey {
        #[expect(clippy::cast_possible_truncation, reason = "parts of a packed word")]
        FlowKey {
            host: HostId(host as u32),
            remote,
            protocol: (meta >> 32) as u8,
            local_port: (meta >> 16) as u16,
            remote_port: meta as u16,
        }
    }
}

shared_struct! {
    /// One flow. Written by this worker; read by control. What finds it and what an answer marks is on the first line.
    #[repr(align(64))]
    pub struct FlowRow {
        remote: [AtomicU64; 2],
        meta: AtomicU64,
        host: AtomicU64,
        flags: AtomicU64,
        last: AtomicU64,
        packets: [AtomicU64; 2],
        bytes: [AtomicU64; 2],
        first: AtomicU64,
        local: [AtomicU64; 2],
        /// Opener, and the first packet's frame length from bit 8 on.
        opener: AtomicU64,
        /// Flows that began in a row without ports.
        began: AtomicU64,
        spare: AtomicU64,
    }
}
const _: () = assert!(size_of::<FlowRow>() == 128);

/// A row as it stood when it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowRecord {
    /// Which flow.
    pub key: FlowKey,
    /// The host's own address.
    pub local: u128,
    /// Worker's clock at the first packet.
    pub first: u64,
    /// Worker's clock at the latest packet.
    pub last: u64,
    /// By [`Dir`].
    pub packets: [u64; 2],
    /// By [`Dir`]; frames without FCS.
    pub bytes: [u64; 2],
    /// How it began.
    pub opener: Opener,
    /// Length of the first frame.
    pub first_frame_bytes: u32,
    /// [`flag`] bits.
    pub flags: u64,
    /// Flows (of TCP) that began in a row without ports.
    pub began: u64,
}

/// A packet of a watched host, on its way into a row.
#[derive(Clone, Copy, Debug)]
pub struct FlowPacket {
    /// Which flow.
    pub key: FlowKey,
    /// The host's slot; 0 when it is not watched.
    pub slot: WatchSlot,
    /// The host's own address.
    pub local: u128,
    /// Which way.
    pub dir: Dir,
    /// Length of the frame without FCS.
    pub bytes: u32,
    /// Worker's clock.
    pub time: u64,
    /// How the flow begins, when this packet begins it.
    pub opener: Opener,
    /// [`flag`] bits that the packet sets.
    pub flags: u64,
}

impl FlowPacket {
    /// No packet.
    pub const NONE: FlowPacket = FlowPacket {
        key: FlowKey { host: HostId(u32::MAX), remote: 0, protocol: 0, local_port: 0, remote_port: 0 },
        slot: WatchSlot(0),
        local: 0,
        dir: Dir::Out,
        bytes: 0,
        time: 0,
        opener: Opener::None,
        flags: 0,
    };
}

impl FlowRow {
    fn write_key(&self, p: &FlowPacket) {
        store128(&self.remote, p.key.remote);
        store128(&self.local, p.local);
        self.meta.store(p.key.meta(), Relaxed);
        self.host.store(u64::from(p.key.host.0), Relaxed);
        self.first.store(p.time, Relaxed);
        self.opener.store(u64::from(p.bytes) << 8 | p.opener as u64, Relaxed);
        for c in self.packets.iter().chain(&self.bytes) {
            c.store(0, Relaxed);
        }
        self.flags.store(0, Relaxed);
        self.began.store(0, Relaxed);
    }

    #[inline]
    fn count(&self, p: &FlowPacket) {
        self.last.store(p.time, Relaxed);
        add(&self.packets[p.dir as usize], 1);
        add(&self.bytes[p.dir as usize], u64::from(p.bytes));
        if p.flags != 0 {
            self.flags.store(self.flags.load(Relaxed) | p.flags, Relaxed);
        }
    }

    /// Reads the row.
    pub fn read(&self) -> FlowRecord {
        let opener = self.opener.load(Relaxed);
        FlowRecord {
            key: FlowKey::of(self.host.load(Relaxed), self.meta.load(Relaxed), load128(&self.remote)),
            local: load128(&self.local),
            first: self.first.load(Relaxed),
            last: self.last.load(Relaxed),
            packets: [0, 1].map(|d: usize| self.packets[d].load(Relaxed)),
            bytes: [0, 1].map(|d: usize| self.bytes[d].load(Relaxed)),
            opener: Opener::of(opener & 0xff),
            first_frame_bytes: u32::try_from(opener >> 8).unwrap_or(u32::MAX),
            flags: self.flags.load(Relaxed),
            began: self.began.load(Relaxed),
        }
    }

    /// Packets in both directions, and flags: what changes when the row does.
    pub fn stamp(&self) -> (u64, u64) {
        let packets = self.packets[0].load(Relaxed).wrapping_add(self.packets[1].load(Relaxed));
        (packets, self.flags.load(Relaxed))
    }
}

shared_struct! {
    /// What is counted of a watched host beside its rows. Written by this worker; read by control.
    #[repr(align(64))]
    pub struct WatchCell {
        /// Generation in the upper half, rows taken in it in the lower one.
        rows: AtomicU64,
        /// Packets without a row, by [`Dir`].
        pub other_packets: [AtomicU64; 2],
        /// Bytes of those.
        pub other_bytes: [AtomicU64; 2],
        /// Tick in the upper half, records written in it in the lower one.
        evidence: AtomicU64,
        /// Records that were not written.
        pub evidence_lost: AtomicU64,
        spare: AtomicU64,
    }
}
const _: () = assert!(size_of::<WatchCell>() == 64);

/// A number that begins at zero with each `period`.
#[inline]
fn used(word: &AtomicU64, period: u64) -> u64 {
    let was = word.load(Relaxed);
    if was >> 32 == period & 0xffff_ffff { was & 0xffff_ffff } else { 0 }
}

/// Counts up a number that begins at zero with each `period`. False, and unchanged, at `quota`.
#[inline]
pub(crate) fn within(word: &AtomicU64, period: u64, quota: u32) -> bool {
    let n = used(word, period);
    if n >= u64::from(quota) {
        return false;
    }
    word.store(period << 32 | (n + 1), Relaxed);
    true
}

/// Where a packet's rows are looked for, by the hashes of their keys.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sought {
    /// That of its flow.
    own: u64,
    /// That of all flows with its external, if `full`.
    beyond: u64,
    /// The host may have used up its rows.
    full: bool,
}

/// The flow table of one worker and one generation, borrowed.
#[derive(Clone, Copy)]
pub struct FlowTable<'a> {
    pub(crate) rows: &'a [FlowRow],
    pub(crate) buckets: &'a [AtomicU64],
    pub(crate) len: &'a AtomicU64,
    pub(crate) cells: &'a [WatchCell],
    pub(crate) generation: u64,
}

impl<'a> FlowTable<'a> {
    /// Rows in use, in the order in which they were taken.
    pub fn rows(&self) -> &'a [FlowRow] {
        let n = usize::try_from(self.len.load(Acquire)).unwrap_or(0).min(self.rows.len());
        &self.rows[..n]
    }

    /// Begins to be filled anew.
    pub(crate) fn clear(&self) {
        // Buckets of earlier generations are told by their generation.
        self.len.store(0, Release);
    }

    /// The bucket words that a key of this hash may stand in.
    #[inline]
    fn probe(&self, hash: u64) -> impl Iterator<Item = &'a AtomicU64> + use<'a> {
        let buckets = self.buckets;
        let start = usize::try_from(hash & u64::from(u32::MAX)).unwrap_or(0);
        (0..PROBES).filter_map(move |i| buckets.get((start + i) & (BUCKETS - 1)))
    }

    /// What a bucket word says above the row's number plus one: the generation, and below it a part of the hash, so that rows
    /// of other keys need not be looked at.
    #[inline]
    fn tag(&self, hash: u64) -> u64 {
        self.generation << 32 | hash >> 48 << ROW_BITS
    }

    /// The row that a bucket word names.
    #[inline]
    fn row(&self, word: u64) -> Option<&'a FlowRow> {
        self.rows.get(usize::try_from(word & ROW).unwrap_or(0).wrapping_sub(1))
    }

    /// The row of a key.
    #[inline]
    fn find(&self, key: &FlowKey, hash: u64) -> Option<&'a FlowRow> {
        let (tag, meta, host) = (self.tag(hash), key.meta(), u64::from(key.host.0));
        for bucket in self.probe(hash) {
            let word = bucket.load(Relaxed);
            if word >> 32 != tag >> 32 {
                return None;
            }
            if word & !ROW != tag {
                continue;
            }
            let row = self.row(word)?;
            let same = row.meta.load(Relaxed) == meta && row.host.load(Relaxed) == host;
            if same && load128(&row.remote) == key.remote {
                return Some(row);
            }
        }
        None
    }

    /// Asks the cache for the bucket in which a key most likely stands. Returns what [`FlowTable::prefetch_row`] takes.
    #[inline(always)]
    pub fn prefetch(&self, key: &FlowKey, hash_key: [u64; 2]) -> u64 {
        let hash = key.hash(hash_key);
        if let Some(bucket) = self.probe(hash).next() {
            prefetch(bucket);
        }
        hash
    }

    /// Asks the cache for the row of a key whose bucket is here by now.
    #[inline(always)]
    pub fn prefetch_row(&self, hash: u64) {
        let word = self.probe(hash).next().map_or(0, |b| b.load(Relaxed));
        if word & !ROW == self.tag(hash)
            && let Some(row) = self.row(word)
        {
            prefetch_to_write(row);
        }
    }

    /// Asks the cache for where a packet of a watched host will be counted.
    #[inline(always)]
    pub fn seek(&self, p: &FlowPacket, hash_key: [u64; 2], quota: u32) -> Sought {
        let own = self.prefetch(&p.key, hash_key);
        // Once a host has used up its rows each packet of a flood ends beyond them.
        let full = self
            .cells
            .get(usize::from(p.slot.0))
            .is_some_and(|c| used(&c.rows, self.generation) >= u64::from(quota / 2));
        let beyond = if full { self.prefetch(&p.key.without_ports(), hash_key) } else { 0 };
        Sought { own, beyond, full }
    }

    /// Asks the cache for the rows themselves, whose buckets are here by now.
    #[inline(always)]
    pub fn seek_rows(&self, s: &Sought) {
        self.prefetch_row(s.own);
        if s.full {
            self.prefetch_row(s.beyond);
        }
    }

    /// Counts a packet that [`FlowTable::seek`] was asked for in its row, or where there is none in the host's cell. Only the
    /// owning worker calls this.
    #[inline(always)]
    pub fn count(&self, p: &FlowPacket, s: &Sought, hash_key: [u64; 2], quota: u32) {
        if let Some(row) = self.find(&p.key, s.own).or_else(|| self.take(p, s.own, quota)) {
            row.count(p);
            return;
        }
        // Beyond the quota one row for each external keeps what a flood to few of them comes to.
        let may_answer = p.dir == Dir::In && !(p.key.protocol == TCP && p.opener == Opener::RemoteFirst);
        let flags = if may_answer { p.flags } else { 0 };
        let rest = FlowPacket { key: p.key.without_ports(), opener: Opener::None, flags, ..*p };
        let hash = if s.full { s.beyond } else { rest.key.hash(hash_key) };
        // As many of those as rows with ports; a row that nobody asked for gets half of a quota.
        let both = quota.saturating_mul(4);
        if let Some(row) = self.find(&rest.key, hash).or_else(|| self.take(&rest, hash, both)) {
            row.count(&rest);
            add(
                &row.began,
                u64::from(p.opener == Opener::Syn && p.dir == Dir::Out || p.opener == Opener::RemoteFirst),
            );
        } else if let Some(cell) = self.cells.get(usize::from(p.slot.0)) {
            add(&cell.other_packets[p.dir as usize], 1);
            add(&cell.other_bytes[p.dir as usize], u64::from(p.bytes));
        }
    }

    fn take(&self, p: &FlowPacket, hash: u64, quota: u32) -> Option<&'a FlowRow> {
        let n = self.len.load(Relaxed);
        // Half of the table is there for watched hosts alone.
        if p.slot.0 == 0 && n >= FLOWS_MAX as u64 / 2 {
            return None;
        }
        let row = self.rows.get(usize::try_from(n).ok()?)?;
        // Thousands of clients, or spoofed ones, leave half of it to what the host does itself.
        let quota = if p.opener.asks() { quota } else { quota / 2 };
        let taken = if p.slot.0 == 0 { None } else { Some(&self.cells.get(usize::from(p.slot.0))?.rows) };
        if taken.is_some_and(|rows| used(rows, self.generation) >= u64::from(quota)) {
            return None;
        }
        let tag = self.tag(hash);
        let free = self.probe(hash).find(|b| b.load(Relaxed) >> 32 != tag >> 32)?;
        if taken.is_some_and(|rows| !within(rows, self.generation, quota)) {
            return None;
        }
        row.write_key(p);
        self.len.store(n + 1, Release);
        free.store(tag | (n + 1), Relaxed);
        Some(row)
    }

    /// Whether there is still room for hosts that are not watched.
    #[inline]
    pub fn takes_first_contacts(&self) -> bool {
        self.len.load(Relaxed) < FLOWS_MAX as u64 / 2
    }

    /// Notes a first contact of a host that is not watched. False when there is no room. Only the owning worker calls this.
    #[inline]
    pub fn note(&self, p: &FlowPacket, hash_key: [u64; 2]) -> bool {
        if !self.takes_first_contacts() {
            return false;
        }
        let hash = p.key.hash(hash_key);
        let Some(row) = self.find(&p.key, hash).or_else(|| self.take(p, hash, 0)) else {
            return false;
        };
        row.count(p);
        true
    }

    /// Marks the flow that an ICMP error quotes, without counting a packet in it. Where there is no row, another worker may have
    /// seen the question: the mark gets one of its own. Only the owning worker calls this.
    pub fn mark_quoted(&self, p: &FlowPacket, hash_key: [u64; 2], quota: u32) {
        if !self.mark(&p.key, hash_key, p.flags)
            && let Some(row) = self.take(p, p.key.hash(hash_key), quota)
        {
            row.last.store(p.time, Relaxed);
            row.flags.store(p.flags, Relaxed);
        }
    }

    /// Marks a flow: an ICMP error quotes it, or its first contact is answered. False when there is no such row. Only the
    /// owning worker calls this.
    pub fn mark(&self, key: &FlowKey, hash_key: [u64; 2], flags: u64) -> bool {
        let row = self.find(key, key.hash(hash_key));
        if let Some(row) = row {
            let before = row.flags.load(Relaxed);
            // Nearly always they stand there already: a line that is only read stays where control has it, too.
            if before | flags != before {
                row.flags.store(before | flags, Relaxed);
            }
        }
        row.is_some()
    }
}

shared_struct! {
    /// A packet as evidence. Written by this worker; read by control.
    #[repr(align(64))]
    pub struct EvidenceRecord {
        time: AtomicU64,
        /// Slot, bytes kept, direction and whether it was dropped.
        meta: AtomicU64,
        /// Length of the frame without FCS.
        length: AtomicU64,
        bytes: [AtomicU64; EVIDENCE_BYTES / 8],
    }
}
const _: () = assert!(size_of::<EvidenceRecord>() == 128);

/// A packet as it was recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// Worker's clock.
    pub time: u64,
    /// The watched host.
    pub slot: WatchSlot,
    /// Which way, as the host sees it.
    pub dir: Dir,
    /// Whether it was dropped.
    pub dropped: bool,
    /// Length of the frame without FCS.
    pub length: u32,
    /// Bytes kept.
    pub kept: u8,
    /// The first bytes of the frame.
    pub bytes: [u8; EVIDENCE_BYTES],
}

impl Evidence {
    /// The bytes that were kept.
    pub fn frame(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.kept)).unwrap_or(&self.bytes)
    }
}

/// The evidence ring of one worker, borrowed.
#[derive(Clone, Copy)]
pub struct EvidenceRing<'a> {
    pub(crate) records: &'a [EvidenceRecord],
    pub(crate) head: &'a AtomicU64,
    pub(crate) cells: &'a [WatchCell],
}

/// What a record says besides the packet.
#[derive(Clone, Copy, Debug)]
pub struct EvidenceMeta {
    /// The watched host.
    pub slot: WatchSlot,
    /// Which way.
    pub dir: Dir,
    /// Whether it was dropped.
    pub dropped: bool,
    /// Length of the frame.
    pub length: u32,
    /// Worker's clock.
    pub time: u64,
}

impl EvidenceRing<'_> {
    /// Copies the beginning of a frame. `read`: how far control has read; `tick`, `quota`: records a host may write in a
    /// tick. Only the owning worker calls this.
    #[inline]
    pub fn push(&self, m: &EvidenceMeta, frame: &[u8], read: u64, tick: u64, quota: u32) {
        let Some(cell) = self.cells.get(usize::from(m.slot.0)) else { return };
        let head = self.head.load(Relaxed);
        if head.wrapping_sub(read) >= self.records.len() as u64 || !within(&cell.evidence, tick, quota) {
            add(&cell.evidence_lost, 1);
            return;
        }
        let mask = self.records.len() as u64 - 1;
        let Some(r) = usize::try_from(head & mask).ok().and_then(|i| self.records.get(i)) else { return };
        let kept = frame.len().min(EVIDENCE_BYTES);
        let mut chunks = frame[..kept].chunks_exact(8);
        for (to, from) in r.bytes.iter().zip(&mut chunks) {
            let mut word = [0; 8];
            word.copy_from_slice(from);
            to.store(u64::from_le_bytes(word), Relaxed);
        }
        let rest = chunks.remainder();
        if !rest.is_empty() {
            let mut word = [0; 8];
            word[..rest.len()].copy_from_slice(rest);
            if let Some(to) = r.bytes.get(kept / 8) {
                to.store(u64::from_le_bytes(word), Relaxed);
            }
        }
        let meta =
            u64::from(m.slot.0) | (kept as u64) << 16 | (m.dir as u64) << 24 | u64::from(m.dropped) << 25;
        r.time.store(m.time, Relaxed);
        r.meta.store(meta, Relaxed);
        r.length.store(u64::from(m.length), Relaxed);
        self.head.store(head + 1, Release);
    }

    /// How far it is written.
    pub fn head(&self) -> u64 {
        self.head.load(Acquire)
    }

    /// The record of a number below [`EvidenceRing::head`], at most the ring's length behind it.
    pub fn get(&self, number: u64) -> Option<Evidence> {
        let mask = (self.records.len() as u64).checked_sub(1)?;
        let r = self.records.get(usize::try_from(number & mask).ok()?)?;
        let meta = r.meta.load(Relaxed);
        let mut bytes = [0; EVIDENCE_BYTES];
        for (to, from) in bytes.chunks_exact_mut(8).zip(&r.bytes) {
            to.copy_from_slice(&from.load(Relaxed).to_le_bytes());
        }
        #[expect(clippy::cast_possible_truncation, reason = "parts of a packed word")]
        Some(Evidence {
            time: r.time.load(Relaxed),
            slot: WatchSlot(meta as u16),
            dir: if meta >> 24 & 1 == 0 { Dir::Out } else { Dir::In },
            dropped: meta >> 25 & 1 != 0,
            length: r.length.load(Relaxed) as u32,
            kept: ((meta >> 16) as u8).min(EVIDENCE_BYTES as u8),
            bytes,
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use crate::{Capacities, Facts};

    #[test]
    fn clients_leave_half_of_a_hosts_rows_to_what_it_does_itself() {
        const QUOTA: u32 = 100;
        let facts = Facts::anonymous(Capacities { workers: 1, hosts_v4: 8, hosts_v6: 8, locks: 8 }).unwrap();
        let table = facts.flows(0, 1);
        let packet = |n: u16, opener| FlowPacket {
            key: FlowKey { host: HostId(1), remote: 7, protocol: 6, local_port: n, remote_port: 80 },
            slot: WatchSlot(1),
            local: 1,
            dir: Dir::In,
            bytes: 60,
            time: 1,
            opener,
            flags: 0,
        };
        let count = |p: FlowPacket| table.count(&p, &table.seek(&p, [1, 2], QUOTA), [1, 2], QUOTA);
        for n in 0..200 {
            count(packet(n, Opener::RemoteFirst));
        }
        assert_eq!(table.rows().len(), 51, "and one row for all others of that external");
        for n in 1_000..1_200 {
            count(packet(n, Opener::Syn));
        }
        assert_eq!(table.rows().len(), 100);
        let cell = &facts.watch_cells(0)[1];
        let rest: u64 = table
            .rows()
            .iter()
            .map(|r| r.read())
            .filter(|r| r.key.remote_port == 0)
            .map(|r| r.packets[1])
            .sum();
        let other = cell.other_packets[Dir::In as usize].load(Relaxed);
        assert_eq!((rest, other), (301, 0), "and nothing is lost from a sum");
    }
}
