//! The input of a product: rows in int8 with an f32 scale for each 32 columns, or as they are, or both.

use crate::isa::Isa;
use crate::packed::BLOCK;
use crate::pool::{Disjoint, Pool};
use crate::simd::{Lanes, Together, dispatch, rows_at_once};

/// The forms of activations that a matrix multiplies with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Forms {
    pub int8: bool,
    pub f32: bool,
}

/// Words of a block of 32 columns: eight with four i8 each, then these numbers.
pub(crate) const WORDS: usize = 14;
/// The scale (f32), the sum of the i8 times -8, times -128, times the scale (f32), and the sums of both halves times -32.
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
    /// Of each group of rows that one pass over the weights serves `[blocks, WORDS, rows of the group]`: what such a pass
    /// reads lies in the order in which it is read.
    words: Vec<u32>,
    together: Together,
    dense: Vec<f32>,
}

/// Fewer numbers than these are quantised sooner than another thread is there.
const SERIAL_NUMBERS: usize = 2_048;

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
            let together = rows_at_once(isa);
            let width = cols.div_ceil(BLOCK) * WORDS;
            self.words.resize(rows * width, 0);
            self.together = together;
            let dense = &self.dense;
            let all = Disjoint::new(&mut self.words);
            // Of each row its group: the first row and how many there are.
            let places: Vec<(usize, usize)> = groups(rows, together).flat_map(|group| (0..group.1).map(move |_| group)).collect();
            let quantise = |row: usize| {
                crate::scratch::with(cols.next_multiple_of(BLOCK), |values| {
                    match forms.f32 {
                        true => values[..cols].copy_from_slice(&dense[row * cols..][..cols]),
                        false => fill(row, &mut values[..cols]),
                    }
                    // Scratch memory is not zeroed, and the padding must not change a scale.
                    values[cols..].fill(0.0);
                    let (first, count) = places[row];
                    // SAFETY: the words of this row's group, of which each row writes its own; each row is handed out once.
                    unsafe { quantise_row(isa, values, all.pointer().add(first * width), row - first, count) };
                });
            };
            let chunk = if rows * cols < SERIAL_NUMBERS { rows } else { rows.div_ceil(4 * pool.threads()) };
            pool.run(rows, chunk, &|range| range.for_each(&quantise));
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
        let mut found = groups(self.rows, self.together).filter(|(first, count)| (*first..first + count).contains(&row));
        let (first, count) = found.next().unwrap_or((0, 1));
        let words = &self.words[first * self.row_words()..][..count * self.row_words()];
        let word = |block: usize, index: usize| words[(block * WORDS + index) * count + row - first];
        let value = |col: usize| {
            let (block, four) = (col / BLOCK, word(col / BLOCK, col % BLOCK / 4).to_le_bytes());
            f32::from(four[col % 4] as i8) * f32::from_bits(word(block, SCALE))
        };
        (0..self.cols).map(value).collect()
    }

    pub(crate) fn row_words(&self) -> usize {
        self.cols.div_ceil(BLOCK) * WORDS
    }

    pub(crate) fn start(&self) -> *const u32 {
        self.words.as_ptr()
    }

    pub(crate) fn together(&self) -> Together {
        self.together
    }
}

/// The first row and the number of rows of each group.
///
/// What is left at the end is split into even parts rather than a full one and a crumb.
#[inline(always)]
pub(crate) fn groups(rows: usize, together: Together) -> impl Iterator<Item = (usize, usize)> {
    let most = if rows <= together.alone { rows } else { together.many };
    let mut first = 0;
    std::iter::from_fn(move || {
        let left = rows - first;
        let count = if left <= most {
            left
        } else if left < 2 * most {
            left.div_ceil(2)
        } else {
            most
        };
        first += count;
        (count > 0).then_some((first - count, count))
    })
}

/// Writes the row `row` of a group of `count` rows.
///
/// # Safety
/// There must be room for the group, and no other thread may write this row.
unsafe fn quantise_row(isa: Isa, values: &[f32], group: *mut u32, row: usize, count: usize) {
    let blocks = values.len() / BLOCK;
    assert!(values.len() == blocks * BLOCK && row < count);
    // SAFETY: inside the group, as the caller promises; an `Isa` proves its instructions.
    unsafe {
        let (from, to) = (values.as_ptr(), group.add(row));
        dispatch!(isa, quantise_blocks(from: *const f32, to: *mut u32, count: usize, blocks: usize))
    }
}

/// # Safety
/// `from` must hold `blocks * 32` numbers and `to` have room for `blocks * WORDS` words, `step` apart.
#[inline(always)]
unsafe fn quantise_blocks<V: Lanes>(from: *const f32, to: *mut u32, step: usize, blocks: usize) {
    for block in 0..blocks {
        unsafe {
            let (low, high) = (V::load(from.add(block * BLOCK)), V::load(from.add(block * BLOCK + 16)));
            let largest = low.abs().max(high.abs()).largest();
            // Blocks so small that the inverse would overflow count as zero.
            let inverse = if largest > 1e-30 { 127.0 / largest } else { 0.0 };
            let inverse = V::splat(inverse);
            let mut fours = [0u32; 8];
            let bytes = fours.as_mut_ptr().cast::<i8>();
            let sums = [low.mul(inverse).store_i8(bytes), high.mul(inverse).store_i8(bytes.add(16))];
            let (scale, sum) = (largest / 127.0, sums[0] + sums[1]);
            let to = to.add(block * WORDS * step);
            for (index, four) in fours.into_iter().enumerate() {
                to.add(index * step).write(four);
            }
            to.add(SCALE * step).write(scale.to_bits());
            to.add(SUM_8 * step).write((-8 * sum) as u32);
            to.add(SUM_128 * step).write((-128 * sum) as u32);
            to.add(SUM_SCALED * step).write((scale * sum as f32).to_bits());
            to.add(HALVES_32 * step).write((-32 * sums[0]) as u32);
            to.add((HALVES_32 + 1) * step).write((-32 * sums[1]) as u32);
        }
    }
}
