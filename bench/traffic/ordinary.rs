//! Ordinary load: conversations in which both sides speak, and packets come one after the other in each.
//!
//! A fixed number of conversations is under way. Whenever a packet is due, a random one of them goes a step on; one
//! that is over is replaced. So the rate is exact, and answers come some tens of milliseconds after questions.

use crate::dns;
use crate::frame::{ACK, FIN, Frame, PSH, RST, SYN, Segment};
use crate::plan::{Path, Plan};
use crate::rng::{Rng, Zipf};

/// Packets a second of one conversation; so many of them are under way that the rate comes out.
const PACE_PPS: u64 = 25;
const CLIENTS: u32 = 65_536;
const SERVICES: u32 = 99;
const ARP_PERCENT: u32 = 2;
const IPV6_PERCENT: u32 = 10;

pub(crate) struct Ordinary<'a> {
    plan: &'a Plan,
    rng: Rng,
    servers: Zipf,
    clients: Zipf,
    services: Zipf,
    under_way: Vec<Conversation>,
    at_ns: u64,
}

struct Conversation {
    path: Path,
    talk: Talk,
}

enum Talk {
    Tcp(Tcp),
    /// SYN to a closed port, RST; `asked` says which comes now.
    Refused {
        port: u16,
        closed: u16,
        seq: u32,
        asked: bool,
    },
    /// A question and its answer.
    Dns {
        from_inside: bool,
        port: u16,
        id: u16,
        asked: bool,
    },
    Quic(Quic),
    /// Echo requests and replies.
    Echo {
        from_inside: bool,
        id: u16,
        seq: u16,
        left: u16,
        reply: bool,
    },
    Arp {
        gateway: u32,
        reply: bool,
    },
}

/// What a TCP connection does next.
enum Next {
    Syn,
    SynAck,
    Established,
    Request,
    Response,
    Acknowledge,
    Close,
    CloseBack,
    LastAck,
}

struct Tcp {
    from_inside: bool,
    client_port: u16,
    service_port: u16,
    /// Next sequence numbers of the client and of the service.
    client_seq: u32,
    service_seq: u32,
    next: Next,
    requests_left: u16,
    segments_left: u16,
    /// Segments that the client has not acknowledged yet.
    unacknowledged: u16,
}

/// Long headers both ways, then data from the server and small packets from the client.
struct Quic {
    port: u16,
    sent: u16,
    packets: u16,
}

impl<'a> Ordinary<'a> {
    pub(crate) fn new(plan: &'a Plan) -> Ordinary<'a> {
        let pps = 1_000_000_000 / plan.gap_ns.max(1);
        let mut load = Ordinary {
            plan,
            rng: Rng::new(plan.seed, 0),
            servers: Zipf::new(plan.hosts),
            clients: Zipf::new(CLIENTS),
            services: Zipf::new(SERVICES),
            under_way: Vec::new(),
            at_ns: 0,
        };
        for _ in 0..(pps / PACE_PPS).clamp(8, 100_000) {
            let c = load.begin();
            load.under_way.push(c);
        }
        load
    }

    /// When the next packet is due, from the start of the capture.
    pub(crate) fn next_ns(&self) -> u64 {
        self.at_ns
    }

    /// Writes it.
    pub(crate) fn write(&mut self, frame: &mut Frame) {
        let count = u32::try_from(self.under_way.len()).unwrap_or(u32::MAX);
        let i = self.rng.below(count) as usize;
        if self.under_way[i].step(frame, &mut self.rng) {
            self.under_way[i] = self.begin();
        }
        // Uniform around the mean: integers, the same everywhere.
        let most = u32::try_from(self.plan.gap_ns * 2).unwrap_or(u32::MAX);
        self.at_ns += u64::from(self.rng.below(most.max(1)));
    }

    fn begin(&mut self) -> Conversation {
        let rng = &mut self.rng;
        let server = self.servers.pick(rng);
        let v6 = rng.percent(IPV6_PERCENT);
        let client = Plan::client(u64::from(self.clients.pick(rng)), v6);
        let service = Plan::service(self.services.pick(rng) + 1, v6);
        let (inwards, outwards) = (self.plan.path(server, v6, client), self.plan.path(server, v6, service));
        if rng.percent(ARP_PERCENT) {
            let gateway = self.plan.gateway_v4(server);
            let path = self.plan.path(server, false, u128::from(gateway));
            return Conversation { path, talk: Talk::Arp { gateway, reply: false } };
        }
        let (path, talk) = match rng.below(98) {
            0..55 => (inwards, Talk::Tcp(Tcp::begin(rng, false))),
            55..63 => (outwards, Talk::Tcp(Tcp::begin(rng, true))),
            63..73 => (outwards, Talk::dns(rng, true)),
            73..81 => (inwards, Talk::dns(rng, false)),
            81..91 => {
                let packets = 6 + rng.between(0, 10) * rng.between(1, 20);
                (inwards, Talk::Quic(Quic { port: rng.ephemeral_port(), sent: 0, packets }))
            }
            n @ 91..96 => {
                let (id, left) = (rng.u16(), rng.between(1, 5));
                let from_inside = n == 95;
                let path = if from_inside { outwards } else { inwards };
                (path, Talk::Echo { from_inside, id, seq: 1, left, reply: false })
            }
            _ => {
                let (port, closed, seq) = (rng.ephemeral_port(), rng.between(1024, 9999), rng.u32());
                (inwards, Talk::Refused { port, closed, seq, asked: false })
            }
        };
        Conversation { path, talk }
    }
}

impl Talk {
    fn dns(rng: &mut Rng, from_inside: bool) -> Talk {
        Talk::Dns { from_inside, port: rng.ephemeral_port(), id: rng.u16(), asked: false }
    }
}

impl Conversation {
    /// Writes the next packet; true when it was the last.
    fn step(&mut self, frame: &mut Frame, rng: &mut Rng) -> bool {
        let path = &self.path;
        match &mut self.talk {
            Talk::Tcp(tcp) => tcp.step(path, frame, rng),
            Talk::Quic(quic) => quic.step(path, frame, rng),
            Talk::Refused { port, closed, seq, asked } => {
                let s = if *asked {
                    let ack = seq.wrapping_add(1);
                    Segment { source: *closed, destination: *port, seq: 0, ack, flags: RST | ACK }
                } else {
                    Segment { source: *port, destination: *closed, seq: *seq, ack: 0, flags: SYN }
                };
                frame.tcp(path, *asked, s, 0);
                std::mem::replace(asked, true)
            }
            Talk::Dns { from_inside, port, id, asked } => {
                let ports = if *asked { (53, *port) } else { (*port, 53) };
                let records = asked.then(|| rng.between(1, dns::RECORDS_MAX));
                frame.udp_message(path, *from_inside != *asked, ports, &dns::message(*id, records));
                std::mem::replace(asked, true)
            }
            Talk::Echo { from_inside, id, seq, left, reply } => {
                frame.echo(path, *from_inside != *reply, !*reply, *id, *seq, 56);
                if *reply {
                    *left -= 1;
                    *seq += 1;
                }
                *reply = !*reply;
                *left == 0
            }
            Talk::Arp { gateway, reply } => {
                frame.arp(path, *gateway, *reply);
                std::mem::replace(reply, true)
            }
        }
    }
}

impl Quic {
    fn step(&mut self, path: &Path, frame: &mut Frame, rng: &mut Rng) -> bool {
        // Initial and Handshake packets are padded to 1200 bytes (RFC 9000 section 14.1).
        let (outwards, payload) = match self.sent {
            0 => (false, 1200),
            1 | 2 => (true, 1200),
            3 => (false, 1200),
            n if n % 4 == 0 => (false, rng.between(30, 60)),
            _ => (true, rng.between(1000, 1350)),
        };
        let ports = if outwards { (443, self.port) } else { (self.port, 443) };
        frame.udp(path, outwards, ports, usize::from(payload));
        self.sent += 1;
        self.sent >= self.packets
    }
}

impl Tcp {
    fn begin(rng: &mut Rng, from_inside: bool) -> Tcp {
        let service_port = match rng.below(100) {
            0..60 => 443,
            60..85 => 80,
            85..90 => 25,
            90..95 => 22,
            _ => 8080,
        };
        Tcp {
            from_inside,
            client_port: rng.ephemeral_port(),
            service_port,
            client_seq: rng.u32(),
            service_seq: rng.u32(),
            next: Next::Syn,
            requests_left: rng.between(1, 3),
            segments_left: 0,
            unacknowledged: 0,
        }
    }

    /// Segments of a response: most are small, few are large, and those are most of the bytes.
    fn response(rng: &mut Rng) -> u16 {
        match rng.below(100) {
            0..80 => rng.between(1, 8),
            80..97 => rng.between(10, 60),
            _ => rng.between(200, 1000),
        }
    }

    fn step(&mut self, path: &Path, frame: &mut Frame, rng: &mut Rng) -> bool {
        let (mut payload, mut done) = (0, false);
        let (by_client, flags, next) = match self.next {
            Next::Syn => (true, SYN, Next::SynAck),
            Next::SynAck => (false, SYN | ACK, Next::Established),
            Next::Established => (true, ACK, Next::Request),
            Next::Request => {
                payload = rng.between(80, 900);
                self.requests_left -= 1;
                self.segments_left = Tcp::response(rng);
                (true, PSH | ACK, Next::Response)
            }
            Next::Response => {
                self.segments_left -= 1;
                self.unacknowledged += 1;
                let last = self.segments_left == 0;
                payload = if last { rng.between(100, 1400) } else { mss(path) };
                let next = if last || self.unacknowledged == 2 { Next::Acknowledge } else { Next::Response };
                (false, if last { PSH | ACK } else { ACK }, next)
            }
            Next::Acknowledge => {
                self.unacknowledged = 0;
                let next = match (self.segments_left, self.requests_left) {
                    (0, 0) => Next::Close,
                    (0, _) => Next::Request,
                    _ => Next::Response,
                };
                (true, ACK, next)
            }
            Next::Close => (false, FIN | ACK, Next::CloseBack),
            Next::CloseBack => (true, FIN | ACK, Next::LastAck),
            Next::LastAck => {
                done = true;
                (false, ACK, Next::LastAck)
            }
        };
        self.next = next;
        let (source, destination, seq, ack) = if by_client {
            (self.client_port, self.service_port, self.client_seq, self.service_seq)
        } else {
            (self.service_port, self.client_port, self.service_seq, self.client_seq)
        };
        let ack = if flags & ACK == 0 { 0 } else { ack };
        let s = Segment { source, destination, seq, ack, flags };
        frame.tcp(path, by_client == self.from_inside, s, usize::from(payload));
        // SYN and FIN take a sequence number each (RFC 9293 section 3.4).
        let taken = u32::from(payload) + u32::from(flags & (SYN | FIN) != 0);
        let own = if by_client { &mut self.client_seq } else { &mut self.service_seq };
        *own = own.wrapping_add(taken);
        done
    }
}

fn mss(path: &Path) -> u16 {
    u16::try_from(Frame::mss(path)).unwrap_or(u16::MAX)
}
