//! Frozen linear layers, in f32 or quantised. Quantised ones are multiplied in bf16 where the machine can: their own rounding is
//! of that size already.

use kernels::train::{Matrix, MatrixMut, Precision, Quantisation, QuantisedMatrix, Store, product_nn, product_nt};
use sha2::{Digest, Sha256};

/// Weights `[outputs, inputs]` that are never trained.
#[derive(Debug)]
pub(crate) struct Frozen {
    inputs: usize,
    weights: Weights,
    pub precision: Precision,
}

#[derive(Debug)]
enum Weights {
    Dense(Vec<f32>),
    Quantised(QuantisedMatrix),
}

impl Frozen {
    pub fn new(weights: Vec<f32>, inputs: usize, quantisation: Option<Quantisation>) -> Self {
        let (weights, precision) = match quantisation {
            Some(quantisation) => (Weights::Quantised(QuantisedMatrix::new(&weights, inputs, quantisation)), Precision::Bf16),
            None => (Weights::Dense(weights), Precision::F32),
        };
        Self { inputs, weights, precision }
    }

    pub fn inputs(&self) -> usize {
        self.inputs
    }

    pub fn outputs(&self) -> usize {
        match &self.weights {
            Weights::Dense(weights) => weights.len() / self.inputs,
            Weights::Quantised(matrix) => matrix.rows(),
        }
    }

    /// `out[rows, outputs] (+)= x[rows, inputs] · weightsᵀ`.
    pub fn forward(&self, out: &mut [f32], x: &[f32], store: Store) {
        let (rows, inputs, outputs) = (x.len() / self.inputs, self.inputs, self.outputs());
        let (out, x) = (MatrixMut::new(out, rows, outputs), Matrix::new(x, rows, inputs));
        match &self.weights {
            Weights::Dense(weights) => product_nt(out, x, Matrix::new(weights, outputs, inputs), store),
            Weights::Quantised(matrix) => matrix.product_nt(out, x, self.precision, store),
        }
    }

    /// `dx[rows, inputs] = dy[rows, outputs] · weights`.
    pub fn backward(&self, dx: &mut [f32], dy: &[f32]) {
        let (rows, inputs, outputs) = (dx.len() / self.inputs, self.inputs, self.outputs());
        let (dx, dy) = (MatrixMut::new(dx, rows, inputs), Matrix::new(dy, rows, outputs));
        match &self.weights {
            Weights::Dense(weights) => product_nn(dx, dy, Matrix::new(weights, outputs, inputs), Store::Replace),
            Weights::Quantised(matrix) => matrix.product_nn(dx, dy, self.precision, Store::Replace),
        }
    }

    /// The weights as they are used.
    pub fn dense<'a>(&'a self, panel: &'a mut Vec<f32>) -> &'a [f32] {
        match &self.weights {
            Weights::Dense(weights) => weights,
            Weights::Quantised(matrix) => {
                panel.resize(matrix.rows() * matrix.columns(), 0.0);
                matrix.dequantise(panel);
                panel
            }
        }
    }

    pub fn hash_into(&self, hash: &mut Sha256) {
        match &self.weights {
            Weights::Dense(weights) => hash_numbers(weights, hash),
            Weights::Quantised(matrix) => hash.update(matrix.content().collect::<Vec<u8>>()),
        }
    }
}

/// In pieces, so that the bytes of a large tensor never exist twice.
pub(crate) fn hash_numbers(values: &[f32], hash: &mut Sha256) {
    for piece in values.chunks(1 << 14) {
        hash.update(piece.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>());
    }
}
