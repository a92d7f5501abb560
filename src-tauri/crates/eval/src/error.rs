//! What can go wrong in an experiment.

use std::path::{Path, PathBuf};

#[derive(Debug, thiserror::Error)]
pub enum EvalError {
    #[error("{path}: {source}")]
    File { path: PathBuf, source: std::io::Error },
    #[error("the candidate pool is damaged: {0}")]
    Pool(String),
    #[error("{0}")]
    Usage(String),
    #[error(transparent)]
    Model(#[from] model::ModelError),
    #[error(transparent)]
    Training(#[from] training::TrainError),
    #[error("{} {}", .0.message, .0.hint.as_deref().unwrap_or_default())]
    App(domain::ApiError),
    #[error("drawing a figure: {0}")]
    Figure(String),
}

impl EvalError {
    pub fn file(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { path, source }
    }
}

impl From<domain::ApiError> for EvalError {
    fn from(error: domain::ApiError) -> Self {
        Self::App(error)
    }
}
