//! Tests of the crate `training`; nothing here reaches a network or needs a real base.

// clippy.toml allows these in tests, but clippy does not count helpers of integration tests among them.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "training/checkpoint.rs"]
mod checkpoint;
#[path = "training/control.rs"]
mod control;
#[path = "training/dropout.rs"]
mod dropout;
#[path = "training/estimate.rs"]
mod estimate;
#[path = "training/families.rs"]
mod families;
#[path = "training/fixture.rs"]
mod fixture;
#[path = "training/gradient.rs"]
mod gradient;
#[path = "training/judgements.rs"]
mod judgements;
#[path = "training/lora_gradient.rs"]
mod lora_gradient;
#[path = "training/lora_recipe.rs"]
mod lora_recipe;
#[path = "training/optimizer.rs"]
mod optimizer;
#[path = "training/quantised.rs"]
mod quantised;
#[path = "training/recipe.rs"]
mod recipe;
#[path = "training/resume.rs"]
mod resume;
#[path = "training/search.rs"]
mod search;
#[path = "training/t5.rs"]
mod t5;
