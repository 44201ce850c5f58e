//! TCP, UDP and DCCP in their short form: ports and the length of what they carry.

use super::ip::{DCCP, Header, TCP, UDP};
use super::view::{Done, View, put};

/// TCP (RFC 9293).
pub(super) fn tcp(out: &mut String, v: View<'_>, h: Header) -> Done {
    let v = v.named("tcp");
    if v.bytes.len() < 4 {
        put!(out, "{} > {}:", h.source, h.destination);
        return v.need(4);
    }
    h.endpoints(out, (v.u16(0)?, v.u16(2)?), false, TCP);
    v.need(20)?;
    let header = usize::from(v.u8(12)? >> 4) * 4;
    if header < 20 {
        put!(out, " tcp {} [bad hdr length {header} - too short, < 20]", v.length.saturating_sub(header));
        return Ok(());
    }
    carried(out, "tcp", v.length, header);
    Ok(())
}

/// What is behind the header. tcpdump computes without a sign when that is longer than the packet.
fn carried(out: &mut String, name: &str, length: usize, header: usize) {
    let word = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    put!(out, "{name} {}", word(length).wrapping_sub(word(header)));
    if header > length {
        put!(out, " [bad hdr length {header} - too long, > {length}]");
    }
}

/// UDP (RFC 768): the length is the one that its own header claims.
pub(super) fn udp(out: &mut String, v: View<'_>, h: Header) -> Done {
    let v = v.named("udp");
    if v.bytes.len() < 4 {
        if h.protocol == UDP {
            h.addresses(out);
        }
        return v.need(4);
    }
    h.endpoints(out, (v.u16(0)?, v.u16(2)?), false, UDP);
    if v.length < 8 {
        put!(out, "truncated-udp {}", v.length);
        return Ok(());
    }
    let claimed = usize::from(v.u16(4)?);
    if claimed < 8 {
        put!(out, "truncated-udplength {claimed}");
        return Ok(());
    }
    v.need(8)?;
    let (claimed, there) = (claimed - 8, v.length - 8);
    if claimed > there && !h.fragment {
        put!(out, "UDP, bad length {claimed} > {there}");
    } else {
        put!(out, "UDP, length {claimed}");
    }
    Ok(())
}

/// DCCP (RFC 4340).
pub(super) fn dccp(out: &mut String, v: View<'_>, h: Header) -> Done {
    let v = v.named("dccp");
    // With long sequence numbers the fixed header has 16 bytes.
    v.need(if v.u8(8)? & 1 == 0 { 12 } else { 16 })?;
    h.endpoints(out, (v.u16(0)?, v.u16(2)?), true, DCCP);
    let header = usize::from(v.u8(4)?) * 4;
    carried(out, "DCCP", v.length, header);
    Ok(())
}
