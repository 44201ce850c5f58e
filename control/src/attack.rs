//! Which kind of attack it is: pure, from a host's counters and the exact flows of a watched host.
//!
//! Counters of every packet say the protocol; ports are known of watched hosts only, and from the moment they are
//! watched. What neither says is called mixed.

use api::{Attack, AttackKind, Service};
use config::{Measure, Rule, Way};

use crate::detect::{Finding, Over, amount};
use crate::scan::{TCP, UDP};
use crate::watch::Made;
use crate::window::{Counts, Sums};

/// A kind that makes up so much of what crossed a limit names it, percent.
const MAIN_PERCENT: u64 = 70;
/// UDP packets with ports from which on services are told.
const ROWS_MIN: u64 = 32;
/// Rows say something of the UDP of a second when they hold at least one in so many of its packets: of a flood with more
/// sources than there is room for they hold what was there before it.
const ROWS_ONE_IN: u64 = 4;
/// A fragmented answer of a reflector shows its port in the first fragment only: so many packets at most come with one.
const FRAGMENTS_OF_ONE: u64 = 8;
/// Frames on average above which it is bandwidth, bytes.
const LARGE_BYTES: u64 = 512;
/// A conversation has one packet of TCP back for so many.
const ANSWERED_ONE_IN: u64 = 8;

/// The kind of attack that a finding is about; none of a scan. `made`: what rows say of its direction.
/// `amplifies`: services of the server that answer too much, and their packets.
pub(crate) fn attack(f: &Finding, sums: &Sums, made: &Made, amplifies: &[(Service, u64)]) -> Option<Attack> {
    let Rule::Limit(measure, way) = f.rule else { return None };
    let pair = match f.over {
        Over::Mean => &sums.slow,
        Over::Fast | Over::Seconds(_) => &sums.fast,
    };
    let parts = Parts::of(way, &pair[0], &pair[1]);
    let made = &Seen { made, amplifies, udp: sums.fast[way as usize].udp };
    let found = match measure {
        Measure::Syn => (AttackKind::Syn, parts.syn),
        Measure::Icmp => (AttackKind::Icmp, parts.icmp),
        Measure::Udp => udp(way, &parts, made),
        Measure::Amplifier => match made.amplifies.first() {
            Some((s, n)) => (AttackKind::Amplifier(*s), *n),
            None => (AttackKind::Udp, parts.udp),
        },
        Measure::Fragments => fragments(way, &parts, made),
        Measure::Packets | Measure::Bits | Measure::Flows | Measure::Small => {
            main(measure, way, &parts, made)
        }
    };
    Some(told(found.0, found.1, &parts, made.made))
}

/// What a newer look says instead of an older one: more, or the same with more ports. What was told is not untold when
/// rows become fewer.
pub(crate) fn better(was: Option<&Attack>, is: Attack) -> Option<Attack> {
    let Some(was) = was else { return Some(is) };
    let rank = |a: &Attack| match a.name {
        AttackKind::Mixed => 0,
        AttackKind::Amplification(_) | AttackKind::Amplifier(_) => 2,
        _ => 1,
    };
    let more = rank(&is) > rank(was)
        || is.name == was.name && (is.share_percent > was.share_percent || was.ports.is_empty());
    let is = Attack { ports: if is.ports.is_empty() { was.ports.clone() } else { is.ports }, ..is };
    let is = Attack {
        share_percent: is.share_percent.max(if is.name == was.name { was.share_percent } else { 0 }),
        ..is
    };
    (more && is != *was).then_some(is)
}

/// Packets by kind. Of what a server sends, reactions that were provoked are left out, as they are in its limits.
struct Parts {
    total: u64,
    syn: u64,
    syn_ack: u64,
    rst: u64,
    /// Other TCP.
    segments: u64,
    udp: u64,
    icmp: u64,
    fragments: u64,
    other: u64,
    small: u64,
    bytes: u64,
    packets: u64,
    /// TCP the other way that is no reaction.
    back: u64,
}

impl Parts {
    fn of(way: Way, out: &Counts, inbound: &Counts) -> Parts {
        let (c, o) = match way {
            Way::Out => (out, inbound),
            Way::In => (inbound, out),
        };
        let total = amount(way, Measure::Packets, out, inbound);
        let (all_syn_ack, all_rst) = (c.syn_ack, c.reactions_tcp.saturating_sub(c.syn_ack));
        let (syn_ack, rst, icmp) = match way {
            // As much of each as of all of them is left.
            Way::Out => {
                let reactions = c.reactions_tcp + c.reactions_icmp;
                let left = reactions - (c.packets - total).min(reactions);
                let share = |n: u64| (n * left).checked_div(reactions).unwrap_or(0);
                let icmp = c.icmp.saturating_sub(c.reactions_icmp) + share(c.reactions_icmp);
                (share(all_syn_ack), share(all_rst), icmp)
            }
            // What the server asked for is answered.
            Way::In => (
                all_syn_ack.saturating_sub(o.syn),
                all_rst.saturating_sub(o.tcp.saturating_sub(o.reactions_tcp)),
                c.icmp,
            ),
        };
        Parts {
            total,
            syn: c.syn,
            syn_ack,
            rst,
            segments: c.tcp.saturating_sub(c.syn + c.reactions_tcp),
            udp: c.udp,
            icmp,
            fragments: c.fragments,
            other: c.packets.saturating_sub(c.tcp + c.udp + c.icmp),
            small: c.small,
            bytes: c.bytes,
            packets: c.packets,
            back: o.tcp.saturating_sub(o.reactions_tcp),
        }
    }

    /// Whether so many packets are the main part.
    fn is_main(&self, n: u64) -> bool {
        n > 0 && n * 100 >= self.total * MAIN_PERCENT
    }
}

/// What rows say, and the UDP of the last second that they are about.
struct Seen<'a> {
    made: &'a Made,
    amplifies: &'a [(Service, u64)],
    udp: u64,
}

type Found = (AttackKind, u64);

/// The service that nearly all UDP with ports comes from, as far as rows tell.
fn reflected(way: Way, seen: &Seen<'_>) -> Option<Service> {
    let made = seen.made;
    let told = made.udp >= ROWS_MIN
        && (made.udp + made.udp_portless) * ROWS_ONE_IN >= seen.udp
        && (made.udp + made.udp_portless) <= made.udp * FRAGMENTS_OF_ONE;
    if way == Way::Out || !told {
        return None;
    }
    Service::all().find(|s| made.remote[s.index()] * 100 >= made.udp * MAIN_PERCENT)
}

fn udp(way: Way, parts: &Parts, seen: &Seen<'_>) -> Found {
    if let (Way::Out, Some((s, n))) = (way, seen.amplifies.first())
        && n * 100 >= seen.udp * MAIN_PERCENT
    {
        return (AttackKind::Amplifier(*s), parts.udp);
    }
    match reflected(way, seen) {
        Some(s) => (AttackKind::Amplification(s), parts.udp),
        None if parts.fragments * 100 >= parts.udp.max(1) * MAIN_PERCENT => {
            (AttackKind::Fragments, parts.fragments)
        }
        None => (AttackKind::Udp, parts.udp),
    }
}

fn fragments(way: Way, parts: &Parts, seen: &Seen<'_>) -> Found {
    match reflected(way, seen).filter(|_| parts.is_main(parts.udp)) {
        Some(s) => (AttackKind::Amplification(s), parts.udp),
        None => (AttackKind::Fragments, parts.fragments),
    }
}

/// The kind that makes up most of it, where one does.
fn main(measure: Measure, way: Way, parts: &Parts, seen: &Seen<'_>) -> Found {
    let plain = [
        (AttackKind::Syn, parts.syn),
        (AttackKind::SynAck, parts.syn_ack),
        (AttackKind::Rst, parts.rst),
        (AttackKind::Icmp, parts.icmp),
        (AttackKind::OtherProtocol, parts.other),
    ];
    if parts.is_main(parts.udp) {
        return udp(way, parts, seen);
    }
    if parts.is_main(parts.fragments) {
        return (AttackKind::Fragments, parts.fragments);
    }
    if let Some(found) = plain.into_iter().find(|(_, n)| parts.is_main(*n)) {
        return found;
    }
    let is_small = parts.small * 100 >= parts.packets * MAIN_PERCENT;
    if parts.is_main(parts.segments) && is_small && parts.back * ANSWERED_ONE_IN < parts.segments {
        return (AttackKind::Ack, parts.segments);
    }
    match measure {
        Measure::Flows => (AttackKind::Flows, parts.packets),
        _ if is_small => (AttackKind::SmallPackets, parts.small),
        _ if parts.bytes >= parts.packets * LARGE_BYTES => (AttackKind::Bandwidth, parts.packets),
        _ => (AttackKind::Mixed, parts.packets),
    }
}

/// A kind with what proves it.
fn told(name: AttackKind, packets: u64, parts: &Parts, made: &Made) -> Attack {
    let by_protocol = |n: u64, name: &str| parts.is_main(n).then(|| name.to_owned());
    let some = |name: &str| Some(name.to_owned());
    let (protocol, ports) = match name {
        AttackKind::Syn | AttackKind::Ack => (some("tcp"), made.main_ports(TCP)),
        // These go to whatever port the forged question came from.
        AttackKind::SynAck | AttackKind::Rst => (some("tcp"), Vec::new()),
        AttackKind::Udp => (some("udp"), made.main_ports(UDP)),
        AttackKind::Amplification(s) | AttackKind::Amplifier(s) => (some("udp"), vec![s.port()]),
        AttackKind::Icmp => (some("icmp"), Vec::new()),
        AttackKind::OtherProtocol => (made.other_protocol().map(|p| format!("ip-{p}")), Vec::new()),
        AttackKind::Fragments
        | AttackKind::SmallPackets
        | AttackKind::Bandwidth
        | AttackKind::Flows
        | AttackKind::Mixed => {
            let tcp = parts.syn + parts.syn_ack + parts.rst + parts.segments;
            let protocol = by_protocol(tcp, "tcp")
                .or_else(|| by_protocol(parts.udp, "udp"))
                .or_else(|| by_protocol(parts.icmp, "icmp"));
            (protocol, Vec::new())
        }
    };
    let share = (packets * 100).checked_div(parts.total).unwrap_or(0).min(100);
    Attack { name, protocol, ports, share_percent: u8::try_from(share).unwrap_or(100) }
}

#[cfg(test)]
mod tests {
    use config::Limits;

    use super::*;
    use crate::detect::{Level, detect};
    use crate::window::{FAST_NS, NONE};

    /// What a second of traffic is called, and by which rule.
    fn named(limit: &str, out: Counts, inbound: Counts, made: &Made) -> Vec<String> {
        let mut limits = Limits::default();
        limits.set(limit, 1).expect("a limit");
        let (rule, _) = limit.rsplit_once('.').expect("a limit");
        let (way, measure) = rule.split_once('.').expect("a limit");
        let sums = Sums { fast: [out, inbound], fast_ns: FAST_NS, slow: [out, inbound] };
        let rule = format!("{measure}-{way}");
        let findings = detect(&sums, &limits);
        let of_rule = findings.iter().filter(|f| f.rule.to_string() == rule);
        of_rule.filter_map(|f| attack(f, &sums, made, &[])).map(|a| a.to_string()).collect()
    }

    fn out(counts: Counts) -> Vec<String> {
        named("out.packets.warn_fast", counts, Counts::default(), &Made::default())
    }

    fn inbound(counts: Counts) -> Vec<String> {
        named("in.packets.warn_fast", Counts::default(), counts, &Made::default())
    }

    fn tcp(n: u64) -> Counts {
        Counts { packets: n, tcp: n, bytes: n * 60, small: n, ..NONE }
    }

    fn udp(n: u64) -> Counts {
        Counts { packets: n, udp: n, bytes: n * 1_000, ..NONE }
    }

    #[test]
    fn floods_are_named_by_what_most_of_their_packets_are() {
        assert_eq!(out(Counts { syn: 9_000, ..tcp(9_000) }), ["SYN flood, 100 % of packets"]);
        assert_eq!(out(Counts { reactions_tcp: 9_000, ..tcp(9_000) }), ["RST flood, 100 % of packets"]);
        let reflected = Counts { reactions_tcp: 9_000, syn_ack: 9_000, ..tcp(10_000) };
        assert_eq!(inbound(reflected), ["SYN-ACK flood, 90 % of packets"]);
        assert_eq!(out(tcp(9_000)), ["ACK flood, 100 % of packets"]);
        assert_eq!(out(udp(9_000)), ["UDP flood, 100 % of packets"]);
        assert_eq!(inbound(Counts { fragments: 9_000, ..udp(9_000) }), ["fragment flood, 100 % of packets"]);
        let gre = Counts { packets: 9_000, bytes: 9_000 * 512, ..NONE };
        assert_eq!(out(gre), ["flood of another IP protocol, 100 % of packets"]);
        assert_eq!(out(Counts { packets: 9, icmp: 9, ..NONE }), ["ICMP flood, 100 % of packets"]);
    }

    #[test]
    fn what_is_not_mostly_one_thing_is_called_mixed() {
        let both = |n, bytes| Counts { packets: 2 * n, tcp: n, udp: n, bytes, ..NONE };
        assert_eq!(out(both(5_000, 10_000 * 300)), ["mixed"]);
        assert_eq!(inbound(both(5_000, 10_000 * 900)), ["bandwidth, 100 % of packets"]);
        let small = Counts { small: 10_000, ..both(5_000, 10_000 * 70) };
        assert_eq!(inbound(small), ["small-packet flood, 100 % of packets"]);
        assert_eq!(named("in.flows.warn_fast", NONE, NONE, &Made::default()), Vec::<String>::new());
        let many = Counts { flows: 4_000, ..both(5_000, 10_000 * 300) };
        assert_eq!(named("in.flows.warn_fast", NONE, many, &Made::default()), ["flows, 100 % of packets"]);
    }

    #[test]
    fn a_conversation_is_no_ack_flood_and_a_backup_is_bandwidth() {
        let acks = tcp(400_000);
        let download = Counts { packets: 800_000, tcp: 800_000, bytes: 800_000 * 1_500, ..NONE };
        let named = |way, a, b| named(way, a, b, &Made::default());
        assert_eq!(named("in.packets.warn_fast", download, acks), ["small-packet flood, 100 % of packets"]);
        assert_eq!(named("out.packets.warn_fast", download, acks), ["bandwidth, 100 % of packets"]);
    }

    #[test]
    fn what_a_victim_answers_names_nothing() {
        let flood = Counts { syn: 50_000, ..tcp(50_000) };
        let answers = Counts { syn_ack: 50_000, reactions_tcp: 50_000, ..tcp(50_000) };
        let own = Counts { udp: 200, packets: 200, bytes: 200 * 1_000, ..NONE };
        let both = Counts { packets: answers.packets + own.packets, udp: own.udp, ..answers };
        let seen = named("out.packets.warn_fast", both, flood, &Made::default());
        assert_eq!(seen, ["UDP flood, 100 % of packets"], "of 200 packets that nobody provoked");
    }

    fn from_port(port: u16, n: u64) -> Made {
        let mut made = Made::default();
        (made.packets, made.udp) = (n, n);
        if let Some(s) = Service::of_port(port) {
            made.remote[s.index()] = n;
        }
        made
    }

    #[test]
    fn reflection_is_named_by_its_service_when_rows_tell() {
        let flood = udp(200_000);
        let seen = |made: &Made| named("in.udp.warn_fast", NONE, flood, made);
        assert_eq!(seen(&from_port(123, 150_000)), ["NTP amplification, port 123, 100 % of packets"]);
        assert_eq!(seen(&from_port(443, 150_000)), ["UDP flood, 100 % of packets"]);
        assert_eq!(seen(&Made::default()), ["UDP flood, 100 % of packets"], "nothing is guessed");
        // Of a flood from everywhere, rows hold the resolver that was asked before.
        assert_eq!(seen(&from_port(53, 4_000)), ["UDP flood, 100 % of packets"]);
        let mut fragmented = from_port(53, 50_000);
        fragmented.udp_portless = 100_000;
        let fragments = Counts { fragments: 200_000, ..flood };
        let name = |made: &Made| named("in.fragments.warn_fast", NONE, fragments, made);
        assert_eq!(name(&fragmented), ["DNS amplification, port 53, 100 % of packets"]);
        fragmented.udp_portless = 1_000_000;
        assert_eq!(name(&fragmented), ["fragment flood, 100 % of packets"], "a resolver beside a flood");
    }

    #[test]
    fn what_was_told_is_not_untold_and_more_replaces_less() {
        let attack = |name, ports: &[u16], share_percent| Attack {
            name,
            protocol: None,
            ports: ports.to_vec(),
            share_percent,
        };
        let dns = Service::of_port(53).map(AttackKind::Amplification).expect("DNS");
        let (udp, known) = (attack(AttackKind::Udp, &[], 90), attack(dns, &[53], 80));
        assert_eq!(better(None, udp.clone()), Some(udp.clone()));
        assert_eq!(better(Some(&udp), known.clone()), Some(known.clone()));
        assert_eq!(better(Some(&known), udp.clone()), None);
        assert_eq!(better(Some(&known), attack(AttackKind::Mixed, &[], 100)), None);
        assert_eq!(
            better(Some(&udp), attack(AttackKind::Udp, &[80], 70)),
            Some(attack(AttackKind::Udp, &[80], 90))
        );
        assert_eq!(better(Some(&udp), udp.clone()), None);
    }

    #[test]
    fn scans_are_no_attacks() {
        let finding = Finding {
            rule: Rule::Netscan,
            level: Level::Warn,
            over: Over::Seconds(60),
            limit: 1,
            observed: 2,
            scan: None,
        };
        assert_eq!(attack(&finding, &Sums::default(), &Made::default(), &[]), None);
    }

    #[test]
    fn the_dataplane_keeps_the_ports_of_the_services_that_are_named() {
        let named: Vec<u16> = Service::all().map(Service::port).collect();
        assert_eq!(named, region::reflectors::REFLECTORS);
    }
}
