//! The block formats of GGUF files: what the bytes mean, one row at a time.
//!
//! A quantised weight is `scale · q − min`, with scale and min shared by 16 or 32 columns. Layouts after ggml's
//! `ggml-common.h`; a test compares every format with the Python package `gguf`.

use half::{bf16, f16};
use std::fmt;

/// How weights lie in a GGUF file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BlockFormat {
    F32,
    F16,
    Bf16,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q4K,
    Q5K,
    Q6K,
}

/// Why weights could not be taken in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PackError {
    /// Rows of the format come in whole blocks.
    Columns { format: BlockFormat, cols: usize },
    /// The bytes are not those of so many rows.
    Length { format: BlockFormat, cols: usize, rows: usize, found: usize },
    /// A scale, or a number itself, is infinite or not a number.
    NotFinite { format: BlockFormat },
}

impl fmt::Display for PackError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Columns { format, cols } => {
                write!(f, "rows of {cols} columns cannot be {}, which needs a multiple of {}", format.name(), format.columns())
            }
            Self::Length { format, cols, rows, found } => {
                write!(f, "{found} bytes are not {rows} rows of {cols} columns in {}", format.name())
            }
            Self::NotFinite { format } => write!(f, "its {} weights hold a number that is not finite", format.name()),
        }
    }
}

impl std::error::Error for PackError {}

impl BlockFormat {
    pub const ALL: [Self; 11] =
        [Self::F32, Self::F16, Self::Bf16, Self::Q4_0, Self::Q4_1, Self::Q5_0, Self::Q5_1, Self::Q8_0, Self::Q4K, Self::Q5K, Self::Q6K];

    /// The format with this number in a GGUF file (`enum ggml_type`), if it is one of those that run here.
    pub fn from_ggml(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.ggml() == number)
    }

    /// Its number in a GGUF file.
    pub fn ggml(self) -> u32 {
        match self {
            Self::F32 => 0,
            Self::F16 => 1,
            Self::Q4_0 => 2,
            Self::Q4_1 => 3,
            Self::Q5_0 => 6,
            Self::Q5_1 => 7,
            Self::Q8_0 => 8,
            Self::Q4K => 12,
            Self::Q5K => 13,
            Self::Q6K => 14,
            Self::Bf16 => 30,
        }
    }

    /// As llama.cpp writes it.
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
            Self::Q4K => "Q4_K",
            Self::Q5K => "Q5_K",
            Self::Q6K => "Q6_K",
        }
    }

    /// Columns of a block.
    pub fn columns(self) -> usize {
        match self {
            Self::F32 | Self::F16 | Self::Bf16 => 1,
            Self::Q4_0 | Self::Q4_1 | Self::Q5_0 | Self::Q5_1 | Self::Q8_0 => 32,
            Self::Q4K | Self::Q5K | Self::Q6K => 256,
        }
    }

    /// Bytes of a block.
    pub fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
            Self::Q4_0 => 18,
            Self::Q4_1 => 20,
            Self::Q5_0 => 22,
            Self::Q5_1 => 24,
            Self::Q8_0 => 34,
            Self::Q4K => 144,
            Self::Q5K => 176,
            Self::Q6K => 210,
        }
    }

    /// Bytes of a row.
    ///
    /// # Errors
    /// `Columns` when a row is not made of whole blocks.
    pub fn row_bytes(self, cols: usize) -> Result<usize, PackError> {
        match cols > 0 && cols.is_multiple_of(self.columns()) {
            true => Ok(cols / self.columns() * self.bytes()),
            false => Err(PackError::Columns { format: self, cols }),
        }
    }

    /// Turns the blocks of whole rows into numbers, exactly as ggml does.
    ///
    /// # Errors
    /// `Length` when the bytes are not those of `out.len()` numbers.
    pub fn dequantise(self, bytes: &[u8], out: &mut [f32]) -> Result<(), PackError> {
        let row_bytes = self.row_bytes(out.len());
        if out.is_empty() || row_bytes != Ok(bytes.len()) {
            return row_bytes.and(Err(PackError::Length { format: self, cols: out.len(), rows: 1, found: bytes.len() }));
        }
        match self {
            Self::F32 => out.iter_mut().zip(bytes.as_chunks().0).for_each(|(to, from)| *to = f32::from_le_bytes(*from)),
            Self::F16 => out.iter_mut().zip(bytes.as_chunks().0).for_each(|(to, from)| *to = f16::from_le_bytes(*from).to_f32()),
            Self::Bf16 => out.iter_mut().zip(bytes.as_chunks().0).for_each(|(to, from)| *to = bf16::from_le_bytes(*from).to_f32()),
            _ => {
                for (block, to) in out.chunks_exact_mut(SUB).enumerate() {
                    let sub = self.sub_block(bytes, block);
                    for (col, (to, q)) in to.iter_mut().zip(sub.weights).enumerate() {
                        let scale = sub.scale.to_f32() * f32::from(sub.factors[col / 16]);
                        *to = scale * (f32::from(q) - f32::from(self.offset())) + sub.min.to_f32() * f32::from(sub.min_factor);
                    }
                }
            }
        }
        Ok(())
    }

    /// Rows of small random numbers, for measuring speed: the same ones every time.
    ///
    /// # Errors
    /// `Columns` when a row is not made of whole blocks.
    pub fn random_rows(self, rows: usize, cols: usize) -> Result<Vec<u8>, PackError> {
        let mut bytes = vec![0; self.row_bytes(cols)? * rows];
        let mut state = 0x9e37_79b9_7f4a_7c15u64;
        for eight in bytes.chunks_mut(8) {
            // Marsaglia's xorshift.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            eight.copy_from_slice(&state.to_le_bytes()[..eight.len()]);
        }
        // The upper byte of each f16 or f32 is set, so that it is small and finite: about 1/1000 for scales.
        for block in bytes.chunks_exact_mut(self.bytes()) {
            match self {
                Self::F32 => block[3] = 0x3c,
                Self::F16 => block[1] = 0x14 | block[1] & 0x80,
                Self::Bf16 => block[1] = 0x3c | block[1] & 0x80,
                Self::Q6K => block[209] = 0x04,
                Self::Q4_1 | Self::Q5_1 => (block[1], block[3]) = (0x14, 0x94),
                Self::Q4K | Self::Q5K => (block[1], block[3]) = (0x04, 0x04),
                Self::Q4_0 | Self::Q5_0 | Self::Q8_0 => block[1] = 0x04,
            }
        }
        Ok(bytes)
    }

    /// Whether a plain number, as it stands in a file, is finite.
    pub(crate) fn is_finite(self, bytes: &[u8]) -> bool {
        match bytes {
            [a, b, c, d] => f32::from_le_bytes([*a, *b, *c, *d]).is_finite(),
            [a, b] if self == Self::F16 => f16::from_le_bytes([*a, *b]).is_finite(),
            [a, b] => bf16::from_le_bytes([*a, *b]).is_finite(),
            _ => false,
        }
    }

    /// What is added to a weight to make it a number from 0 on.
    pub(crate) fn offset(self) -> u8 {
        match self {
            Self::Q4_0 => 8,
            Self::Q5_0 => 16,
            Self::Q6K => 32,
            Self::Q8_0 => 128,
            _ => 0,
        }
    }

    /// 32 columns of a row of a quantised format. Panics for the others, and when the row is shorter.
    pub(crate) fn sub_block(self, row: &[u8], index: usize) -> SubBlock {
        let per_block = self.columns() / SUB;
        let (block, sub) = (&row[index / per_block * self.bytes()..][..self.bytes()], index % per_block);
        let half = |at: usize| f16::from_le_bytes([block[at], block[at + 1]]);
        let simple = |min: f16, weights: [u8; SUB]| SubBlock { scale: half(0), factors: [1, 1], min, min_factor: 1, weights };
        match self {
            Self::Q8_0 => simple(f16::ZERO, std::array::from_fn(|col| block[2 + col] ^ 0x80)),
            Self::Q4_0 => simple(f16::ZERO, nibbles(&block[2..])),
            Self::Q4_1 => simple(half(2), nibbles(&block[4..])),
            Self::Q5_0 => simple(f16::ZERO, with_fifth_bit(&block[2..])),
            Self::Q5_1 => simple(half(2), with_fifth_bit(&block[4..])),
            Self::Q4K | Self::Q5K => {
                let (factor, min_factor) = scale_and_min(&block[4..16], sub);
                let fifth = if self == Self::Q5K { Some(&block[16..48]) } else { None };
                let low = &block[if fifth.is_some() { 48 } else { 16 } + sub / 2 * SUB..][..SUB];
                let weights = std::array::from_fn(|col| {
                    let nibble = low[col] >> (4 * (sub % 2)) & 15;
                    nibble | fifth.map_or(0, |bits| (bits[col] >> sub & 1) << 4)
                });
                // The min is taken off, not added.
                SubBlock { scale: half(0), factors: [factor.into(); 2], min: -half(2), min_factor, weights }
            }
            Self::Q6K => {
                let (low, high) = (&block[sub / 4 * 64 + sub % 2 * SUB..][..SUB], &block[128 + sub / 4 * SUB..][..SUB]);
                let weights = std::array::from_fn(|col| low[col] >> (4 * (sub % 4 / 2)) & 15 | (high[col] >> (2 * (sub % 4)) & 3) << 4);
                let factor = |half: usize| i16::from(block[192 + 2 * sub + half] as i8);
                SubBlock { scale: half(208), factors: [factor(0), factor(1)], min: f16::ZERO, min_factor: 0, weights }
            }
            Self::F32 | Self::F16 | Self::Bf16 => unreachable!("plain numbers have no blocks"),
        }
    }
}

/// Columns of a sub-block.
pub(crate) const SUB: usize = 32;

/// 32 weights: `scale · factors[col / 16] · (weights[col] − offset) + min · min_factor`.
pub(crate) struct SubBlock {
    pub scale: f16,
    pub factors: [i16; 2],
    pub min: f16,
    pub min_factor: u8,
    /// Numbers from 0 on: the format's offset is in them.
    pub weights: [u8; SUB],
}

/// The first 16 columns are the low halves of 16 bytes, the others the high halves.
fn nibbles(bytes: &[u8]) -> [u8; SUB] {
    std::array::from_fn(|col| bytes[col % 16] >> (4 * (col / 16)) & 15)
}

/// 32 bits, one for each column, then the lower four of each.
fn with_fifth_bit(bytes: &[u8]) -> [u8; SUB] {
    let low = nibbles(&bytes[4..]);
    std::array::from_fn(|col| low[col] | (bytes[col / 8] >> (col % 8) & 1) << 4)
}

/// Eight pairs of six-bit numbers in twelve bytes: the later ones keep their upper two bits with the earlier ones.
fn scale_and_min(bytes: &[u8], sub: usize) -> (u8, u8) {
    if sub < 4 {
        return (bytes[sub] & 63, bytes[sub + 4] & 63);
    }
    (bytes[sub + 4] & 15 | bytes[sub - 4] >> 6 << 4, bytes[sub + 4] >> 4 | bytes[sub] >> 6 << 4)
}
