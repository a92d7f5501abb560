//! Rounding f32 weights to blocks of 32.

use crate::blocks::{SUB, SubBlock};
use half::f16;

/// Symmetric, scale = largest magnitude / 127, 128 added. Missing values count as zero.
pub(crate) fn int8(values: &[f32]) -> SubBlock {
    let largest = values.iter().fold(0.0f32, |most, value| most.max(value.abs()));
    let scale = f16::from_f32(largest / 127.0);
    let inverse = if scale.to_f32() > 0.0 { 1.0 / scale.to_f32() } else { 0.0 };
    let mut weights = [128; SUB];
    for (weight, value) in weights.iter_mut().zip(values) {
        *weight = ((value * inverse).round().clamp(-127.0, 127.0) as i32 + 128) as u8;
    }
    SubBlock { scale, factors: [1, 1], min: f16::ZERO, min_factor: 1, weights }
}

/// `scale · q + min` with q in 0..=15: the least squares of a few starts around the full range, so that an outlier does not
/// coarsen the rest. Missing values are left at q = 0.
pub(crate) fn int4(values: &[f32]) -> SubBlock {
    let low = values.iter().copied().fold(f32::INFINITY, f32::min);
    let high = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut best: Option<(f32, f16, f16)> = None;
    for shrink in [1.0, 0.97, 0.94, 0.91, 0.88, 0.85, 0.82, 0.79] {
        let middle = 0.5 * (low + high);
        let (mut scale, mut min) = ((high - low) * shrink / STEPS, middle + (low - middle) * shrink);
        for _ in 0..3 {
            let (rounded_scale, rounded_min) = (f16::from_f32(scale), f16::from_f32(min));
            let error = values.iter().map(|value| (restore(*value, rounded_scale, rounded_min) - value).powi(2)).sum();
            if best.is_none_or(|(least, ..)| error < least) {
                best = Some((error, rounded_scale, rounded_min));
            }
            (scale, min) = regression(values, scale, min);
        }
    }
    let (_, scale, min) = best.unwrap_or((0.0, f16::ZERO, f16::ZERO));
    let mut weights = [0; SUB];
    for (weight, value) in weights.iter_mut().zip(values) {
        *weight = nearest(*value, scale.to_f32(), min.to_f32()) as u8;
    }
    SubBlock { scale, factors: [1, 1], min, min_factor: 1, weights }
}

/// The largest q.
const STEPS: f32 = 15.0;

fn nearest(value: f32, scale: f32, min: f32) -> f32 {
    if scale > 0.0 { ((value - min) / scale).round().clamp(0.0, STEPS) } else { 0.0 }
}

fn restore(value: f32, scale: f16, min: f16) -> f32 {
    nearest(value, scale.to_f32(), min.to_f32()) * scale.to_f32() + min.to_f32()
}

/// The line through (q, value) with the least squares, for the q that scale and min give; the same again where there is none.
fn regression(values: &[f32], scale: f32, min: f32) -> (f32, f32) {
    let count = values.len() as f32;
    let (mut q_sum, mut qq_sum, mut v_sum, mut qv_sum) = (0.0, 0.0, 0.0, 0.0);
    for value in values {
        let q = nearest(*value, scale, min);
        q_sum += q;
        qq_sum += q * q;
        v_sum += value;
        qv_sum += q * value;
    }
    let spread = count * qq_sum - q_sum * q_sum;
    if spread <= 0.0 {
        return (scale, min);
    }
    let slope = (count * qv_sum - q_sum * v_sum) / spread;
    if slope > 0.0 { (slope, (v_sum - slope * q_sum) / count) } else { (scale, min) }
}
