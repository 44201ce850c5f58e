//! `[[webhook]]`: programs of the provider that are told what happens.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use api::Event;
use http::Uri;
use serde::Deserialize;
use toml::Spanned;

use crate::raw::Text;
use crate::values::Validator;

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(86_400);

/// `[[webhook]]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Webhook {
    /// Its name in the outbox: lower case letters, digits and `-`.
    pub name: String,
    /// Where it is sent. `http` only on this machine.
    pub url: Uri,
    /// Where the signing keys are: a file, or the name of a systemd credential.
    pub secret_file: PathBuf,
    /// What is sent.
    pub events: BTreeSet<Event>,
    /// An attempt may take so long.
    pub timeout: Duration,
    /// A certificate authority besides those that the system trusts: a PEM file.
    pub ca_file: Option<PathBuf>,
    /// Attempts at a time.
    pub connections: u32,
    /// What was not taken for so long has failed.
    pub give_up: Duration,
}

impl Webhook {
    /// Whom the outbox names.
    pub fn audience(&self) -> String {
        format!("webhook:{}", self.name)
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawWebhook {
    name: Text,
    url: Text,
    secret_file: Spanned<PathBuf>,
    events: Option<Vec<Text>>,
    timeout: Option<Text>,
    ca_file: Option<Spanned<PathBuf>>,
    connections: Option<Spanned<u32>>,
    give_up: Option<Text>,
}

impl Validator<'_> {
    pub(crate) fn webhooks(&mut self, raw: Vec<RawWebhook>) -> Vec<Webhook> {
        let mut names = BTreeSet::new();
        let mut all = Vec::new();
        for w in raw {
            let name = w.name.get_ref().clone();
            let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            if name.is_empty() || name.len() > 32 || !name.chars().all(plain) {
                let message = format!("name = \"{name}\" cannot name a webhook");
                self.wrong(w.name.span(), message, "use up to 32 lower case letters, digits and hyphens");
            } else if !names.insert(name.clone()) {
                let message = format!("there is another [[webhook]] \"{name}\"");
                self.wrong(w.name.span(), message, "give each one a name of its own");
            }
            let webhook = Webhook {
                name,
                secret_file: self.secret("secret_file", w.secret_file),
                events: self.events(w.events),
                timeout: self.duration("timeout", w.timeout, 15 * SECOND, SECOND..=120 * SECOND),
                ca_file: w.ca_file.map(|p| self.path("ca_file", Some(p), "/")),
                connections: self.number("connections", w.connections, 4, 1..=32),
                give_up: self.duration("give_up", w.give_up, 5 * DAY, 3_600 * SECOND..=30 * DAY),
                url: match self.url(&w.url) {
                    Some(url) => url,
                    None => continue,
                },
            };
            all.push(webhook);
        }
        all
    }

    fn events(&mut self, names: Option<Vec<Text>>) -> BTreeSet<Event> {
        let all = Event::ALL.iter().copied().filter(|e| *e != Event::Digest);
        let Some(names) = names else { return all.collect() };
        let mut events = BTreeSet::new();
        for n in names {
            match n.get_ref().parse() {
                Ok(Event::Digest) => {
                    let advice = "leave it out: only mails come in digests, a webhook is sent every event";
                    self.wrong(n.span(), "digest is no event of webhooks", advice);
                }
                Ok(event) => {
                    events.insert(event);
                }
                Err(e) => self.wrong(n.span(), e, "leave events out to be sent all of them"),
            }
        }
        events
    }

    fn url(&mut self, value: &Text) -> Option<Uri> {
        let text = value.get_ref();
        let parsed = text.parse::<Uri>().ok().filter(|u| u.host().is_some_and(|h| !h.is_empty()));
        let Some(url) = parsed.filter(|u| matches!(u.scheme_str(), Some("https" | "http"))) else {
            let message = format!("url = \"{text}\" is no web address");
            self.wrong(value.span(), message, "write it like \"https://billing.example.net/hooks/cordon\"");
            return None;
        };
        if url.authority().is_some_and(|a| a.as_str().contains('@')) {
            let advice = "leave it out: requests are signed with the key in secret_file";
            self.wrong(value.span(), "url has a user name or a password", advice);
            return None;
        }
        let host = url.host().unwrap_or_default().trim_matches(['[', ']']);
        let here =
            host == "localhost" || host.parse::<IpAddr>().is_ok_and(|a| a.to_canonical().is_loopback());
        if url.scheme_str() == Some("http") && !here {
            let message = format!("http would send incidents to {host} for all to read");
            self.wrong(value.span(), message, "use https; http is for a program on this machine");
            return None;
        }
        Some(url)
    }
}
