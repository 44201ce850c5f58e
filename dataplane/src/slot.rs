//! The policy as workers hold it: a snapshot that is looked at again only when its version changed.
//!
//! A worker pays one load a burst. Housekeeping keeps every retired snapshot until it is its last owner, so that no
//! worker ever unmaps memory.

use std::sync::atomic::{
    AtomicU64,
    Ordering::{Acquire, Release},
};
use std::sync::{Arc, Mutex, TryLockError};

use crossbeam::utils::CachePadded;
use region::Policy;

/// Where housekeeping publishes the policy mapping.
#[derive(Debug, Default)]
pub(crate) struct PolicySlot {
    version: CachePadded<AtomicU64>,
    slot: Mutex<Option<Arc<Policy>>>,
}

impl PolicySlot {
    /// Puts a mapping in force for all workers.
    pub(crate) fn publish(&self, policy: Option<Arc<Policy>>) {
        // A poisoned lock still holds a whole value: it is only ever replaced.
        *self.slot.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = policy;
        self.version.fetch_add(1, Release);
    }
}

/// A worker's view of the slot.
#[derive(Debug)]
pub(crate) struct PolicyHandle {
    slot: Arc<PolicySlot>,
    seen: u64,
    policy: Option<Arc<Policy>>,
}

impl PolicyHandle {
    pub(crate) fn new(slot: Arc<PolicySlot>) -> PolicyHandle {
        let mut handle = PolicyHandle { slot, seen: u64::MAX, policy: None };
        handle.refresh();
        handle
    }

    /// The mapping in force. While housekeeping holds the slot the previous one serves for another burst.
    #[inline]
    pub(crate) fn refresh(&mut self) -> Option<&Policy> {
        let version = self.slot.version.load(Acquire);
        if version != self.seen {
            match self.slot.slot.try_lock() {
                Ok(current) => {
                    self.policy = current.clone();
                    self.seen = version;
                }
                Err(TryLockError::Poisoned(current)) => {
                    self.policy = current.into_inner().clone();
                    self.seen = version;
                }
                Err(TryLockError::WouldBlock) => {}
            }
        }
        self.policy.as_deref()
    }
}
