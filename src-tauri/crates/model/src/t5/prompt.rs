//! Soft prompts of T5 in PEFT's file layout: vectors before the encoder's text, and before the decoder's where PEFT was told so.

use crate::ModelError;
use crate::checkpoint::Checkpoint;
use crate::files::read_capped;
use serde::Deserialize;
use std::path::Path;

const MAX_CONFIG_BYTES: u64 = 1 << 20;
const MAX_TOKENS: usize = 4_096;

/// Trained vectors that take the place of the embeddings of `tokens` tokens.
#[derive(Debug, Clone, PartialEq)]
pub struct T5SoftPrompt {
    pub tokens: usize,
    pub hidden: usize,
    /// `[tokens, hidden]`, before what the encoder reads.
    pub encoder: Vec<f32>,
    /// `[tokens, hidden]`, before what the decoder reads (PEFT's `num_transformer_submodules = 2`).
    pub decoder: Option<Vec<f32>>,
}

impl T5SoftPrompt {
    /// Reads a folder that PEFT wrote for `PROMPT_TUNING` of a `SEQ_2_SEQ_LM`.
    ///
    /// # Errors
    /// `Missing`, `Io`, `Damaged`, or `Unsupported` for another kind of adapter or task.
    pub fn load(dir: &Path) -> Result<Self, ModelError> {
        let path = dir.join("adapter_config.json");
        let bytes = read_capped(&path, MAX_CONFIG_BYTES)?;
        let raw: RawConfig = serde_json::from_slice(&bytes).map_err(|error| ModelError::damaged(&path, error.to_string()))?;
        if raw.peft_type != "PROMPT_TUNING" || raw.task_type.as_deref() != Some("SEQ_2_SEQ_LM") {
            return Err(ModelError::unsupported(&path, "it is not a soft prompt for an encoder and a decoder"));
        }
        let (tokens, hidden) = (raw.num_virtual_tokens.unwrap_or(0), raw.token_dim.unwrap_or(0));
        // PEFT's own default for this task.
        let parts = raw.num_transformer_submodules.unwrap_or(2);
        if tokens == 0 || tokens > MAX_TOKENS || hidden == 0 || hidden > 1 << 16 || !(1..=2).contains(&parts) {
            return Err(ModelError::damaged(&path, format!("{parts} parts of {tokens} vectors of {hidden} numbers cannot be")));
        }
        let mut file = Checkpoint::open(&dir.join("adapter_model.safetensors"))?;
        let mut encoder = file.rows("prompt_embeddings", parts * tokens, hidden, 0, parts * tokens)?;
        let decoder = (parts == 2).then(|| encoder.split_off(tokens * hidden));
        Ok(Self { tokens, hidden, encoder, decoder })
    }

    pub(crate) fn check(&self) -> Result<(), ModelError> {
        let sound = |vectors: &Vec<f32>| vectors.len() == self.tokens * self.hidden && vectors.iter().all(|value| value.is_finite());
        match self.tokens > 0 && sound(&self.encoder) && self.decoder.as_ref().is_none_or(sound) {
            true => Ok(()),
            false => Err(ModelError::InvalidRequest { reason: "the soft prompt's vectors are not as many as it claims, or not finite" }),
        }
    }
}

#[derive(Deserialize)]
struct RawConfig {
    peft_type: String,
    task_type: Option<String>,
    num_virtual_tokens: Option<usize>,
    token_dim: Option<usize>,
    num_transformer_submodules: Option<usize>,
}
