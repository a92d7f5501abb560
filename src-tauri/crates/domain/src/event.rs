//! What every open surface is told when something changes.

use crate::{Adapter, AutoTrain, Base, Example, GenerationId, Job, Metric, Run, RunId, TasteSummary, Timestamp};
use serde::{Deserialize, Serialize};
use specta::Type;

/// A change, as announced. `seq` is the row of the change log; transient events (metrics) have none and
/// can be reloaded from their own call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Type)]
pub struct Event {
    pub seq: Option<u32>,
    pub at: Timestamp,
    #[serde(flatten)]
    pub change: Change,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Type)]
#[serde(tag = "change", content = "data", rename_all = "snake_case")]
pub enum Change {
    GenerationStored {
        generation_id: GenerationId,
    },
    GenerationRemoved {
        generation_id: GenerationId,
    },
    GenerationRestored {
        generation_id: GenerationId,
    },
    FeedbackStored {
        feedback_id: crate::FeedbackId,
        candidate_id: crate::CandidateId,
    },
    PreferenceStored {
        preference_id: crate::PreferenceId,
    },
    TasteTrained {
        summary: TasteSummary,
    },
    JobChanged {
        job: Box<Job>,
    },
    RunChanged {
        run: Box<Run>,
    },
    RunRemoved {
        run_id: RunId,
    },
    /// At most ten a second, in batches.
    RunMetrics {
        run_id: RunId,
        metrics: Vec<Metric>,
    },
    RunCheckpoint {
        run_id: RunId,
        step: u32,
    },
    /// The search of a run, after every trial; it can be reloaded from its own call and is not in the change log.
    SearchChanged {
        search: Box<crate::Search>,
    },
    AdapterChanged {
        adapter: Box<Adapter>,
    },
    AdapterRemoved {
        adapter_id: crate::AdapterId,
    },
    BaseChanged {
        base: Box<Base>,
    },
    BaseRemoved {
        base_id: crate::BaseId,
    },
    /// A few times a second; it is not in the change log.
    PullProgress {
        progress: crate::PullProgress,
    },
    /// Also after every example that it tried.
    AutoTrainChanged {
        auto_train: Box<AutoTrain>,
    },
    ExampleChanged {
        example: Box<Example>,
    },
    /// There are enough new examples for the personal adapter to learn from.
    ExamplesReady {
        user_id: String,
        new_examples: u32,
        /// Whether the training starts by itself.
        automatic: bool,
    },
    SettingsChanged {
        keys: Vec<String>,
    },
    DraftSaved,
}
