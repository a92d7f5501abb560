//! Tests of the crate `model`.

#[path = "model/agreement.rs"]
mod agreement;
#[path = "model/bases.rs"]
mod bases;
#[path = "model/damage.rs"]
mod damage;
#[path = "model/generation.rs"]
mod generation;
#[path = "model/sampling.rs"]
mod sampling;
#[path = "model/text.rs"]
mod text;
