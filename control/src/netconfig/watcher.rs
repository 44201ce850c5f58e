//! What is seen, frame by frame.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;

use super::bridges::Bridges;
use super::claims::{CLAIMS_OF_ONE, ClaimKey, Claims, Kind, Said};
use super::dhcp::Servers;
use super::offences::{Note, Offences, Reason};
use super::routers::{Routers, forged};
use super::stations::{StationKey, Stations};
use super::table::Table;
use super::{Env, Finding, Mac, Side, claims, judge};
use pipeline::segment::{Arp, Frame, Nd, What};

/// Devices. A device is a few hundred bytes, and a kilobyte more while it sweeps.
const STATIONS: usize = 8_192;
/// Claims of devices on addresses.
const CLAIMS: usize = 32_768;
/// Addresses with their holders.
const ADDRESSES: usize = 32_768;
/// Offences that go on.
const OFFENCES: usize = 1_024;
/// Cisco's spanning tree for each VLAN.
const PVST: Mac = Mac([0x01, 0x00, 0x0c, 0xcc, 0xcc, 0xcd]);

/// What was not taken in, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Misses {
    /// Devices that found no place.
    pub stations: u64,
    /// Claims that found no place, or came too many at once.
    pub claims: u64,
    /// Times that ran backwards.
    pub backwards: u64,
}

/// Sees frames and says what is wrong. It takes 16 MB, and 6 more when every device sweeps, whatever it is given.
pub struct Watcher {
    pub(super) hash_key: [u64; 2],
    pub(super) now_ns: u64,
    pub(super) stations: Stations,
    pub(super) claims: Claims,
    pub(super) servers: Servers,
    pub(super) routers: Routers,
    pub(super) bridges: Bridges,
    pub(super) offences: Offences,
    pub(super) told: judge::Told,
    backwards: u64,
}

impl Watcher {
    /// A watcher under an installation's secret.
    pub fn new(hash_key: [u64; 2]) -> Watcher {
        // A key for each table: who learns about collisions in one learns nothing about the others. By SipHash, so that
        // a weak secret (a replay's) makes no weak keys.
        let number = |n: u64, half: u64| {
            let mut h = DefaultHasher::new();
            (hash_key, n, half).hash(&mut h);
            h.finish()
        };
        let key = |n: u64| [number(n, 0), number(n, 1)];
        Watcher {
            hash_key: key(1),
            now_ns: 0,
            stations: Table::new(STATIONS, key(2)),
            claims: Claims::new(CLAIMS, ADDRESSES, key(3)),
            servers: Servers::new(key(4)),
            routers: Routers::new(key(5)),
            bridges: Bridges::new(key(6)),
            offences: Offences::new(OFFENCES, key(7)),
            told: judge::Told::default(),
            backwards: 0,
        }
    }

    /// A frame of a control protocol, or an ordinary packet of a device and source address that was not seen lately.
    /// Says what the frame is, when it is one. Of DHCP the options have to be among the bytes (some 590): of a message that ends before (shorter than
    /// `wire_len`) only what stands in front counts.
    pub fn see(&mut self, side: Side, now_ns: u64, frame: &[u8], wire_len: u32) -> Option<Frame> {
        let bytes = frame.get(..usize::try_from(wire_len).unwrap_or(usize::MAX)).unwrap_or(frame);
        self.clock(now_ns);
        let f = Frame::parse(bytes)?;
        let is_broadcast = f.destination == Mac::BROADCAST;
        let now_ns = self.now_ns;
        let key = StationKey(f.segment, f.source);
        let is_dhcp = matches!(f.what, What::Dhcp(_) | What::Dhcp6 { .. });
        if let Some(s) = self.stations.entry(key, now_ns) {
            (s.side, s.last_ns) = (Some(side), now_ns);
            s.frames.add(1);
            s.beyond_dhcp += u64::from(!is_dhcp);
            if f.source.is_group() {
                s.group_sources.add(1);
            }
            if is_broadcast {
                s.broadcasts(1, now_ns);
            }
        }
        self.source(side, &f);
        match f.what {
            What::Arp(a) => self.arp(side, &f, &a),
            What::Nd(nd) => self.nd(side, &f, &nd),
            What::Dhcp(d) if d.to_client => {
                let source = f.ip.map(|(s, _)| s);
                self.servers.answer(f.segment, side, f.source, source, Some(&d), now_ns);
                // A lease hands the address over (RFC 2131 section 3.1): what a server on the inside says is not believed.
                if d.kind == 5 && side != Side::Inside && !d.given.is_unspecified() {
                    let to = super::owners::Holder {
                        hw: d.client,
                        sender: d.client,
                        side: Side::Inside,
                        answered: false,
                        last_ns: now_ns,
                    };
                    self.claims.owners.assign(f.segment, claims::number(d.given.into()), to);
                }
            }
            What::Dhcp(d) => self.servers.ask(f.segment, side, f.source, &d, now_ns),
            What::Dhcp6 { .. } if f.what.is_dhcp_answer() => {
                self.servers.answer(f.segment, side, f.source, f.ip.map(|(s, _)| s), None, now_ns);
            }
            What::Bpdu(b) => {
                self.bridges.hear((f.segment, side, now_ns), f.source, f.destination == PVST, &b);
            }
            What::HiddenNd => {
                let nd = Nd {
                    kind: 134,
                    target: std::net::Ipv6Addr::UNSPECIFIED,
                    link: None,
                    router: Default::default(),
                };
                if let (Side::Inside, Some((IpAddr::V6(source), _))) = (side, f.ip) {
                    self.routers.hear((f.segment, side, now_ns), f.source, source, &nd, None);
                }
            }
            What::Dhcp6 { .. } | What::Other => {}
        }
        Some(f)
    }

    /// Broadcast frames that the dataplane counted for a device beside those it handed over.
    pub fn broadcasts(&mut self, side: Side, now_ns: u64, mac: Mac, frames: u64) {
        self.clock(now_ns);
        let now_ns = self.now_ns;
        if let Some(s) = self.stations.entry(StationKey(0, mac), now_ns) {
            (s.side, s.last_ns) = (Some(side), now_ns);
            s.broadcasts(frames, now_ns);
        }
    }

    /// Frames were lost on the way here: for some seconds no answer counts as one that nobody asked for.
    pub fn missed(&mut self, now_ns: u64) {
        self.clock(now_ns);
        self.claims.asks.missed(self.now_ns);
    }

    /// What is wrong, at a tick. A finding comes again when it went on since the last tick.
    pub fn judge(&mut self, now_ns: u64, env: &Env) -> Vec<Finding> {
        self.clock(now_ns);
        judge::judge(self, env)
    }

    /// What was not taken in.
    pub fn misses(&self) -> Misses {
        Misses {
            stations: self.stations.refused(),
            claims: self.claims.table.refused() + self.claims.unjudged,
            backwards: self.backwards,
        }
    }

    fn clock(&mut self, now_ns: u64) {
        self.backwards += u64::from(now_ns < self.now_ns);
        self.now_ns = self.now_ns.max(now_ns);
    }

    /// The source address of a packet.
    fn source(&mut self, side: Side, f: &Frame) {
        let Some((source, destination)) = f.ip else { return };
        if side == Side::Outside || f.source.is_group() {
            return;
        }
        let now_ns = self.now_ns;
        let Some(s) = self.stations.entry(StationKey(f.segment, f.source), now_ns) else { return };
        // Recordings are often anonymised, and any address may come out as a group's; their frames go to one device all
        // the same.
        let is_made_up = side == Side::Mirror && source.is_ipv4() && !f.destination.is_group();
        if is_impossible(source, destination) && !f.source.is_zero() && !is_made_up {
            s.impossible_sources.add(1);
            s.impossible = Some(source);
            return;
        }
        if !is_host(source) {
            return;
        }
        s.source = s.source.or(Some(source));
        if side == Side::Mirror {
            s.relays(claims::number(source), self.hash_key);
        }
        let has_room = s.origins < CLAIMS_OF_ONE;
        // What neighbour discovery says about addresses is a claim, and no packet.
        if matches!(f.what, What::Nd(_)) {
            return;
        }
        // On a mirror packets of the whole internet pass, and nobody can say whose address is wrong: see `judge`.
        let key = ClaimKey { segment: f.segment, mac: f.source, address: source };
        if self.claims.packet(key, side, now_ns, has_room)
            && let Some(s) = self.stations.entry(StationKey(f.segment, f.source), now_ns)
        {
            s.origins += 1;
        }
    }

    fn arp(&mut self, side: Side, f: &Frame, a: &Arp) {
        let (sender_ip, target_ip) = (IpAddr::V4(a.sender_ip), IpAddr::V4(a.target_ip));
        let is_probe = a.sender_ip.is_unspecified();
        let is_announcement = a.sender_ip == a.target_ip;
        if !a.is_reply || is_announcement {
            let (now_ns, key) = (self.now_ns, self.hash_key);
            if let Some(s) = self.stations.entry(StationKey(f.segment, f.source), now_ns) {
                s.asks(claims::number(target_ip), key, now_ns);
            }
        }
        if !a.is_reply && !is_announcement {
            let asker = (!is_probe).then_some(sender_ip);
            self.claims.question(f.segment, f.source, asker, target_ip, self.now_ns, &mut self.offences);
        }
        if is_probe || a.sender_ip.is_multicast() || a.sender_ip.is_broadcast() {
            return;
        }
        let kind = match a.is_reply {
            _ if is_announcement => Kind::Announce,
            false => Kind::Request,
            true if f.destination.is_group() => Kind::Announce,
            true if a.target_ip.is_unspecified() => Kind::Reply(None),
            true => Kind::Reply(Some(target_ip)),
        };
        self.claim(side, f, a.sender, sender_ip, kind);
    }

    fn nd(&mut self, side: Side, f: &Frame, nd: &Nd) {
        let Some((IpAddr::V6(source), destination)) = f.ip else { return };
        let at = (f.segment, side, self.now_ns);
        match nd.kind {
            134 | 137 => {
                let victim = forged(f.segment, f.source, source, &self.claims.owners, &self.stations);
                self.routers.hear(at, f.source, source, nd, victim);
                if victim.is_none() && nd.kind == 134 {
                    self.claim(side, f, nd.link.unwrap_or(f.source), source.into(), Kind::Announce);
                }
            }
            135 => {
                let asker = (!source.is_unspecified()).then_some(IpAddr::V6(source));
                let target = IpAddr::V6(nd.target);
                let (now_ns, key) = (self.now_ns, self.hash_key);
                if asker.is_some()
                    && let Some(s) = self.stations.entry(StationKey(f.segment, f.source), now_ns)
                {
                    s.asks(claims::number(target), key, now_ns);
                }
                self.claims.question(f.segment, f.source, asker, target, self.now_ns, &mut self.offences);
                if let (Some(asker), Some(link)) = (asker, nd.link) {
                    self.claim(side, f, link, asker, Kind::Request);
                }
            }
            136 => {
                let kind =
                    if destination.is_multicast() { Kind::Announce } else { Kind::Reply(Some(destination)) };
                self.claim(side, f, nd.link.unwrap_or(f.source), nd.target.into(), kind);
            }
            133 => {
                if let (false, Some(link)) = (source.is_unspecified(), nd.link) {
                    self.claim(side, f, link, source.into(), Kind::Request);
                }
            }
            _ => {}
        }
    }

    fn claim(&mut self, side: Side, f: &Frame, hw: Mac, address: IpAddr, kind: Kind) {
        if !is_host(address) {
            return;
        }
        let now_ns = self.now_ns;
        let key = StationKey(f.segment, f.source);
        let Some((home, has_room)) = self
            .stations
            .get(&key)
            .map(|s| (s.home[usize::from(address.is_ipv6())], s.claims < CLAIMS_OF_ONE))
        else {
            return;
        };
        let said = Said { segment: f.segment, side, sender: f.source, hw, address, kind, now_ns };
        let (heard, is_new) = self.claims.hear(&said, home, has_room, &mut self.offences);
        let Some(s) = self.stations.entry(key, now_ns) else { return };
        s.claims += u32::from(is_new);
        if heard.openly {
            s.heard_with(address);
        }
        let answers = heard.answered_probe && side != Side::Outside && !f.source.is_shared();
        if answers && s.answers_probe(address, now_ns) {
            let n = Note { claimed: Some(address), ..Note::new(Reason::AnswersProbes, now_ns) };
            self.offences.add(claims::spoof(address), f.segment, f.source, &n);
        }
    }
}

/// An address that a host may have.
fn is_host(a: IpAddr) -> bool {
    match a {
        IpAddr::V4(a) => !a.is_unspecified() && !a.is_multicast() && !a.is_broadcast() && !a.is_loopback(),
        IpAddr::V6(a) => !a.is_unspecified() && !a.is_multicast() && !a.is_loopback(),
    }
}

/// What can never be a source: groups (RFC 1112 section 7.2, RFC 4291 section 2.7), broadcast and loopback (RFC 1122
/// section 3.2.1.3, RFC 4291 section 2.5.3). "No address yet" (0.0.0.0, ::) is one only towards a single host: clients
/// of DHCP, IGMP and MLD, and probes send to groups and to everybody. Class E (240.0.0.0/4) is in use inside clouds.
fn is_impossible(source: IpAddr, destination: IpAddr) -> bool {
    match (source, destination) {
        (IpAddr::V4(s), IpAddr::V4(d)) => {
            let towards_one = !d.is_multicast() && !d.is_broadcast();
            s.is_multicast() || s.is_loopback() || s.is_broadcast() || (s.is_unspecified() && towards_one)
        }
        (IpAddr::V6(s), IpAddr::V6(d)) => {
            s.is_multicast() || s.is_loopback() || (s.is_unspecified() && !d.is_multicast())
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_takes_what_the_documentation_says() {
        let w = Watcher::new([1, 2]);
        let sweeps = STATIONS * super::super::stations::SWEEP_BYTES;
        let large = w.stations.bytes() + w.claims.table.bytes() + w.claims.owners.0.bytes();
        let all = large + w.claims.asks.bytes() + w.offences.0.bytes() + sweeps;
        assert!(
            (20 << 20..23 << 20).contains(&all),
            "{all} bytes, {sweeps} of them when every device sweeps"
        );
    }
}
