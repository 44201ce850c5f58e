//! ICMP (RFC 792; router discovery RFC 1256).

use super::view::{Done, View, put};

/// One ICMP message. A cut one has no line of its own.
pub(super) fn icmp(out: &mut String, v: View<'_>) -> Done {
    let v = v.named("icmp");
    let mark = out.len();
    out.push_str("ICMP ");
    message(out, v).inspect_err(|_| out.truncate(mark))?;
    put!(out, ", length {}", v.length);
    Ok(())
}

fn message(out: &mut String, v: View<'_>) -> Done {
    let (kind, code) = (v.u8(0)?, v.u8(1)?);
    match kind {
        0 => put!(out, "echo reply, id {}, seq {}", v.u16(4)?, v.u16(6)?),
        8 => put!(out, "echo request, id {}, seq {}", v.u16(4)?, v.u16(6)?),
        3 => unreachable(out, v, code)?,
        4 => out.push_str("source quench"),
        5 => redirect(out, v, code)?,
        9 => advertisement(out, v)?,
        10 => out.push_str("router solicitation"),
        11 => {
            // The addresses of the packet that died.
            v.need(28)?;
            match code {
                0 => out.push_str("time exceeded in-transit"),
                1 => out.push_str("ip reassembly time exceeded"),
                n => put!(out, "time exceeded-#{n}"),
            }
        }
        12 if code != 0 => put!(out, "parameter problem - code {code}"),
        12 => put!(out, "parameter problem - octet {}", v.u8(4)?),
        13 => put!(out, "time stamp query id {} seq {}", v.u16(4)?, v.u16(6)?),
        14 => {
            put!(out, "time stamp reply id {} seq {}: ", v.u16(4)?, v.u16(6)?);
            for (i, label) in ["org", ", recv", ", xmit"].into_iter().enumerate() {
                let ms = v.u32(8 + 4 * i)?;
                let s = ms / 1000;
                put!(out, "{label} {:02}:{:02}:{:02}.{:03}", s / 3600, s / 60 % 60, s % 60, ms % 1000);
            }
        }
        15 => out.push_str("information request"),
        16 => out.push_str("information reply"),
        17 => out.push_str("address mask request"),
        18 => put!(out, "address mask is 0x{:08x}", v.u32(8)?),
        n => put!(out, "type-#{n}"),
    }
    Ok(())
}

/// What could not be reached, from the header of the packet that is quoted.
fn unreachable(out: &mut String, v: View<'_>, code: u8) -> Done {
    let destination = v.ip4(24)?;
    match code {
        0 => put!(out, "net {destination} unreachable"),
        1 => put!(out, "host {destination} unreachable"),
        2 => put!(out, "{destination} protocol {} unreachable", v.u8(17)?),
        3 => {
            let (protocol, header) = (v.u8(17)?, usize::from(v.u8(8)? & 15) * 4);
            let port = v.u16(8 + header + 2)?;
            match protocol {
                6 => put!(out, "{destination} tcp port {port} unreachable"),
                17 => put!(out, "{destination} udp port {port} unreachable"),
                p => put!(out, "{destination} protocol {p} port {port} unreachable"),
            }
        }
        4 => {
            put!(out, "{destination} unreachable - need to frag");
            match v.u16(6)? {
                0 => {}
                mtu => put!(out, " (mtu {mtu})"),
            }
        }
        5 => put!(out, "{destination} unreachable - source route failed"),
        6 => put!(out, "net {destination} unreachable - unknown"),
        7 => put!(out, "host {destination} unreachable - unknown"),
        8 => put!(out, "{destination} unreachable - source host isolated"),
        9 => put!(out, "net {destination} unreachable - admin prohibited"),
        10 => put!(out, "host {destination} unreachable - admin prohibited"),
        11 => put!(out, "net {destination} unreachable - tos prohibited"),
        12 => put!(out, "host {destination} unreachable - tos prohibited"),
        13 => put!(out, "host {destination} unreachable - admin prohibited filter"),
        14 => put!(out, "host {destination} unreachable - host precedence violation"),
        15 => put!(out, "host {destination} unreachable - precedence cutoff"),
        n => put!(out, "{destination} unreachable - #{n}"),
    }
    Ok(())
}

fn redirect(out: &mut String, v: View<'_>, code: u8) -> Done {
    let (destination, gateway) = (v.ip4(24)?, v.ip4(4)?);
    match code {
        0 => put!(out, "redirect {destination} to net {gateway}"),
        1 => put!(out, "redirect {destination} to host {gateway}"),
        2 => put!(out, "redirect-tos {destination} to net {gateway}"),
        3 => put!(out, "redirect-tos {destination} to host {gateway}"),
        n => put!(out, "redirect-#{n} {destination} to {gateway}"),
    }
    Ok(())
}

fn advertisement(out: &mut String, v: View<'_>) -> Done {
    let lifetime = v.u16(6)?;
    let (number, words) = (v.u8(4)?, v.u8(5)?);
    out.push_str("router advertisement lifetime ");
    let (h, m, s) = (lifetime / 3600, lifetime / 60 % 60, lifetime % 60);
    match (h, m) {
        (0, 0) => put!(out, "{s}"),
        (0, _) => put!(out, "{m}:{s:02}"),
        _ => put!(out, "{h}:{m:02}:{s:02}"),
    }
    put!(out, " {number}:");
    if words != 2 {
        put!(out, " [size {words}]");
        return Ok(());
    }
    for i in 0..usize::from(number) {
        put!(out, " {{{} {}}}", v.ip4(8 + 8 * i)?, v.u32(12 + 8 * i)?);
    }
    Ok(())
}
