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

/// Everything that is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors {
    source: String,
    /// (line, column, text of the line), from 1, for each problem that has a place.
    places: Vec<Option<(usize, usize, String)>>,
    problems: Vec<Problem>,
}

impl ConfigErrors {
    pub(crate) fn new(source: &str, text: &str, mut problems: Vec<Problem>) -> ConfigErrors {
        problems.sort_by_key(|p| p.span.as_ref().map(|s| s.start));
        let places = problems.iter().map(|p| p.span.as_ref().map(|s| place(text, s.start))).collect();
        ConfigErrors { source: source.to_owned(), places, problems }
    }

    pub(crate) fn unreadable(path: &Path, e: &std::io::Error) -> ConfigErrors {
        let advice = match e.kind() {
            std::io::ErrorKind::NotFound => {
                "copy cordon.example.toml there, or name another file with --config"
            }
            std::io::ErrorKind::PermissionDenied => "run as root, or make the file readable",
            _ => "see the cause",
        };
        ConfigErrors::new(
            &path.display().to_string(),
            "",
            vec![Problem::general(format!("cannot be read: {e}"), advice)],
        )
    }

    /// The problems.
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
    place(text, at).0
}

fn place(text: &str, at: usize) -> (usize, usize, String) {
    let at = (0..=at.min(text.len())).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0);
    let before = text.get(..at).unwrap_or("");
    let line = before.matches('\n').count() + 1;
    let start = before.rfind('\n').map_or(0, |i| i + 1);
    let column = before.get(start..).map_or(0, |s| s.chars().count()) + 1;
    // A tab or an escape code would put the caret elsewhere.
    let excerpt = text.get(start..).unwrap_or("").lines().next().unwrap_or("");
    (line, column, excerpt.chars().map(|c| if c.is_control() { ' ' } else { c }).collect())
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
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}
