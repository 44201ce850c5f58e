//! Link down on one side shows on the other, as on a cable. Decided by a pure function over what the ports report.

/// What is known of the two ports of a wire; index 0 inside, 1 outside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct WireLinks {
    /// Held down by us, because the other side's link is down.
    pub(crate) held: [bool; 2],
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
    /// Decides from the links that the ports report. A side held down by us says nothing about its peer, and so is
    /// never propagated itself: else both sides would hold each other down for ever.
    pub(crate) fn decide(&self, up: [bool; 2]) -> Option<LinkAction> {
        for side in 0..2 {
            let other = 1 - side;
            if self.held[side] {
                if up[other] {
                    return Some(LinkAction::Release(side));
                }
            } else if !up[other] && !self.held[other] && up[side] {
                return Some(LinkAction::Hold(side));
            }
        }
        None
    }

    /// Records that an action was carried out.
    pub(crate) fn done(&mut self, action: LinkAction) {
        match action {
            LinkAction::Hold(side) => self.held[side] = true,
            LinkAction::Release(side) => self.held[side] = false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Carries actions out on a pair of cables whose far ends are up or down.
    fn settle(wire: &mut WireLinks, cable: [bool; 2]) -> [bool; 2] {
        for _ in 0..10 {
            let up = [cable[0] && !wire.held[0], cable[1] && !wire.held[1]];
            match wire.decide(up) {
                Some(action) => wire.done(action),
                None => return up,
            }
        }
        panic!("the links do not settle: {wire:?}");
    }

    #[test]
    fn link_down_on_one_side_shows_on_the_other_and_comes_back() {
        let mut wire = WireLinks::default();
        assert_eq!(settle(&mut wire, [true, true]), [true, true]);
        assert_eq!(settle(&mut wire, [false, true]), [false, false]);
        assert_eq!(wire.held, [false, true]);
        assert_eq!(settle(&mut wire, [true, true]), [true, true]);
        assert_eq!(settle(&mut wire, [true, false]), [false, false]);
        assert_eq!(settle(&mut wire, [true, true]), [true, true]);
        assert_eq!(wire, WireLinks::default());
    }

    #[test]
    fn two_cables_pulled_in_any_order_come_back_when_both_are_in() {
        for order in [[0, 1], [1, 0]] {
            let mut wire = WireLinks::default();
            let mut cable = [true, true];
            for pulled in order {
                cable[pulled] = false;
                settle(&mut wire, cable);
            }
            for (n, back) in order.into_iter().enumerate() {
                cable[back] = true;
                let up = settle(&mut wire, cable);
                assert_eq!(up, if n == 0 { [false, false] } else { [true, true] }, "order {order:?}");
            }
        }
    }
}
