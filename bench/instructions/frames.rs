//! The packets: 60 bytes without FCS, one behind the other.

use pipeline::{BURST, Frame};
use region::Side;

use crate::cases::{Case, From, MAC, Payload, SERVERS, SERVERS_V6};

/// A frame of 64 bytes without its FCS; longer where the headers are.
const FRAME: usize = 60;
/// The longest: Ethernet, IPv6, TCP.
const STRIDE: usize = 80;

const TCP: u8 = 6;
const UDP: u8 = 17;

/// A well mixed number for each input: Fibonacci hashing with two rounds of xor and multiply.
fn mixed(x: u64) -> u64 {
    let x = x.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 32)).wrapping_mul(0xd134_2543_de82_ef95);
    x ^ (x >> 29)
}

fn side(case: &Case, packet: u32) -> Side {
    match case.from {
        From::Inside => Side::Inside,
        From::Outside => Side::Outside,
        // Every server speaks in one half of the packets, and is spoken to in the other.
        From::Both if (packet as usize / BURST).is_multiple_of(2) == (packet < case.packets() / 2) => {
            Side::Inside
        }
        From::Both => Side::Outside,
    }
}

fn length(case: &Case) -> usize {
    let headers = 14 + if case.vlan { 4 } else { 0 } + if case.ipv6 { 40 } else { 20 } + 20;
    headers.max(FRAME)
}

/// All packets' bytes.
pub(crate) fn all(case: &Case) -> Vec<u8> {
    let mut bytes = vec![0; case.packets() as usize * STRIDE];
    for (i, f) in (0..case.packets()).zip(bytes.chunks_exact_mut(STRIDE)) {
        // An odd factor visits every server once, in an order that no prefetcher foresees.
        let host = i.wrapping_mul(40_503) % case.hosts;
        let flow = mixed(u64::from(if case.fresh { i } else { host }) + 1);
        write(case, side(case, i), host, flow, f);
    }
    bytes
}

#[expect(clippy::cast_possible_truncation, reason = "parts of a random number, and lengths of a short frame")]
fn write(case: &Case, side: Side, host: u32, flow: u64, f: &mut [u8]) {
    let udp = case.payload == Payload::Udp || (case.payload == Payload::Mixed && flow.is_multiple_of(4));
    let ip = if case.vlan { 18 } else { 14 };
    f[6..12].copy_from_slice(&MAC.0);
    if case.vlan {
        f[12..16].copy_from_slice(&[0x81, 0, 0, 7]);
    }
    let outside = side == Side::Outside;
    let protocol = if udp { UDP } else { TCP };
    let l4 = if case.ipv6 {
        f[ip - 2..ip].copy_from_slice(&[0x86, 0xdd]);
        f[ip] = 0x60;
        f[ip + 5] = (length(case) - ip - 40) as u8;
        f[ip + 6] = protocol;
        let server = (SERVERS_V6 | u128::from(host) << 64 | 1).to_be_bytes();
        let external = ((0x3fff << 112) | u128::from(flow)).to_be_bytes();
        let (source, destination) = if outside { (external, server) } else { (server, external) };
        f[ip + 8..ip + 24].copy_from_slice(&source);
        f[ip + 24..ip + 40].copy_from_slice(&destination);
        ip + 40
    } else {
        f[ip - 2..ip].copy_from_slice(&[8, 0]);
        f[ip] = 0x45;
        f[ip + 3] = if udp { 28 } else { 40 };
        f[ip + 9] = protocol;
        let server = (SERVERS + host).to_be_bytes();
        // 64.0.0.0/2: never a server's address.
        let external = (0x4000_0000 | (flow >> 34) as u32).to_be_bytes();
        let (source, destination) = if outside { (external, server) } else { (server, external) };
        f[ip + 12..ip + 16].copy_from_slice(&source);
        f[ip + 16..ip + 20].copy_from_slice(&destination);
        ip + 20
    };
    let (service, client) = (443u16.to_be_bytes(), (1024 + (flow as u16 & 0x7fff)).to_be_bytes());
    let (source, destination) = if outside { (client, service) } else { (service, client) };
    f[l4..l4 + 2].copy_from_slice(&source);
    f[l4 + 2..l4 + 4].copy_from_slice(&destination);
    if udp {
        f[l4 + 5] = 8;
    } else {
        f[l4 + 12] = 0x50;
        f[l4 + 13] = if case.payload == Payload::Syn { 0x02 } else { 0x10 };
    }
}

/// [`BURST`].
pub(crate) const BURST_U32: u32 = 32;
const _: () = assert!(BURST_U32 as usize == BURST);

/// A burst as a worker receives it, from one side; there are `packets / BURST_U32` of a case.
pub(crate) fn burst<'a>(case: &Case, bytes: &'a [u8], number: u32) -> [Frame<'a>; BURST] {
    let length = length(case);
    std::array::from_fn(|i| {
        let packet = number * BURST_U32 + u32::try_from(i).unwrap_or(0);
        let at = packet as usize * STRIDE;
        Frame {
            bytes: &bytes[at..at + length],
            length: u32::try_from(length).unwrap_or(0),
            side: side(case, packet),
            time: u64::from(packet),
            segment: case.segment,
        }
    })
}
