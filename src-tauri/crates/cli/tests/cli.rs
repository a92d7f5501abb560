//! The built `inkling` as a person or a script meets it, each on a data folder of its own.

// Helpers of tests fail by panicking; clippy allows that by itself only inside test functions.
#![allow(clippy::expect_used, clippy::unwrap_used)]

#[path = "cli/bad_input.rs"]
mod bad_input;
#[path = "cli/commands.rs"]
mod commands;
#[path = "cli/terminal.rs"]
mod terminal;
#[path = "cli/training.rs"]
mod training;
#[path = "cli/two.rs"]
mod two;
