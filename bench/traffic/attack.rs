//! Servers that flood.

use crate::args::AttackKind;
use crate::frame::{Frame, SYN, Segment};
use crate::plan::{Attack, Path, Plan};
use crate::rng::{Rng, low16, low32};

/// One flood, from its start to the end of the capture; nobody answers it.
pub(crate) struct Flood {
    kind: AttackKind,
    path: Path,
    rng: Rng,
    at_ns: u64,
    gap_ns: u64,
    sent: u64,
    ports: (u16, u16),
}

impl Flood {
    pub(crate) fn new(plan: &Plan, attack: &Attack) -> Flood {
        Flood {
            kind: attack.kind,
            path: attack.path,
            rng: Rng::new(plan.seed, 1 << 32 | attack.number),
            at_ns: attack.start_ns,
            gap_ns: attack.gap_ns,
            sent: 0,
            ports: (0, 0),
        }
    }

    /// When the next packet is due, from the start of the capture.
    pub(crate) fn next_ns(&self) -> u64 {
        self.at_ns
    }

    /// Writes it.
    pub(crate) fn write(&mut self, frame: &mut Frame) {
        let rng = &mut self.rng;
        match self.kind {
            AttackKind::SynFlood => {
                let s = Segment {
                    source: rng.ephemeral_port(),
                    destination: 80,
                    seq: rng.u32(),
                    ack: 0,
                    flags: SYN,
                };
                frame.tcp(&self.path, true, s, 0);
            }
            AttackKind::UdpFlood => {
                let ports = (rng.ephemeral_port(), rng.between(1024, 65_535));
                frame.udp(&self.path, true, ports, 512);
            }
            AttackKind::IcmpFlood => frame.echo(&self.path, true, true, 0x4321, low16(self.sent), 56),
            AttackKind::FragmentFlood => {
                let first = self.sent.is_multiple_of(2);
                if first {
                    self.ports = (rng.ephemeral_port(), rng.between(1024, 65_535));
                }
                frame.fragment(&self.path, low32(self.sent / 2), first, self.ports);
            }
            // Plans hold none of these.
            AttackKind::None => {}
        }
        self.sent += 1;
        self.at_ns = self.at_ns.saturating_add(self.gap_ns);
    }
}
