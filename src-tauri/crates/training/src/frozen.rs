//! Frozen linear layers, in f32 or quantised. Quantised ones are multiplied in bf16 where the machine can: their own rounding is
//! of that size already.

use kernels::train::{Matrix, MatrixMut, PanelMatrix, Precision, Quantisation, QuantisedMatrix, Store, product_nt};
use sha2::{Digest, Sha256};
use std::ops::Range;

/// Weights `[outputs, inputs]` that are never trained.
#[derive(Debug)]
pub(crate) struct Frozen {
    inputs: usize,
    weights: Weights,
    pub precision: Precision,
}

#[derive(Debug)]
enum Weights {
    Dense(PanelMatrix),
    Quantised(QuantisedMatrix),
}

impl Frozen {
    pub fn new(weights: Vec<f32>, inputs: usize, quantisation: Option<Quantisation>) -> Self {
        let (weights, precision) = match quantisation {
            Some(quantisation) => (Weights::Quantised(QuantisedMatrix::new(&weights, inputs, quantisation)), Precision::Bf16),
            None => (Weights::Dense(PanelMatrix::new(weights, inputs)), Precision::F32),
        };
        Self { inputs, weights, precision }
    }

    pub fn inputs(&self) -> usize {
        self.inputs
    }

    pub fn outputs(&self) -> usize {
        match &self.weights {
            Weights::Dense(matrix) => matrix.rows(),
            Weights::Quantised(matrix) => matrix.rows(),
        }
    }

    /// `out[rows, outputs] (+)= x[rows, inputs] · weightsᵀ`.
    pub fn forward(&self, out: &mut [f32], x: &[f32], store: Store) {
        let (rows, inputs, outputs) = (x.len() / self.inputs, self.inputs, self.outputs());
        let (out, x) = (MatrixMut::new(out, rows, outputs), Matrix::new(x, rows, inputs));
        match &self.weights {
            Weights::Dense(matrix) => matrix.product_nt(out, x, store),
            Weights::Quantised(matrix) => matrix.product_nt(out, x, self.precision, store),
        }
    }

    /// `dx[rows, inputs] (+)= dy[rows, outputs] · weights`.
    pub fn backward(&self, dx: &mut [f32], dy: &[f32], store: Store) {
        let (rows, inputs, outputs) = (dx.len() / self.inputs, self.inputs, self.outputs());
        let (dx, dy) = (MatrixMut::new(dx, rows, inputs), Matrix::new(dy, rows, outputs));
        match &self.weights {
            Weights::Dense(matrix) => matrix.product_nn(dx, dy, store),
            Weights::Quantised(matrix) => matrix.product_nn(dx, dy, self.precision, store),
        }
    }

    /// The weights as they are used, row by row, written into `panel`.
    pub fn dense<'a>(&self, panel: &'a mut Vec<f32>) -> &'a [f32] {
        panel.resize(self.outputs() * self.inputs, 0.0);
        match &self.weights {
            Weights::Dense(matrix) => matrix.row_major(panel),
            Weights::Quantised(matrix) => matrix.dequantise(panel),
        }
        panel
    }

    /// `out[rows, n] = weights[rows] · a[n, inputs]ᵀ`, given what [`Self::widened`] returned.
    pub fn rows_times(&self, rows: Range<usize>, widened: Option<&[f32]>, a: Matrix, out: MatrixMut) {
        match (&self.weights, widened) {
            (Weights::Dense(matrix), _) => matrix.rows_times(rows, a, out),
            (Weights::Quantised(_), widened) => {
                let from = &widened.unwrap_or_default()[rows.start * self.inputs..];
                product_nt(out, Matrix::new(from, rows.len(), self.inputs), a, Store::Replace);
            }
        }
    }

    /// Quantised weights in f32, row by row, written into `panel`.
    pub fn widened<'a>(&self, panel: &'a mut Vec<f32>) -> Option<&'a [f32]> {
        matches!(self.weights, Weights::Quantised(_)).then(|| self.dense(panel))
    }

    /// The same whatever the layout of f32.
    pub fn hash_into(&self, hash: &mut Sha256) {
        match &self.weights {
            Weights::Dense(_) => hash_numbers(self.dense(&mut Vec::new()), hash),
            Weights::Quantised(matrix) => matrix.content(|bytes| hash.update(bytes)),
        }
    }
}

/// In pieces, so that the bytes of a large tensor never exist twice.
pub(crate) fn hash_numbers(values: &[f32], hash: &mut Sha256) {
    for piece in values.chunks(1 << 14) {
        hash.update(piece.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>());
    }
}
