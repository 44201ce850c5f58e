//! Numbers, times and lines, as a language writes them.

use api::Time;

/// Columns of a line: RFC 5322 section 2.1.1 asks for at most 78.
pub(crate) const WIDTH: usize = 76;
/// A space at which no line is broken, until the lines are laid out.
const GLUE: char = '\u{1f}';
/// Where values begin in a block of facts.
const VALUES: usize = 16;

/// How a language writes numbers and times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Habit {
    /// 1,234.5 and 2026-11-24 18:00:00 UTC
    English,
    /// 1.234,5 and 24.11.2026, 18:00:00 UTC
    German,
    /// 1 234,5 and 2026-11-24 18:00:00 UTC: understood everywhere
    Other,
}

impl Habit {
    pub(crate) fn of(language: &str) -> Habit {
        match language.split('-').next() {
            Some("en") => Habit::English,
            Some("de") => Habit::German,
            _ => Habit::Other,
        }
    }

    const fn marks(self) -> (&'static str, &'static str) {
        match self {
            Habit::English => (",", "."),
            Habit::German => (".", ","),
            Habit::Other => ("\u{a0}", ","),
        }
    }

    /// An integer with its thousands grouped.
    pub(crate) fn integer(self, n: u64) -> String {
        let digits = n.to_string();
        let mut out = String::new();
        for (i, d) in digits.chars().enumerate() {
            if i > 0 && (digits.len() - i).is_multiple_of(3) {
                out.push_str(self.marks().0);
            }
            out.push(d);
        }
        out
    }

    /// A value of a measure: bits get a unit, everything else is a count. Truncated, never rounded up.
    pub(crate) fn amount(self, n: u64, measure: &str) -> String {
        if measure != "bits" {
            return self.integer(n);
        }
        let tenths = n / 100_000;
        format!("{}{}{} Mbit/s", self.integer(tenths / 10), self.marks().1, tenths % 10)
    }

    /// A time, to the second, in UTC.
    pub(crate) fn time(self, t: Time) -> String {
        // 2026-11-24T18:00:00.000Z
        let text = t.to_string();
        let part = |from: usize, to: usize| text.get(from..to).unwrap_or_default();
        let clock = part(11, 19);
        let text = match self {
            Habit::German => format!("{}.{}.{}, {clock} UTC", part(8, 10), part(5, 7), part(0, 4)),
            Habit::English | Habit::Other => format!("{} {clock} UTC", part(0, 10)),
        };
        text.replace(' ', &GLUE.to_string())
    }
}

/// Without what a mail program or a terminal would obey; line breaks stay.
pub(crate) fn clean(text: &str) -> String {
    let text = text.replace("\r\n", "\n");
    text.chars().map(|c| if c.is_control() && c != '\n' { ' ' } else { c }).collect()
}

/// As mail programs quote.
pub(crate) fn quote(text: &str) -> String {
    let lines = clean(text);
    let wrapped: Vec<String> = lines.trim().lines().flat_map(|l| wrap(l.trim_end(), "", WIDTH - 2)).collect();
    wrapped.iter().map(|l| format!("> {l}").trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}

/// Breaks a line at spaces; further lines begin with `hang`. A word that is longer stays whole.
fn wrap(line: &str, hang: &str, width: usize) -> Vec<String> {
    if line.chars().count() <= width {
        return vec![line.to_owned()];
    }
    let indent: String = line.chars().take_while(|c| *c == ' ').collect();
    let mut lines = Vec::new();
    let mut current = indent.clone();
    let mut empty = true;
    // Runs of spaces inside of a line of facts stay as they are.
    for word in line.get(indent.len()..).unwrap_or_default().split(' ') {
        if !empty && current.chars().count() + 1 + word.chars().count() > width {
            lines.push(current.trim_end().to_owned());
            current = hang.to_owned();
            empty = true;
        }
        if !empty {
            current.push(' ');
        }
        current.push_str(word);
        empty = false;
    }
    lines.push(current.trim_end().to_owned());
    lines
}

/// Lays out a rendered template: lines wrapped, at most one empty line in a row, none at the ends.
pub(crate) fn lay_out(text: &str) -> String {
    let mut out: Vec<String> = Vec::new();
    for line in text.lines() {
        // `-- ` begins a signature; its space has to stay.
        if line == "-- " {
            out.push(line.to_owned());
            continue;
        }
        let line = line.trim_end();
        if line.is_empty() {
            if out.last().is_some_and(|l| !l.is_empty()) {
                out.push(String::new());
            }
            continue;
        }
        let is_fact = |l: &String| l.starts_with("  ");
        if line.starts_with("  ")
            && out.last().is_some_and(String::is_empty)
            && out.iter().rev().nth(1).is_some_and(is_fact)
        {
            // Facts stand together, whichever macros they come from.
            out.pop();
        }
        let hang = if line.starts_with("  ") {
            " ".repeat(VALUES)
        } else if line.starts_with("- ") {
            "  ".to_owned()
        } else {
            String::new()
        };
        out.extend(wrap(line, &hang, WIDTH));
    }
    while out.last().is_some_and(String::is_empty) {
        out.pop();
    }
    (out.join("\n") + "\n").replace(GLUE, " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_times_are_written_as_the_language_does() {
        assert_eq!(Habit::English.integer(1_234_567), "1,234,567");
        assert_eq!(Habit::of("de").integer(1_234_567), "1.234.567");
        assert_eq!(Habit::of("fr").integer(1_234), "1\u{a0}234");
        assert_eq!(Habit::German.amount(900_190_000, "bits"), "900,1 Mbit/s");
        assert_eq!(Habit::English.amount(5_000, "syn"), "5,000");
        let t = Time::from_unix_ms(1_384_366_467_900);
        assert_eq!(Habit::English.time(t), "2013-11-13\u{1f}18:14:27\u{1f}UTC");
        assert_eq!(Habit::German.time(t), "13.11.2013,\u{1f}18:14:27\u{1f}UTC");
    }

    #[test]
    fn lines_are_wrapped_and_words_stay_whole() {
        let text = lay_out(&format!(
            "\n\n{}\n\n\n\n- {}\n  Label         {}\n-- \nx\n\n",
            "word ".repeat(40),
            "word ".repeat(20),
            "value ".repeat(20)
        ));
        assert!(text.lines().all(|l| l.chars().count() <= WIDTH), "{text}");
        assert!(text.starts_with("word word") && text.ends_with("\n-- \nx\n"), "{text}");
        assert!(!text.contains("\n\n\n"), "{text}");
        assert!(text.contains("\n- word") && text.contains("\n  word"), "{text}");
        assert!(
            text.contains("\n  Label         value") && text.contains("\n                value"),
            "{text}"
        );
        let url = format!("https://example.net/{}", "x".repeat(100));
        assert!(lay_out(&format!("at {url} or so")).contains(&url));
    }

    #[test]
    fn what_people_wrote_is_quoted_and_cannot_drive_a_terminal() {
        assert_eq!(quote("a\x1b[31m\r\n\r\nb \t c\n"), "> a [31m\n>\n> b   c");
        assert!(
            quote(&"word ".repeat(40)).lines().all(|l| l.starts_with("> ") && l.chars().count() <= WIDTH)
        );
    }
}
