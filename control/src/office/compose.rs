//! From a row of the outbox to a mail: words, attachments, headers.
//!
//! The same row makes the same headers at every attempt, so that a copy is recognised by its Message-ID.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use api::{Event, Time};
use config::Mail;
use letters::{Digest, House, Letter, Templates, Text};
use lettre::message::header::{ContentTransferEncoding, ContentType, HeaderName, HeaderValue};
use lettre::message::{Attachment, Body, Mailbox, Message, MultiPart, SinglePart};
use lettre::{Address, message::header};

use super::xarf;
use crate::store::{Parcel, folder};

/// Files of evidence, the most telling first.
const FILES: [&str; 6] =
    ["netscan.log", "portscan.log", "summary.log", "misconfiguration.log", "dump.log", "dump.pcapng"];
/// Files of a digest that tell most, one an incident.
const DIGEST_FILES: usize = 4;
/// Files of evidence in a digest.
const DIGEST_FILES_MAX: usize = 100;

/// What the office has to know of the configuration.
#[derive(Debug)]
pub struct Settings {
    /// `[mail]`
    pub mail: Mail,
    /// The texts.
    pub templates: Templates,
    /// `[run] state`
    pub state: PathBuf,
}

impl Settings {
    /// What the configuration comes to, with the templates that it names: none without `[mail]`. The error is for the
    /// operator.
    pub fn of(config: &config::Config) -> Result<Option<Arc<Settings>>, String> {
        let Some(mail) = &config.mail else { return Ok(None) };
        let templates = match &mail.templates {
            None => Templates::built_in(),
            Some(dir) => Templates::load(dir).map_err(|all| {
                let lines: Vec<String> = all.iter().map(ToString::to_string).collect();
                format!("[mail] templates: {}", lines.join("; "))
            })?,
        };
        Ok(Some(Arc::new(Settings { mail: mail.clone(), templates, state: config.run.state.clone() })))
    }

    /// The same with the templates that are built in, whatever the configuration names.
    pub fn built_in(config: &config::Config) -> Option<Arc<Settings>> {
        let mail = config.mail.clone()?;
        let templates = Templates::built_in();
        Some(Arc::new(Settings { mail, templates, state: config.run.state.clone() }))
    }

    pub(super) fn house(&self) -> House {
        House {
            provider: self.mail.provider.clone(),
            ticket_url: self.mail.ticket_url.clone(),
            contact: self.mail.contact.clone(),
        }
    }
}

/// A mail that is ready to be sent.
#[derive(Debug)]
pub(super) struct Ready {
    pub(super) from: Address,
    /// Those who have not taken it yet.
    pub(super) to: Vec<Address>,
    pub(super) bytes: Vec<u8>,
}

struct File {
    name: String,
    kind: &'static str,
    bytes: Vec<u8>,
}

/// What fits into a mail, and what does not.
struct Budget {
    left: u64,
    files: Vec<File>,
    left_out: Vec<String>,
}

impl Budget {
    fn add(&mut self, name: String, kind: &'static str, bytes: Vec<u8>) {
        let size = bytes.len() as u64;
        if size <= self.left {
            self.left -= size;
            self.files.push(File { name, kind, bytes });
        } else {
            self.left_out.push(name);
        }
    }

    fn names(&self) -> Vec<String> {
        self.files.iter().map(|f| f.name.clone()).collect()
    }
}

fn kind_of(name: &str) -> &'static str {
    match name.rsplit('.').next() {
        Some("log") => "text/plain; charset=utf-8",
        Some("csv") => "text/csv; charset=utf-8",
        Some("json") => "application/json",
        _ => "application/octet-stream",
    }
}

/// A file of evidence as it is now; none when there is none, or no more.
fn evidence(state: &Path, incident: &str, name: &str) -> Option<Vec<u8>> {
    std::fs::read(folder(state, incident).join(name)).ok()
}

/// Whether an event comes with the evidence of its incident.
fn shows_evidence(event: Event) -> bool {
    matches!(event, Event::Warned | Event::Locked | Event::Attacked | Event::Evidence)
}

/// Writes the mail. Reads files: not for the office's own thread.
pub(super) fn compose(parcel: &Parcel, settings: &Settings, origin: &str) -> Result<Ready, String> {
    let mut budget = Budget { left: settings.mail.attachments_max, files: Vec::new(), left_out: Vec::new() };
    let house = settings.house();
    let letter = letter(&parcel.body)?;
    let text = if parcel.event == Event::Digest {
        digest(parcel, settings, &house, &mut budget)?
    } else {
        single(&letter, settings, &house, &mut budget, origin)?
    };
    message(parcel, &letter, settings, &text, budget.files, origin)
}

fn letter(body: &str) -> Result<Letter, String> {
    serde_json::from_str(body).map_err(|e| format!("the row is not understood: {e}"))
}

fn single(
    letter: &Letter,
    settings: &Settings,
    house: &House,
    budget: &mut Budget,
    origin: &str,
) -> Result<Text, String> {
    if let Some(id) = letter.incident_id().filter(|_| shows_evidence(letter.event)) {
        for name in FILES {
            if let Some(bytes) = evidence(&settings.state, id, name) {
                budget.add(name.to_owned(), kind_of(name), bytes);
            }
        }
        if letter.party.customer.is_none() {
            let files: Vec<(&str, &[u8])> =
                budget.files.iter().map(|f| (f.name.as_str(), f.bytes.as_slice())).collect();
            if let Some(report) = xarf::report(letter, &settings.mail, &files, origin) {
                budget.add("xarf.json".to_owned(), kind_of("xarf.json"), report.to_string().into_bytes());
            }
        }
    }
    settings.templates.text(letter, house, &budget.names(), &budget.left_out)
}

fn digest(parcel: &Parcel, settings: &Settings, house: &House, budget: &mut Budget) -> Result<Text, String> {
    let parts: Vec<Letter> = parcel.parts.iter().map(|p| letter(&p.body)).collect::<Result<_, _>>()?;
    let list = settings.templates.list(&parts, house)?;
    budget.add("digest.csv".to_owned(), kind_of("digest.csv"), list.into_bytes());
    let mut seen: Vec<&str> = Vec::new();
    for part in parts.iter().filter(|p| shows_evidence(p.event)) {
        let Some(id) = part.incident_id() else { continue };
        if seen.len() >= DIGEST_FILES_MAX {
            break;
        }
        if seen.contains(&id) {
            continue;
        }
        seen.push(id);
        for name in &FILES[..DIGEST_FILES] {
            if let Some(bytes) = evidence(&settings.state, id, name) {
                budget.add(format!("{id}-{name}"), kind_of(name), bytes);
            }
        }
    }
    let digest = Digest { parts: &parts, at: parcel.created };
    settings.templates.digest(&digest, house, &budget.names(), &budget.left_out)
}

/// The Message-ID of a row.
fn message_id(row: &str, origin: &str, mail: &Mail) -> String {
    format!("<{row}.{origin}@{}>", mail.from.domain())
}

fn address(text: &str) -> Result<Address, String> {
    text.parse().map_err(|e| format!("{text}: {e}"))
}

fn mailbox(a: &config::MailAddress) -> Result<Mailbox, String> {
    Ok(Mailbox::new(a.name.clone(), address(&a.address)?))
}

fn date(t: Time) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(u64::try_from(t.unix_ms()).unwrap_or(0))
}

fn message(
    parcel: &Parcel,
    letter: &Letter,
    settings: &Settings,
    text: &Text,
    files: Vec<File>,
    origin: &str,
) -> Result<Ready, String> {
    let mail = &settings.mail;
    let id = message_id(&parcel.id, origin, mail);
    let mut builder = Message::builder()
        .from(mailbox(&mail.from)?)
        .subject(text.subject.clone())
        .date(date(parcel.created))
        .message_id(Some(id.clone()));
    if let Some(reply_to) = &mail.reply_to {
        builder = builder.reply_to(mailbox(reply_to)?);
    }
    let mut to = Vec::new();
    let mut wrong = Vec::new();
    for contact in &letter.party.to {
        match address(contact) {
            Ok(a) => {
                builder = builder.to(Mailbox::new(None, a.clone()));
                if !parcel.accepted.contains(contact) {
                    to.push(a);
                }
            }
            Err(e) => wrong.push(e),
        }
    }
    if to.is_empty() {
        return Err(format!("there is nobody to send it to: {}", wrong.join("; ")));
    }
    if let Some(first) = &parcel.first {
        let first = message_id(first, origin, mail);
        builder = builder.in_reply_to(first.clone()).references(first);
    }
    // RFC 3834: no vacation notices, no loops.
    let raw = |name: &'static str, value: &str| {
        HeaderValue::new(HeaderName::new_from_ascii_str(name), value.to_owned())
    };
    builder = builder.raw_header(raw("Auto-Submitted", "auto-generated"));
    builder = builder.raw_header(raw("X-Auto-Response-Suppress", "All"));
    let body = SinglePart::builder().header(header::ContentType::TEXT_PLAIN).body(text.body.clone());
    let built = if files.is_empty() {
        builder.singlepart(body)
    } else {
        // Encoded text never holds `=_`.
        let boundary = format!("=_cordon_{}_{}", parcel.id.replace(['.', '_'], "-"), origin);
        let boundary: String = boundary.chars().take(70).collect();
        let mut parts = MultiPart::mixed().boundary(boundary).singlepart(body);
        for f in files {
            let kind = ContentType::parse(f.kind).map_err(|e| format!("{}: {e}", f.kind))?;
            // Byte for byte as it was written: no transport changes the ends of its lines.
            let bytes = Body::new_with_encoding(f.bytes, ContentTransferEncoding::Base64)
                .map_err(|_| format!("{} cannot be encoded", f.name))?;
            parts = parts.singlepart(Attachment::new(f.name).body(bytes, kind));
        }
        builder.multipart(parts)
    };
    let message = built.map_err(|e| format!("the mail cannot be written: {e}"))?;
    Ok(Ready { from: address(&mail.from.address)?, to, bytes: message.formatted() })
}
