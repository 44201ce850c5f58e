//! ICMPv6 (RFC 4443), neighbour discovery (RFC 4861, 3122), multicast listeners (RFC 2710, 3810), mobility (RFC 6275),
//! RPL (RFC 6550).

use super::ip::{TCP, UDP};
use super::view::{Cut, Done, View, name_of, put};

const TYPES: &[(u32, &str)] = &[
    (1, "destination unreachable"),
    (2, "packet too big"),
    (3, "time exceeded in-transit"),
    (4, "parameter problem"),
    (128, "echo request"),
    (129, "echo reply"),
    (130, "multicast listener query"),
    (131, "multicast listener report"),
    (132, "multicast listener done"),
    (133, "router solicitation"),
    (134, "router advertisement"),
    (135, "neighbor solicitation"),
    (136, "neighbor advertisement"),
    (137, "redirect"),
    (138, "router renumbering"),
    (139, "who-are-you request"),
    (140, "who-are-you reply"),
    (141, "inverse neighbor solicitation"),
    (142, "inverse neighbor advertisement"),
    (143, "multicast listener report v2"),
    (144, "ha discovery request"),
    (145, "ha discovery reply"),
    (146, "mobile router solicitation"),
    (147, "mobile router advertisement"),
    (155, "RPL"),
    (200, "mtrace response"),
    (201, "mtrace message"),
];

/// One ICMPv6 message.
pub(super) fn icmp6(out: &mut String, v: View<'_>) -> Done {
    let v = v.named("icmp6");
    if v.length == 0 {
        out.push_str("ICMP6, length 0 (invalid)");
        return Ok(());
    }
    let kind = v.u8(0)?;
    match name_of(TYPES, u32::from(kind)) {
        Some(name) => put!(out, "ICMP6, {name}"),
        None => put!(out, "ICMP6, unknown icmp6 type ({kind})"),
    }
    let code = v.u8(1)?;
    match kind {
        1 if code > 4 => {
            put!(out, ", unknown unreach code ({code})");
            return Ok(());
        }
        1 => unreachable(out, v, code)?,
        2 => put!(out, ", mtu {}", v.u32(4)?),
        3 => match code {
            0 => put!(out, " for {}", v.ip6(32)?),
            1 => out.push_str(" (reassembly)"),
            n => put!(out, ", unknown code ({n})"),
        },
        4 => {
            v.need(48)?;
            let what = match code {
                0 => "erroneous",
                1 => "next header",
                2 => "option",
                3 => "incomplete header chain",
                _ => "",
            };
            match what {
                "" => put!(out, ", code-#{code}"),
                what => put!(out, ", {what} - octet {}", v.u32(4)?),
            }
        }
        128 | 129 => put!(out, ", id {}, seq {}", v.u16(4)?, v.u16(6)?),
        130 => query(out, v)?,
        131 | 132 => listener(out, v)?,
        135 => put!(out, ", who has {}", v.ip6(8)?),
        136 => put!(out, ", tgt is {}", v.ip6(8)?),
        137 => put!(out, ", {} to {}", v.ip6(24)?, v.ip6(8)?),
        143 if v.length < 8 => put!(out, " [invalid len {}]", v.length),
        143 => put!(out, ", {} group record(s)", v.u16(6)?),
        144 | 146 => put!(out, ", id 0x{:04x}", v.u16(4)?),
        155 => rpl(out, code),
        _ => {}
    }
    put!(out, ", length {}", v.length);
    Ok(())
}

/// What could not be reached, from the header of the packet that is quoted.
fn unreachable(out: &mut String, v: View<'_>, code: u8) -> Done {
    match code {
        0 => {
            out.push_str(", unreachable route");
            put!(out, " {}", v.ip6(32)?);
        }
        1 => {
            out.push_str(",  unreachable prohibited");
            put!(out, " {}", v.ip6(32)?);
        }
        2 => {
            out.push_str(", beyond scope");
            put!(out, " {}, source address {}", v.ip6(32)?, v.ip6(16)?);
        }
        3 => {
            out.push_str(", unreachable address");
            put!(out, " {}", v.ip6(32)?);
        }
        4 => {
            out.push_str(", unreachable port");
            let (protocol, at) = upper_layer(v)?;
            let (destination, port) = (v.ip6(32)?, v.u16(at + 2)?);
            match protocol {
                TCP => put!(out, ", {destination} tcp port {port}"),
                _ => put!(out, ", {destination} udp port {port}"),
            }
        }
        _ => {}
    }
    Ok(())
}

/// Where the quoted packet's TCP or UDP header begins.
fn upper_layer(v: View<'_>) -> Result<(u8, usize), Cut> {
    let (mut next, mut at) = (v.u8(8 + 6)?, 48);
    v.need(48)?;
    loop {
        let size = match next {
            TCP | UDP => return Ok((next, at)),
            44 if v.u16(at + 2)? & 0xfff8 != 0 => return Err(Cut(v.name)),
            44 => 8,
            0 | 43 | 60 => usize::from(v.u8(at + 1)?) * 8 + 8,
            51 => usize::from(v.u8(at + 1)?) * 4 + 8,
            _ => return Err(Cut(v.name)),
        };
        next = v.u8(at)?;
        at += size;
    }
}

/// A query: of version 1 with exactly 24 bytes, of version 2 with 28 or more.
fn query(out: &mut String, v: View<'_>) -> Done {
    match v.length {
        24 => listener(out, v),
        0..28 => {
            put!(out, " unknown-version (len {}) ", v.length);
            Ok(())
        }
        length => {
            out.push_str(" v2");
            put!(out, " [gaddr {}", v.ip6(8)?);
            let sources = usize::from(v.u16(26)?);
            if length < 28 + 16 * sources {
                out.push_str(" [invalid number of sources]");
            } else if sources > 0 {
                put!(out, ", {sources} source(s)");
            }
            out.push(']');
            Ok(())
        }
    }
}

/// A message of version 1; a cut one is only named.
fn listener(out: &mut String, v: View<'_>) -> Done {
    if let (Ok(delay), Ok(address)) = (v.u16(4), v.ip6(8)) {
        put!(out, "max resp delay: {delay} addr: {address}");
    }
    Ok(())
}

fn rpl(out: &mut String, code: u8) {
    if code & 0x80 != 0 {
        out.push_str(", (SEC) [worktodo]");
        return;
    }
    out.push_str(", (CLR)");
    match code {
        0 => out.push_str("DODAG Information Solicitation"),
        1 => out.push_str("DODAG Information Object"),
        2 => out.push_str("Destination Advertisement Object"),
        3 => out.push_str("Destination Advertisement Object Ack"),
        n => put!(out, "RPL message, unknown code {n}"),
    }
}
