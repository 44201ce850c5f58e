//! Questions of ARP and neighbour discovery, so that one can tell an answer from a claim that nobody asked for.

use region::facts::keyed_hash;

use super::Mac;
use pipeline::segment::Segment;

const WAYS: usize = 4;
const BUCKETS: usize = 4_096;
/// Hosts that are asked answer within a second (RFC 4861 RetransTimer, RFC 1122 section 2.3.2.1).
const ANSWER_NS: u64 = 5_000_000_000;
/// The same answer, seen twice by a mirror port.
const TWICE_NS: u64 = 100_000_000;

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asker {
    /// An address, in one number.
    Address(u128),
    /// A device.
    Device(Mac),
    /// Somebody who has no address yet (RFC 5227, RFC 4862 section 5.4).
    Probe,
}

#[derive(Clone, Copy)]
struct Ask {
    segment: Segment,
    asker: Asker,
    target: u128,
    mac: Mac,
    at_ns: u64,
    answered: Option<(Mac, u64)>,
}

#[derive(Clone, Copy, Default)]
struct Bucket {
    asks: [Option<Ask>; WAYS],
    /// Something fresh was displaced: until then nothing can be said about questions that are not here.
    blind_until_ns: u64,
}

/// What a reply is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    Asked,
    Unasked,
    /// The question may have been missed.
    Unknown,
}

pub(super) struct Asks {
    buckets: Vec<Bucket>,
    hash_key: [u64; 2],
    blind_until_ns: u64,
    /// When a question and its answer were last seen: both directions are visible.
    answered_ns: Option<u64>,
}

impl Asks {
    pub(super) fn new(hash_key: [u64; 2]) -> Asks {
        Asks { buckets: vec![Bucket::default(); BUCKETS], hash_key, blind_until_ns: 0, answered_ns: None }
    }

    /// Frames were lost.
    pub(super) fn missed(&mut self, now_ns: u64) {
        self.blind_until_ns = now_ns + ANSWER_NS;
    }

    fn bucket(&mut self, segment: Segment, asker: Asker, target: u128) -> &mut Bucket {
        let who = match asker {
            Asker::Address(a) => a,
            Asker::Device(m) => 1 << 64 | u128::from(m.number()),
            Asker::Probe => 2 << 64,
        };
        let first = keyed_hash(who, self.hash_key);
        let hash = keyed_hash(target ^ u128::from(first ^ u64::from(segment)) << 64, self.hash_key);
        let i = usize::try_from(hash % BUCKETS as u64).unwrap_or(0);
        &mut self.buckets[i]
    }

    pub(super) fn note(&mut self, segment: Segment, asker: Asker, target: u128, mac: Mac, at_ns: u64) {
        let bucket = self.bucket(segment, asker, target);
        let same = |a: &Ask| (a.segment, a.asker, a.target) == (segment, asker, target);
        let place = (0..WAYS)
            .find(|i| bucket.asks[*i].is_some_and(|a| same(&a)))
            .or_else(|| (0..WAYS).find(|i| bucket.asks[*i].is_none()))
            .or_else(|| (0..WAYS).min_by_key(|i| bucket.asks[*i].map_or(0, |a| a.at_ns)))
            .unwrap_or(0);
        if let Some(old) = bucket.asks[place]
            && !same(&old)
            && at_ns.saturating_sub(old.at_ns) < ANSWER_NS
        {
            bucket.blind_until_ns = old.at_ns + ANSWER_NS;
        }
        bucket.asks[place] = Some(Ask { segment, asker, target, mac, at_ns, answered: None });
    }

    /// Who asked within `within_ns`.
    pub(super) fn asked(
        &mut self,
        segment: Segment,
        asker: Asker,
        target: u128,
        now_ns: u64,
        within_ns: u64,
    ) -> Option<Mac> {
        let bucket = self.bucket(segment, asker, target);
        let found = bucket
            .asks
            .iter()
            .flatten()
            .find(|a| (a.segment, a.asker, a.target) == (segment, asker, target))?;
        (now_ns.saturating_sub(found.at_ns) <= within_ns).then_some(found.mac)
    }

    /// What a reply by `replier` about `target` to `asker` is. One question excuses one answer from each device.
    pub(super) fn reply(
        &mut self,
        segment: Segment,
        asker: Asker,
        target: u128,
        replier: Mac,
        now_ns: u64,
    ) -> Reply {
        let all_blind = now_ns < self.blind_until_ns;
        let bucket = self.bucket(segment, asker, target);
        let blind = all_blind || now_ns < bucket.blind_until_ns;
        let found = bucket.asks.iter_mut().flatten().find(|a| {
            (a.segment, a.asker, a.target) == (segment, asker, target)
                && now_ns.saturating_sub(a.at_ns) <= ANSWER_NS
        });
        match found {
            Some(ask) => match ask.answered {
                Some((mac, at)) if mac == replier && now_ns.saturating_sub(at) > TWICE_NS => {
                    if blind {
                        Reply::Unknown
                    } else {
                        Reply::Unasked
                    }
                }
                _ => {
                    ask.answered = Some((replier, now_ns));
                    self.answered_ns = Some(now_ns);
                    Reply::Asked
                }
            },
            None if blind => Reply::Unknown,
            None => Reply::Unasked,
        }
    }

    /// Bytes that they take.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.buckets.len() * size_of::<Bucket>()
    }

    /// Whether questions and answers have been seen together lately.
    pub(super) fn sees_both(&self, now_ns: u64) -> bool {
        const LATELY_NS: u64 = 600_000_000_000;
        self.answered_ns.is_some_and(|at| now_ns.saturating_sub(at) < LATELY_NS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Mac = Mac([2, 0, 0, 0, 0, 1]);
    const B: Mac = Mac([2, 0, 0, 0, 0, 2]);
    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn one_question_excuses_one_answer_from_each_device() {
        let mut asks = Asks::new([1, 2]);
        asks.note(0, Asker::Address(7), 9, A, 0);
        assert_eq!(asks.reply(0, Asker::Address(7), 9, B, SECOND), Reply::Asked);
        // Seen twice by the mirror.
        assert_eq!(asks.reply(0, Asker::Address(7), 9, B, SECOND + 1_000), Reply::Asked);
        assert_eq!(asks.reply(0, Asker::Address(7), 9, A, SECOND + 2_000), Reply::Asked);
        assert_eq!(asks.reply(0, Asker::Address(7), 9, A, 3 * SECOND), Reply::Unasked);
        assert_eq!(asks.reply(1, Asker::Address(7), 9, B, SECOND), Reply::Unasked);
        assert_eq!(asks.reply(0, Asker::Address(7), 9, B, 9 * SECOND), Reply::Unasked);
    }

    #[test]
    fn a_flood_of_questions_blinds_and_accuses_nobody() {
        let mut asks = Asks::new([1, 2]);
        asks.note(0, Asker::Address(7), 9, A, 0);
        for n in 0..1_000_000u128 {
            asks.note(0, Asker::Address(n + 100), 9, A, 1);
        }
        assert_eq!(asks.reply(0, Asker::Address(7), 9, B, 2), Reply::Unknown);
        asks.missed(20 * SECOND);
        assert_eq!(asks.reply(0, Asker::Address(7), 9, B, 21 * SECOND), Reply::Unknown);
        assert_eq!(asks.reply(0, Asker::Address(7), 9, B, 26 * SECOND), Reply::Unasked);
    }
}
