//! What the command asks, and how it shows the answer.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use api::{
    Action, Attention, BreakerRow, Counted, Direction, ErrorCode, Event, EvidenceReport, GuardsReport,
    HostReport, IncidentRow, LockEvent, LockRow, OutboxRow, OutboxState, Payload, PortReport, Reason,
    Request, Role, ServerReport, Severity, Span, State, StatusReport, Step, Suspension, Time, TimelineEntry,
    TokenRow, TopBy, TopRow, Traffic, VerdictCount, WireReport, WorkerReport,
};
use common::{Fake, ago, cordon, incident, lock, target};

fn status() -> StatusReport {
    let attention = |severity, text: &str, next_step: &str| Attention {
        severity,
        text: text.to_owned(),
        next_step: next_step.to_owned(),
    };
    let port = |side: &str, device: &str| PortReport {
        side: side.to_owned(),
        device: device.to_owned(),
        link_up: true,
        held_down: false,
        speed_mbps: 10_000,
        received: 123_456_789_012,
        sent: 123_456_789_012,
        missed: 12,
        errors: 0,
    };
    let verdict = |v: &str, packets| VerdictCount {
        verdict: v.to_owned(),
        packets,
        bytes: packets.saturating_mul(100),
    };
    StatusReport {
        attention: vec![
            attention(Severity::Notice, "tables are on small pages", "./hugepages.sh reserve 1G"),
            attention(
                Severity::Critical,
                &"worker 1 stands still, and everything that it should forward waits ".repeat(3),
                "journalctl -u cordon-dataplane",
            ),
        ],
        version: "0.1.0".to_owned(),
        started: ago(7_800_000),
        dataplane: "forwarding".to_owned(),
        dataplane_pid: Some(4711),
        incarnation: Some(3),
        enforcing: true,
        bypass: "off".to_owned(),
        received_packets: 1_234_567,
        received_bytes: 123_456_700,
        verdicts: vec![
            verdict("forward", 1_234_500),
            verdict("drop_locked_out", 60),
            verdict("drop_tx_full", 7),
        ],
        balanced: true,
        malformed: 3,
        non_ip: 4,
        wires: vec![WireReport {
            name: "uplink1".to_owned(),
            inside: "l2".to_owned(),
            ports: vec![
                port("inside", "net_af_packet0,iface=eth1,qpairs=2,framecnt=4096"),
                port("outside", "0000:01:00.1"),
            ],
        }],
        workers: vec![WorkerReport {
            worker: 0,
            core: Some(2),
            packets: 5,
            cycles_per_packet: 98.6,
            alive: false,
        }],
        active_hosts: 42,
        locks: vec![(Reason::AttackOut, 2), (Reason::Abuse, 0), (Reason::NonPayment, 1)],
        guards: Some(GuardsReport {
            on: vec!["dhcp".to_owned(), "arp".to_owned()],
            gateways: vec!["192.0.2.1".parse().expect("an address")],
            unheard: vec!["198.51.100.1".parse().expect("an address")],
            inside: vec![],
        }),
        open_incidents: 2,
        breaker: vec![],
        pages: "small".to_owned(),
        config: "/etc/cordon/cordon.toml".to_owned(),
    }
}

#[test]
fn status_begins_with_what_needs_attention_most_urgent_first() {
    let fake = Fake::ok(Payload::Status(Box::new(status())));
    let ran = fake.run(&["status"]).fits().is(
        0,
        &[
            "journalctl -u cordon-dataplane",
            "forwarding, enforcing locks, pid 4711",
            "running for 2 h 10 min",
            "1,234,567 received (123.4 MB) = 1,234,500 forwarded + 67 dropped: balanced",
            "60 locked out, 7 tx full",
            "2 attack-out, 1 non-payment\n",
            "dhcp, arp; gateways 192.0.2.1; not heard from outside yet: 198.51.100.1",
            "up 10G",
            "123,456,789,012",
            "STANDS STILL",
        ],
        &[],
    );
    assert_eq!(fake.request(), Request::Status);
    assert!(ran.out.starts_with("2 things need attention:\n  critical  worker 1"), "{}", ran.out);
}

#[test]
fn status_says_so_when_nothing_needs_attention_and_when_nothing_is_enforced() {
    let calm = StatusReport { attention: vec![], ..status() };
    Fake::ok(Payload::Status(Box::new(calm))).run(&["status"]).is(0, &["Nothing needs attention."], &[]);
    let bypassed =
        StatusReport { bypass: "direct".to_owned(), enforcing: false, balanced: false, ..status() };
    let fake = Fake::ok(Payload::Status(Box::new(bypassed)));
    fake.run(&["status"]).is(0, &["enforcing nothing", "bypass off --direct", "not balanced"], &[]);
}

#[test]
fn json_is_the_answer_itself_and_round_trips() {
    let s = status();
    let out = Fake::ok(Payload::Status(Box::new(s.clone()))).run(&["status", "--json"]).is(0, &[], &[]).out;
    assert_eq!(serde_json::from_str::<StatusReport>(&out).unwrap(), s);

    let rows = vec![LockRow { note: Some("\x1b[31mred\nline".to_owned()), ..lock(1, "2001:db8::/64") }];
    let out = Fake::ok(Payload::Locks(rows.clone())).run(&["--json", "list"]).is(0, &[], &[]).out;
    assert_eq!(serde_json::from_str::<Vec<LockRow>>(&out).unwrap(), rows);
    assert_eq!(out.lines().count(), 1, "one line, whatever a note holds");

    let rows = vec![incident("C-2026-000001", "192.0.2.1")];
    let out = Fake::ok(Payload::Incidents(rows.clone())).run(&["incidents", "--json"]).is(0, &[], &[]).out;
    assert_eq!(serde_json::from_str::<Vec<IncidentRow>>(&out).unwrap(), rows);

    let out = Fake::ok(Payload::Done("read".to_owned())).run(&["reload", "--json"]).is(0, &[], &[]).out;
    assert_eq!(out, "{\"done\":\"read\"}\n");

    let err =
        Fake::failure(ErrorCode::NotFound, "no such incident", "look").run(&["incident", "x", "--json"]);
    let err = err.is(4, &[], &[]).err;
    let v: serde_json::Value = serde_json::from_str(&err).unwrap();
    assert_eq!(v["error"]["code"], "not-found");
}

#[test]
fn the_list_fits_and_says_what_is_not_enforced() {
    let longest = "2001:db8:1111:2222:3333:4444:5555:6666";
    let rows = vec![
        lock(1, "192.0.2.1"),
        LockRow {
            reason: Reason::Misconfiguration,
            note: Some("a note that is far too long for its column, but who would not write one".to_owned()),
            until: Some(Time::now().plus_ms(3_630_000)),
            ..lock(123_456, longest)
        },
        LockRow {
            rule: Some("udp-in".to_owned()),
            incident: Some("C-2026-000001".to_owned()),
            reason: Reason::AttackIn,
            if_quiet: true,
            direction: Direction::In,
            case: None,
            note: None,
            ..lock(3, "192.0.2.3")
        },
        LockRow {
            enforced: false,
            why_not: Some("it lies in no configured network".to_owned()),
            ..lock(4, "198.51.100.0/24")
        },
    ];
    let fake = Fake::ok(Payload::Locks(rows));
    fake.run(&["list"]).fits().is(
        0,
        &[
            longest,
            "  2 h ",
            "in 1 h",
            "by hand",
            "if quiet",
            "udp-in",
            "…",
            "NOT ENFORCED",
            "lock 4 on 198.51.100.0/24 is not enforced: it lies in no configured network",
            "unlock TARGET --reason REASON",
        ],
        &[],
    );
    assert_eq!(fake.request(), Request::List);
    Fake::ok(Payload::Locks(vec![])).run(&["list"]).is(0, &["Nothing is locked."], &[]);
}

#[test]
fn a_lock_asks_for_what_was_said_and_shows_how_to_undo_it() {
    let fake = Fake::ok(Payload::Locks(vec![lock(5, "192.0.2.5")]));
    let words = [
        "lock",
        "192.0.2.5",
        "--reason",
        "non-payment",
        "--note",
        "third reminder",
        "--case",
        "4711",
        "--for",
        "2h",
        "--except",
        "203.0.113.0/24",
        "--except",
        "2001:db8::1",
        "--direction",
        "out",
        "--force",
    ];
    let undo =
        format!("undo: cordon --socket {} unlock 192.0.2.5 --reason non-payment", fake.socket().display());
    fake.run(&words).is(0, &["on disk and in force", "192.0.2.5", &undo], &[]);
    let Request::Lock { target: t, reason, direction, note, case, until, except, force, .. } = fake.request()
    else {
        panic!("another request")
    };
    assert_eq!(
        (t, reason, direction, force),
        (target("192.0.2.5"), Reason::NonPayment, Direction::Out, true)
    );
    assert_eq!((note.as_deref(), case.as_deref()), (Some("third reminder"), Some("4711")));
    assert_eq!(
        except.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["203.0.113.0/24", "2001:db8::1/128"]
    );
    let left = until.unwrap().unix_ms() - Time::now().unix_ms();
    assert!((7_100_000..=7_200_000).contains(&left), "{left}");
}

#[test]
fn a_lock_that_is_not_in_force_does_not_say_that_it_is() {
    let row =
        LockRow { enforced: false, why_not: Some("there is no inventory".to_owned()), ..lock(5, "server:7") };
    let ran = Fake::ok(Payload::Locks(vec![row])).run(&["lock", "server:7", "--reason", "abuse"]);
    let out = ran.is(0, &["not all of it is enforced", "there is no inventory"], &[]).out;
    assert!(!out.contains("in force"), "{out}");
}

#[test]
fn locks_say_whose_servers_they_are_on() {
    let of = |id, target, server: &str, customer: Option<&str>| LockRow {
        server: Some(server.to_owned()),
        customer: customer.map(str::to_owned),
        ..lock(id, target)
    };
    let rows = vec![
        of(1, "192.0.2.5", "1001", Some("C-17")),
        LockRow { remark: Some("the inventory no longer has this server".to_owned()), ..lock(2, "server:9") },
        of(3, "server:1002", "1002", Some("C-18")),
    ];
    let out = Fake::ok(Payload::Locks(rows)).run(&["list"]).fits().is(0, &["SERVER"], &[]).out;
    let line =
        |id: &str| out.lines().find(|l| l.trim_start().starts_with(id)).unwrap_or_else(|| panic!("{out}"));
    assert!(line("1 ").contains("1001 of C-17"), "{out}");
    assert!(line("3 ").contains("of C-18") && !line("3 ").contains("1002 of"), "{out}");
    assert!(out.contains("lock 2 on server:9: the inventory no longer has"), "{out}");
    let out = Fake::ok(Payload::Locks(vec![lock(1, "192.0.2.5")])).run(&["list"]).out;
    assert!(!out.contains("SERVER"), "without an inventory there is no such column: {out}");
}

#[test]
fn unlocking_says_what_was_lifted() {
    let fake = Fake::ok(Payload::Locks(vec![lock(5, "192.0.2.5")]));
    fake.run(&["unlock", "192.0.2.5", "--all"]).is(0, &["Lifted 1 lock:", "show 192.0.2.5"], &[]);
    assert_eq!(
        fake.request(),
        Request::Unlock { target: target("192.0.2.5"), reason: None, all: true, until: None }
    );

    let fake = Fake::ok(Payload::Locks(vec![]));
    fake.run(&["unlock", "192.0.2.5", "--reason", "abuse"]).is(0, &["nothing to lift"], &[]);

    let fake = Fake::ok(Payload::Locks(vec![lock(1, "192.0.2.1"), lock(2, "192.0.2.2")]));
    let words = ["unlock", "--rule", "syn-out", "--since", "2026-11-24T12:00:00Z", "--dry-run"];
    fake.run(&words).is(0, &["2 locks of syn-out", "would be lifted; nothing was done", "192.0.2.2"], &[]);
    let since = "2026-11-24T12:00:00Z".parse().unwrap();
    assert_eq!(fake.request(), Request::UnlockRule { rule: "syn-out".to_owned(), since, dry_run: true });

    let fake = Fake::ok(Payload::Locks(vec![lock(1, "192.0.2.1")]));
    fake.run(&["unlock", "--rule", "syn-out", "--since", "2h"]).is(0, &["Lifted 1 lock of syn-out"], &[]);
    let Request::UnlockRule { since, dry_run: false, .. } = fake.request() else { panic!("another request") };
    let back = Time::now().unix_ms() - since.unix_ms();
    assert!((7_200_000..7_300_000).contains(&back), "{back}");
}

#[test]
fn top_show_and_incidents_are_for_people() {
    let row = TopRow {
        address: "2001:db8:1:2::/64".to_owned(),
        group: "web".to_owned(),
        packets_per_second: 135_580,
        bits_per_second: 1_990_000_000,
        syn_per_second: 12,
        locked: true,
    };
    let fake = Fake::ok(Payload::Top(vec![row]));
    let words = ["top", "--by", "bits", "--direction", "in", "-n", "3"];
    fake.run(&words).fits().is(0, &["135,580", "1.9 Gbit/s", "locked", "web"], &[]);
    assert_eq!(fake.request(), Request::Top { by: TopBy::Bits, direction: Direction::In, limit: 3 });

    let traffic = Traffic { packets: u64::MAX, bytes: 5, dropped: 1_000, ..Traffic::default() };
    let host = HostReport {
        target: target("192.0.2.9"),
        internal: true,
        group: None,
        never_lock: true,
        enforced: Some(Direction::Out),
        out: Some(traffic),
        inbound: Some(Traffic::default()),
        locks: vec![lock(9, "192.0.2.0/24")],
        incidents: vec![incident("C-2026-000009", "192.0.2.9")],
        bound: Some("02:00:00:00:00:09".to_owned()),
        exemptions: vec![("udp-out".to_owned(), Time::now().plus_ms(3_600_500))],
        server: Some(ServerReport {
            id: "1001".to_owned(),
            name: Some("web1.example.net".to_owned()),
            addresses: vec!["192.0.2.9/32".parse().unwrap(), "192.0.2.16/29".parse().unwrap()],
            macs: vec!["02:00:5e:10:00:01".to_owned()],
            group: None,
            customer: Some("C-17".to_owned()),
            contacts: vec!["noc@example.com".to_owned()],
            language: Some("en".to_owned()),
            tags: vec![],
        }),
    };
    let fake = Fake::ok(Payload::Host(Box::new(host)));
    fake.run(&["show", "192.0.2.9"]).fits().is(
        0,
        &[
            "internal, group default",
            "what it sends is dropped",
            "--force",
            "udp-out",
            "(for 1 h)",
            "1001, web1.example.net",
            "C-17",
            "noc@example.com",
            "192.0.2.9 192.0.2.16/29",
            "02:00:5e:10:00:01",
            "18,446,744,073,709,551,615",
            "unlock 192.0.2.0/24 --reason non-payment",
            "incident C-2026-000009",
        ],
        &[],
    );

    let long = incident("C-2026-000123", "2001:db8:1111:2222:3333:4444:5555:6666");
    let closed = IncidentRow {
        closed: Some(Time::now()),
        state: State::Closed,
        action: Action::Observe,
        would: Some(Action::Lock),
        ..incident("C-2026-000122", "192.0.2.2")
    };
    let fake = Fake::ok(Payload::Incidents(vec![long, closed]));
    fake.run(&["incidents", "--open"]).fits().is(
        0,
        &["C-2026-000123", "locked", "closed", "(would lock)", "1 min "],
        &[],
    );
    assert_eq!(fake.request(), Request::Incidents { open: true, limit: 50 });

    let fake = Fake::ok(Payload::Incident(Box::new(incident("C-2026-000001", "192.0.2.1"))));
    fake.run(&["incident", "C-2026-000001"]).fits().is(
        0,
        &[
            "135,580/s at most, limit 5,000/s",
            "40,674,000 (5.9 GB) in 62 s",
            "warn at 20",
            "lock at 20",
            "summary.txt in [run] state/evidence/C-2026-000001",
        ],
        &[],
    );
}

#[test]
fn an_incident_is_told_from_its_beginning_to_its_end() {
    let opened = ago(600_000);
    let entry = |after: i64, step, detail: Option<&str>| TimelineEntry {
        at: opened.plus_ms(after),
        step,
        detail: detail.map(str::to_owned),
    };
    let row = IncidentRow {
        timeline: vec![
            entry(0, Step::Opened, None),
            entry(1_000, Step::Locked, None),
            entry(1_000, Step::Evidence, Some("summary.log dump.log")),
            entry(61_000, Step::Suspended, Some("until 2026-11-24T12:00:00.000Z, by anna")),
            entry(90_000, Step::Unlocked, Some("by anna")),
        ],
        files_removed: Some(ago(1_000)),
        held_back: Some("syn-out is set to observe".to_owned()),
        action: Action::Observe,
        would: Some(Action::Lock),
        ..incident("C-2026-000001", "192.0.2.1")
    };
    let fake = Fake::ok(Payload::Incident(Box::new(row)));
    fake.run(&["incident", "C-2026-000001"]).fits().is(
        0,
        &[
            "opened (10 min ago)",
            "locked (after 1 s)",
            "evidence written: summary.log dump.log",
            "let in for maintenance until 2026-11-24T12:00:00.000Z, by anna",
            "unlocked by anna (after 1 min 30 s)",
            "would have come to: lock; syn-out is set to observe",
            "its files were removed",
        ],
        &[],
    );
}

#[test]
fn evidence_begins_with_sentences_and_ends_with_what_it_does_not_say() {
    let (since, until) = (ago(7_200_000), ago(0));
    let out = Counted {
        traffic: Traffic { packets: 12, bytes: 720, tcp: 12, syn: 12, ..Traffic::default() },
        first_contacts: 3,
        ..Counted::default()
    };
    let report = EvidenceReport {
        target: target("192.0.2.10"),
        asked: Span { since, until },
        covered: Span { since, until },
        unknown: vec![],
        findings: vec![
            "In this time 192.0.2.10 sent 12 packets: 12 TCP, 12 of them SYN, 0 UDP, 0 ICMP, 0 others."
                .to_owned(),
            "It did not send what a scan of 1,000 addresses or ports needs.".to_owned(),
        ],
        caveats: vec![
            "What the server sends by ways that do not pass this appliance is not seen.".to_owned(),
        ],
        out,
        inbound: Counted::default(),
        unprovoked: 1_234,
        from_outside: 5,
        other_mac: 6,
        incomplete: false,
        incidents: vec![incident("C-2026-000009", "192.0.2.10")],
        lock_events: vec![LockEvent {
            at: ago(60_000),
            event: "locked".to_owned(),
            who: "cordon".to_owned(),
            row: lock(3, "192.0.2.10"),
        }],
        locks: vec![lock(3, "192.0.2.10")],
    };
    let fake = Fake::ok(Payload::Evidence(Box::new(report.clone())));
    let ran = fake.run(&["evidence", "192.0.2.10", "--since", "2h", "--claimed", "1000"]).fits().is(
        0,
        &["(2 h):", "1,234", "answers to what it did not ask", "Locked now:", "What this does not say:"],
        &[],
    );
    let sentence = ran.out.find("It did not send").unwrap();
    assert!(sentence < ran.out.find("COUNTED").unwrap(), "{}", ran.out);
    let Request::Evidence { target: t, since: Some(since), until: None, claimed: Some(1000) } =
        fake.request()
    else {
        panic!("another request")
    };
    assert_eq!(t, target("192.0.2.10"));
    let back = Time::now().unix_ms() - since.unix_ms();
    assert!((7_200_000..7_300_000).contains(&back), "{back}");

    let out =
        Fake::ok(Payload::Evidence(Box::new(report.clone()))).run(&["evidence", "192.0.2.10", "--json"]).out;
    assert_eq!(serde_json::from_str::<EvidenceReport>(&out).unwrap(), report);
}

#[test]
fn a_maintenance_unlock_says_until_when_what_still_stands_and_how_to_end_it() {
    let until = Time::now().plus_ms(1_800_500);
    let s = Suspension { since: Time::now(), until, who: "anna".to_owned() };
    let row = LockRow { suspended: Some(s), enforced: false, ..lock(5, "192.0.2.5") };
    let fake = Fake::ok(Payload::Locks(vec![row.clone(), lock(6, "192.0.2.5")]));
    fake.run(&["unlock", "192.0.2.5", "--for", "30m"]).is(
        0,
        &[
            "Let in for maintenance until",
            "(for 30 min)",
            "SUSPENDED",
            "by anna",
            "What is not suspended is still enforced",
            "resume 192.0.2.5",
        ],
        &[],
    );
    let Request::Unlock { until: Some(until), all: false, reason: None, .. } = fake.request() else {
        panic!("another request")
    };
    let left = until.unix_ms() - Time::now().unix_ms();
    assert!((1_700_000..=1_800_000).contains(&left), "{left}");

    let fake = Fake::ok(Payload::Locks(vec![row]));
    fake.run(&["list"]).fits().is(0, &["SUSPENDED", "lock 5 on 192.0.2.5 is suspended until"], &[]);
    let fake = Fake::ok(Payload::Locks(vec![lock(5, "192.0.2.5")]));
    fake.run(&["resume", "192.0.2.5"]).is(0, &["Enforced again:"], &[]);
    assert_eq!(fake.request(), Request::Resume { target: target("192.0.2.5") });
    cordon(&fake.socket(), &["unlock", "--rule", "syn-out", "--since", "2h", "--for", "1h"]).is(2, &[], &[]);
}

#[test]
fn scans_and_wrong_configuration_are_told_in_their_own_units() {
    let scan = IncidentRow {
        kind: api::Kind::Netscan,
        rule: "netscan/default".to_owned(),
        case: Some("worm-port".to_owned()),
        ports: vec![23, 2323],
        contacts: 130,
        answered: 3,
        measure: "contacts".to_owned(),
        window: "60s".to_owned(),
        limit: 120,
        peak: 127,
        ..incident("C-2026-000002", "192.0.2.1")
    };
    let fake = Fake::ok(Payload::Incident(Box::new(scan.clone())));
    fake.run(&["incident", "C-2026-000002"]).fits().is(
        0,
        &[
            "netscan/default, worm-port",
            "127 contacts at most, limit 120 in 60 s; 130 first contacts, 3 of them answered",
            "23 2323",
        ],
        &[],
    );
    let link = IncidentRow {
        kind: api::Kind::Misconfiguration,
        address: None,
        mac: Some("02:00:00:00:00:07".to_owned()),
        rule: "misconfiguration/default".to_owned(),
        case: Some("rogue-dhcp".to_owned()),
        measure: "frames".to_owned(),
        window: "any".to_owned(),
        limit: 0,
        peak: 12,
        ..incident("C-2026-000003", "192.0.2.1")
    };
    let fake = Fake::ok(Payload::Incidents(vec![scan, link.clone()]));
    fake.run(&["incidents"]).fits().is(
        0,
        &["netscan, worm-port: 127 (limit 120)", "rogue-dhcp: 12 frames", "02:00:00:00:00:07"],
        &[],
    );
    let fake = Fake::ok(Payload::Incident(Box::new(link)));
    let ran = fake.run(&["incident", "C-2026-000003"]).is(0, &["12 frames", "02:00:00:00:00:07"], &[]);
    assert!(!ran.out.contains("Packets"), "{}", ran.out);
}

#[test]
fn a_shell_can_name_the_socket_once_for_all_commands() {
    let fake = Fake::ok(Payload::Incidents(vec![incident("C-2026-000001", "192.0.2.1")]));
    let mut command = common::command(&["incidents"]);
    command.env("CORDON_SOCKET", fake.socket());
    let ran: common::Ran = command.output().unwrap().into();
    // What is printed to be copied works in that shell as it is.
    ran.is(0, &["C-2026-000001", "  cordon incident ID"], &[]);

    let fake = Fake::ok(Payload::Done("Done.".to_owned()));
    let mut command = common::command(&["reload", "--socket"]);
    command.arg(fake.socket()).env("CORDON_SOCKET", "/nonexistent");
    common::Ran::from(command.output().unwrap()).is(0, &["Done."], &[]);
}

#[test]
fn a_detectors_lock_that_is_lifted_comes_with_how_to_keep_it_away() {
    let row = LockRow { rule: Some("syn-out".to_owned()), ..lock(3, "192.0.2.9") };
    let fake = Fake::ok(Payload::Locks(vec![row]));
    fake.run(&["unlock", "192.0.2.9", "--all"]).is(0, &["exempt 192.0.2.9 --rule syn-out --for 1h"], &[]);
    let fake = Fake::ok(Payload::Locks(vec![lock(3, "192.0.2.9")]));
    let out = fake.run(&["unlock", "192.0.2.9", "--all"]).is(0, &["Lifted 1 lock"], &[]).out;
    assert!(!out.contains("exempt"), "{out}");
}

#[test]
fn the_other_commands_ask_and_say_how_to_go_back() {
    let done = || Fake::ok(Payload::Done("Done.".to_owned()));
    let rule = || "syn-out".to_owned();

    let fake = done();
    fake.run(&["rule", "syn-out", "observe"]).is(0, &["Done.", "rule syn-out enforce"], &[]);
    assert_eq!(fake.request(), Request::Rule { rule: rule(), observe: true });

    let fake = done();
    fake.run(&["bypass", "on"]).is(0, &["undo: cordon --socket", "bypass off"], &[]);
    assert_eq!(fake.request(), Request::Bypass { on: true });

    let fake = done();
    fake.run(&["exempt", "192.0.2.0/28", "--rule", "syn-out", "--for", "24h"]).is(0, &["Done."], &[]);
    let Request::Exempt { target: t, rule: r, until } = fake.request() else { panic!("another request") };
    assert_eq!((t, r), (target("192.0.2.0/28"), rule()));
    assert!(until > Time::now().plus_ms(86_000_000));

    let fake = done();
    fake.run(&["breaker", "reset", "syn-out"]).is(0, &["Done."], &[]);
    assert_eq!(fake.request(), Request::BreakerReset { rule: rule() });

    let latched = BreakerRow {
        rule: rule(),
        since: ago(60_500),
        locks: 21,
        waiting: (0..40).map(|i| format!("192.0.2.{i}")).collect(),
    };
    let fake = Fake::ok(Payload::Breaker(vec![latched]));
    fake.run(&["breaker", "status"]).is(
        0,
        &["21 locks", "192.0.2.39", "breaker reset syn-out", "--dry-run"],
        &[],
    );
    assert_eq!(fake.request(), Request::BreakerStatus);

    let fake = Fake::ok(Payload::Locks(vec![lock(1, "192.0.2.7")]));
    fake.run(&["breaker", "approve", "syn-out", "192.0.2.7"]).is(0, &["Locked 1 lock that waited"], &[]);
    assert_eq!(fake.request(), Request::BreakerApprove { rule: rule(), targets: vec![target("192.0.2.7")] });

    let fake = done();
    fake.run(&["reload"]).is(0, &["Done."], &[]);
    assert_eq!(fake.request(), Request::Reload);
}

#[test]
fn the_outbox_says_what_waits_why_and_what_to_do() {
    let row = |id: &str, state, error: Option<&str>, digest: Option<&str>| OutboxRow {
        id: id.to_owned(),
        kind: "mail".to_owned(),
        audience: "customer:K-1001".to_owned(),
        event: Event::Locked,
        thread: "C-2026-000001".to_owned(),
        created: ago(7_200_500),
        due: Time::now().plus_ms(61_500),
        state,
        attempts: 3,
        error: error.map(str::to_owned),
        done: None,
        digest: digest.map(str::to_owned),
    };
    let rows = vec![
        row("C-2026-000001.locked.1.desk", OutboxState::Waiting, Some("450 greylisted"), None),
        row("C-2026-000002.locked.2.desk", OutboxState::Failed, Some("550 no such user"), None),
        row("C-2026-000003.locked.3.desk", OutboxState::Merged, None, Some("digest.7")),
    ];
    let fake = Fake::ok(Payload::Outbox(rows));
    let out = fake.run(&["outbox", "list", "--all"]).is(0, &["2 h", "outbox retry ID"], &[]).out;
    let line = |id: &str| out.lines().find(|l| l.starts_with(id)).unwrap_or_else(|| panic!("{out}"));
    assert!(
        line("C-2026-000001").contains("waiting") && line("C-2026-000001").contains("due in 1 min 1 s: 45"),
        "{out}"
    );
    assert!(line("C-2026-000002").ends_with("550 no such user"), "{out}");
    assert!(line("C-2026-000003").ends_with("in digest.7"), "{out}");
    assert_eq!(fake.request(), Request::Outbox { all: true, limit: 200 });

    Fake::ok(Payload::Outbox(vec![])).run(&["outbox"]).is(0, &["Nothing waits"], &[]);
    let fake = Fake::ok(Payload::Done("Done.".to_owned()));
    fake.run(&["outbox", "retry", "digest.7"]).is(0, &["Done."], &[]);
    assert_eq!(fake.request(), Request::OutboxRetry { id: "digest.7".to_owned() });
    let fake = Fake::ok(Payload::Done("Done.".to_owned()));
    fake.run(&["outbox", "drop", "digest.7"]).is(0, &["Done."], &[]);
    assert_eq!(fake.request(), Request::OutboxDrop { id: "digest.7".to_owned() });
}

#[test]
fn a_note_cannot_drive_the_terminal() {
    let rows = vec![LockRow {
        note: Some("\x1b[2J\u{9b}31m\r\nNothing is locked.".to_owned()),
        ..lock(1, "192.0.2.1")
    }];
    let out = Fake::ok(Payload::Locks(rows)).run(&["list"]).is(0, &["·[2J"], &[]).out;
    assert!(!out.contains('\u{9b}') && !out.contains('\r'), "{out:?}");
    assert!(!out.lines().any(|l| l == "Nothing is locked."), "{out}");
    Fake::failure(ErrorCode::Refused, "a\x1b[31m", "b\x1b[31m").run(&["list"]).is(
        1,
        &[],
        &["a·[31m", "b·[31m"],
    );
}

#[test]
fn the_secret_of_a_token_is_made_and_shown_here_and_only_its_digest_is_sent() {
    let row = TokenRow {
        id: 1,
        name: "whmcs".into(),
        role: Role::Billing,
        created: Time::from_unix_ms(0),
        who: "root".into(),
        until: None,
        revoked: None,
        last_used: None,
    };
    let answer = || Fake::ok(Payload::Tokens(vec![row.clone()]));
    let words = ["token", "create", "whmcs", "--role", "billing", "--for", "90d"];
    let fake = answer();
    let out = fake.run(&words).is(0, &["whmcs with the role billing", "shown this once"], &[]).out;
    let secret = out.split_whitespace().find(|w| w.starts_with(api::token::PREFIX)).unwrap();
    let Request::TokenCreate { name, role, digest, until } = fake.request() else {
        panic!("another request")
    };
    assert_eq!((name.as_str(), role, digest), ("whmcs", Role::Billing, api::token::digest(secret)));
    let left = until.unwrap().unix_ms() - Time::now().unix_ms();
    assert!((89 * 86_400_000..=90 * 86_400_000).contains(&left), "{left}");
    let again = answer().run(&words).out;
    assert!(!again.contains(secret), "another one each time");
    let out = answer().run(&["token", "list"]).is(0, &["whmcs", "billing", "never", "good"], &[]).out;
    assert!(!out.contains(api::token::PREFIX), "{out}");
    Fake::ok(Payload::Tokens(vec![])).run(&["token", "list"]).is(0, &["nobody may use the HTTP API"], &[]);
    answer().run(&["token", "create", "x", "--role", "king"]).is(2, &[], &["king", "billing"]);
}
