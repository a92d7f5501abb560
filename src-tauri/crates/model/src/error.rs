//! What can go wrong with a base or an adapter.

use domain::{ApiError, ErrorCode};
use std::io;
use std::path::{Path, PathBuf};

/// Why a base or an adapter cannot be loaded, saved or used.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    #[error("{} is missing.", path.display())]
    Missing { path: PathBuf },
    /// The file cannot be what it should be: wrong hash, cut off, or crafted.
    #[error("{} is damaged: {reason}.", path.display())]
    Damaged { path: PathBuf, reason: String },
    /// A sound file that asks for something this engine does not do.
    #[error("{} cannot be used: {reason}.", path.display())]
    Unsupported { path: PathBuf, reason: String },
    #[error("{} could not be read or written: {source}.", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("The text needs {needed} tokens; this base can hold {context}.")]
    ContextExceeded { needed: usize, context: usize },
    #[error("The soft prompt has vectors of {found} numbers; this base needs {expected}.")]
    SoftPromptWidth { found: usize, expected: usize },
    #[error("{part} has the size {found}; this base needs {expected}.")]
    AdapterShape { part: String, found: usize, expected: usize },
    /// The base's own template does not take this conversation.
    #[error("The conversation cannot be written in this base's format: {reason}.")]
    Chat { reason: String },
    #[error("The request cannot be used: {reason}.")]
    InvalidRequest { reason: &'static str },
}

impl ModelError {
    pub(crate) fn damaged(path: &Path, reason: impl Into<String>) -> Self {
        Self::Damaged { path: path.to_owned(), reason: reason.into() }
    }

    pub(crate) fn unsupported(path: &Path, reason: impl Into<String>) -> Self {
        Self::Unsupported { path: path.to_owned(), reason: reason.into() }
    }

    /// A missing file is its own kind; every other failure keeps the system's words.
    pub(crate) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| match source.kind() {
            io::ErrorKind::NotFound => Self::Missing { path },
            _ => Self::Io { path, source },
        }
    }

    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Missing { .. } => ErrorCode::ModelMissing,
            Self::Damaged { .. } => ErrorCode::ModelDamaged,
            Self::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull => ErrorCode::DiskFull,
            Self::Io { .. } => ErrorCode::Storage,
            Self::ContextExceeded { .. } => ErrorCode::TooLarge,
            Self::Unsupported { .. }
            | Self::SoftPromptWidth { .. }
            | Self::AdapterShape { .. }
            | Self::Chat { .. }
            | Self::InvalidRequest { .. } => ErrorCode::InvalidInput,
        }
    }

    /// What a person can do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Missing { .. } | Self::Damaged { .. } => Some("Install the base again, or choose another one."),
            Self::Unsupported { .. } => Some("Choose a base of the Llama family (Llama, Mistral, Qwen2, Phi-3) as safetensors or GGUF."),
            Self::Io { .. } => Some("Check that the folder exists, is not full, and may be read and written."),
            Self::ContextExceeded { .. } => Some("Shorten the prompt."),
            Self::SoftPromptWidth { .. } | Self::AdapterShape { .. } => Some("Choose an adapter that was trained on this base."),
            Self::Chat { .. } | Self::InvalidRequest { .. } => None,
        }
    }
}

impl From<ModelError> for ApiError {
    fn from(error: ModelError) -> Self {
        let api = ApiError::new(error.code(), error.to_string());
        match error.hint() {
            Some(hint) => api.hint(hint),
            None => api,
        }
    }
}
