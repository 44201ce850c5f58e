//! Did this address really send that? The answer for whoever has to answer a complaint.

use api::{
    Counted, EvidenceReport, Failure, IncidentRow, LockEvent, LockRow, Request, Span, Target, Traffic,
};
use config::Locale;

use crate::control::Control;
use crate::effect::{ClientId, Effect};
use crate::history::{Tally, block_of};
use crate::requests::{bad, not_found};
use crate::summary::Numbers;
use crate::window::Counts;

/// What is asked for when nobody says since when.
const DAY_MS: i64 = 86_400_000;
/// A scan that nobody gives the size of.
const SCAN: u64 = 1_000;
/// So few answers that nobody asked for may be late ones.
const STRAY: u64 = 10;

/// A question, with what control knows that the store does not.
#[derive(Clone, Debug, PartialEq)]
pub struct Question {
    /// The address, or the prefix of an IPv6 server.
    pub target: Target,
    /// Where its history stands.
    pub block: String,
    /// Its byte in the block.
    pub octet: u8,
    /// What is asked for.
    pub asked: Span,
    /// The size of the scan that is claimed.
    pub claimed: Option<u64>,
    /// What is not in the store yet.
    pub recent: Option<(Span, Tally)>,
    /// Incidents in memory; they are later than what the store has of them.
    pub incidents: Vec<IncidentRow>,
    /// Locks that stand on it.
    pub locks: Vec<LockRow>,
    /// Why answers may be missing at present.
    pub blind: Option<&'static str>,
}

/// What the store has to say.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// The sum of all pieces that meet what was asked for.
    pub tally: Tally,
    /// The stretch that those cover which have something of the host.
    pub covered: Option<Span>,
    /// When every host was counted.
    pub known: Vec<Span>,
    /// Incidents of the address.
    pub incidents: Vec<IncidentRow>,
    /// What happened to its locks.
    pub lock_events: Vec<LockEvent>,
}

impl Control {
    /// Asks the store, with what is known here.
    pub(crate) fn ask_evidence(&mut self, client: ClientId, request: Request) -> Result<(), Failure> {
        let Request::Evidence { target, since, until, claimed } = request else {
            return Err(bad("this is no question about evidence", "report this"));
        };
        let now = self.now.time();
        let until = until.unwrap_or(now).min(now);
        let since = since.unwrap_or(until.plus_ms(-DAY_MS));
        if since >= until {
            return Err(bad(
                format!("from {since} to {until} there is no time"),
                "name a --since that lies before --until and before now",
            ));
        }
        let host_target = self.whole_host(&target)?;
        let Some((block, octet)) = block_of(&host_target) else {
            return Err(bad(format!("{target} is no address"), "name an address"));
        };
        let facts = self.facts().cloned();
        let address = host_target.prefix().map(|n| n.network());
        let host = address.and_then(|a| self.networks.host(a, facts.as_deref(), self.policy.hash_key()));
        let recent = self.recent_history(host).map(|(since, tally)| (Span { since, until: now }, tally));
        let names = |row: &&IncidentRow| {
            let of_row = row.address.as_ref().and_then(|a| a.parse::<Target>().ok()).and_then(|t| t.prefix());
            let meets = row.opened <= until && row.closed.unwrap_or(now) >= since;
            meets && of_row.zip(host_target.prefix()).is_some_and(|(a, b)| b.contains(&a))
        };
        let incidents = self.incidents.rows().into_iter().filter(names).cloned().collect();
        let question = Question {
            block,
            octet,
            asked: Span { since, until },
            claimed,
            recent,
            incidents,
            locks: self.told(self.rows_over(&host_target).iter()),
            blind: host_target.prefix().and_then(|n| self.blind(&n)),
            target: host_target,
        };
        self.effects.push(Effect::AskEvidence(client, Box::new(question)));
        Ok(())
    }

    /// The host that an address belongs to.
    fn whole_host(&self, target: &Target) -> Result<Target, Failure> {
        let Some(net) = target.prefix() else {
            return Err(bad(format!("{target} is no address"), "name one of the server's addresses"));
        };
        if !self.networks.meets(&crate::networks::range(&net)) {
            return Err(not_found(
                format!("{target} lies in no configured network: nothing of it is counted"),
                "[[network]] says which addresses are yours",
            ));
        }
        match net {
            ipnet::IpNet::V4(n) if n.prefix_len() == 32 => Ok(target.clone()),
            ipnet::IpNet::V6(n) if n.prefix_len() >= self.networks.ipv6_length() => {
                let whole = ipnet::Ipv6Net::new(n.addr(), self.networks.ipv6_length());
                Ok(whole.map_or_else(|_| target.clone(), |w| Target::Prefix(ipnet::IpNet::V6(w.trunc()))))
            }
            _ => Err(bad(
                format!("{target} is more than one server"),
                "ask for one address at a time: what one server sent says nothing of another",
            )),
        }
    }
}

fn counted(c: &Counts) -> Counted {
    Counted {
        traffic: Traffic {
            packets: c.packets,
            bytes: c.bytes,
            dropped: c.dropped,
            tcp: c.tcp,
            syn: c.syn,
            udp: c.udp,
            icmp: c.icmp,
            fragments: c.fragments,
            other: c.packets.saturating_sub(c.tcp + c.udp + c.icmp),
        },
        syn_ack: c.syn_ack,
        reactions_tcp: c.reactions_tcp,
        reactions_icmp: c.reactions_icmp,
        small: c.small,
        first_contacts: c.opens,
    }
}

/// What of `asked` lies in none of `known`, in order.
fn gaps(asked: Span, mut known: Vec<Span>) -> Vec<Span> {
    known.sort_by_key(|s| s.since);
    let mut gaps = Vec::new();
    let mut at = asked.since;
    for k in known.iter().filter(|k| k.until > asked.since && k.since < asked.until) {
        if k.since > at {
            gaps.push(Span { since: at, until: k.since });
        }
        at = at.max(k.until);
    }
    if at < asked.until {
        gaps.push(Span { since: at, until: asked.until });
    }
    gaps
}

/// 1,234,567
fn n(n: u64) -> String {
    Numbers(Locale::En).integer(n)
}

/// The answer, from both.
pub fn report(q: Question, found: Found) -> EvidenceReport {
    let Question { target, asked, claimed, recent, mut incidents, locks, blind, .. } = q;
    let mut tally = found.tally;
    let mut covered = found.covered.unwrap_or(asked);
    let mut known = found.known;
    if let Some((span, t)) = &recent {
        known.push(*span);
        if span.until > asked.since && span.since < asked.until {
            tally.add(t);
            covered.until = covered.until.max(span.until);
            if *t != Tally::default() {
                covered.since = covered.since.min(span.since);
            }
        }
    }
    covered = Span { since: covered.since.min(asked.since), until: covered.until.max(asked.until) };
    let unknown = gaps(asked, known);
    for row in found.incidents {
        if !incidents.iter().any(|i| i.id == row.id) {
            incidents.push(row);
        }
    }
    incidents.sort_by(|a, b| b.opened.cmp(&a.opened).then_with(|| b.id.cmp(&a.id)));
    let [out, inbound] = [counted(&tally.pair[0]), counted(&tally.pair[1])];
    let mut report = EvidenceReport {
        target,
        asked,
        covered,
        unknown,
        findings: Vec::new(),
        caveats: Vec::new(),
        out,
        inbound,
        unprovoked: tally.unprovoked,
        from_outside: tally.outside,
        other_mac: tally.other_mac,
        incomplete: tally.overrun,
        incidents,
        lock_events: found.lock_events,
        locks,
    };
    report.findings = findings(&report, claimed);
    report.caveats = caveats(&report, blind);
    report
}

/// What follows from the numbers, for somebody who has to answer a letter.
fn findings(r: &EvidenceReport, claimed: Option<u64>) -> Vec<String> {
    let mut all = Vec::new();
    let (who, out) = (&r.target, &r.out.traffic);
    let asked_ms = r.asked.until.unix_ms() - r.asked.since.unix_ms();
    let unknown_ms: i64 = r.unknown.iter().map(|u| u.until.unix_ms() - u.since.unix_ms()).sum();
    if unknown_ms >= asked_ms {
        return vec![format!("Nothing is known of {who} in this time: Cordon did not count then.")];
    }
    let when = if r.unknown.is_empty() { "In this time" } else { "In the part of this time that Cordon saw" };
    if out.packets == 0 {
        all.push(format!("{when} {who} sent nothing at all."));
    } else {
        all.push(format!(
            "{when} {who} sent {} packets: {} TCP, {} of them SYN, {} UDP, {} ICMP, {} others.",
            n(out.packets),
            n(out.tcp),
            n(out.syn),
            n(out.udp),
            n(out.icmp),
            n(out.other)
        ));
    }
    let size = claimed.unwrap_or(SCAN);
    let scan = format!("a scan of {} addresses or ports", n(size));
    // Every address that is tried takes a packet; numbers by protocol are no proof where some are missing.
    if out.packets < size {
        all.push(format!("It did not send what {scan} needs: that takes {} packets.", n(size)));
    } else if !r.incomplete && out.syn < size && out.udp < size && out.icmp < size {
        all.push(format!("It did not send the SYN, UDP or ICMP packets that {scan} needs."));
    } else if !r.incomplete && out.syn < size {
        all.push(format!("It did not send the SYN that {scan} over TCP needs."));
    } else if claimed.is_some() {
        all.push(format!("These numbers do not rule out {scan}."));
    }
    if r.unprovoked >= STRAY {
        all.push(format!(
            "{} SYN-ACK and RST came for connections that it had not opened: somebody uses its address elsewhere.",
            n(r.unprovoked)
        ));
    }
    if r.from_outside > 0 {
        all.push(format!(
            "{} packets with its address as sender came in from outside: the server did not send them.",
            n(r.from_outside)
        ));
    }
    if r.other_mac > 0 {
        all.push(format!(
            "{} packets with its address as sender came from another device of the segment (another MAC address): they \
             are not its own, and not among what it sent.",
            n(r.other_mac)
        ));
    }
    if out.dropped > 0 {
        all.push(format!("{} of the packets that it sent were dropped and did not get out.", n(out.dropped)));
    }
    match r.incidents.as_slice() {
        [] => all.push("Cordon itself found nothing against it in this time.".to_owned()),
        [one] => all.push(format!("Cordon itself found: {} ({}).", one.kind, one.id)),
        more => {
            let ids: Vec<String> = more.iter().take(5).map(|i| format!("{} ({})", i.kind, i.id)).collect();
            let rest = if more.len() > 5 { ", …" } else { "" };
            all.push(format!("Cordon itself found {} incidents: {}{rest}.", more.len(), ids.join(", ")));
        }
    }
    all
}

fn caveats(r: &EvidenceReport, blind: Option<&str>) -> Vec<String> {
    let mut all = Vec::new();
    for u in r.unknown.iter().take(10) {
        all.push(format!("Nothing is known from {} to {}: Cordon did not count then.", u.since, u.until));
    }
    if r.unknown.len() > 10 {
        all.push(format!("Nor in {} further stretches.", r.unknown.len() - 10));
    }
    if r.covered != r.asked {
        all.push(format!(
            "The numbers are of whole pieces of history, from {} to {}.",
            r.covered.since, r.covered.until
        ));
    }
    all.push("What the server sends by ways that do not pass this appliance is not seen.".to_owned());
    all.push(
        "What others send elsewhere with its address is not seen, only the answers that come here."
            .to_owned(),
    );
    all.push("A device on the servers' side that sends with this address counts as this server.".to_owned());
    if let Some(why) = blind {
        all.push(format!("At present answers may be missing ({why}): then more looks unasked for than is."));
    }
    if r.incomplete {
        all.push(
            "More packets came at once than can be told apart by protocol: those numbers are too low."
                .to_owned(),
        );
    }
    all
}

#[cfg(test)]
mod tests;
