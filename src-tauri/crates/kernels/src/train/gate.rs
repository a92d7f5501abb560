//! The gated activation of a Llama MLP: `silu(gate) · up` (SwiGLU, arXiv 2002.05202), row by row.

use super::vector::{exp, rows_per_task, vectorized};
use rayon::prelude::*;

/// `gate_up` `[tokens, 2 · width]` (gate, then up), `out` `[tokens, width]`.
pub fn gated_silu(gate_up: &[f32], width: usize, out: &mut [f32]) {
    assert!(width > 0 && gate_up.len() == 2 * out.len() && out.len().is_multiple_of(width), "gated_silu: {} for width {width}", out.len());
    let rows = rows_per_task(out.len() / width);
    out.par_chunks_mut(rows * width).zip(gate_up.par_chunks(rows * 2 * width)).for_each(|(out, gate_up)| {
        vectorized(
            #[inline(always)]
            || {
                for (out, gate_up) in out.chunks_exact_mut(width).zip(gate_up.chunks_exact(2 * width)) {
                    let (gate, up) = gate_up.split_at(width);
                    for i in 0..width {
                        out[i] = gate[i] * sigmoid(gate[i]) * up[i];
                    }
                }
            },
        );
    });
}

/// Replaces `gate_up` by its gradient, given the gradient `dy` `[tokens, width]` of [`gated_silu`]'s output.
///
/// In place, because with a frozen base the inputs are not needed afterwards and this is the widest buffer of a layer.
pub fn gated_silu_backward(gate_up: &mut [f32], width: usize, dy: &[f32]) {
    assert!(
        width > 0 && gate_up.len() == 2 * dy.len() && dy.len().is_multiple_of(width),
        "gated_silu_backward: {} for width {width}",
        dy.len()
    );
    let rows = rows_per_task(dy.len() / width);
    gate_up.par_chunks_mut(rows * 2 * width).zip(dy.par_chunks(rows * width)).for_each(|(gate_up, dy)| {
        vectorized(
            #[inline(always)]
            || {
                for (gate_up, dy) in gate_up.chunks_exact_mut(2 * width).zip(dy.chunks_exact(width)) {
                    let (gate, up) = gate_up.split_at_mut(width);
                    for i in 0..width {
                        let (g, u) = (gate[i], up[i]);
                        let s = sigmoid(g);
                        gate[i] = dy[i] * u * s * (1.0 + g * (1.0 - s));
                        up[i] = dy[i] * g * s;
                    }
                }
            },
        );
    });
}

#[inline(always)]
fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}
