//! Packet limits: a pure function from sums and limits to findings.

use config::{Ceiling, Limits, Measure, Rule, Way};

use crate::scan::{ScanFinding, ScanKind};
use crate::window::{Counts, FAST_NS, SLOW_NS, Sums};

/// Over which window a limit was crossed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Over {
    /// One second.
    Fast,
    /// The mean of 300 seconds.
    Mean,
    /// Contacts within so many seconds.
    Seconds(u16),
}

impl Over {
    /// Its name in incidents.
    pub fn name(self) -> String {
        match self {
            Over::Fast => "fast".to_owned(),
            Over::Mean => "mean".to_owned(),
            Over::Seconds(s) => format!("{s}s"),
        }
    }
}

/// How far a limit was crossed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Above the warning.
    Warn,
    /// Above the lock.
    Lock,
}

/// A limit that was crossed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The rule.
    pub rule: Rule,
    /// How far.
    pub level: Level,
    /// Over which window.
    pub over: Over,
    /// The limit, a second.
    pub limit: u64,
    /// What was seen, a second.
    pub observed: u64,
    /// Of a scan: limit and what was seen are contacts.
    pub scan: Option<Box<ScanFinding>>,
}

impl Finding {
    /// The furthest this finding may go, whatever the rule is allowed: some kinds of scan are no proof of abuse.
    pub fn ceiling(&self) -> Ceiling {
        let may_lock = self.scan.as_deref().is_none_or(|s| s.variant.may_lock() && !s.unheard);
        if may_lock { Ceiling::Lock } else { Ceiling::Warn }
    }
}

impl From<ScanFinding> for Finding {
    fn from(s: ScanFinding) -> Finding {
        Finding {
            rule: match s.kind {
                ScanKind::Netscan => Rule::Netscan,
                ScanKind::Portscan => Rule::Portscan,
            },
            level: s.level,
            over: Over::Seconds(u16::try_from(s.window_ns / 1_000_000_000).unwrap_or(u16::MAX)),
            limit: s.limit.into(),
            observed: if s.variant.needs_failure() { s.failed } else { s.contacts }.into(),
            scan: Some(Box::new(s)),
        }
    }
}

/// Below this share of inbound packets that may be answers, UDP that a server sends counts as answered by nobody.
const UDP_ANSWERED_ONE_IN: u64 = 64;

/// What a server did of a measure, in units over the window, as far as a limit is about it.
///
/// A server is blamed for actions, not for reactions: SYN-ACK, RST, ICMP errors and replies are taken off what it sent,
/// up to the number of packets that came in to provoke them; what exceeds those is action. SYN counts as far as no
/// SYN-ACK came back. UDP counts where (nearly) nothing comes back: less than one packet in for 64 out, TCP and ICMP left out:
/// what clients send to a web server does not answer its UDP. What a server is sent counts whole.
pub fn amount(way: Way, measure: Measure, out: &Counts, inbound: &Counts) -> u64 {
    let c = match way {
        Way::Out => out,
        Way::In => inbound,
    };
    let plain = match measure {
        Measure::Packets => c.packets,
        Measure::Bits => c.bytes * 8,
        Measure::Flows => c.flows,
        Measure::Syn => c.syn,
        Measure::Udp => c.udp,
        Measure::Icmp => c.icmp,
        Measure::Fragments => c.fragments,
        Measure::Small => c.small,
        Measure::Amplifier => c.amplified,
    };
    if way == Way::In {
        return plain;
    }
    let provoked = inbound.packets;
    let reactions = (out.reactions_tcp + out.reactions_icmp).min(provoked);
    let may_answer = inbound.packets.saturating_sub(inbound.tcp + inbound.icmp);
    match measure {
        Measure::Packets | Measure::Small => plain.saturating_sub(reactions),
        Measure::Icmp => plain.saturating_sub(out.reactions_icmp.min(provoked)),
        Measure::Syn => plain.saturating_sub(inbound.syn_ack),
        Measure::Udp if may_answer * UDP_ANSWERED_ONE_IN >= out.udp => 0,
        Measure::Udp | Measure::Bits | Measure::Flows | Measure::Fragments | Measure::Amplifier => plain,
    }
}

/// Whether a rule judges by answers that do not come, and so needs both directions of the traffic.
pub fn needs_answers(rule: Rule) -> bool {
    matches!(rule, Rule::Limit(Measure::Syn | Measure::Udp, Way::Out) | Rule::Netscan | Rule::Portscan)
}

/// The limits that `sums` cross, at most one finding a rule: the furthest.
pub fn detect(sums: &Sums, limits: &Limits) -> Vec<Finding> {
    let mut findings = Vec::new();
    for way in Way::ALL {
        for measure in Measure::ALL {
            let l = limits.get(way, measure);
            if l.smallest().is_none() {
                continue;
            }
            let rate = |n: u64, ns: u64| {
                u64::try_from(u128::from(n) * 1_000_000_000 / u128::from(ns)).unwrap_or(u64::MAX)
            };
            let fast = rate(amount(way, measure, &sums.fast[0], &sums.fast[1]), sums.fast_ns.max(FAST_NS));
            let mean = rate(amount(way, measure, &sums.slow[0], &sums.slow[1]), SLOW_NS);
            let rule = Rule::Limit(measure, way);
            let candidates = [
                (Level::Lock, Over::Mean, l.lock_mean, mean),
                (Level::Lock, Over::Fast, l.lock_fast, fast),
                (Level::Warn, Over::Mean, l.warn_mean, mean),
                (Level::Warn, Over::Fast, l.warn_fast, fast),
            ];
            let crossed = candidates.into_iter().find(|(_, _, limit, seen)| *limit > 0 && seen > limit);
            findings.extend(crossed.map(|(level, over, limit, observed)| Finding {
                rule,
                level,
                over,
                limit,
                observed,
                scan: None,
            }));
        }
    }
    findings
}

/// Whether what a host did in a tick of `span_ns` comes near a limit (a quarter), so that its history is kept.
pub fn is_near_a_limit(counts: &[Counts; 2], span_ns: u64, limits: &Limits) -> bool {
    Way::ALL.into_iter().any(|way| {
        Measure::ALL.into_iter().any(|measure| {
            let l = limits.get(way, measure);
            l.smallest().is_some_and(|limit| {
                let share = u128::from(limit) * u128::from(span_ns) / 1_000_000_000 / 4;
                // Flows are counted of watched hosts; who is not watched yet comes near by what began.
                let n = match measure {
                    Measure::Flows => counts[way as usize].syn.max(counts[way as usize].opens),
                    _ => amount(way, measure, &counts[0], &counts[1]),
                };
                n > 0 && u128::from(n) >= share
            })
        })
    })
}

/// Whether a host may be an amplifier: it sends a quarter of the limit by UDP. Ports tell, once it is watched.
pub fn may_amplify(out: &Counts, span_ns: u64, limits: &Limits) -> bool {
    limits.get(Way::Out, Measure::Amplifier).smallest().is_some_and(|limit| {
        u128::from(out.udp) * 4 * 1_000_000_000 >= u128::from(limit) * u128::from(span_ns)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::window::NONE;

    fn sums(out: Counts, inbound: Counts) -> Sums {
        Sums { fast: [out, inbound], fast_ns: FAST_NS, slow: [out, inbound] }
    }

    fn rules(out: Counts, inbound: Counts) -> Vec<(String, Level)> {
        detect(&sums(out, inbound), &Limits::default())
            .iter()
            .map(|f| (f.rule.to_string(), f.level))
            .collect()
    }

    #[test]
    fn a_limit_is_crossed_above_it_and_not_at_it() {
        let at = |syn| rules(Counts { packets: syn, tcp: syn, syn, ..NONE }, NONE);
        assert_eq!(at(1_000), []);
        assert_eq!(at(1_001), [("syn-out".into(), Level::Warn)]);
        assert_eq!(at(5_000), [("syn-out".into(), Level::Warn)]);
        assert_eq!(at(5_001), [("syn-out".into(), Level::Lock)]);
    }

    #[test]
    fn the_victim_of_a_syn_flood_is_never_blamed_for_its_answers() {
        let flood = Counts { packets: 90_000, tcp: 90_000, syn: 90_000, small: 90_000, ..NONE };
        for (syn_ack, reactions_tcp) in [(90_000, 90_000), (0, 90_000)] {
            let answers =
                Counts { packets: 90_000, tcp: 90_000, syn_ack, reactions_tcp, small: 90_000, ..NONE };
            assert_eq!(rules(answers, flood), [("syn-in".into(), Level::Warn)]);
        }
    }

    #[test]
    fn the_victim_of_an_icmp_or_udp_flood_is_never_blamed_for_its_answers() {
        let pings = Counts { packets: 8_000, icmp: 8_000, ..NONE };
        let pongs = Counts { packets: 8_000, icmp: 8_000, reactions_icmp: 8_000, ..NONE };
        assert_eq!(rules(pongs, pings), []);
        let udp = Counts { packets: 80_000, udp: 80_000, ..NONE };
        assert_eq!(rules(Counts { packets: 80_000, icmp: 80_000, reactions_icmp: 80_000, ..NONE }, udp), []);
    }

    #[test]
    fn reactions_that_nothing_provoked_are_action() {
        let rst = Counts { packets: 400_000, tcp: 400_000, reactions_tcp: 400_000, ..NONE };
        let out = |n| amount(Way::Out, Measure::Packets, &rst, &Counts { packets: n, ..NONE });
        assert_eq!((out(0), out(100_000), out(400_000)), (400_000, 300_000, 0));
        let replies = Counts { packets: 9_000, icmp: 9_000, reactions_icmp: 9_000, ..NONE };
        assert_eq!(rules(replies, NONE), [("icmp-out".into(), Level::Lock)]);
    }

    #[test]
    fn udp_that_is_answered_is_no_flood_and_udp_that_nobody_answers_is() {
        let quic = Counts { packets: 800_000, udp: 800_000, ..NONE };
        let acknowledgements = Counts { packets: 40_000, udp: 40_000, ..NONE };
        assert_eq!(amount(Way::Out, Measure::Udp, &quic, &acknowledgements), 0);
        let flood = Counts { packets: 60_000, udp: 60_000, ..NONE };
        assert_eq!(rules(flood, NONE), [("udp-out".into(), Level::Lock)]);
        // It is a busy web server all the while, and some of those it floods say that nobody is there.
        let flood = Counts { packets: 65_000, udp: 60_000, tcp: 5_000, ..NONE };
        let clients = Counts { packets: 7_000, tcp: 5_000, icmp: 2_000, reactions_icmp: 2_000, ..NONE };
        assert_eq!(rules(flood, clients), [("udp-out".into(), Level::Lock)]);
    }

    #[test]
    fn a_backup_at_line_rate_does_not_lock_within_seconds_but_its_mean_may() {
        let backup = Counts { packets: 800_000, bytes: 1_200_000_000, tcp: 800_000, ..NONE };
        let acknowledgements = Counts { packets: 300_000, tcp: 300_000, ..NONE };
        assert_eq!(rules(backup, acknowledgements), []);
        let s =
            Sums { fast: [NONE; 2], fast_ns: FAST_NS, slow: [Counts { packets: 30_000_300, ..NONE }, NONE] };
        let f = detect(&s, &Limits::default());
        assert_eq!(
            (f[0].rule.to_string().as_str(), f[0].over, f[0].observed),
            ("packets-out", Over::Mean, 100_001)
        );
    }

    #[test]
    fn history_is_kept_from_a_quarter_of_a_limit() {
        let near = |syn| {
            is_near_a_limit(&[Counts { packets: syn, syn, ..NONE }, NONE], FAST_NS / 10, &Limits::default())
        };
        assert!(!near(24) && near(25));
    }
}
