//! Results that took hours, kept line by line in `report/`, so that the report can be made anew without running them again.

use crate::EvalError;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io::Write;
use std::path::Path;

/// Every kept result, the oldest first; none where the file is missing.
///
/// # Errors
/// `File` when it cannot be read, `Pool` when a line is damaged.
pub fn load<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>, EvalError> {
    let text = match std::fs::read_to_string(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        text => text.map_err(EvalError::file(path))?,
    };
    text.lines().map(|line| serde_json::from_str(line).map_err(|error| EvalError::Pool(format!("{}: {error}", path.display())))).collect()
}

/// Adds one result.
///
/// # Errors
/// `File` when it cannot be written.
pub fn keep<T: Serialize>(path: &Path, result: &T) -> Result<(), EvalError> {
    let mut line = serde_json::to_string(result).map_err(|error| EvalError::Pool(error.to_string()))?;
    line.push('\n');
    let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path).map_err(EvalError::file(path))?;
    file.write_all(line.as_bytes()).map_err(EvalError::file(path))
}
