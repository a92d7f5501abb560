//! Learning rate over the steps of a run.

use std::f64::consts::PI;

/// The rate of update `step` (1 = first of `steps`): linear warm-up over `warmup` updates, then half a cosine down to
/// `floor · peak` at the last (SGDR, arXiv 1608.03983, one period).
pub fn learning_rate(step: u32, steps: u32, warmup: u32, peak: f64, floor: f64) -> f64 {
    if step <= warmup {
        return peak * f64::from(step) / f64::from(warmup.max(1));
    }
    let done = f64::from(step - warmup) / f64::from(steps.saturating_sub(warmup).max(1));
    peak * (floor + (1.0 - floor) * 0.5 * (1.0 + (PI * done.min(1.0)).cos()))
}
