//! Frozen weights in bf16, int8 or int4; products take them as they are held, a panel at a time.

use super::matrix::{Matrix, MatrixMut, Precision, Store, Threads, multiply_in};
use super::pack::{Rows, Side, joined, to_bf16};
use half::f16;
use rayon::prelude::*;

/// Columns that share a scale.
const BLOCK: usize = 32;

/// How weights are held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quantisation {
    /// The upper half of an f32: 16 bits a weight.
    Bf16,
    /// Symmetric, scale = largest magnitude / 127 (as GGUF's Q8_0): 8.5 bits a weight.
    Int8,
    /// Scale = the value of largest magnitude / −8 (as GGUF's Q4_0): 4.5 bits a weight.
    Int4,
}

/// A matrix `[rows, columns]` in blocks of 32 columns, padded with zeros; those of integers have an f16 scale each.
pub struct QuantisedMatrix {
    rows: usize,
    columns: usize,
    quantisation: Quantisation,
    /// `[rows, blocks]`, or none.
    scales: Vec<f16>,
    /// `[rows, blocks]` of 64 bytes, of 32, or of 16 with column i in the low and i + 16 in the high half of byte i.
    values: Vec<u8>,
}

impl std::fmt::Debug for QuantisedMatrix {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(f, "QuantisedMatrix({:?}, {} × {})", self.quantisation, self.rows, self.columns)
    }
}

impl QuantisedMatrix {
    /// Panics if `weights` is not a number of rows.
    pub fn new(weights: &[f32], columns: usize, quantisation: Quantisation) -> Self {
        assert!(columns > 0 && weights.len().is_multiple_of(columns), "rows of {columns} do not fit {} weights", weights.len());
        let rows = weights.len() / columns;
        let blocks = rows * columns.div_ceil(BLOCK);
        let scales = if quantisation == Quantisation::Bf16 { 0 } else { blocks };
        let (scales, values) = (Vec::with_capacity(scales), Vec::with_capacity(blocks * quantisation.bytes()));
        let mut matrix = Self { rows, columns, quantisation, scales, values };
        for block in weights.chunks_exact(columns).flat_map(|row| row.chunks(BLOCK)) {
            let mut padded = [0.0; BLOCK];
            padded[..block.len()].copy_from_slice(block);
            matrix.push(&padded);
        }
        matrix
    }

    pub fn rows(&self) -> usize {
        self.rows
    }

    pub fn columns(&self) -> usize {
        self.columns
    }

    pub fn bytes(&self) -> usize {
        self.scales.len() * 2 + self.values.len()
    }

    /// [`Self::bytes`] of a matrix of this shape.
    pub fn bytes_of(rows: usize, columns: usize, quantisation: Quantisation) -> usize {
        rows * columns.div_ceil(BLOCK) * (quantisation.bytes() + if quantisation == Quantisation::Bf16 { 0 } else { 2 })
    }

    /// Everything that decides what the weights are, for a hash.
    pub fn content(&self) -> impl Iterator<Item = u8> + '_ {
        self.scales.iter().flat_map(|scale| scale.to_le_bytes()).chain(self.values.iter().copied())
    }

    /// `out[m, rows] (+)= x[m, columns] · weightsᵀ`. Panics if shapes disagree.
    pub fn product_nt(&self, out: MatrixMut, x: Matrix, precision: Precision, store: Store) {
        multiply_in(precision, out, &x, Side::Plain, self, Side::Transposed, store, Threads::Pool);
    }

    /// `out[m, columns] (+)= y[m, rows] · weights`. Panics if shapes disagree.
    pub fn product_nn(&self, out: MatrixMut, y: Matrix, precision: Precision, store: Store) {
        multiply_in(precision, out, &y, Side::Plain, self, Side::Plain, store, Threads::Pool);
    }

    /// Writes the weights as they are used, `[rows, columns]`.
    pub fn dequantise(&self, out: &mut [f32]) {
        assert_eq!(out.len(), self.rows * self.columns, "dequantise: another shape");
        out.par_chunks_mut(self.columns).enumerate().with_min_len(16).for_each(|(row, out)| {
            super::vector::vectorized(
                #[inline(always)]
                || out.chunks_mut(BLOCK / 2).enumerate().for_each(|(place, out)| self.read(row, place * BLOCK / 2, out)),
            );
        });
    }

    fn push(&mut self, block: &[f32; BLOCK]) {
        let furthest = block.iter().fold(0f32, |most, value| if value.abs() > most.abs() { *value } else { most });
        let scale = match self.quantisation {
            Quantisation::Bf16 => return self.values.extend(block.iter().flat_map(|value| to_bf16(*value).to_le_bytes())),
            Quantisation::Int8 => f16::from_f32(furthest.abs() / 127.0),
            Quantisation::Int4 => f16::from_f32(furthest / -8.0),
        };
        let inverse = if scale.to_f32() == 0.0 { 0.0 } else { 1.0 / scale.to_f32() };
        self.scales.push(scale);
        if self.quantisation == Quantisation::Int8 {
            self.values.extend(block.iter().map(|value| (value * inverse).round().clamp(-127.0, 127.0) as i8 as u8));
        } else {
            let four = |value: f32| (value * inverse + 8.5).clamp(0.0, 15.0) as u8;
            self.values.extend((0..BLOCK / 2).map(|i| four(block[i]) | four(block[i + BLOCK / 2]) << 4));
        }
    }
}

impl Rows for QuantisedMatrix {
    fn rows(&self) -> usize {
        self.rows
    }

    fn columns(&self) -> usize {
        self.columns
    }

    fn place(&self, row: usize, column: usize) -> *const u8 {
        let block = row * self.columns.div_ceil(BLOCK) + column / BLOCK;
        self.values[block * self.quantisation.bytes()..].as_ptr()
    }

    fn line(&self) -> (usize, usize) {
        (1, 64 / (self.quantisation.bytes() / BLOCK).max(1))
    }

    #[inline(always)]
    fn read(&self, row: usize, first: usize, out: &mut [f32]) {
        let block = row * self.columns.div_ceil(BLOCK) + first / BLOCK;
        let (width, within) = (self.quantisation.bytes(), first % BLOCK);
        debug_assert!(within % (BLOCK / 2) == 0 && out.len() <= BLOCK / 2, "half a block at a time");
        let values = &self.values[block * width..][..width];
        let mut numbers = [0f32; BLOCK / 2];
        match self.quantisation {
            Quantisation::Bf16 => {
                for (number, bytes) in numbers.iter_mut().zip(values[2 * within..].chunks_exact(2)) {
                    *number = joined(0, u16::from_le_bytes([bytes[0], bytes[1]]));
                }
            }
            Quantisation::Int8 => {
                let scale = self.scales[block].to_f32();
                for (number, byte) in numbers.iter_mut().zip(&values[within..]) {
                    *number = f32::from(*byte as i8) * scale;
                }
            }
            Quantisation::Int4 => {
                let (scale, shift) = (self.scales[block].to_f32(), if within == 0 { 0 } else { 4 });
                for (number, byte) in numbers.iter_mut().zip(values) {
                    *number = (f32::from(byte >> shift & 15) - 8.0) * scale;
                }
            }
        }
        out.copy_from_slice(&numbers[..out.len()]);
    }

    #[inline(always)]
    fn read_pairs(&self, row: usize, first: usize, out: &mut [f32]) {
        if self.quantisation == Quantisation::Bf16 {
            // Rows are padded to whole blocks, so a pair at an odd end reads a zero.
            let start = 2 * (row * self.columns.next_multiple_of(BLOCK) + first);
            for (word, bytes) in out.iter_mut().zip(self.values[start..].chunks_exact(4)) {
                *word = f32::from_bits(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]));
            }
        } else {
            super::pack::rounded_pairs(self, row, first, out);
        }
    }
}

impl Quantisation {
    /// Of a block, without its scale.
    fn bytes(self) -> usize {
        match self {
            Self::Bf16 => 2 * BLOCK,
            Self::Int8 => BLOCK,
            Self::Int4 => BLOCK / 2,
        }
    }
}
