//! One matrix of a network, packed or kept as f32, and the input that fits it.

use kernels::activations::{Activations, Forms};
use kernels::isa::Isa;
use kernels::matmul::{Output, matmul, matmul_f32};
use kernels::packed::{PackedMatrix, Rounding, WeightMemory};
use kernels::pool::Pool;

/// How f32 weights are held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precision {
    /// int8 weights and activations, a scale for each 32: a quarter of the memory, several times the speed.
    #[default]
    Int8,
    /// int4 weights with a scale and a min for each 32, int8 activations.
    Int4,
    /// The weights as they are: slow, and the reference for the packed ones.
    F32,
}

/// Where and how the arithmetic runs.
pub(crate) struct Machine {
    pub isa: Isa,
    pub pool: Pool,
    /// What weights in f32 are packed to.
    pub precision: Precision,
}

pub(crate) enum Linear {
    Packed(PackedMatrix),
    /// Row-major `[rows, cols]`.
    Dense {
        cols: usize,
        weights: Vec<f32>,
    },
}

impl Linear {
    /// Holds matrices `[_, cols]`, one below the other.
    pub fn new(precision: Precision, cols: usize, parts: &[&[f32]]) -> Self {
        match precision {
            Precision::Int8 => Self::Packed(PackedMatrix::pack(Rounding::Int8, cols, parts)),
            Precision::Int4 => Self::Packed(PackedMatrix::pack(Rounding::Int4, cols, parts)),
            Precision::F32 => Self::Dense { cols, weights: parts.concat() },
        }
    }

    /// A matrix of zeros, to be written piece by piece.
    pub fn zeroed(memory: &WeightMemory, precision: Precision, rows: usize, cols: usize) -> Self {
        match precision {
            Precision::F32 => Self::Dense { cols, weights: vec![0.0; rows * cols] },
            Precision::Int8 => Self::Packed(PackedMatrix::zeroed(memory, Rounding::Int8, rows, cols)),
            Precision::Int4 => Self::Packed(PackedMatrix::zeroed(memory, Rounding::Int4, rows, cols)),
        }
    }

    /// Replaces whole rows from `first` on.
    pub fn write_rows(&mut self, first: usize, values: &[f32]) {
        match self {
            Self::Packed(matrix) => matrix.write_rows(first, values),
            Self::Dense { cols, weights } => weights[first * *cols..][..values.len()].copy_from_slice(values),
        }
    }

    pub fn cols(&self) -> usize {
        match self {
            Self::Packed(matrix) => matrix.cols(),
            Self::Dense { cols, .. } => *cols,
        }
    }

    pub fn bytes(&self) -> usize {
        match self {
            Self::Packed(matrix) => matrix.bytes(),
            Self::Dense { weights, .. } => 4 * weights.len(),
        }
    }

    /// [`Linear::row`] into `[cols]`.
    pub fn row_into(&self, index: usize, out: &mut [f32]) {
        match self {
            Self::Packed(matrix) => matrix.unpack_row_into(index, out),
            Self::Dense { cols, weights } => out.copy_from_slice(&weights[index * cols..][..*cols]),
        }
    }

    /// A row of weights as it is used, `[cols]`.
    pub fn row(&self, index: usize) -> Vec<f32> {
        match self {
            Self::Packed(matrix) => matrix.unpack_row(index),
            Self::Dense { cols, weights } => weights[index * cols..][..*cols].to_vec(),
        }
    }

    /// `out[row] = input[row] · weights`, or added to what `out` holds. The input must have been filled for this matrix.
    pub fn apply(&self, machine: &Machine, input: &Input, out: &mut [f32], mode: Output) {
        match self {
            Self::Packed(matrix) => matmul(machine.isa, &machine.pool, matrix, &input.0, out, mode),
            Self::Dense { cols, weights } => matmul_f32(machine.isa, &machine.pool, weights, input.0.dense(), *cols, out, mode),
        }
    }

    fn forms(&self) -> Forms {
        match self {
            Self::Packed(matrix) => matrix.forms(),
            Self::Dense { .. } => Forms { int8: false, f32: true },
        }
    }
}

/// The input of a [`Linear`], in the forms that it needs; its memory is used again.
#[derive(Default)]
pub(crate) struct Input(Activations);

impl Input {
    /// Replaces the contents by `rows` rows of `linear.cols()` numbers that `fill` writes.
    pub fn fill(&mut self, machine: &Machine, linear: &Linear, rows: usize, fill: &(dyn Fn(usize, &mut [f32]) + Sync)) {
        self.0.fill(machine.isa, &machine.pool, linear.forms(), rows, linear.cols(), fill);
    }
}
