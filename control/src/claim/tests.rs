//! Sentences that have to be true.

use api::Time;

use super::*;
use crate::testing::Desk;
use region::{Dir, HostId, LineTotals};

fn at(minute: i64) -> Time {
    Time::from_unix_ms(1_790_000_000_000 + minute * 60_000)
}

fn span(a: i64, b: i64) -> Span {
    Span { since: at(a), until: at(b) }
}

fn tally(packets: u64, syn: u64) -> Tally {
    let out = Counts { packets, bytes: 60 * packets, tcp: packets, syn, ..Counts::default() };
    Tally { pair: [out, Counts::default()], ..Tally::default() }
}

fn ask(claimed: Option<u64>, tally: Tally, known: &[Span]) -> EvidenceReport {
    let q = Question {
        target: "192.0.2.10".parse().expect("a target"),
        block: "192.0.2.0/24".into(),
        octet: 10,
        asked: span(0, 60),
        claimed,
        recent: None,
        incidents: Vec::new(),
        locks: Vec::new(),
        blind: None,
    };
    report(q, Found { tally, covered: Some(span(-3, 62)), known: known.to_vec(), ..Found::default() })
}

fn text(r: &EvidenceReport) -> String {
    r.findings.join(" ")
}

#[test]
fn whoever_is_accused_wrongly_is_told_in_sentences() {
    let mut t = tally(12, 12);
    t.unprovoked = 1_234;
    t.outside = 3;
    t.other_mac = 4;
    let r = ask(None, t, &[span(-100, 100)]);
    let text = text(&r);
    assert!(text.contains("192.0.2.10 sent 12 packets: 12 TCP, 12 of them SYN"), "{text}");
    assert!(text.contains("did not send what a scan of 1,000 addresses or ports needs"), "{text}");
    assert!(text.contains("1,234 SYN-ACK and RST came for connections that it had not opened"), "{text}");
    assert!(text.contains("3 packets with its address as sender came in from outside"), "{text}");
    assert!(text.contains("4 packets with its address as sender came from another device"), "{text}");
    assert!(text.contains("found nothing against it"), "{text}");
    assert_eq!((r.unknown.len(), r.covered), (0, span(-3, 62)));
    assert!(r.caveats.iter().any(|c| c.contains("whole pieces of history")));
}

#[test]
fn nothing_is_excused_that_the_numbers_do_not_rule_out() {
    let known = [span(-100, 100)];
    let r = ask(Some(500), tally(700, 600), &known);
    assert!(text(&r).contains("do not rule out a scan of 500"), "{r:?}");
    assert!(!text(&r).contains("did not send"), "{r:?}");
    // A busy web server: many packets, few of them of its own begin.
    let r = ask(Some(500), tally(1_000_000, 20), &known);
    assert!(text(&r).contains("did not send the SYN, UDP or ICMP packets"), "{r:?}");
    let mut t = tally(1_000_000, 20);
    t.pair[0].udp = 900;
    assert!(text(&ask(Some(500), t, &known)).contains("over TCP"));
    // Numbers that are too low prove nothing.
    t.overrun = true;
    assert!(!text(&ask(Some(500), t, &known)).contains("did not send"));
    // A few late answers are no sign of anything.
    let mut t = tally(12, 12);
    t.unprovoked = STRAY - 1;
    assert!(!text(&ask(None, t, &known)).contains("elsewhere"));
}

#[test]
fn what_was_not_seen_is_said() {
    let r = ask(None, tally(5, 5), &[span(-9, 10), span(20, 30), span(25, 50)]);
    assert_eq!(r.unknown, [span(10, 20), span(50, 60)]);
    assert!(text(&r).contains("In the part of this time that Cordon saw"), "{r:?}");
    assert_eq!(r.caveats.iter().filter(|c| c.starts_with("Nothing is known from")).count(), 2);
    let r = ask(None, Tally::default(), &[]);
    assert_eq!(r.findings.len(), 1);
    assert!(text(&r).contains("Nothing is known"), "{r:?}");
}

fn count(desk: &Desk, host: u32, packets: u64) {
    #[expect(clippy::cast_possible_truncation, reason = "small numbers")]
    let t = LineTotals {
        packets,
        bytes: packets * 60,
        tcp: packets as u32,
        syn: packets as u32,
        ..LineTotals::default()
    };
    desk.control.policy().set_accounted(HostId(host), Dir::Out, &t);
}

#[test]
fn every_packet_is_in_one_piece_of_history_or_still_to_come() {
    let mut desk = Desk::live("");
    let sent = |desk: &Desk| -> u64 {
        let rows = desk.history.iter().filter_map(|op| match op {
            crate::history::HistoryOp::Rows(rows) => Some(rows),
            _ => None,
        });
        let hosts = rows.flatten().flat_map(|r| crate::history::decode(&r.body));
        hosts.filter(|(o, _)| *o == 10).map(|(_, t)| t.pair[0].packets).sum()
    };
    count(&desk, 10, 700);
    desk.wait(100_000);
    assert_eq!(sent(&desk), 0, "five minutes are not over");
    let request = |target: &str| Request::Evidence {
        target: target.parse().expect("a target"),
        since: None,
        until: None,
        claimed: None,
    };
    desk.tell(request("192.0.2.10"));
    let q = desk.questions.pop().expect("a question");
    assert_eq!(q.recent.map(|(_, t)| t.pair[0].packets), Some(700), "what is fresh comes with the question");
    assert_eq!((q.block.as_str(), q.octet), ("192.0.2.0/24", 10));
    desk.wait(200_000);
    assert_eq!(sent(&desk), 700);
    count(&desk, 10, 1_000);
    desk.wait(250_000);
    desk.control.stop(desk.now);
    desk.wait(0);
    assert_eq!(sent(&desk), 1_000, "a stop hands over what there is");
    let watched = desk.history.iter().rev().find_map(|op| match op {
        crate::history::HistoryOp::Watched { since, until } => Some((*since, *until)),
        _ => None,
    });
    assert_eq!(watched.map(|w| w.1), Some(desk.now.time()));
    // Another's, several at once, and what is nobody's.
    for wrong in ["198.51.100.1", "192.0.2.0/28", "server:7"] {
        assert!(matches!(desk.ask(request(wrong)), api::Response::Error(_)), "{wrong}");
    }
}
