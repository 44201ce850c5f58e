//! The configuration file, one for all three programs: schema, defaults, validation.
//!
//! Every error names file, line and column and says what to do; all semantic errors are reported at once.
#![forbid(unsafe_code)]

mod api;
mod error;
mod inventory;
mod limits;
mod mail;
mod raw;
mod rtbh;
mod rules;
mod scan;
mod topology;
mod validate;
mod values;
mod webhook;

pub mod systemd;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use error::{ConfigErrors, Problem};
pub use inventory::{Format, Held, Inventory, Server, Site, subnets};
pub use ipnet::IpNet;
pub use limits::{Limit, Limits, Measure, Way};
pub use mail::{Mail, MailAddress, MailTls, is_language, is_mail_address};
pub use rules::{Ceiling, LockScope, Rule, RuleSettings, Unlocking};
pub use scan::{ScanLimit, ScanLimits};
pub use webhook::Webhook;

/// A validated configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the file's text came from, for messages.
    pub source: String,
    /// The text, kept as the last good one.
    pub text: String,
    /// Directories.
    pub run: Run,
    /// Workers and ports.
    pub dataplane: Dataplane,
    /// Table sizes.
    pub tables: Tables,
    /// `cordond` itself.
    pub control: Control,
    /// The HTTP API; none: there is no such thing.
    pub api: Option<Api>,
    /// Wires, at least one for `run`.
    pub wires: Vec<Wire>,
    /// Internal networks.
    pub networks: Vec<Network>,
    /// Limits of the group `default`.
    pub limits: Limits,
    /// Limits of the other groups.
    pub groups: BTreeMap<String, Limits>,
    /// When contacts make a scan.
    pub scan: ScanLimits,
    /// Who may do on a servers' segment what servers may not.
    pub link: Link,
    /// Which harmful frames are dropped at once.
    pub guards: Guards,
    /// What each rule may do.
    pub rules: BTreeMap<Rule, RuleSettings>,
    /// Prefixes that detectors never lock.
    pub never_lock: Vec<IpNet>,
    /// Remote prefixes that may still reach every locked host.
    pub exceptions: Vec<IpNet>,
    /// The circuit breaker.
    pub breaker: Breaker,
    /// Locks that lift themselves.
    pub unlock: Unlock,
    /// Blackholes upstream.
    pub rtbh: Rtbh,
    /// Logs and their keeping.
    pub evidence: Evidence,
    /// The file that says which server has which addresses.
    pub inventory: Option<PathBuf>,
    /// How customers and the desk are told; none: nobody is.
    pub mail: Option<Mail>,
    /// Programs of the provider that are told too.
    pub webhooks: Vec<Webhook>,
}

/// `[run]`
#[derive(Clone, Debug)]
pub struct Run {
    /// Sockets and switches.
    pub dir: PathBuf,
    /// The shared files: tmpfs or hugetlbfs.
    pub tables: PathBuf,
    /// The store and evidence: a disk.
    pub state: PathBuf,
}

/// `[dataplane]`
#[derive(Clone, Debug)]
pub struct Dataplane {
    /// One core a worker; empty: chosen.
    pub cores: Vec<usize>,
    /// Queues of each port, one worker each.
    pub queues: u16,
    /// Core of the housekeeping thread.
    pub housekeeping_core: Option<usize>,
    /// Further EAL arguments.
    pub eal: Vec<String>,
    /// Largest payload of a frame, bytes.
    pub mtu: u16,
    /// Descriptors of a receive queue.
    pub rx_descriptors: u16,
    /// Descriptors of a transmit queue.
    pub tx_descriptors: u16,
    /// Packet buffers for each port and queue.
    pub mbufs: u32,
    /// How long a cold start waits for `cordond`.
    pub start_wait: Duration,
    /// Sleep of a worker whose queues are empty; zero on an appliance.
    pub idle_sleep: Duration,
    /// Plays a capture into ring ports instead of receiving from NICs.
    pub feed: Option<Feed>,
}

/// `[dataplane] feed`
#[derive(Clone, Debug)]
pub struct Feed {
    /// pcap or pcapng file.
    pub capture: PathBuf,
    /// 2.0: twice as fast as recorded.
    pub speed: f64,
    /// Begin again at the end.
    pub repeat: bool,
}

/// `[tables]`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tables {
    /// IPv4 host ids.
    pub hosts: u32,
    /// IPv6 host slots.
    pub ipv6_hosts: u32,
    /// Enforced lock ranges for each family.
    pub locks: u32,
    /// Bits of an IPv6 address that name a host.
    pub ipv6_host_length: u8,
}

/// `[control]`
#[derive(Clone, Debug)]
pub struct Control {
    /// Core of the control thread.
    pub core: Option<usize>,
    /// The control socket.
    pub socket: PathBuf,
    /// Unix group that may use the socket.
    pub group: Option<String>,
    /// Where metrics are served.
    pub metrics: Option<SocketAddr>,
}

/// `[api]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Api {
    /// Where it is served.
    pub listen: SocketAddr,
    /// Its certificate and key; none: without TLS, on a loopback address.
    pub tls: Option<Tls>,
}

/// Files of a certificate and its key, PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// The certificate, and those that lead to a root.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// What the inside port of a wire sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Inside {
    /// The servers' own segment: their MAC addresses are seen.
    L2,
    /// A router in between: one MAC address for all.
    Routed,
}

/// `[[wire]]`
#[derive(Clone, Debug)]
pub struct Wire {
    /// Its name in status and metrics.
    pub name: String,
    /// What the inside port sees.
    pub inside: Inside,
    /// PCI address or virtual device on the servers' side.
    pub inside_port: String,
    /// PCI address or virtual device on the internet's side.
    pub outside_port: String,
    /// Link down on one side shows on the other.
    pub links_follow: bool,
}

/// A device of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Device {
    /// By its MAC address.
    Mac([u8; 6]),
    /// By the source address of its messages.
    Address(IpAddr),
}

/// `[link]`
#[derive(Clone, Debug, Default)]
pub struct Link {
    /// DHCP servers and relays on the inside.
    pub dhcp_servers: Vec<Device>,
    /// Routers on the inside that may advertise themselves.
    pub routers: Vec<Device>,
    /// Switches on the inside that may speak spanning tree, by MAC.
    pub bridges: Vec<[u8; 6]>,
}

/// What a guard does with the frames that it knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GuardAction {
    /// Drops them.
    Drop,
    /// Lets them pass; they are told of all the same.
    Off,
}

/// What becomes of packets whose source address belongs to another MAC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BindingAction {
    /// They count for the address, whoever sent them.
    Off,
    /// They are counted apart, and not for the server that has the address.
    Count,
    /// They are dropped, too.
    Drop,
}

/// `[guards]`: what servers may not say on a segment of theirs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Guards {
    /// Answers of DHCP.
    pub dhcp: GuardAction,
    /// Router advertisements.
    pub ra: GuardAction,
    /// Spanning tree.
    pub stp: GuardAction,
    /// Claims on a gateway's address by ARP.
    pub arp: GuardAction,
    /// The same by neighbour discovery, and redirects.
    pub nd: GuardAction,
    /// Packets with the address of a server whose MAC the inventory names, from another MAC.
    pub bindings: BindingAction,
}

impl Default for Guards {
    /// Switches inside speak spanning tree too, and a tree that is cut makes loops: that guard is for those who know that
    /// theirs are all in `[link] bridges`.
    fn default() -> Guards {
        use GuardAction::{Drop, Off};
        Guards { dhcp: Drop, ra: Drop, stp: Off, arp: Drop, nd: Drop, bindings: BindingAction::Count }
    }
}

/// Most devices that `[link]` can name.
pub const LINK_DEVICES_MAX: usize = 128;

/// What happens to packets from outside with an internal source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Antispoof {
    /// Forwarded and counted: hairpin traffic through an outside router is ordinary.
    #[default]
    Count,
    /// Dropped.
    Strict,
}

/// `[[network]]`
#[derive(Clone, Debug)]
pub struct Network {
    /// The internal prefix.
    pub prefix: IpNet,
    /// What people call it.
    pub name: Option<String>,
    /// Whose limits apply.
    pub group: String,
    /// Routers inside the prefix; detectors never lock them.
    pub gateways: Vec<IpAddr>,
    /// Packets from outside with a source in this network.
    pub antispoof: Antispoof,
}

/// `[breaker]`
#[derive(Clone, Copy, Debug)]
pub struct Breaker {
    /// Locks of one rule in a window that are always allowed.
    pub locks_min: u32,
    /// Share of active hosts that may be locked in a window, if that is more.
    pub share: f64,
    /// The window.
    pub window: Duration,
}

/// `[unlock]`
#[derive(Clone, Copy, Debug)]
pub struct Unlock {
    /// Shortest life of a lock against an inbound attack.
    pub inbound_hold: Duration,
    /// Time below every limit after which it lifts itself.
    pub inbound_quiet: Duration,
    /// Quiet after which a lock against a server that offended lifts itself; none: by hand. A rule may say otherwise.
    pub outbound: Option<Duration>,
    /// So long after a maintenance unlock began, an offence that would lock ends it; none: it holds to its end.
    pub maintenance_grace: Option<Duration>,
}

/// How numbers are written in evidence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Locale {
    /// 100,000.5
    #[default]
    En,
    /// 100.000,5
    De,
}

/// `[rtbh]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rtbh {
    /// Where gobgpd's API listens; none: nothing is announced.
    pub gobgp: Option<SocketAddr>,
    /// The command `gobgp`.
    pub program: PathBuf,
    /// Communities of the routes.
    pub communities: Vec<String>,
    /// Next hop of IPv4 routes; none: what gobgpd puts there.
    pub next_hop: Option<IpAddr>,
    /// Next hop of IPv6 routes.
    pub next_hop_v6: Option<IpAddr>,
    /// What the uplink carries, bits a second; 0: nothing is announced without an operator.
    pub uplink_bits: u64,
    /// It counts as full from this share on.
    pub fill_percent: u32,
    /// How long a first announcement stands.
    pub hold: Duration,
    /// Each further one stands twice as long, up to this.
    pub hold_max: Duration,
    /// How long it is looked whether an attack goes on.
    pub probe: Duration,
    /// Most addresses announced at a time.
    pub announced_max: usize,
}

/// `[evidence]`
#[derive(Clone, Copy, Debug)]
pub struct Evidence {
    /// Number format.
    pub locale: Locale,
    /// Days that closed incidents are kept.
    pub retention_days: u32,
    /// Most bytes of all folders of evidence; 0: no bound.
    pub size_max: u64,
    /// Days that the history of hosts is kept.
    pub history_days: u32,
    /// Most bytes of it.
    pub history_max: u64,
    /// How rows of scan logs are dressed.
    pub style: LogStyle,
    /// Rows of a scan log.
    pub rows_max: usize,
    /// Lines of a summary, one for each external address.
    pub externals_max: usize,
}

/// How rows of scan logs are dressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogStyle {
    /// Time, source, destination and port.
    #[default]
    Classic,
    /// With source port, size and protocol.
    Extended,
}

/// The group that networks belong to which name none.
pub const DEFAULT_GROUP: &str = "default";

/// Most IPv4 host ids of one appliance.
pub const HOSTS_MAX: u32 = 4_194_304;
/// Where the configuration is when nobody says otherwise.
pub const DEFAULT_PATH: &str = "/etc/cordon/cordon.toml";
/// The switch in `[run] dir` that `cordon bypass --direct` makes and the dataplane looks for.
pub const BYPASS_FILE: &str = "bypass";

impl Config {
    /// Reads and validates a file. Errors name the file, lines and columns.
    pub fn load(path: &Path) -> Result<Config, ConfigErrors> {
        let text = std::fs::read_to_string(path).map_err(|e| {
            let absent = "copy cordon.example.toml there, or name another file with --config";
            ConfigErrors::unreadable(path, &e, absent)
        })?;
        Config::parse(&text, &path.display().to_string())
    }

    /// Validates a text; `source` names it in messages.
    pub fn parse(text: &str, source: &str) -> Result<Config, ConfigErrors> {
        validate::parse(text, source)
    }

    /// What replay uses without a file: defaults, no networks.
    pub fn replay_default() -> Config {
        validate::defaults()
    }

    /// What the daemons need beyond a valid file: wires and networks.
    pub fn validate_for_run(&self) -> Result<(), ConfigErrors> {
        let mut problems = Vec::new();
        if self.wires.is_empty() {
            problems.push(Problem::general(
                "no [[wire]] is configured",
                "name the two ports of at least one wire; see cordon.example.toml",
            ));
        }
        if self.networks.is_empty() {
            problems.push(Problem::general(
                "no [[network]] is configured",
                "name the prefixes of your servers: nothing can be counted or locked without them",
            ));
        }
        if problems.is_empty() { Ok(()) } else { Err(ConfigErrors::new(&self.source, &self.text, problems)) }
    }

    /// What an inventory has to fit.
    pub fn site(&self) -> Site<'_> {
        Site {
            groups: Some(&self.groups),
            networks: &self.networks,
            ipv6_host_length: self.tables.ipv6_host_length,
        }
    }

    /// The inventory, if the configuration names one. Errors name its file, lines and columns.
    pub fn load_inventory(&self) -> Result<Option<Inventory>, ConfigErrors> {
        self.inventory.as_deref().map(|path| Inventory::load(path, self.site())).transpose()
    }

    /// The limits that apply to a group.
    pub fn limits_for(&self, group: &str) -> &Limits {
        self.groups.get(group).unwrap_or(&self.limits)
    }

    /// The quiet after which a rule's locks against servers that offended lift themselves; none: by hand.
    pub fn outbound_quiet(&self, rule: Rule) -> Option<Duration> {
        match self.rule(rule).unlock {
            Some(Unlocking::ByHand) => None,
            Some(Unlocking::Quiet(d)) => Some(d),
            None => self.unlock.outbound,
        }
    }

    /// What a rule may do.
    pub fn rule(&self, rule: Rule) -> RuleSettings {
        self.rules.get(&rule).copied().unwrap_or_else(|| RuleSettings::default_for(rule))
    }
}
