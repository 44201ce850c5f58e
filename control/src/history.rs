//! What every host did, in pieces of five minutes: what answers whoever claims that an address did something.
//!
//! A pass reads what control has merged of every host, some thousand a tick, and hands the store what came since the pass
//! before: a tick pays nothing for the hosts that move in it. What a pass had not reached when cordond was killed is
//! missing, and the answer says so; a clean stop, a reload and the dataplane's end make a pass at once. What a dataplane
//! counted while cordond was away is taken in with the first pass after it.

use std::collections::BTreeMap;

use api::{Target, Time};
use region::{Capacities, Dir, Facts, HostId, LineTotals, Marks, Policy};

use crate::control::{Control, Use};
use crate::effect::Effect;
use crate::window::{Counts, NONE, Pair};

/// Time from the beginning of a pass to that of the next one.
const PASS_NS: u64 = 300 * 1_000_000_000;
/// Hosts that are read together: their pieces of history have the same ends.
const PIECE: usize = 256;
/// Pieces that a tick reads.
const PIECES_A_TICK: usize = 16;
/// How often what is old is made smaller.
const KEEP_NS: u64 = 3_600 * 1_000_000_000;

/// What a host did and was sent over some time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Out, in.
    pub pair: Pair,
    /// Connections answered or refused that it had not asked for.
    pub unprovoked: u64,
    /// Packets with its address as source that entered outside.
    pub outside: u64,
    /// Packets with its address as source that another device of the segment sent.
    pub other_mac: u64,
    /// More than 2^32 packets came at once: beside packets, bytes and drops nothing is known of them.
    pub overrun: bool,
}

/// Pieces of history of up to 256 hosts of an IPv4 /24, or of one IPv6 host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryRow {
    /// `192.0.2.0/24`, `2001:db8:0:1::/64`.
    pub block: String,
    /// Nothing in it came before.
    pub since: Time,
    /// Nothing in it came after.
    pub until: Time,
    /// [`encode`]d.
    pub body: Vec<u8>,
}

/// What the store is told of histories.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HistoryOp {
    /// Further pieces.
    Rows(Vec<HistoryRow>),
    /// Every host was counted all this time. A later one with the same beginning replaces it.
    Watched {
        /// From.
        since: Time,
        /// To.
        until: Time,
    },
    /// Joins old pieces, and forgets the oldest.
    Keep {
        /// Now.
        now: Time,
        /// Nothing from before is kept.
        since: Time,
        /// Most bytes.
        bytes_max: u64,
    },
}

const FIELDS: usize = 13;
/// Numbers of a host. New ones are appended: what older versions wrote has them as zeros.
const VALUES: usize = 2 * FIELDS + 4;

fn fields(c: &Counts) -> [u64; FIELDS] {
    [
        c.packets,
        c.bytes,
        c.dropped,
        c.tcp,
        c.udp,
        c.icmp,
        c.syn,
        c.fragments,
        c.syn_ack,
        c.reactions_tcp,
        c.reactions_icmp,
        c.small,
        c.opens,
    ]
}

fn counts(f: &[u64]) -> Counts {
    let at = |i: usize| f.get(i).copied().unwrap_or(0);
    Counts {
        packets: at(0),
        bytes: at(1),
        dropped: at(2),
        tcp: at(3),
        udp: at(4),
        icmp: at(5),
        syn: at(6),
        fragments: at(7),
        syn_ack: at(8),
        reactions_tcp: at(9),
        reactions_icmp: at(10),
        small: at(11),
        opens: at(12),
        ..NONE
    }
}

impl Tally {
    /// Adds another one.
    pub fn add(&mut self, o: &Tally) {
        for (a, b) in self.pair.iter_mut().zip(&o.pair) {
            a.add(b);
        }
        self.unprovoked += o.unprovoked;
        self.outside += o.outside;
        self.other_mac += o.other_mac;
        self.overrun |= o.overrun;
    }

    fn is_empty(&self) -> bool {
        *self == Tally::default()
    }

    fn values(&self) -> [u64; VALUES] {
        let mut all = [0; VALUES];
        all[..FIELDS].copy_from_slice(&fields(&self.pair[0]));
        all[FIELDS..2 * FIELDS].copy_from_slice(&fields(&self.pair[1]));
        let rest = [self.unprovoked, self.outside, u64::from(self.overrun), self.other_mac];
        all[2 * FIELDS..].copy_from_slice(&rest);
        all
    }

    fn of_values(v: &[u64; VALUES]) -> Tally {
        Tally {
            pair: [counts(&v[..FIELDS]), counts(&v[FIELDS..2 * FIELDS])],
            unprovoked: v[2 * FIELDS],
            outside: v[2 * FIELDS + 1],
            overrun: v[2 * FIELDS + 2] != 0,
            other_mac: v[2 * FIELDS + 3],
        }
    }
}

// ---- on disk ----

fn put(out: &mut Vec<u8>, mut n: u64) {
    loop {
        let low = (n & 0x7f) as u8;
        n >>= 7;
        if n == 0 {
            return out.push(low);
        }
        out.push(low | 0x80);
    }
}

fn take(bytes: &mut &[u8]) -> Option<u64> {
    let mut n = 0;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        n |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(n);
        }
    }
    None
}

/// Hosts of a block by the last byte of their address: that byte, which of the numbers are not zero (least significant
/// byte first, seven bits a byte), and those numbers likewise.
pub fn encode<'t>(hosts: impl Iterator<Item = (u8, &'t Tally)>) -> Vec<u8> {
    let mut out = Vec::new();
    for (octet, tally) in hosts {
        let values = tally.values();
        let some = values.iter().enumerate().filter(|(_, v)| **v != 0);
        out.push(octet);
        put(&mut out, some.clone().fold(0, |mask, (i, _)| mask | 1 << i));
        for (_, v) in some {
            put(&mut out, *v);
        }
    }
    out
}

/// What [`encode`] wrote; ends where it makes no sense.
pub fn decode(mut bytes: &[u8]) -> Vec<(u8, Tally)> {
    let mut hosts = Vec::new();
    while let Some((octet, rest)) = bytes.split_first() {
        bytes = rest;
        let Some(mask) = take(&mut bytes) else { break };
        let mut values = [0; VALUES];
        let mut whole = true;
        for (_, v) in values.iter_mut().enumerate().filter(|(i, _)| mask >> i & 1 != 0) {
            let Some(n) = take(&mut bytes) else {
                whole = false;
                break;
            };
            *v = n;
        }
        if !whole {
            break;
        }
        hosts.push((*octet, Tally::of_values(&values)));
    }
    hosts
}

/// The block of a host's address or prefix, and its byte in it.
pub fn block_of(target: &Target) -> Option<(String, u8)> {
    match target.prefix()? {
        ipnet::IpNet::V4(n) => {
            let [a, b, c, d] = n.network().octets();
            Some((format!("{a}.{b}.{c}.0/24"), d))
        }
        net @ ipnet::IpNet::V6(_) => Some((net.to_string(), 0)),
    }
}

// ---- passes ----

/// How far histories were read.
#[derive(Debug, Default)]
pub(crate) struct History {
    /// What was read of each host, in both directions, when it was last read.
    read: Vec<[LineTotals; 2]>,
    marks: Vec<Marks>,
    /// When each piece was last read.
    read_at: Vec<Time>,
    /// Since when every host is counted without a gap; none without a dataplane.
    since: Option<Time>,
    /// The piece that the pass under way reads next, and when it began.
    under_way: Option<(usize, Time)>,
    due_ns: u64,
    keep_ns: u64,
}

type Blocks = BTreeMap<String, (Time, BTreeMap<u8, Tally>)>;

impl History {
    pub(crate) fn new(c: Capacities) -> History {
        let hosts = c.hosts() as usize;
        History {
            read: vec![Default::default(); hosts],
            marks: vec![Marks::default(); hosts],
            read_at: vec![Time::from_unix_ms(0); hosts.div_ceil(PIECE)],
            ..History::default()
        }
    }

    /// What came of a host since it was last read.
    fn news(&self, policy: &Policy, facts: &Facts, host: HostId) -> Option<Tally> {
        let read = self.read.get(host.index())?;
        let mut tally = Tally::default();
        for dir in Dir::ALL {
            let delta = policy.accounted(host, dir).since(&read[dir as usize]);
            if delta.packets != 0 {
                tally.overrun |= delta.packets > u64::from(u32::MAX);
                tally.pair[dir as usize] = Counts::of_delta(&delta);
            }
        }
        let (now, before) = (facts.marks(host), self.marks.get(host.index())?);
        tally.unprovoked = now.unprovoked.wrapping_sub(before.unprovoked).into();
        tally.outside = now.outside.wrapping_sub(before.outside).into();
        tally.other_mac = now.other_mac.wrapping_sub(before.other_mac).into();
        Some(tally).filter(|t| !t.is_empty())
    }
}

impl Control {
    /// Another life of the dataplane, or the same one after a restart of ours: `same`.
    pub(crate) fn begin_history(&mut self, facts: &Facts, same: bool, alone_since_ns: u64) {
        let at = self.now.time();
        let hosts = self.policy.capacities().hosts();
        for id in 0..hosts {
            let host = HostId(id);
            self.history.read[host.index()] = Dir::ALL.map(|d| self.policy.accounted(host, d));
            self.history.marks[host.index()] = if same { facts.marks(host) } else { Marks::default() };
        }
        // A clock that was wrong at the time must not make ages of it.
        let alone = Time::from_unix_ns(alone_since_ns.into());
        let since = if alone <= at && alone > at.plus_ms(-30 * 86_400_000) { alone } else { at };
        self.history.read_at.fill(since);
        self.history.since = Some(since);
        self.history.under_way = None;
        self.history.due_ns = self.now.mono_ns + PASS_NS;
    }

    /// A step of a pass, when one is due. Call each tick.
    pub(crate) fn write_history(&mut self) {
        if self.usage == Use::Replay || self.life.is_none() {
            return;
        }
        let (at, now_ns) = (self.now.time(), self.now.mono_ns);
        if self.history.under_way.is_none() && now_ns >= self.history.due_ns {
            self.history.under_way = Some((0, at));
            self.history.due_ns = now_ns + PASS_NS;
        }
        let Some((from, began)) = self.history.under_way else { return };
        let to = (from + PIECES_A_TICK).min(self.history.read_at.len());
        self.read_pieces(from, to);
        if to < self.history.read_at.len() {
            self.history.under_way = Some((to, began));
            return;
        }
        self.history.under_way = None;
        self.note_watched(began);
        if now_ns >= self.history.keep_ns {
            self.history.keep_ns = now_ns + KEEP_NS;
            let days = i64::from(self.config.evidence.history_days);
            let bytes_max = self.config.evidence.history_max;
            let since = at.plus_ms(-days * 86_400_000);
            self.effects.push(Effect::History(HistoryOp::Keep { now: at, since, bytes_max }));
        }
    }

    /// Everything at once: what was counted must not wait for a pass that does not come.
    pub(crate) fn flush_history(&mut self) {
        if self.usage == Use::Replay || self.life.is_none() {
            return;
        }
        self.read_pieces(0, self.history.read_at.len());
        self.history.under_way = None;
        self.history.due_ns = self.now.mono_ns + PASS_NS;
        self.note_watched(self.now.time());
    }

    /// The dataplane is gone: what it counted is handed over.
    pub(crate) fn end_history(&mut self) {
        self.flush_history();
        self.history.since = None;
    }

    /// cordond stops: what is known so far is handed over.
    pub fn stop(&mut self, now: crate::effect::Now) {
        self.now = now;
        self.flush_history();
    }

    fn note_watched(&mut self, until: Time) {
        if let Some(since) = self.history.since {
            self.effects.push(Effect::History(HistoryOp::Watched { since, until }));
        }
    }

    fn read_pieces(&mut self, from: usize, to: usize) {
        let Some(facts) = self.facts().cloned() else { return };
        let at = self.now.time();
        let mut blocks: Blocks = BTreeMap::new();
        for piece in from..to {
            let since = self.history.read_at[piece];
            let end = ((piece + 1) * PIECE).min(self.history.read.len());
            for id in piece * PIECE..end {
                let host = HostId(u32::try_from(id).unwrap_or(u32::MAX));
                let Some(tally) = self.history.news(&self.policy, &facts, host) else { continue };
                self.history.read[id] = Dir::ALL.map(|d| self.policy.accounted(host, d));
                self.history.marks[id] = facts.marks(host);
                let target = self.networks.target(host, Some(&facts)).map(Target::Prefix);
                let Some((block, octet)) = target.as_ref().and_then(block_of) else { continue };
                let (first, hosts) = blocks.entry(block).or_insert((since, BTreeMap::new()));
                *first = (*first).min(since);
                hosts.entry(octet).or_default().add(&tally);
            }
            self.history.read_at[piece] = at;
        }
        let row = |(block, (since, hosts)): (String, (Time, BTreeMap<u8, Tally>))| HistoryRow {
            block,
            since,
            until: at,
            body: encode(hosts.iter().map(|(o, t)| (*o, t))),
        };
        let rows: Vec<HistoryRow> = blocks.into_iter().map(row).collect();
        if !rows.is_empty() {
            self.effects.push(Effect::History(HistoryOp::Rows(rows)));
        }
    }

    /// What is not on its way to the store yet of a host: since when, and what. None without a dataplane.
    pub(crate) fn recent_history(&self, host: Option<HostId>) -> Option<(Time, Tally)> {
        let (facts, since) = (self.facts()?, self.history.since?);
        let Some(host) = host else { return Some((since, Tally::default())) };
        let at = self.history.read_at.get(host.index() / PIECE)?;
        Some((*at, self.history.news(&self.policy, facts, host).unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests;
