//! What carries other packets: GRE (RFC 2784, 2890, 1701, 2637), MPLS (RFC 3032), PPPoE (RFC 2516), AH, ESP and IPComp
//! (RFC 4302, 4303, 3173).

use super::ether;
use super::ip::{self, Header};
use super::ip6;
use super::ppp;
use super::view::{Cut, Done, View, name_of, put};

/// Generic routing encapsulation.
pub(super) fn gre(out: &mut String, v: View<'_>, depth: usize) -> Done {
    let v = v.named("gre");
    let first = v.u16(0)?;
    let version = first & 7;
    put!(out, "GREv{version}");
    match version {
        0 => gre0(out, v, first, depth),
        1 => gre1(out, v, first, depth),
        _ => {
            out.push_str(" ERROR: unknown-version");
            Ok(())
        }
    }
}

fn gre0(out: &mut String, v: View<'_>, first: u16, depth: usize) -> Done {
    let (checksum, routing, key, sequence) =
        (first & 0x8000 != 0, first & 0x4000 != 0, first & 0x2000 != 0, first & 0x1000 != 0);
    let protocol = v.u16(2)?;
    let mut at = 4;
    if checksum || routing {
        // The checksum itself is no part of the short form.
        put!(out, ", off 0x{:x}", v.u16(at + 2)?);
        at += 4;
    }
    if key {
        put!(out, ", key=0x{:x}", v.u32(at)?);
        at += 4;
    }
    if sequence {
        put!(out, ", seq {}", v.u32(at)?);
        at += 4;
    }
    if routing {
        loop {
            let (family, size) = (v.u16(at)?, usize::from(v.u8(at + 3)?));
            put!(out, ", (rtaf=0x{family:x})");
            v.need(at + 4 + size)?;
            at += 4 + size;
            if family == 0 && size == 0 {
                break;
            }
        }
    }
    put!(out, ", length {}: ", v.length);
    let Some(depth) = depth.checked_sub(1) else { return Err(Cut("gre")) };
    let body = v.from(at);
    match protocol {
        ether::IPV4 => ip::packet(out, body, depth),
        ether::IPV6 => ip6::packet(out, body, depth),
        ether::MPLS => mpls(out, body, depth),
        0x6558 => ether::frame(out, body, depth),
        n => {
            put!(out, "gre-proto-0x{n:x}");
            Ok(())
        }
    }
}

/// The version that PPTP uses.
fn gre1(out: &mut String, v: View<'_>, first: u16, depth: usize) -> Done {
    let (key, sequence, acknowledged) = (first & 0x2000 != 0, first & 0x1000 != 0, first & 0x80 != 0);
    let protocol = v.u16(2)?;
    let mut at = 4;
    if key {
        put!(out, ", call {}", v.u16(at + 2)?);
        at += 4;
    }
    if sequence {
        put!(out, ", seq {}", v.u32(at)?);
        at += 4;
    }
    if acknowledged {
        put!(out, ", ack {}", v.u32(at)?);
        at += 4;
    }
    if !sequence {
        put!(out, ", no-payload, length {}", v.length);
        return Ok(());
    }
    put!(out, ", length {}: ", v.length);
    match protocol {
        0x880b => ppp::ppp(out, v.from(at), depth),
        n => {
            put!(out, "gre-proto-0x{n:x}");
            Ok(())
        }
    }
}

/// A stack of labels, and the packet below it.
pub(super) fn mpls(out: &mut String, v: View<'_>, depth: usize) -> Done {
    let v = v.named("mpls");
    let Some(depth) = depth.checked_sub(1) else { return Err(Cut("mpls")) };
    out.push_str("MPLS");
    let mut rest = v;
    let label = loop {
        if rest.length < 4 {
            out.push_str(" (invalid)");
            return Ok(());
        }
        let entry = rest.u32(0)?;
        let (label, class, bottom, ttl) = (entry >> 12, entry >> 9 & 7, entry & 0x100 != 0, entry & 0xff);
        put!(out, " (label {label}, tc {class}{}, ttl {ttl})", if bottom { ", [S]" } else { "" });
        rest = rest.from(4);
        if bottom {
            break label;
        }
    };
    // Nothing names what is below: labels 0 and 2 do, and 3, which leaves the router itself (RFC 3032); else the version
    // (RFC 4928).
    let version = match label {
        0 | 3 => 4,
        2 => 6,
        _ if rest.length == 0 => return Ok(()),
        _ => rest.u8(0)? >> 4,
    };
    match version {
        4 => {
            out.push(' ');
            ip::packet(out, rest, depth)
        }
        6 => {
            out.push(' ');
            ip6::packet(out, rest, depth)
        }
        _ => Ok(()),
    }
}

/// PPP over Ethernet: discovery with its tags, or a session's packet.
pub(super) fn pppoe(out: &mut String, v: View<'_>, depth: usize) -> Done {
    const CODES: &[(u32, &str)] =
        &[(0x09, "PADI"), (0x07, "PADO"), (0x19, "PADR"), (0x65, "PADS"), (0xa7, "PADT"), (0, "")];
    let v = v.named("pppoe");
    v.need(6)?;
    let (first, code, session) = (v.u8(0)?, v.u8(1)?, v.u16(2)?);
    let length = usize::from(v.u16(4)?);
    let body = v.from(6);
    if first >> 4 != 1 {
        put!(out, " [ver {}]", first >> 4);
    }
    if first & 15 != 1 {
        put!(out, " [type {}]", first & 15);
    }
    match name_of(CODES, u32::from(code)) {
        Some(name) => put!(out, "PPPoE {name}"),
        None => put!(out, "PPPoE PAD-{code:x}"),
    }
    if code == 0 {
        out.push(' ');
        if length > body.length {
            put!(out, "[len {length} > {}!] ", body.length);
        }
        if session != 0 {
            put!(out, "[ses 0x{session:x}] ");
        }
        return ppp::ppp(out, body.with_length(length.min(body.length)), depth);
    }
    if length > body.length {
        put!(out, " [len {length} > {}!]", body.length);
    }
    if session != 0 {
        put!(out, " [ses 0x{session:x}]");
    }
    ppp::tags(out, body.with_length(length.min(body.length)))
}

/// Encapsulating security payload: what is inside cannot be seen.
pub(super) fn esp(out: &mut String, v: View<'_>) -> Done {
    let v = v.named("esp");
    v.need(9)?;
    put!(out, "ESP(spi=0x{:08x},seq=0x{:x}), length {}", v.u32(0)?, v.u32(4)?, v.length);
    Ok(())
}

/// Compressed payload.
pub(super) fn ipcomp(out: &mut String, v: View<'_>) -> Done {
    put!(out, "IPComp(cpi=0x{:04x})", v.named("ipcomp").u16(2)?);
    Ok(())
}

/// Authentication header, and what follows; no extension header of IPv6 is looked for behind it.
pub(super) fn ah(out: &mut String, v: View<'_>, h: Header) -> Done {
    let v = v.named("ah");
    let next = v.u8(0)?;
    out.push_str("AH");
    let words = usize::from(v.u8(1)?);
    out.push('(');
    let reserved = v.u16(2)?;
    if reserved != 0 {
        put!(out, "reserved=0x{reserved:x}[MustBeZero],");
    }
    put!(out, "spi=0x{:08x},", v.u32(4)?);
    put!(out, "seq=0x{:x},icv=0x", v.u32(8)?);
    let size = words * 4 + 8;
    for i in 12..size {
        put!(out, "{:02x}", v.u8(i)?);
    }
    out.push_str("): ");
    let Some(depth) = h.depth.checked_sub(1) else { return Err(Cut("ah")) };
    ip::payload(out, next, v.from(size), Header { depth, ..h })
}
