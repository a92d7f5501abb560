//! Products of activations with frozen weights: `out[row, i] = activations[row] · weights[i]`.
//!
//! A row's results do not depend on the other rows of the batch, nor on the number of threads: blocks of 32 columns are
//! summed exactly in integers and added up from left to right, whatever is computed beside them.

use crate::isa::Isa;
use crate::packed::{Activations, BLOCK, PackedMatrix, TILE};
use crate::pool::{Disjoint, Pool};
use crate::simd::{Lanes, dispatch};

/// What happens to what is in the output already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    Replace,
    /// The product is added to it: a residual connection for free.
    Add,
}

/// int8 product: `out` is `[activations.rows, weights.rows]`.
///
/// Panics when the columns differ or `out` has another size.
pub fn matmul(isa: Isa, pool: &Pool, weights: &PackedMatrix, activations: &Activations, out: &mut [f32], mode: Output) {
    assert_eq!(weights.cols(), activations.cols(), "columns of weights and activations");
    assert_eq!(out.len(), activations.rows() * weights.rows(), "size of the product");
    let out = Disjoint::new(out);
    let job = Job {
        weights: weights.start(),
        tile_bytes: weights.tile_bytes(),
        scale_bytes: weights.scale_bytes(),
        blocks: weights.blocks(),
        activations: activations.start(),
        row_words: activations.row_words(),
        rows: activations.rows(),
        width: weights.rows(),
        out: &out,
        add: mode == Output::Add,
    };
    // Chunks of about 64 KiB of weights for few rows, which are read once, and of 256 KiB for many, which stay in the cache;
    // small enough that every thread gets several.
    let bytes = if job.rows > 8 { 1 << 18 } else { 1 << 16 };
    let share = weights.tiles() / (4 * pool.threads());
    let chunk = (bytes / job.tile_bytes).min(share).next_multiple_of(2).max(2);
    pool.run(weights.tiles(), chunk, &|tiles| {
        let (first, last, job) = (tiles.start, tiles.end, &job);
        // SAFETY: the sizes were checked above; an `Isa` proves its instructions; tiles write disjoint columns of `out`, and
        // each tile is handed out once.
        unsafe { dispatch!(isa, run_tiles(job: &Job<'_>, first: usize, last: usize)) };
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

struct Job<'a> {
    weights: *const u8,
    tile_bytes: usize,
    scale_bytes: usize,
    blocks: usize,
    activations: *const u32,
    row_words: usize,
    rows: usize,
    width: usize,
    out: &'a Disjoint<'a, f32>,
    add: bool,
}

// SAFETY: the pointers lead to memory that `matmul` borrows for as long as the job lives; weights and activations are only
// read, and `out` is written in disjoint parts.
unsafe impl Sync for Job<'_> {}

/// # Safety
/// The job must describe memory as `matmul` checks it, and no other thread may run these tiles.
#[inline(always)]
unsafe fn run_tiles<V: Lanes>(job: &Job<'_>, first: usize, last: usize) {
    unsafe {
        if V::MATMUL_TILES == 1 {
            // One tile stays in the nearest cache while all rows pass by.
            for tile in first..last {
                let mut row = 0;
                while row < job.rows {
                    let count = rows_at_once(job.rows - row, V::MATMUL_ROWS);
                    some_rows::<V, 1>(job, tile, row, count);
                    row += count;
                }
            }
            return;
        }
        let mut row = 0;
        while row < job.rows {
            let count = rows_at_once(job.rows - row, V::MATMUL_ROWS);
            let mut tile = first;
            while tile + 2 <= last {
                some_rows::<V, 2>(job, tile, row, count);
                tile += 2;
            }
            if tile < last {
                some_rows::<V, 1>(job, tile, row, count);
            }
            row += count;
        }
    }
}

/// Splits what is left into even parts rather than a full one and a crumb.
fn rows_at_once(left: usize, most: usize) -> usize {
    if left <= most {
        left
    } else if left < 2 * most {
        left.div_ceil(2)
    } else {
        most
    }
}

#[inline(always)]
unsafe fn some_rows<V: Lanes, const TILES: usize>(job: &Job<'_>, tile: usize, row: usize, count: usize) {
    unsafe {
        match count.min(V::MATMUL_ROWS) {
            1 => product::<V, 1, TILES>(job, tile, row),
            2 => product::<V, 2, TILES>(job, tile, row),
            3 => product::<V, 3, TILES>(job, tile, row),
            4 => product::<V, 4, TILES>(job, tile, row),
            5 => product::<V, 5, TILES>(job, tile, row),
            _ => product::<V, 6, TILES>(job, tile, row),
        }
    }
}

/// `ROWS` rows of activations times `TILES` tiles of 16 rows of weights, all sums in registers.
#[inline(always)]
unsafe fn product<V: Lanes, const ROWS: usize, const TILES: usize>(job: &Job<'_>, tile: usize, row: usize) {
    unsafe {
        let weights = job.weights.add(tile * job.tile_bytes);
        let activations = job.activations.add(row * job.row_words);
        let mut totals = [[V::zero(); TILES]; ROWS];
        for block in 0..job.blocks {
            let mut sums = [[V::sums(0); TILES]; ROWS];
            if V::OFFSET_WEIGHTS {
                for r in 0..ROWS {
                    let offset = activations.add(r * job.row_words + job.blocks * 9 + block).read() as i32;
                    sums[r] = [V::sums(offset); TILES];
                }
            }
            let block_weights = weights.add(job.scale_bytes + block * TILE * BLOCK);
            for group in 0..8 {
                for t in 0..TILES {
                    let from = block_weights.add(t * job.tile_bytes + group * 64);
                    if ROWS <= 4 {
                        // Few rows are bound by memory; prefetching past the end of the matrix is harmless.
                        V::prefetch(from.wrapping_add(4096));
                    }
                    let four_columns = V::load_weights(from);
                    for r in 0..ROWS {
                        let four = activations.add(r * job.row_words + block * 8 + group).read() as i32;
                        sums[r][t] = V::dot(sums[r][t], four_columns, four);
                    }
                }
            }
            for t in 0..TILES {
                let scales = V::load_f16(weights.add(t * job.tile_bytes + block * TILE * 2).cast());
                for r in 0..ROWS {
                    let scale = f32::from_bits(activations.add(r * job.row_words + job.blocks * 8 + block).read());
                    totals[r][t] = V::from_sums(sums[r][t]).fma(scales.mul(V::splat(scale)), totals[r][t]);
                }
            }
        }
        for r in 0..ROWS {
            for t in 0..TILES {
                store::<V>(job, row + r, tile + t, totals[r][t]);
            }
        }
    }
}

#[inline(always)]
unsafe fn store<V: Lanes>(job: &Job<'_>, row: usize, tile: usize, values: V) {
    let columns = (job.width - tile * TILE).min(TILE);
    unsafe {
        let to = job.out.pointer().add(row * job.width + tile * TILE);
        if columns == TILE {
            let values = if job.add { values.add(V::load(to)) } else { values };
            return values.store(to);
        }
        let mut lanes = [0.0f32; TILE];
        values.store(lanes.as_mut_ptr());
        for (column, lane) in lanes.into_iter().enumerate().take(columns) {
            let slot = to.add(column);
            slot.write(if job.add { lane + slot.read() } else { lane });
        }
    }
}
