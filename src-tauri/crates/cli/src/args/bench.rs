//! `inkling bench`: what is measured.

use clap::{Args as Arguments, Subcommand};
use std::path::PathBuf;

#[derive(Debug, Subcommand)]
pub enum Bench {
    /// Reading a prompt and writing candidates that share it
    Decode(BenchOptions),
    /// Reading a prompt alone
    Prefill(BenchOptions),
    /// Waiting for the first word after the start, later, and while a training runs
    Startup(BenchStartup),
    /// One step of a training: forward, backward and update
    Train(Box<BenchTrain>),
}

#[derive(Debug, Arguments)]
pub struct BenchOptions {
    /// A base: a folder or a GGUF file
    #[arg(long, value_name = "FILE|DIR", conflicts_with = "shape")]
    pub model: Option<PathBuf>,
    /// Random weights in the shape of smollm2-135m, tinyllama-1.1b or story: nothing is downloaded
    #[arg(long)]
    pub shape: Option<String>,
    /// With --model int8, int4 or f32, for what is not in blocks already; with --shape Q8_0, Q4_0, Q4_K, …
    #[arg(long)]
    pub format: Option<String>,
    #[arg(long, default_value_t = 2)]
    pub threads: usize,
    /// Candidates written at once
    #[arg(long, default_value_t = 8)]
    pub sequences: usize,
    /// Tokens of the prompt that they share
    #[arg(long, default_value_t = 256)]
    pub prompt: usize,
    /// Tokens of each candidate
    #[arg(long, default_value_t = 64)]
    pub generate: usize,
    /// The median of so many rounds
    #[arg(long, default_value_t = 3)]
    pub rounds: usize,
}

#[derive(Debug, Arguments)]
pub struct BenchStartup {
    /// Candidates of a generation
    #[arg(long, default_value_t = 8)]
    pub sequences: usize,
    /// Tokens of each candidate
    #[arg(long, default_value_t = 150)]
    pub generate: usize,
    /// Medians of so many generations
    #[arg(long, default_value_t = 7)]
    pub rounds: usize,
}

#[derive(Debug, Arguments)]
pub struct BenchTrain {
    /// soft-prompt, lora or dora
    #[arg(long, default_value = "lora")]
    pub recipe: String,
    /// sft, dpo or kto
    #[arg(long, default_value = "sft")]
    pub objective: String,
    /// smollm2-135m, tinyllama-1.1b or story; flan-t5-small for a soft prompt
    #[arg(long, default_value = "smollm2-135m")]
    pub shape: String,
    /// A folder with model.safetensors; random weights without
    #[arg(long, value_name = "FOLDER")]
    pub weights: Option<PathBuf>,
    /// Texts of a step
    #[arg(long, default_value_t = 1)]
    pub batch: usize,
    /// Tokens of a text
    #[arg(long, default_value_t = 256)]
    pub seq: usize,
    /// Tokens of each text, in place of --batch and --seq
    #[arg(long, value_delimiter = ',', value_name = "N,…")]
    pub lengths: Vec<usize>,
    /// Tokens that a T5 answers a text with
    #[arg(long, default_value_t = 64)]
    pub answer: usize,
    #[arg(long, default_value_t = 16)]
    pub rank: usize,
    #[arg(long, default_value_t = 20)]
    pub num_virtual_tokens: usize,
    #[arg(long, default_value_t = 5)]
    pub steps: usize,
    /// 0 takes one per core
    #[arg(long, default_value_t = 0)]
    pub threads: usize,
    /// Rows that go through the base at once
    #[arg(long, default_value_t = 512)]
    pub rows_at_once: usize,
    /// How the base is held: f32, bf16, int8 or int4
    #[arg(long, default_value = "f32")]
    pub quantization: String,
    /// Compute layers twice to need less memory
    #[arg(long)]
    pub recompute: bool,
    /// A dump of bench_peft_lora_llama.py to compare loss and gradient with
    #[arg(long, value_name = "FILE")]
    pub reference: Option<PathBuf>,
}
