//! The HTTP surface over a real `App` on a folder of its own, with the built-in base.

// Helpers of tests fail by panicking; clippy allows that by itself only inside test functions.
#![allow(clippy::expect_used, clippy::unwrap_used)]

#[path = "http/auto_training.rs"]
mod auto_training;
#[path = "http/calls.rs"]
mod calls;
#[path = "http/guard.rs"]
mod guard;
#[path = "http/house.rs"]
mod house;
#[path = "http/kept.rs"]
mod kept;
#[path = "http/socket.rs"]
mod socket;
#[path = "http/streams.rs"]
mod streams;
