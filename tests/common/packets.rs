//! Frames and captures with times, made without any of Cordon's code.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::net::{Ipv4Addr, SocketAddrV4, SocketAddrV6};
use std::path::Path;

/// Nanoseconds of a second.
pub(crate) const SECOND: u64 = 1_000_000_000;
/// Nanoseconds of a millisecond.
pub(crate) const MS: u64 = 1_000_000;
/// 13 November 2013, 18:14:27 UTC: when captures begin.
pub(crate) const BEGIN_S: u64 = 1_384_366_467;

pub(crate) const SYN: u8 = 0x02;
pub(crate) const RST_ACK: u8 = 0x14;
pub(crate) const SYN_ACK: u8 = 0x12;
pub(crate) const ACK: u8 = 0x10;

/// libpcap's magic number of files with nanoseconds.
const MAGIC_NS: u32 = 0xa1b2_3c4d;
const ETHERNET_BYTES: usize = 14;
const MIN_BYTES: usize = 60;

/// An address with a port.
pub(crate) fn at(address: Ipv4Addr, port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(address, port)
}

/// The n-th address from one on.
pub(crate) fn nth(first: Ipv4Addr, n: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(first).wrapping_add(n))
}

fn sum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|c| u32::from(c[0]) << 8 | c.get(1).copied().map_or(0, u32::from));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap()
}

fn ip(from: Ipv4Addr, to: Ipv4Addr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut f = vec![0; ETHERNET_BYTES + 20];
    f[..12].copy_from_slice(&[2, 0, 0, 0x77, 0, 1, 2, 0, 0, 0x77, 0, 2]);
    f[12..14].copy_from_slice(&[8, 0]);
    let h = &mut f[ETHERNET_BYTES..];
    h[0] = 0x45;
    h[2..4].copy_from_slice(&u16::try_from(20 + payload.len()).unwrap().to_be_bytes());
    h[8] = 64;
    h[9] = protocol;
    h[12..16].copy_from_slice(&from.octets());
    h[16..20].copy_from_slice(&to.octets());
    let checksum = sum(h);
    h[10..12].copy_from_slice(&checksum.to_be_bytes());
    f.extend_from_slice(payload);
    f.resize(f.len().max(MIN_BYTES), 0);
    f
}

fn ports(from: SocketAddrV4, to: SocketAddrV4) -> Vec<u8> {
    [from.port().to_be_bytes(), to.port().to_be_bytes()].concat()
}

/// A TCP header between these addresses.
fn segment(from: &[u8], to: &[u8], ports: [u16; 2], flags: u8) -> Vec<u8> {
    let ports = ports.map(u16::to_be_bytes).concat();
    let mut segment = [&ports[..], &[0, 0, 0, 1, 0, 0, 0, 0, 0x50, flags, 0xfa, 0xf0, 0, 0, 0, 0]].concat();
    let length = [0, 6, 0, 20];
    let checksum = sum(&[from, to, &length, &segment].concat());
    segment[16..18].copy_from_slice(&checksum.to_be_bytes());
    segment
}

/// A TCP segment without payload.
pub(crate) fn tcp(from: SocketAddrV4, to: SocketAddrV4, flags: u8) -> Vec<u8> {
    let (source, destination) = (from.ip().octets(), to.ip().octets());
    ip(*from.ip(), *to.ip(), 6, &segment(&source, &destination, [from.port(), to.port()], flags))
}

/// A datagram.
pub(crate) fn udp(from: SocketAddrV4, to: SocketAddrV4, payload: usize) -> Vec<u8> {
    let length = u16::try_from(8 + payload).unwrap().to_be_bytes();
    let rest = [&length[..], &[0, 0], &vec![0x55; payload]].concat();
    ip(*from.ip(), *to.ip(), 17, &[ports(from, to), rest].concat())
}

/// A TCP segment of IPv6 without payload.
pub(crate) fn tcp6(from: SocketAddrV6, to: SocketAddrV6, flags: u8) -> Vec<u8> {
    let (source, destination) = (from.ip().octets(), to.ip().octets());
    let segment = segment(&source, &destination, [from.port(), to.port()], flags);
    let mut f = vec![2, 0, 0, 0x77, 0, 1, 2, 0, 0, 0x77, 0, 2, 0x86, 0xdd, 0x60, 0, 0, 0];
    f.extend_from_slice(&u16::try_from(segment.len()).unwrap().to_be_bytes());
    f.extend_from_slice(&[6, 64]);
    f.extend_from_slice(&from.ip().octets());
    f.extend_from_slice(&to.ip().octets());
    f.extend_from_slice(&segment);
    f
}

/// A frame's IPv4 packet in fragments of so many bytes of payload, a multiple of eight.
pub(crate) fn fragments(frame: &[u8], bytes: usize) -> Vec<Vec<u8>> {
    let header = &frame[..ETHERNET_BYTES + 20];
    let total = usize::from(u16::from_be_bytes([frame[ETHERNET_BYTES + 2], frame[ETHERNET_BYTES + 3]]));
    let pieces: Vec<&[u8]> = frame[ETHERNET_BYTES + 20..ETHERNET_BYTES + total].chunks(bytes).collect();
    let last = pieces.len() - 1;
    let fragment = |(i, piece): (usize, &&[u8])| {
        let mut f = [header, piece].concat();
        let more = if i < last { 0x2000 } else { 0 };
        let h = &mut f[ETHERNET_BYTES..];
        h[2..4].copy_from_slice(&u16::try_from(20 + piece.len()).unwrap().to_be_bytes());
        h[6..8].copy_from_slice(&(more | u16::try_from(i * bytes / 8).unwrap()).to_be_bytes());
        f.resize(f.len().max(MIN_BYTES), 0);
        f
    };
    pieces.iter().enumerate().map(fragment).collect()
}

/// Echo request (8) or reply (0).
pub(crate) fn echo(from: Ipv4Addr, to: Ipv4Addr, kind: u8, sequence: u16) -> Vec<u8> {
    let mut message = [&[kind, 0, 0, 0, 0x12, 0x34][..], &sequence.to_be_bytes(), &[0x55; 32]].concat();
    let checksum = sum(&message);
    message[2..4].copy_from_slice(&checksum.to_be_bytes());
    ip(from, to, 1, &message)
}

/// ICMP port unreachable that quotes a frame.
pub(crate) fn unreachable(from: Ipv4Addr, to: Ipv4Addr, quoted: &[u8]) -> Vec<u8> {
    let quoted = &quoted[ETHERNET_BYTES..ETHERNET_BYTES + 28];
    ip(from, to, 1, &[&[3, 3, 0, 0, 0, 0, 0, 0], quoted].concat())
}

/// A capture in the making.
#[derive(Default)]
pub(crate) struct Recording {
    frames: Vec<(u64, Vec<u8>)>,
}

impl Recording {
    /// Adds a frame so many nanoseconds after the beginning.
    pub(crate) fn add(&mut self, at_ns: u64, frame: Vec<u8>) {
        self.frames.push((at_ns, frame));
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.frames.len()
    }

    /// Answered connections to a service: what says that answers can be seen. One each `every_ns`, until `end_ns`.
    pub(crate) fn ordinary(&mut self, server: Ipv4Addr, remote: Ipv4Addr, every_ns: u64, end_ns: u64) {
        for i in 0..end_ns / every_ns {
            let (t, port) = (i * every_ns, 20_000 + u16::try_from(i % 40_000).unwrap());
            self.add(t, tcp(at(server, port), at(remote, 443), SYN));
            self.add(t + MS, tcp(at(remote, 443), at(server, port), SYN_ACK));
            self.add(t + 2 * MS, tcp(at(server, port), at(remote, 443), ACK));
        }
    }

    /// Writes it, in order of time.
    pub(crate) fn write(mut self, path: &Path) {
        self.frames.sort_by_key(|(t, _)| *t);
        let mut file = BufWriter::new(File::create(path).unwrap());
        for word in [MAGIC_NS, 2 | 4 << 16, 0, 0, 65_535, 1] {
            file.write_all(&word.to_le_bytes()).unwrap();
        }
        for (t, frame) in &self.frames {
            let length = u32::try_from(frame.len()).unwrap();
            let (s, ns) = (BEGIN_S + t / SECOND, t % SECOND);
            for word in [u32::try_from(s).unwrap(), u32::try_from(ns).unwrap(), length, length] {
                file.write_all(&word.to_le_bytes()).unwrap();
            }
            file.write_all(frame).unwrap();
        }
        file.flush().unwrap();
    }
}
