//! Whether anything comes in to a watched host at all.
//!
//! A server whose way back is broken or blackholed asks on and is answered by nobody, like a scanner. What tells them apart
//! is what went before: it was spoken with up to the moment from which on nothing at all comes in, and it never paused.

/// Who did not send for so long and then begins anew does something else.
const PAUSE_NS: u64 = 5_000_000_000;
/// What was heard is remembered for about so long.
const MEMORY_NS: u64 = 10_000_000_000;
const SECOND_NS: u64 = 1_000_000_000;
/// So many packets came in lately, and one for so many that went out: the host was spoken with.
const ENOUGH: u64 = 10;
const ONE_IN: u64 = 4;

/// What a host heard.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Hearing {
    heard_ns: u64,
    spoke_ns: u64,
    /// Packets of late, out and in.
    talk: [u64; 2],
    /// Packets sent since something came in.
    unheard: u64,
    halved_ns: u64,
}

impl Hearing {
    /// Of a host that sent and was sent so many packets in the second before `now_ns`.
    pub(crate) fn new(now_ns: u64, before: [u64; 2]) -> Hearing {
        let second_ago_ns = now_ns.saturating_sub(SECOND_NS);
        let of = |n: u64| if n > 0 { second_ago_ns } else { 0 };
        let [out, inbound] = before;
        Hearing { heard_ns: of(inbound), spoke_ns: of(out), talk: before, unheard: 0, halved_ns: now_ns }
    }

    /// Adds what it sent and was sent in a tick that ended at `now_ns`.
    pub(crate) fn note(&mut self, now_ns: u64, out: u64, inbound: u64) {
        let paused = |ns: u64| now_ns.saturating_sub(ns) > PAUSE_NS;
        if out > 0 {
            if paused(self.spoke_ns) && paused(self.heard_ns) {
                *self = Hearing { halved_ns: now_ns, ..Hearing::default() };
            }
            self.spoke_ns = now_ns;
        }
        if inbound == 0 {
            self.unheard = self.unheard.saturating_add(out);
            return;
        }
        // What was asked while nothing could come back is not held against what was heard before.
        let missed = if self.is_spoken_with() && paused(self.heard_ns) { 0 } else { self.unheard };
        if now_ns.saturating_sub(self.halved_ns) >= MEMORY_NS {
            self.talk = self.talk.map(|n| n / 2);
            self.halved_ns = now_ns;
        }
        self.talk[0] = self.talk[0].saturating_add(missed).saturating_add(out);
        self.talk[1] = self.talk[1].saturating_add(inbound);
        self.unheard = 0;
        self.heard_ns = now_ns;
    }

    fn is_spoken_with(&self) -> bool {
        let [out, inbound] = self.talk;
        self.heard_ns > 0 && inbound >= ENOUGH && inbound.saturating_mul(ONE_IN) >= out
    }

    /// When something came in for the last time, if the host was spoken with until then.
    pub(crate) fn heard_ns(&self) -> Option<u64> {
        self.is_spoken_with().then_some(self.heard_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICK_NS: u64 = SECOND_NS / 10;

    fn run(h: &mut Hearing, from: u64, ticks: u64, out: u64, inbound: impl Fn(u64) -> u64) -> u64 {
        for i in 0..ticks {
            h.note(from + i * TICK_NS, out, inbound(i));
        }
        from + ticks * TICK_NS
    }

    #[test]
    fn who_was_spoken_with_up_to_the_moment_is_deaf_from_then_on() {
        let mut h = Hearing::new(1_000 * SECOND_NS, [50, 50]);
        assert_eq!(h.heard_ns(), Some(999 * SECOND_NS));
        let end = run(&mut h, 1_000 * SECOND_NS, 50, 5, |_| 5);
        let heard = h.heard_ns();
        assert_eq!(heard, Some(end - TICK_NS));
        let end = run(&mut h, end, 600, 5, |_| 0);
        assert_eq!(h.heard_ns(), heard, "a minute does not change it");
        run(&mut h, end, 1, 5, |_| 5);
        assert_eq!(h.heard_ns(), Some(end), "and may happen again");
    }

    #[test]
    fn who_begins_to_ask_after_a_pause_is_not() {
        let mut h = Hearing::new(1_000 * SECOND_NS, [50, 50]);
        let end = run(&mut h, 1_000 * SECOND_NS, 50, 5, |_| 5);
        run(&mut h, end + PAUSE_NS + TICK_NS, 20, 100, |_| 0);
        assert_eq!(h.heard_ns(), None);
    }

    #[test]
    fn a_packet_now_and_then_makes_no_conversation() {
        let mut h = Hearing::new(1_000 * SECOND_NS, [100, 1]);
        assert_eq!(h.heard_ns(), None);
        run(&mut h, 1_000 * SECOND_NS, 600, 100, |i| u64::from(i.is_multiple_of(20)));
        assert_eq!(h.heard_ns(), None);
    }
}
