//! Frames with everything right: lengths, checksums, padding.

use crate::plan::Path;
use crate::rng::{low16, scatter};

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_ARP: u16 = 0x0806;
const ETHERTYPE_VLAN: u16 = 0x8100;
const ETHERTYPE_IPV6: u16 = 0x86dd;
/// Shortest Ethernet frame without FCS.
const FRAME_MIN_BYTES: usize = 60;
/// Longest frame without FCS that this writes: 1500 bytes in a VLAN.
const FRAME_MAX_BYTES: usize = 1518;
/// All payloads are pieces of one block, whose checksums are worked out once.
const BLOCK_BYTES: usize = 4096;

const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;
const FRAGMENT: u8 = 44;

pub(crate) const FIN: u8 = 0x01;
pub(crate) const SYN: u8 = 0x02;
pub(crate) const RST: u8 = 0x04;
pub(crate) const PSH: u8 = 0x08;
pub(crate) const ACK: u8 = 0x10;

/// Payload of one fragment of a datagram cut in two: what fits in 1500 bytes, in units of 8.
const PIECE_V4: usize = 1480;
const PIECE_V6: usize = 1448;

/// A TCP segment's header.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Segment {
    pub(crate) source: u16,
    pub(crate) destination: u16,
    pub(crate) seq: u32,
    pub(crate) ack: u32,
    pub(crate) flags: u8,
}

/// Whom a frame counts for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Owner {
    pub(crate) server: u32,
    pub(crate) v6: bool,
    pub(crate) outwards: bool,
}

/// A frame under construction; reused for every packet.
pub(crate) struct Frame {
    buffer: [u8; FRAME_MAX_BYTES],
    length: usize,
    ip_id: u16,
    owner: Option<Owner>,
    block: Vec<u8>,
    /// Sums of the block's first n bytes as 16-bit words; they fit easily, and checksums fold them.
    sums: Vec<u32>,
}

impl Frame {
    pub(crate) fn new() -> Frame {
        let block: Vec<u8> = (0..BLOCK_BYTES as u64 / 8).flat_map(|i| scatter(i + 1).to_le_bytes()).collect();
        let mut sums = vec![0; BLOCK_BYTES + 1];
        for i in 0..BLOCK_BYTES {
            let byte = u32::from(block[i]);
            sums[i + 1] = sums[i] + if i % 2 == 0 { byte << 8 } else { byte };
        }
        Frame { buffer: [0; FRAME_MAX_BYTES], length: 0, ip_id: 0, owner: None, block, sums }
    }

    /// The frame, without FCS.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.buffer[..self.length]
    }

    /// The server whose packet it is; nobody's for ARP.
    pub(crate) fn owner(&self) -> Option<Owner> {
        self.owner
    }

    /// Longest TCP payload on this path.
    pub(crate) const fn mss(path: &Path) -> usize {
        if path.v6 { 1440 } else { 1460 }
    }

    pub(crate) fn tcp(&mut self, path: &Path, outwards: bool, s: Segment, payload: usize) {
        // A SYN says how large segments may be (RFC 9293 section 3.7.1).
        let options: usize = if s.flags & SYN != 0 { 4 } else { 0 };
        let header = 20 + options;
        let (at, pseudo) = self.ip(path, outwards, TCP, header + payload, None);
        let h = &mut self.buffer[at..];
        put16(h, 0, s.source);
        put16(h, 2, s.destination);
        h[4..8].copy_from_slice(&s.seq.to_be_bytes());
        h[8..12].copy_from_slice(&s.ack.to_be_bytes());
        h[12] = if options == 0 { 0x50 } else { 0x60 };
        h[13] = s.flags;
        put16(h, 14, if s.flags & RST != 0 { 0 } else { 0xfaf0 });
        put16(h, 16, 0);
        put16(h, 18, 0);
        if options != 0 {
            h[20..22].copy_from_slice(&[2, 4]);
            put16(h, 22, low16(Frame::mss(path) as u64));
        }
        self.payload(at, header, payload, 16, pseudo, false);
    }

    pub(crate) fn udp(&mut self, path: &Path, outwards: bool, ports: (u16, u16), payload: usize) {
        let (at, pseudo) = self.ip(path, outwards, UDP, 8 + payload, None);
        self.udp_header(at, ports, payload);
        self.payload(at, 8, payload, 6, pseudo, true);
    }

    /// A datagram with a payload of its own.
    pub(crate) fn udp_message(&mut self, path: &Path, outwards: bool, ports: (u16, u16), message: &[u8]) {
        let (at, pseudo) = self.ip(path, outwards, UDP, 8 + message.len(), None);
        self.udp_header(at, ports, message.len());
        let end = at + 8 + message.len();
        self.buffer[at + 8..end].copy_from_slice(message);
        let checksum = fold(pseudo + sum(&self.buffer[at..end]));
        put16(&mut self.buffer[at..], 6, not_zero(checksum));
        self.close(end);
    }

    /// Echo request or reply.
    pub(crate) fn echo(
        &mut self,
        path: &Path,
        outwards: bool,
        request: bool,
        id: u16,
        seq: u16,
        payload: usize,
    ) {
        let (protocol, kind) = match (path.v6, request) {
            (false, true) => (ICMP, 8),
            (false, false) => (ICMP, 0),
            (true, true) => (ICMPV6, 128),
            (true, false) => (ICMPV6, 129),
        };
        let (at, pseudo) = self.ip(path, outwards, protocol, 8 + payload, None);
        let h = &mut self.buffer[at..];
        h[..4].copy_from_slice(&[kind, 0, 0, 0]);
        put16(h, 4, id);
        put16(h, 6, seq);
        // The pseudo header is part of ICMPv6's checksum only (RFC 4443 section 2.3).
        self.payload(at, 8, payload, 2, if path.v6 { pseudo } else { 0 }, false);
    }

    /// One half of a UDP datagram that fills two packets.
    pub(crate) fn fragment(&mut self, path: &Path, id: u32, first: bool, ports: (u16, u16)) {
        let piece = if path.v6 { PIECE_V6 } else { PIECE_V4 };
        let payload = 2 * piece - 8;
        let offset = if first { 0 } else { low16(piece as u64 / 8) };
        let (at, pseudo) = self.ip(path, true, UDP, piece, Some((id, offset, first)));
        if first {
            self.udp_header(at, ports, payload);
            let sum = pseudo_of(pseudo, 2 * piece, piece)
                + sum(&self.buffer[at..at + 8])
                + u64::from(self.sums[payload]);
            put16(&mut self.buffer[at..], 6, not_zero(fold(sum)));
            self.buffer[at + 8..at + piece].copy_from_slice(&self.block[..piece - 8]);
        } else {
            self.buffer[at..at + piece].copy_from_slice(&self.block[piece - 8..payload]);
        }
        self.close(at + piece);
    }

    /// The gateway asks for a server's MAC, or the server answers.
    pub(crate) fn arp(&mut self, path: &Path, gateway: u32, reply: bool) {
        self.owner = None;
        let at = self.ethernet(path, reply, ETHERTYPE_ARP);
        let (server, router) = (mac(path.server), GATEWAY_MAC);
        let local = low32(path.local);
        let h = &mut self.buffer[at..at + 28];
        h[..8].copy_from_slice(&[0, 1, 8, 0, 6, 4, 0, if reply { 2 } else { 1 }]);
        let (sender, target) =
            if reply { ((server, local), (router, gateway)) } else { ((router, gateway), ([0; 6], local)) };
        for (i, (mac, ip)) in [sender, target].into_iter().enumerate() {
            h[8 + 10 * i..14 + 10 * i].copy_from_slice(&mac);
            h[14 + 10 * i..18 + 10 * i].copy_from_slice(&ip.to_be_bytes());
        }
        if !reply {
            self.buffer[..6].fill(0xff);
        }
        self.close(at + 28);
    }

    /// Ethernet and VLAN headers; returns where the next begins.
    fn ethernet(&mut self, path: &Path, outwards: bool, ethertype: u16) -> usize {
        let (server, router) = (mac(path.server), GATEWAY_MAC);
        let (to, from) = if outwards { (router, server) } else { (server, router) };
        self.buffer[..6].copy_from_slice(&to);
        self.buffer[6..12].copy_from_slice(&from);
        let Some(vlan) = path.vlan else {
            put16(&mut self.buffer, 12, ethertype);
            return 14;
        };
        put16(&mut self.buffer, 12, ETHERTYPE_VLAN);
        put16(&mut self.buffer, 14, vlan);
        put16(&mut self.buffer, 16, ethertype);
        18
    }

    /// Headers down to IP, for `length` bytes of a transport protocol, or a fragment (id, offset in units of 8 bytes,
    /// more). Returns where the transport header begins, and the sum of the pseudo header.
    fn ip(
        &mut self,
        path: &Path,
        outwards: bool,
        protocol: u8,
        length: usize,
        fragment: Option<(u32, u16, bool)>,
    ) -> (usize, u64) {
        self.owner = Some(Owner { server: path.server, v6: path.v6, outwards });
        let (from, to) = if outwards { (path.local, path.remote) } else { (path.remote, path.local) };
        // Servers send with 64; what arrives has passed some routers.
        let hops = if outwards { 64 } else { 44 + path.remote.to_le_bytes()[0] % 12 };
        let ethertype = if path.v6 { ETHERTYPE_IPV6 } else { ETHERTYPE_IPV4 };
        let at = self.ethernet(path, outwards, ethertype);
        let h = &mut self.buffer[at..];
        if path.v6 {
            let extension = if fragment.is_some() { 8 } else { 0 };
            h[..4].copy_from_slice(&[0x60, 0, 0, 0]);
            put16(h, 4, low16((length + extension) as u64));
            h[6] = if fragment.is_some() { FRAGMENT } else { protocol };
            h[7] = hops;
            h[8..24].copy_from_slice(&from.to_be_bytes());
            h[24..40].copy_from_slice(&to.to_be_bytes());
            let pseudo = sum(&h[8..40]) + u64::from(protocol) + length as u64;
            if let Some((id, offset, more)) = fragment {
                h[40..42].copy_from_slice(&[protocol, 0]);
                put16(h, 42, offset << 3 | u16::from(more));
                h[44..48].copy_from_slice(&id.to_be_bytes());
            }
            return (at + 40 + extension, pseudo);
        }
        let (id, field) = match fragment {
            Some((id, offset, more)) => (low16(u64::from(id)), offset | u16::from(more) << 13),
            None => {
                self.ip_id = self.ip_id.wrapping_add(1);
                (self.ip_id, 0x4000)
            }
        };
        h[..2].copy_from_slice(&[0x45, 0]);
        put16(h, 2, low16(20 + length as u64));
        put16(h, 4, id);
        put16(h, 6, field);
        h[8..12].copy_from_slice(&[hops, protocol, 0, 0]);
        h[12..16].copy_from_slice(&low32(from).to_be_bytes());
        h[16..20].copy_from_slice(&low32(to).to_be_bytes());
        let pseudo = sum(&h[12..20]) + u64::from(protocol) + length as u64;
        let checksum = fold(sum(&h[..20]));
        put16(h, 10, checksum);
        (at + 20, pseudo)
    }

    fn udp_header(&mut self, at: usize, (source, destination): (u16, u16), payload: usize) {
        let h = &mut self.buffer[at..];
        put16(h, 0, source);
        put16(h, 2, destination);
        put16(h, 4, low16(8 + payload as u64));
        put16(h, 6, 0);
    }

    /// Payload and checksum behind a header, whose checksum field (at `field`, now 0) is filled in.
    fn payload(&mut self, at: usize, header: usize, payload: usize, field: usize, pseudo: u64, udp: bool) {
        let sum = pseudo + sum(&self.buffer[at..at + header]) + u64::from(self.sums[payload]);
        let checksum = fold(sum);
        put16(&mut self.buffer[at..], field, if udp { not_zero(checksum) } else { checksum });
        let from = at + header;
        self.buffer[from..from + payload].copy_from_slice(&self.block[..payload]);
        self.close(from + payload);
    }

    fn close(&mut self, end: usize) {
        self.length = end.max(FRAME_MIN_BYTES);
        self.buffer[end..self.length].fill(0);
    }
}

const GATEWAY_MAC: [u8; 6] = [0x02, 0xff, 0, 0, 0, 0x01];

/// A server's MAC, locally administered.
fn mac(server: u32) -> [u8; 6] {
    let [a, b, c, d] = server.to_be_bytes();
    [0x02, 0x00, a, b, c, d]
}

fn low32(a: u128) -> u32 {
    let b = a.to_le_bytes();
    u32::from_le_bytes([b[0], b[1], b[2], b[3]])
}

fn put16(h: &mut [u8], at: usize, value: u16) {
    h[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

/// Sum of 16-bit words; an odd byte at the end counts as if a zero followed.
fn sum(bytes: &[u8]) -> u64 {
    let (words, odd) = bytes.as_chunks::<2>();
    let last = odd.first().map_or(0, |b| u64::from(*b) << 8);
    words.iter().map(|w| u64::from(u16::from_be_bytes(*w))).sum::<u64>() + last
}

/// The pseudo header names the length of the whole datagram, not of this piece.
fn pseudo_of(pseudo: u64, whole: usize, piece: usize) -> u64 {
    pseudo + whole as u64 - piece as u64
}

/// The Internet checksum (RFC 1071).
fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !low16(sum)
}

/// In UDP a checksum of 0 means none; its other form says the same (RFC 768).
fn not_zero(checksum: u16) -> u16 {
    if checksum == 0 { 0xffff } else { checksum }
}
