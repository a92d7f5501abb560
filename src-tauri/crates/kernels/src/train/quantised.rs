//! Frozen weights in bf16, int8 or int4; products take them as they are held, a panel at a time.

use super::matrix::{Matrix, MatrixMut, Precision, Store, Threads, multiply_in};
use super::pack::{Rows, Side};
use super::pairs::PairPanels;
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

/// A matrix `[rows, columns]`.
pub struct QuantisedMatrix {
    quantisation: Quantisation,
    held: Held,
}

enum Held {
    Pairs(PairPanels),
    Blocks(Blocks),
}

/// A matrix in blocks of 32 columns, padded with zeros, that have an f16 scale each.
struct Blocks {
    rows: usize,
    columns: usize,
    /// Or int8.
    four_bits: bool,
    /// `[rows, blocks]`
    scales: Vec<f16>,
    /// `[rows, blocks]` of 32 bytes, or of 16 with column i in the low and i + 16 in the high half of byte i.
    values: Vec<u8>,
}

impl std::fmt::Debug for QuantisedMatrix {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(f, "QuantisedMatrix({:?}, {} × {})", self.quantisation, self.rows(), self.columns())
    }
}

/// Runs an expression on whichever kind of [`Rows`] a matrix is held in.
macro_rules! held {
    ($matrix:expr, $rows:ident => $work:expr) => {
        match &$matrix.held {
            Held::Pairs($rows) => $work,
            Held::Blocks($rows) => $work,
        }
    };
}

impl QuantisedMatrix {
    /// Panics if `weights` is not a number of rows.
    pub fn new(weights: &[f32], columns: usize, quantisation: Quantisation) -> Self {
        assert!(columns > 0 && weights.len().is_multiple_of(columns), "rows of {columns} do not fit {} weights", weights.len());
        let held = match quantisation {
            Quantisation::Bf16 => Held::Pairs(PairPanels::new(weights, columns)),
            Quantisation::Int8 => Held::Blocks(Blocks::new(weights, columns, false)),
            Quantisation::Int4 => Held::Blocks(Blocks::new(weights, columns, true)),
        };
        Self { quantisation, held }
    }

    pub fn rows(&self) -> usize {
        held!(self, rows => rows.rows())
    }

    pub fn columns(&self) -> usize {
        held!(self, rows => rows.columns())
    }

    pub fn bytes(&self) -> usize {
        match &self.held {
            Held::Pairs(panels) => panels.bytes(),
            Held::Blocks(blocks) => blocks.scales.len() * 2 + blocks.values.len(),
        }
    }

    /// [`Self::bytes`] of a matrix of this shape.
    pub fn bytes_of(rows: usize, columns: usize, quantisation: Quantisation) -> usize {
        match quantisation {
            Quantisation::Bf16 => PairPanels::bytes_of(rows, columns),
            Quantisation::Int8 => rows * columns.div_ceil(BLOCK) * (BLOCK + 2),
            Quantisation::Int4 => rows * columns.div_ceil(BLOCK) * (BLOCK / 2 + 2),
        }
    }

    /// Hands out everything that decides what the weights are, for a hash, a piece at a time: the same whatever the layout of bf16,
    /// row by row in whole blocks.
    pub fn content(&self, mut take: impl FnMut(&[u8])) {
        match &self.held {
            Held::Pairs(panels) => {
                let columns = panels.columns().next_multiple_of(BLOCK);
                let mut bytes = Vec::with_capacity(2 * columns);
                for row in 0..panels.rows() {
                    bytes.clear();
                    (0..columns).for_each(|column| bytes.extend(panels.bits(row, column).to_le_bytes()));
                    take(&bytes);
                }
            }
            Held::Blocks(blocks) => {
                blocks.scales.iter().for_each(|scale| take(&scale.to_le_bytes()));
                take(&blocks.values);
            }
        }
    }

    /// `out[m, rows] (+)= x[m, columns] · weightsᵀ`. Panics if shapes disagree.
    pub fn product_nt(&self, out: MatrixMut, x: Matrix, precision: Precision, store: Store) {
        held!(self, rows => multiply_in(precision, out, &x, Side::Plain, rows, Side::Transposed, store, Threads::Pool));
    }

    /// `out[m, columns] (+)= y[m, rows] · weights`. Panics if shapes disagree.
    pub fn product_nn(&self, out: MatrixMut, y: Matrix, precision: Precision, store: Store) {
        held!(self, rows => multiply_in(precision, out, &y, Side::Plain, rows, Side::Plain, store, Threads::Pool));
    }

    /// Writes the weights as they are used, `[rows, columns]`.
    pub fn dequantise(&self, out: &mut [f32]) {
        assert_eq!(out.len(), self.rows() * self.columns(), "dequantise: another shape");
        out.par_chunks_mut(self.columns()).enumerate().with_min_len(16).for_each(|(row, out)| {
            held!(self, rows => super::vector::vectorized(
                #[inline(always)]
                || out.chunks_mut(BLOCK / 2).enumerate().for_each(|(place, out)| rows.read(row, place * BLOCK / 2, out)),
            ));
        });
    }
}

impl Blocks {
    fn new(weights: &[f32], columns: usize, four_bits: bool) -> Self {
        let rows = weights.len() / columns;
        let blocks = rows * columns.div_ceil(BLOCK);
        let (scales, values) = (Vec::with_capacity(blocks), Vec::with_capacity(blocks * if four_bits { BLOCK / 2 } else { BLOCK }));
        let mut matrix = Self { rows, columns, four_bits, scales, values };
        for block in weights.chunks_exact(columns).flat_map(|row| row.chunks(BLOCK)) {
            let mut padded = [0.0; BLOCK];
            padded[..block.len()].copy_from_slice(block);
            matrix.push(&padded);
        }
        matrix
    }

    /// Of a block, without its scale.
    fn bytes(&self) -> usize {
        if self.four_bits { BLOCK / 2 } else { BLOCK }
    }

    fn push(&mut self, block: &[f32; BLOCK]) {
        let furthest = block.iter().fold(0f32, |most, value| if value.abs() > most.abs() { *value } else { most });
        let scale = f16::from_f32(if self.four_bits { furthest / -8.0 } else { furthest.abs() / 127.0 });
        let inverse = if scale.to_f32() == 0.0 { 0.0 } else { 1.0 / scale.to_f32() };
        self.scales.push(scale);
        if self.four_bits {
            let four = |value: f32| (value * inverse + 8.5).clamp(0.0, 15.0) as u8;
            self.values.extend((0..BLOCK / 2).map(|i| four(block[i]) | four(block[i + BLOCK / 2]) << 4));
        } else {
            self.values.extend(block.iter().map(|value| (value * inverse).round().clamp(-127.0, 127.0) as i8 as u8));
        }
    }
}

impl Rows for Blocks {
    fn rows(&self) -> usize {
        self.rows
    }

    fn columns(&self) -> usize {
        self.columns
    }

    fn place(&self, row: usize, column: usize) -> *const u8 {
        let block = row * self.columns.div_ceil(BLOCK) + column / BLOCK;
        self.values[block * self.bytes()..].as_ptr()
    }

    fn line(&self) -> (usize, usize) {
        (1, 64)
    }

    #[inline(always)]
    fn read(&self, row: usize, first: usize, out: &mut [f32]) {
        let block = row * self.columns.div_ceil(BLOCK) + first / BLOCK;
        let (width, within) = (self.bytes(), first % BLOCK);
        debug_assert!(within % (BLOCK / 2) == 0 && out.len() <= BLOCK / 2, "half a block at a time");
        let (values, scale) = (&self.values[block * width..][..width], self.scales[block].to_f32());
        let mut numbers = [0f32; BLOCK / 2];
        if self.four_bits {
            let shift = if within == 0 { 0 } else { 4 };
            for (number, byte) in numbers.iter_mut().zip(values) {
                *number = (f32::from(byte >> shift & 15) - 8.0) * scale;
            }
        } else {
            for (number, byte) in numbers.iter_mut().zip(&values[within..]) {
                *number = f32::from(*byte as i8) * scale;
            }
        }
        out.copy_from_slice(&numbers[..out.len()]);
    }
}
