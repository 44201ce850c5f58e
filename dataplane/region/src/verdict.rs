//! What becomes of a packet, and what it was.

/// The port of a wire on which a packet entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Side {
    /// From the servers.
    Inside = 0,
    /// From the internet.
    Outside = 1,
}

impl Side {
    /// Both sides, in the order of their indices.
    pub const ALL: [Side; 2] = [Side::Inside, Side::Outside];

    /// Index into per-side counters.
    #[inline]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The side a packet leaves on.
    #[inline]
    pub const fn opposite(self) -> Side {
        match self {
            Side::Inside => Side::Outside,
            Side::Outside => Side::Inside,
        }
    }

    /// Label in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Side::Inside => "inside",
            Side::Outside => "outside",
        }
    }
}

/// What becomes of a packet. Every packet ends in exactly one of these, and each has a counter of the same name:
/// received = `Forward` + all drops, to the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Verdict {
    /// Sent out on the other port. Packets that transmit does not take become `DropTxFull`.
    Forward = 0,
    /// From a server whose outbound direction is locked.
    DropLockedOut = 1,
    /// To a server whose inbound direction is locked.
    DropLockedIn = 2,
    /// Under an address that is not its sender's: entered outside with an internal source whose network says
    /// `antispoof = "strict"`, or inside with the source of a host that is bound to another hardware address.
    DropSpoofed = 3,
    /// The transmit queue of the other port took no more.
    DropTxFull = 4,
    /// Came from inside and does harm at once: see [`crate::segment::Guard`].
    DropGuarded = 5,
    /// From or to a hardware address that is locked.
    DropLockedMac = 6,
}

impl Verdict {
    /// How many verdicts there are.
    pub const COUNT: usize = 7;
    /// All of them, in the order of their indices.
    pub const ALL: [Verdict; Self::COUNT] = [
        Verdict::Forward,
        Verdict::DropLockedOut,
        Verdict::DropLockedIn,
        Verdict::DropSpoofed,
        Verdict::DropTxFull,
        Verdict::DropGuarded,
        Verdict::DropLockedMac,
    ];

    /// Index into counters.
    #[inline]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// Label in metrics and status.
    pub const fn name(self) -> &'static str {
        match self {
            Verdict::Forward => "forward",
            Verdict::DropLockedOut => "drop_locked_out",
            Verdict::DropLockedIn => "drop_locked_in",
            Verdict::DropSpoofed => "drop_spoofed",
            Verdict::DropTxFull => "drop_tx_full",
            Verdict::DropGuarded => "drop_guarded",
            Verdict::DropLockedMac => "drop_locked_mac",
        }
    }

    /// Whether the packet goes on.
    #[inline]
    pub const fn is_drop(self) -> bool {
        match self {
            Verdict::Forward => false,
            Verdict::DropLockedOut
            | Verdict::DropLockedIn
            | Verdict::DropSpoofed
            | Verdict::DropTxFull
            | Verdict::DropGuarded
            | Verdict::DropLockedMac => true,
        }
    }
}

/// What a frame was found to be; counted beside the verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Class {
    /// IPv4 with a header that can be trusted.
    Ipv4 = 0,
    /// IPv6 with a header that can be trusted.
    Ipv6 = 1,
    /// Address Resolution Protocol (RFC 826).
    Arp = 2,
    /// Neither IP nor ARP: forwarded unchanged.
    NonIp = 3,
    /// An IP header that cannot be trusted, or a frame too short for Ethernet: forwarded unchanged.
    Malformed = 4,
}

impl Class {
    /// How many classes there are.
    pub const COUNT: usize = 5;
    /// All of them, in the order of their indices.
    pub const ALL: [Class; Self::COUNT] =
        [Class::Ipv4, Class::Ipv6, Class::Arp, Class::NonIp, Class::Malformed];

    /// Index into counters.
    #[inline]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// Label in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Class::Ipv4 => "ipv4",
            Class::Ipv6 => "ipv6",
            Class::Arp => "arp",
            Class::NonIp => "non_ip",
            Class::Malformed => "malformed",
        }
    }
}
