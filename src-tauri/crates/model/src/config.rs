//! The shape of a base: a Llama decoder and how it departs from plain Llama.

use crate::files::{BaseFiles, read_capped};
use crate::gguf::Gguf;
use crate::{ModelError, RopeScaling, config_json, gguf_config};
use std::path::Path;

pub(crate) const MAX_CONFIG_BYTES: u64 = 1 << 20;

/// The shape of a Llama decoder and the tokens that frame its text.
#[derive(Debug, Clone, PartialEq)]
pub struct LlamaConfig {
    pub hidden: usize,
    /// Width of the gated feed-forward layer.
    pub intermediate: usize,
    pub layers: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
    pub vocab: usize,
    /// Longest sequence in tokens.
    pub context: usize,
    pub rope_theta: f32,
    pub rms_eps: f32,
    /// The output head is the embedding.
    pub tied: bool,
    pub bos: Option<u32>,
    /// The first of the tokens that end a text.
    pub eos: Option<u32>,
    pub pad: Option<u32>,
    pub variant: Variant,
}

/// How a base departs from plain Llama; nothing by default.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Variant {
    pub architecture: Architecture,
    /// Queries, keys and values have a bias (Qwen2).
    pub qkv_bias: bool,
    /// Positions that a position sees, itself counted in (Mistral, Phi-3); `None` means all before it.
    pub window: Option<usize>,
    /// The first layers see everything, window or not.
    pub full_layers: usize,
    pub rope: RopeScaling,
    /// Numbers at the start of each head that turn with the position; `None` means all.
    pub rotary_dim: Option<usize>,
}

/// The families whose files are known. What differs in the arithmetic is said by the other fields of [`Variant`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Architecture {
    /// Llama 2 and 3, SmolLM2, TinyLlama and the built-in story model.
    #[default]
    Llama,
    Mistral,
    Qwen2,
    Phi3,
}

impl Architecture {
    /// As `model_type` in transformers.
    pub fn name(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Mistral => "mistral",
            Self::Qwen2 => "qwen2",
            Self::Phi3 => "phi3",
        }
    }
}

impl LlamaConfig {
    /// Reads the config of a base: `config.json` of a folder, or the metadata of a GGUF file.
    ///
    /// # Errors
    /// `Missing`, `Damaged` for what is not a config at all or has impossible sizes, `Unsupported` for another architecture,
    /// an unknown rope scaling, other biases or another activation: running those as plain Llama would give wrong text without
    /// any sign.
    pub fn load(path: &Path) -> Result<Self, ModelError> {
        match BaseFiles::find(path)? {
            BaseFiles::Folder(folder) => {
                let path = folder.join("config.json");
                Self::parse(&read_capped(&path, MAX_CONFIG_BYTES)?, &path)
            }
            BaseFiles::Gguf(file) => gguf_config::config(&mut Gguf::open(&file)?),
        }
    }

    /// Parses the bytes of a `config.json`; `path` is for the error only.
    pub fn parse(bytes: &[u8], path: &Path) -> Result<Self, ModelError> {
        let config = config_json::parse(bytes, path)?;
        config.check_sizes(path)?;
        Ok(config)
    }

    /// Width of all query heads together.
    pub fn query_width(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Width of all key (or value) heads together.
    pub fn kv_width(&self) -> usize {
        self.kv_heads * self.head_dim
    }

    /// Numbers of each head that turn with the position.
    pub fn rotary_dim(&self) -> usize {
        self.variant.rotary_dim.unwrap_or(self.head_dim)
    }

    /// Positions that a position of a layer sees, itself counted in, if not all before it.
    pub fn window(&self, layer: usize) -> Option<usize> {
        self.variant.window.filter(|_| layer >= self.variant.full_layers)
    }

    /// What the angles of a text of so many tokens depend on besides the position; 0 for most bases.
    pub fn rope_stretch(&self, tokens: usize) -> usize {
        self.variant.rope.stretch(tokens.min(self.context))
    }

    /// Angle per position of each pair of numbers that turns, and what cosine and sine are multiplied with.
    pub fn rope_frequencies(&self, stretch: usize) -> (Vec<f64>, f64) {
        self.variant.rope.frequencies(self.rope_theta, self.rotary_dim(), stretch)
    }

    /// Queries, keys and values are one module, gate and up another (Phi-3): an adapter of a module has one A for all of it.
    pub fn joins_projections(&self) -> bool {
        self.variant.architecture == Architecture::Phi3
    }

    /// Numbers in the whole base.
    pub fn parameters(&self) -> usize {
        let attention = self.hidden * (2 * self.query_width() + 2 * self.kv_width());
        let bias = if self.variant.qkv_bias { self.query_width() + 2 * self.kv_width() } else { 0 };
        let layer = attention + bias + 3 * self.hidden * self.intermediate + 2 * self.hidden;
        let embeddings = self.vocab * self.hidden * if self.tied { 1 } else { 2 };
        self.layers * layer + embeddings + self.hidden
    }

    /// Caps far above every base that could run here, so that products of sizes cannot overflow.
    pub(crate) fn check_sizes(&self, path: &Path) -> Result<(), ModelError> {
        let caps = [
            ("hidden_size", self.hidden, 1 << 16),
            ("intermediate_size", self.intermediate, 1 << 18),
            ("num_hidden_layers", self.layers, 1 << 10),
            ("num_attention_heads", self.heads, 1 << 10),
            ("num_key_value_heads", self.kv_heads, 1 << 10),
            ("head_dim", self.head_dim, 1 << 10),
            ("vocab_size", self.vocab, 1 << 21),
            ("max_position_embeddings", self.context, 1 << 24),
            ("the number of rotated dimensions", self.rotary_dim(), self.head_dim),
            ("sliding_window", self.variant.window.unwrap_or(1), 1 << 24),
        ];
        if let Some((name, value, cap)) = caps.into_iter().find(|(_, value, cap)| *value == 0 || value > cap) {
            return Err(ModelError::damaged(path, format!("{name} is {value}, outside 1 to {cap}")));
        }
        if !self.heads.is_multiple_of(self.kv_heads) {
            let reason = format!("{} attention heads cannot share {} key heads", self.heads, self.kv_heads);
            return Err(ModelError::damaged(path, reason));
        }
        if !self.head_dim.is_multiple_of(2) || !self.rotary_dim().is_multiple_of(2) {
            return Err(ModelError::damaged(path, format!("{} of {} is an odd number", self.rotary_dim(), self.head_dim)));
        }
        let sound = |value: f32| value.is_finite() && value > 0.0;
        if !sound(self.rope_theta) || !sound(self.rms_eps) {
            return Err(ModelError::damaged(path, "rope_theta and rms_norm_eps must be positive"));
        }
        match self.variant.rope.problem(self.rotary_dim()) {
            Some(problem) => Err(ModelError::damaged(path, problem)),
            None => Ok(()),
        }
    }
}
