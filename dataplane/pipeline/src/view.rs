//! The policy as one burst sees it, and what one end of a packet does to its host's tables.

use std::sync::atomic::Ordering::Relaxed;

use region::addressing::AddressingTable;
use region::facts::{WorkerFacts, keyed_hash};
use region::fanout::Map;
use region::flows::FlowTable;
use region::hosts_v6::HostsV6;
use region::policy::{Bindings, BoundTable, FlagTable, Versions};
use region::segment::SegmentTable;
use region::touched::Touched;
use region::{Addr, Class, Dir, Facts, HostFlags, HostId, Policy, Traits, Verdict};

use crate::Frame;
use crate::burst::Work;
use crate::observe::{Moment, Seen, answered_key, contact, early_answer, first_contact, observe, unprovoked};

/// A bit that no host's flags have: with it they never look like those of a host without anything to look up.
const UNSURE: u8 = 0x80;
const _: () = assert!(
    UNSURE
        & (HostFlags::LOCK_OUT
            | HostFlags::LOCK_IN
            | HostFlags::WATCH
            | HostFlags::EXCEPT
            | HostFlags::KNOWN
            | HostFlags::STRICT)
        == 0
);

/// The policy and the tables as one burst sees them.
pub(crate) struct View<'a> {
    policy: &'a Policy,
    versions: Versions,
    pub(crate) facts: &'a Facts,
    pub(crate) addressing: &'a AddressingTable,
    pub(crate) hosts_v6: HostsV6<'a>,
    pub(crate) out: WorkerFacts<'a>,
    touched: Touched<'a>,
    /// Empty while host flags are not those of this dataplane's life.
    flags: FlagTable<'a>,
    flags_hold: bool,
    /// [`UNSURE`] while host flags do not hold.
    unsure: u8,
    pub(crate) enforcing: bool,
    pub(crate) ipv6_mask: u128,
    pub(crate) hash_key: [u64; 2],
    moment: Moment,
}

/// One end of a packet in four bytes: a host of ours, or that there is none.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct End(u32);

impl End {
    /// No internal address.
    pub(crate) const NONE: End = End(u32::MAX);
    /// An internal IPv6 address without a slot: its locks are looked up by address.
    pub(crate) const UNSLOTTED: End = End(u32::MAX - 1);
    /// An internal address that is not its sender's: nothing counts for its host, whose locks hold all the same.
    pub(crate) const SPOOFED: End = End(u32::MAX - 2);

    /// A host, or [`End::NONE`].
    #[inline(always)]
    pub(crate) fn of(host: Option<HostId>) -> End {
        host.map_or(End::NONE, |h| End(h.0))
    }

    /// The host.
    #[inline(always)]
    pub(crate) fn host(self) -> Option<HostId> {
        (self.0 < End::SPOOFED.0).then_some(HostId(self.0))
    }

    /// Whether the address is internal.
    #[inline(always)]
    pub(crate) fn is_internal(self) -> bool {
        self != End::NONE
    }
}

/// Traits of packets that tell a host something of its contacts.
pub(crate) const TELLS: u16 = Traits::PEER | Traits::REACTION_TCP | Traits::REACTION_ICMP;

/// What a worker knows of its moment, beside the policy.
#[derive(Clone, Copy)]
pub(crate) struct Turn {
    pub(crate) incarnation: u64,
    pub(crate) tick: u64,
    pub(crate) generation: u64,
    pub(crate) fresh_generation: bool,
}

impl<'a> View<'a> {
    #[inline(always)]
    pub(crate) fn new(policy: &'a Policy, out: WorkerFacts<'a>, turn: &Turn) -> View<'a> {
        let facts = out.facts;
        let versions = policy.versions();
        let bypass = versions.bypass || facts.header().bypass_direct.load(Relaxed) != 0;
        let flags_hold = versions.flags_incarnation == turn.incarnation;
        let hash_key = policy.hash_key();
        View {
            policy,
            versions,
            facts,
            addressing: policy.addressing(versions.addressing),
            hosts_v6: facts.hosts_v6(),
            touched: facts.touched(out.worker, turn.tick),
            flags: if flags_hold { policy.flags() } else { FlagTable::default() },
            flags_hold,
            unsure: if flags_hold { 0 } else { UNSURE },
            enforcing: !bypass,
            ipv6_mask: policy.ipv6_host_mask(),
            hash_key,
            moment: Moment {
                epoch: policy.epoch(),
                generation: turn.generation,
                tick: turn.tick,
                hash_key,
                limits: policy.watch_limits(out.worker),
                fresh_generation: turn.fresh_generation,
            },
            out,
        }
    }

    /// Flags of a host; none where they do not hold.
    #[inline(always)]
    pub(crate) fn flags(&self, host: HostId) -> HostFlags {
        self.flags.get(host)
    }

    /// The host at an end of a packet of this class, if its flags say that there is nothing to look up. None where flags do
    /// not hold, and for [`End`]s that are no host: their numbers are beyond every table.
    #[inline(always)]
    pub(crate) fn usual_host(&self, end: End, class: Class) -> Option<HostId> {
        let host = HostId(end.0);
        let usual = if class == Class::Ipv6 { HostFlags::KNOWN } else { 0 };
        (self.flags.find(host)?.0 == usual).then_some(host)
    }

    /// Asks the cache for what every packet of a host touches.
    #[inline(always)]
    pub(crate) fn prefetch(&self, host: HostId) {
        self.flags.prefetch(host);
        self.out.prefetch_line(host);
    }

    /// Asks the cache for what a packet that may answer a contact touches.
    #[inline(always)]
    pub(crate) fn prefetch_answer(&self, host: HostId, traits: Traits) {
        if traits.has(Traits::PEER) {
            self.out.prefetch_fanout(host, self.moment.epoch, Map::Answered);
        }
        if traits.has(Traits::REACTION_TCP) {
            self.out.prefetch_fanout(host, self.moment.epoch, Map::Contacted);
        }
        if traits.has(Traits::RARE) {
            self.out.prefetch_rare(host);
        }
        self.out.prefetch_early(host);
    }

    /// Asks the cache for the map that says whether a contact is a new one.
    #[inline(always)]
    pub(crate) fn prefetch_contact(&self, host: HostId, traits: Traits) {
        let first = if traits.has(Traits::TCP) { Map::Contacted } else { Map::Answered };
        self.out.prefetch_fanout(host, self.moment.epoch, first);
        if traits.has(Traits::RARE) {
            self.out.prefetch_rare(host);
        }
    }

    /// The tick that the worker has turned to.
    pub(crate) fn tick(&self) -> u64 {
        self.moment.tick
    }

    /// What becomes of packets that break a binding, and the hosts that are bound.
    pub(crate) fn bindings(&self) -> (Bindings, BoundTable<'a>) {
        let mode = if self.flags_hold { self.policy.bindings() } else { Bindings::Off };
        (mode, self.policy.bound())
    }

    /// What holds on the servers' segment.
    pub(crate) fn segment(&self) -> SegmentTable<'a> {
        self.policy.segment(self.versions.locks)
    }

    /// How far control has read the worker's ring of link frames.
    pub(crate) fn link_read(&self) -> u64 {
        self.moment.limits.link_read
    }

    /// Hash of a remote address in the fan-out maps.
    #[inline(always)]
    pub(crate) fn remote_hash(&self, remote: u128) -> u64 {
        keyed_hash(remote, self.hash_key)
    }

    /// Asks the cache for what a contact of a host will touch beside the map that was asked for first, which is here by now.
    #[inline(always)]
    pub(crate) fn prefetch_new_contact(&self, host: HostId, traits: Traits, hash: u64) {
        let (out, epoch) = (&self.out, self.moment.epoch);
        if traits.has(Traits::TCP) {
            if !out.has_fanout(host, epoch, Map::Contacted, hash) {
                out.prefetch_rare(host);
                out.prefetch_fanout(host, epoch, Map::Answered);
                out.prefetch_fanout(host, epoch.wrapping_sub(1), Map::Answered);
            }
            out.prefetch_fanout(host, epoch, Map::Ports);
        } else if !out.has_fanout(host, epoch, Map::Answered, hash) {
            out.prefetch_rare(host);
            out.prefetch_fanout(host, epoch, Map::Contacted);
            out.prefetch_fanout(host, epoch.wrapping_sub(1), Map::Answered);
            out.prefetch_fanout(host, epoch, Map::Ports);
        }
    }

    /// Whether a lock drops a packet of this host. Nearly always the flags say at once that there is nothing to look up.
    #[inline(always)]
    pub(crate) fn locked(&self, host: HostId, flags: HostFlags, w: &Work, dir: Dir) -> bool {
        let usual = if w.parsed.class == Class::Ipv6 { HostFlags::KNOWN } else { 0 };
        flags.0 & !HostFlags::WATCH | self.unsure != usual && self.locked_by(Some(host), flags, w, dir)
    }

    /// Whether a lock drops a packet of an end that has to be looked at; `None` for an address without a slot.
    #[inline(never)]
    pub(crate) fn locked_by(&self, host: Option<HostId>, flags: HostFlags, w: &Work, dir: Dir) -> bool {
        if !self.enforcing {
            return false;
        }
        let v6 = w.parsed.class == Class::Ipv6;
        let (local, remote) = w.parsed.ends(dir);
        // Flags are one load; locks are looked up by address where they cannot be trusted yet.
        let trusted = host.is_some() && self.flags_hold && (!v6 || flags.has(HostFlags::KNOWN));
        let bits = if trusted { flags } else { self.by_address(as_u128(v6, local)) };
        bits.has(HostFlags::lock(dir))
            && !(bits.has(HostFlags::EXCEPT)
                && self.policy.excepted(self.versions.locks, as_u128(v6, local), as_u128(v6, remote)))
    }

    #[cold]
    fn by_address(&self, address: u128) -> HostFlags {
        self.policy.locked_at(self.versions.locks, address)
    }

    /// Counts a packet for a host. Says whether the host is watched.
    #[inline(always)]
    pub(crate) fn account(
        &self,
        host: HostId,
        dir: Dir,
        flags: HostFlags,
        w: &Work,
        f: &Frame<'_>,
        dropped: bool,
    ) -> bool {
        if !self.out.count(host, dir, f.length, w.parsed.traits, dropped) {
            return false;
        }
        self.out.mark(&self.touched, host);
        flags.has(HostFlags::WATCH)
    }

    /// Notes a packet that may open a contact of a host.
    #[inline(always)]
    pub(crate) fn opens(&self, host: HostId, w: &Work, f: &Frame<'_>) {
        let out = &self.out;
        if !out.has(host) || !contact(out, self.moment.epoch, self.hash_key, host, &w.parsed, f, w.hash) {
            return;
        }
        out.count_opened(host);
        if !self.flags(host).has(HostFlags::WATCH) && self.flags_hold {
            first_contact(out, &self.moment, &seen(host, Dir::Out, w, f, false));
        }
    }

    /// Whether a packet to a host may answer a first contact of which there is a row.
    #[inline(always)]
    pub(crate) fn may_answer(&self, host: HostId) -> bool {
        let (now, before) = self.out.early(host, self.moment.generation);
        (now || (before && self.moment.fresh_generation)) && !self.flags(host).has(HostFlags::WATCH)
    }

    /// Asks the cache for where the row stands that a packet to a host may answer. Returns what [`FlowTable::prefetch_row`]
    /// takes.
    #[inline(never)]
    pub(crate) fn prefetch_question(
        &self,
        table: &FlowTable<'_>,
        host: HostId,
        w: &Work,
        f: &Frame<'_>,
    ) -> u64 {
        let key = answered_key(&seen(host, Dir::In, w, f, false));
        key.map_or(0, |k| table.prefetch(&k, self.hash_key))
    }

    /// Notes a packet to a host that may answer a first contact of which there is a row.
    #[inline(always)]
    pub(crate) fn answers(&self, table: &FlowTable<'_>, host: HostId, w: &Work, f: &Frame<'_>) {
        if self.out.has(host) {
            early_answer(table, &self.moment, &seen(host, Dir::In, w, f, false));
        }
    }

    /// Rows of this worker and generation.
    #[inline(always)]
    pub(crate) fn flows(&self) -> FlowTable<'a> {
        self.facts.flows(self.out.worker, self.moment.generation)
    }

    /// Notes in the maps a packet to a host that may answer a contact of its own, or make its sender one who came first.
    #[inline(always)]
    pub(crate) fn hears(&self, host: HostId, w: &Work, f: &Frame<'_>) {
        let out = &self.out;
        if !out.has(host) {
            return;
        }
        let hash = self.remote_hash(w.parsed.source);
        if w.parsed.traits.has(Traits::REACTION_TCP) {
            self.look_for_question(host, w, f, hash);
        }
        if w.parsed.traits.has(Traits::PEER) {
            out.touch_fanout(host, self.moment.epoch, Map::Answered, hash);
        }
    }

    /// A connection of a host is answered or refused: is it one that it has asked for?
    #[inline(never)]
    fn look_for_question(&self, host: HostId, w: &Work, f: &Frame<'_>, hash: u64) {
        if unprovoked(&self.out, self.moment.epoch, host, &w.parsed, f, hash) {
            self.out.mark_unprovoked(host);
        }
    }

    /// Keeps in detail what the listed packets of watched hosts are, all of one direction.
    #[inline(never)]
    pub(crate) fn watch_all(
        &self,
        dir: Dir,
        work: &[Work],
        frames: &[Frame<'_>],
        verdicts: &[Verdict],
        list: &[u8],
    ) {
        let packets = list.iter().filter_map(|i| {
            let i = usize::from(*i);
            let (w, f) = (work.get(i)?, frames.get(i)?);
            let host = if dir == Dir::Out { w.source } else { w.destination }.host()?;
            Some((host, w, f, verdicts.get(i)?.is_drop()))
        });
        self.watch(dir, packets);
    }

    /// Keeps in detail what packets of watched hosts are: (host, packet, its frame, whether it is dropped).
    #[inline(always)]
    pub(crate) fn watch<'p>(
        &self,
        dir: Dir,
        packets: impl Iterator<Item = (HostId, &'p Work, &'p Frame<'p>, bool)> + Clone,
    ) {
        let all = packets.map(|(host, w, f, dropped)| seen(host, dir, w, f, dropped));
        observe(&self.out, &self.moment, all, |host| self.policy.watch_slot(host));
    }
}

#[inline(always)]
fn seen<'p>(host: HostId, dir: Dir, w: &'p Work, f: &'p Frame<'p>, dropped: bool) -> Seen<'p> {
    let v6 = w.parsed.class == Class::Ipv6;
    let (local, remote) = w.parsed.ends(dir);
    Seen {
        host,
        dir,
        parsed: &w.parsed,
        frame: f,
        local: as_u128(v6, local),
        remote: as_u128(v6, remote),
        dropped,
    }
}

#[inline(always)]
fn as_u128(v6: bool, address: u128) -> u128 {
    if v6 { address } else { Addr::V4(low32(address)).as_u128() }
}

/// An IPv4 address of [`crate::parse::Parsed`].
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "IPv4 addresses stand in the low 32 bits")]
pub(crate) fn low32(address: u128) -> u32 {
    address as u32
}
