//! From a file's bytes to rows: the layout is told by what is in it, never by its name.

use crate::row::{Row, Target, rows};
use crate::{DatasetError, Message, RowFormat, SkipReason};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, HashSet};
use std::path::Path;

/// Larger files are refused before they are read.
pub const MOST_BYTES: u64 = 1 << 28;
/// Longer rows are skipped.
pub const MOST_ROW_BYTES: usize = 1 << 20;
/// Rows beyond these are skipped.
pub const MOST_ROWS: usize = 1_000_000;

/// So many skipped rows are named one by one; all are counted.
const MOST_NAMED: usize = 100;

/// The usable rows of a file, and what became of the others.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TrainingRows {
    pub rows: Vec<Row>,
    /// Rows seen, usable or not.
    pub seen: usize,
    /// Rows left out.
    pub skipped: usize,
    /// The first of them, with the reason.
    pub first_skipped: Vec<Skipped>,
}

/// A row that was left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// Line of the file, or place in its array, from 1.
    pub number: usize,
    pub reason: SkipReason,
}

impl TrainingRows {
    /// How many rows there are of each format.
    pub fn formats(&self) -> BTreeMap<RowFormat, usize> {
        let mut formats = BTreeMap::new();
        for row in &self.rows {
            *formats.entry(row.format).or_insert(0) += 1;
        }
        formats
    }

    fn skip(&mut self, number: usize, reason: SkipReason) {
        self.skipped += 1;
        if self.first_skipped.len() < MOST_NAMED {
            self.first_skipped.push(Skipped { number, reason });
        }
    }
}

/// Reads a file of JSON Lines, a JSON array (or an object with one under `data`), or CSV with a header.
///
/// # Errors
/// [`DatasetError`], when no row can be used; single bad rows are skipped and reported.
pub fn read(path: &Path) -> Result<TrainingRows, DatasetError> {
    let unreadable = |error| DatasetError::Unreadable { path: path.to_owned(), error };
    let bytes = std::fs::metadata(path).map_err(unreadable)?.len();
    if bytes > MOST_BYTES {
        return Err(DatasetError::TooLarge { path: path.to_owned(), bytes, most: MOST_BYTES });
    }
    parse(&std::fs::read(path).map_err(unreadable)?)
}

/// As [`read`], from bytes.
///
/// # Errors
/// As [`read`].
pub fn parse(bytes: &[u8]) -> Result<TrainingRows, DatasetError> {
    let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let before = &bytes[..error.valid_up_to()];
        DatasetError::NotText { line: 1 + before.iter().filter(|byte| **byte == b'\n').count() }
    })?;
    let mut reading = Reading::default();
    match text.trim_start().chars().next() {
        None => return Err(DatasetError::Empty),
        Some('[') => array(text, &mut reading)?,
        Some('{') if !is_one_object(text) => lines(text, &mut reading),
        Some('{') => object(text, &mut reading)?,
        Some(_) => table(text, &mut reading)?,
    }
    let found = reading.found;
    match (found.rows.is_empty(), found.first_skipped.first()) {
        (true, Some(first)) => Err(DatasetError::NothingUsable { rows: found.seen, row: first.number, reason: first.reason.clone() }),
        (true, None) => Err(DatasetError::Empty),
        (false, _) => Ok(found),
    }
}

#[derive(Default)]
struct Reading {
    found: TrainingRows,
    known: HashSet<(Vec<Message>, Target)>,
}

impl Reading {
    fn take(&mut self, number: usize, bytes: usize, value: Result<Value, SkipReason>) {
        self.found.seen += 1;
        if self.found.seen > MOST_ROWS {
            return self.found.skip(number, SkipReason::TooMany(MOST_ROWS));
        }
        if bytes > MOST_ROW_BYTES {
            return self.found.skip(number, SkipReason::TooLong(bytes));
        }
        let read = value.and_then(|value| match value {
            Value::Object(fields) => rows(number, &fields),
            _ => Err(SkipReason::NotAnObject),
        });
        match read {
            Err(reason) => self.found.skip(number, reason),
            Ok(rows) => {
                let before = self.found.rows.len();
                for row in rows {
                    if self.known.insert((row.prompt.clone(), row.target.clone())) {
                        self.found.rows.push(row);
                    }
                }
                if self.found.rows.len() == before {
                    self.found.skip(number, SkipReason::Duplicate);
                }
            }
        }
    }
}

/// Whether the text is a single JSON object over several lines rather than JSON Lines.
fn is_one_object(text: &str) -> bool {
    let first = text.trim_start().lines().next().unwrap_or_default();
    serde_json::from_str::<Map<String, Value>>(first).is_err() && serde_json::from_str::<Map<String, Value>>(text).is_ok()
}

fn lines(text: &str, reading: &mut Reading) {
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        // What is too long is not parsed either.
        let value = if line.len() > MOST_ROW_BYTES {
            Ok(Value::Null)
        } else {
            serde_json::from_str(line).map_err(|error| SkipReason::NotJson(error.to_string()))
        };
        reading.take(index + 1, line.len(), value);
    }
}

fn array(text: &str, reading: &mut Reading) -> Result<(), DatasetError> {
    let rows: Vec<Value> = serde_json::from_str(text).map_err(|error| DatasetError::UnknownLayout { reason: error.to_string() })?;
    each(rows, reading);
    Ok(())
}

fn object(text: &str, reading: &mut Reading) -> Result<(), DatasetError> {
    let unknown = |reason: String| DatasetError::UnknownLayout { reason };
    let mut object: Map<String, Value> = serde_json::from_str(text).map_err(|error| unknown(error.to_string()))?;
    match object.remove("data") {
        Some(Value::Array(rows)) => each(rows, reading),
        Some(_) => return Err(unknown("its field data is not a list".to_owned())),
        None => each(vec![Value::Object(object)], reading),
    }
    Ok(())
}

fn each(rows: Vec<Value>, reading: &mut Reading) {
    for (index, row) in rows.into_iter().enumerate() {
        let bytes = length(&row);
        reading.take(index + 1, bytes, Ok(row));
    }
}

/// Bytes of all texts in a value.
fn length(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len(),
        Value::Array(values) => values.iter().map(length).sum(),
        Value::Object(fields) => fields.iter().map(|(name, value)| name.len() + length(value)).sum(),
        _ => 8,
    }
}

fn table(text: &str, reading: &mut Reading) -> Result<(), DatasetError> {
    let unknown = |reason: String| DatasetError::UnknownLayout { reason };
    let mut table = csv::ReaderBuilder::new().flexible(true).trim(csv::Trim::Headers).from_reader(text.as_bytes());
    let names: Vec<String> = table.headers().map_err(|error| unknown(error.to_string()))?.iter().map(str::to_lowercase).collect();
    const KNOWN: [&str; 7] = ["text", "prompt", "instruction", "input", "context", "chosen", "output"];
    if !names.iter().any(|name| KNOWN.contains(&name.as_str())) {
        return Err(unknown(format!("its first line names no column such as {}", KNOWN.join(", "))));
    }
    for record in table.records() {
        let record = record.map_err(|error| unknown(error.to_string()))?;
        let number = record.position().map_or(0, |at| at.line() as usize);
        let bytes = record.as_slice().len();
        let value = if record.len() == names.len() {
            let cells = names.iter().zip(&record).filter(|(_, cell)| !cell.trim().is_empty());
            Ok(Value::Object(cells.map(|(name, cell)| (name.clone(), Value::String(cell.to_owned()))).collect()))
        } else {
            Err(SkipReason::Columns { found: record.len(), wanted: names.len() })
        };
        reading.take(number, bytes, value);
    }
    Ok(())
}
