//! What is kept of watched hosts' packets: exact flows, and evidence. Out of the common path: few hosts are watched.

use region::facts::{WorkerFacts, keyed_hash};
use region::fanout::Map;
use region::flows::{EvidenceMeta, FlowKey, FlowPacket, FlowTable, Opener, Sought, flag};
use region::policy::WatchLimits;
use region::{Dir, HostId, Traits, WatchSlot};

use crate::parse::{ACK, FIN, ICMP, ICMPV6, PSH, Parsed, RST, SYN, TCP, UDP, URG, answers, asks, is_error};
use crate::{BURST, Frame};

/// What a burst knows of its moment.
#[derive(Clone, Copy)]
pub(crate) struct Moment {
    pub(crate) epoch: u32,
    pub(crate) generation: u64,
    pub(crate) tick: u64,
    pub(crate) hash_key: [u64; 2],
    pub(crate) limits: WatchLimits,
    /// The generation has just begun: answers to contacts of the one before still come.
    pub(crate) fresh_generation: bool,
}

/// A packet as the watched host sees it.
#[derive(Clone, Copy)]
pub(crate) struct Seen<'a> {
    pub(crate) host: HostId,
    pub(crate) dir: Dir,
    pub(crate) parsed: &'a Parsed,
    pub(crate) frame: &'a Frame<'a>,
    /// Addresses as [`region::Addr::as_u128`] writes them.
    pub(crate) local: u128,
    pub(crate) remote: u128,
    pub(crate) dropped: bool,
}

impl Seen<'_> {
    /// The external address in the fan-out maps.
    fn remote_hash(&self, m: &Moment) -> u64 {
        keyed_hash(self.parsed.ends(self.dir).1, m.hash_key)
    }
}

/// Ports, how the packet would begin a flow, and what it says of one.
#[derive(Clone, Copy)]
struct Transport {
    source_port: u16,
    destination_port: u16,
    /// When the host sends it.
    opener: Opener,
    /// When the host is sent it.
    may_open: bool,
    /// When the host is sent it.
    answer: u64,
    /// When the host sends it.
    accepts: bool,
}

impl Transport {
    const fn plain(opener: Opener) -> Transport {
        Transport {
            source_port: 0,
            destination_port: 0,
            opener,
            may_open: true,
            answer: flag::ANSWERED,
            accepts: false,
        }
    }
}

fn be16(b: &[u8], at: usize) -> u16 {
    match b.get(at..at + 2) {
        Some(b) => u16::from_be_bytes([b[0], b[1]]),
        None => 0,
    }
}

/// The request that a reply answers, so that both make one flow.
fn question(icmp: u8, kind: u8) -> u8 {
    match (icmp, kind) {
        (ICMP, 0) => 8,
        (ICMP, 14) => 13,
        (ICMP, 16) => 15,
        (ICMP, 18) => 17,
        (ICMPV6, 129) => 128,
        _ => kind,
    }
}

#[inline(always)]
fn read(p: &Parsed, bytes: &[u8]) -> Transport {
    let at = usize::from(p.transport);
    if at == 0 {
        return Transport { may_open: false, ..Transport::plain(Opener::Fragment) };
    }
    let segment = bytes.get(at..usize::from(p.end).min(bytes.len())).unwrap_or(&[]);
    let ports =
        |t: Transport| Transport { source_port: be16(segment, 0), destination_port: be16(segment, 2), ..t };
    match p.protocol {
        TCP => {
            let flags = segment.get(13).copied().unwrap_or(ACK);
            let header = usize::from(segment.get(12).map_or(5, |o| o >> 4)) * 4;
            let empty = usize::from(p.end) <= at + header;
            let hidden = segment.len() < 14 && p.traits.has(Traits::FRAGMENT);
            let opener = match flags & (FIN | SYN | RST | PSH | ACK | URG) {
                _ if hidden => Opener::Null,
                f if f & RST != 0 || f & (SYN | ACK) == SYN | ACK => Opener::Reaction,
                f if f & SYN != 0 => Opener::Syn,
                ACK if empty => Opener::Ack,
                f if f & ACK != 0 => Opener::None,
                f if f & FIN == 0 => Opener::Null,
                f if f & (PSH | URG) == PSH | URG => Opener::Xmas,
                _ => Opener::Fin,
            };
            ports(Transport {
                source_port: 0,
                destination_port: 0,
                opener,
                may_open: flags & (SYN | RST | ACK) == SYN,
                answer: if flags & RST != 0 { flag::RST } else { flag::ANSWERED },
                accepts: flags & (SYN | ACK | RST) == SYN | ACK,
            })
        }
        UDP => ports(Transport::plain(Opener::Udp)),
        icmp @ (ICMP | ICMPV6) => {
            let kind = segment.first().copied().unwrap_or(255);
            let opener = if asks(icmp, kind) { Opener::IcmpRequest } else { Opener::Reaction };
            let replies = answers(icmp, kind) && !is_error(icmp, kind);
            Transport {
                source_port: 0,
                destination_port: u16::from(question(icmp, kind)),
                opener,
                may_open: asks(icmp, kind),
                answer: if replies { flag::ANSWERED } else { 0 },
                accepts: false,
            }
        }
        _ => Transport::plain(Opener::OtherProtocol),
    }
}

/// The flow that an ICMP error from outside quotes, one that the host began, and what that says of it. Destination
/// unreachable alone says that a contact failed: a time that was exceeded is a traceroute, a packet too big (RFC 1191) is
/// no failure.
fn quoted(s: &Seen<'_>) -> Option<(FlowKey, u64)> {
    let error = s.frame.bytes.get(usize::from(s.parsed.transport)..)?;
    let (kind, code) = (*error.first()?, *error.get(1)?);
    let says = match (s.parsed.protocol, kind) {
        (ICMP, 3) if code != 4 => flag::UNREACHABLE,
        (ICMPV6, 1) => flag::UNREACHABLE,
        (ICMP, 11) | (ICMPV6, 3) => flag::TIME_EXCEEDED,
        _ => return None,
    };
    let inner = error.get(8..)?;
    let (protocol, remote, segment) = if s.parsed.protocol == ICMP {
        let h = inner.get(..20)?;
        let header = usize::from(h[0] & 0x0f) * 4;
        let remote = region::Addr::V4(u32::from_be_bytes([h[16], h[17], h[18], h[19]])).as_u128();
        (h[9], remote, inner.get(header.max(20)..)?)
    } else {
        let h = inner.get(..40)?;
        let mut remote = [0; 16];
        remote.copy_from_slice(&h[24..40]);
        (h[6], u128::from_be_bytes(remote), inner.get(40..)?)
    };
    let (local_port, remote_port) = match protocol {
        TCP | UDP => (be16(segment, 0), be16(segment, 2)),
        ICMP | ICMPV6 => (0, u16::from(*segment.first()?)),
        _ => (0, 0),
    };
    Some((FlowKey { host: s.host, remote, protocol, local_port, remote_port }, says))
}

/// A packet of a host in its flow, as if nobody watched. UDP counts as sent to an external that neither came first nor
/// answered.
#[inline(always)]
fn packet(s: &Seen<'_>) -> FlowPacket {
    let t = read(s.parsed, s.frame.bytes);
    let icmp = matches!(s.parsed.protocol, ICMP | ICMPV6);
    let (local_port, remote_port, opener, flags) = match s.dir {
        Dir::Out => (t.source_port, t.destination_port, t.opener, if t.accepts { flag::ACCEPTS } else { 0 }),
        Dir::In => {
            let opener = if t.may_open { Opener::RemoteFirst } else { Opener::None };
            // The type of an ICMP message stands where the external's port does, whoever sent it.
            let (local, remote) =
                if icmp { (0, t.destination_port) } else { (t.destination_port, t.source_port) };
            (local, remote, opener, t.answer)
        }
    };
    FlowPacket {
        key: FlowKey { host: s.host, remote: s.remote, protocol: s.parsed.protocol, local_port, remote_port },
        slot: WatchSlot(0),
        local: s.local,
        dir: s.dir,
        bytes: s.frame.length,
        time: s.frame.time,
        opener,
        flags,
    }
}

fn is_icmp_error(s: &Seen<'_>) -> bool {
    s.dir == Dir::In && matches!(s.parsed.protocol, ICMP | ICMPV6)
}

/// The key under which the question of an answer is looked for; none for an ICMP error, which quotes it.
#[inline(always)]
pub(crate) fn answered_key(s: &Seen<'_>) -> Option<FlowKey> {
    (!is_icmp_error(s)).then(|| packet(s).key)
}

/// Counts packets of watched hosts in their flows, and copies their beginnings; `slot` says which slot a host has. Each
/// packet of a flood is a flow of its own, whose row is nowhere near: all are asked for before the first is needed.
#[inline(always)]
pub(crate) fn observe<'p>(
    out: &WorkerFacts<'_>,
    m: &Moment,
    packets: impl Iterator<Item = Seen<'p>> + Clone,
    slot: impl Fn(HostId) -> WatchSlot,
) {
    let table = out.facts.flows(out.worker, m.generation);
    let quota = m.limits.flow_quota;
    let mut ahead = [(FlowPacket::NONE, Sought::default()); BURST];
    let mut n = 0;
    for (s, (p, sought)) in packets.clone().zip(&mut ahead) {
        *p = packet(&s);
        p.slot = slot(s.host);
        *sought = table.seek(p, m.hash_key, quota);
        if p.opener == Opener::Udp {
            out.prefetch_fanout(s.host, m.epoch, Map::Answered);
            out.prefetch_fanout(s.host, m.epoch.wrapping_sub(1), Map::Answered);
        }
        n += 1;
    }
    let ahead = &mut ahead[..n.min(BURST)];
    ahead.iter().for_each(|(_, sought)| table.seek_rows(sought));
    let ring = out.facts.evidence(out.worker);
    for (s, (p, sought)) in packets.zip(ahead).filter(|(_, (p, _))| p.slot.0 != 0) {
        if p.opener == Opener::Udp && s.dir == Dir::Out && out.is_peer(s.host, m.epoch, s.remote_hash(m)) {
            p.opener = Opener::UdpToPeer;
        }
        table.count(p, sought, m.hash_key, quota);
        if is_icmp_error(&s) {
            refused_watched(out, &table, m, &s, p);
        }
        let meta = EvidenceMeta {
            slot: p.slot,
            dir: s.dir,
            dropped: s.dropped,
            length: s.frame.length,
            time: s.frame.time,
        };
        ring.push(&meta, s.frame.bytes, m.limits.evidence_read, m.tick, m.limits.evidence_quota);
    }
}

/// Marks the flow that an ICMP error quotes. False when it quotes none.
#[cold]
fn refused(table: &FlowTable<'_>, m: &Moment, s: &Seen<'_>) -> bool {
    let quoted = quoted(s);
    if let Some((key, says)) = quoted {
        table.mark(&key, m.hash_key, says);
    }
    quoted.is_some()
}

/// Marks the flow that an ICMP error to a watched host quotes; of several workers another one may have its row.
#[cold]
fn refused_watched(out: &WorkerFacts<'_>, table: &FlowTable<'_>, m: &Moment, s: &Seen<'_>, p: &FlowPacket) {
    let Some((key, says)) = quoted(s) else { return };
    if out.facts.workers().len() > 1 {
        let quoted = FlowPacket { key, opener: Opener::None, bytes: 0, flags: says, ..*p };
        table.mark_quoted(&quoted, m.hash_key, m.limits.flow_quota);
    } else {
        table.mark(&key, m.hash_key, says);
    }
}

/// Notes a new contact of a host that is not watched.
#[inline(never)]
pub(crate) fn first_contact(out: &WorkerFacts<'_>, m: &Moment, s: &Seen<'_>) {
    let table = out.facts.flows(out.worker, m.generation);
    if table.takes_first_contacts() && table.note(&packet(s), m.hash_key) {
        out.set_early(s.host, m.generation);
    }
}

/// Notes that a contact of a host that is not watched was answered or refused.
#[inline(never)]
pub(crate) fn early_answer(table: &FlowTable<'_>, m: &Moment, s: &Seen<'_>) {
    if is_icmp_error(s) && refused(table, m, s) {
        return;
    }
    let p = packet(s);
    if p.flags == 0 || table.mark(&p.key, m.hash_key, p.flags) || !m.fresh_generation {
        return;
    }
    // The contact's row is in the table of the generation before: the answer gets one of its own.
    table.note(&FlowPacket { opener: Opener::None, ..p }, m.hash_key);
}

/// Whether a segment to a host answers or refuses a connection that it has not asked for lately: its remote address is in
/// no map of contacts of this epoch and the one before. A full map only lowers the count. A reset of a connection that stood
/// tells nothing; one that refuses a SYN has the sequence number 0 (RFC 9293, 3.10.7.1).
#[inline(always)]
pub(crate) fn unprovoked(
    out: &WorkerFacts<'_>,
    epoch: u32,
    host: HostId,
    p: &Parsed,
    f: &Frame<'_>,
    hash: u64,
) -> bool {
    let asked = |of: &WorkerFacts<'_>| {
        [epoch, epoch.wrapping_sub(1)].into_iter().any(|e| of.has_fanout(host, e, Map::Contacted, hash))
    };
    // Another worker may have seen the question.
    let others = (0..out.facts.workers().len()).filter(|w| *w != out.worker);
    if asked(out) || others.into_iter().any(|w| asked(&out.facts.writer_for(w))) {
        return false;
    }
    if p.traits.has(region::Traits::SYN_ACK) {
        return true;
    }
    let at = usize::from(p.transport);
    match f.bytes.get(at..at + 14) {
        Some(h) => h[13] & (SYN | RST | ACK) == RST | ACK && h[4..8] == [0; 4],
        None => false,
    }
}

/// Notes that a host may open a contact. True when it is new: the external is no peer, or a port is new, of UDP one of
/// an external that is no peer.
#[inline(always)]
pub(crate) fn contact(
    out: &WorkerFacts<'_>,
    epoch: u32,
    hash_key: [u64; 2],
    host: HostId,
    p: &Parsed,
    f: &Frame<'_>,
    hash: u64,
) -> bool {
    // Whoever answers is asked many times: nearly every UDP packet ends here, with one line read. That A lacks what B has
    // changes no A ∪ B.
    if p.protocol != TCP && out.has_fanout(host, epoch, Map::Answered, hash) {
        return false;
    }
    let is_new = out.touch_fanout(host, epoch, Map::Contacted, hash);
    let fresh = match p.protocol {
        TCP => is_new && !out.is_peer(host, epoch, hash),
        // Who does not answer may be asked on every port.
        UDP if out.is_peer(host, epoch, hash) => return false,
        UDP => is_new,
        _ if !is_new || out.is_peer(host, epoch, hash) => return false,
        _ => true,
    };
    let port = match p.protocol {
        TCP | UDP => be16(f.bytes, usize::from(p.transport) + 2),
        _ => 0,
    };
    let port_hash = keyed_hash(u128::from(port), hash_key);
    let fresh_port = out.touch_fanout(host, epoch, Map::Ports, port_hash);
    fresh || fresh_port
}
