//! A server whose address others use is cleared by Cordon's own counters, in sentences.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails here")]

mod common;

use common::site::{SOON, Site};
use common::{Namespaces, eventually, skip};
use serde_json::Value;

const SERVER: &str = Namespaces::SERVER;
const SERVER_2: &str = Namespaces::SERVER_2;
const REMOTE: &str = Namespaces::REMOTE;

fn evidence(site: &Site, address: &str) -> Value {
    site.ask(&["evidence", address, "--since", "1h", "--claimed", "1000"])
}

fn says(report: &Value, words: &str) -> bool {
    report["findings"].as_array().unwrap().iter().any(|f| f.as_str().unwrap().contains(words))
}

#[test]
fn a_server_whose_address_others_use_is_cleared_and_one_that_did_it_is_not() {
    if !common::have_root_and_netns() {
        skip!("needs root and network namespaces");
    }
    let site = Site::new("");
    let cordond = site.start();
    // Somebody elsewhere scans with its address: what comes back comes here, and its own kernel resets it.
    site.hping3("out", 500, &["-S", "-A", "-p", "1025", "-a", REMOTE, SERVER]);
    // A few frames with its address even come in from outside.
    site.hping3("out", 7, &["-S", "-p", "80", "-a", SERVER, SERVER_2]);
    // Another server really asks.
    site.hping3("in", 40, &["-S", "-p", "80", "-a", SERVER_2, REMOTE]);
    site.at_rest();
    let spoofed = eventually("all is counted", SOON, || {
        let r = evidence(&site, SERVER);
        (r["from_outside"] == 7 && r["unprovoked"].as_u64() >= Some(500)).then_some(r)
    });
    assert_eq!(spoofed["unprovoked"], 500, "{spoofed}");
    assert_eq!(
        (&spoofed["inbound"]["syn_ack"], &spoofed["out"]["syn"]),
        (&500.into(), &0.into()),
        "{spoofed}"
    );
    for words in ["a scan of 1,000 addresses", "500 SYN-ACK and RST came", "7 packets with its address"] {
        assert!(says(&spoofed, words), "{words}: {spoofed}");
    }
    let other = evidence(&site, SERVER_2);
    assert_eq!((&other["out"]["syn"], &other["unprovoked"]), (&40.into(), &0.into()), "{other}");
    // An upgrade of cordond loses nothing of it.
    assert!(cordond.term(SOON).success());
    let _again = site.start_control(&["--with-dataplane"]);
    let told = evidence(&site, SERVER);
    assert_eq!((&told["unprovoked"], &told["from_outside"]), (&500.into(), &7.into()), "{told}");
    assert_eq!(told["inbound"], spoofed["inbound"]);
}
