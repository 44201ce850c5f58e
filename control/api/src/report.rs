//! What cordond reports.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::attack::Attack;
use crate::domain::{Action, Direction, Event, Kind, OutboxState, Reason, Role, State, Step, Target, Time};

/// A lock that is not enforced for a while, so that somebody can get at the server to repair it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Suspension {
    /// Since when.
    pub since: Time,
    /// From then on it is enforced again, by itself.
    pub until: Time,
    /// Who let the customer in: a user of this machine.
    pub who: String,
}

/// A row of the lock list. What is enforced is the union of all rows that are not suspended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LockRow {
    /// Number of the row, never given twice.
    pub id: u64,
    /// What is locked.
    pub target: Target,
    /// Which way.
    pub direction: Direction,
    /// Why.
    pub reason: Reason,
    /// The operator's case number.
    pub case: Option<String>,
    /// The operator's note.
    pub note: Option<String>,
    /// Who: a user of this machine, or `cordon` for a detector.
    pub who: String,
    /// The rule that locked; none for an operator.
    pub rule: Option<String>,
    /// The incident it belongs to.
    pub incident: Option<String>,
    /// When.
    pub created: Time,
    /// When it ends by itself.
    pub until: Option<Time>,
    /// Remote prefixes that may still reach the target.
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<String>))]
    pub except: Vec<ipnet::IpNet>,
    /// Changes with every change of the list.
    pub generation: u64,
    /// Whether the dataplane enforces it.
    pub enforced: bool,
    /// Why not.
    pub why_not: Option<String>,
    /// A timed maintenance unlock: it stays on the list, and is not enforced until then.
    #[serde(default)]
    pub suspended: Option<Suspension>,
    /// It lifts itself once the server is quiet.
    #[serde(default)]
    pub if_quiet: bool,
    /// Of a lock on a server: the addresses and prefixes that it covers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<String>))]
    pub addresses: Vec<ipnet::IpNet>,
    /// What else an operator ought to know of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remark: Option<String>,
    /// The server of the inventory that it is on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// That server's customer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub customer: Option<String>,
    /// The reference of the program that asked for it, by which a request that is repeated is known again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_ref: Option<String>,
}

impl LockRow {
    /// A row that nothing else is known of, enforced, and the first of its generation.
    pub fn new(
        id: u64,
        target: Target,
        direction: Direction,
        reason: Reason,
        who: impl Into<String>,
        created: Time,
    ) -> LockRow {
        LockRow {
            id,
            target,
            direction,
            reason,
            case: None,
            note: None,
            who: who.into(),
            rule: None,
            incident: None,
            created,
            until: None,
            except: Vec::new(),
            generation: id,
            enforced: true,
            why_not: None,
            suspended: None,
            if_quiet: false,
            addresses: Vec::new(),
            remark: None,
            server: None,
            customer: None,
            external_ref: None,
        }
    }

    /// Whether a detector made it.
    pub fn is_detectors(&self) -> bool {
        self.rule.is_some()
    }

    /// The prefixes that it covers.
    pub fn nets(&self) -> &[ipnet::IpNet] {
        match &self.target {
            Target::Prefix(net) => std::slice::from_ref(net),
            Target::Server(_) => &self.addresses,
            Target::Mac(_) => &[],
        }
    }
}

/// One thing that was done about an incident.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ActionTaken {
    /// What.
    pub action: Action,
    /// When.
    pub at: Time,
}

/// One thing that happened to an incident.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TimelineEntry {
    /// When.
    pub at: Time,
    /// What.
    pub step: Step,
    /// More about it: by whom, until when, which files.
    pub detail: Option<String>,
}

fn opened() -> State {
    State::Opened
}

/// An incident.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct IncidentRow {
    /// `C-YYYY-NNNNNN`.
    pub id: String,
    /// What it is.
    pub kind: Kind,
    /// The server.
    pub address: Option<String>,
    /// Its MAC address, where the incident is about one.
    pub mac: Option<String>,
    /// Which way.
    pub direction: Direction,
    /// The furthest that was done.
    pub action: Action,
    /// All that was done.
    pub actions: Vec<ActionTaken>,
    /// `RULE/GROUP`.
    pub rule: String,
    /// When it was opened.
    pub opened: Time,
    /// First packet that belongs to it, as far as is known.
    pub first_seen: Time,
    /// Last time it was seen.
    pub last_seen: Time,
    /// `tcp`, `udp`, `icmp`, or none.
    pub protocol: Option<String>,
    /// What kind of the rule, or of wrong configuration: `worm-port`, `arp-spoof`, …
    #[serde(default)]
    pub case: Option<String>,
    /// Ports that were tried most; of ICMP the types.
    #[serde(default)]
    pub ports: Vec<u16>,
    /// Of an attack: its kind, as far as it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attack: Option<Attack>,
    /// First contacts.
    #[serde(default)]
    pub contacts: u64,
    /// Those of them that were answered.
    #[serde(default)]
    pub answered: u64,
    /// What is measured: `packets`, `syn`, `contacts`, …
    pub measure: String,
    /// `fast` (1 s) or `mean` (300 s); of contacts `60s` or `300s`.
    pub window: String,
    /// The limit that was crossed: a second, or contacts in the window.
    pub limit: u64,
    /// The highest value seen, in the same unit.
    pub peak: u64,
    /// Packets of the host in its direction since `first_seen`.
    pub packets: u64,
    /// Bytes of those.
    pub bytes: u64,
    /// Seconds those cover.
    pub seconds: u64,
    /// Packets of those that were dropped.
    pub dropped: u64,
    /// Why no more was done than was done.
    pub held_back: Option<String>,
    /// The furthest that would have been done had nothing held it back; none where nothing did.
    #[serde(default)]
    pub would: Option<Action>,
    /// Where it stands.
    #[serde(default = "opened")]
    pub state: State,
    /// What happened, in order; of a long one the first 200 things.
    #[serde(default)]
    pub timeline: Vec<TimelineEntry>,
    /// When it was closed; none while it is open.
    pub closed: Option<Time>,
    /// Evidence, names of files.
    pub files: Vec<String>,
    /// When the files were removed to make room; none while they are there.
    #[serde(default)]
    pub files_removed: Option<Time>,
    /// The server that the inventory said it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// That server's customer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub customer: Option<String>,
}

/// How urgent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Packets or locks are at risk.
    Critical,
    /// Something does not work as configured.
    Warning,
    /// Worth knowing.
    Notice,
}

/// Something that needs a person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Attention {
    /// How urgent.
    pub severity: Severity,
    /// What.
    pub text: String,
    /// What to do.
    pub next_step: String,
}

/// A named count.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct VerdictCount {
    /// `forward`, `drop_locked_out`, …
    pub verdict: String,
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
}

/// A port of a wire.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PortReport {
    /// `inside` or `outside`.
    pub side: String,
    /// Device, as configured.
    pub device: String,
    /// Link.
    pub link_up: bool,
    /// Held down since the other side's link is down.
    pub held_down: bool,
    /// Mbit/s, 0 unknown.
    pub speed_mbps: u64,
    /// Packets received.
    pub received: u64,
    /// Packets sent.
    pub sent: u64,
    /// Packets the NIC dropped before we saw them.
    pub missed: u64,
    /// Errors of both directions, and lack of buffers.
    pub errors: u64,
}

/// A wire.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct WireReport {
    /// Name.
    pub name: String,
    /// `l2` or `routed`.
    pub inside: String,
    /// Its two ports.
    pub ports: Vec<PortReport>,
}

/// A worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct WorkerReport {
    /// Number.
    pub worker: usize,
    /// Core.
    pub core: Option<u64>,
    /// Packets received.
    pub packets: u64,
    /// Cycles a packet in polls that brought packets; 0 before the first.
    #[serde(serialize_with = "finite")]
    pub cycles_per_packet: f64,
    /// Whether it moves.
    pub alive: bool,
}

/// JSON has no word for what comes of 0 / 0.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn finite<S: serde::Serializer>(v: &f64, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_f64(if v.is_finite() { *v } else { 0.0 })
}

/// `cordon status`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct StatusReport {
    /// What needs attention, most urgent first.
    pub attention: Vec<Attention>,
    /// Version of cordond.
    pub version: String,
    /// cordond runs since.
    pub started: Time,
    /// `forwarding`, `starting`, `stopping`, `down`.
    pub dataplane: String,
    /// Process id of the dataplane.
    pub dataplane_pid: Option<u64>,
    /// Which life of the dataplane.
    pub incarnation: Option<u64>,
    /// Whether locks are enforced.
    pub enforcing: bool,
    /// Bypass: `off`, `on`, `direct`.
    pub bypass: String,
    /// Packets received.
    pub received_packets: u64,
    /// Bytes received.
    pub received_bytes: u64,
    /// What became of them.
    pub verdicts: Vec<VerdictCount>,
    /// Received = sent + dropped by reason. In motion a burst may be under way.
    pub balanced: bool,
    /// Malformed packets, forwarded.
    pub malformed: u64,
    /// Neither IP nor ARP, forwarded.
    pub non_ip: u64,
    /// Wires.
    pub wires: Vec<WireReport>,
    /// Workers.
    pub workers: Vec<WorkerReport>,
    /// Hosts that moved in the last tick.
    pub active_hosts: u64,
    /// Rows of the lock list, by reason.
    pub locks: Vec<(Reason, u64)>,
    /// What guards drop; `None` where no wire shows the servers' own segment.
    pub guards: Option<GuardsReport>,
    /// Open incidents.
    pub open_incidents: u64,
    /// Latched rules.
    pub breaker: Vec<BreakerRow>,
    /// Pages under the tables: `huge` or `small`.
    pub pages: String,
    /// Where the configuration in force came from.
    pub config: String,
}

/// Guards of the servers' segment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct GuardsReport {
    /// Guards that drop: `dhcp`, `ra`, `stp`, `arp`, `nd`.
    pub on: Vec<String>,
    /// Gateways whose addresses nobody inside may claim.
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<String>))]
    pub gateways: Vec<IpAddr>,
    /// Gateways that were not heard from outside yet: claims on them pass.
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<String>))]
    pub unheard: Vec<IpAddr>,
    /// Gateways that stand inside, and are not guarded against themselves.
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<String>))]
    pub inside: Vec<IpAddr>,
}

/// A latched rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct BreakerRow {
    /// The rule.
    pub rule: String,
    /// Since when.
    pub since: Time,
    /// Locks in the window that made it latch.
    pub locks: u64,
    /// What it would have locked since, waiting for an operator.
    pub waiting: Vec<String>,
}

/// How far an announcement of a blackhole has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum RtbhState {
    /// The routers upstream are asked to drop what is sent to it.
    Announced,
    /// Withdrawn, to see whether the attack goes on.
    Probing,
    /// Over, as soon as the BGP speaker has taken it back.
    Withdrawing,
}

/// A remotely triggered blackhole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RtbhRow {
    /// Announced as /32 or /128.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub address: IpAddr,
    /// How far it has come.
    pub state: RtbhState,
    /// Since when.
    pub since: Time,
    /// When this state ends.
    pub until: Time,
    /// How often it was announced again.
    pub round: u32,
    /// `cordon`, or an operator.
    pub who: String,
    /// The attack.
    pub incident: Option<String>,
    /// A note.
    pub note: Option<String>,
    /// Whether the BGP speaker has it, by its last answer.
    pub present: Option<bool>,
}

/// `cordon top`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TopRow {
    /// The host.
    pub address: String,
    /// Its group.
    pub group: String,
    /// Packets a second in the last second.
    pub packets_per_second: u64,
    /// Bits a second.
    pub bits_per_second: u64,
    /// TCP SYN a second.
    pub syn_per_second: u64,
    /// Whether it is locked in this direction.
    pub locked: bool,
}

/// Totals of a host in a direction since the dataplane started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Traffic {
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
    /// Packets dropped, a part of `packets`.
    pub dropped: u64,
    /// TCP.
    pub tcp: u64,
    /// TCP SYN without ACK.
    pub syn: u64,
    /// UDP.
    pub udp: u64,
    /// ICMP.
    pub icmp: u64,
    /// Fragments.
    pub fragments: u64,
    /// Everything else.
    pub other: u64,
}

/// A limit and how near it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LimitState {
    /// The rule.
    pub rule: String,
    /// What it may do at present: `observe`, `warn`, `lock`, and why if less than configured.
    pub mode: String,
}

/// A server of the inventory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ServerReport {
    /// Its id.
    pub id: String,
    /// What people call it.
    pub name: Option<String>,
    /// Its addresses and prefixes.
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<String>))]
    pub addresses: Vec<ipnet::IpNet>,
    /// Its hardware addresses.
    pub macs: Vec<String>,
    /// Whose limits apply, where the inventory says so.
    pub group: Option<String>,
    /// Its customer.
    pub customer: Option<String>,
    /// Mail addresses of those who are told.
    pub contacts: Vec<String>,
    /// The language they are told in.
    pub language: Option<String>,
    /// Words of the provider's own.
    pub tags: Vec<String>,
}

/// `cordon show`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct HostReport {
    /// What was asked for.
    pub target: Target,
    /// Whether it lies in a configured network.
    pub internal: bool,
    /// Its group.
    pub group: Option<String>,
    /// Detectors never lock it.
    pub never_lock: bool,
    /// What is enforced on it: `out`, `in`, `both`, none.
    pub enforced: Option<Direction>,
    /// What it sent. None for a prefix.
    pub out: Option<Traffic>,
    /// What it was sent.
    pub inbound: Option<Traffic>,
    /// Rows of the lock list that cover it.
    pub locks: Vec<LockRow>,
    /// Its incidents, latest first.
    pub incidents: Vec<IncidentRow>,
    /// Rules it is exempted from, and until when.
    pub exemptions: Vec<(String, Time)>,
    /// The hardware address that its packets have to come from; none where it is bound to none.
    pub bound: Option<String>,
    /// The server that the inventory says it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<ServerReport>,
}

/// A row of the outbox: one message to one audience.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct OutboxRow {
    /// Made of what it tells, so that nothing is told twice.
    pub id: String,
    /// How it is delivered: `mail` or `webhook`.
    pub kind: String,
    /// Who is told: `desk`, `customer:ID`, or `webhook:NAME`.
    pub audience: String,
    /// What is told.
    pub event: Event,
    /// The incident or lock that it belongs to.
    pub thread: String,
    /// When it happened.
    pub created: Time,
    /// When it is delivered, or tried again.
    pub due: Time,
    /// How far it is.
    pub state: OutboxState,
    /// Attempts so far.
    pub attempts: u32,
    /// Why the last attempt failed, or why it was withdrawn.
    pub error: Option<String>,
    /// When it left the state `waiting`.
    pub done: Option<Time>,
    /// The digest that it is a part of.
    pub digest: Option<String>,
}

/// A stretch of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Span {
    /// From.
    pub since: Time,
    /// To.
    pub until: Time,
}

/// What a host did, or was sent, in some time. Every packet was counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Counted {
    /// Packets, and their bytes; dropped ones are a part of them.
    #[serde(flatten)]
    pub traffic: Traffic,
    /// TCP SYN-ACK.
    pub syn_ack: u64,
    /// SYN-ACK and RST.
    pub reactions_tcp: u64,
    /// ICMP errors and replies.
    pub reactions_icmp: u64,
    /// Frames of at most 128 bytes.
    pub small: u64,
    /// First contacts, by a sketch: more than some hundred within 20 s are counted short, and a contact that is made
    /// again after 20 s counts again.
    pub first_contacts: u64,
}

/// Something that happened to a lock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LockEvent {
    /// When.
    pub at: Time,
    /// `locked`, `changed`, `unlocked`.
    pub event: String,
    /// By whom.
    pub who: String,
    /// The row as it was then.
    pub row: LockRow,
}

/// `cordon evidence`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct EvidenceReport {
    /// The address, or the prefix of an IPv6 server.
    pub target: Target,
    /// What was asked for.
    pub asked: Span,
    /// What the numbers cover: history is kept in pieces of 5 minutes, of an hour after a day.
    pub covered: Span,
    /// Stretches of what was asked for of which nothing is known.
    pub unknown: Vec<Span>,
    /// What follows, as sentences, most important first.
    pub findings: Vec<String>,
    /// What Cordon cannot know.
    pub caveats: Vec<String>,
    /// What it sent.
    pub out: Counted,
    /// What it was sent.
    pub inbound: Counted,
    /// Connections answered or refused that it had not asked for within the last 10 to 20 s; at least so many.
    pub unprovoked: u64,
    /// Packets with its address as source that entered outside.
    pub from_outside: u64,
    /// Packets with its address as source that another device of the segment sent. They do not count for it.
    pub other_mac: u64,
    /// Some protocol's numbers are missing, since more than 2^32 packets came in five minutes.
    pub incomplete: bool,
    /// Its incidents in that time, latest first.
    pub incidents: Vec<IncidentRow>,
    /// What happened to its locks in that time, in order.
    pub lock_events: Vec<LockEvent>,
    /// Locks that stand on it now.
    pub locks: Vec<LockRow>,
}

/// A rule, and what it may do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RuleRow {
    /// Its name.
    pub rule: String,
    /// The furthest it goes, by the configuration.
    pub action: Action,
    /// Somebody has set it to observing.
    pub observing: bool,
    /// Its circuit breaker is latched: it only observes.
    pub latched: bool,
}

/// A rule leaves a target alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ExemptionRow {
    /// Address or prefix.
    pub target: Target,
    /// The rule.
    pub rule: String,
    /// Until when.
    pub until: Time,
}

/// A token of the HTTP API, without its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TokenRow {
    /// Its number, never given twice.
    pub id: u64,
    /// Its name: what stands in lock list and audit log as `token:NAME`.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// When it was made.
    pub created: Time,
    /// Who made it.
    pub who: String,
    /// From then on it is refused; none: never.
    pub until: Option<Time>,
    /// When it was revoked.
    pub revoked: Option<Time>,
    /// When it was used last, to the minute.
    pub last_used: Option<Time>,
}

impl TokenRow {
    /// Whether it opens anything at a time.
    pub fn is_good(&self, at: Time) -> bool {
        self.revoked.is_none() && self.until.is_none_or(|u| u > at)
    }
}
