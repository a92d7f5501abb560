//! Layer norm and the Gaussian activations of encoders (BERT, T5), over one row.
//!
//! Every tier gives the same bits, as in [`crate::elementwise`].

use crate::isa::Isa;
use crate::simd::{Lanes, dispatch};

/// Layer norm (Ba et al., 2016) in place: `x = (x - mean) / sqrt(variance + eps) * gain + shift`.
///
/// Panics when the lengths differ.
pub fn layer_norm(isa: Isa, x: &mut [f32], gain: &[f32], shift: &[f32], eps: f32) {
    assert!(x.len() == gain.len() && x.len() == shift.len());
    let (at, length) = (x.as_ptr(), x.len());
    // SAFETY: `length` numbers from `at`, and an `Isa` proves its instructions.
    let sum = unsafe { dispatch!(isa, sum_lanes(at: *const f32, length: usize) -> f32) };
    let mean = sum / length as f32;
    x.iter_mut().for_each(|value| *value -= mean);
    // The variance of what the mean was taken off: exact where the mean is large beside the spread.
    let squares = crate::elementwise::dot(isa, x, x);
    let scale = 1.0 / (squares / length as f32 + eps).sqrt();
    for ((value, gain), shift) in x.iter_mut().zip(gain).zip(shift) {
        *value = *value * scale * gain + shift;
    }
}

/// The exact Gaussian error linear unit (Hendrycks and Gimpel, 2016) in place: `x * Φ(x)`, within 3e-7 · |x|.
pub fn gelu(isa: Isa, x: &mut [f32]) {
    let (at, length) = (x.as_mut_ptr(), x.len());
    // SAFETY: `length` numbers from `at`, and an `Isa` proves its instructions.
    unsafe { dispatch!(isa, gelu_lanes(at: *mut f32, length: usize)) }
}

/// `out = gelu(gate) * up` with the tanh form of the unit, `x * sigmoid(2 * sqrt(2 / π) * (x + 0.044715 x³))`.
///
/// Panics when the lengths differ.
pub fn gated_gelu(isa: Isa, gate: &[f32], up: &[f32], out: &mut [f32]) {
    assert!(gate.len() == up.len() && gate.len() == out.len());
    let (gate_at, up_at, out_at, length) = (gate.as_ptr(), up.as_ptr(), out.as_mut_ptr(), out.len());
    // SAFETY: equal lengths, and an `Isa` proves its instructions.
    unsafe { dispatch!(isa, gated_lanes(gate_at: *const f32, up_at: *const f32, out_at: *mut f32, length: usize)) }
}

/// Sixteen values from `index` on, zeros beyond `length`.
///
/// # Safety
/// `from` must hold `length` values.
#[inline(always)]
unsafe fn load<V: Lanes>(from: *const f32, index: usize, length: usize) -> V {
    unsafe {
        if index + 16 <= length {
            return V::load(from.add(index));
        }
        let mut lanes = [0.0; 16];
        std::ptr::copy_nonoverlapping(from.add(index), lanes.as_mut_ptr(), length - index);
        V::load(lanes.as_ptr())
    }
}

/// # Safety
/// `to` must hold `length` values.
#[inline(always)]
unsafe fn store<V: Lanes>(value: V, to: *mut f32, index: usize, length: usize) {
    unsafe {
        if index + 16 <= length {
            return value.store(to.add(index));
        }
        let mut lanes = [0.0f32; 16];
        value.store(lanes.as_mut_ptr());
        std::ptr::copy_nonoverlapping(lanes.as_ptr(), to.add(index), length - index);
    }
}

#[inline(always)]
unsafe fn sum_lanes<V: Lanes>(from: *const f32, length: usize) -> f32 {
    unsafe {
        let mut sum = V::zero();
        for index in (0..length).step_by(16) {
            sum = sum.add(load::<V>(from, index, length));
        }
        sum.total()
    }
}

#[inline(always)]
unsafe fn gelu_lanes<V: Lanes>(x: *mut f32, length: usize) {
    for index in (0..length).step_by(16) {
        unsafe {
            let value = load::<V>(x, index, length);
            let size = value.abs();
            // 1 - erf(|x| / √2) after Abramowitz and Stegun 7.1.26: a polynomial in t times exp(-x² / 2), within 1.5e-7.
            let t = V::splat(1.0).div(size.fma(V::splat(0.327_591_1 * std::f32::consts::FRAC_1_SQRT_2), V::splat(1.0)));
            let mut tail = V::splat(1.061_405_4);
            for term in [-1.453_152, 1.421_413_7, -0.284_496_74, 0.254_829_6] {
                tail = tail.fma(t, V::splat(term));
            }
            let tail = tail.mul(t).mul(size.mul(size).mul(V::splat(-0.5)).exp());
            // x Φ(x) = max(x, 0) - |x| / 2 · (1 - erf(|x| / √2)) on both sides of zero.
            let result = value.max(V::zero()).sub(size.mul(V::splat(0.5)).mul(tail));
            store(result, x, index, length);
        }
    }
}

#[inline(always)]
unsafe fn gated_lanes<V: Lanes>(gate: *const f32, up: *const f32, out: *mut f32, length: usize) {
    for index in (0..length).step_by(16) {
        unsafe {
            let x = load::<V>(gate, index, length);
            let product = x.mul(load::<V>(up, index, length));
            let cubic = x.mul(x).mul(x).fma(V::splat(0.044_715), x);
            let z = cubic.mul(V::splat(2.0 * 0.797_884_6));
            // sigmoid(z), the exponent taken of -|z|, which cannot overflow.
            let power = V::zero().sub(z.abs()).exp();
            let numerator = V::splat(1.0).where_greater(z, V::zero()).add(power.where_greater(V::zero(), z));
            store(product.mul(numerator).div(V::splat(1.0).add(power)), out, index, length);
        }
    }
}
