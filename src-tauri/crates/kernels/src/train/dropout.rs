//! Dropout (Srivastava et al., 2014) whose mask is computed from a key, never stored: the way back draws the same one again.

use super::matrix::Store;
use super::vector::{rows_per_task, vectorized};
use rayon::prelude::*;

/// Which elements are left out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DropoutMask {
    /// From 0 to below 1; what stays is divided by `1 − share`.
    pub share: f32,
    pub key: u64,
}

impl DropoutMask {
    /// `out (+)= mask ⊙ x / (1 − share)`, both `[rows, columns]`. An element's fate depends on key, row and column only.
    pub fn apply(&self, x: &[f32], columns: usize, out: &mut [f32], store: Store) {
        assert!(
            columns > 0 && x.len() == out.len() && x.len().is_multiple_of(columns) && (0.0..1.0).contains(&self.share),
            "dropout of {}: {} and {} elements for width {columns}",
            self.share,
            x.len(),
            out.len()
        );
        let limit = (f64::from(self.share) * f64::from(u32::MAX)) as u32;
        let (kept, keep_old) = (1.0 / (1.0 - self.share), if store == Store::Add { 1.0 } else { 0.0 });
        let rows = rows_per_task(x.len() / columns);
        out.par_chunks_mut(rows * columns).zip(x.par_chunks(rows * columns)).enumerate().for_each(|(index, (out, x))| {
            vectorized(
                #[inline(always)]
                || {
                    for (offset, (out, x)) in out.chunks_exact_mut(columns).zip(x.chunks_exact(columns)).enumerate() {
                        let row = row_key(self.key, (index * rows + offset) as u64);
                        if store == Store::Replace {
                            out.fill(0.0);
                        }
                        for i in 0..columns {
                            let factor = if mix(row.wrapping_add(i as u32)) < limit { 0.0 } else { kept };
                            out[i] = out[i] * keep_old + x[i] * factor;
                        }
                    }
                },
            );
        });
    }
}

/// One step of SplitMix64.
fn row_key(key: u64, row: u64) -> u32 {
    let z = key.wrapping_add(row.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z >> 32) as u32
}

/// The finaliser of MurmurHash3 (32 bits): every bit of the input changes half of those of the output.
#[inline(always)]
fn mix(x: u32) -> u32 {
    let x = (x ^ (x >> 16)).wrapping_mul(0x85eb_ca6b);
    let x = (x ^ (x >> 13)).wrapping_mul(0xc2b2_ae35);
    x ^ (x >> 16)
}
