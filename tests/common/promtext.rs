//! Metrics in Prometheus' text format, fetched and read without any of Cordon's code.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Samples of one scrape.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    samples: Vec<(String, BTreeMap<String, String>, f64)>,
}

/// The body of `http://ADDRESS PATH`; an answer other than 200 is an error. Each step takes at most `deadline`.
pub(crate) fn http_get(address: SocketAddr, path: &str, deadline: Duration) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, deadline)?;
    stream.set_read_timeout(Some(deadline))?;
    stream.set_write_timeout(Some(deadline))?;
    // HTTP/1.0: the body ends with the connection, in one piece.
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| io::Error::other("no HTTP answer"))?;
    let status = head.split(' ').nth(1).unwrap_or_default();
    if status == "200" { Ok(body.to_owned()) } else { Err(io::Error::other(head.to_owned())) }
}

impl Metrics {
    /// Scrapes 127.0.0.1:`port`/metrics; inside a namespace when called within it ([`super::Namespaces::within`]).
    pub(crate) fn fetch(port: u16, deadline: Duration) -> io::Result<Metrics> {
        let text = http_get(SocketAddr::from(([127, 0, 0, 1], port)), "/metrics", deadline)?;
        Metrics::parse(&text).map_err(io::Error::other)
    }

    /// Reads the text format (Prometheus' Exposition Formats, version 0.0.4).
    pub(crate) fn parse(text: &str) -> Result<Metrics, String> {
        let lines = text.lines().filter(|l| !l.trim().is_empty() && !l.starts_with('#'));
        let samples = lines.map(|l| sample(l).ok_or_else(|| format!("no sample: {l:?}")));
        Ok(Metrics { samples: samples.collect::<Result<_, _>>()? })
    }

    /// The one sample of that name with these labels, and maybe others.
    pub(crate) fn get(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let mut found = self.find(name, labels);
        let value = found.next();
        assert!(found.next().is_none(), "{name} {labels:?} names more than one sample");
        value
    }

    /// The sum of all samples of that name with these labels; 0 when there is none.
    pub(crate) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.find(name, labels).sum()
    }

    /// All names.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.samples.iter().map(|(n, ..)| n.as_str())
    }

    fn find<'a>(&'a self, name: &'a str, labels: &'a [(&str, &str)]) -> impl Iterator<Item = f64> + 'a {
        let has =
            |l: &BTreeMap<String, String>| labels.iter().all(|(k, v)| l.get(*k).is_some_and(|x| x == v));
        self.samples.iter().filter(move |(n, l, _)| n == name && has(l)).map(|(_, _, value)| *value)
    }
}

/// `name{label="value",...} number [time]`.
fn sample(line: &str) -> Option<(String, BTreeMap<String, String>, f64)> {
    let end = line.find(['{', ' '])?;
    let (name, mut rest) = line.split_at(end);
    let mut labels = BTreeMap::new();
    if let Some(inner) = rest.strip_prefix('{') {
        rest = inner;
        while !rest.starts_with('}') {
            let (key, after) = rest.trim_start_matches(',').split_once("=\"")?;
            let (value, after) = quoted(after)?;
            labels.insert(key.trim().to_owned(), value);
            rest = after;
        }
        rest = &rest[1..];
    }
    let number = rest.split_whitespace().next()?;
    let value = match number {
        "+Inf" => f64::INFINITY,
        "-Inf" => f64::NEG_INFINITY,
        n => n.parse().ok()?,
    };
    Some((name.to_owned(), labels, value))
}

/// Up to the closing quote, with `\\`, `\"` and `\n` undone; and what follows.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((i, c)) = chars.next() {
        match c {
            '"' => return Some((value, &text[i + 1..])),
            '\\' => match chars.next()?.1 {
                'n' => value.push('\n'),
                other => value.push(other),
            },
            c => value.push(c),
        }
    }
    None
}
