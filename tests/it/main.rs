//! One test binary for everything that spans crates: promises kept through kills, and the checks of the house itself.

mod child;
mod r1_acknowledged_words_survive_kills;
mod r2_killed_trainings_resume_exactly;
mod tidy;
