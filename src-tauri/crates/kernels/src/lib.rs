//! Numeric hot paths on slices, with SIMD dispatch; knows no model

pub mod activations;
pub mod attention;
mod attention_exact;
pub mod biased_attention;
pub mod blocks;
pub mod elementwise;
pub mod encoder;
pub mod isa;
mod kv_cache;
pub mod matmul;
mod memory;
pub mod packed;
pub mod pool;
mod product;
mod rounding;
mod scratch;
mod simd;
#[cfg(target_arch = "x86_64")]
mod simd_x86;
mod spans;
pub mod train;
