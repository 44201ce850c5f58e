//! One burst from frames to verdicts, in stages, so that the tables' cold lines are on their way while other packets
//! are looked at.

use std::sync::atomic::Ordering::{Relaxed, Release};

use region::addressing::AddressingTable;
use region::facts::{SideCounters, WorkerFacts, add, keyed_hash};
use region::fanout::Map;
use region::policy::{FlagTable, Versions};
use region::touched::Touched;
use region::{Class, Dir, Facts, HostFlags, HostId, Policy, Side, Traits, Verdict, WatchSlot, prefetch};

use crate::observe::{Moment, Seen, contact, early_answer, first_contact, observe};
use crate::parse::{Parsed, parse};
use crate::{BURST, Frame};

/// Ticks after the beginning of a watch generation in which answers to contacts of the one before may come: 6 s, longer than
/// the silence that makes a contact a failed one.
const FRESH_TICKS: u64 = 60;

/// How direction and ownership of a packet are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// In the wire: a packet that enters inside counts for its source, one that enters outside for its destination.
    Inline,
    /// Beside the wire, one stream: addresses tell the side, and both ends count.
    Mirror,
}

/// A packet between the stages.
#[derive(Clone, Copy, Default)]
struct Work {
    parsed: Parsed,
    side: Option<Side>,
    source: Option<HostId>,
    destination: Option<HostId>,
    /// An internal IPv6 address without a slot: its locks are looked up by address.
    source_unslotted: bool,
    destination_unslotted: bool,
}

/// Counters of a burst on their way to shared memory.
#[derive(Default)]
struct Tally {
    packets: u64,
    bytes: u64,
    class: [u64; Class::COUNT],
    verdict_packets: [u64; Verdict::COUNT],
    verdict_bytes: [u64; Verdict::COUNT],
    tagged: u64,
    foreign: u64,
    internal_source_outside: u64,
    no_slot: u64,
}

impl Tally {
    fn flush(&self, to: &SideCounters) {
        if self.packets == 0 {
            return;
        }
        add(&to.rx_packets, self.packets);
        add(&to.rx_bytes, self.bytes);
        for (c, n) in to.class_packets.iter().zip(self.class) {
            add(c, n);
        }
        for (c, n) in to.verdict_packets.iter().zip(self.verdict_packets) {
            add(c, n);
        }
        for (c, n) in to.verdict_bytes.iter().zip(self.verdict_bytes) {
            add(c, n);
        }
        add(&to.tagged, self.tagged);
        add(&to.foreign, self.foreign);
        add(&to.internal_source_outside, self.internal_source_outside);
        add(&to.no_slot, self.no_slot);
    }
}

/// The policy as one burst sees it.
#[derive(Clone, Copy)]
struct View<'a> {
    policy: &'a Policy,
    versions: Versions,
    addressing: &'a AddressingTable,
    flags: FlagTable<'a>,
    /// Host flags are those of this dataplane's life.
    flags_hold: bool,
    enforcing: bool,
    ipv6_mask: u128,
    hash_key: [u64; 2],
    moment: Moment,
}

/// The packet path of one worker.
pub struct Pipeline {
    worker: usize,
    mode: Mode,
    tick: u64,
    generation: u64,
    /// The tick in which the generation began.
    turned_tick: u64,
    incarnation: u64,
    work: [Work; BURST],
}

impl Pipeline {
    /// For the worker of this number. `facts` must be the file it will be called with.
    pub fn new(worker: usize, mode: Mode, facts: &Facts) -> Pipeline {
        let incarnation = facts.header().incarnation.load(Relaxed);
        Pipeline {
            worker,
            mode,
            tick: 0,
            generation: 0,
            turned_tick: 0,
            incarnation,
            work: [Work::default(); BURST],
        }
    }

    /// Takes note of what control has published. Called before every burst, and when there was nothing to receive:
    /// no packet of an earlier burst is in hand, so that what is acknowledged here is no longer read.
    #[inline]
    pub fn poll(&mut self, facts: &Facts, policy: Option<&Policy>) {
        let Some(counters) = facts.workers().get(self.worker) else { return };
        let Some(policy) = policy else {
            counters.enforcing.store(0, Relaxed);
            return;
        };
        let v = policy.versions();
        counters.seen_addressing.store(v.addressing, Release);
        counters.seen_locks.store(v.locks, Release);
        let bypass = v.bypass || facts.header().bypass_direct.load(Relaxed) != 0;
        counters.enforcing.store(u64::from(!bypass), Relaxed);
        let tick = policy.tick(self.worker);
        if tick != self.tick {
            self.tick = tick;
            facts.turn_to_tick(self.worker, tick);
        }
        let generation = policy.generation();
        if generation != self.generation {
            self.generation = generation;
            self.turned_tick = self.tick;
            facts.turn_to_generation(self.worker, generation);
        }
    }

    /// Looks at up to [`BURST`] frames and writes a verdict for each. [`Verdict::Forward`] is counted by
    /// [`Pipeline::transmitted`], when it is known what transmit took; in [`Mode::Mirror`] it is counted here.
    pub fn run(
        &mut self,
        facts: &Facts,
        policy: Option<&Policy>,
        frames: &[Frame<'_>],
        verdicts: &mut [Verdict],
    ) {
        let n = frames.len().min(verdicts.len()).min(BURST);
        let (frames, verdicts) = (&frames[..n], &mut verdicts[..n]);
        let out = facts.writer_for(self.worker);
        let Some(counters) = out.counters() else { return };
        let touched = facts.touched(self.worker, self.tick);
        let view = policy.map(|policy| {
            let versions = policy.versions();
            let bypass = versions.bypass || facts.header().bypass_direct.load(Relaxed) != 0;
            View {
                policy,
                versions,
                addressing: policy.addressing(versions.addressing),
                flags: policy.flags(),
                flags_hold: versions.flags_incarnation == self.incarnation,
                enforcing: !bypass,
                ipv6_mask: policy.ipv6_host_mask(),
                hash_key: policy.hash_key(),
                moment: Moment {
                    epoch: policy.epoch(),
                    generation: self.generation,
                    tick: self.tick,
                    hash_key: policy.hash_key(),
                    limits: policy.watch_limits(self.worker),
                    fresh_generation: self.tick.wrapping_sub(self.turned_tick) < FRESH_TICKS,
                },
            }
        });
        let mut tally = [Tally::default(), Tally::default()];
        let work = &mut self.work[..n];

        for (w, f) in work.iter_mut().zip(frames) {
            *w = Work { parsed: parse(f.bytes, f.length), side: Some(f.side), ..Work::default() };
            if let Some(v) = &view {
                self.mode.start(v, facts, w);
                if w.parsed.class == Class::Ipv4 {
                    v.prefetch(&out, w);
                }
            }
        }
        if let Some(v) = &view {
            for w in work.iter_mut() {
                if w.parsed.class == Class::Ipv6 {
                    self.mode.locate_v6(v, facts, w);
                    v.prefetch(&out, w);
                }
            }
        }
        for ((w, f), verdict) in work.iter().zip(frames).zip(verdicts.iter_mut()) {
            let side = self.mode.side(w, f.side);
            let t = &mut tally[side.index()];
            t.packets += 1;
            t.bytes += u64::from(f.length);
            t.class[w.parsed.class.index()] += 1;
            t.tagged += u64::from(w.parsed.tagged);
            *verdict = match &view {
                Some(v) if matches!(w.parsed.class, Class::Ipv4 | Class::Ipv6) => {
                    self.mode.judge(v, &out, &touched, w, f, side, t)
                }
                _ => Verdict::Forward,
            };
            if verdict.is_drop() || self.mode == Mode::Mirror {
                t.verdict_packets[verdict.index()] += 1;
                t.verdict_bytes[verdict.index()] += u64::from(f.length);
            }
        }
        for side in Side::ALL {
            tally[side.index()].flush(counters.side(side));
        }
    }

    /// Counts what transmit took and what it did not, of packets that entered on `side`: (packets, bytes) each.
    #[inline]
    pub fn transmitted(&self, facts: &Facts, side: Side, sent: (u64, u64), full: (u64, u64)) {
        let Some(c) = facts.workers().get(self.worker) else { return };
        let c = c.side(side);
        add(&c.verdict_packets[Verdict::Forward.index()], sent.0);
        add(&c.verdict_bytes[Verdict::Forward.index()], sent.1);
        if full.0 != 0 {
            add(&c.verdict_packets[Verdict::DropTxFull.index()], full.0);
            add(&c.verdict_bytes[Verdict::DropTxFull.index()], full.1);
        }
    }
}

impl Mode {
    /// First stage: IPv4 hosts are found, IPv6 slots asked for.
    #[inline(always)]
    fn start(self, v: &View<'_>, facts: &Facts, w: &mut Work) {
        let p = &w.parsed;
        match p.class {
            Class::Ipv4 => {
                let (source, destination) = (low32(p.source), low32(p.destination));
                let inside = w.side == Some(Side::Inside);
                // Inline, the source of an outside packet is looked up too: it may claim to be one of ours.
                if self == Mode::Mirror || inside || v.addressing.may_be_internal_v4(source) {
                    w.source = v.addressing.host_v4(source);
                }
                if self == Mode::Mirror || !inside {
                    w.destination = v.addressing.host_v4(destination);
                }
            }
            Class::Ipv6 => {
                facts.prefetch_v6(p.source & v.ipv6_mask, v.hash_key);
                facts.prefetch_v6(p.destination & v.ipv6_mask, v.hash_key);
            }
            Class::Arp | Class::NonIp | Class::Malformed => {}
        }
    }

    /// Second stage for IPv6: found, or inserted when a server of ours speaks for the first time.
    #[inline(always)]
    fn locate_v6(self, v: &View<'_>, facts: &Facts, w: &mut Work) {
        let p = w.parsed;
        let inside = self == Mode::Inline && w.side == Some(Side::Inside);
        let find = |address: u128, insert: bool| -> (Option<HostId>, bool) {
            let Some(network) = v.addressing.network_v6(address) else { return (None, false) };
            let key = address & v.ipv6_mask;
            let host = match facts.find_v6(key, v.hash_key) {
                None if insert => facts.insert_v6(key, v.hash_key, network.quota, network.slot),
                found => found,
            };
            (host, host.is_none())
        };
        let mirror = self == Mode::Mirror;
        (w.source, w.source_unslotted) = find(p.source, inside || mirror);
        if !inside {
            (w.destination, w.destination_unslotted) = find(p.destination, mirror);
        }
    }

    /// The side a packet belongs to.
    #[inline(always)]
    fn side(self, w: &Work, entered: Side) -> Side {
        match self {
            Mode::Inline => entered,
            Mode::Mirror if w.source.is_some() || w.source_unslotted => Side::Inside,
            Mode::Mirror => Side::Outside,
        }
    }

    /// Third stage: enforce and account.
    #[inline(always)]
    #[expect(
        clippy::too_many_arguments,
        reason = "one burst's borrowed state; bundling it would only rename it"
    )]
    fn judge(
        self,
        v: &View<'_>,
        out: &WorkerFacts<'_>,
        touched: &Touched<'_>,
        w: &Work,
        f: &Frame<'_>,
        side: Side,
        t: &mut Tally,
    ) -> Verdict {
        let as_source = self == Mode::Mirror || side == Side::Inside;
        let as_destination = self == Mode::Mirror || side == Side::Outside;
        let (source, destination) = (w.parsed.source, w.parsed.destination);
        let mut verdict = Verdict::Forward;

        if as_source {
            let bits = v.bits(w.source, w.source_unslotted, w, source);
            if bits.has(HostFlags::LOCK_OUT) && v.locked(bits, w, source, destination) {
                verdict = Verdict::DropLockedOut;
            }
        } else if w.source.is_some() || w.source_unslotted {
            // Hairpin traffic between two servers through an outside router looks like this too: only counted,
            // unless the network says otherwise.
            t.internal_source_outside += 1;
            let strict = w.source.is_some_and(|h| v.flags_hold && v.flags.get(h).has(HostFlags::STRICT));
            if strict && v.enforcing {
                verdict = Verdict::DropSpoofed;
            }
        }
        if as_destination && !verdict.is_drop() {
            let bits = v.bits(w.destination, w.destination_unslotted, w, destination);
            if bits.has(HostFlags::LOCK_IN) && v.locked(bits, w, destination, source) {
                verdict = Verdict::DropLockedIn;
            }
        }

        let own = match (as_source, as_destination) {
            (true, false) => (w.source.is_some(), w.source_unslotted),
            (false, true) => (w.destination.is_some(), w.destination_unslotted),
            _ => {
                (w.source.is_some() || w.destination.is_some(), w.source_unslotted || w.destination_unslotted)
            }
        };
        t.no_slot += u64::from(own.1);
        t.foreign += u64::from(!own.0 && !own.1);
        if as_source && let Some(host) = w.source {
            v.account(
                out,
                touched,
                End { host, dir: Dir::Out, local: source, remote: destination },
                w,
                f,
                verdict,
            );
        }
        if as_destination && let Some(host) = w.destination {
            v.account(
                out,
                touched,
                End { host, dir: Dir::In, local: destination, remote: source },
                w,
                f,
                verdict,
            );
        }
        verdict
    }
}

/// One end of a packet: a host of ours, and the other one's address.
#[derive(Clone, Copy)]
struct End {
    host: HostId,
    dir: Dir,
    local: u128,
    remote: u128,
}

impl View<'_> {
    /// Asks the cache for what will be touched of a packet's hosts.
    #[inline(always)]
    fn prefetch(&self, out: &WorkerFacts<'_>, w: &Work) {
        let traits = w.parsed.traits;
        for (host, dir, bit, map) in [
            (w.source, Dir::Out, Traits::CONTACT, Map::Contacted),
            (w.destination, Dir::In, Traits::PEER, Map::Answered),
        ] {
            if let Some(host) = host {
                self.flags.prefetch(host);
                if let Some(line) = out.line(host, dir) {
                    prefetch(line);
                }
                if traits.has(bit) {
                    out.prefetch_fanout(host, self.moment.epoch, map);
                }
            }
        }
    }

    /// Counts a packet for a host: its line, its fan-out, and its flow where it is watched.
    #[inline(always)]
    fn account(
        &self,
        out: &WorkerFacts<'_>,
        touched: &Touched<'_>,
        e: End,
        w: &Work,
        f: &Frame<'_>,
        verdict: Verdict,
    ) {
        let Some(line) = out.line(e.host, e.dir) else { return };
        let mut traits = w.parsed.traits;
        let epoch = self.moment.epoch;
        let watched = self.flags_hold && self.flags.get(e.host).has(HostFlags::WATCH);
        match e.dir {
            Dir::Out => {
                let opens = traits.has(Traits::CONTACT);
                if opens || watched {
                    let hash = keyed_hash(e.remote, self.hash_key);
                    // Who came first is asked before this packet itself changes the answer.
                    if watched {
                        self.watch(out, e, w, f, verdict, hash);
                    }
                    if opens && contact(out, epoch, self.hash_key, e.host, &w.parsed, f, hash) {
                        traits.0 |= Traits::OPENS;
                        if !watched && self.flags_hold {
                            first_contact(
                                out,
                                &self.moment,
                                &self.seen(e, w, f, verdict, hash, WatchSlot(0)),
                            );
                        }
                    }
                }
            }
            Dir::In => {
                const TELLS: u16 = Traits::PEER | Traits::REACTION_TCP | Traits::REACTION_ICMP;
                if traits.has(TELLS) || watched {
                    let hash = keyed_hash(e.remote, self.hash_key);
                    if watched {
                        self.watch(out, e, w, f, verdict, hash);
                    } else {
                        let (now, before) = out.early(e.host, self.moment.generation);
                        if now || (before && self.moment.fresh_generation) {
                            early_answer(out, &self.moment, &self.seen(e, w, f, verdict, hash, WatchSlot(0)));
                        }
                    }
                    if traits.has(Traits::PEER) {
                        out.touch_fanout(e.host, epoch, Map::Answered, hash);
                    }
                }
            }
        }
        out.count(line, f.length, traits, verdict.is_drop());
        out.mark(touched, e.host);
    }

    #[cold]
    #[inline(never)]
    fn watch(&self, out: &WorkerFacts<'_>, e: End, w: &Work, f: &Frame<'_>, verdict: Verdict, hash: u64) {
        let slot = self.policy.watch_slot(e.host);
        if slot.0 == 0 {
            return;
        }
        observe(out, &self.moment, &self.seen(e, w, f, verdict, hash, slot));
    }

    #[inline(always)]
    fn seen<'p>(
        &self,
        e: End,
        w: &'p Work,
        f: &'p Frame<'p>,
        verdict: Verdict,
        hash: u64,
        slot: WatchSlot,
    ) -> Seen<'p> {
        let v6 = w.parsed.class == Class::Ipv6;
        Seen {
            host: e.host,
            slot,
            dir: e.dir,
            parsed: &w.parsed,
            frame: f,
            remote_hash: hash,
            local: as_u128(v6, e.local),
            remote: as_u128(v6, e.remote),
            dropped: verdict.is_drop(),
        }
    }

    /// Lock bits of a host. Flags are one load; they are looked up by address where they cannot be trusted yet.
    #[inline(always)]
    fn bits(&self, host: Option<HostId>, unslotted: bool, w: &Work, address: u128) -> HostFlags {
        if !self.enforcing {
            return HostFlags(0);
        }
        let v6 = w.parsed.class == Class::Ipv6;
        match host {
            None if !unslotted => HostFlags(0),
            Some(h) if self.flags_hold => {
                let flags = self.flags.get(h);
                if v6 && !flags.has(HostFlags::KNOWN) { self.by_address(v6, address) } else { flags }
            }
            _ => self.by_address(v6, address),
        }
    }

    #[cold]
    fn by_address(&self, v6: bool, address: u128) -> HostFlags {
        self.policy.locked_at(self.versions.locks, as_u128(v6, address))
    }

    /// Whether a lock holds against this remote address.
    #[inline(always)]
    fn locked(&self, bits: HostFlags, w: &Work, host: u128, remote: u128) -> bool {
        let v6 = w.parsed.class == Class::Ipv6;
        !bits.has(HostFlags::EXCEPT)
            || !self.policy.excepted(self.versions.locks, as_u128(v6, host), as_u128(v6, remote))
    }
}

#[inline(always)]
fn as_u128(v6: bool, address: u128) -> u128 {
    if v6 { address } else { region::Addr::V4(low32(address)).as_u128() }
}

#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "IPv4 addresses stand in the low 32 bits")]
fn low32(address: u128) -> u32 {
    address as u32
}
