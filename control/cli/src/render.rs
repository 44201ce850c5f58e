//! From an answer to a page of text.

use std::path::Path;

use api::{LockRow, Payload, Request, Time};
use serde_json::Value;

use crate::human::{Style, between, clean};
use crate::table::WIDTH;
use crate::{details, evidence, lists, status};

/// What all pages share.
pub(crate) struct Page<'a> {
    pub(crate) style: Style,
    pub(crate) now: Time,
    /// The command to copy: `cordon`, with the options that led here.
    pub(crate) invocation: &'a str,
    /// `[run] state`, if it is known here.
    pub(crate) state: Option<&'a Path>,
}

impl Page<'_> {
    /// The text for an answer. `undo` is the command that takes back what was asked.
    pub(crate) fn show(&self, request: Option<&Request>, payload: Payload, undo: Option<&str>) -> String {
        match cleaned(payload) {
            Payload::Status(s) => status::show(self, &s),
            Payload::Top(rows) => lists::top(self, &rows),
            Payload::Locks(rows) => self.locks(request, &rows, undo),
            Payload::Host(h) => details::host(self, &h),
            Payload::Evidence(e) => evidence::show(self, &e),
            Payload::Incidents(rows) => lists::incidents(self, &rows),
            Payload::Incident(i) => details::incident(self, &i),
            Payload::Outbox(rows) => lists::outbox(self, &rows),
            Payload::Rtbh(rows) => lists::rtbh(self, &rows, undo),
            Payload::Breaker(rows) => lists::breaker(self, &rows),
            Payload::Lock(row) => lists::lock_table(self, &[*row]),
            Payload::Rules(rows) => lists::rules(self, &rows),
            Payload::Exemptions(rows) => lists::exemptions(self, &rows),
            Payload::Tokens(rows) => lists::tokens(self, &rows),
            Payload::Done(text) => format!("{}\n{}", clean(text.trim_end()), self.undo(undo)),
        }
    }

    fn locks(&self, request: Option<&Request>, rows: &[LockRow], undo: Option<&str>) -> String {
        let table = || lists::lock_table(self, rows);
        let n = rows.len();
        let what = if n == 1 { "1 lock" } else { &format!("{n} locks") };
        match request {
            Some(Request::Lock { .. }) => {
                let state = if rows.iter().all(|r| r.enforced) {
                    self.style.green("Locked, on disk and in force:")
                } else {
                    self.style.yellow("On the list and on disk, but not all of it is enforced:")
                };
                format!("{state}\n{}{}", table(), self.undo(undo))
            }
            Some(Request::Unlock { until: Some(until), .. }) => {
                let suspended = rows.iter().any(|r| r.suspended.is_some());
                let mut text = if suspended {
                    let left = between(self.now, *until);
                    format!(
                        "Let in for maintenance until {until} (for {left}); then locked again by itself:\n"
                    )
                } else {
                    "There was nothing to suspend: the lock was lifted meanwhile.\n".to_owned()
                };
                text += &table();
                if rows.iter().any(|r| r.suspended.is_none()) {
                    text += &self.style.yellow(
                        "  What is not suspended is still enforced; name it with --reason, or use --all.",
                    );
                    text.push('\n');
                }
                text + &self.undo(undo)
            }
            Some(Request::Resume { .. }) => {
                format!("{}\n{}", self.style.green("Enforced again:"), table())
            }
            Some(Request::BreakerApprove { rule, .. }) => format!(
                "Locked {what} that waited for {rule}, on disk and in force. The rule itself still only observes.\n{}{}",
                table(),
                self.next(&format!("breaker reset {rule}"), "lets it lock again by itself")
            ),
            Some(Request::Unlock { target, .. }) if n == 0 => {
                format!(
                    "There was nothing to lift.\n{}",
                    self.next(&format!("show {target}"), "says what covers it")
                )
            }
            Some(Request::Unlock { target, .. }) => {
                let mut text = format!(
                    "Lifted {what}:\n{}{}",
                    table(),
                    self.next(&format!("show {target}"), "says whether another lock still covers it")
                );
                // Who goes on attacking is locked again at once.
                if let Some(rule) = rows.iter().find_map(|r| r.rule.as_ref()) {
                    let exempt = format!("exempt {target} --rule {rule} --for 1h");
                    text += &self.next(&exempt, "keeps the rule from locking it again");
                }
                text
            }
            Some(Request::UnlockRule { rule, since, .. }) if n == 0 => {
                format!("{rule} has locked nothing since {since} that still stands.\n")
            }
            Some(Request::UnlockRule { rule, since, dry_run: true }) => format!(
                "{what} of {rule} since {since} would be lifted; nothing was done:\n{}{}",
                table(),
                self.next(&format!("unlock --rule {rule} --since {since}"), "lifts them")
            ),
            Some(Request::UnlockRule { rule, since, .. }) => format!(
                "Lifted {what} of {rule} since {since}:\n{}{}",
                table(),
                self.next(&format!("rule {rule} observe"), "keeps the rule from locking again")
            ),
            _ => lists::locks(self, rows),
        }
    }

    /// A line with a command to copy and what it does.
    pub(crate) fn next(&self, command: &str, what: &str) -> String {
        format!("  {} {command}   {what}\n", self.invocation)
    }

    pub(crate) fn undo(&self, undo: Option<&str>) -> String {
        undo.map_or_else(String::new, |u| format!("  undo: {} {u}\n", self.invocation))
    }

    /// `NAME       text`, wrapped.
    pub(crate) fn field(&self, name: &str, text: &str) -> String {
        let indent = 12;
        let name = format!("{name:<indent$}");
        format!("{}{}\n", self.style.bold(&name), wrap(text, indent))
    }
}

/// Breaks a text at spaces so that it fits, with all lines but the first indented.
pub(crate) fn wrap(text: &str, indent: usize) -> String {
    let mut out = String::new();
    let mut column = indent;
    for word in text.split(' ') {
        let length = word.chars().count();
        if column > indent && column + 1 + length > WIDTH {
            out.push('\n');
            out.push_str(&" ".repeat(indent));
            column = indent;
        } else if column > indent {
            out.push(' ');
            column += 1;
        }
        out.push_str(word);
        column += length;
    }
    out
}

/// Without control characters in any text: notes, names and cases come from many hands and must not drive a terminal.
fn cleaned(payload: Payload) -> Payload {
    fn walk(v: &mut Value) {
        match v {
            Value::String(s) => *s = clean(s).replace('\n', " "),
            Value::Array(items) => items.iter_mut().for_each(walk),
            Value::Object(map) => map.values_mut().for_each(walk),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
    if let Payload::Done(_) = payload {
        return payload;
    }
    let Ok(mut value) = serde_json::to_value(&payload) else { return payload };
    walk(&mut value);
    serde_json::from_value(value).unwrap_or(payload)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_broken_at_spaces() {
        let text = wrap(&"word ".repeat(40), 10);
        assert!(text.lines().all(|l| l.chars().count() <= WIDTH), "{text}");
        assert!(text.lines().skip(1).all(|l| l.starts_with("          word")), "{text}");
        assert_eq!(text.split_whitespace().count(), 40);
        assert_eq!(wrap(&"x".repeat(200), 10).len(), 200, "a word stays whole");
    }
}
