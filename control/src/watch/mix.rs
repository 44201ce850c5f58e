//! What a watched host's packets of the last one to two seconds are made of, from exact rows: what an attack is named by.

use std::collections::BTreeMap;

use api::Service;

use super::reader::Change;
use crate::scan::{TCP, UDP};

/// Half of what is looked back on.
const HALF_NS: u64 = 1_000_000_000;
/// Ports that are counted at a time: whatever takes more than a 33rd of all packets is among them (Misra and Gries).
const PORTS_MAX: usize = 32;

/// Packets by port of the side that is attacked, in a fixed room: a count is never too high.
#[derive(Clone, Debug, Default)]
struct Ports(BTreeMap<(u8, u16), u64>);

impl Ports {
    fn add(&mut self, port: (u8, u16), mut packets: u64) {
        while packets > 0 {
            if let Some(n) = self.0.get_mut(&port) {
                *n += packets;
                return;
            }
            if self.0.len() < PORTS_MAX {
                self.0.insert(port, packets);
                return;
            }
            // Each of the counted ports and the new one lose as many, so that the largest remain.
            let least = self.0.values().copied().min().unwrap_or(0).min(packets);
            packets -= least;
            self.0.retain(|_, n| {
                *n -= least;
                *n > 0
            });
        }
    }
}

/// A server is an amplifier when what it answers is so many times as large as what it was asked. DNS without signatures comes
/// to 2 to 8, with them to some 10; ANY, monlist, CLDAP, SSDP and memcached to 30 and more (Rossow, NDSS 2014). A
/// game's server sends some 5 times what its players do.
const AMPLIFIES: u64 = 12;
/// Answers of fewer bytes a frame are no use to an attacker.
const AMPLIFIED_BYTES: u64 = 256;

/// A service's part of what passed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Volume {
    packets: u64,
    bytes: u64,
}

impl Volume {
    fn plus(&mut self, o: &Volume) {
        self.packets += o.packets;
        self.bytes += o.bytes;
    }
}

/// Packets in one direction.
#[derive(Clone, Debug, Default)]
pub(crate) struct Made {
    /// All that were recorded in rows.
    pub(crate) packets: u64,
    /// UDP that showed its ports.
    pub(crate) udp: u64,
    /// UDP whose ports are not known: later fragments, and flows beyond the quota.
    pub(crate) udp_portless: u64,
    /// UDP from a reflector's port at the other end, by service.
    pub(crate) remote: [u64; Service::COUNT],
    /// UDP of the server's own service of that kind.
    local: [Volume; Service::COUNT],
    ports: Ports,
    /// Of other protocols than TCP, UDP and ICMP: the last, and packets.
    other: Option<u8>,
}

impl Made {
    fn plus(&mut self, o: &Made) {
        self.packets += o.packets;
        self.udp += o.udp;
        self.udp_portless += o.udp_portless;
        for (to, from) in self.remote.iter_mut().zip(&o.remote) {
            *to += from;
        }
        for (to, from) in self.local.iter_mut().zip(&o.local) {
            to.plus(from);
        }
        for (port, n) in &o.ports.0 {
            self.ports.add(*port, *n);
        }
        self.other = o.other.or(self.other);
    }

    /// Ports of a protocol that take at least a tenth of all packets each, most first.
    pub(crate) fn main_ports(&self, protocol: u8) -> Vec<u16> {
        let mut all: Vec<(u64, u16)> = self
            .ports
            .0
            .iter()
            .filter(|((p, _), n)| *p == protocol && **n * 10 >= self.packets)
            .map(|((_, port), n)| (*n, *port))
            .collect();
        all.sort_by_key(|(n, port)| (std::cmp::Reverse(*n), *port));
        all.into_iter().map(|(_, port)| port).collect()
    }

    /// Another IP protocol that was seen.
    pub(crate) fn other_protocol(&self) -> Option<u8> {
        self.other
    }
}

/// Both directions, in two halves that take turns.
#[derive(Clone, Debug, Default)]
pub(crate) struct Mix {
    began_ns: u64,
    current: [Made; 2],
    previous: [Made; 2],
    /// Packets that left each service since they were last asked for.
    answered: [u64; Service::COUNT],
}

impl Mix {
    /// Adds what a tick brought to a flow.
    pub(super) fn add(&mut self, now_ns: u64, c: &Change) {
        self.turn(now_ns);
        let k = c.record.key;
        for (dir, made) in self.current.iter_mut().enumerate() {
            let n = c.packets[dir];
            if n == 0 {
                continue;
            }
            made.packets += n;
            match k.protocol {
                UDP if (k.local_port, k.remote_port) == (0, 0) => made.udp_portless += n,
                UDP => {
                    made.udp += n;
                    if let Some(s) = Service::of_port(k.remote_port) {
                        made.remote[s.index()] += n;
                    }
                    if let Some(s) = Service::of_port(k.local_port) {
                        let v = &mut made.local[s.index()];
                        v.packets += n;
                        v.bytes += c.bytes[dir];
                        self.answered[s.index()] += if dir == 0 { n } else { 0 };
                    }
                }
                TCP | 1 | 58 => {}
                other => made.other = Some(other),
            }
            // What a server sends goes to the other end's port, what it is sent to its own.
            let port = if dir == 0 { k.remote_port } else { k.local_port };
            if matches!(k.protocol, TCP | UDP) && port != 0 {
                made.ports.add((k.protocol, port), n);
            }
        }
    }

    fn turn(&mut self, now_ns: u64) {
        let passed = now_ns.saturating_sub(self.began_ns) / HALF_NS;
        if passed == 0 {
            return;
        }
        let was = std::mem::take(&mut self.current);
        self.previous = if passed == 1 { was } else { Default::default() };
        self.began_ns = if passed == 1 { self.began_ns + HALF_NS } else { now_ns };
    }

    /// The halves of a direction (0 out, 1 in) that lie in the last one to two seconds.
    fn halves(&self, now_ns: u64, dir: usize) -> impl Iterator<Item = &Made> {
        let (current, previous) = match now_ns.saturating_sub(self.began_ns) / HALF_NS {
            0 => (Some(&self.current[dir]), Some(&self.previous[dir])),
            // It would be the previous one by now.
            1 => (Some(&self.current[dir]), None),
            _ => (None, None),
        };
        previous.into_iter().chain(current)
    }

    /// The services by which the server amplifies, and what they sent in the last one to two seconds, most first.
    pub(crate) fn amplifies(&self, now_ns: u64) -> Vec<(Service, u64)> {
        let volume = |dir: usize, s: Service| {
            let mut sum = Volume::default();
            self.halves(now_ns, dir).for_each(|made| sum.plus(&made.local[s.index()]));
            sum
        };
        let amplified = |s: Service| {
            let (o, i) = (volume(0, s), volume(1, s));
            // What nobody asked for is a flood, and has rules of its own.
            let much = o.bytes >= i.bytes * AMPLIFIES && o.bytes >= o.packets * AMPLIFIED_BYTES;
            (i.packets > 0 && much).then_some((s, o.packets))
        };
        let mut all: Vec<(Service, u64)> = Service::all().filter_map(amplified).collect();
        all.sort_by_key(|(s, n)| (std::cmp::Reverse(*n), *s));
        all
    }

    /// Packets that such services have sent since the last call.
    pub(super) fn take_amplified(&mut self, now_ns: u64) -> u64 {
        let answered = std::mem::take(&mut self.answered);
        if answered.iter().all(|n| *n == 0) {
            return 0;
        }
        self.amplifies(now_ns).iter().map(|(s, _)| answered[s.index()]).sum()
    }

    /// What passed in a direction (0 out, 1 in) in the last one to two seconds.
    pub(crate) fn made(&self, now_ns: u64, dir: usize) -> Made {
        let mut made = Made::default();
        self.halves(now_ns, dir).for_each(|half| made.plus(half));
        made
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_takes_much_is_found_among_thousands_and_never_counted_too_high() {
        let mut made = Made::default();
        for n in 0..30_000_u16 {
            made.ports.add((UDP, 10_000 + n), 1);
            if n % 4 == 0 {
                made.ports.add((UDP, 80), 2);
            }
        }
        made.packets = 45_000;
        assert_eq!(made.main_ports(UDP), [80]);
        assert!(made.ports.0.len() <= PORTS_MAX && made.ports.0[&(UDP, 80)] <= 15_000);
        assert!(made.main_ports(TCP).is_empty());
    }

    /// Questions and answers of a second, to a service on a port, in flows of their own.
    fn asked(port: u16, questions: u64, question: u64, answer: u64) -> u64 {
        use region::flows::{FlowKey, FlowRecord, Opener};
        let key = |n: u64| FlowKey {
            host: region::HostId(1),
            remote: u128::from(n),
            protocol: UDP,
            local_port: port,
            remote_port: 40_000,
        };
        let mut mix = Mix::default();
        for n in 0..questions {
            let (packets, bytes) = ([1, 1], [answer, question]);
            let record = FlowRecord {
                key: key(n),
                local: 1,
                first: 1,
                last: 1,
                packets,
                bytes,
                opener: Opener::RemoteFirst,
                first_frame_bytes: 60,
                flags: 0,
                began: 0,
            };
            mix.add(5, &Change { worker: 0, record, packets, bytes, began: 0 });
        }
        mix.take_amplified(5)
    }

    #[test]
    fn an_amplifier_answers_far_more_than_it_is_asked() {
        assert_eq!(asked(53, 1_000, 75, 3_000), 1_000, "ANY");
        assert_eq!(asked(123, 1_000, 60, 900), 1_000, "monlist");
        assert_eq!(asked(11_211, 1_000, 60, 1_400), 1_000);
    }

    #[test]
    fn servers_that_answer_as_they_should_are_none() {
        assert_eq!(asked(53, 20_000, 75, 160), 0, "a resolver");
        assert_eq!(asked(53, 20_000, 85, 700), 0, "a signed zone");
        assert_eq!(asked(123, 20_000, 90, 90), 0, "a time server");
        assert_eq!(asked(27_015, 20_000, 80, 500), 0, "a game");
        assert_eq!(asked(4_433, 20_000, 80, 8_000), 0, "no service that reflects");
        assert_eq!(asked(123, 1_000, 10, 200), 0, "many times nothing is little");
    }
}
