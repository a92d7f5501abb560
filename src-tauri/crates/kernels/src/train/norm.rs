//! RMSNorm (arXiv 1910.07467): `y = x / sqrt(mean(x²) + eps) · weight`, row by row.

use super::vector::{rows_per_task, sum, vectorized};
use rayon::prelude::*;

/// `x`, `out` `[tokens, hidden]`, `weight` `[hidden]`.
pub fn rms_norm(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    let hidden = weight.len();
    assert!(hidden > 0 && x.len() == out.len() && x.len().is_multiple_of(hidden), "rms_norm: {} for width {hidden}", x.len());
    let block = rows_per_task(x.len() / hidden) * hidden;
    out.par_chunks_mut(block).zip(x.par_chunks(block)).for_each(|(out, x)| {
        vectorized(
            #[inline(always)]
            || {
                for (out, x) in out.chunks_exact_mut(hidden).zip(x.chunks_exact(hidden)) {
                    let inverse = inverse_rms(x, eps);
                    for i in 0..hidden {
                        out[i] = x[i] * inverse * weight[i];
                    }
                }
            },
        );
    });
}

/// Adds the gradient of [`rms_norm`]'s input to `dx`; `x` is that input and `dy` the gradient of its output.
pub fn rms_norm_backward(x: &[f32], weight: &[f32], eps: f32, dy: &[f32], dx: &mut [f32]) {
    let hidden = weight.len();
    assert!(
        hidden > 0 && x.len() == dx.len() && x.len() == dy.len() && x.len().is_multiple_of(hidden),
        "rms_norm_backward: {}, {}, {} for width {hidden}",
        x.len(),
        dy.len(),
        dx.len()
    );
    let block = rows_per_task(x.len() / hidden) * hidden;
    dx.par_chunks_mut(block).zip(x.par_chunks(block)).zip(dy.par_chunks(block)).for_each(|((dx, x), dy)| {
        vectorized(
            #[inline(always)]
            || {
                for ((dx, x), dy) in dx.chunks_exact_mut(hidden).zip(x.chunks_exact(hidden)).zip(dy.chunks_exact(hidden)) {
                    let inverse = inverse_rms(x, eps);
                    // dx = inverse · (w dy) − x · inverse³ · <w dy, x> / hidden
                    let along = sum(
                        hidden,
                        #[inline(always)]
                        |i| dy[i] * weight[i] * x[i],
                    );
                    let shrink = along * inverse * inverse * inverse / hidden as f32;
                    for i in 0..hidden {
                        dx[i] += dy[i] * weight[i] * inverse - x[i] * shrink;
                    }
                }
            },
        );
    });
}

#[inline(always)]
fn inverse_rms(x: &[f32], eps: f32) -> f32 {
    let squares = sum(
        x.len(),
        #[inline(always)]
        |i| x[i] * x[i],
    );
    1.0 / (squares / x.len() as f32 + eps).sqrt()
}
