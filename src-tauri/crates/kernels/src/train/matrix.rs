//! Matrix products over checked views, computed by the `gemm` crate (AVX2, AVX-512 or NEON, chosen at run time).

use gemm::Parallelism;

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
    product(out, a, Side::Plain, b, Side::Transposed, store, in_pool());
}

/// `out[m, k] (+)= a[m, n] · b[n, k]`: the gradient of a linear layer's input. Panics if shapes disagree.
pub fn product_nn(out: MatrixMut, a: Matrix, b: Matrix, store: Store) {
    product(out, a, Side::Plain, b, Side::Plain, store, in_pool());
}

/// `out[n, k] (+)= a[m, n]ᵀ · b[m, k]`: the gradient of a linear layer's weights. Panics if shapes disagree.
pub fn product_tn(out: MatrixMut, a: Matrix, b: Matrix, store: Store) {
    product(out, a, Side::Transposed, b, Side::Plain, store, in_pool());
}

/// How an operand enters a product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Plain,
    Transposed,
}

/// One thread only: for products inside a task that is itself one of many.
pub(super) const ALONE: Parallelism = Parallelism::None;

pub(super) fn product(out: MatrixMut, a: Matrix, a_side: Side, b: Matrix, b_side: Side, store: Store, parallelism: Parallelism) {
    // As seen by the product: rows, columns, distance between rows, distance between columns.
    let (a_rows, a_columns, a_row_step, a_column_step) = oriented(a, a_side);
    let (b_rows, b_columns, b_row_step, b_column_step) = oriented(b, b_side);
    assert!(
        a_columns == b_rows && out.rows == a_rows && out.columns == b_columns,
        "product: [{}, {}] cannot hold [{a_rows}, {a_columns}] · [{b_rows}, {b_columns}]",
        out.rows,
        out.columns
    );
    if out.rows == 0 || out.columns == 0 {
        return;
    }
    // SAFETY: the three views were checked on creation, so every element `row * stride + column` that gemm touches,
    // given these dimensions and steps, lies inside its slice. `out` is borrowed mutably, so it overlaps neither `a`
    // nor `b`, and its rows do not overlap each other because stride >= columns. With `Store::Replace` gemm does not
    // read `out`. Steps fit in `isize` because slices are at most `isize::MAX` bytes long.
    unsafe {
        gemm::gemm::<f32>(
            out.rows,
            out.columns,
            a_columns,
            out.data.as_mut_ptr(),
            1,
            out.stride as isize,
            store == Store::Add,
            a.data.as_ptr(),
            a_column_step as isize,
            a_row_step as isize,
            b.data.as_ptr(),
            b_column_step as isize,
            b_row_step as isize,
            1.0,
            1.0,
            false,
            false,
            false,
            parallelism,
        );
    }
}

/// Threads of the rayon pool in which the caller runs.
fn in_pool() -> Parallelism {
    match rayon::current_num_threads() {
        0 | 1 => Parallelism::None,
        threads => Parallelism::Rayon(threads),
    }
}

fn oriented(matrix: Matrix, side: Side) -> (usize, usize, usize, usize) {
    match side {
        Side::Plain => (matrix.rows, matrix.columns, matrix.stride, 1),
        Side::Transposed => (matrix.columns, matrix.rows, 1, matrix.stride),
    }
}

/// The bounds on which the `unsafe` call above rests.
fn check_extent(len: usize, rows: usize, columns: usize, stride: usize) {
    assert!(columns <= stride, "matrix: {columns} columns do not fit a stride of {stride}");
    let needed = match rows {
        0 => Some(0),
        _ => stride.checked_mul(rows - 1).and_then(|last| last.checked_add(columns)),
    };
    assert!(needed.is_some_and(|needed| needed <= len), "matrix: [{rows}, {columns}] with stride {stride} does not fit {len} elements");
}
