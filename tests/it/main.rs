//! One test binary for everything that spans crates.

mod tidy;
