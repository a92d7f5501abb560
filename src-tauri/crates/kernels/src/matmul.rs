//! Products of activations with frozen weights: `out[row, i] = activations[row] · weights[i]`.
//!
//! A row's results do not depend on the other rows of the batch, nor on the number of threads: blocks of 32 columns are
//! summed exactly in integers and added up from left to right, whatever is computed beside them.

use crate::activations::Activations;
use crate::isa::Isa;
use crate::packed::PackedMatrix;
use crate::pool::{Disjoint, Pool};
use crate::product::Job;
use crate::simd::rows_at_once;

/// What happens to what is in the output already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    Replace,
    /// The product is added to it: a residual connection for free.
    Add,
}

/// `out` is `[activations.rows, weights.rows]`.
///
/// Panics when the columns differ, `out` has another size, or the activations lack a form that the weights need.
pub fn matmul(isa: Isa, pool: &Pool, weights: &PackedMatrix, activations: &Activations, out: &mut [f32], mode: Output) {
    assert_eq!(weights.cols(), activations.cols(), "columns of weights and activations");
    assert_eq!(out.len(), activations.rows() * weights.rows(), "size of the product");
    let (needed, there) = (weights.forms(), activations.forms());
    assert!(needed.int8 <= there.int8 && needed.f32 <= there.f32, "activations in {there:?} for weights that need {needed:?}");
    assert!(!needed.int8 || activations.together() == rows_at_once(isa), "activations of another tier");
    let out = Disjoint::new(out);
    let width = weights.rows();
    let mut jobs = Vec::with_capacity(weights.sections().len());
    let (mut tiles, mut bytes) = (0, 0);
    for section in weights.sections() {
        jobs.push((tiles, Job::new(section, activations, width, &out, mode == Output::Add)));
        tiles += section.tiles();
        bytes += section.tiles() * section.tile_bytes();
    }
    // Chunks of about 32 KiB of weights for few rows, which are read once, and of 256 KiB for many, which stay in the cache;
    // small enough that every thread gets several.
    let wanted = if activations.rows() > 8 { 1 << 18 } else { 1 << 15 };
    let share = tiles / (4 * pool.threads());
    let chunk = (wanted * tiles / bytes.max(1)).min(share).next_multiple_of(2).max(2);
    pool.run(tiles, chunk, &|range| {
        for (start, job) in &jobs {
            let (first, last) = (range.start.max(*start), range.end.min(start + job.tiles()));
            if first < last {
                // SAFETY: the sizes were checked above; an `Isa` proves its instructions; tiles write disjoint columns of
                // `out`, and each tile is handed out once.
                unsafe { job.run(isa, first - start, last - start) };
            }
        }
    });
}

/// f32 product with row-major weights `[_, cols]` and activations `[_, cols]`: the reference for the packed one.
///
/// Panics when a length is not a multiple of `cols` or `out` has another size.
pub fn matmul_f32(isa: Isa, pool: &Pool, weights: &[f32], activations: &[f32], cols: usize, out: &mut [f32], mode: Output) {
    assert!(cols > 0 && weights.len().is_multiple_of(cols) && activations.len().is_multiple_of(cols));
    let width = weights.len() / cols;
    assert_eq!(out.len(), activations.len() / cols * width, "size of the product");
    let shared = Disjoint::new(out);
    pool.run(width, 32, &|range| {
        for (row, values) in activations.chunks_exact(cols).enumerate() {
            // SAFETY: each range of columns is handed out once, so these parts of the rows do not overlap.
            let part = unsafe { shared.slice(row * width + range.start, range.len()) };
            for (slot, index) in part.iter_mut().zip(range.clone()) {
                let product = crate::elementwise::dot(isa, &weights[index * cols..][..cols], values);
                *slot = if mode == Output::Add { *slot + product } else { product };
            }
        }
    });
}
