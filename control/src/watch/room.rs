//! Memory of all watched hosts together.
//!
//! Each host has bounds of its own, which a thousand hosts at them would make 10 GiB. So there are bounds for all; once one
//! is reached a host keeps no more than its share. What is beyond is counted as it is beyond a host's own bounds:
//! contacts by port only, flows tick by tick, externals as others.

use region::flows::WATCHED_MAX;

use super::flows::FLOWS_MAX;
use super::remotes::REMOTES_MAX;
use crate::scan::CONTACTS_MAX;

/// Of all watched hosts: some 900 MiB of contacts, 400 MiB of flows and 250 MiB of externals, if all is used. Hosts that came
/// to more before others came keep it until it ends, so that twice as much is the utmost.
const ALL: Kept = Kept { contacts: 1 << 20, flows: 1 << 20, remotes: 1 << 17 };

/// Numbers of what is kept, or may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) contacts: usize,
    pub(super) flows: usize,
    pub(super) remotes: usize,
}

impl Kept {
    /// What each host may keep, while all together keep this.
    pub(super) fn shares(&self) -> Kept {
        // A share of as many hosts as there can be: of those that come later none gets more, however many come.
        let share = |kept: usize, all: usize, most: usize| {
            if kept < all { most } else { (all / WATCHED_MAX).min(most) }
        };
        Kept {
            contacts: share(self.contacts, ALL.contacts, CONTACTS_MAX),
            flows: share(self.flows, ALL.flows, FLOWS_MAX),
            remotes: share(self.remotes, ALL.remotes, REMOTES_MAX),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_have_all_they_may_and_a_thousand_share() {
        let few = Kept { contacts: 30_000, flows: 90_000, remotes: 2_000 };
        assert_eq!(few.shares(), Kept { contacts: CONTACTS_MAX, flows: FLOWS_MAX, remotes: REMOTES_MAX });
        let full = Kept { contacts: 1 << 20, flows: 1 << 20, remotes: 1 << 17 };
        let each = full.shares();
        assert!(each.contacts * 1023 <= ALL.contacts && each.flows * 1023 <= ALL.flows);
        assert!(each.contacts >= 1_000, "enough for every limit on one port");
        assert!(each.remotes >= 100, "enough for a summary");
    }

    /// Every host asks for as much as it can get, one more host with every tick.
    #[test]
    fn all_together_never_keep_more_than_twice_the_bound() {
        let mut hosts: Vec<usize> = Vec::new();
        for _ in 0..1023 {
            hosts.push(0);
            let total = hosts.iter().sum();
            let most = Kept { contacts: total, flows: 0, remotes: 0 }.shares().contacts;
            for h in &mut hosts {
                *h = (*h).max(most);
            }
            assert!(hosts.iter().sum::<usize>() <= 2 * ALL.contacts);
        }
    }
}
