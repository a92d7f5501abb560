//! The numbers of a training: as asked for, and as used.

use crate::Objective;
use serde::{Deserialize, Serialize};
use specta::Type;

/// How the frozen base is held while something beside it is trained.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, Type)]
#[serde(rename_all = "snake_case")]
pub enum BasePrecision {
    #[default]
    Fp32,
    /// Half the memory, and faster where the processor multiplies bf16; the loss hardly changes.
    Bf16,
    /// Accepted for scripts that say so, and held as bf16, the halves that processors multiply.
    Fp16,
    /// A quarter of the memory (QLoRA, arXiv 2305.14314).
    Int8,
    /// An eighth of the memory, a little coarser.
    Int4,
}

/// How the learning rate falls after the warm-up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, Type)]
#[serde(rename_all = "snake_case")]
pub enum Schedule {
    #[default]
    Cosine,
    Linear,
    Constant,
}

/// Hyper-parameters as asked for; what is left out comes from the settings.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, Type)]
#[serde(deny_unknown_fields)]
pub struct HyperparameterChoice {
    #[serde(default)]
    pub virtual_tokens: Option<u32>,
    /// Of LoRA and DoRA.
    #[serde(default)]
    pub rank: Option<u32>,
    /// Of LoRA and DoRA: the change is scaled by alpha / rank.
    #[serde(default)]
    pub alpha: Option<f64>,
    /// Of LoRA and DoRA: the share of their input that is left out of each step.
    #[serde(default)]
    pub dropout: Option<f64>,
    /// Of LoRA and DoRA: names as PEFT has them, such as `q_proj`; `all-linear` is all of them.
    #[serde(default)]
    pub target_modules: Option<Vec<String>>,
    /// Of LoRA and DoRA: only the last so many layers, those nearest to the words.
    #[serde(default)]
    pub layers: Option<u32>,
    /// Of LoRA and DoRA: scales by alpha / √rank instead (rsLoRA, arXiv 2312.03732).
    #[serde(default)]
    pub rank_stabilised: Option<bool>,
    #[serde(default)]
    pub quantization: Option<BasePrecision>,
    /// Of DPO, KTO and ORPO: how dear it is to leave the base; with ORPO, how much the odds count.
    #[serde(default)]
    pub beta: Option<f64>,
    #[serde(default)]
    pub learning_rate: Option<f64>,
    /// Steps until the learning rate has risen to its peak.
    #[serde(default)]
    pub warmup_steps: Option<u32>,
    #[serde(default)]
    pub schedule: Option<Schedule>,
    #[serde(default)]
    pub epochs: Option<u32>,
    /// Overrides epochs.
    #[serde(default)]
    pub steps: Option<u32>,
    #[serde(default)]
    pub batch_size: Option<u32>,
    /// A step takes so many batches: what counts is the product.
    #[serde(default)]
    pub gradient_accumulation: Option<u32>,
    #[serde(default)]
    pub max_samples: Option<u32>,
    #[serde(default)]
    pub source_max_tokens: Option<u32>,
    #[serde(default)]
    pub target_max_tokens: Option<u32>,
    #[serde(default)]
    pub checkpoint_steps: Option<u32>,
    #[serde(default)]
    pub checkpoints_kept: Option<u32>,
    #[serde(default)]
    pub seed: Option<u32>,
}

/// Hyper-parameters as used; recorded with the run. Defaults stand for what runs older than a field had.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Type)]
pub struct Hyperparameters {
    /// Of a soft prompt.
    pub virtual_tokens: u32,
    #[serde(default)]
    pub objective: Objective,
    /// Of LoRA and DoRA; 0 in runs older than these.
    #[serde(default)]
    pub rank: u32,
    #[serde(default)]
    pub alpha: f64,
    #[serde(default)]
    pub dropout: f64,
    /// Of LoRA and DoRA; empty stands for all.
    #[serde(default)]
    pub target_modules: Vec<String>,
    /// Of LoRA and DoRA: so many of the last layers; 0 stands for all.
    #[serde(default)]
    pub layers: u32,
    #[serde(default)]
    pub rank_stabilised: bool,
    #[serde(default)]
    pub quantization: BasePrecision,
    #[serde(default = "usual_beta")]
    pub beta: f64,
    pub learning_rate: f64,
    #[serde(default = "usual_warmup")]
    pub warmup_steps: u32,
    #[serde(default)]
    pub schedule: Schedule,
    pub epochs: u32,
    pub steps: u32,
    /// Texts of a step.
    pub batch_size: u32,
    pub max_samples: u32,
    pub source_max_tokens: u32,
    pub target_max_tokens: u32,
    pub checkpoint_steps: u32,
    pub checkpoints_kept: u32,
    pub seed: u32,
    pub threads: u32,
}

/// Of runs that did not say.
pub fn usual_beta() -> f64 {
    0.1
}

pub fn usual_warmup() -> u32 {
    10
}
