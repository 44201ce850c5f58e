//! `[mail]`: how customers and the desk are told.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use crate::raw::Text;
use crate::values::Validator;

const SECOND: Duration = Duration::from_secs(1);

/// How the connection to the mail server is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MailTls {
    /// STARTTLS, and nothing without it.
    Starttls,
    /// TLS from the first byte.
    Tls,
    /// None: a server on this machine only.
    None,
}

/// An address, with a name or without.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MailAddress {
    /// What people see.
    pub name: Option<String>,
    /// `local@domain`, ASCII.
    pub address: String,
}

impl MailAddress {
    /// The domain.
    pub fn domain(&self) -> &str {
        self.address.rsplit('@').next().unwrap_or_default()
    }
}

/// `[mail]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mail {
    /// Host name or address of the mail server.
    pub server: String,
    /// Its port.
    pub port: u16,
    /// How the connection is protected.
    pub tls: MailTls,
    /// A certificate authority besides those that the system trusts: a PEM file.
    pub ca_file: Option<PathBuf>,
    /// Who logs in; nobody, if none.
    pub user: Option<String>,
    /// Where the password is: a file, or the name of a systemd credential.
    pub password_file: Option<PathBuf>,
    /// The name in EHLO; this machine's, if none.
    pub hello: Option<String>,
    /// Who writes.
    pub from: MailAddress,
    /// Where answers go, if not to `from`.
    pub reply_to: Option<MailAddress>,
    /// Who gets a copy of everything.
    pub desk: Vec<String>,
    /// Whether customers are told at all.
    pub customers: bool,
    /// Language of the desk, and of customers whose language is not known.
    pub language: String,
    /// A directory of templates in place of those that are built in.
    pub templates: Option<PathBuf>,
    /// What the provider is called in letters.
    pub provider: String,
    /// Where customers open a ticket.
    pub ticket_url: Option<String>,
    /// How else the desk is reached: a line of text.
    pub contact: Option<String>,
    /// A lock is told of so long after it, so that the logs hold something.
    pub delay: Duration,
    /// More mails to one party in a minute become a digest.
    pub digest_above: u32,
    /// Most mails to a customer in an hour.
    pub customer_per_hour: u32,
    /// Most bytes of attachments in one mail.
    pub attachments_max: u64,
    /// Connections to the mail server at a time.
    pub connections: u32,
    /// What the server has refused for so long, for the time being, has failed.
    pub give_up: Duration,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawMail {
    server: Text,
    port: Option<Spanned<u16>>,
    tls: Option<Spanned<MailTls>>,
    ca_file: Option<Spanned<PathBuf>>,
    user: Option<Text>,
    password_file: Option<Spanned<PathBuf>>,
    hello: Option<Text>,
    from: Text,
    reply_to: Option<Text>,
    #[serde(default)]
    desk: Vec<Text>,
    customers: Option<bool>,
    language: Option<Text>,
    templates: Option<Spanned<PathBuf>>,
    provider: Option<Text>,
    ticket_url: Option<Text>,
    contact: Option<Text>,
    delay: Option<Text>,
    digest_above: Option<Spanned<u32>>,
    customer_per_hour: Option<Spanned<u32>>,
    attachments_max: Option<Spanned<u64>>,
    connections: Option<Spanned<u32>>,
    give_up: Option<Text>,
}

/// Whether a text is an address as RFC 5321 writes the usual ones: no quotes, no comments, ASCII.
pub fn is_mail_address(text: &str) -> bool {
    let Some((local, domain)) = text.rsplit_once('@') else { return false };
    let atom = |a: &str| {
        !a.is_empty() && a.chars().all(|c| c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(c))
    };
    local.len() <= 64 && text.len() <= 254 && local.split('.').all(atom) && is_host_name(domain)
}

/// Whether a text is a host name (RFC 1123).
fn is_host_name(text: &str) -> bool {
    let label = |l: &str| {
        (1..=63).contains(&l.len())
            && !l.starts_with('-')
            && !l.ends_with('-')
            && l.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
    };
    text.len() <= 253 && text.split('.').all(label)
}

/// A language as the templates' folders are named: `en`, `pt-br`.
pub fn is_language(text: &str) -> bool {
    (2..=11).contains(&text.len())
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
        && text.starts_with(|c: char| c.is_ascii_lowercase())
}

impl Validator<'_> {
    /// `Name <local@domain>`, or the address alone.
    fn mailbox(&mut self, key: &str, value: &Text) -> Option<MailAddress> {
        let text = value.get_ref().trim();
        let (name, address) = match text.strip_suffix('>').and_then(|t| t.split_once('<')) {
            Some((name, address)) => (Some(name.trim()), address.trim()),
            None => (None, text),
        };
        let name_is_plain =
            |n: &str| !n.is_empty() && !n.chars().any(|c| c.is_control() || "<>\"\\".contains(c));
        if !is_mail_address(address) || name.is_some_and(|n| !name_is_plain(n)) {
            let message = format!("{key} = \"{text}\" is no mail address");
            let advice = "write it like \"abuse@example.net\" or \"Abuse desk <abuse@example.net>\"; domains beyond ASCII as xn--…";
            self.wrong(value.span(), message, advice);
            return None;
        }
        Some(MailAddress { name: name.map(str::to_owned), address: address.to_owned() })
    }

    /// One line of text that is not empty.
    fn line(&mut self, key: &str, value: Option<Text>) -> Option<String> {
        let value = value?;
        let text = value.get_ref().trim().to_owned();
        if text.is_empty() || text.len() > 500 || text.chars().any(char::is_control) {
            let message = format!("{key} is empty, longer than 500 bytes, or more than one line");
            self.wrong(value.span(), message, "write one line of text, or leave it out");
            return None;
        }
        Some(text)
    }

    fn host(&mut self, key: &str, value: &Text) {
        let text = value.get_ref();
        if !is_host_name(text) && text.parse::<std::net::IpAddr>().is_err() {
            let message = format!("{key} = \"{text}\" is no host name and no address");
            self.wrong(
                value.span(),
                message,
                "write it like \"mail.example.net\"; the port has a key of its own",
            );
        }
    }

    pub(crate) fn mail(&mut self, raw: Option<RawMail>) -> Option<Mail> {
        let m = raw?;
        self.host("server", &m.server);
        if let Some(hello) = &m.hello {
            self.host("hello", hello);
        }
        let server = m.server.get_ref().clone();
        let here = server == "localhost"
            || server.parse::<std::net::IpAddr>().is_ok_and(|a| a.to_canonical().is_loopback());
        let tls = m.tls.as_ref().map_or(MailTls::Starttls, |t| *t.get_ref());
        if tls == MailTls::None
            && !here
            && let Some(span) = m.tls.as_ref().map(Spanned::span)
        {
            let message = format!("tls = \"none\" would send letters to {server} for all to read");
            self.wrong(
                span,
                message,
                "use \"starttls\" or \"tls\"; \"none\" is for a server on this machine",
            );
        }
        match (&m.user, &m.password_file) {
            (Some(user), None) => {
                self.wrong(
                    user.span(),
                    "user needs password_file",
                    "name the file with the password, readable for cordond only",
                );
            }
            (None, Some(file)) => {
                self.wrong(file.span(), "password_file needs user", "say who logs in, or leave both out");
            }
            _ => {}
        }
        let from = self.mailbox("from", &m.from);
        let mut desk = Vec::new();
        for d in &m.desk {
            desk.extend(self.mailbox("desk", d).map(|d| d.address));
        }
        let language = m.language.as_ref().map_or("en", |l| l.get_ref()).to_owned();
        if let Some(l) = m.language.as_ref().filter(|l| !is_language(l.get_ref())) {
            let message = format!("language = \"{}\" is no language", l.get_ref());
            self.wrong(l.span(), message, "write it like \"en\" or \"de\"");
        }
        if let Some(url) = m.ticket_url.as_ref()
            && !(url.get_ref().starts_with("https://") || url.get_ref().starts_with("http://"))
        {
            let message = format!("ticket_url = \"{}\" is no web address", url.get_ref());
            self.wrong(url.span(), message, "write it from https:// on");
        }
        let port = if tls == MailTls::Tls { 465 } else { 587 };
        let domain = from.as_ref().map_or_else(|| "the provider".to_owned(), |f| f.domain().to_owned());
        let mail = Mail {
            port: self.number("port", m.port, port, 1..=65_535),
            tls,
            ca_file: m.ca_file.map(|p| self.path("ca_file", Some(p), "/")),
            user: self.line("user", m.user),
            password_file: m.password_file.map(|p| self.secret("password_file", p)),
            hello: m.hello.map(Spanned::into_inner),
            reply_to: m.reply_to.as_ref().and_then(|r| self.mailbox("reply_to", r)),
            desk,
            customers: m.customers.unwrap_or(true),
            language,
            templates: m.templates.map(|p| self.path("templates", Some(p), "/")),
            provider: self.line("provider", m.provider).unwrap_or(domain),
            ticket_url: self.line("ticket_url", m.ticket_url),
            contact: self.line("contact", m.contact),
            delay: self.duration("delay", m.delay, 10 * SECOND, Duration::ZERO..=300 * SECOND),
            digest_above: self.number("digest_above", m.digest_above, 10, 1..=1_000),
            customer_per_hour: self.number("customer_per_hour", m.customer_per_hour, 20, 1..=10_000),
            attachments_max: self.number("attachments_max", m.attachments_max, 8_000_000, 0..=50_000_000),
            connections: self.number("connections", m.connections, 4, 1..=32),
            give_up: self.duration(
                "give_up",
                m.give_up,
                5 * 86_400 * SECOND,
                3_600 * SECOND..=30 * 86_400 * SECOND,
            ),
            server,
            from: from?,
        };
        Some(mail)
    }
}
