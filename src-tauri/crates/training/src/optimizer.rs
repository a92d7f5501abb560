//! AdamW with a state that can be stored: candle's keeps its moments private.

use rayon::prelude::*;

/// AdamW over one tensor (decoupled weight decay, arXiv 1711.05101; same order of operations as `torch.optim.AdamW`).
#[derive(Debug, Clone, PartialEq)]
pub struct AdamW {
    /// Updates made.
    pub step: u32,
    /// Running mean of the gradient.
    pub first: Vec<f32>,
    /// Running mean of its square.
    pub second: Vec<f32>,
    pub weight_decay: f64,
}

/// Elements of a task: small enough to share out, and always cut the same way so that sums are too.
const PIECE: usize = 1 << 16;

/// The defaults of the paper and of PyTorch.
const BETA_1: f64 = 0.9;
const BETA_2: f64 = 0.999;
const EPSILON: f64 = 1e-8;

impl AdamW {
    pub fn new(len: usize, weight_decay: f64) -> Self {
        Self { step: 0, first: vec![0.0; len], second: vec![0.0; len], weight_decay }
    }

    /// One update of `weights` by `gradient`, both as long as the state.
    pub fn update(&mut self, weights: &mut [f32], gradient: &[f32], learning_rate: f64) {
        assert!(weights.len() == self.first.len() && gradient.len() == self.first.len(), "AdamW: tensors of another shape");
        self.step += 1;
        let correction_1 = 1.0 - BETA_1.powf(f64::from(self.step));
        let correction_2 = (1.0 - BETA_2.powf(f64::from(self.step))).sqrt() as f32;
        let size = (learning_rate / correction_1) as f32;
        let keep = (1.0 - learning_rate * self.weight_decay) as f32;
        let state = self.first.par_chunks_mut(PIECE).zip(self.second.par_chunks_mut(PIECE));
        weights.par_chunks_mut(PIECE).zip(gradient.par_chunks(PIECE)).zip(state).for_each(|((weights, gradient), (first, second))| {
            for (((weight, gradient), first), second) in weights.iter_mut().zip(gradient).zip(first).zip(second) {
                *weight *= keep;
                *first += (gradient - *first) * (1.0 - BETA_1) as f32;
                *second = *second * BETA_2 as f32 + gradient * gradient * (1.0 - BETA_2) as f32;
                *weight -= size * *first / (second.sqrt() / correction_2 + EPSILON as f32);
            }
        });
    }
}

/// Scales `gradient` down to the length `limit` where it is longer; returns its length before (arXiv 1211.5063).
pub(crate) fn clip(gradient: &mut [f32], limit: f64) -> f64 {
    let norm = squares(gradient).sqrt();
    if norm > limit {
        let scale = (limit / norm) as f32;
        gradient.par_chunks_mut(PIECE).for_each(|piece| piece.iter_mut().for_each(|g| *g *= scale));
    }
    norm
}

/// The squared length, which is not finite if a number is not.
pub(crate) fn squares(values: &[f32]) -> f64 {
    let of_piece = |piece: &[f32]| piece.iter().map(|v| f64::from(*v) * f64::from(*v)).sum::<f64>();
    // Collected first, because a parallel sum would add in any order.
    values.par_chunks(PIECE).map(of_piece).collect::<Vec<_>>().into_iter().sum()
}
