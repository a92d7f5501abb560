//! Tests of the crate `kernels`.

// Clippy's permission for tests covers test functions, not the helpers they share.
#![allow(clippy::unwrap_used)]

#[path = "kernels/encoder.rs"]
mod encoder;
#[path = "kernels/inference.rs"]
mod inference;
