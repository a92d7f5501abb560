//! Training data from files.
//!
//! One reader for JSON Lines, a JSON array and CSV, and for every row format that people bring: instructions, questions over
//! a context, plain texts, prompts with completions, preferences, thumbs, OpenAI `messages` and ShareGPT. A row that cannot be
//! used is skipped with its number and the reason; the rest is used.

#![forbid(unsafe_code)]

mod chat;
mod error;
mod file;
mod row;

pub use chat::{Message, Role};
pub use error::{DatasetError, SkipReason};
pub use file::{MOST_BYTES, MOST_ROW_BYTES, MOST_ROWS, Skipped, TrainingRows, parse, read};
pub use row::{Row, RowFormat, Target};
