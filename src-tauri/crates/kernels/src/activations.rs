//! The input of a product: rows in int8 with an f32 scale for each 32 columns, or as they are, or both.

use crate::isa::Isa;
use crate::packed::BLOCK;
use crate::pool::Pool;
use crate::simd::{Lanes, dispatch};

/// The forms of activations that a matrix multiplies with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Forms {
    pub int8: bool,
    pub f32: bool,
}

/// Words of a block of 32 columns.
pub(crate) const WORDS: usize = 14;
/// Where, in columns of `[blocks]` words behind the values, the other numbers of a row begin: the scale (f32), the sum of the
/// i8 times -8, times -128, times the scale (f32), and the sums of both halves times -32 `[blocks, 2]`.
pub(crate) const SCALE: usize = 8;
pub(crate) const SUM_8: usize = 9;
pub(crate) const SUM_128: usize = 10;
pub(crate) const SUM_SCALED: usize = 11;
pub(crate) const HALVES_32: usize = 12;

/// Rows of activations; the memory is used again.
#[derive(Default)]
pub struct Activations {
    cols: usize,
    rows: usize,
    forms: Forms,
    /// Of each row `[blocks * 8]` words of four i8 each, then the columns of [`SCALE`] and so on.
    words: Vec<u32>,
    dense: Vec<f32>,
}

impl Activations {
    /// Replaces the contents by `rows` rows of `cols` numbers, each written by `fill`, in the wanted forms.
    ///
    /// int8 is symmetric, scale = largest magnitude / 127, rounded to nearest even. A row depends on its own numbers only.
    pub fn fill(&mut self, isa: Isa, pool: &Pool, forms: Forms, rows: usize, cols: usize, fill: &(dyn Fn(usize, &mut [f32]) + Sync)) {
        (self.rows, self.cols, self.forms) = (rows, cols, forms);
        if forms.f32 {
            self.dense.resize(rows * cols, 0.0);
            pool.rows(&mut self.dense, cols, fill);
        }
        if forms.int8 {
            let width = self.row_words();
            self.words.resize(rows * width, 0);
            let dense = &self.dense;
            pool.rows(&mut self.words, width, &|row, words| {
                crate::scratch::with(cols.next_multiple_of(BLOCK), |values| {
                    match forms.f32 {
                        true => values[..cols].copy_from_slice(&dense[row * cols..][..cols]),
                        false => fill(row, &mut values[..cols]),
                    }
                    // Scratch memory is not zeroed, and the padding must not change a scale.
                    values[cols..].fill(0.0);
                    quantise_row(isa, values, words);
                });
            });
        }
    }

    pub fn rows(&self) -> usize {
        self.rows
    }

    pub fn cols(&self) -> usize {
        self.cols
    }

    pub fn forms(&self) -> Forms {
        self.forms
    }

    /// The rows as they are, `[rows, cols]`; of use only in the form f32.
    pub fn dense(&self) -> &[f32] {
        &self.dense
    }

    /// A row of int8 as it is used: what the oracle multiplies with.
    pub fn unpack_row(&self, row: usize) -> Vec<f32> {
        let blocks = self.cols.div_ceil(BLOCK);
        let words = &self.words[row * self.row_words()..][..self.row_words()];
        let value = |col: usize| {
            let four = words[col / 4].to_le_bytes();
            f32::from(four[col % 4] as i8) * f32::from_bits(words[blocks * SCALE + col / BLOCK])
        };
        (0..self.cols).map(value).collect()
    }

    pub(crate) fn row_words(&self) -> usize {
        self.cols.div_ceil(BLOCK) * WORDS
    }

    pub(crate) fn start(&self) -> *const u32 {
        self.words.as_ptr()
    }
}

fn quantise_row(isa: Isa, values: &[f32], words: &mut [u32]) {
    let blocks = values.len() / BLOCK;
    assert!(values.len() == blocks * BLOCK && words.len() == blocks * WORDS);
    let (from, to) = (values.as_ptr(), words.as_mut_ptr());
    // SAFETY: the lengths were checked, and an `Isa` proves its instructions.
    unsafe { dispatch!(isa, quantise_blocks(from: *const f32, to: *mut u32, blocks: usize)) }
}

/// # Safety
/// `from` must hold `blocks * 32` numbers and `to` `blocks * WORDS` words.
#[inline(always)]
unsafe fn quantise_blocks<V: Lanes>(from: *const f32, to: *mut u32, blocks: usize) {
    for block in 0..blocks {
        unsafe {
            let (low, high) = (V::load(from.add(block * BLOCK)), V::load(from.add(block * BLOCK + 16)));
            let largest = low.abs().max(high.abs()).largest();
            // Blocks so small that the inverse would overflow count as zero.
            let inverse = if largest > 1e-30 { 127.0 / largest } else { 0.0 };
            let bytes = to.add(block * 8).cast::<i8>();
            let inverse = V::splat(inverse);
            let sums = [low.mul(inverse).store_i8(bytes), high.mul(inverse).store_i8(bytes.add(16))];
            let (scale, sum) = (largest / 127.0, sums[0] + sums[1]);
            to.add(blocks * SCALE + block).write(scale.to_bits());
            to.add(blocks * SUM_8 + block).write((-8 * sum) as u32);
            to.add(blocks * SUM_128 + block).write((-128 * sum) as u32);
            to.add(blocks * SUM_SCALED + block).write((scale * sum as f32).to_bits());
            to.add(blocks * HALVES_32 + 2 * block).write((-32 * sums[0]) as u32);
            to.add(blocks * HALVES_32 + 2 * block + 1).write((-32 * sums[1]) as u32);
        }
    }
}
