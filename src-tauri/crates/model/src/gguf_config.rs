//! The config of a GGUF file, from its metadata and the shapes of its tensors.
//!
//! Keys as in ggml's `docs/gguf.md` and the gguf package 0.19 (`constants.py`).

use crate::gguf::{Gguf, Value};
use crate::rope::{long_attention, yarn_attention};
use crate::{Architecture, LlamaConfig, ModelError, RopeScaling, Variant};

/// Reads and checks the config.
///
/// # Errors
/// `Unsupported` for another architecture or rope scaling, `Damaged` for what is missing or cannot be.
pub(crate) fn config(file: &mut Gguf) -> Result<LlamaConfig, ModelError> {
    let raw = Raw::new(file)?;
    let path = file.path().to_owned();
    let layers = raw.size(file, "block_count")?;
    let heads = raw.size(file, "attention.head_count")?;
    let hidden = raw.size(file, "embedding_length")?;
    let kv_heads = raw.kv_heads(file, heads)?;
    let head_dim = raw.optional(file, "attention.key_length").unwrap_or(hidden / heads.max(1));
    if raw.optional(file, "attention.value_length").is_some_and(|width| width != head_dim) {
        return Err(ModelError::unsupported(&path, "its keys and values have different widths"));
    }
    if raw.optional(file, "expert_count").is_some_and(|count| count > 0) {
        return Err(ModelError::unsupported(&path, "it is a mixture of experts"));
    }
    let Some((_, [vocab, _])) = file.layout("token_embd.weight") else {
        return Err(ModelError::damaged(&path, "the tensor token_embd.weight is missing or no matrix"));
    };
    let context = raw.size(file, "context_length")?;
    let rotary = raw.optional(file, "rope.dimension_count").filter(|width| *width != head_dim);
    let id = |key: &str| file.integer(&format!("tokenizer.ggml.{key}_token_id")).and_then(|id| u32::try_from(id).ok());
    let window = raw.optional(file, "attention.sliding_window").filter(|_| raw.architecture == Architecture::Phi3);
    let mut config = LlamaConfig {
        hidden,
        intermediate: raw.size(file, "feed_forward_length")?,
        layers,
        heads,
        kv_heads,
        head_dim,
        vocab: *vocab,
        context,
        rope_theta: raw.float(file, "rope.freq_base").unwrap_or(10_000.0),
        rms_eps: raw.float(file, "attention.layer_norm_rms_epsilon").unwrap_or(1e-5),
        tied: !file.contains("output.weight"),
        bos: id("bos"),
        eos: id("eos"),
        pad: id("padding"),
        variant: Variant {
            architecture: raw.architecture,
            qkv_bias: raw.architecture == Architecture::Qwen2,
            window: window.filter(|window| *window < context),
            full_layers: 0,
            rope: RopeScaling::None,
            rotary_dim: rotary,
        },
    };
    // Before anything is read by these sizes.
    config.check_sizes(&path)?;
    config.variant.rope = raw.rope(file, &config)?;
    config.check_sizes(&path)?;
    Ok(config)
}

/// The metadata of one architecture.
struct Raw {
    architecture: Architecture,
    prefix: String,
}

impl Raw {
    fn new(file: &Gguf) -> Result<Self, ModelError> {
        let prefix = file.text("general.architecture").unwrap_or_default().to_owned();
        let architecture = match prefix.as_str() {
            // Mistral's files say llama, too.
            "llama" => Architecture::Llama,
            "qwen2" => Architecture::Qwen2,
            "phi3" => Architecture::Phi3,
            "" => return Err(ModelError::damaged(file.path(), "it names no architecture")),
            other => return Err(ModelError::unsupported(file.path(), format!("the architecture \"{other}\" is not known"))),
        };
        Ok(Self { architecture, prefix })
    }

    fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.prefix)
    }

    fn optional(&self, file: &Gguf, name: &str) -> Option<usize> {
        file.integer(&self.key(name)).and_then(|value| usize::try_from(value).ok())
    }

    fn size(&self, file: &Gguf, name: &str) -> Result<usize, ModelError> {
        let missing = || ModelError::damaged(file.path(), format!("the entry {} is missing", self.key(name)));
        self.optional(file, name).ok_or_else(missing)
    }

    fn float(&self, file: &Gguf, name: &str) -> Option<f32> {
        file.float(&self.key(name))
    }

    /// One number, or the same one for every layer.
    fn kv_heads(&self, file: &Gguf, heads: usize) -> Result<usize, ModelError> {
        match file.value(&self.key("attention.head_count_kv")) {
            Some(Value::Integer(count)) => Ok(usize::try_from(*count).unwrap_or(0)),
            Some(Value::Integers(counts)) if counts.iter().all(|count| *count == counts[0]) && !counts.is_empty() => {
                Ok(usize::try_from(counts[0]).unwrap_or(0))
            }
            Some(_) => Err(ModelError::unsupported(file.path(), "its layers have different numbers of key heads")),
            None => Ok(heads),
        }
    }

    fn rope(&self, file: &mut Gguf, config: &LlamaConfig) -> Result<RopeScaling, ModelError> {
        let half = config.rotary_dim() / 2;
        let original = self.optional(file, "rope.scaling.original_context_length").unwrap_or(config.context);
        if file.contains("rope_freqs.weight") {
            return Ok(RopeScaling::Divisors(file.numbers("rope_freqs.weight", 0, 1, half)?));
        }
        if file.contains("rope_factors_long.weight") || file.contains("rope_factors_short.weight") {
            let factor = config.context as f32 / original.max(1) as f32;
            return Ok(RopeScaling::Long {
                short: file.numbers("rope_factors_short.weight", 0, 1, half)?,
                long: file.numbers("rope_factors_long.weight", 0, 1, half)?,
                original,
                attention: self.float(file, "rope.scaling.attn_factor").unwrap_or_else(|| long_attention(factor, original)),
            });
        }
        let factor = self.float(file, "rope.scaling.factor").or(self.float(file, "rope.scale_linear"));
        let kind = file.text(&self.key("rope.scaling.type")).unwrap_or(if factor.is_some() { "linear" } else { "none" });
        match (kind, factor) {
            ("none", _) | ("linear", None) => Ok(RopeScaling::None),
            ("linear", Some(1.0)) => Ok(RopeScaling::None),
            ("linear", Some(factor)) => Ok(RopeScaling::Linear { factor }),
            ("yarn", Some(factor)) => Ok(RopeScaling::Yarn {
                factor,
                original,
                fast: self.float(file, "rope.scaling.yarn_beta_fast").unwrap_or(32.0),
                slow: self.float(file, "rope.scaling.yarn_beta_slow").unwrap_or(1.0),
                truncate: true,
                attention: self.float(file, "rope.scaling.yarn_attn_factor").unwrap_or(1.0) * yarn_attention(factor),
            }),
            (other, _) => Err(ModelError::unsupported(file.path(), format!("the rope scaling \"{other}\" is not known"))),
        }
    }
}
