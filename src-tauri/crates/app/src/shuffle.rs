//! Orders drawn from a seed.

use crate::write::candidate_seed;

/// Draws orders from a seed (Fisher and Yates).
pub(crate) struct Shuffle {
    seed: u32,
    drawn: usize,
}

impl Shuffle {
    pub fn new(seed: u32) -> Self {
        Self { seed, drawn: 0 }
    }

    pub fn of<T: Clone>(&mut self, items: &[T]) -> Vec<T> {
        let mut items = items.to_vec();
        for last in (1..items.len()).rev() {
            let other = candidate_seed(self.seed, self.drawn) % (last as u64 + 1);
            self.drawn += 1;
            items.swap(last, other as usize);
        }
        items
    }
}
