//! One error for every surface: a code to branch on, words to read, a hint when a person can act.

use serde::{Deserialize, Serialize};
use specta::Type;

/// What kind of thing went wrong. Surfaces map the code (never the words) to a status, an exit code, a place on screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, Type)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// Input that cannot be used; `detail` lists every faulty field.
    InvalidInput,
    Unauthorized,
    Forbidden,
    NotFound,
    /// Something of this kind already runs, or the state does not allow it now.
    Conflict,
    TooLarge,
    UnsupportedMediaType,
    /// Nothing to work on yet: a training without examples, for example.
    NotReady,
    /// Not enough memory by the estimate.
    OutOfMemory,
    DiskFull,
    /// A file or folder could not be read or written.
    Storage,
    /// The data folder was written by a newer version.
    NewerData,
    /// Another program holds the data folder.
    Busy,
    ModelMissing,
    ModelDamaged,
    /// A stored file does not match its hash or cannot be parsed.
    Damaged,
    Cancelled,
    /// Another machine did not answer, or not as it should.
    Network,
    /// Too many requests wait already.
    Overloaded,
    Internal,
}

impl ErrorCode {
    /// The HTTP status that fits.
    pub fn status(self) -> u16 {
        match self {
            Self::InvalidInput => 400,
            Self::Unauthorized => 401,
            Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::Conflict | Self::NotReady | Self::Cancelled => 409,
            Self::TooLarge => 413,
            Self::UnsupportedMediaType => 415,
            Self::Overloaded => 429,
            Self::Network => 502,
            Self::DiskFull => 507,
            Self::OutOfMemory | Self::Busy | Self::ModelMissing | Self::ModelDamaged => 503,
            Self::Storage | Self::NewerData | Self::Damaged | Self::Internal => 500,
        }
    }

    /// The exit code of the CLI: 2 for input that cannot be used, else 1.
    pub fn exit_code(self) -> u8 {
        if self == Self::InvalidInput { 2 } else { 1 }
    }
}

/// One field of a request that cannot be used, by its name in JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Type)]
pub struct FieldFault {
    pub field: String,
    pub message: String,
}

/// An error as every surface shows it: `{code, message, hint, detail}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Type, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    pub code: ErrorCode,
    /// What happened, and what is safe.
    pub message: String,
    /// What the person can do about it.
    pub hint: Option<String>,
    /// Every faulty field, for [`ErrorCode::InvalidInput`].
    #[serde(default)]
    pub detail: Vec<FieldFault>,
}

impl ApiError {
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), hint: None, detail: Vec::new() }
    }

    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// One unusable field.
    pub fn field(field: &str, message: impl Into<String>) -> Self {
        let message = message.into();
        Self::new(ErrorCode::InvalidInput, message.clone()).with_faults(vec![FieldFault { field: field.to_owned(), message }])
    }

    /// Several unusable fields; the message joins theirs.
    pub fn fields(faults: Vec<FieldFault>) -> Self {
        let message = faults.iter().map(|fault| fault.message.as_str()).collect::<Vec<_>>().join(" ");
        Self::new(ErrorCode::InvalidInput, message).with_faults(faults)
    }

    pub fn not_found(noun: &str, id: impl std::fmt::Display) -> Self {
        Self::new(ErrorCode::NotFound, format!("There is no {noun} with the id {id}."))
    }

    pub fn internal(error: impl std::fmt::Display) -> Self {
        Self::new(ErrorCode::Internal, format!("Something unexpected happened: {error}. What you wrote is safe."))
            .hint("Try again; if it happens again, run `inkling doctor` and report what it prints.")
    }

    fn with_faults(mut self, faults: Vec<FieldFault>) -> Self {
        self.detail = faults;
        self
    }
}
