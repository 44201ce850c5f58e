//! 802.3 frames: LLC and SNAP headers (IEEE 802.2), and spanning tree (IEEE 802.1D, 802.1Q).

use super::ether::{self, Link};
use super::view::{Done, View, name_of, put};
use super::{Cut, ip, l2};

const UI: u8 = 3;
const SAPS: &[(u32, &str)] = &[
    (0x00, "Null"),
    (0x02, "802.1B I"),
    (0x04, "SNA"),
    (0x06, "IP"),
    (0x0e, "ProWay NM"),
    (0x42, "STP"),
    (0x4e, "RS511"),
    (0x7e, "ISO8208"),
    (0x8e, "ProWay"),
    (0xaa, "SNAP"),
    (0xe0, "IPX"),
    (0xf0, "NetBeui"),
    (0xfe, "OSI"),
];
const UNNUMBERED: &[(u32, &str)] = &[
    (0x03, "ui"),
    (0x0f, "dm"),
    (0x43, "disc"),
    (0x63, "ua"),
    (0x6f, "sabme"),
    (0x87, "frmr"),
    (0xaf, "xid"),
    (0xe3, "test"),
];
const OUIS: &[(u32, &str)] = &[
    (0x00_000c, "Cisco"),
    (0x00_00f8, "Cisco bridged"),
    (0x00_80c2, "Ethernet bridged"),
    (0x00_120f, "IEEE 802.3 Private"),
    (0x08_0007, "Appletalk"),
];

/// What follows the length of an 802.3 frame.
pub(super) fn llc(out: &mut String, v: View<'_>, link: Link<'_>) -> Done {
    let v = v.named("llc");
    v.need(3)?;
    let (dsap, ssap, control) = (v.u8(0)?, v.u8(1)?, v.u8(2)?);
    let numbered = control & 3 != 3;
    if numbered {
        v.need(4)?;
    }
    let service = ssap & 0xfe;
    match (dsap & 0xfe, service, control) {
        (0xaa, 0xaa, UI) => return snap(out, v.from(3), link),
        (0x42, 0x42, UI) => return spanning_tree(out, v.from(3)),
        (6, 6, UI) => return ip::packet(out, v.from(3), link.depth),
        _ => {}
    }
    let (from, to) = (link.frame.mac(6)?, link.frame.mac(0)?);
    let named = |out: &mut String, sap: u8, kind: &str| match name_of(SAPS, u32::from(sap)) {
        Some(name) => put!(out, "{name}"),
        None => put!(out, "Unknown {kind} 0x{sap:02x}"),
    };
    if dsap & 0xfe == service {
        put!(out, "{from} > {to} ");
    } else {
        put!(out, "{from} ");
        named(out, service, "SSAP");
        put!(out, " > {to} ");
    }
    named(out, dsap & 0xfe, "DSAP");
    out.push(' ');
    let response = ssap & 1 != 0;
    let flags = |poll: bool| match (response, poll) {
        (false, false) => "Command",
        (false, true) => "Poll",
        (true, false) => "Response",
        (true, true) => "Final",
    };
    if numbered {
        let word = u16::from_le_bytes(v.array(2)?);
        if control & 1 == 0 {
            put!(out, "Information, send seq {}, rcv seq {}", (word >> 1) & 0x7f, word >> 9);
        } else {
            let kind = ["Receiver Ready", "Receiver not Ready", "Reject", "?"][usize::from(word >> 2 & 3)];
            put!(out, "Supervisory, {kind}, rcv seq {}", word >> 9);
        }
        put!(out, ", Flags [{}]", flags(word & 0x100 != 0));
    } else {
        let command = control & 0xef;
        match name_of(UNNUMBERED, u32::from(command)) {
            Some(name) => put!(out, "Unnumbered, {name}"),
            None => put!(out, "Unnumbered, {command:02x}"),
        }
        put!(out, ", Flags [{}]", flags(control & 0x10 != 0));
    }
    put!(out, ", length {}", v.length);
    Ok(())
}

fn snap(out: &mut String, v: View<'_>, link: Link<'_>) -> Done {
    let v = v.named("snap");
    v.need(5)?;
    let oui = u32::from(v.u8(0)?) << 16 | u32::from(v.u16(1)?);
    let pid = v.u16(3)?;
    let body = v.from(5);
    match (oui, pid) {
        (0x00_0000 | 0x00_00f8, _) if ether::payload(out, pid, body, link)? => return Ok(()),
        (0x00_000c, 0x2000) => return l2::cdp(out, body),
        (0x00_000c, 0x2003) => return l2::vtp(out, body),
        (0x00_000c, 0x2004) => return l2::dtp(out, body),
        (0x00_000c, 0x0111) => return l2::udld(out, body),
        (0x00_000c, 0x010b | 0x010c) | (0x00_80c2, 0x000e) => return spanning_tree(out, body),
        (0x00_80c2, 1 | 7) => {
            let Some(depth) = link.depth.checked_sub(1) else { return Err(Cut("snap")) };
            // Bridged Ethernet, with or without its FCS, behind two bytes of padding (RFC 2684).
            return ether::frame(out, body.from(2), depth);
        }
        _ => {}
    }
    ether::addresses(out, link.frame)?;
    let known = if matches!(oui, 0 | 0x08_0007) { ether::name(pid) } else { None };
    let known = known.unwrap_or("Unknown");
    if oui == 0 {
        put!(out, " SNAP, ethertype {known} (0x{pid:04x})");
    } else {
        let name = name_of(OUIS, oui).unwrap_or("Unknown");
        put!(out, " SNAP, oui {name} (0x{oui:06x}), pid {known} (0x{pid:04x})");
    }
    put!(out, ", length {}: ", body.length);
    Ok(())
}

/// EtherIP (RFC 3378): a frame behind 16 bits.
pub(super) fn ethernet_in_ip(out: &mut String, v: View<'_>, depth: usize) -> Done {
    let Some(depth) = depth.checked_sub(1) else { return Err(Cut("ether")) };
    ether::frame(out, v, depth)
}

/// A bridge protocol data unit.
fn spanning_tree(out: &mut String, v: View<'_>) -> Done {
    let v = v.named("stp");
    if v.length < 4 {
        out.push_str(" (invalid)");
        return Ok(());
    }
    let protocol = v.u16(0)?;
    if protocol != 0 {
        put!(out, "unknown STP version, length {}", v.length);
        return Ok(());
    }
    let version = v.u8(2)?;
    out.push_str("STP ");
    match version {
        0 => out.push_str("802.1d"),
        2 => out.push_str("802.1w"),
        3 => out.push_str("802.1s"),
        4 => out.push_str("802.1aq"),
        n => {
            put!(out, "Unknown STP protocol (0x{n:02x})");
            return Ok(());
        }
    }
    let kind = v.u8(3)?;
    let (label, least) = match kind {
        0 => ("Config", 35),
        2 => ("Rapid STP", if version >= 3 { 102 } else { 36 }),
        0x80 => {
            out.push_str(", Topology Change");
            return Ok(());
        }
        n => {
            put!(out, ", Unknown BPDU Type (0x{n:02x})");
            return Ok(());
        }
    };
    put!(out, ", {label}");
    if kind == 2 && version == 0 {
        return Ok(());
    }
    if v.length < least {
        out.push_str(" (invalid)");
        return Ok(());
    }
    let flags = v.u8(4)?;
    if kind == 2 && version >= 3 && v.length < 38 + usize::from(v.u16(36)?) {
        out.push_str(" (invalid)");
        return Ok(());
    }
    out.push_str(if kind == 2 && version >= 3 { ", CIST Flags [" } else { ", Flags [" });
    let names = [
        (0x01, "Topology change"),
        (0x02, "Proposal"),
        (0x10, "Learn"),
        (0x20, "Forward"),
        (0x40, "Agreement"),
        (0x80, "Topology change ACK"),
    ];
    l2::flags(out, flags, &names);
    out.push(']');
    if kind == 2 && version >= 3 {
        put!(out, ", length {}", v.length);
        if version == 4 {
            out.push_str(" (invalid)");
        }
        return Ok(());
    }
    v.need(27)?;
    put!(out, ", bridge-id {:04x}.{}.{:04x}, length {}", v.u16(17)?, v.mac(19)?, v.u16(25)?, v.length);
    Ok(())
}
