//! Training recipes, optimizer, batching, checkpoints; knows no store, queue or window.
//!
//! Entry points: [`soft_prompt`], [`lora`] and [`lora_from_judgements`] train, [`estimate`] and [`estimate_lora`] say beforehand what it
//! would cost, [`measure_speed`] and [`measure_lora_speed`] supply the speed for that. A recipe reports to an [`Observer`] and is steered through a [`Control`].

mod adapted;
mod batch;
mod checkpoint;
mod config;
mod control;
mod data;
mod error;
mod estimate;
mod files;
mod linear;
mod llama;
mod lora;
mod lora_config;
mod low_rank;
mod objective;
mod optimizer;
mod priority;
mod report;
mod schedule;
mod seed;
mod soft_prompt;
mod state;
mod workspace;

pub use batch::{BatchOrder, PackedBatch};
pub use checkpoint::{Best, Checkpoint, Checkpoints, Newest, Point, Progress, RunIdentity, Skipped, Tensor};
pub use config::{PromptStart, SoftPromptConfig};
pub use control::{Control, ForegroundGate, ForegroundGuard, Stop};
pub use data::{Dataset, Example, Split};
pub use error::TrainError;
pub use estimate::{Estimate, estimate, estimate_judgements, estimate_lora, measure_lora_speed, measure_speed};
pub use files::{Disk, FileLayer};
pub use llama::TrainableLlama;
pub use lora::{TrainedLora, lora, lora_from_judgements, lora_on};
pub use lora_config::{LoraConfig, LoraStart};
pub use low_rank::LoraLayout;
pub use objective::{Judgement, Judgements};
pub use optimizer::AdamW;
pub use report::Observer;
pub use schedule::learning_rate;
pub use soft_prompt::{Trained, soft_prompt, soft_prompt_on};
pub use state::Outcome;
pub use workspace::Workspace;
