//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use ipnet::Ipv4Net;

const AFTER: &str = "\
Ordinary load: TCP, UDP (DNS, QUIC-like), ICMP echo, ARP, in both directions and answered; one packet in ten is IPv6,
one server in sixteen is behind a VLAN tag; servers and clients are popular by Zipf's law. Clients are in 100.64.0.0/10,
services in 203.0.113.0/24, IPv6 servers in a /64 each of 2001:db8:1::/48 (and what follows).

With --frames it writes a plain mix for benches instead: no handshakes, half of it outwards, servers at consecutive
addresses.

Beside OUT.pcap stands OUT.pcap.truth.json: packets and bytes of every server, and who attacked whom, and when.
Play it:  cordond replay OUT.pcap --internal 198.51.100.0/24 --out DIR";

/// Writes a capture of ordinary hosting load with attacks in it; the same options always give the same bytes.
#[derive(Debug, Parser)]
#[command(name = "cordon-traffic", version, after_help = AFTER, max_term_width = 100)]
pub(crate) struct Arguments {
    /// The file to write, pcap with nanoseconds
    #[arg(value_name = "OUT.pcap")]
    pub(crate) out: PathBuf,
    /// Length of the capture
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(crate) seconds: u64,
    /// Packets a second of ordinary load, or of the mix
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    pub(crate) pps: u64,
    /// Number of servers
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=8_000_000))]
    pub(crate) hosts: u32,
    /// Another seed gives another capture of the same kind
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// A server floods a remote address, which does not answer, until the end (repeatable: each from another server,
    /// a second after the one before) [default: syn-flood]
    #[arg(long, value_enum, value_name = "KIND")]
    pub(crate) attack: Vec<AttackKind>,
    /// When the first attack begins
    #[arg(long, default_value = "5s", value_name = "TIME", value_parser = humantime::parse_duration)]
    pub(crate) attack_at: Duration,
    /// Packets a second of each attack
    #[arg(long, default_value_t = 12_000, value_name = "PPS", value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    pub(crate) attack_pps: u64,
    /// Where the servers' addresses begin; more servers than fit in a /24 go on in the next
    #[arg(long, default_value = "198.51.100.0/24", value_name = "PREFIX")]
    pub(crate) internal: Ipv4Net,
    /// Attacks, or the mix, in IPv6
    #[arg(long)]
    pub(crate) ipv6: bool,
    /// A plain mix for benches: frames of imix (7 of 64, 4 of 594, 1 of 1514 bytes) or of this many bytes, without FCS
    #[arg(long, value_name = "imix|BYTES", conflicts_with_all = ["attack", "seconds"])]
    pub(crate) frames: Option<Frames>,
    /// Flows of the mix: 1 to as many as packets
    #[arg(long, default_value_t = 65_536, requires = "frames", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) flows: u64,
    /// Packets of the mix
    #[arg(long, default_value_t = 1_000_000, requires = "frames")]
    pub(crate) packets: u64,
}

/// What a server does to a remote address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum AttackKind {
    /// SYNs to one port, from many
    SynFlood,
    /// Datagrams to many ports
    UdpFlood,
    /// Echo requests
    IcmpFlood,
    /// Datagrams of two fragments
    FragmentFlood,
    /// Nothing
    None,
}

impl AttackKind {
    /// The name on the command line.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            AttackKind::SynFlood => "syn-flood",
            AttackKind::UdpFlood => "udp-flood",
            AttackKind::IcmpFlood => "icmp-flood",
            AttackKind::FragmentFlood => "fragment-flood",
            AttackKind::None => "none",
        }
    }
}

/// Sizes of the mix's frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Frames {
    /// 7 of 64, 4 of 594 and 1 of 1514 bytes.
    Imix,
    /// All of one size, bytes.
    Fixed(u16),
}

impl std::str::FromStr for Frames {
    type Err = String;

    fn from_str(text: &str) -> Result<Frames, String> {
        if text == "imix" {
            return Ok(Frames::Imix);
        }
        match text.parse() {
            Ok(bytes) if (64..=1514).contains(&bytes) => Ok(Frames::Fixed(bytes)),
            _ => Err("either imix or a number of bytes from 64 to 1514".into()),
        }
    }
}
