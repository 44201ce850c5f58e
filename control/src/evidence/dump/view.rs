//! What is left of a packet while it is decoded.

use std::fmt::{self, Write};

/// Writes to the line. Writing to a string does not fail.
macro_rules! put {
    ($out:expr, $($text:tt)+) => {{
        let _ = std::fmt::Write::write_fmt($out, format_args!($($text)+));
    }};
}
pub(crate) use put;

/// The packet ends before a field that is needed: the rest of the line is `[|NAME]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cut(pub(super) &'static str);

/// Whether a layer could be printed to its end.
pub(super) type Done = Result<(), Cut>;

/// One layer and what lies in it.
#[derive(Clone, Copy, Debug)]
pub(super) struct View<'a> {
    /// The bytes that were captured.
    pub(super) bytes: &'a [u8],
    /// The length that the layers around it give it; may be more or less than what was captured.
    pub(super) length: usize,
    /// Whose field is missing when one is.
    pub(super) name: &'static str,
}

impl<'a> View<'a> {
    /// The same bytes as another protocol.
    pub(super) fn named(self, name: &'static str) -> View<'a> {
        View { name, ..self }
    }

    /// What follows the first `n` bytes.
    pub(super) fn from(self, n: usize) -> View<'a> {
        View {
            bytes: self.bytes.get(n..).unwrap_or_default(),
            length: self.length.saturating_sub(n),
            name: self.name,
        }
    }

    /// Another length, as another header claims it.
    pub(super) fn with_length(self, length: usize) -> View<'a> {
        View { length, ..self }
    }

    /// Nothing beyond `n` bytes is part of it.
    pub(super) fn limit(self, n: usize) -> View<'a> {
        let bytes = self.bytes.get(..n).unwrap_or(self.bytes);
        View { bytes, length: self.length.min(n), name: self.name }
    }

    /// The bytes `at..at + n`.
    pub(super) fn slice(self, at: usize, n: usize) -> Result<&'a [u8], Cut> {
        let end = at.checked_add(n).ok_or(Cut(self.name))?;
        self.bytes.get(at..end).ok_or(Cut(self.name))
    }

    /// Whether `n` bytes were captured.
    pub(super) fn need(self, n: usize) -> Done {
        self.slice(0, n).map(drop)
    }

    /// N bytes.
    pub(super) fn array<const N: usize>(self, at: usize) -> Result<[u8; N], Cut> {
        self.slice(at, N)?.try_into().map_err(|_| Cut(self.name))
    }

    pub(super) fn u8(self, at: usize) -> Result<u8, Cut> {
        self.array::<1>(at).map(|[b]| b)
    }

    pub(super) fn u16(self, at: usize) -> Result<u16, Cut> {
        self.array(at).map(u16::from_be_bytes)
    }

    pub(super) fn u32(self, at: usize) -> Result<u32, Cut> {
        self.array(at).map(u32::from_be_bytes)
    }

    pub(super) fn mac(self, at: usize) -> Result<Hex<6>, Cut> {
        self.array(at).map(Hex)
    }

    pub(super) fn ip4(self, at: usize) -> Result<std::net::Ipv4Addr, Cut> {
        self.array::<4>(at).map(Into::into)
    }

    pub(super) fn ip6(self, at: usize) -> Result<Ip6, Cut> {
        self.array(at).map(Ip6)
    }
}

/// Bytes as `00:11:22`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hex<const N: usize>(pub(super) [u8; N]);

impl<const N: usize> fmt::Display for Hex<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        colons(f, &self.0)
    }
}

/// Writes bytes as `00:11:22`.
pub(super) fn colons(out: &mut impl Write, bytes: &[u8]) -> fmt::Result {
    for (i, b) in bytes.iter().enumerate() {
        write!(out, "{}{b:02x}", if i == 0 { "" } else { ":" })?;
    }
    Ok(())
}

/// An IPv6 address. As in RFC 5952, but everything under `::/96` that is not below `::1:0` is written with the IPv4 address
/// that it holds, as inet_ntop(3) does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ip6(pub(super) [u8; 16]);

impl fmt::Display for Ip6 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, a, b, c, d] if a | b != 0 => write!(f, "::{a}.{b}.{c}.{d}"),
            bytes => write!(f, "{}", std::net::Ipv6Addr::from(bytes)),
        }
    }
}

/// Text from a packet: what is no printable ASCII becomes `^X` (control characters) or `M-X` (the upper half).
pub(super) fn text(out: &mut String, bytes: &[u8]) {
    for &b in bytes {
        let mut b = b;
        if b >= 0x80 {
            out.push_str("M-");
            b &= 0x7f;
        }
        if b.is_ascii_graphic() || b == b' ' {
            out.push(char::from(b));
        } else {
            out.push('^');
            out.push(char::from(b ^ 0x40));
        }
    }
}

/// What a number is called.
pub(super) fn name_of(table: &[(u32, &'static str)], n: u32) -> Option<&'static str> {
    table.iter().find(|(k, _)| *k == n).map(|(_, name)| *name)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test that cannot go on fails here")]

    use super::*;

    fn ip6(text: &str) -> String {
        Ip6(text.parse::<std::net::Ipv6Addr>().unwrap().octets()).to_string()
    }

    #[test]
    fn addresses_are_written_as_the_c_library_writes_them() {
        for same in
            ["::", "::1", "2001:db8::1", "::ffff:1.2.3.4", "1:0:2:3:4:5:6:7", "1::2:3:0:0:4", "::fffe:1:2"]
        {
            assert_eq!(ip6(same), same);
        }
        assert_eq!(ip6("::1:2"), "::0.1.0.2");
        assert_eq!(ip6("::1.2.3.4"), "::1.2.3.4");
        assert_eq!(ip6("64:ff9b::1.2.3.4"), "64:ff9b::102:304");
    }

    #[test]
    fn text_from_a_packet_cannot_drive_a_terminal() {
        let mut out = String::new();
        text(&mut out, b"a\x1b[2J\x7f\xff\x9b \n");
        assert_eq!(out, "a^[[2J^?M-^?M-^[ ^J");
    }
}
