//! Vocabulary projection and cross-entropy in one pass over blocks of the vocabulary, so that the logits of a batch never exist
//! at once and each weight of the head is read once for the loss and its gradient.
//!
//! The softmax is taken as it comes (as in FlashAttention, arXiv 2205.14135): with `m` the largest logit so far, a row's sum and
//! gradient are of `exp(logit − m)`, and shrink by `exp(m − m')` when a block brings a larger one.

use super::matrix::{Matrix, MatrixMut, Precision, Store, Threads, multiply_in};
use super::pack::Side;
use super::vector::{exp, largest, rows_per_task, sum, vectorized};
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
    softmax: Vec<Softmax>,
}

/// What is known of a row's softmax.
#[derive(Debug, Clone, Copy)]
struct Softmax {
    top: f32,
    /// Of `exp(logit − top)`.
    sum: f32,
    wanted: f32,
}

/// Targets whose logits exist at once.
pub const LOSS_ROWS: usize = 256;
/// Tokens whose logits exist at once: 2 MiB with all rows, which the caches hold.
pub const LOSS_TOKENS: usize = 2048;

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
    precision: Precision,
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
    let (chunk, block) = (LOSS_ROWS.min(targets.len()), LOSS_TOKENS.min(vocabulary));
    scratch.rows.resize(chunk * width, 0.0);
    scratch.gradients.resize(chunk * width, 0.0);
    scratch.logits.resize(chunk * block, 0.0);

    losses.clear();
    for targets in targets.chunks(LOSS_ROWS) {
        let rows = targets.len();
        for (row, target) in scratch.rows.chunks_exact_mut(width).zip(targets) {
            row.copy_from_slice(&hidden[target.row * width..][..width]);
        }
        scratch.softmax.clear();
        scratch.softmax.resize(rows, Softmax { top: f32::NEG_INFINITY, sum: 0.0, wanted: f32::NAN });
        for first in (0..vocabulary).step_by(LOSS_TOKENS) {
            let tokens = LOSS_TOKENS.min(vocabulary - first);
            let weights = Matrix::new(&head[first * width..][..tokens * width], tokens, width);
            let logits = &mut scratch.logits[..rows * tokens];
            let from = Matrix::new(&scratch.rows, rows, width);
            let out = MatrixMut::new(logits, rows, tokens);
            multiply_in(precision, out, &from, Side::Plain, &weights, Side::Transposed, Store::Replace, Threads::Pool);
            let task = rows_per_task(rows);
            let of_rows = logits.par_chunks_mut(task * tokens).zip(scratch.softmax.par_chunks_mut(task)).zip(targets.par_chunks(task));
            of_rows.zip(scratch.gradients.par_chunks_mut(task * width)).for_each(|(((logits, softmax), targets), gradients)| {
                let rows = logits.chunks_exact_mut(tokens).zip(softmax).zip(targets).zip(gradients.chunks_exact_mut(width));
                for (((logits, softmax), target), gradient) in rows {
                    softmax.take_in(logits, (target.token as usize).checked_sub(first), gradient);
                }
            });
            if gradient.is_some() {
                let out = MatrixMut::new(&mut scratch.gradients, rows, width);
                let store = if first == 0 { Store::Replace } else { Store::Add };
                let shares = Matrix::new(logits, rows, tokens);
                multiply_in(precision, out, &shares, Side::Plain, &weights, Side::Plain, store, Threads::Pool);
            }
        }
        losses.extend(scratch.softmax.iter().map(Softmax::loss));
        if let Some(gradient) = gradient.as_deref_mut() {
            // Added, not copied: one row may predict more than one target.
            for ((row, target), softmax) in scratch.gradients.chunks_exact(width).zip(targets).zip(&scratch.softmax) {
                let (share, wanted) = (1.0 / softmax.sum, &head[target.token as usize * width..][..width]);
                for ((sum, part), wanted) in gradient[target.row * width..][..width].iter_mut().zip(row).zip(wanted) {
                    *sum += target.weight * (part * share - wanted);
                }
            }
        }
    }
}

impl Softmax {
    /// Takes in a block of logits, `wanted` among them if it is inside; leaves `exp(logit − top)` in them, and fits what was
    /// summed of the `gradient` to the new top.
    fn take_in(&mut self, logits: &mut [f32], wanted: Option<usize>, gradient: &mut [f32]) {
        vectorized(
            #[inline(always)]
            || {
                if let Some(logit) = wanted.and_then(|index| logits.get(index)) {
                    self.wanted = *logit;
                }
                let found = largest(logits);
                if found > self.top {
                    let shrink = exp(self.top - found);
                    self.sum *= shrink;
                    gradient.iter_mut().for_each(|value| *value *= shrink);
                    self.top = found;
                }
                let top = self.top;
                for logit in logits.iter_mut() {
                    *logit = exp(*logit - top);
                }
                self.sum += sum(
                    logits.len(),
                    #[inline(always)]
                    |i| logits[i],
                );
            },
        );
    }

    fn loss(&self) -> f64 {
        f64::from(self.sum).ln() + f64::from(self.top) - f64::from(self.wanted)
    }
}
