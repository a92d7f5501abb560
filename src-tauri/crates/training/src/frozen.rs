//! Frozen linear layers, in f32 or quantised.

use kernels::train::{Matrix, MatrixMut, Quantisation, QuantisedMatrix, Store, product_nn, product_nt};
use sha2::{Digest, Sha256};

/// Weights `[outputs, inputs]` that are never trained.
#[derive(Debug)]
pub(crate) struct Frozen {
    inputs: usize,
    weights: Weights,
}

#[derive(Debug)]
enum Weights {
    Dense(Vec<f32>),
    Quantised(QuantisedMatrix),
}

impl Frozen {
    pub fn new(weights: Vec<f32>, inputs: usize, quantisation: Option<Quantisation>) -> Self {
        let weights = match quantisation {
            Some(quantisation) => Weights::Quantised(QuantisedMatrix::new(&weights, inputs, quantisation)),
            None => Weights::Dense(weights),
        };
        Self { inputs, weights }
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

    /// `out[rows, outputs] (+)= x[rows, inputs] · weightsᵀ`. Quantised weights pass through `panel`.
    pub fn forward(&self, out: &mut [f32], x: &[f32], store: Store, panel: &mut Vec<f32>) {
        let (rows, inputs, outputs) = (x.len() / self.inputs, self.inputs, self.outputs());
        let weights = Matrix::new(self.dense(panel), outputs, inputs);
        product_nt(MatrixMut::new(out, rows, outputs), Matrix::new(x, rows, inputs), weights, store);
    }

    /// `dx[rows, inputs] = dy[rows, outputs] · weights`.
    pub fn backward(&self, dx: &mut [f32], dy: &[f32], panel: &mut Vec<f32>) {
        let (rows, inputs, outputs) = (dx.len() / self.inputs, self.inputs, self.outputs());
        let weights = Matrix::new(self.dense(panel), outputs, inputs);
        product_nn(MatrixMut::new(dx, rows, inputs), Matrix::new(dy, rows, outputs), weights, Store::Replace);
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
