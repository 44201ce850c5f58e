//! Claims on addresses: "this address is at this hardware address", said by ARP (RFC 826) and neighbour discovery
//! (RFC 4861), and the source addresses of ordinary packets.
//!
//! What an innocent server does, and must not be blamed for: announce its addresses at boot and on fail-over (RFC 5227
//! section 3), probe before using one (source 0.0.0.0 or ::), answer every question, hold many addresses, share a VRRP or
//! HSRP address. What a poisoner does differently is known from his tools' traffic: he answers what nobody asked, again
//! and again, to one device at a time.

use std::net::IpAddr;

use region::Addr;

use super::asks::{Asker, Asks, Reply};
use super::offences::{Note, Offences, Reason};
use super::owners::{Holder, Owners};
use super::table::{Key, Table};
use super::{Case, Mac, Side};
use pipeline::segment::Segment;

/// Claims on addresses that one device may have in the table, and as many sources of packets.
pub(super) const CLAIMS_OF_ONE: u32 = 256;
/// Claims beyond that are kept until the next tick only, and no more than these.
const PASSING_MAX: usize = 256;
/// Answers that nobody asked for before they are an offence: one or two are lost questions.
const UNASKED: u32 = 3;
/// Answers to one asker within a minute that no lost question explains: hosts ask again after 15 to 45 seconds (RFC 4861
/// section 6.3.2; Linux does the same for ARP), poisoners repeat every second or two.
const BURST: u32 = 10;
const BURST_NS: u64 = 60_000_000_000;
/// A poisoner asks for what he claims about when he claims it: his tool looks for its victim.
const ASKS_AND_CLAIMS_NS: u64 = 60_000_000_000;
/// A probe is answered within a second or two (RFC 5227 section 2.1.1).
const PROBE_NS: u64 = 2_000_000_000;
const TOLD: usize = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ClaimKey {
    pub(super) segment: Segment,
    pub(super) mac: Mac,
    pub(super) address: IpAddr,
}

/// An address in one number.
pub(super) fn number(a: IpAddr) -> u128 {
    Addr::from(a).as_u128()
}

impl Key for ClaimKey {
    fn parts(&self) -> (u128, u128) {
        (number(self.address), u128::from(self.mac.number()) | u128::from(self.segment & 0xffff) << 48)
    }
}

/// What a device said about an address.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    /// It asks for another under this address.
    Request,
    /// It answers one device (`None`: one that probes).
    Reply(Option<IpAddr>),
    /// It tells everybody.
    Announce,
}

/// A claim.
#[derive(Clone, Copy, Debug)]
pub(super) struct Said {
    pub(super) segment: Segment,
    pub(super) side: Side,
    pub(super) sender: Mac,
    pub(super) hw: Mac,
    pub(super) address: IpAddr,
    pub(super) kind: Kind,
    pub(super) now_ns: u64,
}

/// What is known about the claims of one device on one address.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Claim {
    pub(super) side: Option<Side>,
    pub(super) last_ns: u64,
    /// Claims, and packets with this source, since the last tick.
    pub(super) fresh_claims: u64,
    pub(super) fresh_packets: u64,
    /// Claims and packets that are nobody's, for the limit.
    pub(super) wrong: super::stations::Fresh,
    asked: u32,
    announced: u32,
    unasked: u32,
    unasked_ns: u64,
    other_sender: u32,
    burst: u32,
    burst_to: Option<IpAddr>,
    burst_ns: u64,
    told: [Option<IpAddr>; TOLD],
    told_next: usize,
}

/// What a claim says about its sender.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Heard {
    /// It answered another's probe.
    pub(super) answered_probe: bool,
    /// It uses the address openly.
    pub(super) openly: bool,
}

pub(super) struct Claims {
    pub(super) table: Table<ClaimKey, Claim>,
    /// Claims of devices that have too many, until the next tick.
    pub(super) passing: Vec<(ClaimKey, Claim)>,
    pub(super) unjudged: u64,
    pub(super) asks: Asks,
    pub(super) owners: Owners,
}

impl Claims {
    pub(super) fn new(claims: usize, addresses: usize, hash_key: [u64; 2]) -> Claims {
        Claims {
            table: Table::new(claims, hash_key),
            passing: Vec::new(),
            unjudged: 0,
            asks: Asks::new(hash_key),
            owners: Owners::new(addresses, hash_key),
        }
    }

    /// A packet from `address`. `true` when the address is new for this device.
    pub(super) fn packet(&mut self, key: ClaimKey, side: Side, now_ns: u64, has_room: bool) -> bool {
        let is_new = self.table.get(&key).is_none();
        let c = Claim { side: Some(side), last_ns: now_ns, fresh_packets: 1, ..Claim::default() };
        if is_new && !has_room {
            self.pass(key, c);
            return false;
        }
        if let Some(known) = self.table.entry(key, now_ns) {
            (known.side, known.last_ns) = (c.side, now_ns);
            known.fresh_packets += 1;
        }
        is_new
    }

    fn pass(&mut self, key: ClaimKey, claim: Claim) {
        if self.passing.len() < PASSING_MAX {
            self.passing.push((key, claim));
        } else {
            self.unjudged += 1;
        }
    }

    /// A question: who has `target`? From `asker`, or from somebody who probes.
    pub(super) fn question(
        &mut self,
        segment: Segment,
        mac: Mac,
        asker: Option<IpAddr>,
        target: IpAddr,
        now_ns: u64,
        offences: &mut Offences,
    ) {
        let t = number(target);
        let Some(asker) = asker else {
            self.asks.note(segment, Asker::Probe, t, mac, now_ns);
            return;
        };
        self.asks.note(segment, Asker::Address(number(asker)), t, mac, now_ns);
        self.asks.note(segment, Asker::Device(mac), t, mac, now_ns);
        let own = self.table.get(&ClaimKey { segment, mac, address: target });
        let claimed =
            own.is_some_and(|c| c.unasked > 0 && now_ns.saturating_sub(c.unasked_ns) <= ASKS_AND_CLAIMS_NS);
        if claimed && !mac.is_shared() {
            let n = Note {
                claimed: Some(target),
                victim: self.victim(segment, target, mac),
                ..Note::new(Reason::AsksAndClaims, now_ns)
            };
            offences.add(spoof(target), segment, mac, &n);
        }
    }

    /// Who held an address before, if it was not `mac`.
    fn victim(&self, segment: Segment, address: IpAddr, mac: Mac) -> Option<Mac> {
        self.owners.holder(segment, number(address)).map(|h| h.hw).filter(|h| *h != mac)
    }

    /// A claim. `home`: the address under which its sender is known; `has_room`: whether one more may be kept.
    pub(super) fn hear(
        &mut self,
        s: &Said,
        home: Option<IpAddr>,
        has_room: bool,
        offences: &mut Offences,
    ) -> (Heard, bool) {
        let key = ClaimKey { segment: s.segment, mac: s.sender, address: s.address };
        let target = number(s.address);
        let reply = match s.kind {
            Kind::Reply(to) => {
                let asker = to.map_or(Asker::Probe, |a| Asker::Address(number(a)));
                Some(self.asks.reply(s.segment, asker, target, s.sender, s.now_ns))
            }
            Kind::Request | Kind::Announce => None,
        };
        let probe = match s.kind {
            Kind::Request => None,
            _ => self.asks.asked(s.segment, Asker::Probe, target, s.now_ns, PROBE_NS),
        };
        let by = Holder {
            hw: s.hw,
            sender: s.sender,
            side: s.side,
            answered: reply == Some(Reply::Asked),
            last_ns: s.now_ns,
        };
        let conflict = self.owners.claim(s.segment, target, by);
        let heard = Heard {
            answered_probe: probe.is_some_and(|m| m != s.sender),
            openly: matches!(s.kind, Kind::Request) || reply == Some(Reply::Asked),
        };

        let known = self.table.get(&key).copied();
        let is_new = known.is_none();
        let mut claim = known.unwrap_or_default();
        (claim.side, claim.last_ns) = (Some(s.side), s.now_ns);
        claim.fresh_claims += 1;
        match (s.kind, reply) {
            (Kind::Reply(to), Some(Reply::Unasked)) => {
                claim.unasked = claim.unasked.saturating_add(1);
                claim.unasked_ns = s.now_ns;
                if claim.burst == 0 || s.now_ns.saturating_sub(claim.burst_ns) > BURST_NS {
                    (claim.burst, claim.burst_to, claim.burst_ns) = (0, to, s.now_ns);
                }
                claim.burst = claim.burst.saturating_add(u32::from(claim.burst_to == to));
                if to.is_some() && !claim.told.contains(&to) {
                    claim.told[claim.told_next % TOLD] = to;
                    claim.told_next += 1;
                }
            }
            (_, Some(Reply::Asked)) => claim.asked = claim.asked.saturating_add(1),
            (Kind::Announce, _) => claim.announced = claim.announced.saturating_add(1),
            _ => {}
        }
        let is_other = s.hw != s.sender
            && !s.hw.is_shared()
            && !s.sender.is_shared()
            && !s.hw.is_beside(s.sender)
            && !s.hw.is_group();
        if is_other {
            claim.other_sender = claim.other_sender.saturating_add(1);
        }
        if is_new && !has_room {
            self.pass(key, claim);
        } else if let Some(c) = self.table.entry(key, s.now_ns) {
            *c = claim;
        }

        // A frame counts once, for however many reasons.
        let mut frames = 1;
        let mut blame = |mac: Mac, reason, claimed, victim| {
            let n = Note { frames, claimed: Some(claimed), victim, ..Note::new(reason, s.now_ns) };
            frames = 0;
            offences.add(spoof(s.address), s.segment, mac, &n);
        };
        if let Some(c) = conflict {
            blame(c.other.sender, Reason::TwoDevices, s.address, Some(c.owner.hw));
        }
        if s.side != Side::Outside && !s.sender.is_shared() {
            let victim = self.victim(s.segment, s.address, s.sender);
            if is_other && claim.other_sender >= UNASKED {
                blame(s.sender, Reason::OtherSender, s.address, victim);
            }
            if reply == Some(Reply::Unasked) && !s.hw.is_shared() {
                self.unasked(s, &claim, home, victim, &mut blame);
            }
        }
        (heard, is_new && has_room)
    }

    /// An answer that nobody asked for.
    fn unasked(
        &mut self,
        s: &Said,
        claim: &Claim,
        home: Option<IpAddr>,
        victim: Option<Mac>,
        blame: &mut impl FnMut(Mac, Reason, IpAddr, Option<Mac>),
    ) {
        // A tells B that it is C, and C that it is B: nobody else has a use for that.
        for other in claim.told.iter().flatten() {
            let key = ClaimKey { segment: s.segment, mac: s.sender, address: *other };
            let crossed = self.table.get(&key).filter(|c| c.told.contains(&Some(s.address)));
            if crossed.is_some_and(|c| c.unasked + claim.unasked >= UNASKED) {
                blame(s.sender, Reason::CrossClaim, s.address, victim);
                blame(s.sender, Reason::CrossClaim, *other, self.victim(s.segment, *other, s.sender));
            }
        }
        // It goes on, about an address other than its own; where questions are not seen at all, only what no question
        // explains is told.
        let is_habit = claim.unasked >= UNASKED && claim.unasked > 2 * (claim.asked + claim.announced);
        let has_other = home.is_some_and(|h| h != s.address);
        let is_seen = has_other && self.asks.sees_both(s.now_ns);
        if is_habit && (is_seen || claim.burst >= BURST) {
            blame(s.sender, Reason::Unasked, s.address, victim);
        }
        let asked = self.asks.asked(
            s.segment,
            Asker::Device(s.sender),
            number(s.address),
            s.now_ns,
            ASKS_AND_CLAIMS_NS,
        );
        if asked.is_some() {
            blame(s.sender, Reason::AsksAndClaims, s.address, victim);
        }
    }
}

/// The case of a claim on an address.
pub(super) fn spoof(address: IpAddr) -> Case {
    if address.is_ipv6() { Case::NdSpoof } else { Case::ArpSpoof }
}
