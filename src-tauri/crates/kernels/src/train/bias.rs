//! A bias of a linear layer; frozen, so its only gradient is the one that passes by unchanged.

use super::vector::rows_per_task;
use rayon::prelude::*;

/// `x[row] += bias` for each row of `x` `[rows, width]`.
pub fn add_bias(x: &mut [f32], bias: &[f32]) {
    shift(x, bias, |x, bias| *x += bias);
}

/// `x[row] -= bias`: what was there before [`add_bias`], but for rounding.
pub fn subtract_bias(x: &mut [f32], bias: &[f32]) {
    shift(x, bias, |x, bias| *x -= bias);
}

fn shift(x: &mut [f32], bias: &[f32], by: impl Fn(&mut f32, f32) + Sync) {
    let width = bias.len();
    assert!(width > 0 && x.len().is_multiple_of(width), "bias: {} for width {width}", x.len());
    let block = rows_per_task(x.len() / width) * width;
    x.par_chunks_mut(block).for_each(|rows| {
        for row in rows.chunks_exact_mut(width) {
            row.iter_mut().zip(bias).for_each(|(x, bias)| by(x, *bias));
        }
    });
}
