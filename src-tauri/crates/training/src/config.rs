//! The knobs of prompt tuning, each with its reason.

use crate::TrainError;
use crate::data::hex;
use model::{LlamaConfig, SoftPrompt};
use sha2::{Digest, Sha256};

/// Where a soft prompt starts.
#[derive(Debug, Clone, PartialEq)]
pub enum PromptStart {
    /// Embeddings of these tokens, repeated until there are enough (§3.2 of arXiv 2104.08691).
    Tokens(Vec<u32>),
    /// Embeddings of tokens drawn from the vocabulary by the seed.
    Vocabulary,
    /// A soft prompt that was trained before.
    Trained(SoftPrompt),
}

#[derive(Debug, Clone, PartialEq)]
pub struct SoftPromptConfig {
    /// Vectors before the text. More hold more, and every one is a row of every sequence.
    pub virtual_tokens: usize,
    pub start: PromptStart,
    /// Updates.
    pub steps: u32,
    /// Examples of an update.
    pub batch_size: usize,
    /// Peak rate. Soft prompts want some hundred times the rate of weights: there are few of them and each is used everywhere.
    pub learning_rate: f64,
    /// Updates until the peak: AdamW's first ones are signs, not sizes.
    pub warmup_steps: u32,
    /// Share of the peak rate that is left at the end.
    pub final_rate: f64,
    pub weight_decay: f64,
    /// Longest gradient.
    pub clip_norm: f64,
    /// Rows that go through the base at once: more is faster, fewer yields sooner and needs less memory.
    pub rows_at_once: usize,
    /// Updates between two measurements on held-out examples.
    pub heldout_every: u32,
    /// Measurements without a new best after which training ends; `None` never ends early.
    pub patience: Option<u32>,
    /// Updates between two checkpoints; 0 keeps only the last.
    pub checkpoint_steps: u32,
    pub checkpoints_kept: usize,
    pub seed: u64,
    /// Worker threads; 0 takes one per core.
    pub threads: usize,
    /// Computes each layer twice rather than keep what its backward pass needs: a third more time, far less memory.
    pub recompute: bool,
}

/// For 10–40 texts on the built-in base. Of the rates tried there (0.003 to 0.1), 0.01 learned a plain trait (text in lower
/// case) almost as fast as 0.03 and fitted single texts less; either way held-out loss of texts that the base knows is at its
/// best after 15–60 updates and rises from there, hence the frequent measurements and the patience.
impl Default for SoftPromptConfig {
    fn default() -> Self {
        Self {
            virtual_tokens: 16,
            start: PromptStart::Vocabulary,
            steps: 120,
            batch_size: 4,
            learning_rate: 0.01,
            warmup_steps: 10,
            final_rate: 0.1,
            weight_decay: 0.0,
            clip_norm: 1.0,
            rows_at_once: 1024,
            heldout_every: 10,
            patience: Some(4),
            checkpoint_steps: 25,
            checkpoints_kept: 3,
            seed: 0,
            threads: 0,
            recompute: false,
        }
    }
}

impl SoftPromptConfig {
    /// # Errors
    /// `Config` with the first field that makes no sense for this base.
    pub fn check(&self, base: &LlamaConfig) -> Result<(), TrainError> {
        let fault = |field, value: String, allowed| Err(TrainError::Config { field, value, allowed });
        let in_range = |value: f64, low: f64, high: f64| value.is_finite() && (low..=high).contains(&value);
        if self.virtual_tokens == 0 || self.virtual_tokens >= base.context {
            return fault("virtual_tokens", self.virtual_tokens.to_string(), "from 1 up to the context of the base");
        }
        if self.steps == 0 {
            return fault("steps", self.steps.to_string(), "at least 1");
        }
        if self.batch_size == 0 {
            return fault("batch_size", self.batch_size.to_string(), "at least 1");
        }
        if !in_range(self.learning_rate, f64::MIN_POSITIVE, f64::MAX) {
            return fault("learning_rate", self.learning_rate.to_string(), "above 0");
        }
        if !in_range(self.final_rate, 0.0, 1.0) {
            return fault("final_rate", self.final_rate.to_string(), "from 0 to 1");
        }
        if !in_range(self.weight_decay, 0.0, f64::MAX) {
            return fault("weight_decay", self.weight_decay.to_string(), "0 or above");
        }
        if !in_range(self.clip_norm, f64::MIN_POSITIVE, f64::MAX) {
            return fault("clip_norm", self.clip_norm.to_string(), "above 0");
        }
        if self.heldout_every == 0 {
            return fault("heldout_every", self.heldout_every.to_string(), "at least 1");
        }
        if self.checkpoints_kept == 0 {
            return fault("checkpoints_kept", self.checkpoints_kept.to_string(), "at least 1");
        }
        match &self.start {
            PromptStart::Vocabulary => Ok(()),
            PromptStart::Tokens(tokens) if tokens.is_empty() => fault("start", "no token".to_owned(), "at least one token"),
            PromptStart::Tokens(tokens) => match tokens.iter().find(|token| **token as usize >= base.vocab) {
                Some(token) => fault("start", format!("token {token}"), "in the vocabulary of the base"),
                None => Ok(()),
            },
            PromptStart::Trained(prompt)
                if prompt.tokens != self.virtual_tokens
                    || prompt.hidden != base.hidden
                    || prompt.vectors.len() != self.virtual_tokens * base.hidden =>
            {
                fault("start", format!("a soft prompt of {} × {}", prompt.tokens, prompt.hidden), "as large as the new one")
            }
            PromptStart::Trained(_) => Ok(()),
        }
    }

    /// SHA-256 over all that a result depends on, in hexadecimal. Threads, checkpoints and recomputation are left out:
    /// a run may go on with others.
    pub fn identity(&self) -> String {
        let mut hash = Sha256::new();
        for number in [
            self.virtual_tokens as u64,
            u64::from(self.steps),
            self.batch_size as u64,
            self.learning_rate.to_bits(),
            u64::from(self.warmup_steps),
            self.final_rate.to_bits(),
            self.weight_decay.to_bits(),
            self.clip_norm.to_bits(),
            self.rows_at_once as u64,
            u64::from(self.heldout_every),
            self.patience.map_or(u64::MAX, u64::from),
            self.seed,
        ] {
            hash.update(number.to_le_bytes());
        }
        match &self.start {
            PromptStart::Vocabulary => hash.update(b"vocabulary"),
            PromptStart::Tokens(tokens) => {
                hash.update(b"tokens");
                tokens.iter().for_each(|token| hash.update(token.to_le_bytes()));
            }
            PromptStart::Trained(prompt) => {
                hash.update(b"trained");
                prompt.vectors.iter().for_each(|value| hash.update(value.to_le_bytes()));
            }
        }
        hex(&hash.finalize())
    }
}
