//! Auto-train: examples that the app writes for itself, and the personal adapter that learns from them.

use crate::{ApiError, AutoTrainId, ExampleId, Genre, JobId, JobState, QualityPart, RunId, Style, Timestamp};
use serde::{Deserialize, Serialize};
use specta::Type;
use std::collections::BTreeMap;

/// `POST /api/v1/auto-train`. Names are text, so that an unknown one is a fault of its field among all others.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Type)]
#[serde(deny_unknown_fields)]
pub struct AutoTrainRequest {
    /// Whose examples and personal adapter these are; `me` when left out.
    #[serde(default)]
    pub user_id: Option<String>,
    /// 1–500.
    #[serde(default = "fifty")]
    pub num_examples: u32,
    /// All when left out or empty.
    #[serde(default)]
    pub genres: Option<Vec<String>>,
    /// Style modifiers; all ten when left out or empty.
    #[serde(default)]
    pub styles: Option<Vec<String>>,
    /// Mark the examples for retrieval.
    #[serde(default)]
    pub store_in_memory: bool,
    /// The same seed and settings give the same examples; left out, a fresh one is drawn and reported.
    #[serde(default)]
    pub seed: Option<u32>,
    /// Candidates that each example is voted from, 1–16.
    #[serde(default)]
    pub n: Option<u32>,
    /// Longest text in tokens, 16–900.
    #[serde(default)]
    pub max_tokens: Option<u32>,
}

fn fifty() -> u32 {
    50
}

impl Default for AutoTrainRequest {
    fn default() -> Self {
        Self {
            user_id: None,
            num_examples: fifty(),
            genres: None,
            styles: None,
            store_in_memory: false,
            seed: None,
            n: None,
            max_tokens: None,
        }
    }
}

/// A session of auto-train: what was asked for, with every default filled in, and how far it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Type)]
pub struct AutoTrain {
    pub id: AutoTrainId,
    pub job_id: JobId,
    pub state: JobState,
    pub settings: AutoTrainSettings,
    /// Examples tried so far; each is either successful or failed.
    pub current: u32,
    pub successful: u32,
    pub failed: u32,
    /// Of the successful ones.
    pub average_quality: Option<f64>,
    /// Spent writing, over all its starts.
    pub seconds: f64,
    /// Seconds left at the speed so far; absent before the first example and after the end.
    pub eta_s: Option<f64>,
    pub latest: Option<AutoTrainAttempt>,
    pub error: Option<ApiError>,
    pub created_at: Timestamp,
    pub finished_at: Option<Timestamp>,
}

/// What a session writes; frozen when it is queued, so that a resume goes on with the same.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Type)]
pub struct AutoTrainSettings {
    pub user_id: String,
    pub num_examples: u32,
    pub genres: Vec<Genre>,
    pub styles: Vec<Style>,
    pub store_in_memory: bool,
    pub seed: u32,
    pub n: u32,
    pub max_tokens: u32,
}

/// One example that was tried.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Type)]
pub struct AutoTrainAttempt {
    /// Place in the session, from 0.
    pub position: u32,
    pub genre: Genre,
    pub style: Style,
    pub prompt: String,
    /// Who wrote the winner of the vote.
    pub member: Option<String>,
    /// 0–10, of the text that was kept or would have been.
    pub quality: Option<f64>,
    /// The example that was kept.
    pub example_id: Option<ExampleId>,
    /// Why none was kept, in words.
    pub reason: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, Type)]
#[serde(rename_all = "snake_case")]
pub enum ExampleSource {
    /// Written by auto-train.
    Auto,
}

/// A prompt with a wanted text, to learn from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Type)]
pub struct Example {
    pub id: ExampleId,
    pub user_id: String,
    pub source: ExampleSource,
    /// The session that made it.
    pub auto_train_id: Option<AutoTrainId>,
    pub prompt: String,
    pub genre: Genre,
    pub style: Option<Style>,
    pub text: String,
    /// 0–10, of the text as it was written.
    pub quality: f64,
    pub quality_parts: Vec<QualityPart>,
    pub member: String,
    pub seed: u32,
    /// Whether the person changed the text.
    pub edited: bool,
    /// Not learned from any more, until it is restored.
    pub dropped: bool,
    /// Marked for retrieval. Nothing retrieves examples yet.
    pub remembered: bool,
    /// The training that learned from it.
    pub learned_by: Option<RunId>,
    pub created_at: Timestamp,
}

/// A session with its outcome; what `POST /auto-train` answers and `inkling auto-train --json` prints.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Type)]
pub struct AutoTrainResult {
    pub auto_train_id: AutoTrainId,
    pub state: JobState,
    pub seed: u32,
    pub total_requested: u32,
    pub successful: u32,
    pub failed: u32,
    /// Kept examples by genre; every genre that was asked for is named.
    pub genre_distribution: BTreeMap<Genre, u32>,
    /// Of the kept examples, 0–10; 0 while there is none.
    pub average_quality: f64,
    /// Seconds spent writing.
    pub total_time: f64,
    pub stored_in_memory: bool,
    pub training_stats: TrainingStats,
    pub ready_for_finetuning: bool,
    /// How often each reason kept a text from becoming an example.
    pub failure_reasons: BTreeMap<String, u32>,
    /// Texts by quality: those from 0 to under 0.5, from 0.5 to under 1, and so on; 10 is in the last of the twenty.
    pub quality_histogram: Vec<u32>,
}

/// What there is to learn from for a personal adapter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Type)]
pub struct TrainingStats {
    pub user_id: String,
    /// Kept and not dropped.
    pub training_examples: u32,
    /// Those that no personal adapter has learned from.
    pub new_examples: u32,
    /// 0 when the next training is due.
    pub examples_until_next_training: u32,
    pub custom_model_exists: bool,
    /// The newest personal adapter.
    pub custom_model: Option<crate::AdapterId>,
    pub ready_for_finetuning: bool,
}

/// The genres, prompts and styles that auto-train draws from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Type)]
pub struct TrainingGenres {
    /// Names, for the kept endpoint's callers.
    pub genres: Vec<Genre>,
    pub prompts: BTreeMap<Genre, Vec<String>>,
    pub styles: Vec<StyleModifier>,
}

/// A manner of telling with what it asks for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Type)]
pub struct StyleModifier {
    pub style: Style,
    pub sentence: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Type)]
pub struct AutoTrainRef {
    pub auto_train_id: AutoTrainId,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Type)]
pub struct UserRef {
    pub user_id: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Type)]
pub struct ExampleRef {
    pub example_id: ExampleId,
}

/// Examples of a session, or the newest of all.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, Type)]
pub struct ExampleQuery {
    #[serde(default)]
    pub auto_train_id: Option<AutoTrainId>,
    /// At most this many, 1–1000, default 500.
    #[serde(default)]
    pub limit: Option<u32>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Type)]
pub struct ExampleEdit {
    pub example_id: ExampleId,
    pub text: String,
}
