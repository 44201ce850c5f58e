//! DHCP: who answers (RFC 2131, RFC 8415), and who takes addresses for nobody.

use std::net::{IpAddr, Ipv4Addr};

use super::offences::{Note, Offences, Reason};
use super::stations::{StationKey, Stations};
use super::table::{Key, Table};
use super::{Case, Env, Mac, Side, env};
use pipeline::segment::{Dhcp, Segment};

const DISCOVER: u8 = 1;
const REQUEST: u8 = 3;
const ACK: u8 = 5;
const SECOND_NS: u64 = 1_000_000_000;
/// A client that asks again waits four seconds (RFC 2131 section 4.1): by then its first servers have spoken, and it has
/// used its address.
const SETTLED_NS: u64 = 5 * SECOND_NS;
const CLIENTS_NS: u64 = 60 * SECOND_NS;
/// Made-up clients that come later than this are another story.
const SAME_NS: u64 = 900 * SECOND_NS;
const CLIENTS_MAX: usize = 512;
const SERVERS_MAX: usize = 64;
/// Clients of one device.
const TAKES_MANY: usize = 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ServerKey(Segment, Mac, bool);

impl Key for ServerKey {
    fn parts(&self) -> (u128, u128) {
        (u128::from(self.1.number()) << 64 | u128::from(self.0), u128::from(self.2))
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Server {
    side: Option<Side>,
    first_ns: u64,
    last_ns: u64,
    fresh: u64,
    acks: u64,
    id: Option<IpAddr>,
    router: Option<Ipv4Addr>,
    resolver: Option<Ipv4Addr>,
    has_options: bool,
}

/// A client that was heard of for the first time.
#[derive(Clone, Copy, Debug)]
struct Client {
    segment: Segment,
    at_ns: u64,
    client: Mac,
    sender: Mac,
    relayed: bool,
    /// It took what it was offered.
    requested: bool,
}

pub(super) struct Servers {
    servers: Table<ServerKey, Server>,
    clients: Vec<Client>,
    /// There are clients to judge.
    pending: bool,
    more: u64,
    /// The made-up client under whose name the others are told.
    forged: Option<(Mac, u64)>,
}

impl Servers {
    pub(super) fn new(hash_key: [u64; 2]) -> Servers {
        Servers {
            servers: Table::new(SERVERS_MAX, hash_key),
            clients: Vec::new(),
            pending: false,
            more: 0,
            forged: None,
        }
    }

    /// A message to a client.
    pub(super) fn answer(
        &mut self,
        segment: Segment,
        side: Side,
        mac: Mac,
        source: Option<IpAddr>,
        d: Option<&Dhcp>,
        now_ns: u64,
    ) {
        let Some(s) = self.servers.entry(ServerKey(segment, mac, d.is_none()), now_ns) else { return };
        if s.side.is_none() {
            s.first_ns = now_ns;
        }
        s.side = Some(side);
        s.last_ns = now_ns;
        s.fresh += 1;
        s.id = d.and_then(|d| d.server).map(IpAddr::from).or(source).or(s.id);
        if let Some(d) = d {
            s.acks += u64::from(d.kind == ACK);
            s.router = d.router.or(s.router);
            s.resolver = d.resolver.or(s.resolver);
            s.has_options |= d.server.is_some();
        }
    }

    /// A message of a client.
    pub(super) fn ask(&mut self, segment: Segment, side: Side, sender: Mac, d: &Dhcp, now_ns: u64) {
        if side == Side::Outside || !matches!(d.kind, DISCOVER | REQUEST) {
            return;
        }
        let requested = d.kind == REQUEST;
        if let Some(c) = self.clients.iter_mut().find(|c| c.segment == segment && c.client == d.client) {
            c.requested |= requested;
            return;
        }
        self.clients.retain(|c| now_ns.saturating_sub(c.at_ns) <= CLIENTS_NS);
        if self.clients.len() >= CLIENTS_MAX {
            // Those that are here are more than enough to judge by.
            self.more += 1;
            return;
        }
        let relayed = !d.relay.is_unspecified();
        self.clients.push(Client { segment, at_ns: now_ns, client: d.client, sender, relayed, requested });
        self.pending = true;
    }

    pub(super) fn judge(&mut self, now_ns: u64, env: &Env, stations: &Stations, offences: &mut Offences) {
        self.judge_servers(now_ns, env, stations, offences);
        if self.pending {
            self.judge_clients(now_ns, env, stations, offences);
        }
    }

    fn judge_servers(&mut self, now_ns: u64, env: &Env, stations: &Stations, offences: &mut Offences) {
        // On a mirror: of two servers that give different answers, the one that was established later.
        let all: Vec<(ServerKey, Server)> = self.servers.iter().map(|(k, s)| (*k, *s)).collect();
        let second = |key: &ServerKey, s: &Server| {
            let settled = now_ns.saturating_sub(s.first_ns) >= SETTLED_NS;
            let rank = |k: &ServerKey, s: &Server| {
                let relay = stations.get(&StationKey(k.0, k.1)).is_some_and(|st| st.is_relay());
                (!relay, s.acks == 0, s.first_ns, k.1)
            };
            settled
                && all.iter().any(|(k, o)| {
                    (k.0, k.2) == (key.0, key.2)
                        && k.1 != key.1
                        && o.id != s.id
                        && o.has_options
                        && s.has_options
                        && (o.router, o.resolver) != (s.router, s.resolver)
                        && rank(k, o) < rank(key, s)
                })
        };
        let mut waiting = Vec::new();
        self.servers.take_touched(usize::MAX, |key, s| {
            if s.fresh == 0 {
                return;
            }
            let listed = env::lists(env.dhcp_servers, key.1, s.id);
            let reason = match s.side {
                _ if listed => None,
                Some(Side::Inside) => Some(Reason::ServerFromInside),
                Some(Side::Mirror) if !env.dhcp_servers.is_empty() => Some(Reason::NotListed),
                Some(Side::Mirror) if second(key, s) => Some(Reason::SecondServer),
                Some(Side::Mirror) => {
                    // It may have to be judged again when others have spoken.
                    if now_ns.saturating_sub(s.last_ns) < 2 * SETTLED_NS {
                        waiting.push(*key);
                    } else {
                        s.fresh = 0;
                    }
                    return;
                }
                _ => None,
            };
            if let Some(reason) = reason {
                let n = Note {
                    frames: s.fresh,
                    claimed: s.id,
                    certain: reason != Reason::SecondServer,
                    ..Note::new(reason, s.last_ns)
                };
                offences.add(Case::RogueDhcp, key.0, key.1, &n);
            }
            s.fresh = 0;
        });
        for key in waiting {
            let last_ns = self.servers.get(&key).map_or(now_ns, |s| s.last_ns);
            self.servers.entry(key, last_ns);
        }
    }

    /// Clients that have done nothing but DHCP, five seconds after their first message. A rack that comes back from a
    /// power cut asks at once, too, but its cards come from a few makers, and its servers go on to use their addresses.
    fn judge_clients(&mut self, now_ns: u64, env: &Env, stations: &Stations, offences: &mut Offences) {
        self.clients.retain(|c| now_ns.saturating_sub(c.at_ns) <= CLIENTS_NS);
        let settled = self.clients.iter().filter(|c| now_ns.saturating_sub(c.at_ns) >= SETTLED_NS);
        let speaks = |c: &Client, mac: Mac| {
            stations.get(&StationKey(c.segment, mac)).is_some_and(|s| s.beyond_dhcp > 0)
        };
        let idle: Vec<&Client> = settled
            .filter(|c| {
                !c.relayed
                    && !speaks(c, c.client)
                    && env.inventory.is_none_or(|i| i.of_mac(c.client.0).is_none())
            })
            .collect();
        self.pending = self.clients.iter().any(|c| now_ns.saturating_sub(c.at_ns) < SETTLED_NS);
        let mut senders: Vec<Mac> = idle.iter().filter(|c| c.sender != c.client).map(|c| c.sender).collect();
        senders.sort_unstable();
        let mut found = Vec::new();
        for many in senders.chunk_by(|a, b| a == b).filter(|g| g.len() >= TAKES_MANY) {
            if let Some(c) = idle.iter().find(|c| c.sender == many[0]) {
                found.push((Reason::OneTakesMany, c.segment, many[0], many.len(), c.at_ns));
            }
        }
        // No card has a group address: tools that roll dice make every second one so. Where they do not, clients of as
        // many makers as there are clients, none of which takes what it is offered, are as improbable.
        let silent: Vec<&&Client> = idle.iter().filter(|c| !speaks(c, c.sender)).collect();
        let enough = env.limits.dhcp_clients;
        let made_up: Vec<&&Client> =
            if silent.iter().filter(|c| c.sender.is_group()).count() * 10 >= silent.len() {
                silent
            } else {
                silent.into_iter().filter(|c| !c.requested).collect()
            };
        let has_groups = made_up.iter().any(|c| c.sender.is_group());
        let mut makers: Vec<&[u8]> = made_up.iter().map(|c| &c.sender.0[..3]).collect();
        makers.sort_unstable();
        makers.dedup();
        if made_up.len() >= if has_groups { enough } else { 2 * enough } && makers.len() * 2 >= made_up.len()
        {
            let first = made_up[0];
            let same = self.forged.filter(|(_, at)| now_ns.saturating_sub(*at) < SAME_NS);
            let mac = same.map_or(first.sender, |f| f.0);
            self.forged = Some((mac, now_ns));
            found.push((Reason::ForgedClients, first.segment, mac, made_up.len(), first.at_ns));
        }
        for (reason, segment, mac, n, at_ns) in found {
            let frames = n as u64 + std::mem::take(&mut self.more);
            let note = Note { frames, certain: reason == Reason::OneTakesMany, ..Note::new(reason, at_ns) };
            offences.add(Case::DhcpStarvation, segment, mac, &note);
            // Told; what follows is counted afresh.
            self.clients.retain(|c| now_ns.saturating_sub(c.at_ns) < SETTLED_NS);
        }
    }
}
