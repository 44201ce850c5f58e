//! Ten thousand servers scan at once: the breaker of that rule trips and says so, and everything else goes on.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails here")]
#![expect(clippy::print_stdout, reason = "what was measured")]

mod common;

use std::net::Ipv4Addr;
use std::time::Duration;

use common::internet::{connect, server};
use common::packets::{at, nth, udp};
use common::raw::{Flood, Raw};
use common::site::{SOON, Site};
use common::{Namespaces, eventually, skip};
use serde_json::Value;

const SCANNERS: u32 = 10_000;
const FIRST: Ipv4Addr = Ipv4Addr::new(10, 80, 0, 1);
/// Of all together: two contacts a second each.
const PPS: u32 = 20_000;
/// What two contacts a second come to soon: the breaker is what is shown here, not the limit.
const SCAN: &str = "[scan]\nnetscan_worm = { fast = 8, slow = 8 }\n";
const PINGS: [&str; 7] = ["-q", "-n", "-i", "0.05", "-I", Namespaces::SERVER_2, Namespaces::REMOTE];
const MINUTES: Duration = Duration::from_secs(180);

/// The row of a rule that is latched.
fn latched(site: &Site, rule: &str) -> Option<Value> {
    let rows = site.ask(&["breaker", "status"]);
    rows.as_array().unwrap().iter().find(|r| r["rule"] == rule).cloned()
}

#[test]
fn when_ten_thousand_servers_scan_the_breaker_trips_and_other_rules_and_manual_locks_go_on() {
    if !common::have_root_and_netns() {
        skip!("needs root and network namespaces");
    }
    if let Some(tool) = common::lacks(&["nmap"]) {
        skip!("{tool} is not installed");
    }
    let mut site = Site::new(SCAN);
    site.hosts = 32_768;
    site.networks.push("10.80.0.0/18".to_owned());
    site.write_config();
    connect(&site);
    let _cordond = site.start();
    let _ping = site.ns.spawn("in", "ping", &PINGS);
    let [other, abused] = [20, 21].map(|n| server(&site, n));
    site.ask(&["lock", &abused, "--reason", "abuse"]);

    let flood = Flood::start(Raw::open(&site.ns, "in"), PPS, |n| {
        let from = at(nth(FIRST, n % SCANNERS), 30_000);
        udp(from, at(nth(Ipv4Addr::new(45, 65, 0, 0), n / SCANNERS), 3_389), 20)
    });
    let row = eventually("the breaker of netscan trips", MINUTES, || {
        latched(&site, "netscan").filter(|r| r["waiting"].as_array().unwrap().len() > 100)
    });
    let active = site.status()["active_hosts"].as_u64().unwrap();
    let locks = row["locks"].as_u64().unwrap();
    println!("{active} servers move, {locks} were locked, {} wait", row["waiting"].as_array().unwrap().len());
    // Half a percent of ten thousand are 50; 20 where it tripped before all had begun.
    assert!((20..=u64::from(SCANNERS) / 200 + 2).contains(&locks), "{row}");
    let shown = site.cli.run(&["breaker", "status"]).expect_success();
    assert!(shown.contains("netscan"), "{shown}");
    assert!(site.attention().contains("netscan"), "{}", site.attention());

    // While it goes on: another rule, locks and unlocks by hand, of scanners too.
    let options = "-n -Pn -sS --max-retries 0 --min-rate 300 --max-rate 600 --send-ip -e in0 -p 1-5000";
    let options = format!("{options} -S {other} 45.64.0.1");
    let words: Vec<&str> = options.split_whitespace().collect();
    let _nmap = site.ns.spawn("in", "nmap", &words);
    assert_eq!(site.wait_locked(&other)["reason"], "portscan");
    assert!(!site.ns.pings("in", &abused, Namespaces::REMOTE), "locked by hand before");
    site.ask(&["unlock", &abused]);
    assert!(site.ns.pings("in", &abused, Namespaces::REMOTE));
    let waiting = row["waiting"][0].as_str().unwrap();
    site.ask(&["lock", waiting, "--reason", "abuse"]);
    assert_eq!(site.ask(&["show", waiting])["enforced"], "both");
    assert!(site.ns.pings("in", Namespaces::SERVER, Namespaces::REMOTE));
    drop(flood);
    let rows = site.locks();
    let by_netscan = rows.iter().filter(|l| l.ends_with(" out netscan")).count() as u64;
    assert_eq!(by_netscan, locks, "latched is latched");
    eventually("all is counted", SOON, || (site.status()["balanced"] == true).then_some(()));
}
