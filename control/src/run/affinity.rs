//! Which cores the control thread uses, and those that it starts.

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

use crate::log;

/// Threads and processes inherit their parent's cores: those started by a pinned thread would all sit on its one core.
#[derive(Debug, Default)]
pub(super) struct Affinity {
    /// All cores that this process may use; none while nothing is pinned.
    pinned: Option<(CpuSet, usize)>,
}

const SELF: Pid = Pid::from_raw(0);

impl Affinity {
    /// Pins the calling thread to a core, if one is configured.
    pub(super) fn pin(core: Option<usize>) -> Affinity {
        let Some(core) = core else { return Affinity::default() };
        let all = match sched_getaffinity(SELF) {
            Ok(all) => all,
            Err(e) => {
                log::warning(&format!("sched_getaffinity: {}; the control thread runs unpinned", e.desc()));
                return Affinity::default();
            }
        };
        if !core_affinity::set_for_current(core_affinity::CoreId { id: core }) {
            log::warning(&format!(
                "the control thread cannot be pinned to core {core} and runs unpinned; is [control] core right?"
            ));
            return Affinity::default();
        }
        Affinity { pinned: Some((all, core)) }
    }

    /// Runs something that may start threads or processes.
    pub(super) fn with_all_cores<T>(&self, f: impl FnOnce() -> T) -> T {
        let Some((all, core)) = &self.pinned else { return f() };
        // Both calls worked before, on this thread; a failure costs speed and nothing else.
        let _ = sched_setaffinity(SELF, all);
        let result = f();
        core_affinity::set_for_current(core_affinity::CoreId { id: *core });
        result
    }
}
