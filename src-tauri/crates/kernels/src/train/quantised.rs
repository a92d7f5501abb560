//! Frozen weights in int8 or int4, turned back into f32 a matrix at a time for the products of training.

use half::f16;
use rayon::prelude::*;

/// Columns that share a scale.
const BLOCK: usize = 32;

/// How weights are held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quantisation {
    /// Symmetric, scale = largest magnitude / 127 (as GGUF's Q8_0): 8.5 bits a weight.
    Int8,
    /// Scale = the value of largest magnitude / −8 (as GGUF's Q4_0): 4.5 bits a weight.
    Int4,
}

/// A matrix `[rows, columns]` with an f16 scale for each row and 32 columns.
pub struct QuantisedMatrix {
    columns: usize,
    quantisation: Quantisation,
    /// `[rows, blocks]`.
    scales: Vec<f16>,
    /// `[rows, blocks]` of 32 bytes, or of 16 with column i in the low and i + 16 in the high half of byte i.
    values: Vec<u8>,
}

impl std::fmt::Debug for QuantisedMatrix {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(f, "QuantisedMatrix({:?}, {} × {})", self.quantisation, self.rows(), self.columns)
    }
}

impl QuantisedMatrix {
    /// Panics if `weights` is not a number of rows.
    pub fn new(weights: &[f32], columns: usize, quantisation: Quantisation) -> Self {
        assert!(columns > 0 && weights.len().is_multiple_of(columns), "rows of {columns} do not fit {} weights", weights.len());
        let blocks = weights.len() / columns * columns.div_ceil(BLOCK);
        let mut matrix =
            Self { columns, quantisation, scales: Vec::with_capacity(blocks), values: Vec::with_capacity(blocks * quantisation.bytes()) };
        for block in weights.chunks_exact(columns).flat_map(|row| row.chunks(BLOCK)) {
            let mut padded = [0.0; BLOCK];
            padded[..block.len()].copy_from_slice(block);
            matrix.push(&padded);
        }
        matrix
    }

    pub fn rows(&self) -> usize {
        self.scales.len() / self.columns.div_ceil(BLOCK)
    }

    pub fn columns(&self) -> usize {
        self.columns
    }

    pub fn bytes(&self) -> usize {
        self.scales.len() * 2 + self.values.len()
    }

    /// Everything that decides what the weights are, for a hash.
    pub fn content(&self) -> impl Iterator<Item = u8> + '_ {
        self.scales.iter().flat_map(|scale| scale.to_le_bytes()).chain(self.values.iter().copied())
    }

    /// Writes the weights as they are used, `[rows, columns]`.
    pub fn dequantise(&self, out: &mut [f32]) {
        assert_eq!(out.len(), self.rows() * self.columns, "dequantise: another shape");
        let blocks = self.columns.div_ceil(BLOCK);
        let rows = 16;
        let width = self.quantisation.bytes();
        out.par_chunks_mut(rows * self.columns)
            .zip(self.scales.par_chunks(rows * blocks))
            .zip(self.values.par_chunks(rows * blocks * width))
            .for_each(|((out, scales), values)| {
                super::vector::vectorized(
                    #[inline(always)]
                    || {
                        let per_row = scales.chunks_exact(blocks).zip(values.chunks_exact(blocks * width));
                        for (out, (scales, values)) in out.chunks_exact_mut(self.columns).zip(per_row) {
                            for ((out, scale), values) in out.chunks_mut(BLOCK).zip(scales).zip(values.chunks_exact(width)) {
                                let scale = scale.to_f32();
                                let mut block = [0f32; BLOCK];
                                match self.quantisation {
                                    Quantisation::Int8 => {
                                        for i in 0..BLOCK {
                                            block[i] = f32::from(values[i] as i8) * scale;
                                        }
                                    }
                                    Quantisation::Int4 => {
                                        for i in 0..BLOCK / 2 {
                                            block[i] = (f32::from(values[i] & 15) - 8.0) * scale;
                                            block[i + BLOCK / 2] = (f32::from(values[i] >> 4) - 8.0) * scale;
                                        }
                                    }
                                }
                                out.copy_from_slice(&block[..out.len()]);
                            }
                        }
                    },
                );
            });
    }

    fn push(&mut self, block: &[f32; BLOCK]) {
        let furthest = block.iter().fold(0f32, |most, value| if value.abs() > most.abs() { *value } else { most });
        let scale = match self.quantisation {
            Quantisation::Int8 => f16::from_f32(furthest.abs() / 127.0),
            Quantisation::Int4 => f16::from_f32(furthest / -8.0),
        };
        let inverse = if scale.to_f32() == 0.0 { 0.0 } else { 1.0 / scale.to_f32() };
        self.scales.push(scale);
        match self.quantisation {
            Quantisation::Int8 => {
                self.values.extend(block.iter().map(|value| (value * inverse).round().clamp(-127.0, 127.0) as i8 as u8));
            }
            Quantisation::Int4 => {
                let four = |value: f32| (value * inverse + 8.5).clamp(0.0, 15.0) as u8;
                self.values.extend((0..BLOCK / 2).map(|i| four(block[i]) | four(block[i + BLOCK / 2]) << 4));
            }
        }
    }
}

impl Quantisation {
    /// Of a block, without its scale.
    fn bytes(self) -> usize {
        match self {
            Self::Int8 => BLOCK,
            Self::Int4 => BLOCK / 2,
        }
    }
}
