//! Spoofed floods from both sides that fill every table: neither daemon grows, and a scan of another server is found.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails here")]
#![expect(clippy::print_stdout, reason = "what was measured")]

mod common;

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV6, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use common::internet::{connect, server};
use common::packets::{SYN, at, nth, tcp, tcp6, udp};
use common::raw::{Flood, Raw};
use common::site::{SOON, Site};
use common::{Namespaces, eventually, skip};
use region::{Dir, Facts, HostId};

/// Each address of this network is a source that somebody makes up.
const SPOOFED: Ipv4Addr = Ipv4Addr::new(10, 80, 0, 0);
const SPOOFED_HOSTS: u32 = 1 << 16;
/// And each /64 of this one: far more than the tables have room for.
const SPOOFED_V6: [u16; 3] = [0xfd79, 0, 0];
const HOSTS_V6: u32 = 1_024;
/// Servers that are flooded, by the last byte of their address: so few that each comes to more flows than cordond keeps.
const VICTIMS: std::ops::Range<u8> = 40..42;
/// A quarter of this makes a victim watched: each packet of its flood is a flow of its own then.
const LIMITS: &str = "[limits.in]\nudp = { warn_fast = 6_000, lock_fast = 100_000 }\n";
/// From each side.
const PPS: u32 = 6_000;
/// Packets of a flood until every table is full, and as many again.
const FILL: usize = 100_000;
/// What either daemon may grow by while the floods go on with what they have not sent before.
const GROWTH_KIB: u64 = 16 << 10;
const MINUTES: Duration = Duration::from_secs(180);

/// Different for different `n`, in no order that a table would like.
fn mixed(n: u32) -> u32 {
    n.wrapping_mul(0x9e37_79b1)
}

/// From inside: a SYN or a datagram to somebody who is not there, from the next of all sources.
fn from_inside(n: u32) -> Vec<u8> {
    let (who, port) = (mixed(n), 1_024 + u16::try_from(n % 60_000).unwrap());
    if n.is_multiple_of(4) {
        let [a, b, c] = SPOOFED_V6;
        let net = u16::try_from(n / 4 % 65_536).unwrap();
        let own = Ipv6Addr::new(a, b, c, net, 0, 0, 0, 1);
        let far = Ipv6Addr::new(0x2a00, 0x78, 0, 0, 0, 0, 0, u16::try_from(who >> 16).unwrap());
        return tcp6(SocketAddrV6::new(own, port, 0, 0), SocketAddrV6::new(far, 80, 0, 0), SYN);
    }
    let own = at(nth(SPOOFED, who % SPOOFED_HOSTS), port);
    let far = at(nth(Ipv4Addr::new(45, 65, 0, 0), who >> 16), 80);
    if n.is_multiple_of(2) { tcp(own, far, SYN) } else { udp(own, far, 20) }
}

/// From outside: a datagram to one of the victims from an address that nobody has.
fn from_outside(n: u32) -> Vec<u8> {
    let far = nth(Ipv4Addr::new(80, 0, 0, 0), mixed(n) >> 5);
    let victims = u32::from(VICTIMS.end - VICTIMS.start);
    let victim = nth(Ipv4Addr::new(10, 77, 0, VICTIMS.start), n % victims);
    udp(at(far, 1_024 + u16::try_from(n % 60_000).unwrap()), at(victim, 9_999), 20)
}

/// Resident memory of a process in KiB: all of it, and what is its own.
fn memory(pid: u64) -> (u64, u64) {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let field = |name: &str| -> u64 {
        let line = text.lines().find(|l| l.starts_with(name)).unwrap_or_else(|| panic!("{name}: {text}"));
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    (field("VmRSS:"), field("RssAnon:"))
}

/// Answered connections of a server, one after the other: what says that answers can be seen.
struct Ordinary {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Ordinary {
    fn start(site: &Site) -> Ordinary {
        let stop = Arc::new(AtomicBool::new(false));
        let listener = site.ns.within("out", || TcpListener::bind(("0.0.0.0", 443)).unwrap());
        let (a, b, name) = (stop.clone(), stop.clone(), site.ns.name("in"));
        let accept = move || {
            for connection in listener.incoming() {
                drop(connection);
                if a.load(Relaxed) {
                    return;
                }
            }
        };
        let work = move || {
            let namespace = std::fs::File::open(format!("/run/netns/{name}")).unwrap();
            nix::sched::setns(namespace, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
            let mut ended = false;
            // One more after the end wakes the listener.
            while !std::mem::replace(&mut ended, b.load(Relaxed)) {
                let _ = TcpStream::connect_timeout(&(Ipv4Addr::new(45, 64, 1, 1), 443).into(), SOON);
                thread::sleep(Duration::from_millis(5));
            }
        };
        Ordinary { stop, threads: vec![thread::spawn(accept), thread::spawn(work)] }
    }
}

impl Drop for Ordinary {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

#[test]
fn spoofed_floods_that_fill_every_table_grow_no_memory_and_hide_no_scan() {
    if !common::have_root_and_netns() {
        skip!("needs root and network namespaces");
    }
    let mut site = Site::new(LIMITS);
    site.hosts = 2 * SPOOFED_HOSTS;
    site.networks.push("10.80.0.0/16".to_owned());
    site.networks.push("fd79::/48".to_owned());
    site.write_config();
    connect(&site);
    let cordond = site.start();
    let daemons = [u64::try_from(cordond.id()).unwrap(), site.status()["dataplane_pid"].as_u64().unwrap()];
    let measure = || daemons.map(memory);
    let scanner = server(&site, 20);
    VICTIMS.for_each(|n| drop(server(&site, n)));
    let _ordinary = Ordinary::start(&site);
    eventually("ordinary work is counted", SOON, || {
        (site.counted(Namespaces::SERVER, "inbound.tcp") > 200).then_some(())
    });
    let before = measure();

    let inside = Flood::start(Raw::open(&site.ns, "in"), PPS, from_inside);
    let outside = Flood::start(Raw::open(&site.ns, "out"), PPS, from_outside);
    inside.wait_sent(FILL, MINUTES);
    outside.wait_sent(FILL, MINUTES);
    let filled = measure();
    let facts = Facts::open(&site.tables()).unwrap();
    let has_sent = |h: &u32| facts.totals(HostId(*h), Dir::Out).packets > 0;
    let senders = (0..facts.capacities().hosts()).filter(has_sent).count();
    let least = (SPOOFED_HOSTS * 3 / 4 + HOSTS_V6 / 2) as usize;
    assert!(senders > least, "{senders} hosts have sent");
    inside.wait_sent(FILL, MINUTES);
    outside.wait_sent(FILL, MINUTES);
    let after = measure();

    let raw = Raw::open(&site.ns, "in");
    let from: Ipv4Addr = scanner.parse().unwrap();
    let scan = Flood::start(raw, 100, move |n| {
        tcp(at(from, 40_000), at(nth(Ipv4Addr::new(45, 65, 128, 0), n), 22), SYN)
    });
    let row = site.wait_locked(&scanner);
    assert_eq!((&row["direction"], &row["reason"]), (&"out".into(), &"netscan".into()), "{row}");
    drop((scan, inside, outside));
    let end = measure();

    for (i, name) in ["cordond", "cordon-dataplane"].iter().enumerate() {
        let shown = [before, filled, after, end].map(|m| m[i]);
        println!("{name}: KiB (all, its own) before, filled, filled twice, with a scan: {shown:?}");
        let grown = end[i].1.max(after[i].1).saturating_sub(filled[i].1);
        assert!(grown < GROWTH_KIB, "{name} has grown by {grown} KiB: {shown:?}");
    }
    let locks = site.locks();
    assert_eq!(locks, [format!("{scanner} out netscan")], "whose address was forged is not blamed");
}
