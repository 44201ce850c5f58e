//! The file as serde sees it: every section and key optional, unknown keys refused. Durations, prefixes and addresses
//! stay text with a place, so that the validator can report all that are wrong at once.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;
use toml::Spanned;

use crate::{Antispoof, BindingAction, Ceiling, GuardAction, Inside, Locale, LockScope, ScanLimit};

/// Text, and where it stands.
pub(crate) type Text = Spanned<String>;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct File {
    pub(crate) run: Run,
    pub(crate) dataplane: Dataplane,
    pub(crate) tables: Tables,
    pub(crate) control: Control,
    pub(crate) api: Api,
    pub(crate) wire: Vec<Wire>,
    pub(crate) network: Vec<Network>,
    pub(crate) group: Vec<Group>,
    pub(crate) limits: Limits,
    pub(crate) scan: Scan,
    pub(crate) link: Link,
    pub(crate) guards: Guards,
    pub(crate) rules: BTreeMap<Text, Rule>,
    pub(crate) never_lock: Prefixes,
    pub(crate) exceptions: Prefixes,
    pub(crate) breaker: Breaker,
    pub(crate) unlock: Unlock,
    pub(crate) rtbh: Rtbh,
    pub(crate) evidence: Evidence,
    pub(crate) inventory: Inventory,
    pub(crate) mail: Option<crate::mail::RawMail>,
    pub(crate) webhook: Vec<crate::webhook::RawWebhook>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Inventory {
    pub(crate) file: Option<Spanned<PathBuf>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Scan {
    pub(crate) netscan_port: Option<ScanLimit>,
    pub(crate) netscan_worm: Option<ScanLimit>,
    pub(crate) netscan_any: Option<ScanLimit>,
    pub(crate) worm_ports: Option<Vec<u16>>,
    pub(crate) portscan: Option<ScanLimit>,
    pub(crate) lock_factor: Option<Spanned<u32>>,
    pub(crate) failed_percent: Option<Spanned<u32>>,
    pub(crate) worm_lock_failed_percent: Option<Spanned<u32>>,
    pub(crate) worm_warn_failed_percent: Option<Spanned<u32>>,
    pub(crate) unused_hits: Option<u32>,
    pub(crate) unused_divisor: Option<Spanned<u32>>,
    pub(crate) ceiling_ports: Option<Vec<u16>>,
    pub(crate) ceiling: Option<u32>,
    pub(crate) smtp: Option<u32>,
    pub(crate) any_contacts: Option<u32>,
    pub(crate) peer_to_peer_answered_percent: Option<Spanned<u32>>,
    pub(crate) silence: Option<Text>,
    pub(crate) silence_fast: Option<Text>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Guards {
    pub(crate) dhcp: Option<GuardAction>,
    pub(crate) ra: Option<GuardAction>,
    pub(crate) stp: Option<GuardAction>,
    pub(crate) arp: Option<GuardAction>,
    pub(crate) nd: Option<GuardAction>,
    pub(crate) bindings: Option<BindingAction>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Link {
    pub(crate) dhcp_servers: Vec<Text>,
    pub(crate) routers: Vec<Text>,
    pub(crate) bridges: Vec<Text>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Run {
    pub(crate) dir: Option<Spanned<PathBuf>>,
    pub(crate) tables: Option<Spanned<PathBuf>>,
    pub(crate) state: Option<Spanned<PathBuf>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Dataplane {
    pub(crate) cores: Option<Spanned<Vec<usize>>>,
    pub(crate) queues: Option<Spanned<u16>>,
    pub(crate) housekeeping_core: Option<Spanned<usize>>,
    pub(crate) eal: Vec<String>,
    pub(crate) mtu: Option<Spanned<u16>>,
    pub(crate) rx_descriptors: Option<Spanned<u16>>,
    pub(crate) tx_descriptors: Option<Spanned<u16>>,
    pub(crate) mbufs: Option<Spanned<u32>>,
    pub(crate) start_wait: Option<Text>,
    pub(crate) idle_sleep: Option<Text>,
    pub(crate) feed: Option<Feed>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Feed {
    pub(crate) capture: PathBuf,
    pub(crate) speed: Option<Spanned<f64>>,
    pub(crate) repeat: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Tables {
    pub(crate) hosts: Option<Spanned<u32>>,
    pub(crate) ipv6_hosts: Option<Spanned<u32>>,
    pub(crate) locks: Option<Spanned<u32>>,
    pub(crate) ipv6_host_length: Option<Spanned<u8>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Control {
    pub(crate) core: Option<Spanned<usize>>,
    pub(crate) socket: Option<Spanned<PathBuf>>,
    pub(crate) group: Option<String>,
    pub(crate) metrics: Option<Text>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Api {
    pub(crate) listen: Option<Text>,
    pub(crate) tls_cert: Option<Spanned<PathBuf>>,
    pub(crate) tls_key: Option<Spanned<PathBuf>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Wire {
    pub(crate) name: Text,
    #[serde(default)]
    pub(crate) inside: Option<Inside>,
    pub(crate) inside_port: Text,
    pub(crate) outside_port: Text,
    pub(crate) links_follow: Option<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Network {
    pub(crate) prefix: Text,
    pub(crate) name: Option<String>,
    pub(crate) group: Option<Text>,
    #[serde(default)]
    pub(crate) gateways: Vec<Text>,
    #[serde(default)]
    pub(crate) antispoof: Antispoof,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Group {
    pub(crate) name: Text,
    #[serde(default)]
    pub(crate) limits: Limits,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Limits {
    pub(crate) out: BTreeMap<Text, Limit>,
    #[serde(rename = "in")]
    pub(crate) inbound: BTreeMap<Text, Limit>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Limit {
    pub(crate) warn_fast: Option<u64>,
    pub(crate) lock_fast: Option<u64>,
    pub(crate) warn_mean: Option<u64>,
    pub(crate) lock_mean: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Rule {
    pub(crate) action: Option<Ceiling>,
    pub(crate) deadline: Option<Text>,
    pub(crate) unlock: Option<Text>,
    pub(crate) lock: Option<LockScope>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Prefixes {
    pub(crate) prefixes: Vec<Text>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Breaker {
    pub(crate) locks_min: Option<Spanned<u32>>,
    pub(crate) share: Option<Spanned<f64>>,
    pub(crate) window: Option<Text>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Unlock {
    pub(crate) inbound_hold: Option<Text>,
    pub(crate) inbound_quiet: Option<Text>,
    pub(crate) outbound: Option<Text>,
    pub(crate) maintenance_grace: Option<Text>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Rtbh {
    pub(crate) gobgp: Option<Text>,
    pub(crate) program: Option<Spanned<PathBuf>>,
    pub(crate) communities: Option<Vec<Text>>,
    pub(crate) next_hop: Option<Text>,
    pub(crate) next_hop_v6: Option<Text>,
    pub(crate) uplink_bits: u64,
    pub(crate) fill_percent: Option<Spanned<u32>>,
    pub(crate) hold: Option<Text>,
    pub(crate) hold_max: Option<Text>,
    pub(crate) probe: Option<Text>,
    pub(crate) announced_max: Option<Spanned<usize>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Evidence {
    pub(crate) locale: Locale,
    pub(crate) retention_days: Option<Spanned<u32>>,
    pub(crate) size_max: Option<Text>,
    pub(crate) history_days: Option<Spanned<u32>>,
    pub(crate) history_max: Option<Text>,
    pub(crate) style: crate::LogStyle,
    pub(crate) rows_max: Option<Spanned<usize>>,
    pub(crate) externals_max: Option<Spanned<usize>>,
}
