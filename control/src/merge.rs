//! From the workers' lines to histories and findings: costs by hosts that moved.

use std::sync::Arc;
use std::sync::atomic::Ordering::Acquire;

use config::{Measure, Way};
use region::{Dir, Facts, HostId};

use crate::control::Control;
use crate::detect::{Visibility, amount, detect, is_near_a_limit};
use crate::window::{Counts, Pair, Window};

/// Length of one half of the box-wide view.
const VISIBILITY_NS: u64 = 5_000_000_000;

impl Control {
    /// Merges what the workers counted since the last tick, and judges every host that moved.
    pub(crate) fn merge_and_judge(&mut self) {
        let Some(life) = &mut self.life else { return };
        let facts = Arc::clone(&life.facts);
        let now_ns = self.now.mono_ns;
        let span_ns = now_ns.saturating_sub(life.merged_ns).max(1);
        life.merged_ns = now_ns;
        let gap = std::mem::take(&mut life.gap);

        let words = (facts.capacities().hosts() as usize).div_ceil(64);
        let mut moved = std::mem::take(&mut self.scratch);
        moved.clear();
        moved.resize(words, if gap { u64::MAX } else { 0 });
        for (w, counters) in facts.workers().iter().enumerate() {
            let asked = life.asked[w];
            let seen = counters.seen_tick.load(Acquire);
            let mut take = |tick: u64| {
                facts.touched(w, tick).for_each_word(|word, bits| {
                    if let Some(m) = moved.get_mut(word) {
                        *m |= bits;
                    }
                });
            };
            if seen == asked {
                // The worker has turned: the other bitmap is complete, and is read for the last time.
                take(asked.wrapping_sub(1));
                life.asked[w] = asked + 1;
                self.policy.set_tick(w, asked + 1);
            }
            // The bitmap being written is read too, so that what came in this tick is judged in this tick; what is
            // missed here stands in it when the worker has turned.
            take(seen);
        }
        let mut active = 0;
        for (word, bits) in moved.iter().enumerate() {
            let mut bits = *bits;
            while bits != 0 {
                let id = word * 64 + bits.trailing_zeros() as usize;
                bits &= bits - 1;
                let host = HostId(u32::try_from(id).unwrap_or(u32::MAX));
                active += u64::from(self.merge_host(&facts, host, span_ns, gap));
            }
        }
        self.scratch = moved;
        if !gap {
            self.stats.active_hosts = active;
        }
        self.turn_visibility();
    }

    /// Merges one host. True when it moved.
    fn merge_host(&mut self, facts: &Arc<Facts>, host: HostId, span_ns: u64, gap: bool) -> bool {
        let mut pair: Pair = [Counts::default(); 2];
        let mut any = false;
        for dir in Dir::ALL {
            let totals = facts.totals(host, dir);
            let delta = totals.since(&self.policy.accounted(host, dir));
            if delta.packets != 0 {
                self.policy.set_accounted(host, dir, &totals);
                pair[dir as usize] = Counts::of_delta(&delta);
                any = true;
            }
        }
        if !any {
            return false;
        }
        self.note_v6(facts, host);
        if !gap {
            self.meters.add(host, self.now.mono_ns, &pair);
        }
        let group = self.networks.group(host, Some(facts)).map(|g| g.name.clone());
        let Some(group) = group else { return true };
        let limits = self.config.limits_for(&group);
        let now_ns = self.now.mono_ns;
        let near = is_near_a_limit(&pair, span_ns, limits);
        let window = match self.windows.entry(host) {
            std::collections::hash_map::Entry::Occupied(e) => e.into_mut(),
            std::collections::hash_map::Entry::Vacant(e) if near => {
                e.insert(Box::new(Window::new(now_ns.saturating_sub(span_ns))))
            }
            std::collections::hash_map::Entry::Vacant(_) => {
                if !gap {
                    self.visibility.0.add(&pair, true);
                }
                return true;
            }
        };
        window.add(now_ns, span_ns, &pair, gap);
        if gap {
            return true;
        }
        let sums = window.sums(now_ns);
        let findings = detect(&sums, limits);
        // A host above a limit says nothing about whether answers can be seen: it may be what is wrong.
        let blameless = !findings.iter().any(|f| crate::detect::needs_answers(f.rule));
        let unanswered = amount(Way::Out, Measure::Syn, &pair[0], &pair[1]);
        self.visibility.0.add(&pair, blameless && unanswered * 1_000_000_000 / span_ns.max(1) < 250);
        for f in findings {
            self.judge(host, &group, &f, &sums, span_ns);
        }
        true
    }

    /// An IPv6 host that moved and is not known yet: a worker has just inserted it.
    fn note_v6(&mut self, facts: &Facts, host: HostId) {
        if host.0 < facts.capacities().hosts_v4 {
            return;
        }
        let Some(key) = facts.key_v6(host) else { return };
        let Some(life) = &mut self.life else { return };
        if life.v6.insert(key, host).is_none() {
            self.write_flags(host);
        }
    }

    fn turn_visibility(&mut self) {
        let (current, previous, began) = &mut self.visibility;
        let lasted = self.now.mono_ns.saturating_sub(*began);
        if lasted >= VISIBILITY_NS {
            *previous = std::mem::take(current);
            // What lies two halves back says nothing of the present.
            if lasted >= 2 * VISIBILITY_NS {
                *previous = Visibility::default();
            }
            *began = self.now.mono_ns;
        }
    }

    /// Why rules that need answers cannot judge at present.
    pub(crate) fn blind(&self) -> Option<&'static str> {
        let (a, b, _) = &self.visibility;
        Visibility {
            syn: a.syn + b.syn,
            syn_ack: a.syn_ack + b.syn_ack,
            out_packets: a.out_packets + b.out_packets,
            in_packets: a.in_packets + b.in_packets,
        }
        .blind()
    }
}

impl Visibility {
    fn add(&mut self, pair: &Pair, blameless: bool) {
        self.in_packets += pair[1].packets;
        if blameless {
            self.out_packets += pair[0].packets;
            self.syn += pair[0].syn;
            self.syn_ack += pair[1].syn_ack.min(pair[0].syn);
        }
    }
}
