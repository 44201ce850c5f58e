//! A configuration that is wrong is told where, and what to do.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use config::{Config, Measure, Rule, Way};

const EXAMPLE: &str = include_str!("../../../cordon.example.toml");

#[track_caller]
fn refused(text: &str, line: usize, column: usize, words: &[&str]) {
    let e = Config::parse(text, "cordon.toml").unwrap_err();
    let message = e.to_string();
    assert!(e.positions().contains(&(line, column)), "{:?}\n{message}", e.positions());
    assert!(message.contains(&format!("cordon.toml:{line}:{column}: ")), "{message}");
    for w in words {
        assert!(message.contains(w), "`{w}` is not in:\n{message}");
    }
}

#[test]
fn the_example_is_good_and_states_the_defaults() {
    let c = Config::parse(EXAMPLE, "cordon.example.toml").unwrap_or_else(|e| panic!("{e}"));
    assert!(c.validate_for_run().is_ok());
    let d = Config::replay_default();
    assert_eq!(c.limits, d.limits);
    assert_eq!(c.tables, d.tables);
    assert_eq!(c.breaker.window, d.breaker.window);
    assert_eq!(c.control.socket.to_str(), Some("/run/cordon/cordon.sock"));
    for rule in Rule::all() {
        assert_eq!(c.rule(rule), d.rule(rule), "{rule}");
    }
    assert_eq!(c.limits_for("web").get(Way::Out, Measure::Bits).warn_mean, 900_000_000);
    assert_eq!(c.limits_for("web").get(Way::Out, Measure::Syn).lock_fast, 5_000);
}

#[test]
fn every_mistake_has_a_place_and_an_advice() {
    refused(
        "[run]\ndirr = \"/x\"\n",
        2,
        1,
        &["unknown field `dirr`", "dirr = \"/x\"", "cordon.example.toml"],
    );
    refused("[run\n", 1, 5, &[]);
    refused("[tables]\nhosts = 300\n", 2, 9, &["multiple of 256", "write 512"]);
    refused("[tables]\nipv6_hosts = 100\n", 2, 14, &["power of two", "128"]);
    refused("[dataplane]\nmtu = 20\n", 2, 7, &["68 to 9700"]);
    refused("[dataplane]\nstart_wait = \"5 parsecs\"\n", 2, 14, &["no duration"]);
    refused("[dataplane]\ncores = [1, 2]\nqueues = 3\n", 3, 10, &["cores names 2"]);
    refused("[[network]]\nprefix = \"10.0.0.7/8\"\n", 2, 10, &["do you mean \"10.0.0.0/8\"?"]);
    refused("[[network]]\nprefix = \"10.0.0.0/8\"\n", 2, 10, &["set hosts = 16777216"]);
    refused(
        "[[network]]\nprefix = \"10.0.0.0/24\"\n[[network]]\nprefix = \"10.0.0.128/25\"\n",
        4,
        10,
        &["overlaps", "10.0.0.0/24"],
    );
    refused(
        "[[network]]\nprefix = \"10.0.0.0/24\"\ngroup = \"web\"\n",
        3,
        9,
        &["no group \"web\"", "[[group]]"],
    );
    refused(
        "[[network]]\nprefix = \"10.0.0.0/24\"\ngateways = [\"10.0.1.1\"]\n",
        3,
        13,
        &["not in 10.0.0.0/24"],
    );
    refused(
        "[[wire]]\nname = \"a\"\ninside_port = \"x\"\noutside_port = \"y\"\n",
        2,
        8,
        &["l2", "routed", "no default"],
    );
    refused(
        "[[wire]]\nname = \"a\"\ninside = \"l2\"\ninside_port = \"x\"\noutside_port = \"x,y=1\"\n",
        5,
        16,
        &["named twice"],
    );
    refused("[limits.out]\npackets = { lock_fast = 5 }\n", 2, 1, &["lock_mean"]);
    refused("[limits.out]\nsyn = { warn_fast = 6000 }\n", 2, 1, &["lies above lock_fast = 5000"]);
    refused("[limits.in]\npigs = { warn_fast = 6000 }\n", 2, 1, &["the measures are packets bits"]);
    refused("[rules.netscam]\naction = \"warn\"\n", 1, 8, &["unknown rule `netscam`", "syn-out"]);
    refused("[control]\nmetrics = \"9477\"\n", 2, 11, &["127.0.0.1:9477"]);
    refused("[breaker]\nshare = 7.0\n", 2, 9, &["from 0 to 1"]);
}

#[test]
fn all_semantic_mistakes_are_told_at_once() {
    let text = "[tables]\nhosts = 300\nipv6_hosts = 100\n[rules.x]\n";
    assert_eq!(Config::parse(text, "t").unwrap_err().problems().len(), 3);
}

#[test]
fn a_missing_file_and_an_empty_one_say_what_is_needed() {
    let e = Config::load(std::path::Path::new("/nowhere/cordon.toml")).unwrap_err().to_string();
    assert!(e.contains("/nowhere/cordon.toml") && e.contains("cordon.example.toml"), "{e}");
    let e = Config::parse("", "empty").unwrap().validate_for_run().unwrap_err().to_string();
    assert!(e.contains("[[wire]]") && e.contains("[[network]]"), "{e}");
}

#[test]
fn one_limit_is_set_by_its_key() {
    let mut l = Config::replay_default().limits;
    l.set("out.syn.lock_fast", 500).unwrap();
    assert_eq!(
        (l.get(Way::Out, Measure::Syn).lock_fast, l.get(Way::Out, Measure::Syn).warn_fast),
        (500, 500)
    );
    for (key, words) in [
        ("out.syn", "DIRECTION.MEASURE.VALUE"),
        ("out.pigs.lock_fast", "packets"),
        ("out.packets.lock_fast", "lock_mean"),
    ] {
        assert!(l.set(key, 1).unwrap_err().contains(words), "{key}");
    }
    assert_eq!(l.get(Way::Out, Measure::Packets).lock_fast, 0, "a refused key changes nothing");
}

#[test]
fn no_text_panics() {
    let mut seed = 1u64;
    for _ in 0..3000 {
        let mut bytes = EXAMPLE.as_bytes().to_vec();
        for _ in 0..4 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let at = usize::try_from(seed >> 33).unwrap() % bytes.len();
            match seed % 3 {
                0 => bytes[at] = u8::try_from(seed >> 20 & 0x7f).unwrap(),
                1 => {
                    bytes.remove(at);
                }
                _ => bytes.truncate(at.max(10)),
            }
        }
        if let Err(e) = Config::parse(&String::from_utf8_lossy(&bytes), "fuzz") {
            assert!(!e.to_string().is_empty());
        }
    }
}
