//! Training recipes, optimizer, batching, checkpoints; knows no store, queue or window.
//!
//! Entry points: [`soft_prompt`], [`lora`] and [`lora_from_judgements`] train, [`estimate`] and [`estimate_lora`] say beforehand what it
//! would cost, [`measure_speed`] and [`measure_lora_speed`] supply the speed for that. A recipe reports to an [`Observer`] and is steered through a [`Control`].

mod batch;
mod bench;
mod bench_reference;
mod checkpoint;
mod control;
mod data;
mod error;
mod estimate;
mod estimate_t5;
mod files;
mod frozen;
mod llama;
mod llama_layer;
mod lora;
mod lora_config;
mod low_rank;
mod objective;
mod optimizer;
mod preference;
mod priority;
mod report;
mod run;
mod run_config;
mod schedule;
mod search;
mod seed;
mod soft_prompt;
mod soft_prompt_config;
mod state;
mod t5;
mod t5_layer;
mod tuned;
mod workspace;

pub use batch::{BatchOrder, PackedBatch};
pub use bench::{
    Benched, BenchedLoss, StepBench, StepError, StepFigures, StepReference, bench_step, bench_t5_step, compare_step, random_base, random_t5,
};
pub use checkpoint::{Best, Checkpoint, Checkpoints, Newest, Point, Progress, RunIdentity, Skipped, Tensor};
pub use control::{Control, ForegroundGate, ForegroundGuard, Stop};
pub use data::{Dataset, Example, Split};
pub use error::TrainError;
pub use estimate::{Estimate, estimate, estimate_judgements, estimate_lora, estimate_prompt_judgements, measure_lora_speed, measure_speed};
pub use estimate_t5::{estimate_t5, measure_t5_speed};
pub use files::{Disk, FileLayer};
pub use kernels::train::{Precision, Quantisation};
pub use llama::TrainableLlama;
pub use lora::{lora, lora_from_judgements, lora_on};
pub use lora_config::{LoraConfig, LoraStart};
pub use low_rank::{Dropout, LoraLayout};
pub use objective::{Judgement, Judgements};
pub use optimizer::AdamW;
pub use preference::{PairLoss, Preference, SingleLoss};
pub use report::Observer;
pub use run::Trained;
pub use run_config::RunConfig;
pub use schedule::{Decay, learning_rate};
pub use search::{Found, Halving, Measured, NextTrial, draw_configurations};
pub use soft_prompt::{soft_prompt, soft_prompt_from_judgements, soft_prompt_on};
pub use soft_prompt_config::{PromptStart, SoftPromptConfig};
pub use state::Outcome;
pub use t5::{T5Batch, TrainableT5};
pub use tuned::{PromptBase, Slopes, Tuned};
pub use workspace::Workspace;
