//! `config.json` of transformers 4 (flat `rope_theta`, `rope_scaling`) and 5 (`rope_parameters`), and `generation_config.json`.

use crate::config::MAX_CONFIG_BYTES;
use crate::files::read_capped;
use crate::rope::{long_attention, yarn_attention};
use crate::{Architecture, LlamaConfig, ModelError, RopeScaling, Variant};
use serde::Deserialize;
use std::path::Path;

/// Parses without checking sizes; `path` is for the error only.
pub(crate) fn parse(bytes: &[u8], path: &Path) -> Result<LlamaConfig, ModelError> {
    let raw: RawConfig = serde_json::from_slice(bytes).map_err(|error| ModelError::damaged(path, error.to_string()))?;
    let architecture = raw.architecture().map_err(|reason| ModelError::unsupported(path, reason))?;
    let rope = raw.rope(architecture).map_err(|reason| ModelError::unsupported(path, reason))?;
    Ok(raw.into_config(architecture, rope))
}

/// All tokens that end a text: those of `generation_config.json` where it names any, else those of `config.json`.
pub(crate) fn end_tokens(folder: &Path) -> Result<Vec<u32>, ModelError> {
    for name in ["generation_config.json", "config.json"] {
        let path = folder.join(name);
        let bytes = match read_capped(&path, MAX_CONFIG_BYTES) {
            Err(ModelError::Missing { .. }) => continue,
            bytes => bytes?,
        };
        let raw: RawEnds = serde_json::from_slice(&bytes).map_err(|error| ModelError::damaged(&path, error.to_string()))?;
        if let Some(ids) = raw.eos_token_id {
            return Ok(ids.all());
        }
    }
    Ok(Vec::new())
}

#[derive(Deserialize)]
struct RawEnds {
    eos_token_id: Option<TokenIds>,
}

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
    original_max_position_embeddings: Option<usize>,
    rope_theta: Option<f32>,
    partial_rotary_factor: Option<f32>,
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
    /// Absent is not the same as null: see [`RawConfig::window`].
    #[serde(default, deserialize_with = "present")]
    sliding_window: Option<Option<usize>>,
    /// Qwen2 names a window even where it does not use one.
    use_sliding_window: Option<bool>,
    max_window_layers: Option<usize>,
    layer_types: Option<Vec<String>>,
    quantization_config: Option<serde_json::Value>,
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

impl TokenIds {
    fn all(&self) -> Vec<u32> {
        let ids = match self {
            Self::One(id) => std::slice::from_ref(id),
            Self::Many(ids) => ids,
        };
        ids.iter().filter_map(|id| u32::try_from(*id).ok()).collect()
    }
}

#[derive(Deserialize)]
struct RawRope {
    rope_theta: Option<f32>,
    rope_type: Option<String>,
    /// The name of `rope_type` before transformers 4.43.
    #[serde(rename = "type")]
    old_type: Option<String>,
    partial_rotary_factor: Option<f32>,
    factor: Option<f32>,
    original_max_position_embeddings: Option<usize>,
    low_freq_factor: Option<f32>,
    high_freq_factor: Option<f32>,
    beta_fast: Option<f32>,
    beta_slow: Option<f32>,
    truncate: Option<bool>,
    attention_factor: Option<f32>,
    mscale: Option<f32>,
    mscale_all_dim: Option<f32>,
    short_factor: Option<Vec<f32>>,
    long_factor: Option<Vec<f32>>,
}

fn present<'de, D: serde::Deserializer<'de>>(value: D) -> Result<Option<Option<usize>>, D::Error> {
    Option::deserialize(value).map(Some)
}

fn default_eps() -> f32 {
    1e-6
}

impl RawConfig {
    /// The family, if everything but the rope is known.
    fn architecture(&self) -> Result<Architecture, String> {
        let architecture = match self.model_type.as_deref() {
            Some("llama") => Architecture::Llama,
            Some("mistral") => Architecture::Mistral,
            Some("qwen2") => Architecture::Qwen2,
            Some("phi3") => Architecture::Phi3,
            Some(other) => return Err(format!("the architecture \"{other}\" is not known")),
            None => return Err("it names no model_type".to_owned()),
        };
        if self.attention_bias || self.mlp_bias {
            return Err("its layers have biases".to_owned());
        }
        if self.quantization_config.is_some() {
            return Err("its weights were quantised by another program".to_owned());
        }
        match self.hidden_act.as_deref().filter(|act| !matches!(*act, "silu" | "swish")) {
            Some(act) => Err(format!("the activation \"{act}\" is not known")),
            None => Ok(architecture),
        }
    }

    fn rope(&self, architecture: Architecture) -> Result<RopeScaling, String> {
        let Some(raw) = self.rope_scaling.as_ref().or(self.rope_parameters.as_ref()) else { return Ok(RopeScaling::None) };
        let kind = raw.rope_type.as_deref().or(raw.old_type.as_deref()).unwrap_or("default");
        // Early Phi-3 files call it by other names.
        let kind = if architecture == Architecture::Phi3 && matches!(kind, "su" | "yarn") { "longrope" } else { kind };
        let missing = |what: &str| format!("its rope scaling \"{kind}\" has no {what}");
        let factor = raw.factor.ok_or_else(|| missing("factor"));
        let original = raw.original_max_position_embeddings.or(self.original_max_position_embeddings);
        let longest = self.max_position_embeddings;
        Ok(match kind {
            "default" => RopeScaling::None,
            "linear" => RopeScaling::Linear { factor: factor? },
            "dynamic" => RopeScaling::Dynamic { factor: factor?, original: longest },
            "llama3" => RopeScaling::Llama3 {
                factor: factor?,
                low: raw.low_freq_factor.ok_or_else(|| missing("low_freq_factor"))?,
                high: raw.high_freq_factor.ok_or_else(|| missing("high_freq_factor"))?,
                original: original.unwrap_or(longest),
            },
            "yarn" => {
                if raw.mscale.is_some() || raw.mscale_all_dim.is_some() {
                    return Err("its rope scaling \"yarn\" has an mscale, which is not known".to_owned());
                }
                let original = original.unwrap_or(longest);
                let factor = factor.unwrap_or(longest as f32 / original.max(1) as f32);
                RopeScaling::Yarn {
                    factor,
                    original,
                    fast: raw.beta_fast.unwrap_or(32.0),
                    slow: raw.beta_slow.unwrap_or(1.0),
                    truncate: raw.truncate.unwrap_or(true),
                    attention: raw.attention_factor.unwrap_or_else(|| yarn_attention(factor)),
                }
            }
            "longrope" => {
                let original = original.unwrap_or(longest);
                let factor = factor.unwrap_or(longest as f32 / original.max(1) as f32);
                RopeScaling::Long {
                    short: raw.short_factor.clone().ok_or_else(|| missing("short_factor"))?,
                    long: raw.long_factor.clone().ok_or_else(|| missing("long_factor"))?,
                    original,
                    attention: raw.attention_factor.unwrap_or_else(|| long_attention(factor, original)),
                }
            }
            other => return Err(format!("the rope scaling \"{other}\" is not known")),
        })
    }

    /// The sliding window, and how many of the first layers do not have it.
    fn window(&self, architecture: Architecture) -> (Option<usize>, usize) {
        match architecture {
            Architecture::Llama => (None, 0),
            Architecture::Mistral => (self.sliding_window.unwrap_or(Some(4096)), 0),
            Architecture::Phi3 => (self.sliding_window.flatten(), 0),
            Architecture::Qwen2 => {
                let named = |types: &Vec<String>| types.iter().take_while(|kind| *kind == "full_attention").count();
                let full = self.layer_types.as_ref().map(named).or(self.max_window_layers).unwrap_or(28);
                // A window that no layer uses is none.
                (self.sliding_window.flatten().filter(|_| self.use_sliding_window == Some(true) && full < self.num_hidden_layers), full)
            }
        }
    }

    fn into_config(self, architecture: Architecture, rope: RopeScaling) -> LlamaConfig {
        let id = |ids: &Option<TokenIds>| ids.as_ref().and_then(|ids| ids.all().first().copied());
        let head_dim = self.head_dim.unwrap_or(self.hidden_size / self.num_attention_heads.max(1));
        let (window, full_layers) = self.window(architecture);
        let ropes = || [&self.rope_parameters, &self.rope_scaling].into_iter().flatten();
        let partial = ropes().find_map(|rope| rope.partial_rotary_factor).or(self.partial_rotary_factor).filter(|part| *part != 1.0);
        let stretched = match rope {
            RopeScaling::Dynamic { factor, original } => Some((factor * original as f32) as usize),
            _ => None,
        };
        LlamaConfig {
            hidden: self.hidden_size,
            intermediate: self.intermediate_size,
            layers: self.num_hidden_layers,
            heads: self.num_attention_heads,
            kv_heads: self.num_key_value_heads.unwrap_or(self.num_attention_heads),
            head_dim,
            vocab: self.vocab_size,
            context: stretched.unwrap_or(self.max_position_embeddings),
            rope_theta: ropes().find_map(|rope| rope.rope_theta).or(self.rope_theta).unwrap_or(10_000.0),
            rms_eps: self.rms_norm_eps,
            tied: self.tie_word_embeddings,
            bos: id(&self.bos_token_id),
            eos: id(&self.eos_token_id),
            pad: id(&self.pad_token_id),
            variant: Variant {
                architecture,
                qkv_bias: architecture == Architecture::Qwen2,
                window,
                full_layers: if window.is_some() { full_layers } else { 0 },
                rope,
                rotary_dim: partial.map(|part| (head_dim as f32 * part) as usize),
            },
        }
    }
}
