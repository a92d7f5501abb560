//! Learning rate over the steps of a run.

use std::f64::consts::PI;

/// How the rate falls after the warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decay {
    /// Half a cosine (SGDR, arXiv 1608.03983, one period).
    Cosine,
    Linear,
    /// Not at all.
    Constant,
}

/// The rate of update `step` (1 = first of `steps`): linear warm-up over `warmup` updates, then down to `floor · peak` at the last.
pub fn learning_rate(step: u32, steps: u32, warmup: u32, peak: f64, floor: f64, decay: Decay) -> f64 {
    if step <= warmup {
        return peak * f64::from(step) / f64::from(warmup.max(1));
    }
    let done = (f64::from(step - warmup) / f64::from(steps.saturating_sub(warmup).max(1))).min(1.0);
    let left = match decay {
        Decay::Cosine => 0.5 * (1.0 + (PI * done).cos()),
        Decay::Linear => 1.0 - done,
        Decay::Constant => return peak,
    };
    peak * (floor + (1.0 - floor) * left)
}
