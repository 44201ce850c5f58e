//! What the configuration asks of the dataplane, worked out before anything is touched.

use std::path::PathBuf;
use std::time::Duration;

use region::Capacities;
use region::layout::{PORTS_MAX, WORKERS_MAX};

/// Everything launch needs.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) run_dir: PathBuf,
    pub(crate) tables_dir: PathBuf,
    pub(crate) wires: Vec<WirePlan>,
    /// One core a worker; empty: chosen when the process's affinity is known.
    pub(crate) cores: Vec<usize>,
    pub(crate) queues: u16,
    pub(crate) housekeeping_core: Option<usize>,
    pub(crate) eal: Vec<String>,
    pub(crate) mtu: u16,
    pub(crate) rx_descriptors: u16,
    pub(crate) tx_descriptors: u16,
    pub(crate) mbufs: u32,
    pub(crate) start_wait: Duration,
    pub(crate) idle_sleep: Duration,
    pub(crate) capacities: Capacities,
    pub(crate) feed: Option<FeedPlan>,
}

/// A wire.
#[derive(Clone, Debug)]
pub(crate) struct WirePlan {
    pub(crate) name: String,
    /// By side: inside, outside.
    pub(crate) ports: [PortSpec; 2],
    pub(crate) links_follow: bool,
    /// Its inside port shows the servers' own segment.
    pub(crate) segment: bool,
}

/// The demo's feed.
#[derive(Clone, Debug)]
pub(crate) struct FeedPlan {
    pub(crate) capture: PathBuf,
    pub(crate) speed: f64,
    pub(crate) repeat: bool,
    /// Internal networks as (first, last) of `Addr::as_u128`.
    pub(crate) internal: Vec<region::locks::Range>,
}

/// A port as the configuration names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PortSpec {
    /// A NIC by PCI address.
    Pci(String),
    /// A virtual device: EAL's `--vdev` argument.
    Virtual(String),
}

impl PortSpec {
    /// `0000:01:00.0` or `01:00.0` is a NIC, everything else a virtual device.
    pub(crate) fn parse(text: &str) -> PortSpec {
        let digits = |s: &str, n: usize| s.len() == n && s.bytes().all(|b| b.is_ascii_hexdigit());
        let parts: Vec<&str> = text.split(':').collect();
        let tail = |bus: &str, device: &str| {
            digits(bus, 2) && device.split_once('.').is_some_and(|(d, f)| digits(d, 2) && digits(f, 1))
        };
        match parts[..] {
            [domain, bus, device] if digits(domain, 4) && tail(bus, device) => PortSpec::Pci(text.to_owned()),
            [bus, device] if tail(bus, device) => PortSpec::Pci(format!("0000:{text}")),
            _ => PortSpec::Virtual(text.to_owned()),
        }
    }

    /// The name DPDK knows the port by.
    pub(crate) fn device(&self) -> &str {
        match self {
            PortSpec::Pci(address) => address,
            PortSpec::Virtual(spec) => spec.split(',').next().unwrap_or(spec),
        }
    }
}

/// A plan that cannot be carried out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PlanError {
    #[error(
        "[dataplane] cores names core {core}, this process may use {allowed:?}; choose among them or widen its CPU affinity"
    )]
    Core { core: usize, allowed: Vec<usize> },
    #[error("{what}: {count} are configured, at most {most} are supported")]
    TooMany { what: &'static str, count: usize, most: usize },
}

/// Cores after the process's own affinity is known.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Cores {
    pub(crate) workers: Vec<usize>,
    pub(crate) housekeeping: usize,
}

impl Plan {
    /// Chooses cores among `allowed`: housekeeping takes the first that no worker has, workers those behind it.
    pub(crate) fn choose_cores(&self, allowed: &[usize]) -> Result<Cores, PlanError> {
        let wanted = self.cores.iter().chain(&self.housekeeping_core);
        if let Some(core) = wanted.copied().find(|c| !allowed.contains(c)) {
            return Err(PlanError::Core { core, allowed: allowed.to_vec() });
        }
        let n = usize::from(self.queues);
        let (most, ports) = (WORKERS_MAX, self.wires.len() * 2);
        if n > most {
            return Err(PlanError::TooMany { what: "[dataplane] queues", count: n, most });
        }
        if ports > PORTS_MAX {
            return Err(PlanError::TooMany { what: "[[wire]] ports", count: ports, most: PORTS_MAX });
        }
        let first = allowed.first().copied().unwrap_or(0);
        let housekeeping = self
            .housekeeping_core
            .or_else(|| allowed.iter().copied().find(|c| !self.cores.contains(c)))
            .unwrap_or(first);
        let workers = if self.cores.is_empty() {
            // More workers than cores share them: slow, but right; for labs.
            let free: Vec<usize> = allowed.iter().copied().filter(|c| *c != housekeeping).collect();
            let from = if free.is_empty() { vec![first] } else { free };
            from.iter().copied().cycle().take(n).collect()
        } else {
            self.cores.clone()
        };
        Ok(Cores { workers, housekeeping })
    }

    /// Packet buffers of a queue: never fewer than its rings, the workers' caches and what is in hand swallow, else it would
    /// stand still.
    pub(crate) fn mbufs_for_rings(&self) -> u32 {
        /// Caches of the thread that receives and of one that frees, each half as large again before it overflows.
        const CACHES: u32 = 2 * 384;
        /// A burst that is judged, and what waits to be sent.
        const IN_HAND: u32 = 2 * 32;
        let rings = u32::from(self.rx_descriptors) + u32::from(self.tx_descriptors);
        self.mbufs.max(rings + CACHES + IN_HAND)
    }

    /// EAL's arguments: the housekeeping core, the devices, and whatever the operator adds.
    pub(crate) fn eal_arguments(&self, cores: &Cores) -> Vec<String> {
        let mut args = vec!["-l".to_owned(), cores.housekeeping.to_string()];
        let mut any_pci = false;
        for port in self.wires.iter().flat_map(|w| &w.ports) {
            match port {
                PortSpec::Pci(address) => {
                    any_pci = true;
                    args.extend(["-a".to_owned(), address.clone()]);
                }
                PortSpec::Virtual(_) if self.feed.is_some() => {}
                PortSpec::Virtual(spec) => args.push(format!("--vdev={spec}")),
            }
        }
        if !any_pci && !self.eal.iter().any(|a| a == "--no-pci") {
            args.push("--no-pci".to_owned());
        }
        args.extend(self.eal.iter().cloned());
        args
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(cores: &[usize], queues: u16) -> Plan {
        let port = |p: &str| PortSpec::parse(p);
        Plan {
            run_dir: "/r".into(),
            tables_dir: "/t".into(),
            wires: vec![WirePlan {
                name: "w".into(),
                ports: [port("01:00.0"), port("net_tap0,iface=x")],
                links_follow: true,
                segment: true,
            }],
            cores: cores.to_vec(),
            queues,
            housekeeping_core: None,
            eal: vec!["--in-memory".into()],
            mtu: 1500,
            rx_descriptors: 1024,
            tx_descriptors: 1024,
            mbufs: 1024,
            start_wait: Duration::ZERO,
            idle_sleep: Duration::ZERO,
            capacities: Capacities { workers: 1, hosts_v4: 256, hosts_v6: 64, locks: 16 },
            feed: None,
        }
    }

    #[test]
    fn nics_and_virtual_devices_are_told_apart() {
        assert_eq!(PortSpec::parse("01:00.0"), PortSpec::Pci("0000:01:00.0".into()));
        assert_eq!(PortSpec::parse("0001:0a:1f.1").device(), "0001:0a:1f.1");
        assert_eq!(PortSpec::parse("net_af_packet0,iface=a:b").device(), "net_af_packet0");
        assert!(matches!(PortSpec::parse("net_null0"), PortSpec::Virtual(_)));
    }

    #[test]
    fn workers_stay_off_the_housekeeping_core_where_there_is_room() {
        let chosen =
            |cores: &[usize], queues, allowed: &[usize]| plan(cores, queues).choose_cores(allowed).ok();
        let cores = |workers: &[usize], housekeeping| Some(Cores { workers: workers.to_vec(), housekeeping });
        assert_eq!(chosen(&[], 2, &[0, 1, 2, 3]), cores(&[1, 2], 0));
        assert_eq!(chosen(&[0, 1], 2, &[0, 1, 2]), cores(&[0, 1], 2));
        assert_eq!(chosen(&[0, 1], 2, &[0, 1]), cores(&[0, 1], 0));
        assert_eq!(chosen(&[], 2, &[5]), cores(&[5, 5], 5));
        let refused = plan(&[7], 1).choose_cores(&[0, 1]).expect_err("core 7 is not ours");
        assert!(refused.to_string().contains("core 7"));
    }

    #[test]
    fn buffers_are_never_fewer_than_the_rings_hold() {
        let mut p = plan(&[], 1);
        assert_eq!(p.mbufs_for_rings(), 1024 + 1024 + 768 + 64);
        p.mbufs = 16_384;
        assert_eq!(p.mbufs_for_rings(), 16_384);
    }

    #[test]
    fn eal_sees_the_devices_of_the_wires() {
        let p = plan(&[1], 1);
        let args = p.eal_arguments(&Cores { workers: vec![1], housekeeping: 0 });
        assert_eq!(args, ["-l", "0", "-a", "0000:01:00.0", "--vdev=net_tap0,iface=x", "--in-memory"]);
    }
}
