//! Frozen weights in bf16, held in the very order in which products of bf16 pairs read them.
//!
//! As in [`super::panels`], 32 rows lie side by side; a word holds two neighbouring columns of one row. That is what the tiles want
//! for `x · weightsᵀ`; for `y · weights` the halves of the words of two rows change places and blocks are turned.

use super::pack::{EDGE, Rows, joined, to_bf16, turn};
use super::tile::{Lanes, PANEL};
use rayon::prelude::*;
use std::ops::Range;

/// A matrix `[rows, columns]` as `[panels, column pairs, 32]` words; rows and columns that it lacks are zeros.
pub struct PairPanels {
    rows: usize,
    columns: usize,
    words: Vec<f32>,
}

/// The words of one pair of columns in one panel.
type Words = [f32; PANEL];
const ZEROS: Words = [0.0; PANEL];
/// Depths of a product that a panel or a block of column pairs stands for.
const DEPTHS: usize = 2 * EDGE;

impl PairPanels {
    /// Of row-major `weights`, rounded to the nearest bf16.
    pub fn new(weights: &[f32], columns: usize) -> Self {
        let rows = weights.len() / columns;
        let mut words = vec![0.0; Self::bytes_of(rows, columns) / size_of::<f32>()];
        let panels = words.par_chunks_mut(columns.div_ceil(2) * PANEL).zip(weights.par_chunks(PANEL * columns));
        panels.for_each(|(words, panel)| {
            for (row, values) in panel.chunks_exact(columns).enumerate() {
                for (pair, values) in values.chunks(2).enumerate() {
                    words[pair * PANEL + row] = joined(to_bf16(values[0]), values.get(1).map_or(0, |value| to_bf16(*value)));
                }
            }
        });
        Self { rows, columns, words }
    }

    pub fn bytes(&self) -> usize {
        self.words.len() * size_of::<f32>()
    }

    pub fn bytes_of(rows: usize, columns: usize) -> usize {
        rows.next_multiple_of(PANEL) * columns.div_ceil(2) * size_of::<f32>()
    }

    /// The bf16 of an element; zero beyond the last column.
    pub fn bits(&self, row: usize, column: usize) -> u16 {
        match column < self.columns {
            true => (self.words[self.at(row, column)].to_bits() >> (16 * (column % 2))) as u16,
            false => 0,
        }
    }

    fn at(&self, row: usize, column: usize) -> usize {
        (row / PANEL * self.columns.div_ceil(2) + column / 2) * PANEL + row % PANEL
    }

    /// The pairs of columns from `column` on in the panel of `row`; zeros behind the last one.
    #[inline(always)]
    fn pairs<'s>(&'s self, row: usize, column: usize) -> impl Fn(usize) -> &'s Words {
        let there = self.columns.saturating_sub(column).div_ceil(2);
        let from = if there > 0 { &self.words[self.at(row, column)..] } else { &[] };
        move |pair| from.get(pair * PANEL..).and_then(|from| from.first_chunk()).filter(|_| pair < there).unwrap_or(&ZEROS)
    }
}

/// The low or the high half of each word.
#[inline(always)]
fn halves<const HIGH: bool>(words: &Words) -> [u16; PANEL] {
    words.map(|word| (word.to_bits() >> if HIGH { 16 } else { 0 }) as u16)
}

/// A column's values of all rows of a panel as pairs of neighbouring rows.
#[inline(always)]
fn paired(column: [u16; PANEL]) -> [f32; EDGE] {
    std::array::from_fn(|pair| joined(column[2 * pair], column[2 * pair + 1]))
}

/// A column's values of half of the rows of a panel.
#[inline(always)]
fn widened(column: &[u16]) -> [f32; EDGE] {
    std::array::from_fn(|row| joined(0, column[row]))
}

impl Rows for PairPanels {
    fn rows(&self) -> usize {
        self.rows
    }

    fn columns(&self) -> usize {
        self.columns
    }

    fn place(&self, row: usize, column: usize) -> *const u8 {
        self.words[self.at(row, column)..].as_ptr().cast()
    }

    fn line(&self) -> (usize, usize) {
        (EDGE, 2)
    }

    #[inline(always)]
    fn read(&self, row: usize, first: usize, out: &mut [f32]) {
        out.iter_mut().enumerate().for_each(|(place, out)| *out = joined(0, self.bits(row, first + place)));
    }

    #[inline(always)]
    fn ready(&self, column: usize, depths: Range<usize>, pairs: bool) -> Option<&[f32]> {
        let start = self.at(column, depths.start);
        pairs.then(|| &self.words[start..start + depths.len().div_ceil(2) * PANEL])
    }

    #[inline(always)]
    fn spread(&self, column: usize, depths: Range<usize>, out: &mut [f32]) -> bool {
        let pairs = self.pairs(column, depths.start);
        for (place, out) in out[..depths.len() * PANEL].chunks_mut(2 * PANEL).enumerate() {
            let words = pairs(place);
            out.iter_mut().zip(words).for_each(|(out, word)| *out = f32::from_bits(word.to_bits() << 16));
            out.iter_mut().skip(PANEL).zip(words).for_each(|(out, word)| *out = f32::from_bits(word.to_bits() & 0xffff_0000));
        }
        true
    }

    #[inline(always)]
    fn turned(&self, column: usize, depths: Range<usize>, pairs: bool, lanes: Lanes, out: &mut [f32]) -> bool {
        // Depths are rows here, and a panel holds 32 of them.
        debug_assert!(depths.start.is_multiple_of(DEPTHS) && column.is_multiple_of(PANEL), "panels are turned whole");
        let words = if pairs { DEPTHS / 2 } else { DEPTHS };
        for (place, out) in out.chunks_mut(words * PANEL).enumerate().take(depths.len().div_ceil(DEPTHS)) {
            let depth = depths.start + place * DEPTHS;
            let there = DEPTHS.min(depths.end - depth);
            for part in 0..PANEL / EDGE {
                let of = self.pairs(depth, column + part * EDGE);
                let columns: [[u16; PANEL]; EDGE] =
                    std::array::from_fn(
                        |column| if column % 2 == 0 { halves::<false>(of(column / 2)) } else { halves::<true>(of(column / 2)) },
                    );
                if pairs {
                    let block = columns.map(paired);
                    turn(block.each_ref(), EDGE, there.div_ceil(2), lanes, &mut out[part * EDGE..], PANEL);
                    continue;
                }
                for rows in (0..there).step_by(EDGE) {
                    let block: [[f32; EDGE]; EDGE] = std::array::from_fn(|column| widened(&columns[column][rows..rows + EDGE]));
                    turn(block.each_ref(), EDGE, EDGE.min(there - rows), lanes, &mut out[rows * PANEL + part * EDGE..], PANEL);
                }
            }
        }
        true
    }
}
