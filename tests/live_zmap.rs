//! Sweeps of zmap, which sends without state and in random order, are locked; their logs are held row by row against what
//! a tcpdump on the attacker's interface saw: who was asked, when, and what came back.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails here")]

mod common;

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::time::{Duration, UNIX_EPOCH};

use common::internet::{Sent, Witness, connect, rows, server};
use common::site::{SOON, Site};
use common::{Namespaces, eventually, skip};
use serde_json::Value;

/// A sweep: options of zmap with its targets, and what it has to be found as: protocol, port (of ICMP the type), limit.
struct Sweep {
    name: &'static str,
    options: &'static str,
    protocol: &'static str,
    port: u16,
    limit: u64,
}

/// Of 45.64.40.0/24 a few accept and the rest refuse, as all of 45.64.44.0/24 do; all of 45.64.48.0/27 answer echoes;
/// nobody is in 45.65.0.0/16.
const SWEEPS: [Sweep; 3] = [
    Sweep {
        name: "SYN",
        options: "-M tcp_synscan -p 22 45.64.40.0/24 45.65.40.0/23",
        protocol: "tcp",
        port: 22,
        limit: 120,
    },
    Sweep {
        name: "UDP",
        options: "-M udp --probe-args=text:anybody -p 161 45.64.44.0/24 45.65.44.0/23",
        protocol: "udp",
        port: 161,
        limit: 360,
    },
    Sweep {
        name: "echo",
        options: "-M icmp_echoscan 45.64.48.0/27 45.65.48.0/23",
        protocol: "icmp",
        port: 8,
        limit: 360,
    },
];
/// Slow enough that most of a sweep's contacts have ended well before the lock.
const OPTIONS: &str = "-r 150 -T 1 -e 7 -i in0 -G 02:00:00:77:00:01 -c 1 -o /dev/null --disable-syslog -q";
/// Those of 45.64.40.0/24 that accept.
const ACCEPTING: std::ops::RangeInclusive<u8> = 1..=16;
/// Silence is a failure after so long.
const SILENCE: Duration = Duration::from_secs(5);
/// A contact that ended so long before the lock was known to it.
const KNOWN: Duration = Duration::from_millis(500);
/// Pings that are answered: a wire on which nothing ever comes in tells nothing about answers.
const PINGS: [&str; 7] = ["-q", "-n", "-i", "0.05", "-I", Namespaces::SERVER_2, Namespaces::REMOTE];

/// What came back to a contact, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Silent,
    Answered,
    Refused(Duration),
}

/// A contact as the attacker's interface saw it.
#[derive(Clone, Copy, Debug)]
struct Contact {
    at: Duration,
    port: u16,
    end: End,
}

fn address(frame: &[u8], at: usize) -> Option<Ipv4Addr> {
    Some(Ipv4Addr::from(<[u8; 4]>::try_from(frame.get(at..at + 4)?).ok()?))
}

/// All first packets of one server, by destination, with what became of them.
fn contacts(frames: &[(Duration, Vec<u8>)], server: Ipv4Addr) -> HashMap<IpAddr, Contact> {
    let mut all: HashMap<IpAddr, Contact> = HashMap::new();
    for (at, f) in frames {
        // IPv4 without options: zmap and this kernel send no other.
        if f.get(12..15) != Some(&[0x08, 0x00, 0x45]) {
            continue;
        }
        let (Some(from), Some(to), protocol) = (address(f, 26), address(f, 30), f[23]) else { continue };
        let (l4, port) = (&f[34..], u16::from_be_bytes([f[36], f[37]]));
        if from == server {
            let opens = match protocol {
                1 => (l4[0] == 8).then_some(8),
                6 => (l4[13] == 0x02).then_some(port),
                _ => Some(port),
            };
            if let Some(port) = opens {
                all.entry(to.into()).or_insert(Contact { at: *at, port, end: End::Silent });
            }
            continue;
        }
        let (peer, end) = match protocol {
            1 if l4[0] == 3 => (address(f, 34 + 8 + 16).unwrap(), End::Refused(*at)),
            6 if l4[13] & 0x04 != 0 => (from, End::Refused(*at)),
            _ => (from, End::Answered),
        };
        if let Some(contact) = all.get_mut(&peer.into()).filter(|_| to == server) {
            contact.end = end;
        }
    }
    all
}

fn since_1970(time: &Value) -> Duration {
    humantime::parse_rfc3339(time.as_str().unwrap()).unwrap().duration_since(UNIX_EPOCH).unwrap()
}

/// Every row is a contact of that second that failed, each once. Returns a contact that must be a row and is none: it was
/// made after the first row, and had failed when the server was locked.
fn compare(
    name: &str,
    rows: &[Sent],
    contacts: &HashMap<IpAddr, Contact>,
    server: IpAddr,
    locked: Duration,
) -> Option<Contact> {
    let mut listed: HashMap<IpAddr, Duration> = HashMap::new();
    for (second, to, port, from) in rows {
        let seen = contacts.get(to).unwrap_or_else(|| panic!("{name}: {to} was never asked"));
        assert_eq!((*from, *port), (server, seen.port), "{name}: {to}");
        // The two clocks may begin a second at slightly different times.
        assert!(seen.at.as_secs().abs_diff(*second) <= 1, "{name}: {to} at {second}, seen {seen:?}");
        assert_ne!(seen.end, End::Answered, "{name}: {to} has answered");
        assert!(listed.insert(*to, seen.at).is_none(), "{name}: {to} stands twice");
    }
    let first = *listed.values().min()?;
    let must = |c: &Contact| {
        let failed = match c.end {
            End::Answered => return false,
            End::Refused(at) => at,
            End::Silent => c.at + SILENCE,
        };
        c.at > first && failed + KNOWN < locked
    };
    contacts.iter().find(|(to, c)| must(c) && !listed.contains_key(to)).map(|(_, c)| *c)
}

#[test]
fn sweeps_of_zmap_are_locked_and_their_logs_are_what_the_attackers_interface_saw() {
    if !common::have_root_and_netns() {
        skip!("needs root and network namespaces");
    }
    if let Some(tool) = common::lacks(&["zmap", "tcpdump"]) {
        skip!("{tool} is not installed");
    }
    let site = Site::new("");
    connect(&site);
    let _cordond = site.start();
    let _ping = site.ns.spawn("in", "ping", &PINGS);
    let _listeners: Vec<TcpListener> = site.ns.within("out", || {
        ACCEPTING.map(|n| TcpListener::bind((Ipv4Addr::new(45, 64, 40, n), 22)).unwrap()).collect()
    });
    // Debian's own list leaves out private addresses; the configuration file may name one.
    let folder = tempfile::tempdir().unwrap();
    let [none, settings] = ["none", "zmap.conf"].map(|name| folder.path().join(name));
    std::fs::write(&none, "").unwrap();
    std::fs::write(&settings, "").unwrap();
    for (number, sweep) in (20..).zip(&SWEEPS) {
        let (name, address) = (sweep.name, server(&site, number));
        let witness = Witness::start(&site);
        let options = format!(
            "{OPTIONS} -C {} -b {} -S {address} {}",
            settings.display(),
            none.display(),
            sweep.options
        );
        let words: Vec<&str> = options.split_whitespace().collect();
        let zmap = site.ns.spawn("in", "zmap", &words);
        let row = site.wait_locked(&address);
        assert_eq!((&row["direction"], &row["reason"]), (&"out".into(), &"netscan".into()), "{name}: {row}");
        assert!(!site.ns.pings("in", &address, Namespaces::REMOTE), "{name}: it is locked");
        assert!(site.ns.pings("in", Namespaces::SERVER, Namespaces::REMOTE), "{name}: its neighbour is not");
        zmap.finish(SOON).expect_success();
        let frames = witness.frames();

        let id = row["incident"].as_str().unwrap();
        let incident = site.ask(&["incident", id]);
        for (key, expected) in
            [("kind", "netscan"), ("address", &address), ("protocol", sweep.protocol), ("action", "lock")]
        {
            assert_eq!(incident[key], expected, "{name}: {key}: {incident}");
        }
        assert_eq!(incident["ports"], serde_json::json!([sweep.port]), "{name}: {incident}");
        assert_eq!(incident["limit"], sweep.limit, "{name}: {incident}");

        let address: Ipv4Addr = address.parse().unwrap();
        let contacts = contacts(&frames, address);
        let locked = since_1970(&row["created"]);
        let rows = eventually(&format!("{name}: every failed contact is a row"), SOON, || {
            let log = site.evidence(id, "netscan.log");
            let rows = log.is_file().then(|| rows(&log))?;
            compare(name, &rows, &contacts, address.into(), locked).is_none().then_some(rows)
        });
        assert!(rows.len() as u64 >= sweep.limit, "{name}: {} rows: {incident}", rows.len());
        assert!(rows.is_sorted_by_key(|r| r.0), "{name}: in order of time");
    }
    assert_eq!(site.locks().len(), SWEEPS.len(), "{:?}", site.locks());
}
