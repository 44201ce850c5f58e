//! The packet-limit summary: totals of a server and its traffic by remote address.
//!
//! Figures are truncated, never rounded: a customer's own arithmetic on the packets shown must not come out lower than
//! what we claim. GByte is 2^30 bytes, MBit is 2^20 bits.

use std::fmt::Write;
use std::net::IpAddr;

use config::{Locale, Measure, Way};

/// Packets, flows and bytes of one line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Packets.
    pub packets: u64,
    /// Flows.
    pub flows: u64,
    /// Bytes of frames on the wire, without FCS.
    pub bytes: u64,
}

/// What a summary says.
#[derive(Clone, Debug)]
pub struct Summary {
    /// Direction of the limit.
    pub way: Way,
    /// The server.
    pub internal: String,
    /// What was limited.
    pub measure: Measure,
    /// The limit that was crossed, a second.
    pub limit: u64,
    /// Seconds that the figures cover, at least 1.
    pub seconds: u64,
    /// The server's own counters.
    pub sum: Figures,
    /// By remote address, most packets first.
    pub externals: Vec<(IpAddr, Figures)>,
    /// How many further ones there were, and what was recorded of them.
    pub other: Option<(usize, Figures)>,
    /// What passed before the server's flows were kept.
    pub before: Option<Figures>,
}

/// Writes integers and fractions as a locale does.
#[derive(Clone, Copy, Debug)]
pub struct Numbers(pub Locale);

impl Numbers {
    const fn marks(self) -> (char, char) {
        match self.0 {
            Locale::De => ('.', ','),
            Locale::En => (',', '.'),
        }
    }

    /// An integer with its thousands grouped.
    pub fn integer(self, n: u64) -> String {
        let digits = n.to_string();
        let mut out = String::new();
        for (i, d) in digits.chars().enumerate() {
            if i > 0 && (digits.len() - i).is_multiple_of(3) {
                out.push(self.marks().0);
            }
            out.push(d);
        }
        out
    }

    /// Thousandths of a unit, to three decimals.
    pub fn thousandths(self, n: u64) -> String {
        format!("{}{}{:03}", self.integer(n / 1000), self.marks().1, n % 1000)
    }
}

/// One line of figures over `seconds` seconds.
pub fn line(label: &str, f: &Figures, seconds: u64, locale: Locale) -> String {
    let n = Numbers(locale);
    let s = seconds.max(1);
    let thousandths = u64::try_from(u128::from(f.bytes) * 1000 / (1 << 30)).unwrap_or(u64::MAX);
    let mbit = u64::try_from(u128::from(f.bytes) * 8 / u128::from(s) / (1 << 20)).unwrap_or(u64::MAX);
    format!(
        "{label:<25}{:>12} packets/{s}s ({} packets/s), {:>10} flows/{s}s ({} flows/s), {:>9} GByte/{s}s ({} MBit/s)",
        n.integer(f.packets),
        n.integer(f.packets / s),
        n.integer(f.flows),
        n.integer(f.flows / s),
        n.thousandths(thousandths),
        n.integer(mbit),
    )
}

/// The limit with its unit, such as `Packets 100.000 packets/s`.
pub fn threshold(measure: Measure, limit: u64, locale: Locale) -> String {
    let n = Numbers(locale);
    match measure {
        Measure::Packets => format!("Packets {} packets/s", n.integer(limit)),
        Measure::Bits => format!("Traffic {} MBit/s", n.integer(limit / (1 << 20))),
        Measure::Flows => format!("Flows {} flows/s", n.integer(limit)),
        Measure::Syn => format!("SYN {} packets/s", n.integer(limit)),
        Measure::Udp => format!("UDP {} packets/s", n.integer(limit)),
        Measure::Icmp => format!("ICMP {} packets/s", n.integer(limit)),
        Measure::Fragments => format!("Fragments {} packets/s", n.integer(limit)),
        Measure::Amplifier => format!("Amplified {} packets/s", n.integer(limit)),
        Measure::Small => format!("Small {} packets/s", n.integer(limit)),
    }
}

impl Summary {
    /// The text. Its lines add up to `Sum`, to the packet.
    pub fn text(&self, locale: Locale) -> String {
        let mut out = String::new();
        // Writing to a string does not fail.
        let _ = writeln!(out, "Direction {}", self.way.name().to_uppercase());
        let _ = writeln!(out, "Internal {}", self.internal);
        let _ = writeln!(out, "Threshold {}", threshold(self.measure, self.limit, locale));
        let mut figures = |label: &str, f: &Figures| {
            let _ = writeln!(out, "{}", line(label, f, self.seconds, locale));
        };
        figures("Sum", &self.sum);
        for (remote, f) in &self.externals {
            figures(&format!("External {remote},"), f);
        }
        if let Some((n, f)) = &self.other {
            figures(&format!("Other externals ({n}),"), f);
        }
        if let Some(f) = &self.before {
            figures("Before watching,", f);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn squeeze(s: &str) -> String {
        s.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn the_published_sample_comes_out_of_raw_counts() {
        // 5.909 GByte to three decimals, truncated.
        let bytes = 5_909 * (1 << 30) / 1000 + 1;
        let external = |a: &str, packets, flows, bytes| {
            (a.parse().expect("an address"), Figures { packets, flows, bytes })
        };
        let s = Summary {
            way: Way::Out,
            internal: "178.63.65.85".into(),
            measure: Measure::Packets,
            limit: 100_000,
            seconds: 300,
            sum: Figures { packets: 40_674_000, flows: 40_673, bytes },
            externals: vec![
                external("77.96.88.114", 40_668_000, 40_667, bytes),
                external("196.37.186.67", 5_000, 5, 0),
                external("77.74.52.53", 1_000, 1, 0),
            ],
            other: None,
            before: None,
        };
        let text = s.text(Locale::De);
        let lines: Vec<String> = text.lines().map(squeeze).collect();
        assert_eq!(
            lines,
            [
                "Direction OUT",
                "Internal 178.63.65.85",
                "Threshold Packets 100.000 packets/s",
                "Sum 40.674.000 packets/300s (135.580 packets/s), 40.673 flows/300s (135 flows/s), 5,909 GByte/300s (161 MBit/s)",
                "External 77.96.88.114, 40.668.000 packets/300s (135.560 packets/s), 40.667 flows/300s (135 flows/s), 5,909 GByte/300s (161 MBit/s)",
                "External 196.37.186.67, 5.000 packets/300s (16 packets/s), 5 flows/300s (0 flows/s), 0,000 GByte/300s (0 MBit/s)",
                "External 77.74.52.53, 1.000 packets/300s (3 packets/s), 1 flows/300s (0 flows/s), 0,000 GByte/300s (0 MBit/s)",
            ]
        );
    }

    #[test]
    fn figures_are_truncated_and_follow_the_locale() {
        let f = Figures { packets: 5_000, flows: 62_354, bytes: 13_169 * (1 << 30) / 1000 + 1 };
        let en = squeeze(&line("Sum", &f, 300, Locale::En));
        assert_eq!(
            en,
            "Sum 5,000 packets/300s (16 packets/s), 62,354 flows/300s (207 flows/s), 13.169 GByte/300s (359 MBit/s)"
        );
        assert_eq!(Numbers(Locale::De).integer(1_234_567), "1.234.567");
        assert_eq!(Numbers(Locale::De).integer(999), "999");
    }

    #[test]
    fn columns_stand_where_the_format_has_them() {
        let l = line("Sum", &Figures { packets: 1, flows: 2, bytes: 0 }, 1, Locale::En);
        assert_eq!(
            l,
            "Sum                                 1 packets/1s (1 packets/s),          2 flows/1s (2 flows/s),     0.000 GByte/1s (0 MBit/s)"
        );
    }
}
