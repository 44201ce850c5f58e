//! Whether answers can be seen at all: rules that judge by missing answers need both directions of the traffic.
//!
//! Looked at over the whole box, second by second. Hosts that look like offenders themselves say nothing about it: what
//! they ask may well go unanswered.

use crate::window::Pair;

/// Seconds kept.
const SECONDS: usize = 10;
/// Seconds over which a sudden end of answers is noticed: sooner than silence becomes a failure (5 s).
const SUDDEN: usize = 3;
/// So much traffic over [`SECONDS`] says something; a proportional part of it over fewer.
const ENOUGH_PACKETS: u64 = 1_000;
const ENOUGH_SYN: u64 = 100;
/// Rules stay blind for so long after the last sign: what was asked meanwhile is still without an answer.
const STICKY_NS: u64 = 10_000_000_000;
/// SYN-ACK of a host in a tick that may answer SYN of ticks before.
const LATE_ANSWERS: u64 = 8;
const SECOND_NS: u64 = 1_000_000_000;

#[derive(Clone, Copy, Debug, Default)]
struct Second {
    number: u64,
    syn: u64,
    syn_ack: u64,
    out_packets: u64,
    in_packets: u64,
}

/// The last seconds.
#[derive(Clone, Debug, Default)]
pub struct Visibility {
    seconds: [Second; SECONDS],
    sign: Option<(u64, &'static str)>,
}

impl Visibility {
    /// Adds what a host did in a tick that ended at `now_ns`. `blameless`: it does not look like an offender.
    pub fn add(&mut self, now_ns: u64, pair: &Pair, blameless: bool) {
        let number = now_ns / SECOND_NS;
        let place = usize::try_from(number % SECONDS as u64).unwrap_or(0);
        let s = &mut self.seconds[place];
        if s.number != number {
            *s = Second { number, ..Second::default() };
        }
        s.in_packets += pair[1].packets;
        if blameless {
            s.out_packets += pair[0].packets;
            s.syn += pair[0].syn;
            // An answer may come a tick later than its question; a flood of SYN-ACK to one host is no answer.
            s.syn_ack += pair[1].syn_ack.min(pair[0].syn + LATE_ANSWERS);
        }
    }

    /// Looks once more. Call each tick, when all hosts of it were added.
    pub fn look(&mut self, now_ns: u64) {
        let now = now_ns / SECOND_NS;
        for seconds in [SUDDEN, SECONDS] {
            let recent = |s: &&Second| s.number <= now && s.number + seconds as u64 > now;
            let sum = |f: fn(&Second) -> u64| self.seconds.iter().filter(recent).map(f).sum::<u64>();
            let share = |enough: u64| enough * seconds as u64 / SECONDS as u64;
            let (syn, syn_ack) = (sum(|s| s.syn), sum(|s| s.syn_ack));
            if sum(|s| s.in_packets) == 0 && sum(|s| s.out_packets) >= share(ENOUGH_PACKETS) {
                self.sign = Some((now_ns, "the wire shows one direction only"));
            } else if syn >= share(ENOUGH_SYN) && syn_ack * 10 < syn * 7 {
                self.sign = Some((
                    now_ns,
                    "fewer than 70 % of all servers' connections are answered: an outage upstream, or asymmetric routing",
                ));
            }
        }
    }

    /// Why rules that judge by missing answers cannot judge at present.
    pub fn blind(&self, now_ns: u64) -> Option<&'static str> {
        self.sign.filter(|(at, _)| now_ns.saturating_sub(*at) < STICKY_NS).map(|(_, why)| why)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::window::Counts;

    fn pair(out: u64, syn: u64, inbound: u64, syn_ack: u64) -> Pair {
        [
            Counts { packets: out, syn, ..Counts::default() },
            Counts { packets: inbound, syn_ack, ..Counts::default() },
        ]
    }

    fn at(second: u64) -> u64 {
        1_000 * SECOND_NS + second * SECOND_NS
    }

    #[test]
    fn one_direction_alone_makes_blind_and_little_traffic_says_nothing() {
        let mut v = Visibility::default();
        v.add(at(0), &pair(200, 0, 0, 0), true);
        v.look(at(0));
        assert_eq!(v.blind(at(0)), None);
        v.add(at(1), &pair(200, 0, 0, 0), true);
        v.look(at(1));
        assert!(v.blind(at(1)).is_some());
        assert!(v.blind(at(1) + STICKY_NS - 1).is_some() && v.blind(at(1) + STICKY_NS).is_none());
    }

    #[test]
    fn seven_in_ten_answers_are_enough() {
        let look = |syn_ack| {
            let mut v = Visibility::default();
            v.add(at(0), &pair(5_000, 1_000, 900, syn_ack), true);
            v.look(at(0));
            v.blind(at(0)).is_some()
        };
        assert!(look(699) && !look(700));
    }

    #[test]
    fn an_outage_is_noticed_before_silence_becomes_a_failure() {
        let mut v = Visibility::default();
        for s in 0..60 {
            v.add(at(s), &pair(1_000, 20, 900, 20), true);
            v.look(at(s));
        }
        assert_eq!(v.blind(at(59)), None);
        for s in 60..64 {
            v.add(at(s), &pair(400, 20, 0, 0), true);
            v.look(at(s));
        }
        assert!(v.blind(at(64)).is_some());
    }

    #[test]
    fn answers_that_come_a_tick_later_are_answers() {
        let mut v = Visibility::default();
        for i in 0..200 {
            v.add(at(0), &pair(5, if i % 2 == 0 { 5 } else { 0 }, 5, if i % 2 == 0 { 0 } else { 5 }), true);
        }
        v.look(at(0));
        assert_eq!(v.blind(at(0)), None);
    }

    #[test]
    fn an_offender_blinds_nobody() {
        let mut v = Visibility::default();
        v.add(at(0), &pair(100_000, 100_000, 900, 0), false);
        v.add(at(0), &pair(1_000, 50, 900, 50), true);
        v.look(at(0));
        assert_eq!(v.blind(at(0)), None);
    }
}
