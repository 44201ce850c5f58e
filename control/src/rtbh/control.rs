//! Between the deciding core and [`super::Rtbh`]: who is attacked, how full the uplink is, what an operator asks.

use std::collections::{BTreeSet, VecDeque};
use std::net::IpAddr;
use std::sync::atomic::Ordering::Relaxed;

use api::{Direction, Failure, Payload, Reason, RtbhRow, RtbhState, Time};
use ipnet::IpNet;
use region::{Facts, Side};

use super::{Seen, hold};
use crate::control::Control;
use crate::effect::StoreOp;
use crate::locklist::bits;
use crate::requests::{Prepared, Then, bad, not_found, refused};

/// The uplink is measured over so long.
const OVER_NS: u64 = 1_000_000_000;
/// Preamble, start of frame, FCS and gap, bytes that a frame takes on an Ethernet besides those counted.
const WIRE_BYTES: u64 = 24;
/// An attack that was seen so lately goes on.
const LATELY_MS: i64 = 2_000;
/// Longest announcement that an operator asks for.
const HOLD_MAX_MS: i64 = 7 * 86_400_000;

/// What came from the internet, lately.
#[derive(Clone, Debug, Default)]
pub(crate) struct Uplink(VecDeque<(u64, u64)>);

impl Uplink {
    /// Takes a reading of all bytes that ever came, and says how many bits a second they are by now.
    fn read(&mut self, now_ns: u64, bytes: u64) -> u64 {
        // A new life of the dataplane counts from zero.
        if self.0.back().is_some_and(|(_, b)| *b > bytes) {
            self.0.clear();
        }
        while self.0.len() > 1 && self.0.get(1).is_some_and(|(t, _)| now_ns.saturating_sub(*t) >= OVER_NS) {
            self.0.pop_front();
        }
        let (then, before) = self.0.front().copied().unwrap_or((now_ns, bytes));
        self.0.push_back((now_ns, bytes));
        let (ns, bits) =
            (u128::from(now_ns.saturating_sub(then).max(OVER_NS)), u128::from(bytes - before) * 8);
        u64::try_from(bits * 1_000_000_000 / ns).unwrap_or(u64::MAX)
    }
}

/// Bytes that came from the internet, as Ethernets carry them.
fn outside_bytes(facts: &Facts) -> u64 {
    let sides = facts.workers().iter().map(|w| w.side(Side::Outside));
    let read = |s: &region::facts::SideCounters| {
        s.rx_bytes.load(Relaxed).wrapping_add(WIRE_BYTES.wrapping_mul(s.rx_packets.load(Relaxed)))
    };
    sides.map(read).fold(0, u64::wrapping_add)
}

impl Control {
    /// What the BGP speaker has to announce; none while there is none.
    pub fn to_announce(&self) -> BTreeSet<IpAddr> {
        self.rtbh.announced()
    }

    /// What the BGP speaker may have to withdraw.
    pub fn to_withdraw(&self) -> BTreeSet<IpAddr> {
        let rows = self.rtbh.rows().filter(|r| r.state != RtbhState::Announced);
        rows.map(|r| r.address).collect()
    }

    /// The speaker's table, as far as it was asked for, after it was told of `announced`.
    pub fn speaker_has(&mut self, announced: &BTreeSet<IpAddr>, present: BTreeSet<IpAddr>) {
        // An answer to what was wanted before says nothing about what is wanted now.
        self.speaker = (*announced == self.rtbh.announced()).then_some(present);
    }

    /// Whether an address is locked inbound at this moment.
    fn is_locked_in(&self, a: IpAddr) -> bool {
        let covering = self.locks.covering(&IpNet::from(a));
        covering.iter().any(|r| r.suspended.is_none() && bits(r.direction) & bits(Direction::In) != 0)
    }

    /// Announces, withdraws and probes. Called each tick.
    pub(crate) fn judge_uplink(&mut self) {
        if self.config.rtbh.gobgp.is_none() && self.rtbh.rows().next().is_none() {
            return;
        }
        let (now_ns, at) = (self.now.mono_ns, self.now.time());
        let uplink_bits = match self.facts().map(|f| outside_bytes(f)) {
            Some(bytes) => self.uplink.read(now_ns, bytes),
            None => 0,
        };
        let attacked = self.attacked(at);
        let present = self.speaker.take();
        let mut rtbh = std::mem::take(&mut self.rtbh);
        let seen = Seen { uplink_bits, attacked: &attacked, present: present.as_ref() };
        let ops = rtbh.step((at, now_ns), &seen, &self.config.rtbh, |a| self.is_locked_in(a));
        self.rtbh = rtbh;
        if self.rtbh.is_at_its_limit {
            self.complain(
                "rtbh",
                format!(
                    "the uplink is full, and all {} blackholes are announced that may be",
                    self.config.rtbh.announced_max
                ),
                "call your upstream; `cordon rtbh list` shows what is announced; raise [rtbh] announced_max if that helps",
            );
        } else {
            self.content("rtbh");
        }
        if ops.is_empty() {
            return;
        }
        let mut ops = ops;
        let said: Vec<StoreOp> = ops.iter().filter_map(|op| audit(op, at, uplink_bits)).collect();
        ops.extend(said);
        self.keep(ops);
    }

    /// Addresses under an attack that a detector has locked.
    fn attacked(&mut self, at: Time) -> Vec<(IpAddr, u64, Option<String>)> {
        let lately = |id: u64, created: Time| {
            self.offended.get(&id).map_or(created, |t| created.max(*t)).plus_ms(LATELY_MS) >= at
        };
        let rows = self.locks.rows().filter(|r| r.reason == Reason::AttackIn && r.suspended.is_none());
        let rows = rows.filter(|r| lately(r.id, r.created));
        let whole = |net: IpNet| (net.prefix_len() == net.max_prefix_len()).then(|| net.addr());
        let found: Vec<(IpAddr, Option<String>)> =
            rows.filter_map(|r| Some((whole(r.target.prefix()?)?, r.incident.clone()))).collect();
        let (facts, key, now_ns) = (self.facts().cloned(), self.policy.hash_key(), self.now.mono_ns);
        let mut attacked: Vec<(IpAddr, u64, Option<String>)> = Vec::new();
        for (a, incident) in found {
            if attacked.iter().any(|(b, ..)| *b == a) {
                continue;
            }
            let host = self.networks.host(a, facts.as_deref(), key);
            let sums = host.and_then(|h| self.windows.get_mut(&h)).map(|w| w.sums(now_ns));
            let bits = sums.map_or(0, |s| {
                let wire = (s.fast[1].bytes + WIRE_BYTES * s.fast[1].packets) * 8;
                u64::try_from(u128::from(wire) * 1_000_000_000 / u128::from(s.fast_ns)).unwrap_or(u64::MAX)
            });
            attacked.push((a, bits, incident));
        }
        attacked
    }

    /// Checks an operator's announcement, and says what has to be on disk before it is made.
    pub(crate) fn prepare_rtbh(
        &self,
        who: &str,
        a: IpAddr,
        until: Option<Time>,
        note: Option<String>,
    ) -> Result<Prepared, Failure> {
        let at = self.now.time();
        if self.config.rtbh.gobgp.is_none() {
            return Err(refused(
                "no BGP speaker is configured",
                "set [rtbh] gobgp to the address of gobgpd's API, then `cordon reload`",
            ));
        }
        if !self.is_locked_in(a) {
            return Err(refused(
                format!("{a} is not locked inbound: a blackhole would cut off a server that is not locked"),
                format!("lock it first: cordon lock {a} --reason … --direction in"),
            ));
        }
        if self.rtbh.announced().len() >= self.config.rtbh.announced_max && self.rtbh.row(a).is_none() {
            return Err(refused(
                format!("{} blackholes are announced, as many as may be", self.config.rtbh.announced_max),
                "withdraw one (cordon rtbh list), or raise [rtbh] announced_max",
            ));
        }
        let until = until.unwrap_or_else(|| at.plus(hold(&self.config.rtbh, 0)));
        if until <= at {
            return Err(bad(
                format!("the blackhole would end at {until}, which is over"),
                "name a time to come",
            ));
        }
        if until > at.plus_ms(HOLD_MAX_MS) {
            return Err(refused(
                format!("a blackhole until {until} is longer than 7 days"),
                "name a nearer time",
            ));
        }
        let row = RtbhRow {
            address: a,
            state: RtbhState::Announced,
            since: self.rtbh.row(a).map_or(at, |r| r.since),
            until,
            round: 0,
            who: who.to_owned(),
            incident: self.rtbh.row(a).and_then(|r| r.incident.clone()),
            note,
            present: None,
        };
        let what = format!("rtbh announce {a} until {until}");
        Ok(Prepared::Store(vec![StoreOp::PutRtbh(Box::new(row.clone()))], Then::Rtbh(Box::new(row)), what))
    }

    /// Checks an operator's withdrawal.
    pub(crate) fn prepare_rtbh_end(&self, a: IpAddr) -> Result<Prepared, Failure> {
        let Some(row) = self.rtbh.row(a) else {
            return Err(not_found(format!("{a} is not announced"), "`cordon rtbh list` says what is"));
        };
        let row = RtbhRow { state: RtbhState::Withdrawing, present: None, ..row.clone() };
        let what = format!("rtbh withdraw {a}");
        Ok(Prepared::Store(vec![StoreOp::PutRtbh(Box::new(row.clone()))], Then::Rtbh(Box::new(row)), what))
    }

    /// A row of an operator's is on disk.
    pub(crate) fn put_rtbh(&mut self, row: RtbhRow) -> Payload {
        self.rtbh.put(row.clone());
        Payload::Rtbh(vec![row])
    }
}

/// A line for the audit log about what was decided.
fn audit(op: &StoreOp, at: Time, uplink_bits: u64) -> Option<StoreOp> {
    let what = match op {
        StoreOp::PutRtbh(r) => {
            let verb = match r.state {
                RtbhState::Announced => format!("announce until {} (uplink {uplink_bits} bit/s)", r.until),
                RtbhState::Probing => "withdraw and probe".to_owned(),
                RtbhState::Withdrawing => "withdraw".to_owned(),
            };
            format!("rtbh {}: {verb}", r.address)
        }
        StoreOp::RemoveRtbh(a) => format!("rtbh {a}: withdrawn"),
        _ => return None,
    };
    Some(StoreOp::Audit { at, who: "cordon".to_owned(), what })
}
