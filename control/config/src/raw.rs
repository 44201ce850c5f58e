//! The file as serde sees it: every section and key optional, unknown keys refused.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Deserializer, de};
use toml::Spanned;

use crate::{Antispoof, Ceiling, Inside, Locale, LockScope};

/// A duration written as "100ms" or "2h".
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span(pub(crate) Duration);

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        humantime::parse_duration(&text).map(Span).map_err(|e| {
            de::Error::custom(format!(
                "`{text}` is no duration ({e}); write it like \"100ms\", \"30s\" or \"2h\""
            ))
        })
    }
}

/// A duration, or "off".
#[derive(Clone, Copy, Debug)]
pub(crate) struct SpanOrOff(pub(crate) Option<Duration>);

impl<'de> Deserialize<'de> for SpanOrOff {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        if text == "off" {
            return Ok(SpanOrOff(None));
        }
        humantime::parse_duration(&text).map(|d| SpanOrOff(Some(d))).map_err(|e| {
            de::Error::custom(format!(
                "`{text}` is no duration ({e}); write it like \"30s\" or \"2h\", or \"off\""
            ))
        })
    }
}

/// A prefix without host bits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Prefix(pub(crate) IpNet);

impl<'de> Deserialize<'de> for Prefix {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        let net =
            text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from)).map_err(|_| {
                de::Error::custom(format!(
                    "`{text}` is no prefix; write it like \"192.0.2.0/24\" or \"2001:db8::/48\""
                ))
            })?;
        if net.trunc() != net {
            return Err(de::Error::custom(format!(
                "`{text}` has host bits set; do you mean \"{}\"?",
                net.trunc()
            )));
        }
        Ok(Prefix(net))
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct File {
    pub(crate) run: Run,
    pub(crate) dataplane: Dataplane,
    pub(crate) tables: Tables,
    pub(crate) control: Control,
    pub(crate) wire: Vec<Wire>,
    pub(crate) network: Vec<Network>,
    pub(crate) group: Vec<Group>,
    pub(crate) limits: Limits,
    pub(crate) rules: BTreeMap<Spanned<String>, Rule>,
    pub(crate) never_lock: Prefixes,
    pub(crate) exceptions: Prefixes,
    pub(crate) breaker: Breaker,
    pub(crate) unlock: Unlock,
    pub(crate) evidence: Evidence,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Run {
    pub(crate) dir: Option<PathBuf>,
    pub(crate) tables: Option<PathBuf>,
    pub(crate) state: Option<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Dataplane {
    pub(crate) cores: Option<Spanned<Vec<usize>>>,
    pub(crate) queues: Option<Spanned<u16>>,
    pub(crate) housekeeping_core: Option<usize>,
    pub(crate) eal: Vec<String>,
    pub(crate) mtu: Option<Spanned<u16>>,
    pub(crate) rx_descriptors: Option<Spanned<u16>>,
    pub(crate) tx_descriptors: Option<Spanned<u16>>,
    pub(crate) mbufs: Option<Spanned<u32>>,
    pub(crate) start_wait: Option<Span>,
    pub(crate) idle_sleep: Option<Spanned<Span>>,
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
    pub(crate) core: Option<usize>,
    pub(crate) socket: Option<PathBuf>,
    pub(crate) group: Option<String>,
    pub(crate) metrics: Option<Spanned<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Wire {
    pub(crate) name: Spanned<String>,
    #[serde(default)]
    pub(crate) inside: Option<Inside>,
    pub(crate) inside_port: Spanned<String>,
    pub(crate) outside_port: Spanned<String>,
    pub(crate) links_follow: Option<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Network {
    pub(crate) prefix: Spanned<Prefix>,
    pub(crate) group: Option<Spanned<String>>,
    #[serde(default)]
    pub(crate) gateways: Vec<Spanned<IpAddr>>,
    #[serde(default)]
    pub(crate) antispoof: Antispoof,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Group {
    pub(crate) name: Spanned<String>,
    #[serde(default)]
    pub(crate) limits: Limits,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Limits {
    pub(crate) out: BTreeMap<Spanned<String>, Limit>,
    #[serde(rename = "in")]
    pub(crate) inbound: BTreeMap<Spanned<String>, Limit>,
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
    pub(crate) deadline: Option<SpanOrOff>,
    pub(crate) lock: Option<LockScope>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Prefixes {
    pub(crate) prefixes: Vec<Prefix>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Breaker {
    pub(crate) locks_min: Option<u32>,
    pub(crate) share: Option<Spanned<f64>>,
    pub(crate) window: Option<Span>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Unlock {
    pub(crate) inbound_hold: Option<Span>,
    pub(crate) inbound_quiet: Option<Span>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Evidence {
    pub(crate) locale: Locale,
    pub(crate) retention_days: Option<u32>,
}
