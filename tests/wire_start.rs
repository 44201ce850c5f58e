//! How `cordon-dataplane` starts, refuses, waits, dies and comes back; on devices that need neither root nor a network.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails here")]

mod common;

use std::process::Command;
use std::time::Duration;

use common::dataplane::{Appliance, BOTH, SOON, STOP, assert_balanced};
use common::pcap::{self, Frames};
use common::{Daemon, bin, run};
use region::addressing::Addressing;
use region::segment::SegmentRules;
use region::{Capacities, HostFlags, Policy, Side, Verdict};
use std::sync::atomic::Ordering::Relaxed;

/// Between two devices that always have packets.
fn null() -> Appliance {
    Appliance::new("net_null0", "net_null1")
}

/// Runs it to its end, which has to be a refusal; returns what it said.
fn refused(appliance: &Appliance, code: i32) -> String {
    let done = run(&appliance.command(), SOON);
    assert_eq!(done.status.code(), Some(code), "{}", done.stderr);
    done.stderr
}

/// The last line: the cause, and what to do.
fn last(text: &str) -> &str {
    text.trim_end().lines().last().unwrap_or_default()
}

#[test]
fn help_says_what_it_is_and_how_it_ends() {
    let mut command = Command::new(bin("cordon-dataplane"));
    command.arg("--help");
    let help = run(&command, SOON).expect_success();
    for word in
        ["--config", "/etc/cordon/cordon.toml", "SIGTERM", "Exit codes", "bypass", "[dataplane] start_wait"]
    {
        assert!(help.contains(word), "{word}: {help}");
    }
    let longest = help.lines().map(str::len).max().unwrap();
    assert!(longest <= 120, "a line of {longest} characters");
}

#[test]
fn a_device_that_is_not_there_is_named_with_the_cause_and_what_to_do() {
    for (port, names) in [
        (
            "net_af_packet0,iface=cordon-none",
            &["rte_eth_dev_get_port_by_name(net_af_packet0)", "interface"][..],
        ),
        ("net_pcap0,rx_pcap=/nonexistent.pcap", &["rte_eth_dev_get_port_by_name(net_pcap0)", "file"]),
        ("ffff:ff:1f.7", &["rte_eth_dev_get_port_by_name(ffff:ff:1f.7)", "vfio-pci", "hugepages.sh"]),
        ("net_nonsense0", &["rte_eal_init", "net_nonsense0", "inside_port"]),
    ] {
        let mut appliance = null();
        appliance.set_wire(port, "net_null1");
        let said = refused(&appliance, 1);
        for name in names {
            assert!(last(&said).contains(name), "{port}: {name} in {said}");
        }
    }
}

#[test]
fn more_queues_than_a_device_has_are_refused_with_both_numbers() {
    let mut appliance = null();
    let capture = appliance.path("empty.pcap");
    pcap::write(&capture, &Frames::new());
    let port =
        format!("net_pcap0,rx_pcap={},tx_pcap={}", capture.display(), appliance.path("sent.pcap").display());
    appliance.set_wire(&port, "net_null1");
    appliance.dataplane.push("queues = 2".into());
    let said = refused(&appliance, 1);
    assert!(last(&said).contains("2 queues are configured, the device has at most 1"), "{said}");
    assert!(last(&said).contains("[dataplane] cores"), "{said}");
}

#[test]
fn a_second_instance_refuses_and_names_the_first() {
    let appliance = null();
    let first = appliance.start();
    let incarnation = appliance.facts().header().incarnation.load(Relaxed);
    let said = refused(&appliance, 1);
    assert!(last(&said).contains(&format!("held by process {}", first.id())), "{said}");
    assert!(last(&said).contains("stop the other one first"), "{said}");
    // The first one is none the worse.
    assert!(first.is_running());
    assert_eq!(appliance.facts().header().incarnation.load(Relaxed), incarnation);
    assert!(first.term(STOP).success());
}

#[test]
fn a_broken_configuration_without_an_earlier_one_is_refused() {
    let appliance = null();
    let path = appliance.write_config(&format!("{}mtu = = 3\n", appliance.config()));
    let mut command = Command::new(bin("cordon-dataplane"));
    command.arg("--config").arg(&path);
    let done = run(&command, SOON);
    assert_eq!(done.status.code(), Some(2), "{}", done.stderr);
    assert!(last(&done.stderr).contains(&format!("cordon check {}", path.display())), "{}", done.stderr);
}

#[test]
fn a_broken_configuration_falls_back_on_the_last_good_one_loudly() {
    let appliance = null();
    let decisions = appliance.policy(&[], &[]);
    assert!(decisions.policy.keep_config(&appliance.config()));
    let path = appliance.write_config(&format!("{}mtu = = 3\n", appliance.config()));
    let mut command = Command::new(bin("cordon-dataplane"));
    command.arg("--config").arg(&path);
    let daemon = Daemon::spawn("cordon-dataplane", &command);
    daemon.wait_for_line("forwarding: ", SOON);
    assert!(daemon.log().contains("running with the last good one"), "{}", daemon.log());
    assert!(daemon.log().contains(&path.display().to_string()), "it names the broken file: {}", daemon.log());
    assert!(daemon.term(STOP).success());
}

/// A wire whose inside plays frames; the outside says nothing.
fn playing(appliance: &mut Appliance, frames: &[Vec<u8>]) {
    let file = |name: &str| appliance.path(name).display().to_string();
    pcap::write(&appliance.path("in.pcap"), frames);
    pcap::write(&appliance.path("nothing.pcap"), &Frames::new());
    let inside = format!("net_pcap0,rx_pcap={},tx_pcap={}", file("in.pcap"), file("back.pcap"));
    let outside = format!("net_pcap1,rx_pcap={},tx_pcap={}", file("nothing.pcap"), file("out.pcap"));
    appliance.set_wire(&inside, &outside);
}

/// IPv4 packets of these last octets of 10.77.0.0/24, in turn.
fn packets(servers: &[u8], rounds: u8) -> Frames {
    let packet = |server: u8, round: u8| {
        let mut f =
            vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, 0x45, 0, 0, 20, 0, round, 0, 0, 64, 255, 0, 0];
        f.extend([10, 77, 0, server, 10, 78, 0, 1]);
        f
    };
    (0..rounds).flat_map(|round| servers.iter().map(move |s| packet(*s, round))).collect()
}

fn of(frames: &[Vec<u8>], servers: &[u8]) -> Frames {
    frames.iter().filter(|f| servers.contains(&f[29])).cloned().collect()
}

/// Lets the inside play to its end and stops; the outside has sent exactly what was expected.
fn finish(appliance: &Appliance, daemon: &Daemon, played: usize, expected: &Frames) {
    appliance.wait_received(Side::Inside, played as u64);
    assert!(daemon.term(STOP).success(), "{}", daemon.log());
    pcap::assert_same("sent outside", &pcap::read(&appliance.path("out.pcap")), expected);
    let [inside, _] = assert_balanced(&appliance.facts());
    assert_eq!(inside.packets(Verdict::DropLockedOut), (played - expected.len()) as u64);
}

#[test]
fn after_kill_9_locks_hold_from_the_first_packet_and_old_flags_mean_nothing() {
    let frames = packets(&[10, 11, 12], 200);
    let mut appliance = Appliance::new("", "");
    playing(&mut appliance, &frames);
    let decisions = appliance.policy(&[("10.77.0.10", BOTH)], &[]);
    let first = appliance.start();
    // Control acknowledges the first life: from now on flags say what is locked there, and here they are wrong.
    decisions.policy.set_flags(decisions.host("10.77.0.12"), HostFlags(BOTH));
    let life = appliance.facts().header().incarnation.load(Relaxed);
    decisions.policy.flags_hold_for(life);
    appliance.wait_received(Side::Inside, frames.len() as u64);
    first.kill9();

    // One more lock while nothing runs. No control lives in the second life.
    decisions.publish(&[("10.77.0.10/31", BOTH)], &[]);
    drop(decisions);
    let second = appliance.start();
    assert_ne!(appliance.facts().header().incarnation.load(Relaxed), life);
    finish(&appliance, &second, frames.len(), &of(&frames, &[12]));
}

#[test]
fn a_cold_start_waits_for_policy_and_then_enforces_from_the_first_packet() {
    let frames = packets(&[10, 11], 100);
    let mut appliance = Appliance::new("", "");
    playing(&mut appliance, &frames);
    appliance.start_wait = "60s";
    let daemon = Daemon::spawn("cordon-dataplane", &appliance.command());
    daemon.wait_for_line("waiting for cordond", SOON);
    let _decisions = appliance.policy(&[("10.77.0.11", HostFlags::LOCK_OUT)], &[]);
    daemon.wait_for_line("forwarding: ", SOON);
    finish(&appliance, &daemon, frames.len(), &of(&frames, &[10]));
}

#[test]
fn a_start_that_waits_for_policy_is_stopped_at_once() {
    let mut appliance = null();
    appliance.start_wait = "600s";
    let daemon = Daemon::spawn("cordon-dataplane", &appliance.command());
    daemon.wait_for_line("waiting for cordond", SOON);
    assert!(daemon.term(STOP).success());
}

#[test]
fn without_policy_it_forwards_and_says_that_nothing_is_enforced() {
    let frames = packets(&[10, 11], 10);
    let mut appliance = Appliance::new("", "");
    playing(&mut appliance, &frames);
    let daemon = appliance.start();
    daemon.wait_for_line("WITHOUT ENFORCING", SOON);
    assert_eq!(appliance.facts().workers()[0].enforcing.load(Relaxed), 0);
    finish(&appliance, &daemon, frames.len(), &frames);
}

#[test]
fn the_bypass_switch_of_before_the_start_holds_from_the_first_packet() {
    let frames = packets(&[10, 11], 100);
    let mut appliance = Appliance::new("", "");
    playing(&mut appliance, &frames);
    let _decisions = appliance.policy(&[("10.77.0.10", BOTH)], &[]);
    std::fs::create_dir_all(appliance.path("run")).unwrap();
    std::fs::write(appliance.path("run/bypass"), "").unwrap();
    let daemon = appliance.start();
    daemon.wait_for_line("bypass (direct) on", SOON);
    finish(&appliance, &daemon, frames.len(), &frames);
}

#[test]
fn policy_with_other_table_sizes_is_not_used_and_that_is_said() {
    let appliance = null();
    std::fs::create_dir_all(appliance.tables()).unwrap();
    let c = Capacities { workers: 0, hosts_v4: 256, hosts_v6: 64, locks: 64 };
    let other = || {
        let (policy, _) = Policy::open_or_create(&appliance.tables(), c, 64, [1, 2]).unwrap();
        policy.publish_addressing(&Addressing::default()).unwrap();
        policy.publish_locks(&[], &[], &SegmentRules::default()).unwrap();
    };
    other();
    let daemon = appliance.start();
    daemon.wait_for_line("restart cordon-dataplane after changing [tables]", SOON);
    // One that fits is taken up while it runs; the next that does not is told, and the one before stays in force.
    let decisions = appliance.policy(&[], &[]);
    daemon.wait_for_line("policy attached", SOON);
    drop(decisions);
    let mark = daemon.mark();
    other();
    daemon.wait_for_line_after(mark, "the policy from before stays in force", SOON);
    let facts = appliance.facts();
    common::eventually("still enforcing", Duration::from_secs(10), || {
        (facts.workers()[0].enforcing.load(Relaxed) == 1).then_some(())
    });
    assert!(daemon.term(STOP).success());
}
