//! Tests of the crate `kernels`.

// Clippy's permission for tests covers test functions, not the helpers they share.
#![allow(clippy::unwrap_used)]

#[path = "kernels/encoder.rs"]
mod encoder;
#[path = "kernels/formats.rs"]
mod formats;
#[path = "kernels/inference.rs"]
mod inference;

/// Numbers in -1..1 from a seed.
fn numbers(seed: u64, count: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}
