//! `inkling bench train`: what one step of a training costs on this machine.

use crate::memory::{peak_process_mb, reset_peak};
use domain::{ApiError, ErrorCode};
use model::{DenseWeights, LlamaConfig, LoraShape, Projection};
use serde::Serialize;
use serde_json::json;
use std::path::{Path, PathBuf};
use training::{
    Benched, BenchedLoss, Quantisation, StepBench, StepFigures, StepReference, TrainableLlama, bench_step, compare_step, random_base,
};

/// What to time.
#[derive(Debug, Clone)]
pub struct TrainBench {
    /// `soft-prompt`, `lora` or `dora`.
    pub recipe: String,
    /// `sft`, `dpo` or `kto`.
    pub objective: String,
    /// A known shape; with `weights` only for a folder without config.json.
    pub shape: String,
    /// A folder with model.safetensors; random weights without.
    pub weights: Option<PathBuf>,
    pub batch: usize,
    pub seq: usize,
    /// Tokens of each text, in place of `batch` texts of `seq`.
    pub lengths: Vec<usize>,
    pub rank: usize,
    pub virtual_tokens: usize,
    pub steps: usize,
    /// 0: one per core.
    pub threads: usize,
    pub rows_at_once: usize,
    /// `f32`, `int8` or `int4`.
    pub quantization: String,
    pub recompute: bool,
    /// A dump of bench_peft_lora_llama.py to compare loss and gradient with.
    pub reference: Option<PathBuf>,
}

#[derive(Debug, Clone, Serialize)]
pub struct TrainBenchResult {
    pub median_step_s: f64,
    pub min_step_s: f64,
    pub loss: f64,
    /// Of the whole process, from when the base was there.
    pub peak_memory_mb: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loss_error: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gradient_error: Option<f64>,
}

/// Times steps; nothing is kept and no data folder is opened.
///
/// # Errors
/// `InvalidInput` for a word, a shape or a reference that cannot be, and what loading the weights says.
pub fn bench_train(bench: &TrainBench) -> Result<TrainBenchResult, ApiError> {
    let shape = LoraShape {
        rank: bench.rank,
        alpha: 2.0 * bench.rank as f32,
        rank_stabilised: false,
        dora: bench.recipe == "dora",
        targets: Projection::ALL.to_vec(),
    };
    let benched = match bench.recipe.as_str() {
        "soft-prompt" => Benched::SoftPrompt { virtual_tokens: bench.virtual_tokens },
        "lora" | "dora" => Benched::Lora(shape.clone()),
        other => return Err(unknown("recipe", other, "soft-prompt, lora or dora")),
    };
    let loss = match bench.objective.as_str() {
        "sft" => BenchedLoss::Examples,
        "dpo" => BenchedLoss::Pairs,
        "kto" => BenchedLoss::Singles,
        other => return Err(unknown("objective", other, "sft, dpo or kto")),
    };
    let base = base(bench)?;
    // Loading holds more than training does.
    reset_peak();
    let lengths = if bench.lengths.is_empty() { vec![bench.seq; bench.batch] } else { bench.lengths.clone() };
    let (threads, rows_at_once) = (bench.threads, bench.rows_at_once);
    let error = match (&bench.reference, &benched) {
        (Some(path), Benched::Lora(shape)) => Some(compare_step(&base, shape, threads, rows_at_once, &StepReference::read(path)?)?),
        (Some(_), Benched::SoftPrompt { .. }) => return Err(unknown("reference", "for a soft prompt", "one of lora or dora")),
        (None, _) => None,
    };
    let step = StepBench { benched, loss, lengths, steps: bench.steps, warmup: 1, threads, rows_at_once, recompute: bench.recompute };
    let StepFigures { median_step_s, min_step_s, loss } = bench_step(&base, &step)?;
    Ok(TrainBenchResult {
        median_step_s,
        min_step_s,
        loss,
        peak_memory_mb: peak_process_mb(),
        loss_error: error.map(|error| error.loss_error),
        gradient_error: error.map(|error| error.gradient_error),
    })
}

fn base(bench: &TrainBench) -> Result<TrainableLlama, ApiError> {
    let quantisation = match bench.quantization.as_str() {
        "f32" | "fp32" => None,
        "int8" => Some(Quantisation::Int8),
        "int4" => Some(Quantisation::Int4),
        other => return Err(unknown("quantization", other, "f32, int8 or int4")),
    };
    let with_config = |work: &dyn Fn(&Path) -> Result<TrainableLlama, ApiError>| {
        let folder = std::env::temp_dir().join(format!("inkling-bench-{}", std::process::id()));
        let written = std::fs::create_dir_all(&folder).and_then(|()| {
            std::fs::write(folder.join("config.json"), config_of(&bench.shape).unwrap_or_default())?;
            match &bench.weights {
                Some(weights) => link(&weights.join("model.safetensors"), &folder.join("model.safetensors")),
                None => Ok(()),
            }
        });
        let base = written.map_err(ApiError::internal).and_then(|()| work(&folder));
        // A leftover in the temporary folder harms nothing.
        let _ = std::fs::remove_dir_all(&folder);
        base
    };
    if config_of(&bench.shape).is_none() {
        return Err(unknown("shape", &bench.shape, "smollm2-135m, tinyllama-1.1b or story"));
    }
    let load = |folder: &Path| {
        let weights = DenseWeights::load(folder)?;
        Ok(match quantisation {
            Some(quantisation) => TrainableLlama::quantised(weights, quantisation)?,
            None => TrainableLlama::new(weights)?,
        })
    };
    match &bench.weights {
        Some(folder) if folder.join("config.json").exists() => load(folder),
        // The dumps of the benchmark scripts hold weights only.
        Some(_) => with_config(&load),
        None => with_config(&|folder| Ok(random_base(LlamaConfig::load(folder)?, quantisation)?)),
    }
}

#[cfg(unix)]
fn link(from: &Path, to: &Path) -> std::io::Result<()> {
    std::os::unix::fs::symlink(std::fs::canonicalize(from)?, to)
}

#[cfg(not(unix))]
fn link(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::copy(from, to).map(drop)
}

/// config.json of a known shape: hidden, intermediate, layers, heads, key/value heads, vocabulary, rope theta.
fn config_of(shape: &str) -> Option<String> {
    let (hidden, inner, layers, heads, kv_heads, vocab, theta) = match shape {
        "smollm2-135m" => (576, 1536, 30, 9, 3, 49_152, 100_000.0),
        "tinyllama-1.1b" => (2048, 5632, 22, 32, 4, 32_000, 10_000.0),
        "story" => (256, 768, 6, 4, 2, 8192, 10_000.0),
        _ => return None,
    };
    let config = json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu", "hidden_size": hidden,
        "intermediate_size": inner, "num_hidden_layers": layers, "num_attention_heads": heads, "num_key_value_heads": kv_heads,
        "head_dim": 64, "vocab_size": vocab, "max_position_embeddings": 8192, "rms_norm_eps": 1e-5, "rope_theta": theta,
        "tie_word_embeddings": true,
    });
    Some(config.to_string())
}

fn unknown(what: &str, found: &str, allowed: &str) -> ApiError {
    ApiError::new(ErrorCode::InvalidInput, format!("The {what} is {found}, but must be {allowed}."))
}
