//! Errors with a place and an advice.

use std::fmt;
use std::ops::Range;
use std::path::Path;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Bytes of the text that it concerns.
    pub span: Option<Range<usize>>,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub advice: String,
}

impl Problem {
    pub(crate) fn at(span: Range<usize>, message: impl Into<String>, advice: impl Into<String>) -> Problem {
        Problem { span: Some(span), message: message.into(), advice: advice.into() }
    }

    pub(crate) fn general(message: impl Into<String>, advice: impl Into<String>) -> Problem {
        Problem { span: None, message: message.into(), advice: advice.into() }
    }
}

/// Problems that are told; a file in which everything is wrong has more than anybody reads.
const TOLD_MAX: usize = 100;

/// Everything that is wrong with a configuration or an inventory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors {
    source: String,
    /// (line, column, text of the line), from 1, for each problem that has a place.
    places: Vec<Option<(usize, usize, String)>>,
    problems: Vec<Problem>,
    count: usize,
}

impl ConfigErrors {
    pub(crate) fn new(source: &str, text: &str, mut problems: Vec<Problem>) -> ConfigErrors {
        problems.sort_by_key(|p| p.span.as_ref().map(|s| s.start));
        let count = problems.len();
        problems.truncate(TOLD_MAX);
        // In order of place, so that the lines before are counted once only.
        let (mut at, mut line) = (0, 1);
        let mut places = Vec::with_capacity(problems.len());
        for p in &problems {
            places.push(p.span.as_ref().map(|s| {
                let start = boundary(text, s.start);
                line += newlines(text.get(at..start).unwrap_or(""));
                at = start;
                let (column, excerpt) = in_line(text, start);
                (line, column, excerpt)
            }));
        }
        ConfigErrors { source: source.to_owned(), places, problems, count }
    }

    /// `absent` is what to do when there is no such file.
    pub(crate) fn unreadable(path: &Path, e: &std::io::Error, absent: &str) -> ConfigErrors {
        let advice = match e.kind() {
            std::io::ErrorKind::NotFound => absent,
            std::io::ErrorKind::PermissionDenied => "run as root, or make the file readable",
            _ => "see the cause",
        };
        ConfigErrors::new(
            &path.display().to_string(),
            "",
            vec![Problem::general(format!("cannot be read: {e}"), advice)],
        )
    }

    /// The file that they are in.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// How many problems there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The problems, the first hundred of them.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// The problems, each with its line and column from 1 where it has a place.
    pub fn placed(&self) -> impl Iterator<Item = (Option<(usize, usize)>, &Problem)> {
        let places = self.places.iter().map(|p| p.as_ref().map(|(line, column, _)| (*line, *column)));
        places.zip(&self.problems)
    }
}

/// The line of a place, from 1.
pub(crate) fn line_of(text: &str, at: usize) -> usize {
    newlines(text.get(..boundary(text, at)).unwrap_or("")) + 1
}

fn newlines(text: &str) -> usize {
    text.bytes().filter(|b| *b == b'\n').count()
}

fn boundary(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0)
}

/// The column of a place, and its line's text.
fn in_line(text: &str, at: usize) -> (usize, String) {
    let before = text.get(..at).unwrap_or("");
    let start = before.rfind('\n').map_or(0, |i| i + 1);
    let column = before.get(start..).map_or(0, |s| s.chars().count()) + 1;
    // A tab or an escape code would put the caret elsewhere.
    let excerpt = text.get(start..).unwrap_or("").lines().next().unwrap_or("");
    (column, excerpt.chars().map(|c| if c.is_control() { ' ' } else { c }).collect())
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (p, at)) in self.problems.iter().zip(&self.places).enumerate() {
            if i > 0 {
                writeln!(f)?;
            }
            match at {
                Some((line, column, text)) => {
                    writeln!(f, "{}:{line}:{column}: {}", self.source, p.message)?;
                    writeln!(f, "{line:>5} | {text}")?;
                    writeln!(f, "      | {}^", " ".repeat(column - 1))?;
                }
                None => writeln!(f, "{}: {}", self.source, p.message)?,
            }
            write!(f, "      = {}", p.advice)?;
        }
        if self.count > self.problems.len() {
            write!(f, "\n{}: and {} more like these", self.source, self.count - self.problems.len())?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}
