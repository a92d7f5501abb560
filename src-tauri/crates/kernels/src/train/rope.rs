//! Rotary position embedding (arXiv 2104.09864), in the half-split layout of the Hugging Face Llama weights.

/// Cosines and sines of every position, `[positions, pairs]`.
#[derive(Debug, Clone)]
pub struct RopeTable {
    head_dim: usize,
    /// Pairs that turn: the first `2 · half` numbers of a head. The others stay as they are (Phi-3's partial rotation).
    half: usize,
    cosine: Vec<f32>,
    sine: Vec<f32>,
}

impl RopeTable {
    /// Pair `i` of a head turns by `frequencies[i]` at each position; cosine and sine are multiplied with `attention`.
    ///
    /// Angles are taken in f64: at position 8,000 one in f32 would be off by more than a half's rounding.
    pub fn new(frequencies: &[f64], attention: f64, head_dim: usize, positions: usize) -> Self {
        let half = frequencies.len();
        assert!(half > 0 && 2 * half <= head_dim, "rope: {half} pairs do not fit a head of {head_dim}");
        let mut table = Self { head_dim, half, cosine: Vec::with_capacity(positions * half), sine: Vec::with_capacity(positions * half) };
        for position in 0..positions {
            for frequency in frequencies {
                let (sine, cosine) = (position as f64 * frequency).sin_cos();
                table.cosine.push((cosine * attention) as f32);
                table.sine.push((sine * attention) as f32);
            }
        }
        table
    }

    /// Positions in the table.
    pub fn positions(&self) -> usize {
        self.cosine.len() / self.half
    }

    pub(super) fn head_dim(&self) -> usize {
        self.head_dim
    }

    /// `out = scale · rotate(source, position)`, both `[head_dim]`.
    #[inline(always)]
    pub(super) fn rotate(&self, position: usize, source: &[f32], scale: f32, out: &mut [f32]) {
        self.turn(position, source, scale, 1.0, out);
    }

    /// The transpose of [`Self::rotate`], which carries gradients back.
    #[inline(always)]
    pub(super) fn rotate_back(&self, position: usize, source: &[f32], scale: f32, out: &mut [f32]) {
        self.turn(position, source, scale, -1.0, out);
    }

    #[inline(always)]
    fn turn(&self, position: usize, source: &[f32], scale: f32, direction: f32, out: &mut [f32]) {
        let half = self.half;
        let cosine = &self.cosine[position * half..][..half];
        let sine = &self.sine[position * half..][..half];
        let (source, source_rest) = source[..self.head_dim].split_at(2 * half);
        let (out, out_rest) = out[..self.head_dim].split_at_mut(2 * half);
        let (first, second) = source.split_at(half);
        let (out_first, out_second) = out.split_at_mut(half);
        for i in 0..half {
            let (c, s) = (cosine[i] * scale, direction * sine[i] * scale);
            out_first[i] = first[i] * c - second[i] * s;
            out_second[i] = second[i] * c + first[i] * s;
        }
        for (out, source) in out_rest.iter_mut().zip(source_rest) {
            *out = source * scale;
        }
    }
}
