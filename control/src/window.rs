//! What a host did in the last second and in the last 300 seconds.

use std::collections::VecDeque;

use region::LineTotals;

/// Length of the fast window.
pub const FAST_NS: u64 = 1_000_000_000;
/// Length of the slow window.
pub const SLOW_NS: u64 = 300 * 1_000_000_000;
/// Granularity of the slow window. It covers the current bucket and 29 whole ones: 290 to 300 s, so that its mean
/// errs to the innocent's side, by at most 3 %.
pub const BUCKET_NS: u64 = 10 * 1_000_000_000;
const BUCKETS: u64 = 30;

/// Counters of a host in one direction over some time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
    /// Packets dropped, a part of `packets`.
    pub dropped: u64,
    /// TCP.
    pub tcp: u64,
    /// UDP.
    pub udp: u64,
    /// ICMP.
    pub icmp: u64,
    /// SYN without ACK.
    pub syn: u64,
    /// Fragments.
    pub fragments: u64,
    /// SYN with ACK.
    pub syn_ack: u64,
    /// SYN-ACK and RST.
    pub reactions_tcp: u64,
    /// ICMP errors and replies.
    pub reactions_icmp: u64,
    /// Frames of at most 128 bytes.
    pub small: u64,
    /// First contacts.
    pub opens: u64,
    /// Flows that began; exact, and known of watched hosts only.
    pub flows: u64,
    /// Answers far larger than their questions, from ports of services that reflect; known of watched hosts only.
    pub amplified: u64,
}

/// Nothing at all.
pub const NONE: Counts = Counts {
    packets: 0,
    bytes: 0,
    dropped: 0,
    tcp: 0,
    udp: 0,
    icmp: 0,
    syn: 0,
    fragments: 0,
    syn_ack: 0,
    reactions_tcp: 0,
    reactions_icmp: 0,
    small: 0,
    opens: 0,
    flows: 0,
    amplified: 0,
};

impl Counts {
    /// A difference of two readings. After more than 2^32 packets the 32-bit counters say nothing and count as zero.
    pub fn of_delta(d: &LineTotals) -> Counts {
        let known = d.packets <= u64::from(u32::MAX);
        let narrow = |n: u32| if known { u64::from(n) } else { 0 };
        Counts {
            packets: d.packets,
            bytes: d.bytes,
            dropped: narrow(d.dropped),
            tcp: narrow(d.tcp),
            udp: narrow(d.udp),
            icmp: narrow(d.icmp),
            syn: narrow(d.syn),
            fragments: narrow(d.fragments),
            syn_ack: narrow(d.syn_ack),
            reactions_tcp: narrow(d.reactions_tcp),
            reactions_icmp: narrow(d.reactions_icmp),
            small: narrow(d.small),
            opens: narrow(d.opens),
            ..NONE
        }
    }

    /// Adds another count.
    pub fn add(&mut self, o: &Counts) {
        self.packets += o.packets;
        self.bytes += o.bytes;
        self.dropped += o.dropped;
        self.tcp += o.tcp;
        self.udp += o.udp;
        self.icmp += o.icmp;
        self.syn += o.syn;
        self.fragments += o.fragments;
        self.syn_ack += o.syn_ack;
        self.reactions_tcp += o.reactions_tcp;
        self.reactions_icmp += o.reactions_icmp;
        self.small += o.small;
        self.opens += o.opens;
        self.flows += o.flows;
        self.amplified += o.amplified;
    }
}

/// Both directions of a host: out, in.
pub type Pair = [Counts; 2];

#[derive(Clone, Copy, Debug)]
struct Entry {
    /// Monotonic time at which the counters were read.
    end_ns: u64,
    /// Time they cover.
    span_ns: u64,
    counts: Pair,
}

/// Sums of a host, as the detector sees them.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sums {
    /// Fast window.
    pub fast: Pair,
    /// Time the fast window covers, at least [`FAST_NS`]: rates divide by it.
    pub fast_ns: u64,
    /// Slow window.
    pub slow: Pair,
}

/// History of one host: at most about 12 fast entries and 30 buckets, 9 KiB; kept only for hosts that came near a
/// limit, and let go after 300 s of silence.
#[derive(Clone, Debug)]
pub struct Window {
    fast: VecDeque<Entry>,
    slow: VecDeque<(u64, Pair)>,
    /// Monotonic time from which the history is complete.
    pub began_ns: u64,
    /// Monotonic time of the last packets.
    pub last_ns: u64,
}

impl Window {
    /// An empty history.
    pub fn new(began_ns: u64) -> Window {
        Window { fast: VecDeque::new(), slow: VecDeque::new(), began_ns, last_ns: began_ns }
    }

    /// Adds what was counted in the `span_ns` before `now_ns`. What came while control was away (`gap`) is no burst of a
    /// second: it goes into the slow window only, at its beginning, so that its mean is never above the truth; what came
    /// in a longer time than that window says nothing about it.
    pub fn add(&mut self, now_ns: u64, span_ns: u64, counts: &Pair, gap: bool) {
        self.last_ns = now_ns;
        if gap && span_ns > SLOW_NS {
            return;
        }
        if !gap {
            self.fast.push_back(Entry { end_ns: now_ns, span_ns, counts: *counts });
        }
        let bucket = if gap { now_ns.saturating_sub(span_ns) } else { now_ns } / BUCKET_NS;
        match self.slow.back_mut() {
            Some((b, sum)) if *b == bucket => {
                sum[0].add(&counts[0]);
                sum[1].add(&counts[1]);
            }
            _ => self.slow.push_back((bucket, *counts)),
        }
        self.slide(now_ns);
    }

    fn slide(&mut self, now_ns: u64) {
        while self.fast.front().is_some_and(|e| e.end_ns + FAST_NS <= now_ns) {
            self.fast.pop_front();
        }
        let oldest = (now_ns / BUCKET_NS).saturating_sub(BUCKETS - 1);
        while self.slow.front().is_some_and(|(b, _)| *b < oldest) {
            self.slow.pop_front();
        }
    }

    /// The sums at `now_ns`.
    pub fn sums(&mut self, now_ns: u64) -> Sums {
        self.slide(now_ns);
        let mut s = Sums::default();
        for e in &self.fast {
            s.fast[0].add(&e.counts[0]);
            s.fast[1].add(&e.counts[1]);
            s.fast_ns += e.span_ns;
        }
        s.fast_ns = s.fast_ns.max(FAST_NS);
        for (_, c) in &self.slow {
            s.slow[0].add(&c[0]);
            s.slow[1].add(&c[1]);
        }
        s
    }

    /// The first bucket of the slow window.
    pub fn first_bucket(&self, now_ns: u64) -> u64 {
        (now_ns / BUCKET_NS).saturating_sub(BUCKETS - 1)
    }

    /// Whether nothing has come for the length of the slow window.
    pub fn is_idle(&self, now_ns: u64) -> bool {
        self.last_ns + SLOW_NS < now_ns
    }

    /// Seconds that the slow window covers, rounded up, at least 1.
    pub fn seconds(&self, now_ns: u64) -> u64 {
        now_ns.saturating_sub(self.began_ns).min(SLOW_NS).div_ceil(1_000_000_000).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICK: u64 = 100_000_000;

    fn packets(n: u64) -> Pair {
        [Counts { packets: n, ..Counts::default() }, Counts::default()]
    }

    #[test]
    fn the_fast_window_forgets_after_a_second_and_the_slow_one_after_three_hundred() {
        let mut w = Window::new(0);
        for i in 1..=20 {
            w.add(i * TICK, TICK, &packets(10), false);
        }
        let s = w.sums(20 * TICK);
        assert_eq!((s.fast[0].packets, s.fast_ns, s.slow[0].packets), (100, FAST_NS, 200));
        assert_eq!(w.sums(31 * TICK).fast[0].packets, 0);
        assert_eq!(w.sums(280 * FAST_NS).slow[0].packets, 200);
        assert_eq!(w.sums(302 * FAST_NS).slow[0].packets, 0);
        assert!(w.is_idle(303 * FAST_NS) && !w.is_idle(299 * FAST_NS));
    }

    #[test]
    fn a_late_reading_is_no_burst() {
        let mut w = Window::new(0);
        // Five seconds of 1,000 packets/s, read at once.
        w.add(5 * FAST_NS, 5 * FAST_NS, &packets(5_000), false);
        let s = w.sums(5 * FAST_NS);
        assert_eq!(s.fast[0].packets * FAST_NS / s.fast_ns, 1_000);
    }

    #[test]
    fn what_came_while_control_was_away_is_in_the_slow_window_only() {
        let mut w = Window::new(0);
        w.add(TICK, TICK, &packets(1_000_000), true);
        let s = w.sums(TICK);
        assert_eq!((s.fast[0].packets, s.slow[0].packets), (0, 1_000_000));
    }

    #[test]
    fn the_mean_of_a_steady_server_does_not_rise_when_control_was_away() {
        let second = |n| [Counts { packets: n, ..Counts::default() }, Counts::default()];
        let start = 400 * FAST_NS;
        let mut w = Window::new(start - 200 * FAST_NS);
        // 90,000 packets/s all the time, 200 s of them unseen.
        w.add(start, 200 * FAST_NS, &second(200 * 90_000), true);
        for i in 1..=600 {
            w.add(start + i * FAST_NS, FAST_NS, &second(90_000), false);
            assert!(w.sums(start + i * FAST_NS).slow[0].packets <= 300 * 90_000, "after {i} s");
        }
        let mut w = Window::new(0);
        w.add(start, 301 * FAST_NS, &second(1 << 40), true);
        assert_eq!(w.sums(start).slow[0].packets, 0, "an hour is not told apart from its last minutes");
    }

    #[test]
    fn narrow_counters_say_nothing_after_they_may_have_wrapped() {
        let d = LineTotals { packets: 1 << 33, syn: 77, ..LineTotals::default() };
        assert_eq!(Counts::of_delta(&d).syn, 0);
        let d = LineTotals { packets: 1 << 32, syn: 77, ..LineTotals::default() };
        assert_eq!(Counts::of_delta(&d), Counts { packets: 1 << 32, ..Counts::default() });
    }
}
