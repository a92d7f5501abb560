//! The inner loops of [`crate::matmul`]: some rows of activations times some tiles of weights, one for each format.

use crate::activations::{Activations, HALVES_32, SCALE, SUM_8, SUM_128, SUM_SCALED, WORDS, groups};
use crate::isa::Isa;
use crate::packed::{BlockFormat, K_HEAD, LINE, Q6K_HEAD, Section, TILE, block_lines};
use crate::pool::Disjoint;
use crate::simd::{Lanes, dispatch};

/// A section of a matrix to be multiplied.
pub(crate) struct Job<'a> {
    format: BlockFormat,
    weights: *const u8,
    tile_bytes: usize,
    head_bytes: usize,
    cols: usize,
    blocks: usize,
    section_rows: usize,
    words: *const u32,
    row_words: usize,
    dense: *const f32,
    rows: usize,
    out: &'a Disjoint<'a, f32>,
    /// Columns of `out`, and the first one of this section.
    width: usize,
    first: usize,
    add: bool,
}

// SAFETY: the pointers lead to memory that `matmul` borrows for as long as the job lives; weights and activations are only
// read, and `out` is written in disjoint parts.
unsafe impl Sync for Job<'_> {}

impl<'a> Job<'a> {
    pub fn new(section: &'a Section, activations: &'a Activations, width: usize, out: &'a Disjoint<'a, f32>, add: bool) -> Self {
        Self {
            format: section.format,
            weights: section.start(),
            tile_bytes: section.tile_bytes(),
            head_bytes: section.head_bytes(),
            cols: section.cols,
            blocks: section.blocks(),
            section_rows: section.rows,
            words: activations.start(),
            row_words: activations.row_words(),
            dense: activations.dense().as_ptr(),
            rows: activations.rows(),
            out,
            width,
            first: section.first,
            add,
        }
    }

    pub fn tiles(&self) -> usize {
        self.section_rows.div_ceil(TILE)
    }

    /// # Safety
    /// Activations, weights and `out` must fit each other as `matmul` checks it, and no other thread may run these tiles.
    pub unsafe fn run(&self, isa: Isa, first: usize, last: usize) {
        let job = self;
        // A function for each format, so that the compiler has one loop at a time to find registers for.
        macro_rules! formats {
            ($($format:ident),*) => {
                match self.format {
                    $(BlockFormat::$format => {
                        #[inline(always)]
                        unsafe fn tiles<V: Lanes>(job: &Job<'_>, first: usize, last: usize) {
                            unsafe { run_tiles::<V, formats::$format>(job, first, last) }
                        }
                        unsafe { dispatch!(isa, tiles(job: &Job<'_>, first: usize, last: usize)) }
                    })*
                }
            };
        }
        formats!(F32, F16, Bf16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4K, Q5K, Q6K);
    }
}

/// # Safety
/// As [`Job::run`].
#[inline(always)]
unsafe fn run_tiles<V: Lanes, F: Format>(job: &Job<'_>, first: usize, last: usize) {
    // A tile or two stay in a near cache while all rows pass by.
    let two = V::MATMUL_TILES == 2 && !(job.rows > V::MATMUL_ROWS.many && job.rows <= V::MATMUL_ROWS.alone);
    let mut tile = first;
    while tile < last {
        let step = if two && tile + 2 <= last { 2 } else { 1 };
        for (row, count) in groups(job.rows, V::MATMUL_ROWS) {
            unsafe {
                match step {
                    2 => some_rows::<V, F, 2>(job, tile, row, count),
                    _ => some_rows::<V, F, 1>(job, tile, row, count),
                }
            }
        }
        tile += step;
    }
}

#[inline(always)]
unsafe fn some_rows<V: Lanes, F: Format, const TILES: usize>(job: &Job<'_>, tile: usize, row: usize, count: usize) {
    unsafe {
        if TILES == 1 && V::MATMUL_ROWS.alone == 8 && count > 6 {
            return match count {
                7 => F::product::<V, 7, 1>(job, tile, row),
                _ => F::product::<V, 8, 1>(job, tile, row),
            };
        }
        match count.min(V::MATMUL_ROWS.many) {
            1 => F::product::<V, 1, TILES>(job, tile, row),
            2 => F::product::<V, 2, TILES>(job, tile, row),
            3 => F::product::<V, 3, TILES>(job, tile, row),
            4 => F::product::<V, 4, TILES>(job, tile, row),
            5 => F::product::<V, 5, TILES>(job, tile, row),
            _ => F::product::<V, 6, TILES>(job, tile, row),
        }
    }
}

/// The loops of one format. Safety: as [`Job::run`].
trait Format {
    /// `ROWS` rows of activations times `TILES` tiles of weights, all sums in registers.
    unsafe fn product<V: Lanes, const ROWS: usize, const TILES: usize>(job: &Job<'_>, tile: usize, row: usize);
}

mod formats {
    use super::*;

    macro_rules! plain {
        ($name:ident, $element:ty, $load:ident) => {
            pub struct $name;

            impl Format for $name {
                #[inline(always)]
                unsafe fn product<V: Lanes, const ROWS: usize, const TILES: usize>(job: &Job<'_>, tile: usize, row: usize) {
                    unsafe {
                        let weights = job.weights.add(tile * job.tile_bytes);
                        let activations = job.dense.add(row * job.cols);
                        let mut totals = [[V::zero(); TILES]; ROWS];
                        for col in 0..job.cols {
                            for t in 0..TILES {
                                let lanes = V::$load(weights.add(t * job.tile_bytes).cast::<$element>().add(col * TILE));
                                for r in 0..ROWS {
                                    totals[r][t] = lanes.fma(V::splat(activations.add(r * job.cols + col).read()), totals[r][t]);
                                }
                            }
                        }
                        store_all::<V, ROWS, TILES>(job, tile, row, &totals);
                    }
                }
            }
        };
    }
    plain!(F32, f32, load);
    plain!(F16, u16, load_f16);
    plain!(Bf16, u16, load_bf16);

    macro_rules! quantised {
        ($name:ident, $scales:ident) => {
            pub struct $name;

            impl Format for $name {
                #[inline(always)]
                unsafe fn product<V: Lanes, const ROWS: usize, const TILES: usize>(job: &Job<'_>, tile: usize, row: usize) {
                    unsafe { quantised_product::<V, $name, ROWS, TILES>(job, tile, row) }
                }
            }

            impl Quantised for $name {
                const FORMAT: BlockFormat = BlockFormat::$name;
                const SCALES: Scales = Scales::$scales;
            }
        };
    }
    quantised!(Q4_0, Single);
    quantised!(Q5_0, Single);
    quantised!(Q8_0, Single);
    quantised!(Q4_1, WithMin);
    quantised!(Q5_1, WithMin);
    quantised!(Q4K, Super);
    quantised!(Q5K, Super);
    quantised!(Q6K, SuperHalves);
}

/// How the scales of a quantised format lie at the start of a tile; see [`Section`].
#[derive(PartialEq, Eq)]
enum Scales {
    Single,
    WithMin,
    Super,
    SuperHalves,
}

trait Quantised {
    const FORMAT: BlockFormat;
    const SCALES: Scales;
}

/// # Safety
/// As [`Job::run`].
#[inline(always)]
unsafe fn quantised_product<V: Lanes, F: Quantised, const ROWS: usize, const TILES: usize>(job: &Job<'_>, tile: usize, row: usize) {
    let lines = block_lines(F::FORMAT);
    let halves = if F::SCALES == Scales::SuperHalves { 2 } else { 1 };
    unsafe {
        let weights = job.weights.add(tile * job.tile_bytes);
        let activations = job.words.add(row * job.row_words);
        let mut totals = [[V::zero(); TILES]; ROWS];
        for block in 0..job.blocks {
            let block_weights = weights.add(job.head_bytes + block * lines * LINE);
            let block_words = activations.add(block * WORDS * ROWS);
            let word = |r: usize, index: usize| block_words.add(index * ROWS + r).read();
            for half in 0..halves {
                let mut sums = [[V::sums(0); TILES]; ROWS];
                for r in 0..ROWS {
                    // What the offset in the weights adds is taken off beforehand.
                    let offset = match F::FORMAT {
                        BlockFormat::Q4_0 => word(r, SUM_8),
                        BlockFormat::Q5_0 => word(r, SUM_8) << 1,
                        BlockFormat::Q6K => word(r, HALVES_32 + half),
                        BlockFormat::Q8_0 if V::OFFSET_WEIGHTS => word(r, SUM_128),
                        _ => 0,
                    };
                    sums[r] = [V::sums(offset as i32); TILES];
                }
                if lines == 8 {
                    for group in 0..8 {
                        for t in 0..TILES {
                            let from = block_weights.add(t * job.tile_bytes + group * LINE);
                            prefetch::<V, ROWS>(from);
                            let weights = V::weights(V::load_bytes(from));
                            for r in 0..ROWS {
                                sums[r][t] = V::dot(sums[r][t], weights, word(r, group) as i32);
                            }
                        }
                    }
                } else {
                    // As many as fit into 16 bits between two widenings: 8 groups of 4 bits, 4 of 5 bits, 2 of 6 bits.
                    let pairs = match lines {
                        4 => 4,
                        5 => 2,
                        _ => 1,
                    };
                    let mut pair = 4 / halves * half;
                    while pair < 4 / halves * (half + 1) {
                        let mut narrow = [[V::begin(sums[0][0]); TILES]; ROWS];
                        for r in 0..ROWS {
                            for t in 0..TILES {
                                narrow[r][t] = V::begin(sums[r][t]);
                            }
                        }
                        for pair in pair..pair + pairs {
                            for t in 0..TILES {
                                let from = block_weights.add(t * job.tile_bytes);
                                prefetch::<V, ROWS>(from.add(pair * LINE));
                                let (first, second) = weights_of_pair::<V>(lines, from, pair);
                                for r in 0..ROWS {
                                    let sums = V::dot_narrow(narrow[r][t], first, word(r, 2 * pair) as i32);
                                    narrow[r][t] = V::dot_narrow(sums, second, word(r, 2 * pair + 1) as i32);
                                }
                            }
                        }
                        for r in 0..ROWS {
                            for t in 0..TILES {
                                sums[r][t] = V::end(sums[r][t], narrow[r][t]);
                            }
                        }
                        pair += pairs;
                    }
                }
                for t in 0..TILES {
                    let scales = scale::<V, F>(weights.add(t * job.tile_bytes), block, half);
                    for r in 0..ROWS {
                        let scale = f32::from_bits(word(r, SCALE));
                        totals[r][t] = V::from_sums(sums[r][t]).fma(scales.mul(V::splat(scale)), totals[r][t]);
                    }
                }
            }
            if F::SCALES == Scales::WithMin || F::SCALES == Scales::Super {
                for t in 0..TILES {
                    let min = min::<V, F>(weights.add(t * job.tile_bytes), block);
                    for r in 0..ROWS {
                        totals[r][t] = min.fma(V::splat(f32::from_bits(word(r, SUM_SCALED))), totals[r][t]);
                    }
                }
            }
        }
        store_all::<V, ROWS, TILES>(job, tile, row, &totals);
    }
}

#[inline(always)]
unsafe fn prefetch<V: Lanes, const ROWS: usize>(from: *const u8) {
    if ROWS <= 4 || ROWS > V::MATMUL_ROWS.many {
        // Few rows are bound by memory; prefetching past the end of the matrix is harmless.
        unsafe { V::prefetch(from.wrapping_add(4096)) };
    }
}

/// The weights of two groups of four columns of a block with four, five or six bits.
#[inline(always)]
unsafe fn weights_of_pair<V: Lanes>(lines: usize, block: *const u8, pair: usize) -> (V::Bytes, V::Bytes) {
    unsafe {
        let both = V::load_bytes(block.add(pair * LINE));
        let (first, second) = (V::low_half(both), V::high_half(both));
        if lines == 4 {
            return (first, second);
        }
        if lines == 5 {
            let bits = V::load_bytes(block.add(4 * LINE));
            return match pair {
                0 => (V::with_bits::<0, 0>(first, bits, 16), V::with_bits::<0, 1>(second, bits, 16)),
                1 => (V::with_bits::<0, 2>(first, bits, 16), V::with_bits::<0, 3>(second, bits, 16)),
                2 => (V::with_bits::<1, 0>(first, bits, 16), V::with_bits::<2, 0>(second, bits, 16)),
                _ => (V::with_bits::<3, 0>(first, bits, 16), V::with_bits::<4, 0>(second, bits, 16)),
            };
        }
        let bits = V::load_bytes(block.add((4 + pair / 2) * LINE));
        match pair % 2 {
            0 => (V::with_bits::<0, 0>(first, bits, 48), V::with_bits::<0, 2>(second, bits, 48)),
            _ => (V::with_bits::<2, 0>(first, bits, 48), V::with_bits::<4, 0>(second, bits, 48)),
        }
    }
}

#[inline(always)]
unsafe fn scale<V: Lanes, F: Quantised>(head: *const u8, block: usize, half: usize) -> V {
    unsafe {
        match F::SCALES {
            Scales::Single => V::load_f16(head.add(block * TILE * 2).cast()),
            Scales::WithMin => V::load_f16(head.add(block * TILE * 4).cast()),
            Scales::Super => {
                let head = head.add(block / 8 * K_HEAD);
                V::load_f16(head.cast()).mul(V::load_u8(head.add((4 + block % 8) * TILE)))
            }
            Scales::SuperHalves => {
                let head = head.add(block / 8 * Q6K_HEAD);
                V::load_f16(head.cast()).mul(V::load_i8(head.add((2 + 2 * (block % 8) + half) * TILE).cast()))
            }
        }
    }
}

/// What is added to each weight of a row.
#[inline(always)]
unsafe fn min<V: Lanes, F: Quantised>(head: *const u8, block: usize) -> V {
    unsafe {
        if F::SCALES == Scales::WithMin {
            return V::load_f16(head.add((block * 2 + 1) * TILE * 2).cast());
        }
        let head = head.add(block / 8 * K_HEAD);
        V::load_f16(head.add(2 * TILE).cast()).mul(V::load_u8(head.add((12 + block % 8) * TILE)))
    }
}

#[inline(always)]
unsafe fn store_all<V: Lanes, const ROWS: usize, const TILES: usize>(job: &Job<'_>, tile: usize, row: usize, totals: &[[V; TILES]; ROWS]) {
    for r in 0..ROWS {
        for t in 0..TILES {
            unsafe { store::<V>(job, row + r, tile + t, totals[r][t]) };
        }
    }
}

#[inline(always)]
unsafe fn store<V: Lanes>(job: &Job<'_>, row: usize, tile: usize, values: V) {
    let columns = (job.section_rows - tile * TILE).min(TILE);
    unsafe {
        let to = job.out.pointer().add(row * job.width + job.first + tile * TILE);
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
