//! Remotely triggered blackholes (RFC 5635, RFC 7999): asking the routers upstream to drop what is sent to an address, when an
//! attack on it fills the uplink, or an operator says so. What is decided here is announced by `office::gobgp`.
//!
//! An address is announced only while it is locked inbound: nobody loses anything by it. While it is announced, quiet
//! proves nothing: after a hold the route is withdrawn, and for a while it is looked whether the uplink fills again.

mod control;
pub(crate) use control::Uplink;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use api::{RtbhRow, RtbhState, Time};
use ipnet::IpNet;

use crate::effect::StoreOp;

/// The uplink has to be full for so long.
const FULL_NS: u64 = 3_000_000_000;
/// Routers upstream need some time: until then nothing more is announced by itself.
const SETTLE_NS: u64 = 5_000_000_000;
/// A hold doubles so often at most.
const ROUNDS_MAX: u32 = 16;

/// What is seen of the uplink and of those who are attacked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen<'a> {
    /// What comes from the internet, in bits a second on the wire.
    pub(crate) uplink_bits: u64,
    /// Addresses that are attacked and locked inbound, what they are sent, in bits a second on the wire, and the incident.
    pub(crate) attacked: &'a [(IpAddr, u64, Option<String>)],
    /// What the BGP speaker has, when it was asked after the last change.
    pub(crate) present: Option<&'a BTreeSet<IpAddr>>,
}

/// What is announced, or was until lately.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rtbh {
    rows: BTreeMap<IpAddr, RtbhRow>,
    /// Since when the uplink is full, monotonic.
    full_since: Option<u64>,
    /// When something was last announced, monotonic.
    announced_ns: Option<u64>,
    /// Something more would be announced by itself, but for `announced_max`.
    pub(crate) is_at_its_limit: bool,
}

impl Rtbh {
    /// With the rows of the store.
    pub(crate) fn restore(rows: Vec<RtbhRow>) -> Rtbh {
        Rtbh { rows: rows.into_iter().map(|r| (r.address, r)).collect(), ..Rtbh::default() }
    }

    /// All rows, in order of address.
    pub(crate) fn rows(&self) -> impl Iterator<Item = &RtbhRow> {
        self.rows.values()
    }

    /// The row of an address.
    pub(crate) fn row(&self, a: IpAddr) -> Option<&RtbhRow> {
        self.rows.get(&a)
    }

    /// Puts a row in force, and says what has to be stored.
    pub(crate) fn put(&mut self, row: RtbhRow) -> StoreOp {
        let op = StoreOp::PutRtbh(Box::new(row.clone()));
        self.rows.insert(row.address, row);
        op
    }

    /// What the BGP speaker has to announce.
    pub(crate) fn announced(&self) -> BTreeSet<IpAddr> {
        self.rows.values().filter(|r| r.state == RtbhState::Announced).map(|r| r.address).collect()
    }

    /// Whether anything in a prefix is announced, or may still be: quiet proves nothing there.
    pub(crate) fn hides(&self, net: &IpNet) -> bool {
        self.rows.values().any(|r| net.contains(&r.address) && r.state != RtbhState::Probing)
    }

    /// Whether anything in a prefix is announced or probed: its attack is not over.
    pub(crate) fn holds(&self, net: &IpNet) -> bool {
        self.rows.keys().any(|a| net.contains(a))
    }

    /// Goes on by the clock. `is_locked`: whether an address is locked inbound.
    pub(crate) fn step(
        &mut self,
        (at, now_ns): (Time, u64),
        seen: &Seen<'_>,
        settings: &config::Rtbh,
        is_locked: impl Fn(IpAddr) -> bool,
    ) -> Vec<StoreOp> {
        let mut ops = Vec::new();
        let mut gone = Vec::new();
        for row in self.rows.values_mut() {
            let present = seen.present.map(|p| p.contains(&row.address));
            row.present = present.or(row.present);
            let before = (row.state, row.until);
            match row.state {
                RtbhState::Withdrawing if present == Some(false) => gone.push(row.address),
                RtbhState::Withdrawing => {}
                // Without a lock an announced address would be cut off by what nobody sees on the list.
                RtbhState::Announced | RtbhState::Probing if !is_locked(row.address) => {
                    row.state = RtbhState::Withdrawing;
                }
                RtbhState::Announced if row.until <= at => {
                    (row.state, row.until) = (RtbhState::Probing, at.plus(settings.probe));
                }
                RtbhState::Probing if row.until <= at => row.state = RtbhState::Withdrawing,
                RtbhState::Announced | RtbhState::Probing => {}
            }
            if before != (row.state, row.until) {
                ops.push(StoreOp::PutRtbh(Box::new(row.clone())));
            }
        }
        for a in gone {
            self.rows.remove(&a);
            ops.push(StoreOp::RemoveRtbh(a));
        }
        for (a, incident) in self.choose(now_ns, seen, settings) {
            self.announced_ns = Some(now_ns);
            let round = self.rows.get(&a).map_or(0, |r| r.round + 1).min(ROUNDS_MAX);
            let old = self.rows.get(&a);
            let row = RtbhRow {
                address: a,
                state: RtbhState::Announced,
                since: old.map_or(at, |r| r.since),
                until: at.plus(hold(settings, round)),
                round,
                who: old.map_or_else(|| "cordon".to_owned(), |r| r.who.clone()),
                incident: incident.or_else(|| old.and_then(|r| r.incident.clone())),
                note: old.and_then(|r| r.note.clone()),
                present: None,
            };
            ops.push(self.put(row));
        }
        ops
    }

    /// What has to be announced now: the fewest that are sent most, until the rest fits; and what an operator had
    /// announced, when the attack goes on.
    fn choose(
        &mut self,
        now_ns: u64,
        seen: &Seen<'_>,
        settings: &config::Rtbh,
    ) -> Vec<(IpAddr, Option<String>)> {
        let limit = u128::from(settings.uplink_bits) * u128::from(settings.fill_percent) / 100;
        let full = limit > 0 && u128::from(seen.uplink_bits) >= limit;
        self.full_since = full.then(|| self.full_since.unwrap_or(now_ns));
        self.is_at_its_limit &= full;
        let state = |a: &IpAddr| self.rows.get(a).map(|r| r.state);
        let mut chosen: Vec<(IpAddr, Option<String>)> = Vec::new();
        let again = |r: &&RtbhRow| r.state == RtbhState::Probing && r.who != "cordon";
        for row in self.rows.values().filter(again) {
            if let Some((a, _, incident)) = seen.attacked.iter().find(|(a, ..)| *a == row.address) {
                chosen.push((*a, incident.clone()));
            }
        }
        let settled = self.announced_ns.is_none_or(|t| now_ns.saturating_sub(t) >= SETTLE_NS);
        if !(settled && self.full_since.is_some_and(|t| now_ns.saturating_sub(t) >= FULL_NS)) {
            return chosen;
        }
        let mut by_bits: Vec<_> = seen
            .attacked
            .iter()
            .filter(|(a, ..)| !matches!(state(a), Some(RtbhState::Announced | RtbhState::Withdrawing)))
            .filter(|(a, ..)| !chosen.iter().any(|(c, _)| c == a))
            .collect();
        by_bits.sort_by_key(|(a, bits, _)| (std::cmp::Reverse(*bits), *a));
        let mut rest = u128::from(seen.uplink_bits);
        let mut room = settings.announced_max.saturating_sub(self.announced().len() + chosen.len());
        for (a, bits, incident) in by_bits {
            if rest < limit {
                break;
            }
            if room == 0 {
                self.is_at_its_limit = true;
                break;
            }
            room -= 1;
            rest = rest.saturating_sub(u128::from(*bits));
            chosen.push((*a, incident.clone()));
        }
        chosen
    }
}

/// How long the route of a round stays: twice as long each time, for an attacker who waits for the end.
fn hold(settings: &config::Rtbh, round: u32) -> Duration {
    settings.hold.saturating_mul(1 << round.min(ROUNDS_MAX)).min(settings.hold_max.max(settings.hold))
}
