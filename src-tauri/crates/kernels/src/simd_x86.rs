//! [`Lanes`] in AVX-512 registers and in pairs of AVX registers. Safety: see [`crate::simd`].

use crate::simd::{Lanes, Together};
use std::arch::x86_64::*;
use std::marker::PhantomData;

/// The last three steps of [`Lanes::total`] and [`Lanes::largest`].
macro_rules! reduce {
    ($eight:expr, $join:ident) => {{
        let eight: __m256 = $eight;
        let four = $join(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
        let two = $join(four, _mm_movehl_ps(four, four));
        _mm_cvtss_f32($join(two, _mm_movehdup_ps(two)))
    }};
}

/// The lanes of `Tier::Avx512Vnni`.
#[derive(Clone, Copy)]
pub(crate) struct Zmm(__m512);

impl Lanes for Zmm {
    type Sums = __m512i;
    type Narrow = __m512i;
    type Bytes = __m512i;
    type Weights = __m512i;
    const OFFSET_WEIGHTS: bool = true;
    const MATMUL_ROWS: Together = Together { alone: 8, many: 6 };
    const MATMUL_TILES: usize = 2;

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        Self(unsafe { _mm512_set1_ps(value) })
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        Self(unsafe { _mm512_loadu_ps(from) })
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        unsafe { _mm512_storeu_ps(to, self.0) };
    }
    #[inline(always)]
    unsafe fn load_f16(from: *const u16) -> Self {
        Self(unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(from.cast())) })
    }
    #[inline(always)]
    unsafe fn store_f16(self, to: *mut u16) {
        unsafe { _mm256_storeu_si256(to.cast(), _mm512_cvtps_ph::<0>(self.0)) };
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        Self(unsafe { _mm512_add_ps(self.0, other.0) })
    }
    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        Self(unsafe { _mm512_sub_ps(self.0, other.0) })
    }
    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        Self(unsafe { _mm512_mul_ps(self.0, other.0) })
    }
    #[inline(always)]
    unsafe fn div(self, other: Self) -> Self {
        Self(unsafe { _mm512_div_ps(self.0, other.0) })
    }
    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        Self(unsafe { _mm512_max_ps(self.0, other.0) })
    }
    #[inline(always)]
    unsafe fn abs(self) -> Self {
        Self(unsafe { _mm512_abs_ps(self.0) })
    }
    #[inline(always)]
    unsafe fn fma(self, factor: Self, term: Self) -> Self {
        Self(unsafe { _mm512_fmadd_ps(self.0, factor.0, term.0) })
    }
    #[inline(always)]
    unsafe fn round(self) -> Self {
        Self(unsafe { _mm512_roundscale_ps::<0>(self.0) })
    }
    #[inline(always)]
    unsafe fn power_of_two(self) -> Self {
        unsafe {
            let exponent = _mm512_add_epi32(_mm512_cvtps_epi32(self.0), _mm512_set1_epi32(127));
            Self(_mm512_castsi512_ps(_mm512_slli_epi32::<23>(exponent)))
        }
    }
    #[inline(always)]
    unsafe fn where_greater(self, control: Self, bound: Self) -> Self {
        unsafe {
            let mask = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(control.0, bound.0);
            Self(_mm512_maskz_mov_ps(mask, self.0))
        }
    }
    #[inline(always)]
    unsafe fn store_i8(self, to: *mut i8) -> i32 {
        unsafe {
            let whole = _mm512_cvtps_epi32(self.0);
            _mm_storeu_si128(to.cast(), _mm512_cvtepi32_epi8(whole));
            _mm512_reduce_add_epi32(whole)
        }
    }
    #[inline(always)]
    unsafe fn sums(value: i32) -> __m512i {
        unsafe { _mm512_set1_epi32(value) }
    }
    #[inline(always)]
    unsafe fn load_u8(from: *const u8) -> Self {
        Self(unsafe { _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(from.cast()))) })
    }
    #[inline(always)]
    unsafe fn load_i8(from: *const i8) -> Self {
        Self(unsafe { _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(from.cast()))) })
    }
    #[inline(always)]
    unsafe fn load_bf16(from: *const u16) -> Self {
        Self(unsafe { _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(_mm256_loadu_si256(from.cast())))) })
    }
    #[inline(always)]
    unsafe fn load_bytes(from: *const u8) -> __m512i {
        unsafe { _mm512_loadu_si512(from.cast()) }
    }
    #[inline(always)]
    unsafe fn low_half(bytes: __m512i) -> __m512i {
        unsafe { _mm512_and_si512(bytes, _mm512_set1_epi8(15)) }
    }
    #[inline(always)]
    unsafe fn high_half(bytes: __m512i) -> __m512i {
        unsafe { _mm512_and_si512(_mm512_srli_epi16::<4>(bytes), _mm512_set1_epi8(15)) }
    }
    #[inline(always)]
    unsafe fn with_bits<const UP: u32, const DOWN: u32>(low: __m512i, bits: __m512i, mask: u8) -> __m512i {
        // Bits that leave a byte land outside the mask of its neighbour.
        unsafe {
            let moved = _mm512_srli_epi16::<DOWN>(_mm512_slli_epi16::<UP>(bits));
            _mm512_or_si512(low, _mm512_and_si512(moved, _mm512_set1_epi8(mask as i8)))
        }
    }
    #[inline(always)]
    unsafe fn weights(bytes: __m512i) -> __m512i {
        bytes
    }
    #[inline(always)]
    unsafe fn dot(sums: __m512i, weights: __m512i, activations: i32) -> __m512i {
        unsafe { _mm512_dpbusd_epi32(sums, weights, _mm512_set1_epi32(activations)) }
    }
    #[inline(always)]
    unsafe fn begin(sums: __m512i) -> __m512i {
        sums
    }
    #[inline(always)]
    unsafe fn dot_narrow(sums: __m512i, weights: __m512i, activations: i32) -> __m512i {
        unsafe { Self::dot(sums, weights, activations) }
    }
    #[inline(always)]
    unsafe fn end(_sums: __m512i, narrow: __m512i) -> __m512i {
        narrow
    }
    #[inline(always)]
    unsafe fn from_sums(sums: __m512i) -> Self {
        Self(unsafe { _mm512_cvtepi32_ps(sums) })
    }
    #[inline(always)]
    unsafe fn total(self) -> f32 {
        unsafe { reduce!(_mm256_add_ps(_mm512_castps512_ps256(self.0), _mm512_extractf32x8_ps::<1>(self.0)), _mm_add_ps) }
    }
    #[inline(always)]
    unsafe fn largest(self) -> f32 {
        unsafe { reduce!(_mm256_max_ps(_mm512_castps512_ps256(self.0), _mm512_extractf32x8_ps::<1>(self.0)), _mm_max_ps) }
    }
    #[inline(always)]
    unsafe fn prefetch(from: *const u8) {
        unsafe { _mm_prefetch::<_MM_HINT_T0>(from.cast()) };
    }
}

/// How a 256-bit tier multiplies bytes.
pub(crate) trait HalfDot: Copy {
    /// Whether there is one instruction that multiplies and adds in 32 bits.
    const VNNI: bool;

    /// Adds four products of unsigned and signed bytes; called only if there is such an instruction.
    unsafe fn dot(sums: __m256i, unsigned: __m256i, signed: __m256i) -> __m256i;
}

#[derive(Clone, Copy)]
pub(crate) struct Avx2;
#[derive(Clone, Copy)]
pub(crate) struct AvxVnni;
#[derive(Clone, Copy)]
pub(crate) struct VnniOf512;

impl HalfDot for Avx2 {
    const VNNI: bool = false;

    #[inline(always)]
    unsafe fn dot(sums: __m256i, _unsigned: __m256i, _signed: __m256i) -> __m256i {
        sums
    }
}

impl HalfDot for AvxVnni {
    const VNNI: bool = true;

    #[inline(always)]
    unsafe fn dot(sums: __m256i, unsigned: __m256i, signed: __m256i) -> __m256i {
        unsafe { _mm256_dpbusd_avx_epi32(sums, unsigned, signed) }
    }
}

impl HalfDot for VnniOf512 {
    const VNNI: bool = true;

    #[inline(always)]
    unsafe fn dot(sums: __m256i, unsigned: __m256i, signed: __m256i) -> __m256i {
        unsafe { _mm256_dpbusd_epi32(sums, unsigned, signed) }
    }
}

/// The lanes of the 256-bit tiers, which differ in the products of bytes only.
#[derive(Clone, Copy)]
pub(crate) struct Ymm<D>(__m256, __m256, PhantomData<D>);

/// Weights of 8 rows: as stored, or as magnitude and signed value for the sign trick of AVX2.
#[derive(Clone, Copy)]
pub(crate) struct HalfWeights {
    unsigned: __m256i,
    signed: __m256i,
}

impl<D: HalfDot> Ymm<D> {
    #[inline(always)]
    fn of(first: __m256, second: __m256) -> Self {
        Self(first, second, PhantomData)
    }

    #[inline(always)]
    unsafe fn half_weights(stored: __m256i) -> HalfWeights {
        unsafe {
            if D::VNNI {
                return HalfWeights { unsigned: stored, signed: stored };
            }
            let signed = _mm256_xor_si256(stored, _mm256_set1_epi8(-128));
            HalfWeights { unsigned: _mm256_abs_epi8(signed), signed }
        }
    }

    /// Pairs of products stay below 2 × 128 × 127 = 32,512, so `maddubs` cannot saturate.
    #[inline(always)]
    unsafe fn dot_half(sums: __m256i, weights: HalfWeights, activations: __m256i) -> __m256i {
        unsafe {
            if D::VNNI {
                return D::dot(sums, weights.unsigned, activations);
            }
            let pairs = _mm256_maddubs_epi16(weights.unsigned, _mm256_sign_epi8(activations, weights.signed));
            _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
        }
    }

    /// Adds pairs of products in 16 bits, or four in 32.
    #[inline(always)]
    unsafe fn dot_narrow_half(sums: __m256i, weights: __m256i, activations: __m256i) -> __m256i {
        unsafe {
            match D::VNNI {
                true => D::dot(sums, weights, activations),
                false => _mm256_add_epi16(sums, _mm256_maddubs_epi16(weights, activations)),
            }
        }
    }
}

type Pair = (__m256i, __m256i);

#[inline(always)]
fn both(pair: Pair, change: impl Fn(__m256i) -> __m256i) -> Pair {
    (change(pair.0), change(pair.1))
}

impl<D: HalfDot> Lanes for Ymm<D> {
    type Sums = Pair;
    type Narrow = Pair;
    type Bytes = Pair;
    type Weights = (HalfWeights, HalfWeights);
    const OFFSET_WEIGHTS: bool = D::VNNI;
    const MATMUL_ROWS: Together = Together { alone: 4, many: 4 };
    const MATMUL_TILES: usize = 1;

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        let all = unsafe { _mm256_set1_ps(value) };
        Self::of(all, all)
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        unsafe { Self::of(_mm256_loadu_ps(from), _mm256_loadu_ps(from.add(8))) }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        unsafe {
            _mm256_storeu_ps(to, self.0);
            _mm256_storeu_ps(to.add(8), self.1);
        }
    }
    #[inline(always)]
    unsafe fn load_f16(from: *const u16) -> Self {
        unsafe { Self::of(_mm256_cvtph_ps(_mm_loadu_si128(from.cast())), _mm256_cvtph_ps(_mm_loadu_si128(from.add(8).cast()))) }
    }
    #[inline(always)]
    unsafe fn store_f16(self, to: *mut u16) {
        unsafe {
            _mm_storeu_si128(to.cast(), _mm256_cvtps_ph::<0>(self.0));
            _mm_storeu_si128(to.add(8).cast(), _mm256_cvtps_ph::<0>(self.1));
        }
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        unsafe { Self::of(_mm256_add_ps(self.0, other.0), _mm256_add_ps(self.1, other.1)) }
    }
    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        unsafe { Self::of(_mm256_sub_ps(self.0, other.0), _mm256_sub_ps(self.1, other.1)) }
    }
    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        unsafe { Self::of(_mm256_mul_ps(self.0, other.0), _mm256_mul_ps(self.1, other.1)) }
    }
    #[inline(always)]
    unsafe fn div(self, other: Self) -> Self {
        unsafe { Self::of(_mm256_div_ps(self.0, other.0), _mm256_div_ps(self.1, other.1)) }
    }
    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        unsafe { Self::of(_mm256_max_ps(self.0, other.0), _mm256_max_ps(self.1, other.1)) }
    }
    #[inline(always)]
    unsafe fn abs(self) -> Self {
        unsafe {
            let sign = _mm256_set1_ps(-0.0);
            Self::of(_mm256_andnot_ps(sign, self.0), _mm256_andnot_ps(sign, self.1))
        }
    }
    #[inline(always)]
    unsafe fn fma(self, factor: Self, term: Self) -> Self {
        unsafe { Self::of(_mm256_fmadd_ps(self.0, factor.0, term.0), _mm256_fmadd_ps(self.1, factor.1, term.1)) }
    }
    #[inline(always)]
    unsafe fn round(self) -> Self {
        const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
        unsafe { Self::of(_mm256_round_ps::<NEAREST>(self.0), _mm256_round_ps::<NEAREST>(self.1)) }
    }
    #[inline(always)]
    unsafe fn power_of_two(self) -> Self {
        unsafe {
            let bias = _mm256_set1_epi32(127);
            let first = _mm256_slli_epi32::<23>(_mm256_add_epi32(_mm256_cvtps_epi32(self.0), bias));
            let second = _mm256_slli_epi32::<23>(_mm256_add_epi32(_mm256_cvtps_epi32(self.1), bias));
            Self::of(_mm256_castsi256_ps(first), _mm256_castsi256_ps(second))
        }
    }
    #[inline(always)]
    unsafe fn where_greater(self, control: Self, bound: Self) -> Self {
        unsafe {
            let first = _mm256_cmp_ps::<_CMP_GT_OQ>(control.0, bound.0);
            let second = _mm256_cmp_ps::<_CMP_GT_OQ>(control.1, bound.1);
            Self::of(_mm256_and_ps(first, self.0), _mm256_and_ps(second, self.1))
        }
    }
    #[inline(always)]
    unsafe fn store_i8(self, to: *mut i8) -> i32 {
        unsafe {
            let (first, second) = (_mm256_cvtps_epi32(self.0), _mm256_cvtps_epi32(self.1));
            // Packing works within 128-bit halves; the permutation puts the four quarters back in order.
            let words = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packs_epi32(first, second));
            let bytes = _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256::<1>(words));
            _mm_storeu_si128(to.cast(), bytes);
            let eight = _mm256_add_epi32(first, second);
            let four = _mm_add_epi32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256::<1>(eight));
            let two = _mm_add_epi32(four, _mm_unpackhi_epi64(four, four));
            _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32::<1>(two)))
        }
    }
    #[inline(always)]
    unsafe fn sums(value: i32) -> Self::Sums {
        let all = unsafe { _mm256_set1_epi32(value) };
        (all, all)
    }
    #[inline(always)]
    unsafe fn load_u8(from: *const u8) -> Self {
        unsafe {
            let (first, second) = (_mm_loadl_epi64(from.cast()), _mm_loadl_epi64(from.add(8).cast()));
            Self::of(_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(first)), _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(second)))
        }
    }
    #[inline(always)]
    unsafe fn load_i8(from: *const i8) -> Self {
        unsafe {
            let (first, second) = (_mm_loadl_epi64(from.cast()), _mm_loadl_epi64(from.add(8).cast()));
            Self::of(_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(first)), _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(second)))
        }
    }
    #[inline(always)]
    unsafe fn load_bf16(from: *const u16) -> Self {
        unsafe {
            let first = _mm256_cvtepu16_epi32(_mm_loadu_si128(from.cast()));
            let second = _mm256_cvtepu16_epi32(_mm_loadu_si128(from.add(8).cast()));
            Self::of(_mm256_castsi256_ps(_mm256_slli_epi32::<16>(first)), _mm256_castsi256_ps(_mm256_slli_epi32::<16>(second)))
        }
    }
    #[inline(always)]
    unsafe fn load_bytes(from: *const u8) -> Pair {
        unsafe { (_mm256_loadu_si256(from.cast()), _mm256_loadu_si256(from.add(32).cast())) }
    }
    #[inline(always)]
    unsafe fn low_half(bytes: Pair) -> Pair {
        both(bytes, |half| unsafe { _mm256_and_si256(half, _mm256_set1_epi8(15)) })
    }
    #[inline(always)]
    unsafe fn high_half(bytes: Pair) -> Pair {
        both(bytes, |half| unsafe { _mm256_and_si256(_mm256_srli_epi16::<4>(half), _mm256_set1_epi8(15)) })
    }
    #[inline(always)]
    unsafe fn with_bits<const UP: u32, const DOWN: u32>(low: Pair, bits: Pair, mask: u8) -> Pair {
        // The counts are constants; bits that leave a byte land outside the mask of its neighbour.
        unsafe {
            let (up, down, mask) = (_mm_cvtsi32_si128(UP as i32), _mm_cvtsi32_si128(DOWN as i32), _mm256_set1_epi8(mask as i8));
            let moved = both(bits, |half| _mm256_and_si256(_mm256_srl_epi16(_mm256_sll_epi16(half, up), down), mask));
            (_mm256_or_si256(low.0, moved.0), _mm256_or_si256(low.1, moved.1))
        }
    }
    #[inline(always)]
    unsafe fn weights(bytes: Pair) -> Self::Weights {
        unsafe { (Self::half_weights(bytes.0), Self::half_weights(bytes.1)) }
    }
    #[inline(always)]
    unsafe fn dot(sums: Self::Sums, weights: Self::Weights, activations: i32) -> Self::Sums {
        unsafe {
            let four = _mm256_set1_epi32(activations);
            (Self::dot_half(sums.0, weights.0, four), Self::dot_half(sums.1, weights.1, four))
        }
    }
    #[inline(always)]
    unsafe fn begin(sums: Pair) -> Pair {
        match D::VNNI {
            true => sums,
            false => both(sums, |_| unsafe { _mm256_setzero_si256() }),
        }
    }
    #[inline(always)]
    unsafe fn dot_narrow(sums: Pair, weights: Pair, activations: i32) -> Pair {
        unsafe {
            let four = _mm256_set1_epi32(activations);
            (Self::dot_narrow_half(sums.0, weights.0, four), Self::dot_narrow_half(sums.1, weights.1, four))
        }
    }
    #[inline(always)]
    unsafe fn end(sums: Pair, narrow: Pair) -> Pair {
        if D::VNNI {
            return narrow;
        }
        unsafe {
            let wide = both(narrow, |half| _mm256_madd_epi16(half, _mm256_set1_epi16(1)));
            (_mm256_add_epi32(sums.0, wide.0), _mm256_add_epi32(sums.1, wide.1))
        }
    }
    #[inline(always)]
    unsafe fn from_sums(sums: Self::Sums) -> Self {
        unsafe { Self::of(_mm256_cvtepi32_ps(sums.0), _mm256_cvtepi32_ps(sums.1)) }
    }
    #[inline(always)]
    unsafe fn total(self) -> f32 {
        unsafe { reduce!(_mm256_add_ps(self.0, self.1), _mm_add_ps) }
    }
    #[inline(always)]
    unsafe fn largest(self) -> f32 {
        unsafe { reduce!(_mm256_max_ps(self.0, self.1), _mm_max_ps) }
    }
    #[inline(always)]
    unsafe fn prefetch(from: *const u8) {
        unsafe { _mm_prefetch::<_MM_HINT_T0>(from.cast()) };
    }
}
