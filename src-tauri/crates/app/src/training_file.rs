//! Texts to learn from that come from a file instead of the person's thumbs.

use crate::dataset::JudgedText;
use datasets::{DatasetError, Row, Target};
use domain::{ApiError, DatasetReport, FormatCount, GenerationId, GenreMix, SkippedRow};
use std::path::Path;

/// Skipped rows that are named one by one in a report.
const MOST_NAMED: usize = 20;

/// The two answers of a pair share a mark like this in place of a generation.
const PAIR: &str = "row_";

/// Reads the usable rows; what became of the others is in the report.
///
/// # Errors
/// `InvalidInput` for a path that is not absolute or a file without usable rows.
pub(crate) fn read(path: &Path) -> Result<(Vec<JudgedText>, DatasetReport), ApiError> {
    if !path.is_absolute() {
        return Err(ApiError::field("dataset", "The path must be absolute, from the root on."));
    }
    let found = datasets::read(path).map_err(|error| refusal(&error))?;
    let report = DatasetReport {
        path: path.display().to_string(),
        rows: found.seen as u32,
        examples: found.rows.len() as u32,
        skipped: found.skipped as u32,
        first_skipped: found
            .first_skipped
            .iter()
            .take(MOST_NAMED)
            .map(|skipped| SkippedRow { row: skipped.number as u32, reason: skipped.reason.to_string() })
            .collect(),
        formats: found
            .formats()
            .into_iter()
            .map(|(format, examples)| FormatCount { format: format.name().to_owned(), examples: examples as u32 })
            .collect(),
    };
    Ok((found.rows.iter().flat_map(texts).collect(), report))
}

/// Whether every text is one side of a pair of a file.
pub(crate) fn all_pairs(texts: &[JudgedText]) -> bool {
    !texts.is_empty() && texts.iter().all(|text| text.generation.as_ref().is_some_and(|mark| mark.as_str().starts_with(PAIR)))
}

/// A row as one judged text, or as two of which one is better.
fn texts(row: &Row) -> Vec<JudgedText> {
    let text = |words: &str, liked, generation| JudgedText {
        prompt: row.prompt_text(),
        genres: GenreMix::default(),
        style: None,
        text: words.to_owned(),
        liked,
        generation,
        original: None,
        weight: row.weight,
    };
    match &row.target {
        Target::Answer(answer) => vec![text(answer, true, None)],
        Target::Judged { answer, liked } => vec![text(answer, *liked, None)],
        Target::Pair { chosen, rejected } => {
            let mark = Some(GenerationId(format!("{PAIR}{}", row.number)));
            vec![text(chosen, true, mark.clone()), text(rejected, false, mark)]
        }
    }
}

fn refusal(error: &DatasetError) -> ApiError {
    let hint = match error {
        DatasetError::Unreadable { .. } => "Check the path and that you may read the file.",
        DatasetError::TooLarge { .. } => "Split it, or take a sample of its rows.",
        DatasetError::NotText { .. } => "Save the file as UTF-8.",
        DatasetError::Empty | DatasetError::UnknownLayout { .. } | DatasetError::NothingUsable { .. } => {
            "Give one JSON object a line, a JSON array or CSV with a header, with fields such as prompt and completion; \
             prompt, chosen and rejected; prompt, completion and label; instruction and output; messages; or text."
        }
    };
    ApiError::field("dataset", error.to_string()).hint(hint)
}
