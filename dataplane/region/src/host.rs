//! Hosts: their ids, flags and counter lines.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use crate::map::shared_struct;

/// Dense number of an internal host. IPv4 addresses come first (block base + offset), IPv6 hosts behind them (slot).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostId(pub u32);

impl HostId {
    /// Index into tables by host.
    #[inline]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// Direction as the host sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Dir {
    /// The host is the source.
    Out = 0,
    /// The host is the destination.
    In = 1,
}

impl Dir {
    /// Both directions, in the order of their indices.
    pub const ALL: [Dir; 2] = [Dir::Out, Dir::In];

    /// The other one.
    pub const fn opposite(self) -> Dir {
        match self {
            Dir::Out => Dir::In,
            Dir::In => Dir::Out,
        }
    }
}

/// A host's byte in the policy's flag table, read for every packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct HostFlags(pub u8);

impl HostFlags {
    /// Packets from the host are dropped.
    pub const LOCK_OUT: u8 = 1;
    /// Packets to the host are dropped.
    pub const LOCK_IN: u8 = 2;
    /// Control wants this host's packets and flows in detail.
    pub const WATCH: u8 = 4;
    /// A locked host with exceptions: the remote address decides.
    pub const EXCEPT: u8 = 8;
    /// Control has taken charge of this IPv6 host; until then its locks are looked up by address.
    pub const KNOWN: u8 = 16;
    /// `antispoof = "strict"`: packets that enter outside with this source are dropped.
    pub const STRICT: u8 = 32;

    /// Whether any bit of `bits` is set.
    #[inline]
    pub const fn has(self, bits: u8) -> bool {
        self.0 & bits != 0
    }

    /// The bit that locks a direction.
    #[inline]
    pub const fn lock(dir: Dir) -> u8 {
        match dir {
            Dir::Out => Self::LOCK_OUT,
            Dir::In => Self::LOCK_IN,
        }
    }
}

/// What one packet adds to a host line beside its packet and its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Traits(pub u16);

impl Traits {
    /// IP protocol 6.
    pub const TCP: u16 = 1;
    /// IP protocol 17.
    pub const UDP: u16 = 1 << 1;
    /// IP protocol 1, or 58 over IPv6.
    pub const ICMP: u16 = 1 << 2;
    /// TCP with SYN and without ACK.
    pub const SYN: u16 = 1 << 3;
    /// More-fragments set, or offset above 0.
    pub const FRAGMENT: u16 = 1 << 4;
    /// TCP with SYN and ACK.
    pub const SYN_ACK: u16 = 1 << 5;
    /// TCP that only answers: SYN-ACK or RST.
    pub const REACTION_TCP: u16 = 1 << 6;
    /// ICMP that only answers: errors and replies.
    pub const REACTION_ICMP: u16 = 1 << 7;
    /// A frame of at most [`SMALL_FRAME_BYTES`].
    pub const SMALL: u16 = 1 << 8;
    /// May open a contact, as the source sees it: TCP with SYN, or without any flag that answers; UDP; ICMP that asks.
    pub const CONTACT: u16 = 1 << 9;
    /// Answers or comes first, as the destination sees it: SYN, SYN-ACK, UDP, ICMP that asks or replies.
    pub const PEER: u16 = 1 << 10;
    /// What a [`RareLine`] counts of a packet.
    pub const RARE: u16 =
        Self::ICMP | Self::SYN | Self::FRAGMENT | Self::SYN_ACK | Self::REACTION_TCP | Self::REACTION_ICMP;

    /// Whether any bit of `bits` is set.
    #[inline]
    pub const fn has(self, bits: u16) -> bool {
        self.0 & bits != 0
    }
}

/// The largest frame that counts as small, in bytes without FCS.
pub const SMALL_FRAME_BYTES: u32 = 128;

// What nearly every packet counts and what few do are kept apart, so that a host's both directions share a line: most
// hosts that move do so in both, and lines that come from memory are what a packet waits for.
//
// Every field is written by this worker, once a packet, with relaxed stores; read by control, which takes differences and
// never resets. The 32-bit counters wrap; each is at most `packets`, so a difference is exact as long as fewer than 2^32
// packets came between two readings.

shared_struct! {
    /// One direction in a [`HostLine`].
    struct Common {
        packets: AtomicU64,
        bytes: AtomicU64,
        tcp: AtomicU32,
        udp: AtomicU32,
        small: AtomicU32,
        dropped: AtomicU32,
    }
}

shared_struct! {
    /// One direction in a [`RareLine`].
    struct Rare {
        icmp: AtomicU32,
        syn: AtomicU32,
        fragments: AtomicU32,
        syn_ack: AtomicU32,
        reactions_tcp: AtomicU32,
        reactions_icmp: AtomicU32,
        opens: AtomicU32,
        spare: AtomicU32,
    }
}

shared_struct! {
    /// What nearly every packet of a host counts on one worker, by [`Dir`]: a cache line.
    #[repr(align(64))]
    pub struct HostLine {
        dirs: [Common; 2],
    }
}

shared_struct! {
    /// What few packets of a host count on one worker, by [`Dir`]: a cache line.
    #[repr(align(64))]
    pub struct RareLine {
        dirs: [Rare; 2],
    }
}
const _: () = assert!(size_of::<HostLine>() == 64 && size_of::<RareLine>() == 64);

shared_struct! {
    /// Signs on one worker that others use a host's address. Rarely written, by this worker; read by control, which takes
    /// differences modulo 2^32.
    pub struct HostMarks {
        /// Connections answered or refused that the host had not asked for lately: somebody elsewhere uses its address.
        unprovoked: AtomicU32,
        /// Packets with its address as source that entered outside.
        outside: AtomicU32,
        /// Packets with its address as source that entered inside from another hardware address than it is bound to.
        other_mac: AtomicU32,
        spare: AtomicU32,
    }
}

/// The counters of [`HostMarks`] as plain numbers, modulo 2^32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// See [`HostMarks`].
    pub unprovoked: u32,
    /// See [`HostMarks`].
    pub outside: u32,
    /// See [`HostMarks`].
    pub other_mac: u32,
}

impl HostMarks {
    /// Counts one. Only the owning worker calls this.
    pub(crate) fn add_unprovoked(&self) {
        add32(&self.unprovoked, 1);
    }

    /// Counts one. Only the owning worker calls this.
    pub(crate) fn add_outside(&self) {
        add32(&self.outside, 1);
    }

    /// Counts one, and says how many there were. Only the owning worker calls this.
    pub(crate) fn add_other_mac(&self) -> u32 {
        add32(&self.other_mac, 1);
        self.other_mac.load(Relaxed)
    }

    /// Reads all.
    pub fn read(&self) -> Marks {
        Marks {
            unprovoked: self.unprovoked.load(Relaxed),
            outside: self.outside.load(Relaxed),
            other_mac: self.other_mac.load(Relaxed),
        }
    }
}

#[inline(always)]
fn add32(c: &AtomicU32, n: u32) {
    c.store(c.load(Relaxed).wrapping_add(n), Relaxed);
}

#[inline(always)]
fn add64(c: &AtomicU64, n: u64) {
    c.store(c.load(Relaxed).wrapping_add(n), Relaxed);
}

impl HostLine {
    /// Counts one packet of `bytes`. Only the owning worker calls this.
    #[inline(always)]
    pub(crate) fn count(&self, dir: Dir, bytes: u32, traits: Traits, dropped: bool) {
        let c = &self.dirs[dir as usize];
        add64(&c.packets, 1);
        add64(&c.bytes, u64::from(bytes));
        add32(&c.tcp, u32::from(traits.has(Traits::TCP)));
        add32(&c.udp, u32::from(traits.has(Traits::UDP)));
        add32(&c.small, u32::from(traits.has(Traits::SMALL)));
        if dropped {
            add32(&c.dropped, 1);
        }
    }
}

impl RareLine {
    /// Counts what is rare of a packet that has any of [`Traits::RARE`]. Only the owning worker calls this.
    #[inline(always)]
    pub(crate) fn count(&self, dir: Dir, traits: Traits) {
        let c = &self.dirs[dir as usize];
        add32(&c.icmp, u32::from(traits.has(Traits::ICMP)));
        add32(&c.syn, u32::from(traits.has(Traits::SYN)));
        add32(&c.fragments, u32::from(traits.has(Traits::FRAGMENT)));
        add32(&c.syn_ack, u32::from(traits.has(Traits::SYN_ACK)));
        add32(&c.reactions_tcp, u32::from(traits.has(Traits::REACTION_TCP)));
        add32(&c.reactions_icmp, u32::from(traits.has(Traits::REACTION_ICMP)));
    }

    /// Counts a first contact. Only the owning worker calls this.
    #[inline(always)]
    pub(crate) fn count_opened(&self) {
        add32(&self.dirs[Dir::Out as usize].opens, 1);
    }
}

/// Both lines of a host in one direction. A packet counted meanwhile may stand in some of them and not yet in others.
#[inline]
pub(crate) fn read(line: &HostLine, rare: &RareLine, dir: Dir) -> LineTotals {
    let (c, r) = (&line.dirs[dir as usize], &rare.dirs[dir as usize]);
    LineTotals {
        packets: c.packets.load(Relaxed),
        bytes: c.bytes.load(Relaxed),
        dropped: c.dropped.load(Relaxed),
        tcp: c.tcp.load(Relaxed),
        udp: c.udp.load(Relaxed),
        small: c.small.load(Relaxed),
        icmp: r.icmp.load(Relaxed),
        syn: r.syn.load(Relaxed),
        fragments: r.fragments.load(Relaxed),
        syn_ack: r.syn_ack.load(Relaxed),
        reactions_tcp: r.reactions_tcp.load(Relaxed),
        reactions_icmp: r.reactions_icmp.load(Relaxed),
        opens: r.opens.load(Relaxed),
    }
}

/// Overwrites both lines of a host in one direction. Only control calls this, on its own table of what it has merged.
pub(crate) fn write(line: &HostLine, rare: &RareLine, dir: Dir, t: &LineTotals) {
    let (c, r) = (&line.dirs[dir as usize], &rare.dirs[dir as usize]);
    c.packets.store(t.packets, Relaxed);
    c.bytes.store(t.bytes, Relaxed);
    c.dropped.store(t.dropped, Relaxed);
    c.tcp.store(t.tcp, Relaxed);
    c.udp.store(t.udp, Relaxed);
    c.small.store(t.small, Relaxed);
    r.icmp.store(t.icmp, Relaxed);
    r.syn.store(t.syn, Relaxed);
    r.fragments.store(t.fragments, Relaxed);
    r.syn_ack.store(t.syn_ack, Relaxed);
    r.reactions_tcp.store(t.reactions_tcp, Relaxed);
    r.reactions_icmp.store(t.reactions_icmp, Relaxed);
    r.opens.store(t.opens, Relaxed);
}

/// The counters of a [`HostLine`] and its [`RareLine`] in one direction as plain numbers: totals since the dataplane started, or a difference of two readings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LineTotals {
    /// Packets.
    pub packets: u64,
    /// Bytes of frames without FCS.
    pub bytes: u64,
    /// Packets dropped, a part of `packets`; modulo 2^32 (as all below).
    pub dropped: u32,
    /// TCP packets.
    pub tcp: u32,
    /// UDP packets.
    pub udp: u32,
    /// ICMP and ICMPv6 packets.
    pub icmp: u32,
    /// TCP with SYN and without ACK.
    pub syn: u32,
    /// Fragments, the first one included.
    pub fragments: u32,
    /// TCP with SYN and ACK.
    pub syn_ack: u32,
    /// SYN-ACK and RST.
    pub reactions_tcp: u32,
    /// ICMP errors and replies.
    pub reactions_icmp: u32,
    /// Frames of at most 128 bytes.
    pub small: u32,
    /// First contacts: new ones in an epoch of the fan-out maps.
    pub opens: u32,
}

macro_rules! each_counter {
    ($a:expr, $b:expr, $op:ident) => {
        LineTotals {
            packets: $a.packets.$op($b.packets),
            bytes: $a.bytes.$op($b.bytes),
            dropped: $a.dropped.$op($b.dropped),
            tcp: $a.tcp.$op($b.tcp),
            udp: $a.udp.$op($b.udp),
            icmp: $a.icmp.$op($b.icmp),
            syn: $a.syn.$op($b.syn),
            fragments: $a.fragments.$op($b.fragments),
            syn_ack: $a.syn_ack.$op($b.syn_ack),
            reactions_tcp: $a.reactions_tcp.$op($b.reactions_tcp),
            reactions_icmp: $a.reactions_icmp.$op($b.reactions_icmp),
            small: $a.small.$op($b.small),
            opens: $a.opens.$op($b.opens),
        }
    };
}

impl LineTotals {
    /// The sum of two workers' lines.
    #[inline]
    #[must_use]
    pub fn plus(&self, other: &LineTotals) -> LineTotals {
        each_counter!(self, other, wrapping_add)
    }

    /// What came since `earlier`.
    #[inline]
    #[must_use]
    pub fn since(&self, earlier: &LineTotals) -> LineTotals {
        each_counter!(self, earlier, wrapping_sub)
    }

    /// Packets that are neither TCP, UDP nor ICMP; modulo 2^32, as its parts are.
    #[inline]
    pub fn other(&self) -> u32 {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "the parts wrap at 2^32, so does their complement"
        )]
        let packets = self.packets as u32;
        packets.wrapping_sub(self.tcp).wrapping_sub(self.udp).wrapping_sub(self.icmp)
    }
}
