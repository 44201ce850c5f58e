//! Pages about one thing.

use api::{HostReport, IncidentRow, ServerReport, Step, Target, Traffic};

use crate::human::{between, count, scaled};
use crate::lists::{incident_table, lock_table, rate, whose};
use crate::render::Page;
use crate::table::Table;

/// `cordon show`
pub(crate) fn host(page: &Page<'_>, h: &HostReport) -> String {
    let style = page.style;
    let mut text = page.field("Target", &h.target.to_string());
    text += &page.field(
        "Network",
        &match (&h.group, h.internal, &h.target) {
            (_, true, _) => format!("internal, group {}", h.group.as_deref().unwrap_or("default")),
            (_, false, Target::Server(_)) if h.server.is_some() => {
                "its addresses lie in no configured network".to_owned()
            }
            (_, false, Target::Server(_)) => "no inventory says which addresses this server has".to_owned(),
            (_, false, Target::Mac(_)) => "a device of the servers' own segment".to_owned(),
            (_, false, Target::Prefix(_)) => {
                "in no configured network: it is neither counted nor locked".to_owned()
            }
        },
    );
    if let Some(s) = &h.server {
        text += &server(page, s);
    }
    text += &page.field(
        "Enforced",
        &match h.enforced {
            None => style.green("nothing: its packets pass"),
            Some(d) => style.red(match d {
                api::Direction::Out => "out: what it sends is dropped",
                api::Direction::In => "in: what it is sent is dropped",
                api::Direction::Both => "both: everything it sends and is sent is dropped",
            }),
        },
    );
    if let Some(mac) = &h.bound {
        text += &page.field("Bound", &format!("to {mac}: what others send with its address is not its own"));
    }
    if h.never_lock {
        text += &page.field("Never lock", "detectors leave it alone; an operator needs --force");
    }
    for (rule, until) in &h.exemptions {
        let left = between(page.now, *until);
        text += &page.field("Exempt", &format!("from {rule} until {until} (for {left})"));
    }
    if let (Some(out), Some(inbound)) = (&h.out, &h.inbound) {
        text += &format!("\n{}", traffic(page, out, inbound));
    }
    if !h.locks.is_empty() {
        text += &format!("\n{}", lock_table(page, &h.locks));
        let mut reasons: Vec<_> = h.locks.iter().map(|l| (l.target.to_string(), l.reason)).collect();
        reasons.sort();
        reasons.dedup();
        for (target, reason) in reasons {
            text += &page.next(&format!("unlock {target} --reason {reason}"), "lifts it");
        }
    }
    if !h.incidents.is_empty() {
        text += &format!("\n{}", incident_table(page, &h.incidents));
        if let Some(i) = h.incidents.first() {
            text += &page.next(&format!("incident {}", i.id), "says everything about the latest");
        }
    }
    text
}

/// What the inventory says of a server.
fn server(page: &Page<'_>, s: &ServerReport) -> String {
    let name = s.name.as_ref().map(|n| format!(", {n}")).unwrap_or_default();
    let mut text = page.field("Server", &format!("{}{name}", s.id));
    let addresses: Vec<String> = s.addresses.iter().map(|a| Target::Prefix(*a).to_string()).collect();
    for (name, value) in [
        ("Customer", s.customer.clone().unwrap_or_default()),
        ("Contacts", s.contacts.join(" ")),
        ("Language", s.language.clone().unwrap_or_default()),
        ("Addresses", addresses.join(" ")),
        ("MAC", s.macs.join(" ")),
        ("Tags", s.tags.join(" ")),
    ] {
        if !value.is_empty() {
            text += &page.field(name, &value);
        }
    }
    text
}

/// Since the dataplane started.
fn traffic(page: &Page<'_>, out: &Traffic, inbound: &Traffic) -> String {
    type Part = (&'static str, fn(&Traffic) -> u64);
    let packets: [Part; 8] = [
        ("packets", |c| c.packets),
        ("  dropped", |c| c.dropped),
        ("  tcp", |c| c.tcp),
        ("    syn", |c| c.syn),
        ("  udp", |c| c.udp),
        ("  icmp", |c| c.icmp),
        ("  other", |c| c.other),
        ("  fragments", |c| c.fragments),
    ];
    let mut t = Table::new(&["TRAFFIC", " OUT", " IN"]);
    t.row(["bytes".into(), scaled(out.bytes, "B"), scaled(inbound.bytes, "B")]);
    for (name, value) in packets {
        t.row([name.into(), count(value(out)), count(value(inbound))]);
    }
    t.lines(page.style)
}

/// What was judged, by which rule.
fn rule(i: &IncidentRow) -> String {
    let case = i.case.as_ref().map(|c| format!(", {c}")).unwrap_or_default();
    match i.window.as_str() {
        "fast" => format!("{}{case}, {} {}, 1 s window", i.rule, i.measure, i.direction),
        "mean" => format!("{}{case}, {} {}, 300 s window", i.rule, i.measure, i.direction),
        _ => format!("{}{case}", i.rule),
    }
}

/// How much of it there was.
fn measured(i: &IncidentRow) -> String {
    match i.measure.as_str() {
        "contacts" => format!(
            "{} at most, limit {} in {}; {} first contacts, {} of them answered",
            rate(&i.measure, i.peak),
            count(i.limit),
            i.window.replace('s', " s"),
            count(i.contacts),
            count(i.answered),
        ),
        "frames" => rate(&i.measure, i.peak),
        _ => format!("{} at most, limit {}", rate(&i.measure, i.peak), rate(&i.measure, i.limit)),
    }
}

/// What was done and what happened, in order.
fn done(page: &Page<'_>, i: &IncidentRow) -> String {
    let mut text = String::new();
    if i.timeline.is_empty() {
        for (n, a) in i.actions.iter().enumerate() {
            let ago = between(a.at, page.now);
            let name = if n == 0 { "Done" } else { "" };
            text += &page.field(name, &format!("{} at {} ({ago} ago)", a.action, a.at));
        }
        return text;
    }
    let ago = between(i.timeline[0].at, page.now);
    for (n, e) in i.timeline.iter().enumerate() {
        let detail = e.detail.as_ref().map(|d| format!(" {d}")).unwrap_or_default();
        let since =
            if n == 0 { format!("{ago} ago") } else { format!("after {}", between(i.timeline[0].at, e.at)) };
        let name = if n == 0 { "Timeline" } else { "" };
        text += &page.field(name, &format!("{}  {}{detail} ({since})", e.at, happened(e.step)));
    }
    text
}

/// A step as a sentence goes on.
fn happened(step: Step) -> &'static str {
    match step {
        Step::Opened => "opened",
        Step::Growing => "found again: evidence grows",
        Step::WouldWarn => "would have warned",
        Step::WouldLock => "would have locked",
        Step::Warned => "warned",
        Step::Locked => "locked",
        Step::Evidence => "evidence written:",
        Step::Quiet => "quiet",
        Step::Active => "goes on",
        Step::Suspended => "let in for maintenance",
        Step::Resumed => "lock enforced again",
        Step::Unlocked => "unlocked",
        Step::Closed => "closed",
    }
}

/// `cordon incident`
pub(crate) fn incident(page: &Page<'_>, i: &IncidentRow) -> String {
    let style = page.style;
    let state = match i.closed {
        None => style.yellow(i.state.name()),
        Some(t) => format!("closed at {t}"),
    };
    let mut text = page.field("Incident", &format!("{}, {}, {state}", i.id, i.kind));
    let who = [i.address.clone(), i.mac.clone()].into_iter().flatten().collect::<Vec<_>>().join(", ");
    text += &page.field("Server", if who.is_empty() { "unknown" } else { &who });
    if let Some(server) = &i.server {
        text += &page.field("Inventory", &whose(server, i.customer.as_deref()));
    }
    text += &page.field("Rule", &rule(i));
    text += &page.field("Measured", &measured(i));
    if let Some(attack) = &i.attack {
        text += &page.field("Attack", &attack.to_string());
    }
    if !i.ports.is_empty() {
        let ports: Vec<String> = i.ports.iter().map(u16::to_string).collect();
        let what = if i.protocol.as_deref() == Some("icmp") { "Types" } else { "Ports" };
        text += &page.field(what, &ports.join(" "));
    }
    if i.measure == "frames" && i.dropped > 0 {
        text += &page.field("Dropped", &format!("{} frames, by a guard", count(i.dropped)));
    }
    if i.measure != "frames" {
        text += &page.field(
            "Packets",
            &format!(
                "{} ({}) in {} s, {} of them dropped",
                count(i.packets),
                scaled(i.bytes, "B"),
                count(i.seconds),
                count(i.dropped)
            ),
        );
    }
    if let Some(p) = &i.protocol {
        text += &page.field("Protocol", p);
    }
    text += &page.field(
        "Seen",
        &format!("{} to {} ({})", i.first_seen, i.last_seen, between(i.first_seen, i.last_seen)),
    );
    text += &done(page, i);
    if let Some(why) = &i.held_back {
        let would = match i.would {
            Some(w) if w > i.action => format!("would have come to: {w}; "),
            _ => String::new(),
        };
        text += &page.field("Held back", &format!("{would}{why}"));
    }
    if let Some(t) = i.files_removed {
        text += &page
            .field("Evidence", &format!("its files were removed at {t} to make room ([evidence] size_max)"));
    } else if !i.files.is_empty() {
        let state = page.state.map_or_else(|| "[run] state".to_owned(), |s| s.display().to_string());
        text += &page.field("Evidence", &format!("{} in {state}/evidence/{}", i.files.join(" "), i.id));
    }
    if let Some(address) = &i.address {
        text += &page.next(&format!("show {address}"), "says what is enforced now, and how to lift it");
    }
    if let Some(mac) = &i.mac {
        let lock = format!("lock {mac} --reason misconfiguration");
        text += &page.next(&lock, "cuts the device off, whatever address it uses");
    }
    text
}
