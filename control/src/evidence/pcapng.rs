//! Packets as a `.pcapng` file (draft-ietf-opsawg-pcapng), which Wireshark opens.
//!
//! Own writer: three kinds of block, no option that changes after the first packet, bytes that stay the same over the
//! years. The published crates either cannot stream or have not seen a release for years; reading is the crate
//! `capture`'s.

use std::io::{self, Write};

use capture::Packet;

const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const INTERFACE_DESCRIPTION: u32 = 1;
const ENHANCED_PACKET: u32 = 6;
/// Says in which order the bytes of the section are.
const BYTE_ORDER: u32 = 0x1a2b_3c4d;
const UNKNOWN_LENGTH: u64 = u64::MAX;
const ETHERNET: u16 = 1;

const OPT_END: u16 = 0;
const OPT_COMMENT: u16 = 1;
const SHB_APPLICATION: u16 = 4;
const IF_NAME: u16 = 2;
const IF_RESOLUTION: u16 = 9;
/// 10^-9 s.
const NANOSECONDS: u8 = 9;
/// A longer text is cut. Wireshark takes up to 65,535 bytes.
const TEXT_MAX_BYTES: usize = 60_000;

/// Writes a capture, packet by packet.
#[derive(Debug)]
pub struct Writer<W: Write> {
    out: W,
    block: Vec<u8>,
}

impl<W: Write> Writer<W> {
    /// Begins a capture. `comment` stands in the section's header and is to name incident and rule; `interface` says where
    /// the packets were seen.
    pub fn new(out: W, comment: &str, interface: &str) -> io::Result<Writer<W>> {
        let mut w = Writer { out, block: Vec::with_capacity(512) };
        w.block.extend(BYTE_ORDER.to_le_bytes());
        w.block.extend(1_u16.to_le_bytes());
        w.block.extend(0_u16.to_le_bytes());
        w.block.extend(UNKNOWN_LENGTH.to_le_bytes());
        w.option(OPT_COMMENT, text(comment));
        w.option(SHB_APPLICATION, concat!("cordond ", env!("CARGO_PKG_VERSION")).as_bytes());
        w.option(OPT_END, &[]);
        w.flush_block(SECTION_HEADER)?;
        w.block.extend(ETHERNET.to_le_bytes());
        w.block.extend([0; 2]);
        // No limit: each packet tells how much of it was kept.
        w.block.extend(0_u32.to_le_bytes());
        w.option(IF_NAME, text(interface));
        w.option(IF_RESOLUTION, &[NANOSECONDS]);
        w.option(OPT_END, &[]);
        w.flush_block(INTERFACE_DESCRIPTION)?;
        Ok(w)
    }

    /// One packet, with its length on the wire. A time before 1970 or after 2554 becomes the nearest one that the format has.
    pub fn packet(&mut self, packet: &Packet<'_>) -> io::Result<()> {
        let kept = u32::try_from(packet.bytes.len()).map_err(io::Error::other)?;
        let ticks = u64::try_from(packet.time_ns.max(0)).unwrap_or(u64::MAX);
        self.block.extend(0_u32.to_le_bytes());
        // The upper half comes first, whatever the byte order.
        self.block.extend(u32::try_from(ticks >> 32).unwrap_or(u32::MAX).to_le_bytes());
        self.block.extend(u32::try_from(ticks & 0xffff_ffff).unwrap_or(u32::MAX).to_le_bytes());
        self.block.extend(kept.to_le_bytes());
        self.block.extend(packet.wire_len.max(kept).to_le_bytes());
        self.block.extend(packet.bytes);
        self.pad();
        self.flush_block(ENHANCED_PACKET)
    }

    /// Ends the capture.
    pub fn finish(mut self) -> io::Result<W> {
        self.out.flush()?;
        Ok(self.out)
    }

    fn option(&mut self, code: u16, value: &[u8]) {
        let length = u16::try_from(value.len()).unwrap_or(0);
        self.block.extend(code.to_le_bytes());
        self.block.extend(length.to_le_bytes());
        self.block.extend(&value[..usize::from(length)]);
        self.pad();
    }

    fn pad(&mut self) {
        self.block.resize(self.block.len().next_multiple_of(4), 0);
    }

    /// Writes what was gathered as a block; its length stands before and behind it.
    fn flush_block(&mut self, kind: u32) -> io::Result<()> {
        let total = u32::try_from(self.block.len() + 12).map_err(io::Error::other)?;
        self.out.write_all(&kind.to_le_bytes())?;
        self.out.write_all(&total.to_le_bytes())?;
        self.out.write_all(&self.block)?;
        self.out.write_all(&total.to_le_bytes())?;
        self.block.clear();
        Ok(())
    }
}

/// As much of a text as an option takes.
fn text(s: &str) -> &[u8] {
    let mut end = s.len().min(TEXT_MAX_BYTES);
    while !s.is_char_boundary(end) {
        end -= 1;
    }
    &s.as_bytes()[..end]
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test that cannot go on fails here")]

    use super::*;

    const COMMENT: &str = "Cordon C-2013-000001: netscan/default, 192.0.2.10 – 1,000 contacts";

    fn packets() -> Vec<(i128, Vec<u8>, u32)> {
        let mut frame = vec![0x11; 61];
        frame[12..14].copy_from_slice(&0x88b5_u16.to_be_bytes());
        vec![
            (1_384_366_467_123_456_789, frame.clone(), 1514),
            (1_384_366_467_123_456_790, frame[..60].to_vec(), 60),
            (-5, Vec::new(), 9000),
            (i128::MAX, frame, 61),
        ]
    }

    fn file() -> Vec<u8> {
        let mut w = Writer::new(Vec::new(), COMMENT, "inside").unwrap();
        for (time_ns, bytes, wire_len) in &packets() {
            w.packet(&Packet { time_ns: *time_ns, bytes, wire_len: *wire_len }).unwrap();
        }
        w.finish().unwrap()
    }

    #[test]
    fn what_is_written_is_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("evidence.pcapng");
        std::fs::write(&path, file()).unwrap();
        let mut capture = capture::Capture::open(&path).unwrap();
        let mut seen = Vec::new();
        while let Some(p) = capture.next_packet().unwrap() {
            seen.push((p.time_ns, p.bytes.to_vec(), p.wire_len));
        }
        assert_eq!(capture.damage(), None);
        let mut want = packets();
        want[2].0 = 0;
        want[3].0 = i128::from(u64::MAX);
        assert_eq!(seen, want);
    }

    #[test]
    fn wireshark_reads_times_lengths_and_the_comment() {
        let run = |program: &str, args: &[&str], path: &std::path::Path| {
            let done =
                std::process::Command::new(program).args(args).arg(path).env("TZ", "UTC").output().ok()?;
            assert!(done.status.success(), "{program}: {}", String::from_utf8_lossy(&done.stderr));
            Some(String::from_utf8(done.stdout).unwrap())
        };
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("evidence.pcapng");
        std::fs::write(&path, file()).unwrap();
        let fields = [
            "-T",
            "fields",
            "-e",
            "frame.time_epoch",
            "-e",
            "frame.len",
            "-e",
            "frame.cap_len",
            "-c",
            "2",
            "-r",
        ];
        match run("tshark", &fields, &path) {
            Some(out) => {
                let mut lines = out.lines();
                assert_eq!(lines.next(), Some("1384366467.123456789\t1514\t61"));
                assert_eq!(lines.next(), Some("1384366467.123456790\t60\t60"));
            }
            None => eprintln!("skipped: tshark is not installed"),
        }
        match run("capinfos", &[], &path) {
            Some(out) => {
                assert!(out.contains("Wireshark/... - pcapng"), "{out}");
                assert!(out.contains("nanoseconds (9)"), "{out}");
                assert!(out.contains(COMMENT), "{out}");
                assert!(out.contains("Interface #0 info") && out.contains("Name = inside"), "{out}");
            }
            None => eprintln!("skipped: capinfos is not installed"),
        }
    }

    #[test]
    fn a_long_comment_is_cut_between_characters() {
        let long = "ä".repeat(40_000);
        let w = Writer::new(Vec::new(), &long, "").unwrap();
        assert!(w.finish().unwrap().len() < 61_000);
        assert_eq!(text(&long).len(), TEXT_MAX_BYTES);
        assert!(std::str::from_utf8(text(&format!("a{long}"))).is_ok());
    }

    #[test]
    fn every_block_ends_on_a_word_and_repeats_its_length() {
        let bytes = file();
        let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
        let (mut at, mut kinds) = (0, Vec::new());
        while at < bytes.len() {
            let length = word(at + 4) as usize;
            assert_eq!(length % 4, 0);
            assert_eq!(word(at + length - 4) as usize, length);
            kinds.push(word(at));
            at += length;
        }
        assert_eq!(kinds, [SECTION_HEADER, INTERFACE_DESCRIPTION, 6, 6, 6, 6]);
    }
}
