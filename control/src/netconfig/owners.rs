//! Who holds an address: learned from first stable claims.
//!
//! An address that moves once moves on purpose: a fail-over, a new network card, a machine that was moved, a lease that
//! another client got. An address that goes back and forth within two minutes is held by two devices at once.

use super::table::{Key, Table};
use super::{Mac, Side};
use pipeline::segment::Segment;

/// A holder that has been silent for this long has lost the address.
const SILENT_NS: u64 = 300_000_000_000;
/// Changes are counted within this time.
const TURNS_NS: u64 = 120_000_000_000;
/// First A, then B, then A, then B.
const TURNS: u8 = 3;
/// From outside, then inside, then outside again: not even once does a gateway fail over to a server.
const TURNS_ACROSS: u8 = 2;
/// Two answers to the same question, which count for two changes.
const SAME_QUESTION_NS: u64 = 1_000_000_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AddressKey(pub(super) Segment, pub(super) u128);

impl Key for AddressKey {
    fn parts(&self) -> (u128, u128) {
        (self.1, u128::from(self.0))
    }
}

/// A claim on an address.
#[derive(Clone, Copy, Debug)]
pub(super) struct Holder {
    /// Hardware address that was claimed.
    pub(super) hw: Mac,
    /// Who sent the claim.
    pub(super) sender: Mac,
    /// From where.
    pub(super) side: Side,
    /// It was the answer to a question.
    pub(super) answered: bool,
    /// Last time.
    pub(super) last_ns: u64,
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Owner {
    first: Option<Holder>,
    second: Option<Holder>,
    second_spoke: bool,
    turns: u8,
    turned_ns: u64,
}

/// Two devices hold one address.
#[derive(Clone, Copy, Debug)]
pub(super) struct Conflict {
    pub(super) owner: Holder,
    pub(super) other: Holder,
}

pub(super) struct Owners(pub(super) Table<AddressKey, Owner>);

impl Owners {
    pub(super) fn new(capacity: usize, hash_key: [u64; 2]) -> Owners {
        Owners(Table::new(capacity, hash_key))
    }

    /// Who holds an address.
    pub(super) fn holder(&self, segment: Segment, address: u128) -> Option<Holder> {
        self.0.get(&AddressKey(segment, address))?.first
    }

    /// An authority gave the address to a client (a DHCP server's ACK).
    pub(super) fn assign(&mut self, segment: Segment, address: u128, to: Holder) {
        if let Some(o) = self.0.entry(AddressKey(segment, address), to.last_ns) {
            *o = Owner { first: Some(to), ..Owner::default() };
        }
    }

    /// A claim. `Some` when two devices hold the address at once.
    pub(super) fn claim(&mut self, segment: Segment, address: u128, by: Holder) -> Option<Conflict> {
        if by.hw.is_shared() || by.sender.is_shared() || by.hw.is_group() {
            return None;
        }
        let now_ns = by.last_ns;
        let o = self.0.entry(AddressKey(segment, address), now_ns)?;
        let Some(first) = &mut o.first else {
            o.first = Some(by);
            return None;
        };
        if first.hw == by.hw {
            let back = o.second_spoke;
            *first = by;
            o.second_spoke = false;
            if back {
                o.turn(now_ns, 1);
            }
            return if back { o.conflict() } else { None };
        }
        if first.hw.is_beside(by.hw) {
            return None;
        }
        if now_ns.saturating_sub(first.last_ns) > SILENT_NS {
            *o = Owner { first: Some(by), ..Owner::default() };
            return None;
        }
        let both = first.answered && by.answered && now_ns.saturating_sub(first.last_ns) < SAME_QUESTION_NS;
        o.second = Some(by);
        if !o.second_spoke {
            o.second_spoke = true;
            o.turn(now_ns, if both { 2 } else { 1 });
        }
        o.conflict()
    }
}

impl Owner {
    fn turn(&mut self, now_ns: u64, n: u8) {
        if now_ns.saturating_sub(self.turned_ns) > TURNS_NS {
            self.turns = 0;
        }
        self.turns = self.turns.saturating_add(n);
        self.turned_ns = now_ns;
    }

    fn conflict(&self) -> Option<Conflict> {
        let (owner, other) = (self.first?, self.second?);
        let across = owner.side == Side::Outside && other.side == Side::Inside;
        let enough = self.turns >= if across { TURNS_ACROSS } else { TURNS };
        (enough && other.side != Side::Outside).then_some(Conflict { owner, other })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn claims(said: &[(u64, [u8; 6], Side)]) -> bool {
        let mut owners = Owners::new(64, [1, 2]);
        let mut found = false;
        for (s, m, side) in said {
            let by =
                Holder { hw: Mac(*m), sender: Mac(*m), side: *side, answered: false, last_ns: s * SECOND };
            found |= owners.claim(0, 9, by).is_some();
        }
        found
    }

    const A: [u8; 6] = [0, 1, 2, 3, 4, 5];
    const B: [u8; 6] = [0, 9, 2, 3, 4, 6];
    const VRRP: [u8; 6] = [0, 0, 0x5e, 0, 1, 7];

    #[test]
    fn an_address_that_goes_back_and_forth_is_held_by_two() {
        use Side::{Inside, Mirror, Outside};
        for side in [Inside, Mirror] {
            assert!(claims(&[(0, A, side), (10, B, side), (20, A, side), (30, B, side)]));
        }
        // The gateway on the outside, and a server that claims its address.
        assert!(claims(&[(0, A, Outside), (10, B, Inside), (20, A, Outside), (30, B, Inside)]));
        // Nobody on the inside can help a claim from outside.
        assert!(!claims(&[(0, A, Inside), (10, B, Outside), (20, A, Inside), (30, B, Outside)]));
    }

    #[test]
    fn a_fail_over_and_its_end_are_no_conflict() {
        use Side::Inside;
        assert!(!claims(&[(0, A, Inside), (10, B, Inside), (20, B, Inside)]));
        assert!(!claims(&[(0, A, Inside), (10, B, Inside), (20, A, Inside), (30, A, Inside)]));
        // Once a day.
        assert!(!claims(&[(0, A, Inside), (200, B, Inside), (400, A, Inside), (600, B, Inside)]));
        assert!(!claims(&[(0, A, Inside), (9, VRRP, Inside), (10, A, Inside), (11, VRRP, Inside)]));
    }

    #[test]
    fn two_ports_of_one_card_may_answer_for_one_address() {
        let other_port = [A[0], A[1], A[2], A[3], A[4], A[5] + 1];
        let side = Side::Inside;
        assert!(!claims(&[(0, A, side), (1, other_port, side), (2, A, side), (3, other_port, side)]));
    }

    #[test]
    fn a_lease_that_another_client_gets_changes_hands() {
        let mut owners = Owners::new(64, [1, 2]);
        let by = |m, s: u64| {
            let last_ns = s * SECOND;
            Holder { hw: Mac(m), sender: Mac(m), side: Side::Inside, answered: false, last_ns }
        };
        owners.claim(0, 9, by(A, 0));
        owners.assign(0, 9, by(B, 10));
        assert!(owners.claim(0, 9, by(B, 11)).is_none());
        assert_eq!(owners.holder(0, 9).map(|h| h.hw), Some(Mac(B)));
    }
}
