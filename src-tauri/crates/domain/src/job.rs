//! Queued work.

use crate::{ApiError, JobId, RunId, Timestamp};
use serde::{Deserialize, Serialize};
use specta::Type;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, Type)]
#[serde(rename_all = "snake_case")]
pub enum Priority {
    Low,
    Normal,
    High,
}

impl Priority {
    /// Larger runs first.
    pub fn rank(self) -> i64 {
        match self {
            Self::Low => 0,
            Self::Normal => 1,
            Self::High => 2,
        }
    }
}

/// `paused` and `interrupted` can be resumed; `completed`, `failed`, `cancelled` are final.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, Type)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    Queued,
    Running,
    Paused,
    /// The program ended while it ran.
    Interrupted,
    Completed,
    Failed,
    Cancelled,
}

/// The four phases of a training.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, Type)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    Prepare,
    Search,
    Train,
    /// Evaluate and publish.
    Evaluate,
}

impl Phase {
    /// 1–4, as shown.
    pub fn number(self) -> u8 {
        self as u8 + 1
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Type)]
pub struct Job {
    pub id: JobId,
    pub kind: JobKind,
    pub state: JobState,
    pub priority: Priority,
    pub phase: Option<Phase>,
    /// 0–1.
    pub progress: f64,
    pub run_id: Option<RunId>,
    pub attempts: u32,
    pub error: Option<ApiError>,
    pub created_at: Timestamp,
    pub started_at: Option<Timestamp>,
    pub finished_at: Option<Timestamp>,
    /// What is happening, in words.
    pub title: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, Type)]
#[serde(rename_all = "snake_case")]
pub enum JobKind {
    Train,
    AutoTrain,
    /// The download of a base. It has a slot of its own beside the heavy one.
    Pull,
}
