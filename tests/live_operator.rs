//! What an operator can take back or switch while traffic flows: bypass, rules, exemptions, the breaker, undo, check.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails here")]

mod common;

use std::time::Duration;

use common::site::{SOON, Site};
use common::stream::Stream;
use common::{Namespaces, eventually, skip};
use serde_json::Value;

const SERVER: &str = Namespaces::SERVER;
const SERVER_2: &str = Namespaces::SERVER_2;
const REMOTE: &str = Namespaces::REMOTE;
const PAUSE: Duration = Duration::from_millis(1);
const RULE: &str = "syn-out";

const LIMITS: &str = "
[limits.out]
syn = { warn_fast = 200, lock_fast = 500 }
[breaker]
locks_min = 2
";

/// A flood that crosses the limit, from a server.
fn flood(site: &Site, server: &str) {
    site.hping3("in", 2_000, &["-S", "-p", "80", "-a", server, REMOTE]);
}

/// The latest incident of a server, once it says that its furthest action is this one.
fn wait_incident(site: &Site, server: &str, action: &str) -> Value {
    eventually(&format!("{server}: {action}"), SOON, || {
        site.incidents(server).into_iter().next().filter(|i| i["action"] == action)
    })
}

#[test]
fn bypass_opens_every_lock_with_and_without_cordond() {
    if !common::have_root_and_netns() {
        skip!("needs root and network namespaces");
    }
    let site = Site::new("");
    let cordond = site.start();
    site.ask(&["lock", SERVER, "--reason", "abuse"]);
    let out = Stream::start(&site.ns, "in", SERVER, REMOTE, PAUSE);
    let inbound = Stream::start(&site.ns, "out", REMOTE, SERVER, PAUSE);
    let both = |what: &dyn Fn(&Stream)| [&out, &inbound].into_iter().for_each(what);
    let opens = || both(&|s| s.wait_arrived(100, SOON));
    let closes = || both(&|s| s.wait_cut_off(200, SOON));
    both(&|s| s.wait_sent(100, SOON));
    both(&|s| assert_eq!(s.arrived(), 0));

    site.ask(&["bypass", "on"]);
    opens();
    let status = site.status();
    assert_eq!(status["bypass"], "on");
    assert!(status["attention"][0]["text"].as_str().unwrap().contains("bypass is on"), "{status}");
    site.ask(&["bypass", "off"]);
    closes();

    site.ask(&["bypass", "on", "--direct"]);
    opens();
    eventually("status tells the direct switch", SOON, || {
        (site.status()["bypass"] == "direct").then_some(())
    });
    site.ask(&["bypass", "off", "--direct"]);
    closes();

    cordond.kill9();
    out.wait_sent(100, SOON);
    closes();
    site.ask(&["bypass", "on", "--direct"]);
    opens();
    site.ask(&["bypass", "off", "--direct"]);
    closes();

    // A bypass that cordond was told of stands in the store, and holds over its death.
    let cordond = site.start_control(&["--with-dataplane"]);
    site.wait_enforcing(0);
    site.ask(&["bypass", "on"]);
    opens();
    eventually("it is stored", SOON, || (!site.attention().contains("nothing is stored")).then_some(()));
    cordond.kill9();
    opens();
    let _cordond = site.start_control(&["--with-dataplane"]);
    opens();
    assert_eq!(site.status()["bypass"], "on");
    site.ask(&["bypass", "off"]);
    closes();
    assert_eq!(site.locks(), [format!("{SERVER} both abuse")]);
}

#[test]
fn a_rule_that_observes_and_a_server_that_is_exempt_are_not_locked() {
    if !common::have_root_and_netns() {
        skip!("needs root and network namespaces");
    }
    let site = Site::new(LIMITS);
    let cordond = site.start();
    site.ask(&["rule", RULE, "observe"]);
    flood(&site, SERVER);
    let incident = wait_incident(&site, SERVER, "observe");
    assert!(incident["held_back"].as_str().unwrap().contains("set to observe"), "{incident}");
    assert!(site.locks().is_empty());
    assert!(site.attention().contains("syn-out is set to observe"));

    // Both survive the death of cordond.
    site.ask(&["exempt", SERVER_2, "--rule", RULE, "--for", "1h"]);
    cordond.kill9();
    let _cordond = site.start_control(&["--with-dataplane"]);
    site.wait_enforcing(0);
    site.ask(&["rule", RULE, "enforce"]);
    flood(&site, SERVER_2);
    let incident = wait_incident(&site, SERVER_2, "observe");
    assert!(incident["held_back"].as_str().unwrap().contains("exempted"), "{incident}");
    assert_eq!(site.ask(&["show", SERVER_2])["exemptions"][0][0], RULE);
    assert!(site.locks().is_empty());

    flood(&site, SERVER);
    wait_incident(&site, SERVER, "lock");
    assert_eq!(site.locks(), [format!("{SERVER} out attack-out")]);
    let unknown = site.cli.json(&["rule", "syn-sideways", "observe"]).unwrap_err();
    assert_eq!(unknown.code, 4, "{unknown:?}");
}

#[test]
fn the_breaker_stops_a_rule_and_all_it_did_is_taken_back_at_once() {
    if !common::have_root_and_netns() {
        skip!("needs root and network namespaces");
    }
    let site = Site::new(LIMITS);
    let cordond = site.start();
    site.ask(&["lock", "10.77.0.99", "--reason", "non-payment"]);
    let servers = ["10.77.0.21", "10.77.0.22", "10.77.0.23", "10.77.0.24"];
    for (i, server) in servers.iter().enumerate() {
        flood(&site, server);
        let incident = eventually("an incident", SOON, || site.incidents(server).pop());
        site.wait_quiet(server);
        let incident = site.ask(&["incident", incident["id"].as_str().unwrap()]);
        let held = incident["held_back"].as_str().is_some_and(|w| w.contains("breaker"));
        assert_eq!((&incident["action"] == "lock", held), (i < 2, i >= 2), "{incident}");
    }
    let waiting = serde_json::json!(servers[2..]);
    let breakers = site.ask(&["breaker", "status"]);
    assert_eq!(
        (&breakers[0]["rule"], &breakers[0]["locks"], &breakers[0]["waiting"]),
        (&RULE.into(), &2.into(), &waiting),
        "{breakers}"
    );
    assert!(site.attention().contains("the breaker of syn-out is latched"));
    let automatic = |n: usize| servers.iter().take(n).map(|s| format!("{s} out attack-out"));
    let expected = |n| automatic(n).chain(["10.77.0.99 both non-payment".to_owned()]).collect::<Vec<_>>();
    assert_eq!(site.locks(), expected(2), "what stood stands");

    // A latched rule, and who waits for the operator, stay so over the death of cordond.
    cordond.kill9();
    let _cordond = site.start_control(&["--with-dataplane"]);
    site.wait_enforcing(0);
    assert_eq!(site.ask(&["breaker", "status"]), breakers);
    site.ask(&["breaker", "reset", RULE]);
    assert_eq!(site.ask(&["breaker", "status"]), serde_json::json!([]));
    assert_eq!(site.cli.json(&["breaker", "reset", RULE]).unwrap_err().code, 4);
    flood(&site, servers[2]);
    site.wait_locked(servers[2]);

    let undo = ["unlock", "--rule", RULE, "--since", "1h"];
    let would = site.ask(&[&undo[..], &["--dry-run"]].concat());
    assert_eq!(would.as_array().map(Vec::len), Some(3), "{would}");
    assert_eq!(site.locks(), expected(3), "a dry run changes nothing");
    for server in servers {
        site.wait_quiet(server);
    }
    let lifted = site.ask(&undo);
    assert_eq!(lifted.as_array().map(Vec::len), Some(3), "{lifted}");
    assert_eq!(site.locks(), expected(0), "an operator's own lock stays");
    assert_eq!(site.cli.json(&undo).unwrap_err().code, 4);
}

#[test]
fn a_server_that_is_let_back_while_it_still_floods_is_locked_again() {
    if !common::have_root_and_netns() {
        skip!("needs root and network namespaces");
    }
    let mut site = Site::new("");
    let _cordond = site.start();
    let _ping = site.ns.spawn("in", "ping", &["-q", "-n", "-i", "0.05", "-I", SERVER_2, REMOTE]);
    let stream = Stream::start(&site.ns, "in", SERVER, REMOTE, Duration::from_micros(500));
    stream.wait_arrived(2_000, SOON);
    assert!(site.locks().is_empty());
    // A limit that is lowered holds for those who are above it already.
    site.sections = "[limits.out]\nudp = { warn_fast = 50, lock_fast = 100 }\n".to_owned();
    site.write_config();
    site.ask(&["reload"]);
    let first = site.wait_locked(SERVER);
    stream.wait_cut_off(100, SOON);
    site.ask(&["unlock", SERVER]);
    let second = site.wait_locked(SERVER);
    assert_ne!(first["id"], second["id"]);
    assert_eq!(first["incident"], second["incident"], "it is the same attack");
    stream.wait_cut_off(100, SOON);
}

#[test]
fn check_says_what_is_wrong_before_a_reload_would() {
    if !common::have_root_and_netns() {
        skip!("needs root and network namespaces");
    }
    let mut site = Site::new("");
    let _cordond = site.start();
    let file = site.config();
    let file = file.to_str().unwrap();
    assert_eq!(site.ask(&["check", file])["ok"], true);
    site.sections = "[limits.out]\nsyn = { lock_fast = \"many\" }\n".to_owned();
    site.write_config();
    let wrong = site.cli.run(&["check", file]);
    assert_eq!(wrong.status.code(), Some(1), "{wrong:?}");
    let line = std::fs::read_to_string(file).unwrap().lines().count();
    assert!(wrong.stderr.contains(&format!("cordon.toml:{line}:")), "{wrong:?}");
    let refused = site.cli.json(&["reload"]).unwrap_err();
    assert!(refused.message.contains("stays in force"), "{refused:?}");
    assert!(site.ns.pings("in", SERVER, REMOTE));
    // A file that is mended is taken, and the complaint ends.
    assert!(site.attention().contains("was not taken"));
    site.sections = String::new();
    site.write_config();
    site.ask(&["reload"]);
    assert!(!site.attention().contains("was not taken"), "{}", site.attention());
}
