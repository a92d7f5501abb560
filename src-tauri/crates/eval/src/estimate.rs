//! Means with their intervals.

use crate::Random;
use serde::{Deserialize, Serialize};

/// A mean with its 95% interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    pub mean: f64,
    pub low: f64,
    pub high: f64,
}

const RESAMPLES: usize = 1000;

impl Estimate {
    /// Percentile bootstrap over independent values (Efron 1979), with a seed of its own; `(0, 0, 0)` of nothing.
    pub fn bootstrap(values: &[f64]) -> Self {
        let n = values.len();
        if n == 0 {
            return Self { mean: 0.0, low: 0.0, high: 0.0 };
        }
        let mean = values.iter().sum::<f64>() / n as f64;
        let mut random = Random::for_purpose("bootstrap", n as u64);
        let mut means: Vec<f64> = (0..RESAMPLES).map(|_| (0..n).map(|_| values[random.below(n)]).sum::<f64>() / n as f64).collect();
        means.sort_by(f64::total_cmp);
        Self { mean, low: means[RESAMPLES / 40], high: means[RESAMPLES - 1 - RESAMPLES / 40] }
    }

    /// A rate of won pairs (Wilson).
    pub fn rate(wins: f64, of: f64) -> Self {
        let (mean, low, high) = taste::wilson(wins, of);
        Self { mean, low, high }
    }
}

impl std::fmt::Display for Estimate {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(f, "{:.3} ({:.3}–{:.3})", self.mean, self.low, self.high)
    }
}

/// Expected calibration error: ten groups of equal size by predicted probability, each by how far the mean prediction is
/// from the share that was liked.
pub fn calibration_error(pairs: &[(f64, bool)]) -> f64 {
    let mut sorted = pairs.to_vec();
    sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
    let groups = sorted.chunks(sorted.len().div_ceil(10).max(1));
    let error = groups.map(|group| {
        let predicted: f64 = group.iter().map(|pair| pair.0).sum();
        let liked = group.iter().filter(|pair| pair.1).count() as f64;
        (predicted - liked).abs()
    });
    error.sum::<f64>() / sorted.len().max(1) as f64
}
