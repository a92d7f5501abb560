//! Weights as they stand in a GGUF file.

use half::{bf16, f16};
use kernels::packed::BlockFormat;

/// Whether all numbers of some rows are finite, told by their scales where they have any.
pub(crate) fn all_finite(format: BlockFormat, bytes: &[u8]) -> bool {
    let half = |block: &[u8], at: usize| f16::from_le_bytes([block[at], block[at + 1]]).is_finite();
    let mut blocks = bytes.chunks_exact(format.bytes());
    match format {
        BlockFormat::F32 => bytes.as_chunks().0.iter().all(|raw| f32::from_le_bytes(*raw).is_finite()),
        BlockFormat::F16 => bytes.as_chunks().0.iter().all(|raw| f16::from_le_bytes(*raw).is_finite()),
        BlockFormat::Bf16 => bytes.as_chunks().0.iter().all(|raw| bf16::from_le_bytes(*raw).is_finite()),
        BlockFormat::Q4_0 | BlockFormat::Q5_0 | BlockFormat::Q8_0 => blocks.all(|block| half(block, 0)),
        BlockFormat::Q4_1 | BlockFormat::Q5_1 | BlockFormat::Q4K | BlockFormat::Q5K => blocks.all(|block| half(block, 0) && half(block, 2)),
        // The scale comes last.
        BlockFormat::Q6K => blocks.all(|block| half(block, 208)),
    }
}
