//! Wrong network configuration: from the frames that workers carry here to incidents.

use std::collections::BTreeMap;

use api::{Action, IncidentRow, Time};
use config::{Config, Device, Inside, Inventory, Rule};
use ipnet::IpNet;
use region::segment::SegmentRules;

use crate::control::{Control, Use};
use crate::effect::StoreOp;
use crate::guards::Posts;
use crate::incident::link_key;
use crate::netconfig::{Allowed, Case, Env, Finding, Gateway, Limits, Mac, Side, Watcher};

/// Evidence of an incident is written again after so long, while it goes on.
const WRITE_NS: u64 = 10_000_000_000;

/// Devices whose dropped frames are counted.
const DROPPED_MAX: usize = 4_096;

/// What is known of the servers' segment.
pub(crate) struct Segment {
    watcher: Watcher,
    internal: Vec<IpNet>,
    gateways: Vec<Gateway>,
    dhcp_servers: Vec<Allowed>,
    routers: Vec<Allowed>,
    bridges: Vec<Mac>,
    /// Frames lost on their way here, by worker.
    lost: Vec<u64>,
    /// Where those stand whom guards concern.
    pub(crate) posts: Posts,
    /// Frames that guards dropped, by incident key; not all where more came than the ring of frames holds.
    dropped: BTreeMap<String, u64>,
    /// Evidence that was written, by incident key: when, and of how many frames.
    written: BTreeMap<String, (u64, u64)>,
}

fn count_drop(dropped: &mut BTreeMap<String, u64>, key: String) {
    if let Some(n) = dropped.get_mut(&key) {
        *n += 1;
    } else if dropped.len() < DROPPED_MAX {
        dropped.insert(key, 1);
    }
}

fn allowed(devices: &[Device]) -> Vec<Allowed> {
    let of = |d: &Device| match d {
        Device::Mac(m) => Allowed::Mac(Mac(*m)),
        Device::Address(a) => Allowed::Address(*a),
    };
    devices.iter().map(of).collect()
}

impl Segment {
    /// Under an installation's secret.
    pub(crate) fn new(hash_key: [u64; 2], config: &Config) -> Segment {
        let mut segment = Segment {
            watcher: Watcher::new(hash_key),
            internal: Vec::new(),
            gateways: Vec::new(),
            dhcp_servers: Vec::new(),
            routers: Vec::new(),
            bridges: Vec::new(),
            lost: Vec::new(),
            posts: Posts::default(),
            dropped: BTreeMap::new(),
            written: BTreeMap::new(),
        };
        segment.configure(config);
        segment
    }

    /// Takes what the operator says.
    pub(crate) fn configure(&mut self, config: &Config) {
        self.internal = config.networks.iter().map(|n| n.prefix).collect();
        let addresses = config.networks.iter().flat_map(|n| &n.gateways);
        self.gateways = addresses.map(|a| Gateway { address: *a, mac: None }).collect();
        self.dhcp_servers = allowed(&config.link.dhcp_servers);
        self.routers = allowed(&config.link.routers);
        self.bridges = config.link.bridges.iter().map(|m| Mac(*m)).collect();
        self.posts.configure(config);
    }

    /// An incident is over.
    pub(crate) fn forget(&mut self, row: &IncidentRow) {
        if let (Some(case), Some(mac)) = (&row.case, &row.mac) {
            let key = link_key(case, mac);
            self.dropped.remove(&key);
            self.written.remove(&key);
        }
    }

    fn judge(&mut self, now_ns: u64, inventory: Option<&Inventory>) -> Vec<Finding> {
        let env = Env {
            internal: &self.internal,
            gateways: &self.gateways,
            dhcp_servers: &self.dhcp_servers,
            routers: &self.routers,
            bridges: &self.bridges,
            inventory,
            limits: Limits::default(),
        };
        self.watcher.judge(now_ns, &env)
    }
}

impl Control {
    /// Whether any wire shows the servers' own segment.
    pub(crate) fn sees_segment(&self) -> bool {
        self.config.wires.iter().any(|w| w.inside == Inside::L2)
    }

    /// What is to hold on the segment. A rule that only observes drops nothing.
    pub(crate) fn segment_rules(&self) -> SegmentRules {
        let observing = self.only_observes(Rule::Misconfiguration);
        let mut rules = match observing {
            true => SegmentRules::default(),
            false => self.segment.posts.rules(&self.config, self.usage == Use::Live),
        };
        rules.locked = self.locks.macs().into_iter().map(|(m, bits)| (Mac(m.0), bits)).collect();
        rules
    }

    /// Why a device of the segment is not for locking.
    pub(crate) fn is_needed(&self, mac: api::Mac) -> Option<String> {
        let l = &self.config.link;
        let named = |list: &[Device]| list.contains(&Device::Mac(mac.0));
        if named(&l.routers) || named(&l.dhcp_servers) || l.bridges.contains(&mac.0) {
            return Some("is named in [link]".to_owned());
        }
        let role = self.segment.posts.role(Mac(mac.0))?;
        Some(format!("{role}: locking it would cut off the servers behind it"))
    }

    /// Takes the segment's own frames in, and says what is wrong with them.
    pub(crate) fn judge_segment(&mut self) {
        let Some(facts) = self.facts().cloned() else { return };
        let (now_ns, clock) = (self.now.mono_ns, facts.clock());
        let idle = self.usage == Use::Live && !self.sees_segment();
        let segment = &mut self.segment;
        segment.lost.resize(facts.workers().len(), 0);
        let mut seen = false;
        for (worker, lost) in segment.lost.iter_mut().enumerate() {
            let ring = facts.link(worker);
            let head = ring.head();
            for n in self.policy.link_read(worker, head)..head {
                let Some(f) = ring.get(n) else { continue };
                // A stream without sides shows the whole segment at once.
                let side = if self.usage == Use::Replay { Side::Mirror } else { f.side.into() };
                let at_ns = clock.mono_ns(f.time);
                if let Some(said) = segment.watcher.see(side, at_ns, &f.bytes, f.length) {
                    segment.posts.hear(side, at_ns, &said);
                    if let Some(guard) = f.guarded {
                        let key = link_key(Case::of_guard(guard).name(), &said.source.to_string());
                        count_drop(&mut segment.dropped, key);
                    }
                }
                seen = true;
            }
            self.policy.set_link_read(worker, head);
            if ring.lost() != *lost {
                *lost = ring.lost();
                segment.watcher.missed(now_ns);
            }
        }
        if segment.posts.take_changed() && self.segment_rules() != self.published_segment {
            self.publish_locks = true;
        }
        if idle && !seen {
            return;
        }
        let segment = &mut self.segment;
        for f in segment.judge(now_ns, self.inventory.as_deref()) {
            self.judge_link(&f);
        }
    }

    fn judge_link(&mut self, f: &Finding) {
        let (rule, at, now_ns) = (Rule::Misconfiguration, self.now.time(), self.now.mono_ns);
        let key = link_key(f.case.name(), &f.mac.to_string());
        let ago = |ns: u64| at.plus_ms(-i64::try_from(now_ns.saturating_sub(ns) / 1_000_000).unwrap_or(0));
        if self.incidents.get(&key, rule).is_none() {
            let customer =
                self.inventory.as_ref().and_then(|i| i.server(f.server.as_ref()?)?.customer.clone());
            let open = self.incidents.open_link(f, at, ago(f.first_ns), now_ns);
            (open.row.server, open.row.customer) = (f.server.clone(), customer);
        }
        let action = if self.only_observes(rule) { Action::Observe } else { Action::Warn };
        let Some(open) = self.incidents.get(&key, rule) else { return };
        open.found(now_ns, at);
        open.row.last_seen = ago(f.last_ns);
        open.row.packets = f.count;
        open.row.peak = f.count;
        open.row.dropped = self.segment.dropped.get(&key).copied().unwrap_or(0);
        open.row.seconds = f.last_ns.saturating_sub(f.first_ns).div_ceil(1_000_000_000).max(1);
        let new = open.act(action, at);
        if action == Action::Warn && open.warned_ns.is_none() {
            open.warned_ns = Some(now_ns);
        }
        if new && action == Action::Warn {
            let id = open.row.id.clone();
            let tells = self.incidents.by_id(&id).map(|i| self.tell_warned(i)).unwrap_or_default();
            self.tells.extend(tells);
        }
        let (wrote_ns, frames) = self.segment.written.get(&key).copied().unwrap_or_default();
        if new || (f.count > frames && now_ns.saturating_sub(wrote_ns) >= WRITE_NS) {
            self.segment.written.insert(key.clone(), (now_ns, f.count));
            self.write_link_evidence(&key, f, at);
        }
    }

    fn write_link_evidence(&mut self, key: &str, f: &Finding, at: Time) {
        const FILE: &str = "misconfiguration.log";
        let now_ns = self.now.mono_ns;
        let ago = |ns: u64| at.plus_ms(-i64::try_from(now_ns.saturating_sub(ns) / 1_000_000).unwrap_or(0));
        let mut text = format!("All times UTC\nCase       {}\nMAC        {}\n", f.case.name(), f.mac);
        if f.is_forged {
            text += "           (made up: nobody can be told by it)\n";
        }
        for (name, value) in [
            ("Address", f.address.map(|a| a.to_string())),
            ("Claimed", f.claimed.map(|a| a.to_string())),
            ("Owner", f.victim.map(|m| m.to_string())),
            ("Server", f.server.clone()),
        ] {
            if let Some(value) = value {
                text += &format!("{name:<10} {value}\n");
            }
        }
        text += &format!(
            "First seen {}\nLast seen  {}\nFrames     {}\n",
            ago(f.first_ns),
            ago(f.last_ns),
            f.count
        );
        if let Some(n) = self.segment.dropped.get(key) {
            text += &format!("Dropped    {n} of them by a guard\n");
        }
        text += &format!("\n{}\n", f.text);
        if !f.examples_ns.is_empty() {
            text += "\nSome of the frames came at\n";
            for ns in &f.examples_ns {
                text += &format!("  {}\n", ago(*ns));
            }
        }
        let Some(open) = self.incidents.get(key, Rule::Misconfiguration) else { return };
        if !open.row.files.iter().any(|n| n == FILE) {
            open.row.files.push(FILE.to_owned());
            open.dirty = true;
        }
        let incident = open.row.id.clone();
        self.keep(vec![StoreOp::WriteEvidence { incident, name: FILE.to_owned(), bytes: text.into_bytes() }]);
    }
}
