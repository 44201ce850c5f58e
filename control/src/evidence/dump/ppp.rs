//! PPP's protocols (RFC 1661, 1332, 5072, 1334, 1994), and PPPoE's tags (RFC 2516).

use super::view::{Cut, Done, View, name_of, put};
use super::{ip, ip6, tunnel};

const CONTROL: &[(u32, &str)] =
    &[(0x8021, "IPCP"), (0x8057, "IP6CP"), (0x80fd, "CCP"), (0x8281, "MPLSCP"), (0xc021, "LCP")];
const CODES: &[(u32, &str)] = &[
    (0, "Vendor-Extension"),
    (1, "Conf-Request"),
    (2, "Conf-Ack"),
    (3, "Conf-Nack"),
    (4, "Conf-Reject"),
    (5, "Term-Request"),
    (6, "Term-Ack"),
    (7, "Code-Reject"),
    (8, "Prot-Reject"),
    (9, "Echo-Request"),
    (10, "Echo-Reply"),
    (11, "Disc-Req"),
    (12, "Ident"),
    (13, "Time-Rem"),
    (14, "Reset-Req"),
    (15, "Reset-Ack"),
];
const TAGS: &[(u32, &str)] = &[
    (0x0000, "EOL"),
    (0x0101, "Service-Name"),
    (0x0102, "AC-Name"),
    (0x0103, "Host-Uniq"),
    (0x0104, "AC-Cookie"),
    (0x0105, "Vendor-Specific"),
    (0x0110, "Relay-Session-ID"),
    (0x0120, "PPP-Max-Payload"),
    (0x0201, "Service-Name-Error"),
    (0x0202, "AC-System-Error"),
    (0x0203, "Generic-Error"),
];

/// A packet behind its protocol number, which may be compressed to one byte.
pub(super) fn ppp(out: &mut String, v: View<'_>, depth: usize) -> Done {
    let v = v.named("ppp");
    let Some(depth) = depth.checked_sub(1) else { return Err(Cut("ppp")) };
    if v.length < 2 {
        return Err(Cut("ppp"));
    }
    v.need(2)?;
    // Address and control field of HDLC (RFC 1662), where they were not left out.
    let v = if v.u16(0)? == 0xff03 { v.from(2) } else { v };
    v.need(1)?;
    let (protocol, body) = match v.u8(0)? {
        n if n & 1 != 0 => (u16::from(n), v.from(1)),
        _ => (v.u16(0)?, v.from(2)),
    };
    match protocol {
        0x21 => ip::packet(out, body, depth),
        0x57 => ip6::packet(out, body, depth),
        0x281 | 0x283 => tunnel::mpls(out, body, depth),
        0xc023 => pap(out, body),
        n => match name_of(CONTROL, u32::from(n)) {
            Some(name) => control(out, body, name),
            None => {
                put!(out, "unknown PPP protocol (0x{n:04x}) ");
                Ok(())
            }
        },
    }
}

/// A control protocol: its code, and the length of the packet.
fn control(out: &mut String, v: View<'_>, name: &'static str) -> Done {
    let whole = v.length + 2;
    put!(out, "{name},");
    v.named(name).need(if v.length < 4 { usize::MAX } else { 2 })?;
    out.push(' ');
    let code = v.u8(0)?;
    match name_of(CODES, u32::from(code)) {
        Some(c) => put!(out, "{c}"),
        None => put!(out, "Unknown Opcode"),
    }
    put!(out, " (0x{code:02x}), id {}, length {whole}", v.u8(1)?);
    Ok(())
}

/// Names and passwords (RFC 1334), which evidence does not repeat.
fn pap(out: &mut String, v: View<'_>) -> Done {
    out.push_str("PAP, ");
    let (code, id) = (v.u8(0)?, v.u8(1)?);
    let name = match code {
        1 => "Auth-Req",
        2 => "Auth-ACK",
        3 => "Auth-NACK",
        _ => "unknown",
    };
    put!(out, "{name} (0x{code:02x}), id {id}");
    Ok(())
}

/// The tags of discovery.
pub(super) fn tags(out: &mut String, v: View<'_>) -> Done {
    let mut rest = v;
    while rest.length > 0 {
        let (kind, size) = (rest.u16(0)?, usize::from(rest.u16(2)?));
        out.push_str(" [");
        let mark = out.len() - 2;
        let body = rest.slice(4, size).inspect_err(|_| out.truncate(mark))?;
        match name_of(TAGS, u32::from(kind)) {
            Some(name) => put!(out, "{name}"),
            None => put!(out, "TAG-0x{kind:x}"),
        }
        value(out, body);
        out.push(']');
        if kind == 0 {
            return Ok(());
        }
        rest = rest.from(4 + size);
    }
    Ok(())
}

/// Mostly text in quotes, anything else in hexadecimal.
fn value(out: &mut String, bytes: &[u8]) {
    if bytes.is_empty() {
        return;
    }
    let printable = |b: &u8| b.is_ascii_graphic() || *b == b' ';
    if bytes.iter().filter(|b| printable(b)).count() * 2 > bytes.len() {
        out.push_str(" \"");
        out.extend(bytes.iter().map(|b| if printable(b) { char::from(*b) } else { '.' }));
        out.push('"');
    } else {
        out.push_str(" 0x");
        for b in bytes {
            put!(out, "{b:02X}");
        }
    }
}
