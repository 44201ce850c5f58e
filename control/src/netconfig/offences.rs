//! What was done, by case and device, until it is told.

use std::fmt::Write as _;
use std::net::IpAddr;

use super::table::{Key, Table};
use super::{Case, Mac};
use pipeline::segment::Segment;

const CLAIMED: usize = 4;
const EXAMPLES: usize = 4;

/// Why something is an offence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Reason {
    GatewayClaim,
    AssignedToOther,
    CrossClaim,
    Unasked,
    AsksAndClaims,
    TwoDevices,
    AnswersProbes,
    OtherSender,
    ServerFromInside,
    NotListed,
    SecondServer,
    RouterFromInside,
    RouterForged,
    SecondRouter,
    ManyRouters,
    Redirect,
    BridgeFromInside,
    RootTaken,
    ManyRoots,
    Outside,
    Unassigned,
    UnknownDevice,
    GroupSource,
    ImpossibleSource,
    Sweep,
    ArpRate,
    Broadcasts,
    OneTakesMany,
    ForgedClients,
}

impl Reason {
    const ALL: [Reason; 29] = [
        Reason::GatewayClaim,
        Reason::AssignedToOther,
        Reason::CrossClaim,
        Reason::Unasked,
        Reason::AsksAndClaims,
        Reason::TwoDevices,
        Reason::AnswersProbes,
        Reason::OtherSender,
        Reason::ServerFromInside,
        Reason::NotListed,
        Reason::SecondServer,
        Reason::RouterFromInside,
        Reason::RouterForged,
        Reason::SecondRouter,
        Reason::ManyRouters,
        Reason::Redirect,
        Reason::BridgeFromInside,
        Reason::RootTaken,
        Reason::ManyRoots,
        Reason::Outside,
        Reason::Unassigned,
        Reason::UnknownDevice,
        Reason::GroupSource,
        Reason::ImpossibleSource,
        Reason::Sweep,
        Reason::ArpRate,
        Reason::Broadcasts,
        Reason::OneTakesMany,
        Reason::ForgedClients,
    ];

    fn sentence(self) -> &'static str {
        match self {
            Reason::GatewayClaim => "It claims the address of a gateway.",
            Reason::AssignedToOther => "It uses an address that the inventory gives to another.",
            Reason::CrossClaim => "It tells each of two devices that it is the other one.",
            Reason::Unasked => "It goes on giving answers about an address that nobody asked it for.",
            Reason::AsksAndClaims => "It claims an address and asks for the same address itself.",
            Reason::TwoDevices => "The address is held by two devices at once.",
            Reason::AnswersProbes => "It answers whenever others probe whether an address is free.",
            Reason::OtherSender => {
                "Its claims name a hardware address other than the one they are sent from."
            }
            Reason::ServerFromInside => "A server answers DHCP.",
            Reason::NotListed => "It is not on the list of those who may.",
            Reason::SecondServer => "A second DHCP server gives other routers or resolvers than the first.",
            Reason::RouterFromInside => "A server advertises itself as a router.",
            Reason::RouterForged => "It advertises under the address of another device.",
            Reason::SecondRouter => "A second router advertises other prefixes, or itself as the better one.",
            Reason::ManyRouters => "A flood of routers that advertise themselves.",
            Reason::Redirect => "A server redirects others to another router.",
            Reason::BridgeFromInside => "A server speaks spanning tree.",
            Reason::RootTaken => "It takes over the root of the spanning tree.",
            Reason::ManyRoots => "A flood of bridges that claim to be the root of the spanning tree.",
            Reason::Outside => "It sends from an address outside every internal prefix.",
            Reason::Unassigned => "It sends from an address that is assigned to nobody.",
            Reason::UnknownDevice => "The inventory does not know this device.",
            Reason::GroupSource => "It sends from a group address.",
            Reason::ImpossibleSource => "It sends from an address that cannot be a source.",
            Reason::Sweep => "It asks for very many addresses of the segment.",
            Reason::ArpRate => "It floods the segment with ARP.",
            Reason::Broadcasts => "It floods the segment with broadcasts.",
            Reason::OneTakesMany => "One device asks DHCP for the addresses of many.",
            Reason::ForgedClients => {
                "Clients of DHCP appear that do nothing but take addresses; their MAC addresses are made up."
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OffenceKey {
    pub(super) case: Case,
    pub(super) segment: Segment,
    pub(super) mac: Mac,
}

impl Key for OffenceKey {
    fn parts(&self) -> (u128, u128) {
        (u128::from(self.mac.number()) << 64 | u128::from(self.segment), self.case as u128)
    }
}

/// One observation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Note {
    pub(super) reason: Reason,
    pub(super) at_ns: u64,
    pub(super) frames: u64,
    pub(super) claimed: Option<IpAddr>,
    pub(super) victim: Option<Mac>,
    /// By what the operator told us, rather than by what traffic suggests.
    pub(super) certain: bool,
}

impl Note {
    pub(super) fn new(reason: Reason, at_ns: u64) -> Note {
        Note { reason, at_ns, frames: 1, claimed: None, victim: None, certain: false }
    }
}

#[derive(Clone, Debug, Default)]
pub(super) struct Offence {
    pub(super) first_ns: u64,
    pub(super) last_ns: u64,
    pub(super) count: u64,
    pub(super) certain: u64,
    pub(super) certain_first_ns: u64,
    pub(super) certain_last_ns: u64,
    pub(super) claimed: [Option<IpAddr>; CLAIMED],
    claims_more: bool,
    pub(super) victim: Option<Mac>,
    reasons: u32,
    examples_ns: [u64; EXAMPLES],
    examples: usize,
    /// It has been told.
    pub(super) is_told: bool,
    /// It is told under the name of another.
    pub(super) is_folded: bool,
}

impl Offence {
    fn add(&mut self, n: &Note) {
        if self.count == 0 {
            self.first_ns = n.at_ns;
        }
        self.first_ns = self.first_ns.min(n.at_ns);
        self.last_ns = self.last_ns.max(n.at_ns);
        self.count += n.frames;
        if n.certain {
            if self.certain == 0 {
                self.certain_first_ns = n.at_ns;
            }
            self.certain += n.frames;
            self.certain_last_ns = n.at_ns;
        }
        self.victim = self.victim.or(n.victim);
        self.reasons |= 1 << n.reason as u32;
        if let Some(a) = n.claimed
            && !self.claimed.contains(&Some(a))
        {
            match self.claimed.iter_mut().find(|c| c.is_none()) {
                Some(free) => *free = Some(a),
                None => self.claims_more = true,
            }
        }
        if self.examples < EXAMPLES {
            self.examples_ns[self.examples] = n.at_ns;
            self.examples += 1;
        }
    }

    pub(super) fn has(&self, r: Reason) -> bool {
        self.reasons & 1 << r as u32 != 0
    }

    /// The addresses that were claimed, if these are all and there are any.
    pub(super) fn addresses(&self) -> Option<impl Iterator<Item = IpAddr> + '_> {
        let is_whole = !self.claims_more && self.claimed[0].is_some();
        is_whole.then(|| self.claimed.iter().flatten().copied())
    }

    pub(super) fn examples_ns(&self) -> &[u64] {
        &self.examples_ns[..self.examples]
    }

    pub(super) fn text(&self, key: &OffenceKey) -> String {
        let mut text = format!("{} ({}):", key.mac, key.case.name());
        for r in Reason::ALL.into_iter().filter(|r| self.has(*r)) {
            let _ = write!(text, " {}", r.sentence());
        }
        let addresses: Vec<String> = self.claimed.iter().flatten().map(IpAddr::to_string).collect();
        if !addresses.is_empty() {
            let more = if self.claims_more { " and more" } else { "" };
            let _ = write!(text, " Addresses: {}{more}.", addresses.join(", "));
        }
        if let Some(v) = self.victim {
            let _ = write!(text, " Of: {v}.");
        }
        if key.segment != 0 {
            let _ = write!(text, " VLAN {}.", key.segment & 0xfff);
        }
        let _ = write!(text, " Frames: {}.", self.count);
        text
    }
}

pub(super) struct Offences(pub(super) Table<OffenceKey, Offence>);

impl Offences {
    pub(super) fn new(capacity: usize, hash_key: [u64; 2]) -> Offences {
        Offences(Table::new(capacity, hash_key))
    }

    pub(super) fn add(&mut self, case: Case, segment: Segment, mac: Mac, note: &Note) {
        if let Some(o) = self.0.entry(OffenceKey { case, segment, mac }, note.at_ns) {
            o.add(note);
        }
    }
}
