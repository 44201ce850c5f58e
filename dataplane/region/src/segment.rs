//! What holds on the servers' own segment beside the lock list: guards, and locked hardware addresses. A few sorted tables
//! that stand in each copy of the lock list and change with it.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::addr::Mac;
use crate::addressing::TooMany;
use crate::host::HostFlags;
use crate::locks::{load128, store128};
use crate::map::shared_struct;

/// Frames of servers that do harm at once, by what is said. What switches call DHCP snooping, RA guard (RFC 6105, RFC 7113),
/// BPDU guard and dynamic ARP inspection, reduced to what needs no learning of who has which address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Guard {
    /// Answers of DHCP (RFC 2131, RFC 8415).
    Dhcp = 0,
    /// Router advertisements (RFC 4861), also those that a chain of headers hides.
    Ra = 1,
    /// Spanning tree (IEEE 802.1D).
    Stp = 2,
    /// Claims on a gateway's address by ARP (RFC 826).
    Arp = 3,
    /// The same by neighbour discovery, and redirects (RFC 4861).
    Nd = 4,
}

impl Guard {
    /// All of them, in the order of their numbers.
    pub const ALL: [Guard; 5] = [Guard::Dhcp, Guard::Ra, Guard::Stp, Guard::Arp, Guard::Nd];

    /// Its name in the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Guard::Dhcp => "dhcp",
            Guard::Ra => "ra",
            Guard::Stp => "stp",
            Guard::Arp => "arp",
            Guard::Nd => "nd",
        }
    }
}

/// A set of guards: those that are on, or those that a device may pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Guards(u8);

impl Guards {
    /// All of them.
    pub const ALL: Guards = Guards((1 << Guard::ALL.len()) - 1);

    /// These.
    pub const fn of(guards: &[Guard]) -> Guards {
        let (mut bits, mut i) = (0, 0);
        while i < guards.len() {
            bits |= 1 << guards[i] as u8;
            i += 1;
        }
        Guards(bits)
    }

    /// Whether one is among them.
    #[inline]
    pub const fn has(self, g: Guard) -> bool {
        self.0 >> g as u8 & 1 != 0
    }

    /// Those of either set.
    #[must_use]
    pub const fn and(self, other: Guards) -> Guards {
        Guards(self.0 | other.0)
    }

    /// Whether there is none.
    #[inline]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    const fn from_word(word: u64) -> Guards {
        #[expect(clippy::cast_possible_truncation, reason = "a byte was stored")]
        Guards(word as u8 & Guards::ALL.0)
    }
}

/// Most gateways that are guarded.
pub const GATEWAYS_MAX: usize = 256;
/// Most devices that may pass guards, by hardware address; and as many by address.
pub const DEVICES_MAX: usize = 256;
/// Most locked hardware addresses.
pub const MACS_MAX: usize = 256;

/// What is to hold on the servers' segment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SegmentRules {
    /// Guards that are on.
    pub guards: Guards,
    /// Addresses (see [`crate::Addr::as_u128`]) that nobody inside may claim.
    pub gateways: Vec<u128>,
    /// Who may pass which guards, by the source of the frame.
    pub devices: Vec<(Mac, Guards)>,
    /// The same by the source address of the packet.
    pub addresses: Vec<(u128, Guards)>,
    /// Locked hardware addresses with lock bits.
    pub locked: Vec<(Mac, u8)>,
}

const MAC_BITS: u32 = 48;
const MAC_MASK: u64 = (1 << MAC_BITS) - 1;

shared_struct! {
    /// [`SegmentRules`] in the policy file. Written by control while no worker reads it; read by the dataplane.
    pub(crate) struct SegmentCells {
        guards: AtomicU64,
        gateways_len: AtomicU64,
        devices_len: AtomicU64,
        addresses_len: AtomicU64,
        locked_len: AtomicU64,
        spare: [AtomicU64; 3],
        gateways: [[AtomicU64; 2]; GATEWAYS_MAX],
        /// The hardware address in the lower 48 bits, what belongs to it above; in order of hardware addresses.
        devices: [AtomicU64; DEVICES_MAX],
        locked: [AtomicU64; MACS_MAX],
        addresses: [[AtomicU64; 2]; DEVICES_MAX],
        address_guards: [AtomicU64; DEVICES_MAX],
    }
}

/// Sorted, and without two entries of one key.
fn merged<K: Ord + Copy, V: Copy>(rows: &[(K, V)], both: impl Fn(V, V) -> V) -> Vec<(K, V)> {
    let mut sorted = rows.to_vec();
    sorted.sort_by_key(|(k, _)| *k);
    sorted.dedup_by(|b, a| {
        let same = a.0 == b.0;
        if same {
            a.1 = both(a.1, b.1);
        }
        same
    });
    sorted
}

impl SegmentCells {
    pub(crate) fn write(&self, r: &SegmentRules) -> Result<(), TooMany> {
        let mut gateways = r.gateways.clone();
        gateways.sort_unstable();
        gateways.dedup();
        let devices = merged(&r.devices, Guards::and);
        let addresses = merged(&r.addresses, Guards::and);
        let locked = merged(&r.locked, |a, b| a | b);
        for (what, n, limit) in [
            ("guarded gateways", gateways.len(), GATEWAYS_MAX),
            ("devices that may pass guards", devices.len().max(addresses.len()), DEVICES_MAX),
            ("locked hardware addresses", locked.len(), MACS_MAX),
        ] {
            if n > limit {
                return Err(TooMany { what, limit });
            }
        }
        for (c, a) in self.gateways.iter().zip(&gateways) {
            store128(c, *a);
        }
        for (c, (mac, guards)) in self.devices.iter().zip(&devices) {
            c.store(mac.number() | u64::from(guards.0) << MAC_BITS, Relaxed);
        }
        for (c, (mac, bits)) in self.locked.iter().zip(&locked) {
            c.store(mac.number() | u64::from(*bits) << MAC_BITS, Relaxed);
        }
        for ((c, g), (a, guards)) in self.addresses.iter().zip(&self.address_guards).zip(&addresses) {
            store128(c, *a);
            g.store(guards.0.into(), Relaxed);
        }
        self.guards.store(r.guards.0.into(), Relaxed);
        for (c, n) in [
            (&self.gateways_len, gateways.len()),
            (&self.devices_len, devices.len()),
            (&self.addresses_len, addresses.len()),
            (&self.locked_len, locked.len()),
        ] {
            c.store(n as u64, Relaxed);
        }
        Ok(())
    }
}

/// [`SegmentRules`] as a worker reads them.
#[derive(Clone, Copy)]
pub struct SegmentTable<'a>(pub(crate) &'a SegmentCells);

fn first<'c, T>(cells: &'c [T], len: &AtomicU64) -> &'c [T] {
    let n = usize::try_from(len.load(Relaxed)).unwrap_or(0).min(cells.len());
    &cells[..n]
}

/// What stands beside a hardware address.
fn beside(cells: &[AtomicU64], mac: Mac) -> u64 {
    let key = mac.number();
    let i = cells.partition_point(|c| c.load(Relaxed) & MAC_MASK < key);
    let word = cells.get(i).map_or(u64::MAX, |c| c.load(Relaxed));
    if word & MAC_MASK == key { word >> MAC_BITS } else { 0 }
}

impl SegmentTable<'_> {
    /// Guards that are on.
    #[inline]
    pub fn guards(&self) -> Guards {
        Guards::from_word(self.0.guards.load(Relaxed))
    }

    /// Whether nobody inside may claim an address ([`crate::Addr::as_u128`]).
    pub fn is_gateway(&self, address: u128) -> bool {
        let cells = first(&self.0.gateways, &self.0.gateways_len);
        let i = cells.partition_point(|c| load128(c) < address);
        cells.get(i).is_some_and(|c| load128(c) == address)
    }

    /// The guards that a device may pass, by the source of its frame and of its packet.
    pub fn passes(&self, mac: Mac, address: Option<u128>) -> Guards {
        let by_mac = Guards::from_word(beside(first(&self.0.devices, &self.0.devices_len), mac));
        let Some(address) = address else { return by_mac };
        let cells = first(&self.0.addresses, &self.0.addresses_len);
        let i = cells.partition_point(|c| load128(c) < address);
        match (cells.get(i), self.0.address_guards.get(i)) {
            (Some(c), Some(g)) if load128(c) == address => by_mac.and(Guards::from_word(g.load(Relaxed))),
            _ => by_mac,
        }
    }

    /// Whether any hardware address is locked.
    #[inline]
    pub fn locks_any(&self) -> bool {
        self.0.locked_len.load(Relaxed) != 0
    }

    /// Lock bits of a hardware address.
    pub fn locked(&self, mac: Mac) -> HostFlags {
        #[expect(clippy::cast_possible_truncation, reason = "a byte was stored")]
        let bits = beside(first(&self.0.locked, &self.0.locked_len), mac) as u8;
        HostFlags(bits & (HostFlags::LOCK_OUT | HostFlags::LOCK_IN))
    }

    /// All locked hardware addresses, for a control whose store has lost them.
    pub(crate) fn all_locked(&self) -> Vec<(Mac, u8)> {
        let cells = first(&self.0.locked, &self.0.locked_len);
        cells
            .iter()
            .map(|c| {
                let [a, b, m @ ..] = c.load(Relaxed).to_be_bytes();
                let _ = a;
                (Mac(m), b)
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::map::Mapping;

    const fn mac(n: u8) -> Mac {
        Mac([2, 0, 0, 0, 0, n])
    }

    #[test]
    fn rules_are_found_again_whatever_their_order() {
        let map = Mapping::anonymous(size_of::<SegmentCells>()).expect("memory");
        let cells = map.header::<SegmentCells>();
        let t = SegmentTable(cells);
        assert!(t.guards().is_empty() && !t.locks_any() && !t.is_gateway(0));
        let dhcp = Guards::of(&[Guard::Dhcp]);
        let rules = SegmentRules {
            guards: Guards::of(&[Guard::Dhcp, Guard::Nd]),
            gateways: vec![9, 3, 3],
            devices: vec![(mac(7), dhcp), (mac(2), Guards::ALL), (mac(7), Guards::of(&[Guard::Ra]))],
            addresses: vec![(5, dhcp), (4, Guards::of(&[Guard::Ra]))],
            locked: vec![(mac(8), HostFlags::LOCK_IN), (mac(1), 1), (mac(8), HostFlags::LOCK_OUT)],
        };
        cells.write(&rules).expect("fits");
        assert!(t.guards().has(Guard::Nd) && !t.guards().has(Guard::Ra));
        assert!(t.is_gateway(3) && t.is_gateway(9) && !t.is_gateway(4));
        assert_eq!(t.passes(mac(7), None), Guards::of(&[Guard::Dhcp, Guard::Ra]));
        assert_eq!(t.passes(mac(9), Some(5)), dhcp);
        assert_eq!(t.passes(mac(9), Some(6)), Guards::default());
        assert_eq!(t.locked(mac(8)).0, HostFlags::LOCK_IN | HostFlags::LOCK_OUT);
        assert_eq!((t.locked(mac(1)).0, t.locked(mac(2)).0), (HostFlags::LOCK_OUT, 0));
        assert_eq!(t.all_locked().len(), 2);
        let full = SegmentRules { gateways: (0..257).collect(), ..SegmentRules::default() };
        assert!(cells.write(&full).is_err());
        assert!(t.is_gateway(9), "what does not fit changes nothing");
    }
}
