//! Sample letters, one for every way that a template can go: for the check of templates, and to look at.

use api::{
    Action, ActionTaken, Direction, Event, IncidentRow, Kind, LockRow, Reason, State, Target, Time, Why,
};

use crate::facts::{Letter, Party};
use crate::view::House;

/// 2026-11-24 18:00:00 UTC, and so many seconds.
fn at(seconds: i64) -> Time {
    Time::from_unix_ms(1_795_543_200_000).plus_ms(seconds * 1000)
}

/// A provider.
pub fn house() -> House {
    House {
        provider: "Example Hosting".to_owned(),
        ticket_url: Some("https://example.net/ticket".to_owned()),
        contact: Some("+49 30 0000000".to_owned()),
    }
}

fn incident(kind: Kind, action: Action) -> IncidentRow {
    let (rule, measure, window, limit, peak) = match kind {
        Kind::Netscan => ("netscan/default", "contacts", "60s", 360, 412),
        Kind::Portscan => ("portscan/default", "contacts", "60s", 400, 1_024),
        Kind::AttackOut => ("syn-out/default", "syn", "fast", 5_000, 61_204),
        Kind::AttackIn => ("udp-in/web", "udp", "fast", 500_000, 1_204_800),
        Kind::Misconfiguration => ("misconfiguration/default", "frames", "any", 0, 31),
    };
    let scan = matches!(kind, Kind::Netscan | Kind::Portscan);
    let link = kind == Kind::Misconfiguration;
    IncidentRow {
        id: "C-2026-000123".to_owned(),
        kind,
        address: Some("192.0.2.10".to_owned()),
        mac: link.then(|| "02:00:5e:10:00:01".to_owned()),
        direction: if kind == Kind::AttackIn { Direction::In } else { Direction::Out },
        action,
        actions: vec![ActionTaken { action, at: at(0) }],
        rule: rule.to_owned(),
        opened: at(-1),
        first_seen: at(-42),
        last_seen: at(0),
        protocol: match kind {
            Kind::AttackIn => Some("udp".to_owned()),
            Kind::Misconfiguration => None,
            _ => Some("tcp".to_owned()),
        },
        case: match kind {
            Kind::Netscan => Some("port".to_owned()),
            Kind::Portscan => Some("ports".to_owned()),
            Kind::Misconfiguration => Some("rogue-dhcp".to_owned()),
            Kind::AttackOut | Kind::AttackIn => None,
        },
        ports: if scan { vec![22, 2222] } else { Vec::new() },
        contacts: if scan { 415 } else { 0 },
        answered: if scan { 3 } else { 0 },
        measure: measure.to_owned(),
        window: window.to_owned(),
        limit,
        peak,
        packets: 612_040,
        bytes: 36_722_400,
        seconds: 42,
        dropped: 0,
        held_back: None,
        would: None,
        state: if action == Action::Lock { State::Locked } else { State::Warned },
        timeline: Vec::new(),
        closed: None,
        files: Vec::new(),
        files_removed: None,
        attack: None,
        server: None,
        customer: None,
    }
}

fn lock(reason: Reason, direction: Direction, incident: Option<&str>) -> LockRow {
    LockRow {
        rule: incident.map(|_| "netscan".to_owned()),
        incident: incident.map(str::to_owned),
        generation: 1,
        ..LockRow::new(
            17,
            Target::from(std::net::IpAddr::from([192, 0, 2, 10])),
            direction,
            reason,
            "cordon",
            at(0),
        )
    }
}

fn reason(kind: Kind) -> Reason {
    match kind {
        Kind::Netscan => Reason::Netscan,
        Kind::Portscan => Reason::Portscan,
        Kind::AttackOut => Reason::AttackOut,
        Kind::AttackIn => Reason::AttackIn,
        Kind::Misconfiguration => Reason::Misconfiguration,
    }
}

fn base(event: Event, language: &str) -> Letter {
    let party = Party {
        customer: Some("K-1001".to_owned()),
        name: Some("Jürgen Müller".to_owned()),
        to: vec!["juergen@customer.example".to_owned()],
        language: language.to_owned(),
    };
    Letter {
        servers: vec!["web-17".to_owned()],
        ..Letter::new(event, party, at(0), vec!["192.0.2.10".to_owned()], "cordon")
    }
}

fn of_incident(event: Event, kind: Kind, language: &str) -> Letter {
    let locked = event != Event::Warned;
    let direction = if kind == Kind::AttackIn { Direction::In } else { Direction::Out };
    Letter {
        incident: Some(Box::new(incident(kind, if locked { Action::Lock } else { Action::Warn }))),
        lock: locked.then(|| Box::new(lock(reason(kind), direction, Some("C-2026-000123")))),
        deadline: (!locked && kind != Kind::Misconfiguration).then(|| at(3600)),
        ..base(event, language)
    }
}

/// One letter for every event, and for everything that makes a letter read differently.
pub fn letters(language: &str) -> Vec<Letter> {
    let mut all = Vec::new();
    for kind in [Kind::Netscan, Kind::Portscan, Kind::AttackOut, Kind::Misconfiguration] {
        all.push(of_incident(Event::Warned, kind, language));
    }
    for kind in [Kind::Netscan, Kind::Portscan, Kind::AttackOut, Kind::Misconfiguration] {
        all.push(of_incident(Event::Locked, kind, language));
    }
    all.push(of_incident(Event::Attacked, Kind::AttackIn, language));
    all.push(Letter { lock: None, ..of_incident(Event::Attacked, Kind::AttackIn, language) });
    all.push(of_incident(Event::Evidence, Kind::Netscan, language));
    for (r, note) in [
        (Reason::NonPayment, None),
        (Reason::Abuse, Some("Phishing at https://192.0.2.10/login/.\nReported by a bank.")),
        (Reason::Misconfiguration, None),
    ] {
        let row = LockRow {
            case: Some("T-17".to_owned()),
            note: note.map(str::to_owned),
            who: "anna".to_owned(),
            until: (r == Reason::Abuse).then(|| at(86_400)),
            ..lock(r, Direction::Both, None)
        };
        all.push(Letter {
            lock: Some(Box::new(row)),
            who: "anna".to_owned(),
            ..base(Event::LockedByHand, language)
        });
    }
    for (why, r, still) in [
        (Why::Operator, Reason::Netscan, Vec::new()),
        (Why::AttackOver, Reason::AttackIn, Vec::new()),
        (Why::Expired, Reason::Abuse, vec![Reason::NonPayment]),
    ] {
        let incident = (why != Why::Expired).then_some("C-2026-000123");
        all.push(Letter {
            lock: Some(Box::new(lock(r, Direction::Out, incident))),
            why: Some(why),
            still,
            at: at(7200),
            ..base(Event::Unlocked, language)
        });
    }
    all.push(Letter {
        lock: Some(Box::new(lock(Reason::Netscan, Direction::Out, Some("C-2026-000123")))),
        deadline: Some(at(7200)),
        from: vec!["203.0.113.7".to_owned()],
        who: "anna".to_owned(),
        ..base(Event::Maintenance, language)
    });
    all.push(Letter {
        lock: Some(Box::new(lock(Reason::Netscan, Direction::Out, Some("C-2026-000123")))),
        text: Some("A cron job ran wild.\nIt is removed; updates are installed.".to_owned()),
        ..base(Event::Statement, language)
    });
    all.push(Letter {
        rule: Some("netscan".to_owned()),
        incidents: vec!["C-2026-000123".to_owned()],
        ..base(Event::Correction, language)
    });
    let many = (10..90).map(|i| format!("192.0.2.{i}")).collect();
    all.push(Letter {
        rule: Some("syn-out".to_owned()),
        incidents: (1..81).map(|i| format!("C-2026-{i:06}")).collect(),
        targets: many,
        ..base(Event::Correction, language)
    });
    // The desk's copies.
    let desk: Vec<Letter> = all
        .iter()
        .map(|l| Letter {
            party: Party {
                customer: None,
                name: None,
                to: vec!["noc@example.net".to_owned()],
                language: language.to_owned(),
            },
            told: match l.event {
                Event::Warned => Vec::new(),
                _ => vec!["K-1001 Jürgen Müller <juergen@customer.example>".to_owned()],
            },
            ..l.clone()
        })
        .collect();
    all.extend(desk);
    all
}
