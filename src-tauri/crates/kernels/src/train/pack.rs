//! Lays the operands of a product out for the tiles: the depth outermost, and what one step of it needs side by side.

use super::tile::{Lanes, PANEL};
use super::vector::vectorized;
use std::ops::Range;

/// A matrix that rows can be read from, whatever it is held in.
pub trait Rows: Sync {
    fn rows(&self) -> usize;
    fn columns(&self) -> usize;

    /// Where an element is in memory.
    fn place(&self, row: usize, column: usize) -> *const u8;

    /// Rows and columns that a line of the cache holds.
    fn line(&self) -> (usize, usize);

    /// Sixteen values of a row from `first` on, where they stand like that in memory.
    #[inline(always)]
    fn sixteen(&self, _row: usize, _first: usize) -> Option<&[f32; EDGE]> {
        None
    }

    /// Columns from `column` on of the transposed matrix at some depths, as [`right`] writes them, where they are held like that.
    #[inline(always)]
    fn ready(&self, _column: usize, _depths: Range<usize>, _pairs: bool) -> Option<&[f32]> {
        None
    }

    /// Does the work of [`right`] for [`Side::Transposed`] without pairs, where it has a better way.
    #[inline(always)]
    fn spread(&self, _column: usize, _depths: Range<usize>, _out: &mut [f32]) -> bool {
        false
    }

    /// Does the work of [`right`] for [`Side::Plain`], where it has a better way.
    #[inline(always)]
    fn turned(&self, _column: usize, _depths: Range<usize>, _pairs: bool, _lanes: Lanes, _out: &mut [f32]) -> bool {
        false
    }

    /// Writes the values of a row from `first` on. Of formats in blocks `first` must be a multiple of 16, and no more than 16 are
    /// asked for at once.
    fn read(&self, row: usize, first: usize, out: &mut [f32]);

    /// Writes the same as pairs of bf16, two to a word, with zeros behind the last column; `first` is even.
    fn read_pairs(&self, row: usize, first: usize, out: &mut [f32]) {
        rounded_pairs(self, row, first, out);
    }
}

/// [`Rows::read_pairs`] by [`Rows::read`].
#[inline(always)]
pub fn rounded_pairs<M: Rows + ?Sized>(matrix: &M, row: usize, first: usize, out: &mut [f32]) {
    let end = matrix.columns();
    for (place, out) in out.chunks_mut(EDGE / 2).enumerate() {
        let mut values = [0f32; EDGE];
        let from = first + place * EDGE;
        let there = EDGE.min(end.saturating_sub(from));
        if there > 0 {
            matrix.read(row, from, &mut values[..there]);
        }
        for (word, pair) in out.iter_mut().zip(values.chunks_exact(2)) {
            *word = joined(to_bf16(pair[0]), to_bf16(pair[1]));
        }
    }
}

/// 32 values as pairs of bf16. Subnormal ones may become zero: products of pairs take them for zero anyway.
#[inline(always)]
pub fn rounded(low: &[f32; EDGE], high: &[f32; EDGE], lanes: Lanes) -> [f32; EDGE] {
    #[cfg(target_arch = "x86_64")]
    if lanes.multiplies_pairs() {
        // SAFETY: the instructions are there, by `lanes`.
        return unsafe { rounded512(low, high) };
    }
    let _ = lanes;
    let pair = |of: &[f32; EDGE], at: usize| joined(to_bf16(of[at]), to_bf16(of[at + 1]));
    std::array::from_fn(|word| if word < EDGE / 2 { pair(low, 2 * word) } else { pair(high, 2 * word - EDGE) })
}

#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn rounded512(low: &[f32; EDGE], high: &[f32; EDGE]) -> [f32; EDGE] {
    use std::arch::x86_64::*;
    // SAFETY: both hold 16 numbers, and the bits of 32 bf16 are those of 16 words.
    unsafe {
        let rounded = _mm512_cvtne2ps_pbh(_mm512_loadu_ps(high.as_ptr()), _mm512_loadu_ps(low.as_ptr()));
        std::mem::transmute::<__m512bh, [f32; EDGE]>(rounded)
    }
}

/// How an operand enters a product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Plain,
    Transposed,
}

/// Blocks that are turned at once.
pub const EDGE: usize = 16;

/// How many words further on memory is asked for: the rows of a block are too many for the processor to see where each goes on.
const AHEAD: usize = 4 * EDGE;

/// Asks for a line of memory, into the first cache or, with `FAR`, only into the second.
#[inline(always)]
fn prefetch<const FAR: bool>(place: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch reads nothing, wherever it points.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _MM_HINT_T1, _mm_prefetch};
        match FAR {
            true => _mm_prefetch::<_MM_HINT_T1>(place.cast()),
            false => _mm_prefetch::<_MM_HINT_T0>(place.cast()),
        }
    };
    #[cfg(not(target_arch = "x86_64"))]
    let _ = place;
}

/// Depths that one word holds.
pub fn per_word(pairs: bool) -> usize {
    if pairs { 2 } else { 1 }
}

/// Writes rows `rows` of the left operand over all of its depth as `[words, rows]`.
pub fn left<M: Rows>(matrix: &M, side: Side, rows: Range<usize>, pairs: bool, lanes: Lanes, out: &mut [f32]) {
    vectorized(
        #[inline(always)]
        || left_here(matrix, side, rows, pairs, lanes, out),
    );
}

#[inline(always)]
fn left_here<M: Rows>(matrix: &M, side: Side, rows: Range<usize>, pairs: bool, lanes: Lanes, out: &mut [f32]) {
    let height = rows.len();
    match side {
        Side::Plain => turned(matrix, rows, 0..matrix.columns(), pairs, lanes, out, height),
        Side::Transposed => {
            debug_assert!(!pairs, "the depth of a transposed left operand is not packed in pairs");
            // Whole pieces, whose surplus the next depth overwrites, as long as there is room.
            let whole = rows.start + EDGE <= matrix.columns() && height <= EDGE;
            for depth in 0..matrix.rows() {
                let out = &mut out[depth * height..];
                let length = if whole && out.len() >= EDGE { EDGE } else { height };
                matrix.read(depth, rows.start, &mut out[..length]);
            }
        }
    }
}

/// Writes [`PANEL`] columns from `column` on and depths `depths` of the right operand as `[words, PANEL]`, zeros where there are none.
pub fn right<M: Rows>(matrix: &M, side: Side, column: usize, depths: Range<usize>, pairs: bool, lanes: Lanes, out: &mut [f32]) {
    vectorized(
        #[inline(always)]
        || right_here(matrix, side, column, depths, pairs, lanes, out),
    );
}

#[inline(always)]
fn right_here<M: Rows>(matrix: &M, side: Side, column: usize, depths: Range<usize>, pairs: bool, lanes: Lanes, out: &mut [f32]) {
    match side {
        Side::Transposed if !pairs && matrix.spread(column, depths.clone(), out) => {}
        Side::Transposed => {
            let there = PANEL.min(matrix.rows() - column);
            if there < PANEL {
                out.fill(0.0);
            }
            turned(matrix, column..column + there, depths, pairs, lanes, out, PANEL);
        }
        Side::Plain if matrix.turned(column, depths.clone(), pairs, lanes, out) => {}
        Side::Plain if pairs => {
            let columns = PANEL.min(matrix.columns() - column);
            for (word, out) in out.chunks_exact_mut(PANEL).enumerate() {
                let depth = depths.start + 2 * word;
                let mut halves = [[0f32; PANEL / 2]; 2];
                for (depth, half) in (depth..depths.end.min(depth + 2)).zip(&mut halves) {
                    matrix.read_pairs(depth, column, &mut half[..columns.div_ceil(2)]);
                }
                let [even, odd] = halves;
                for (out, (even, odd)) in out.chunks_exact_mut(2).zip(even.into_iter().zip(odd)) {
                    let (even, odd) = (even.to_bits(), odd.to_bits());
                    out[0] = f32::from_bits(even & 0xffff | odd << 16);
                    out[1] = f32::from_bits(even >> 16 | odd & 0xffff_0000);
                }
            }
        }
        Side::Plain => {
            let columns = PANEL.min(matrix.columns() - column);
            for (depth, out) in depths.zip(out.chunks_exact_mut(PANEL)) {
                for (place, out) in out.chunks_mut(EDGE).enumerate() {
                    let there = columns.saturating_sub(place * EDGE).min(EDGE);
                    if there > 0 {
                        matrix.read(depth, column + place * EDGE, &mut out[..there]);
                    }
                    out[there..].fill(0.0);
                }
            }
        }
    }
}

/// Part of a right operand, to be asked from memory line by line before it is packed.
pub struct Ahead<'a, M> {
    matrix: &'a M,
    rows: Range<usize>,
    columns: Range<usize>,
    /// Rows and columns of a line.
    step: (usize, usize),
    row: usize,
    /// The next line of `row`, how many of it are left, and bytes from one to the next.
    place: *const u8,
    left: usize,
    stride: usize,
}

impl<'a, M: Rows> Ahead<'a, M> {
    /// As [`right`] would pack it; nothing where the operand has ended.
    pub fn new(matrix: &'a M, side: Side, column: usize, depths: Range<usize>) -> Self {
        let (rows, columns) = match side {
            Side::Transposed => (column.min(matrix.rows())..(column + PANEL).min(matrix.rows()), depths),
            Side::Plain => (depths, column.min(matrix.columns())..(column + PANEL).min(matrix.columns())),
        };
        let there = !rows.is_empty() && !columns.is_empty();
        let (rows, step) = (if there { rows } else { 0..0 }, matrix.line());
        let mut ahead = Self { matrix, step, row: rows.start, rows, place: std::ptr::null(), left: 0, stride: 0, columns };
        if there {
            let (first, second) = (ahead.columns.start, ahead.columns.start + step.1);
            if second < ahead.columns.end {
                ahead.stride = matrix.place(ahead.row, second) as usize - matrix.place(ahead.row, first) as usize;
            }
            ahead.begin_row();
        }
        ahead
    }

    pub fn lines(&self) -> usize {
        self.rows.len().div_ceil(self.step.0) * self.columns.len().div_ceil(self.step.1)
    }

    /// Asks for the next `lines`.
    #[inline(always)]
    pub fn fetch(&mut self, mut lines: usize) {
        while lines > 0 && self.row < self.rows.end {
            let now = lines.min(self.left);
            for _ in 0..now {
                prefetch::<true>(self.place);
                self.place = self.place.wrapping_add(self.stride);
            }
            (lines, self.left) = (lines - now, self.left - now);
            if self.left == 0 {
                self.row += self.step.0;
                if self.row < self.rows.end {
                    self.begin_row();
                }
            }
        }
    }

    fn begin_row(&mut self) {
        self.place = self.matrix.place(self.row, self.columns.start);
        self.left = self.columns.len().div_ceil(self.step.1);
    }
}

/// `out[word · stride + row] = matrix[row][word]` over `rows` and `depths`.
#[inline(always)]
fn turned<M: Rows>(matrix: &M, rows: Range<usize>, depths: Range<usize>, pairs: bool, lanes: Lanes, out: &mut [f32], stride: usize) {
    let words = depths.len().div_ceil(per_word(pairs));
    let mut aside = [[0f32; EDGE]; EDGE];
    for first_row in rows.clone().step_by(EDGE) {
        let height = EDGE.min(rows.end - first_row);
        for first in (0..words).step_by(EDGE) {
            let width = EDGE.min(words - first);
            let out = &mut out[first * stride + first_row - rows.start..];
            // Rows below the last one are read again, and what they give is not written.
            let row = |row: usize| first_row + row.min(height - 1);
            if first + AHEAD < words {
                (0..height)
                    .for_each(|row| prefetch::<false>(matrix.place(first_row + row, depths.start + (first + AHEAD) * per_word(pairs))));
            }
            if !pairs && width == EDGE && matrix.sixteen(first_row, depths.start + first).is_some() {
                let there = |place| matrix.sixteen(row(place), depths.start + first).unwrap_or(&[0.0; EDGE]);
                turn(std::array::from_fn(there), height, EDGE, lanes, out, stride);
                continue;
            }
            for (row, aside) in aside.iter_mut().take(height).enumerate() {
                match pairs {
                    true => matrix.read_pairs(first_row + row, depths.start + 2 * first, &mut aside[..width]),
                    false => matrix.read(first_row + row, depths.start + first, &mut aside[..width]),
                }
            }
            turn(aside.each_ref(), height, width, lanes, out, stride);
        }
    }
}

/// `out[column · stride + row] = block[row][column]` over `rows` and `columns`.
#[inline(always)]
pub fn turn(block: [&[f32; EDGE]; EDGE], rows: usize, columns: usize, lanes: Lanes, out: &mut [f32], stride: usize) {
    assert!(rows <= EDGE && columns <= EDGE && (columns == 0 || out.len() >= (columns - 1) * stride + rows));
    #[cfg(target_arch = "x86_64")]
    if matches!(lanes, Lanes::Avx512 | Lanes::Avx512Bf16) {
        // SAFETY: AVX-512 is there, by `lanes`; the assertion keeps all writes inside `out`.
        return unsafe { turn512(block, rows, columns, out.as_mut_ptr(), stride) };
    }
    let _ = lanes;
    for column in 0..columns {
        for (row, out) in out[column * stride..][..rows].iter_mut().enumerate() {
            *out = block[row][column];
        }
    }
}

/// A 16 × 16 transposition in registers: pairs, fours, then quarters change places.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn turn512(block: [&[f32; EDGE]; EDGE], rows: usize, columns: usize, out: *mut f32, stride: usize) {
    use std::arch::x86_64::*;
    let mut a = [_mm512_setzero_ps(); EDGE];
    for (a, row) in a.iter_mut().zip(block) {
        // SAFETY: a row holds 16 numbers.
        *a = unsafe { _mm512_loadu_ps(row.as_ptr()) };
    }
    let mut b = a;
    for i in 0..8 {
        b[2 * i] = _mm512_unpacklo_ps(a[2 * i], a[2 * i + 1]);
        b[2 * i + 1] = _mm512_unpackhi_ps(a[2 * i], a[2 * i + 1]);
    }
    for i in 0..4 {
        for j in 0..2 {
            let (x, y) = (_mm512_castps_pd(b[4 * i + j]), _mm512_castps_pd(b[4 * i + 2 + j]));
            a[4 * i + 2 * j] = _mm512_castpd_ps(_mm512_unpacklo_pd(x, y));
            a[4 * i + 2 * j + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(x, y));
        }
    }
    for i in 0..4 {
        b[i] = _mm512_shuffle_f32x4::<0x88>(a[i], a[4 + i]);
        b[4 + i] = _mm512_shuffle_f32x4::<0xdd>(a[i], a[4 + i]);
        b[8 + i] = _mm512_shuffle_f32x4::<0x88>(a[8 + i], a[12 + i]);
        b[12 + i] = _mm512_shuffle_f32x4::<0xdd>(a[8 + i], a[12 + i]);
    }
    for i in 0..4 {
        a[i] = _mm512_shuffle_f32x4::<0x88>(b[i], b[8 + i]);
        a[4 + i] = _mm512_shuffle_f32x4::<0x88>(b[4 + i], b[12 + i]);
        a[8 + i] = _mm512_shuffle_f32x4::<0xdd>(b[i], b[8 + i]);
        a[12 + i] = _mm512_shuffle_f32x4::<0xdd>(b[4 + i], b[12 + i]);
    }
    // SAFETY (of the writes): only the first `rows` lanes are written, which the caller vouches for.
    if rows == EDGE && columns == EDGE {
        for (column, a) in a.into_iter().enumerate() {
            unsafe { _mm512_storeu_ps(out.add(column * stride), a) };
        }
        return;
    }
    let mask = ((1u32 << rows) - 1) as u16;
    for (column, a) in a.into_iter().enumerate().take(columns) {
        unsafe { _mm512_mask_storeu_ps(out.add(column * stride), mask, a) };
    }
}

/// To the nearest bf16, ties to even; NaN stays NaN, so that training can notice it.
#[inline(always)]
pub fn to_bf16(value: f32) -> u16 {
    let bits = value.to_bits();
    let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16;
    if value.is_nan() { 0x7fc0 } else { rounded as u16 }
}

/// Two bf16 in the bits of a word.
#[inline(always)]
pub fn joined(low: u16, high: u16) -> f32 {
    f32::from_bits(u32::from(low) | u32::from(high) << 16)
}
