//! What can be wrong with a file, and with one of its rows.

use std::path::PathBuf;
use thiserror::Error;

/// Why a file gives no rows at all.
#[derive(Debug, Error)]
pub enum DatasetError {
    #[error("{path} cannot be read: {error}.")]
    Unreadable { path: PathBuf, error: std::io::Error },
    #[error("{path} has {bytes} bytes; at most {most} are read.")]
    TooLarge { path: PathBuf, bytes: u64, most: u64 },
    #[error("The file is empty.")]
    Empty,
    #[error("Line {line} is not UTF-8 text.")]
    NotText { line: usize },
    #[error("The file is neither JSON Lines, a JSON array nor CSV with a header: {reason}.")]
    UnknownLayout { reason: String },
    #[error("None of the {rows} rows can be used. The first: row {row}: {reason}.")]
    NothingUsable { rows: usize, row: usize, reason: SkipReason },
}

/// Why a row was left out.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SkipReason {
    #[error("it is not JSON ({0})")]
    NotJson(String),
    #[error("it is not an object with named fields")]
    NotAnObject,
    #[error("its fields ({0}) fit no known format")]
    UnknownFields(String),
    #[error("the field {0} is empty")]
    EmptyField(&'static str),
    #[error("the field {0} is not a text")]
    NotAText(&'static str),
    #[error("the label is neither true nor false")]
    UnclearLabel,
    #[error("the weight is not a number above 0")]
    UnclearWeight,
    #[error("the chosen and the rejected answer are the same")]
    SameAnswers,
    #[error("the conversation has no answer by the assistant")]
    NoAnswer,
    #[error("the conversation has a turn that cannot be read")]
    UnreadableTurn,
    #[error("it has {0} bytes; at most 1 MiB is read")]
    TooLong(usize),
    #[error("it has {found} columns where the header has {wanted}")]
    Columns { found: usize, wanted: usize },
    #[error("it repeats an earlier row")]
    Duplicate,
    #[error("the file has more than {0} rows; this one is beyond them")]
    TooMany(usize),
}
