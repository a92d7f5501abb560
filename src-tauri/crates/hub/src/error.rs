//! What can go wrong between this machine and another.

use domain::{ApiError, ErrorCode};
use std::io;
use std::path::{Path, PathBuf};

/// Why something did not come from, or was refused by, another machine.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    #[error("\"{0}\" is not the name of a model: it should look like \"organisation/model\".")]
    InvalidRepo(String),
    #[error("\"{0}\" is not the name of a revision.")]
    InvalidRevision(String),
    #[error("\"{0}\" is not an address that can be used: {1}.")]
    InvalidAddress(String, &'static str),
    #[error("{host} could not be reached: {reason}.")]
    Unreachable { host: String, reason: String },
    #[error("{host} has not sent anything for {seconds} seconds.")]
    Silent { host: String, seconds: u64 },
    #[error("The connection to {host} ended early: {got} of {expected} bytes of {file} arrived.")]
    CutShort { host: String, file: String, got: u64, expected: u64 },
    #[error("{host} has no {what}.")]
    NotFound { host: String, what: String },
    #[error("{host} asks who you are before it gives {what}.")]
    Unauthorized { host: String, what: String },
    #[error("{host} does not let you have {what}.")]
    Gated { host: String, what: String },
    #[error("{host} asks to wait: too many requests came from here.")]
    TooManyRequests { host: String, retry_after_s: Option<u64> },
    #[error("{host} has a fault of its own (status {status}).")]
    ServerFault { host: String, status: u16 },
    #[error("{host} answered with the status {status}{}.", detail.as_ref().map(|detail| format!(": {detail}")).unwrap_or_default())]
    Unexpected { host: String, status: u16, detail: Option<String> },
    #[error("{host} sent something that cannot be read: {reason}.")]
    Unreadable { host: String, reason: String },
    #[error("{host} names a file \"{name}\", which could lie outside its folder. Nothing was downloaded.")]
    UnsafeName { host: String, name: String },
    #[error("{host} sends on to {target}, {reason}. That was not followed.")]
    UnsafeRedirect { host: String, target: String, reason: &'static str },
    #[error("{file} should have {expected} bytes; {host} sends {found}.")]
    WrongLength { host: String, file: String, expected: u64, found: u64 },
    #[error("{file} is not what {host} announced: its hash is {found} instead of {expected}.")]
    WrongHash { host: String, file: String, expected: String, found: String },
    #[error("{host} does not say what {file} should be, so it cannot be checked.")]
    Unverifiable { host: String, file: String },
    #[error("{file} is a pickle, which can run any program when it is opened. It was not downloaded.")]
    Pickle { file: String },
    #[error("{repo} offers its weights as pickle only, which can run any program when it is opened.")]
    PickleOnly { repo: String },
    #[error("{repo} has no weights that Inkling reads{}.", found.as_ref().map(|found| format!("; it has {found}")).unwrap_or_default())]
    NoWeights { repo: String, found: Option<String> },
    #[error("{repo} lacks {file}, which its list of parts names.")]
    Incomplete { repo: String, file: String },
    #[error("The download needs {} on the disk; {} are free in {}.", megabytes(*needed), megabytes(*free), path.display())]
    NoSpace { needed: u64, free: u64, path: PathBuf },
    #[error("{} could not be read or written: {source}.", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("The download was stopped; what has arrived is kept.")]
    Cancelled,
}

impl HubError {
    pub(crate) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }

    /// Whether the same request may well succeed a little later.
    pub fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Unreachable { .. }
                | Self::Silent { .. }
                | Self::CutShort { .. }
                | Self::TooManyRequests { .. }
                | Self::ServerFault { .. }
        )
    }

    fn code(&self) -> ErrorCode {
        match self {
            Self::InvalidRepo(_) | Self::InvalidRevision(_) | Self::InvalidAddress(..) => ErrorCode::InvalidInput,
            Self::NotFound { .. } => ErrorCode::NotFound,
            Self::Unauthorized { .. } | Self::Gated { .. } => ErrorCode::Forbidden,
            Self::Pickle { .. } | Self::PickleOnly { .. } | Self::NoWeights { .. } => ErrorCode::UnsupportedMediaType,
            Self::NoSpace { .. } => ErrorCode::DiskFull,
            Self::Io { source, .. } if matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) => {
                ErrorCode::DiskFull
            }
            Self::Io { .. } => ErrorCode::Storage,
            Self::Cancelled => ErrorCode::Cancelled,
            _ => ErrorCode::Network,
        }
    }

    fn hint(&self) -> &'static str {
        match self {
            Self::InvalidRepo(_) => "Copy the name from the model's page, such as HuggingFaceTB/SmolLM2-135M-Instruct.",
            Self::InvalidRevision(_) => "Leave it out for the newest, or give a branch, a tag or a commit.",
            Self::InvalidAddress(..) => "Give the whole address, such as https://host or http://127.0.0.1:8080/v1.",
            Self::Unreachable { .. } | Self::Silent { .. } | Self::CutShort { .. } => {
                "Check your connection, then try again: a download goes on where it ended."
            }
            Self::NotFound { .. } => "Check the spelling of the name, and that the model is public.",
            Self::Unauthorized { .. } => "Put a token of yours into HF_TOKEN, then try again.",
            Self::Gated { .. } => "Accept the model's terms on its page, put a token of yours into HF_TOKEN, then try again.",
            Self::TooManyRequests { .. } => "Wait a few minutes, then try again: a download goes on where it ended.",
            Self::ServerFault { .. } => "Try again later: a download goes on where it ended.",
            Self::Unexpected { .. } | Self::Unreadable { .. } => "Check the address: is it the server that you mean?",
            Self::UnsafeName { .. } | Self::UnsafeRedirect { .. } | Self::Unverifiable { .. } => {
                "Do not use this model from this address. Check HF_ENDPOINT if you set it."
            }
            Self::WrongLength { .. } | Self::WrongHash { .. } => {
                "Nothing was installed. Try again; if it happens again, do not use this model from this address."
            }
            Self::Pickle { .. } | Self::PickleOnly { .. } => "Look for a copy of this model in safetensors or GGUF; most have one.",
            Self::NoWeights { .. } => "Choose a model with safetensors or GGUF files, and name the GGUF file if there are several.",
            Self::Incomplete { .. } => "Choose another model, or another revision of this one.",
            Self::NoSpace { .. } => "Free some space, or set HF_HOME to a folder on a larger disk.",
            Self::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                "Free some space, then try again: the download goes on."
            }
            Self::Io { .. } => "Check that the folder exists and that you may write to it, or set HF_HOME to another one.",
            Self::Cancelled => "Start it again to go on where it ended.",
        }
    }
}

impl From<HubError> for ApiError {
    fn from(error: HubError) -> Self {
        ApiError::new(error.code(), error.to_string()).hint(error.hint())
    }
}

fn megabytes(bytes: u64) -> String {
    let mb = bytes as f64 / 1e6;
    if mb >= 1000.0 { format!("{:.1} GB", mb / 1000.0) } else { format!("{mb:.0} MB") }
}
