//! A person's verdicts: stored at once, and learned from at once.

use crate::App;
use domain::{ApiError, FeedbackId, FeedbackItem, FeedbackRequest, FeedbackResult, FieldFault, TasteTraining, Timestamp};

const MOST_TAGS: usize = 32;
const LONGEST_TAG: usize = 64;
const LONGEST_COMMENT: usize = 10_000;
const LONGEST_EDIT: usize = 200_000;

impl App {
    /// Stores a verdict and, when enough are new, learns taste anew.
    ///
    /// The verdict is the thumb; without one, what the tags or the comment say; an edit alone counts as a thumb up for
    /// the edited text, which is preferred to the original.
    ///
    /// # Errors
    /// `NotFound` for an unknown candidate, `InvalidInput` with every fault.
    pub fn feedback(&self, request: FeedbackRequest) -> Result<FeedbackResult, ApiError> {
        let home = self.home();
        let item = checked(request)?;
        home.store.add_feedback(&item)?;
        let every = home.store.settings()?.taste_every_thumbs;
        let known = self.any_taste().map_or(0, |model| model.counts.thumbs);
        // A changed mind changes no count: with the default of 1 every verdict is learned from.
        let due = !self.taste_pinned()? && (every == 1 || known == 0 || home.store.thumbs()?.total().abs_diff(known) >= every);
        if due {
            self.learn_taste(&TasteTraining::default())?;
        }
        let mut taste = self.taste_summary()?;
        taste.trained = due;
        Ok(FeedbackResult { feedback_id: item.id, taste })
    }
}

fn checked(request: FeedbackRequest) -> Result<FeedbackItem, ApiError> {
    let mut faults = Vec::new();
    let mut fault = |field: &str, message: String| faults.push(FieldFault { field: field.to_owned(), message });
    let comment = request.comment.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
    let edited = request.edited_text.filter(|text| !text.trim().is_empty());
    let tags: Vec<String> = request.tags.iter().map(|tag| tag.trim().to_owned()).filter(|tag| !tag.is_empty()).collect();
    if tags.len() > MOST_TAGS || tags.iter().any(|tag| tag.chars().count() > LONGEST_TAG) {
        fault("tags", format!("At most {MOST_TAGS} tags of {LONGEST_TAG} characters each can be kept."));
    }
    if comment.as_ref().is_some_and(|text| text.chars().count() > LONGEST_COMMENT) {
        fault("comment", format!("The comment is longer than {LONGEST_COMMENT} characters."));
    }
    if edited.as_ref().is_some_and(|text| text.chars().count() > LONGEST_EDIT) {
        fault("edited_text", format!("The edited text is longer than {LONGEST_EDIT} characters."));
    }
    let said = || taste::verdict_in_words(tags.iter().map(String::as_str).chain(comment.as_deref()));
    let verdict = match request.verdict {
        Some(verdict @ (1 | -1)) => Some(verdict),
        Some(other) => {
            fault("verdict", format!("The verdict is {other}; it must be 1 (up) or -1 (down)."));
            None
        }
        None => said().or(edited.as_ref().map(|_| 1)),
    };
    match verdict {
        Some(verdict) if faults.is_empty() => Ok(FeedbackItem {
            id: FeedbackId::fresh(),
            candidate_id: request.candidate_id,
            verdict,
            tags,
            comment,
            edited_text: edited,
            created_at: Timestamp::now(),
        }),
        None if faults.is_empty() => Err(ApiError::field("verdict", "This says neither yes nor no.")
            .hint("Give a thumb (1 or -1), a tag such as \"good\" or \"bad\", or an edited text.")),
        _ => Err(ApiError::fields(faults)),
    }
}
