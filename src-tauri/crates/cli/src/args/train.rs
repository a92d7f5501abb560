//! The options of `inkling train`.

use clap::{Args as Arguments, Subcommand};
use std::path::PathBuf;

#[derive(Debug, Subcommand)]
pub enum Train {
    /// Learn a soft prompt from the texts you liked
    SoftPrompt(Box<SoftPrompt>),
    /// Learn a LoRA, a DoRA or a soft prompt from the texts you liked, or from a file
    Adapter(Box<Adapter>),
    /// Learn your taste anew from all your verdicts
    Preference {
        #[arg(long, default_value_t = 5)]
        epochs: u32,
        #[arg(long, default_value_t = 5000)]
        vocab_size: u32,
        #[arg(long, default_value_t = 0.1)]
        lr: f64,
    },
}

/// The methods of `train adapter`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Peft {
    Lora,
    Dora,
    /// A LoRA on a base that is held in int4, or int8 if --quantization says so
    Qlora,
    #[value(name = "soft_prompt", alias = "soft-prompt")]
    SoftPrompt,
}

/// How the base is held while something beside it is trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Held {
    /// As it is
    Fp32,
    /// Half the memory, and faster where the processor multiplies bf16
    Bf16,
    /// The same as bf16
    Fp16,
    /// A quarter of the memory
    Int8,
    /// An eighth of the memory, a little coarser
    Int4,
}

/// How the learning rate falls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Decay {
    Cosine,
    Linear,
    Constant,
}

/// What `train adapter` learns from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Mode {
    /// Liked texts
    Sft,
    /// Pairs of a better and a worse text
    Dpo,
    /// Thumbs up and down
    Kto,
    /// Pairs, the better texts learned as in sft at once
    Orpo,
}

/// Options that every training has.
#[derive(Debug, Arguments)]
pub struct Numbers {
    /// Exactly so many steps, whatever the epochs
    #[arg(long)]
    pub steps: Option<u32>,
    /// Steps until the learning rate is at its peak [default: 10]
    #[arg(long)]
    pub warmup_steps: Option<u32>,
    /// How the learning rate falls from its peak [default: cosine]
    #[arg(long, value_enum)]
    pub schedule: Option<Decay>,
    /// The same seed and data give the same adapter
    #[arg(long)]
    pub seed: Option<u32>,
    /// Try other methods and numbers first, and train with what does best on texts kept back
    #[arg(long)]
    pub search: bool,
    /// The longest time for that, in minutes [default: the setting]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub search_minutes: Option<f64>,
}

#[derive(Debug, Arguments)]
pub struct Adapter {
    /// What to learn from [default: thumbs up and down where there are some of each, else liked texts]
    #[arg(long, value_enum)]
    pub mode: Option<Mode>,
    /// The method [default: lora; with --search the best one, else only numbers of this one are tried]
    #[arg(long, value_enum)]
    pub peft: Option<Peft>,
    /// How large a change may be [default: the setting]
    #[arg(long)]
    pub rank: Option<u32>,
    /// The change is scaled by alpha over rank [default: the setting]
    #[arg(long, allow_negative_numbers = true)]
    pub alpha: Option<f64>,
    /// The share of what an adapter reads that is left out of each step [default: 0]
    #[arg(long, allow_negative_numbers = true)]
    pub dropout: Option<f64>,
    /// The modules that a LoRA or DoRA changes, such as q_proj,v_proj [default: all-linear]
    #[arg(long, value_delimiter = ',', value_name = "MODULES")]
    pub target_modules: Option<Vec<String>>,
    /// Only the last so many layers [default: all]
    #[arg(long)]
    pub layers: Option<u32>,
    /// Scale by alpha over the root of the rank (rsLoRA)
    #[arg(long)]
    pub use_rslora: bool,
    /// Learned vectors before the prompt, of a soft prompt
    #[arg(long)]
    pub num_virtual_tokens: Option<u32>,
    /// How the base is held while training [default: fp32; int4 with --peft qlora]
    #[arg(long, value_enum)]
    pub quantization: Option<Held>,
    /// How dear it is to leave the base (DPO, KTO), or how much the odds count (ORPO) [default: 0.1]
    #[arg(long, allow_negative_numbers = true)]
    pub beta: Option<f64>,
    /// The base to train on; left out, the built-in one
    #[arg(long)]
    pub base_model: Option<String>,
    /// Learn from this file instead of your thumbs: JSON Lines, a JSON array or CSV
    #[arg(long, value_name = "FILE")]
    pub data: Option<PathBuf>,
    /// Show what it would learn from and cost, and which rows are skipped; start nothing
    #[arg(long)]
    pub plan: bool,
    /// Go on from the last checkpoint of this run (an id or its folder)
    #[arg(long, value_name = "RUN", conflicts_with = "no_resume")]
    pub resume_from: Option<PathBuf>,
    /// Start anew even where the same training was interrupted
    #[arg(long)]
    pub no_resume: bool,
    /// Also put the finished adapter and training_run.json here, and move `latest`
    #[arg(long)]
    pub output_dir: Option<PathBuf>,
    /// How often each text is seen
    #[arg(long)]
    pub epochs: Option<u32>,
    /// How large each step is
    #[arg(long, allow_negative_numbers = true)]
    pub lr: Option<f64>,
    /// Texts per step
    #[arg(long)]
    pub batch_size: Option<u32>,
    /// Batches per step
    #[arg(long)]
    pub grad_accum: Option<u32>,
    /// Longest text in tokens [default: 384]
    #[arg(long)]
    pub max_seq_len: Option<u32>,
    /// Steps between two saved states
    #[arg(long)]
    pub checkpoint_steps: Option<u32>,
    /// Saved states that are kept
    #[arg(long)]
    pub checkpoint_total_limit: Option<u32>,
    #[command(flatten)]
    pub numbers: Numbers,
}

#[derive(Debug, Arguments)]
pub struct SoftPrompt {
    /// Learn from this data folder, or its inkling.db
    #[arg(long)]
    pub db_path: Option<PathBuf>,
    /// Also put the finished adapter and training_run.json here, and move `latest`
    #[arg(long)]
    pub output_dir: Option<PathBuf>,
    /// Put the finished adapter and training_run.json into this folder
    #[arg(long)]
    pub run_directory: Option<PathBuf>,
    /// What the finished run is called in --output-dir and in training_run.json [default: its own id]
    #[arg(long)]
    pub run_id: Option<String>,
    /// Go on from the last checkpoint of this run (an id or its folder)
    #[arg(long, value_name = "RUN")]
    pub resume_from: Option<PathBuf>,
    /// The base to train on; left out, the built-in one
    #[arg(long)]
    pub base_model: Option<String>,
    /// Most texts to learn from [default: 2000]
    #[arg(long)]
    pub max_samples: Option<u32>,
    /// How often each text is seen
    #[arg(long)]
    pub epochs: Option<u32>,
    /// How large each step is
    #[arg(long, allow_negative_numbers = true)]
    pub learning_rate: Option<f64>,
    /// Texts per step
    #[arg(long)]
    pub batch_size: Option<u32>,
    /// Longest prompt in tokens [default: 384]
    #[arg(long)]
    pub source_max_tokens: Option<u32>,
    /// Longest text in tokens [default: 384]
    #[arg(long)]
    pub target_max_tokens: Option<u32>,
    /// Learned vectors before the prompt
    #[arg(long)]
    pub num_virtual_tokens: Option<u32>,
    #[command(flatten)]
    pub numbers: Numbers,
}
