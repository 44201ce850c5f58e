//! Single values: numbers in a range, durations, prefixes, paths.

use std::fmt::Display;
use std::net::IpAddr;
use std::ops::{Range, RangeInclusive};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use toml::Spanned;

use crate::Device;
use crate::error::Problem;
use crate::raw::Text;

/// Collects what is wrong, so that everything can be told at once.
pub(crate) struct Validator<'a> {
    /// The file, for the lines of things named in messages.
    pub(crate) text: &'a str,
    pub(crate) problems: Vec<Problem>,
}

impl Validator<'_> {
    pub(crate) fn wrong(
        &mut self,
        span: Range<usize>,
        message: impl Into<String>,
        advice: impl Into<String>,
    ) {
        self.problems.push(Problem::at(span, message, advice));
    }

    /// A number within a range, or its default.
    pub(crate) fn number<T: Copy + PartialOrd + Display>(
        &mut self,
        key: &str,
        value: Option<Spanned<T>>,
        default: T,
        range: RangeInclusive<T>,
    ) -> T {
        let Some(value) = value else { return default };
        let n = *value.get_ref();
        if range.contains(&n) {
            return n;
        }
        let advice = format!("choose a number from {} to {}", range.start(), range.end());
        self.wrong(value.span(), format!("{key} = {n} is out of range"), advice);
        default
    }

    /// A duration within a range, or its default.
    pub(crate) fn duration(
        &mut self,
        key: &str,
        value: Option<Text>,
        default: Duration,
        range: RangeInclusive<Duration>,
    ) -> Duration {
        let Some(value) = value else { return default };
        match humantime::parse_duration(value.get_ref()) {
            Ok(d) if range.contains(&d) => d,
            Ok(_) => {
                let (least, most) =
                    (humantime::format_duration(*range.start()), humantime::format_duration(*range.end()));
                let message = format!("{key} = \"{}\" is out of range", value.get_ref());
                self.wrong(value.span(), message, format!("choose a duration from {least} to {most}"));
                default
            }
            Err(e) => {
                let message = format!("{key} = \"{}\" is no duration: {e}", value.get_ref());
                self.wrong(
                    value.span(),
                    message,
                    "write a number and a unit, like \"100ms\", \"30s\" or \"2h\"",
                );
                default
            }
        }
    }

    /// Bytes, such as `"20GiB"`, or their default.
    pub(crate) fn size(&mut self, key: &str, value: Option<Text>, default: u64, least: u64) -> u64 {
        const UNITS: [(&str, u32); 6] =
            [("KiB", 10), ("MiB", 20), ("GiB", 30), ("TiB", 40), ("PiB", 50), ("B", 0)];
        let Some(value) = value else { return default };
        let text = value.get_ref();
        let parsed = UNITS.iter().find_map(|(unit, shift)| {
            let number = text.strip_suffix(unit)?.trim_end().replace('_', "");
            number.parse::<u64>().ok()?.checked_mul(1 << shift)
        });
        match parsed {
            Some(n) if n >= least => n,
            Some(_) => {
                let message = format!("{key} = \"{text}\" is too small");
                self.wrong(value.span(), message, format!("choose at least \"{}MiB\"", least >> 20));
                default
            }
            None => {
                let message = format!("{key} = \"{text}\" is no size");
                self.wrong(
                    value.span(),
                    message,
                    "write a whole number and a unit, like \"500MiB\" or \"20GiB\"",
                );
                default
            }
        }
    }

    /// A prefix without host bits.
    pub(crate) fn prefix(&mut self, value: &Text) -> Option<IpNet> {
        let text = value.get_ref();
        let parsed = text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
        let Some(net) = parsed else {
            let advice = "write it like \"192.0.2.0/24\" or \"2001:db8::/48\"";
            self.wrong(value.span(), format!("`{text}` is no prefix"), advice);
            return None;
        };
        if net.trunc() != net {
            let message = format!("`{text}` has host bits set");
            self.wrong(value.span(), message, format!("do you mean \"{}\"?", net.trunc()));
            return None;
        }
        Some(net)
    }

    /// A MAC address, or an IP address.
    pub(crate) fn device(&mut self, value: &Text) -> Option<Device> {
        let text = value.get_ref();
        if let Ok(a) = text.parse::<IpAddr>() {
            return Some(Device::Address(a));
        }
        let parsed = mac(text);
        if parsed.is_none() {
            let advice = "write a MAC address like \"02:00:5e:10:00:01\", or an IP address";
            self.wrong(value.span(), format!("`{text}` names no device"), advice);
        }
        parsed.map(Device::Mac)
    }

    /// A directory or socket, the same for every program whatever its working directory.
    pub(crate) fn path(&mut self, key: &str, value: Option<Spanned<PathBuf>>, default: &str) -> PathBuf {
        let Some(value) = value else { return default.into() };
        if !value.get_ref().is_absolute() {
            let message = format!("{key} = \"{}\" is a relative path", value.get_ref().display());
            let advice =
                "write a path from /: the programs that read this file have different working directories";
            self.wrong(value.span(), message, advice);
        }
        value.into_inner()
    }

    /// A file that a daemon reads: an absolute path, or the bare name of a systemd credential.
    pub(crate) fn secret(&mut self, key: &str, value: Spanned<PathBuf>) -> PathBuf {
        let path = value.get_ref();
        if !path.is_absolute() && path.components().count() != 1 {
            let message = format!("{key} = \"{}\" is a relative path", path.display());
            let advice = "write a path from /, or the name of a credential (LoadCredential= in the unit) without any /";
            self.wrong(value.span(), message, advice);
        }
        value.into_inner()
    }
}

/// A MAC address as people write it: `02:00:5e:10:00:01`, with hyphens, or as switches do, `0200.5e10.0001`.
pub(crate) fn mac(text: &str) -> Option<[u8; 6]> {
    let width = if text.contains('.') { 4 } else { 2 };
    let separators: &[char] = if width == 4 { &['.'] } else { &[':', '-'] };
    let mut digits = String::with_capacity(12);
    for part in text.split(separators) {
        if part.len() != width || !part.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        digits += part;
    }
    let number = if digits.len() == 12 { u64::from_str_radix(&digits, 16).ok()? } else { return None };
    let [_, _, mac @ ..] = number.to_be_bytes();
    Some(mac)
}
