//! What routers say to each other directly on IP, named by the kind of message: OSPF (RFC 2328, 5340), PIM (RFC 7761),
//! EIGRP (RFC 7868), RSVP (RFC 2205), EGP (RFC 904), PGM (RFC 3208).

use super::ip::Header;
use super::view::{Done, View, name_of, put};

const OSPF: &[(u32, &str)] =
    &[(1, "Hello"), (2, "Database Description"), (3, "LS-Request"), (4, "LS-Update"), (5, "LS-Ack")];
const PIM: &[(u32, &str)] = &[
    (0, "Hello"),
    (1, "Register"),
    (2, "Register Stop"),
    (3, "Join / Prune"),
    (4, "Bootstrap"),
    (5, "Assert"),
    (6, "Graft"),
    (7, "Graft Acknowledgement"),
    (8, "Candidate RP Advertisement"),
    (9, "Prune Refresh"),
    (10, "DF Election"),
    (11, "ECMP Redirect"),
];
const EIGRP: &[(u32, &str)] =
    &[(1, "Update"), (3, "Query"), (4, "Reply"), (5, "Hello"), (6, "IPX SAP"), (7, "Probe")];
const RSVP: &[(u32, &str)] = &[
    (1, "Path"),
    (2, "Resv"),
    (3, "PathErr"),
    (4, "ResvErr"),
    (5, "PathTear"),
    (6, "ResvTear"),
    (7, "ResvConf"),
    (12, "Bundle"),
    (13, "Acknowledgement"),
    (14, "Hello (Old)"),
    (15, "Refresh"),
    (20, "Hello"),
];

pub(super) fn ospf(out: &mut String, v: View<'_>, h: Header) -> Done {
    let v = v.named(if h.is_v6() { "ospf3" } else { "ospf2" });
    // Version 2 is named once its area was there (RFC 2328 A.3.1).
    v.need(if h.is_v6() { 2 } else { 16 })?;
    let (version, kind) = (v.u8(0)?, v.u8(1)?);
    match name_of(OSPF, u32::from(kind)) {
        Some(name) => put!(out, "OSPFv{version}, {name}, length {}", v.length),
        None if h.is_v6() => put!(out, "OSPFv{version}, unknown packet type ({kind}), length {}", v.length),
        None => put!(out, "OSPFv{version}, unknown LS-type {kind}, length {}", v.length),
    }
    Ok(())
}

pub(super) fn pim(out: &mut String, v: View<'_>) -> Done {
    let v = v.named("pim");
    let first = v.u8(0)?;
    match first >> 4 {
        2 => {
            let name = name_of(PIM, u32::from(first & 15)).unwrap_or("Unknown Type");
            put!(out, "PIMv2, {name}, length {}", v.length);
        }
        version => put!(out, "PIMv{version}, length {}", v.length),
    }
    Ok(())
}

pub(super) fn eigrp(out: &mut String, v: View<'_>) -> Done {
    let v = v.named("eigrp");
    v.need(20)?;
    let (version, kind) = (v.u8(0)?, v.u8(1)?);
    if version != 2 {
        put!(out, "EIGRP version {version} packet not supported");
        return Ok(());
    }
    match name_of(EIGRP, u32::from(kind)) {
        Some(name) => put!(out, "EIGRP {name}, length: {}", v.length),
        None => put!(out, "EIGRP unknown ({kind}), length: {}", v.length),
    }
    Ok(())
}

pub(super) fn rsvp(out: &mut String, v: View<'_>) -> Done {
    let v = v.named("rsvp");
    v.need(8)?;
    let (version, kind) = (v.u8(0)? >> 4, v.u8(1)?);
    if version != 1 {
        put!(out, "ERROR: RSVP version {version} packet not supported");
        return Ok(());
    }
    match name_of(RSVP, u32::from(kind)) {
        Some(name) => put!(out, "RSVPv1 {name} Message, length: {}", v.length),
        None => put!(out, "RSVPv1 unknown ({kind}) Message, length: {}", v.length),
    }
    Ok(())
}

pub(super) fn egp(out: &mut String, v: View<'_>) -> Done {
    let v = v.named("egp");
    // Behind the header lies what its shortest message has.
    v.need(16)?;
    put!(out, "EGPv{}, AS {}, seq {}, length {}", v.u8(0)?, v.u16(6)?, v.u16(8)?, v.length);
    Ok(())
}

pub(super) fn pgm(out: &mut String, v: View<'_>, h: Header) -> Done {
    let v = v.named("pgm");
    if v.bytes.len() < 4 {
        put!(out, "{} > {}:", h.source, h.destination);
        return v.need(4);
    }
    h.endpoints(out, (v.u16(0)?, v.u16(2)?), true, 0);
    v.need(16)?;
    put!(out, "PGM, length {}", v.u16(14)?);
    Ok(())
}

/// A protocol that is only named by its number; tcpdump names it when its header is cut.
pub(super) fn by_number(out: &mut String, v: View<'_>, protocol: u8) -> Done {
    match protocol {
        9 if v.bytes.len() < 10 => {
            out.push_str("igrp:");
            v.named("igrp").need(10)
        }
        55 => {
            v.named("mobile").need(12)?;
            put!(out, " ip-proto-55 {}", v.length);
            Ok(())
        }
        _ => {
            put!(out, " ip-proto-{protocol} {}", v.length);
            Ok(())
        }
    }
}
