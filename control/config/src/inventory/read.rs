//! From text to what the validator looks at: every value with its place.

use std::ops::Range;

use serde::Deserialize;
use toml::Spanned;

use crate::error::Problem;
use crate::raw::Text;

/// An inventory before it is checked.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct File {
    pub(super) complete: bool,
    pub(super) server: Vec<Server>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Server {
    pub(super) id: Text,
    pub(super) name: Option<Text>,
    #[serde(default)]
    pub(super) addresses: Vec<Text>,
    #[serde(default)]
    pub(super) macs: Vec<Text>,
    pub(super) group: Option<Text>,
    pub(super) customer: Option<Text>,
    #[serde(default)]
    pub(super) contacts: Vec<Text>,
    pub(super) language: Option<Text>,
    #[serde(default)]
    pub(super) tags: Vec<Text>,
}

/// Columns of a CSV file.
const COLUMNS: [&str; 9] =
    ["id", "name", "addresses", "macs", "group", "customer", "contacts", "language", "tags"];

pub(super) fn toml(text: &str) -> Result<File, Vec<Problem>> {
    toml::from_str(text).map_err(|e| {
        let message = e.message().lines().collect::<Vec<_>>().join(" ");
        let advice = "write complete = true or false, then [[server]] for each server with id, addresses and macs; \
                      see \"Inventory\" in the README";
        vec![match e.span() {
            Some(span) => Problem::at(span, message, advice),
            None => Problem::general(message, advice),
        }]
    })
}

pub(super) fn csv(text: &str) -> Result<File, Vec<Problem>> {
    let head = text.lines().find(|l| !l.trim().is_empty() && !l.starts_with('#')).unwrap_or_default();
    // Spreadsheets of countries with a decimal comma separate by semicolons.
    let delimiter = if head.contains(';') && !head.contains(',') { b';' } else { b',' };
    let mut reader = csv::ReaderBuilder::new()
        .delimiter(delimiter)
        .has_headers(false)
        .flexible(true)
        .comment(Some(b'#'))
        .from_reader(text.as_bytes());
    let mut file = File::default();
    let mut problems = Vec::new();
    let mut columns: Option<Vec<Option<&'static str>>> = None;
    let mut record = csv::StringRecord::new();
    loop {
        match reader.read_record(&mut record) {
            Ok(true) => {}
            Ok(false) => break,
            Err(e) => {
                problems.push(Problem::general(e.to_string(), "write comma-separated values, UTF-8"));
                break;
            }
        }
        let start = record.position().map_or(0, |p| usize::try_from(p.byte()).unwrap_or(usize::MAX));
        let row = Row { record: &record, places: places(text, start, delimiter) };
        if row.record.iter().all(|f| f.trim().is_empty()) {
            continue;
        }
        match &columns {
            None if row.is("complete") => file.complete = row.complete(&mut problems),
            None => columns = Some(row.columns(&mut problems)),
            Some(c) if row.record.len() != c.len() => {
                let message =
                    format!("this line has {} fields, the head line has {}", row.record.len(), c.len());
                let advice = "separate several values of one field by spaces, and put text with commas in double quotes";
                problems.push(Problem::at(row.span(0), message, advice));
            }
            Some(c) => file.server.push(row.server(c, &mut problems)),
        }
    }
    if problems.is_empty() { Ok(file) } else { Err(problems) }
}

/// Where the fields of the record at `start` stand.
fn places(text: &str, start: usize, delimiter: u8) -> Vec<Range<usize>> {
    let bytes = text.as_bytes();
    // The reader's position is before the ends of lines and the comments that it skipped.
    let mut at = start;
    loop {
        match bytes.get(at) {
            Some(b'\r' | b'\n') => at += 1,
            Some(b'#') => at += bytes[at..].iter().position(|b| *b == b'\n').unwrap_or(bytes.len() - at),
            _ => break,
        }
    }
    let (mut fields, mut begin, mut quoted) = (Vec::with_capacity(COLUMNS.len()), at, false);
    loop {
        match bytes.get(at) {
            Some(b'"') => quoted = !quoted,
            Some(b) if *b == delimiter && !quoted => {
                fields.push(begin..at);
                begin = at + 1;
            }
            Some(b'\r' | b'\n') if !quoted => break,
            Some(_) => {}
            None => break,
        }
        at += 1;
    }
    fields.push(begin..at);
    fields
}

/// A record, and where its fields stand.
struct Row<'a> {
    record: &'a csv::StringRecord,
    places: Vec<Range<usize>>,
}

impl Row<'_> {
    /// The first field, when it is the only one or one of two.
    fn is(&self, word: &str) -> bool {
        self.record.get(0).map(str::trim) == Some(word)
            && self.record.iter().skip(2).all(|f| f.trim().is_empty())
    }

    fn span(&self, field: usize) -> Range<usize> {
        self.places.get(field).or(self.places.last()).cloned().unwrap_or(0..0)
    }

    fn complete(&self, problems: &mut Vec<Problem>) -> bool {
        match self.record.get(1).map(str::trim) {
            Some("true") => return true,
            Some("false") => {}
            other => problems.push(Problem::at(
                self.span(1),
                format!("complete is `{}`", other.unwrap_or_default()),
                "write complete,true when every server and every address is listed, else complete,false",
            )),
        }
        false
    }

    fn columns(&self, problems: &mut Vec<Problem>) -> Vec<Option<&'static str>> {
        let mut found: Vec<Option<&'static str>> = Vec::new();
        for (i, name) in self.record.iter().map(str::trim).enumerate() {
            let known = COLUMNS.into_iter().find(|c| *c == name);
            if known.is_none() {
                problems.push(Problem::at(
                    self.span(i),
                    format!("there is no column `{name}`"),
                    format!("the columns are {}", COLUMNS.join(" ")),
                ));
            } else if found.contains(&known) {
                problems.push(Problem::at(
                    self.span(i),
                    format!("column `{name}` is named twice"),
                    "separate several values of one field by spaces",
                ));
            }
            found.push(known);
        }
        if !found.contains(&Some("id")) {
            problems.push(Problem::at(
                self.span(0),
                "there is no column `id`",
                format!(
                    "the first line names the columns, of {}; id is the only one that is needed",
                    COLUMNS.join(" ")
                ),
            ));
        }
        found
    }

    fn server(&self, columns: &[Option<&'static str>], problems: &mut Vec<Problem>) -> Server {
        let mut server = Server {
            id: Spanned::new(self.span(0), String::new()),
            name: None,
            addresses: Vec::new(),
            macs: Vec::new(),
            group: None,
            customer: None,
            contacts: Vec::new(),
            language: None,
            tags: Vec::new(),
        };
        for (i, (column, field)) in columns.iter().zip(self.record).enumerate() {
            if field.contains('\n') {
                problems.push(Problem::at(
                    self.span(i),
                    "a line ends inside this field",
                    "close the double quotes that begin here, or remove the line break",
                ));
                continue;
            }
            match column {
                Some("id") => server.id = self.text(i, field),
                Some("name") => server.name = self.optional(i, field),
                Some("addresses") => server.addresses = self.list(i, field),
                Some("macs") => server.macs = self.list(i, field),
                Some("group") => server.group = self.optional(i, field),
                Some("customer") => server.customer = self.optional(i, field),
                Some("contacts") => server.contacts = self.list(i, field),
                Some("language") => server.language = self.optional(i, field),
                Some("tags") => server.tags = self.list(i, field),
                _ => {}
            }
        }
        server
    }

    fn text(&self, i: usize, field: &str) -> Text {
        Spanned::new(self.span(i), field.trim().to_owned())
    }

    fn optional(&self, i: usize, field: &str) -> Option<Text> {
        (!field.trim().is_empty()).then(|| self.text(i, field))
    }

    fn list(&self, i: usize, field: &str) -> Vec<Text> {
        // A quote before the value is one more byte.
        let span = self.span(i);
        let begin = span.start + usize::from(span.len() > field.len());
        let parts = field.split(|c: char| c.is_whitespace() || c == ';' || c == ',');
        parts
            .filter(|p| !p.is_empty())
            .map(|p| {
                let at = begin + (p.as_ptr().addr() - field.as_ptr().addr());
                Spanned::new(at..at + p.len(), p.to_owned())
            })
            .collect()
    }
}
