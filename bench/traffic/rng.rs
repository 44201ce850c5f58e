//! Random numbers that are the same in ten years: splitmix64, and Zipf's law in integers.

/// splitmix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, OOPSLA 2014).
#[derive(Clone, Debug)]
pub(crate) struct Rng(u64);

/// The mixing function of splitmix64: a fixed scattering of numbers.
pub(crate) const fn scatter(x: u64) -> u64 {
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

impl Rng {
    /// Streams of one seed differ by `stream`.
    pub(crate) const fn new(seed: u64, stream: u64) -> Rng {
        Rng(scatter(seed ^ scatter(stream.wrapping_add(1))))
    }

    pub(crate) const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        scatter(self.0)
    }

    /// Below `n`, which is not 0 (Lemire's multiplication; its bias of n/2^32 does not matter here).
    pub(crate) const fn below(&mut self, n: u32) -> u32 {
        high32((self.next() & 0xffff_ffff) * n as u64)
    }

    /// Below `n`, which may be large.
    pub(crate) fn below_u64(&mut self, n: u64) -> u64 {
        u64::try_from((u128::from(self.next()) * u128::from(n)) >> 64).unwrap_or(0)
    }

    /// From `low` to `high`, both included.
    pub(crate) const fn between(&mut self, low: u16, high: u16) -> u16 {
        low + low16(self.below((high - low) as u32 + 1) as u64)
    }

    /// True in `percent` of 100 calls.
    pub(crate) const fn percent(&mut self, percent: u32) -> bool {
        self.below(100) < percent
    }

    /// A client's port.
    pub(crate) const fn ephemeral_port(&mut self) -> u16 {
        self.between(32_768, 60_999)
    }

    pub(crate) const fn u16(&mut self) -> u16 {
        low16(self.next())
    }

    pub(crate) const fn u32(&mut self) -> u32 {
        high32(self.next())
    }
}

/// The low 16 bits.
pub(crate) const fn low16(x: u64) -> u16 {
    let b = x.to_le_bytes();
    u16::from_le_bytes([b[0], b[1]])
}

/// The low 32 bits.
pub(crate) const fn low32(x: u64) -> u32 {
    let b = x.to_le_bytes();
    u32::from_le_bytes([b[0], b[1], b[2], b[3]])
}

const fn high32(x: u64) -> u32 {
    low32(x >> 32)
}

/// Zipf's law with exponent 1: rank `r` is chosen with a weight of 1/r.
#[derive(Debug)]
pub(crate) struct Zipf {
    cumulative: Vec<u64>,
}

impl Zipf {
    /// Ranks 0 to `n` - 1; `n` is not 0.
    pub(crate) fn new(n: u32) -> Zipf {
        let mut sum = 0;
        let cumulative = (1..=u64::from(n.max(1)))
            .map(|rank| {
                sum += (1 << 40) / rank;
                sum
            })
            .collect();
        Zipf { cumulative }
    }

    pub(crate) fn pick(&self, rng: &mut Rng) -> u32 {
        let total = self.cumulative.last().copied().unwrap_or(1);
        let at = rng.below_u64(total);
        u32::try_from(self.cumulative.partition_point(|c| *c <= at)).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_those_of_splitmix64() {
        // From the reference implementation, seed 1234567.
        let mut r = Rng(1_234_567);
        assert_eq!((r.next(), r.next()), (6_457_827_717_110_365_317, 3_203_168_211_198_807_973));
    }

    #[test]
    fn the_first_rank_is_chosen_twice_as_often_as_the_second() {
        let (zipf, mut rng) = (Zipf::new(100), Rng::new(1, 0));
        let mut counts = [0u32; 100];
        for _ in 0..100_000 {
            counts[zipf.pick(&mut rng) as usize] += 1;
        }
        assert!((1.9..2.1).contains(&(f64::from(counts[0]) / f64::from(counts[1]))), "{counts:?}");
        assert!(counts.iter().all(|c| *c > 0));
    }
}
