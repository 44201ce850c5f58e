//! Small protocols of the link: discovery, aggregation, loops (each names its document).

use super::ether::{self, Link};
use super::view::{Done, View, name_of, put, text};

/// `a, b` for the bits that are set, `none` for none.
pub(super) fn flags(out: &mut String, value: u8, names: &[(u8, &str)]) {
    let mut any = false;
    for (bit, name) in names {
        if value & bit != 0 {
            out.push_str(if any { ", " } else { "" });
            out.push_str(name);
            any = true;
        }
    }
    if !any {
        out.push_str("none");
    }
}

/// The configuration test protocol of Ethernet 2.0, chapter 8; little endian.
pub(super) fn loopback(out: &mut String, v: View<'_>) -> Done {
    let v = v.named("loopback");
    out.push_str("Loopback");
    let le16 = |at| v.array(at).map(u16::from_le_bytes);
    if v.length < 2 {
        out.push_str(" (invalid)");
        return v.need(v.length);
    }
    let skip = usize::from(le16(0)?);
    put!(out, ", skipCount {skip}");
    if skip % 8 != 0 {
        out.push_str(" (bogus)");
    }
    let Some(rest) = v.length.checked_sub(2 + skip).filter(|n| *n >= 2) else {
        out.push_str(" (invalid)");
        return v.need(v.length);
    };
    let rest = rest - 2;
    match le16(2 + skip)? {
        1 => {
            out.push_str(", Reply");
            if rest < 2 {
                out.push_str(" (invalid)");
                return v.need(v.length);
            }
            put!(out, ", receipt number {}, data ({} octets)", le16(4 + skip)?, rest - 2);
        }
        2 => {
            out.push_str(", Forward Data");
            if rest < 6 {
                out.push_str(" (invalid)");
                return v.need(v.length);
            }
            put!(out, ", forwarding address {}, data ({} octets)", v.mac(4 + skip)?, rest - 6);
        }
        n => {
            put!(out, ",  invalid ({n})");
            return v.need(v.length);
        }
    }
    v.need(v.length)
}

/// LLDP (IEEE 802.1AB): its length, and the system's name.
pub(super) fn lldp(out: &mut String, v: View<'_>) -> Done {
    let v = v.named("lldp");
    put!(out, "LLDP, length {}", v.length);
    let mut rest = v;
    while rest.length >= 2 {
        let head = rest.u16(0)?;
        let (kind, size) = (head >> 9, usize::from(head & 0x1ff));
        rest = rest.from(2);
        if kind != 0 && size == 0 {
            return Ok(());
        }
        rest.need(size)?;
        match kind {
            0 => return Ok(()),
            5 => {
                out.push_str(": ");
                text(out, rest.slice(0, size)?);
            }
            _ => {}
        }
        rest = rest.from(size);
    }
    Ok(())
}

/// Slow protocols (IEEE 802.3 clause 57A): link aggregation, its markers, OAM.
pub(super) fn slow(out: &mut String, v: View<'_>) -> Done {
    let v = v.named("slow");
    v.need(2)?;
    let (kind, version) = (v.u8(0)?, v.u8(1)?);
    let name = match kind {
        1 => "LACP",
        2 => "MARKER",
        3 => "OAM",
        n => {
            put!(out, "unknown ({n}), length {}", v.length);
            return Ok(());
        }
    };
    match kind {
        3 => put!(out, "{name}, length {}", v.length),
        _ if version != 1 => put!(out, "{name} version {version} packet not supported"),
        _ => put!(out, "{name}v1, length {}", v.length),
    }
    Ok(())
}

/// MAC control: pause frames and what Ethernet passive optical networks add (IEEE 802.3 clauses 31 and 64).
pub(super) fn mac_control(out: &mut String, v: View<'_>) -> Done {
    const OPCODES: &[(u32, &str)] = &[
        (1, "Pause"),
        (2, "Gate"),
        (3, "Report"),
        (4, "Register Request"),
        (5, "Register"),
        (6, "Register ACK"),
    ];
    let v = v.named("mpcp");
    v.need(6)?;
    let opcode = v.u16(0)?;
    match name_of(OPCODES, u32::from(opcode)) {
        Some(name) => put!(out, "MPCP, Opcode {name}"),
        None => put!(out, "MPCP, Opcode Unknown ({opcode})"),
    }
    if opcode != 1 {
        put!(out, ", Timestamp {} ticks", v.u32(2)?);
    }
    put!(out, ", length {}", v.length);
    Ok(())
}

/// Heartbeat of Microsoft's network load balancing; little endian.
pub(super) fn nlb(out: &mut String, v: View<'_>) -> Done {
    let v = v.named("msnlb");
    out.push_str("MS NLB heartbeat");
    put!(out, ", host priority: {}", v.array(8).map(u32::from_le_bytes)?);
    put!(out, ", cluster IP: {}", v.ip4(12)?);
    put!(out, ", host IP: {}", v.ip4(16)?);
    Ok(())
}

/// EAP over LAN (IEEE 802.1X).
pub(super) fn eap(out: &mut String, v: View<'_>) -> Done {
    let v = v.named("eap");
    v.need(4)?;
    let kind = v.u8(1)?;
    let name = match kind {
        0 => "EAP packet",
        1 => "EAPOL start",
        2 => "EAPOL logoff",
        3 => "EAPOL key",
        4 => "Encapsulated ASF alert",
        _ => "unknown",
    };
    put!(out, "{name} ({kind}) v{}, len {}", v.u8(0)?, v.u16(2)?);
    Ok(())
}

/// Protocols of Realtek's switches, by their first byte.
pub(super) fn realtek(out: &mut String, v: View<'_>, link: Link<'_>) -> Done {
    let v = v.named("rtl");
    ether::addresses(out, link.frame)?;
    out.push(',');
    let kind = v.u8(0).inspect_err(|_| out.push(' '))?;
    match kind {
        1 => out.push_str(" RRCP"),
        2 => out.push_str(" REP"),
        4 => out.push_str(" Realtek 8-byte DSA tag"),
        3 | 0x23 => out.push_str(" RLDP"),
        n => put!(out, " Realtek unknown type 0x{n:02x}"),
    }
    Ok(())
}

/// ATA over Ethernet (AoEr11).
pub(super) fn aoe(out: &mut String, v: View<'_>) -> Done {
    let v = v.named("aoe");
    put!(out, "AoE length {}", v.length);
    if v.length < 1 {
        out.push_str(" (invalid)");
        return Ok(());
    }
    let first = v.u8(0)?;
    put!(out, ", Ver {}", first >> 4);
    if first >> 4 != 1 {
        return Ok(());
    }
    if v.length < 10 {
        out.push_str(" (invalid)");
        return Ok(());
    }
    out.push_str(", Flags: [");
    flags(out, first, &[(8, "Response"), (4, "Error"), (2, "MBZ-1"), (1, "MBZ-0")]);
    out.push(']');
    Ok(())
}

/// Cisco's discovery protocol: the device's name.
pub(super) fn cdp(out: &mut String, v: View<'_>) -> Done {
    let v = v.named("cdp");
    if v.length < 4 {
        put!(out, " (packet length {} < 4) (invalid)", v.length);
        return Ok(());
    }
    let version = v.u8(0)?;
    let ttl = v.u8(1)?;
    put!(out, "CDPv{version}, ttl: {ttl}s");
    v.need(4)?;
    let mut rest = v.from(4);
    let mut named = true;
    while rest.length > 0 {
        if rest.length < 4 {
            put!(out, " (remaining packet length {} < 4) (invalid)", rest.length);
            return Ok(());
        }
        let (kind, size) = (rest.u16(0)?, usize::from(rest.u16(2)?));
        if size > rest.length {
            put!(out, " (TLV length {size} > {}) (invalid)", rest.length);
            return Ok(());
        }
        if size < 4 {
            let name = if kind == 1 { "Device-ID" } else { "field" };
            put!(out, ", {name} TLV length {size} too short (invalid)");
            return Ok(());
        }
        if kind == 1 {
            out.push_str(", Device-ID '");
            // A cut name is written as far as it goes.
            let there = rest.bytes.len().min(size);
            text(out, rest.slice(4, there.saturating_sub(4))?);
            rest.need(size)?;
            out.push('\'');
        } else {
            rest.need(size)?;
            named = false;
        }
        rest = rest.from(size);
    }
    if named {
        put!(out, ", length {}", v.length);
    }
    Ok(())
}

/// Cisco's VLAN trunking protocol.
pub(super) fn vtp(out: &mut String, v: View<'_>) -> Done {
    const MESSAGES: &[(u32, &str)] = &[
        (1, "Summary advertisement"),
        (2, "Subset advertisement"),
        (3, "Advertisement request"),
        (4, "Join message"),
    ];
    let v = v.named("vtp");
    v.need(36)?;
    let kind = v.u8(1)?;
    let name = name_of(MESSAGES, u32::from(kind)).unwrap_or("Unknown message type");
    put!(out, "VTPv{}, Message {name} (0x{kind:02x}), length {}", v.u8(0)?, v.length);
    if kind == 1 {
        v.need(40)?;
    }
    Ok(())
}

/// Cisco's trunk negotiation.
pub(super) fn dtp(out: &mut String, v: View<'_>) -> Done {
    let v = v.named("dtp");
    put!(out, "DTPv{}, length {}", v.u8(0)?, v.length);
    Ok(())
}

/// Unidirectional link detection (RFC 5171).
pub(super) fn udld(out: &mut String, v: View<'_>) -> Done {
    const CODES: &[(u32, &str)] = &[(1, "Probe message"), (2, "Echo message"), (3, "Flush message")];
    let v = v.named("udld");
    let first = v.u8(0)?;
    let bits = v.u8(1)?;
    let code = first & 0x1f;
    let name = name_of(CODES, u32::from(code)).unwrap_or("Reserved");
    put!(out, "UDLDv{}, Code {name} ({code}), Flags [", first >> 5);
    let names = [
        (0x01, "RT"),
        (0x02, "RSY"),
        (0x04, "MBZ-2"),
        (0x08, "MBZ-3"),
        (0x10, "MBZ-4"),
        (0x20, "MBZ-5"),
        (0x40, "MBZ-6"),
        (0x80, "MBZ-7"),
    ];
    flags(out, bits, &names);
    put!(out, "] (0x{bits:02x}), length {}", v.length);
    let mut rest = v.from(4);
    while rest.length >= 4 {
        let size = usize::from(rest.u16(2)?);
        if size < 4 || size > rest.length {
            return Ok(());
        }
        rest.need(size)?;
        rest = rest.from(size);
    }
    Ok(())
}
