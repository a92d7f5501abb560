//! One matrix of the decoder, packed to int8 or kept as f32, and the input that fits it.

use kernels::isa::Isa;
use kernels::matmul::{Output, matmul, matmul_f32};
use kernels::packed::{Activations, PackedMatrix};
use kernels::pool::Pool;

/// How the weights are held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precision {
    /// int8 weights and activations, a scale for each 32: a quarter of the memory, several times the speed.
    #[default]
    Int8,
    /// The weights as they are: slow, and the reference for the packed ones.
    F32,
}

/// Where and how the arithmetic runs.
pub(crate) struct Machine {
    pub isa: Isa,
    pub pool: Pool,
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
            Precision::Int8 => Self::Packed(PackedMatrix::pack(cols, parts)),
            Precision::F32 => Self::Dense { cols, weights: parts.concat() },
        }
    }

    /// A matrix of zeros, to be written piece by piece.
    pub fn zeroed(precision: Precision, rows: usize, cols: usize) -> Self {
        match precision {
            Precision::Int8 => Self::Packed(PackedMatrix::zeroed(rows, cols)),
            Precision::F32 => Self::Dense { cols, weights: vec![0.0; rows * cols] },
        }
    }

    /// Replaces whole rows from `first` on.
    pub fn write_rows(&mut self, first: usize, values: &[f32]) {
        match self {
            Self::Packed(matrix) => matrix.write_rows(first, values),
            Self::Dense { cols, weights } => weights[first * *cols..][..values.len()].copy_from_slice(values),
        }
    }

    pub fn bytes(&self) -> usize {
        match self {
            Self::Packed(matrix) => matrix.bytes(),
            Self::Dense { weights, .. } => 4 * weights.len(),
        }
    }

    /// A row of weights as it is used, `[cols]`.
    pub fn row(&self, index: usize) -> Vec<f32> {
        match self {
            Self::Packed(matrix) => matrix.unpack_row(index),
            Self::Dense { cols, weights } => weights[index * cols..][..*cols].to_vec(),
        }
    }

    /// `out[row] = input[row] · weights`, or added to what `out` holds.
    pub fn apply(&self, machine: &Machine, input: &Input, out: &mut [f32], mode: Output) {
        match self {
            Self::Packed(matrix) => matmul(machine.isa, &machine.pool, matrix, &input.packed, out, mode),
            Self::Dense { cols, weights } => matmul_f32(machine.isa, &machine.pool, weights, &input.dense, *cols, out, mode),
        }
    }
}

/// The input of a [`Linear`], in the form that the precision needs; its memory is used again.
#[derive(Default)]
pub(crate) struct Input {
    packed: Activations,
    dense: Vec<f32>,
}

impl Input {
    /// Replaces the contents by `rows` rows of `cols` numbers that `fill` writes.
    pub fn fill(&mut self, machine: &Machine, rows: usize, cols: usize, fill: &(dyn Fn(usize, &mut [f32]) + Sync)) {
        match machine.precision {
            Precision::Int8 => self.packed.fill(machine.isa, &machine.pool, rows, cols, fill),
            Precision::F32 => {
                self.dense.resize(rows * cols, 0.0);
                machine.pool.rows(&mut self.dense, cols, fill);
            }
        }
    }
}
