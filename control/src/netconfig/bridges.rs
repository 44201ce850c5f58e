//! Spanning tree (IEEE 802.1D-2004, PVST+): servers have no business in it, and a new root moves everybody's traffic.

use super::offences::{Note, Offences, Reason};
use super::stations::Fresh;
use super::table::{Key, Table};
use super::{Case, Env, Mac, Side};
use pipeline::segment::{Bpdu, Segment};

const BRIDGES_MAX: usize = 256;
const TREES_MAX: usize = 256;
const SECOND_NS: u64 = 1_000_000_000;
/// A root that has said hello thrice (every two seconds) is established; before, bridges that start all claim to be root.
const ESTABLISHED: u64 = 3;
const ESTABLISHED_NS: u64 = 4 * SECOND_NS;
/// A root that has been silent for the maximum age may be replaced.
const MAX_AGE_NS: u64 = 20 * SECOND_NS;
/// A new root that stays is the root.
const ACCEPTED_NS: u64 = 300 * SECOND_NS;
/// Roots that are claimed within a minute; a tree settles on one within seconds.
const ROOTS: usize = 8;
const ROOTS_NS: u64 = 60 * SECOND_NS;
/// One frame may be a reflection.
const BPDUS: u64 = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct BridgeKey(Segment, Mac);

impl Key for BridgeKey {
    fn parts(&self) -> (u128, u128) {
        (u128::from(self.1.number()) << 64 | u128::from(self.0), 0)
    }
}

/// VLAN, and whether in Cisco's form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct TreeKey(Segment, bool);

impl Key for TreeKey {
    fn parts(&self) -> (u128, u128) {
        (u128::from(self.0), u128::from(self.1))
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Tree {
    root: Option<u64>,
    since_ns: u64,
    last_ns: u64,
    hellos: u64,
    taken: Option<(u64, u64)>,
    roots: Roots,
}

/// Different roots of late, and who claimed the first.
#[derive(Clone, Copy, Debug, Default)]
struct Roots {
    since_ns: u64,
    ids: [Option<u64>; ROOTS],
    first: Mac,
}

impl Roots {
    /// The one under whose name a flood is told.
    fn hear(&mut self, root: u64, sender: Mac, now_ns: u64) -> Option<Mac> {
        if self.ids[0].is_none() || now_ns.saturating_sub(self.since_ns) > ROOTS_NS {
            *self = Roots { since_ns: now_ns, ids: [None; ROOTS], first: sender };
        }
        if !self.ids.contains(&Some(root))
            && let Some(free) = self.ids.iter_mut().find(|r| r.is_none())
        {
            *free = Some(root);
        }
        self.ids.iter().all(Option::is_some).then_some(self.first)
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Bridge {
    side: Option<Side>,
    last_ns: u64,
    bpdus: Fresh,
    takeovers: u64,
    flood: u64,
    victim: Option<Mac>,
}

pub(super) struct Bridges {
    bridges: Table<BridgeKey, Bridge>,
    trees: Table<TreeKey, Tree>,
}

/// A bridge identifier without the VLAN in its priority.
fn plain(id: u64) -> u64 {
    id & !(0xfff << 48)
}

impl Tree {
    /// A root is named; the one that it takes over, if it does.
    fn hear(&mut self, root: u64, believed: bool, now_ns: u64) -> Option<u64> {
        let Some(known) = self.root else {
            if believed {
                *self = Tree {
                    root: Some(root),
                    since_ns: now_ns,
                    last_ns: now_ns,
                    hellos: 1,
                    taken: None,
                    roots: self.roots,
                };
            }
            return None;
        };
        if root == known {
            if believed {
                self.hellos += 1;
                self.last_ns = now_ns;
            }
            return None;
        }
        let established =
            self.hellos >= ESTABLISHED && self.last_ns.saturating_sub(self.since_ns) >= ESTABLISHED_NS;
        if root > known && now_ns.saturating_sub(self.last_ns) <= MAX_AGE_NS {
            return None;
        }
        let is_takeover = root < known && (established || !believed);
        if let Some((taker, since_ns)) = self.taken.filter(|(t, _)| *t == root) {
            if believed && now_ns.saturating_sub(since_ns) > ACCEPTED_NS {
                *self = Tree {
                    root: Some(taker),
                    since_ns,
                    last_ns: now_ns,
                    hellos: 1,
                    taken: None,
                    roots: self.roots,
                };
                return None;
            }
            return Some(known);
        }
        if is_takeover {
            self.taken = Some((root, now_ns));
            return Some(known);
        }
        if believed {
            *self = Tree {
                root: Some(root),
                since_ns: now_ns,
                last_ns: now_ns,
                hellos: 1,
                taken: None,
                roots: self.roots,
            };
        }
        None
    }
}

impl Bridges {
    pub(super) fn new(hash_key: [u64; 2]) -> Bridges {
        Bridges { bridges: Table::new(BRIDGES_MAX, hash_key), trees: Table::new(TREES_MAX, hash_key) }
    }

    pub(super) fn hear(&mut self, at: (Segment, Side, u64), sender: Mac, is_snap: bool, b: &Bpdu) {
        let (segment, side, now_ns) = at;
        let root = b.root.map(plain);
        let tree = root.and_then(|root| {
            let t = self.trees.entry(TreeKey(segment, is_snap), now_ns)?;
            Some((t.roots.hear(root, sender, now_ns), t.hear(root, side != Side::Inside, now_ns)))
        });
        let (flood, known) = tree.unwrap_or_default();
        // A switch that passes the news on is not the one to blame.
        let culprit = match root {
            Some(root) if side == Side::Mirror && known.is_some() && root != plain(b.bridge) => {
                Bpdu::mac(root)
            }
            _ => sender,
        };
        if let Some(first) = flood {
            if let Some(k) = self.bridges.entry(BridgeKey(segment, first), now_ns) {
                (k.side, k.last_ns) = (Some(side), now_ns);
                k.flood += 1;
            }
            return;
        }
        if let Some(k) = self.bridges.entry(BridgeKey(segment, culprit), now_ns) {
            (k.side, k.last_ns) = (Some(side), now_ns);
            k.bpdus.add(1);
            if let Some(known) = known {
                k.takeovers += 1;
                k.victim = Some(Bpdu::mac(known));
            }
        }
    }

    pub(super) fn judge(&mut self, env: &Env, offences: &mut Offences) {
        self.bridges.take_touched(usize::MAX, |key, b| {
            let side = b.side;
            let takeovers = std::mem::take(&mut b.takeovers);
            let flood = std::mem::take(&mut b.flood);
            let bpdus = b.bpdus.take(BPDUS);
            if env.bridges.contains(&key.1) || side == Some(Side::Outside) {
                return;
            }
            if flood > 0 {
                let n = Note { frames: flood, ..Note::new(Reason::ManyRoots, b.last_ns) };
                offences.add(Case::Stp, key.0, key.1, &n);
            }
            if takeovers > 0 {
                let n = Note {
                    frames: takeovers,
                    victim: b.victim,
                    certain: side == Some(Side::Inside),
                    ..Note::new(Reason::RootTaken, b.last_ns)
                };
                offences.add(Case::Stp, key.0, key.1, &n);
            }
            let reason = match side {
                Some(Side::Inside) => Reason::BridgeFromInside,
                Some(Side::Mirror) if !env.bridges.is_empty() => Reason::NotListed,
                _ => return,
            };
            if bpdus > 0 {
                let frames = bpdus.saturating_sub(takeovers);
                offences.add(Case::Stp, key.0, key.1, &Note { frames, ..Note::new(reason, b.last_ns) });
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_established_root_is_taken_over_and_bridges_that_start_agree_without_blame() {
        let hello = |s: u64| s * 2 * SECOND_NS;
        let mut t = Tree::default();
        // At the start each claims to be root, and the best wins.
        assert_eq!(t.hear(9, true, hello(0)), None);
        assert_eq!(t.hear(5, true, hello(0) + 1), None);
        for s in 1..5 {
            assert_eq!(t.hear(5, true, hello(s)), None);
        }
        assert_eq!(t.hear(3, true, hello(5)), Some(5));
        assert_eq!(t.hear(3, true, hello(6)), Some(5));
        // Inferior information is no takeover.
        assert_eq!(t.hear(7, true, hello(6)), None);
        // It stayed.
        assert_eq!(t.hear(3, true, hello(200)), None);
        assert_eq!(t.root, Some(3));
    }

    #[test]
    fn a_root_that_died_is_replaced() {
        let mut t = Tree::default();
        for s in 0..10 {
            t.hear(5, true, s * 2 * SECOND_NS);
        }
        assert_eq!(t.hear(9, true, 60 * SECOND_NS), None);
        assert_eq!(t.root, Some(9));
    }
}
