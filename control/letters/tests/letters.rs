//! Every letter in every language: complete, exact, and fit for a mail.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use api::{Event, Kind};
use letters::{Digest, Letter, Templates, Text, sample_house, samples};

const FILES: [&str; 2] = ["netscan.log", "dump.pcapng"];

fn all(language: &str) -> Vec<(Letter, Text)> {
    let (templates, house) = (Templates::built_in(), sample_house());
    let files = FILES.map(str::to_owned);
    let text = |l: Letter| {
        let t = templates.text(&l, &house, &files, &[]).unwrap();
        (l, t)
    };
    samples(language).into_iter().map(text).collect()
}

#[test]
fn every_event_has_a_letter_that_reads_well_in_every_language() {
    for language in ["en", "de"] {
        let all = all(language);
        for event in Event::ALL.iter().filter(|e| **e != Event::Digest) {
            assert!(all.iter().any(|(l, _)| l.event == *event), "{event}");
        }
        for (l, t) in &all {
            let number = l.reference().unwrap();
            assert_eq!(t.subject, format!("[Cordon {number}] {}", t.headline));
            assert!(!t.headline.is_empty() && !t.headline.contains(['\n', '{', '}']), "{t:?}");
            assert!(t.body.lines().all(|l| l.chars().count() <= 76), "{}", t.body);
            assert!(!t.body.contains("\n\n\n") && !t.body.contains(['{', '}', '\u{1f}']), "{}", t.body);
            assert!(t.body.contains("192.0.2.10") && t.body.contains("Cordon."), "{}", t.body);
            assert!(!t.body.contains("none") && !t.body.contains("undefined"), "{}", t.body);
        }
    }
}

#[test]
fn a_letter_says_what_when_by_which_rule_and_what_to_do() {
    for (language, words) in [
        (
            "en",
            [
                "412",
                "360",
                "2026-11-24 18:00:00 UTC",
                "netscan",
                "https://example.net/ticket",
                "all the information",
            ],
        ),
        (
            "de",
            [
                "412",
                "360",
                "24.11.2026, 18:00:00 UTC",
                "netscan",
                "https://example.net/ticket",
                "Mehr Informationen",
            ],
        ),
    ] {
        let all = all(language);
        let locked = |l: &Letter| {
            l.event == Event::Locked && l.incident.as_ref().is_some_and(|i| i.kind == Kind::Netscan)
        };
        let (_, text) = all.iter().find(|(l, _)| locked(l) && l.party.customer.is_some()).unwrap();
        let flat = text.body.split_whitespace().collect::<Vec<_>>().join(" ");
        for w in words.iter().chain(&FILES) {
            assert!(flat.contains(w), "{w}\n{}", text.body);
        }
    }
    let attacked = all("en").into_iter().find(|(l, _)| l.event == Event::Attacked).unwrap().1;
    assert!(attacked.body.contains("not your doing"), "{}", attacked.body);
    assert!(!attacked.body.contains("intruder") && !attacked.headline.contains("from"), "{}", attacked.body);
    assert!(attacked.body.contains("1,204,800"), "{}", attacked.body);
    let german = all("de").into_iter().find(|(l, _)| l.event == Event::Attacked).unwrap().1;
    assert!(german.body.contains("1.204.800"), "{}", german.body);
}

#[test]
fn customers_do_not_read_who_locked_and_the_desk_does() {
    for (l, t) in all("en").iter().filter(|(l, _)| l.who == "anna") {
        assert_eq!(t.body.contains("anna"), l.party.customer.is_none(), "{}", t.body);
    }
}

#[test]
fn a_digest_counts_all_lists_some_and_has_the_rest_in_its_list() {
    let templates = Templates::built_in();
    let parts: Vec<Letter> = samples("en").into_iter().cycle().take(500).collect();
    let digest = Digest { parts: &parts, at: parts[0].at };
    let text = templates.digest(&digest, &sample_house(), &["digest.csv".to_owned()], &[]).unwrap();
    assert!(text.subject.starts_with("[Cordon] 500 messages in one: "), "{}", text.subject);
    assert!(text.body.contains("and 400 more"), "{}", text.body);
    let list = templates.list(&parts, &sample_house()).unwrap();
    assert_eq!(list.lines().count(), 501);
}

#[test]
fn an_operators_template_takes_the_place_of_ours_and_mistakes_are_told_with_their_line() {
    let dir = tempfile::tempdir().unwrap();
    let put = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    put("de/statement.txt", "Danke für {{ l.targets[0] }}.\n");
    put("fr/headline.txt", "Serveur {{ l.event }}\n");
    let templates = Templates::load(dir.path()).unwrap();
    let letter = |language| samples(language).into_iter().find(|l| l.event == Event::Statement).unwrap();
    let text = templates.text(&letter("de"), &sample_house(), &[], &[]).unwrap();
    assert_eq!(text.body, "Danke für 192.0.2.10.\n");
    let text = templates.text(&letter("fr"), &sample_house(), &[], &[]).unwrap();
    assert_eq!(text.headline, "Serveur statement");
    assert!(text.body.contains("Thank you"), "what is not there in French is English: {}", text.body);
    let text = templates.text(&letter("it"), &sample_house(), &[], &[]).unwrap();
    assert!(text.body.contains("Thank you"), "{}", text.body);

    put("de/locked.txt", "one\ntwo {{ l.nonsense }}\n");
    put("en/warned.txt", "{% if %}\n");
    put("en/greeting.txt", "hello");
    let told = |dir: &std::path::Path| {
        let all = Templates::load(dir).unwrap_err();
        all.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    };
    let text = told(dir.path());
    assert!(text.contains("en/warned.txt:1:") && text.contains("greeting.txt: no letter"), "{text}");
    std::fs::remove_file(dir.path().join("en/warned.txt")).unwrap();
    std::fs::remove_file(dir.path().join("en/greeting.txt")).unwrap();
    let text = told(dir.path());
    assert!(text.contains("de/locked.txt:2:"), "{text}");
}
