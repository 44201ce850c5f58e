//! `[rtbh]`

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::Rtbh;
use crate::raw::{self, Text};
use crate::values::Validator;

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(86_400);
/// RFC 7999.
const BLACKHOLE: &str = "65535:666";

/// Two halves of 16 bits each (RFC 1997).
fn is_community(text: &str) -> bool {
    let mut halves = text.split(':').map(str::parse::<u16>);
    matches!((halves.next(), halves.next(), halves.next()), (Some(Ok(_)), Some(Ok(_)), None))
}

impl Validator<'_> {
    pub(crate) fn rtbh(&mut self, r: raw::Rtbh) -> Rtbh {
        let gobgp = match r.gobgp {
            Some(g) if g.get_ref() != "off" => {
                let parsed = g.get_ref().parse::<SocketAddr>().ok();
                if parsed.is_none() {
                    let message = format!("gobgp = \"{}\" is no address and port", g.get_ref());
                    self.wrong(
                        g.span(),
                        message,
                        "write \"127.0.0.1:50051\", where gobgpd's API listens, or \"off\"",
                    );
                }
                parsed
            }
            _ => None,
        };
        let mut communities = Vec::new();
        for c in r.communities.iter().flatten() {
            if !is_community(c.get_ref()) {
                let message = format!("`{}` is no community", c.get_ref());
                self.wrong(c.span(), message, "write two numbers up to 65535, like \"65535:666\"");
            }
            communities.push(c.get_ref().clone());
        }
        if communities.is_empty() {
            communities.push(BLACKHOLE.to_owned());
        }
        let next_hop = self.next_hop(r.next_hop, "IPv4", IpAddr::is_ipv4);
        let next_hop_v6 = self.next_hop(r.next_hop_v6, "IPv6", IpAddr::is_ipv6);
        Rtbh {
            gobgp,
            program: self.path("program", r.program, "/usr/bin/gobgp"),
            communities,
            next_hop,
            next_hop_v6,
            uplink_bits: r.uplink_bits,
            fill_percent: self.number("fill_percent", r.fill_percent, 90, 10..=100),
            hold: self.duration("hold", r.hold, 600 * SECOND, 10 * SECOND..=DAY),
            hold_max: self.duration("hold_max", r.hold_max, 4 * 3_600 * SECOND, 10 * SECOND..=7 * DAY),
            probe: self.duration("probe", r.probe, 60 * SECOND, 5 * SECOND..=3_600 * SECOND),
            announced_max: self.number("announced_max", r.announced_max, 20, 1..=1_000),
        }
    }

    fn next_hop(&mut self, value: Option<Text>, family: &str, fits: fn(&IpAddr) -> bool) -> Option<IpAddr> {
        let value = value?;
        let parsed = value.get_ref().parse().ok().filter(fits);
        if parsed.is_none() {
            let message = format!("`{}` is no {family} address", value.get_ref());
            self.wrong(value.span(), message, "name the next hop that routers discard, or leave it out");
        }
        parsed
    }
}
