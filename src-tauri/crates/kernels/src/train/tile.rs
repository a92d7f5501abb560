//! The innermost loops of the products: a tile of the output stays in registers while the depth goes by.
//!
//! Operands are packed: the left one as `[depth, rows]` for a tile's rows, the right one as `[depth, PANEL]`. A *word* is an
//! f32, or two bf16 of neighbouring depths. All lanes of one tier add up in the order of the depth, so a result depends on
//! neither threads nor on the rest of the matrix.

use std::sync::OnceLock;

/// Columns of a packed right operand.
pub const PANEL: usize = 32;
/// The most rows of a tile in any tier.
pub const MOST_ROWS: usize = 14;

/// The instructions that products use here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lanes {
    /// Plain Rust: every machine, and the oracle of the tests.
    Plain,
    /// AVX2 with FMA.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// AVX-512 that multiplies bf16 in pairs: twice the speed of f32.
    #[cfg(target_arch = "x86_64")]
    Avx512Bf16,
}

impl Lanes {
    /// The best ones here; the environment variable `INKLING_ISA` can ask for less.
    pub fn detect() -> Self {
        static FOUND: OnceLock<Lanes> = OnceLock::new();
        *FOUND.get_or_init(|| {
            let wanted = std::env::var("INKLING_ISA").unwrap_or_default();
            let limit = match wanted.trim() {
                "scalar" => 0,
                "avx2" | "avxvnni" | "vnni256" => 1,
                _ => usize::MAX,
            };
            Self::available().into_iter().take(limit.saturating_add(1)).next_back().unwrap_or(Self::Plain)
        })
    }

    /// Every kind that this machine has, slowest first.
    pub fn available() -> Vec<Self> {
        #[allow(unused_mut)]
        let mut found = vec![Self::Plain];
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                found.push(Self::Avx2);
                if is_x86_feature_detected!("avx512f") {
                    found.push(Self::Avx512);
                    if is_x86_feature_detected!("avx512bf16") {
                        found.push(Self::Avx512Bf16);
                    }
                }
            }
        }
        found
    }

    /// Whether words can be pairs of bf16.
    pub fn multiplies_pairs(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        return self == Self::Avx512Bf16;
        #[cfg(not(target_arch = "x86_64"))]
        false
    }

    /// Rows of a tile.
    pub fn rows(self) -> usize {
        match self {
            Self::Plain => 4,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => 6,
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 | Self::Avx512Bf16 => MOST_ROWS,
        }
    }
}

/// One tile of a product.
#[derive(Debug, Clone, Copy)]
pub struct Tile {
    /// At most [`Lanes::rows`].
    pub rows: usize,
    /// At most [`PANEL`].
    pub columns: usize,
    /// In words.
    pub depth: usize,
    pub pairs: bool,
    /// Adds to what the output holds.
    pub add: bool,
}

impl Tile {
    /// `out[rows, columns] (+)= a · b`; rows of `out` start `stride` apart.
    ///
    /// # Safety
    /// `a` must be good for `depth · rows` and `b` for `depth · PANEL` numbers, `out` for writing the tile (and reading it with
    /// `add`) with nobody else at it, and `lanes` must be among [`Lanes::available`], with pairs only where it multiplies them.
    pub unsafe fn run(self, lanes: Lanes, a: *const f32, b: *const f32, out: *mut f32, stride: usize) {
        debug_assert!(self.rows <= lanes.rows() && self.columns <= PANEL);
        // SAFETY: passed on.
        unsafe {
            if self.columns == PANEL || self.columns == PANEL / 2 {
                return self.whole(lanes, a, b, out, stride);
            }
            // Narrow tiles are computed whole aside, since panels are padded with zeros.
            let mut aside = [0f32; MOST_ROWS * PANEL];
            Self { add: false, columns: self.columns.next_multiple_of(PANEL / 2), ..self }.whole(lanes, a, b, aside.as_mut_ptr(), PANEL);
            for (row, values) in aside.chunks_exact(PANEL).take(self.rows).enumerate() {
                for (column, value) in values.iter().take(self.columns).enumerate() {
                    let place = out.add(row * stride + column);
                    *place = if self.add { *place + value } else { *value };
                }
            }
        }
    }

    unsafe fn whole(self, lanes: Lanes, a: *const f32, b: *const f32, out: *mut f32, stride: usize) {
        let narrow = self.columns <= PANEL / 2;
        // SAFETY: the caller's promise: the instructions are there, and the pointers are good for the tile.
        unsafe {
            match lanes {
                Lanes::Plain => plain::run(self, a, b, out, stride),
                #[cfg(target_arch = "x86_64")]
                Lanes::Avx2 => x86::avx2(self, a, b, out, stride),
                #[cfg(target_arch = "x86_64")]
                Lanes::Avx512Bf16 if self.pairs && narrow => x86::pairs::<1>(self, a, b, out, stride),
                #[cfg(target_arch = "x86_64")]
                Lanes::Avx512Bf16 if self.pairs => x86::pairs::<2>(self, a, b, out, stride),
                #[cfg(target_arch = "x86_64")]
                Lanes::Avx512 | Lanes::Avx512Bf16 if narrow => x86::avx512::<1>(self, a, b, out, stride),
                #[cfg(target_arch = "x86_64")]
                Lanes::Avx512 | Lanes::Avx512Bf16 => x86::avx512::<2>(self, a, b, out, stride),
            }
        }
    }
}

mod plain {
    use super::{PANEL, Tile};

    pub unsafe fn run(tile: Tile, a: *const f32, b: *const f32, out: *mut f32, stride: usize) {
        for row in 0..tile.rows {
            let mut sums = [0f32; PANEL];
            for depth in 0..tile.depth {
                // SAFETY: by `Tile::run`'s contract, as are the places below.
                let (x, b) = unsafe { (*a.add(depth * tile.rows + row), std::slice::from_raw_parts(b.add(depth * PANEL), PANEL)) };
                sums.iter_mut().zip(b).for_each(|(sum, b)| *sum += x * b);
            }
            let out = unsafe { std::slice::from_raw_parts_mut(out.add(row * stride), tile.columns) };
            out.iter_mut().zip(sums).for_each(|(out, sum)| *out = if tile.add { *out + sum } else { sum });
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{PANEL, Tile};
    use std::arch::x86_64::*;

    /// The number of rows is a constant of each variant, so that all sums stay in registers; `VECTORS` of 16 columns.
    macro_rules! by_rows {
        ($(#[$features:meta])* $name:ident<$vectors:ident>, $one:ident, $($rows:literal)*) => {
            $(#[$features])*
            pub unsafe fn $name<const $vectors: usize>(tile: Tile, a: *const f32, b: *const f32, out: *mut f32, stride: usize) {
                // SAFETY: by `Tile::run`'s contract.
                unsafe {
                    match tile.rows {
                        $($rows => $one::<$rows, $vectors>(tile, a, b, out, stride),)*
                        rows => unreachable!("a tile of {rows} rows"),
                    }
                }
            }
        };
    }

    by_rows!(#[target_feature(enable = "avx512f")] avx512<VECTORS>, avx512_rows, 1 2 3 4 5 6 7 8 9 10 11 12 13 14);
    by_rows!(#[target_feature(enable = "avx512f,avx512bf16")] pairs<VECTORS>, pairs_rows, 1 2 3 4 5 6 7 8 9 10 11 12 13 14);
    by_rows!(#[target_feature(enable = "avx2,fma")] avx2_half<VECTORS>, avx2_rows, 1 2 3 4 5 6);

    #[target_feature(enable = "avx2,fma")]
    pub unsafe fn avx2(tile: Tile, a: *const f32, b: *const f32, out: *mut f32, stride: usize) {
        for half in (0..tile.columns).step_by(PANEL / 2) {
            // SAFETY: both halves of a panel are inside what the caller promised.
            unsafe { avx2_half::<2>(tile, a, b.add(half), out.add(half), stride) };
        }
    }

    #[inline(always)]
    unsafe fn avx2_rows<const ROWS: usize, const VECTORS: usize>(tile: Tile, a: *const f32, b: *const f32, out: *mut f32, stride: usize) {
        // SAFETY: inlined into a function with these instructions; pointers by `Tile::run`'s contract.
        unsafe {
            let mut sums = [[_mm256_setzero_ps(); VECTORS]; ROWS];
            for depth in 0..tile.depth {
                let mut columns = [_mm256_setzero_ps(); VECTORS];
                for (vector, columns) in columns.iter_mut().enumerate() {
                    *columns = _mm256_loadu_ps(b.add(depth * PANEL + vector * 8));
                }
                for (row, sums) in sums.iter_mut().enumerate() {
                    let x = _mm256_set1_ps(*a.add(depth * ROWS + row));
                    for (sum, columns) in sums.iter_mut().zip(columns) {
                        *sum = _mm256_fmadd_ps(x, columns, *sum);
                    }
                }
            }
            for (row, sums) in sums.into_iter().enumerate() {
                for (vector, sum) in sums.into_iter().enumerate() {
                    let place = out.add(row * stride + vector * 8);
                    let sum = if tile.add { _mm256_add_ps(_mm256_loadu_ps(place), sum) } else { sum };
                    _mm256_storeu_ps(place, sum);
                }
            }
        }
    }

    /// One loop for both kinds of words; `step` multiplies and adds.
    macro_rules! rows512 {
        ($name:ident, $sum:ident, $x:ident, $columns:ident, $step:expr) => {
            #[inline(always)]
            unsafe fn $name<const ROWS: usize, const VECTORS: usize>(
                tile: Tile,
                a: *const f32,
                b: *const f32,
                out: *mut f32,
                stride: usize,
            ) {
                // SAFETY: as `avx2_rows`; the bits of any word are two bf16.
                unsafe {
                    let mut sums = [[_mm512_setzero_ps(); VECTORS]; ROWS];
                    for depth in 0..tile.depth {
                        let mut panel = [_mm512_setzero_ps(); VECTORS];
                        for (vector, columns) in panel.iter_mut().enumerate() {
                            *columns = _mm512_loadu_ps(b.add(depth * PANEL + vector * 16));
                        }
                        for (row, sums) in sums.iter_mut().enumerate() {
                            let $x = _mm512_set1_ps(*a.add(depth * ROWS + row));
                            for (sum, $columns) in sums.iter_mut().zip(panel) {
                                let $sum = *sum;
                                *sum = $step;
                            }
                        }
                    }
                    for (row, sums) in sums.into_iter().enumerate() {
                        for (vector, sum) in sums.into_iter().enumerate() {
                            let place = out.add(row * stride + vector * 16);
                            let sum = if tile.add { _mm512_add_ps(_mm512_loadu_ps(place), sum) } else { sum };
                            _mm512_storeu_ps(place, sum);
                        }
                    }
                }
            }
        };
    }

    rows512!(avx512_rows, sum, x, columns, _mm512_fmadd_ps(x, columns, sum));
    rows512!(pairs_rows, sum, x, columns, {
        let pair = |word: __m512| std::mem::transmute::<__m512, __m512bh>(word);
        _mm512_dpbf16_ps(sum, pair(x), pair(columns))
    });
}
