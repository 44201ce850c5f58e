//! Link down on one side shows on the other, as on a cable. Decided by a pure function over what the ports report.

/// Rounds of housekeeping that a link may take to come up, at start and when it is let go: negotiation takes up to 9 s.
const PATIENCE_ROUNDS: u32 = 150;

/// What is known of the two ports of a wire; index 0 inside, 1 outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WireLinks {
    /// Held down by us, because the other side's link is down.
    pub(crate) held: [bool; 2],
    /// Rounds for which a side that is down counts as coming up, not as pulled.
    patience: [u32; 2],
}

impl Default for WireLinks {
    fn default() -> Self {
        WireLinks { held: [false; 2], patience: [PATIENCE_ROUNDS; 2] }
    }
}

/// What to do with a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LinkAction {
    /// Take the side's link down.
    Hold(usize),
    /// Let the side's link come up again.
    Release(usize),
}

impl WireLinks {
    /// Decides from the links that the ports report, once a round. A side held down by us says nothing about its peer,
    /// and so is never propagated itself: else both sides would hold each other down for ever. The same holds for a side
    /// that has just been let go and still negotiates: else each would take the other down again and again.
    pub(crate) fn decide(&mut self, up: [bool; 2]) -> Option<LinkAction> {
        for (patience, up) in self.patience.iter_mut().zip(up) {
            *patience = if up { 0 } else { patience.saturating_sub(1) };
        }
        for side in 0..2 {
            let other = 1 - side;
            let pulled = !up[other] && !self.held[other] && self.patience[other] == 0;
            if self.held[side] {
                if up[other] {
                    return Some(LinkAction::Release(side));
                }
            } else if pulled && up[side] {
                return Some(LinkAction::Hold(side));
            }
        }
        None
    }

    /// Records that an action was carried out.
    pub(crate) fn done(&mut self, action: LinkAction) {
        match action {
            LinkAction::Hold(side) => self.held[side] = true,
            LinkAction::Release(side) => {
                self.held[side] = false;
                self.patience[side] = PATIENCE_ROUNDS;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two NICs whose links come up a while after cable and port allow it, and go down at once.
    struct Lab {
        wire: WireLinks,
        cable: [bool; 2],
        negotiation_rounds: u32,
        /// Rounds for which cable and port have allowed a link.
        allowed: [u32; 2],
        actions: Vec<LinkAction>,
    }

    impl Lab {
        fn new(negotiation_rounds: u32) -> Lab {
            let wire = WireLinks::default();
            Lab { wire, cable: [true; 2], negotiation_rounds, allowed: [0; 2], actions: Vec::new() }
        }

        /// Time passes until nothing can change any more; the links then.
        fn settle(&mut self) -> [bool; 2] {
            let mut up = [false; 2];
            for _ in 0..10 * PATIENCE_ROUNDS {
                for (side, up) in up.iter_mut().enumerate() {
                    let allowed = self.cable[side] && !self.wire.held[side];
                    self.allowed[side] = if allowed { self.allowed[side] + 1 } else { 0 };
                    *up = self.allowed[side] > self.negotiation_rounds;
                }
                if let Some(action) = self.wire.decide(up) {
                    self.wire.done(action);
                    self.actions.push(action);
                }
            }
            up
        }
    }

    #[test]
    fn link_down_on_one_side_shows_on_the_other_and_comes_back() {
        // Up at once, and after nine seconds.
        for rounds in [0, 90] {
            let mut lab = Lab::new(rounds);
            assert_eq!(lab.settle(), [true, true]);
            assert_eq!(lab.actions, [], "a start is no pulled cable");
            for pulled in [0, 1] {
                let other = 1 - pulled;
                lab.cable[pulled] = false;
                assert_eq!(lab.settle(), [false, false]);
                assert!(lab.wire.held[other] && !lab.wire.held[pulled]);
                lab.cable[pulled] = true;
                assert_eq!(lab.settle(), [true, true]);
                assert_eq!(lab.wire.held, [false, false]);
                let once = [LinkAction::Hold(other), LinkAction::Release(other)];
                assert_eq!(std::mem::take(&mut lab.actions), once, "negotiation takes {rounds} rounds");
            }
        }
    }

    #[test]
    fn two_cables_pulled_in_any_order_come_back_when_both_are_in() {
        for (order, rounds) in [([0, 1], 0), ([1, 0], 0), ([0, 1], 90), ([1, 0], 90)] {
            let mut lab = Lab::new(rounds);
            lab.settle();
            for pulled in order {
                lab.cable[pulled] = false;
                lab.settle();
            }
            for (n, back) in order.into_iter().enumerate() {
                lab.cable[back] = true;
                let up = if n == 0 { [false, false] } else { [true, true] };
                assert_eq!(lab.settle(), up, "order {order:?}, negotiation {rounds} rounds");
            }
        }
    }

    #[test]
    fn a_cable_that_was_never_in_shows_on_the_other_side() {
        let mut lab = Lab::new(90);
        lab.cable[0] = false;
        assert_eq!(lab.settle(), [false, false]);
        assert_eq!(lab.actions, [LinkAction::Hold(1)]);
    }
}
