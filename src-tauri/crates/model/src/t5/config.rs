//! The shape of a T5 base (Raffel et al., 2019; T5 1.1 and flan-t5 too), read from the `config.json` of transformers.

use crate::ModelError;
use crate::files::read_capped;
use serde::Deserialize;
use std::path::Path;

const MAX_CONFIG_BYTES: u64 = 1 << 20;

/// The shape of a T5 encoder and decoder and the tokens that frame their text.
#[derive(Debug, Clone, PartialEq)]
pub struct T5Config {
    pub hidden: usize,
    /// Width of the feed-forward layer.
    pub intermediate: usize,
    pub encoder_layers: usize,
    pub decoder_layers: usize,
    pub heads: usize,
    pub head_dim: usize,
    pub vocab: usize,
    /// Buckets of relative positions; in the encoder half of them look back and half ahead.
    pub buckets: usize,
    /// Distances from here on share the last bucket.
    pub max_distance: usize,
    pub norm_eps: f32,
    /// Gated units with GELU (T5 1.1, flan-t5) instead of plain ones with ReLU (the first T5).
    pub gated: bool,
    /// Whether the decoder's output is scaled by `hidden^-0.5` before the head, as the first T5 does with its tied head.
    pub scaled_logits: bool,
    /// What every answer begins with.
    pub start: u32,
    pub eos: Option<u32>,
    pub pad: Option<u32>,
}

impl T5Config {
    /// Longest text on either side. The weights set no limit; the first T5 was trained on 512.
    pub const CONTEXT: usize = 4_096;

    /// Reads `config.json` of `dir`.
    ///
    /// # Errors
    /// `Missing`, `Damaged` for what is not a config at all or has impossible sizes, `Unsupported` for another architecture or
    /// activation.
    pub fn load(dir: &Path) -> Result<Self, ModelError> {
        let path = dir.join("config.json");
        Self::parse(&read_capped(&path, MAX_CONFIG_BYTES)?, &path)
    }

    /// Parses the bytes of a `config.json`; `path` is for the error only.
    ///
    /// # Errors
    /// As [`T5Config::load`].
    pub fn parse(bytes: &[u8], path: &Path) -> Result<Self, ModelError> {
        let raw: RawConfig = serde_json::from_slice(bytes).map_err(|error| ModelError::damaged(path, error.to_string()))?;
        if raw.model_type.as_deref() != Some("t5") {
            let named = raw.model_type.unwrap_or_default();
            return Err(ModelError::unsupported(path, format!("the architecture \"{named}\" is not T5")));
        }
        let gated = match raw.feed_forward_proj.as_deref() {
            None | Some("relu") => false,
            Some("gated-gelu") => true,
            Some(other) => return Err(ModelError::unsupported(path, format!("the activation \"{other}\" is not known"))),
        };
        let id = |id: Option<i64>| id.and_then(|id| u32::try_from(id).ok());
        let config = Self {
            hidden: raw.d_model,
            intermediate: raw.d_ff,
            encoder_layers: raw.num_layers,
            decoder_layers: raw.num_decoder_layers.unwrap_or(raw.num_layers),
            heads: raw.num_heads,
            head_dim: raw.d_kv,
            vocab: raw.vocab_size,
            buckets: raw.relative_attention_num_buckets,
            max_distance: raw.relative_attention_max_distance,
            norm_eps: raw.layer_norm_epsilon,
            gated,
            // transformers 5 ties always and tells the kinds apart by a field of their own.
            scaled_logits: raw.scale_decoder_outputs.unwrap_or(raw.tie_word_embeddings != Some(false)),
            start: id(raw.decoder_start_token_id).or(id(raw.pad_token_id)).unwrap_or(0),
            eos: id(raw.eos_token_id),
            pad: id(raw.pad_token_id),
        };
        config.check_sizes(path)?;
        Ok(config)
    }

    /// Width of all heads together.
    pub fn width(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Numbers in the whole base, a head of its own not counted in.
    pub fn parameters(&self) -> usize {
        let attention = 4 * self.hidden * self.width() + self.hidden;
        let mlp = if self.gated { 3 } else { 2 } * self.hidden * self.intermediate + self.hidden;
        let (encoder, decoder) = (self.encoder_layers * (attention + mlp), self.decoder_layers * (2 * attention + mlp));
        self.vocab * self.hidden + encoder + decoder + 2 * (self.hidden + self.buckets * self.heads)
    }

    /// Caps far above every base that could run here, so that products of sizes cannot overflow.
    fn check_sizes(&self, path: &Path) -> Result<(), ModelError> {
        let caps = [
            ("d_model", self.hidden, 1 << 14),
            ("d_ff", self.intermediate, 1 << 17),
            ("num_layers", self.encoder_layers, 1 << 8),
            ("num_decoder_layers", self.decoder_layers, 1 << 8),
            ("num_heads", self.heads, 1 << 8),
            ("d_kv", self.head_dim, 1 << 10),
            ("vocab_size", self.vocab, 1 << 21),
            ("relative_attention_num_buckets", self.buckets, 1 << 12),
            ("relative_attention_max_distance", self.max_distance, 1 << 16),
        ];
        if let Some((name, value, cap)) = caps.into_iter().find(|(_, value, cap)| *value == 0 || value > cap) {
            return Err(ModelError::damaged(path, format!("{name} is {value}, outside 1 to {cap}")));
        }
        if !self.buckets.is_multiple_of(4) || self.max_distance <= self.buckets / 2 {
            let reason = format!("{} buckets cannot hold distances up to {}", self.buckets, self.max_distance);
            return Err(ModelError::damaged(path, reason));
        }
        if !(self.norm_eps.is_finite() && self.norm_eps > 0.0) {
            return Err(ModelError::damaged(path, "layer_norm_epsilon must be positive"));
        }
        if !self.head_dim.is_multiple_of(16) {
            return Err(ModelError::unsupported(path, format!("its heads are {} wide, which is not a multiple of 16", self.head_dim)));
        }
        if self.start as usize >= self.vocab {
            return Err(ModelError::damaged(path, format!("answers begin with {}, but there are {} tokens", self.start, self.vocab)));
        }
        Ok(())
    }
}

#[derive(Deserialize)]
struct RawConfig {
    model_type: Option<String>,
    d_model: usize,
    d_ff: usize,
    d_kv: usize,
    num_layers: usize,
    num_decoder_layers: Option<usize>,
    num_heads: usize,
    vocab_size: usize,
    #[serde(default = "default_buckets")]
    relative_attention_num_buckets: usize,
    #[serde(default = "default_distance")]
    relative_attention_max_distance: usize,
    #[serde(default = "default_eps")]
    layer_norm_epsilon: f32,
    feed_forward_proj: Option<String>,
    tie_word_embeddings: Option<bool>,
    scale_decoder_outputs: Option<bool>,
    decoder_start_token_id: Option<i64>,
    eos_token_id: Option<i64>,
    pad_token_id: Option<i64>,
}

fn default_buckets() -> usize {
    32
}

fn default_distance() -> usize {
    128
}

fn default_eps() -> f32 {
    1e-6
}
