//! Tests of the crate `model`.

// Clippy's permission for tests covers test functions, not the helpers they share.
#![allow(clippy::unwrap_used)]

#[path = "model/adapters.rs"]
mod adapters;
#[path = "model/agreement.rs"]
mod agreement;
#[path = "model/bases.rs"]
mod bases;
#[path = "model/chat.rs"]
mod chat;
#[path = "model/damage.rs"]
mod damage;
#[path = "model/decoders.rs"]
mod decoders;
#[path = "model/embedding.rs"]
mod embedding;
#[path = "model/generation.rs"]
mod generation;
#[path = "model/gguf.rs"]
mod gguf;
#[path = "model/hostile.rs"]
mod hostile;
#[path = "model/merging.rs"]
mod merging;
#[path = "model/sampling.rs"]
mod sampling;
#[path = "model/t5.rs"]
mod t5;
#[path = "model/text.rs"]
mod text;
#[path = "model/text_model.rs"]
mod text_model;
