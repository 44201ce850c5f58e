//! The evidence of an incident: written when something is done about it, again while it grows, and closed.

use std::collections::VecDeque;
use std::io;

use api::{LockRow, Step, Target};
use capture::Packet;
use config::{Rule, Way};
use region::HostId;

use crate::control::Control;
use crate::detect::Finding;
use crate::effect::StoreOp;
use crate::evidence::scanlog::{self, Log, Scan};
use crate::evidence::{dump, pcapng};
use crate::scan::HostScan;
use crate::summary::{Figures, Summary};

/// Evidence is written again so long after something was done: when the mail goes out, and when it closes.
const WRITE_NS: [u64; 2] = [10_000_000_000, 300_000_000_000];

/// The evidence of an incident that is still growing.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    host: HostId,
    /// The latest of what was found, and when.
    finding: Finding,
    found_ns: u64,
    /// When to write.
    due_ns: VecDeque<u64>,
}

impl Control {
    /// Something was done about a host: its evidence begins.
    pub(crate) fn open_case(&mut self, host: HostId, address: &str, f: &Finding) {
        let now_ns = self.now.mono_ns;
        let due_ns = WRITE_NS.iter().map(|d| now_ns + d).collect();
        let case = Case { host, finding: f.clone(), found_ns: now_ns, due_ns };
        if let Some(w) = self.watch.get_mut(host) {
            w.case = true;
        }
        self.write_evidence(address, &case);
        self.cases.insert((address.to_owned(), f.rule), case);
    }

    /// It goes on.
    pub(crate) fn grow_case(&mut self, address: &str, f: &Finding) {
        let now_ns = self.now.mono_ns;
        if let Some(case) = self.cases.get_mut(&(address.to_owned(), f.rule)) {
            case.finding = f.clone();
            case.found_ns = now_ns;
        }
    }

    /// Writes what is due. Call each tick, when everything of it was found.
    pub(crate) fn write_cases(&mut self) {
        let now_ns = self.now.mono_ns;
        let due: Vec<(String, Rule)> = self
            .cases
            .iter()
            .filter(|(_, c)| c.due_ns.front().is_none_or(|d| *d <= now_ns))
            .map(|(k, _)| k.clone())
            .collect();
        for key in due {
            let Some(mut case) = self.cases.remove(&key) else { continue };
            while case.due_ns.front().is_some_and(|d| *d <= now_ns) {
                case.due_ns.pop_front();
            }
            self.write_evidence(&key.0, &case);
            self.tell_of_case(&key.0, key.1);
            if !case.due_ns.is_empty() {
                self.cases.insert(key, case);
                continue;
            }
            let others = self.cases.values().any(|c| c.host == case.host);
            if let Some(w) = self.watch.get_mut(case.host) {
                w.case = others;
            }
        }
    }

    /// What still waits to be told takes in what has grown.
    fn tell_of_case(&mut self, address: &str, rule: Rule) {
        let Some(id) = self.incidents.get(address, rule).map(|o| o.row.id.clone()) else { return };
        let lock = self.lock_of(address, rule);
        let tells = self.incidents.by_id(&id).map(|i| self.tell_again(i, lock)).unwrap_or_default();
        self.tells.extend(tells);
    }

    /// A row of the lock list is lifted: what its servers asked while nothing could answer, and what they did before somebody
    /// decided to let them go on, is no reason to lock them again. Evidence that was growing is closed. `all`: what they sent
    /// is forgotten too.
    pub(crate) fn begin_anew(&mut self, row: &LockRow, all: bool) {
        let now_ns = self.now.mono_ns;
        for host in self.watch.hosts() {
            let facts = self.facts().cloned();
            let own = self.networks.target(host, facts.as_deref());
            let covered = own.is_some_and(|h| row.nets().iter().any(|net| net.contains(&h)));
            if !covered {
                continue;
            }
            if all {
                let keys: Vec<(String, Rule)> =
                    self.cases.iter().filter(|(_, c)| c.host == host).map(|(k, _)| k.clone()).collect();
                for key in keys {
                    let Some(case) = self.cases.remove(&key) else { continue };
                    self.write_evidence(&key.0, &case);
                }
                self.windows.remove(&host);
            }
            if let Some(w) = self.watch.get_mut(host) {
                w.case &= !all;
                w.scan = HostScan::anew(now_ns);
            }
        }
    }

    fn write_evidence(&mut self, address: &str, case: &Case) {
        let at = self.now.time();
        let mut files: Vec<(&str, Vec<u8>)> = Vec::new();
        if let Some(summary) = self.summary(case.host, address, &case.finding) {
            files.push(("summary.log", summary.text(self.config.evidence.locale).into_bytes()));
        }
        if let Some((name, text)) = self.scan_log(address, case) {
            files.push((name, text.into_bytes()));
        }
        let Some(open) = self.incidents.get(address, case.finding.rule) else { return };
        let (incident, rule) = (open.row.id.clone(), open.row.rule.clone());
        let attack = open.row.attack.as_ref().map(|a| format!(", {a}")).unwrap_or_default();
        let comment = format!("{incident}: {address}, rule {rule}{attack}");
        if let Some((text, packets)) = self.traffic_dump(case.host, &comment) {
            files.push(("dump.log", text.into_bytes()));
            files.push(("dump.pcapng", packets));
        }
        let Some(open) = self.incidents.get(address, case.finding.rule) else { return };
        let known = |n: &&str| open.row.files.iter().any(|f| f == n);
        let new: Vec<&str> = files.iter().map(|(n, _)| *n).filter(|n| !known(n)).collect();
        if !new.is_empty() {
            open.note(Step::Evidence, Some(new.join(" ")), at);
            open.row.files.extend(new.into_iter().map(str::to_owned));
        }
        let write = |(name, bytes): (&str, Vec<u8>)| StoreOp::WriteEvidence {
            incident: incident.clone(),
            name: name.to_owned(),
            bytes,
        };
        let ops: Vec<StoreOp> = files.into_iter().map(write).collect();
        if !ops.is_empty() {
            self.keep(ops);
        }
    }

    /// The packet-limit summary. Its lines add up to its sum: externals that were recorded, others, and what the host sent
    /// before its flows were kept.
    fn summary(&mut self, host: HostId, address: &str, f: &Finding) -> Option<Summary> {
        let Rule::Limit(measure, way) = f.rule else { return None };
        let (now_ns, most) = (self.now.mono_ns, self.config.evidence.externals_max);
        let window = self.windows.get_mut(&host)?;
        let (sums, bucket, seconds) =
            (window.sums(now_ns), window.first_bucket(now_ns), window.seconds(now_ns));
        let dir = usize::from(way == Way::In);
        let c = &sums.slow[dir];
        let (by, others) = match self.watch.get(host) {
            Some(w) => (w.remotes.since(bucket, dir, most), w.remotes.others(bucket, dir, most)),
            None => Default::default(),
        };
        let packets = c.packets.saturating_sub(by.recorded.packets);
        let before = Figures {
            packets,
            flows: c.syn.saturating_sub(by.recorded.flows).min(packets),
            bytes: c.bytes.saturating_sub(by.recorded.bytes),
        };
        Some(Summary {
            way,
            internal: address.to_owned(),
            measure,
            limit: f.limit,
            seconds,
            sum: Figures { packets: c.packets, flows: by.recorded.flows + before.flows, bytes: c.bytes },
            externals: by.externals.iter().map(|(r, f)| (crate::watch::address(*r), *f)).collect(),
            other: (by.other.packets > 0).then_some((others, by.other)),
            before: (before.packets > 0).then_some(before),
        })
    }

    /// The log of a scan, from exact contacts.
    fn scan_log(&mut self, address: &str, case: &Case) -> Option<(&'static str, String)> {
        let finding = case.finding.scan.as_deref()?;
        // Later, the window has moved on: what was written stays.
        if case.found_ns != self.now.mono_ns {
            return None;
        }
        let (scan, name) = match case.finding.rule {
            Rule::Netscan => (Scan::Netscan, "netscan.log"),
            Rule::Portscan => (Scan::Portscan, "portscan.log"),
            Rule::Limit(..) | Rule::Misconfiguration => return None,
        };
        let (now, evidence) = (self.now, self.config.evidence);
        let w = self.watch.get(case.host)?;
        let (proof, unlisted) = w.scan.proof(finding, evidence.rows_max);
        let fallback = address.parse::<Target>().ok()?.prefix()?.addr();
        let rows: Vec<scanlog::Row> = proof
            .iter()
            .map(|p| scanlog::Row {
                time_ns: now.unix_ns - i128::from(now.mono_ns.saturating_sub(p.time_ns)),
                source: w.local_of(p).unwrap_or(fallback),
                source_port: p.local_port,
                destination: p.remote,
                destination_port: p.remote_port,
                size: p.size,
                protocol: p.protocol,
            })
            .collect();
        let style = match evidence.style {
            config::LogStyle::Classic => scanlog::Style::Classic,
            config::LogStyle::Extended => scanlog::Style::Extended,
        };
        let log = Log {
            scan,
            host: address,
            style,
            rows: &rows,
            rows_max: evidence.rows_max,
            unlisted: unlisted as u64,
        };
        Some((name, log.text()))
    }

    /// What was recorded of a host's packets, as text and as a capture.
    fn traffic_dump(&self, host: HostId, comment: &str) -> Option<(String, Vec<u8>)> {
        let w = self.watch.get(host)?;
        let mut records: Vec<_> = w.recent.iter().collect();
        // Each worker has a ring of its own.
        records.sort_by_key(|r| r.unix_ns);
        let first = records.first()?;
        let mut text = dump::header(i128::from(first.unix_ns));
        text.push('\n');
        let mut write = || -> io::Result<(String, Vec<u8>)> {
            let mut capture = pcapng::Writer::new(Vec::new(), comment, "cordon")?;
            for r in &records {
                let packet =
                    Packet { time_ns: r.unix_ns.into(), bytes: r.packet.frame(), wire_len: r.packet.length };
                dump::line(&mut text, &packet);
                text.push('\n');
                capture.packet(&packet)?;
            }
            Ok((std::mem::take(&mut text), capture.finish()?))
        };
        // Writing into memory does not fail.
        write().ok()
    }
}
