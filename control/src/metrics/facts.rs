//! What the facts file says: ports, workers, verdicts, classes, tables.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use region::facts::{PortCell, SideCounters};
use region::{Class, Facts, Side, Verdict, WorkerCounters};

use super::Snapshot;
use super::family::Families;

/// Begins every family; samples only while a dataplane lives.
pub(super) fn collect(s: &Snapshot, f: &mut Families) {
    let facts = s.facts.as_deref();
    header(facts, f);
    ports(s, facts, f);
    workers(facts, f);
    sides(facts, f);
}

fn header(facts: Option<&Facts>, f: &mut Families) {
    let mut started =
        f.gauge("cordon_dataplane_start_time_seconds", "When the dataplane started, in seconds since 1970.");
    if let Some(facts) = facts {
        started.set(facts.header().incarnation.load(Relaxed) as f64 / 1e9);
    }
    let mut enforcing = f.gauge("cordon_enforcing", "Whether every worker enforces locks.");
    if let Some(facts) = facts {
        let all = facts.workers().iter().all(|w| w.enforcing.load(Relaxed) != 0);
        enforcing.add(&[], u64::from(all));
    }
    let mut used = f.gauge("cordon_ipv6_hosts", "IPv6 hosts in the table.");
    if let Some(facts) = facts {
        used.add(&[], facts.hosts_v6_used());
    }
    let mut room =
        f.gauge("cordon_hosts_capacity", "Hosts that the tables have room for, by address family.");
    if let Some(facts) = facts {
        let c = facts.capacities();
        room.add(&[("family", "ipv4")], u64::from(c.hosts_v4));
        room.add(&[("family", "ipv6")], u64::from(c.hosts_v6));
    }
}

fn ports(s: &Snapshot, facts: Option<&Facts>, f: &mut Families) {
    type Field = fn(&PortCell) -> &AtomicU64;
    let counters: [(&str, &str, Field); 9] = [
        ("cordon_port_received_packets_total", "Packets that a port received.", |p| &p.ipackets),
        ("cordon_port_sent_packets_total", "Packets that a port sent.", |p| &p.opackets),
        ("cordon_port_received_bytes_total", "Bytes that a port received.", |p| &p.ibytes),
        ("cordon_port_sent_bytes_total", "Bytes that a port sent.", |p| &p.obytes),
        (
            "cordon_port_missed_packets_total",
            "Packets that a port dropped since its receive queue was full.",
            |p| &p.imissed,
        ),
        ("cordon_port_receive_errors_total", "Packets that a port received with errors.", |p| &p.ierrors),
        ("cordon_port_send_errors_total", "Packets that a port failed to send.", |p| &p.oerrors),
        ("cordon_port_no_mbuf_total", "Times that a port had no free packet buffer to receive into.", |p| {
            &p.rx_nombuf
        }),
        ("cordon_port_link_changes_total", "Times that a port's link went up or down.", |p| &p.link_changes),
    ];
    let gauges: [(&str, &str, Field); 2] = [
        ("cordon_port_link_up", "Whether a port's link is up.", |p| &p.link_up),
        ("cordon_port_held_down", "Whether a port is held down since the other side's link is down.", |p| {
            &p.held_down
        }),
    ];
    let cells = facts.map_or(&[][..], |facts| {
        let n = usize::try_from(facts.header().ports.load(Relaxed)).unwrap_or(0).min(facts.ports().len());
        &facts.ports()[..n]
    });
    let all = counters.iter().map(|c| (c, true)).chain(gauges.iter().map(|g| (g, false)));
    for ((name, help, field), counter) in all {
        let mut family = if counter { f.counter(name, help) } else { f.gauge(name, help) };
        for cell in cells {
            let wire = usize::try_from(cell.wire.load(Relaxed)).unwrap_or(usize::MAX);
            // A wire that the configuration has lost since the dataplane's start.
            let wire = s.wires.get(wire).map_or("?", String::as_str);
            let side = if cell.side.load(Relaxed) == 0 { Side::Inside } else { Side::Outside };
            family.add(&[("wire", wire), ("side", side.name())], field(cell).load(Relaxed));
        }
    }
}

fn workers(facts: Option<&Facts>, f: &mut Families) {
    type Field = fn(&WorkerCounters) -> &AtomicU64;
    let counters: [(&str, &str, Field); 3] = [
        ("cordon_worker_polls_total", "Polls of a worker's queues, empty ones included.", |w| &w.polls),
        ("cordon_worker_busy_polls_total", "Polls that brought packets.", |w| &w.busy_polls),
        ("cordon_worker_busy_cycles_total", "TSC cycles spent in polls that brought packets.", |w| {
            &w.busy_cycles
        }),
    ];
    let workers = facts.map_or(&[][..], Facts::workers);
    for (name, help, field) in counters {
        let mut family = f.counter(name, help);
        for (i, w) in workers.iter().enumerate() {
            family.add(&[("worker", &i.to_string())], field(w).load(Relaxed));
        }
    }
    let mut busy = f.counter("cordon_worker_busy_seconds_total", "Time spent in polls that brought packets.");
    let hz = facts.map_or(0, |facts| facts.header().tsc_hz.load(Relaxed));
    if hz > 0 {
        for (i, w) in workers.iter().enumerate() {
            busy.sample(&[("worker", &i.to_string())], w.busy_cycles.load(Relaxed) as f64 / hz as f64);
        }
    }
}

fn sides(facts: Option<&Facts>, f: &mut Families) {
    let sum = |side: Side, field: &dyn Fn(&SideCounters) -> &AtomicU64| {
        facts.map(|facts| {
            facts.workers().iter().map(|w| field(w.side(side)).load(Relaxed)).fold(0, u64::wrapping_add)
        })
    };
    type Field = fn(&SideCounters) -> &AtomicU64;
    let counters: [(&str, &str, Field); 6] = [
        ("cordon_received_packets_total", "Packets received: the sum of all verdicts.", |s| &s.rx_packets),
        ("cordon_received_bytes_total", "Bytes received, without FCS.", |s| &s.rx_bytes),
        ("cordon_tagged_packets_total", "Packets in VLAN or QinQ tags.", |s| &s.tagged),
        (
            "cordon_foreign_packets_total",
            "IP packets whose own side's address is in no internal network.",
            |s| &s.foreign,
        ),
        (
            "cordon_internal_source_outside_packets_total",
            "Packets that entered outside with an internal source.",
            |s| &s.internal_source_outside,
        ),
        (
            "cordon_ipv6_table_full_packets_total",
            "Packets of IPv6 hosts for which the table had no slot or their network no quota.",
            |s| &s.no_slot,
        ),
    ];
    for (name, help, field) in counters {
        let mut family = f.counter(name, help);
        for side in Side::ALL {
            if let Some(n) = sum(side, &field) {
                family.add(&[("side", side.name())], n);
            }
        }
    }
    let verdicts = [
        ("cordon_verdict_packets_total", "Packets by what became of them.", false),
        ("cordon_verdict_bytes_total", "Bytes by what became of their packets.", true),
    ];
    for (name, help, bytes) in verdicts {
        let mut family = f.counter(name, help);
        for side in Side::ALL {
            for v in Verdict::ALL {
                let n = sum(side, &|s| {
                    if bytes { &s.verdict_bytes[v.index()] } else { &s.verdict_packets[v.index()] }
                });
                if let Some(n) = n {
                    family.add(&[("side", side.name()), ("verdict", v.name())], n);
                }
            }
        }
    }
    let mut classes = f.counter("cordon_class_packets_total", "Packets by what they were found to be.");
    for side in Side::ALL {
        for c in Class::ALL {
            if let Some(n) = sum(side, &|s| &s.class_packets[c.index()]) {
                classes.add(&[("side", side.name()), ("class", c.name())], n);
            }
        }
    }
}
