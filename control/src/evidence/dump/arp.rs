//! ARP and RARP (RFC 826, 903), inverse ARP (RFC 2390).

use super::ether;
use super::view::{Cut, Done, View, colons, name_of, put};

const FRAME_RELAY: u16 = 15;
const ATM: u16 = 19;
const IEEE1394: u16 = 24;
const HARDWARE: &[(u32, &str)] =
    &[(1, "Ethernet"), (6, "TokenRing"), (7, "ArcNet"), (15, "FrameRelay"), (23, "Strip"), (24, "IEEE 1394")];
/// tcpdump takes trailer encapsulation (RFC 893) for IPv4 here.
const TRAILER: u16 = 0x1000;

/// One ARP packet.
pub(super) fn arp(out: &mut String, v: View<'_>) -> Done {
    let v = v.named("arp");
    let mark = out.len();
    // A cut packet has no line of its own.
    message(out, v).inspect_err(|_| out.truncate(mark))
}

/// A hardware address; Frame Relay has an identifier of 10 or more bits instead.
fn hardware(out: &mut String, kind: u16, bytes: &[u8]) {
    match kind {
        FRAME_RELAY if bytes.len() >= 2 => {
            let dlci = u32::from(bytes[0] >> 2) << 4 | u32::from(bytes[1] >> 4);
            put!(out, "DLCI {dlci}");
        }
        _ => {
            let _ = colons(out, bytes);
        }
    }
}

fn message(out: &mut String, v: View<'_>) -> Done {
    v.need(8)?;
    let (kind, protocol) = (v.u16(0)?, v.u16(2)?);
    let (hlen, plen) = (usize::from(v.u8(4)?), usize::from(v.u8(5)?));
    let operation = v.u16(6)?;
    let total = 8 + 2 * (hlen + plen);
    v.need(total)?;
    out.push_str("ARP, ");
    if kind == ATM {
        return Err(Cut(v.name));
    }
    let plain = matches!(protocol, ether::IPV4 | TRAILER);
    if !plain || plen != 4 || hlen == 0 {
        match name_of(HARDWARE, u32::from(kind)) {
            Some(name) => put!(out, "{name}"),
            None => put!(out, "Unknown Hardware ({kind})"),
        }
        put!(out, " (len {hlen}), ");
        match ether::name(protocol) {
            Some(name) => put!(out, "{name}"),
            None => put!(out, "Unknown Protocol (0x{protocol:04x})"),
        }
        put!(out, " (len {plen})");
        put!(out, ", length {}", v.length);
        return Ok(());
    }
    let sender_mac = v.slice(8, hlen)?;
    let sender = v.ip4(8 + hlen)?;
    let target_mac = v.slice(12 + hlen, hlen)?;
    let target = v.ip4(12 + 2 * hlen)?;
    match operation {
        1 => {
            put!(out, "Request who-has {target}");
            let known = target_mac.iter().any(|b| *b != 0) && kind != IEEE1394;
            if known {
                out.push_str(" (");
                hardware(out, kind, target_mac);
                out.push(')');
            }
            put!(out, " tell {sender}");
        }
        2 => {
            put!(out, "Reply {sender} is-at ");
            hardware(out, kind, sender_mac);
        }
        3 | 8 => {
            put!(out, "{} Request who-is ", if operation == 3 { "Reverse" } else { "Inverse" });
            hardware(out, kind, target_mac);
            out.push_str(" tell ");
            hardware(out, kind, sender_mac);
        }
        4 => {
            out.push_str("Reverse Reply ");
            hardware(out, kind, target_mac);
            put!(out, " at {target}");
        }
        9 => {
            out.push_str("Inverse Reply ");
            hardware(out, kind, sender_mac);
            put!(out, " at {sender}");
        }
        10 => {
            out.push_str("NACK Reply ");
            return Ok(());
        }
        n => {
            put!(out, "Unknown ({n}) ");
            return Ok(());
        }
    }
    put!(out, ", length {}", v.length);
    Ok(())
}
