//! The ways in which GGUF files hold numbers, and how to turn them back into f32.
//!
//! Layouts as in ggml's `ggml-common.h`; the arithmetic is that of ggml's reference (`ggml-quants.c`), so that the results are
//! equal to the bit.

use half::{bf16, f16};

/// How a tensor's numbers are held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BlockKind {
    F32,
    F16,
    Bf16,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q2K,
    Q3K,
    Q4K,
    Q5K,
    Q6K,
}

impl BlockKind {
    /// By the number that ggml gives it.
    pub fn from_ggml(number: u32) -> Option<Self> {
        Some(match number {
            0 => Self::F32,
            1 => Self::F16,
            2 => Self::Q4_0,
            3 => Self::Q4_1,
            6 => Self::Q5_0,
            7 => Self::Q5_1,
            8 => Self::Q8_0,
            10 => Self::Q2K,
            11 => Self::Q3K,
            12 => Self::Q4K,
            13 => Self::Q5K,
            14 => Self::Q6K,
            30 => Self::Bf16,
            _ => return None,
        })
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::Bf16 => "BF16",
            Self::Q4_0 => "Q4_0",
            Self::Q4_1 => "Q4_1",
            Self::Q5_0 => "Q5_0",
            Self::Q5_1 => "Q5_1",
            Self::Q8_0 => "Q8_0",
            Self::Q2K => "Q2_K",
            Self::Q3K => "Q3_K",
            Self::Q4K => "Q4_K",
            Self::Q5K => "Q5_K",
            Self::Q6K => "Q6_K",
        }
    }

    /// Numbers and bytes of a block.
    pub fn size(self) -> (usize, usize) {
        match self {
            Self::F32 => (1, 4),
            Self::F16 | Self::Bf16 => (1, 2),
            Self::Q4_0 => (32, 18),
            Self::Q4_1 => (32, 20),
            Self::Q5_0 => (32, 22),
            Self::Q5_1 => (32, 24),
            Self::Q8_0 => (32, 34),
            Self::Q2K => (256, 84),
            Self::Q3K => (256, 110),
            Self::Q4K => (256, 144),
            Self::Q5K => (256, 176),
            Self::Q6K => (256, 210),
        }
    }

    /// Bytes of a row; `cols` is a multiple of the block.
    pub fn row_bytes(self, cols: usize) -> usize {
        let (values, bytes) = self.size();
        cols / values * bytes
    }

    /// The numbers of whole blocks, added to `out`.
    pub fn decode(self, bytes: &[u8], out: &mut Vec<f32>) {
        out.reserve(bytes.len() / self.size().1 * self.size().0);
        let blocks = bytes.chunks_exact(self.size().1);
        match self {
            Self::F32 => out.extend(bytes.as_chunks::<4>().0.iter().map(|raw| f32::from_le_bytes(*raw))),
            Self::F16 => out.extend(bytes.as_chunks::<2>().0.iter().map(|raw| f16::from_le_bytes(*raw).to_f32())),
            Self::Bf16 => out.extend(bytes.as_chunks::<2>().0.iter().map(|raw| bf16::from_le_bytes(*raw).to_f32())),
            Self::Q8_0 => blocks.for_each(|block| {
                let scale = half_at(block, 0);
                out.extend(block[2..].iter().map(|byte| f32::from(*byte as i8) * scale));
            }),
            Self::Q4_0 => blocks.for_each(|block| {
                let scale = half_at(block, 0);
                nibbles(&block[2..], |_, nibble| out.push((f32::from(nibble) - 8.0) * scale));
            }),
            Self::Q4_1 => blocks.for_each(|block| {
                let (scale, least) = (half_at(block, 0), half_at(block, 2));
                nibbles(&block[4..], |_, nibble| out.push(f32::from(nibble) * scale + least));
            }),
            Self::Q5_0 => blocks.for_each(|block| {
                let (scale, fifth) = (half_at(block, 0), word_at(block, 2));
                nibbles(&block[6..], |index, nibble| out.push((f32::from(nibble | fifth_bit(fifth, index)) - 16.0) * scale));
            }),
            Self::Q5_1 => blocks.for_each(|block| {
                let (scale, least, fifth) = (half_at(block, 0), half_at(block, 2), word_at(block, 4));
                nibbles(&block[8..], |index, nibble| out.push(f32::from(nibble | fifth_bit(fifth, index)) * scale + least));
            }),
            Self::Q2K => blocks.for_each(|block| q2_k(block, out)),
            Self::Q3K => blocks.for_each(|block| q3_k(block, out)),
            Self::Q4K => blocks.for_each(|block| q4_k(block, out)),
            Self::Q5K => blocks.for_each(|block| q5_k(block, out)),
            Self::Q6K => blocks.for_each(|block| q6_k(block, out)),
        }
    }
}

fn half_at(block: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

fn word_at(block: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([block[at], block[at + 1], block[at + 2], block[at + 3]])
}

/// The fifth bit of a number, where it belongs.
fn fifth_bit(word: u32, index: usize) -> u8 {
    ((word >> index & 1) << 4) as u8
}

/// All low halves, then all high halves of some bytes, with their index.
fn nibbles(bytes: &[u8], mut each: impl FnMut(usize, u8)) {
    bytes.iter().enumerate().for_each(|(index, byte)| each(index, byte & 15));
    bytes.iter().enumerate().for_each(|(index, byte)| each(bytes.len() + index, byte >> 4));
}

/// Scale and least value of one of the eight parts of a Q4_K or Q5_K block: six bits each, packed in twelve bytes.
fn scale_and_least(packed: &[u8], part: usize) -> (f32, f32) {
    let (scale, least) = match part {
        0..4 => (packed[part] & 63, packed[part + 4] & 63),
        _ => (packed[part + 4] & 15 | packed[part - 4] >> 6 << 4, packed[part + 4] >> 4 | packed[part] >> 6 << 4),
    };
    (f32::from(scale), f32::from(least))
}

/// `[scales 16][quants 64][scale f16][least f16]`.
fn q2_k(block: &[u8], out: &mut Vec<f32>) {
    let (scales, quants, scale, least) = (&block[..16], &block[16..80], half_at(block, 80), half_at(block, 82));
    for part in 0..16 {
        let (half, shift, side) = (part / 8, part % 8 / 2 * 2, part % 2);
        let (scale, least) = (scale * f32::from(scales[part] & 15), least * f32::from(scales[part] >> 4));
        let quants = &quants[half * 32 + side * 16..][..16];
        out.extend(quants.iter().map(|byte| scale * f32::from(byte >> shift & 3) - least));
    }
}

/// `[third bits 32][quants 64][scales 12][scale f16]`.
fn q3_k(block: &[u8], out: &mut Vec<f32>) {
    let (third, quants, packed, scale) = (&block[..32], &block[32..96], &block[96..108], half_at(block, 108));
    for part in 0..16 {
        let (half, pair, side) = (part / 8, part % 8 / 2, part % 2);
        let low = if part < 8 { packed[part] & 15 } else { packed[part - 8] >> 4 };
        let high = packed[8 + part % 4] >> (part / 4 * 2) & 3;
        let scale = scale * (f32::from(low | high << 4) - 32.0);
        let bit = half * 4 + pair;
        for index in side * 16..side * 16 + 16 {
            let low = f32::from(quants[half * 32 + index] >> (2 * pair) & 3);
            let less = if third[index] >> bit & 1 == 1 { 0.0 } else { 4.0 };
            out.push(scale * (low - less));
        }
    }
}

/// `[scale f16][least f16][scales 12][quants 128]`.
fn q4_k(block: &[u8], out: &mut Vec<f32>) {
    let (scale, least, packed) = (half_at(block, 0), half_at(block, 2), &block[4..16]);
    for (pair, quants) in block[16..].chunks_exact(32).enumerate() {
        for side in 0..2 {
            let (part_scale, part_least) = scale_and_least(packed, 2 * pair + side);
            let (scale, least) = (scale * part_scale, least * part_least);
            out.extend(quants.iter().map(|byte| scale * f32::from(byte >> (4 * side) & 15) - least));
        }
    }
}

/// `[scale f16][least f16][scales 12][fifth bits 32][quants 128]`.
fn q5_k(block: &[u8], out: &mut Vec<f32>) {
    let (scale, least, packed, fifth) = (half_at(block, 0), half_at(block, 2), &block[4..16], &block[16..48]);
    for (pair, quants) in block[48..].chunks_exact(32).enumerate() {
        for side in 0..2 {
            let (part_scale, part_least) = scale_and_least(packed, 2 * pair + side);
            let (scale, least) = (scale * part_scale, least * part_least);
            let value = |(byte, fifth): (&u8, &u8)| f32::from(byte >> (4 * side) & 15 | (fifth >> (2 * pair + side) & 1) << 4);
            out.extend(quants.iter().zip(fifth).map(|pair| scale * value(pair) - least));
        }
    }
}

/// `[low halves 128][upper bits 64][scales 16][scale f16]`.
fn q6_k(block: &[u8], out: &mut Vec<f32>) {
    let scale = half_at(block, 208);
    for half in 0..2 {
        let (low, upper) = (&block[half * 64..][..64], &block[128 + half * 32..][..32]);
        let scales = &block[192 + half * 8..][..8];
        for quarter in 0..4 {
            for index in 0..32 {
                let nibble = low[quarter % 2 * 32 + index] >> (quarter / 2 * 4) & 15;
                let quant = f32::from(nibble | (upper[index] >> (2 * quarter) & 3) << 4) - 32.0;
                out.push(scale * f32::from(scales[quarter * 2 + index / 16] as i8) * quant);
            }
        }
    }
}
