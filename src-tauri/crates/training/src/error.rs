//! Why a training could not start or go on.

use crate::Split;
use domain::{ApiError, ErrorCode};
use model::ModelError;
use std::io;
use std::path::{Path, PathBuf};

/// Every way in which a training fails; stopping on request is not one (see [`crate::Outcome`]).
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    #[error("{field} is {value}, but must be {allowed}")]
    Config { field: &'static str, value: String, allowed: &'static str },
    #[error("there is no example to train on")]
    NoExamples,
    #[error("{split} example {index}: {problem}")]
    Example { split: Split, index: usize, problem: String },
    #[error("the base cannot be trained: {tensor} holds {found} numbers, expected {expected}")]
    Base { tensor: String, found: usize, expected: usize },
    /// The files of the base.
    #[error(transparent)]
    Weights(#[from] ModelError),
    #[error("{tensor} received no gradient in the first step: the base does not let any through")]
    NoGradient { tensor: String },
    /// The loss, a gradient or a weight became infinite or not a number.
    #[error("the {what} of step {step} is not a finite number")]
    NotFinite {
        what: &'static str,
        step: u32,
        /// The newest checkpoint, taken before that.
        checkpoint: Option<PathBuf>,
    },
    /// A checkpoint belongs to another base, dataset or configuration.
    #[error("the checkpoint {} was made with another {what}", checkpoint.display())]
    DifferentRun { what: &'static str, checkpoint: PathBuf },
    #[error("the checkpoint {} was written by a newer version (format {format})", checkpoint.display())]
    NewerCheckpoint { checkpoint: PathBuf, format: u32 },
    #[error("the disk is full: {} could not be written", path.display())]
    DiskFull { path: PathBuf, source: io::Error },
    #[error("could not {operation} {}: {source}", path.display())]
    File { operation: &'static str, path: PathBuf, source: io::Error },
    #[error("a checkpoint could not be put into bytes: {problem}")]
    Encoding { problem: String },
    #[error("training threads could not be started: {0}")]
    Threads(#[from] rayon::ThreadPoolBuildError),
}

impl TrainError {
    /// Wraps an error of the file layer, telling a full disk apart.
    pub(crate) fn file(operation: &'static str, path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull { path, source },
            _ => Self::File { operation, path, source },
        }
    }

    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Config { .. } | Self::Example { .. } => ErrorCode::InvalidInput,
            Self::Weights(error) => error.code(),
            Self::NoExamples => ErrorCode::NotReady,
            Self::Base { .. } | Self::NoGradient { .. } => ErrorCode::ModelDamaged,
            Self::NotFinite { .. } | Self::Encoding { .. } | Self::Threads(_) => ErrorCode::Internal,
            Self::DifferentRun { .. } => ErrorCode::Conflict,
            Self::NewerCheckpoint { .. } => ErrorCode::NewerData,
            Self::DiskFull { .. } => ErrorCode::DiskFull,
            Self::File { .. } => ErrorCode::Storage,
        }
    }

    /// What a person can do about it.
    pub fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Self::NoExamples => "Like or edit a few texts first; training learns from those.",
            Self::NotFinite { .. } => "Start again with a lower learning rate. What was learned before is untouched.",
            Self::DifferentRun { .. } => "Start a new training; the old one can only go on with what it began with.",
            Self::NewerCheckpoint { .. } => "Update Inkling, or start a new training.",
            Self::DiskFull { .. } => "Free some space, then resume: the last checkpoint is intact.",
            Self::File { .. } => "Check that the data folder can be written to, then resume: the last checkpoint is intact.",
            Self::Base { .. } | Self::NoGradient { .. } => "Download the base again or choose another one.",
            Self::Weights(error) => return error.hint(),
            Self::Config { .. } | Self::Example { .. } | Self::Encoding { .. } | Self::Threads(_) => return None,
        })
    }
}

impl From<&TrainError> for ApiError {
    fn from(error: &TrainError) -> Self {
        if let TrainError::Weights(error) = error {
            let api = Self::new(error.code(), error.to_string());
            return error.hint().map_or(api.clone(), |hint| api.hint(hint));
        }
        let mut words = error.to_string();
        if let Some(first) = words.get(..1).map(str::to_uppercase) {
            words.replace_range(..1, &first);
        }
        let api = Self::new(error.code(), format!("{words}."));
        match error.hint() {
            Some(hint) => api.hint(hint),
            None => api,
        }
    }
}

impl From<TrainError> for ApiError {
    fn from(error: TrainError) -> Self {
        Self::from(&error)
    }
}
