//! Real traffic of a real kernel through the real `cordon-dataplane`, between two network namespaces: `net_af_packet` on
//! veth, with one queue and with two, and `net_tap` for what happens to links.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails here")]

mod common;

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use common::dataplane::{Appliance, BOTH, Balance, SOON, STOP, assert_balanced, assert_decided};
use common::{Daemon, Namespaces, eventually, pcap, skip};
use region::{Class, Dir, Facts, HostFlags, Side, Verdict};

/// A command inside a namespace, traffic included.
const TRAFFIC: Duration = Duration::from_secs(60);
/// One ring frame holds a jumbo frame, four of them fill nine pages: the driver wants no gaps between blocks.
const JUMBO: &str = "blocksz=36864,framesz=9216,framecnt=512";

/// The box's two ends, with these device arguments.
fn veth(arguments: &str) -> Appliance {
    let port = |i: u8, interface: &str| format!("net_af_packet{i},iface={interface}{arguments}");
    Appliance::new(&port(0, "box_in"), &port(1, "box_out"))
}

fn ip(ns: &Namespaces, side: &str, arguments: &str) {
    let words: Vec<&str> = arguments.split_whitespace().collect();
    ns.run(side, "ip", &words, SOON).expect_success();
}

/// One ping that has to be answered. With several in one go ping would wait for the last answer no longer than the others
/// took, and call it lost on a busy machine.
fn ping_once(ns: &Namespaces, side: &str, arguments: &[&str]) {
    let said = ns.run(side, "ping", &[&["-q", "-n", "-c", "1", "-W", "20"], arguments].concat(), TRAFFIC);
    said.expect_success();
}

/// Five of them from inside.
fn ping(ns: &Namespaces, arguments: &[&str]) {
    for _ in 0..5 {
        ping_once(ns, "in", arguments);
    }
}

/// TCP over several connections; returns the bytes that arrived at the outside.
fn iperf3(ns: &Namespaces) -> u64 {
    let server = ns.spawn("out", "iperf3", &["--server", "--one-off", "--forceflush"]);
    server.wait_for_line("Server listening", SOON);
    let mebibytes = 64;
    let amount = format!("{mebibytes}M");
    let arguments = ["--client", Namespaces::REMOTE, "--bytes", &amount, "--parallel", "8", "--json"];
    let said = ns.run("in", "iperf3", &arguments, TRAFFIC).expect_success();
    let report: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert!(server.wait_exit(SOON).success());
    let bytes = report["end"]["sum_received"]["bytes"].as_u64().unwrap();
    // iperf3 stops counting with its last interval; what is on the way then is not lost.
    assert!(bytes > (mebibytes << 20) / 2, "{report}");
    bytes
}

/// Sends frames as they are from one side; they have to arrive so on the other. Kernels need no VLAN support for it.
fn send_raw(ns: &Namespaces, appliance: &Appliance, from: &str, to: &str, frames: &[Vec<u8>]) {
    const SEND: &str = "import socket, sys
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
s.bind((sys.argv[1], 0))
for frame in open(sys.argv[2]): s.send(bytes.fromhex(frame))";
    let (list, seen) = (appliance.path("frames.hex"), appliance.path(&format!("{to}.pcap")));
    let hex = |f: &Vec<u8>| f.iter().map(|b| format!("{b:02x}")).collect::<String>();
    std::fs::write(&list, frames.iter().map(hex).collect::<Vec<_>>().join("\n")).unwrap();
    let (list, seen_path) = (list.to_string_lossy(), seen.to_string_lossy());
    let count = frames.len().to_string();
    // The sender's MAC tells these frames from what kernels say by themselves.
    let only = ["ether", "src", "02:00:00:99:00:01"];
    let listener = ["-U", "-Z", "root", "-Q", "in", "-i", &format!("{to}0"), "-c", &count, "-w", &seen_path];
    let listener = ns.spawn(to, "tcpdump", &[&listener[..], &only].concat());
    listener.wait_for_line("listening on", SOON);
    ns.run(from, "python3", &["-c", SEND, &format!("{from}0"), &list], TRAFFIC).expect_success();
    assert!(listener.wait_exit(SOON).success(), "{}", listener.log());
    pcap::assert_same(&format!("{from} to {to}"), &pcap::read(&seen), frames);
}

/// A frame in these tags that holds an IPv4 packet between two addresses of no network, `length` bytes in all.
fn tagged(tags: &[u16], length: usize) -> Vec<u8> {
    let mut f = vec![2, 0, 0, 0x99, 0, 2, 2, 0, 0, 0x99, 0, 1];
    for vlan in tags {
        f.extend_from_slice(&0x8100u16.to_be_bytes());
        f.extend_from_slice(&vlan.to_be_bytes());
    }
    let total = u16::try_from(length - f.len() - 2).unwrap();
    f.extend([8, 0, 0x45, 0]);
    f.extend(total.to_be_bytes());
    f.extend([0, 0, 0, 0, 64, 255, 0, 0, 198, 51, 100, 1, 198, 51, 100, 2]);
    f.extend((f.len()..length).map(|i| u8::try_from(i % 251).unwrap()));
    f
}

/// Stops it; the balance of both sides at rest.
fn stop(appliance: &Appliance, daemon: &Daemon) -> ([Balance; 2], Facts) {
    assert!(daemon.term(STOP).success(), "{}", daemon.log());
    let facts = appliance.facts();
    (assert_balanced(&facts), facts)
}

fn class(facts: &Facts, side: Side, class: Class) -> u64 {
    facts.workers().iter().map(|w| w.side(side).class_packets[class.index()].load(Relaxed)).sum()
}

/// Everything that servers do passes, is counted, and balances.
fn traffic_of_every_kind(ns: &Namespaces, appliance: &Appliance) -> Facts {
    let decisions = appliance.policy(&[], &[]);
    assert!(!ns.pings("in", Namespaces::SERVER, Namespaces::GATEWAY), "nothing forwards in the box yet");
    // With it goes the packet that waits for its neighbour.
    ip(ns, "in", "neigh flush all");
    let daemon = appliance.start_in(ns);
    // Neighbours are found through the wire: ARP and neighbour discovery, from both sides.
    for (from, to) in [
        (Namespaces::SERVER, Namespaces::GATEWAY),
        (Namespaces::SERVER_2, Namespaces::REMOTE),
        (Namespaces::SERVER_V6, Namespaces::GATEWAY_V6),
        (Namespaces::SERVER_V6, Namespaces::REMOTE_V6),
    ] {
        ping(ns, &["-I", from, to]);
    }
    let neighbours = ns.run("in", "ip", &["neigh", "show", "dev", "in0"], SOON).expect_success();
    for address in [Namespaces::GATEWAY, Namespaces::GATEWAY_V6] {
        let learnt = neighbours.lines().find(|l| l.starts_with(&format!("{address} ")));
        assert!(learnt.is_some_and(|l| l.contains(Namespaces::GATEWAY_MAC)), "{address}: {neighbours}");
    }
    // The kernel takes the outer tag off and hands it over beside the frame: it has to be put back. (It also puts
    // fragments together for this driver, which then do not fit: see the test with net_tap.)
    let frames = [tagged(&[100], 64), tagged(&[0xe00f], 1518), tagged(&[7, 100], 200), tagged(&[], 60)];
    send_raw(ns, appliance, "in", "out", &frames);
    send_raw(ns, appliance, "out", "in", &frames);
    let bytes = iperf3(ns);

    let ([inside, outside], facts) = stop(appliance, &daemon);
    assert!(inside.received_bytes > bytes, "{inside:?} for {bytes} bytes");
    for b in [inside, outside] {
        assert_eq!(b.packets(Verdict::DropLockedOut) + b.packets(Verdict::DropLockedIn), 0);
    }
    for side in Side::ALL {
        assert!(class(&facts, side, Class::Arp) > 0 && class(&facts, side, Class::Ipv6) >= 10);
        assert_eq!(class(&facts, side, Class::Malformed), 0);
        let tagged: u64 = facts.workers().iter().map(|w| w.side(side).tagged.load(Relaxed)).sum();
        assert_eq!(tagged, 3);
    }
    for dir in Dir::ALL {
        let line = decisions.line(&facts, Namespaces::SERVER, dir);
        assert_eq!((line.icmp, line.dropped), (5, 0), "{dir:?}");
        assert_eq!(decisions.line(&facts, Namespaces::SERVER_2, dir).packets, 5);
    }
    // Eight connections and the one that controls them.
    assert!(decisions.line(&facts, Namespaces::SERVER, Dir::Out).syn >= 9);
    facts
}

#[test]
fn traffic_of_every_kind_passes_one_queue() {
    if !common::have_root_and_netns() {
        skip!("needs root and network namespaces");
    }
    traffic_of_every_kind(&Namespaces::new(), &veth(""));
}

#[test]
fn traffic_of_every_kind_passes_two_queues_with_a_worker_each() {
    if !common::have_root_and_netns() {
        skip!("needs root and network namespaces");
    }
    let mut appliance = veth(",qpairs=2");
    appliance.dataplane.push("queues = 2".into());
    let facts = traffic_of_every_kind(&Namespaces::new(), &appliance);
    for side in Side::ALL {
        let by_worker: Vec<u64> =
            facts.workers().iter().map(|w| w.side(side).rx_packets.load(Relaxed)).collect();
        assert!(by_worker.len() == 2 && by_worker.iter().all(|n| *n > 0), "{by_worker:?}");
    }
}

#[test]
fn jumbo_frames_pass_where_the_driver_can() {
    if !common::have_root_and_netns() {
        skip!("needs root and network namespaces");
    }
    let ns = Namespaces::new();
    for (side, interface) in [("in", "in0"), ("box", "box_in"), ("box", "box_out"), ("out", "out0")] {
        ip(&ns, side, &format!("link set {interface} mtu 9000"));
    }
    let mut appliance = veth(&format!(",{JUMBO}"));
    appliance.dataplane.push("mtu = 9000".into());
    let decisions = appliance.policy(&[], &[]);
    let daemon = appliance.start_in(&ns);
    ping(&ns, &["-s", "8000", "-M", "do", Namespaces::GATEWAY]);
    ping(&ns, &["-s", "8972", "-M", "do", Namespaces::GATEWAY]);
    send_raw(&ns, &appliance, "in", "out", &[tagged(&[7], 9018), tagged(&[7, 8], 9014), tagged(&[], 5000)]);
    let (_, facts) = stop(&appliance, &daemon);
    let line = decisions.line(&facts, Namespaces::SERVER, Dir::Out);
    assert_eq!((line.packets, line.fragments), (10, 0));
    assert_eq!(line.bytes, 5 * (8000 + 42) + 5 * 9014);
}

#[test]
fn a_ring_frame_that_does_not_fit_a_buffer_is_refused_with_the_way_out() {
    if !common::have_root_and_netns() {
        skip!("needs root and network namespaces");
    }
    let ns = Namespaces::new();
    let appliance = veth(&format!(",{JUMBO}"));
    let done = appliance.spawn_in(&ns, &appliance.write_config(&appliance.config())).finish(SOON);
    assert_eq!(done.status.code(), Some(1));
    let last = done.stderr.trim_end().lines().last().unwrap();
    for words in ["rte_eth_rx_queue_setup(port 0 net_af_packet0, queue 0)", "[dataplane]", "mtu", "framesz"] {
        assert!(last.contains(words), "{words}: {}", done.stderr);
    }
}

#[test]
fn a_lock_survives_kill_9_and_holds_for_the_first_packet_of_the_next_life() {
    if !common::have_root_and_netns() {
        skip!("needs root and network namespaces");
    }
    let ns = Namespaces::new();
    ns.fix_neighbours();
    let appliance = veth("");
    let decisions = appliance.policy(&[(Namespaces::SERVER, BOTH), (Namespaces::SERVER_V6, BOTH)], &[]);
    let first = appliance.start_in(&ns);
    ping(&ns, &["-I", Namespaces::SERVER_2, Namespaces::REMOTE]);
    assert!(!ns.pings("in", Namespaces::SERVER, Namespaces::REMOTE));
    first.kill9();
    assert!(
        !ns.pings("in", Namespaces::SERVER_2, Namespaces::REMOTE),
        "without a dataplane the wire is down"
    );
    drop(decisions);

    // A locked server keeps talking while nobody enforces, and when somebody does again. Nobody hears it.
    let watched = ["host", Namespaces::SERVER, "or", "host", Namespaces::SERVER_V6];
    let options = ["-n", "--immediate-mode", "-Q", "in", "-i", "out0"];
    let heard = ns.spawn("out", "tcpdump", &[&options[..], &watched].concat());
    heard.wait_for_line("listening on", SOON);
    let flood = ["-q", "-n", "-i", "0.002", "-I", Namespaces::SERVER, Namespaces::REMOTE];
    let _talking = ns.spawn("in", "ping", &flood);
    let second = appliance.start_in(&ns);
    let facts = appliance.facts();
    eventually("the locked server is seen and dropped", SOON, || {
        (Balance::of(&facts, Side::Inside).packets(Verdict::DropLockedOut) > 100).then_some(())
    });
    assert!(!ns.pings("in", Namespaces::SERVER_V6, Namespaces::REMOTE_V6), "an IPv6 server without flags");
    ping(&ns, &["-I", Namespaces::SERVER_2, Namespaces::REMOTE]);
    heard.term(SOON);
    assert_eq!(heard.wait_for_line("packets captured", SOON), "0 packets captured", "{}", heard.log());
    stop(&appliance, &second);
}

#[test]
fn a_lock_and_the_bypass_switch_take_effect_on_running_traffic() {
    if !common::have_root_and_netns() {
        skip!("needs root and network namespaces");
    }
    let ns = Namespaces::new();
    ns.fix_neighbours();
    let appliance = veth("");
    let decisions = appliance.policy(&[], &[]);
    let daemon = appliance.start_in(&ns);
    let facts = appliance.facts();
    decisions.policy.flags_hold_for(facts.header().incarnation.load(Relaxed));
    ping(&ns, &["-I", Namespaces::SERVER, Namespaces::REMOTE]);

    let host = decisions.host(Namespaces::SERVER);
    decisions.policy.set_flags(host, HostFlags(HostFlags::LOCK_IN));
    assert!(!ns.pings("in", Namespaces::SERVER, Namespaces::REMOTE), "the answer is dropped");
    assert!(Balance::of(&facts, Side::Outside).packets(Verdict::DropLockedIn) > 0);
    assert_eq!(Balance::of(&facts, Side::Inside).packets(Verdict::DropLockedOut), 0);
    ping_once(&ns, "in", &["-I", Namespaces::SERVER_2, Namespaces::REMOTE]);

    std::fs::create_dir_all(appliance.path("run")).unwrap();
    let switch = appliance.path("run/bypass");
    let mark = daemon.mark();
    std::fs::write(&switch, "").unwrap();
    daemon.wait_for_line_after(mark, "bypass (direct) on", SOON);
    ping(&ns, &["-I", Namespaces::SERVER, Namespaces::REMOTE]);
    std::fs::remove_file(&switch).unwrap();
    daemon.wait_for_line_after(mark, "bypass (direct) off", SOON);
    assert!(!ns.pings("in", Namespaces::SERVER, Namespaces::REMOTE));
    decisions.policy.set_flags(host, HostFlags(0));
    ping(&ns, &["-I", Namespaces::SERVER, Namespaces::REMOTE]);
    stop(&appliance, &daemon);
}

#[test]
fn a_server_source_from_outside_is_counted_and_dropped_only_where_the_network_is_strict() {
    if !common::have_root_and_netns() {
        skip!("needs root and network namespaces");
    }
    let ns = Namespaces::new();
    ns.fix_neighbours();
    // Someone outside with an address of the servers' network.
    ns.add_address("out", "10.77.0.50/24");
    ip(
        &ns,
        "in",
        &format!("neigh replace 10.77.0.50 lladdr {} dev in0 nud permanent", Namespaces::GATEWAY_MAC),
    );
    let appliance = veth("");
    let decisions = appliance.policy(&[], &[]);
    let daemon = appliance.start_in(&ns);
    let facts = appliance.facts();
    decisions.policy.flags_hold_for(facts.header().incarnation.load(Relaxed));
    ping_once(&ns, "out", &["-I", "10.77.0.50", Namespaces::SERVER]);
    let counted = || facts.workers()[0].side(Side::Outside).internal_source_outside.load(Relaxed);
    assert_eq!(counted(), 1);
    decisions.policy.set_flags(decisions.host("10.77.0.50"), HostFlags(HostFlags::STRICT));
    assert!(!ns.pings("out", "10.77.0.50", Namespaces::SERVER));
    let ([_, outside], _) = stop(&appliance, &daemon);
    assert_eq!((counted(), outside.packets(Verdict::DropSpoofed)), (2, 1));
    let line = decisions.line(&facts, "10.77.0.50", Dir::Out);
    assert_eq!(line.packets, 0, "a server is never blamed for what comes from outside");
}

#[test]
fn a_second_instance_refuses_while_traffic_flows() {
    if !common::have_root_and_netns() {
        skip!("needs root and network namespaces");
    }
    let ns = Namespaces::new();
    let appliance = veth("");
    let first = appliance.start_in(&ns);
    let second = appliance.spawn_in(&ns, &appliance.path("cordon.toml")).finish(SOON);
    assert_eq!(second.status.code(), Some(1));
    assert!(second.stderr.contains(&format!("held by process {}", first.id())), "{}", second.stderr);
    ping(&ns, &[Namespaces::GATEWAY]);
    stop(&appliance, &first);
}

#[test]
fn a_broken_configuration_falls_back_and_traffic_flows_with_its_locks() {
    if !common::have_root_and_netns() {
        skip!("needs root and network namespaces");
    }
    let ns = Namespaces::new();
    ns.fix_neighbours();
    let appliance = veth("");
    let decisions = appliance.policy(&[(Namespaces::SERVER, BOTH)], &[]);
    assert!(decisions.policy.keep_config(&appliance.config()));
    let broken = appliance.write_config(&appliance.config().replace("box_in", "box_in\" oops"));
    let daemon = appliance.spawn_in(&ns, &broken);
    daemon.wait_for_line("running with the last good one", SOON);
    daemon.wait_for_line("forwarding: ", SOON);
    ping(&ns, &["-I", Namespaces::SERVER_2, Namespaces::REMOTE]);
    assert!(!ns.pings("in", Namespaces::SERVER, Namespaces::REMOTE));
    stop(&appliance, &daemon);
}

#[test]
fn tun_fragments_pass_as_fragments() {
    if !common::have_root_and_netns() {
        skip!("needs root and network namespaces");
    }
    // net_af_packet asks the kernel to put fragments together, so this needs another driver, joined to the box's ends
    // by bridges.
    let ns = Namespaces::new();
    ns.fix_neighbours();
    let appliance = Appliance::new("net_tap0,iface=tap_in", "net_tap1,iface=tap_out");
    let decisions = appliance.policy(&[(Namespaces::SERVER_2, HostFlags::LOCK_OUT)], &[]);
    let daemon = appliance.start_in(&ns);
    // Where netfilter looks into bridges it would put fragments together, too. Kernels without it lack the knob.
    ns.run("box", "sysctl", &["-qw", "net.bridge.bridge-nf-call-iptables=0"], SOON);
    for side in ["in", "out"] {
        ip(&ns, "box", &format!("link add br_{side} type bridge mcast_snooping 0 forward_delay 0"));
        ip(&ns, "box", &format!("link set box_{side} master br_{side}"));
        ip(&ns, "box", &format!("link set tap_{side} master br_{side}"));
        ip(&ns, "box", &format!("link set br_{side} up"));
    }
    eventually("the bridges forward", SOON, || {
        ns.pings("in", Namespaces::SERVER, Namespaces::REMOTE).then_some(())
    });
    let facts = appliance.facts();
    let line = |server: &str, dir: Dir| decisions.line(&facts, server, dir);
    let before = Dir::ALL.map(|d| line(Namespaces::SERVER, d));
    ping(&ns, &["-s", "4000", "-I", Namespaces::SERVER, Namespaces::REMOTE]);
    // The locked one's are dropped, every one of them.
    let once =
        ["-q", "-n", "-c", "1", "-W", "1", "-s", "4000", "-I", Namespaces::SERVER_2, Namespaces::REMOTE];
    assert!(!ns.run("in", "ping", &once, TRAFFIC).status.success());
    stop(&appliance, &daemon);
    for (dir, before) in Dir::ALL.into_iter().zip(before) {
        let since = line(Namespaces::SERVER, dir).since(&before);
        assert_eq!((since.packets, since.icmp, since.fragments, since.dropped), (15, 15, 15, 0), "{dir:?}");
    }
    let locked = line(Namespaces::SERVER_2, Dir::Out);
    assert_eq!((locked.fragments, locked.dropped), (3, 3));
}

#[test]
fn tun_link_down_on_one_side_shows_on_the_other_and_comes_back() {
    if !common::have_root_and_netns() {
        skip!("needs root and network namespaces");
    }
    let ns = Namespaces::new();
    let appliance = Appliance::new("net_tap0,iface=tap_in", "net_tap1,iface=tap_out");
    let daemon = appliance.start_in(&ns);
    let facts = appliance.facts();
    let ports = &facts.ports()[..2];
    let up = |interface: &str| {
        let said = ns.run("box", "ip", &["-o", "link", "show", interface], SOON).expect_success();
        said.contains("LOWER_UP")
    };
    for (pulled, other, name, other_name) in [(0, 1, "tap_in", "tap_out"), (1, 0, "tap_out", "tap_in")] {
        eventually("both links are up", SOON, || {
            (up("tap_in") && up("tap_out") && ports.iter().all(|p| p.link_up.load(Relaxed) == 1))
                .then_some(())
        });
        ip(&ns, "box", &format!("link set {name} down"));
        eventually("the other side is down too", SOON, || {
            (!up(other_name)
                && ports[other].held_down.load(Relaxed) == 1
                && ports[other].link_up.load(Relaxed) == 0)
                .then_some(())
        });
        assert_eq!(
            ports[pulled].held_down.load(Relaxed),
            0,
            "a side that is held says nothing about its peer"
        );
        ip(&ns, "box", &format!("link set {name} up"));
    }
    eventually("both links are up again", SOON, || (up("tap_in") && up("tap_out")).then_some(()));
    assert!(daemon.term(STOP).success());
    // What the driver says of packets sent while its interface was down adds up to nothing.
    assert_decided(&facts);
}
