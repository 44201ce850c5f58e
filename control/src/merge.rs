//! From the workers' lines to histories and findings: costs by hosts that moved.

use std::sync::Arc;
use std::sync::atomic::Ordering::Acquire;

use config::{Measure, Way};
use region::{Dir, Facts, HostFlags, HostId};

use crate::control::Control;
use crate::detect::{amount, detect, is_near_a_limit, may_amplify};
use crate::networks::range;
use crate::scan::{Env, ScanLimits};
use crate::visibility::{Visibility, Voice};
use crate::watch::{Hearing, Reason};
use crate::window::{Counts, Pair, Window};

/// Time between two ticks, in which what is found has happened at the latest.
const TICK_NS: u64 = 100_000_000;
/// Hosts ahead of the one that is merged whose lines are asked for: those of a few servers among a million are in no cache.
const AHEAD: usize = 16;

impl Control {
    /// Merges what the workers counted since the last tick, and judges every host that moved.
    pub(crate) fn merge_and_judge(&mut self) {
        let Some(life) = &mut self.life else { return };
        let facts = Arc::clone(&life.facts);
        let now_ns = self.now.mono_ns;
        let span_ns = now_ns.saturating_sub(life.merged_ns).max(1);
        life.merged_ns = now_ns;
        let gap = std::mem::take(&mut life.gap);
        self.span_ns = span_ns;

        let moved = &mut self.moved;
        if gap {
            moved.add_all();
        }
        for (w, counters) in facts.workers().iter().enumerate() {
            let asked = life.asked[w];
            let seen = counters.seen_tick.load(Acquire);
            let mut take =
                |tick: u64| facts.touched(w, tick).for_each_word(|word, bits| moved.add(word, bits));
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
        self.sending_hosts = 0;
        let moved = self.moved.take();
        for (i, host) in moved.iter().enumerate() {
            if let Some(later) = moved.get(i + AHEAD) {
                facts.prefetch_totals(*later);
                self.policy.prefetch_accounted(*later);
                self.meters.prefetch(*later);
            }
            active += u64::from(self.merge_host(&facts, *host, span_ns, gap));
        }
        self.moved.recycle(moved);
        if !gap {
            self.stats.active_hosts = active;
            self.stats.sending_hosts = self.sending_hosts;
        }
        self.visibility.iter_mut().for_each(|v| v.look(now_ns));
    }

    /// Merges one host. True when it moved.
    fn merge_host(&mut self, facts: &Arc<Facts>, host: HostId, span_ns: u64, gap: bool) -> bool {
        let mut pair: Pair = [Counts::default(); 2];
        let mut before = [0; 2];
        let mut any = false;
        for dir in Dir::ALL {
            let totals = facts.totals(host, dir);
            let accounted = self.policy.accounted(host, dir);
            before[dir as usize] = if dir == Dir::Out { accounted.syn } else { accounted.syn_ack };
            let delta = totals.since(&accounted);
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
        self.sending_hosts += u64::from(pair[0].packets > 0);
        if !gap {
            self.meters.add(host, self.now.mono_ns, &pair);
        }
        let group = self.group_of(host, facts);
        let Some(group) = group else { return true };
        let limits = self.config.limits_for(&group);
        let now_ns = self.now.mono_ns;
        for (counts, began) in pair.iter_mut().zip(self.watch.take_new_flows(host)) {
            counts.flows = began;
        }
        pair[Way::Out as usize].amplified = self.watch.amplified(host, now_ns);
        if !gap && let Some(w) = self.watch.get_mut(host) {
            w.hearing.note(now_ns, pair[0].packets, pair[1].packets);
        }
        let near = is_near_a_limit(&pair, span_ns, limits);
        let amplifies = may_amplify(&pair[Way::Out as usize], span_ns, limits);
        let nominated = !gap && self.nominate(facts, host, &pair, near, amplifies);
        let kept = near || self.watch.is_watched(host);
        let limits = self.config.limits_for(&group);
        let suspicious = self.watch.is_suspicious(host);
        let family = usize::from(host.0 >= facts.capacities().hosts_v4);
        let window = match self.windows.entry(host) {
            std::collections::hash_map::Entry::Occupied(e) => e.into_mut(),
            std::collections::hash_map::Entry::Vacant(e) if kept => {
                e.insert(Box::new(Window::new(now_ns.saturating_sub(span_ns))))
            }
            std::collections::hash_map::Entry::Vacant(_) => {
                if nominated {
                    self.nominated.insert(host, pair);
                }
                if !gap {
                    self.visibility[family].add(now_ns, host, &pair, Voice::of(!suspicious, before));
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
        let blameless = blameless && !suspicious && unanswered * 1_000_000_000 / span_ns.max(1) < 250;
        self.visibility[family].add(now_ns, host, &pair, Voice::of(blameless, before));
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

    /// Why rules that need answers cannot judge a host at present: IPv4 and IPv6 have ways of their own.
    pub(crate) fn blind(&self, host: &ipnet::IpNet) -> Option<&'static str> {
        self.visibility_of(host).blind(self.now.mono_ns)
    }

    fn visibility_of(&self, host: &ipnet::IpNet) -> &Visibility {
        let [v4, v6] = &self.visibility;
        if host.addr().is_ipv4() { v4 } else { v6 }
    }

    /// Notes why a host is to be watched, if it is.
    fn nominate(&mut self, facts: &Facts, host: HostId, pair: &Pair, near: bool, amplifies: bool) -> bool {
        let now_ns = self.now.mono_ns;
        let packets = self.meters.last_second(host, now_ns);
        let packets = packets[0].packets + packets[1].packets;
        let opens = pair[0].opens;
        // Segments without answers, of which no map is kept: an ACK scan.
        let mute = pair[0].tcp >= 8 && pair[1].tcp * 8 < pair[0].tcp;
        // More was asked in this tick than came back.
        let asks = pair[0].syn > pair[1].syn_ack
            || pair[0].udp > pair[1].udp
            || pair[0].icmp.saturating_sub(pair[0].reactions_icmp) > pair[1].icmp;
        let reason = if near {
            Some(Reason::strong(packets))
        } else if opens > 0 || asks {
            let maps = facts.fanout(host, self.watch.epoch());
            let seen = Reason::of_fanout(&maps, opens, packets);
            let seen =
                seen.filter(|r| r.strong).or_else(|| Reason::of_full_map(&maps, asks, packets)).or(seen);
            seen.or_else(|| Reason::of_contacts(&maps, opens, packets))
        } else {
            None
        };
        // So do many that are none: they are watched while there is room.
        let reason = reason.or_else(|| amplifies.then_some(Reason { strong: false, score: 0.5, packets }));
        let reason = reason.or_else(|| mute.then_some(Reason { strong: false, score: 1.0, packets }));
        if let Some(reason) = reason {
            self.watch.nominate(host, reason, now_ns);
        }
        reason.is_some()
    }

    /// Takes in what the dataplane kept of watched hosts. Before host lines are merged, so that what was counted of a host
    /// is never less than what was recorded of it.
    pub(crate) fn read_watched(&mut self) {
        let Some(facts) = self.facts().cloned() else { return };
        self.watch.read(&self.policy, &facts, self.now.mono_ns);
    }

    /// Judges what watched hosts contact.
    pub(crate) fn judge_scans(&mut self) {
        let Some(facts) = self.facts().cloned() else { return };
        let now_ns = self.now.mono_ns;
        let epoch = self.watch.epoch();
        let quick = self.config.scan.clone();
        // Who was answered until just now is not judged by silence of 300 ms: it may be an outage that begins.
        let patient = ScanLimits { silence_fast_ns: quick.silence_ns, ..quick.clone() };
        for host in self.watch.hosts() {
            let Some(net) = self.networks.target(host, Some(&facts)) else { continue };
            let group = self.group_of(host, &facts).unwrap_or_default();
            let locked_ns = self.locked_since(&net);
            let networks = &self.networks;
            let internal = |a: std::net::IpAddr| networks.meets(&range(&a.into()));
            let live = |a: std::net::IpAddr| {
                let host = networks.host(a, Some(&facts), self.policy.hash_key());
                host.is_some_and(|h| facts.totals(h, Dir::Out).packets > 0)
            };
            let env = Env {
                can_judge_silence: self.blind(&net).is_none(),
                lab: self.lab,
                is_internal: &internal,
                is_live_internal: &live,
                locked_ns,
                heard_ns: self.watch.get(host).and_then(|w| w.hearing.heard_ns()),
                missed_ns: self.watch.get(host).and_then(|w| w.missed_ns),
            };
            let Some(w) = self.watch.get_mut(host) else { continue };
            if self.stats.ticks.is_multiple_of(100) {
                w.prune(now_ns);
            }
            let maps = facts.fanout(host, epoch);
            let was_answered =
                maps.answered.estimate() * 10.0 > maps.contacted.union(&maps.answered).estimate();
            let findings = w.scan.judge(now_ns, if was_answered { &patient } else { &quick }, &env);
            if findings.is_empty() {
                continue;
            }
            let sums = self.windows.get_mut(&host).map(|w| w.sums(now_ns)).unwrap_or_default();
            for s in findings {
                self.judge(host, &group, &s.into(), &sums, TICK_NS);
            }
        }
    }

    /// Since when what a host asks gets no answers, because it is locked.
    fn locked_since(&self, net: &ipnet::IpNet) -> Option<u64> {
        let flags = self.locks.flags(net);
        if flags & HostFlags::LOCK_IN != 0 {
            return Some(0);
        }
        if flags & HostFlags::LOCK_OUT == 0 {
            return None;
        }
        let first = self.locks.covering(net).iter().map(|r| r.created).min()?;
        let ago_ms = u64::try_from(self.now.time().unix_ms() - first.unix_ms()).unwrap_or(0);
        Some(self.now.mono_ns.saturating_sub(ago_ms.saturating_mul(1_000_000)))
    }

    /// Lets hosts without a reason go, takes others in, and turns generation and epoch.
    pub(crate) fn turn_watch(&mut self) {
        let Some(facts) = self.facts().cloned() else { return };
        let now_ns = self.now.mono_ns;
        for host in self.watch.assign(&self.policy, &facts, now_ns) {
            self.write_flags(host);
            let before = self.meters.last_second(host, now_ns).map(|r| r.packets);
            if let Some(w) = self.watch.get_mut(host) {
                w.hearing = Hearing::new(now_ns, before);
            }
            // The history of a watched host begins no later than its flows do: with this tick.
            if let Some(pair) = self.nominated.remove(&host).filter(|_| self.watch.is_watched(host)) {
                let began_ns = now_ns.saturating_sub(self.span_ns);
                let window = self.windows.entry(host).or_insert_with(|| Box::new(Window::new(began_ns)));
                window.add(now_ns, self.span_ns, &pair, false);
            }
        }
        self.nominated.clear();
        self.watch.turn(&self.policy, &facts, now_ns);
    }
}
