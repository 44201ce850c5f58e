//! SCTP (RFC 9260): ports, then its chunks.

use super::ip::{Header, SCTP};
use super::view::{Done, View, name_of, put};

const CHUNKS: &[(u32, &str)] = &[
    (0, "DATA"),
    (1, "INIT"),
    (2, "INIT ACK"),
    (3, "SACK"),
    (4, "HB REQ"),
    (5, "HB ACK"),
    (6, "ABORT"),
    (7, "SHUTDOWN"),
    (8, "SHUTDOWN ACK"),
    (9, "OP ERR"),
    (10, "COOKIE ECHO"),
    (11, "COOKIE ACK"),
    (12, "ECN ECHO"),
    (13, "ECN CWR"),
    (14, "SHUTDOWN COMPLETE"),
    (0xc0, "FOR CUM TSN"),
    (0xc1, "REL CTRL"),
];

/// What a chunk of data carries (IANA's registry of payload protocol identifiers).
const CARRIED: &[(u32, &str)] = &[
    (1, "ISDN Q.921"),
    (2, "M2UA"),
    (3, "M3UA"),
    (4, "SUA"),
    (5, "M2PA"),
    (6, "V5.2"),
    (7, "H.248"),
    (8, "BICC"),
    (9, "TALI"),
    (10, "DUA"),
    (11, "ASAP"),
    (12, "ENRP"),
    (13, "H.323"),
    (14, "Q.IPC"),
    (15, "SIMCO"),
    (16, "DDPSC"),
    (17, "DDPSSC"),
    (18, "S1AP"),
    (19, "RUA"),
    (20, "HNBAP"),
    (21, "ForCES HP"),
    (22, "ForCES MP"),
    (23, "ForCES LP"),
    (24, "SBc-AP"),
    (25, "NBAP"),
    (27, "X2AP"),
];

/// One SCTP packet.
pub(super) fn sctp(out: &mut String, v: View<'_>, h: Header) -> Done {
    let v = v.named("sctp");
    if v.length < 12 {
        put!(out, "truncated-sctp - {} bytes missing!", 12 - v.length);
        return Ok(());
    }
    v.need(12)?;
    h.endpoints(out, (v.u16(0)?, v.u16(2)?), true, SCTP);
    out.push_str("sctp");
    let mut rest = v.from(12);
    let mut number = 0;
    while rest.length > 0 {
        number += 1;
        if rest.length < 4 {
            put!(
                out,
                "{} ({number}) [chunk descriptor cut off at end of packet]",
                if number == 1 { "" } else { "," }
            );
            return Ok(());
        }
        // A chunk is written as a whole or not at all.
        let mark = out.len();
        match chunk(out, rest, number) {
            Ok(Some(size)) => rest = rest.from(size),
            Ok(None) => return Ok(()),
            Err(e) => {
                out.truncate(mark);
                return Err(e);
            }
        }
    }
    Ok(())
}

/// A chunk; returns its padded size.
fn chunk(out: &mut String, v: View<'_>, number: u32) -> Result<Option<usize>, super::Cut> {
    v.need(4)?;
    put!(out, "{} ({number}) ", if number == 1 { "" } else { "," });
    let (kind, flags, length) = (v.u8(0)?, v.u8(1)?, usize::from(v.u16(2)?));
    if length < 4 {
        put!(out, "[Bad chunk length {length}, < size of chunk descriptor]");
        return Ok(None);
    }
    v.need(length)?;
    let padded = length.next_multiple_of(4).min(v.length);
    v.need(padded)?;
    match name_of(CHUNKS, u32::from(kind)) {
        Some(name) => put!(out, "[{name}] "),
        None => put!(out, "[Unknown chunk type: 0x{kind:x}] "),
    }
    let body = v.from(4).limit(length - 4);
    match kind {
        0 => {
            let marks = [(4, "(U)"), (2, "(B)"), (1, "(E)")];
            for (bit, text) in marks {
                if flags & bit != 0 {
                    out.push_str(text);
                }
            }
            if flags & 7 != 0 {
                out.push(' ');
            }
            put!(out, "[TSN: {}] [SID: {}] [SSEQ {}] ", body.u32(0)?, body.u16(4)?, body.u16(6)?);
            let carried = body.u32(8)?;
            match name_of(CARRIED, carried) {
                Some(name) => put!(out, "[PPID {name}] "),
                None => put!(out, "[PPID 0x{carried:x}] "),
            }
        }
        1 | 2 => {
            put!(out, "[init tag: {}] [rwnd: {}] ", body.u32(0)?, body.u32(4)?);
            put!(out, "[OS: {}] [MIS: {}] ", body.u16(8)?, body.u16(10)?);
            put!(out, "[init TSN: {}] ", body.u32(12)?);
        }
        3 => {
            put!(out, "[cum ack {}] [a_rwnd {}] ", body.u32(0)?, body.u32(4)?);
            put!(out, "[#gap acks {}] [#dup tsns {}] ", body.u16(8)?, body.u16(10)?);
        }
        _ => {}
    }
    Ok(Some(padded))
}
