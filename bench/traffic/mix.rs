//! The plain mix for benches: flows that are already there, half of the packets outwards.

use std::io;

use crate::Sink;
use crate::args::Frames;
use crate::frame::{ACK, Frame, Segment};
use crate::plan::Plan;
use crate::rng::{Rng, low16, low32, scatter};

/// Seven small, four middle, one large, in an order that does not bunch them.
const IMIX: [u16; 12] = [64, 594, 64, 64, 594, 64, 1514, 64, 594, 64, 594, 64];

pub(crate) fn write(plan: &Plan, sink: &mut Sink) -> io::Result<()> {
    let Some(mix) = plan.mix else { return Ok(()) };
    let mut rng = Rng::new(plan.seed, 0);
    let mut frame = Frame::new();
    for n in 0..mix.packets {
        // Every flow has its turn once before chance takes over, so that there are as many as were asked for.
        let flow = if n < mix.flows { n } else { rng.below_u64(mix.flows) };
        let s = scatter(flow ^ plan.seed.rotate_left(32));
        let server = low32(flow % u64::from(plan.hosts));
        let path = plan.path(server, plan.ipv6, Plan::client(flow, plan.ipv6));
        let outwards = n % 2 == 0;
        let (here, there) = (low16(s) | 1024, low16(s >> 16) | 1024);
        let (source, destination) = if outwards { (here, there) } else { (there, here) };
        let bytes = match mix.frames {
            Frames::Imix => IMIX[usize::from(low16(n % 12))],
            Frames::Fixed(bytes) => bytes,
        };
        let headers = 14 + if plan.ipv6 { 40 } else { 20 };
        // Two thirds TCP; an established connection's segments open no contact.
        if s >> 32 & 3 != 0 && usize::from(bytes) >= headers + 20 {
            let segment = Segment { source, destination, seq: low32(n), ack: low32(s), flags: ACK };
            frame.tcp(&path, outwards, segment, usize::from(bytes) - headers - 20);
        } else {
            frame.udp(&path, outwards, (source, destination), usize::from(bytes) - headers - 8);
        }
        sink.put(n * plan.gap_ns, None, &frame)?;
    }
    Ok(())
}
