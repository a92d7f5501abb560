//! What taste must reach, measured on stories that none of its word statistics were learned from.
// clippy.toml allows these in test functions only; here their helpers stand in modules of their own.
#![allow(clippy::expect_used, clippy::unwrap_used)]

mod extremes;
mod labels;
mod preference;
mod quality;
mod scores;
mod simulation;
mod stories;
mod vote;
