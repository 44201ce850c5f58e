//! VRRP (RFC 3768, RFC 5798).

use super::ip::Header;
use super::view::{Done, View, put};

/// One advertisement.
pub(super) fn vrrp(out: &mut String, v: View<'_>, h: Header) -> Done {
    let v = v.named("vrrp");
    out.push_str("VRRP");
    let first = v.u8(0)?;
    let (version, kind) = (first >> 4, first & 15);
    put!(out, "v{version}, ");
    match kind {
        1 => out.push_str("Advertisement"),
        n => put!(out, "unknown type ({n})"),
    }
    if h.ttl != 255 {
        put!(out, ", (ttl {})", h.ttl);
    }
    if kind != 1 || !(2..=3).contains(&version) {
        return Ok(());
    }
    let (router, priority) = (v.u8(1)?, v.u8(2)?);
    put!(out, ", vrid {router}, prio {priority}");
    if version == 2 {
        match v.u8(4)? {
            0 => out.push_str(", authtype none"),
            1 => out.push_str(", authtype simple"),
            2 => out.push_str(", authtype ah"),
            n => put!(out, ", authtype #{n}"),
        }
        put!(out, ", intvl {}s, length {}", v.u8(5)?, v.length);
    } else {
        put!(out, ", intvl {}cs, length {}", v.u16(4)? & 0xfff, v.length);
    }
    Ok(())
}
