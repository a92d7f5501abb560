//! AdamW with a state that can be stored: candle's keeps its moments private.

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
        for (((weight, gradient), first), second) in weights.iter_mut().zip(gradient).zip(&mut self.first).zip(&mut self.second) {
            *weight *= keep;
            *first += (gradient - *first) * (1.0 - BETA_1) as f32;
            *second = *second * BETA_2 as f32 + gradient * gradient * (1.0 - BETA_2) as f32;
            *weight -= size * *first / (second.sqrt() / correction_2 + EPSILON as f32);
        }
    }
}

/// Scales `gradient` down to the length `limit` where it is longer; returns its length before (arXiv 1211.5063).
pub(crate) fn clip(gradient: &mut [f32], limit: f64) -> f64 {
    let norm = gradient.iter().map(|g| f64::from(*g) * f64::from(*g)).sum::<f64>().sqrt();
    if norm > limit {
        let scale = (limit / norm) as f32;
        gradient.iter_mut().for_each(|g| *g *= scale);
    }
    norm
}
