//! Router advertisements and redirects (RFC 4861), as RA guard sees them (RFC 6105, RFC 7113).

use std::net::{IpAddr, Ipv6Addr};

use super::claims::number;
use super::offences::{Note, Offences, Reason};
use super::owners::Owners;
use super::stations::{StationKey, Stations};
use super::table::{Key, Table};
use super::{Case, Env, Mac, Side, env};
use pipeline::segment::{Nd, Router, Segment};

const ROUTERS_MAX: usize = 64;
const SECOND_NS: u64 = 1_000_000_000;
/// Routers answer a solicitation within half a second and advertise thrice at their start (RFC 4861 section 10): after
/// this time those of a segment have spoken, and packets have shown who forwards.
const SETTLED_NS: u64 = 5 * SECOND_NS;
/// New routers within a minute.
const FLOOD: usize = 8;
const FLOOD_NS: u64 = 60 * SECOND_NS;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct RouterKey(Segment, Mac);

impl Key for RouterKey {
    fn parts(&self) -> (u128, u128) {
        (u128::from(self.1.number()) << 64 | u128::from(self.0), 0)
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    side: Option<Side>,
    source: Option<IpAddr>,
    first_ns: u64,
    last_ns: u64,
    fresh: u64,
    redirects: u64,
    says: Router,
    /// Advertisements under somebody else's address, and whose.
    forged: u64,
    victim: Option<Mac>,
}

pub(super) struct Routers(Table<RouterKey, Seen>);

/// The MAC inside an interface identifier (RFC 4291 appendix A).
fn eui64(a: Ipv6Addr) -> Option<Mac> {
    match a.octets() {
        [.., b, c, d, 0xff, 0xfe, e, f, g] => Some(Mac([b ^ 2, c, d, e, f, g])),
        _ => None,
    }
}

/// The device whose address an advertisement bears, when that is not its sender: the address is made of the MAC of
/// another device of this segment, or another device holds it. Virtual routers send from shared addresses.
pub(super) fn forged(
    segment: Segment,
    sender: Mac,
    source: Ipv6Addr,
    owners: &Owners,
    stations: &Stations,
) -> Option<Mac> {
    if sender.is_shared() {
        return None;
    }
    match eui64(source) {
        Some(own) if own == sender => return None,
        Some(other) if stations.get(&StationKey(segment, other)).is_some() => {
            return Some(other).filter(|m| !m.is_beside(sender));
        }
        _ => {}
    }
    let holder = owners.holder(segment, number(source.into()))?.hw;
    (holder != sender && !holder.is_shared() && !holder.is_beside(sender)).then_some(holder)
}

impl Routers {
    pub(super) fn new(hash_key: [u64; 2]) -> Routers {
        Routers(Table::new(ROUTERS_MAX, hash_key))
    }

    /// An advertisement or a redirect.
    pub(super) fn hear(
        &mut self,
        at: (Segment, Side, u64),
        sender: Mac,
        source: Ipv6Addr,
        nd: &Nd,
        victim: Option<Mac>,
    ) {
        let (segment, side, now_ns) = at;
        let Some(r) = self.0.entry(RouterKey(segment, sender), now_ns) else { return };
        if r.side.is_none() {
            r.first_ns = now_ns;
        }
        (r.side, r.source, r.last_ns) = (Some(side), Some(source.into()), now_ns);
        if let Some(v) = victim {
            r.forged += 1;
            r.victim = Some(v);
        }
        if nd.kind == 137 {
            r.redirects += 1;
        } else {
            r.fresh += 1;
            r.says.lifetime = nd.router.lifetime;
            r.says.preference = nd.router.preference;
            r.says.prefix = nd.router.prefix.or(r.says.prefix);
        }
    }

    pub(super) fn judge(&mut self, now_ns: u64, env: &Env, stations: &Stations, offences: &mut Offences) {
        let all: Vec<(RouterKey, Seen)> = self.0.iter().map(|(k, r)| (*k, *r)).collect();
        let listed =
            |key: &RouterKey, r: &Seen| env::lists(env.routers, key.1, r.source) || env.is_gateway_mac(key.1);
        // On a mirror: the router that was established later, if it is not a second one for the same prefixes.
        let second = |key: &RouterKey, r: &Seen| {
            let rank = |k: &RouterKey, r: &Seen| {
                let relay = stations.get(&StationKey(k.0, k.1)).is_some_and(|s| s.is_relay());
                (!relay, r.first_ns, k.1)
            };
            now_ns.saturating_sub(r.first_ns) >= SETTLED_NS
                && !key.1.is_shared()
                && all.iter().any(|(k, o)| {
                    let other_prefix =
                        o.says.prefix.is_some() && r.says.prefix.is_some() && o.says.prefix != r.says.prefix;
                    k.0 == key.0
                        && k.1 != key.1
                        && (other_prefix || r.says.preference > o.says.preference)
                        && rank(k, o) < rank(key, r)
                })
        };
        let fresh = |k: &RouterKey, r: &Seen| {
            r.side == Some(Side::Mirror) && !listed(k, r) && now_ns.saturating_sub(r.first_ns) <= FLOOD_NS
        };
        let flood = all.iter().filter(|(k, r)| fresh(k, r)).min_by_key(|(_, r)| r.first_ns);
        let is_flood = all.iter().filter(|(k, r)| fresh(k, r)).count() >= FLOOD;
        let mut waiting = Vec::new();
        self.0.take_touched(usize::MAX, |key, r| {
            let from_inside = r.side == Some(Side::Inside);
            if r.redirects > 0 {
                if !listed(key, r) && (from_inside || r.forged > 0 && r.side == Some(Side::Mirror)) {
                    let n = Note {
                        frames: r.redirects,
                        claimed: r.source,
                        victim: r.victim,
                        certain: from_inside,
                        ..Note::new(Reason::Redirect, r.last_ns)
                    };
                    offences.add(Case::NdSpoof, key.0, key.1, &n);
                }
                r.redirects = 0;
            }
            if r.fresh == 0 {
                return;
            }
            let reason = match r.side {
                Some(Side::Outside) | None => None,
                _ if r.forged > 0 => Some(Reason::RouterForged),
                _ if listed(key, r) => None,
                Some(Side::Inside) => Some(Reason::RouterFromInside),
                Some(Side::Mirror) if !env.routers.is_empty() => Some(Reason::NotListed),
                Some(Side::Mirror) if is_flood => Some(Reason::ManyRouters),
                Some(Side::Mirror) if second(key, r) => Some(Reason::SecondRouter),
                Some(Side::Mirror) => {
                    if now_ns.saturating_sub(r.last_ns) < 2 * SETTLED_NS {
                        waiting.push(*key);
                        return;
                    }
                    None
                }
            };
            if let Some(reason) = reason {
                let mac = match flood {
                    Some((k, _)) if reason == Reason::ManyRouters => k.1,
                    _ => key.1,
                };
                let n = Note {
                    frames: r.fresh,
                    claimed: r.source,
                    victim: r.victim.filter(|_| reason == Reason::RouterForged),
                    certain: matches!(reason, Reason::RouterFromInside | Reason::NotListed),
                    ..Note::new(reason, r.last_ns)
                };
                offences.add(Case::RogueRa, key.0, mac, &n);
                if from_inside && reason == Reason::RouterForged && !listed(key, r) {
                    let inside =
                        Note { frames: 0, certain: true, ..Note::new(Reason::RouterFromInside, r.last_ns) };
                    offences.add(Case::RogueRa, key.0, mac, &inside);
                }
            }
            r.fresh = 0;
            r.forged = 0;
        });
        for key in waiting {
            let last_ns = self.0.get(&key).map_or(now_ns, |r| r.last_ns);
            self.0.entry(key, last_ns);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mac_inside_an_address_is_found() {
        let mac = |a: &str| eui64(a.parse().expect("an address")).map(|m| m.to_string());
        assert_eq!(mac("fe80::6600:6aff:fe5b:8eb3").as_deref(), Some("64:00:6a:5b:8e:b3"));
        assert_eq!(mac("fe80::1"), None);
    }
}
