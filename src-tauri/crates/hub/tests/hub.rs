//! A hub on loopback that tells the truth, or lies in one way at a time.

#![allow(clippy::expect_used, clippy::unwrap_used)] // helpers of tests fail loudly too

#[path = "hub/chat.rs"]
mod chat;
#[path = "hub/download.rs"]
mod download;
#[path = "hub/fake.rs"]
mod fake;
#[path = "hub/full_disk.rs"]
mod full_disk;
#[path = "hub/lies.rs"]
mod lies;
#[path = "hub/names.rs"]
mod names;
#[path = "hub/python.rs"]
mod python;
