//! Whether both directions of a flow come to the same worker.
//!
//! Where they do, a question's row hears every answer. Where they do not (a device without RSS, asymmetric queues), the
//! worker that sees answers keeps them as long as it has rows, and what it has no row for may have been an answer: a
//! silence is then no proof. So it is taken for asymmetric until flows have shown otherwise.

/// Flows that are looked back on, at most twice as many.
const FLOWS: u64 = 512;
/// So many tell.
const ENOUGH: u64 = 16;
/// Apart, if one flow of so many is: fewer cannot make a scan, for which more than a tenth has to fail.
const ONE_IN: u64 = 10;

/// What answered flows have shown.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ways {
    together: u64,
    apart: u64,
}

impl Ways {
    /// Notes a flow that was asked on one worker and answered on one.
    pub(super) fn note(&mut self, together: bool) {
        if self.together + self.apart >= 2 * FLOWS {
            (self.together, self.apart) = (self.together / 2, self.apart / 2);
        }
        *(if together { &mut self.together } else { &mut self.apart }) += 1;
    }

    /// Whether an answer may come to another worker than its question, of so many.
    pub(super) fn are_apart(&self, workers: usize) -> bool {
        let sum = self.together + self.apart;
        workers > 1 && (sum < ENOUGH || self.apart * ONE_IN >= sum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(together: u64, apart: u64) -> Ways {
        let mut ways = Ways::default();
        (0..together).for_each(|_| ways.note(true));
        (0..apart).for_each(|_| ways.note(false));
        ways
    }

    #[test]
    fn several_workers_are_asymmetric_until_flows_have_shown_otherwise() {
        assert!(!of(0, 0).are_apart(1) && !of(0, 100).are_apart(1));
        assert!(of(0, 0).are_apart(2) && of(15, 0).are_apart(2));
        assert!(!of(16, 0).are_apart(2) && !of(1_000, 50).are_apart(2), "a fragment now and then");
        assert!(of(100, 20).are_apart(2));
    }

    #[test]
    fn a_change_is_noticed_after_some_hundred_flows() {
        assert!(of(1_000_000, 150).are_apart(2));
        assert!(!of(0, 1_000_000).are_apart(1));
        let mut ways = of(0, 1_000_000);
        (0..5_000).for_each(|_| ways.note(true));
        assert!(!ways.are_apart(2));
    }
}
