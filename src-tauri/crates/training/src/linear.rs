//! Frozen linear layers.

use kernels::train::{Matrix, MatrixMut, Store, product_nn, product_nt};

/// `out[rows, outputs] (+)= x[rows, inputs] · weight[outputs, inputs]ᵀ`.
pub(crate) fn linear(out: &mut [f32], x: &[f32], weight: &[f32], inputs: usize, outputs: usize, store: Store) {
    let rows = x.len() / inputs;
    product_nt(MatrixMut::new(out, rows, outputs), Matrix::new(x, rows, inputs), Matrix::new(weight, outputs, inputs), store);
}

/// `dx[rows, inputs] = dy[rows, outputs] · weight[outputs, inputs]`.
pub(crate) fn linear_input_gradient(dx: &mut [f32], dy: &[f32], weight: &[f32], inputs: usize, outputs: usize) {
    let rows = dy.len() / outputs;
    let weight = Matrix::new(weight, outputs, inputs);
    product_nn(MatrixMut::new(dx, rows, inputs), Matrix::new(dy, rows, outputs), weight, Store::Replace);
}
