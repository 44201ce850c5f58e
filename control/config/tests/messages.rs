//! A configuration that is wrong is told where, and what to do.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use config::{Config, Measure, Rule, Way};

const EXAMPLE: &str = include_str!("../../../cordon.example.toml");

#[track_caller]
fn refused(text: &str, line: usize, column: usize, words: &[&str]) {
    let e = Config::parse(text, "cordon.toml").unwrap_err();
    let message = e.to_string();
    assert!(e.placed().any(|(at, p)| at == Some((line, column)) && !p.advice.is_empty()), "{message}");
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
    let plain =
        |c: &Config| format!("{:?} {:?} {:?} {:?} {:?}", c.run, c.control, c.breaker, c.unlock, c.evidence);
    assert_eq!(plain(&c), plain(&d));
    assert_eq!((&c.never_lock, &c.exceptions), (&d.never_lock, &d.exceptions));
    let mut dataplane = c.dataplane.clone();
    (dataplane.cores, dataplane.queues, dataplane.eal) = (vec![], 1, vec![]);
    assert_eq!(
        format!("{dataplane:?}"),
        format!("{:?}", d.dataplane),
        "but for what is marked as an example"
    );
    assert_eq!(c.control.socket.to_str(), Some("/run/cordon/cordon.sock"));
    for rule in Rule::all() {
        assert_eq!(c.rule(rule), d.rule(rule), "{rule}");
    }
    assert_eq!(c.limits_for("web").get(Way::Out, Measure::Bits).warn_mean, 900_000_000);
    let least = "[mail]\nserver = \"mail.example.net\"\nfrom = \"Abuse desk <abuse@example.net>\"\n";
    let (said, least) = (c.mail.clone().unwrap(), Config::parse(least, "x").unwrap().mail.unwrap());
    let example = config::Mail {
        desk: said.desk.clone(),
        provider: said.provider.clone(),
        ticket_url: said.ticket_url.clone(),
        ..least
    };
    assert_eq!(said, example, "but for what is marked as an example");
    assert_eq!((said.port, said.from.name.as_deref()), (587, Some("Abuse desk")));
    assert_eq!(Config::parse("", "x").unwrap().mail, None, "nobody is told unless the operator says so");
    assert_eq!(c.limits_for("web").get(Way::Out, Measure::Syn).lock_fast, 5_000);
}

#[test]
fn a_mistake_about_mail_is_told_before_the_first_letter() {
    let with = |lines: &str| format!("[mail]\nserver = \"localhost\"\nfrom = \"a@example.net\"\n{lines}\n");
    refused("[mail]\nserver = \"mail.example.net\"\n", 1, 1, &["missing field `from`"]);
    refused("[mail]\nserver = \"smtp://x\"\nfrom = \"a@b.example\"\n", 2, 10, &["no host name"]);
    for (from, column) in
        [("abuse", 8), ("a b@example.net", 8), ("a@-x", 8), ("Ä <ä@example.net>", 8), ("x <a@b.c", 8)]
    {
        let text = format!("[mail]\nserver = \"localhost\"\nfrom = \"{from}\"\n");
        refused(&text, 3, column, &["no mail address", "abuse@example.net"]);
    }
    refused(&with("desk = [\"a@example.net\", \"b\"]"), 4, 26, &["desk = \"b\""]);
    refused(&with("user = \"cordon\""), 4, 8, &["needs password_file"]);
    refused(&with("password_file = \"/x\""), 4, 17, &["needs user"]);
    refused(&with("user = \"u\"\npassword_file = \"a/b\""), 5, 17, &["relative path", "LoadCredential="]);
    refused(&with("tls = \"ssl\""), 4, 7, &["`ssl`", "`starttls`"]);
    refused(
        "[mail]\nserver = \"192.0.2.1\"\nfrom = \"a@example.net\"\ntls = \"none\"\n",
        4,
        7,
        &["for all to read", "on this machine"],
    );
    refused(&with("language = \"German\""), 4, 12, &["no language"]);
    refused(&with("templates = \"templates\""), 4, 13, &["relative path"]);
    refused(&with("ticket_url = \"example.net\""), 4, 14, &["https://"]);
    refused(&with("delay = \"10min\""), 4, 9, &["out of range"]);
    refused(&with("digest_above = 0"), 4, 16, &["1 to 1000"]);
    refused(&with("provider = \"a\\nb\""), 4, 12, &["one line"]);
    assert!(
        Config::parse(&with("tls = \"none\"\nuser = \"u\"\npassword_file = \"credential\""), "x").is_ok()
    );
}

#[test]
fn every_mistake_has_a_place_and_an_advice() {
    refused(
        "[run]\ndirr = \"/x\"\n",
        2,
        1,
        &["unknown field `dirr`", "dirr = \"/x\"", "cordon.example.toml"],
    );
    refused("[run\n", 1, 5, &["no TOML", "[brackets]"]);
    refused("[tables]\nhosts = 300\n", 2, 9, &["multiple of 256", "write 512"]);
    refused("[tables]\nipv6_hosts = 100\n", 2, 14, &["power of two", "128"]);
    refused("[dataplane]\nmtu = 20\n", 2, 7, &["68 to 9700"]);
    refused("[dataplane]\nstart_wait = \"5 parsecs\"\n", 2, 14, &["no duration"]);
    refused("[evidence]\nsize_max = \"20 GB\"\n", 2, 12, &["no size", "20GiB"]);
    refused("[evidence]\nhistory_max = \"1KiB\"\n", 2, 15, &["too small", "1MiB"]);
    refused("[unlock]\noutbound = \"1m\"\n", 2, 12, &["out of range", "10m"]);
    refused("[rules.syn-in]\nunlock = \"1h\"\n", 2, 10, &["syn-in", "inbound_quiet"]);
    refused("[dataplane]\ncores = [1, 2]\nqueues = 3\n", 3, 10, &["cores names 2"]);
    refused("[[network]]\nprefix = \"10.0.0.7/8\"\n", 2, 10, &["do you mean \"10.0.0.0/8\"?"]);
    refused("[[network]]\nprefix = \"10.0.0.0/8\"\n", 2, 10, &["take 16777216 host ids", "room for 4194304"]);
    refused("[[network]]\nprefix = \"10.0.0.0/14\"\n", 2, 10, &["hosts = 65536", "set hosts = 262144"]);
    refused("[[network]]\nprefix = \"rack 7\"\n", 2, 10, &["no prefix", "192.0.2.0/24"]);
    refused("[[network]]\nprefix = \"2001:db8::/80\"\n", 2, 10, &["ipv6_host_length = 64"]);
    refused("[[network]]\nprefix = \"fc00::/7\"\n", 2, 10, &["too short"]);
    refused("[[network]]\nname = \"x\"\n", 1, 1, &["missing field `prefix`"]);
    refused(
        "[[network]]\nprefix = \"10.0.0.0/24\"\n[[network]]\nprefix = \"10.0.0.128/25\"\n",
        4,
        10,
        &["10.0.0.128/25 on line 4 overlaps 10.0.0.0/24 on line 2", "split the larger"],
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
    refused(
        "[[wire]]\nname = \"a\"\ninside = \"l2\"\ninside_port = \"01:00.0\"\noutside_port = \"0000:01:00.0\"\n",
        5,
        16,
        &["named twice"],
    );
    refused(
        "[[wire]]\nname = \"a\"\ninside = \"l3\"\ninside_port = \"x\"\noutside_port = \"y\"\n",
        3,
        10,
        &["`l3`", "`l2` or `routed`"],
    );
    refused("[limits.out]\npackets = { lock_fast = 5 }\n", 2, 1, &["lock_mean"]);
    refused("[limits.out]\nsyn = { warn_fast = 6000 }\n", 2, 1, &["lies above lock_fast = 5000"]);
    refused("[limits.in]\npigs = { warn_fast = 6000 }\n", 2, 1, &["the measures are packets bits"]);
    refused("[rules.netscam]\naction = \"warn\"\n", 1, 8, &["unknown rule `netscam`", "syn-out"]);
    refused("[control]\nmetrics = \"9477\"\n", 2, 11, &["127.0.0.1:9477"]);
    refused("[dataplane]\ncores = [1, 1]\n", 2, 9, &["a core twice"]);
    refused("[dataplane]\ncores = [1]\n[control]\ncore = 1\n", 4, 8, &["a worker polls"]);
    refused("[dataplane]\nidle_sleep = \"1ms\"\n", 2, 14, &["out of range", "100us"]);
    refused("[dataplane]\nmtu = \"big\"\n", 2, 7, &["invalid type", "cordon.example.toml"]);
    refused("[run]\ndir = \"run\"\n", 2, 7, &["relative path"]);
    refused("[run]\nstate = \"/x\"\nstate = \"/y\"\n", 3, 1, &["duplicate key", "no TOML"]);
    refused(&format!("[control]\nsocket = \"/{}\"\n", "x".repeat(107)), 2, 10, &["108 bytes", "107"]);
    refused("[never_lock]\nprefixes = [\"10.0.0.0/24\", \"10.0.1.1/24\"]\n", 2, 28, &["10.0.1.0/24"]);
    refused("[rules.syn-out]\ndeadline = \"soon\"\n", 2, 12, &["no duration", "30s"]);
    refused("[rules.syn-out]\naction = \"kill\"\n", 2, 10, &["`observe`, `warn`, `lock`"]);
    refused("[rules.phishing]\n", 1, 8, &["unknown rule"]);
    refused("[[group]]\nname = \"default\"\n", 2, 8, &["[limits]"]);
    refused("[[group]]\nname = \"w\"\n[[group]]\nname = \"w\"\n", 4, 8, &["two groups"]);
    refused("[evidence]\nlocale = \"fr\"\n", 2, 10, &["`en` or `de`"]);
    refused("[breaker]\nwindow = \"0s\"\n", 2, 10, &["out of range", "1s"]);
    refused("[breaker]\nshare = 7.0\n", 2, 9, &["from 0 to 1"]);
}

#[test]
fn all_semantic_mistakes_are_told_at_once() {
    let text = "[tables]\nhosts = 300\nipv6_hosts = 100\n[rules.x]\n[[network]]\nprefix = \"10.0.0.1/24\"\n\
                gateways = [\"x\"]\n[breaker]\nwindow = \"x\"\n[exceptions]\nprefixes = [\"x\"]\n";
    let e = Config::parse(text, "t").unwrap_err();
    let lines: Vec<_> = e.placed().filter_map(|(at, _)| at).map(|(line, _)| line).collect();
    assert_eq!(lines, [2, 3, 4, 6, 7, 9, 11], "all, in order of the file:\n{e}");
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
fn a_message_shows_the_line_and_points_at_the_place() {
    let e = Config::parse("[tables]\n\thosts = 300\n", "c.toml").unwrap_err().to_string();
    assert_eq!(
        e,
        "c.toml:2:10: hosts = 300 is no multiple of 256\n    2 |  hosts = 300\n      |          ^\n\
         \x20     = write 512: hosts are given out in blocks of 256"
    );
}

#[test]
fn extreme_numbers_are_refused_and_overflow_nothing() {
    for key in ["tables.hosts", "tables.ipv6_hosts", "tables.locks", "dataplane.mbufs", "breaker.locks_min"] {
        for value in ["4294967295", "4294967296", "9223372036854775807", "-1", "0"] {
            let e = Config::parse(&format!("{key} = {value}\n"), "t").expect_err(key);
            assert!(e.to_string().contains("t:1:"), "{e}");
        }
    }
    let all = "[[network]]\nprefix = \"0.0.0.0/0\"\n".repeat(3);
    assert_eq!(Config::parse(&all, "t").unwrap_err().problems().len(), 5, "three are too large, two overlap");
    let l = Config::parse("[limits.in]\nsyn = { lock_fast = 9223372036854775807 }\n", "t").unwrap().limits;
    assert_eq!(l.get(Way::In, Measure::Syn).lock_fast, u64::MAX / 2);
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
        let noise: Vec<u8> =
            bytes.iter().map(|b| b.wrapping_mul(u8::try_from(seed >> 56).unwrap())).collect();
        if let Err(e) = Config::parse(&String::from_utf8_lossy(&noise), "noise") {
            assert!(!e.to_string().is_empty());
        }
    }
}

#[test]
fn a_mistake_about_webhooks_is_told_before_the_first_one() {
    let with = |name: &str, url: &str, more: &str| {
        format!("[[webhook]]\nname = \"{name}\"\nurl = \"{url}\"\nsecret_file = \"/k\"\n{more}\n")
    };
    let good = "https://billing.example.net/hooks?t=1";
    let c = Config::parse(&with("billing", good, ""), "x").unwrap();
    let w = &c.webhooks[0];
    assert_eq!((w.audience().as_str(), w.timeout.as_secs(), w.connections), ("webhook:billing", 15, 4));
    assert!(w.events.len() == 9 && !w.events.contains(&api::Event::Digest));
    assert_eq!(
        c.webhooks,
        Config::parse(EXAMPLE, "x")
            .unwrap()
            .webhooks
            .into_iter()
            .map(|e| config::Webhook { url: good.parse().unwrap(), secret_file: "/k".into(), ..e })
            .collect::<Vec<_>>(),
        "the example states the defaults"
    );
    refused(
        "[[webhook]]\nname = \"a\"\nurl = \"https://x.example\"\n",
        1,
        1,
        &["missing field `secret_file`"],
    );
    refused(&with("Billing", good, ""), 2, 8, &["cannot name a webhook"]);
    refused(&(with("a", good, "") + &with("a", good, "")), 7, 8, &["there is another"]);
    for url in ["billing.example.net", "ftp://x.example", "https://", "/hooks"] {
        refused(&with("a", url, ""), 3, 7, &["no web address", "https://billing"]);
    }
    refused(&with("a", "https://me:secret@x.example/", ""), 3, 7, &["user name", "secret_file"]);
    refused(&with("a", "http://192.0.2.1/", ""), 3, 7, &["for all to read", "use https"]);
    for here in ["http://127.0.0.1:8080/", "http://[::1]/", "http://localhost/"] {
        assert!(Config::parse(&with("a", here, ""), "x").is_ok(), "{here}");
    }
    refused(&with("a", good, "events = [\"locked\", \"lokced\"]"), 5, 21, &["no event", "unlocked"]);
    refused(&with("a", good, "events = [\"digest\"]"), 5, 11, &["every event"]);
    refused(&with("a", good, "timeout = \"1h\""), 5, 11, &["out of range"]);
    refused(&with("a", good, "ca_file = \"ca.pem\""), 5, 11, &["relative path"]);
}
