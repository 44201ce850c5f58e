//! From the configuration file to a [`Plan`].

use std::path::Path;

use config::{Config, IpNet};
use region::locks::Range;
use region::{Addr, Capacities, Policy};

use crate::log;
use crate::plan::{FeedPlan, Plan, PortSpec, WirePlan};

/// Reads the file. A broken one does not keep the wire down when an earlier good one stands in policy: that is used,
/// loudly.
pub(crate) fn plan(path: &Path) -> Result<Plan, String> {
    let loaded = Config::load(path).and_then(|c| c.validate_for_run().map(|()| c));
    let config = match loaded {
        Ok(config) => config,
        Err(e) => {
            log::error(&e.to_string());
            let Some(last) = last_good() else {
                return Err(format!(
                    "not started: correct {} (cordon check {})",
                    path.display(),
                    path.display()
                ));
            };
            log::error(
                "the configuration above is broken: running with the last good one; correct the file and restart",
            );
            last
        }
    };
    Ok(of(&config))
}

/// The last good configuration, from the policy of the default place.
fn last_good() -> Option<Config> {
    let dir = Config::replay_default().run.tables;
    let text = Policy::open(&dir).ok()?.config_text()?;
    Config::parse(&text, "last good configuration").ok()
}

fn of(c: &Config) -> Plan {
    let d = &c.dataplane;
    let range = |n: &IpNet| Range::of_prefix(Addr::from(n.network()), n.prefix_len());
    Plan {
        run_dir: c.run.dir.clone(),
        tables_dir: c.run.tables.clone(),
        wires: c
            .wires
            .iter()
            .map(|w| WirePlan {
                name: w.name.clone(),
                ports: [PortSpec::parse(&w.inside_port), PortSpec::parse(&w.outside_port)],
                links_follow: w.links_follow,
            })
            .collect(),
        cores: d.cores.clone(),
        queues: d.queues,
        housekeeping_core: d.housekeeping_core,
        eal: d.eal.clone(),
        mtu: d.mtu,
        rx_descriptors: d.rx_descriptors,
        tx_descriptors: d.tx_descriptors,
        mbufs: d.mbufs,
        start_wait: d.start_wait,
        idle_sleep: d.idle_sleep,
        capacities: Capacities {
            workers: u32::from(d.queues),
            hosts_v4: c.tables.hosts,
            hosts_v6: c.tables.ipv6_hosts,
            locks: c.tables.locks,
        },
        feed: d.feed.as_ref().map(|f| FeedPlan {
            capture: f.capture.clone(),
            speed: f.speed,
            repeat: f.repeat,
            internal: c.networks.iter().map(|n| range(&n.prefix)).collect(),
        }),
    }
}
