//! What is going to be written: checked options, and who has which address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::args::{Arguments, AttackKind, Frames};
use crate::rng::{Rng, low32, scatter};

const NS: u64 = 1_000_000_000;
/// Servers in a /24 of ordinary load, from .10 on; .1 is the gateway.
const IN_SLASH_24: u32 = 240;
const FIRST_IN_SLASH_24: u32 = 10;
/// 203.0.113.0/24: services that servers use, and from .200 on the addresses that are attacked.
const SERVICES: u32 = 0xcb00_7100;
const SERVICES_V6: u128 = 0x2001_0db8_fffe << 80;
const FIRST_TARGET: u32 = 200;
const TARGETS_MAX: usize = 50;
/// 100.64.0.0/10: clients.
const CLIENTS: u32 = 0x6440_0000;
const CLIENTS_MASK: u32 = 0x003f_ffff;
const CLIENTS_V6: u128 = 0x2001_0db8_ffff << 80;
/// 2001:db8:1::/48: IPv6 servers, a /64 each.
const SERVERS_V6: u128 = 0x2001_0db8_0001 << 80;

/// A server that floods.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attack {
    pub(crate) kind: AttackKind,
    pub(crate) path: Path,
    pub(crate) start_ns: u64,
    pub(crate) gap_ns: u64,
    /// Number of this attack, its random stream.
    pub(crate) number: u64,
}

/// The mix for benches.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mix {
    pub(crate) frames: Frames,
    pub(crate) flows: u64,
    pub(crate) packets: u64,
}

/// A server and a remote address.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Path {
    pub(crate) server: u32,
    pub(crate) v6: bool,
    /// The server's address; IPv4 in the low 32 bits.
    pub(crate) local: u128,
    pub(crate) remote: u128,
    pub(crate) vlan: Option<u16>,
}

/// Checked options.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) hosts: u32,
    pub(crate) length_ns: u64,
    /// Mean time between packets of ordinary load or of the mix.
    pub(crate) gap_ns: u64,
    pub(crate) attacks: Vec<Attack>,
    pub(crate) ipv6: bool,
    pub(crate) mix: Option<Mix>,
    base: u32,
}

impl Plan {
    pub(crate) fn new(a: &Arguments) -> Result<Plan, String> {
        let base = a.internal.network().to_bits();
        let mix =
            a.frames.map(|frames| Mix { frames, flows: a.flows.min(a.packets.max(1)), packets: a.packets });
        if mix.is_none() && a.internal.prefix_len() > 24 {
            return Err(format!(
                "--internal {}: servers are laid out by /24; name a /24 or a shorter prefix",
                a.internal
            ));
        }
        let mut plan = Plan {
            seed: a.seed,
            hosts: a.hosts,
            length_ns: a.seconds * NS,
            gap_ns: NS / a.pps,
            attacks: Vec::new(),
            ipv6: a.ipv6,
            mix,
            base,
        };
        let last = u64::from(base) + u64::from(plan.offset(a.hosts - 1)) + 5;
        let meets =
            |first: u32, last_of: u32| u64::from(base) <= u64::from(last_of) && last >= u64::from(first);
        if last > u64::from(u32::MAX)
            || meets(SERVICES, SERVICES + 255)
            || meets(CLIENTS, CLIENTS + CLIENTS_MASK)
        {
            return Err(format!(
                "{} servers from {} on would run into 203.0.113.0/24 or 100.64.0.0/10, where the remote side is; take \
                 fewer --hosts or another --internal",
                a.hosts, a.internal
            ));
        }
        plan.plan_attacks(a)?;
        Ok(plan)
    }

    fn plan_attacks(&mut self, a: &Arguments) -> Result<(), String> {
        if self.mix.is_some() {
            return Ok(());
        }
        let default = [AttackKind::SynFlood];
        let kinds = if a.attack.is_empty() { &default[..] } else { &a.attack[..] };
        let kinds: Vec<AttackKind> = kinds.iter().copied().filter(|k| *k != AttackKind::None).collect();
        if kinds.len() > TARGETS_MAX || kinds.len() > self.hosts as usize {
            return Err(format!(
                "{} attacks: there can be {TARGETS_MAX}, and one of each server",
                kinds.len()
            ));
        }
        let at_ns = u64::try_from(a.attack_at.as_nanos()).unwrap_or(u64::MAX);
        let last_ns = at_ns.saturating_add((kinds.len() as u64).saturating_sub(1) * NS);
        if !kinds.is_empty() && last_ns >= self.length_ns {
            return Err(format!(
                "{} attacks, the first --attack-at {:?}, a second apart, are not within --seconds {}; begin earlier, or say \
                 --attack none",
                kinds.len(),
                a.attack_at,
                a.seconds
            ));
        }
        // None of the popular ones: an attack should stand out from what its server does otherwise.
        let first = self.hosts / 3 + Rng::new(self.seed, u64::MAX).below(self.hosts / 3 + 1);
        for (number, (kind, target)) in kinds.into_iter().zip(FIRST_TARGET..).enumerate() {
            let number = number as u64;
            let server = (first + low32(number)) % self.hosts;
            let remote =
                if self.ipv6 { SERVICES_V6 + u128::from(target) } else { u128::from(SERVICES + target) };
            self.attacks.push(Attack {
                kind,
                path: self.path(server, self.ipv6, remote),
                start_ns: at_ns.saturating_add(number * NS),
                gap_ns: (NS / a.attack_pps).max(1),
                number,
            });
        }
        Ok(())
    }

    /// Where the address of a server stands behind the first.
    const fn offset(&self, server: u32) -> u32 {
        if self.mix.is_some() {
            server
        } else {
            server / IN_SLASH_24 * 256 + FIRST_IN_SLASH_24 + server % IN_SLASH_24
        }
    }

    pub(crate) fn server_v4(&self, server: u32) -> u32 {
        self.base + self.offset(server)
    }

    pub(crate) fn server_v6(server: u32) -> u128 {
        SERVERS_V6 + (u128::from(server) << 64) + 0x10
    }

    /// The gateway of a server's /24.
    pub(crate) fn gateway_v4(&self, server: u32) -> u32 {
        (self.server_v4(server) & 0xffff_ff00) + 1
    }

    pub(crate) fn path(&self, server: u32, v6: bool, remote: u128) -> Path {
        let local = if v6 { Plan::server_v6(server) } else { u128::from(self.server_v4(server)) };
        let vlan = (self.mix.is_none() && server % 16 == 15)
            .then(|| 100 + crate::rng::low16(u64::from(server / 16 % 3900)));
        Path { server, v6, local, remote, vlan }
    }

    /// The address of client number `n`.
    pub(crate) fn client(n: u64, v6: bool) -> u128 {
        let s = scatter(n + 1);
        if v6 {
            CLIENTS_V6 + (u128::from(s & 0xffff) << 64) + u128::from(s >> 16)
        } else {
            u128::from(CLIENTS + (low32(s) & CLIENTS_MASK))
        }
    }

    /// The address of service number `n`, 1 to 99.
    pub(crate) fn service(n: u32, v6: bool) -> u128 {
        if v6 { SERVICES_V6 + u128::from(n) } else { u128::from(SERVICES + n) }
    }

    /// The prefixes that hold all servers.
    pub(crate) fn internal(&self) -> Vec<String> {
        let last = self.server_v4(self.hosts - 1);
        let v4 = (self.base >> 8..=last >> 8).map(|n| format!("{}/24", Ipv4Addr::from_bits(n << 8)));
        let last = Plan::server_v6(self.hosts - 1) >> 80;
        let v6 = (SERVERS_V6 >> 80..=last).map(|n| format!("{}/48", Ipv6Addr::from_bits(n << 80)));
        v4.chain(v6).collect()
    }
}

/// An address as people write it.
pub(crate) fn address(a: u128, v6: bool) -> IpAddr {
    if v6 { Ipv6Addr::from_bits(a).into() } else { Ipv4Addr::from_bits(u32::try_from(a).unwrap_or(0)).into() }
}
