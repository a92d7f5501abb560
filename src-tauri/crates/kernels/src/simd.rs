//! Sixteen f32 lanes, once for each tier, so that every kernel is written once and means the same everywhere.
//!
//! All tiers do the same operations on the same lanes in the same order, fused multiply-adds included, so their results are
//! equal bit for bit; tests compare them so.
//!
//! # Safety
//! Every function here must be inlined into one that enables the tier's instructions (`dispatch!` makes those), on a machine
//! that has them; pointers must be good for 16 lanes (64 bytes for [`Lanes::load_bytes`]).

use crate::isa::{Isa, Tier};

/// How many rows of activations one pass over quantised weights serves from registers: all of them, if they are so few that
/// one tile at a time is enough to keep the processor busy while the next weights come from memory; else so many at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Together {
    pub alone: usize,
    pub many: usize,
}

/// Sixteen f32 lanes and sixteen i32 sums of int8 products.
pub(crate) trait Lanes: Copy {
    /// Sixteen i32 sums.
    type Sums: Copy;
    /// Sums on the way: of few enough narrow weights, they may be in 16 bits.
    type Narrow: Copy;
    /// Four bytes for each of 16 rows.
    type Bytes: Copy;
    /// Eight-bit weights, ready for [`Lanes::dot`].
    type Weights: Copy;
    /// Whether `dot` takes weights with 128 added, so that 128 × the activations must be taken off.
    const OFFSET_WEIGHTS: bool;
    /// How many activation rows one pass over the weights can serve from registers, and how many tiles beside each other.
    const MATMUL_ROWS: Together;
    const MATMUL_TILES: usize;

    unsafe fn splat(value: f32) -> Self;
    unsafe fn load(from: *const f32) -> Self;
    unsafe fn store(self, to: *mut f32);
    unsafe fn load_f16(from: *const u16) -> Self;
    unsafe fn store_f16(self, to: *mut u16);
    unsafe fn add(self, other: Self) -> Self;
    unsafe fn sub(self, other: Self) -> Self;
    unsafe fn mul(self, other: Self) -> Self;
    unsafe fn div(self, other: Self) -> Self;
    unsafe fn max(self, other: Self) -> Self;
    unsafe fn abs(self) -> Self;
    /// `self * factor + term`, rounded once.
    unsafe fn fma(self, factor: Self, term: Self) -> Self;
    /// To the nearest whole number, ties to even.
    unsafe fn round(self) -> Self;
    /// 2 to the power of whole numbers in -126..=127.
    unsafe fn power_of_two(self) -> Self;
    /// These lanes where `control` is greater than `bound`, else 0.
    unsafe fn where_greater(self, control: Self, bound: Self) -> Self;
    /// Rounds to whole numbers (ties to even), stores them as i8 and returns their sum; they must fit.
    unsafe fn store_i8(self, to: *mut i8) -> i32;

    /// Sixteen bytes as numbers, with or without a sign.
    unsafe fn load_u8(from: *const u8) -> Self;
    unsafe fn load_i8(from: *const i8) -> Self;
    unsafe fn load_bf16(from: *const u16) -> Self;

    unsafe fn load_bytes(from: *const u8) -> Self::Bytes;
    /// The lower four bits, and the upper four.
    unsafe fn low_half(bytes: Self::Bytes) -> Self::Bytes;
    unsafe fn high_half(bytes: Self::Bytes) -> Self::Bytes;
    /// Adds to numbers below 16 the bits of `mask`, which are bits of `bits` moved up by `UP` and down by `DOWN` places.
    unsafe fn with_bits<const UP: u32, const DOWN: u32>(low: Self::Bytes, bits: Self::Bytes, mask: u8) -> Self::Bytes;

    unsafe fn sums(value: i32) -> Self::Sums;
    /// Eight-bit weights with 128 added, ready for `dot`.
    unsafe fn weights(bytes: Self::Bytes) -> Self::Weights;
    /// Adds, for each of 16 rows, four products of weights and the four i8 in `activations`.
    unsafe fn dot(sums: Self::Sums, weights: Self::Weights, activations: i32) -> Self::Sums;
    /// The same for weights below 64; between `begin` and `end`, no more than 127 · the largest weight · 2 · times may fit into
    /// an i16.
    unsafe fn begin(sums: Self::Sums) -> Self::Narrow;
    unsafe fn dot_narrow(sums: Self::Narrow, weights: Self::Bytes, activations: i32) -> Self::Narrow;
    unsafe fn end(sums: Self::Sums, narrow: Self::Narrow) -> Self::Sums;
    unsafe fn from_sums(sums: Self::Sums) -> Self;
    unsafe fn prefetch(from: *const u8);

    #[inline(always)]
    unsafe fn zero() -> Self {
        unsafe { Self::splat(0.0) }
    }

    /// Sum of the lanes, as a tree: always in this order.
    #[inline(always)]
    unsafe fn total(self) -> f32 {
        let mut lanes = [0.0f32; 16];
        unsafe { self.store(lanes.as_mut_ptr()) };
        for half in [8, 4, 2, 1] {
            for lane in 0..half {
                lanes[lane] += lanes[lane + half];
            }
        }
        lanes[0]
    }

    /// The largest lane, as a tree of [`Lanes::max`]: always in this order.
    #[inline(always)]
    unsafe fn largest(self) -> f32 {
        let mut lanes = [0.0f32; 16];
        unsafe { self.store(lanes.as_mut_ptr()) };
        for half in [8, 4, 2, 1] {
            for lane in 0..half {
                let (a, b) = (lanes[lane], lanes[lane + half]);
                lanes[lane] = if a > b { a } else { b };
            }
        }
        lanes[0]
    }

    /// e to the power of the lanes, within 2 units in the last place; 0 below -87.
    #[inline(always)]
    unsafe fn exp(self) -> Self {
        unsafe {
            let low = Self::splat(-87.0);
            let x = self.max(low);
            let n = x.mul(Self::splat(std::f32::consts::LOG2_E)).round();
            // ln 2 in two parts (Cody and Waite), then the Taylor series on what is left, at most ln 2 / 2.
            let r = n.fma(Self::splat(-0.693_145_75), x);
            let r = n.fma(Self::splat(-1.428_606_8e-6), r);
            let mut power = Self::splat(1.0 / 720.0);
            for term in [1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
                power = power.fma(r, Self::splat(term));
            }
            power.mul(n.power_of_two()).where_greater(self, low)
        }
    }
}

/// The lanes of [`Tier::Scalar`].
#[derive(Clone, Copy)]
pub(crate) struct Scalar([f32; 16]);

impl Scalar {
    #[inline(always)]
    fn map(self, change: impl Fn(f32) -> f32) -> Self {
        Self(self.0.map(change))
    }

    #[inline(always)]
    fn zip(self, other: Self, join: impl Fn(f32, f32) -> f32) -> Self {
        Self(std::array::from_fn(|lane| join(self.0[lane], other.0[lane])))
    }
}

impl Lanes for Scalar {
    type Sums = [i32; 16];
    type Narrow = [i32; 16];
    type Bytes = [u8; 64];
    type Weights = [u8; 64];
    const OFFSET_WEIGHTS: bool = true;
    const MATMUL_ROWS: Together = Together { alone: 1, many: 1 };
    const MATMUL_TILES: usize = 1;

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        Self([value; 16])
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        Self(unsafe { from.cast::<[f32; 16]>().read_unaligned() })
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        unsafe { to.cast::<[f32; 16]>().write_unaligned(self.0) };
    }
    #[inline(always)]
    unsafe fn load_f16(from: *const u16) -> Self {
        let bits = unsafe { from.cast::<[u16; 16]>().read_unaligned() };
        Self(bits.map(|one| half::f16::from_bits(one).to_f32()))
    }
    #[inline(always)]
    unsafe fn store_f16(self, to: *mut u16) {
        let bits = self.0.map(|lane| half::f16::from_f32(lane).to_bits());
        unsafe { to.cast::<[u16; 16]>().write_unaligned(bits) };
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        self.zip(other, |a, b| a + b)
    }
    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        self.zip(other, |a, b| a - b)
    }
    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        self.zip(other, |a, b| a * b)
    }
    #[inline(always)]
    unsafe fn div(self, other: Self) -> Self {
        self.zip(other, |a, b| a / b)
    }
    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        // The second operand for NaN, as the x86 instruction does.
        self.zip(other, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    unsafe fn abs(self) -> Self {
        self.map(f32::abs)
    }
    #[inline(always)]
    unsafe fn fma(self, factor: Self, term: Self) -> Self {
        Self(std::array::from_fn(|lane| self.0[lane].mul_add(factor.0[lane], term.0[lane])))
    }
    #[inline(always)]
    unsafe fn round(self) -> Self {
        self.map(f32::round_ties_even)
    }
    #[inline(always)]
    unsafe fn power_of_two(self) -> Self {
        self.map(|n| f32::from_bits(((n as i32 + 127) << 23) as u32))
    }
    #[inline(always)]
    unsafe fn where_greater(self, control: Self, bound: Self) -> Self {
        Self(std::array::from_fn(|lane| if control.0[lane] > bound.0[lane] { self.0[lane] } else { 0.0 }))
    }
    #[inline(always)]
    unsafe fn store_i8(self, to: *mut i8) -> i32 {
        let whole = self.0.map(|lane| lane.round_ties_even() as i8);
        unsafe { to.cast::<[i8; 16]>().write_unaligned(whole) };
        whole.into_iter().map(i32::from).sum()
    }
    #[inline(always)]
    unsafe fn sums(value: i32) -> [i32; 16] {
        [value; 16]
    }
    #[inline(always)]
    unsafe fn load_u8(from: *const u8) -> Self {
        Self(unsafe { from.cast::<[u8; 16]>().read_unaligned() }.map(f32::from))
    }
    #[inline(always)]
    unsafe fn load_i8(from: *const i8) -> Self {
        Self(unsafe { from.cast::<[i8; 16]>().read_unaligned() }.map(f32::from))
    }
    #[inline(always)]
    unsafe fn load_bf16(from: *const u16) -> Self {
        let bits = unsafe { from.cast::<[u16; 16]>().read_unaligned() };
        Self(bits.map(|one| f32::from_bits(u32::from(one) << 16)))
    }
    #[inline(always)]
    unsafe fn load_bytes(from: *const u8) -> [u8; 64] {
        unsafe { from.cast::<[u8; 64]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn low_half(bytes: [u8; 64]) -> [u8; 64] {
        bytes.map(|byte| byte & 15)
    }
    #[inline(always)]
    unsafe fn high_half(bytes: [u8; 64]) -> [u8; 64] {
        bytes.map(|byte| byte >> 4)
    }
    #[inline(always)]
    unsafe fn with_bits<const UP: u32, const DOWN: u32>(low: [u8; 64], bits: [u8; 64], mask: u8) -> [u8; 64] {
        std::array::from_fn(|index| low[index] | (bits[index] << UP >> DOWN) & mask)
    }
    #[inline(always)]
    unsafe fn weights(bytes: [u8; 64]) -> [u8; 64] {
        bytes
    }
    #[inline(always)]
    unsafe fn dot(mut sums: [i32; 16], weights: [u8; 64], activations: i32) -> [i32; 16] {
        let four = activations.to_le_bytes().map(|byte| i32::from(byte as i8));
        for row in 0..16 {
            for part in 0..4 {
                sums[row] += i32::from(weights[row * 4 + part]) * four[part];
            }
        }
        sums
    }
    #[inline(always)]
    unsafe fn begin(sums: [i32; 16]) -> [i32; 16] {
        sums
    }
    #[inline(always)]
    unsafe fn dot_narrow(sums: [i32; 16], weights: [u8; 64], activations: i32) -> [i32; 16] {
        unsafe { Self::dot(sums, weights, activations) }
    }
    #[inline(always)]
    unsafe fn end(_sums: [i32; 16], narrow: [i32; 16]) -> [i32; 16] {
        narrow
    }
    #[inline(always)]
    unsafe fn from_sums(sums: [i32; 16]) -> Self {
        Self(sums.map(|sum| sum as f32))
    }
    #[inline(always)]
    unsafe fn prefetch(_from: *const u8) {}
}

/// Runs `$work::<Lanes>($args)` with the lanes of `$isa`, inside a function that enables the tier's instructions.
macro_rules! dispatch {
    ($isa:expr, $work:ident($($arg:ident: $kind:ty),* $(,)?) $(-> $out:ty)?) => {{
        #[cfg(target_arch = "x86_64")]
        {
            use $crate::isa::Tier;
            use $crate::simd_x86::{Avx2, AvxVnni, VnniOf512, Ymm, Zmm};
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
            unsafe fn avx512($($arg: $kind),*) $(-> $out)? {
                unsafe { $work::<Zmm>($($arg),*) }
            }
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
            unsafe fn vnni256($($arg: $kind),*) $(-> $out)? {
                unsafe { $work::<Ymm<VnniOf512>>($($arg),*) }
            }
            #[target_feature(enable = "avxvnni,avx2,fma,f16c")]
            unsafe fn avxvnni($($arg: $kind),*) $(-> $out)? {
                unsafe { $work::<Ymm<AvxVnni>>($($arg),*) }
            }
            #[target_feature(enable = "avx2,fma,f16c")]
            unsafe fn avx2($($arg: $kind),*) $(-> $out)? {
                unsafe { $work::<Ymm<Avx2>>($($arg),*) }
            }
            match $isa.tier() {
                Tier::Avx512Vnni => avx512($($arg),*),
                Tier::Vnni256 => vnni256($($arg),*),
                Tier::AvxVnni => avxvnni($($arg),*),
                Tier::Avx2 => avx2($($arg),*),
                Tier::Scalar => $work::<$crate::simd::Scalar>($($arg),*),
            }
        }
        #[cfg(not(target_arch = "x86_64"))]
        {
            let _ = $isa;
            $work::<$crate::simd::Scalar>($($arg),*)
        }
    }};
}
pub(crate) use dispatch;

/// How many queries one pass over the keys can serve from registers.
pub(crate) fn queries_at_once(isa: Isa) -> usize {
    match isa.tier() {
        Tier::Avx512Vnni => 8,
        Tier::Vnni256 | Tier::AvxVnni | Tier::Avx2 => 4,
        Tier::Scalar => 1,
    }
}

/// The tier's [`Lanes::MATMUL_ROWS`].
pub(crate) fn rows_at_once(isa: Isa) -> Together {
    // SAFETY: an `Isa` proves its instructions.
    unsafe { dispatch!(isa, most_rows() -> Together) }
}

#[inline(always)]
unsafe fn most_rows<V: Lanes>() -> Together {
    V::MATMUL_ROWS
}
