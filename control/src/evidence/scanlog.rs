//! The log of a netscan or portscan: one row a contact (formats.md section 1).
//!
//! Rows are exact observations, in order of time; an estimate never becomes a row. The box and the rule are 67 columns wide
//! and widen together for an address that needs more.

use std::fmt;
use std::net::IpAddr;

use super::dump::put;
use super::utc;

/// Columns of the box and the rule.
const WIDTH: usize = 67;
/// Columns of a destination before it widens.
const DESTINATION: usize = 20;
/// Rows of a log, unless it is told otherwise.
pub const ROWS_MAX: usize = 1_000;

/// What was detected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scan {
    /// Many destinations.
    Netscan,
    /// Many ports of few destinations.
    Portscan,
}

/// How rows are dressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Style {
    /// Time, source, destination and port, as on the page that providers show their customers.
    #[default]
    Classic,
    /// With source port, size and protocol, which lead a customer to the process.
    Extended,
}

/// One contact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// Nanoseconds since 1970.
    pub time_ns: i128,
    /// Who made it.
    pub source: IpAddr,
    /// Its port; of no meaning for ICMP.
    pub source_port: u16,
    /// Whom it was for.
    pub destination: IpAddr,
    /// The port there; for ICMP the type.
    pub destination_port: u16,
    /// Length of the frame on the wire.
    pub size: u32,
    /// IP protocol number.
    pub protocol: u8,
}

/// A log to be written.
#[derive(Clone, Copy, Debug)]
pub struct Log<'a> {
    /// What was detected.
    pub scan: Scan,
    /// The server, as it is named elsewhere: an address, or a /64.
    pub host: &'a str,
    /// How rows are dressed.
    pub style: Style,
    /// What was observed, in any order.
    pub rows: &'a [Row],
    /// At most so many rows are written.
    pub rows_max: usize,
    /// Contacts of which no row was kept.
    pub unlisted: u64,
}

/// `Wed Nov 13 18:14:27 2013`, as ctime(3) writes it.
fn ctime(time_ns: i128) -> impl fmt::Display {
    utc(time_ns).strftime("%a %b %e %H:%M:%S %Y")
}

fn protocol(number: u8) -> String {
    match number {
        1 => "ICMP".to_owned(),
        6 => "TCP".to_owned(),
        17 => "UDP".to_owned(),
        58 => "ICMPv6".to_owned(),
        132 => "SCTP".to_owned(),
        n => n.to_string(),
    }
}

impl Log<'_> {
    /// The whole text.
    pub fn text(&self) -> String {
        let mut rows = self.rows.to_vec();
        rows.sort_by_key(|r| r.time_ns);
        let more = rows.len().saturating_sub(self.rows_max);
        rows.truncate(self.rows_max);
        let mut out = String::with_capacity(512 + 96 * rows.len());
        self.head(&mut out);
        match self.style {
            Style::Classic => self.classic(&mut out, &rows),
            Style::Extended => extended(&mut out, &rows),
        }
        let more = u64::try_from(more).unwrap_or(u64::MAX).saturating_add(self.unlisted);
        match more {
            0 => {}
            1 => out.push_str("and 1 more contact\n"),
            n => put!(&mut out, "and {n} more contacts\n"),
        }
        out
    }

    /// What the box says, and how wide it is.
    fn title(&self) -> (&'static str, usize) {
        let title = match self.scan {
            Scan::Netscan => "Netscan detected from host",
            Scan::Portscan => "Portscan detected from host",
        };
        (title, WIDTH.max(1 + 10 + title.len() + 3 + self.host.len() + 1))
    }

    fn head(&self, out: &mut String) {
        let (title, width) = self.title();
        let room = width - 2 - 10 - title.len() - 3;
        put!(out, "All times UTC\n{:#<width$}\n", "");
        put!(out, "#          {title}   {:<room$}#\n", self.host);
        put!(out, "{:#<width$}\n\n", "");
    }

    fn classic(&self, out: &mut String, rows: &[Row]) {
        let width = self.title().1;
        out.push_str("time                        src_ip          dest_ip:dest_port\n");
        put!(out, "{:-<width$}\n", "");
        let from = widest(rows, |r| r.source);
        // A space stays before the longest.
        let to = DESTINATION.max(1 + widest(rows, |r| r.destination));
        for r in rows {
            // The addresses are padded as text.
            let (source, destination) = (r.source.to_string(), r.destination.to_string());
            put!(
                out,
                "{}:   {source:<from$} =>{destination:>to$}:{:>5}\n",
                ctime(r.time_ns),
                r.destination_port
            );
        }
    }
}

fn widest(rows: &[Row], address: impl Fn(&Row) -> IpAddr) -> usize {
    rows.iter().map(|r| address(r).to_string().len()).max().unwrap_or(0)
}

/// Columns as wide as what stands in them, two spaces between.
fn extended(out: &mut String, rows: &[Row]) {
    let (from, to) = (widest(rows, |r| r.source).max(3), widest(rows, |r| r.destination).max(3));
    let line = |out: &mut String, cells: [&str; 7]| {
        let [time, source, source_port, destination, destination_port, size, protocol] = cells;
        put!(out, "{time:<19}  {source:<from$}  {source_port:>8} -> ");
        put!(out, "{destination:<to$}  {destination_port:>8}  {size:>5}  {protocol}\n");
    };
    line(out, ["TIME (UTC)", "SRC", "SRC-PORT", "DST", "DST-PORT", "SIZE", "PROT"]);
    put!(out, "{:-<1$}\n", "", (19 + 2 + from + 2 + 8 + 4 + to + 2 + 8 + 2 + 5 + 2 + 6).max(WIDTH));
    for r in rows {
        let time = utc(r.time_ns).strftime("%Y-%m-%d %H:%M:%S").to_string();
        let ports = !matches!(r.protocol, 1 | 58);
        let source_port = if ports { r.source_port.to_string() } else { "-".to_owned() };
        line(
            out,
            [
                &time,
                &r.source.to_string(),
                &source_port,
                &r.destination.to_string(),
                &r.destination_port.to_string(),
                &r.size.to_string(),
                &protocol(r.protocol),
            ],
        );
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test that cannot go on fails here")]

    use super::*;

    /// 13 November 2013, 18:14:27 UTC.
    const T: i128 = 1_384_366_467_000_000_000;

    fn row(ms: i128, destination: &str, port: u16) -> Row {
        Row {
            time_ns: T + ms * 1_000_000,
            source: "192.0.2.10".parse().unwrap(),
            source_port: 40_000,
            destination: destination.parse().unwrap(),
            destination_port: port,
            size: 60,
            protocol: 6,
        }
    }

    fn log<'a>(host: &'a str, rows: &'a [Row]) -> Log<'a> {
        Log { scan: Scan::Netscan, host, style: Style::Classic, rows, rows_max: ROWS_MAX, unlisted: 0 }
    }

    #[test]
    fn the_published_sample_comes_out_of_rows() {
        let rows: Vec<Row> = (0..4).map(|i| row(i, &format!("65.98.236.{i}"), 22)).collect();
        // The page writes x.x.x.x for the address, and a weekday that the date did not have: a Wednesday.
        let text = log("192.0.2.10", &rows).text().replace("Wed Nov 13", "Thu Nov 13");
        let masked = text.replace("192.0.2.10       ", "x.x.x.x          ").replace("192.0.2.10", "x.x.x.x");
        assert_eq!(
            masked,
            "\
All times UTC
###################################################################
#          Netscan detected from host   x.x.x.x                   #
###################################################################

time                        src_ip          dest_ip:dest_port
-------------------------------------------------------------------
Thu Nov 13 18:14:27 2013:   x.x.x.x =>         65.98.236.0:   22
Thu Nov 13 18:14:27 2013:   x.x.x.x =>         65.98.236.1:   22
Thu Nov 13 18:14:27 2013:   x.x.x.x =>         65.98.236.2:   22
Thu Nov 13 18:14:27 2013:   x.x.x.x =>         65.98.236.3:   22
"
        );
    }

    #[test]
    fn the_box_stays_closed_and_widens_with_the_rule() {
        let longest = "2001:db8:1111:2222:3333:4444:5555:6666";
        let rows = [row(0, longest, 443)];
        for (scan, host, width) in [
            (Scan::Netscan, "192.0.2.10", 67),
            (Scan::Portscan, "192.0.2.10", 67),
            (Scan::Netscan, "2001:db8:1:2:3:4:5:6666/64", 67),
            (Scan::Portscan, "2001:db8:1:2:3:4:5:6666/64", 68),
            (Scan::Netscan, longest, 67 + 38 - 26),
            (Scan::Portscan, longest, 67 + 38 - 25),
        ] {
            let text = Log { scan, ..log(host, &rows) }.text();
            let lines: Vec<&str> = text.lines().collect();
            for i in [1, 2, 3, 6] {
                assert_eq!(lines[i].len(), width, "{text}");
            }
            assert!(lines[2].starts_with("#  ") && lines[2].ends_with('#'), "{text}");
            assert!(lines[2].contains(host), "{text}");
        }
    }

    #[test]
    fn ipv6_addresses_widen_their_columns() {
        let mut rows = [row(0, "2001:db8::1", 22), row(1, "2001:db8:1111:2222:3333:4444:5555:6666", 8080)];
        rows[0].source = "2001:db8::a".parse().unwrap();
        rows[1].source = "2001:db8::abcd".parse().unwrap();
        let text = log("2001:db8::/64", &rows).text();
        let lines: Vec<&str> = text.lines().skip(7).collect();
        assert_eq!(
            lines,
            [
                "Wed Nov 13 18:14:27 2013:   2001:db8::a    =>                            2001:db8::1:   22",
                "Wed Nov 13 18:14:27 2013:   2001:db8::abcd => 2001:db8:1111:2222:3333:4444:5555:6666: 8080",
            ]
        );
    }

    #[test]
    fn rows_are_in_order_of_time_and_the_rest_is_counted() {
        let rows: Vec<Row> = (0..1_500_u16).rev().map(|i| row(i128::from(i), "198.51.100.1", i)).collect();
        let text = Log { unlisted: 7, ..log("192.0.2.10", &rows) }.text();
        let lines: Vec<&str> = text.lines().skip(7).collect();
        assert_eq!(lines.len(), 1_001);
        assert!(lines[0].ends_with(":    0") && lines[999].ends_with(":  999"), "{text}");
        assert_eq!(lines[1_000], "and 507 more contacts");
        assert!(!log("192.0.2.10", &rows[..1_000]).text().contains("more"));
        assert!(log("192.0.2.10", &rows[..1_001]).text().ends_with("and 1 more contact\n"));
    }

    #[test]
    fn the_extended_style_has_ports_size_and_protocol() {
        let mut rows =
            [row(0, "198.51.100.1", 22), row(1_000, "198.51.100.200", 65_535), row(2_000, "203.0.113.5", 8)];
        rows[1].protocol = 17;
        rows[1].size = 1_514;
        rows[2].protocol = 1;
        let text = Log { style: Style::Extended, ..log("192.0.2.10", &rows) }.text();
        let lines: Vec<&str> = text.lines().skip(5).collect();
        assert_eq!(
            lines,
            [
                "TIME (UTC)           SRC         SRC-PORT -> DST             DST-PORT   SIZE  PROT",
                "------------------------------------------------------------------------------------",
                "2013-11-13 18:14:27  192.0.2.10     40000 -> 198.51.100.1          22     60  TCP",
                "2013-11-13 18:14:28  192.0.2.10     40000 -> 198.51.100.200     65535   1514  UDP",
                "2013-11-13 18:14:29  192.0.2.10         - -> 203.0.113.5            8     60  ICMP",
            ]
        );
        let squeezed = lines[0].split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(squeezed, "TIME (UTC) SRC SRC-PORT -> DST DST-PORT SIZE PROT");
    }

    #[test]
    fn dates_are_those_of_ctime() {
        assert_eq!(ctime(0).to_string(), "Thu Jan  1 00:00:00 1970");
        assert_eq!(ctime(T).to_string(), "Wed Nov 13 18:14:27 2013");
        // A broken clock makes no panic.
        assert!(ctime(i128::MAX).to_string().ends_with("9999"));
        assert!(!ctime(i128::MIN).to_string().is_empty());
    }
}
