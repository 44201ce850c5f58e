//! Whether answers can be seen at all: rules that judge by missing answers need both directions of the traffic.
//!
//! Looked at over the whole box, second by second. Hosts that look like offenders themselves say nothing about it: what
//! they ask may well go unanswered. Those that have been answered all along are heard first: a flood of spoofed sources
//! is sent in the names of many hosts, but not in the name of ordinary work. Servers whose bursts
//! make them look like offenders are heard too, with one voice each (`panel`).

mod panel;

use region::HostId;

use crate::window::Pair;
use panel::Panel;

/// Seconds kept.
const SECONDS: usize = 10;
/// Seconds over which a sudden end of answers is noticed: sooner than silence becomes a failure (5 s).
const SUDDEN: usize = 3;
/// So much traffic over [`SECONDS`] says something; a proportional part of it over fewer.
const ENOUGH_PACKETS: u64 = 1_000;
const ENOUGH_SYN: u64 = 100;
/// So many SYNs of witnesses are enough to vouch for answers.
const VOUCH_SYN: u64 = 10;
/// Answered connections that make a witness.
const WITNESS_SYN_ACK: u64 = 10;
/// Rules stay blind for so long after the last sign: what was asked meanwhile is still without an answer.
const STICKY_NS: u64 = 10_000_000_000;
/// SYN-ACK of a host in a tick that may answer SYN of ticks before.
const LATE_ANSWERS: u64 = 8;
const SECOND_NS: u64 = 1_000_000_000;

/// What a host's traffic says about answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Voice {
    /// Nothing: it looks like an offender.
    Offender,
    /// It looks like an offender, and has been answered: only that nothing at all comes in any more excuses it.
    Suspect,
    /// It is one of all.
    Anybody,
    /// Until now its connections were answered.
    Witness,
}

impl Voice {
    /// Of a host that has sent so many SYNs until now, and was sent so many SYN-ACKs.
    pub fn of(blameless: bool, before: [u32; 2]) -> Voice {
        let [syn, syn_ack] = before.map(u64::from);
        match (blameless, syn_ack >= WITNESS_SYN_ACK) {
            (false, false) => Voice::Offender,
            (false, true) => Voice::Suspect,
            (true, true) if is_answered(syn, syn_ack) => Voice::Witness,
            (true, _) => Voice::Anybody,
        }
    }
}

/// Whether at least 70 % of connections are answered.
fn is_answered(syn: u64, syn_ack: u64) -> bool {
    syn_ack * 10 >= syn * 7
}

#[derive(Clone, Copy, Debug, Default)]
struct Second {
    number: u64,
    syn: u64,
    syn_ack: u64,
    witness_syn: u64,
    witness_syn_ack: u64,
    /// Of witnesses and suspects.
    known_syn: u64,
    out_packets: u64,
    in_packets: u64,
}

/// The last seconds.
#[derive(Clone, Debug, Default)]
pub struct Visibility {
    seconds: [Second; SECONDS],
    panel: Panel,
    sign: Option<(u64, &'static str)>,
}

impl Visibility {
    /// Adds what a host did in a tick that ended at `now_ns`.
    pub fn add(&mut self, now_ns: u64, host: HostId, pair: &Pair, voice: Voice) {
        self.panel.note(now_ns, host, pair, voice == Voice::Witness);
        let number = now_ns / SECOND_NS;
        let place = usize::try_from(number % SECONDS as u64).unwrap_or(0);
        let s = &mut self.seconds[place];
        if s.number != number {
            *s = Second { number, ..Second::default() };
        }
        s.in_packets += pair[1].packets;
        if matches!(voice, Voice::Witness | Voice::Suspect) {
            s.known_syn += pair[0].syn;
        }
        if matches!(voice, Voice::Offender | Voice::Suspect) {
            return;
        }
        // An answer may come a tick later than its question; a flood of SYN-ACK to one host is no answer.
        let (syn, syn_ack) = (pair[0].syn, pair[1].syn_ack.min(pair[0].syn + LATE_ANSWERS));
        s.out_packets += pair[0].packets;
        s.syn += syn;
        s.syn_ack += syn_ack;
        if voice == Voice::Witness {
            s.witness_syn += syn;
            s.witness_syn_ack += syn_ack;
        }
    }

    /// Forgets which host is which: numbers are given anew.
    pub fn forget_hosts(&mut self) {
        self.panel.forget_all();
    }

    /// Looks once more. Call each tick, when all hosts of it were added.
    pub fn look(&mut self, now_ns: u64) {
        let now = now_ns / SECOND_NS;
        for seconds in [SUDDEN, SECONDS] {
            let recent = |s: &&Second| s.number <= now && s.number + seconds as u64 > now;
            let sum = |f: fn(&Second) -> u64| self.seconds.iter().filter(recent).map(f).sum::<u64>();
            let share = |enough: u64| enough * seconds as u64 / SECONDS as u64;
            let (syn, syn_ack) = (sum(|s| s.syn), sum(|s| s.syn_ack));
            let (witness_syn, witness_syn_ack) = (sum(|s| s.witness_syn), sum(|s| s.witness_syn_ack));
            let vouched = witness_syn >= VOUCH_SYN && is_answered(witness_syn, witness_syn_ack);
            let unanswered = if witness_syn >= share(ENOUGH_SYN) {
                !is_answered(witness_syn, witness_syn_ack)
            } else {
                syn >= share(ENOUGH_SYN) && !is_answered(syn, syn_ack) && !vouched
            };
            let nothing_comes_in = sum(|s| s.in_packets) == 0;
            if nothing_comes_in && sum(|s| s.out_packets) >= share(ENOUGH_PACKETS) {
                self.sign = Some((now_ns, "the wire shows one direction only"));
            } else if nothing_comes_in && sum(|s| s.known_syn) >= share(ENOUGH_SYN) {
                self.sign = Some((now_ns, "nothing comes in any more: an outage upstream"));
            } else if unanswered {
                self.sign = Some((
                    now_ns,
                    "fewer than 70 % of all servers' connections are answered: an outage upstream, or asymmetric routing",
                ));
            }
        }
        if self.panel.tells_an_outage(now_ns) {
            self.sign =
                Some((now_ns, "most servers that were answered hear nothing any more: an outage upstream"));
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

    const HOST: HostId = HostId(1);

    fn at(second: u64) -> u64 {
        1_000 * SECOND_NS + second * SECOND_NS
    }

    #[test]
    fn one_direction_alone_makes_blind_and_little_traffic_says_nothing() {
        let mut v = Visibility::default();
        v.add(at(0), HOST, &pair(200, 0, 0, 0), Voice::Anybody);
        v.look(at(0));
        assert_eq!(v.blind(at(0)), None);
        v.add(at(1), HOST, &pair(200, 0, 0, 0), Voice::Anybody);
        v.look(at(1));
        assert!(v.blind(at(1)).is_some());
        assert!(v.blind(at(1) + STICKY_NS - 1).is_some() && v.blind(at(1) + STICKY_NS).is_none());
    }

    #[test]
    fn seven_in_ten_answers_are_enough() {
        let look = |syn_ack| {
            let mut v = Visibility::default();
            v.add(at(0), HOST, &pair(5_000, 1_000, 900, syn_ack), Voice::Anybody);
            v.look(at(0));
            v.blind(at(0)).is_some()
        };
        assert!(look(699) && !look(700));
    }

    #[test]
    fn an_outage_is_noticed_before_silence_becomes_a_failure() {
        let mut v = Visibility::default();
        for s in 0..60 {
            v.add(at(s), HOST, &pair(1_000, 20, 900, 20), Voice::Anybody);
            v.look(at(s));
        }
        assert_eq!(v.blind(at(59)), None);
        for s in 60..64 {
            v.add(at(s), HOST, &pair(400, 20, 0, 0), Voice::Anybody);
            v.look(at(s));
        }
        assert!(v.blind(at(64)).is_some());
    }

    #[test]
    fn answers_that_come_a_tick_later_are_answers() {
        let mut v = Visibility::default();
        for i in 0..200 {
            v.add(
                at(0),
                HOST,
                &pair(5, if i % 2 == 0 { 5 } else { 0 }, 5, if i % 2 == 0 { 0 } else { 5 }),
                Voice::Anybody,
            );
        }
        v.look(at(0));
        assert_eq!(v.blind(at(0)), None);
    }

    #[test]
    fn an_offender_blinds_nobody() {
        let mut v = Visibility::default();
        v.add(at(0), HOST, &pair(100_000, 100_000, 900, 0), Voice::Offender);
        v.add(at(0), HOST, &pair(1_000, 50, 900, 50), Voice::Anybody);
        v.look(at(0));
        assert_eq!(v.blind(at(0)), None);
    }

    #[test]
    fn who_was_answered_all_along_is_heard_before_a_flood_in_many_names() {
        let look = |witness_syn, witness_syn_ack| {
            let mut v = Visibility::default();
            v.add(at(0), HOST, &pair(50_000, 50_000, 900, 0), Voice::Anybody);
            v.add(at(0), HOST, &pair(1_000, witness_syn, 900, witness_syn_ack), Voice::Witness);
            v.look(at(0));
            v.blind(at(0)).is_some()
        };
        assert!(!look(10, 10) && !look(200, 150), "they are answered");
        assert!(look(9, 9), "too few to say");
        assert!(look(200, 100) && look(20, 10), "they are not answered either");
    }

    #[test]
    fn witnesses_alone_are_enough_to_tell_an_outage() {
        let mut v = Visibility::default();
        v.add(at(0), HOST, &pair(50_000, 50_000, 50_000, 50_000), Voice::Anybody);
        v.add(at(0), HOST, &pair(1_000, 100, 900, 20), Voice::Witness);
        v.look(at(0));
        assert!(v.blind(at(0)).is_some());
    }

    #[test]
    fn a_witness_is_blameless_and_was_answered_often_enough() {
        let voice = |syn, syn_ack, blameless| Voice::of(blameless, [syn, syn_ack]);
        assert_eq!(voice(10, 10, true), Voice::Witness);
        assert_eq!(voice(10, 10, false), Voice::Suspect);
        assert_eq!(voice(10, 9, false), Voice::Offender);
        assert_eq!(voice(9, 9, true), Voice::Anybody);
        assert_eq!(voice(100, 69, true), Voice::Anybody);
    }

    #[test]
    fn whoever_was_answered_is_excused_when_nothing_at_all_comes_in_any_more() {
        let look = |inbound, voice| {
            let mut v = Visibility::default();
            v.add(at(0), HOST, &pair(200, 200, 0, 0), voice);
            v.add(at(0), HOST, &pair(0, 0, inbound, 0), Voice::Anybody);
            v.look(at(0));
            v.blind(at(0)).is_some()
        };
        assert!(look(0, Voice::Suspect));
        assert!(!look(1, Voice::Suspect), "others are sent something");
        assert!(!look(0, Voice::Offender), "it never was answered");
    }
}
