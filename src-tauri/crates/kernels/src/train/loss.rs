//! Vocabulary projection and cross-entropy in one pass over row chunks, so that the logits of a batch never exist at once.

use super::matrix::{Matrix, MatrixMut, Store, product_nn, product_nt};
use super::vector::{exp, largest, sum, vectorized};
use rayon::prelude::*;

/// One token to be predicted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Target {
    /// The row of `hidden` that predicts it.
    pub row: usize,
    pub token: u32,
    pub weight: f32,
}

/// Buffers of one chunk; kept between calls to spare page faults.
#[derive(Debug, Default)]
pub struct LossScratch {
    rows: Vec<f32>,
    gradients: Vec<f32>,
    logits: Vec<f32>,
}

/// Rows whose logits exist at once.
const CHUNK: usize = 128;

/// Replaces `losses` by `−log softmax(hidden · headᵀ)[token]` of each target, and writes the gradient of `Σ weight · loss`
/// by `hidden`.
///
/// `hidden` `[rows, width]`, `head` `[vocabulary, width]`; rows without a target get a zero gradient. Without `gradient` only
/// the losses are computed.
pub fn linear_cross_entropy(
    hidden: &[f32],
    head: &[f32],
    width: usize,
    targets: &[Target],
    scratch: &mut LossScratch,
    losses: &mut Vec<f64>,
    mut gradient: Option<&mut [f32]>,
) {
    assert!(
        width > 0 && hidden.len().is_multiple_of(width) && head.len().is_multiple_of(width),
        "linear_cross_entropy: {} and {} elements for width {width}",
        hidden.len(),
        head.len()
    );
    let vocabulary = head.len() / width;
    if let Some(gradient) = gradient.as_deref_mut() {
        assert_eq!(gradient.len(), hidden.len(), "linear_cross_entropy: gradient of another shape");
        gradient.fill(0.0);
    }
    let head = Matrix::new(head, vocabulary, width);
    let chunk = CHUNK.min(targets.len());
    scratch.rows.resize(chunk * width, 0.0);
    scratch.gradients.resize(chunk * width, 0.0);
    scratch.logits.resize(chunk * vocabulary, 0.0);

    losses.clear();
    for targets in targets.chunks(CHUNK) {
        let rows = targets.len();
        for (row, target) in scratch.rows.chunks_exact_mut(width).zip(targets) {
            row.copy_from_slice(&hidden[target.row * width..][..width]);
        }
        let logits = &mut scratch.logits[..rows * vocabulary];
        product_nt(MatrixMut::new(logits, rows, vocabulary), Matrix::new(&scratch.rows, rows, width), head, Store::Replace);
        losses.par_extend(
            logits.par_chunks_mut(vocabulary).zip(targets).map(|(logits, target)| row_loss(logits, target.token as usize, target.weight)),
        );
        if let Some(gradient) = gradient.as_deref_mut() {
            let out = MatrixMut::new(&mut scratch.gradients, rows, width);
            product_nn(out, Matrix::new(logits, rows, vocabulary), head, Store::Replace);
            // Added, not copied: one row may predict more than one target.
            for (row, target) in scratch.gradients.chunks_exact(width).zip(targets) {
                for (sum, part) in gradient[target.row * width..][..width].iter_mut().zip(row) {
                    *sum += part;
                }
            }
        }
    }
}

/// The cross-entropy of one row; leaves `scale · (softmax − onehot)` in `logits`.
fn row_loss(logits: &mut [f32], token: usize, scale: f32) -> f64 {
    vectorized(
        #[inline(always)]
        || {
            let top = largest(logits);
            let wanted = logits[token];
            for logit in logits.iter_mut() {
                *logit = exp(*logit - top);
            }
            let total = sum(
                logits.len(),
                #[inline(always)]
                |i| logits[i],
            );
            let share = scale / total;
            for logit in logits.iter_mut() {
                *logit *= share;
            }
            logits[token] -= scale;
            f64::from(total).ln() + f64::from(top) - f64::from(wanted)
        },
    )
}
