//! Bases: loading, tokenizer, decoder, adapters as forward-time parts, sampling, batched generation.
//!
//! [`LanguageModel`] and [`T5Model`] write and score text with packed weights, [`TextModel`] is either of them; [`DenseWeights`] are the same weights as plain f32, which
//! training differentiates through; [`Embedder`] turns texts into vectors that are near where meanings are. No unsafe code here:
//! the hot loops are in `kernels`, behind slices.

#![forbid(unsafe_code)]

mod adapted;
pub mod bench;
mod bert;
mod chat;
mod checkpoint;
mod config;
mod config_json;
mod decoder;
mod embedder;
mod error;
mod facts;
mod files;
mod generate;
mod gguf;
mod gguf_config;
mod gguf_lora;
mod gguf_tokenizer;
mod guidance;
mod language_model;
mod linear;
mod lora;
mod merge;
mod module;
mod rope;
mod sampler;
mod session;
mod shards;
mod soft_prompt;
mod source;
mod story;
mod t5;
mod text_model;
mod tokenizer;
mod weights;

pub use adapted::WeightedLora;
pub use chat::{ChatMessage, ChatRole, ChatTemplate};
pub use config::{Architecture, LlamaConfig, Variant};
pub use embedder::{Embedder, Embedding, cosine};
pub use error::ModelError;
pub use facts::{ModelFacts, inspect};
pub use files::verify_manifest;
pub use generate::{Adapters, Completion, Generate, MemberSpec, TokenEvent};
pub use guidance::{Guidance, Guide};
pub use language_model::{LanguageModel, LoadOptions};
pub use linear::Precision;
pub use lora::{Lora, LoraPart, LoraShape, Projection};
pub use module::Module;
pub use rope::RopeScaling;
pub use sampler::{Draw, Drawn, Sampler};
pub use soft_prompt::{PromptShape, SoftPrompt};
pub use story::StoryFormat;
pub use t5::{DenseT5, DenseT5Cross, DenseT5Layer, DenseT5Stack, DistanceTable, T5Config, T5Generate, T5Model};
pub use text_model::{BaseConfig, TextModel};
pub use tokenizer::{TextStream, Tokenizer};
pub use weights::{DenseLayer, DenseReader, DenseWeights};
