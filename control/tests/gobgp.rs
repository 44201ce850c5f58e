//! Blackholes upstream: cordond, its gobgpd, and a second gobgpd in the place of a router upstream.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use api::{Payload, Request, RtbhRow, RtbhState, Target, Time};
use common::{Daemon, Rig, failure, lock, rows};

/// A session needs some seconds; a machine that is busy, more.
const SESSION: Duration = Duration::from_secs(60);

/// A gobgpd, on an address of its own in 127.0.0.0/8.
struct Gobgpd {
    child: Option<Child>,
    config: PathBuf,
    address: String,
}

impl Gobgpd {
    fn new(rig: &Rig, last: u8) -> Gobgpd {
        let [_, _, high, low] = std::process::id().to_be_bytes();
        let address = |n: u8| format!("127.{high}.{low}.{n}");
        let (own, peer) = (address(last), address(3 - last));
        let (own_as, peer_as) = (64_511 + u16::from(last), 64_511 + u16::from(3 - last));
        let families: String = ["ipv4", "ipv6"]
            .map(|f| {
                format!(
                    "[[neighbors.afi-safis]]\n[neighbors.afi-safis.config]\nafi-safi-name = \"{f}-unicast\"\n"
                )
            })
            .concat();
        let text = format!(
            "[global.config]\nas = {own_as}\nrouter-id = \"10.0.0.{last}\"\nport = 1790\nlocal-address-list = [\"{own}\"]\n\
             [[neighbors]]\n[neighbors.config]\nneighbor-address = \"{peer}\"\npeer-as = {peer_as}\n\
             [neighbors.transport.config]\nremote-port = 1790\nlocal-address = \"{own}\"\n\
             [neighbors.ebgp-multihop.config]\nenabled = true\nmultihop-ttl = 5\n\
             [neighbors.timers.config]\nconnect-retry = 1\nidle-hold-time-after-reset = 1\n{families}"
        );
        let config = rig.dir.path().join(format!("gobgpd-{last}.toml"));
        std::fs::write(&config, text).unwrap();
        let mut g = Gobgpd { child: None, config, address: own };
        g.start();
        g
    }

    fn start(&mut self) {
        let mut command = Command::new("gobgpd");
        command.arg("-f").arg(&self.config).args(["--pprof-disable", "--api-hosts"]);
        command.arg(format!("{}:50051", self.address)).stdin(Stdio::null());
        self.child = Some(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    }

    fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// What `gobgp global rib` prints about a route, without it nothing.
    fn route(&self, prefix: &str, family: &str) -> Option<serde_json::Value> {
        let mut command = Command::new("gobgp");
        command.args(["-u", &self.address, "-p", "50051", "-j", "global", "rib", prefix, "-a", family]);
        let output = command.output().unwrap();
        serde_json::from_slice::<serde_json::Value>(&output.stdout).ok()?.get(prefix)?.get(0).cloned()
    }
}

impl Drop for Gobgpd {
    fn drop(&mut self) {
        self.stop();
    }
}

fn blackholes(daemon: &Daemon, request: Request) -> Vec<RtbhRow> {
    match daemon.ask(&request) {
        api::Response::Ok(Payload::Rtbh(rows)) => rows,
        other => panic!("{other:?}"),
    }
}

fn until<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let deadline = std::time::Instant::now() + SESSION;
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(std::time::Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn gobgp_a_router_upstream_sees_a_locked_address_come_and_go() {
    let rig = Rig::with("metrics = \"127.0.0.1:0\"");
    let (mut speaker, router) = (Gobgpd::new(&rig, 1), Gobgpd::new(&rig, 2));
    let text = std::fs::read_to_string(&rig.config).unwrap()
        + "[[network]]\nprefix = \"2001:db8::/48\"\n"
        + &format!(
            "[rtbh]\ngobgp = \"{}:50051\"\nnext_hop = \"198.51.100.1\"\nnext_hop_v6 = \"100::1\"\nprobe = \"5s\"\n",
            speaker.address
        );
    rig.write_config(&text);
    let mut daemon = rig.start();
    let address = "192.0.2.10".parse().unwrap();
    let announce = |until| Request::RtbhAnnounce { address, until, note: None };

    let refused = failure(daemon.ask(&announce(None)));
    assert!(refused.message.contains("not locked inbound"), "{refused:?}");
    rows(daemon.ask(&lock("192.0.2.10")));
    rows(daemon.ask(&lock("2001:db8:0:7::/64")));
    assert_eq!(blackholes(&daemon, announce(None))[0].state, RtbhState::Announced);
    let v6 = Request::RtbhAnnounce { address: "2001:db8:0:7::80".parse().unwrap(), until: None, note: None };
    blackholes(&daemon, v6);

    // RFC 7999: 65535:666, as gobgp writes it.
    let route = until("the router hears of it", || router.route("192.0.2.10/32", "ipv4"));
    assert!(route.to_string().contains("4294902426"), "{route}");
    let route = until("the router hears of it", || router.route("2001:db8:0:7::80/128", "ipv6"));
    assert!(route.to_string().contains("100::1"), "{route}");
    until("cordond knows", || {
        let rows = blackholes(&daemon, Request::RtbhList);
        rows.iter().all(|r| r.present == Some(true)).then_some(())
    });

    // A speaker that was restarted gets the route again.
    speaker.stop();
    until("the router loses it", || router.route("192.0.2.10/32", "ipv4").is_none().then_some(()));
    until("the operator is told", || {
        let status = daemon.status();
        status.attention.iter().any(|a| a.text.contains("gobgp")).then_some(())
    });
    speaker.start();
    until("it is back", || router.route("192.0.2.10/32", "ipv4"));

    // cordond dies and comes back: nothing is withdrawn, nothing is forgotten.
    daemon.kill();
    assert!(router.route("192.0.2.10/32", "ipv4").is_some());
    let daemon = rig.start();
    assert_eq!(blackholes(&daemon, Request::RtbhList).len(), 2);

    // A lifted lock takes its route with it.
    let target: Target = "192.0.2.10".parse().unwrap();
    rows(daemon.ask(&Request::Unlock { target, reason: None, all: true, until: None }));
    until("the router loses it", || router.route("192.0.2.10/32", "ipv4").is_none().then_some(()));
    until("only the other is left", || (blackholes(&daemon, Request::RtbhList).len() == 1).then_some(()));

    // One that ends by itself: withdrawn, probed, forgotten.
    rows(daemon.ask(&lock("192.0.2.10")));
    blackholes(&daemon, announce(Some(Time::now().plus_ms(5_000))));
    until("the router hears of it", || router.route("192.0.2.10/32", "ipv4"));
    until("it is probed", || {
        let rows = blackholes(&daemon, Request::RtbhList);
        rows.iter().any(|r| r.address == address && r.state == RtbhState::Probing).then_some(())
    });
    until("the router loses it", || router.route("192.0.2.10/32", "ipv4").is_none().then_some(()));
    until("it is over", || (blackholes(&daemon, Request::RtbhList).len() == 1).then_some(()));
    assert!(daemon.targets().contains(&"192.0.2.10".to_owned()), "the lock itself stays");
}
