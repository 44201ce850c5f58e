//! The deciding core: everything cordond knows, and the tick.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use api::{Target, Time, Why};
use config::{Config, Inventory, Rule};
use region::segment::SegmentRules;
use region::{Facts, HostId, Policy};

use crate::bindings::{Bound, bound};
use crate::breaker::Breakers;
use crate::case::Case;
use crate::effect::{BatchId, ClientId, Effect, Loaded, Now, StoreOp};
use crate::history::History;
use crate::incident::Incidents;
use crate::inventory::Owners;
use crate::keys::Tokens;
use crate::link::Segment;
use crate::locklist::LockList;
use crate::meter::Meters;
use crate::moved::Moved;
use crate::networks::{Networks, Retired};
use crate::report::Pulse;
use crate::requests::Waiting;
use crate::rtbh::{Rtbh, Uplink};
use crate::store::Gone;
use crate::visibility::Visibility;
use crate::watch::Watch;
use crate::window::Window;

/// Why a lock was lifted whose end was set.
const EXPIRED: &str = "its time is over";
/// A day: retention is looked after every hour.
const DAY_NS: u64 = 86_400 * 1_000_000_000;

/// How the core is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// Beside a dataplane.
    Live,
    /// On a capture.
    Replay,
}

/// What is known of the dataplane's life at hand.
#[derive(Debug)]
pub(crate) struct Life {
    pub(crate) facts: Arc<Facts>,
    pub(crate) incarnation: u64,
    /// The tick each worker was asked to turn to.
    pub(crate) asked: Vec<u64>,
    /// Monotonic time of the last merge.
    pub(crate) merged_ns: u64,
    /// Nothing was merged since the attachment: the first merge covers a gap.
    pub(crate) gap: bool,
    /// When it was attached.
    pub(crate) attached: api::Time,
    /// IPv6 hosts that control has taken charge of, by key.
    pub(crate) v6: BTreeMap<u128, HostId>,
    /// Keys that housekeeping was asked for.
    pub(crate) v6_asked: BTreeSet<u128>,
}

/// Numbers for metrics.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    /// Hosts that moved in the last tick.
    pub active_hosts: u64,
    /// Hosts that sent something in the last tick: whoever sends to unused addresses makes no servers of them.
    pub sending_hosts: u64,
    /// Histories kept.
    pub windows: u64,
    /// Seconds from the crossing of a limit to the written flags, at most; taken by the shell each tick.
    pub detections: Vec<f64>,
    /// Locked ranges enforced.
    pub ranges: u64,
    /// Ticks so far.
    pub ticks: u64,
    /// Watched hosts.
    pub watched: u64,
    /// Packets of watched hosts that were not recorded.
    pub evidence_lost: u64,
}

/// The deciding core.
pub struct Control {
    pub(crate) usage: Use,
    pub(crate) config: Config,
    pub(crate) inventory: Option<Arc<Inventory>>,
    /// The MACs that its servers are bound to.
    pub(crate) bound: Bound,
    pub(crate) owners: Owners,
    pub(crate) networks: Networks,
    pub(crate) retired: Vec<Retired>,
    pub(crate) policy: Arc<Policy>,
    pub(crate) life: Option<Life>,
    pub(crate) locks: LockList,
    pub(crate) incidents: Incidents,
    pub(crate) breakers: Breakers,
    pub(crate) observing: BTreeSet<Rule>,
    pub(crate) exemptions: Vec<(Target, Rule, Time)>,
    pub(crate) windows: HashMap<HostId, Box<Window>>,
    /// Of IPv4 and of IPv6.
    pub(crate) visibility: [Visibility; 2],
    pub(crate) watch: Watch,
    /// What hosts did in this tick that are nominated and have no history.
    pub(crate) nominated: HashMap<HostId, crate::window::Pair>,
    /// Hosts of this tick's merge that sent something, as far as it has come.
    pub(crate) sending_hosts: u64,
    /// Time that this tick's merge covers.
    pub(crate) span_ns: u64,
    /// Incidents whose evidence grows, by address and rule.
    pub(crate) cases: BTreeMap<(String, Rule), Case>,
    /// Private and shared space counts as ordinary destinations (replay of captures from laboratories).
    pub(crate) lab: bool,
    pub(crate) segment: Segment,
    pub(crate) history: History,
    /// Rules whose locks lift themselves when a server that offended is quiet, by name.
    pub(crate) quiet_rules: BTreeMap<String, Duration>,
    /// Locks of those that somebody has to lift all the same.
    pub(crate) by_hand: BTreeSet<u64>,
    /// When servers were last found to offend that their rule has locked, by lock.
    pub(crate) offended: HashMap<u64, Time>,
    /// What holds on the servers' segment, as it was last published.
    pub(crate) published_segment: SegmentRules,
    pub(crate) tokens: Tokens,
    /// Which row came of a program's reference, also of rows that were lifted.
    pub(crate) references: HashMap<String, u64>,
    pub(crate) waiting: BTreeMap<BatchId, Waiting>,
    /// Answers that wait until the dataplane has been told.
    pub(crate) held: Vec<(ClientId, api::Response)>,
    pub(crate) meters: Meters,
    pub(crate) pulse: Pulse,
    /// IPv6 targets of the list may lack a host: look again.
    pub(crate) look_for_v6: bool,
    pub(crate) effects: Vec<Effect>,
    /// What is told of incidents that the end of the tick stores.
    pub(crate) tells: Vec<StoreOp>,
    pub(crate) started: Time,
    pub(crate) now: Now,
    pub(crate) bypass: bool,
    pub(crate) rtbh: Rtbh,
    pub(crate) uplink: Uplink,
    /// What the BGP speaker has, when it was asked since the last tick.
    pub(crate) speaker: Option<BTreeSet<std::net::IpAddr>>,
    /// The lock list changed since it was last published.
    pub(crate) publish_locks: bool,
    /// Addressing that waits for its idle copy.
    pub(crate) publish_addressing: bool,
    pub(crate) unacknowledged_since: Option<u64>,
    pub(crate) store_error: Option<String>,
    /// Said by the shell: office, configuration, store damage.
    pub(crate) complaints: BTreeMap<&'static str, (String, String)>,
    pub(crate) moved: Moved,
    pub(crate) stats: Stats,
    next_batch: u64,
    retained_ns: u64,
}

impl Control {
    /// Puts the core together. `taken_over`: the policy file stood from before, and may be enforced at this moment.
    pub fn new(
        usage: Use,
        config: Config,
        policy: Arc<Policy>,
        loaded: Loaded,
        now: Now,
    ) -> Result<Control, String> {
        let previous = policy.addressing(policy.versions().addressing).read();
        let retired = Networks::gone(&previous, &config, policy.versions().addressing + 1);
        // A start must not fail for want of ids that workers will have turned away from in a moment.
        let networks = Networks::allocate_uncounted(&config, &policy, &previous, &retired)
            .or_else(|_| Networks::allocate(&config, policy.capacities(), &previous, &[]))?;
        let incidents = Incidents::restore(loaded.incidents, loaded.last_incident, now);
        let exemptions =
            loaded.exemptions.into_iter().filter_map(|(t, r, u)| Some((t, r.parse().ok()?, u))).collect();
        let observing = loaded.observing.iter().filter_map(|r| r.parse().ok()).collect();
        let mut control = Control {
            usage,
            locks: LockList::restore(loaded.locks, loaded.last_lock, config.exceptions.clone()),
            networks,
            retired,
            life: None,
            incidents,
            breakers: Breakers::restore(loaded.breakers),
            observing,
            exemptions,
            windows: HashMap::new(),
            visibility: Default::default(),
            watch: Watch::default(),
            nominated: HashMap::new(),
            sending_hosts: 0,
            span_ns: 1,
            cases: BTreeMap::new(),
            lab: false,
            segment: Segment::new(loaded.hash_key, &config),
            history: History::new(policy.capacities()),
            quiet_rules: Control::quiet_rules(&config),
            by_hand: BTreeSet::new(),
            offended: HashMap::new(),
            published_segment: SegmentRules::default(),
            tokens: Tokens::restore(loaded.tokens),
            references: loaded.references.into_iter().collect(),
            waiting: BTreeMap::new(),
            held: Vec::new(),
            meters: Meters::new(policy.capacities()),
            pulse: Pulse::default(),
            look_for_v6: true,
            effects: Vec::new(),
            tells: Vec::new(),
            started: now.time(),
            now,
            bypass: loaded.bypass,
            rtbh: Rtbh::restore(loaded.rtbh),
            uplink: Uplink::default(),
            speaker: None,
            publish_locks: true,
            publish_addressing: true,
            unacknowledged_since: None,
            store_error: None,
            complaints: BTreeMap::new(),
            moved: Moved::new(policy.capacities().hosts()),
            stats: Stats::default(),
            next_batch: 0,
            retained_ns: 0,
            config,
            bound: bound(loaded.inventory.as_deref()),
            inventory: loaded.inventory,
            owners: Owners::default(),
            policy,
        };
        control.policy.set_bypass(control.bypass);
        if let Some(damage) = loaded.damage {
            control.complain(
                "store",
                damage,
                "restore cordon.db from a backup; locks in force stay enforced until then",
            );
        }
        if usage == Use::Live {
            control.policy.keep_config(&control.config.text);
        }
        control.index_owners();
        control.follow_inventory();
        control.check_rows();
        control.write_all_flags();
        Ok(control)
    }

    /// Private and shared address space counts as ordinary destinations.
    pub fn set_lab(&mut self, lab: bool) {
        self.lab = lab;
    }

    /// Takes what is to be done.
    pub fn take_effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    /// Numbers for metrics; detections are taken.
    pub fn take_stats(&mut self) -> Stats {
        let stats = self.stats.clone();
        self.stats.detections.clear();
        stats
    }

    /// The facts at hand.
    pub fn facts(&self) -> Option<&Arc<Facts>> {
        self.life.as_ref().map(|l| &l.facts)
    }

    /// The policy.
    pub fn policy(&self) -> &Arc<Policy> {
        &self.policy
    }

    /// The configuration in force.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// All incidents in memory.
    pub fn incidents(&self) -> &Incidents {
        &self.incidents
    }

    /// The lock list.
    pub fn locks(&self) -> &LockList {
        &self.locks
    }

    /// Whether ticks change nothing until a host moves or somebody asks: nothing is open, and no lock ends by itself.
    pub fn is_settled(&self) -> bool {
        let now_ns = self.now.mono_ns;
        let ends = |r: &api::LockRow| r.until.is_some() || r.suspended.is_some() || self.ends_if_quiet(r);
        self.incidents.open_count() == 0
            && self.cases.is_empty()
            && self.watch.len() == 0
            && self.windows.values().all(|w| w.is_idle(now_ns))
            && !self.locks.rows().any(ends)
            && !(self.publish_locks || self.publish_addressing)
    }

    /// The networks in force.
    pub fn networks(&self) -> &Networks {
        &self.networks
    }

    /// Latched rules.
    pub fn breakers(&self) -> &Breakers {
        &self.breakers
    }

    /// Says, in status, that something outside of the core is not as it should be.
    pub fn complain(&mut self, about: &'static str, text: impl Into<String>, next_step: impl Into<String>) {
        self.complaints.insert(about, (text.into(), next_step.into()));
    }

    /// Takes a complaint back.
    pub fn content(&mut self, about: &'static str) {
        self.complaints.remove(about);
    }

    // ---- the dataplane comes and goes ----

    /// A dataplane is there. Its flags are derived anew, and hold from here on.
    pub fn attach(&mut self, facts: Arc<Facts>, now: Now) {
        self.now = now;
        let incarnation = facts.header().incarnation.load(Relaxed);
        let same = self.policy.header().accounted_incarnation.load(Relaxed) == incarnation;
        let capacities = facts.capacities();
        if !same {
            // A new life counts from zero.
            for id in 0..capacities.hosts() {
                for dir in region::Dir::ALL {
                    self.policy.set_accounted(HostId(id), dir, &region::LineTotals::default());
                }
            }
            self.policy.header().accounted_incarnation.store(incarnation, Relaxed);
            self.windows.clear();
        }
        let asked: Vec<u64> = facts.workers().iter().map(|w| w.seen_tick.load(Relaxed) + 1).collect();
        for (w, tick) in asked.iter().enumerate() {
            self.policy.set_tick(w, *tick);
        }
        // What it counted without us came since our last tick, or since its start.
        let alone_since = match self.policy.header().last_tick_unix_ns.load(Relaxed) {
            last if same => last,
            _ => incarnation,
        };
        self.begin_history(&facts, same, alone_since);
        let gap = self.usage == Use::Live;
        let gap_ns = if gap { now.unix_ns.saturating_sub(i128::from(alone_since)).max(0) } else { 0 };
        let merged_ns = now.mono_ns.saturating_sub(u64::try_from(gap_ns).unwrap_or(u64::MAX));
        self.life = Some(Life {
            facts,
            incarnation,
            asked,
            merged_ns,
            gap,
            attached: now.time(),
            v6: BTreeMap::new(),
            v6_asked: BTreeSet::new(),
        });
        self.owners.forget_v6();
        self.content("dataplane");
        self.pulse = Pulse::default();
        if let Some(life) = &self.life {
            self.watch.attach(&self.policy, &life.facts, now.mono_ns);
        }
        self.visibility.iter_mut().for_each(Visibility::forget_hosts);
        self.write_all_flags();
        self.policy.flags_hold_for(incarnation);
        self.look_for_v6 = true;
        self.publish_locks = true;
    }

    /// The dataplane is gone: the wire is down.
    pub fn detach(&mut self) {
        self.end_history();
        self.life = None;
        self.windows.clear();
        self.watch.forget_all(&self.policy);
        self.complain(
            "dataplane",
            "the dataplane is down: no packet passes",
            "systemctl start cordon-dataplane (or look at its log); bypass NICs keep a wire up meanwhile",
        );
    }

    // ---- the tick ----

    /// Merges, judges, and publishes. Called every 100 ms, or at each boundary of the replay clock.
    pub fn tick(&mut self, now: Now) {
        self.now = now;
        self.stats.ticks += 1;
        self.policy.header().last_tick_unix_ns.store(u64::try_from(now.unix_ns).unwrap_or(0), Relaxed);
        if let Some(life) = &self.life {
            self.pulse.take(&life.facts, now.mono_ns);
        }
        self.take_charge_of_v6();
        self.read_watched();
        self.merge_and_judge();
        self.judge_scans();
        self.judge_segment();
        self.write_cases();
        self.turn_watch();
        self.judge_uplink();
        self.close_and_lift();
        self.write_history();
        self.publish();
        for (rule, row) in self.breakers.take_changed() {
            self.keep(vec![StoreOp::SetBreaker { rule: rule.to_string(), latched: Some(row) }]);
        }
        let dirty = self.incidents.take_dirty().into_iter();
        let mut ops: Vec<StoreOp> = dirty.map(|r| StoreOp::PutIncident(Box::new(r))).collect();
        ops.append(&mut self.tells);
        if !ops.is_empty() {
            self.keep(ops);
        }
        if self.usage == Use::Live && now.mono_ns >= self.retained_ns {
            self.retained_ns = now.mono_ns + DAY_NS / 24;
            let days = i64::from(self.config.evidence.retention_days);
            let since = now.time().plus_ms(-days * 86_400_000);
            let evidence_max = self.config.evidence.size_max;
            self.keep(vec![StoreOp::Retain { since, evidence_max }]);
        }
    }

    fn close_and_lift(&mut self) {
        let at = self.now.time();
        self.incidents.note_lulls(self.now.mono_ns, at);
        for row in self.incidents.close_quiet(self.now.mono_ns, at) {
            self.segment.forget(&row);
            self.keep(vec![StoreOp::PutIncident(Box::new(row))]);
        }
        let ended: Vec<(u64, &'static str)> = self
            .locks
            .rows()
            .filter_map(|r| {
                if r.until.is_some_and(|u| u <= at) {
                    return Some((r.id, EXPIRED));
                }
                Some((r.id, self.is_over(r)?))
            })
            .collect();
        for (id, why) in ended {
            if self.relapsed(id) {
                self.by_hand.insert(id);
            } else {
                self.lift(id, "cordon", why);
            }
        }
        self.end_maintenance();
        self.tokens.publish();
        let windows = &mut self.windows;
        let now_ns = self.now.mono_ns;
        if self.stats.ticks.is_multiple_of(100) {
            windows.retain(|_, w| !w.is_idle(now_ns));
        }
        self.stats.windows = windows.len() as u64;
        self.stats.watched = self.watch.len() as u64;
        self.stats.evidence_lost = self.watch.evidence_lost;
        self.exemptions.retain(|(_, _, until)| *until > at);
    }

    /// Takes a row off the list: flags, publication, store.
    pub(crate) fn lift(&mut self, id: u64, who: &str, why: &str) {
        let reason = if why == EXPIRED { Why::Expired } else { Why::AttackOver };
        let tells = self.tell_unlocked(&[id], who, reason);
        let Some(row) = self.unlisted(id) else { return };
        self.write_flags_of(&row);
        self.publish_locks = true;
        let at = self.now.time();
        self.note_unlocked(&row, who, Some(why));
        self.begin_anew(&row, false);
        let what = format!("unlock {} ({}): {why}", row.target, row.reason);
        let mut ops = vec![
            StoreOp::RemoveLock { id, who: who.to_owned(), at },
            StoreOp::Audit { at, who: who.to_owned(), what },
        ];
        ops.extend(tells);
        self.keep(ops);
    }

    /// A lock was lifted: its incident's timeline says so.
    pub(crate) fn note_unlocked(&mut self, row: &api::LockRow, who: &str, why: Option<&str>) {
        let Some(incident) = &row.incident else { return };
        let why = why.map(|w| format!(": {w}")).unwrap_or_default();
        self.incidents.note(incident, api::Step::Unlocked, Some(format!("by {who}{why}")), self.now.time());
    }

    /// Takes a row off the list, and all that is known of it.
    pub(crate) fn unlisted(&mut self, id: u64) -> Option<api::LockRow> {
        self.by_hand.remove(&id);
        self.offended.remove(&id);
        self.locks.remove(id)
    }

    /// Stores what a detector or the passage of time has changed: tried until it is stored.
    pub(crate) fn keep(&mut self, ops: Vec<StoreOp>) {
        let batch = self.new_batch();
        self.effects.push(Effect::Store { batch, ops, retry: true });
    }

    pub(crate) fn new_batch(&mut self) -> BatchId {
        self.next_batch += 1;
        BatchId(self.next_batch)
    }

    /// What became of a batch.
    pub fn stored(&mut self, batch: BatchId, result: Result<(), String>, now: Now) {
        self.now = now;
        self.store_error = result.as_ref().err().cloned();
        if let Some(waiting) = self.waiting.remove(&batch) {
            self.finish(waiting, result);
        }
    }

    /// The store has forgotten incidents, or removed their files.
    pub fn gone(&mut self, gone: &[Gone]) {
        for g in gone {
            self.incidents.gone(g);
        }
    }

    /// Takes a new configuration into force. What cannot be taken leaves everything as it was.
    pub fn reload(&mut self, config: Config, now: Now) -> Result<(), String> {
        self.now = now;
        let c = self.policy.capacities();
        if (config.tables.hosts, config.tables.ipv6_hosts, config.tables.locks)
            != (c.hosts_v4, c.hosts_v6, c.locks)
            || config.tables.ipv6_host_length != self.config.tables.ipv6_host_length
        {
            return Err(
                "[tables] cannot change while cordond runs: restart cordond and cordon-dataplane".into()
            );
        }
        let version = self.policy.versions().addressing + 1;
        let gone = Networks::gone(self.networks.addressing(), &config, version);
        let retired = [&self.retired[..], &gone].concat();
        let networks =
            Networks::allocate_uncounted(&config, &self.policy, self.networks.addressing(), &retired)?;
        // Ids may stand for other hosts from now on.
        self.flush_history();
        self.retired = retired;
        self.networks = networks;
        self.locks.set_global_exceptions(config.exceptions.clone());
        self.segment.configure(&config);
        self.quiet_rules = Control::quiet_rules(&config);
        self.config = config;
        if self.usage == Use::Live {
            self.policy.keep_config(&self.config.text);
        }
        for r in &gone {
            for id in r.base..r.base.saturating_add(r.size) {
                self.windows.remove(&HostId(id));
            }
        }
        self.index_owners();
        self.check_rows();
        self.write_all_flags();
        self.publish_addressing = true;
        self.publish_locks = true;
        self.look_for_v6 = true;
        self.publish();
        Ok(())
    }
}
