//! Two workers, and what comes back enters on another one than what was asked: the real packet path and the real core, on a clock
//! of their own.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails here")]

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use api::{Action, IncidentRow};
use config::Config;
use cordond::control::{Control, Use};
use cordond::effect::{Loaded, Now};
use pipeline::{Frame, Mode, Pipeline};
use region::{Capacities, Facts, HostId, Policy, Side, Verdict};

const TICK_NS: u64 = 100_000_000;
const BEGIN_NS: u64 = 1_000_000_000_000;
const UNIX_NS: i128 = 1_790_000_000_000_000_000;
const KEY: [u64; 2] = [0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210];
const TCP: u8 = 6;
const UDP: u8 = 17;
const SYN: u8 = 0x02;
const SYN_ACK: u8 = 0x12;
/// 192.0.2.7, another server beside it, and the first of the internet.
const SERVER: u32 = 0xc000_0207;
const NEIGHBOUR: u32 = 0xc000_0208;
const PEERS: u32 = 0x2d40_0001;
const ANYWHERE: u32 = 0x5000_0000;
/// One failed contact is told of.
const ANY_FAILURE: &str = "[scan]\nnetscan_port = { fast = 1, slow = 1 }\nfailed_percent = 0\n";

/// Which worker sees what leaves servers, and which what comes to them.
#[derive(Clone, Copy, Debug)]
struct Way {
    out: usize,
    back: usize,
}

struct Box2 {
    facts: Arc<Facts>,
    policy: Arc<Policy>,
    control: Control,
    paths: [Pipeline; 2],
    way: Way,
    now_ns: u64,
}

impl Box2 {
    fn new(way: Way, sections: &str) -> Box2 {
        let text = format!(
            "[tables]\nhosts = 256\nipv6_hosts = 16\n[[network]]\nprefix = \"192.0.2.0/24\"\n{sections}"
        );
        let config = Config::parse(&text, "test").unwrap();
        let c = Capacities { workers: 2, hosts_v4: 256, hosts_v6: 16, locks: 1_024 };
        let facts = Arc::new(Facts::anonymous(c).unwrap());
        let policy = Arc::new(Policy::anonymous(c, 64, KEY).unwrap());
        let loaded = Loaded { hash_key: KEY, ..Loaded::default() };
        let now = Now { mono_ns: BEGIN_NS, unix_ns: UNIX_NS };
        let mut control = Control::new(Use::Replay, config, Arc::clone(&policy), loaded, now).unwrap();
        facts.header().tsc_hz.store(1_000_000_000, Relaxed);
        facts.set_clock(BEGIN_NS, BEGIN_NS, 1_790_000_000_000_000_000);
        control.attach(Arc::clone(&facts), now);
        let paths = [0, 1].map(|w| Pipeline::new(w, Mode::Inline, &facts));
        let mut b = Box2 { facts, policy, control, paths, way, now_ns: BEGIN_NS };
        (0..3).for_each(|_| b.tick());
        b
    }

    fn tick(&mut self) {
        self.now_ns += TICK_NS;
        self.poll();
        let unix_ns = UNIX_NS + i128::from(self.now_ns - BEGIN_NS);
        self.control.tick(Now { mono_ns: self.now_ns, unix_ns });
        self.control.take_effects();
        self.poll();
    }

    fn poll(&mut self) {
        self.paths.iter_mut().for_each(|p| p.poll(&self.facts, Some(&self.policy)));
    }

    fn pass(&mut self, side: Side, bytes: &[u8]) {
        let worker = if side == Side::Inside { self.way.out } else { self.way.back };
        let length = u32::try_from(bytes.len()).unwrap();
        let frame = Frame { bytes, length, side, time: self.now_ns, segment: false };
        self.paths[worker].run(&self.facts, Some(&self.policy), &[frame], &mut [Verdict::Forward]);
    }

    /// A datagram or SYN of a server.
    fn ask(&mut self, server: u32, own: u16, remote: u32, protocol: u8, port: u16) {
        self.pass(Side::Inside, &frame(server, own, remote, port, protocol, SYN));
    }

    /// What it is sent: an answer, as far as TCP is concerned.
    fn hear(&mut self, server: u32, own: u16, remote: u32, protocol: u8, port: u16) {
        self.pass(Side::Outside, &frame(remote, port, server, own, protocol, SYN_ACK));
    }

    /// A server whose neighbourhood is in order: answered connections to one service.
    fn ordinary(&mut self, n: u32) {
        for i in 0..2 {
            let own = 20_000 + u16::try_from((n * 2 + i) % 40_000).unwrap();
            self.ask(NEIGHBOUR, own, PEERS - 1, TCP, 443);
            self.hear(NEIGHBOUR, own, PEERS - 1, TCP, 443);
        }
    }

    /// So many packets from anywhere, that nobody asked for.
    fn flood(&mut self, n: u32, packets: u32) {
        for i in n * packets..(n + 1) * packets {
            let from = ANYWHERE + (i.wrapping_mul(0x9e37_79b1) & 0x07ff_ffff);
            self.hear(SERVER, 9, from, UDP, 40_000);
        }
    }

    fn incidents(&self) -> Vec<&IncidentRow> {
        self.control.incidents().rows()
    }
}

fn frame(from: u32, from_port: u16, to: u32, to_port: u16, protocol: u8, flags: u8) -> Vec<u8> {
    let mut f = vec![0; 60];
    f[12..16].copy_from_slice(&[8, 0, 0x45, 0]);
    f[17] = 40;
    f[22..24].copy_from_slice(&[64, protocol]);
    f[26..30].copy_from_slice(&from.to_be_bytes());
    f[30..34].copy_from_slice(&to.to_be_bytes());
    f[34..36].copy_from_slice(&from_port.to_be_bytes());
    f[36..38].copy_from_slice(&to_port.to_be_bytes());
    if protocol == TCP {
        f[46..48].copy_from_slice(&[0x50, flags]);
    } else {
        f[38..40].copy_from_slice(&20_u16.to_be_bytes());
    }
    f
}

fn own_port(n: u32) -> u16 {
    20_000 + u16::try_from(n % 40_000).unwrap()
}

const APART: [Way; 2] = [Way { out: 0, back: 1 }, Way { out: 1, back: 0 }];

/// It asks 8,000 hosts within a minute, so that its questions fit into rows and its answers do not.
#[test]
fn a_busy_server_whose_peers_all_answer_scores_exactly_nothing() {
    for (way, protocol, port) in
        APART.into_iter().flat_map(|w| [(w, UDP, 5_000), (w, TCP, 443), (w, UDP, 53)])
    {
        let mut b = Box2::new(way, ANY_FAILURE);
        for n in 0..400 {
            b.ordinary(n);
            let (before, burst) = (n.saturating_sub(1) * 20..n * 20, n * 20..(n + 1) * 20);
            for i in burst.clone() {
                b.ask(SERVER, own_port(i), PEERS + i, protocol, port);
            }
            // A third of them in the next tick.
            let late = before.filter(|i| i % 3 == 0);
            for i in burst.filter(|i| i % 3 > 0).chain(late) {
                b.hear(SERVER, own_port(i), PEERS + i, protocol, port);
            }
            b.tick();
        }
        let last = 399 * 20..400 * 20;
        last.for_each(|i| b.hear(SERVER, own_port(i), PEERS + i, protocol, port));
        (0..80).for_each(|_| b.tick());
        let told: Vec<_> =
            b.incidents().iter().map(|i| (&i.address, i.kind, i.contacts, i.answered)).collect();
        assert!(told.is_empty(), "{way:?}, protocol {protocol} port {port}: {told:?}");
        let host: HostId = b.control.networks().host_v4(SERVER).unwrap();
        let maps = b.facts.fanout(host, b.policy.epoch());
        assert!(maps.answered.estimate() > 0.0 && maps.unanswered() == 0.0, "{}", maps.unanswered());
        let marks = b.facts.marks(host).unprovoked;
        assert_eq!(marks, 0, "all of it was asked for");
    }
}

/// So many strangers that answers find no row of any kind.
#[test]
fn a_busy_server_is_not_judged_by_answers_that_found_no_room() {
    for way in APART {
        let mut b = Box2::new(way, ANY_FAILURE);
        for n in 0..600 {
            b.ordinary(n);
            b.flood(n, 60);
            for i in n * 10..(n + 1) * 10 {
                b.ask(SERVER, own_port(i), PEERS + i, UDP, 5_000);
                b.hear(SERVER, own_port(i), PEERS + i, UDP, 5_000);
            }
            b.tick();
        }
        let scans: Vec<_> = b.incidents().iter().map(|i| (&i.address, i.kind)).collect();
        assert!(scans.is_empty(), "{way:?}: {scans:?}");
    }
}

/// Nobody answers it, on whichever worker; where both directions come to one worker, a flood hides nothing either.
#[test]
fn a_scanner_is_locked_whichever_worker_would_see_the_answers() {
    let together = Way { out: 1, back: 1 };
    for (way, strangers) in [(APART[0], 0), (APART[1], 0), (together, 0), (together, 60)] {
        let mut b = Box2::new(way, "");
        for n in 0..600 {
            b.ordinary(n);
            b.flood(n, strangers);
            if n >= 300 {
                for i in n * 3..(n + 1) * 3 {
                    b.ask(SERVER, own_port(i), PEERS + i, TCP, 8_443);
                }
            }
            b.tick();
        }
        let all: Vec<_> = b.incidents().iter().map(|i| (i.address.as_deref(), i.kind, i.action)).collect();
        let locked = [(Some("192.0.2.7"), api::Kind::Netscan, Action::Lock)];
        assert_eq!(all, locked, "{way:?} with {strangers} strangers a tick");
    }
}
