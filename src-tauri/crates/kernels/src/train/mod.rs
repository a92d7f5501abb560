//! Forward and hand-derived backward of the blocks of a Llama stack and of T5's, in f32 on slices, for training on a CPU.
//!
//! Rows are tokens. A batch is *packed*: sequences of different lengths lie one after the other in a single
//! `[tokens, hidden]` buffer, and [`Packing`] says where each begins, so no row is ever padding. Only attention
//! needs to know; every other block works row by row.
//!
//! Work is spread over the rayon pool in which the caller runs (`pool.install`). Each output element is computed by
//! one task in a fixed order, so results do not depend on scheduling.
//!
//! Base weights are frozen here: blocks return gradients of their inputs, never of the weights.

mod attention;
mod bias;
mod biased;
mod dropout;
mod gate;
mod loss;
mod matrix;
mod norm;
mod pack;
mod pairs;
mod panels;
#[cfg(test)]
mod product_tests;
mod quantised;
mod rope;
#[cfg(test)]
mod tests;
mod tile;
mod vector;

pub use attention::{Attention, AttentionScratch, Packing};
pub use bias::{add_bias, subtract_bias};
pub use biased::{Attended, AttendedGradient, BiasedAttention, Columns, DistanceBiases};
pub use dropout::DropoutMask;
pub use gate::{gated_gelu, gated_gelu_backward, gated_silu, gated_silu_backward, relu, relu_backward};
pub use loss::{LOSS_ROWS, LOSS_TOKENS, LossScratch, Target, linear_cross_entropy};
pub use matrix::{Matrix, MatrixMut, Precision, Store, product_nn, product_nt, product_tn};
pub use norm::{rms_norm, rms_norm_backward};
pub use panels::PanelMatrix;
pub use quantised::{Quantisation, QuantisedMatrix};
pub use rope::RopeTable;
