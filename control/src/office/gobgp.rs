//! The BGP speaker beside us: gobgpd, told by its own command. Its API is versioned by its package, the command's words have
//! been the same for years; so a distribution's upgrade of both needs none of ours.
//!
//! What is wanted is compared with what gobgpd has, and the difference is made, every second: a restarted gobgpd gets all
//! routes again, and a withdrawal that was lost is repeated. Sessions with routers are gobgpd's own.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::process::Stdio;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::Deserialize;
use tokio::process::Command;
use tokio::sync::watch;
use tokio::time::timeout;

/// Pause between two looks at what gobgpd has, unless something else is wanted before.
const PAUSE: Duration = Duration::from_secs(1);
/// The command gives up by itself after five seconds.
const PATIENCE: Duration = Duration::from_secs(8);
/// BGP_FSM_ESTABLISHED, as gobgpd numbers it.
const ESTABLISHED: u8 = 6;
/// Attributes of a path that hold communities (RFC 1997).
const COMMUNITIES: u8 = 8;

/// What control wants announced.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// How; none while there is no speaker.
    pub settings: Option<config::Rtbh>,
    /// These.
    pub announced: BTreeSet<IpAddr>,
    /// And these no longer.
    pub withdrawn: BTreeSet<IpAddr>,
}

/// What became of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// What was wanted when it was asked.
    pub announced: BTreeSet<IpAddr>,
    /// What the speaker has of what is wanted or withdrawn; none when it did not answer.
    pub present: Option<BTreeSet<IpAddr>>,
    /// What is wrong.
    pub trouble: Option<String>,
}

/// Between control and the office; neither waits for the other for longer than a copy takes.
#[derive(Debug, Default)]
pub struct Speaker {
    wanted: watch::Sender<Wanted>,
    seen: Mutex<Option<Seen>>,
}

impl Speaker {
    /// Says what is wanted. Called by control.
    pub fn want(&self, wanted: Wanted) {
        self.wanted.send_if_modified(|before| {
            let new = *before != wanted;
            *before = wanted;
            new
        });
    }

    /// What was seen since the last call. Called by control.
    pub fn take_seen(&self) -> Option<Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Goes on for ever.
pub(super) async fn keep(speaker: &Speaker) {
    let mut news = speaker.wanted.subscribe();
    loop {
        let wanted = news.borrow_and_update().clone();
        let idle = wanted.announced.is_empty() && wanted.withdrawn.is_empty();
        let pause = match &wanted.settings {
            Some(settings) if !idle => {
                let seen = Gobgp { settings }.make(&wanted).await;
                *speaker.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(seen);
                PAUSE
            }
            // Until something is wanted there is nothing to look at.
            _ => Duration::MAX,
        };
        // Its end is that of the speaker, which is borrowed here.
        let _ = timeout(pause, news.changed()).await;
    }
}

/// A path of `gobgp -j global rib PREFIX`.
#[derive(Debug, Deserialize)]
struct Path {
    #[serde(default)]
    attrs: Vec<Attribute>,
    /// Of a path that a neighbour has sent.
    #[serde(default, rename = "neighbor-ip")]
    neighbor: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Attribute {
    #[serde(rename = "type")]
    kind: u8,
    #[serde(default)]
    communities: Vec<u32>,
}

#[derive(Debug, Deserialize)]
struct Neighbor {
    state: NeighborState,
}

#[derive(Debug, Deserialize)]
struct NeighborState {
    #[serde(default)]
    session_state: u8,
}

fn family(a: IpAddr) -> &'static str {
    if a.is_ipv4() { "ipv4" } else { "ipv6" }
}

fn prefix(a: IpAddr) -> String {
    ipnet::IpNet::from(a).to_string()
}

fn number(community: &str) -> Option<u32> {
    let (high, low) = community.split_once(':')?;
    Some(high.parse::<u32>().ok()? << 16 | low.parse::<u32>().ok()?)
}

struct Gobgp<'a> {
    settings: &'a config::Rtbh,
}

impl Gobgp<'_> {
    /// Makes the difference, and looks at the result.
    async fn make(&self, wanted: &Wanted) -> Seen {
        let mut seen = Seen { announced: wanted.announced.clone(), ..Seen::default() };
        match self.try_make(wanted).await {
            Ok(present) => seen.present = Some(present),
            Err(e) => {
                seen.trouble = Some(e);
                return seen;
            }
        }
        match self.sessions().await {
            Ok((_, 0)) if !wanted.announced.is_empty() => {
                seen.trouble = Some("gobgpd has no session with any router: nobody hears the routes".into());
            }
            Ok((up, all)) if up < all && !wanted.announced.is_empty() => {
                seen.trouble = Some(format!("{up} of gobgpd's {all} sessions with routers are up"));
            }
            Ok(_) => {}
            Err(e) => seen.trouble = Some(e),
        }
        seen
    }

    async fn try_make(&self, wanted: &Wanted) -> Result<BTreeSet<IpAddr>, String> {
        let mut present = BTreeSet::new();
        for a in &wanted.announced {
            if !self.has(*a).await? {
                self.add(*a).await?;
                if !self.has(*a).await? {
                    return Err(format!("gobgpd has taken {a} and does not have it"));
                }
            }
            present.insert(*a);
        }
        for a in &wanted.withdrawn {
            if self.has(*a).await? {
                self.run(&["global", "rib", "del", &prefix(*a), "-a", family(*a)]).await?;
                if self.has(*a).await? {
                    present.insert(*a);
                }
            }
        }
        Ok(present)
    }

    /// Whether gobgpd itself originates the route, with our communities.
    async fn has(&self, a: IpAddr) -> Result<bool, String> {
        let prefix = prefix(a);
        let text = self.run(&["-j", "global", "rib", &prefix, "-a", family(a)]).await?;
        // It says in words that there is none.
        let Some(start) = text.find(['{', '[']) else { return Ok(false) };
        let wrong = |e: serde_json::Error| format!("gobgp's answer about {a} is not understood: {e}");
        let value: serde_json::Value = serde_json::from_str(&text[start..]).map_err(wrong)?;
        let paths = value.get(&prefix).cloned().unwrap_or_default();
        let paths: Vec<Path> =
            if paths.is_null() { Vec::new() } else { serde_json::from_value(paths).map_err(wrong)? };
        let ours: Vec<u32> = self.settings.communities.iter().filter_map(|c| number(c)).collect();
        Ok(paths.iter().filter(|p| p.neighbor.is_none()).any(|p| {
            let of = p.attrs.iter().filter(|t| t.kind == COMMUNITIES).flat_map(|t| &t.communities);
            let all: Vec<u32> = of.copied().collect();
            ours.iter().all(|c| all.contains(c))
        }))
    }

    async fn add(&self, a: IpAddr) -> Result<(), String> {
        let (prefix, communities) = (prefix(a), self.settings.communities.join(","));
        let hop = if a.is_ipv4() { self.settings.next_hop } else { self.settings.next_hop_v6 };
        let hop = hop.map(|h| h.to_string());
        let mut words = vec!["global", "rib", "add", &prefix, "community", &communities];
        if let Some(hop) = &hop {
            words.extend(["nexthop", hop]);
        }
        words.extend(["-a", family(a)]);
        self.run(&words).await.map(|_| ())
    }

    /// Sessions with routers: up, and all.
    async fn sessions(&self) -> Result<(usize, usize), String> {
        let text = self.run(&["-j", "neighbor"]).await?;
        let Some(start) = text.find('[') else { return Ok((0, 0)) };
        let all: Vec<Neighbor> = serde_json::from_str(&text[start..])
            .map_err(|e| format!("gobgp's list of neighbours is not understood: {e}"))?;
        Ok((all.iter().filter(|n| n.state.session_state == ESTABLISHED).count(), all.len()))
    }

    async fn run(&self, words: &[&str]) -> Result<String, String> {
        let Some(api) = self.settings.gobgp else { return Err("no gobgpd is configured".into()) };
        let (host, port) = (api.ip().to_string(), api.port().to_string());
        let program = self.settings.program.display();
        let mut command = Command::new(&self.settings.program);
        command.args(["-u", &host, "-p", &port]).args(words).stdin(Stdio::null()).kill_on_drop(true);
        let done = timeout(PATIENCE, command.output()).await;
        let output = done
            .map_err(|_| format!("gobgpd at {api} does not answer"))?
            .map_err(|e| format!("{program}: {e}"))?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() {
            return Ok(text);
        }
        let said = format!("{text} {}", String::from_utf8_lossy(&output.stderr));
        // How it says, for one prefix, that there is no such route.
        if said.contains("not in table") {
            return Ok(String::new());
        }
        let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
        Err(format!("gobgpd at {api}: {said}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn communities_are_numbers_as_gobgp_prints_them() {
        assert_eq!(number("65535:666"), Some(4_294_902_426));
    }
}
