//! Templates: those that are built in, and an operator's own in their place.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

use api::{Event, Time};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{Environment, ErrorKind, UndefinedBehavior, Value, context};

use crate::facts::Letter;
use crate::format::{Habit, clean, lay_out, quote};
use crate::samples;
use crate::view::{Digest, House, KindView, LineView, Text, View};

/// Language that every template is there in.
const FALLBACK: &str = "en";
/// Lines of a digest; the rest is in its list.
const LINES_MAX: usize = 100;
/// Longest subject, in characters: a line of a header holds 998 bytes, and nobody reads more.
const SUBJECT_MAX: usize = 160;

macro_rules! built_in {
    ($($language:literal: $($name:literal)*;)*) => {
        /// (language, name, text)
        const BUILT_IN: &[(&str, &str, &str)] = &[
            $($(($language, $name, include_str!(concat!("../templates/", $language, "/", $name))),)*)*
        ];
    };
}

built_in! {
    "en": "words.txt" "headline.txt" "warned.txt" "locked.txt" "locked-by-hand.txt" "attacked.txt" "evidence.txt"
          "unlocked.txt" "maintenance.txt" "statement.txt" "correction.txt" "digest.txt";
    "de": "words.txt" "headline.txt" "warned.txt" "locked.txt" "locked-by-hand.txt" "attacked.txt" "evidence.txt"
          "unlocked.txt" "maintenance.txt" "statement.txt" "correction.txt" "digest.txt";
}

/// What is wrong with an operator's templates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file.
    pub file: String,
    /// The line, from 1.
    pub line: Option<usize>,
    /// What is wrong.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}: {}", self.file, self.message),
            None => write!(f, "{}: {}", self.file, self.message),
        }
    }
}

impl std::error::Error for Problem {}

/// Templates of all languages.
#[derive(Debug)]
pub struct Templates {
    languages: BTreeMap<String, Environment<'static>>,
}

/// A message of the engine without its own mention of the place.
fn problem(e: &minijinja::Error, place: impl Fn(&str) -> String) -> Problem {
    let message = match (e.kind(), e.detail()) {
        (ErrorKind::UndefinedError, None) => "there is no such value".to_owned(),
        (kind, None) => kind.to_string(),
        (kind, Some(detail)) => format!("{kind}: {detail}"),
    };
    Problem { file: place(e.name().unwrap_or("?")), line: e.line(), message }
}

fn text_of(value: &Value) -> Result<Time, minijinja::Error> {
    let text = value.as_str().unwrap_or_default();
    text.parse().map_err(|e: String| minijinja::Error::new(ErrorKind::InvalidOperation, e))
}

fn environment(language: &str) -> Environment<'static> {
    let habit = Habit::of(language);
    let mut env = Environment::new();
    env.set_undefined_behavior(UndefinedBehavior::Strict);
    // A block's tag that stands alone on its line leaves nothing of that line.
    let syntax =
        SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).keep_trailing_newline(true).build();
    if let Ok(syntax) = syntax {
        env.set_syntax(syntax);
    }
    env.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    env.add_filter("number", move |n: u64| habit.integer(n));
    env.add_filter("amount", move |n: u64, measure: &str| habit.amount(n, measure));
    env.add_filter("when", move |v: Value| text_of(&v).map(|t| habit.time(t)));
    env.add_filter("quote", |s: &str| quote(s));
    // `netscan/default` is the rule `netscan` as it holds for a group.
    env.add_filter("rule", |s: &str| match s.split_once('/') {
        Some((rule, "default")) => rule.to_owned(),
        Some((rule, group)) => format!("{rule} ({group})"),
        None => s.to_owned(),
    });
    env
}

impl Templates {
    /// Those that are built in.
    pub fn built_in() -> Templates {
        let no_files = BTreeMap::new();
        // The tests render every one of them.
        Templates::assemble(no_files, |n| n.to_owned()).unwrap_or(Templates { languages: BTreeMap::new() })
    }

    /// Those that are built in, and in their place those of a directory: `LANGUAGE/NAME.txt`. All that is wrong is told.
    pub fn load(dir: &Path) -> Result<Templates, Vec<Problem>> {
        let mut own: BTreeMap<(String, String), String> = BTreeMap::new();
        let mut problems = Vec::new();
        let known: BTreeSet<&str> = BUILT_IN.iter().map(|(_, name, _)| *name).collect();
        let unreadable = |path: &Path, e: &std::io::Error| Problem {
            file: path.display().to_string(),
            line: None,
            message: format!("cannot be read: {e}"),
        };
        let languages = std::fs::read_dir(dir).map_err(|e| vec![unreadable(dir, &e)])?;
        for language in languages.flatten().filter(|l| l.path().is_dir()) {
            let (path, language) = (language.path(), language.file_name().to_string_lossy().into_owned());
            let files = match std::fs::read_dir(&path) {
                Ok(files) => files,
                Err(e) => {
                    problems.push(unreadable(&path, &e));
                    continue;
                }
            };
            for file in files.flatten() {
                let (path, name) = (file.path(), file.file_name().to_string_lossy().into_owned());
                if !name.ends_with(".txt") {
                    continue;
                }
                if !known.contains(name.as_str()) {
                    let names: Vec<&str> = known.iter().copied().collect();
                    let message = format!("no letter has that name; the names are {}", names.join(" "));
                    problems.push(Problem { file: path.display().to_string(), line: None, message });
                    continue;
                }
                match std::fs::read_to_string(&path) {
                    Ok(text) => {
                        own.insert((language.clone(), name), text);
                    }
                    Err(e) => problems.push(unreadable(&path, &e)),
                }
            }
        }
        let place = |name: &str| dir.join(name).display().to_string();
        match Templates::assemble(own, place) {
            Ok(templates) if problems.is_empty() => {
                let wrong = templates.check(place);
                if wrong.is_empty() { Ok(templates) } else { Err(wrong) }
            }
            Ok(_) => Err(problems),
            Err(more) => {
                problems.extend(more);
                Err(problems)
            }
        }
    }

    fn assemble(
        own: BTreeMap<(String, String), String>,
        place: impl Fn(&str) -> String,
    ) -> Result<Templates, Vec<Problem>> {
        let languages: BTreeSet<&str> =
            BUILT_IN.iter().map(|(l, _, _)| *l).chain(own.keys().map(|(l, _)| l.as_str())).collect();
        let mut all = BTreeMap::new();
        let mut problems = Vec::new();
        for language in languages {
            let mut env = environment(language);
            let base = if BUILT_IN.iter().any(|(l, _, _)| *l == language) { language } else { FALLBACK };
            for (_, name, text) in BUILT_IN.iter().filter(|(l, _, _)| *l == base) {
                let own = own.get(&(language.to_owned(), (*name).to_owned()));
                let text = own.map_or(*text, String::as_str).to_owned();
                if let Err(e) = env.add_template_owned((*name).to_owned(), text) {
                    problems.push(problem(&e, |n| place(&format!("{language}/{n}"))));
                }
            }
            all.insert(language.to_owned(), env);
        }
        if problems.is_empty() { Ok(Templates { languages: all }) } else { Err(problems) }
    }

    /// Renders every letter of every language with sample facts: what is wrong shows now, and not when it is needed.
    fn check(&self, place: impl Fn(&str) -> String) -> Vec<Problem> {
        let house = samples::house();
        let mut problems: Vec<Problem> = Vec::new();
        for (language, env) in &self.languages {
            let place = |n: &str| place(&format!("{language}/{n}"));
            for letter in samples::letters(language) {
                let view = View::new(&letter, &house, &[], &[]);
                if let Err(e) = render(env, &view, letter.event) {
                    problems.push(problem(&e, place));
                }
            }
            let parts = samples::letters(language);
            if let Err(e) = digest(env, &Digest { parts: &parts, at: parts[0].at }, &house, &[], &[]) {
                problems.push(problem(&e, place));
            }
        }
        problems.sort_by(|a, b| (&a.file, a.line, &a.message).cmp(&(&b.file, b.line, &b.message)));
        problems.dedup();
        problems
    }

    /// The languages that there are.
    pub fn languages(&self) -> impl Iterator<Item = &str> {
        self.languages.keys().map(String::as_str)
    }

    fn language(&self, language: &str) -> Result<&Environment<'static>, String> {
        let short = language.split('-').next().unwrap_or_default();
        [language, short, FALLBACK]
            .iter()
            .find_map(|l| self.languages.get(*l))
            .ok_or_else(|| "there are no templates".to_owned())
    }

    /// Puts a letter into words. `files`: names of what is attached; `left_out`: of what is too large for it.
    pub fn text(
        &self,
        letter: &Letter,
        house: &House,
        files: &[String],
        left_out: &[String],
    ) -> Result<Text, String> {
        let env = self.language(&letter.party.language)?;
        let view = View::new(letter, house, files, left_out);
        render(env, &view, letter.event).map_err(|e| problem(&e, str::to_owned).to_string())
    }

    /// Puts many letters into one. The list of all is for [`list`] to write.
    pub fn digest(
        &self,
        parts: &Digest<'_>,
        house: &House,
        files: &[String],
        left_out: &[String],
    ) -> Result<Text, String> {
        let language = parts.parts.last().map_or(FALLBACK, |l| &l.party.language);
        let env = self.language(language)?;
        digest(env, parts, house, files, left_out).map_err(|e| problem(&e, str::to_owned).to_string())
    }

    /// The list of a digest's parts as CSV.
    pub fn list(&self, parts: &[Letter], house: &House) -> Result<String, String> {
        let mut out = "time,number,event,addresses,headline\r\n".to_owned();
        for letter in parts {
            let env = self.language(&letter.party.language)?;
            let headline = headline(env, &View::new(letter, house, &[], &[]))
                .map_err(|e| problem(&e, str::to_owned).to_string())?;
            let number = letter.reference().unwrap_or_default();
            let fields =
                [letter.at.to_string(), number, letter.event.to_string(), letter.targets.join(" "), headline];
            let quoted = fields.map(|f| format!("\"{}\"", f.replace('"', "\"\"")));
            out += &quoted.join(",");
            out += "\r\n";
        }
        Ok(out)
    }
}

fn headline(env: &Environment<'_>, view: &View<'_>) -> Result<String, minijinja::Error> {
    let text = env.get_template("headline.txt")?.render(context! { l => Serde(view) })?;
    let line = clean(&text).split_whitespace().collect::<Vec<_>>().join(" ");
    Ok(if line.chars().count() > SUBJECT_MAX {
        line.chars().take(SUBJECT_MAX - 1).chain(['…']).collect()
    } else {
        line
    })
}

fn render(env: &Environment<'_>, view: &View<'_>, event: Event) -> Result<Text, minijinja::Error> {
    let headline = headline(env, view)?;
    let body = env.get_template(&format!("{}.txt", event.name()))?.render(context! { l => Serde(view) })?;
    let subject = match &view.r#ref {
        Some(number) => format!("[Cordon {number}] {headline}"),
        None => format!("[Cordon] {headline}"),
    };
    Ok(Text { headline, subject, body: lay_out(&body) })
}

fn digest(
    env: &Environment<'_>,
    parts: &Digest<'_>,
    house: &House,
    files: &[String],
    left_out: &[String],
) -> Result<Text, minijinja::Error> {
    let Some(last) = parts.parts.last() else {
        return Err(minijinja::Error::new(ErrorKind::InvalidOperation, "a digest without parts"));
    };
    let base = Letter {
        servers: Vec::new(),
        ..Letter::new(Event::Digest, last.party.clone(), parts.at, Vec::new(), "cordon")
    };
    let mut view = View::new(&base, house, files, left_out);
    view.count = parts.parts.len() as u64;
    view.since = parts.parts.iter().map(|p| p.at).min().unwrap_or(parts.at);
    let mut kinds: BTreeMap<Event, u64> = BTreeMap::new();
    for p in parts.parts {
        *kinds.entry(p.event).or_default() += 1;
    }
    view.kinds = kinds.into_iter().map(|(event, count)| KindView { event, count }).collect();
    view.more = parts.parts.len().saturating_sub(LINES_MAX) as u64;
    for p in parts.parts.iter().take(LINES_MAX) {
        view.lines.push(LineView {
            at: p.at,
            r#ref: p.reference().unwrap_or_default(),
            headline: headline(env, &View::new(p, house, &[], &[]))?,
        });
    }
    render(env, &view, Event::Digest)
}
