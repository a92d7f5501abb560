//! Loops that the compiler turns into SIMD: run-time dispatch, an exponential without calls, sums in fixed lanes.

/// Runs `work` compiled for the widest instruction set that this processor has. `work` must be `#[inline(always)]`.
#[inline]
pub fn vectorized<R>(work: impl FnOnce() -> R) -> R {
    struct Work<F>(F);
    impl<R, F: FnOnce() -> R> pulp::WithSimd for Work<F> {
        type Output = R;
        #[inline(always)]
        fn with_simd<S: pulp::Simd>(self, _simd: S) -> R {
            (self.0)()
        }
    }
    pulp::Arch::new().dispatch(Work(work))
}

/// `eˣ` to about 2 ulp over the normal range, branch-free; NaN stays NaN (so that training can notice it).
///
/// Cephes `expf`: x = n ln 2 + r, a polynomial in r, n added to the exponent bits.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    // 1.5 × 2²³: adding it rounds to an integer that then stands in the low bits of the mantissa.
    const ROUND: f32 = 12_582_912.0;
    let x = if x < -87.0 { -87.0 } else { x };
    let x = if x > 88.0 { 88.0 } else { x };
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    // ln 2 in two parts, so that n · ln 2 loses no bits.
    let r = x - n * 0.693_359_4 + n * 2.121_944_4e-4;
    let p = 1.987_569_1e-4_f32;
    let p = p * r + 1.398_199_9e-3;
    let p = p * r + 8.333_452e-3;
    let p = p * r + 4.166_579_6e-2;
    let p = p * r + 1.666_666_5e-1;
    let p = p * r + 0.5;
    let p = p * r * r + r + 1.0;
    p * f32::from_bits(shifted.to_bits().wrapping_add(127) << 23)
}

/// `Σ term(i)` for i < n in 16 independent lanes: vectorises, and always adds in the same order.
#[inline(always)]
pub fn sum(n: usize, term: impl Fn(usize) -> f32) -> f32 {
    let mut lanes = [0f32; 16];
    let whole = n - n % 16;
    for start in (0..whole).step_by(16) {
        for lane in 0..16 {
            lanes[lane] += term(start + lane);
        }
    }
    let mut total = 0f32;
    for i in whole..n {
        total += term(i);
    }
    for lane in lanes {
        total += lane;
    }
    total
}

/// The largest value; NaNs are passed over (they come back through the sum that follows in a softmax).
#[inline(always)]
pub fn largest(values: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; 16];
    let chunks = values.chunks_exact(16);
    let rest = chunks.remainder();
    for chunk in chunks {
        for lane in 0..16 {
            lanes[lane] = if chunk[lane] > lanes[lane] { chunk[lane] } else { lanes[lane] };
        }
    }
    let mut top = f32::NEG_INFINITY;
    for &value in rest.iter().chain(&lanes) {
        top = if value > top { value } else { top };
    }
    top
}

/// How many rows one task takes, so that each thread gets a few tasks.
pub fn rows_per_task(rows: usize) -> usize {
    rows.div_ceil(rayon::current_num_threads() * 4).max(1)
}
