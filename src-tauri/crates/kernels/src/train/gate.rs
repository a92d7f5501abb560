//! Gated activations, `act(gate) · up`, row by row: SwiGLU of Llama and the tanh form of GEGLU of T5 (both arXiv 2002.05202).

use super::vector::{exp, rows_per_task, vectorized};
use rayon::prelude::*;

const FACTOR: f32 = 0.797_884_6;
const CUBIC: f32 = 0.044_715;

/// An activation and its slope at a point. Both are inlined into vectorised loops.
trait Activation {
    fn value_and_slope(x: f32) -> (f32, f32);
}

/// `x · sigmoid(x)`.
struct Silu;

impl Activation for Silu {
    #[inline(always)]
    fn value_and_slope(x: f32) -> (f32, f32) {
        let open = sigmoid(x);
        (x * open, open * (1.0 + x * (1.0 - open)))
    }
}

/// `x · (1 + tanh(z)) / 2 = x · sigmoid(2 z)` with `z = √(2/π) (x + 0.044715 x³)`.
struct Gelu;

impl Activation for Gelu {
    #[inline(always)]
    fn value_and_slope(x: f32) -> (f32, f32) {
        let open = sigmoid(2.0 * FACTOR * (x + CUBIC * x * x * x));
        let slope = 2.0 * FACTOR * (1.0 + 3.0 * CUBIC * x * x);
        (x * open, open + x * open * (1.0 - open) * slope)
    }
}

/// `silu(gate) · up`; `gate_up` `[tokens, 2 · width]` (gate, then up), `out` `[tokens, width]`.
pub fn gated_silu(gate_up: &[f32], width: usize, out: &mut [f32]) {
    gated::<Silu>(gate_up, width, out);
}

/// Replaces `gate_up` by its gradient, given the gradient `dy` `[tokens, width]` of [`gated_silu`]'s output.
///
/// In place, because with a frozen base the inputs are not needed afterwards and this is the widest buffer of a layer.
pub fn gated_silu_backward(gate_up: &mut [f32], width: usize, dy: &[f32]) {
    gated_backward::<Silu>(gate_up, width, dy);
}

/// `gelu(gate) · up`, sizes as [`gated_silu`].
pub fn gated_gelu(gate_up: &[f32], width: usize, out: &mut [f32]) {
    gated::<Gelu>(gate_up, width, out);
}

/// As [`gated_silu_backward`], for [`gated_gelu`].
pub fn gated_gelu_backward(gate_up: &mut [f32], width: usize, dy: &[f32]) {
    gated_backward::<Gelu>(gate_up, width, dy);
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

fn gated<A: Activation>(gate_up: &[f32], width: usize, out: &mut [f32]) {
    assert!(width > 0 && gate_up.len() == 2 * out.len() && out.len().is_multiple_of(width), "gated: {} for width {width}", out.len());
    let rows = rows_per_task(out.len() / width);
    out.par_chunks_mut(rows * width).zip(gate_up.par_chunks(rows * 2 * width)).for_each(|(out, gate_up)| {
        vectorized(
            #[inline(always)]
            || {
                for (out, gate_up) in out.chunks_exact_mut(width).zip(gate_up.chunks_exact(2 * width)) {
                    let (gate, up) = gate_up.split_at(width);
                    for i in 0..width {
                        out[i] = A::value_and_slope(gate[i]).0 * up[i];
                    }
                }
            },
        );
    });
}

fn gated_backward<A: Activation>(gate_up: &mut [f32], width: usize, dy: &[f32]) {
    assert!(width > 0 && gate_up.len() == 2 * dy.len() && dy.len().is_multiple_of(width), "gated_backward: {} for width {width}", dy.len());
    let rows = rows_per_task(dy.len() / width);
    gate_up.par_chunks_mut(rows * 2 * width).zip(dy.par_chunks(rows * width)).for_each(|(gate_up, dy)| {
        vectorized(
            #[inline(always)]
            || {
                for (gate_up, dy) in gate_up.chunks_exact_mut(2 * width).zip(dy.chunks_exact(width)) {
                    let (gate, up) = gate_up.split_at_mut(width);
                    for i in 0..width {
                        let (value, slope) = A::value_and_slope(gate[i]);
                        gate[i] = dy[i] * up[i] * slope;
                        up[i] = dy[i] * value;
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
