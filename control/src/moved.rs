//! Hosts that moved, over all workers: a bitmap with a summary, so that taking them costs by how many there are.

use region::HostId;

/// Hosts, each once.
#[derive(Debug, Default)]
pub(crate) struct Moved {
    /// One bit a host; all zero between two ticks.
    words: Vec<u64>,
    /// One bit for each word that is not zero.
    summary: Vec<u64>,
    /// Room for what is taken.
    list: Vec<HostId>,
}

impl Moved {
    /// Of so many hosts.
    pub(crate) fn new(hosts: u32) -> Moved {
        let words = (hosts as usize).div_ceil(64);
        Moved { words: vec![0; words], summary: vec![0; words.div_ceil(64)], list: Vec::new() }
    }

    /// Adds hosts of a word of some bitmap.
    pub(crate) fn add(&mut self, word: usize, bits: u64) {
        if let (Some(w), Some(s)) = (self.words.get_mut(word), self.summary.get_mut(word / 64)) {
            *w |= bits;
            *s |= u64::from(bits != 0) << (word % 64);
        }
    }

    /// Adds all there are.
    pub(crate) fn add_all(&mut self) {
        (0..self.words.len()).for_each(|word| self.add(word, u64::MAX));
    }

    /// Takes them out, in order. Give the list back with [`Moved::recycle`].
    pub(crate) fn take(&mut self) -> Vec<HostId> {
        let mut list = std::mem::take(&mut self.list);
        for (i, s) in self.summary.iter_mut().enumerate() {
            if *s != 0 {
                // What is looked at next.
                let next = self.words.get((i + 1) * 64..).unwrap_or(&[]);
                next.iter().take(64).step_by(8).for_each(|w| region::prefetch(w));
            }
            for word in ones(std::mem::take(s)).map(|bit| i * 64 + bit) {
                let bits = self.words.get_mut(word).map(std::mem::take).unwrap_or_default();
                let first = u32::try_from(word * 64).unwrap_or(u32::MAX);
                list.extend(ones(bits).filter_map(|bit| Some(HostId(first + u32::try_from(bit).ok()?))));
            }
        }
        list
    }

    /// Keeps a list's room for the next time.
    pub(crate) fn recycle(&mut self, mut list: Vec<HostId>) {
        list.clear();
        self.list = list;
    }
}

/// Numbers of the bits that are set.
fn ones(mut bits: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let bit = (bits != 0).then_some(bits.trailing_zeros() as usize)?;
        bits &= bits - 1;
        Some(bit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_host_is_taken_once_and_in_order() {
        let mut m = Moved::new(10_000);
        let mut taken = |add: &[(usize, u64)]| {
            add.iter().for_each(|(word, bits)| m.add(*word, *bits));
            let list = m.take();
            let ids: Vec<u32> = list.iter().map(|h| h.0).collect();
            m.recycle(list);
            ids
        };
        // Two workers, and a word that is in no table.
        let add =
            [(70, 1 << 5 | 1), (0, 1 << 63), (156, 1 << 15), (0, 1 << 63 | 1), (70, 1), (3, 0), (1 << 40, 1)];
        assert_eq!(taken(&add), [0, 63, 4480, 4485, 9999]);
        assert_eq!(taken(&[]), [0; 0], "nobody is taken twice");
        assert_eq!(taken(&[(1, 2)]), [65]);
        m.add_all();
        assert_eq!(m.take().len(), 10_000_usize.next_multiple_of(64));
    }
}
