//! The HTTP API: who may do what, what is refused, and that nothing is done twice.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;
#[path = "common/http.rs"]
mod http;

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::time::{Duration, Instant};

use api::{Payload, Request, Response, Role};
use cordond::effect::{BatchId, StoreOp};
use cordond::store::{Opened, Places, Store};
use http::{Reply, Site, token, wire};
use nix::sys::signal::Signal;

use common::{Rig, SOON};

const INCIDENT: &str = "C-2026-000001";

/// Leaves an incident with a file of evidence in the store.
fn incident(rig: &Rig) {
    // Old ones are not kept.
    let at = api::Time::now();
    let row = serde_json::json!({
        "id": INCIDENT, "kind": "netscan", "address": "192.0.2.77", "mac": null, "direction": "out", "action": "warn",
        "actions": [], "rule": "netscan/default", "opened": at,
        "first_seen": at, "last_seen": at, "protocol": "tcp",
        "measure": "contacts", "window": "60s", "limit": 90, "peak": 91, "packets": 1, "bytes": 60, "seconds": 1,
        "dropped": 0, "held_back": null, "closed": at, "files": ["netscan.log", "gone.log", "link.log"]
    });
    let row = serde_json::from_value(row).unwrap();
    let state = rig.state();
    let places = Places { state: &state, scratch: rig.tables.path(), in_force: None };
    let Opened { store, .. } = Store::open(places, || ()).unwrap();
    let bytes = b"Netscan detected\n".to_vec();
    let file = StoreOp::WriteEvidence { incident: INCIDENT.into(), name: "netscan.log".into(), bytes };
    store.submit(BatchId(1), vec![StoreOp::PutIncident(Box::new(row)), file], false);
    assert_eq!(store.wait(SOON).unwrap().result, Ok(()));
    assert_eq!(store.stop(SOON), 0);
    drop(store);
    std::os::unix::fs::symlink("/etc/passwd", state.join("evidence").join(INCIDENT).join("link.log"))
        .unwrap();
}

const V: Role = Role::Viewer;
const O: Role = Role::Operator;
const B: Role = Role::Billing;
const A: Role = Role::Admin;

/// Method, route, path where it differs from the route, body, and who may.
type Case = (&'static str, &'static str, &'static str, Option<&'static str>, &'static [Role]);

/// Every operation: a request that changes nothing where it is permitted, and who is permitted.
const TABLE: &[Case] = &[
    ("GET", "/status", "", None, &[V, O, A]),
    ("GET", "/hosts/{address}", "/hosts/192.0.2.1", None, &[V, O, B, A]),
    ("GET", "/locks", "", None, &[V, O, B, A]),
    (
        "POST",
        "/locks",
        "",
        Some(r#"{"target":"192.0.2.1","reason":"non-payment","until":"2001-01-01T00:00:00Z"}"#),
        &[B, A],
    ),
    (
        "POST",
        "/locks",
        "",
        Some(r#"{"target":"192.0.2.1","reason":"abuse","until":"2001-01-01T00:00:00Z"}"#),
        &[O, A],
    ),
    ("DELETE", "/locks", "/locks?target=192.0.2.1&reason=abuse", None, &[O, B, A]),
    ("GET", "/locks/{id}", "/locks/99", None, &[V, O, B, A]),
    ("DELETE", "/locks/{id}", "/locks/99", None, &[O, B, A]),
    (
        "POST",
        "/maintenance",
        "",
        Some(r#"{"target":"192.0.2.1","until":"2001-01-01T00:00:00Z"}"#),
        &[O, B, A],
    ),
    ("DELETE", "/maintenance", "/maintenance?target=192.0.2.1", None, &[O, A]),
    ("GET", "/incidents", "", None, &[V, O, A]),
    ("GET", "/incidents/{id}", "/incidents/C-2026-000001", None, &[V, O, A]),
    ("GET", "/incidents/{id}/files", "/incidents/C-2026-000001/files", None, &[V, O, A]),
    ("GET", "/incidents/{id}/files/{name}", "/incidents/C-2026-000001/files/netscan.log", None, &[V, O, A]),
    ("GET", "/rules", "", None, &[V, O, A]),
    ("PUT", "/rules/{rule}", "/rules/syn-out", Some(r#"{"observing":false}"#), &[A]),
    ("GET", "/breakers", "", None, &[V, O, A]),
    (
        "POST",
        "/breakers/{rule}/approve",
        "/breakers/syn-out/approve",
        Some(r#"{"targets":["192.0.2.1"]}"#),
        &[A],
    ),
    ("POST", "/breakers/{rule}/reset", "/breakers/syn-out/reset", None, &[A]),
    ("GET", "/exemptions", "", None, &[V, O, A]),
    (
        "POST",
        "/exemptions",
        "",
        Some(r#"{"target":"192.0.2.1","rule":"syn-out","until":"2001-01-01T00:00:00Z"}"#),
        &[O, A],
    ),
];

#[test]
fn every_route_refuses_whom_it_must_and_is_described() {
    let site = Site::with("", incident);
    let document = site.call("GET", "/api/v1/openapi.json", None, None);
    assert_eq!(document.status, 200);
    let mut described = BTreeSet::new();
    for (path, item) in document.json()["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let path = path.strip_prefix("/api/v1").unwrap();
            assert!(described.insert((method.to_uppercase(), path.to_owned())));
            assert_eq!(operation["security"], serde_json::json!([{"token": []}]), "{method} {path}");
        }
    }
    let tried: BTreeSet<_> = TABLE.iter().map(|t| (t.0.to_owned(), t.1.to_owned())).collect();
    assert_eq!(described, tried, "what is described is what is tried here, for every role");
    for (method, route, path, body, roles) in TABLE {
        let path = format!("/api/v1{}", if path.is_empty() { route } else { path });
        for role in Role::ALL {
            let reply = site.call(method, &path, Some(site.token(*role)), *body);
            if roles.contains(role) {
                assert!(
                    !matches!(reply.status, 0 | 401 | 403 | 405 | 500..),
                    "{role} {method} {path}: {reply:?}"
                );
            } else {
                assert_eq!(reply.status, 403, "{role} {method} {path}: {reply:?}");
                assert!(reply.problem().contains("permission"), "{reply:?}");
            }
        }
        let unknown = api::token::secret().unwrap();
        for bad in [None, Some(unknown.as_str())] {
            let reply = site.call(method, &path, bad, *body);
            assert!(matches!(reply.status, 401 | 429), "{method} {path}: {reply:?}");
        }
        let odd = site.call("PATCH", &path, Some(site.token(A)), None);
        assert_eq!(odd.status, 405, "{odd:?}");
        assert!(odd.problem().contains("Allow") && odd.head.contains("\nallow: "), "{odd:?}");
        let options = site.call("OPTIONS", &path, Some(site.token(A)), None);
        assert_eq!(options.status, 204, "{options:?}");
        let allow = options.head.lines().find(|l| l.starts_with("allow: ")).unwrap_or_default();
        assert!(allow.contains(&method.to_lowercase()), "{options:?}");
        assert!(!options.head.contains("access-control"), "{options:?}");
    }
    assert!(site.daemon.list().is_empty(), "nothing was changed");
}

#[test]
fn a_role_lifts_only_its_own() {
    let site = Site::new();
    let locked = |role, reason: &str, n: u8| {
        let body = format!(r#"{{"target":"192.0.2.{n}","reason":"{reason}","case":"T-1","note":"n"}}"#);
        let reply = site.call("POST", "/api/v1/locks", Some(site.token(role)), Some(&body));
        assert_eq!(reply.status, 201, "{reply:?}");
        let row = reply.json();
        assert_eq!(
            (row["who"].as_str(), row["case"].as_str()),
            (Some(&*format!("token:{role}")), Some("T-1"))
        );
        assert!(reply.head.contains(&format!("location: /api/v1/locks/{}", row["id"])), "{reply:?}");
        row["id"].as_u64().unwrap()
    };
    let abuse = locked(O, "abuse", 1);
    let unpaid = locked(B, "non-payment", 1);
    let delete = |role, path: String| site.call("DELETE", &path, Some(site.token(role)), None);
    for (role, id) in [(O, unpaid), (B, abuse)] {
        let refused = delete(role, format!("/api/v1/locks/{id}"));
        assert_eq!(refused.status, 403, "{refused:?}");
        assert!(refused.problem().contains("may not lift lock"), "{refused:?}");
    }
    let by_target =
        |role, reason: &str| delete(role, format!("/api/v1/locks?target=192.0.2.1&reason={reason}"));
    assert_eq!(by_target(B, "abuse").status, 403);
    assert_eq!(by_target(O, "non-payment").status, 403);
    let until = api::Time::now().plus_ms(600_000);
    let body = format!(r#"{{"target":"192.0.2.1","reason":"non-payment","until":"{until}"}}"#);
    let suspend = |role| site.call("POST", "/api/v1/maintenance", Some(site.token(role)), Some(&body)).status;
    assert_eq!(suspend(O), 403, "an unpaid invoice stays one");
    assert_eq!(site.daemon.list().len(), 2);
    assert_eq!(by_target(B, "non-payment").json()["locks"][0]["id"], unpaid);
    let lifted = delete(O, format!("/api/v1/locks/{abuse}"));
    assert_eq!((lifted.status, lifted.json()["id"].as_u64()), (200, Some(abuse)));
    let again = delete(O, format!("/api/v1/locks/{abuse}"));
    assert_eq!(again.status, 404, "{again:?}");
    assert!(site.daemon.list().is_empty());
    // What billing must not do by mistake.
    for (body, says) in [
        (r#"{"target":"192.0.0.0/16","reason":"non-payment"}"#, "shorter than /24"),
        (r#"{"target":"192.0.2.1","reason":"non-payment","force":true}"#, "never-lock"),
        (r#"{"target":"192.0.2.1","reason":"abuse"}"#, "lock for abuse"),
    ] {
        let refused = site.call("POST", "/api/v1/locks", Some(site.token(B)), Some(body));
        assert_eq!(refused.status, 403, "{refused:?}");
        assert!(refused.problem().contains(says), "{refused:?}");
    }
}

#[test]
fn tokens_are_seen_once_and_end_when_they_are_revoked_or_over() {
    let site = Site::new();
    let secret = token(&site.daemon, "short-lived", V);
    assert_eq!(site.call("GET", "/api/v1/status", Some(&secret), None).status, 200);
    let typo = format!("{}0", &secret[..secret.len() - 1]);
    for bad in [typo.as_str(), &secret[1..], "cordon_", ""] {
        let reply = site.call("GET", "/api/v1/status", Some(bad), None);
        assert_eq!(reply.status, if bad == secret { 200 } else { 401 }, "{bad}: {reply:?}");
        assert!(reply.head.contains("www-authenticate: bearer"), "{reply:?}");
    }
    // It is taken from nowhere but the header.
    assert_eq!(site.call("GET", &format!("/api/v1/status?token={secret}"), None, None).status, 401);
    match site.daemon.ask(&Request::TokenRevoke { name: "short-lived".into() }) {
        Response::Ok(Payload::Tokens(rows)) => assert!(rows[0].revoked.is_some()),
        other => panic!("{other:?}"),
    }
    assert_eq!(site.call("GET", "/api/v1/status", Some(&secret), None).status, 401, "at once");
    let rows = match site.daemon.ask(&Request::Tokens) {
        Response::Ok(Payload::Tokens(rows)) => rows,
        other => panic!("{other:?}"),
    };
    let row = rows.iter().find(|r| r.name == "short-lived").unwrap();
    assert!(row.last_used.is_some() && row.role == V, "{row:?}");
    // An end in the past cannot be asked for, so the end has to be waited for.
    let over = api::token::secret().unwrap();
    let until = api::Time::now().plus_ms(1_500);
    let request = Request::TokenCreate {
        name: "over".into(),
        role: V,
        digest: api::token::digest(&over),
        until: Some(until),
    };
    assert!(matches!(site.daemon.ask(&request), Response::Ok(_)));
    site.daemon.until("its end", |_| {
        let status = site.call("GET", "/api/v1/status", Some(&over), None).status;
        (api::Time::now() > until.plus_ms(-1_000) && status == 401 || status == 429).then_some(())
    });
    assert!(api::Time::now() >= until, "not before its time");
    // Neither log, nor store, nor any answer has a secret.
    let all: Vec<&String> = site.tokens.iter().map(|(_, t)| t).chain([&secret, &over, &typo]).collect();
    let mut places = vec![site.daemon.log.clone()];
    places.extend(
        std::fs::read_dir(site.rig.state()).unwrap().map(|e| e.unwrap().path()).filter(|p| p.is_file()),
    );
    for place in places {
        let bytes = std::fs::read(&place).unwrap();
        for secret in &all {
            let needle = &secret.as_bytes()[secret.len() - 24..];
            assert!(!bytes.windows(needle.len()).any(|w| w == needle), "a secret in {}", place.display());
        }
    }
}

#[test]
fn the_same_request_under_the_same_reference_is_done_once() {
    let mut site = Site::new();
    let body = r#"{"target":"192.0.2.10","reason":"non-payment","external_ref":"whmcs:4711","note":"third reminder"}"#;
    let mut unheard = site.connect();
    unheard.write_all(wire("POST", "/api/v1/locks", Some(site.token(B)), Some(body)).as_bytes()).unwrap();
    // As soon as it is on disk, and in the list, cordond dies. Whether the answer is out: nobody has heard it.
    let row = site.daemon.until("the row", |d| d.list().pop());
    site.daemon.kill();
    site.daemon = site.rig.start();
    let again = site.daemon.until("the API", |_| {
        let reply = std::net::TcpStream::connect(site.address).is_ok();
        reply.then(|| site.call("POST", "/api/v1/locks", Some(site.token(B)), Some(body)))
    });
    assert_eq!(again.status, 200, "{again:?}");
    assert_eq!(again.json()["id"], row.id);
    assert_eq!(site.daemon.list().len(), 1);
    let other = body.replace("third", "fourth");
    let conflict = site.call("POST", "/api/v1/locks", Some(site.token(B)), Some(&other));
    assert_eq!(conflict.status, 409, "{conflict:?}");
    assert!(conflict.problem().contains("another request"), "{conflict:?}");
    let found = site.get("/api/v1/locks?external_ref=whmcs:4711").json();
    assert_eq!(found["locks"].as_array().unwrap().len(), 1, "{found}");
    // The customer pays; a repetition that was under way all the time must not lock again.
    assert_eq!(
        site.call("DELETE", &format!("/api/v1/locks/{}", row.id), Some(site.token(B)), None).status,
        200
    );
    for restart in [false, true] {
        if restart {
            site.daemon.kill();
            site.daemon = site.rig.start();
            site.daemon.until("the API", |_| std::net::TcpStream::connect(site.address).ok().map(|_| ()));
        }
        let late = site.call("POST", "/api/v1/locks", Some(site.token(B)), Some(body));
        assert_eq!(late.status, 409, "{late:?}");
        assert!(late.problem().contains("was lifted"), "{late:?}");
    }
    assert!(site.daemon.list().is_empty());
}

#[test]
fn fifty_clients_at_once_get_their_answers_and_one_lock_for_one_reference() {
    let site = Site::new();
    let body = r#"{"target":"192.0.2.20","reason":"non-payment","external_ref":"once"}"#;
    let statuses: Vec<(u16, u64)> = std::thread::scope(|scope| {
        let one = |n: usize| {
            let site = &site;
            scope.spawn(move || {
                let mine = format!(r#"{{"target":"192.0.2.{}","reason":"abuse"}}"#, 100 + n);
                let reply = site.post("/api/v1/locks", &mine);
                assert_eq!(reply.status, 201, "{reply:?}");
                let reply = site.post("/api/v1/locks", body);
                (reply.status, reply.json()["id"].as_u64().unwrap())
            })
        };
        let threads: Vec<_> = (0..50).map(one).collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    let ids: BTreeSet<u64> = statuses.iter().map(|(_, id)| *id).collect();
    assert_eq!(ids.len(), 1, "{statuses:?}");
    assert!(statuses.iter().all(|(s, _)| matches!(s, 200 | 201)), "{statuses:?}");
    assert_eq!(site.daemon.list().len(), 51);
    // Page by page everything comes once.
    let mut seen = BTreeSet::new();
    let mut path = "/api/v1/locks?limit=7".to_owned();
    loop {
        let page = site.get(&path).json();
        for row in page["locks"].as_array().unwrap() {
            assert!(seen.insert(row["id"].as_u64().unwrap()));
        }
        let Some(next) = page["next"].as_u64() else { break };
        path = format!("/api/v1/locks?limit=7&after={next}");
    }
    assert_eq!(seen.len(), 51);
    let count =
        |query: &str| site.get(&format!("/api/v1/locks?{query}")).json()["locks"].as_array().unwrap().len();
    assert_eq!(count("reason=non-payment"), 1);
    assert_eq!(count("target=192.0.2.96/27"), 28);
    assert_eq!(count("target=192.0.2.100"), 1);
    assert_eq!(count("target=198.51.100.1"), 0);
}

#[test]
fn what_is_no_good_request_is_told_where_and_why() {
    let site = Site::new();
    let post = |body: &str| site.post("/api/v1/locks", body);
    type Place = Option<(u64, u64)>;
    let cases: [(&str, &str, Place); 9] = [
        ("{\n  \"target\": \"192.0.2.1\",\n  oops\n}", "key must be a string", Some((3, 3))),
        (
            "{\"target\":\"192.0.2.1\",\"reason\":\"abuse\",\"surprise\":1}",
            "unknown field `surprise`",
            Some((1, 49)),
        ),
        ("{\"reason\":\"abuse\"}", "missing field `target`", Some((1, 18))),
        ("{\"target\":\"192.0.2.7/24\",\"reason\":\"abuse\"}", "host bits", Some((1, 24))),
        ("{\"target\":\"192.0.2.1\",\"reason\":\"netscan\"}", "unknown variant `netscan`", Some((1, 40))),
        ("", "EOF", Some((1, 1))),
        ("[1]", "invalid type", None),
        ("{\"target\":\"192.0.2.1\",\"reason\":\"abuse\",\"external_ref\":\"a b\"}", "no space", None),
        (
            "{\"target\":\"192.0.2.1\",\"reason\":\"abuse\",\"until\":\"2001-01-01T00:00:00Z\"}",
            "is over",
            None,
        ),
    ];
    for (body, says, place) in cases {
        let reply = post(body);
        assert_eq!(reply.status, 400, "{body}: {reply:?}");
        assert!(reply.problem().contains(says), "{body}: {reply:?}");
        if let Some((line, column)) = place {
            let json = reply.json();
            assert_eq!(
                (json["line"].as_u64(), json["column"].as_u64()),
                (Some(line), Some(column)),
                "{body}"
            );
        }
    }
    let long = format!(r#"{{"target":"192.0.2.1","reason":"abuse","note":"{}"}}"#, "n".repeat(2_001));
    assert!(post(&long).problem().contains("2000 are allowed"));
    let get = |path: &str| site.get(&format!("/api/v1{path}"));
    for (path, status, says) in [
        ("/locks?surprise=1", 400, "unknown field `surprise`"),
        ("/locks?limit=0", 400, "out of range"),
        ("/locks?limit=1001", 400, "out of range"),
        ("/locks?reason=fun", 400, "unknown variant"),
        ("/locks?target=300.1.1.1", 400, "no address"),
        ("/locks/x", 400, "Cannot parse"),
        ("/locks/7", 404, "no lock 7"),
        ("/hosts/nowhere", 400, "no address"),
        ("/incidents/C-1", 404, "no incident C-1"),
        ("/incidents?before=C-1", 404, "no incident C-1"),
        ("/status?x=1", 400, "unknown field"),
        ("/nothing", 404, "openapi.json"),
    ] {
        let reply = get(path);
        assert_eq!(reply.status, status, "{path}: {reply:?}");
        assert!(reply.problem().contains(says), "{path}: {reply:?}");
    }
    let text = wire("POST", "/api/v1/locks", Some(site.token(A)), Some("{}"));
    for kind in ["text/plain", "application/xml", "application/x-www-form-urlencoded"] {
        let reply = site.send(text.replace("application/json", kind).as_bytes());
        assert_eq!(reply.status, 415, "{reply:?}");
        assert!(reply.problem().contains(kind), "{reply:?}");
    }
    assert_eq!(
        site.send(text.replace("application/json", "application/json; charset=utf-8").as_bytes()).status,
        400
    );
    // HEAD is GET without a body.
    let head = site.call("HEAD", "/api/v1/status", Some(site.token(A)), None);
    assert_eq!((head.status, head.body.as_str()), (200, ""), "{head:?}");
    assert!(site.daemon.list().is_empty());
}

#[test]
fn bodies_that_are_too_long_too_slow_or_never_come_are_refused() {
    let site = Site::new();
    let head = |length: usize| {
        format!(
            "POST /api/v1/locks HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {}\r\n\
             Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n",
            site.token(A)
        )
    };
    let long = "x".repeat(65 << 10);
    let reply = site.send((head(long.len()) + &long).as_bytes());
    assert_eq!(reply.status, 413, "{reply:?}");
    assert!(reply.problem().contains("longer than 65536 bytes"), "{reply:?}");
    // Without a length: the limit holds for what really comes.
    let chunked = head(0).replace("Content-Length: 0", "Transfer-Encoding: chunked");
    let chunk = format!("{:x}\r\n{long}\r\n0\r\n\r\n", long.len());
    assert_eq!(site.send((chunked + &chunk).as_bytes()).status, 413);
    // A head that is too long.
    let many = format!("GET /api/v1/status HTTP/1.1\r\nX: {}\r\n\r\n", "y".repeat(40 << 10));
    assert_eq!(site.send(many.as_bytes()).status, 431);
    // Slow ones, all at once: heads that never end, bodies that never end, nothing at all.
    let started = Instant::now();
    let mut heads: Vec<_> = (0..40).map(|_| site.connect()).collect();
    for h in &mut heads {
        h.write_all(b"GET /api/v1/status HTTP/1.1\r\nX-Slow: ").unwrap();
    }
    let mut body = site.connect();
    body.write_all((head(100) + "{\"target\":").as_bytes()).unwrap();
    let idle = site.connect();
    while started.elapsed() < Duration::from_secs(3) {
        let asked = Instant::now();
        assert_eq!(site.get("/api/v1/status").status, 200, "others are served meanwhile");
        assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
        for h in &mut heads {
            // One more byte does not buy more time.
            let _ = h.write_all(b"z");
        }
    }
    let late = Reply::read(body);
    assert_eq!(late.status, 408, "{late:?}");
    assert!(late.problem().contains("within 10 s"), "{late:?}");
    for mut stream in heads.into_iter().chain([idle]) {
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
        assert!(!rest.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&rest));
    }
    let took = started.elapsed();
    assert!(took > Duration::from_secs(8) && took < SOON, "{took:?}");
    assert!(site.daemon.list().is_empty());
}

#[test]
fn who_comes_when_all_places_are_taken_is_told_so() {
    let site = Site::new();
    let mut others: Vec<_> = (0..256).map(|_| site.connect()).collect();
    // Connections are taken in order: when the last of them is served, all have a place.
    let last = others.last_mut().unwrap();
    let ask = wire("GET", "/api/v1/status", Some(site.token(A)), None).replace("close", "keep-alive");
    last.write_all(ask.as_bytes()).unwrap();
    let mut byte = [0u8; 12];
    last.read_exact(&mut byte).unwrap();
    assert_eq!(&byte, b"HTTP/1.1 200");
    let reply = Reply::read(site.connect());
    assert_eq!(reply.status, 503, "{reply:?}");
    assert!(reply.problem().contains("too many connections"), "{reply:?}");
    others.truncate(250);
    site.daemon.until("a place", |_| (site.get("/api/v1/status").status == 200).then_some(()));
}

#[test]
fn evidence_is_downloaded_and_nothing_else_is() {
    let site = Site::with("", incident);
    let base = format!("/api/v1/incidents/{INCIDENT}/files");
    let files = site.get(&base).json();
    assert_eq!(files["files"][0]["name"], "netscan.log");
    let file = site.get(files["files"][0]["path"].as_str().unwrap());
    assert_eq!((file.status, file.body.as_str()), (200, "Netscan detected\n"), "{file:?}");
    for header in [
        "content-type: text/plain",
        "x-content-type-options: nosniff",
        "content-disposition: attachment; filename=\"c-2026-000001-netscan.log\"",
    ] {
        assert!(file.head.contains(header), "{file:?}");
    }
    for name in [
        "..%2f..%2fcordon.db",
        "%2e%2e%2f%2e%2e%2fcordon.db",
        "../../cordon.db",
        "..%5c..%5ccordon.db",
        "%2fetc%2fpasswd",
        "/etc/passwd",
        "netscan.log%00",
        "netscan.log%2f",
        ".",
        "..",
        "gone.log",
        "cordon.db",
    ] {
        let reply = site.get(&format!("{base}/{name}"));
        assert!(matches!(reply.status, 400 | 404), "{name}: {reply:?}");
        reply.problem();
    }
    for id in ["..", "%2e%2e", "..%2f..", "C-2026-000001%2f..", "c-2026-000001"] {
        let reply = site.get(&format!("/api/v1/incidents/{id}/files/cordon.db"));
        assert!(matches!(reply.status, 400 | 404), "{id}: {reply:?}");
    }
    let link = site.get(&format!("{base}/link.log"));
    assert_eq!(link.status, 503, "a link is not followed: {link:?}");
    assert!(!link.body.contains("root:") && !link.body.contains("/state/"), "{link:?}");
}

#[test]
fn failures_are_answered_more_shortly_and_do_not_fill_the_log() {
    let site = Site::new();
    let statuses: Vec<u16> =
        (0..30).map(|_| site.call("GET", "/api/v1/status", Some("cordon_no"), None).status).collect();
    assert_eq!(statuses[..10], [401; 10]);
    assert!(statuses[10..].iter().all(|s| *s == 429), "{statuses:?}");
    let limited = site.call("GET", "/api/v1/status", None, None);
    assert!(limited.head.contains("retry-after: 60"), "{limited:?}");
    assert!(limited.problem().contains("in a minute"), "{limited:?}");
    assert_eq!(site.get("/api/v1/status").status, 200, "a good token is good all the same");
    assert_eq!(site.daemon.log().matches("HTTP API").count(), 2, "{}", site.daemon.log());
}

#[test]
fn everything_that_a_program_did_stands_in_the_audit_log() {
    let mut site = Site::new();
    let reply = site.post("/api/v1/locks", r#"{"target":"192.0.2.9","reason":"abuse","case":"T-9"}"#);
    let id = reply.json()["id"].as_u64().unwrap();
    site.call("DELETE", &format!("/api/v1/locks/{id}"), Some(site.token(O)), None);
    site.daemon.signal(Signal::SIGTERM);
    site.daemon.ended_within(SOON).unwrap();
    let db = rusqlite::Connection::open(site.rig.state().join("cordon.db")).unwrap();
    let mut rows =
        db.prepare("SELECT who || ': ' || what FROM audit WHERE who LIKE 'token:%' ORDER BY seq").unwrap();
    let lines: Vec<String> = rows.query_map([], |r| r.get(0)).unwrap().map(Result::unwrap).collect();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[0].starts_with("token:admin from 127.0.0.1: lock 192.0.2.9"), "{lines:?}");
    assert!(lines[1].starts_with("token:operator from 127.0.0.1: unlock 192.0.2.9"), "{lines:?}");
}
