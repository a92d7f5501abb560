//! int8 weights, packed for `vpdpbusd`, and int8 activations to go with them.

use crate::isa::Isa;
use crate::pool::Pool;
use crate::simd::{Lanes, dispatch};
use half::f16;

/// Columns that share a scale.
pub const BLOCK: usize = 32;
/// Rows of a tile, which are computed together.
pub const TILE: usize = 16;
const LINE: usize = 64;

/// A matrix `[rows, cols]` in int8 with an f16 scale for each row and 32 columns.
///
/// A tile of 16 rows lies together: first its scales `[blocks][16]`, padded to 64 bytes, then its weights
/// `[blocks][8][16 rows][4 columns]` with 128 added. Rows and columns beyond the matrix are zero, so that any size will do.
pub struct PackedMatrix {
    rows: usize,
    cols: usize,
    lines: Vec<Line>,
}

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; LINE]);

impl PackedMatrix {
    /// Packs the rows of several row-major matrices `[_, cols]` one below the other.
    ///
    /// Symmetric, scale = largest magnitude / 127. Panics when a length is not a multiple of `cols`.
    pub fn pack(cols: usize, parts: &[&[f32]]) -> Self {
        let values: usize = parts.iter().map(|part| part.len()).sum();
        assert!(cols > 0 && parts.iter().all(|part| part.len().is_multiple_of(cols)), "rows of {cols} do not fit the parts");
        let mut packed = Self::zeroed(values / cols, cols);
        for (row, weights) in parts.iter().flat_map(|part| part.chunks_exact(cols)).enumerate() {
            packed.pack_row(row, weights);
        }
        packed
    }

    /// A matrix of zeros, to be written piece by piece.
    pub fn zeroed(rows: usize, cols: usize) -> Self {
        let mut packed = Self { rows, cols, lines: Vec::new() };
        packed.lines = vec![Line([0; LINE]); packed.tiles() * packed.tile_lines()];
        packed
    }

    /// Packs whole rows from `first` on, as [`PackedMatrix::pack`] does. Panics when they do not fit.
    pub fn write_rows(&mut self, first: usize, weights: &[f32]) {
        assert!(weights.len().is_multiple_of(self.cols) && first + weights.len() / self.cols <= self.rows, "rows beyond the matrix");
        for (row, weights) in weights.chunks_exact(self.cols).enumerate() {
            self.pack_row(first + row, weights);
        }
    }

    pub fn rows(&self) -> usize {
        self.rows
    }

    pub fn cols(&self) -> usize {
        self.cols
    }

    pub fn bytes(&self) -> usize {
        self.lines.len() * LINE
    }

    /// Bytes that a matrix of this size takes.
    pub fn bytes_of(rows: usize, cols: usize) -> usize {
        let shape = Self { rows, cols, lines: Vec::new() };
        shape.tiles() * shape.tile_bytes()
    }

    /// The weights of a row as they are used: what the oracle multiplies with.
    pub fn unpack_row(&self, row: usize) -> Vec<f32> {
        let scale = |col: usize| f16::from_le_bytes(self.scale_at(row, col / BLOCK).map(|at| self.byte(row, at))).to_f32();
        let weight = |col: usize| f32::from(self.byte(row, self.weight_at(row, col))) - 128.0;
        (0..self.cols).map(|col| scale(col) * weight(col)).collect()
    }

    pub(crate) fn tiles(&self) -> usize {
        self.rows.div_ceil(TILE)
    }

    pub(crate) fn blocks(&self) -> usize {
        self.cols.div_ceil(BLOCK)
    }

    /// Bytes of a tile.
    pub(crate) fn tile_bytes(&self) -> usize {
        self.tile_lines() * LINE
    }

    /// Bytes of a tile before its weights.
    pub(crate) fn scale_bytes(&self) -> usize {
        (self.blocks() * TILE * 2).next_multiple_of(LINE)
    }

    pub(crate) fn start(&self) -> *const u8 {
        self.lines.as_ptr().cast()
    }

    fn tile_lines(&self) -> usize {
        self.scale_bytes() / LINE + self.blocks() * TILE * BLOCK / LINE
    }

    fn pack_row(&mut self, row: usize, weights: &[f32]) {
        for (block, values) in weights.chunks(BLOCK).enumerate() {
            let largest = values.iter().fold(0.0f32, |most, value| most.max(value.abs()));
            let scale = f16::from_f32(largest / 127.0);
            let inverse = if scale.to_f32() > 0.0 { 1.0 / scale.to_f32() } else { 0.0 };
            for (at, byte) in self.scale_at(row, block).into_iter().zip(scale.to_le_bytes()) {
                self.set(row, at, byte);
            }
            for (col, value) in values.iter().enumerate() {
                let whole = (value * inverse).round().clamp(-127.0, 127.0) as i32 + 128;
                self.set(row, self.weight_at(row, block * BLOCK + col), whole as u8);
            }
        }
    }

    /// Where, within the tile of `row`, the two bytes of its scale are.
    fn scale_at(&self, row: usize, block: usize) -> [usize; 2] {
        let at = (block * TILE + row % TILE) * 2;
        [at, at + 1]
    }

    fn weight_at(&self, row: usize, col: usize) -> usize {
        let (block, group) = (col / BLOCK, col % BLOCK / 4);
        self.scale_bytes() + block * TILE * BLOCK + group * TILE * 4 + row % TILE * 4 + col % 4
    }

    fn byte(&self, row: usize, at: usize) -> u8 {
        self.lines[row / TILE * self.tile_lines() + at / LINE].0[at % LINE]
    }

    fn set(&mut self, row: usize, at: usize, byte: u8) {
        let line = row / TILE * self.tile_lines() + at / LINE;
        self.lines[line].0[at % LINE] = byte;
    }
}

/// Rows of activations in int8 with an f32 scale for each 32 columns.
///
/// A row is `[blocks * 8]` words of four i8 each, `[blocks]` scales as f32, and `[blocks]` sums of the i8 times -128.
#[derive(Default)]
pub struct Activations {
    cols: usize,
    rows: usize,
    words: Vec<u32>,
}

impl Activations {
    /// Replaces the contents by `rows` rows of `cols` numbers, each written by `fill` and then quantised.
    ///
    /// Symmetric, scale = largest magnitude / 127, rounded to nearest even. A row depends on its own numbers only.
    pub fn fill(&mut self, isa: Isa, pool: &Pool, rows: usize, cols: usize, fill: &(dyn Fn(usize, &mut [f32]) + Sync)) {
        (self.rows, self.cols) = (rows, cols);
        let width = self.row_words();
        self.words.resize(rows * width, 0);
        pool.rows(&mut self.words, width, &|row, words| {
            crate::scratch::with(cols.next_multiple_of(BLOCK), |values| {
                fill(row, &mut values[..cols]);
                // Scratch memory is not zeroed, and the padding must not change a scale.
                values[cols..].fill(0.0);
                quantise_row(isa, values, words);
            });
        });
    }

    pub fn rows(&self) -> usize {
        self.rows
    }

    pub fn cols(&self) -> usize {
        self.cols
    }

    /// A row as it is used: what the oracle multiplies with.
    pub fn unpack_row(&self, row: usize) -> Vec<f32> {
        let blocks = self.cols.div_ceil(BLOCK);
        let words = &self.words[row * self.row_words()..][..self.row_words()];
        let value = |col: usize| {
            let four = words[col / 4].to_le_bytes();
            f32::from(four[col % 4] as i8) * f32::from_bits(words[blocks * 8 + col / BLOCK])
        };
        (0..self.cols).map(value).collect()
    }

    /// Words of a row: values, scales, sums.
    pub(crate) fn row_words(&self) -> usize {
        self.cols.div_ceil(BLOCK) * 10
    }

    pub(crate) fn start(&self) -> *const u32 {
        self.words.as_ptr()
    }
}

fn quantise_row(isa: Isa, values: &[f32], words: &mut [u32]) {
    let blocks = values.len() / BLOCK;
    assert!(values.len() == blocks * BLOCK && words.len() == blocks * 10);
    let (from, to) = (values.as_ptr(), words.as_mut_ptr());
    // SAFETY: the lengths were checked, and an `Isa` proves its instructions.
    unsafe { dispatch!(isa, quantise_blocks(from: *const f32, to: *mut u32, blocks: usize)) }
}

/// # Safety
/// `from` must hold `blocks * 32` numbers and `to` `blocks * 10` words.
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
            let sum = low.mul(inverse).store_i8(bytes) + high.mul(inverse).store_i8(bytes.add(16));
            to.add(blocks * 8 + block).write((largest / 127.0).to_bits());
            to.add(blocks * 9 + block).write((-128 * sum) as u32);
        }
    }
}
