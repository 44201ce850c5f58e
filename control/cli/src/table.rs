//! Aligned columns that fit a line of 100 characters.

use crate::human::{Style, clean};

/// Longest line. Only the last column gives way: an address that is cut is of no use.
pub(crate) const WIDTH: usize = 100;
/// The last column keeps at least so much: what is left beside the longest IPv6 address in the lock list.
const LAST_MIN: usize = 8;

/// A table in the making.
pub(crate) struct Table {
    /// One a column.
    heads: &'static [&'static str],
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A head with a leading space is aligned to the right, as numbers are.
    pub(crate) fn new(heads: &'static [&'static str]) -> Table {
        Table { heads, rows: Vec::new() }
    }

    /// Adds a row, one text a column.
    pub(crate) fn row(&mut self, cells: impl AsRef<[String]>) {
        let cells = cells.as_ref();
        debug_assert_eq!(cells.len(), self.heads.len());
        self.rows.push(cells.iter().map(|c| clean(c).replace('\n', " ")).collect());
    }

    /// The lines, each with its end.
    pub(crate) fn lines(&self, style: Style) -> String {
        let heads: Vec<String> = self.heads.iter().map(|h| h.trim().to_owned()).collect();
        let all = || std::iter::once(&heads).chain(&self.rows);
        let mut widths: Vec<usize> = (0..heads.len())
            .map(|i| all().filter_map(|r| r.get(i)).map(|c| c.chars().count()).max().unwrap_or(0))
            .collect();
        let before: usize = widths.iter().rev().skip(1).map(|w| w + 2).sum();
        if let Some(last) = widths.last_mut() {
            *last = (*last).min(WIDTH.saturating_sub(before).max(LAST_MIN));
        }
        let mut text = String::new();
        for (n, row) in all().enumerate() {
            let mut line = String::new();
            for ((cell, width), head) in row.iter().zip(&widths).zip(self.heads) {
                let cell = cut(cell, *width);
                let pad = " ".repeat(width - cell.chars().count());
                let (left, right) =
                    if head.starts_with(' ') { (pad.as_str(), "") } else { ("", pad.as_str()) };
                line = format!("{line}{left}{cell}{right}  ");
            }
            let line = line.trim_end();
            text += &if n == 0 { style.bold(line) } else { line.to_owned() };
            text.push('\n');
        }
        text
    }
}

/// At most `width` characters; says with its last when there were more.
fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_the_last_gives_way() {
        let mut t = Table::new(&["NAME", " NUMBER", "NOTE"]);
        t.row(["a".into(), "1".into(), "x".repeat(200)]);
        t.row(["longer".into(), "1,000".into(), "line\nbreak \x1b[31m".into()]);
        let text = t.lines(Style::for_stream(false));
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], "NAME    NUMBER  NOTE");
        assert_eq!(lines[1].chars().count(), WIDTH);
        assert!(lines[1].starts_with("a            1  xxx") && lines[1].ends_with("x…"));
        assert_eq!(lines[2], "longer   1,000  line break ·[31m");
    }

    #[test]
    fn no_address_is_cut() {
        let mut t = Table::new(&["A", "B", "C"]);
        t.row(["x".repeat(60), "y".repeat(60), "z".repeat(60)]);
        let text = t.lines(Style::for_stream(false));
        assert!(text.contains(&"x".repeat(60)) && text.contains(&"y".repeat(60)));
    }
}
