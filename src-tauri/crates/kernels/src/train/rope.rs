//! Rotary position embedding (arXiv 2104.09864), in the half-split layout of the Hugging Face Llama weights.

/// Cosines and sines of every position, `[positions, head_dim / 2]`.
#[derive(Debug, Clone)]
pub struct RopeTable {
    half: usize,
    cosine: Vec<f32>,
    sine: Vec<f32>,
}

impl RopeTable {
    /// `head_dim` must be even.
    pub fn new(theta: f32, head_dim: usize, positions: usize) -> Self {
        assert!(head_dim > 0 && head_dim.is_multiple_of(2), "rope: head_dim {head_dim} is not even");
        let half = head_dim / 2;
        let mut table = Self { half, cosine: Vec::with_capacity(positions * half), sine: Vec::with_capacity(positions * half) };
        for position in 0..positions {
            for i in 0..half {
                // f32 as in transformers, so that far positions agree with the weights' own training.
                let frequency = 1.0 / theta.powf((2 * i) as f32 / head_dim as f32);
                let (sine, cosine) = (position as f32 * frequency).sin_cos();
                table.cosine.push(cosine);
                table.sine.push(sine);
            }
        }
        table
    }

    /// Positions in the table.
    pub fn positions(&self) -> usize {
        self.cosine.len() / self.half
    }

    pub(super) fn head_dim(&self) -> usize {
        2 * self.half
    }

    /// `out = scale · rotate(source, position)`, both `[head_dim]`.
    #[inline(always)]
    pub(super) fn rotate(&self, position: usize, source: &[f32], scale: f32, out: &mut [f32]) {
        self.turn(position, source, scale, 1.0, out);
    }

    /// The transpose (= inverse) of [`Self::rotate`], which carries gradients back.
    #[inline(always)]
    pub(super) fn rotate_back(&self, position: usize, source: &[f32], scale: f32, out: &mut [f32]) {
        self.turn(position, source, scale, -1.0, out);
    }

    #[inline(always)]
    fn turn(&self, position: usize, source: &[f32], scale: f32, direction: f32, out: &mut [f32]) {
        let half = self.half;
        let cosine = &self.cosine[position * half..][..half];
        let sine = &self.sine[position * half..][..half];
        let (first, second) = source[..2 * half].split_at(half);
        let (out_first, out_second) = out[..2 * half].split_at_mut(half);
        for i in 0..half {
            let (c, s) = (cosine[i] * scale, direction * sine[i] * scale);
            out_first[i] = first[i] * c - second[i] * s;
            out_second[i] = second[i] * c + first[i] * s;
        }
    }
}
