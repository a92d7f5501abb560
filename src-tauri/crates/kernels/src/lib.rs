//! Numeric hot paths on slices, with SIMD dispatch; knows no model

pub mod train;
