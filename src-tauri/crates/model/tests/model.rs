//! Tests of the crate `model`.
