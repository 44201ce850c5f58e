//! What is known about devices and claims, held against what the operator has told us.

use std::net::IpAddr;

use super::claims::{Claim, ClaimKey, spoof};
use super::env::{lists, may_use};
use super::offences::{Note, Offence, OffenceKey, Offences, Reason};
use super::stations::{Station, StationKey};
use super::watcher::Watcher;
use super::{Case, Env, FINDINGS_MAX, Finding, Level, Mac, Side};
use pipeline::segment::Segment;

/// Devices of one case that become known within [`MANY_NS`]; more are made-up MAC addresses of one, and told as one.
const MANY: u32 = 32;
const MANY_NS: u64 = 60_000_000_000;

/// How many devices were told of lately, by case.
#[derive(Default)]
pub(super) struct Told {
    cases: [Lately; Case::ALL.len()],
}

#[derive(Clone, Copy, Default)]
struct Lately {
    since_ns: u64,
    devices: u32,
    /// The one under which the others are told.
    first: Option<(Segment, Mac)>,
}

pub(super) fn judge(w: &mut Watcher, env: &Env) -> Vec<Finding> {
    let now_ns = w.now_ns;
    judge_claims(w, env);
    judge_stations(w, env);
    w.servers.judge(now_ns, env, &w.stations, &mut w.offences);
    w.routers.judge(now_ns, env, &w.stations, &mut w.offences);
    w.bridges.judge(env, &mut w.offences);

    let mut found: Vec<Finding> = Vec::new();
    let stations = &w.stations;
    let told = &mut w.told;
    w.offences.0.take_touched(FINDINGS_MAX, |key, o| {
        // What traffic alone suggests is nothing against what the operator has told us.
        if o.count == 0 || (o.certain == 0 && is_cleared(key, o, env)) {
            return;
        }
        let Some(key) = told.fold(key, o, now_ns) else { return };
        let f = finding(&key.0, o, key.1, env, stations.get(&StationKey(key.0.segment, key.0.mac)));
        match found.iter_mut().find(|g| (g.case, g.segment, g.mac) == (f.case, f.segment, f.mac)) {
            Some(same) => {
                same.first_ns = same.first_ns.min(f.first_ns);
                same.last_ns = same.last_ns.max(f.last_ns);
                same.count += f.count;
                same.is_forged |= f.is_forged;
            }
            None => found.push(f),
        }
    });
    found.sort_by_key(|f| (f.first_ns, f.case, f.segment, f.mac));
    found
}

/// A gateway, or a device that the inventory allows every address that it claims.
fn is_cleared(key: &OffenceKey, o: &Offence, env: &Env) -> bool {
    let is_claim = matches!(key.case, Case::ArpSpoof | Case::NdSpoof);
    let may = |a: IpAddr| {
        let i = env.inventory?;
        i.of_address(a).map(|owner| {
            owner.macs.contains(&key.mac.0) || i.of_mac(key.mac.0).is_some() && may_use(i, key.mac, owner)
        })
    };
    let all = || o.addresses().is_some_and(|mut all| all.all(|a| may(a) == Some(true)));
    env.is_gateway_mac(key.mac) || (is_claim && all())
}

impl Told {
    /// Under which device an offence is told, and whether that is one of many that are made up.
    fn fold(&mut self, key: &OffenceKey, o: &mut Offence, now_ns: u64) -> Option<(OffenceKey, bool)> {
        let lately = self.cases.get_mut(key.case as usize)?;
        if !o.is_told {
            if lately.first.is_none() || now_ns.saturating_sub(lately.since_ns) > MANY_NS {
                *lately = Lately { since_ns: now_ns, devices: 0, first: Some((key.segment, key.mac)) };
            }
            lately.devices = lately.devices.saturating_add(1);
            o.is_told = true;
            o.is_folded = lately.devices > MANY;
        }
        let first = lately.first.filter(|_| o.is_folded);
        Some(first.map_or((*key, false), |(segment, mac)| (OffenceKey { segment, mac, ..*key }, true)))
    }
}

fn finding(
    key: &OffenceKey,
    o: &Offence,
    is_one_of_many: bool,
    env: &Env,
    station: Option<&Station>,
) -> Finding {
    let is_forged = is_one_of_many
        || o.has(Reason::ForgedClients)
        || o.has(Reason::ManyRoots)
        || o.has(Reason::ManyRouters)
        || key.mac.is_group();
    let server = env.inventory.and_then(|i| i.of_mac(key.mac.0)).filter(|_| !is_forged);
    let goes_on = o.certain >= env.limits.lock_frames
        && o.certain_last_ns.saturating_sub(o.certain_first_ns) >= env.limits.lock_after_ns;
    let is_trusted = env.is_gateway_mac(key.mac);
    let address = match server.and_then(|s| s.addresses.first()) {
        Some(first) => Some(first.addr()),
        None => station.and_then(|s| s.home[0].or(s.home[1]).or(s.source)),
    };
    let mut text = o.text(key);
    if is_one_of_many {
        text.push_str(" Many devices did so within a minute: their MAC addresses may be made up, and nobody is blamed by them.");
    }
    Finding {
        case: key.case,
        level: if server.is_some() && goes_on && !is_trusted { Level::Lock } else { Level::Warn },
        mac: key.mac,
        is_forged,
        segment: key.segment,
        address,
        server: server.map(|s| s.id.clone()),
        claimed: o.claimed[0],
        victim: o.victim,
        first_ns: o.first_ns,
        last_ns: o.last_ns,
        count: o.count,
        text,
        examples_ns: o.examples_ns().to_vec(),
    }
}

fn judge_claims(w: &mut Watcher, env: &Env) {
    let offences = &mut w.offences;
    for (key, mut claim) in w.claims.passing.drain(..) {
        judge_claim(&key, &mut claim, env, offences);
    }
    w.claims.table.take_touched(usize::MAX, |key, claim| judge_claim(key, claim, env, offences));
}

/// A claim of a device on an address, or packets from it.
fn judge_claim(key: &ClaimKey, c: &mut Claim, env: &Env, offences: &mut Offences) {
    let (claims, packets) = (std::mem::take(&mut c.fresh_claims), std::mem::take(&mut c.fresh_packets));
    let Some(side) = c.side.filter(|s| *s != Side::Outside) else { return };
    if claims + packets == 0 || env.is_gateway_mac(key.mac) {
        return;
    }
    let note = |reason, frames| Note {
        frames,
        claimed: Some(key.address),
        certain: true,
        ..Note::new(reason, c.last_ns)
    };
    if let Some(g) = env.gateways.iter().find(|g| g.address == key.address) {
        // On a mirror the gateway itself is among those who are seen: only who is not it is to blame.
        let is_other = side == Side::Inside || g.mac.is_some_and(|m| m != key.mac && !key.mac.is_shared());
        if is_other {
            let victim = g.mac;
            let mut add = |case, frames| {
                let n = Note { victim, ..note(Reason::GatewayClaim, frames) };
                offences.add(case, key.segment, key.mac, &n);
            };
            if claims > 0 {
                add(spoof(key.address), claims);
            }
            if packets > 0 {
                add(Case::WrongMac, packets);
            }
        }
        return;
    }
    // Packets that another device forwards (a mirror sees them on both sides of a router) are no claims: there only those
    // of a server that the inventory knows are its own.
    let is_server = env.inventory.is_some_and(|i| i.of_mac(key.mac.0).is_some());
    let is_own = side == Side::Inside || is_server;
    let owner = env.inventory.and_then(|i| i.of_address(key.address));
    if let (Some(i), Some(owner)) = (env.inventory, owner) {
        if !may_use(i, key.mac, owner) && (is_own || claims > 0) && !key.mac.is_shared() {
            let mut add = |case, frames| {
                let victim = owner.macs.first().map(|m| Mac(*m));
                let n = Note { victim, ..note(Reason::AssignedToOther, frames) };
                offences.add(case, key.segment, key.mac, &n);
            };
            if claims > 0 {
                add(spoof(key.address), claims);
            }
            if packets > 0 && is_own {
                add(Case::WrongMac, packets);
            }
        }
        return;
    }
    let is_complete = env.inventory.is_some_and(|i| i.is_complete);
    if !(side == Side::Inside || (is_server && is_complete)) || is_link_local(key.address) {
        return;
    }
    let reason = if !env.internal.is_empty() && !env.is_internal(key.address) {
        Reason::Outside
    } else if is_complete {
        Reason::Unassigned
    } else {
        return;
    };
    c.wrong.add(claims + packets);
    let frames = c.wrong.take(env.limits.wrong_sources);
    if frames > 0 {
        offences.add(Case::UnassignedSource, key.segment, key.mac, &note(reason, frames));
    }
}

fn is_link_local(a: IpAddr) -> bool {
    match a {
        IpAddr::V4(a) => a.is_link_local(),
        IpAddr::V6(a) => a.is_unicast_link_local(),
    }
}

fn judge_stations(w: &mut Watcher, env: &Env) {
    let (now_ns, offences, limits) = (w.now_ns, &mut w.offences, &env.limits);
    w.stations.take_touched(usize::MAX, |key, s| {
        let (sum, fresh) = s.loudness();
        let frames = s.frames.take(limits.wrong_sources);
        let groups = s.group_sources.take(limits.impossible_sources);
        let impossible = s.impossible_sources.take(limits.impossible_sources);
        let StationKey(segment, mac) = *key;
        if s.side == Some(Side::Outside) || env.is_gateway_mac(mac) {
            return;
        }
        let is_inside = s.side == Some(Side::Inside);
        let mut add = |case, note: Note| offences.add(case, segment, mac, &note);
        if groups > 0 && is_inside {
            add(Case::InvalidSource, Note { frames: groups, ..Note::new(Reason::GroupSource, s.last_ns) });
        }
        if impossible > 0 {
            let n = Note {
                frames: impossible,
                claimed: s.impossible,
                ..Note::new(Reason::ImpossibleSource, s.last_ns)
            };
            add(Case::InvalidSource, n);
        }
        if sum >= limits.broadcasts && fresh > 0 {
            add(Case::BroadcastStorm, Note { frames: fresh, ..Note::new(Reason::Broadcasts, now_ns) });
        }
        // A router asks for every address that somebody outside tries.
        let is_router = s.home.iter().flatten().any(|a| env.is_gateway(*a)) || s.is_relay();
        if is_inside || !is_router {
            let a = s.asking();
            let reason = if a.fast >= f64::from(limits.sweep_fast) || a.slow >= f64::from(limits.sweep_slow) {
                Some(Reason::Sweep)
            } else {
                (a.frames >= limits.arp_frames).then_some(Reason::ArpRate)
            };
            if let Some(reason) = reason {
                let n = Note {
                    frames: u64::from(s.take_asked()),
                    claimed: s.home[0],
                    ..Note::new(reason, s.last_ns)
                };
                add(Case::ArpStorm, n);
            }
        }
        let unknown = env.inventory.is_some_and(|i| i.is_complete && i.of_mac(mac.0).is_none());
        // Who routes and switches is no server, and stands on no list of servers.
        let home = s.home.iter().flatten().copied();
        let is_named = [env.dhcp_servers, env.routers]
            .iter()
            .any(|l| lists(l, mac, None) || home.clone().any(|a| lists(l, mac, Some(a))))
            || env.bridges.contains(&mac);
        // On a mirror, who has an internal address and does not forward for others.
        let is_device = || {
            let internal = |a: IpAddr| env.internal.is_empty() || env.is_internal(a);
            !s.is_relay() && s.source.is_none_or(internal) && home.clone().any(internal)
        };
        let is_blamed = unknown && !is_router && !is_named && (is_inside || is_device());
        if is_blamed && frames > 0 && !mac.is_shared() && !mac.is_group() {
            add(
                Case::UnknownMac,
                Note { frames, certain: true, ..Note::new(Reason::UnknownDevice, s.last_ns) },
            );
        }
    });
}
