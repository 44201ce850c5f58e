//! Packets of a pcap or pcapng file (both byte orders, micro- and nanoseconds), streamed: a capture may be larger than
//! memory. Used by replay and by the demo's feed.
#![forbid(unsafe_code)]

use std::fs::File;
use std::path::{Path, PathBuf};

use pcap_parser::traits::PcapReaderIterator;
use pcap_parser::{Block, PcapBlockOwned, PcapError};

const ETHERNET: u32 = 1;
/// Largest block read at once; grows to [`BUFFER_MAX_BYTES`] for a file that has larger ones.
const BUFFER_BYTES: usize = 1 << 20;
const BUFFER_MAX_BYTES: usize = 64 << 20;

/// Why a file cannot be read at all.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// The file cannot be opened.
    #[error("{}: {source}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// It is no capture.
    #[error("{}: not a pcap or pcapng file ({what}); record one with tcpdump -w FILE", path.display())]
    NotACapture {
        /// The file.
        path: PathBuf,
        /// What the reader says.
        what: String,
    },
    /// Its packets are not Ethernet frames.
    #[error("{}: link type {link_type}, only Ethernet (1) can be read; capture on an Ethernet interface", path.display())]
    LinkType {
        /// The file.
        path: PathBuf,
        /// The number in the file.
        link_type: u32,
    },
}

/// One packet.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    /// Nanoseconds since 1970.
    pub time_ns: i128,
    /// The bytes that were kept.
    pub bytes: &'a [u8],
    /// Length on the wire, at least that of `bytes`.
    pub wire_len: u32,
}

#[derive(Clone, Copy)]
struct Interface {
    units_per_second: u64,
    offset_seconds: i64,
}

/// An open capture.
pub struct Capture {
    path: PathBuf,
    reader: Box<dyn PcapReaderIterator + Send>,
    interfaces: Vec<Interface>,
    legacy_ns: u64,
    packet: Vec<u8>,
    /// Bytes read so far, for a progress bar.
    consumed: u64,
    damage: Option<String>,
}

impl Capture {
    /// Opens a capture.
    pub fn open(path: &Path) -> Result<Capture, CaptureError> {
        let file = File::open(path).map_err(|source| CaptureError::Open { path: path.to_owned(), source })?;
        Capture::read(path, file)
    }

    /// Reads a capture from elsewhere than a file; `path` names it in messages.
    pub fn read(path: &Path, source: impl std::io::Read + Send + 'static) -> Result<Capture, CaptureError> {
        let reader = pcap_parser::create_reader(BUFFER_BYTES, source)
            .map_err(|e| CaptureError::NotACapture { path: path.to_owned(), what: words(&e) })?;
        Ok(Capture {
            path: path.to_owned(),
            reader,
            interfaces: Vec::new(),
            legacy_ns: 1000,
            packet: Vec::new(),
            consumed: 0,
            damage: None,
        })
    }

    /// Bytes of the file read so far.
    pub fn consumed(&self) -> u64 {
        self.consumed
    }

    /// Where and why reading ended before the file did; what came before is good.
    pub fn damage(&self) -> Option<&str> {
        self.damage.as_deref()
    }

    /// The next packet; `None` at the end, or where the file is damaged (see [`Capture::damage`]).
    pub fn next_packet(&mut self) -> Result<Option<Packet<'_>>, CaptureError> {
        loop {
            let step = match self.reader.next() {
                Ok((size, block)) => {
                    let found =
                        read_block(&block, &mut self.interfaces, &mut self.legacy_ns, &mut self.packet);
                    Some((size, found))
                }
                Err(PcapError::Eof) => return Ok(None),
                Err(PcapError::Incomplete(_)) => None,
                Err(PcapError::BufferTooSmall) => {
                    let larger = self.reader.data().len().max(BUFFER_BYTES) * 2;
                    if larger > BUFFER_MAX_BYTES || !self.reader.grow(larger) {
                        return Ok(self.end_damaged("a block larger than 64 MiB"));
                    }
                    None
                }
                Err(e) => {
                    let what = words(&e);
                    return Ok(self.end_damaged(&what));
                }
            };
            let Some((size, found)) = step else {
                let before = self.reader.data().len();
                if self.reader.reader_exhausted() && before > 0 {
                    return Ok(self.end_damaged("the file ends within a packet"));
                }
                if let Err(e) = self.reader.refill() {
                    let what = words(&e);
                    return Ok(self.end_damaged(&what));
                }
                continue;
            };
            self.reader.consume(size);
            self.consumed += size as u64;
            match found {
                Found::Nothing => {}
                Found::LinkType(link_type) => {
                    return Err(CaptureError::LinkType { path: self.path.clone(), link_type });
                }
                Found::Packet { time_ns, wire_len } => {
                    let kept = u32::try_from(self.packet.len()).unwrap_or(u32::MAX);
                    return Ok(Some(Packet { time_ns, bytes: &self.packet, wire_len: wire_len.max(kept) }));
                }
            }
        }
    }

    fn end_damaged(&mut self, what: &str) -> Option<Packet<'static>> {
        self.damage =
            Some(format!("{}: reading ended {} bytes in: {what}", self.path.display(), self.consumed));
        None
    }
}

enum Found {
    Nothing,
    LinkType(u32),
    Packet { time_ns: i128, wire_len: u32 },
}

fn read_block(
    block: &PcapBlockOwned<'_>,
    interfaces: &mut Vec<Interface>,
    legacy_ns: &mut u64,
    packet: &mut Vec<u8>,
) -> Found {
    let keep = |packet: &mut Vec<u8>, data: &[u8], kept: u32| {
        packet.clear();
        packet.extend_from_slice(data.get(..kept as usize).unwrap_or(data));
    };
    match block {
        PcapBlockOwned::LegacyHeader(h) => {
            *legacy_ns = if h.is_nanosecond_precision() { 1 } else { 1000 };
            // The upper half holds the length of a frame check sequence (pcap-savefile(5)).
            link_type(h.network.0)
        }
        PcapBlockOwned::Legacy(b) => {
            keep(packet, b.data, b.caplen);
            let time_ns =
                i128::from(b.ts_sec) * 1_000_000_000 + i128::from(b.ts_usec) * i128::from(*legacy_ns);
            Found::Packet { time_ns, wire_len: b.origlen }
        }
        PcapBlockOwned::NG(Block::SectionHeader(_)) => {
            interfaces.clear();
            Found::Nothing
        }
        PcapBlockOwned::NG(Block::InterfaceDescription(i)) => {
            interfaces.push(Interface {
                units_per_second: i.ts_resolution().unwrap_or(1_000_000).max(1),
                offset_seconds: i.ts_offset(),
            });
            link_type(i.linktype.0)
        }
        PcapBlockOwned::NG(Block::EnhancedPacket(b)) => {
            keep(packet, b.data, b.caplen);
            let default = Interface { units_per_second: 1_000_000, offset_seconds: 0 };
            let i = interfaces.get(b.if_id as usize).copied().unwrap_or(default);
            let ticks = i128::from(u64::from(b.ts_high) << 32 | u64::from(b.ts_low));
            let time_ns = ticks * 1_000_000_000 / i128::from(i.units_per_second)
                + i128::from(i.offset_seconds) * 1_000_000_000;
            Found::Packet { time_ns, wire_len: b.origlen }
        }
        PcapBlockOwned::NG(Block::SimplePacket(b)) => {
            // A simple packet has no time of its own.
            keep(packet, b.data, b.origlen);
            Found::Packet { time_ns: 0, wire_len: b.origlen }
        }
        PcapBlockOwned::NG(_) => Found::Nothing,
    }
}

fn link_type(raw: i32) -> Found {
    let low = raw.cast_unsigned() & 0xffff;
    if low == ETHERNET { Found::Nothing } else { Found::LinkType(low) }
}

fn words<E: std::fmt::Debug>(e: &PcapError<E>) -> String {
    match e {
        PcapError::HeaderNotRecognized => "unknown magic number".into(),
        PcapError::Eof => "the file is empty".into(),
        PcapError::UnexpectedEof | PcapError::Incomplete(_) => "the file ends too early".into(),
        PcapError::ReadError => "the file cannot be read".into(),
        PcapError::BufferTooSmall => "a block is too large".into(),
        PcapError::NomError(_, kind) | PcapError::OwnedNomError(_, kind) => format!("damaged ({kind:?})"),
    }
}
