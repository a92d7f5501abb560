//! The inner loops of attention over spans of 16 positions, for keys and values in f16 or f32.
//!
//! Each query's lanes see the same operations in the same order, however many queries share a pass.

use crate::simd::Lanes;

/// Positions of keys that lie together.
pub const SPAN: usize = 16;

/// A number as a cache of keys and values holds it.
pub(crate) trait Held: Copy {
    /// # Safety
    /// Sixteen of them must be readable.
    unsafe fn load<V: Lanes>(from: *const Self) -> V;
}

/// f16, by its bits.
impl Held for u16 {
    #[inline(always)]
    unsafe fn load<V: Lanes>(from: *const Self) -> V {
        unsafe { V::load_f16(from) }
    }
}

impl Held for f32 {
    #[inline(always)]
    unsafe fn load<V: Lanes>(from: *const Self) -> V {
        unsafe { V::load(from) }
    }
}

/// Scores of `count` queries (1 to 8) against `spans` spans of keys, in whole spans of `stride` numbers each. Places beyond
/// `count` must repeat a query, and there must be room for the next power of two.
///
/// # Safety
/// All pointers must be good for the sizes given.
#[inline(always)]
pub(crate) unsafe fn score_batch<V: Lanes, T: Held>(
    count: usize,
    queries: &[*const f32; 8],
    keys: *const T,
    head_dim: usize,
    spans: usize,
    scores: *mut f32,
    stride: usize,
    scale: f32,
) {
    unsafe {
        match count {
            1 => score::<V, T, 1, 4>(queries, keys, head_dim, spans, scores, stride, scale),
            2 => score::<V, T, 2, 4>(queries, keys, head_dim, spans, scores, stride, scale),
            3 | 4 => score::<V, T, 4, 2>(queries, keys, head_dim, spans, scores, stride, scale),
            _ => score::<V, T, 8, 1>(queries, keys, head_dim, spans, scores, stride, scale),
        }
    }
}

/// The values of `length` positions, weighted by the scores of `count` queries, in place of what the outputs held.
///
/// # Safety
/// As [`score_batch`].
#[inline(always)]
pub(crate) unsafe fn gather_batch<V: Lanes, T: Held>(
    count: usize,
    outputs: &[*mut f32; 8],
    values: *const T,
    head_dim: usize,
    length: usize,
    scores: *const f32,
    stride: usize,
) {
    unsafe {
        match count {
            1 => gather::<V, T, 1>(outputs, values, head_dim, length, scores, stride, true),
            2 => gather::<V, T, 2>(outputs, values, head_dim, length, scores, stride, true),
            4 => gather::<V, T, 4>(outputs, values, head_dim, length, scores, stride, true),
            8 => gather::<V, T, 8>(outputs, values, head_dim, length, scores, stride, true),
            // Whatever has no query of its own must not be written twice: odd counts go one by one.
            _ => {
                for query in 0..count {
                    gather::<V, T, 1>(&[outputs[query]; 8], values, head_dim, length, scores.add(query * stride), stride, true);
                }
            }
        }
    }
}

/// Divides an output by the sum of its weights, whose inverse is `inverse`.
///
/// # Safety
/// `output` must hold `head_dim` numbers, a multiple of 16.
#[inline(always)]
pub(crate) unsafe fn rescale<V: Lanes>(output: *mut f32, head_dim: usize, inverse: f32) {
    unsafe {
        let factor = V::splat(inverse);
        for lane in (0..head_dim).step_by(16) {
            V::load(output.add(lane)).mul(factor).store(output.add(lane));
        }
    }
}

/// Scores of `QUERIES` queries against `spans` spans of keys, `ABREAST` spans at a time to hide latency.
#[inline(always)]
pub(crate) unsafe fn score<V: Lanes, T: Held, const QUERIES: usize, const ABREAST: usize>(
    queries: &[*const f32; 8],
    keys: *const T,
    head_dim: usize,
    spans: usize,
    scores: *mut f32,
    stride: usize,
    scale: f32,
) {
    unsafe {
        let mut span = 0;
        while span + ABREAST <= spans {
            score_spans::<V, T, QUERIES, ABREAST>(queries, keys, head_dim, span, scores, stride, scale);
            span += ABREAST;
        }
        while span < spans {
            score_spans::<V, T, QUERIES, 1>(queries, keys, head_dim, span, scores, stride, scale);
            span += 1;
        }
    }
}

#[inline(always)]
unsafe fn score_spans<V: Lanes, T: Held, const QUERIES: usize, const ABREAST: usize>(
    queries: &[*const f32; 8],
    keys: *const T,
    head_dim: usize,
    span: usize,
    scores: *mut f32,
    stride: usize,
    scale: f32,
) {
    unsafe {
        let mut sums = [[V::zero(); ABREAST]; QUERIES];
        for dim in 0..head_dim {
            for s in 0..ABREAST {
                let key = T::load::<V>(keys.add(((span + s) * head_dim + dim) * SPAN));
                for q in 0..QUERIES {
                    sums[q][s] = V::splat(*queries[q].add(dim)).fma(key, sums[q][s]);
                }
            }
        }
        for q in 0..QUERIES {
            for s in 0..ABREAST {
                sums[q][s].mul(V::splat(scale)).store(scores.add(q * stride + (span + s) * SPAN));
            }
        }
    }
}

/// Turns scores into `exp(score - largest)` and returns their sum. `length` is a multiple of 16.
#[inline(always)]
pub(crate) unsafe fn exponentiate<V: Lanes>(scores: *mut f32, length: usize) -> f32 {
    unsafe {
        let mut largest = V::splat(f32::NEG_INFINITY);
        for index in (0..length).step_by(16) {
            largest = V::load(scores.add(index)).max(largest);
        }
        let largest = V::splat(largest.largest());
        let mut sum = V::zero();
        for index in (0..length).step_by(16) {
            let power = V::load(scores.add(index)).sub(largest).exp();
            sum = sum.add(power);
            power.store(scores.add(index));
        }
        sum.total()
    }
}

/// Adds the values, weighted by the scores, to the outputs (or replaces them).
#[inline(always)]
pub(crate) unsafe fn gather<V: Lanes, T: Held, const QUERIES: usize>(
    outputs: &[*mut f32; 8],
    values: *const T,
    head_dim: usize,
    length: usize,
    scores: *const f32,
    stride: usize,
    replace: bool,
) {
    unsafe {
        let mut dim = 0;
        while dim + 32 <= head_dim && QUERIES > 1 {
            gather_dims::<V, T, QUERIES, 2>(outputs, values, head_dim, dim, length, scores, stride, replace);
            dim += 32;
        }
        while dim + 64 <= head_dim {
            gather_dims::<V, T, QUERIES, 4>(outputs, values, head_dim, dim, length, scores, stride, replace);
            dim += 64;
        }
        while dim < head_dim {
            gather_dims::<V, T, QUERIES, 1>(outputs, values, head_dim, dim, length, scores, stride, replace);
            dim += 16;
        }
    }
}

#[inline(always)]
unsafe fn gather_dims<V: Lanes, T: Held, const QUERIES: usize, const ABREAST: usize>(
    outputs: &[*mut f32; 8],
    values: *const T,
    head_dim: usize,
    dim: usize,
    length: usize,
    scores: *const f32,
    stride: usize,
    replace: bool,
) {
    unsafe {
        let mut sums = [[V::zero(); ABREAST]; QUERIES];
        if !replace {
            for q in 0..QUERIES {
                for a in 0..ABREAST {
                    sums[q][a] = V::load(outputs[q].add(dim + a * 16));
                }
            }
        }
        for position in 0..length {
            for a in 0..ABREAST {
                let value = T::load::<V>(values.add(position * head_dim + dim + a * 16));
                for q in 0..QUERIES {
                    sums[q][a] = V::splat(*scores.add(q * stride + position)).fma(value, sums[q][a]);
                }
            }
        }
        for q in 0..QUERIES {
            for a in 0..ABREAST {
                sums[q][a].store(outputs[q].add(dim + a * 16));
            }
        }
    }
}
