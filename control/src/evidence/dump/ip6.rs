//! IPv6 and its extension headers (RFC 8200; routing headers RFC 5095, 6275, 8754; mobility RFC 6275).

use super::ip::{Address, Header, has_ports, payload};
use super::view::{Cut, Done, View, put};

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION: u8 = 60;
const MOBILITY: [u8; 2] = [62, 135];

/// One IPv6 packet.
pub(super) fn packet(out: &mut String, v: View<'_>, depth: usize) -> Done {
    let v = v.named("ip6");
    v.need(40)?;
    let first = v.u8(0)?;
    if first >> 4 != 6 {
        put!(out, "IP6 version error: {} != 6", first >> 4);
        return Ok(());
    }
    if v.length < 40 {
        put!(out, "IP6 truncated-ip6 {}", v.length);
        return Ok(());
    }
    let Some(depth) = depth.checked_sub(1) else { return Err(Cut("ip6")) };
    out.push_str("IP6 ");
    let claimed = usize::from(v.u16(4)?);
    let next = v.u8(6)?;
    if claimed == 0 && next == HOP_BY_HOP {
        // A jumbogram (RFC 2675) names its length in an option.
        return chain(out, v, header(v, depth)?, true);
    }
    if v.length < claimed + 40 {
        put!(out, "truncated-ip6 - {} bytes missing!", claimed + 40 - v.length);
    }
    let v = v.limit(claimed + 40).with_length(claimed + 40);
    chain(out, v, header(v, depth)?, false)
}

fn header(v: View<'_>, depth: usize) -> Result<Header, Cut> {
    Ok(Header {
        source: Address::V6(v.ip6(8)?),
        destination: Address::V6(v.ip6(24)?),
        protocol: v.u8(6)?,
        ttl: v.u8(7)?,
        fragment: false,
        depth,
    })
}

/// Extension headers, then what they lead to. `jumbo`: the fixed header names no length.
fn chain(out: &mut String, v: View<'_>, mut h: Header, jumbo: bool) -> Done {
    let mut next = h.protocol;
    if !has_ports(next) {
        h.addresses(out);
    }
    let mut rest = v.from(40);
    let mut first = true;
    // Each header is at least 8 bytes, so that a packet's length bounds this.
    loop {
        let size = match next {
            HOP_BY_HOP if !first => {
                out.push_str("[The Hop-by-Hop Options header was already found] (invalid)");
                return Ok(());
            }
            HOP_BY_HOP => {
                let (size, length) = hop_by_hop(out, rest.named("hbhopt"))?;
                match length {
                    Some(length) if jumbo => {
                        let there = v.length;
                        if there < length + 40 {
                            put!(out, "truncated-ip6 - {} bytes missing!", length + 40 - there);
                        }
                        rest = rest.limit(length).with_length(length);
                    }
                    None if jumbo => {
                        out.push_str("[No valid Jumbo Payload Hop-by-Hop option found] (invalid)");
                        return Ok(());
                    }
                    _ => {}
                }
                size
            }
            DESTINATION => destination_options(out, rest.named("dstopt"))?,
            FRAGMENT => {
                let f = rest.named("frag6");
                f.need(4)?;
                let offset = f.u16(2)? & 0xfff8;
                put!(out, "frag ({offset}|{})", rest.length.saturating_sub(8));
                h.fragment = true;
                if offset != 0 {
                    return Ok(());
                }
                out.push(' ');
                if rest.bytes.len() <= 8 {
                    return Ok(());
                }
                8
            }
            ROUTING => match routing(out, rest)? {
                Some(size) => size,
                None => return Ok(()),
            },
            n if MOBILITY.contains(&n) => return mobility(out, rest.named("mobility")),
            _ => return payload(out, next, rest, h),
        };
        next = rest.u8(0)?;
        if next == HOP_BY_HOP {
            let already = first && h.protocol == HOP_BY_HOP;
            out.push_str(if already {
                ""
            } else {
                "[The Hop-by-Hop Options header don't follow the IPv6 header] (invalid)"
            });
            if !already {
                return Ok(());
            }
        }
        first = false;
        if rest.length < size {
            return Err(Cut("ip6"));
        }
        rest = rest.from(size);
    }
}

/// Destination options: only their name.
fn destination_options(out: &mut String, v: View<'_>) -> Result<usize, Cut> {
    v.need(2)?;
    let size = usize::from(v.u8(1)?) * 8 + 8;
    v.need(size)?;
    out.push_str("DSTOPT ");
    Ok(size)
}

/// Hop-by-hop options: their name, and whether they are well formed. Returns their size, and the payload length of a
/// jumbogram (RFC 2675: above 65,535).
fn hop_by_hop(out: &mut String, v: View<'_>) -> Result<(usize, Option<usize>), Cut> {
    const PAD1: u8 = 0;
    const ROUTER_ALERT: u8 = 5;
    const JUMBO: u8 = 0xc2;
    v.need(2)?;
    let size = usize::from(v.u8(1)?) * 8 + 8;
    v.need(size)?;
    out.push_str("HBH ");
    let options = v.limit(size);
    let (mut at, mut jumbo) = (2, None);
    while at < size {
        let kind = options.u8(at)?;
        if kind == PAD1 {
            at += 1;
            continue;
        }
        let length = usize::from(options.u8(at + 1)?);
        options.slice(at + 2, length)?;
        if kind == ROUTER_ALERT && length != 2 {
            put!(out, "(rtalert: invalid len {length})");
            return Err(Cut(v.name));
        }
        if kind == JUMBO && length == 4 {
            jumbo = usize::try_from(options.u32(at + 2)?).ok().filter(|n| *n > 0xffff).or(jumbo);
        }
        at += 2 + length;
    }
    Ok((size, jumbo))
}

/// A routing header with its addresses; none when it cannot be walked.
fn routing(out: &mut String, v: View<'_>) -> Result<Option<usize>, Cut> {
    v.u8(0)?;
    let v = v.named("rt6");
    out.push_str("RT6");
    let words = usize::from(v.u8(1)?);
    put!(out, " (len={words}");
    let kind = v.u8(2)?;
    put!(out, ", type={kind}");
    if kind == 0 {
        out.push_str(" [Deprecated]");
    }
    put!(out, ", segleft={}", v.u8(3)?);
    match kind {
        0 | 2 => match v.u32(4)? {
            0 => {}
            reserved => put!(out, ", rsv=0x{reserved:x}"),
        },
        4 => {
            put!(out, ", last-entry={}", v.u8(4)?);
            v.need(6)?;
            let flags = v.u8(5)?;
            let tag = v.u16(6)?;
            if flags != 0 {
                put!(out, ", flags=0x{flags:x}");
            }
            put!(out, ", tag={tag:x}");
        }
        _ => {
            out.push_str(" (unknown type) (invalid)");
            return Ok(None);
        }
    }
    if words % 2 == 1 {
        put!(out, " (invalid length {words}) (invalid)");
        return Ok(None);
    }
    for i in 0..words / 2 {
        put!(out, ", [{i}]{}", v.ip6(8 + 16 * i)?);
    }
    out.push_str(") ");
    Ok(Some(words * 8 + 8))
}

/// A mobility message; nothing follows it.
fn mobility(out: &mut String, v: View<'_>) -> Done {
    let kind = v.u8(2)?;
    let size = usize::from(v.u8(1)?) * 8 + 8;
    // The fixed part of each type (RFC 6275 section 6.1).
    let least = match kind {
        0 | 8.. => 8,
        1 | 2 => 16,
        3 | 4 | 7 => 24,
        5 | 6 => 12,
    };
    if size < least {
        put!(out, "(header length {size} is too small for type {kind})");
        return Err(Cut(v.name));
    }
    out.push_str("mobility: ");
    match kind {
        0 => out.push_str("BRR"),
        1 => out.push_str("HoTI"),
        2 => out.push_str("CoTI"),
        3 | 4 => {
            out.push_str(if kind == 3 { "HoT" } else { "CoT" });
            put!(out, " nonce id=0x{:x}", v.u16(6)?);
        }
        5 => {
            out.push_str("BU");
            put!(out, " seq#={}", v.u16(6)?);
            let flags = v.u8(8)?;
            let _ = v.u16(8)?;
            if flags & 0xf0 != 0 {
                out.push(' ');
            }
            for (bit, letter) in [(0x80, 'A'), (0x40, 'H'), (0x20, 'L'), (0x10, 'K')] {
                if flags & bit != 0 {
                    out.push(letter);
                }
            }
            put!(out, " lifetime={}", u32::from(v.u16(10)?) << 2);
        }
        6 => {
            out.push_str("BA");
            put!(out, " status={}", v.u8(6)?);
            if v.u8(7)? & 0x80 != 0 {
                out.push_str(" K");
            }
            put!(out, " seq#={} lifetime={}", v.u16(8)?, u32::from(v.u16(10)?) << 2);
        }
        7 => put!(out, "BE status={} homeaddr {}", v.u8(6)?, v.ip6(8)?),
        _ => put!(out, "type-#{kind} len={}", v.u8(1)?),
    }
    Ok(())
}
