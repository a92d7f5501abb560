//! Trained add-ons to a base.

use crate::{AdapterId, BaseId, Recipe, RunId, Timestamp, Verdict};
use serde::{Deserialize, Serialize};
use specta::Type;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, Type)]
#[serde(rename_all = "snake_case")]
pub enum AdapterKind {
    SoftPrompt,
    Lora,
    Dora,
}

impl AdapterKind {
    /// Soft prompts stand before the text, the others change the base: one of each can be active at once.
    pub fn is_soft_prompt(self) -> bool {
        self == Self::SoftPrompt
    }
}

impl From<Recipe> for AdapterKind {
    fn from(recipe: Recipe) -> Self {
        match recipe {
            Recipe::SoftPrompt => Self::SoftPrompt,
            Recipe::Lora => Self::Lora,
            Recipe::Dora => Self::Dora,
        }
    }
}

/// *Trial* until it has passed the gate or the person keeps it; *active* in every generation; *retired* is set aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, Type)]
#[serde(rename_all = "snake_case")]
pub enum AdapterState {
    Trial,
    Active,
    Retired,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Type)]
pub struct Adapter {
    pub id: AdapterId,
    pub name: String,
    pub kind: AdapterKind,
    pub state: AdapterState,
    pub base: BaseId,
    pub run_id: Option<RunId>,
    pub strength: f64,
    /// Folder in PEFT's layout, relative to the data folder.
    pub path: String,
    /// Of `adapter_model.safetensors`.
    pub sha256: String,
    pub size_bytes: f64,
    pub verdict: Option<Verdict>,
    pub created_at: Timestamp,
}
