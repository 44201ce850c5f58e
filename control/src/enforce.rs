//! From the lock list to what the dataplane enforces: flags of hosts, IPv6 hosts that have to be known, and what is published as
//! soon as the copy to be written is idle.

use std::sync::Arc;

use api::Target;
use region::policy::RequestV6;
use region::{Addr, Facts, HostFlags, HostId, Policy};

use crate::control::Control;
use crate::networks::range;

/// A worker that has not acknowledged for so long is stuck.
const STUCK_NS: u64 = 1_000_000_000;

impl Control {
    /// Flags of a host as they have to stand in the table.
    fn flags_for(&self, net: &ipnet::IpNet, v6: bool, strict: bool, watched: bool) -> HostFlags {
        let known = if v6 { HostFlags::KNOWN } else { 0 };
        let strict = if strict { HostFlags::STRICT } else { 0 };
        let watch = if watched { HostFlags::WATCH } else { 0 };
        HostFlags(self.locks.flags(net) | known | strict | watch)
    }

    pub(crate) fn write_flags(&self, host: HostId) {
        let facts = self.facts().map(|f| &**f);
        let Some(net) = self.networks.target(host, facts) else {
            self.bind(host, None);
            return self.policy.set_flags(host, HostFlags(0));
        };
        self.bind(host, Some(&net));
        let strict = self.networks.group(host, facts).is_some_and(|g| g.strict);
        let v6 = host.0 >= self.policy.capacities().hosts_v4;
        let flags = self.flags_for(&net, v6, strict, self.watch.is_watched(host));
        self.policy.set_flags(host, flags);
    }

    /// Derives the flags of every host from the list.
    pub(crate) fn write_all_flags(&mut self) {
        let c = self.policy.capacities();
        for id in 0..c.hosts_v4 {
            self.write_flags(HostId(id));
        }
        for id in c.hosts_v4..c.hosts() {
            self.policy.set_flags(HostId(id), HostFlags(0));
            self.bind(HostId(id), None);
        }
        self.publish_bindings();
        let mut found = Vec::new();
        if let Some(life) = &self.life {
            let key = |id: u32| life.facts.key_v6(HostId(id)).map(|k| (k, HostId(id)));
            found.extend((c.hosts_v4..c.hosts()).filter_map(key));
        }
        for (_, host) in &found {
            self.write_flags(*host);
        }
        if let Some(life) = &mut self.life {
            life.v6 = found.into_iter().collect();
        }
    }

    /// Derives the flags of the hosts that a row covers.
    pub(crate) fn write_flags_of(&mut self, row: &api::LockRow) {
        for net in row.nets() {
            self.write_flags_in(net);
        }
    }

    fn write_flags_in(&mut self, net: &ipnet::IpNet) {
        self.look_for_v6 |= matches!(net, ipnet::IpNet::V6(_));
        let r = range(net);
        for host in self.networks.hosts_v4_in(&r) {
            self.write_flags(host);
        }
        let mask = self.policy.ipv6_host_mask();
        let first = r.first & mask;
        let hosts: Vec<HostId> = match &self.life {
            Some(life) => life.v6.range(first..=r.last).map(|(_, h)| *h).collect(),
            None => Vec::new(),
        };
        for host in hosts {
            self.write_flags(host);
        }
    }

    /// IPv6 hosts that workers have inserted are found in the touched bits; those that a lock names are asked for.
    pub(crate) fn take_charge_of_v6(&mut self) {
        let Some(life) = &mut self.life else { return };
        if !self.look_for_v6 && life.v6_asked.is_empty() {
            return;
        }
        self.look_for_v6 = false;
        let facts = Arc::clone(&life.facts);
        let length = self.networks.ipv6_length();
        let mut known = Vec::new();
        for net in self.locks.rows().flat_map(api::LockRow::nets) {
            let Addr::V6(a) = Addr::from(net.network()) else { continue };
            if net.prefix_len() != length {
                continue;
            }
            let Some(n) = self.networks.network_v6(a) else { continue };
            let key = a & self.policy.ipv6_host_mask();
            if life.v6.contains_key(&key) {
                continue;
            }
            match facts.find_v6(key, self.policy.hash_key()) {
                Some(host) => known.push((key, host)),
                None if life.v6_asked.contains(&key) => {}
                None if self
                    .policy
                    .ask_v6(&facts, RequestV6 { key, quota: n.quota, network_slot: n.slot }) =>
                {
                    life.v6_asked.insert(key);
                }
                // Too many wait for housekeeping.
                None => self.look_for_v6 = true,
            }
        }
        for (key, host) in &known {
            life.v6.insert(*key, *host);
            life.v6_asked.remove(key);
        }
        for (_, host) in known {
            self.write_flags(host);
        }
    }

    /// Publishes what waits, when the copy to be written is idle.
    pub(crate) fn publish(&mut self) {
        let facts = self.facts().cloned();
        let idle = |ok: fn(&Policy, &Facts) -> bool| facts.as_ref().is_none_or(|f| ok(&self.policy, f));
        // A file that is not complete yet is read by nobody: a dataplane that lives holds its predecessor until then.
        let unread = !self.policy.is_ready();
        let (locks_idle, addressing_idle) =
            (unread || idle(Policy::locks_acknowledged), unread || idle(Policy::addressing_acknowledged));
        if locks_idle && addressing_idle {
            self.unacknowledged_since = None;
            self.content("acknowledgement");
        } else if self.life.is_some() {
            let since = *self.unacknowledged_since.get_or_insert(self.now.mono_ns);
            if self.now.mono_ns - since > STUCK_NS {
                self.complain(
                    "acknowledgement",
                    "a worker does not move: it has not acknowledged the last change for more than a second",
                    "look at `cordon status` and the dataplane's log; restart cordon-dataplane if it stays so",
                );
            }
        }
        if addressing_idle {
            let in_force = self.policy.versions().addressing;
            self.retired.retain(|r| r.version > in_force);
            if self.publish_addressing {
                match self.policy.publish_addressing(self.networks.addressing()) {
                    Ok(_) => self.publish_addressing = false,
                    Err(e) => self.complain(
                        "addressing",
                        e.to_string(),
                        "shorten the list of [[network]] and reload",
                    ),
                }
            }
        }
        if locks_idle && self.publish_locks {
            let (ranges, exceptions) = self.locks.enforced();
            self.stats.ranges = ranges.len() as u64;
            let segment = self.segment_rules();
            match self.policy.publish_locks(&ranges, &exceptions, &segment) {
                Ok(_) => {
                    self.published_segment = segment;
                    self.publish_locks = false;
                    self.content("locks");
                }
                Err(e) => {
                    self.publish_locks = false;
                    self.complain(
                        "locks",
                        format!(
                            "the lock list does not fit: {e}; locks of known hosts are enforced all the same"
                        ),
                        "raise [tables] locks and restart both daemons",
                    );
                }
            }
        }
        let stuck = self.unacknowledged_since.is_some_and(|since| self.now.mono_ns - since > STUCK_NS);
        self.release_answers(stuck);
    }

    /// Says of each row whether the dataplane can enforce it.
    pub(crate) fn check_rows(&mut self) {
        let rows: Vec<api::LockRow> = self.locks.rows().cloned().collect();
        for row in rows {
            let mut checked = row.clone();
            self.set_enforced(&mut checked);
            if checked != row {
                self.locks.insert(checked);
            }
        }
    }

    /// Why the dataplane enforces nothing of a row.
    pub(crate) fn why_not(&self, row: &api::LockRow) -> Option<String> {
        match &row.target {
            Target::Server(id) if row.addresses.is_empty() => {
                Some(format!("which addresses {id} has is not known"))
            }
            Target::Mac(_) => self.mac_why_not(),
            Target::Prefix(ipnet::IpNet::V6(net)) if net.prefix_len() > self.networks.ipv6_length() => {
                Some(format!(
                    "it is a part of a server: an IPv6 server is a /{} here",
                    self.networks.ipv6_length()
                ))
            }
            _ if row.nets().iter().any(|net| self.networks.meets(&range(net))) => None,
            _ => Some("it lies in no configured network".to_owned()),
        }
    }

    /// Why the dataplane enforces nothing of locks on hardware addresses.
    pub(crate) fn mac_why_not(&self) -> Option<String> {
        let why = "no wire is inside = \"l2\": behind a router one MAC address stands for everybody";
        (!self.sees_segment()).then(|| why.to_owned())
    }
}
