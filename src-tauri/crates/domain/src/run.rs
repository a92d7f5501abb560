//! The record of one training.

use crate::{AdapterId, ApiError, BaseId, Decision, Hyperparameters, JobId, Metric, Phase, Recipe, RunId, SearchPlan, Timestamp, Verdict};
use serde::{Deserialize, Serialize};
use specta::Type;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, Type)]
#[serde(rename_all = "snake_case")]
pub enum RunStatus {
    Queued,
    Running,
    Paused,
    /// The program ended while it ran; it can be resumed from its last checkpoint.
    Interrupted,
    Completed,
    Failed,
    Cancelled,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Type)]
pub struct Run {
    pub run_id: RunId,
    pub job_id: Option<JobId>,
    pub status: RunStatus,
    pub recipe: Recipe,
    pub base: BaseId,
    pub hyperparameters: Hyperparameters,
    /// Set when the training begins with a search; its trials are a call of their own.
    #[serde(default)]
    pub search: Option<SearchPlan>,
    pub phase: Option<Phase>,
    /// The last step reported.
    pub step: u32,
    /// Texts trained on.
    pub samples: u32,
    pub heldout: u32,
    pub final_loss: Option<f64>,
    pub adapter_id: Option<AdapterId>,
    pub verdict: Option<Verdict>,
    pub decision: Option<Decision>,
    pub error: Option<ApiError>,
    pub seconds: Option<f64>,
    pub peak_memory_mb: Option<f64>,
    /// The step of the newest checkpoint, from which a resume would go on.
    pub checkpoint_step: Option<u32>,
    pub directory: String,
    pub triggered_by: String,
    pub created_at: Timestamp,
    pub started_at: Option<Timestamp>,
    pub finished_at: Option<Timestamp>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Type)]
pub struct RunMetrics {
    pub run_id: RunId,
    pub metrics: Vec<Metric>,
}

/// A run's chart as a file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Type)]
pub struct ChartImage {
    pub file_name: String,
    pub mime: String,
    pub base64: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Type)]
#[serde(rename_all = "snake_case")]
pub enum ChartFormat {
    Svg,
    Png,
}
