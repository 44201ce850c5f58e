//! The start: configuration, policy, store, core, socket, office, in this order.

use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use config::Config;
use mio::{Poll, Waker};
use nix::sys::signalfd::SignalFd;
use region::{Capacities, Policy};

use super::affinity::Affinity;
use super::demo::Demo;
use super::reload::Reloads;
use super::{DATAPLANE, LISTENER, Options, Shell, now};
use crate::control::{Control, Use};
use crate::metrics::Board;
use crate::notify::Notifier;
use crate::office::api::Site;
use crate::office::desk::Desk;
use crate::office::gobgp::Speaker;
use crate::office::{Courier, Hooks, Office, Services, Settings};
use crate::socket::Socket;
use crate::store::{Notice, Opened, Places, Store};
use crate::supervise::Supervisor;
use crate::{inventory, log};

/// Puts everything together.
pub(super) fn start(
    options: &Options,
    poll: Poll,
    waker: Arc<Waker>,
    signals: SignalFd,
) -> Result<Shell, String> {
    let at = Instant::now();
    let (config, broken) = read_config(&options.config)?;
    refuse_a_second(&config)?;
    for (dir, mode) in [(&config.run.dir, 0o755), (&config.run.tables, 0o750)] {
        std::fs::DirBuilder::new().recursive(true).mode(mode).create(dir).map_err(|e| {
            format!("mkdir {}: {e}; make it, writable for cordond's user, or correct [run]", dir.display())
        })?;
    }
    let in_force = Policy::open(&config.run.tables).ok();
    let wake = Arc::clone(&waker);
    let places =
        Places { state: &config.run.state, scratch: &config.run.tables, in_force: in_force.as_ref() };
    let Opened { store, mut loaded, notice } = Store::open(places, move || {
        // The next tick finds what a failed waking leaves.
        let _ = wake.wake();
    })
    .map_err(|e| e.to_string())?;
    let capacities = Capacities {
        workers: u32::from(config.dataplane.queues),
        hosts_v4: config.tables.hosts,
        hosts_v6: config.tables.ipv6_hosts,
        locks: config.tables.locks,
    };
    let length = config.tables.ipv6_host_length;
    let opened = Policy::open_or_create(&config.run.tables, capacities, length, loaded.hash_key);
    let (policy, taken_over) = opened.map_err(|e| e.to_string())?;
    let kind = if taken_over { "taken over" } else { "new" };
    log::info(&format!(
        "policy: {kind}, {} MiB on {:?} pages; {} locks",
        policy.size() >> 20,
        policy.page_kind(),
        loaded.locks.len()
    ));
    let (inventory, no_inventory) = inventory::at_start(&config, &config.run.state);
    loaded.inventory = inventory;
    let mut control = Control::new(Use::Live, config.clone(), Arc::new(policy), loaded, now())?;
    if !control.policy().is_ready() {
        // Nobody reads a policy before its first versions are out, and so nobody acknowledges what came before them: a
        // dataplane that waits for it would wait for ever.
        control.publish();
    }
    if let Some(Notice { text, next_step }) = notice {
        control.complain("disk", text, next_step);
    }
    let own_config = dataplane_config(options, &config, broken.is_some());
    if let Some(text) = broken {
        control.complain("configuration", text, "correct the file, then: cordon reload");
    }
    match no_inventory {
        Some(text) => control.complain("inventory", text, inventory::NEXT_STEP),
        None => control.keep_inventory(),
    }
    if region::Facts::writer(&config.run.tables).is_none() {
        // Says that the wire is down until a dataplane comes.
        control.detach();
    }
    let office_waker = Arc::clone(&waker);
    let bound = Socket::bind(
        &config.control.socket,
        config.control.group.as_deref(),
        poll.registry(),
        LISTENER,
        Arc::clone(&waker),
    );
    let (socket, notice) = bound.map_err(|e| e.to_string())?;
    if let Some(Notice { text, next_step }) = notice {
        control.complain("socket", text, next_step);
    }
    let board = Board::new().map_err(|e| format!("making histograms: {e}"))?;
    let speaker = Arc::new(Speaker::default());
    let settings = Settings::of(&config).unwrap_or_else(|e| {
        log::error(&e);
        let next_step = "the texts that are built in are used; correct the templates, then: cordon reload";
        control.complain("templates", e, next_step);
        Settings::built_in(&config)
    });
    let (mail, letterbox) = tokio::sync::watch::channel(settings);
    let courier = Courier::new(store.post(), letterbox);
    let mail_stats = Arc::clone(courier.stats());
    let (hooks, wanted) = tokio::sync::watch::channel(Arc::new(config.webhooks.clone()));
    let callers = Hooks::new(store.post(), wanted);
    let hook_stats = Arc::clone(callers.stats());
    let registry = board.registry().map_err(|e| format!("registering metrics: {e}"))?;
    let (desk, line) = Desk::new(office_waker);
    let site = config
        .api
        .as_ref()
        .map(|api| Arc::new(Site::new(api.clone(), line, control.ring(), config.run.state.clone())));
    let services = Services {
        metrics: config.control.metrics,
        registry,
        api: site.clone(),
        speaker: Arc::clone(&speaker),
        courier,
        hooks: callers,
    };
    let office = Office::serving(services, at);
    let supervisor = options
        .with_dataplane
        .then(|| Supervisor::new(&own_config, &config.run.tables, &config.run.dir, DATAPLANE, at));
    let started = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    // Last, so that the threads started above have all cores.
    let affinity = Affinity::pin(config.control.core);
    Ok(Shell {
        options: options.clone(),
        tables: config.run.tables.clone(),
        control,
        store,
        submitted: Default::default(),
        socket: Some(socket),
        office,
        mail,
        mail_stats,
        hooks,
        hook_stats,
        speaker,
        desk,
        site,
        supervisor,
        board,
        affinity,
        notifier: Notifier::default(),
        demo: options.demo.then(|| Demo::new(at)),
        poll,
        signals,
        ticks_missed: 0,
        started: started.as_secs_f64(),
        reloads: Reloads::new(waker),
        attach_trouble: None,
    })
}

/// Before the store is touched: the policy's own lock comes later and decides.
fn refuse_a_second(config: &Config) -> Result<(), String> {
    match Policy::writer(&config.run.tables) {
        Some(pid) => Err(format!(
            "cordond runs already, process {pid}, on {}: stop it first (systemctl stop cordond)",
            config.run.tables.display()
        )),
        None => Ok(()),
    }
}

/// The configuration, and what is wrong with the file if the last good one had to be taken.
fn read_config(path: &Path) -> Result<(Config, Option<String>), String> {
    let loaded = Config::load(path).and_then(|c| c.validate_for_run().map(|()| c));
    let e = match loaded {
        Ok(config) => return Ok((config, None)),
        Err(e) => e.to_string(),
    };
    log::error(&e);
    match last_good(path) {
        Some(config) => {
            let text = format!("{} is broken, the last good configuration is in force: {e}", path.display());
            log::error(
                "the configuration above is broken: running with the last good one; correct the file, then: cordon reload",
            );
            Ok((config, Some(text)))
        }
        None => Err(format!(
            "not started: there is no earlier configuration to fall back on; correct {0} (cordon check {0})",
            path.display()
        )),
    }
}

/// The last configuration that was good: it stands in policy, whose place the broken file may still name.
fn last_good(path: &Path) -> Option<Config> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let places = tables_named_in(&text).into_iter().chain([Config::replay_default().run.tables]);
    places.into_iter().find_map(|dir| {
        let kept = Policy::open(&dir).ok()?.config_text()?;
        let config = Config::parse(&kept, "the last good configuration").ok()?;
        config.validate_for_run().ok()?;
        (config.run.tables == dir).then_some(config)
    })
}

/// `[run] tables` of a text that need not be TOML.
fn tables_named_in(text: &str) -> Option<PathBuf> {
    let mut in_run = false;
    for line in text.lines().map(str::trim) {
        if line.starts_with('[') {
            in_run =
                line.strip_prefix('[').and_then(|l| l.split(']').next()).is_some_and(|s| s.trim() == "run");
        } else if in_run
            && let Some((key, value)) = line.split_once('=')
            && key.trim() == "tables"
        {
            return value.split(['"', '\'']).nth(1).map(PathBuf::from);
        }
    }
    None
}

/// The file for a dataplane that is started here. A broken one serves it no better than us.
fn dataplane_config(options: &Options, config: &Config, broken: bool) -> PathBuf {
    if !broken || !options.with_dataplane {
        return std::path::absolute(&options.config).unwrap_or_else(|_| options.config.clone());
    }
    let path = config.run.dir.join("last-good.toml");
    match std::fs::write(&path, &config.text) {
        Ok(()) => path,
        Err(e) => {
            log::error(&format!("writing {}: {e}; the dataplane gets the broken file", path.display()));
            options.config.clone()
        }
    }
}

/// What a reload cannot change.
pub(super) fn needs_restart(old: &Config, new: &Config) -> Vec<&'static str> {
    let mut list = Vec::new();
    let mut check = |differs: bool, what| {
        if differs {
            list.push(what);
        }
    };
    let dirs = |c: &Config| (c.run.dir.clone(), c.run.tables.clone(), c.run.state.clone());
    check(dirs(old) != dirs(new), "[run]");
    check(old.control.socket != new.control.socket, "[control] socket");
    check(old.control.group != new.control.group, "[control] group");
    check(old.control.metrics != new.control.metrics, "[control] metrics");
    check(old.control.core != new.control.core, "[control] core");
    check(old.api != new.api, "[api]");
    list
}

#[cfg(test)]
mod tests {
    use super::tables_named_in;
    use std::path::PathBuf;

    #[test]
    fn the_place_of_policy_is_found_in_a_file_that_is_no_toml() {
        let found = |text: &str| tables_named_in(text);
        let broken = "[control]\ntables = \"/no\"\n[ run ]\n  tables = \"/dev/shm/x\" # comment \"y\"\nhosts = = 3\n[[wire\n";
        assert_eq!(found(broken), Some(PathBuf::from("/dev/shm/x")));
        assert_eq!(found("[run]\ntables = '/t'"), Some(PathBuf::from("/t")));
        assert_eq!(found("[run]\ndir = \"/d\"\n[tables]\nhosts = 1"), None);
        assert_eq!(found("[run]\ntables = 3"), None);
    }
}
