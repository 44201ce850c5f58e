//! Numbers, times and colours for people.

use api::Time;

/// Colours, or none.
#[derive(Clone, Copy)]
pub(crate) struct Style {
    colour: bool,
}

impl Style {
    /// Colours only on a terminal that shows them, and only if the user did not say no (no-color.org).
    pub(crate) fn for_stream(terminal: bool) -> Style {
        let refused = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty())
            || std::env::var_os("TERM").is_none_or(|t| t == "dumb");
        Style { colour: terminal && !refused }
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    pub(crate) fn red(self, text: &str) -> String {
        self.paint("1;31", text)
    }

    pub(crate) fn yellow(self, text: &str) -> String {
        self.paint("33", text)
    }

    pub(crate) fn green(self, text: &str) -> String {
        self.paint("32", text)
    }

    pub(crate) fn bold(self, text: &str) -> String {
        self.paint("1", text)
    }
}

/// Without what a terminal would obey: notes and names come from many hands.
pub(crate) fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { '·' } else { c }).collect()
}

/// A word of a shell's command line.
pub(crate) fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:,@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", clean(word).replace('\'', r"'\''"))
    }
}

/// 1,234,567
pub(crate) fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut s = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            s.push(',');
        }
        s.push(c);
    }
    s
}

/// 1.2 GB, in powers of 1000; truncated, so that nothing looks larger than it is.
pub(crate) fn scaled(n: u64, unit: &str) -> String {
    let steps = [("E", 18u32), ("P", 15), ("T", 12), ("G", 9), ("M", 6), ("k", 3)];
    for (prefix, zeros) in steps {
        let step = 10u64.pow(zeros);
        if n >= step {
            let tenths = (n % step) / (step / 10);
            return format!("{}.{tenths} {prefix}{unit}", n / step);
        }
    }
    format!("{n} {unit}")
}

/// 2 h 10 min; two units at most, truncated.
pub(crate) fn span(ms: i64) -> String {
    let s = ms.unsigned_abs() / 1000;
    let (d, h, m) = (s / 86_400, s / 3600 % 24, s / 60 % 60);
    let two = |a: u64, unit: &str, b: u64, lesser: &str| {
        if b == 0 { format!("{a} {unit}") } else { format!("{a} {unit} {b} {lesser}") }
    };
    match s {
        0..60 => format!("{s} s"),
        60..3600 => two(m, "min", if m < 10 { s % 60 } else { 0 }, "s"),
        3600..86_400 => two(h, "h", m, "min"),
        _ => two(d, "d", h, "h"),
    }
}

/// As [`span`], the larger unit alone: for tables.
pub(crate) fn short(ms: i64) -> String {
    span(ms).split(' ').take(2).collect::<Vec<_>>().join(" ")
}

/// From `a` to `b`.
pub(crate) fn between(a: Time, b: Time) -> String {
    span(b.unix_ms().saturating_sub(a.unix_ms()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_times_read_well() {
        assert_eq!([count(0), count(999), count(1000), count(1_234_567)], ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(count(u64::MAX), "18,446,744,073,709,551,615");
        assert_eq!(scaled(999, "B"), "999 B");
        assert_eq!(scaled(1_990_000_000, "bit/s"), "1.9 Gbit/s");
        assert_eq!(scaled(u64::MAX, "B"), "18.4 EB");
        let spans = [0, 59_999, 61_000, 600_000, 659_000, 7_800_000, 7_200_000, 90_000_000].map(span);
        assert_eq!(spans, ["0 s", "59 s", "1 min 1 s", "10 min", "10 min", "2 h 10 min", "2 h", "1 d 1 h"]);
        assert_eq!([short(7_800_000), short(59_000)], ["2 h", "59 s"]);
        assert_eq!(span(i64::MIN), span(i64::MAX));
    }

    #[test]
    fn nothing_reaches_the_terminal_that_it_would_obey() {
        assert_eq!(clean("a\x1b[2J\u{9b}b\tc\r\nd"), "a·[2J·b·c·\nd");
    }

    #[test]
    fn a_copied_path_stays_one_word() {
        assert_eq!(quoted("/run/cordon/cordon.sock"), "/run/cordon/cordon.sock");
        assert_eq!(quoted("/a b/it's"), r"'/a b/it'\''s'");
        assert_eq!(quoted(""), "''");
    }

    #[test]
    fn colours_need_a_terminal() {
        assert_eq!(Style::for_stream(false).red("x"), "x");
        assert_eq!(Style { colour: true }.red("x"), "\x1b[1;31mx\x1b[0m");
    }
}
