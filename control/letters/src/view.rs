//! What templates see, and what comes out.

use api::{Event, IncidentRow, LockRow, Reason, Time, Why};
use serde::Serialize;

use crate::facts::Letter;
use crate::format::clean;

/// The provider, as letters name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct House {
    /// Its name.
    pub provider: String,
    /// Where customers open a ticket.
    pub ticket_url: Option<String>,
    /// How else the desk is reached.
    pub contact: Option<String>,
}

/// A letter in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    /// One line, without `[Cordon …]`.
    pub headline: String,
    /// The subject as a whole.
    pub subject: String,
    /// Lines of at most 76 characters, but for words that are longer; each ends with a newline.
    pub body: String,
}

/// Many letters to one party in one.
#[derive(Clone, Debug)]
pub struct Digest<'a> {
    /// The letters, in order.
    pub parts: &'a [Letter],
    /// When it was put together.
    pub at: Time,
}

#[derive(Serialize)]
pub(crate) struct FileView {
    pub(crate) name: String,
}

#[derive(Serialize)]
pub(crate) struct KindView {
    pub(crate) event: Event,
    pub(crate) count: u64,
}

#[derive(Serialize)]
pub(crate) struct LineView {
    pub(crate) at: Time,
    pub(crate) r#ref: String,
    pub(crate) headline: String,
}

/// The variable `l` of templates.
#[derive(Serialize)]
pub(crate) struct View<'a> {
    pub(crate) event: Event,
    pub(crate) desk: bool,
    pub(crate) at: Time,
    pub(crate) provider: &'a str,
    pub(crate) ticket_url: Option<&'a str>,
    pub(crate) contact: Option<&'a str>,
    pub(crate) name: Option<String>,
    pub(crate) r#ref: Option<String>,
    pub(crate) ref_incident: Option<&'a str>,
    pub(crate) targets: &'a [String],
    pub(crate) servers: &'a [String],
    pub(crate) incident: Option<&'a IncidentRow>,
    pub(crate) lock: Option<LockRow>,
    pub(crate) still: &'a [Reason],
    pub(crate) deadline: Option<Time>,
    pub(crate) who: &'a str,
    pub(crate) why: Option<Why>,
    pub(crate) rule: Option<&'a str>,
    pub(crate) incidents: &'a [String],
    pub(crate) from: &'a [String],
    pub(crate) text: Option<&'a str>,
    pub(crate) told: &'a [String],
    pub(crate) files: Vec<FileView>,
    pub(crate) left_out: &'a [String],
    // Of a digest.
    pub(crate) count: u64,
    pub(crate) since: Time,
    pub(crate) kinds: Vec<KindView>,
    pub(crate) lines: Vec<LineView>,
    pub(crate) more: u64,
}

impl<'a> View<'a> {
    pub(crate) fn new(
        letter: &'a Letter,
        house: &'a House,
        files: &[String],
        left_out: &'a [String],
    ) -> View<'a> {
        // What people typed: one line, or what `quote` makes of it.
        let lock = letter.lock.as_deref().map(|l| LockRow {
            case: l.case.as_deref().map(|c| clean(c).replace('\n', " ")),
            note: l.note.as_deref().map(clean),
            ..l.clone()
        });
        View {
            event: letter.event,
            desk: letter.party.customer.is_none(),
            at: letter.at,
            provider: &house.provider,
            ticket_url: house.ticket_url.as_deref(),
            contact: house.contact.as_deref(),
            name: letter.party.name.as_deref().map(|n| clean(n).replace('\n', " ")),
            r#ref: letter.reference(),
            ref_incident: letter.incident_id(),
            targets: &letter.targets,
            servers: &letter.servers,
            incident: letter.incident.as_deref(),
            lock,
            still: &letter.still,
            deadline: letter.deadline,
            who: &letter.who,
            why: letter.why,
            rule: letter.rule.as_deref(),
            incidents: &letter.incidents,
            from: &letter.from,
            text: letter.text.as_deref(),
            told: &letter.told,
            files: files.iter().map(|n| FileView { name: n.clone() }).collect(),
            left_out,
            count: 1,
            since: letter.at,
            kinds: Vec::new(),
            lines: Vec::new(),
            more: 0,
        }
    }
}
