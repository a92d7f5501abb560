//! Training: what is asked, what it would cost, what it reports, how it is judged.

use crate::{BaseId, BlindResult, HyperparameterChoice, Hyperparameters, JobId, Phase, RunId, SearchChoice, SearchFound, Trial};
use serde::{Deserialize, Serialize};
use specta::Type;

/// A training recipe by method. Objectives are separate, see [`Objective`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, Type)]
#[serde(rename_all = "snake_case")]
pub enum Recipe {
    /// Vectors before the prompt (prompt tuning, arXiv 2104.08691): tiny, gentle.
    SoftPrompt,
    /// A low-rank change of every projection (arXiv 2106.09685): larger, learns more.
    Lora,
    /// LoRA with lengths trained apart from directions (arXiv 2402.09353).
    Dora,
}

impl Recipe {
    /// As a person reads it.
    pub fn label(self) -> &'static str {
        match self {
            Self::SoftPrompt => "Soft prompt",
            Self::Lora => "LoRA",
            Self::Dora => "DoRA",
        }
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, Type)]
#[serde(rename_all = "snake_case")]
pub enum Objective {
    /// Supervised fine-tuning: cross-entropy on liked texts only.
    #[default]
    Sft,
    /// Away from disliked and towards liked texts of the same prompt (arXiv 2305.18290).
    Dpo,
    /// Towards liked and away from disliked texts, each by itself (arXiv 2402.01306).
    Kto,
    /// Liked texts by cross-entropy, and at once their odds over the disliked ones of the same prompt (arXiv 2403.07691).
    Orpo,
}

impl Objective {
    /// Whether it learns from a better and a worse text of the same prompt.
    pub fn learns_from_pairs(self) -> bool {
        matches!(self, Self::Dpo | Self::Orpo)
    }
}

/// `POST /api/v1/train`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Type)]
#[serde(deny_unknown_fields)]
pub struct TrainRequest {
    pub recipe: Recipe,
    #[serde(default)]
    pub base: Option<BaseId>,
    #[serde(default)]
    pub objective: Option<Objective>,
    /// A file on this machine to learn from instead of the person's thumbs: JSON Lines, a JSON array or CSV.
    #[serde(default)]
    pub dataset: Option<String>,
    #[serde(default)]
    pub hyperparameters: HyperparameterChoice,
    /// Whether to look for better hyper-parameters first (phase 2); left out, as the settings say.
    #[serde(default)]
    pub search: Option<SearchChoice>,
    /// Who asked: a person, a schedule, the CLI.
    #[serde(default)]
    pub triggered_by: Option<String>,
}

impl TrainRequest {
    /// Everything else as the app chooses.
    pub fn of(recipe: Recipe) -> Self {
        Self {
            recipe,
            base: None,
            objective: None,
            dataset: None,
            hyperparameters: HyperparameterChoice::default(),
            search: None,
            triggered_by: None,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Type)]
pub struct TrainQueued {
    pub job_id: JobId,
    pub run_id: RunId,
}

/// What a training would do and cost, shown before it starts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Type)]
pub struct TrainingPlan {
    pub recipe: Recipe,
    pub base: BaseId,
    pub base_name: String,
    pub hyperparameters: Hyperparameters,
    /// Liked and edited texts to learn from.
    pub examples: u32,
    /// Texts kept back to measure on, by prompt.
    pub heldout: u32,
    pub estimated_seconds: f64,
    pub estimated_memory_mb: f64,
    pub available_memory_mb: f64,
    pub ready: bool,
    /// Why it cannot start now, with what would help.
    pub blocked_by: Option<crate::ApiError>,
    /// The plan in a sentence.
    pub sentence: String,
    /// Why it learns in this way.
    #[serde(default)]
    pub why: String,
    /// What the person should look at before: texts from elsewhere that the base can make nothing of. Empty where there is nothing.
    #[serde(default)]
    pub warning: String,
    /// The first words of the texts that would be trained on.
    pub openings: Vec<String>,
    /// What became of the rows of the file, when the training learns from one.
    #[serde(default)]
    pub dataset: Option<DatasetReport>,
    /// The search before the training, where one was asked for.
    #[serde(default)]
    pub search: Option<crate::SearchPlan>,
}

/// What became of the rows of a file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Type)]
pub struct DatasetReport {
    pub path: String,
    /// Rows in the file.
    pub rows: u32,
    /// Examples that they gave; a conversation gives one for each answer in it.
    pub examples: u32,
    pub skipped: u32,
    /// The first rows that were left out, with the reason.
    pub first_skipped: Vec<SkippedRow>,
    pub formats: Vec<FormatCount>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Type)]
pub struct SkippedRow {
    /// Line of the file, or place in its array, from 1.
    pub row: u32,
    pub reason: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Type)]
pub struct FormatCount {
    /// The fields by which the format is known.
    pub format: String,
    pub examples: u32,
}

/// One point of a training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Type)]
pub struct Metric {
    pub step: u32,
    pub total_steps: u32,
    pub loss: f64,
    pub heldout_loss: Option<f64>,
    pub lr: f64,
    pub tokens_per_second: f64,
    pub eta_s: f64,
}

/// How the trained adapter compares with what was used before.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Type)]
pub struct Verdict {
    /// Share of held-out pairs in which the new one was preferred, ties counting half.
    pub win_rate: f64,
    /// 95% interval of the win rate (Wilson).
    pub low: f64,
    pub high: f64,
    /// Pairs compared.
    pub pairs: u32,
    /// Perplexity with the adapter over without, on held-out texts: below 1 is better.
    pub fluency_ratio: f64,
    /// Distinct word pairs of texts written with the adapter over without: below 1 is less varied.
    pub diversity_ratio: f64,
    /// Share of four words in a row that stood before in the same text, of texts written with the adapter and without; 0 in
    /// verdicts of earlier versions, which did not look.
    #[serde(default)]
    pub repetition: f64,
    #[serde(default)]
    pub repetition_before: f64,
    pub heldout_loss_before: Option<f64>,
    pub heldout_loss_after: Option<f64>,
    /// Texts learned from that the base could make nothing of; absent where it was not looked for or cannot be told.
    #[serde(default)]
    pub disarray: Option<Disarray>,
    pub promoted: bool,
    /// In plain words.
    pub reason: String,
    /// What the person found in a blind test.
    #[serde(default)]
    pub blind: Option<BlindResult>,
}

/// Texts to learn from that mean no more to the base than their own words in any order would.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Type)]
pub struct Disarray {
    pub texts: u32,
    /// Of so many that were looked at.
    pub looked_at: u32,
    /// How the first of them begin.
    pub openings: Vec<String>,
}

impl Verdict {
    /// Real stories became less likely: by more than a twentieth (LEARNING.md, E4).
    pub fn less_natural(&self) -> bool {
        self.fluency_ratio > 1.05
    }

    /// Word pairs of before went missing: more than a tenth of them (E5).
    pub fn less_varied(&self) -> bool {
        self.diversity_ratio < 0.90
    }

    /// Repeated four words in a row rose by more than a fifth (E4) and a hundredth of all: of sixty texts few repeat anything, so a
    /// factor alone would measure luck.
    pub fn repeats_itself(&self) -> bool {
        self.repetition > 1.2 * self.repetition_before + 0.01
    }
}

impl Disarray {
    /// Whether there are too many of them to trust what is learned: more than a fifth. A few odd texts among many teach little.
    pub fn outweighs(&self) -> bool {
        5 * self.texts > self.looked_at
    }
}

/// What a person decides about a trained adapter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Type)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// Use it from the next generation on.
    Keep,
    /// Leave it on trial.
    NotNow,
    /// Stop using it; what was active before is active again.
    Undo,
}

/// What a training reports while it runs; the JSON lines of `inkling train … --json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Type)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum TrainEvent {
    Started {
        run_id: RunId,
        job_id: JobId,
        total_steps: u32,
        examples: u32,
        heldout: u32,
    },
    Phase {
        run_id: RunId,
        phase: Phase,
        number: u8,
    },
    /// A trial of the search as it is now.
    Trial {
        run_id: RunId,
        trial: Trial,
    },
    /// The search is over.
    Searched {
        run_id: RunId,
        found: SearchFound,
    },
    Metric {
        run_id: RunId,
        #[serde(flatten)]
        metric: Metric,
    },
    Checkpoint {
        run_id: RunId,
        step: u32,
    },
    Finished {
        run_id: RunId,
        adapter_id: crate::AdapterId,
        final_loss: f64,
        seconds: f64,
        peak_memory_mb: f64,
        verdict: Verdict,
        metrics: FinishedMetrics,
        /// The folder with the adapter in PEFT's layout.
        artifact: String,
    },
    Failed {
        run_id: RunId,
        error: crate::ApiError,
    },
    Interrupted {
        run_id: RunId,
        step: u32,
        reason: String,
    },
}

/// The last figures of a training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Type)]
pub struct FinishedMetrics {
    pub loss: f64,
    pub heldout_loss: Option<f64>,
    pub steps: u32,
}
