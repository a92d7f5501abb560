//! Training data as files for other programs.

use serde::{Deserialize, Serialize};
use specta::Type;

/// What is exported, each as JSON lines that TRL reads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, Type)]
#[serde(rename_all = "snake_case")]
pub enum ExportKind {
    /// `{prompt, completion}`: liked texts.
    Sft,
    /// `{prompt, completion, label}`: judged texts.
    Kto,
    /// `{prompt, chosen, rejected}`: pairs.
    Dpo,
    /// A file of each kind.
    #[default]
    All,
}

/// `POST /api/v1/training/export`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Type)]
pub struct TrainingExport {
    #[serde(default)]
    pub kind: ExportKind,
    /// A folder of the person's, or for one kind a file that ends in `.jsonl`. Of several kinds a file's name is the stem:
    /// `mine.jsonl` becomes `mine-sft.jsonl` and so on.
    pub out_path: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Type)]
pub struct ExportedFile {
    pub kind: ExportKind,
    pub path: String,
    pub rows: u32,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Type)]
pub struct TrainingExported {
    pub ok: bool,
    pub files: Vec<ExportedFile>,
}
