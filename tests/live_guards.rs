//! Wrong network configuration with real tools on a servers' segment: what does harm at once does not reach the other
//! side, the incident says so, and what servers need goes on beside it.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails here")]

mod common;

use std::path::PathBuf;
use std::time::Duration;

use common::site::{Mark, SOON, Site};
use common::{Daemon, Namespaces, eventually, skip};
use serde_json::Value;

const SERVER: &str = Namespaces::SERVER;
const SERVER_2: &str = Namespaces::SERVER_2;
const GATEWAY: &str = Namespaces::GATEWAY;
const REMOTE: &str = Namespaces::REMOTE;

/// What one run of a tool may take.
const TOOL: Duration = Duration::from_secs(60);

/// A segment with its gateway outside, whose hosts find each other by ARP and neighbour discovery.
fn segment(sections: &str) -> (Site, Daemon) {
    let mut site = Site::new(sections);
    site.gateways = vec![GATEWAY.to_owned()];
    site.write_config();
    for side in ["in", "out"] {
        let interface = format!("{side}0");
        for family in ["-4", "-6"] {
            let arguments = [family, "neigh", "flush", "dev", &interface, "nud", "all"];
            site.ns.run(side, "ip", &arguments, SOON).expect_success();
        }
    }
    let cordond = site.start();
    assert!(site.ns.pings("in", SERVER, GATEWAY), "ARP and ICMP pass");
    eventually("the gateway was heard outside", SOON, || {
        (site.status()["guards"]["gateways"] == serde_json::json!([GATEWAY])).then_some(())
    });
    (site, cordond)
}

/// Waits for the incident of a case, until it tells of so many dropped frames.
fn wait_incident(site: &Site, case: &str, dropped: u64) -> Value {
    let found = eventually(&format!("{case}, {dropped} dropped"), SOON, || {
        let all = site.ask(&["incidents"]);
        let mut of_case = all.as_array().unwrap().iter().filter(|i| i["case"] == case);
        of_case.find(|i| i["dropped"].as_u64() >= Some(dropped)).cloned()
    });
    assert_eq!((&found["kind"], &found["mac"]), (&"misconfiguration".into(), &Namespaces::SERVER_MAC.into()));
    assert_eq!(found["action"], "warn", "{found}");
    found
}

/// Packets that were dropped by guards since then.
fn guarded(site: &Site, before: &Mark) -> u64 {
    site.at_rest().verdict("drop_guarded") - before.verdict("drop_guarded")
}

/// Watches what reaches the outside of this kind; ends with [`reached`].
fn watch(site: &Site, filter: &str) -> Daemon {
    // Only what others send: tcpdump sees what its own host sends, too.
    let filter = format!("({filter}) and ether src {}", Namespaces::SERVER_MAC);
    let tcpdump = site.ns.spawn("out", "tcpdump", &["-i", "out0", "-n", "-l", "--immediate-mode", &filter]);
    tcpdump.wait_for_line("listening on", SOON);
    tcpdump
}

fn write(site: &Site, name: &str, text: &str) -> PathBuf {
    let path = site.config().with_file_name(name);
    std::fs::write(&path, text).unwrap();
    path
}

fn reload(site: &mut Site, sections: &str) {
    site.sections = sections.to_owned();
    site.write_config();
    site.ask(&["reload"]);
}

/// Whether a client outside is given an address.
fn gets_lease(site: &Site) -> bool {
    let settings = "timeout 6;\nretry 6;\ninitial-interval 1;\nbackoff-cutoff 2;\n";
    let settings = write(site, "dhclient.conf", settings);
    let leases = site.config().with_file_name("leases");
    let _ = std::fs::remove_file(&leases);
    let (settings, leases) = (settings.to_str().unwrap(), leases.to_str().unwrap());
    let options =
        ["-4", "-1", "-d", "-sf", "/bin/true", "-cf", settings, "-lf", leases, "-pf", "/dev/null", "out0"];
    // With a lease it goes on in the foreground.
    let client = site.ns.spawn("out", "dhclient", &options);
    let answer = eventually("dhclient got an answer or none", TOOL, || {
        let said = client.log();
        ["bound to", "Unable to obtain a lease"].iter().position(|a| said.contains(a))
    });
    answer == 0
}

fn problem(tools: &[&str]) -> Option<String> {
    if !common::have_root_and_netns() {
        return Some("needs root and network namespaces".to_owned());
    }
    common::lacks(tools).map(|tool| format!("{tool} is not installed (./setup.sh test)"))
}

#[test]
fn a_server_that_claims_the_gateway_is_not_heard_outside() {
    if let Some(problem) = problem(&["arpspoof", "tcpdump"]) {
        skip!("{problem}");
    }
    let (site, _cordond) = segment("");
    let before = site.at_rest();
    let seen = watch(&site, "arp and arp[6:2] = 2 and arp[14:4] = 0x0a4d0001");
    // It tells a neighbour of the gateway; the neighbour's MAC it asks for itself.
    let spoof = site.ns.spawn("in", "arpspoof", &["-i", "in0", "-t", REMOTE, GATEWAY]);
    let incident = wait_incident(&site, "arp-spoof", 3);
    // Meanwhile: ARP and ICMP of the same server and of another one, both ways.
    for side in ["in", "out"] {
        site.ns.run(side, "ip", &["neigh", "flush", "dev", &format!("{side}0")], SOON).expect_success();
    }
    assert!(site.ns.pings("in", SERVER, GATEWAY) && site.ns.pings("in", SERVER_2, REMOTE));
    assert!(site.ns.pings("out", GATEWAY, SERVER_2));
    drop(spoof);
    assert!(guarded(&site, &before) >= 3);
    assert_eq!(seen.log().lines().filter(|l| l.contains("is-at")).count(), 0, "{}", seen.log());
    let id = incident["id"].as_str().unwrap();
    let log = std::fs::read_to_string(site.evidence(id, "misconfiguration.log")).unwrap();
    assert!(log.contains("arp-spoof") && log.contains("by a guard"), "{log}");
    let told = site.cli.run(&["incident", id]).expect_success();
    assert!(told.contains("frames, by a guard"), "{told}");
}

#[test]
fn an_offer_of_a_servers_own_dhcp_reaches_nobody() {
    if let Some(problem) = problem(&["dnsmasq", "dhclient"]) {
        skip!("{problem}");
    }
    let off = "[guards]\ndhcp = \"off\"\n";
    let (mut site, _cordond) = segment(off);
    let rogue = "port=0\ninterface=in0\nbind-interfaces\ndhcp-authoritative\ndhcp-range=10.77.0.100,10.77.0.120,2m\n\
                 dhcp-option=3,10.77.0.10\nleasefile-ro\nno-ping\nuser=root\n";
    let rogue = write(&site, "dnsmasq.conf", rogue);
    let dnsmasq = site.ns.spawn("in", "dnsmasq", &["-d", "-C", rogue.to_str().unwrap()]);
    assert!(gets_lease(&site), "with the guard off the client believes it: {}", dnsmasq.log());
    wait_incident(&site, "rogue-dhcp", 0);
    reload(&mut site, "");
    let before = site.at_rest();
    assert!(!gets_lease(&site), "{}", dnsmasq.log());
    assert!(guarded(&site, &before) >= 1);
    wait_incident(&site, "rogue-dhcp", 1);
    assert!(site.ns.pings("in", SERVER, GATEWAY));
}

#[test]
fn a_server_that_advertises_itself_as_a_router_is_not_heard_outside() {
    if let Some(problem) = problem(&["radvd"]) {
        skip!("{problem}");
    }
    let (mut site, _cordond) = segment("[guards]\nra = \"off\"\n");
    let advertisements = |site: &Site| -> u64 {
        let counters = site.ns.run("out", "cat", &["/proc/net/snmp6"], SOON).expect_success();
        let line = counters.lines().find(|l| l.starts_with("Icmp6InRouterAdvertisements")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    site.ns.add_address("in", "fe80::bad/64");
    site.ns.run("in", "sysctl", &["-qw", "net.ipv6.conf.all.forwarding=1"], SOON).expect_success();
    let rogue = "interface in0 { AdvSendAdvert on; MinRtrAdvInterval 3; MaxRtrAdvInterval 4; \
                 prefix 2001:db8:bad::/64 { AdvOnLink on; AdvAutonomous on; }; };\n";
    let rogue = write(&site, "radvd.conf", rogue);
    let pid = site.config().with_file_name("radvd.pid");
    let arguments = ["-n", "-C", rogue.to_str().unwrap(), "-p", pid.to_str().unwrap()];
    let radvd = site.ns.spawn("in", "radvd", &arguments);
    eventually("with the guard off it is heard outside", TOOL, || (advertisements(&site) > 0).then_some(()));
    reload(&mut site, "");
    eventually("the guard is on", SOON, || {
        site.status()["guards"]["on"].as_array().unwrap().contains(&"ra".into()).then_some(())
    });
    site.at_rest();
    let heard = advertisements(&site);
    let incident = wait_incident(&site, "rogue-ra", 2);
    drop(radvd);
    assert_eq!(advertisements(&site), heard, "{incident}");
    // Neighbour discovery goes on beside it.
    for side in ["in", "out"] {
        site.ns.run(side, "ip", &["-6", "neigh", "flush", "dev", &format!("{side}0")], SOON).expect_success();
    }
    assert!(site.ns.pings("in", Namespaces::SERVER_V6, Namespaces::GATEWAY_V6));
}

#[test]
fn spanning_tree_of_servers_is_dropped_to_the_frame_where_the_operator_says_so() {
    if let Some(problem) = problem(&["mausezahn", "tcpdump"]) {
        skip!("{problem}");
    }
    const FRAMES: u64 = 20;
    let (mut site, _cordond) = segment("");
    let send = |site: &Site| {
        let count = FRAMES.to_string();
        let bpdu = ["in0", "-c", &count, "-d", "10m", "-a", Namespaces::SERVER_MAC, "-t", "bpdu", "conf"];
        site.ns.run("in", "mausezahn", &bpdu, TOOL).expect_success();
    };
    let before = site.at_rest();
    send(&site);
    let after = site.assert_nothing_lost(&before);
    assert_eq!(after.verdict("drop_guarded"), before.verdict("drop_guarded"), "a tree is not cut by default");
    wait_incident(&site, "stp", 0);
    reload(&mut site, "[guards]\nstp = \"drop\"\n");
    eventually("the guard is on", SOON, || {
        site.status()["guards"]["on"].as_array().unwrap().contains(&"stp".into()).then_some(())
    });
    let before = site.at_rest();
    send(&site);
    let after = site.assert_nothing_lost(&before);
    assert_eq!(after.verdict("drop_guarded") - before.verdict("drop_guarded"), FRAMES);
    wait_incident(&site, "stp", FRAMES);
    assert!(site.ns.pings("in", SERVER, GATEWAY));
}

#[test]
fn a_device_that_is_locked_by_its_mac_is_cut_off_until_it_is_unlocked() {
    if let Some(problem) = problem(&[]) {
        skip!("{problem}");
    }
    const MAC: &str = Namespaces::SERVER_MAC;
    let (site, _cordond) = segment("");
    let passes = || [site.passes("in", SERVER_2, REMOTE), site.passes("out", REMOTE, SERVER)];
    let lock = |options: &[&str]| site.ask(&[&["lock", MAC, "--reason", "abuse"], options].concat());
    assert_eq!(passes(), [true, true]);
    assert_eq!(lock(&[])[0]["enforced"], true);
    assert_eq!(site.ask(&["show", MAC])["enforced"], "both");
    assert_eq!(site.locks(), [format!("{MAC} both abuse")]);
    let before = site.at_rest();
    assert_eq!(passes(), [false, false], "from each of its addresses");
    let after = site.at_rest();
    assert_eq!(after.verdict("drop_locked_mac") - before.verdict("drop_locked_mac"), 2);
    site.ask(&["unlock", MAC]);
    assert_eq!(passes(), [true, true]);
    lock(&["--direction", "out"]);
    assert_eq!(passes(), [false, true]);
    // The gateway's is not for locking by mistake.
    let gateway = Namespaces::GATEWAY_MAC;
    let refused = site.cli.json(&["lock", gateway, "--reason", "abuse"]).unwrap_err();
    assert!(refused.code == 1 && refused.message.contains("gateway"), "{refused:?}");
    let refused = site.cli.json(&["lock", "ff:ff:ff:ff:ff:ff", "--reason", "abuse"]).unwrap_err();
    assert_eq!(refused.code, 2, "{refused:?}");
}

#[test]
fn packets_from_another_device_are_not_the_servers_own() {
    if let Some(problem) = problem(&[]) {
        skip!("{problem}");
    }
    let (mut site, _cordond) = segment("");
    // The second address belongs to a device that is not here; the first to the one that is.
    let other = "02:00:00:77:00:11";
    let rows =
        format!("id,addresses,macs\nDX-1,{SERVER},{}\nDX-2,{SERVER_2},{other}\n", Namespaces::SERVER_MAC);
    let inventory = write(&site, "inventory.csv", &rows);
    let section = |action: &str| {
        format!("[inventory]\nfile = \"{}\"\n[guards]\nbindings = \"{action}\"\n", inventory.display())
    };
    reload(&mut site, &section("count"));
    eventually("the addresses are bound", SOON, || {
        let bound = |a| site.ask(&["show", a])["bound"].clone();
        (bound(SERVER) == Namespaces::SERVER_MAC && bound(SERVER_2) == other).then_some(())
    });
    let before = site.counted(SERVER_2, "out.packets");
    let own = site.counted(SERVER, "out.packets");
    assert!(site.passes("in", SERVER_2, REMOTE) && site.passes("in", SERVER, REMOTE), "by default both pass");
    assert_eq!(site.counted(SERVER_2, "out.packets"), before, "it did not send that");
    assert_eq!(site.counted(SERVER, "out.packets"), own + 1);
    wait_incident(&site, "wrong-mac", 0);
    reload(&mut site, &section("drop"));
    let start = site.at_rest();
    eventually("what is not its own is dropped", SOON, || {
        (!site.passes("in", SERVER_2, REMOTE)).then_some(())
    });
    assert!(site.passes("in", SERVER, REMOTE) && site.passes("out", REMOTE, SERVER_2));
    assert_eq!(site.at_rest().verdict("drop_spoofed") - start.verdict("drop_spoofed"), 1);
}
