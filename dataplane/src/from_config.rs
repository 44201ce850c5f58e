//! From the configuration file to a [`Plan`].

use std::path::{Path, PathBuf};

use config::{Config, Inside, IpNet};
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
            let Some(last) = last_good(path) else {
                return Err(format!(
                    "not started: there is no earlier configuration to fall back on; correct {0} (cordon check {0})",
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

/// The last good configuration: it stands in policy, whose place the broken file may still name.
fn last_good(path: &Path) -> Option<Config> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let places = tables_named_in(&text).into_iter().chain([Config::replay_default().run.tables]);
    places.into_iter().find_map(|dir| {
        let kept = Policy::open(&dir).ok()?.config_text()?;
        let config = Config::parse(&kept, "the last good configuration").ok()?;
        config.validate_for_run().ok()?;
        // Another installation's policy says nothing about this one.
        (config.run.tables == dir).then_some(config)
    })
}

/// `[run] tables` of a text that need not be TOML.
fn tables_named_in(text: &str) -> Option<PathBuf> {
    let mut in_run = false;
    for line in text.lines().map(str::trim) {
        if let Some(section) = line.strip_prefix('[') {
            in_run = section.split(']').next().is_some_and(|s| s.trim() == "run");
        } else if in_run
            && let Some((key, value)) = line.split_once('=')
            && key.trim() == "tables"
        {
            return value.split(['"', '\'']).nth(1).map(PathBuf::from);
        }
    }
    None
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
                segment: w.inside == Inside::L2,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_text_still_says_where_the_tables_are() {
        let found = |text: &str| tables_named_in(text);
        assert_eq!(found("[run]\ntables = \"/a/b\" # here\nmtu = = 3\n"), Some("/a/b".into()));
        assert_eq!(found("[ run ] # x\n  tables='/a'\n"), Some("/a".into()));
        assert_eq!(found("[tables]\nhosts = 3\n[run]\ndir = \"/x\"\n[dataplane]\ntables = \"/no\"\n"), None);
        assert_eq!(found("[run]\ntables = \n"), None);
    }
}
