//! Matrix products over checked views: both operands are packed, then multiplied tile by tile.
//!
//! Panels of the right operand are packed by the thread that multiplies with them, which spares a second copy of frozen weights
//! and serves every format and both orientations; [`super::PanelMatrix`] is held in a way that leaves little of that to do.

use super::pack::{self, Rows, Side, per_word};
use super::tile::{Lanes, PANEL, Tile};
use crate::pool::Disjoint;
use crate::scratch;
use rayon::prelude::*;

/// A row-major matrix inside a slice; consecutive rows start `stride` elements apart.
#[derive(Debug, Clone, Copy)]
pub struct Matrix<'a> {
    data: &'a [f32],
    rows: usize,
    columns: usize,
    stride: usize,
}

impl<'a> Matrix<'a> {
    /// A contiguous `[rows, columns]` matrix. Panics if the slice is too short.
    pub fn new(data: &'a [f32], rows: usize, columns: usize) -> Self {
        Self::strided(data, rows, columns, columns)
    }

    /// A `[rows, columns]` matrix whose rows start `stride` apart. Panics if a row would leave the slice.
    pub fn strided(data: &'a [f32], rows: usize, columns: usize, stride: usize) -> Self {
        check_extent(data.len(), rows, columns, stride);
        Self { data, rows, columns, stride }
    }
}

/// A writable row-major matrix inside a slice.
#[derive(Debug)]
pub struct MatrixMut<'a> {
    data: &'a mut [f32],
    rows: usize,
    columns: usize,
    stride: usize,
}

impl<'a> MatrixMut<'a> {
    /// A contiguous `[rows, columns]` matrix. Panics if the slice is too short.
    pub fn new(data: &'a mut [f32], rows: usize, columns: usize) -> Self {
        Self::strided(data, rows, columns, columns)
    }

    /// A `[rows, columns]` matrix whose rows start `stride` apart. Panics if a row would leave the slice.
    pub fn strided(data: &'a mut [f32], rows: usize, columns: usize, stride: usize) -> Self {
        check_extent(data.len(), rows, columns, stride);
        Self { data, rows, columns, stride }
    }
}

/// What a product does with what the output held before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Store {
    Replace,
    Add,
}

/// `out[m, n] (+)= a[m, k] · b[n, k]ᵀ`: a linear layer, weights stored `[out, in]`. Panics if shapes disagree.
pub fn product_nt(out: MatrixMut, a: Matrix, b: Matrix, store: Store) {
    product(out, a, Side::Plain, b, Side::Transposed, store, Threads::Pool);
}

/// `out[m, k] (+)= a[m, n] · b[n, k]`: the gradient of a linear layer's input. Panics if shapes disagree.
pub fn product_nn(out: MatrixMut, a: Matrix, b: Matrix, store: Store) {
    product(out, a, Side::Plain, b, Side::Plain, store, Threads::Pool);
}

/// `out[n, k] (+)= a[m, n]ᵀ · b[m, k]`: the gradient of a linear layer's weights. Panics if shapes disagree.
pub fn product_tn(out: MatrixMut, a: Matrix, b: Matrix, store: Store) {
    product(out, a, Side::Transposed, b, Side::Plain, store, Threads::Pool);
}

/// One thread only, or all of the caller's pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Threads {
    /// For products inside a task that is itself one of many.
    Alone,
    Pool,
}

pub(super) const ALONE: Threads = Threads::Alone;

impl Rows for Matrix<'_> {
    fn rows(&self) -> usize {
        self.rows
    }

    fn columns(&self) -> usize {
        self.columns
    }

    fn place(&self, row: usize, column: usize) -> *const u8 {
        self.data[row * self.stride + column..].as_ptr().cast()
    }

    fn line(&self) -> (usize, usize) {
        (1, 64 / size_of::<f32>())
    }

    #[inline(always)]
    fn sixteen(&self, row: usize, first: usize) -> Option<&[f32; 16]> {
        if first + 16 > self.columns {
            return None;
        }
        self.data[row * self.stride + first..].first_chunk()
    }

    #[inline(always)]
    fn read(&self, row: usize, first: usize, out: &mut [f32]) {
        let from = &self.data[row * self.stride + first..][..out.len()];
        // Of a size known beforehand a copy is one instruction, else a call.
        match (<&mut [f32; 16]>::try_from(&mut *out), <&[f32; 16]>::try_from(from)) {
            (Ok(out), Ok(from)) => *out = *from,
            _ => out.copy_from_slice(from),
        }
    }

    #[inline(always)]
    fn read_pairs(&self, row: usize, first: usize, out: &mut [f32]) {
        let lanes = Lanes::detect();
        for (place, out) in out.chunks_mut(pack::EDGE).enumerate() {
            let at = first + 2 * place * pack::EDGE;
            match (<&mut [f32; pack::EDGE]>::try_from(&mut *out), self.sixteen(row, at), self.sixteen(row, at + pack::EDGE)) {
                (Ok(out), Some(low), Some(high)) => *out = pack::rounded(low, high, lanes),
                _ => pack::rounded_pairs(self, row, at, out),
            }
        }
    }
}

/// `out (+)= a · b`, each operand as it is or transposed. Panics if shapes disagree.
pub(super) fn product(out: MatrixMut, a: Matrix, a_side: Side, b: Matrix, b_side: Side, store: Store, threads: Threads) {
    multiply(Lanes::detect(), out, &a, a_side, &b, b_side, false, store, threads);
}

/// How products are computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precision {
    F32,
    /// Both sides rounded to bf16 and added up in f32, at twice the speed, where the machine has the instructions; else f32.
    Bf16,
}

/// [`multiply`] with the best instructions here.
pub(super) fn multiply_in<A: Rows, B: Rows>(
    precision: Precision,
    out: MatrixMut,
    a: &A,
    a_side: Side,
    b: &B,
    b_side: Side,
    store: Store,
    threads: Threads,
) {
    let lanes = Lanes::detect();
    let pairs = precision == Precision::Bf16 && lanes.multiplies_pairs();
    multiply(lanes, out, a, a_side, b, b_side, pairs, store, threads);
}

/// Words of a panel's depth that are packed at once: 128 KiB, so that it stays in the L2 cache with the rows that pass by.
const DEPTH: usize = 1024;
/// Below this many multiplications other threads are not worth waking.
const SERIAL: usize = 1 << 16;

/// [`product`] of any two kinds of matrices. With `pairs` (of which `lanes` must be capable), both are rounded to bf16.
///
/// Every element is summed over the depth by one thread in a fixed order, so results do not depend on threads.
pub(super) fn multiply<A: Rows, B: Rows>(
    lanes: Lanes,
    out: MatrixMut,
    a: &A,
    a_side: Side,
    b: &B,
    b_side: Side,
    pairs: bool,
    store: Store,
    threads: Threads,
) {
    let (rows, depth) = oriented(a, a_side);
    let (b_depth, columns) = oriented(b, b_side);
    assert!(
        depth == b_depth && out.rows == rows && out.columns == columns,
        "product: [{}, {}] cannot hold [{rows}, {depth}] · [{b_depth}, {columns}]",
        out.rows,
        out.columns
    );
    assert!(!pairs || lanes.multiplies_pairs() && a_side == Side::Plain, "product: pairs without their instructions");
    if rows == 0 || columns == 0 {
        return;
    }
    let words = depth.div_ceil(per_word(pairs));
    let workers = match threads {
        Threads::Pool if rows * columns * depth > SERIAL => rayon::current_num_threads(),
        _ => 1,
    };
    let (stride, add) = (out.stride, store == Store::Add);
    let out = Disjoint::new(out.data);
    let (panels, tiles) = (columns.div_ceil(PANEL), rows.div_ceil(lanes.rows()));
    // Tiles of about equal height.
    let first_row = |tile: usize| tile * rows / tiles;
    scratch::with(rows * words, |left| {
        let packed = Disjoint::new(left);
        each(workers, tiles, |tile| {
            let rows = first_row(tile)..first_row(tile + 1);
            // SAFETY: tiles do not overlap.
            let out = unsafe { packed.slice(rows.start * words, rows.len() * words) };
            pack::left(a, a_side, rows, pairs, lanes, out);
        });
        // Narrow outputs are shared out by rows too, so that every thread gets several tasks.
        let groups = if workers > 1 { (4 * workers).div_ceil(panels).min(tiles) } else { 1 };
        each(workers, panels * groups, |task| {
            let (panel, group) = (task / groups, task % groups);
            let column = panel * PANEL;
            let within = PANEL.min(columns - column);
            scratch::with(PANEL * DEPTH.min(words), |panel| {
                // Once even where there is no depth: the output is zeros then.
                for first in (0..words.max(1)).step_by(DEPTH) {
                    let depths = |first: usize| first * per_word(pairs)..depth.min((first + DEPTH) * per_word(pairs));
                    let count = DEPTH.min(words - first);
                    let ready = if b_side == Side::Transposed { b.ready(column, depths(first), pairs) } else { None };
                    let packed_panel = match ready {
                        Some(ready) => ready,
                        None => {
                            pack::right(b, b_side, column, depths(first), pairs, lanes, &mut panel[..count * PANEL]);
                            &panel[..count * PANEL]
                        }
                    };
                    // What this thread most likely packs next is on its way from memory while it multiplies.
                    let next = if first + DEPTH < words { (column, depths(first + DEPTH)) } else { (column + PANEL, depths(0)) };
                    let mut ahead = pack::Ahead::new(b, b_side, next.0, next.1);
                    let mine = group * tiles / groups..(group + 1) * tiles / groups;
                    let share = ahead.lines().div_ceil(mine.len());
                    let mut start = first_row(mine.start);
                    for tile in mine {
                        let rows = start..first_row(tile + 1);
                        start = rows.end;
                        let tile = Tile { rows: rows.len(), columns: within, depth: count, pairs, add: add || first > 0 };
                        ahead.fetch(share);
                        // SAFETY: both operands are packed for this depth; `out` was checked on creation to hold its rows, and
                        // this task alone writes these rows and columns; `lanes` exist only where they were detected.
                        unsafe {
                            let a = packed.pointer().add(rows.start * words + first * rows.len());
                            tile.run(lanes, a, packed_panel.as_ptr(), out.pointer().add(rows.start * stride + column), stride);
                        }
                    }
                }
            });
        });
    });
}

/// Runs `task` for each index, on the pool or here.
fn each(workers: usize, tasks: usize, task: impl Fn(usize) + Sync) {
    if workers > 1 && tasks > 1 {
        (0..tasks).into_par_iter().with_max_len(tasks.div_ceil(8 * workers)).for_each(&task);
    } else {
        (0..tasks).for_each(task);
    }
}

fn oriented(matrix: &impl Rows, side: Side) -> (usize, usize) {
    match side {
        Side::Plain => (matrix.rows(), matrix.columns()),
        Side::Transposed => (matrix.columns(), matrix.rows()),
    }
}

/// The bounds on which the `unsafe` calls above rest.
fn check_extent(len: usize, rows: usize, columns: usize, stride: usize) {
    assert!(columns <= stride, "matrix: {columns} columns do not fit a stride of {stride}");
    let needed = match rows {
        0 => Some(0),
        _ => stride.checked_mul(rows - 1).and_then(|last| last.checked_add(columns)),
    };
    assert!(needed.is_some_and(|needed| needed <= len), "matrix: [{rows}, {columns}] with stride {stride} does not fit {len} elements");
}
