//! `cordon status`

use api::{GuardsReport, PortReport, Severity, StatusReport};

use crate::human::{between, count, scaled};
use crate::render::{Page, wrap};
use crate::table::Table;

pub(crate) fn show(page: &Page<'_>, s: &StatusReport) -> String {
    [attention(page, s), summary(page, s), wires(page, s), workers(page, s)]
        .into_iter()
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join("\n")
}

fn attention(page: &Page<'_>, s: &StatusReport) -> String {
    let style = page.style;
    if s.attention.is_empty() {
        return format!("{}\n", style.green("Nothing needs attention."));
    }
    let mut all: Vec<_> = s.attention.iter().collect();
    all.sort_by_key(|a| a.severity);
    let mut text = match all.len() {
        1 => "1 thing needs attention:\n".to_owned(),
        n => format!("{n} things need attention:\n"),
    };
    for a in all {
        let word = match a.severity {
            Severity::Critical => style.red("critical"),
            Severity::Warning => style.yellow("warning "),
            Severity::Notice => "notice  ".to_owned(),
        };
        text += &format!("  {word}  {}\n", wrap(&a.text, 12));
        if !a.next_step.is_empty() {
            text += &format!("            -> {}\n", wrap(&a.next_step, 15));
        }
    }
    text
}

fn summary(page: &Page<'_>, s: &StatusReport) -> String {
    let style = page.style;
    let mut dataplane = vec![match s.dataplane.as_str() {
        "forwarding" => style.green("forwarding"),
        other => style.red(other),
    }];
    dataplane.push(if s.enforcing { "enforcing locks".into() } else { style.red("enforcing nothing") });
    dataplane.extend(s.dataplane_pid.map(|p| format!("pid {p}")));
    dataplane.push(format!("tables on {} pages", s.pages));

    let mut text = page.field("Dataplane", &dataplane.join(", "));
    let up = between(s.started, page.now);
    text += &page.field("cordond", &format!("{}, running for {up}; {}", s.version, s.config));
    text += &page.field(
        "Bypass",
        &match s.bypass.as_str() {
            "off" => "off".to_owned(),
            "direct" => {
                format!("{}; {} bypass off --direct ends it", style.red("on (direct)"), page.invocation)
            }
            other => format!("{}; {} bypass off ends it", style.red(other), page.invocation),
        },
    );
    text += &traffic(page, s);
    text += &page.field("Hosts", &format!("{} moved in the last tick", count(s.active_hosts)));
    text += &page.field("Locks", &{
        let by_reason: Vec<_> =
            s.locks.iter().filter(|(_, n)| *n > 0).map(|(r, n)| format!("{} {r}", count(*n))).collect();
        if by_reason.is_empty() { "none".to_owned() } else { by_reason.join(", ") }
    });
    if let Some(g) = &s.guards {
        text += &page.field("Guards", &guards(g));
    }
    text += &page.field(
        "Incidents",
        &match s.open_incidents {
            0 => "none open".to_owned(),
            n => format!("{} open; {} incidents --open lists them", count(n), page.invocation),
        },
    );
    if !s.breaker.is_empty() {
        let rules: Vec<_> = s.breaker.iter().map(|b| b.rule.as_str()).collect();
        let latched = format!(
            "{}: {} only observe; {} breaker status says more",
            style.red("latched"),
            rules.join(", "),
            page.invocation
        );
        text += &page.field("Breaker", &latched);
    }
    text
}

fn guards(g: &GuardsReport) -> String {
    if g.on.is_empty() {
        return "off".to_owned();
    }
    let mut text = g.on.join(", ");
    let more = [
        ("gateways", &g.gateways),
        ("not heard from outside yet:", &g.unheard),
        ("inside, not guarded:", &g.inside),
    ];
    for (what, addresses) in more.into_iter().filter(|(_, all)| !all.is_empty()) {
        let shown: Vec<String> = addresses.iter().take(8).map(ToString::to_string).collect();
        let rest = addresses.len().saturating_sub(8);
        text += &format!("; {what} {}", shown.join(", "));
        if rest > 0 {
            text += &format!(" and {rest} more");
        }
    }
    text
}

fn traffic(page: &Page<'_>, s: &StatusReport) -> String {
    let forwarded: u64 = s.verdicts.iter().filter(|v| v.verdict == "forward").map(|v| v.packets).sum();
    let drops = || s.verdicts.iter().filter(|v| v.verdict != "forward");
    let dropped: u64 = drops().map(|v| v.packets).sum();
    let balance = if s.balanced {
        page.style.green("balanced")
    } else {
        page.style.yellow("not balanced (in motion a burst may be under way: ask again)")
    };
    let mut text = page.field(
        "Packets",
        &format!(
            "{} received ({}) = {} forwarded + {} dropped: {balance}",
            count(s.received_packets),
            scaled(s.received_bytes, "B"),
            count(forwarded),
            count(dropped),
        ),
    );
    let reasons: Vec<_> = drops()
        .filter(|v| v.packets > 0)
        .map(|v| format!("{} {}", count(v.packets), v.verdict.trim_start_matches("drop_").replace('_', " ")))
        .collect();
    if !reasons.is_empty() {
        text += &page.field("  dropped", &reasons.join(", "));
    }
    if s.malformed + s.non_ip > 0 {
        let odd =
            format!("{} malformed, {} neither IP nor ARP (forwarded)", count(s.malformed), count(s.non_ip));
        text += &page.field("  odd", &odd);
    }
    text
}

fn wires(page: &Page<'_>, s: &StatusReport) -> String {
    if s.wires.is_empty() {
        return String::new();
    }
    let mut t = Table::new(&["WIRE", "SIDE", "LINK", " RECEIVED", " SENT", " MISSED", " ERRORS", "DEVICE"]);
    for w in &s.wires {
        for p in &w.ports {
            t.row([
                format!("{} ({})", w.name, w.inside),
                p.side.clone(),
                link(p),
                count(p.received),
                count(p.sent),
                count(p.missed),
                count(p.errors),
                p.device.clone(),
            ]);
        }
    }
    t.lines(page.style)
}

fn link(p: &PortReport) -> String {
    match (p.link_up, p.held_down, p.speed_mbps) {
        (_, true, _) => "held down".to_owned(),
        (false, false, _) => "down".to_owned(),
        (true, false, 0) => "up".to_owned(),
        (true, false, mbps) if mbps.is_multiple_of(1000) => format!("up {}G", mbps / 1000),
        (true, false, mbps) => format!("up {mbps}M"),
    }
}

fn workers(page: &Page<'_>, s: &StatusReport) -> String {
    if s.workers.is_empty() {
        return String::new();
    }
    let mut t = Table::new(&[" WORKER", " CORE", " PACKETS", " CYCLES/PACKET", "STATE"]);
    for w in &s.workers {
        t.row([
            w.worker.to_string(),
            w.core.map_or_else(|| "?".to_owned(), |c| c.to_string()),
            count(w.packets),
            format!("{:.0}", w.cycles_per_packet),
            if w.alive { "moves" } else { "STANDS STILL" }.to_owned(),
        ]);
    }
    t.lines(page.style)
}
