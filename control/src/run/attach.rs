//! Attaching to the facts of a dataplane that has come, detaching from those of one that is gone.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use region::{Capacities, Facts};

use super::{Shell, now};
use crate::log;

/// Opens the facts of the dataplane that holds the writer's lock. `Ok(None)`: it has not made its file yet.
fn open(tables: &Path, writer: i32, ours: Capacities) -> Result<Option<Facts>, String> {
    let facts = match Facts::open(tables) {
        Ok(facts) => facts,
        Err(region::RegionError::Io { .. }) if !region::facts::path(tables).exists() => return Ok(None),
        Err(e) => return Err(e.to_string()),
    };
    // Between taking the lock and giving its file a name, a dataplane's predecessor's file is still there.
    if facts.header().pid.load(Relaxed) != u64::try_from(writer).unwrap_or(0) {
        return Ok(None);
    }
    let theirs = facts.capacities();
    if (theirs.hosts_v4, theirs.hosts_v6) != (ours.hosts_v4, ours.hosts_v6) {
        return Err(format!(
            "the dataplane has tables for {} IPv4 and {} IPv6 hosts, cordond for {} and {}: it enforces nothing that cordond says",
            theirs.hosts_v4, theirs.hosts_v6, ours.hosts_v4, ours.hosts_v6
        ));
    }
    Ok(Some(facts))
}

impl Shell {
    /// Compares what is attached with what lives. Two system calls when nothing has changed.
    pub(super) fn attach_or_detach(&mut self) {
        let tables = self.tables.clone();
        let writer = Facts::writer(&tables);
        let attached = self.control.facts().map(|f| {
            let pid = f.header().pid.load(Relaxed);
            f.is_current(&tables) && writer.and_then(|w| u64::try_from(w).ok()) == Some(pid)
        });
        if attached == Some(true) {
            return;
        }
        if attached == Some(false) {
            log::error("the dataplane is gone: no packet passes");
            self.control.detach();
        }
        let Some(writer) = writer else { return };
        match open(&tables, writer, self.control.policy().capacities()) {
            Ok(Some(facts)) => {
                let text = format!(
                    "attached to the dataplane, process {writer}, {} workers, {:?} pages",
                    facts.capacities().workers,
                    facts.page_kind()
                );
                log::info(&text);
                self.control.attach(Arc::new(facts), now());
                self.control.content("facts");
                self.attach_trouble = None;
            }
            Ok(None) => {}
            Err(e) => {
                if self.attach_trouble.as_ref() != Some(&e) {
                    log::error(&e);
                    let next =
                        "run both daemons of one version with one configuration: restart the older one";
                    self.control.complain("facts", e.clone(), next);
                    self.attach_trouble = Some(e);
                }
            }
        }
    }
}
