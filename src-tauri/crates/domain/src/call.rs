//! Inputs of the calls that every surface offers. Path parameters of the HTTP routes are fields here, under the same name.

use crate::{AdapterId, CandidateId, ChartFormat, Decision, GenerationId, JobId, RunId};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use specta::Type;

/// A call without input.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, Type)]
pub struct Nothing {}

/// The answer of a call that only does something.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, Type)]
pub struct Done {
    pub ok: bool,
}

impl Done {
    pub const OK: Self = Self { ok: true };
}

/// Setting keys with their new values; what is not named stays.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, Type)]
#[serde(transparent)]
pub struct SettingsUpdate(#[specta(type = std::collections::BTreeMap<String, SettingValue>)] pub Map<String, Value>);

/// What a setting's value is in JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Type)]
#[serde(untagged)]
pub enum SettingValue {
    Switch(bool),
    Number(f64),
    Text(String),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Type)]
pub struct DataFolderMove {
    /// An absolute path; the folder is made if it is not there and must be empty.
    pub path: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Type)]
pub struct GenerationRef {
    pub generation_id: GenerationId,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, Type)]
pub struct GenerationQuery {
    /// At most this many, 1–200, default 50.
    #[serde(default)]
    pub limit: Option<u32>,
    /// Only those older than this one.
    #[serde(default)]
    pub before: Option<GenerationId>,
    /// Words to look for in prompts and texts.
    #[serde(default)]
    pub search: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Type)]
#[serde(rename_all = "snake_case")]
pub enum TextFormat {
    Txt,
    Md,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Type)]
pub struct CandidateExport {
    pub candidate_id: CandidateId,
    pub format: TextFormat,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Type)]
pub struct JobRef {
    pub job_id: JobId,
}

/// How many to list, newest first.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, Type)]
pub struct Limit {
    #[serde(default)]
    pub limit: Option<u32>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Type)]
pub struct RunRef {
    pub run_id: RunId,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Type)]
pub struct MetricsQuery {
    pub run_id: RunId,
    /// Only steps after this one.
    #[serde(default)]
    pub after: Option<u32>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Type)]
pub struct ChartQuery {
    pub run_id: RunId,
    pub format: ChartFormat,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Type)]
pub struct RunDecision {
    pub run_id: RunId,
    pub decision: Decision,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Type)]
pub struct AdapterRef {
    pub adapter_id: AdapterId,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Type)]
pub struct AdapterActivation {
    pub adapter_id: AdapterId,
    /// 0–2; 1 is as trained.
    #[serde(default)]
    pub strength: Option<f64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Type)]
#[serde(rename_all = "snake_case")]
pub enum AdapterFormat {
    /// The folder that PEFT reads.
    Peft,
    /// A LoRA file that llama.cpp reads.
    Gguf,
    /// Its base with the adapter in the weights: a new base that transformers and Inkling read.
    Merged,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Type)]
pub struct AdapterExport {
    pub adapter_id: AdapterId,
    pub format: AdapterFormat,
    /// A folder on this machine that will hold the adapter's files.
    pub out: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Type)]
pub struct AdapterImport {
    /// A folder in PEFT's layout.
    pub path: String,
    #[serde(default)]
    pub name: Option<String>,
}

/// Where something was written on this machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Type)]
pub struct SavedPath {
    pub path: String,
}
