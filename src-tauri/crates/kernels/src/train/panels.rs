//! Frozen f32 weights, held in the very order in which products read them.
//!
//! A product of few rows spends much of its time on laying out the weights: rows of a matrix lie far apart, and each is fetched
//! from memory piece by piece. Here 32 rows lie side by side, column by column, as the tiles want them for `x · weightsᵀ`; for
//! `y · weights` blocks of 4 KiB are turned, each in one piece of memory. There is no second copy, and sums have the same bits.

use super::matrix::{Matrix, MatrixMut, Store, Threads, multiply};
use super::pack::{EDGE, Rows, Side, right, turn};
use super::tile::{Lanes, PANEL};
use std::ops::Range;

/// A matrix `[rows, columns]` as `[panels, columns, 32]`, where element i of the innermost belongs to row i of the panel; rows that
/// the last panel lacks are zeros.
pub struct PanelMatrix {
    rows: usize,
    columns: usize,
    data: Vec<f32>,
}

const ZEROS: [f32; EDGE] = [0.0; EDGE];

impl std::fmt::Debug for PanelMatrix {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(f, "PanelMatrix({} × {})", self.rows, self.columns)
    }
}

impl PanelMatrix {
    /// Of row-major `weights`, turned where they lie, 32 rows at a time. Panics if they are not a number of rows.
    pub fn new(mut weights: Vec<f32>, columns: usize) -> Self {
        assert!(columns > 0 && weights.len().is_multiple_of(columns), "rows of {columns} do not fit {} weights", weights.len());
        let (rows, lanes) = (weights.len() / columns, Lanes::detect());
        let padded = rows.next_multiple_of(PANEL) * columns;
        weights.reserve_exact(padded - weights.len());
        weights.resize(padded, 0.0);
        let mut panel = vec![0.0; PANEL * columns];
        for rows in weights.chunks_exact_mut(PANEL * columns) {
            right(&Matrix::new(rows, PANEL, columns), Side::Transposed, 0, 0..columns, false, lanes, &mut panel);
            rows.copy_from_slice(&panel);
        }
        Self { rows, columns, data: weights }
    }

    pub fn rows(&self) -> usize {
        self.rows
    }

    pub fn columns(&self) -> usize {
        self.columns
    }

    /// `out[m, rows] (+)= x[m, columns] · weightsᵀ`. Panics if shapes disagree.
    pub fn product_nt(&self, out: MatrixMut, x: Matrix, store: Store) {
        multiply(Lanes::detect(), out, &x, Side::Plain, self, Side::Transposed, false, store, Threads::Pool);
    }

    /// `out[m, columns] (+)= y[m, rows] · weights`. Panics if shapes disagree.
    pub fn product_nn(&self, out: MatrixMut, y: Matrix, store: Store) {
        multiply(Lanes::detect(), out, &y, Side::Plain, self, Side::Plain, false, store, Threads::Pool);
    }

    /// `out[rows, n] = weights[rows] · a[n, columns]ᵀ`. Panics if shapes disagree.
    pub fn rows_times(&self, rows: Range<usize>, a: Matrix, out: MatrixMut) {
        assert!(rows.end <= self.rows, "rows_times: {rows:?} of {}", self.rows);
        let some = SomeRows { matrix: self, rows };
        multiply(Lanes::detect(), out, &some, Side::Plain, &a, Side::Transposed, false, Store::Replace, Threads::Pool);
    }

    /// Writes the weights row by row, `[rows, columns]`.
    pub fn row_major(&self, out: &mut [f32]) {
        assert_eq!(out.len(), self.rows * self.columns, "row_major: another shape");
        for (panel, out) in self.data.chunks_exact(PANEL * self.columns).zip(out.chunks_mut(PANEL * self.columns)) {
            for (row, out) in out.chunks_exact_mut(self.columns).enumerate() {
                out.iter_mut().zip(panel.chunks_exact(PANEL)).for_each(|(out, column)| *out = column[row]);
            }
        }
    }

    fn at(&self, row: usize, column: usize) -> usize {
        (row / PANEL * self.columns + column) * PANEL + row % PANEL
    }
}

impl Rows for PanelMatrix {
    fn rows(&self) -> usize {
        self.rows
    }

    fn columns(&self) -> usize {
        self.columns
    }

    fn place(&self, row: usize, column: usize) -> *const u8 {
        self.data[self.at(row, column)..].as_ptr().cast()
    }

    fn line(&self) -> (usize, usize) {
        (16, 1)
    }

    #[inline(always)]
    fn read(&self, row: usize, first: usize, out: &mut [f32]) {
        let start = self.at(row, first);
        out.iter_mut().zip(self.data[start..].iter().step_by(PANEL)).for_each(|(out, value)| *out = *value);
    }

    #[inline(always)]
    fn ready(&self, column: usize, depths: Range<usize>, pairs: bool) -> Option<&[f32]> {
        let start = self.at(column, depths.start);
        (!pairs).then(|| &self.data[start..start + depths.len() * PANEL])
    }

    #[inline(always)]
    fn turned(&self, column: usize, depths: Range<usize>, pairs: bool, lanes: Lanes, out: &mut [f32]) -> bool {
        if pairs {
            return false;
        }
        // Depths are rows here. A whole number of blocks, but for the last rows and columns.
        debug_assert!(depths.start.is_multiple_of(EDGE) && column.is_multiple_of(EDGE), "blocks begin at whole edges");
        for (place, out) in out.chunks_mut(EDGE * PANEL).enumerate().take(depths.len().div_ceil(EDGE)) {
            let depth = depths.start + place * EDGE;
            let height = EDGE.min(depths.end - depth);
            for part in 0..PANEL / EDGE {
                let width = EDGE.min(self.columns.saturating_sub(column + part * EDGE));
                let from = if width > 0 { &self.data[self.at(depth, column + part * EDGE)..] } else { &[] };
                // Where there are no columns, zeros.
                let of = |place: usize| from.get(place * PANEL..).and_then(|from| from.first_chunk()).filter(|_| place < width);
                turn(std::array::from_fn(|place| of(place).unwrap_or(&ZEROS)), EDGE, height, lanes, &mut out[part * EDGE..], PANEL);
            }
        }
        true
    }
}

/// Rows of a matrix that begin anywhere.
struct SomeRows<'a> {
    matrix: &'a PanelMatrix,
    rows: Range<usize>,
}

impl Rows for SomeRows<'_> {
    fn rows(&self) -> usize {
        self.rows.len()
    }

    fn columns(&self) -> usize {
        self.matrix.columns
    }

    fn place(&self, row: usize, column: usize) -> *const u8 {
        self.matrix.place(self.rows.start + row, column)
    }

    fn line(&self) -> (usize, usize) {
        self.matrix.line()
    }

    #[inline(always)]
    fn read(&self, row: usize, first: usize, out: &mut [f32]) {
        self.matrix.read(self.rows.start + row, first, out);
    }
}
