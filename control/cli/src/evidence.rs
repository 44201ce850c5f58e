//! `cordon evidence`: sentences for whoever answers a complaint, then the numbers behind them.

use api::{Counted, EvidenceReport};

use crate::human::{between, count, scaled};
use crate::lists::{incident_table, lock_table};
use crate::render::{Page, wrap};
use crate::table::Table;

pub(crate) fn show(page: &Page<'_>, e: &EvidenceReport) -> String {
    let asked = e.asked;
    let length = between(asked.since, asked.until);
    let mut text = format!("{}, {} to {} UTC ({length}):\n", e.target, asked.since, asked.until);
    for f in &e.findings {
        text += &format!("  {}\n", wrap(f, 2));
    }
    text += &format!("\n{}", numbers(page, e));
    if !e.incidents.is_empty() {
        text += &format!("\n{}", incident_table(page, &e.incidents));
    }
    if !e.lock_events.is_empty() {
        let mut t = Table::new(&["LOCK", "WHEN", "WHAT", "WAY", "REASON", "BY"]);
        for l in &e.lock_events {
            t.row([
                l.row.id.to_string(),
                l.at.to_string(),
                if l.row.suspended.is_some() { "suspended".to_owned() } else { l.event.clone() },
                l.row.direction.to_string(),
                l.row.reason.to_string(),
                l.who.clone(),
            ]);
        }
        text += &format!("\n{}", t.lines(page.style));
    }
    if !e.locks.is_empty() {
        text += &format!("\nLocked now:\n{}", lock_table(page, &e.locks));
    }
    text += "\nWhat this does not say:\n";
    for c in &e.caveats {
        text += &format!("  {}\n", wrap(c, 2));
    }
    if let Some(i) = e.incidents.first() {
        text += &page.next(&format!("incident {}", i.id), "says what was found, and where the logs are");
    }
    text
}

fn numbers(page: &Page<'_>, e: &EvidenceReport) -> String {
    type Part = (&'static str, fn(&Counted) -> u64);
    let parts: [Part; 13] = [
        ("packets", |c| c.traffic.packets),
        ("  dropped", |c| c.traffic.dropped),
        ("  tcp", |c| c.traffic.tcp),
        ("    syn", |c| c.traffic.syn),
        ("    syn-ack", |c| c.syn_ack),
        ("    syn-ack, rst", |c| c.reactions_tcp),
        ("  udp", |c| c.traffic.udp),
        ("  icmp", |c| c.traffic.icmp),
        ("    errors, replies", |c| c.reactions_icmp),
        ("  other", |c| c.traffic.other),
        ("  fragments", |c| c.traffic.fragments),
        ("  to 128 bytes", |c| c.small),
        ("first contacts (estimate)", |c| c.first_contacts),
    ];
    let mut t = Table::new(&["COUNTED", " SENT", " RECEIVED"]);
    t.row(["bytes".into(), scaled(e.out.traffic.bytes, "B"), scaled(e.inbound.traffic.bytes, "B")]);
    for (name, value) in parts {
        t.row([name.into(), count(value(&e.out)), count(value(&e.inbound))]);
    }
    t.row(["answers to what it did not ask".into(), String::new(), count(e.unprovoked)]);
    t.row(["its address from outside".into(), String::new(), count(e.from_outside)]);
    t.row(["its address from another MAC".into(), count(e.other_mac), String::new()]);
    t.lines(page.style)
}
