//! The shape of a Llama-family base, read from the `config.json` of transformers.

use crate::ModelError;
use crate::files::read_capped;
use serde::Deserialize;
use std::path::Path;

const MAX_CONFIG_BYTES: u64 = 1 << 20;

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
    pub eos: Option<u32>,
    pub pad: Option<u32>,
}

impl LlamaConfig {
    /// Reads `config.json` of `dir`.
    ///
    /// # Errors
    /// `Missing`, `Damaged` for what is not a config at all or has impossible sizes, `Unsupported` for another architecture,
    /// scaled rope, biases or another activation: running those as plain Llama would give wrong text without any sign.
    pub fn load(dir: &Path) -> Result<Self, ModelError> {
        let path = dir.join("config.json");
        Self::parse(&read_capped(&path, MAX_CONFIG_BYTES)?, &path)
    }

    /// Parses the bytes of a `config.json`; `path` is for the error only.
    pub fn parse(bytes: &[u8], path: &Path) -> Result<Self, ModelError> {
        let raw: RawConfig = serde_json::from_slice(bytes).map_err(|error| ModelError::damaged(path, error.to_string()))?;
        raw.refuse_unknown(path)?;
        let config = raw.into_config();
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

    /// Numbers in the whole base.
    pub fn parameters(&self) -> usize {
        let attention = self.hidden * (2 * self.query_width() + 2 * self.kv_width());
        let layer = attention + 3 * self.hidden * self.intermediate + 2 * self.hidden;
        let embeddings = self.vocab * self.hidden * if self.tied { 1 } else { 2 };
        self.layers * layer + embeddings + self.hidden
    }

    /// Caps far above every base that could run here, so that products of sizes cannot overflow.
    fn check_sizes(&self, path: &Path) -> Result<(), ModelError> {
        let caps = [
            ("hidden_size", self.hidden, 1 << 16),
            ("intermediate_size", self.intermediate, 1 << 18),
            ("num_hidden_layers", self.layers, 1 << 10),
            ("num_attention_heads", self.heads, 1 << 10),
            ("num_key_value_heads", self.kv_heads, 1 << 10),
            ("head_dim", self.head_dim, 1 << 10),
            ("vocab_size", self.vocab, 1 << 21),
            ("max_position_embeddings", self.context, 1 << 24),
        ];
        if let Some((name, value, cap)) = caps.into_iter().find(|(_, value, cap)| *value == 0 || value > cap) {
            return Err(ModelError::damaged(path, format!("{name} is {value}, outside 1 to {cap}")));
        }
        if !self.heads.is_multiple_of(self.kv_heads) {
            let reason = format!("{} attention heads cannot share {} key heads", self.heads, self.kv_heads);
            return Err(ModelError::damaged(path, reason));
        }
        if !self.head_dim.is_multiple_of(2) {
            return Err(ModelError::damaged(path, format!("head_dim is {}, an odd number", self.head_dim)));
        }
        let sound = |value: f32| value.is_finite() && value > 0.0;
        if !sound(self.rope_theta) || !sound(self.rms_eps) {
            return Err(ModelError::damaged(path, "rope_theta and rms_norm_eps must be positive"));
        }
        Ok(())
    }
}

/// `config.json` as transformers 4 (flat `rope_theta`) and 5 (`rope_parameters`) write it.
#[derive(Deserialize)]
struct RawConfig {
    model_type: Option<String>,
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    vocab_size: usize,
    max_position_embeddings: usize,
    rope_theta: Option<f32>,
    rope_parameters: Option<RawRope>,
    rope_scaling: Option<RawRope>,
    #[serde(default = "default_eps")]
    rms_norm_eps: f32,
    #[serde(default)]
    tie_word_embeddings: bool,
    #[serde(default)]
    attention_bias: bool,
    #[serde(default)]
    mlp_bias: bool,
    hidden_act: Option<String>,
    sliding_window: Option<usize>,
    bos_token_id: Option<TokenIds>,
    eos_token_id: Option<TokenIds>,
    pad_token_id: Option<TokenIds>,
}

/// Newer configs list several ids; the first one is the one that training used.
#[derive(Deserialize)]
#[serde(untagged)]
enum TokenIds {
    One(i64),
    Many(Vec<i64>),
}

#[derive(Deserialize)]
struct RawRope {
    rope_theta: Option<f32>,
    #[serde(alias = "type")]
    rope_type: Option<String>,
    partial_rotary_factor: Option<f32>,
}

fn default_eps() -> f32 {
    1e-6
}

impl RawConfig {
    fn refuse_unknown(&self, path: &Path) -> Result<(), ModelError> {
        let refuse = |reason: String| Err(ModelError::unsupported(path, reason));
        match self.model_type.as_deref() {
            Some("llama") => {}
            Some("mistral") if self.sliding_window.is_none() => {}
            Some(other) => return refuse(format!("the architecture \"{other}\" is not known")),
            None => return refuse("it names no model_type".to_owned()),
        }
        if self.attention_bias || self.mlp_bias {
            return refuse("its layers have biases".to_owned());
        }
        if let Some(act) = self.hidden_act.as_deref().filter(|act| !matches!(*act, "silu" | "swish")) {
            return refuse(format!("the activation \"{act}\" is not known"));
        }
        for rope in [&self.rope_parameters, &self.rope_scaling].into_iter().flatten() {
            if let Some(kind) = rope.rope_type.as_deref().filter(|kind| *kind != "default") {
                return refuse(format!("the rope scaling \"{kind}\" is not known"));
            }
            if rope.partial_rotary_factor.is_some_and(|factor| factor != 1.0) {
                return refuse("it rotates only a part of each head".to_owned());
            }
        }
        Ok(())
    }

    fn into_config(self) -> LlamaConfig {
        let id = |ids: Option<TokenIds>| match ids {
            Some(TokenIds::One(id)) => u32::try_from(id).ok(),
            Some(TokenIds::Many(ids)) => ids.first().and_then(|id| u32::try_from(*id).ok()),
            None => None,
        };
        LlamaConfig {
            hidden: self.hidden_size,
            intermediate: self.intermediate_size,
            layers: self.num_hidden_layers,
            heads: self.num_attention_heads,
            kv_heads: self.num_key_value_heads.unwrap_or(self.num_attention_heads),
            head_dim: self.head_dim.unwrap_or(self.hidden_size / self.num_attention_heads.max(1)),
            vocab: self.vocab_size,
            context: self.max_position_embeddings,
            rope_theta: self.rope_parameters.and_then(|rope| rope.rope_theta).or(self.rope_theta).unwrap_or(10_000.0),
            rms_eps: self.rms_norm_eps,
            tied: self.tie_word_embeddings,
            bos: id(self.bos_token_id),
            eos: id(self.eos_token_id),
            pad: id(self.pad_token_id),
        }
    }
}
