//! Norms, activations and sums over one row.
//!
//! Every tier gives the same bits: sums run in sixteen lanes that are added up as a tree at the end.

use crate::isa::Isa;
use crate::simd::{Lanes, dispatch};

/// Root-mean-square norm (Zhang and Sennrich, 2019): `out = x / sqrt(mean(x²) + eps) * gain`.
///
/// Panics when the lengths differ.
pub fn rms_norm(isa: Isa, x: &[f32], gain: &[f32], eps: f32, out: &mut [f32]) {
    assert!(x.len() == gain.len() && x.len() == out.len());
    let (x_at, gain_at, out_at, length) = (x.as_ptr(), gain.as_ptr(), out.as_mut_ptr(), x.len());
    // SAFETY: equal lengths, and an `Isa` proves its instructions.
    unsafe { dispatch!(isa, norm_lanes(x_at: *const f32, gain_at: *const f32, eps: f32, out_at: *mut f32, length: usize)) }
}

/// `out = silu(gate) * up`, where `silu(x) = x / (1 + exp(-x))` (the gated unit of Shazeer, 2020).
///
/// Panics when the lengths differ.
pub fn gated_silu(isa: Isa, gate: &[f32], up: &[f32], out: &mut [f32]) {
    assert!(gate.len() == up.len() && gate.len() == out.len());
    let (gate_at, up_at, out_at, length) = (gate.as_ptr(), up.as_ptr(), out.as_mut_ptr(), out.len());
    // SAFETY: equal lengths, and an `Isa` proves its instructions.
    unsafe { dispatch!(isa, gated(gate_at: *const f32, up_at: *const f32, out_at: *mut f32, length: usize)) }
}

/// Sum of products.
///
/// Panics when the lengths differ.
pub fn dot(isa: Isa, a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    let (a_at, b_at, length) = (a.as_ptr(), b.as_ptr(), a.len());
    // SAFETY: equal lengths, and an `Isa` proves its instructions.
    unsafe { dispatch!(isa, dot_lanes(a_at: *const f32, b_at: *const f32, length: usize) -> f32) }
}

/// The largest value; negative infinity for none.
pub fn largest(isa: Isa, values: &[f32]) -> f32 {
    let (at, length) = (values.as_ptr(), values.len());
    // SAFETY: `length` values from `at`, and an `Isa` proves its instructions.
    unsafe { dispatch!(isa, largest_lane(at: *const f32, length: usize) -> f32) }
}

/// The sum of `exp((value - largest) * factor)`: the denominator of a softmax at temperature `1 / factor`.
pub fn sum_exp(isa: Isa, values: &[f32], largest: f32, factor: f32) -> f32 {
    let (at, length) = (values.as_ptr(), values.len());
    // SAFETY: `length` values from `at`, and an `Isa` proves its instructions.
    unsafe { dispatch!(isa, sum_exp_lanes(at: *const f32, length: usize, largest: f32, factor: f32) -> f32) }
}

/// Rotary position embedding (Su et al., 2021) of one head, in the half-split layout of transformers.
///
/// `x` is `[head_dim]`, `cos` and `sin` are `[head_dim / 2]`. Panics when the lengths do not fit.
pub fn rope(x: &mut [f32], cos: &[f32], sin: &[f32]) {
    assert!(x.len() == 2 * cos.len() && cos.len() == sin.len());
    rotate(x, cos, sin);
}

/// [`rope`] within a function that enables a tier's instructions, which the compiler then uses; sizes must fit.
#[inline(always)]
pub(crate) fn rotate(x: &mut [f32], cos: &[f32], sin: &[f32]) {
    let (low, high) = x.split_at_mut(cos.len());
    for (((a, b), cos), sin) in low.iter_mut().zip(high).zip(cos).zip(sin) {
        (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
    }
}

/// Sixteen values from `index` on; those beyond `length` are `rest`.
///
/// # Safety
/// `from` must hold `length` values.
#[inline(always)]
unsafe fn load_or<V: Lanes>(from: *const f32, index: usize, length: usize, rest: f32) -> V {
    unsafe {
        if index + 16 <= length {
            return V::load(from.add(index));
        }
        let mut lanes = [rest; 16];
        std::ptr::copy_nonoverlapping(from.add(index), lanes.as_mut_ptr(), length - index);
        V::load(lanes.as_ptr())
    }
}

/// Stores sixteen values at `index`, without those beyond `length`.
///
/// # Safety
/// `to` must have room for `length` values.
#[inline(always)]
unsafe fn store_or<V: Lanes>(values: V, to: *mut f32, index: usize, length: usize) {
    unsafe {
        if index + 16 <= length {
            return values.store(to.add(index));
        }
        let mut lanes = [0.0f32; 16];
        values.store(lanes.as_mut_ptr());
        std::ptr::copy_nonoverlapping(lanes.as_ptr(), to.add(index), length - index);
    }
}

#[inline(always)]
unsafe fn norm_lanes<V: Lanes>(x: *const f32, gain: *const f32, eps: f32, out: *mut f32, length: usize) {
    unsafe {
        let squares = dot_lanes::<V>(x, x, length);
        let scale = V::splat(1.0 / (squares / length as f32 + eps).sqrt());
        for index in (0..length).step_by(16) {
            let normed = load_or::<V>(x, index, length, 0.0).mul(scale).mul(load_or::<V>(gain, index, length, 0.0));
            store_or(normed, out, index, length);
        }
    }
}

#[inline(always)]
unsafe fn gated<V: Lanes>(gate: *const f32, up: *const f32, out: *mut f32, length: usize) {
    for index in (0..length).step_by(16) {
        unsafe {
            let x = load_or::<V>(gate, index, length, 0.0);
            let product = x.mul(load_or::<V>(up, index, length, 0.0));
            // The exponent is taken of -|x|, which cannot overflow: for x < 0, 1 / (1 + exp(-x)) = exp(x) / (1 + exp(x)).
            let power = V::zero().sub(x.abs()).exp();
            let numerator = V::splat(1.0).where_greater(x, V::zero()).add(power.where_greater(V::zero(), x));
            let result = product.mul(numerator).div(V::splat(1.0).add(power));
            store_or(result, out, index, length);
        }
    }
}

#[inline(always)]
unsafe fn dot_lanes<V: Lanes>(a: *const f32, b: *const f32, length: usize) -> f32 {
    unsafe {
        let mut sum = V::zero();
        for index in (0..length).step_by(16) {
            sum = load_or::<V>(a, index, length, 0.0).fma(load_or::<V>(b, index, length, 0.0), sum);
        }
        sum.total()
    }
}

#[inline(always)]
unsafe fn largest_lane<V: Lanes>(from: *const f32, length: usize) -> f32 {
    unsafe {
        let mut most = V::splat(f32::NEG_INFINITY);
        for index in (0..length).step_by(16) {
            most = load_or::<V>(from, index, length, f32::NEG_INFINITY).max(most);
        }
        most.largest()
    }
}

#[inline(always)]
unsafe fn sum_exp_lanes<V: Lanes>(from: *const f32, length: usize, largest: f32, factor: f32) -> f32 {
    unsafe {
        let (largest, factor) = (V::splat(largest), V::splat(factor));
        let mut sum = V::zero();
        for index in (0..length).step_by(16) {
            // Negative infinity, so that the rest of the last lanes adds nothing.
            let values = load_or::<V>(from, index, length, f32::NEG_INFINITY);
            sum = sum.add(values.sub(largest).mul(factor).exp());
        }
        sum.total()
    }
}
