//! A watched host's flows, merged over workers and generations.

use std::collections::HashMap;
use std::net::IpAddr;

use region::facts::Clock;
use region::flows::{Opener as Began, flag};

use super::address;
use super::reader::Change;
use crate::scan::{Flow, Opener, Proof, Refused};

/// Flows kept of a host; those beyond are judged by what each tick says of them alone.
pub(super) const FLOWS_MAX: usize = 32_768;
/// A server may take so long to answer what it was asked by UDP before the watch began. (A conversation that goes on shows
/// its other side by itself.)
const UDP_REST_NS: u64 = 1_000_000_000;

type Key = (u128, u8, u16, u16);

#[derive(Clone, Copy, Debug)]
struct Merged {
    id: u64,
    local: u128,
    flow: Flow,
    /// Time of the reading that said how it began: the earliest counts.
    opened_ns: u64,
    /// The worker that saw the host ask, and the one that saw it answered.
    asked: Option<usize>,
    heard: Option<usize>,
}

/// What a change made of a flow.
pub(super) struct Taken {
    pub(super) id: u64,
    pub(super) flow: Flow,
    /// These are its first packets.
    pub(super) is_new: bool,
    /// Later changes find it.
    pub(super) is_kept: bool,
    /// It now shows whether both directions come to one worker.
    pub(super) together: Option<bool>,
}

/// The flows of one host.
#[derive(Debug)]
pub(super) struct HostFlows {
    flows: HashMap<Key, Merged>,
    next: u64,
    /// Flows that may be kept, at most [`FLOWS_MAX`].
    most: usize,
}

/// How a flow began, as the rules see it. A UDP packet to somebody who came first or answered lately may belong to a
/// conversation from before the watch; once that would have shown itself, it is a new question.
fn opener(began: Began, first_ns: u64, watch_began_ns: u64) -> Opener {
    match began {
        Began::None => Opener::None,
        Began::RemoteFirst => Opener::RemoteFirst,
        Began::Reaction => Opener::Reaction,
        Began::Syn => Opener::Syn,
        Began::Fin => Opener::Fin,
        Began::Null => Opener::Null,
        Began::Xmas => Opener::Xmas,
        Began::Ack => Opener::Ack,
        Began::Udp => Opener::Udp,
        Began::UdpToPeer if first_ns < watch_began_ns + UDP_REST_NS => Opener::None,
        Began::UdpToPeer => Opener::Udp,
        Began::IcmpRequest => Opener::IcmpRequest,
        Began::OtherProtocol => Opener::OtherProtocol,
        Began::Fragment => Opener::Fragment,
    }
}

fn refused(flags: u64) -> Refused {
    if flags & flag::RST != 0 {
        Refused::Rst
    } else if flags & flag::UNREACHABLE != 0 {
        Refused::Unreachable
    } else if flags & flag::TIME_EXCEEDED != 0 {
        Refused::TimeExceeded
    } else {
        Refused::No
    }
}

impl HostFlows {
    pub(super) fn new() -> HostFlows {
        HostFlows { flows: HashMap::new(), next: 0, most: FLOWS_MAX }
    }

    /// Flows that are kept.
    pub(super) fn len(&self) -> usize {
        self.flows.len()
    }

    /// Sets how many may be kept from now on.
    pub(super) fn set_room(&mut self, most: usize) {
        self.most = most.min(FLOWS_MAX);
    }

    /// Takes a change in.
    pub(super) fn take(&mut self, c: &Change, clock: &Clock, watch_began_ns: u64) -> Taken {
        let k = c.record.key;
        let key = (k.remote, k.protocol, k.local_port, k.remote_port);
        let (first_ns, last_ns) = (clock.mono_ns(c.record.first), clock.mono_ns(c.record.last));
        let opener = opener(c.record.opener, first_ns, watch_began_ns);
        let fresh = Merged {
            id: self.next,
            local: c.record.local,
            opened_ns: first_ns,
            asked: None,
            heard: None,
            flow: Flow {
                remote: address(k.remote),
                protocol: k.protocol,
                local_port: k.local_port,
                remote_port: k.remote_port,
                first_ns,
                last_ns,
                out_packets: 0,
                out_bytes: 0,
                in_packets: 0,
                in_bytes: 0,
                opener,
                answered: false,
                refused: Refused::No,
                first_frame_len: c.record.first_frame_bytes,
            },
        };
        let known = self.flows.contains_key(&key);
        let mut alone = fresh;
        let is_kept = known || self.flows.len() < self.most;
        let m = if is_kept { self.flows.entry(key).or_insert(fresh) } else { &mut alone };
        if !known {
            self.next += 1;
        }
        let knew_both = m.asked.is_some() && m.heard.is_some();
        if c.record.opener.asks() && c.record.packets[0] > 0 {
            m.asked.get_or_insert(c.worker);
        }
        if c.record.flags & (flag::ANSWERED | flag::RST | flag::UNREACHABLE) != 0 {
            m.heard.get_or_insert(c.worker);
        }
        let together = m.asked.zip(m.heard).filter(|_| !knew_both).map(|(asked, heard)| asked == heard);
        let f = &mut m.flow;
        let is_new = f.out_packets == 0 && f.in_packets == 0 && c.packets != [0, 0];
        // Each direction may have come to another worker, and each generation has a row of its own.
        if first_ns < m.opened_ns {
            m.opened_ns = first_ns;
            f.first_ns = first_ns;
            f.opener = opener;
            f.first_frame_len = c.record.first_frame_bytes;
        }
        f.last_ns = f.last_ns.max(last_ns);
        f.out_packets += c.packets[0];
        f.in_packets += c.packets[1];
        f.out_bytes += c.bytes[0];
        f.in_bytes += c.bytes[1];
        f.answered |= c.record.flags & flag::ANSWERED != 0;
        f.refused = f.refused.max(refused(c.record.flags));
        Taken { id: m.id, flow: m.flow, is_new, is_kept, together }
    }

    /// The host's own address in the flow of a contact.
    pub(super) fn local_of(&self, p: &Proof) -> Option<IpAddr> {
        let remote = region::Addr::from(p.remote).as_u128();
        self.flows.get(&(remote, p.protocol, p.local_port, p.remote_port)).map(|m| address(m.local))
    }

    /// Forgets flows without a packet since a time.
    pub(super) fn prune(&mut self, since_ns: u64) {
        self.flows.retain(|_, m| m.flow.last_ns >= since_ns);
    }
}
