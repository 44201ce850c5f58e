//! The inventory in force: where it comes from, and what follows from a new one.

use std::path::Path;
use std::sync::Arc;

use config::{Config, Inventory, Site};

use crate::bindings::bound;
use crate::control::{Control, Use};
use crate::effect::{Now, StoreOp};
use crate::log;
use crate::store;

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
        self.write_all_flags();
        self.keep_inventory();
        old
    }

    /// Keeps it as the last good one.
    pub(crate) fn keep_inventory(&mut self) {
        if let (Use::Live, Some(i)) = (self.usage, &self.inventory) {
            let op = StoreOp::KeepInventory(Arc::clone(i));
            self.keep(vec![op]);
        }
    }
}
