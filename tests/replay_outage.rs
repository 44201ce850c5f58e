//! Outages upstream while ordinary servers connect in bursts, which look like a flood that nobody answers; and floods
//! that want to pass for an outage.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails here")]

mod common;

use std::net::Ipv4Addr;
use std::ops::Range;

use common::packets::{MS, Recording, SECOND, SYN, SYN_ACK, at, echo, nth, tcp};
use common::replay::{Replayed, done_ns, play};

const SERVERS: &str = "198.51.0.0/16";
/// It is pinged all along: not everything is cut off.
const PINGED: Ipv4Addr = Ipv4Addr::new(198, 51, 9, 1);
const ORDINARY: Ipv4Addr = Ipv4Addr::new(198, 51, 8, 1);
const CRAWLER: Ipv4Addr = Ipv4Addr::new(198, 51, 7, 7);
const SCANNER: Ipv4Addr = Ipv4Addr::new(198, 51, 6, 6);
const SERVICES: Ipv4Addr = Ipv4Addr::new(45, 1, 2, 1);
const PEERS: Ipv4Addr = Ipv4Addr::new(45, 64, 0, 1);

/// Traffic of a wire on which nothing is answered for some seconds.
struct Wire {
    r: Recording,
    outage_s: Range<u64>,
}

impl Wire {
    fn new(outage_s: Range<u64>, seconds: u64) -> Wire {
        let (mut r, far) = (Recording::default(), Ipv4Addr::new(45, 1, 1, 1));
        for i in 0..seconds * 20 {
            r.add(i * 50 * MS, echo(PINGED, far, 8, 1));
            r.add(i * 50 * MS + MS, echo(far, PINGED, 0, 1));
        }
        Wire { r, outage_s }
    }

    fn ask(&mut self, t: u64, own: Ipv4Addr, far: Ipv4Addr, n: u32) {
        let (own, far) = (at(own, 20_000 + u16::try_from(n % 40_000).unwrap()), at(far, 443));
        self.r.add(t, tcp(own, far, SYN));
        if !self.outage_s.contains(&(t / SECOND)) {
            self.r.add(t + 5 * MS, tcp(far, own, SYN_ACK));
        }
    }

    /// Servers that ask the same few 40 times a second each, `burst` times at once.
    fn ordinary(&mut self, servers: u32, burst: u32, seconds: u32) {
        for n in 0..seconds * 40 {
            let t = u64::from(n / burst * burst) * 25 * MS + u64::from(n % burst) * MS / 4;
            for s in 0..servers {
                self.ask(t, nth(ORDINARY, s), nth(SERVICES, n % 4), n);
            }
        }
    }

    /// Scans, answered by nobody, from a time on.
    fn scan(&mut self, from_s: u64) {
        for n in 0..1_000 {
            let t = from_s * SECOND + u64::from(n) * 10 * MS;
            self.r.add(t, tcp(at(SCANNER, 40_000), at(nth(PEERS, 1_000_000 + n), 22), SYN));
        }
    }

    fn play(self) -> Replayed {
        play(self.r, &["--internal", SERVERS])
    }
}

#[test]
fn a_crawler_that_pauses_in_an_outage_is_not_locked_while_servers_reconnect_in_bursts() {
    for (burst, pause_s) in [(1, 7), (40, 0), (40, 5), (40, 7), (120, 7)] {
        let mut w = Wire::new(20..60, 100);
        w.ordinary(4, burst, 100);
        for n in 0..100 * 60 {
            let t = u64::from(n) * SECOND / 60;
            if !(22 * SECOND..(22 + pause_s) * SECOND).contains(&t) {
                w.ask(t, CRAWLER, nth(PEERS, n), n);
            }
        }
        // Once all are answered again.
        w.scan(80);
        let seen = w.play();
        let what = format!("burst {burst}, pause {pause_s}: {:?}", seen.short());
        assert_eq!(seen.locked(), [SCANNER.to_string()], "{what}");
        let innocent =
            |i: &&serde_json::Value| i["action"] != "observe" && i["address"] != SCANNER.to_string();
        assert_eq!(seen.incidents.iter().filter(innocent).count(), 0, "{what}");
    }
}

#[test]
fn floods_that_nobody_answers_hide_no_scan_however_well_their_senders_were_answered() {
    // Who floods, and how many others are answered all along: alone on the wire, in company, and outvoted.
    for (flooders, others) in [(1, 0), (2, 0), (1, 4), (3, 4)] {
        let mut w = Wire::new(0..0, 60);
        w.ordinary(others, 40, 60);
        for f in 0..flooders {
            let from = nth(CRAWLER, f);
            for n in 0..20 * 20 {
                w.ask(u64::from(n) * 50 * MS, from, nth(SERVICES, n % 4), n);
            }
            // Towards hosts that are not there, in bursts of 200 each quarter of a second.
            for n in 0..40 * 800u32 {
                let t = 20 * SECOND + u64::from(n / 200) * 250 * MS + u64::from(n % 200) * MS / 10;
                let source = 20_000 + u16::try_from(n % 40_000).unwrap();
                w.r.add(t, tcp(at(from, source), at(nth(SERVICES, 100 + n % 3), 80), SYN));
            }
        }
        w.scan(30);
        let seen = w.play();
        let what = format!("{flooders} beside {others}: {:?}", seen.short());
        let locked = done_ns(seen.one(&SCANNER.to_string(), "netscan"), "lock");
        assert!(locked.is_some_and(|ns| ns < 42 * SECOND), "{locked:?}: {what}");
    }
}
