//! Exact flows, and which of them open a contact.

use std::net::IpAddr;

use super::space::{is_client_port, is_service, is_traceroute};

/// TCP.
pub const TCP: u8 = 6;
/// UDP.
pub const UDP: u8 = 17;
/// ICMP.
pub const ICMP: u8 = 1;
/// ICMPv6.
pub const ICMPV6: u8 = 58;

/// Names a row of the flow table within a watch generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FlowId(pub u64);

/// What the first packet of a flow was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Opener {
    /// In the midst of a connection, or unknown.
    None,
    /// The remote came first.
    RemoteFirst,
    /// The host only reacted: SYN-ACK, RST, an ICMP error or reply.
    Reaction,
    /// SYN without ACK.
    Syn,
    /// FIN alone: no TCP sends it, all set ACK beside it (RFC 9293, section 3.10).
    Fin,
    /// No flag at all.
    Null,
    /// FIN, PSH and URG without ACK.
    Xmas,
    /// ACK alone, without payload.
    Ack,
    /// A UDP datagram.
    Udp,
    /// A request: echo, timestamp, information or address mask (RFC 792, RFC 950); echo of ICMPv6 (RFC 4443).
    IcmpRequest,
    /// Another protocol.
    OtherProtocol,
    /// A later fragment, which shows no ports.
    Fragment,
}

impl Opener {
    /// Its name in incidents.
    pub const fn name(self) -> &'static str {
        match self {
            Opener::None => "none",
            Opener::RemoteFirst => "remote-first",
            Opener::Reaction => "reaction",
            Opener::Syn => "syn",
            Opener::Fin => "fin",
            Opener::Null => "null",
            Opener::Xmas => "xmas",
            Opener::Ack => "ack",
            Opener::Udp => "udp",
            Opener::IcmpRequest => "icmp",
            Opener::OtherProtocol => "ip-protocol",
            Opener::Fragment => "fragment",
        }
    }
}

/// How the remote, or a router, refused a flow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Refused {
    /// It did not.
    #[default]
    No,
    /// With RST.
    Rst,
    /// With ICMP destination unreachable.
    Unreachable,
    /// ICMP time exceeded: neither an answer nor a failure, a traceroute is no scan.
    TimeExceeded,
}

/// One row of the exact flow table. Times are of one monotonic clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// The other side.
    pub remote: IpAddr,
    /// IP protocol number.
    pub protocol: u8,
    /// Port of the watched host; 0 where there is none.
    pub local_port: u16,
    /// Port of the other side. ICMP: the type of the request.
    pub remote_port: u16,
    /// First packet, ns.
    pub first_ns: u64,
    /// Last packet, ns.
    pub last_ns: u64,
    /// Packets the host sent.
    pub out_packets: u64,
    /// Bytes the host sent: frame lengths without FCS.
    pub out_bytes: u64,
    /// Packets it received.
    pub in_packets: u64,
    /// Bytes it received.
    pub in_bytes: u64,
    /// What the first packet was.
    pub opener: Opener,
    /// Whether SYN-ACK, a UDP or ICMP reply, or any packet but RST came back.
    pub answered: bool,
    /// Whether it was refused.
    pub refused: Refused,
    /// Length of the first frame without FCS, bytes.
    pub first_frame_len: u32,
}

impl Flow {
    /// Whether the host opened a contact with it.
    ///
    /// - SYN, and bare FIN, NULL and XMAS, which no ordinary TCP sends, always;
    /// - empty ACKs only towards a service port: towards a client's they end or keep up what the client began. (That
    ///   the host accepts no connections on the port it comes from is checked when the contact is decided.)
    /// - UDP, but not what can only be a server's reply whose question came before the watch or by another way: from a
    ///   service port to a port that offers none; and not the ports of traceroute;
    /// - requests of ICMP, and other protocols.
    pub fn opens_contact(&self) -> bool {
        match self.opener {
            Opener::None | Opener::RemoteFirst | Opener::Reaction | Opener::Fragment => false,
            Opener::Syn | Opener::Fin | Opener::Null | Opener::Xmas => true,
            Opener::Ack => is_service(TCP, self.remote_port),
            Opener::Udp => {
                let replies = is_service(UDP, self.local_port) && is_client_port(UDP, self.remote_port);
                !replies && !is_traceroute(self.remote_port)
            }
            Opener::IcmpRequest | Opener::OtherProtocol => true,
        }
    }

    /// Whether the host seems to accept TCP connections on the local port of this flow.
    pub fn shows_listener(&self) -> bool {
        self.protocol == TCP
            && self.opener == Opener::RemoteFirst
            && self.out_packets > 0
            && self.in_packets > 1
    }
}
