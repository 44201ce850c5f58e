//! What comes in, and on which devices.

use std::fmt::Write;

use region::Side;

use crate::cable;

/// Packets in the source's array; as many as hosts where those are more, so that each appears.
const PACKETS: u32 = 65_536;
/// First address of the servers in the source.
pub(crate) const INTERNAL_V4: u32 = 0x0a00_0000;
/// Most characters of a looped capture's path and the like.
const FAR: u32 = 0x4000_0000;

/// Where packets come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Devices {
    /// Our own source: copies from an array that is read from front to end.
    Source,
    /// DPDK's `net_pcap`: one frame, 1,024 times, in a loop.
    Looped,
    /// DPDK's `net_null`: buffers whose bytes nobody has written.
    Null,
    /// DPDK's `net_af_packet` on both ends of a virtual cable, in which frames go round (see [`crate::cable`]).
    Cable,
}

/// Traffic as the source makes it; see `bench/source/source.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Traffic {
    pub(crate) devices: Devices,
    pub(crate) hosts: u32,
    pub(crate) flows: u32,
    pub(crate) fresh: bool,
    pub(crate) protocol: &'static str,
    /// Bytes on the wire, or `imix`.
    pub(crate) frame: &'static str,
    pub(crate) vlan: u16,
    pub(crate) ipv6: bool,
    /// Which sides packets come from, by [`Side`].
    pub(crate) from: [bool; 2],
    /// IPv4 addresses of the internal network: those without traffic can be locked too.
    pub(crate) addresses: u32,
    /// Workers, and queues of each device.
    pub(crate) workers: u16,
    /// Only the first queue receives.
    pub(crate) one_queue: bool,
}

/// Both sides of the wire.
pub(crate) const TWO_SIDES: [bool; 2] = [true, true];
pub(crate) const OUTSIDE_ONLY: [bool; 2] = [false, true];
pub(crate) const INSIDE_ONLY: [bool; 2] = [true, false];

/// A flow for each of 65,536 servers in random order.
pub(crate) const ORDINARY: Traffic = Traffic {
    devices: Devices::Source,
    hosts: 65_536,
    flows: 1,
    fresh: false,
    protocol: "mixed",
    frame: "64",
    vlan: 0,
    ipv6: false,
    from: TWO_SIDES,
    addresses: 65_536,
    workers: 1,
    one_queue: false,
};

/// How packets are timed: as fast as they are taken, or by the clock with a gauge of their latency.
#[derive(Clone, Debug, Default)]
pub(crate) struct Timing {
    /// Packets a second on each side; 0 for as many as are asked for.
    pub(crate) rate: u32,
    /// Files of the latencies, by [`Side`] of the device that sends; empty for none.
    pub(crate) gauges: [String; 2],
}

/// A flow of the source: what a rule for exact matches needs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flow {
    pub(crate) server: u32,
    pub(crate) external: u32,
    pub(crate) external_port: u16,
    pub(crate) protocol: u8,
}

/// Whose devices they are: programs that run at once have cables of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    Cordon,
    Peer,
}

/// Port of all servers.
pub(crate) const SERVER_PORT: u16 = 443;

impl Traffic {
    /// The `--vdev` argument of a side's device; the name ends in `index`.
    pub(crate) fn device(
        &self,
        owner: Owner,
        index: usize,
        side: Side,
        captures: &str,
        timing: &Timing,
    ) -> String {
        match self.devices {
            Devices::Looped => {
                return format!("net_pcap{index},rx_pcap={captures}/{}.pcap,infinite_rx=1", side.name());
            }
            Devices::Null => return format!("net_null{index},size=64,copy=0"),
            Devices::Cable => {
                let (end, queues) = (cable::end(owner, side), self.workers);
                return format!("net_af_packet{index},iface={end},qpairs={queues}");
            }
            Devices::Source => {}
        }
        let idle = u8::from(!self.from[side.index()]);
        let packets = self.hosts.max(PACKETS);
        let mut text = format!(
            "net_source{index},side={},idle={idle},hosts={},flows={},packets={packets},protocol={},frame={},vlan={}",
            side.name(),
            self.hosts,
            self.flows,
            self.protocol,
            self.frame,
            self.vlan
        );
        for (on, flag) in [(self.fresh, ",fresh=1"), (self.ipv6, ",ipv6=1"), (self.one_queue, ",one_queue=1")]
        {
            if on {
                text += flag;
            }
        }
        if timing.rate != 0 {
            let _ = write!(text, ",rate={}", timing.rate);
        }
        let gauge = &timing.gauges[side.index()];
        if !gauge.is_empty() {
            let _ = write!(text, ",gauge={gauge}");
        }
        text
    }

    /// Bits of the internal IPv4 prefix.
    pub(crate) fn prefix_length(&self) -> u8 {
        u8::try_from(32 - self.addresses.trailing_zeros()).unwrap_or(32)
    }

    /// The flow of each server, where it has one and keeps it: what `bench/source/frames.c` makes.
    pub(crate) fn exact_flows(&self) -> Option<impl Iterator<Item = Flow> + '_> {
        if self.fresh || self.flows != 1 || self.ipv6 || self.protocol == "syn" {
            return None;
        }
        Some((0..self.hosts).map(|host| {
            let key = u64::from(host) << 32;
            let udp =
                self.protocol == "udp" || (self.protocol == "mixed" && mixed(key + 1).is_multiple_of(4));
            let far = mixed(key);
            Flow {
                server: INTERNAL_V4 + host,
                external: FAR | u32::try_from(far >> 34).unwrap_or(0),
                external_port: 1024 + u16::try_from(far & 0x7fff).unwrap_or(0),
                protocol: if udp { 17 } else { 6 },
            }
        }))
    }
}

/// A well mixed number for each input; the same as in `bench/source/frames.c`.
fn mixed(x: u64) -> u64 {
    let x = x.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 32)).wrapping_mul(0xd134_2543_de82_ef95);
    x ^ (x >> 29)
}

/// A server's hardware address; the same as in `bench/source/frames.c`.
pub(crate) fn device_of(server: u32) -> [u8; 6] {
    let [a, b, c, d] = server.to_be_bytes();
    [2, 0, a, b, c, d]
}

/// An Ethernet frame of 60 bytes with TCP and ACK, of a flow for each server, as a side receives it.
pub(crate) fn plain_frame(side: Side, server: u32) -> Vec<u8> {
    let device = device_of(server);
    let server = (INTERNAL_V4 + server).to_be_bytes();
    let external = (FAR | 7).to_be_bytes();
    let (source, destination, ports) = match side {
        Side::Inside => (server, external, [[0x01, 0xbb], [0x80, 0]]),
        Side::Outside => (external, server, [[0x80, 0], [0x01, 0xbb]]),
    };
    let router = [2, 0xff, 0, 0, 0, 1];
    let mut frame = match side {
        Side::Inside => [router, device].concat(),
        Side::Outside => [device, router].concat(),
    };
    frame.extend([8, 0, 0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0]);
    frame.extend(source);
    frame.extend(destination);
    frame.extend(ports.concat());
    frame.extend([0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x10, 0x20, 0, 0, 0, 0, 0]);
    frame.resize(60, 0);
    frame
}

/// The looped capture of a side: one frame, 1,024 times (pcap, little endian).
pub(crate) fn looped_capture(side: Side) -> Vec<u8> {
    const FRAMES: usize = 1024;
    let frame = plain_frame(side, 0);
    let mut file = 0xa1b2_c3d4_u32.to_le_bytes().to_vec();
    file.extend([2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1, 0, 0, 0]);
    for _ in 0..FRAMES {
        file.extend([0; 8]);
        file.extend([60, 0, 0, 0, 60, 0, 0, 0]);
        file.extend(&frame);
    }
    file
}
