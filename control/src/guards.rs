//! What guards drop on the servers' segment: compiled from the configuration and from where devices were heard.
//!
//! A guard must not take a network from those who belong to it. So a gateway's address is guarded only once the gateway was
//! heard from outside; one that stands inside is not, unless `[link] routers` names its MAC. And a device that was heard
//! outside in such a role passes all guards: with two wires between the same switches its frames come round to the inside of
//! the other one. The side on which somebody was heard first is believed, until nothing is heard there any more.

use std::collections::BTreeMap;
use std::net::IpAddr;

use config::{Config, Device, GuardAction};
use pipeline::segment::{Frame, What};
use region::Addr;
use region::segment::{GATEWAYS_MAX, Guard, Guards, SegmentRules};

use crate::netconfig::{Mac, Side};

/// Devices that are remembered for each side.
const DEVICES_MAX: usize = 120;
const _: () = assert!(DEVICES_MAX + config::LINK_DEVICES_MAX <= region::segment::DEVICES_MAX);
/// Somebody who was silent for so long is not there any more.
const SILENT_NS: u64 = 300_000_000_000;

#[derive(Clone, Copy, Debug)]
struct Heard {
    side: Side,
    /// Who was heard last there.
    mac: Mac,
    last_ns: u64,
    /// From a device that `[link] routers` names by its MAC.
    listed: bool,
}

impl Heard {
    /// True when somebody is now believed to stand elsewhere.
    fn again(&mut self, now: Heard) -> bool {
        let moved = self.side != now.side && now.last_ns.saturating_sub(self.last_ns) > SILENT_NS;
        let changed = moved || (now.listed && !self.listed);
        self.listed |= now.listed;
        if moved || self.side == now.side {
            (self.side, self.mac, self.last_ns) = (now.side, now.mac, now.last_ns);
        }
        changed
    }
}

/// Who was heard where.
#[derive(Debug, Default)]
pub(crate) struct Posts {
    gateways: BTreeMap<IpAddr, Option<Heard>>,
    /// Devices that did what guards are for.
    devices: BTreeMap<Mac, Heard>,
    routers: Vec<Device>,
    changed: bool,
}

/// What a gateway's guard stands for, for status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Post {
    /// Claims from inside are dropped.
    Guarded,
    /// It was not heard yet.
    Silent,
    /// It stands inside.
    Inside,
}

impl Posts {
    /// Takes what the operator says.
    pub(crate) fn configure(&mut self, config: &Config) {
        let known = std::mem::take(&mut self.gateways);
        let all = config.networks.iter().flat_map(|n| &n.gateways);
        let unlisted = |h: Heard| Heard { listed: false, ..h };
        self.gateways = all.map(|a| (*a, known.get(a).copied().flatten().map(unlisted))).collect();
        self.routers.clone_from(&config.link.routers);
        self.changed = true;
    }

    /// A frame of the segment's protocols.
    pub(crate) fn hear(&mut self, side: Side, now_ns: u64, f: &Frame) {
        let source = f.ip.map(|(s, _)| s);
        let (claimed, is_role) = match f.what {
            What::Arp(a) => (Some(IpAddr::V4(a.sender_ip)), false),
            What::Nd(n) => match n.kind {
                136 => (Some(n.target.into()), false),
                133 | 135 => (source, false),
                _ => (source, true),
            },
            What::Dhcp(_) | What::Dhcp6 { .. } => (None, f.what.is_dhcp_answer()),
            What::Bpdu(_) => (None, true),
            What::HiddenNd | What::Other => (None, false),
        };
        let listed = self.routers.contains(&Device::Mac(f.source.0));
        let heard = Heard { side, mac: f.source, last_ns: now_ns, listed };
        let gateway = claimed.and_then(|a| self.gateways.get_mut(&a));
        if gateway.is_none() && !is_role {
            return;
        }
        match gateway {
            Some(Some(known)) => self.changed |= known.again(heard),
            Some(none) => {
                *none = Some(heard);
                self.changed = true;
            }
            None => {}
        }
        if let Some(known) = self.devices.get_mut(&f.source) {
            self.changed |= known.again(heard);
            return;
        }
        let of_side = self.devices.iter().filter(|(_, h)| h.side == side);
        if of_side.clone().count() >= DEVICES_MAX
            && let Some(oldest) = of_side.min_by_key(|(_, h)| h.last_ns).map(|(m, _)| *m)
        {
            self.devices.remove(&oldest);
        }
        self.devices.insert(f.source, heard);
        self.changed |= side == Side::Outside;
    }

    /// What stands against locking a device: that it was heard outside, or with a gateway's address.
    pub(crate) fn role(&self, mac: Mac) -> Option<&'static str> {
        let gateway = self.gateways.values().flatten().any(|h| h.mac == mac);
        let outside = self.devices.get(&mac).is_some_and(|h| h.side == Side::Outside);
        match (gateway, outside) {
            (true, _) => Some("is a gateway's"),
            (false, true) => Some("was heard on the outside, as a router, DHCP server or bridge"),
            (false, false) => None,
        }
    }

    /// Whether rules made anew may differ from those before.
    pub(crate) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// What is known of each gateway.
    pub(crate) fn gateways(&self) -> impl Iterator<Item = (IpAddr, Post)> {
        self.gateways.iter().map(|(a, heard)| {
            let is_outside =
                |h: &Heard| h.side == Side::Outside && !self.routers.contains(&Device::Address(*a));
            let post = match heard {
                None => Post::Silent,
                Some(h) if h.listed || is_outside(h) => Post::Guarded,
                Some(_) => Post::Inside,
            };
            (*a, post)
        })
    }

    /// The rules. `sides`: whether the port tells the side. Where it does not, those who may are seen beside those who may
    /// not, and a guard needs a list of them.
    pub(crate) fn rules(&self, config: &Config, sides: bool) -> SegmentRules {
        let (l, g) = (&config.link, &config.guards);
        let on = [
            (Guard::Dhcp, g.dhcp, !l.dhcp_servers.is_empty()),
            (Guard::Ra, g.ra, !l.routers.is_empty()),
            (Guard::Stp, g.stp, !l.bridges.is_empty()),
            (Guard::Arp, g.arp, true),
            (Guard::Nd, g.nd, true),
        ];
        let guards = on.into_iter().filter(|(_, a, listed)| *a == GuardAction::Drop && (sides || *listed));
        let mut rules = SegmentRules {
            guards: guards.fold(Guards::default(), |all, (g, ..)| all.and(Guards::of(&[g]))),
            ..SegmentRules::default()
        };
        let guarded = self.gateways().filter(|(_, p)| *p == Post::Guarded);
        rules.gateways = guarded.map(|(a, _)| Addr::from(a).as_u128()).take(GATEWAYS_MAX).collect();
        let router = Guards::of(&[Guard::Ra, Guard::Arp, Guard::Nd]);
        let listed = [(&l.dhcp_servers, Guards::of(&[Guard::Dhcp])), (&l.routers, router)];
        for (devices, may) in listed {
            for d in devices {
                match d {
                    Device::Mac(m) => rules.devices.push((Mac(*m), may)),
                    Device::Address(a) => rules.addresses.push((Addr::from(*a).as_u128(), may)),
                }
            }
        }
        rules.devices.extend(l.bridges.iter().map(|m| (Mac(*m), Guards::of(&[Guard::Stp]))));
        let outside = self.devices.iter().filter(|(_, h)| h.side == Side::Outside);
        rules.devices.extend(outside.map(|(m, _)| (*m, Guards::ALL)));
        rules
    }
}

#[cfg(test)]
mod tests {
    use api::{LockRow, Payload, Request, Response};

    use super::*;
    use crate::netconfig::testing::*;
    use crate::testing::Desk;

    const SECOND: u64 = 1_000_000_000;

    fn config(more: &str) -> Config {
        let text = format!("[[network]]\nprefix = \"10.0.0.0/24\"\ngateways = [\"10.0.0.1\"]\n{more}");
        Config::parse(&text, "test").unwrap_or_else(|e| panic!("{e}"))
    }

    /// What is guarded after frames were heard: (second, side, frame).
    fn after(config: &Config, heard: &[(u64, Side, Vec<u8>)]) -> (Vec<Post>, SegmentRules) {
        let mut posts = Posts::default();
        posts.configure(config);
        for (second, side, frame) in heard {
            posts.hear(*side, second * SECOND, &Frame::parse(frame).expect("a frame"));
        }
        assert!(posts.take_changed());
        (posts.gateways().map(|(_, p)| p).collect(), posts.rules(config, true))
    }

    #[test]
    fn a_gateway_is_guarded_once_it_was_heard_outside_and_a_claim_from_inside_does_not_change_that() {
        let c = config("");
        assert_eq!(after(&c, &[]).0, [Post::Silent]);
        let said = || (1, Side::Outside, answers(mac(1), "10.0.0.1", mac(5), "10.0.0.5"));
        let claimed = || (2, Side::Inside, announces(mac(9), "10.0.0.1"));
        let (post, rules) = after(&c, &[said(), claimed()]);
        assert_eq!(post, [Post::Guarded]);
        assert_eq!(rules.gateways, [Addr::from(ip("10.0.0.1")).as_u128()]);
        assert_eq!(rules.devices, [(mac(1), Guards::ALL)], "not the one inside");
    }

    #[test]
    fn a_gateway_that_stands_inside_is_not_guarded_against_itself() {
        let said = |s| (s, Side::Inside, answers(mac(1), "10.0.0.1", mac(5), "10.0.0.5"));
        // A router outside that answers for everything (proxy ARP) does not take its place, as long as it speaks.
        let proxy = |s| (s, Side::Outside, answers(mac(7), "10.0.0.1", mac(8), "10.0.0.8"));
        let c = config("");
        assert_eq!(after(&c, &[said(1), proxy(2), said(200), proxy(400)]).0, [Post::Inside]);
        assert_eq!(after(&c, &[said(1), proxy(302)]).0, [Post::Guarded], "silent for five minutes");
        // Where the operator names it, others are kept from its address.
        let named = config("[link]\nrouters = [\"00:16:3e:01:01:01\"]");
        let (post, rules) = after(&named, &[said(1)]);
        assert_eq!(post, [Post::Guarded]);
        assert!(rules.devices.iter().any(|(m, may)| *m == mac(1) && may.has(Guard::Arp)));
        let by_address = config("[link]\nrouters = [\"10.0.0.1\"]");
        assert_eq!(after(&by_address, &[said(1)]).0, [Post::Inside]);
    }

    #[test]
    fn routers_and_dhcp_servers_outside_pass_when_their_frames_come_round() {
        let lease =
            Lease { kind: 2, client: mac(50), server: "10.0.0.2", given: "10.0.0.50", resolver: "10.0.0.2" };
        let heard = [
            (1, Side::Outside, routes(mac(3), "fe80::3", "2001:db8::", 0, 1800)),
            (1, Side::Inside, routes(mac(3), "fe80::3", "2001:db8::", 0, 1800)),
            (1, Side::Outside, offers(mac(2), &lease)),
            // One that was heard inside first has come round to the outside.
            (2, Side::Inside, routes(mac(9), "fe80::9", "2001:db8::", 0, 1800)),
            (3, Side::Outside, routes(mac(9), "fe80::9", "2001:db8::", 0, 1800)),
        ];
        let (_, rules) = after(&config(""), &heard);
        assert_eq!(rules.devices, [(mac(2), Guards::ALL), (mac(3), Guards::ALL)]);
    }

    #[test]
    fn what_is_on_is_configured_and_a_stream_without_sides_needs_lists() {
        let mut posts = Posts::default();
        let c = config("[guards]\nra = \"off\"\nstp = \"drop\"");
        posts.configure(&c);
        let on = |r: SegmentRules| Guard::ALL.into_iter().filter(|g| r.guards.has(*g)).collect::<Vec<_>>();
        assert_eq!(on(posts.rules(&c, true)), [Guard::Dhcp, Guard::Stp, Guard::Arp, Guard::Nd]);
        assert_eq!(on(posts.rules(&c, false)), [Guard::Arp, Guard::Nd]);
        assert!(posts.rules(&c, false).gateways.is_empty(), "nobody inside is known to be the gateway");
        let by_default = config("[link]\ndhcp_servers = [\"10.0.0.2\"]");
        assert_eq!(on(posts.rules(&by_default, true)), [Guard::Dhcp, Guard::Ra, Guard::Arp, Guard::Nd]);
        assert_eq!(on(posts.rules(&by_default, false)), [Guard::Dhcp, Guard::Arp, Guard::Nd]);
    }

    #[test]
    fn made_up_devices_displace_each_other_only() {
        let mut posts = Posts::default();
        posts.configure(&config(""));
        let frame = |n: u32, side| {
            let [_, a, b, c] = n.to_be_bytes();
            let f = routes(Mac([2, 0, 0, a, b, c]), "fe80::9", "2001:db8::", 0, 1800);
            (side, Frame::parse(&f).expect("a frame"))
        };
        for (i, (side, f)) in std::iter::once(frame(0, Side::Outside))
            .chain((1..1_000).map(|n| frame(n, Side::Inside)))
            .enumerate()
        {
            posts.hear(side, i as u64, &f);
        }
        assert_eq!(posts.devices.len(), DEVICES_MAX + 1);
        assert_eq!(posts.rules(&config(""), true).devices.len(), 1);
    }

    /// A lock by hand on a device; who may not be locked, or the rows.
    fn lock(desk: &mut Desk, device: &str, force: bool) -> Result<Vec<LockRow>, String> {
        let answer = desk.ask(Request::Lock {
            target: device.parse()?,
            reason: api::Reason::Abuse,
            direction: api::Direction::Both,
            note: None,
            case: None,
            until: None,
            except: Vec::new(),
            force,
            external_ref: None,
        });
        match answer {
            Response::Ok(Payload::Locks(rows)) => Ok(rows),
            Response::Error(f) => Err(f.message),
            other => panic!("{other:?}"),
        }
    }

    const WIRE: &str = "[[wire]]\nname = \"w\"\ninside_port = \"a\"\noutside_port = \"b\"\n";

    #[test]
    fn a_device_is_locked_on_a_segment_and_never_by_mistake_one_that_others_stand_behind() {
        let sections = format!("{WIRE}inside = \"l2\"\n[link]\nbridges = [\"02:00:00:00:00:07\"]");
        let mut desk = Desk::new(&sections);
        let rows = lock(&mut desk, "02:00:00:00:00:09", false).expect("an ordinary device");
        assert!(rows[0].enforced);
        assert_eq!(desk.control.segment_rules().locked, [(Mac([2, 0, 0, 0, 0, 9]), 3)]);
        let refused = lock(&mut desk, "02:00:00:00:00:07", false).expect_err("a switch");
        assert!(refused.contains("[link]"), "{refused}");
        assert!(lock(&mut desk, "02:00:00:00:00:07", true).is_ok(), "forced");
    }

    #[test]
    fn behind_a_router_no_device_can_be_locked() {
        let mut desk = Desk::new(&format!("{WIRE}inside = \"routed\"\n"));
        let refused = lock(&mut desk, "02:00:00:00:00:09", true).expect_err("one MAC for all");
        assert!(refused.contains("behind a router"), "{refused}");
    }

    #[test]
    fn a_rule_that_only_observes_guards_nothing_and_keeps_locks() {
        let sections = format!("{WIRE}inside = \"l2\"\n[link]\ndhcp_servers = [\"02:00:00:00:00:07\"]\n");
        let mut desk = Desk::new(&sections);
        assert!(!desk.control.segment_rules().guards.is_empty());
        lock(&mut desk, "02:00:00:00:00:09", false).expect("locked");
        desk.ask(Request::Rule { rule: "misconfiguration".to_owned(), observe: true });
        let rules = desk.control.segment_rules();
        assert!(rules.guards.is_empty() && rules.locked.len() == 1);
    }
}
