//! What is written of hosts, and what a pass costs.

use std::sync::Arc;
use std::time::{Duration, Instant};

use pipeline::{Frame, Mode, Pipeline};
use region::{Side, Verdict};

use super::*;
use crate::effect::{Loaded, Now};

fn tally(n: u64) -> Tally {
    let out = Counts { packets: n, bytes: 64 * n, tcp: n, syn: n / 2, ..Counts::default() };
    let inbound = Counts { packets: 3, bytes: u64::MAX, reactions_tcp: 2, opens: 1, ..Counts::default() };
    Tally { pair: [out, inbound], unprovoked: 300, outside: 0, other_mac: n / 2, overrun: n % 2 == 1 }
}

#[test]
fn what_was_written_is_read_again_and_damage_ends_it() {
    let hosts: Vec<(u8, Tally)> = [(0, 1), (7, 200), (255, 70_000)].map(|(o, n)| (o, tally(n))).to_vec();
    let bytes = encode(hosts.iter().map(|(o, t)| (*o, t)));
    assert_eq!(decode(&bytes), hosts);
    for cut in 0..bytes.len() {
        let part = decode(&bytes[..cut]);
        assert_eq!(part, hosts[..part.len()], "cut at {cut}");
    }
    assert!(decode(&[0xff; 40]).len() <= 40);
}

#[test]
fn noise_costs_a_dozen_bytes_a_host() {
    let noise =
        Counts { packets: 24, bytes: 1_440, tcp: 20, syn: 19, udp: 4, small: 24, ..Counts::default() };
    let t = Tally { pair: [Counts::default(), noise], ..Tally::default() };
    assert!(encode(std::iter::once((9, &t))).len() <= 13);
}

#[test]
fn hosts_are_found_by_their_block() {
    let of = |t: &str| block_of(&t.parse().expect("a target")).expect("a block");
    assert_eq!(of("192.0.2.9"), ("192.0.2.0/24".to_owned(), 9));
    assert_eq!(of("2001:db8:0:1::/64"), ("2001:db8:0:1::/64".to_owned(), 0));
}

/// 65,536 servers, each of which sends a packet in every one of the first ticks.
#[test]
fn a_pass_over_64k_active_servers_misses_none_and_is_spread_over_ticks() {
    const HOSTS: u32 = 65_536;
    let text = "[tables]\nhosts = 65536\nipv6_hosts = 16\n[[network]]\nprefix = \"10.0.0.0/16\"\n";
    let config = config::Config::parse(text, "test").expect("a configuration");
    let capacities = Capacities { workers: 1, hosts_v4: HOSTS, hosts_v6: 16, locks: 64 };
    let policy = Arc::new(Policy::anonymous(capacities, 64, [1, 2]).expect("memory"));
    let facts = Arc::new(Facts::anonymous(capacities).expect("memory"));
    let loaded = Loaded { hash_key: [1, 2], ..Loaded::default() };
    let mut now = Now { mono_ns: 1 << 50, unix_ns: 1_790_000_000_000_000_000 };
    let mut control = Control::new(Use::Live, config, Arc::clone(&policy), loaded, now).expect("a core");
    control.attach(Arc::clone(&facts), now);
    control.tick(now);
    let mut path = Pipeline::new(0, Mode::Inline, &facts);
    let (mut sent, mut seen) = (0u64, 0u64);
    let mut times: [Vec<Duration>; 2] = Default::default();
    let mut pieces = 0;
    for tick in 0..24u32 {
        for host in (0..HOSTS).step_by(if tick < 3 { 1 } else { 16 }) {
            let a = 0x0a00_0000 | host;
            let mut frame = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, 0x45, 0, 0, 28].to_vec();
            frame.extend([0, 1, 0, 0, 64, 17, 0, 0]);
            frame.extend(a.to_be_bytes());
            frame.extend([198, 51, 100, 7, 0, 53, 0, 53, 0, 8, 0, 0]);
            let frame = Frame { bytes: &frame, length: 60, side: Side::Inside, time: 0, segment: false };
            path.poll(&facts, Some(&policy));
            path.run(&facts, Some(&policy), &[frame], &mut [Verdict::Forward]);
            sent += 1;
        }
        // Half of them before the pass is due.
        now.mono_ns += if tick == 4 { PASS_NS } else { 100_000_000 };
        now.unix_ns += if tick == 4 { i128::from(PASS_NS) } else { 100_000_000 };
        let began = Instant::now();
        control.tick(now);
        let took = began.elapsed();
        let mut read = 0;
        for effect in control.take_effects() {
            let Effect::History(HistoryOp::Rows(rows)) = effect else { continue };
            read += rows.len();
            let hosts = rows.iter().flat_map(|r| decode(&r.body));
            seen += hosts.map(|(_, t)| t.pair[0].packets).sum::<u64>();
        }
        pieces += read;
        assert!(read <= PIECES_A_TICK, "{read} pieces in a tick");
        if tick < 3 || read > 0 {
            times[usize::from(read > 0)].push(took);
        }
    }
    assert_eq!(pieces, 256, "one pass, each block once");
    let began = Instant::now();
    control.stop(now);
    let all = began.elapsed();
    for effect in control.take_effects() {
        let Effect::History(HistoryOp::Rows(rows)) = effect else { continue };
        let hosts = rows.iter().flat_map(|r| decode(&r.body)).collect::<Vec<_>>();
        seen += hosts.iter().map(|(_, t)| t.pair[0].packets).sum::<u64>();
    }
    assert_eq!(seen, sent, "every packet is in one piece");
    let [mut without, mut with] = times;
    without.sort();
    with.sort();
    let of = |t: &[Duration]| (t[t.len() / 2], t[t.len() - 1]);
    eprintln!(
        "median and longest: a tick over 65,536 moving servers {:?}, over 4,096 with a part of a pass {:?}; all of it at once {all:?}",
        of(&without),
        of(&with)
    );
}
