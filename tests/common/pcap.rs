//! Classic pcap files, written and read without any of Cordon's code.

use std::fs;
use std::path::Path;
use std::time::Duration;

const HEADER_BYTES: usize = 24;
const MAGIC: u32 = 0xa1b2_c3d4;
const ETHERNET: u32 = 1;
/// What `net_pcap` itself writes.
const SNAPLEN: u32 = 65_535;

/// Frames in the order in which they stand.
pub(crate) type Frames = Vec<Vec<u8>>;

/// Writes frames, a microsecond apart.
pub(crate) fn write<F: AsRef<[u8]>>(path: &Path, frames: &[F]) {
    let mut bytes = Vec::new();
    let word = |bytes: &mut Vec<u8>, w: u32| bytes.extend_from_slice(&w.to_le_bytes());
    for w in [MAGIC, 2 | 4 << 16, 0, 0, SNAPLEN, ETHERNET] {
        word(&mut bytes, w);
    }
    for (i, frame) in (0u32..).zip(frames) {
        let frame = frame.as_ref();
        let length = u32::try_from(frame.len()).unwrap();
        for w in [i / 1_000_000, i % 1_000_000, length, length] {
            word(&mut bytes, w);
        }
        bytes.extend_from_slice(frame);
    }
    fs::write(path, bytes).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
}

/// Reads the frames of a file in this machine's byte order, as libpcap writes it.
pub(crate) fn read(path: &Path) -> Frames {
    read_timed(path).into_iter().map(|(_, frame)| frame).collect()
}

/// The same with the time since 1970 of each.
pub(crate) fn read_timed(path: &Path) -> Vec<(Duration, Vec<u8>)> {
    let bytes = fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    assert!(bytes.len() >= HEADER_BYTES, "{}: no header", path.display());
    assert!(matches!(word(0), MAGIC | 0xa1b2_3c4d), "{}: magic {:#x}", path.display(), word(0));
    let mut frames = Vec::new();
    let mut at = HEADER_BYTES;
    while at < bytes.len() {
        let (kept, wire) = (word(at + 8) as usize, word(at + 12) as usize);
        assert_eq!(kept, wire, "{}: frame {} is cut", path.display(), frames.len());
        let fraction = u64::from(word(at + 4)) * if word(0) == MAGIC { 1_000 } else { 1 };
        let time = Duration::from_secs(word(at).into()) + Duration::from_nanos(fraction);
        frames.push((time, bytes[at + 16..at + 16 + kept].to_vec()));
        at += 16 + kept;
    }
    frames
}

/// Fails with the first frame that differs.
pub(crate) fn assert_same<F: AsRef<[u8]>>(what: &str, seen: &[Vec<u8>], expected: &[F]) {
    let differs = seen.iter().zip(expected).position(|(s, e)| s.as_slice() != e.as_ref());
    if let Some(i) = differs {
        panic!(
            "{what}: frame {i} of {}: {} bytes {:02x?}\ninstead of {} bytes {:02x?}",
            expected.len(),
            seen[i].len(),
            &seen[i][..seen[i].len().min(64)],
            expected[i].as_ref().len(),
            &expected[i].as_ref()[..expected[i].as_ref().len().min(64)]
        );
    }
    assert_eq!(seen.len(), expected.len(), "{what}: number of frames");
}
