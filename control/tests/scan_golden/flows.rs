//! Exact flows of one host from a capture, as the dataplane keeps them, and the clock of replay.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::path::Path;

use capture::Capture;
use cordond::detect::Level;
use cordond::scan::flow::{ICMP, ICMPV6, TCP, UDP};
use cordond::scan::{Env, Flow, FlowId, HostScan, Opener, Refused, ScanFinding, ScanKind, ScanLimits};

use super::headers::{Packet, frame};

const TICK_NS: u64 = 100_000_000;
const BEGINS_NS: u64 = 1_000_000_000_000;
const RUN_ON_NS: u64 = 10_000_000_000;

type Key = (IpAddr, u8, u16, u16);

/// The flow table of one host.
struct Table {
    host: IpAddr,
    rows: HashMap<Key, (FlowId, Flow)>,
    changed: BTreeMap<FlowId, Key>,
    /// Rows opened before this time stay out, and everything of them.
    blind_until_ns: Option<u64>,
    unseen: HashMap<Key, ()>,
    next: u64,
}

fn opener(p: &Packet<'_>) -> Opener {
    if p.later_fragment {
        return Opener::Fragment;
    }
    match p.protocol {
        TCP => {
            let f = p.flags();
            match f & 0x3f {
                0 => Opener::Null,
                0x01 => Opener::Fin,
                0x29 => Opener::Xmas,
                _ if f & 0x04 != 0 || f & 0x12 == 0x12 => Opener::Reaction,
                _ if f & 0x12 == 0x02 => Opener::Syn,
                0x10 if p.is_empty_tcp() => Opener::Ack,
                _ => Opener::None,
            }
        }
        UDP => Opener::Udp,
        ICMP | ICMPV6 => match (p.protocol, p.payload.first()) {
            (ICMP, Some(8 | 13 | 15 | 17)) | (ICMPV6, Some(128)) => Opener::IcmpRequest,
            _ => Opener::Reaction,
        },
        _ => Opener::OtherProtocol,
    }
}

impl Table {
    fn packet(&mut self, now_ns: u64, bytes: &[u8], wire_len: u32, drop_ns: u64) {
        let Some(p) = frame(bytes) else { return };
        if p.source == self.host {
            let (local, remote) = p.ports();
            self.account(now_ns, (p.destination, p.protocol, local, remote), &p, wire_len, true, drop_ns);
        } else if p.destination == self.host {
            let (a, b) = p.ports();
            let (remote, local) = if matches!(p.protocol, ICMP | ICMPV6) { (b, a) } else { (a, b) };
            self.account(now_ns, (p.source, p.protocol, local, remote), &p, wire_len, false, drop_ns);
            if let Some((q, unreachable)) = p.quoted()
                && q.source == self.host
            {
                let (local, remote) = q.ports();
                self.refuse((q.destination, q.protocol, local, remote), unreachable);
            }
        }
    }

    fn refuse(&mut self, key: Key, unreachable: bool) {
        if let Some((id, f)) = self.rows.get_mut(&key) {
            f.refused = if unreachable { Refused::Unreachable } else { Refused::TimeExceeded };
            self.changed.insert(*id, key);
        }
    }

    fn account(&mut self, now_ns: u64, key: Key, p: &Packet<'_>, length: u32, out: bool, drop_ns: u64) {
        if self.unseen.contains_key(&key) {
            return;
        }
        if !self.rows.contains_key(&key) {
            let kind = if out { opener(p) } else { Opener::RemoteFirst };
            let (remote, protocol, local_port, remote_port) = key;
            let f = Flow {
                remote,
                protocol,
                local_port,
                remote_port,
                first_ns: now_ns,
                last_ns: now_ns,
                out_packets: 0,
                out_bytes: 0,
                in_packets: 0,
                in_bytes: 0,
                opener: kind,
                answered: false,
                refused: Refused::No,
                first_frame_len: length,
            };
            if f.opens_contact() && drop_ns > 0 {
                let until = *self.blind_until_ns.get_or_insert(now_ns + drop_ns);
                if now_ns < until {
                    self.unseen.insert(key, ());
                    return;
                }
            }
            self.next += 1;
            self.rows.insert(key, (FlowId(self.next), f));
        }
        let Some((id, f)) = self.rows.get_mut(&key) else { return };
        f.last_ns = now_ns;
        if out {
            f.out_packets += 1;
            f.out_bytes += u64::from(length);
        } else {
            f.in_packets += 1;
            f.in_bytes += u64::from(length);
            if f.out_packets > 0 {
                if p.protocol == TCP && p.flags() & 0x04 != 0 {
                    f.refused = Refused::Rst;
                } else {
                    f.answered = true;
                }
            }
        }
        self.changed.insert(*id, key);
    }

    fn hand_over(&mut self, scan: &mut HostScan) {
        for (id, key) in std::mem::take(&mut self.changed) {
            if let Some((_, f)) = self.rows.get(&key) {
                scan.flow(id, f);
            }
        }
    }
}

/// What was found over a whole capture: the furthest of each kind.
#[derive(Debug, Default)]
pub struct Found(pub BTreeMap<ScanKind, ScanFinding>);

impl Found {
    fn add(&mut self, all: Vec<ScanFinding>) {
        for f in all {
            let further = self.0.get(&f.kind).is_none_or(|o| (o.level, o.contacts) < (f.level, f.contacts));
            if further {
                self.0.insert(f.kind, f);
            }
        }
    }

    /// In a few words.
    pub fn words(&self, kind: ScanKind) -> String {
        self.0.get(&kind).map_or_else(
            || "-".into(),
            |f| {
                let level = if f.level == Level::Lock { "lock" } else { "warn" };
                format!(
                    "{level} {} {} {}/{} failed, limit {} in {} s, ports {:?}",
                    f.variant.name(),
                    f.technique.name(),
                    f.failed,
                    f.contacts,
                    f.limit,
                    f.window_ns / 1_000_000_000,
                    f.ports
                )
            },
        )
    }
}

/// Plays a capture to the judge of one host. `drop_ns`: contacts of the first so long after the host's first opening
/// are not seen, nor what belongs to them.
pub fn play(path: &Path, host: IpAddr, drop_ns: u64) -> Found {
    let limits = ScanLimits::default();
    let nobody = |_: IpAddr| false;
    let env = Env {
        can_judge_silence: true,
        lab: true,
        is_internal: &nobody,
        is_live_internal: &nobody,
        locked_ns: None,
        heard_ns: None,
        missed_ns: None,
    };
    let mut scan = HostScan::new();
    let mut table = Table {
        host,
        rows: HashMap::new(),
        changed: BTreeMap::new(),
        blind_until_ns: None,
        unseen: HashMap::new(),
        next: 0,
    };
    let mut found = Found::default();
    let Ok(mut capture) = Capture::open(path) else { return found };
    let (mut begins, mut now_ns, mut tick_ns) = (None, BEGINS_NS, BEGINS_NS + TICK_NS);
    while let Ok(Some(p)) = capture.next_packet() {
        let begins = *begins.get_or_insert(p.time_ns);
        let since = u64::try_from(p.time_ns - begins).unwrap_or(0);
        now_ns = now_ns.max(BEGINS_NS.saturating_add(since));
        while tick_ns <= now_ns {
            table.hand_over(&mut scan);
            found.add(scan.judge(tick_ns, &limits, &env));
            tick_ns += TICK_NS;
            // Nothing changes in a long silence once every window has passed.
            if now_ns > tick_ns + 700_000_000_000 && scan.is_empty() && table.changed.is_empty() {
                tick_ns = now_ns - now_ns % TICK_NS;
            }
        }
        let length = p.wire_len;
        table.packet(now_ns, p.bytes, length, drop_ns);
    }
    let end_ns = now_ns + RUN_ON_NS;
    while tick_ns <= end_ns {
        table.hand_over(&mut scan);
        found.add(scan.judge(tick_ns, &limits, &env));
        tick_ns += TICK_NS;
    }
    found
}
