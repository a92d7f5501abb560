//! Bases: those that are here, those that could be, and how they come.

use crate::{AdapterId, ApiError, BaseId, JobId, Timestamp};
use serde::{Deserialize, Serialize};
use specta::Type;

/// What a base was taught, which says how it must be asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, Type)]
#[serde(rename_all = "snake_case")]
pub enum BaseKind {
    /// Knows the story format, with its genres and styles.
    #[default]
    Story,
    /// Does what it is told, in its own conversation format or in plain words.
    Instruct,
    /// Goes on with any text.
    Plain,
}

impl BaseKind {
    /// Whether it can answer questions.
    pub fn answers(self) -> bool {
        self == Self::Instruct
    }
}

/// How a base came here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, Type)]
#[serde(rename_all = "snake_case")]
pub enum BaseOrigin {
    #[default]
    BuiltIn,
    /// Downloaded from a model hub.
    Hub,
    /// From a file or folder of this machine.
    Import,
}

/// A base that can be written with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Type)]
pub struct Base {
    pub id: BaseId,
    pub name: String,
    pub architecture: String,
    pub parameters: f64,
    /// Of its files.
    pub size_bytes: f64,
    pub context: u32,
    pub license: String,
    pub built_in: bool,
    #[serde(default)]
    pub kind: BaseKind,
    /// Whether it can answer questions.
    #[serde(default)]
    pub answers: bool,
    #[serde(default)]
    pub origin: BaseOrigin,
    /// The repository and commit, or the path on this machine.
    #[serde(default)]
    pub source: Option<String>,
    /// What writing with it takes, by the estimate.
    #[serde(default)]
    pub memory_mb: f64,
    /// Written on this machine, one text at a time, when it was installed.
    #[serde(default)]
    pub tokens_per_second: Option<f64>,
    /// Texts are written with it unless a request names another one.
    #[serde(default)]
    pub is_default: bool,
    /// Why it cannot be loaded, if so.
    pub problem: Option<ApiError>,
}

/// A base that is known to work well, to be downloaded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Type)]
pub struct CatalogueEntry {
    /// The name that `models pull` takes.
    pub id: String,
    pub name: String,
    pub repo: String,
    /// One file of the repository, where the weights are one GGUF file.
    #[serde(default)]
    pub gguf: Option<String>,
    pub architecture: String,
    pub kind: BaseKind,
    pub parameters: f64,
    /// To be downloaded, about.
    pub size_bytes: f64,
    /// What writing with it takes, about.
    pub memory_mb: f64,
    pub license: String,
    /// What it is good for, in a sentence.
    pub good_for: String,
    /// The base it became, when it is here.
    #[serde(default)]
    pub installed: Option<BaseId>,
    /// Its download, when it is under way.
    #[serde(default)]
    pub job_id: Option<JobId>,
    /// Why it cannot be used on this machine, if so.
    #[serde(default)]
    pub problem: Option<ApiError>,
}

/// What to download: a name of the catalogue, or a repository.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, Type)]
#[serde(deny_unknown_fields)]
pub struct PullRequest {
    pub model: String,
    /// A branch, a tag or a commit; left out, the newest.
    #[serde(default)]
    pub revision: Option<String>,
    /// One GGUF file of the repository.
    #[serde(default)]
    pub gguf: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Type)]
pub struct PullQueued {
    pub job_id: JobId,
    pub repo: String,
}

/// How far a download is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Type)]
pub struct PullProgress {
    pub job_id: JobId,
    pub repo: String,
    /// What is being done, such as the name of the file that comes.
    pub doing: String,
    pub bytes: f64,
    pub total_bytes: f64,
    pub bytes_per_second: f64,
    pub eta_s: Option<f64>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, Type)]
#[serde(deny_unknown_fields)]
pub struct BaseImport {
    /// A folder with safetensors, or a GGUF file, on this machine.
    pub path: String,
    #[serde(default)]
    pub name: Option<String>,
    /// Use the files where they are instead of copying them.
    #[serde(default)]
    pub in_place: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Type)]
pub struct BaseRef {
    pub base_id: BaseId,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Type)]
pub struct BaseRemoval {
    pub base_id: BaseId,
    /// Also when adapters were trained on it; they stay, and work again when the base is back.
    #[serde(default)]
    pub anyway: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Type)]
pub struct BaseRemoved {
    pub ok: bool,
    /// Its files were deleted; those of an import in place, and those that were there before, stay.
    pub files_deleted: bool,
    /// Adapters that cannot be used without it.
    pub adapters: Vec<AdapterId>,
}

/// A base as it is kept: what surfaces see, and where its files are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Type)]
pub struct InstalledBase {
    pub base: Base,
    /// A folder or a GGUF file; relative to the data folder unless it lies elsewhere.
    pub path: String,
    /// The repository in the hub's cache.
    pub repo: Option<String>,
    /// Its files came with it and go with it.
    pub owned: bool,
    pub installed_at: Timestamp,
}

/// The server that writes one candidate, if the person entered one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Type)]
pub struct MemberView {
    /// Where prompts go; absent while no server is entered.
    pub host: Option<String>,
    pub model: String,
    /// Whether a key is kept. The key itself is never told.
    pub key_set: bool,
    /// The address is on this machine or in this network, as far as it says.
    pub inside: bool,
}

/// The key that the server wants; empty forgets it.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize, Type)]
#[serde(deny_unknown_fields)]
pub struct MemberKey {
    pub key: String,
}

/// Without the key.
impl std::fmt::Debug for MemberKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MemberKey")
    }
}
