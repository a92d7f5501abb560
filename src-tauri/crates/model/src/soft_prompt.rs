//! Soft prompts: trained vectors that stand before the text, in PEFT's file layout.

use crate::checkpoint::Checkpoint;
use crate::files::{read_capped, write_atomic};
use crate::{BaseConfig, LlamaConfig, ModelError, T5Config};
use half::f16;
use safetensors::tensor::{Dtype, TensorView, serialize};
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::Path;

const CONFIG: &str = "adapter_config.json";
const WEIGHTS: &str = "adapter_model.safetensors";
/// The key under which PEFT 0.18 stores the vectors.
const KEY: &str = "prompt_embeddings";
const MAX_CONFIG_BYTES: u64 = 1 << 20;
const MAX_TOKENS: usize = 4096;

/// Vectors `[tokens, hidden]` that take the place of the embeddings of `tokens` tokens at the start of the text.
#[derive(Debug, Clone, PartialEq)]
pub struct SoftPrompt {
    pub tokens: usize,
    pub hidden: usize,
    pub vectors: Vec<f32>,
}

/// What PEFT's description of a soft prompt says about the base.
pub trait PromptShape {
    fn layers(&self) -> usize;
    fn heads(&self) -> usize;
    /// `CAUSAL_LM` or `SEQ_2_SEQ_LM`.
    fn task(&self) -> &'static str;
}

impl PromptShape for LlamaConfig {
    fn layers(&self) -> usize {
        self.layers
    }

    fn heads(&self) -> usize {
        self.heads
    }

    fn task(&self) -> &'static str {
        "CAUSAL_LM"
    }
}

impl PromptShape for T5Config {
    fn layers(&self) -> usize {
        self.encoder_layers
    }

    fn heads(&self) -> usize {
        self.heads
    }

    fn task(&self) -> &'static str {
        "SEQ_2_SEQ_LM"
    }
}

impl PromptShape for BaseConfig {
    fn layers(&self) -> usize {
        match self {
            Self::Decoder(config) => config.layers(),
            Self::T5(config) => config.layers(),
        }
    }

    fn heads(&self) -> usize {
        match self {
            Self::Decoder(config) => config.heads(),
            Self::T5(config) => config.heads(),
        }
    }

    fn task(&self) -> &'static str {
        match self {
            Self::Decoder(config) => config.task(),
            Self::T5(config) => config.task(),
        }
    }
}

impl SoftPrompt {
    /// Writes `adapter_model.safetensors`, then `adapter_config.json`, each whole or not at all, into `dir` (made if absent).
    ///
    /// `base` names the base that it was trained on.
    ///
    /// # Errors
    /// `Io`, or `InvalidRequest` when the vectors do not have the size that `tokens` and `hidden` claim.
    pub fn save(&self, dir: &Path, config: &impl PromptShape, base: &str) -> Result<(), ModelError> {
        let bytes: Vec<u8> = self.vectors.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.write(dir, config, base, Dtype::F32, &bytes)
    }

    /// [`SoftPrompt::save`] in f16: half the size, for prompts that are shipped. PEFT reads it as well.
    ///
    /// # Errors
    /// As [`SoftPrompt::save`].
    pub fn save_half(&self, dir: &Path, config: &impl PromptShape, base: &str) -> Result<(), ModelError> {
        let bytes: Vec<u8> = self.vectors.iter().flat_map(|value| f16::from_f32(*value).to_le_bytes()).collect();
        self.write(dir, config, base, Dtype::F16, &bytes)
    }

    /// The convex combination of soft prompts by their weights, of which only the proportions count; `None` without a positive
    /// weight or when their sizes differ.
    pub fn blend(parts: &[(&Self, f64)]) -> Option<Self> {
        let parts: Vec<_> = parts.iter().filter(|(_, weight)| weight.is_finite() && *weight > 0.0).collect();
        let sum: f64 = parts.iter().map(|(_, weight)| weight).sum();
        let (first, _) = *parts.first()?;
        if parts.iter().any(|(part, _)| (part.tokens, part.hidden) != (first.tokens, first.hidden)) {
            return None;
        }
        let mut vectors = vec![0.0; first.vectors.len()];
        for (part, weight) in parts {
            let share = (weight / sum) as f32;
            vectors.iter_mut().zip(&part.vectors).for_each(|(sum, value)| *sum += share * value);
        }
        Some(Self { tokens: first.tokens, hidden: first.hidden, vectors })
    }

    fn write(&self, dir: &Path, config: &impl PromptShape, base: &str, dtype: Dtype, bytes: &[u8]) -> Result<(), ModelError> {
        let unwritable = |_| ModelError::InvalidRequest { reason: "a soft prompt's vectors do not match its size" };
        if self.tokens == 0 || self.vectors.len() != self.tokens * self.hidden {
            return Err(ModelError::InvalidRequest { reason: "a soft prompt's vectors do not match its size" });
        }
        fs::create_dir_all(dir).map_err(ModelError::io(dir))?;
        let view = TensorView::new(dtype, vec![self.tokens, self.hidden], bytes).map_err(unwritable)?;
        let file = serialize([(KEY, view)], None).map_err(unwritable)?;
        write_atomic(&dir.join(WEIGHTS), &file)?;
        let description = PeftConfig {
            peft_type: "PROMPT_TUNING".to_owned(),
            task_type: Some(config.task().to_owned()),
            num_virtual_tokens: self.tokens,
            token_dim: self.hidden,
            num_layers: Some(config.layers()),
            num_attention_heads: Some(config.heads()),
            // Also before an encoder and a decoder: PEFT passes the vectors of the first on to the encoder, and no others.
            num_transformer_submodules: Some(1),
            prompt_tuning_init: Some("RANDOM".to_owned()),
            base_model_name_or_path: Some(base.to_owned()),
            inference_mode: true,
        };
        let path = dir.join(CONFIG);
        let json = serde_json::to_vec_pretty(&description).map_err(|error| ModelError::damaged(&path, error.to_string()))?;
        write_atomic(&path, &json)
    }

    /// Reads a soft prompt that Inkling or PEFT wrote.
    ///
    /// # Errors
    /// `Missing`, `Io`, `Damaged`, or `Unsupported` for another kind of adapter.
    pub fn load(dir: &Path) -> Result<Self, ModelError> {
        let path = dir.join(CONFIG);
        let bytes = read_capped(&path, MAX_CONFIG_BYTES)?;
        let kind: PeftKind = serde_json::from_slice(&bytes).map_err(|error| ModelError::damaged(&path, error.to_string()))?;
        if kind.peft_type != "PROMPT_TUNING" {
            return Err(ModelError::unsupported(&path, format!("it is a {} adapter, not a soft prompt", kind.peft_type)));
        }
        let description: PeftConfig = serde_json::from_slice(&bytes).map_err(|error| ModelError::damaged(&path, error.to_string()))?;
        let (tokens, hidden) = (description.num_virtual_tokens, description.token_dim);
        if tokens == 0 || tokens > MAX_TOKENS || hidden == 0 || hidden > 1 << 16 {
            return Err(ModelError::damaged(&path, format!("{tokens} vectors of {hidden} numbers cannot be")));
        }
        // For an encoder and a decoder PEFT may store vectors for both, but passes only the first half on, to the encoder.
        let parts = description.num_transformer_submodules.unwrap_or(1).clamp(1, 2);
        let vectors = Checkpoint::open(&dir.join(WEIGHTS))?.rows(KEY, parts * tokens, hidden, 0, tokens)?;
        Ok(Self { tokens, hidden, vectors })
    }
}

#[derive(Deserialize)]
struct PeftKind {
    peft_type: String,
}

/// PEFT's `PromptTuningConfig`, the fields that matter.
#[derive(Serialize, Deserialize)]
struct PeftConfig {
    peft_type: String,
    task_type: Option<String>,
    num_virtual_tokens: usize,
    token_dim: usize,
    num_layers: Option<usize>,
    num_attention_heads: Option<usize>,
    num_transformer_submodules: Option<usize>,
    prompt_tuning_init: Option<String>,
    base_model_name_or_path: Option<String>,
    #[serde(default)]
    inference_mode: bool,
}
