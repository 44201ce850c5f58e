//! One burst from frames to verdicts, in stages, so that the tables' cold lines are on their way while other packets
//! are looked at.

use std::sync::atomic::Ordering::{Relaxed, Release};

use region::facts::{SideCounters, WorkerCounters, add, keyed_hash};
use region::{Class, Dir, Facts, HostFlags, HostId, Policy, Side, Traits, Verdict};

use crate::parse::{Parsed, parse, parse_to};
use crate::tally::Tally;
use crate::view::{End, TELLS, Turn, View, low32};
use crate::{BURST, Frame, link};

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

/// Where a run of packets comes from. The stages are compiled for each, since what a packet has to be asked differs, and
/// a burst of a wire comes from one side: one decision a burst instead of six a packet.
const INSIDE: u8 = 0;
const OUTSIDE: u8 = 1;
const MIRROR: u8 = 2;

/// A packet between the stages: a cache line.
#[derive(Clone, Copy)]
pub(crate) struct Work {
    pub(crate) parsed: Parsed,
    /// Until the second stage an internal IPv6 address counts as one without a slot.
    pub(crate) source: End,
    /// Not written for packets from inside.
    pub(crate) destination: End,
    /// First of the IPv6 host that is looked for, then of the remote address of a contact, or of the question that is answered.
    pub(crate) hash: u64,
}
const _: () = assert!(size_of::<Work>() == 64);

impl Work {
    fn new() -> Work {
        Work { parsed: Parsed::default(), source: End::NONE, destination: End::NONE, hash: 0 }
    }
}

/// Numbers of packets in a burst.
struct List {
    numbers: [u8; BURST],
    len: usize,
}

impl Default for List {
    #[inline(always)]
    fn default() -> List {
        List { numbers: [0; BURST], len: 0 }
    }
}

impl List {
    /// Without a branch.
    #[inline(always)]
    fn push_if(&mut self, number: usize, wanted: bool) {
        #[expect(clippy::cast_possible_truncation, reason = "below BURST")]
        let number = number as u8;
        self.numbers[self.len % BURST] = number;
        self.len += usize::from(wanted);
    }

    #[inline(always)]
    fn get(&self) -> &[u8] {
        &self.numbers[..self.len.min(BURST)]
    }
}

/// What goes on of a burst.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Passed {
    /// Packets whose verdict is [`Verdict::Forward`].
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
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
            work: [Work::new(); BURST],
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
    ) -> Passed {
        let n = frames.len().min(verdicts.len()).min(BURST);
        let (mut frames, mut verdicts) = (&frames[..n], &mut verdicts[..n]);
        let out = facts.writer_for(self.worker);
        let Some(counters) = out.counters() else { return Passed::default() };
        let Some(policy) = policy else {
            return self.count_only(counters, frames, verdicts);
        };
        let turn = Turn {
            incarnation: self.incarnation,
            tick: self.tick,
            generation: self.generation,
            fresh_generation: self.tick.wrapping_sub(self.turned_tick) < FRESH_TICKS,
        };
        let v = View::new(policy, out, &turn);
        if self.mode == Mode::Mirror {
            return self.pass::<MIRROR>(&v, counters, frames, verdicts).1;
        }
        let mut passed = Passed::default();
        while let Some(first) = frames.first() {
            let (done, p) = match first.side {
                Side::Inside => self.pass::<INSIDE>(&v, counters, frames, verdicts),
                Side::Outside => self.pass::<OUTSIDE>(&v, counters, frames, verdicts),
            };
            passed.packets += p.packets;
            passed.bytes += p.bytes;
            frames = &frames[done..];
            verdicts = &mut verdicts[done..];
        }
        passed
    }

    /// All stages over the first frames, as many as come from one side. Says how many those were.
    #[inline(never)]
    fn pass<const FROM: u8>(
        &mut self,
        v: &View<'_>,
        counters: &WorkerCounters,
        frames: &[Frame<'_>],
        verdicts: &mut [Verdict],
    ) -> (usize, Passed) {
        let mut tally = Tally::default();
        // Packets that have to do with contacts: few, and without a pattern, so that they are listed without a branch.
        let asks = match FROM {
            INSIDE => Traits::CONTACT,
            OUTSIDE => TELLS,
            _ => Traits::CONTACT | TELLS,
        };
        let mut list = List::default();
        let mut some_v6 = false;
        let mut n = 0;
        for (w, f) in self.work.iter_mut().zip(frames) {
            if (FROM == INSIDE && f.side != Side::Inside) || (FROM == OUTSIDE && f.side != Side::Outside) {
                break;
            }
            let class = parse_to(f.bytes, f.length, &mut w.parsed);
            list.push_if(n, w.parsed.traits.has(asks));
            n += 1;
            tally.note(f.length, class, w.parsed.tagged);
            match class {
                Class::Ipv4 => {
                    locate_v4::<FROM>(v, w);
                    prefetch_hosts::<FROM>(v, w);
                }
                Class::Ipv6 => {
                    some_v6 = true;
                    seek_v6::<FROM>(v, w);
                }
                Class::Arp | Class::NonIp | Class::Malformed => {
                    w.source = End::NONE;
                    w.destination = End::NONE;
                }
            }
        }
        let work = &mut self.work[..n.min(BURST)];
        let frames = &frames[..work.len()];
        let list = list.get();
        if some_v6 {
            for w in work.iter_mut().filter(|w| w.parsed.class == Class::Ipv6) {
                find_v6::<FROM>(v, w);
                prefetch_hosts::<FROM>(v, w);
            }
        }
        prefetch_contacts::<FROM>(v, work, list);
        let verdicts = &mut verdicts[..work.len()];
        let from = link::From { servers: FROM != OUTSIDE, outside: FROM != INSIDE };
        let screened =
            frames.first().is_some_and(|f| f.segment) && link::screen(v, from, work, frames, verdicts);
        let mut answers = List::default();
        if FROM == OUTSIDE {
            prefetch_answers(v, work, frames, list, &mut answers);
        }
        let mut watched = List::default();
        let dropped = if screened {
            settle_screened::<FROM>(v, counters, work, frames, verdicts, &mut watched)
        } else {
            settle::<FROM, false>(v, counters, work, frames, verdicts, &mut watched)
        };
        // Last what takes more of memory, a part of which has come meanwhile. After screening: a packet that is not its
        // address's own opens no contact.
        if FROM != MIRROR {
            contacts::<FROM>(v, work, frames, list, answers.get());
            let watched = watched.get();
            if !watched.is_empty() {
                v.watch_all(if FROM == INSIDE { Dir::Out } else { Dir::In }, work, frames, verdicts, watched);
            }
        }
        match FROM {
            INSIDE => tally.flush(counters.side(Side::Inside)),
            OUTSIDE => tally.flush(counters.side(Side::Outside)),
            _ => {}
        }
        let (packets, bytes) = tally.sum();
        (n, Passed { packets: packets - dropped.packets, bytes: bytes - dropped.bytes })
    }

    /// Without policy nobody is known and nothing is enforced.
    #[cold]
    #[inline(never)]
    fn count_only(
        &self,
        counters: &WorkerCounters,
        frames: &[Frame<'_>],
        verdicts: &mut [Verdict],
    ) -> Passed {
        let mut passed = Passed::default();
        for (f, verdict) in frames.iter().zip(verdicts) {
            *verdict = Verdict::Forward;
            let mirror = self.mode == Mode::Mirror;
            let to = counters.side(if mirror { Side::Outside } else { f.side });
            let mut tally = Tally::default();
            let p = parse(f.bytes, f.length);
            tally.note(f.length, p.class, p.tagged);
            tally.flush(to);
            if mirror {
                add(&to.verdict_packets[Verdict::Forward.index()], 1);
                add(&to.verdict_bytes[Verdict::Forward.index()], u64::from(f.length));
            }
            passed.packets += 1;
            passed.bytes += u64::from(f.length);
        }
        passed
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

/// First stage, IPv4: two small tables say which host it is.
#[inline(always)]
fn locate_v4<const FROM: u8>(v: &View<'_>, w: &mut Work) {
    let source = low32(w.parsed.source);
    // From outside, the source is looked up too: it may claim to be one of ours.
    let looked_up = FROM != OUTSIDE || v.addressing.may_be_internal_v4(source);
    w.source = if looked_up { End::of(v.addressing.host_v4(source)) } else { End::NONE };
    if FROM != INSIDE {
        w.destination = End::of(v.addressing.host_v4(low32(w.parsed.destination)));
    }
}

/// First stage, IPv6: internal addresses are told, and the slot of the packet's own end is asked for.
#[inline(always)]
fn seek_v6<const FROM: u8>(v: &View<'_>, w: &mut Work) {
    let end = |a: u128| if v.addressing.network_v6(a).is_some() { End::UNSLOTTED } else { End::NONE };
    w.source = end(w.parsed.source);
    let (mut own, mut address) = (w.source, w.parsed.source);
    if FROM != INSIDE {
        w.destination = end(w.parsed.destination);
        if FROM == OUTSIDE {
            (own, address) = (w.destination, w.parsed.destination);
        }
    }
    if own.is_internal() {
        w.hash = keyed_hash(address & v.ipv6_mask, v.hash_key);
        v.hosts_v6.prefetch(w.hash);
    }
}

/// Second stage for IPv6: found, or inserted when a server of ours speaks for the first time.
#[inline(always)]
fn find_v6<const FROM: u8>(v: &View<'_>, w: &mut Work) {
    let find = |address: u128, hash: Option<u64>, insert: bool| -> End {
        let key = address & v.ipv6_mask;
        let hash = hash.unwrap_or_else(|| keyed_hash(key, v.hash_key));
        let host = match v.hosts_v6.find(key, hash) {
            None if insert => inserted_v6(v, address),
            found => found,
        };
        host.map_or(End::UNSLOTTED, |h| End::of(Some(h)))
    };
    if w.source.is_internal() {
        let hash = (FROM != OUTSIDE).then_some(w.hash);
        w.source = find(w.parsed.source, hash, FROM != OUTSIDE);
    }
    if FROM != INSIDE && w.destination.is_internal() {
        let hash = (FROM == OUTSIDE).then_some(w.hash);
        w.destination = find(w.parsed.destination, hash, FROM == MIRROR);
    }
}

#[cold]
#[inline(never)]
fn inserted_v6(v: &View<'_>, address: u128) -> Option<HostId> {
    let network = v.addressing.network_v6(address)?;
    v.facts.insert_v6(address & v.ipv6_mask, v.hash_key, network.quota, network.slot)
}

#[inline(always)]
fn prefetch_hosts<const FROM: u8>(v: &View<'_>, w: &Work) {
    if FROM != OUTSIDE
        && let Some(host) = w.source.host()
    {
        v.prefetch(host);
    }
    if FROM != INSIDE
        && let Some(host) = w.destination.host()
    {
        v.prefetch(host);
    }
}

/// Asks the cache for what packets that have to do with contacts touch first.
#[inline(always)]
fn prefetch_contacts<const FROM: u8>(v: &View<'_>, work: &mut [Work], list: &[u8]) {
    for i in list {
        let Some(w) = work.get_mut(usize::from(*i)) else { continue };
        let traits = w.parsed.traits;
        if FROM != OUTSIDE && traits.has(Traits::CONTACT) {
            w.hash = v.remote_hash(w.parsed.destination);
            if let Some(host) = w.source.host() {
                v.prefetch_contact(host, traits);
            }
        }
        if FROM != INSIDE
            && let Some(host) = w.destination.host()
        {
            v.prefetch_answer(host, traits);
        }
    }
}

/// Lists the packets from outside that may answer a first contact, and asks the cache for where its row stands.
#[inline(always)]
fn prefetch_answers(v: &View<'_>, work: &mut [Work], frames: &[Frame<'_>], list: &[u8], answers: &mut List) {
    for i in list {
        let i = usize::from(*i);
        let Some(w) = work.get(i) else { continue };
        answers.push_if(i, w.destination.host().is_some_and(|host| v.may_answer(host)));
    }
    let answers = answers.get();
    if answers.is_empty() {
        return;
    }
    let table = v.flows();
    for i in answers {
        let i = usize::from(*i);
        if let (Some(w), Some(f)) = (work.get_mut(i), frames.get(i))
            && let Some(host) = w.destination.host()
        {
            w.hash = v.prefetch_question(&table, host, w, f);
        }
    }
}

/// Over the packets that have to do with contacts: what they open or answer. A burst from one side only does one of both,
/// so that which comes first is of no account; in a mirror it is, and the stage before does it.
#[inline(always)]
fn contacts<const FROM: u8>(v: &View<'_>, work: &[Work], frames: &[Frame<'_>], list: &[u8], answers: &[u8]) {
    let packet = |i: &u8| Some((work.get(usize::from(*i))?, frames.get(usize::from(*i))?));
    if FROM == INSIDE {
        for (w, _) in list.iter().filter_map(packet) {
            if let Some(host) = w.source.host() {
                v.prefetch_new_contact(host, w.parsed.traits, w.hash);
            }
        }
        for (w, f) in list.iter().filter_map(packet) {
            if let Some(host) = w.source.host() {
                v.opens(host, w, f);
            }
        }
        return;
    }
    if !answers.is_empty() {
        let table = v.flows();
        answers.iter().filter_map(packet).for_each(|(w, _)| table.prefetch_row(w.hash));
    }
    for (w, f) in list.iter().filter_map(packet) {
        if let Some(host) = w.destination.host() {
            v.hears(host, w, f);
        }
    }
    if !answers.is_empty() {
        let table = v.flows();
        for (w, f) in answers.iter().filter_map(packet) {
            if let Some(host) = w.destination.host() {
                v.answers(&table, host, w, f);
            }
        }
    }
}

/// The side a packet belongs to.
#[inline(always)]
fn side<const FROM: u8>(w: &Work) -> Side {
    match FROM {
        INSIDE => Side::Inside,
        OUTSIDE => Side::Outside,
        _ if w.source.is_internal() => Side::Inside,
        _ => Side::Outside,
    }
}

/// Over a burst: verdicts and what they count. `SCREENED`: verdicts hold what was dropped before. Packets of watched hosts
/// are listed in `watched`.
#[inline(always)]
fn settle<const FROM: u8, const SCREENED: bool>(
    v: &View<'_>,
    counters: &WorkerCounters,
    work: &[Work],
    frames: &[Frame<'_>],
    verdicts: &mut [Verdict],
    watched: &mut List,
) -> Passed {
    let mut dropped = Passed::default();
    let mut sides = [Tally::default(); 2];
    for (number, ((w, f), verdict)) in work.iter().zip(frames).zip(verdicts).enumerate() {
        if FROM != MIRROR && !SCREENED && is_usual::<FROM>(v, w, f) {
            *verdict = Verdict::Forward;
            continue;
        }
        let side = side::<FROM>(w);
        let to = counters.side(side);
        let before = if SCREENED { *verdict } else { Verdict::Forward };
        *verdict = match w.parsed.class {
            Class::Ipv4 | Class::Ipv6 => {
                let (verdict, is_watched) = judge::<FROM>(v, to, w, f, before);
                if is_watched {
                    watched.push_if(number, true);
                }
                verdict
            }
            Class::Arp | Class::NonIp | Class::Malformed => before,
        };
        if FROM == MIRROR {
            sides[side.index()].note(f.length, w.parsed.class, w.parsed.tagged);
        }
        if FROM == MIRROR || verdict.is_drop() {
            add(&to.verdict_packets[verdict.index()], 1);
            add(&to.verdict_bytes[verdict.index()], u64::from(f.length));
        }
        if verdict.is_drop() {
            dropped.packets += 1;
            dropped.bytes += u64::from(f.length);
        }
    }
    if FROM == MIRROR {
        for side in Side::ALL {
            sides[side.index()].flush(counters.side(side));
        }
    }
    dropped
}

/// Apart from the usual path, which has nothing to ask of bursts like this.
#[cold]
#[inline(never)]
fn settle_screened<const FROM: u8>(
    v: &View<'_>,
    counters: &WorkerCounters,
    work: &[Work],
    frames: &[Frame<'_>],
    verdicts: &mut [Verdict],
    watched: &mut List,
) -> Passed {
    settle::<FROM, true>(v, counters, work, frames, verdicts, watched)
}

/// Accounts a packet if it is like nearly all on a wire: its own end is a host that has nothing to be looked up for, and the
/// other one is nobody's. Says whether it is; [`judge`] would do the same with it.
#[inline(always)]
fn is_usual<const FROM: u8>(v: &View<'_>, w: &Work, f: &Frame<'_>) -> bool {
    let (own, dir) = if FROM == INSIDE { (w.source, Dir::Out) } else { (w.destination, Dir::In) };
    if FROM == OUTSIDE && w.source.is_internal() {
        return false;
    }
    let Some(host) = v.usual_host(own, w.parsed.class) else { return false };
    v.account(host, dir, HostFlags(0), w, f, false);
    true
}

/// Enforce and account. `before`: what was decided before. Says whether the packet is of a watched host, and has not been
/// observed yet.
#[inline(always)]
fn judge<const FROM: u8>(
    v: &View<'_>,
    to: &SideCounters,
    w: &Work,
    f: &Frame<'_>,
    before: Verdict,
) -> (Verdict, bool) {
    // In a mirror both ends count.
    let source = if FROM == OUTSIDE { End::NONE } else { w.source };
    let destination = if FROM == INSIDE { End::NONE } else { w.destination };
    let mut verdict = before;

    let of_source = source.host().map_or(HostFlags(0), |h| v.flags(h));
    if !verdict.is_drop() && locked(v, source, of_source, w, Dir::Out) {
        verdict = Verdict::DropLockedOut;
    }
    if FROM == OUTSIDE && w.source.is_internal() {
        // Hairpin traffic between two servers through an outside router looks like this too: only counted,
        // unless the network says otherwise.
        add(&to.internal_source_outside, 1);
        if let Some(host) = w.source.host() {
            v.out.mark_outside(host);
        }
        if !verdict.is_drop()
            && v.enforcing
            && w.source.host().is_some_and(|h| v.flags(h).has(HostFlags::STRICT))
        {
            verdict = Verdict::DropSpoofed;
        }
    }
    let of_destination = destination.host().map_or(HostFlags(0), |h| v.flags(h));
    if !verdict.is_drop() && locked(v, destination, of_destination, w, Dir::In) {
        verdict = Verdict::DropLockedIn;
    }

    if !source.is_internal() && !destination.is_internal() {
        add(&to.foreign, 1);
    } else if source == End::UNSLOTTED || destination == End::UNSLOTTED {
        add(&to.no_slot, 1);
    }
    let dropped = verdict.is_drop();
    let mut is_watched = false;
    if let Some(host) = source.host() {
        if FROM == MIRROR && w.parsed.traits.has(Traits::CONTACT) {
            v.opens(host, w, f);
        }
        is_watched = v.account(host, Dir::Out, of_source, w, f, dropped);
        if FROM == MIRROR && is_watched {
            v.watch(Dir::Out, std::iter::once((host, w, f, dropped)));
        }
    }
    if let Some(host) = destination.host() {
        is_watched = v.account(host, Dir::In, of_destination, w, f, dropped);
        if FROM == MIRROR && is_watched {
            v.watch(Dir::In, std::iter::once((host, w, f, dropped)));
        }
        if FROM == MIRROR && w.parsed.traits.has(TELLS) {
            if v.may_answer(host) {
                v.answers(&v.flows(), host, w, f);
            }
            v.hears(host, w, f);
        }
    }
    (verdict, FROM != MIRROR && is_watched)
}

/// Whether a lock drops a packet of this end.
#[inline(always)]
fn locked(v: &View<'_>, end: End, flags: HostFlags, w: &Work, dir: Dir) -> bool {
    match end.host() {
        Some(host) => v.locked(host, flags, w, dir),
        None => end.is_internal() && v.locked_by(None, flags, w, dir),
    }
}
