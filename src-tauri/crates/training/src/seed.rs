//! Seeded draws that need no stored state: the seed and a counter give the same numbers in every session.

/// The stream of initial weights, far from those of the epochs.
pub(crate) const INITIAL: u64 = u64::MAX;
/// Mixed into the seed of what is left out by dropout, whose streams are passes.
pub(crate) const DROPOUT: u64 = 0x6472_6f70_6f75_7421;

/// SplitMix64 (Steele, Lea and Flood 2014), the generator that the Java and Rust standard libraries seed others with.
#[derive(Debug, Clone)]
pub(crate) struct Draws {
    state: u64,
}

impl Draws {
    /// `stream` tells apart what one seed is used for, e.g. the epochs.
    pub fn new(seed: u64, stream: u64) -> Self {
        let mut draws = Self { state: seed };
        draws.state = draws.next() ^ stream.wrapping_mul(0xd134_2543_de82_ef95);
        draws.next();
        draws
    }

    pub fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `bound`, which must be above 0; the bias of under `bound / 2⁶⁴` does not matter here.
    pub fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.next()) * bound as u128) >> 64) as usize
    }

    /// `0..len` in random order (Fisher–Yates).
    pub fn permutation(&mut self, len: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..len).collect();
        for last in (1..len).rev() {
            order.swap(last, self.below(last + 1));
        }
        order
    }
}
