//! `inkling bench train`: what one step of a training costs on this machine.

use crate::bench::unknown;
use crate::memory::{peak_process_mb, reset_peak};
use domain::ApiError;
use model::bench::Shape;
use model::{LoraShape, Projection, T5Config};
use serde::Serialize;
use serde_json::json;
use std::path::{Path, PathBuf};
use training::{
    Benched, BenchedLoss, Quantisation, StepBench, StepError, StepFigures, StepReference, TrainableLlama, bench_step, bench_t5_step,
    compare_step, random_base, random_t5,
};

/// What to time.
#[derive(Debug, Clone)]
pub struct TrainBench {
    /// `soft-prompt`, `lora` or `dora`.
    pub recipe: String,
    /// `sft`, `dpo` or `kto`.
    pub objective: String,
    /// A known shape, or `flan-t5-small` for a soft prompt; with `weights` only for a folder without config.json.
    pub shape: String,
    /// A folder with model.safetensors; random weights without.
    pub weights: Option<PathBuf>,
    pub batch: usize,
    pub seq: usize,
    /// Tokens of each text, in place of `batch` texts of `seq`.
    pub lengths: Vec<usize>,
    /// Tokens that a T5 answers each text with.
    pub answer: usize,
    pub rank: usize,
    pub virtual_tokens: usize,
    pub steps: usize,
    /// 0: one per core.
    pub threads: usize,
    pub rows_at_once: usize,
    /// `f32`, `bf16`, `int8` or `int4`.
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
        other => return Err(unknown("recipe", other, &["soft-prompt", "lora", "dora"])),
    };
    let loss = match bench.objective.as_str() {
        "sft" => BenchedLoss::Examples,
        "dpo" => BenchedLoss::Pairs,
        "kto" => BenchedLoss::Singles,
        other => return Err(unknown("objective", other, &["sft", "dpo", "kto"])),
    };
    let lengths = if bench.lengths.is_empty() { vec![bench.seq; bench.batch] } else { bench.lengths.clone() };
    let (threads, rows_at_once) = (bench.threads, bench.rows_at_once);
    let step = StepBench {
        benched: benched.clone(),
        loss,
        lengths,
        steps: bench.steps,
        warmup: 1,
        threads,
        rows_at_once,
        recompute: bench.recompute,
    };
    if let (FLAN_T5_SMALL, Benched::SoftPrompt { virtual_tokens }) = (bench.shape.as_str(), &benched) {
        let base = random_t5(flan_t5_small(), quantisation(bench)?);
        reset_peak();
        return Ok(result(bench_t5_step(&base, *virtual_tokens, bench.answer, &step)?, None));
    }
    let base = base(bench)?;
    // Loading holds more than training does.
    reset_peak();
    let error = match (&bench.reference, &benched) {
        (Some(path), Benched::Lora(shape)) => Some(compare_step(&base, shape, threads, rows_at_once, &StepReference::read(path)?)?),
        (Some(_), Benched::SoftPrompt { .. }) => return Err(unknown("reference for the recipe", "soft-prompt", &["lora", "dora"])),
        (None, _) => None,
    };
    Ok(result(bench_step(&base, &step)?, error))
}

fn result(figures: StepFigures, error: Option<StepError>) -> TrainBenchResult {
    let StepFigures { median_step_s, min_step_s, loss } = figures;
    TrainBenchResult {
        median_step_s,
        min_step_s,
        loss,
        peak_memory_mb: peak_process_mb(),
        loss_error: error.map(|error| error.loss_error),
        gradient_error: error.map(|error| error.gradient_error),
    }
}

const FLAN_T5_SMALL: &str = "flan-t5-small";

fn flan_t5_small() -> T5Config {
    T5Config {
        hidden: 512,
        intermediate: 1024,
        encoder_layers: 8,
        decoder_layers: 8,
        heads: 6,
        head_dim: 64,
        vocab: 32_128,
        buckets: 32,
        max_distance: 128,
        norm_eps: 1e-6,
        gated: true,
        scaled_logits: false,
        start: 0,
        eos: Some(1),
        pad: Some(0),
    }
}

fn quantisation(bench: &TrainBench) -> Result<Option<Quantisation>, ApiError> {
    Ok(match bench.quantization.as_str() {
        "f32" | "fp32" => None,
        "bf16" => Some(Quantisation::Bf16),
        "int8" => Some(Quantisation::Int8),
        "int4" => Some(Quantisation::Int4),
        other => return Err(unknown("quantization", other, &["f32", "bf16", "int8", "int4"])),
    })
}

fn base(bench: &TrainBench) -> Result<TrainableLlama, ApiError> {
    let quantisation = quantisation(bench)?;
    let shape = Shape::named(&bench.shape).ok_or_else(|| unknown("shape", &bench.shape, &Shape::ALL.map(Shape::name)))?;
    let load = |folder: &Path| Ok(TrainableLlama::load(folder, quantisation)?);
    match &bench.weights {
        None => Ok(random_base(shape.config(), quantisation)?),
        Some(folder) if folder.join("config.json").exists() => load(folder),
        // The dumps of the benchmark scripts hold weights only: they are lent the shape's config.
        Some(folder) => {
            let whole = std::env::temp_dir().join(format!("inkling-bench-{}", std::process::id()));
            let written = std::fs::create_dir_all(&whole).and_then(|()| {
                std::fs::write(whole.join("config.json"), config_json(shape))?;
                link(&folder.join("model.safetensors"), &whole.join("model.safetensors"))
            });
            let base = written.map_err(ApiError::internal).and_then(|()| load(&whole));
            // A leftover in the temporary folder harms nothing.
            let _ = std::fs::remove_dir_all(&whole);
            base
        }
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

/// config.json of a shape.
fn config_json(shape: Shape) -> String {
    let config = shape.config();
    let json = json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu", "hidden_size": config.hidden,
        "intermediate_size": config.intermediate, "num_hidden_layers": config.layers, "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads, "head_dim": config.head_dim, "vocab_size": config.vocab,
        "max_position_embeddings": config.context, "rms_norm_eps": config.rms_eps, "rope_theta": config.rope_theta,
        "tie_word_embeddings": config.tied,
    });
    json.to_string()
}
