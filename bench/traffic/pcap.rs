//! Writes pcap with nanoseconds (pcap-savefile(5)), little-endian on every machine.

use std::fs::File;
use std::io::{self, BufWriter, Write};

const MAGIC_NANOSECONDS: u32 = 0xa1b2_3c4d;
const SNAPLEN: u32 = 262_144;
const ETHERNET: u32 = 1;

/// An open capture file.
pub(crate) struct Writer {
    file: BufWriter<File>,
}

impl Writer {
    pub(crate) fn new(file: File) -> io::Result<Writer> {
        let mut file = BufWriter::with_capacity(1 << 20, file);
        file.write_all(&MAGIC_NANOSECONDS.to_le_bytes())?;
        file.write_all(&2u16.to_le_bytes())?;
        file.write_all(&4u16.to_le_bytes())?;
        file.write_all(&[0; 8])?;
        file.write_all(&SNAPLEN.to_le_bytes())?;
        file.write_all(&ETHERNET.to_le_bytes())?;
        Ok(Writer { file })
    }

    /// One packet, whole; `at_ns` since 1970.
    pub(crate) fn packet(&mut self, at_ns: u64, bytes: &[u8]) -> io::Result<()> {
        let too_large = |_| io::Error::other("a number does not fit in pcap's 32 bits");
        let seconds = u32::try_from(at_ns / 1_000_000_000).map_err(too_large)?;
        let rest = u32::try_from(at_ns % 1_000_000_000).map_err(too_large)?;
        let length = u32::try_from(bytes.len()).map_err(too_large)?;
        let mut header = [0; 16];
        for (to, value) in header.chunks_exact_mut(4).zip([seconds, rest, length, length]) {
            to.copy_from_slice(&value.to_le_bytes());
        }
        self.file.write_all(&header)?;
        self.file.write_all(bytes)
    }

    /// What is written is with the operating system.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        self.file.flush()
    }
}
