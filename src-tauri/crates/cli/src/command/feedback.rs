//! `inkling feedback CANDIDATE …`

use crate::args::Feedback;
use crate::backend::Backend;
use crate::output::Printer;
use app::calls::call;
use domain::{ApiError, CandidateId, ErrorCode, FeedbackRequest, PreferenceRequest, TasteSummary};
use std::io::Read;
use std::path::Path;

pub fn run(feedback: Feedback, backend: &Backend, printer: &Printer) -> Result<(), ApiError> {
    let verdict = match (feedback.up, feedback.down) {
        (true, _) => Some(1),
        (_, true) => Some(-1),
        _ => None,
    };
    let request = FeedbackRequest {
        candidate_id: CandidateId(feedback.candidate_id),
        verdict,
        tags: feedback.tags,
        comment: feedback.comment.or(feedback.comment_option),
        edited_text: feedback.edit.as_deref().map(read).transpose()?,
    };
    let stored = backend.call::<call::Feedback>(request)?;
    printer.result(&stored, || format!("Stored as {}. {}", stored.feedback_id, taste(&stored.taste)));
    Ok(())
}

/// `inkling prefer BETTER WORSE`
pub fn prefer(better: String, worse: String, backend: &Backend, printer: &Printer) -> Result<(), ApiError> {
    let request = PreferenceRequest { better: CandidateId(better), worse: CandidateId(worse) };
    let stored = backend.call::<call::Prefer>(request)?;
    printer.result(&stored, || format!("Stored as {}. {}", stored.preference_id, taste(&stored.taste)));
    Ok(())
}

fn taste(taste: &TasteSummary) -> String {
    let thumbs = if taste.thumbs == 1 { "1 verdict".to_owned() } else { format!("{} verdicts", taste.thumbs) };
    match (taste.confident, taste.auc) {
        _ if taste.pinned => format!("You went back to an earlier taste; {thumbs} wait until `inkling train preference`."),
        (true, Some(auc)) => format!("Your taste from {thumbs} counts in the vote (AUC {auc:.2})."),
        (true, None) => format!("Your taste from {thumbs} counts in the vote."),
        (false, _) => format!("No sure taste from {thumbs} yet; the vote does without it."),
    }
}

fn read(path: &Path) -> Result<String, ApiError> {
    let text = if path == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map(|_| text)
    } else {
        std::fs::read_to_string(path)
    };
    text.map_err(|error| {
        ApiError::new(ErrorCode::InvalidInput, format!("{} cannot be read: {error}.", path.display())).hint("Give a text file in UTF-8.")
    })
}
