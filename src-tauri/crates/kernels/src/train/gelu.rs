//! The activations of T5's feed-forward layer: `gelu(gate) · up` in its tanh form (arXiv 2002.05202), and ReLU; row by row.

use super::vector::{exp, rows_per_task, vectorized};
use rayon::prelude::*;

const FACTOR: f32 = 0.797_884_6;
const CUBIC: f32 = 0.044_715;

/// `gate_up` `[tokens, 2 · width]` (gate, then up), `out` `[tokens, width]`.
pub fn gated_gelu(gate_up: &[f32], width: usize, out: &mut [f32]) {
    assert!(width > 0 && gate_up.len() == 2 * out.len() && out.len().is_multiple_of(width), "gated_gelu: {} for width {width}", out.len());
    let rows = rows_per_task(out.len() / width);
    out.par_chunks_mut(rows * width).zip(gate_up.par_chunks(rows * 2 * width)).for_each(|(out, gate_up)| {
        vectorized(
            #[inline(always)]
            || {
                for (out, gate_up) in out.chunks_exact_mut(width).zip(gate_up.chunks_exact(2 * width)) {
                    let (gate, up) = gate_up.split_at(width);
                    for i in 0..width {
                        out[i] = gate[i] * open(gate[i]) * up[i];
                    }
                }
            },
        );
    });
}

/// Replaces `gate_up` by its gradient, given the gradient `dy` `[tokens, width]` of [`gated_gelu`]'s output.
pub fn gated_gelu_backward(gate_up: &mut [f32], width: usize, dy: &[f32]) {
    assert!(
        width > 0 && gate_up.len() == 2 * dy.len() && dy.len().is_multiple_of(width),
        "gated_gelu_backward: {} for width {width}",
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
                        let s = open(g);
                        // d/dg of g · sigmoid(2 z(g)), with z' = √(2/π) (1 + 3 · 0.044715 g²)
                        let slope = 2.0 * FACTOR * (1.0 + 3.0 * CUBIC * g * g);
                        gate[i] = dy[i] * u * (s + g * s * (1.0 - s) * slope);
                        up[i] = dy[i] * g * s;
                    }
                }
            },
        );
    });
}

/// `max(x, 0)`.
pub fn relu(x: &[f32], out: &mut [f32]) {
    assert_eq!(x.len(), out.len(), "relu: another size");
    out.iter_mut().zip(x).for_each(|(out, x)| *out = x.max(0.0));
}

/// Replaces `x` by its gradient, given the gradient of [`relu`]'s output.
pub fn relu_backward(x: &mut [f32], dy: &[f32]) {
    assert_eq!(x.len(), dy.len(), "relu_backward: another size");
    x.iter_mut().zip(dy).for_each(|(x, dy)| *x = if *x > 0.0 { *dy } else { 0.0 });
}

/// How far the unit lets `x` through: `sigmoid(2 √(2/π) (x + 0.044715 x³))`, which is `(1 + tanh(…)) / 2`.
#[inline(always)]
fn open(x: f32) -> f32 {
    1.0 / (1.0 + exp(-2.0 * FACTOR * (x + CUBIC * x * x * x)))
}
