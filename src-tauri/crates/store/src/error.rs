//! What can go wrong with the data, typed, and in words for a person.

use domain::{ApiError, ErrorCode, JobId, JobState, RunId, RunStatus};
use rusqlite::ErrorCode as Sqlite;
use std::io;
use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("the disk is full")]
    DiskFull,
    #[error("the data folder cannot be written to")]
    ReadOnly,
    #[error("the data folder could not be read or written: {0}")]
    Io(#[source] io::Error),
    /// The database file, or a row in it, cannot be understood.
    #[error("the database is damaged: {detail}")]
    Damaged {
        detail: String,
        /// The newest backup that is whole, when the damage was found at the start.
        backup: Option<PathBuf>,
    },
    #[error("the data has version {found}, this program knows versions up to {supported}")]
    Newer { found: u32, supported: u32 },
    /// Another program holds the database.
    #[error("another program is writing to the database")]
    Busy,
    #[error("there is no {noun} with the id {id}")]
    NotFound { noun: &'static str, id: String },
    #[error(transparent)]
    Conflict(#[from] Conflict),
    /// A value that would not read back the same, such as a score that is not a number.
    #[error("a value cannot be stored: {0}")]
    Unstorable(String),
    /// The compiled-in SQLite has a bug that damages data (WAL reset, fixed in 3.51.3).
    #[error("SQLite {found} is too old; 3.51.3 or newer is needed")]
    OldSqlite { found: &'static str },
    /// A fault of this program.
    #[error("database error: {0}")]
    Sql(#[source] rusqlite::Error),
}

/// What the present state does not allow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Conflict {
    #[error("One of these is already waiting or running.")]
    AlreadyQueued { job_id: JobId },
    #[error("This training is waiting or running.")]
    RunActive { run_id: RunId },
    #[error("This job has already ended.")]
    JobEnded { job_id: JobId, state: JobState },
    #[error("This training has already ended.")]
    RunEnded { run_id: RunId, status: RunStatus },
    #[error("Only what is paused or interrupted can go on.")]
    NotResumable { job_id: JobId, state: JobState },
    #[error("Something with the id {id} exists already.")]
    Exists { id: String },
}

impl StoreError {
    pub(crate) fn not_found(noun: &'static str, id: impl std::fmt::Display) -> Self {
        Self::NotFound { noun, id: id.to_string() }
    }

    pub(crate) fn damaged(detail: impl std::fmt::Display) -> Self {
        Self::Damaged { detail: detail.to_string(), backup: None }
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        use rusqlite::Error as E;
        match error {
            E::SqliteFailure(failure, ref message) => match failure.code {
                Sqlite::DiskFull => Self::DiskFull,
                Sqlite::ReadOnly | Sqlite::PermissionDenied => Self::ReadOnly,
                Sqlite::SystemIoFailure | Sqlite::CannotOpen | Sqlite::FileLockingProtocolFailed => {
                    Self::Io(io::Error::other(message.clone().unwrap_or_else(|| failure.to_string())))
                }
                Sqlite::DatabaseCorrupt | Sqlite::NotADatabase => Self::damaged(&error),
                Sqlite::DatabaseBusy | Sqlite::DatabaseLocked => Self::Busy,
                _ => Self::Sql(error),
            },
            // A row that was fine when it was written and does not read back any more.
            E::FromSqlConversionFailure(..) | E::IntegralValueOutOfRange(..) | E::InvalidColumnType(..) | E::Utf8Error(..) => {
                Self::damaged(&error)
            }
            E::ToSqlConversionFailure(cause) => Self::Unstorable(cause.to_string()),
            error => Self::Sql(error),
        }
    }
}

impl From<io::Error> for StoreError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull,
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Self::ReadOnly,
            _ => Self::Io(error),
        }
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        let detail = error.to_string();
        match error {
            StoreError::DiskFull => Self::new(ErrorCode::DiskFull, "The disk is full, so this was not saved. Everything saved before is safe.")
                .hint("Free some space, then try again."),
            StoreError::ReadOnly => {
                Self::new(ErrorCode::Storage, "Your data folder cannot be written to, so this was not saved. Everything saved before is safe.")
                    .hint("Check the permissions of the data folder, or choose another with INKLING_HOME.")
            }
            StoreError::Io(cause) => {
                tracing::error!(%cause, "the data folder failed");
                Self::new(ErrorCode::Storage, "Your data folder could not be read or written just now. Everything saved before is safe.")
                    .hint("Check that the disk is connected and has no errors, then try again.")
            }
            StoreError::Damaged { backup, .. } => {
                tracing::error!(detail, "the data is damaged");
                let error = Self::new(ErrorCode::Damaged, "The file that holds your data is damaged. It has not been changed.");
                match backup {
                    Some(path) => error.hint(format!("A whole backup is there: `inkling restore {}` puts it in place.", path.display())),
                    None => error.hint("If you have a backup, put it in place with `inkling restore FILE`. The damaged files are not touched."),
                }
            }
            StoreError::Newer { found, supported } => Self::new(
                ErrorCode::NewerData,
                format!("Your data was written by a newer Inkling (data version {found}; this one knows up to {supported}). It has not been changed."),
            )
            .hint("Start the newer Inkling, or choose another data folder with INKLING_HOME."),
            StoreError::Busy => Self::new(ErrorCode::Busy, "Another program is using your data folder. Nothing was lost.")
                .hint("Close the other Inkling, or wait a moment and try again."),
            StoreError::NotFound { noun, id } => Self::not_found(noun, id),
            StoreError::Conflict(conflict) => {
                let hint = conflict_hint(&conflict);
                Self::new(ErrorCode::Conflict, conflict.to_string()).hint(hint)
            }
            StoreError::Unstorable(_) | StoreError::Sql(_) => {
                tracing::error!(detail, "storing failed");
                Self::internal("your data could not be read or saved")
            }
            StoreError::OldSqlite { found } => {
                Self::new(ErrorCode::Internal, format!("This build contains SQLite {found}, which can damage data, so Inkling did not start. Your data is safe."))
                    .hint("Build Inkling again with SQLite 3.51.3 or newer.")
            }
        }
    }
}

fn conflict_hint(conflict: &Conflict) -> &'static str {
    match conflict {
        Conflict::AlreadyQueued { .. } => "Wait until it ends, or cancel it first.",
        Conflict::RunActive { .. } => "Cancel it first, then delete it.",
        Conflict::JobEnded { .. } | Conflict::RunEnded { .. } => "Start a new training instead.",
        Conflict::NotResumable { .. } => "Start a new training, or wait until this one pauses.",
        Conflict::Exists { .. } => "Choose another id.",
    }
}
