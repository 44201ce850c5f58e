//! What is really in the capture: counted while it is written, by what was meant, not by what can be read in it.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::frame::Frame;
use crate::plan::{Attack, Plan, address};

#[derive(Clone, Copy, Debug, Default)]
struct Line {
    packets: u64,
    bytes: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Host {
    out: Line,
    into: Line,
}

#[derive(Clone, Copy, Debug, Default)]
struct Span {
    line: Line,
    first_ns: u64,
    last_ns: u64,
}

impl Span {
    fn count(&mut self, at_ns: u64, bytes: u64) {
        if self.line.packets == 0 {
            self.first_ns = at_ns;
        }
        self.last_ns = at_ns;
        self.line.packets += 1;
        self.line.bytes += bytes;
    }
}

/// Counts of a capture.
pub(crate) struct Truth {
    total: Span,
    /// For each server: IPv4, IPv6.
    hosts: Vec<[Host; 2]>,
    /// For each attack of the plan.
    attacks: Vec<Span>,
}

impl Truth {
    pub(crate) fn new(plan: &Plan) -> Truth {
        Truth {
            total: Span::default(),
            hosts: vec![Default::default(); plan.hosts as usize],
            attacks: vec![Span::default(); plan.attacks.len()],
        }
    }

    /// Counts a frame, of an attack of this number or not; `at_ns` since 1970.
    pub(crate) fn count(&mut self, at_ns: u64, attack: Option<usize>, frame: &Frame) {
        let bytes = frame.bytes().len() as u64;
        self.total.count(at_ns, bytes);
        if let Some(span) = attack.and_then(|a| self.attacks.get_mut(a)) {
            span.count(at_ns, bytes);
        }
        let Some(owner) = frame.owner() else { return };
        let host = &mut self.hosts[owner.server as usize][usize::from(owner.v6)];
        let line = if owner.outwards { &mut host.out } else { &mut host.into };
        line.packets += 1;
        line.bytes += bytes;
    }

    /// Servers that moved, in order of address: (name of the host, counts).
    fn moved(&self, plan: &Plan) -> impl Iterator<Item = (String, Host)> {
        let of = |v6: bool| {
            self.hosts.iter().zip(0u32..).filter_map(move |(host, server)| {
                let host = host[usize::from(v6)];
                let name = if v6 {
                    let slash_64 = Plan::server_v6(server) >> 64 << 64;
                    format!("{}/64", address(slash_64, true))
                } else {
                    address(u128::from(plan.server_v4(server)), false).to_string()
                };
                (host.out.packets + host.into.packets > 0).then_some((name, host))
            })
        };
        of(false).chain(of(true))
    }

    /// For programs.
    pub(crate) fn json(&self, plan: &Plan) -> Value {
        let line = |l: Line| json!({ "packets": l.packets, "bytes": l.bytes });
        let attack = |(a, span): (&Attack, &Span)| {
            json!({
                "kind": a.kind.name(),
                "address": address(a.path.local, a.path.v6).to_string(),
                "target": address(a.path.remote, a.path.v6).to_string(),
                "packets": span.line.packets, "bytes": span.line.bytes,
                "first_ns": span.first_ns, "last_ns": span.last_ns,
            })
        };
        let attacks: Vec<Value> = plan.attacks.iter().zip(&self.attacks).map(attack).collect();
        let hosts: Vec<Value> = self
            .moved(plan)
            .map(|(name, h)| json!({ "address": name, "out": line(h.out), "in": line(h.into) }))
            .collect();
        json!({
            "seed": plan.seed, "internal": plan.internal(),
            "packets": self.total.line.packets, "bytes": self.total.line.bytes,
            "first_ns": self.total.first_ns, "last_ns": self.total.last_ns,
            "attacks": attacks, "hosts": hosts,
        })
    }

    /// For people: tab separated, a line for the whole and one for each attack.
    pub(crate) fn table(&self, plan: &Plan) -> String {
        let mut text = String::from("what\taddress\ttarget\tpackets\tbytes\tfirst_s\tlast_s\n");
        let mut row = |what: &str, address: &str, target: &str, span: &Span| {
            let since = |ns: u64| {
                let ms = ns.saturating_sub(crate::START_NS) / 1_000_000;
                format!("{}.{:03}", ms / 1000, ms % 1000)
            };
            let Span { line, first_ns, last_ns } = *span;
            // Writing to a String cannot fail.
            let _ = writeln!(
                text,
                "{what}\t{address}\t{target}\t{}\t{}\t{}\t{}",
                line.packets,
                line.bytes,
                since(first_ns),
                since(last_ns)
            );
        };
        row("all", &plan.internal().first().cloned().unwrap_or_default(), "-", &self.total);
        for (a, span) in plan.attacks.iter().zip(&self.attacks) {
            let name = |x| address(x, a.path.v6).to_string();
            row(a.kind.name(), &name(a.path.local), &name(a.path.remote), span);
        }
        text
    }
}
