//! Tests of the crate `kernels`.

#[path = "kernels/inference.rs"]
mod inference;
