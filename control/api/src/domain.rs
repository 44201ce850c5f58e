//! Words of the trade.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// A point in time, UTC, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(i64);

impl Time {
    /// From nanoseconds since 1970; clamped to the years that can be written.
    pub fn from_unix_ns(ns: i128) -> Time {
        // From the year 0, where RFC 3339 begins, to the end of jiff's range, a day before the year 9999 ends.
        let most = i128::from(jiff::Timestamp::MAX.as_second()) * 1_000;
        let ms = ns.div_euclid(1_000_000).clamp(-62_167_219_200_000, most);
        Time(i64::try_from(ms).unwrap_or(0))
    }

    /// From milliseconds since 1970.
    pub fn from_unix_ms(ms: i64) -> Time {
        Time::from_unix_ns(i128::from(ms) * 1_000_000)
    }

    /// Milliseconds since 1970.
    pub fn unix_ms(self) -> i64 {
        self.0
    }

    /// Now, by the system's clock.
    pub fn now() -> Time {
        Time::from_unix_ms(jiff::Timestamp::now().as_millisecond())
    }

    /// Later by a duration; what is longer than all time ends with it.
    #[must_use]
    pub fn plus(self, d: Duration) -> Time {
        self.plus_ms(i64::try_from(d.as_millis()).unwrap_or(i64::MAX))
    }

    /// Later, or earlier, by so many milliseconds.
    #[must_use]
    pub fn plus_ms(self, ms: i64) -> Time {
        Time::from_unix_ms(self.0.saturating_add(ms))
    }

    /// The year, for incident ids.
    pub fn year(self) -> i16 {
        self.zoned().map_or(1970, |z| z.year())
    }

    fn zoned(self) -> Option<jiff::civil::DateTime> {
        let t = jiff::Timestamp::from_millisecond(self.0).ok()?;
        Some(t.to_zoned(jiff::tz::TimeZone::UTC).datetime())
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.zoned() {
            Some(d) => write!(
                f,
                "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
                d.year(),
                d.month(),
                d.day(),
                d.hour(),
                d.minute(),
                d.second(),
                d.millisecond()
            ),
            None => f.write_str("1970-01-01T00:00:00.000Z"),
        }
    }
}

impl FromStr for Time {
    type Err = String;
    fn from_str(s: &str) -> Result<Time, String> {
        s.parse::<jiff::Timestamp>()
            .map(|t| Time::from_unix_ms(t.as_millisecond()))
            .map_err(|_| format!("`{s}` is no time; write it like 2026-11-24T12:00:00Z"))
    }
}

impl Serialize for Time {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Time, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

macro_rules! words {
    ($(#[$meta:meta])* $name:ident: $what:literal { $($(#[$vmeta:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum $name { $($(#[$vmeta])* #[serde(rename = $word)] $variant,)* }

        impl $name {
            /// All of them.
            pub const ALL: &'static [$name] = &[$($name::$variant),*];

            /// The word for it.
            pub const fn name(self) -> &'static str {
                match self { $($name::$variant => $word,)* }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.name())
            }
        }

        impl FromStr for $name {
            type Err = String;
            fn from_str(s: &str) -> Result<$name, String> {
                $name::ALL.iter().copied().find(|v| v.name() == s).ok_or_else(|| {
                    let known: Vec<_> = $name::ALL.iter().map(|v| v.name()).collect();
                    format!("`{s}` is no {}; one of: {}", $what, known.join(", "))
                })
            }
        }

        #[cfg(feature = "openapi")]
        impl utoipa::PartialSchema for $name {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
                let words = $name::ALL.iter().map(|v| v.name());
                let text = utoipa::openapi::schema::Type::String;
                utoipa::openapi::ObjectBuilder::new().schema_type(text).enum_values(Some(words)).into()
            }
        }

        #[cfg(feature = "openapi")]
        impl utoipa::ToSchema for $name {}
    };
}

words! {
    /// Which way packets of a server go.
    Direction: "direction" {
        /// What it sends.
        Out = "out",
        /// What it is sent.
        In = "in",
        /// Both.
        Both = "both",
    }
}

words! {
    /// Why a server is locked.
    Reason: "reason" {
        /// It attacks.
        AttackOut = "attack-out",
        /// It is attacked.
        AttackIn = "attack-in",
        /// It scans many hosts.
        Netscan = "netscan",
        /// It scans many ports.
        Portscan = "portscan",
        /// Its network configuration disturbs others.
        Misconfiguration = "misconfiguration",
        /// Invoices are not paid.
        NonPayment = "non-payment",
        /// Phishing, malware, copyright.
        Abuse = "abuse",
    }
}

words! {
    /// What an incident is.
    Kind: "kind of incident" {
        /// A server attacks.
        AttackOut = "attack-out",
        /// A server is attacked.
        AttackIn = "attack-in",
        /// A server scans many hosts.
        Netscan = "netscan",
        /// A server scans many ports.
        Portscan = "portscan",
        /// A server's network configuration disturbs others.
        Misconfiguration = "misconfiguration",
    }
}

words! {
    /// What was done.
    Action: "action" {
        /// Recorded.
        Observe = "observe",
        /// Warned.
        Warn = "warn",
        /// Locked.
        Lock = "lock",
    }
}

words! {
    /// What somebody outside is told.
    Event: "event" {
        /// A server was warned.
        Warned = "warned",
        /// A detector locked a server.
        Locked = "locked",
        /// An operator locked a server.
        LockedByHand = "locked-by-hand",
        /// A server is attacked.
        Attacked = "attacked",
        /// The evidence of a lock is complete.
        Evidence = "evidence",
        /// A lock was lifted.
        Unlocked = "unlocked",
        /// A locked server may be reached for a while, to repair it.
        Maintenance = "maintenance",
        /// A statement was received.
        Statement = "statement",
        /// A lock was a mistake of ours.
        Correction = "correction",
        /// Many of the above in one.
        Digest = "digest",
    }
}

words! {
    /// What ended a lock.
    Why: "end of a lock" {
        /// Its time is over.
        Expired = "expired",
        /// The attack is over.
        AttackOver = "attack-over",
        /// An operator lifted it.
        Operator = "operator",
    }
}

words! {
    /// Where an incident stands.
    State: "state of an incident" {
        /// Just found.
        Opened = "opened",
        /// Found again: what is known of it grows.
        Growing = "growing",
        /// The customer was warned.
        Warned = "warned",
        /// The server is locked, or was.
        Locked = "locked",
        /// Nothing was found for a while.
        Quiet = "quiet",
        /// It is over.
        Closed = "closed",
    }
}

words! {
    /// How far a row of the outbox is.
    OutboxState: "state of the outbox" {
        /// It is to be delivered.
        Waiting = "waiting",
        /// The other side has taken it.
        Delivered = "delivered",
        /// It went out as a part of a digest.
        Merged = "merged",
        /// The other side will never take it, or has not for days.
        Failed = "failed",
        /// An operator, or a later event, has withdrawn it.
        Dropped = "dropped",
    }
}

words! {
    /// What a token of the HTTP API may do.
    Role: "role" {
        /// Reads everything.
        Viewer = "viewer",
        /// Also locks and lifts, but not for non-payment.
        Operator = "operator",
        /// Reads locks; locks and lifts for non-payment only.
        Billing = "billing",
        /// Everything that the HTTP API can do.
        Admin = "admin",
    }
}

words! {
    /// What happened to an incident, for its timeline.
    Step: "step" {
        /// It was opened.
        Opened = "opened",
        /// It was found again.
        Growing = "growing",
        /// A warning was held back: the rule only observes.
        WouldWarn = "would-warn",
        /// A lock was held back.
        WouldLock = "would-lock",
        /// A warning.
        Warned = "warned",
        /// A lock.
        Locked = "locked",
        /// The first files of evidence.
        Evidence = "evidence",
        /// Nothing was found for a while.
        Quiet = "quiet",
        /// It goes on after it was quiet.
        Active = "active",
        /// A maintenance unlock began.
        Suspended = "suspended",
        /// A maintenance unlock ended: the lock is enforced again.
        Resumed = "resumed",
        /// The lock was lifted.
        Unlocked = "unlocked",
        /// It is over.
        Closed = "closed",
    }
}

/// Longest id of a server, in bytes.
const SERVER_ID_MAX: usize = 64;

/// An Ethernet address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// Whether it is one device's: no group, and not all zeros.
    pub fn is_device(self) -> bool {
        self.0[0] & 1 == 0 && self.0 != [0; 6]
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        f.pad(&format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}"))
    }
}

impl FromStr for Mac {
    type Err = String;
    fn from_str(s: &str) -> Result<Mac, String> {
        let mut mac = [0; 6];
        let mut parts = s.split([':', '-']);
        for byte in &mut mac {
            let part = parts.next().filter(|p| p.len() == 2 && p.chars().all(|c| c.is_ascii_hexdigit()));
            let part = part.and_then(|p| u8::from_str_radix(p, 16).ok());
            *byte = part.ok_or_else(|| format!("`{s}` is no MAC address: write 02:00:5e:10:00:01"))?;
        }
        match parts.next() {
            None => Ok(Mac(mac)),
            Some(_) => Err(format!("`{s}` is longer than a MAC address")),
        }
    }
}

/// What a lock is on.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Target {
    /// An address or prefix; an address is a prefix of full length.
    Prefix(IpNet),
    /// A server of the inventory.
    Server(String),
    /// A device of the servers' own segment, whatever addresses it uses.
    Mac(Mac),
}

impl Target {
    /// The prefix, when it is one.
    pub fn prefix(&self) -> Option<IpNet> {
        match self {
            Target::Prefix(p) => Some(*p),
            Target::Server(_) | Target::Mac(_) => None,
        }
    }
}

impl From<IpAddr> for Target {
    fn from(a: IpAddr) -> Target {
        Target::Prefix(IpNet::from(a))
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Prefix(p) if p.prefix_len() == p.max_prefix_len() => f.pad(&p.addr().to_string()),
            Target::Prefix(p) => f.pad(&p.to_string()),
            Target::Server(id) => f.pad(&format!("server:{id}")),
            Target::Mac(mac) => mac.fmt(f),
        }
    }
}

impl FromStr for Target {
    type Err = String;
    fn from_str(s: &str) -> Result<Target, String> {
        if let Some(id) = s.strip_prefix("server:") {
            return if id.is_empty() || id.len() > SERVER_ID_MAX || !id.chars().all(|c| c.is_ascii_graphic()) {
                Err(format!(
                    "a server's id has 1 to {SERVER_ID_MAX} ASCII characters and no space, as in server:1234"
                ))
            } else {
                Ok(Target::Server(id.to_owned()))
            };
        }
        if let Ok(a) = s.parse::<IpAddr>() {
            // ::ffff:192.0.2.1 is how programs write an IPv4 address; no packet bears it.
            return Ok(Target::from(a.to_canonical()));
        }
        if let Ok(mac) = s.parse::<Mac>() {
            return if mac.is_device() {
                Ok(Target::Mac(mac))
            } else {
                Err(format!("`{s}` is no device's: it is a group address, or all zeros"))
            };
        }
        let net = s
            .parse::<IpNet>()
            .map_err(|_| format!("`{s}` is no address, prefix, MAC address or server:ID"))?;
        if net.trunc() != net {
            return Err(format!(
                "`{s}` has host bits set; do you mean {} or the address {}?",
                net.trunc(),
                net.addr()
            ));
        }
        Ok(Target::Prefix(net))
    }
}

impl Serialize for Target {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Target {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Target, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(feature = "openapi")]
mod schema {
    use utoipa::openapi::schema::{KnownFormat, SchemaFormat, Type};
    use utoipa::openapi::{ObjectBuilder, RefOr, Schema};
    use utoipa::{PartialSchema, ToSchema};

    use super::{SERVER_ID_MAX, Target, Time};

    impl PartialSchema for Time {
        fn schema() -> RefOr<Schema> {
            ObjectBuilder::new()
                .schema_type(Type::String)
                .format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
                .description(Some("A point in time, UTC, with milliseconds."))
                .examples(["2026-11-24T12:00:00.000Z"])
                .into()
        }
    }

    impl ToSchema for Time {}

    impl PartialSchema for Target {
        fn schema() -> RefOr<Schema> {
            ObjectBuilder::new()
                .schema_type(Type::String)
                .min_length(Some(2))
                .max_length(Some("server:".len() + SERVER_ID_MAX))
                .description(Some("An address, a prefix without host bits, `server:ID`, or `mac:ADDRESS`."))
                .examples(["192.0.2.10", "2001:db8:1:2::/64", "server:1234"])
                .into()
        }
    }

    impl ToSchema for Target {}
}
