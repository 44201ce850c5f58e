//! Locks on servers, and what a new inventory changes.

use std::sync::Arc;

use api::{Direction, ErrorCode, Payload, Reason, Request, Response, Target};
use config::{Inventory, Measure, Rule, Site, Way};
use region::HostFlags;

use crate::detect::Level;
use crate::effect::{Loaded, StoreOp};
use crate::testing::Desk;

const BOTH: u8 = HostFlags::LOCK_OUT | HostFlags::LOCK_IN;
const RULE: Rule = Rule::Limit(Measure::Syn, Way::Out);

fn parsed(rows: &str) -> Option<Arc<Inventory>> {
    let site = Site { groups: None, networks: &[], ipv6_host_length: 64 };
    let text = format!("id,addresses,customer\n{rows}");
    Some(Arc::new(Inventory::parse_csv(&text, "i.csv", site).unwrap_or_else(|e| panic!("{e}"))))
}

fn desk(rows: &str) -> Desk {
    Desk::with("", Loaded { hash_key: [1, 2], inventory: parsed(rows), ..Loaded::default() }, 0)
}

impl Desk {
    fn follow(&mut self, rows: &str) {
        self.control.set_inventory(parsed(rows), self.now);
        self.wait(0);
    }

    fn failure(&mut self, request: Request) -> api::Failure {
        match self.ask(request) {
            Response::Error(f) => f,
            other => panic!("{other:?}"),
        }
    }

    fn locked(&self, hosts: &[u8]) -> Vec<u8> {
        hosts.iter().copied().filter(|h| self.bits(*h) == BOTH).collect()
    }
}

fn target(text: &str) -> Target {
    text.parse().expect("a target")
}

fn lock(text: &str) -> Request {
    Request::Lock {
        target: target(text),
        reason: Reason::Abuse,
        direction: Direction::Both,
        note: None,
        case: None,
        until: None,
        except: Vec::new(),
        force: false,
        external_ref: None,
    }
}

fn unlock(text: &str) -> Request {
    Request::Unlock { target: target(text), reason: None, all: false, until: None }
}

#[test]
fn a_lock_on_a_server_covers_what_is_its_own_and_nothing_of_others() {
    let mut d = desk("a,192.0.2.0/28 192.0.2.100,c1\nb,192.0.2.5,c2\n");
    let rows = d.rows(lock("server:a"));
    assert!(rows[0].enforced && rows[0].remark.is_none(), "{rows:?}");
    assert_eq!((rows[0].server.as_deref(), rows[0].customer.as_deref()), (Some("a"), Some("c1")));
    assert_eq!(d.locked(&[0, 4, 5, 6, 15, 16, 100]), [0, 4, 6, 15, 100], "5 is another's");
    let stored =
        d.stored.iter().any(|op| matches!(op, StoreOp::PutLock(r) if r.addresses == rows[0].addresses));
    assert!(stored, "what it covers is on disk");
    let failure = d.failure(unlock("192.0.2.4"));
    assert!(failure.hint.contains("cordon unlock server:a"), "{failure:?}");
    assert_eq!(d.rows(unlock("server:a")).len(), 1);
    assert_eq!(d.locked(&[0, 4, 6, 100]), [0; 0]);
}

#[test]
fn pages_of_the_lock_list_know_servers_and_customers() {
    let mut d = desk("a,192.0.2.0/28 192.0.2.100,c1\nb,192.0.2.200,c2\n");
    d.rows(lock("server:a"));
    d.rows(lock("192.0.2.100"));
    d.rows(lock("192.0.2.200"));
    d.rows(lock("192.0.2.240"));
    let mut page = |target: Option<&str>, customer: Option<&str>, after| {
        let (target, customer) = (target.map(|t| t.parse().expect("a target")), customer.map(str::to_owned));
        let request = Request::Locks { reason: None, target, customer, external_ref: None, after, limit: 10 };
        d.rows(request).iter().map(|r| r.id).collect::<Vec<_>>()
    };
    assert_eq!(page(None, None, 0), [1, 2, 3, 4]);
    assert_eq!(page(None, None, 2), [3, 4]);
    assert_eq!(page(None, Some("c1"), 0), [1, 2]);
    assert_eq!(page(None, Some("c3"), 0), [0; 0]);
    assert_eq!(page(Some("192.0.2.4"), None, 0), [1], "the lock on its server");
    assert_eq!(page(Some("192.0.2.96/27"), None, 0), [1, 2]);
    assert_eq!(page(Some("server:b"), None, 0), [3]);
    assert_eq!(page(Some("192.0.2.4"), Some("c2"), 0), [0; 0]);
}

#[test]
fn a_server_that_nobody_knows_cannot_be_locked_and_the_answer_says_why() {
    let mut d = desk("a,192.0.2.1,\n");
    let failure = d.failure(lock("server:z"));
    assert_eq!(failure.code, ErrorCode::NotFound);
    assert!(failure.message.contains("i.csv has no server z"), "{failure:?}");
    assert_eq!(d.failure(unlock("server:z")).code, ErrorCode::NotFound);
    let mut d = Desk::new("");
    let failure = d.failure(lock("server:a"));
    assert!(
        failure.message.contains("no inventory") && failure.hint.contains("[inventory] file"),
        "{failure:?}"
    );
    let mut d = Desk::with(
        "[never_lock]\nprefixes = [\"192.0.2.2/32\"]\n",
        Loaded { hash_key: [1, 2], inventory: parsed("a,192.0.2.1 192.0.2.2,\n"), ..Loaded::default() },
        0,
    );
    assert!(d.failure(lock("server:a")).message.contains("never-lock"));
    // What shares an IPv6 host with others cannot be locked without them.
    d.follow("a,2001:db8::1,\nb,2001:db8::2,\n");
    assert!(d.failure(lock("server:a")).message.contains("shares 2001:db8::/64"));
}

#[test]
fn a_lock_follows_its_server_and_frees_only_what_another_server_has_now() {
    let mut d = desk("a,192.0.2.1 192.0.2.2 192.0.2.3,\nb,192.0.2.9,\n");
    d.rows(lock("server:a"));
    // 2 moves to b, 3 is given back, 4 is new.
    d.follow("a,192.0.2.1 192.0.2.4,\nb,192.0.2.9 192.0.2.2,\n");
    assert_eq!(d.locked(&[1, 2, 3, 4, 9]), [1, 3, 4]);
    let rows = d.rows(Request::List);
    assert!(rows[0].remark.as_ref().is_some_and(|r| r.contains("192.0.2.3/32 stays locked")), "{rows:?}");
    assert!(d.audit().iter().any(|a| a.contains("follows the inventory")), "{:?}", d.audit());
    // The server is gone: what it covered stays locked, but for what others have.
    d.follow("b,192.0.2.9 192.0.2.4,\n");
    assert_eq!(d.locked(&[1, 2, 3, 4, 9]), [1, 3]);
    let rows = d.rows(Request::List);
    assert!(
        rows[0].enforced && rows[0].remark.as_ref().is_some_and(|r| r.contains("no longer has")),
        "{rows:?}"
    );
    let Response::Ok(Payload::Status(status)) = d.ask(Request::Status) else { panic!("no status") };
    assert!(status.attention.iter().any(|a| a.text.contains("lock 1 on server:a: the inventory no longer")));
    // No inventory at all: nothing changes, and it can be unlocked.
    d.control.set_inventory(None, d.now);
    d.wait(0);
    assert_eq!(d.locked(&[1, 3]), [1, 3]);
    assert_eq!(d.rows(unlock("server:a")).len(), 1);
    assert_eq!(d.locked(&[1, 3]), [0; 0]);
}

#[test]
fn a_lock_on_a_server_outlives_a_restart_without_the_inventory() {
    let mut d = desk("a,192.0.2.1 192.0.2.2,\n");
    let locks = d.rows(lock("server:a"));
    let loaded = |inventory| Loaded {
        hash_key: [1, 2],
        locks: locks.clone(),
        last_lock: 1,
        inventory,
        ..Loaded::default()
    };
    let mut d = Desk::with("", loaded(None), 1_000);
    assert_eq!(d.locked(&[1, 2]), [1, 2]);
    assert!(d.rows(Request::List)[0].remark.as_ref().is_some_and(|r| r.contains("no inventory")));
    // It comes back, and has changed meanwhile.
    let d = Desk::with("", loaded(parsed("a,192.0.2.1,\nb,192.0.2.2,\n")), 1_000);
    assert_eq!(d.locked(&[1, 2]), [1]);
}

#[test]
fn unlocking_a_server_lifts_what_is_locked_of_it() {
    let mut d = desk("a,192.0.2.1 192.0.2.2,c1\nb,192.0.2.3,\n");
    for host in [1, 2, 3] {
        d.find(host, RULE, Level::Lock);
    }
    let rows = d.rows(Request::List);
    assert_eq!(
        rows.iter().map(|r| r.server.as_deref()).collect::<Vec<_>>(),
        [Some("a"), Some("a"), Some("b")]
    );
    let incident = d.control.incidents().rows()[0].clone();
    assert_eq!((incident.server.as_deref(), incident.customer.as_deref()), (Some("a"), Some("c1")));
    let lifted = d.rows(unlock("server:a"));
    assert_eq!(lifted.iter().map(|r| r.target.to_string()).collect::<Vec<_>>(), ["192.0.2.1", "192.0.2.2"]);
    assert_eq!([1, 2, 3].map(|h| d.bits(h)), [0, 0, HostFlags::LOCK_OUT]);
}

#[test]
fn a_server_that_is_exempted_is_left_alone_with_all_its_addresses() {
    let mut d = desk("a,192.0.2.1 192.0.2.2,\nb,192.0.2.3,\n");
    let until = d.now.time().plus_ms(3_600_000);
    let exempt = |id: &str| Request::Exempt { target: target(id), rule: RULE.to_string(), until };
    assert_eq!(d.failure(exempt("server:z")).code, ErrorCode::NotFound);
    assert!(matches!(d.ask(exempt("server:a")), Response::Ok(_)));
    for host in [1, 2, 3] {
        d.find(host, RULE, Level::Lock);
    }
    assert_eq!([1, 2, 3].map(|h| d.bits(h)), [0, 0, HostFlags::LOCK_OUT]);
    let Response::Ok(Payload::Host(shown)) = d.ask(Request::Show { target: target("192.0.2.2") }) else {
        panic!("no host")
    };
    assert_eq!(shown.exemptions.len(), 1);
    assert_eq!(shown.server.map(|s| s.id).as_deref(), Some("a"));
}

#[test]
fn a_host_is_its_servers_by_the_longest_prefix() {
    let site = Site { groups: None, networks: &[], ipv6_host_length: 64 };
    let text = "id,addresses,group\nrack,192.0.2.0/25,\na,192.0.2.7 192.0.2.8/30,web\n";
    let inventory = Arc::new(Inventory::parse_csv(text, "i.csv", site).unwrap_or_else(|e| panic!("{e}")));
    let mut d =
        Desk::with("[[group]]\nname = \"web\"\n", Loaded { hash_key: [1, 2], ..Loaded::default() }, 0);
    d.control.set_inventory(Some(Arc::clone(&inventory)), d.now);
    let facts = d.control.facts().cloned().expect("facts");
    for (host, id, group) in
        [(0, Some("rack"), "default"), (7, Some("a"), "web"), (11, Some("a"), "web"), (200, None, "default")]
    {
        let host = d.control.networks().host_v4(0xc000_0200 | host).expect("a host");
        let owner = d.control.owner(host, &facts).and_then(|o| inventory.at(o)).map(|s| s.id.as_str());
        assert_eq!((owner, d.control.group_of(host, &facts).as_deref()), (id, Some(group)), "{host:?}");
    }
}
