//! Buffers kept from one pass to the next: allocating them anew costs 7–13% of a step in page faults.

use kernels::train::{AttentionScratch, LossScratch, RopeTable};

/// Everything a pass through the base needs besides weights and batch.
#[derive(Debug, Default)]
pub struct Workspace {
    pub(crate) attention: AttentionScratch,
    pub(crate) loss: LossScratch,
    rope: Option<RopeTable>,
    free: Vec<Vec<f32>>,
}

impl Workspace {
    /// A buffer of `len` numbers whose content is whatever was there before: the taker overwrites all of it.
    pub(crate) fn take(&mut self, len: usize) -> Vec<f32> {
        let fits = |buffer: &Vec<f32>| buffer.capacity() >= len;
        let best = (0..self.free.len()).filter(|i| fits(&self.free[*i])).min_by_key(|i| self.free[*i].capacity());
        let mut buffer = match best {
            Some(index) => self.free.swap_remove(index),
            None => {
                // One that is too small gives way, so that memory does not grow with the variety of batches.
                let largest = (0..self.free.len()).max_by_key(|i| self.free[*i].capacity());
                largest.map(|index| self.free.swap_remove(index));
                Vec::with_capacity(len)
            }
        };
        buffer.resize(len, 0.0);
        buffer
    }

    pub(crate) fn copy_of(&mut self, values: &[f32]) -> Vec<f32> {
        let mut buffer = self.take(values.len());
        buffer.copy_from_slice(values);
        buffer
    }

    pub(crate) fn give(&mut self, buffer: Vec<f32>) {
        self.free.push(buffer);
    }

    /// Takes the rope table out (so that the rest stays usable), grown to `positions`.
    pub(crate) fn take_rope(&mut self, theta: f32, head_dim: usize, positions: usize) -> RopeTable {
        match self.rope.take() {
            Some(rope) if rope.positions() >= positions => rope,
            _ => RopeTable::new(theta, head_dim, positions.next_power_of_two()),
        }
    }

    pub(crate) fn give_rope(&mut self, rope: RopeTable) {
        self.rope = Some(rope);
    }
}
