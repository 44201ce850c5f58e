//! The inventory in force: where it comes from, and what follows from a new one.

mod owners;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;

use api::{Failure, LockRow, Target};
use config::{Config, Inventory, Server, Site};
use ipnet::IpNet;
use region::{Facts, HostId};

use crate::bindings::bound;
use crate::control::{Control, Use};
use crate::effect::{Now, StoreOp};
use crate::requests::{not_found, refused};
use crate::{log, store};
pub(crate) use owners::Owners;

/// What the operator can do about an inventory that is wrong.
pub(crate) const NEXT_STEP: &str = "correct the inventory (cordon check), then: cordon reload";

/// The inventory that the configuration names, for a start; the last good one if that is wrong. What is wrong, for status.
pub(crate) fn at_start(config: &Config, state: &Path) -> (Option<Arc<Inventory>>, Option<String>) {
    let e = match config.load_inventory() {
        Ok(found) => return (found.map(Arc::new), None),
        Err(e) => e,
    };
    log::error(&e.to_string());
    let source = e.source();
    let text = match last_good(config, state) {
        Some(i) => {
            let text = format!("{source} is broken, the last good inventory is in force: {e}");
            log::error("the inventory above is broken: running with the last good one");
            return (Some(Arc::new(i)), Some(text));
        }
        None => format!("{source} is broken, and there is no earlier one: no server is known by id: {e}"),
    };
    (None, Some(text))
}

/// It was good once: groups that have gone since do not count against it.
fn last_good(config: &Config, state: &Path) -> Option<Inventory> {
    let path = store::last_good(state)?;
    Inventory::load(&path, Site { groups: None, ..config.site() })
        .inspect_err(|e| log::error(&format!("the last good inventory cannot be read: {e}")))
        .ok()
}

impl Control {
    /// The inventory in force.
    pub fn inventory(&self) -> Option<&Arc<Inventory>> {
        self.inventory.as_ref()
    }

    /// Puts an inventory in force, or takes it away. Returns the one before: letting go of a large one takes longer than
    /// a tick has.
    pub fn set_inventory(&mut self, new: Option<Arc<Inventory>>, now: Now) -> Option<Arc<Inventory>> {
        self.now = now;
        self.bound = bound(new.as_deref());
        let old = std::mem::replace(&mut self.inventory, new);
        self.keep_inventory();
        self.index_owners();
        self.follow_inventory();
        self.check_rows();
        self.write_all_flags();
        self.look_for_v6 = true;
        self.publish_locks = true;
        self.publish();
        old
    }

    /// Finds out anew whose which host is.
    pub(crate) fn index_owners(&mut self) {
        let hosts_v4 = self.policy.capacities().hosts_v4;
        self.owners = Owners::new(self.inventory.as_deref(), &self.networks, hosts_v4);
    }

    /// The server of a host, by its place in the inventory.
    pub(crate) fn owner(&mut self, host: HostId, facts: &Facts) -> Option<u32> {
        let inventory = self.inventory.as_deref()?;
        self.owners.of(host, inventory, || self.networks.target(host, Some(facts)))
    }

    /// Whose limits apply to a host: the inventory says it, or its network.
    pub(crate) fn group_of(&mut self, host: HostId, facts: &Facts) -> Option<String> {
        let owner = self.owner(host, facts);
        let inventory = self.inventory.as_deref();
        let server = inventory.zip(owner).and_then(|(i, owner)| i.at(owner));
        let network = self.networks.group(host, Some(facts))?;
        Some(server.and_then(|s| s.group.as_ref()).unwrap_or(&network.name).clone())
    }

    /// What a lock on a server covers: what the inventory gives it, and what it was given before and nobody else has now.
    /// So an address that moved to another server goes free, and no other does.
    pub(crate) fn addresses_of(&self, id: &str, before: &[IpNet]) -> Vec<IpNet> {
        let Some(inventory) = &self.inventory else { return before.to_vec() };
        let length = self.networks.ipv6_length();
        let mut all = inventory.held_by(id, length).unwrap_or_default().prefixes;
        for net in before.iter().filter(|n| !all.iter().any(|a| a.contains(*n))).collect::<Vec<_>>() {
            all.extend(inventory.unclaimed(net, id, length));
        }
        all.sort_unstable();
        let mut kept: Vec<IpNet> = Vec::with_capacity(all.len());
        for net in all {
            if kept.last().is_none_or(|k| !k.contains(&net)) {
                kept.push(net);
            }
        }
        kept
    }

    /// Locks on servers cover what their servers have now; flags are the caller's.
    pub(crate) fn follow_inventory(&mut self) {
        let on_server = |r: &&LockRow| matches!(r.target, Target::Server(_));
        let rows: Vec<LockRow> = self.locks.rows().filter(on_server).cloned().collect();
        let mut ops = Vec::new();
        for row in rows {
            let Target::Server(id) = &row.target else { continue };
            let addresses = self.addresses_of(id, &row.addresses);
            if addresses == row.addresses {
                continue;
            }
            let list = |nets: &[IpNet]| nets.iter().map(IpNet::to_string).collect::<Vec<_>>().join(" ");
            let what = format!(
                "lock {} on {} follows the inventory: {} instead of {}",
                row.id,
                row.target,
                list(&addresses),
                list(&row.addresses)
            );
            let generation = self.locks.next_generation();
            let row = LockRow { addresses, generation, ..row };
            self.locks.insert(row.clone());
            ops.push(StoreOp::PutLock(Box::new(row)));
            ops.push(StoreOp::Audit { at: self.now.time(), who: "cordon".to_owned(), what });
        }
        if !ops.is_empty() {
            self.keep(ops);
        }
    }

    /// A server by its id, or what is wrong with that.
    pub(crate) fn known_server(&self, id: &str) -> Result<&Arc<Inventory>, Failure> {
        let Some(inventory) = &self.inventory else {
            return Err(refused(
                format!("server:{id}: there is no inventory that says which addresses the server has"),
                "name one with [inventory] file, then: cordon reload; or use its address or prefix",
            ));
        };
        if inventory.server(id).is_none() {
            return Err(not_found(
                format!("the inventory {} has no server {id}", inventory.source()),
                "ids are written as in the inventory; `cordon show ADDRESS` says whose an address is",
            ));
        }
        Ok(inventory)
    }

    /// What a lock by hand on a server would cover.
    pub(crate) fn lockable(&self, id: &str) -> Result<Vec<IpNet>, Failure> {
        let inventory = self.known_server(id)?;
        let length = self.networks.ipv6_length();
        let held = inventory.held_by(id, length).unwrap_or_default();
        if !held.prefixes.is_empty() {
            return Ok(held.prefixes);
        }
        Err(match held.shared.first() {
            Some(host) => refused(
                format!("server:{id} shares {host} with others, who would be locked too"),
                format!("an IPv6 server is a /{length} here: lock {host} if you mean all of them"),
            ),
            None => refused(
                format!("server:{id} has no address in the inventory"),
                "give it one, or lock an address or prefix",
            ),
        })
    }

    /// What an operator ought to know of a lock on a server.
    pub(crate) fn remark(&self, row: &LockRow) -> Option<String> {
        let Target::Server(id) = &row.target else { return None };
        let last_known = "what it covered last stays locked";
        let Some(inventory) = &self.inventory else {
            return Some(format!("no inventory is in force: {last_known}"));
        };
        let Some(held) = inventory.held_by(id, self.networks.ipv6_length()) else {
            return Some(format!("the inventory no longer has this server: {last_known}"));
        };
        if let Some(shared) = held.shared.first() {
            return Some(format!("{shared} is not covered: other servers have parts of it"));
        }
        let surplus = row.addresses.iter().find(|n| !held.prefixes.contains(n))?;
        Some(format!("{surplus} stays locked, which the inventory gives to nobody now"))
    }

    /// The server that a target is, or lies in.
    pub(crate) fn server_of(&self, target: &Target) -> Option<&Server> {
        let inventory = self.inventory.as_ref()?;
        match target {
            Target::Server(id) => inventory.server(id),
            Target::Prefix(net) => inventory.of_host(net),
            Target::Mac(mac) => inventory.of_mac(mac.0),
        }
    }

    /// Whether a host lies in a target.
    pub(crate) fn is_within(&self, host: &IpNet, target: &Target) -> bool {
        match target {
            Target::Prefix(net) => net.contains(host),
            Target::Mac(_) => false,
            Target::Server(id) => {
                self.inventory.as_ref().and_then(|i| i.of_host(host)).is_some_and(|s| s.id == *id)
            }
        }
    }

    /// Rows on exactly this target; of a server also those on addresses of its own.
    pub(crate) fn rows_on(&self, target: &Target) -> Vec<&LockRow> {
        let Target::Server(id) = target else { return self.locks.on(target) };
        let own = self.addresses_of(id, &[]);
        let is_own = |r: &&LockRow| match &r.target {
            Target::Prefix(net) => own.iter().any(|o| o.contains(net)),
            Target::Server(other) => other == id,
            // A device of the server's is not the server: it was locked by itself, and is let in by itself.
            Target::Mac(_) => false,
        };
        self.locks.rows().filter(is_own).collect()
    }

    /// Keeps it as the last good one.
    pub(crate) fn keep_inventory(&mut self) {
        if let (Use::Live, Some(i)) = (self.usage, &self.inventory) {
            let op = StoreOp::KeepInventory(Arc::clone(i));
            self.keep(vec![op]);
        }
    }
}
