//! One test binary for everything that spans crates: promises kept through kills, and the checks of the house itself.

#![allow(clippy::expect_used, clippy::unwrap_used)] // helpers of tests fail loudly too

mod child;
mod full_disk;
mod r1_acknowledged_words_survive_kills;
mod r2_killed_trainings_resume_exactly;
mod tidy;
