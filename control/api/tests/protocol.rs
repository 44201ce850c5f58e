//! What one side writes, the other reads; what is not understood is refused with a reason.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use api::{
    Direction, ErrorCode, Failure, Payload, Reason, Request, Response, Target, Time, TopBy, WorkerReport,
};

#[track_caller]
fn refused(line: &str, words: &[&str]) {
    let f = Request::from_line(line.as_bytes()).unwrap_err();
    assert_eq!(f.code, ErrorCode::BadRequest);
    assert!(!f.hint.is_empty());
    for w in words {
        assert!(f.to_string().contains(w), "`{w}` is not in: {f}");
    }
}

#[test]
fn every_request_survives_the_wire() {
    let at = Time::from_unix_ms(1_384_366_467_100);
    let target: Target = "192.0.2.0/28".parse().unwrap();
    let rule = || "syn-out".to_owned();
    let all = [
        Request::Status,
        Request::Top { by: TopBy::Syn, direction: Direction::In, limit: 7 },
        Request::List,
        Request::Show { target: target.clone() },
        Request::Lock {
            target: target.clone(),
            reason: Reason::NonPayment,
            direction: Direction::Both,
            note: Some("line\nbreak \u{1b}[31m \"quoted\"".to_owned()),
            case: None,
            until: Some(at),
            except: vec!["2001:db8::/32".parse().unwrap()],
            force: true,
            external_ref: Some("whmcs:4711".to_owned()),
        },
        Request::Unlock { target: target.clone(), reason: Some(Reason::Abuse), all: false, until: None },
        Request::Unlock {
            target: target.clone(),
            reason: None,
            all: true,
            until: Some(Time::from_unix_ms(5)),
        },
        Request::Resume { target: target.clone() },
        Request::BreakerApprove { rule: "syn-out".into(), targets: vec![target.clone()] },
        Request::UnlockRule { rule: rule(), since: at, dry_run: true },
        Request::Incidents { open: true, limit: 3 },
        Request::Incident { id: "C-2013-000001".to_owned() },
        Request::BreakerStatus,
        Request::Outbox { all: true, limit: 9 },
        Request::OutboxRetry { id: "C-2026-000001.locked.1.desk".to_owned() },
        Request::OutboxDrop { id: "C-2026-000001.locked.1.desk".to_owned() },
        Request::BreakerReset { rule: rule() },
        Request::Exempt { target, rule: rule(), until: at },
        Request::Rule { rule: rule(), observe: true },
        Request::Reload,
        Request::Bypass { on: true },
    ];
    for r in all {
        let line = r.to_line().unwrap();
        assert!(!line.contains('\n') && line.contains("\"v\":1"), "{line}");
        assert_eq!(Request::from_line(line.as_bytes()).unwrap(), r, "{line}");
    }
}

#[test]
fn a_request_written_by_hand_needs_only_what_matters() {
    let r =
        Request::from_line(br#"{"v":1,"op":"lock","target":"192.0.2.7","reason":"abuse","direction":"out"}"#);
    let expected = Request::Lock {
        target: "192.0.2.7".parse().unwrap(),
        reason: Reason::Abuse,
        direction: Direction::Out,
        note: None,
        case: None,
        until: None,
        except: vec![],
        force: false,
        external_ref: None,
    };
    assert_eq!(r.unwrap(), expected);
}

#[test]
fn what_is_not_understood_is_refused_with_a_reason() {
    refused("", &["not understood", "\"op\":\"status\""]);
    refused("{\"op\":\"status\"}", &["missing field `v`"]);
    refused("{\"v\":2,\"op\":\"frobnicate\",\"x\":[]}", &["version 2", "speaks 1", "installed with"]);
    refused("{\"v\":1,\"op\":\"frobnicate\"}", &["frobnicate", "bypass"]);
    refused(
        "{\"v\":1,\"op\":\"lock\",\"target\":\"192.0.2.7\",\"reason\":\"abuse\",\"direction\":\"out\",\"untill\":\"x\"}",
        &["untill"],
    );
    refused("{\"v\":1,\"op\":\"show\",\"target\":\"192.0.2.7/24\"}", &["do you mean 192.0.2.0/24"]);
    refused("{\"v\":1,\"op\":\"show\",\"target\":7}", &["not understood"]);
    refused(&format!("{{\"v\":1,\"op\":\"{}\"}}", "x".repeat(api::REQUEST_MAX)), &["longer than 65536"]);
    for noise in [&b"\xff\xfe"[..], b"null", b"[1]", b"{\"v\":1}", b"{\"v\":1e99}", &[b'['; 60_000]] {
        assert_eq!(Request::from_line(noise).unwrap_err().code, ErrorCode::BadRequest);
    }
}

#[test]
fn a_request_that_is_too_long_is_not_sent() {
    let target = "192.0.2.7".parse().unwrap();
    let note = Some("x".repeat(api::REQUEST_MAX));
    let (reason, direction) = (Reason::Abuse, Direction::Both);
    let r = Request::Lock {
        target,
        reason,
        direction,
        note,
        case: None,
        until: None,
        except: vec![],
        force: false,
        external_ref: None,
    };
    assert!(r.to_line().unwrap_err().hint.contains("shorter note"));
}

#[test]
fn answers_survive_the_wire() {
    for r in [
        Response::Ok(Payload::Done("fine".to_owned())),
        Response::Ok(Payload::Locks(vec![])),
        Response::Error(Failure::new(ErrorCode::NotFound, "no incident C-1", "cordon incidents")),
    ] {
        assert_eq!(Response::from_line(r.to_line().as_bytes()).unwrap(), r);
    }
    let w = WorkerReport { worker: 0, core: None, packets: 0, cycles_per_packet: f64::NAN, alive: true };
    let line = serde_json::to_string(&w).unwrap();
    assert_eq!(serde_json::from_str::<WorkerReport>(&line).unwrap().cycles_per_packet, 0.0);
}

#[test]
fn words_times_and_targets_are_read_as_they_are_written() {
    for r in Reason::ALL {
        assert_eq!(r.to_string().parse::<Reason>().unwrap(), *r);
    }
    assert!("sloth".parse::<Reason>().unwrap_err().contains("non-payment"));
    let t = Time::from_unix_ms(1_384_366_467_100);
    assert_eq!(t.to_string(), "2013-11-13T18:14:27.100Z");
    assert_eq!(t.to_string().parse::<Time>().unwrap(), t);
    assert_eq!("2013-11-13T19:14:27.1+01:00".parse::<Time>().unwrap(), t);
    assert!("yesterday".parse::<Time>().unwrap_err().contains("2026-11-24T12:00:00Z"));
    for extreme in [Time::from_unix_ns(i128::MAX), Time::from_unix_ns(i128::MIN), t.plus_ms(i64::MAX)] {
        assert_eq!(extreme.to_string().parse::<Time>().unwrap(), extreme);
    }
    assert_eq!(Time::from_unix_ns(i128::MAX).year(), 9999);
    for good in [
        "192.0.2.1",
        "192.0.2.0/24",
        "2001:db8::1",
        "2001:db8::/64",
        "server:DX-17",
        "0.0.0.0/0",
        "02:00:5e:10:00:01",
    ] {
        assert_eq!(good.parse::<Target>().unwrap().to_string(), good);
    }
    assert_eq!("02-00-5E-10-00-01".parse::<Target>().unwrap().to_string(), "02:00:5e:10:00:01");
    for group in ["01:00:5e:00:00:01", "ff:ff:ff:ff:ff:ff", "00:00:00:00:00:00", "02:00:00:00:00:00:01"] {
        assert!(group.parse::<Target>().is_err(), "{group}");
    }
    assert_eq!("::ffff:192.0.2.1".parse::<Target>().unwrap().to_string(), "192.0.2.1");
    assert_eq!("192.0.2.1/32".parse::<Target>().unwrap().to_string(), "192.0.2.1");
    for bad in
        ["", "server:", "server:a b", "server:\u{1b}[2J", "host.example", "192.0.2.1/24", "192.0.2.1/33"]
    {
        assert!(bad.parse::<Target>().is_err(), "{bad}");
    }
}

#[test]
fn exit_codes_are_those_that_the_command_documents() {
    let codes = [
        (ErrorCode::Refused, 1),
        (ErrorCode::Failed, 1),
        (ErrorCode::BadRequest, 2),
        (ErrorCode::Unreachable, 3),
        (ErrorCode::NotFound, 4),
        (ErrorCode::Permission, 5),
    ];
    for (code, exit) in codes {
        assert_eq!(code.exit_code(), exit);
    }
}
