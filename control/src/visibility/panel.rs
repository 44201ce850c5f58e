//! Servers that were answered until now, each heard with one voice.
//!
//! Sums of SYNs cannot tell an outage from a flood: servers that reconnect in bursts send as many. A server does tell
//! it, by its own history: it was answered, asks on, and nothing at all reaches it any more. One that floods may look
//! the same, so one alone says nothing, and neither do some among others that are answered. Names that an offender
//! forges say nothing either: answers to the owner's own work, and whatever else it is sent, go on to come in.

use region::HostId;

use crate::window::Pair;

/// Servers kept: a sample is enough where there are more.
const PLACES: usize = 256;
/// A server that did not ask for so long leaves its place.
const IDLE_NS: u64 = 60_000_000_000;
/// Who asked within this time has a say.
const RECENT_NS: u64 = 3_000_000_000;
/// A server that asks has lost its answers when for so long nothing at all came in: longer than answers take, and
/// shorter than half the time in which silence becomes a failure (5 s).
const DEAF_NS: u64 = 1_500_000_000;
/// SYNs without an answer that it takes as well.
const UNANSWERED: u64 = 5;
/// Two may well go wrong together.
const ENOUGH: usize = 3;

#[derive(Clone, Copy, Debug)]
struct Server {
    host: HostId,
    /// When something came in for the last time.
    heard_ns: u64,
    asked_ns: u64,
    /// When it sent the first of the SYNs that nobody has answered.
    waits_since_ns: u64,
    unanswered: u64,
}

impl Server {
    fn has_lost_answers(&self, now_ns: u64) -> bool {
        let long_ago = |ns: u64| now_ns.saturating_sub(ns) >= DEAF_NS;
        self.unanswered >= UNANSWERED && long_ago(self.waits_since_ns) && long_ago(self.heard_ns)
    }
}

/// The servers that are heard.
#[derive(Clone, Debug, Default)]
pub(super) struct Panel {
    /// By the last bits of their numbers: looked at for every host that moves.
    places: Vec<Option<Server>>,
    /// When one of them was not answered for the last time: mostly long ago, and nobody needs to be asked.
    unanswered_ns: u64,
}

impl Panel {
    /// Adds what a host did in a tick that ended at `now_ns`. `witness`: until now its connections were answered.
    pub(super) fn note(&mut self, now_ns: u64, host: HostId, pair: &Pair, witness: bool) {
        let [syn, syn_ack] = [pair[0].syn, pair[1].syn_ack];
        let index = host.index() % PLACES;
        let known = self.places.get_mut(index).and_then(Option::as_mut).filter(|s| s.host == host);
        if pair.iter().any(|c| c.dropped > 0) {
            // It is locked: that it hears nothing is our own doing.
            if known.is_some() {
                self.places[index] = None;
            }
        } else if let Some(s) = known {
            if pair[1].packets > 0 {
                s.heard_ns = now_ns;
            }
            if syn > 0 {
                s.asked_ns = now_ns;
            }
            if syn_ack > 0 {
                s.unanswered = 0;
            } else if syn > 0 {
                s.waits_since_ns = if s.unanswered == 0 { now_ns } else { s.waits_since_ns };
                s.unanswered = s.unanswered.saturating_add(syn);
                self.unanswered_ns = now_ns;
            }
        } else if witness && syn > 0 && syn_ack > 0 {
            if self.places.is_empty() {
                self.places.resize(PLACES, None);
            }
            let place = &mut self.places[index];
            if place.is_none_or(|s| now_ns.saturating_sub(s.asked_ns) > IDLE_NS) {
                let (heard_ns, asked_ns) = (now_ns, now_ns);
                *place = Some(Server { host, heard_ns, asked_ns, waits_since_ns: 0, unanswered: 0 });
            }
        }
    }

    /// Whether most of those that ask have lost their answers.
    pub(super) fn tells_an_outage(&self, now_ns: u64) -> bool {
        if now_ns.saturating_sub(self.unanswered_ns) > RECENT_NS {
            return false;
        }
        let asks = |s: &&Server| now_ns.saturating_sub(s.asked_ns) <= RECENT_NS;
        let (mut asking, mut lost) = (0, 0);
        for s in self.places.iter().flatten().filter(asks) {
            asking += 1;
            lost += usize::from(s.has_lost_answers(now_ns));
        }
        lost >= ENOUGH && lost * 2 > asking
    }

    /// Forgets all: numbers are given anew.
    pub(super) fn forget_all(&mut self) {
        self.places.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::window::Counts;

    const TICK_NS: u64 = 100_000_000;
    const BEGIN_NS: u64 = 1_000_000_000_000;
    /// Ticks of five seconds: within them silence is no failure yet.
    const PATIENT: u64 = 50;

    /// What a server does in a tick: SYNs, SYN-ACKs, and other packets that come in.
    type Does = fn(u64) -> [u64; 3];

    const STEADY: Does = |_| [2, 2, 0];
    const BURSTS: Does = |tick| if tick.is_multiple_of(10) { [40, 40, 0] } else { [0, 0, 0] };
    const STEADY_LOST: Does = |_| [2, 0, 0];
    const BURSTS_LOST: Does = |tick| if tick.is_multiple_of(10) { [40, 0, 0] } else { [0, 0, 0] };
    const FLOODS: Does = |_| [1_000, 0, 0];
    const QUIET: Does = |_| [0, 0, 0];
    /// Of a server with clients, in whose name somebody floods.
    const FORGED: Does = |_| [1_000, 0, 1];

    fn play(p: &mut Panel, ticks: std::ops::Range<u64>, servers: &[Does], witness: bool) -> Option<u64> {
        let mut told = None;
        for tick in ticks {
            let now_ns = BEGIN_NS + tick * TICK_NS;
            for (number, does) in (0..).zip(servers) {
                let [syn, syn_ack, other] = does(tick);
                let out = Counts { packets: syn, syn, ..Counts::default() };
                let inbound = Counts { packets: syn_ack + other, syn_ack, ..Counts::default() };
                p.note(now_ns, HostId(5_000 + number), &[out, inbound], witness);
            }
            told = told.or(p.tells_an_outage(now_ns).then_some(tick));
        }
        told
    }

    /// Whether an outage is told when those answered for ten seconds do something else.
    fn is_told(before: &[Does], then: &[Does]) -> bool {
        let mut p = Panel::default();
        assert_eq!(play(&mut p, 0..100, before, true), None, "all is well");
        play(&mut p, 100..100 + PATIENT, then, false).is_some()
    }

    #[test]
    fn servers_that_lose_their_answers_tell_an_outage_in_bursts_or_not() {
        assert!(is_told(&[STEADY; 3], &[STEADY_LOST; 3]));
        assert!(is_told(&[BURSTS; 3], &[BURSTS_LOST; 3]));
        assert!(is_told(
            &[STEADY, STEADY, STEADY, BURSTS, BURSTS],
            &[FLOODS, FLOODS, FLOODS, BURSTS, BURSTS]
        ));
    }

    #[test]
    fn one_or_two_that_flood_blind_nobody_be_they_alone_or_among_others() {
        assert!(!is_told(&[STEADY], &[FLOODS]));
        assert!(!is_told(&[STEADY; 2], &[FLOODS; 2]));
        assert!(!is_told(&[STEADY; 4], &[FLOODS, FLOODS, STEADY, BURSTS]));
    }

    #[test]
    fn as_many_that_are_answered_outvote_those_that_flood() {
        assert!(!is_told(&[STEADY; 6], &[FLOODS, FLOODS, FLOODS, STEADY, BURSTS, STEADY]));
        assert!(is_told(&[STEADY; 6], &[FLOODS, FLOODS, FLOODS, FLOODS, STEADY, STEADY]));
        assert!(is_told(&[STEADY; 6], &[FLOODS, FLOODS, FLOODS, QUIET, QUIET, QUIET]), "who asks has a say");
    }

    #[test]
    fn floods_in_the_names_of_servers_with_clients_blind_nobody() {
        assert!(!is_told(&[STEADY; 5], &[FORGED; 5]));
    }

    #[test]
    fn locked_servers_that_ask_on_tell_no_outage() {
        let mut p = Panel::default();
        play(&mut p, 0..100, &[STEADY; 5], true);
        for tick in 100..100 + PATIENT {
            let now_ns = BEGIN_NS + tick * TICK_NS;
            for number in 0..5 {
                let out = Counts { packets: 2, dropped: 2, syn: 2, ..Counts::default() };
                p.note(now_ns, HostId(5_000 + number), &[out, Counts::default()], false);
            }
            assert!(!p.tells_an_outage(now_ns), "{tick}");
        }
    }

    #[test]
    fn who_never_was_answered_has_no_say() {
        let mut p = Panel::default();
        assert_eq!(play(&mut p, 0..600, &[FLOODS; 10], true), None);
        assert_eq!(play(&mut p, 600..700, &[STEADY; 10], false), None, "nor who is answered for once");
        assert_eq!(play(&mut p, 700..1_300, &[FLOODS; 10], false), None);
    }

    #[test]
    fn an_outage_is_told_as_long_as_it_lasts_and_no_longer() {
        let mut p = Panel::default();
        play(&mut p, 0..100, &[BURSTS; 4], true);
        assert!(play(&mut p, 100..200, &[BURSTS_LOST; 4], true).is_some());
        for minute in 0..30 {
            let from = 200 + minute * 600;
            play(&mut p, from..from + 599, &[BURSTS_LOST; 4], false);
            assert!(p.tells_an_outage(BEGIN_NS + (from + 599) * TICK_NS), "{minute}");
        }
        assert_eq!(play(&mut p, 18_200..18_300, &[BURSTS; 4], false), None);
    }

    #[test]
    fn places_go_to_others_and_all_are_lost_with_the_numbers() {
        let mut p = Panel::default();
        let places = u32::try_from(PLACES).unwrap_or_default();
        let asks = |p: &mut Panel, second: u64, host: u32| {
            let out = Counts { packets: 2, syn: 2, ..Counts::default() };
            let inbound = Counts { packets: 2, syn_ack: 2, ..Counts::default() };
            p.note(BEGIN_NS + second * 10 * TICK_NS, HostId(host), &[out, inbound], true);
            p.places[7].map(|s| s.host.0)
        };
        assert_eq!(asks(&mut p, 0, 7), Some(7));
        assert_eq!(asks(&mut p, 59, 7 + places), Some(7));
        assert_eq!(asks(&mut p, 61, 7 + places), Some(7 + places));
        p.forget_all();
        assert_eq!(asks(&mut p, 62, 7), Some(7));
    }
}
