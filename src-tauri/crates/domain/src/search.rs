//! The search before a training: which hyper-parameters were tried, how far each came, which won.

use crate::{Hyperparameters, Recipe, RunId};
use serde::{Deserialize, Serialize};
use specta::Type;

/// Whether a training begins with a search, and how long that may take.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, Type)]
#[serde(deny_unknown_fields)]
pub struct SearchChoice {
    /// 0 for no search; left out, as the settings say.
    #[serde(default)]
    pub minutes: Option<f64>,
    /// Tries other numbers of the recipe that was asked for, but no other recipe.
    #[serde(default)]
    pub keep_recipe: bool,
}

/// A hyper-parameter that a search may vary: one that the person did not set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, Type)]
#[serde(rename_all = "snake_case")]
pub enum SearchAxis {
    Recipe,
    VirtualTokens,
    Rank,
    TargetModules,
    Layers,
    Dropout,
    LearningRate,
}

/// A search as it was asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Type)]
pub struct SearchPlan {
    pub budget_seconds: f64,
    pub axes: Vec<SearchAxis>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, Type)]
#[serde(rename_all = "snake_case")]
pub enum TrialState {
    Waiting,
    Running,
    /// Trained longer and longer, as long as it is among the best.
    Climbing,
    /// Others were better.
    Dropped,
    /// Its loss grew beyond all bounds, or it needs more memory than there is.
    Failed,
    /// What the training after the search uses.
    Chosen,
}

/// One configuration and what it reached.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Type)]
pub struct Trial {
    /// 0 is the default configuration.
    pub number: u32,
    pub recipe: Recipe,
    pub hyperparameters: Hyperparameters,
    pub state: TrialState,
    /// Rung by rung, as far as it came.
    pub rungs: Vec<TrialRung>,
    /// Why it failed, in words.
    #[serde(default)]
    pub problem: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, Type)]
pub struct TrialRung {
    /// Updates.
    pub steps: u32,
    /// `None` when it failed.
    pub heldout_loss: Option<f64>,
    pub seconds: f64,
}

/// What a search came to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Type)]
pub struct SearchFound {
    /// The number of the trial that is trained; 0 when nothing beat the default.
    pub winner: u32,
    /// Held-out loss of the default and of the best other trial after the same number of updates.
    pub default_loss: Option<f64>,
    pub best_loss: Option<f64>,
    pub out_of_time: bool,
    /// In plain words.
    pub reason: String,
}

/// A run's search with all its trials.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Type)]
pub struct Search {
    pub run_id: RunId,
    pub plan: SearchPlan,
    /// Updates of each rung; empty until the search has begun.
    pub rungs: Vec<u32>,
    pub trials: Vec<Trial>,
    /// Spent so far.
    pub seconds: f64,
    pub found: Option<SearchFound>,
}
