//! Packet limits: what is measured, over which window, and where warning and lock begin.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Direction of a limit, as the server sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Way {
    /// What the server sends.
    Out,
    /// What the server is sent.
    In,
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Measure {
    /// Packets a second.
    Packets,
    /// Bits a second, of frames without FCS.
    Bits,
    /// Flows a second.
    Flows,
    /// TCP SYN a second; outwards only those that nobody answers.
    Syn,
    /// UDP packets a second; outwards only those that nobody answers.
    Udp,
    /// ICMP packets a second.
    Icmp,
    /// Fragments a second.
    Fragments,
    /// Frames of at most 128 bytes a second.
    Small,
    /// UDP packets a second from ports of services that reflect, far larger than the questions; outwards only.
    Amplifier,
}

impl Measure {
    /// All of them.
    pub const ALL: [Measure; 9] = [
        Measure::Packets,
        Measure::Bits,
        Measure::Flows,
        Measure::Syn,
        Measure::Udp,
        Measure::Icmp,
        Measure::Fragments,
        Measure::Small,
        Measure::Amplifier,
    ];

    /// Its name in keys and rules.
    pub const fn name(self) -> &'static str {
        match self {
            Measure::Packets => "packets",
            Measure::Bits => "bits",
            Measure::Flows => "flows",
            Measure::Syn => "syn",
            Measure::Udp => "udp",
            Measure::Icmp => "icmp",
            Measure::Fragments => "fragments",
            Measure::Small => "small",
            Measure::Amplifier => "amplifier",
        }
    }

    /// Whether a burst of a second has the shape of an attack and may lock; the others lock by their mean alone: a
    /// backup at 10 Gbit/s is 800,000 packets/s.
    pub const fn may_lock_fast(self) -> bool {
        match self {
            Measure::Syn
            | Measure::Udp
            | Measure::Icmp
            | Measure::Fragments
            | Measure::Small
            | Measure::Amplifier => true,
            Measure::Packets | Measure::Bits | Measure::Flows => false,
        }
    }
}

impl Way {
    /// Both.
    pub const ALL: [Way; 2] = [Way::Out, Way::In];

    /// Its name in keys and rules.
    pub const fn name(self) -> &'static str {
        match self {
            Way::Out => "out",
            Way::In => "in",
        }
    }
}

impl fmt::Display for Measure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Measure {
    type Err = ();
    fn from_str(s: &str) -> Result<Self, ()> {
        Measure::ALL.into_iter().find(|m| m.name() == s).ok_or(())
    }
}

impl FromStr for Way {
    type Err = ();
    fn from_str(s: &str) -> Result<Self, ()> {
        Way::ALL.into_iter().find(|w| w.name() == s).ok_or(())
    }
}

/// One measure's limits, in units a second; 0: none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limit {
    /// Over 1 s: warn above.
    pub warn_fast: u64,
    /// Over 1 s: lock above.
    pub lock_fast: u64,
    /// Mean over 300 s: warn above.
    pub warn_mean: u64,
    /// Mean over 300 s: lock above.
    pub lock_mean: u64,
}

impl Limit {
    /// The smallest one that is set; none where none is.
    pub fn smallest(&self) -> Option<u64> {
        [self.warn_fast, self.lock_fast, self.warn_mean, self.lock_mean].into_iter().filter(|v| *v > 0).min()
    }
}

/// Limits of a group: by direction and measure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits([[Limit; Measure::ALL.len()]; 2]);

impl Default for Limits {
    fn default() -> Self {
        let mut l = Limits([[Limit::default(); Measure::ALL.len()]; 2]);
        let mean = |lock| Limit { lock_mean: lock, ..Limit::default() };
        let fast = |warn, lock| Limit { warn_fast: warn, lock_fast: lock, ..Limit::default() };
        // The published limits of providers, and those of the field for floods.
        *l.get_mut(Way::Out, Measure::Packets) = mean(100_000);
        *l.get_mut(Way::Out, Measure::Syn) = fast(1_000, 5_000);
        *l.get_mut(Way::Out, Measure::Udp) = fast(10_000, 50_000);
        *l.get_mut(Way::Out, Measure::Icmp) = fast(1_000, 5_000);
        *l.get_mut(Way::Out, Measure::Fragments) = fast(1_000, 5_000);
        // That it answers too much to whoever asks is no proof that the server means it: by group, it may lock.
        l.get_mut(Way::Out, Measure::Amplifier).warn_fast = 10_000;
        *l.get_mut(Way::In, Measure::Packets) = mean(1_000_000);
        *l.get_mut(Way::In, Measure::Syn) = fast(20_000, 100_000);
        *l.get_mut(Way::In, Measure::Udp) = fast(100_000, 500_000);
        *l.get_mut(Way::In, Measure::Icmp) = fast(10_000, 50_000);
        *l.get_mut(Way::In, Measure::Fragments) = fast(10_000, 50_000);
        l
    }
}

impl Limits {
    /// A measure's limits.
    pub fn get(&self, way: Way, measure: Measure) -> Limit {
        self.0[way as usize][measure as usize]
    }

    pub(crate) fn get_mut(&mut self, way: Way, measure: Measure) -> &mut Limit {
        &mut self.0[way as usize][measure as usize]
    }

    /// Sets one value by its key, such as `out.syn.lock_fast`.
    pub fn set(&mut self, key: &str, value: u64) -> Result<(), String> {
        let known = || {
            let measures: Vec<_> = Measure::ALL.iter().map(|m| m.name()).collect();
            format!(
                "unknown limit `{key}`: a key is DIRECTION.MEASURE.VALUE, with out or in, one of {}, and one of warn_fast, lock_fast, warn_mean, lock_mean",
                measures.join(" ")
            )
        };
        let mut parts = key.split('.');
        let (Some(way), Some(measure), Some(which), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(known());
        };
        let (Ok(way), Ok(measure)) = (way.parse::<Way>(), measure.parse::<Measure>()) else {
            return Err(known());
        };
        let before = self.get(way, measure);
        let limit = self.get_mut(way, measure);
        match which {
            "warn_fast" => limit.warn_fast = value,
            "lock_fast" => limit.lock_fast = value,
            "warn_mean" => limit.warn_mean = value,
            "lock_mean" => limit.lock_mean = value,
            _ => return Err(known()),
        }
        // A lowered lock takes a warning that stood above it along.
        if which.starts_with("lock") && value > 0 {
            limit.warn_fast = if which == "lock_fast" { limit.warn_fast.min(value) } else { limit.warn_fast };
            limit.warn_mean = if which == "lock_mean" { limit.warn_mean.min(value) } else { limit.warn_mean };
        }
        if let Err(e) = check(way, measure, limit) {
            *limit = before;
            return Err(format!("{key}: {e}"));
        }
        Ok(())
    }
}

/// Whether a measure's values make sense together.
pub(crate) fn check(way: Way, measure: Measure, l: &Limit) -> Result<(), String> {
    if (way, measure) == (Way::In, Measure::Amplifier) && *l != Limit::default() {
        return Err("an amplifier is told by what it sends: set it in limits.out".to_owned());
    }
    if l.lock_fast > 0 && !measure.may_lock_fast() {
        return Err(format!(
            "`{measure}` cannot lock over one second (a backup or a download would be locked): use lock_mean, or warn_fast"
        ));
    }
    for (warn, lock, window) in [(l.warn_fast, l.lock_fast, "fast"), (l.warn_mean, l.lock_mean, "mean")] {
        if lock > 0 && warn > lock {
            return Err(format!(
                "warn_{window} = {warn} lies above lock_{window} = {lock}: a warning comes first"
            ));
        }
    }
    Ok(())
}
