//! Comparisons: a person prefers one text to another, and taste learns from it at once.

use crate::App;
use domain::{ApiError, Preference, PreferenceId, PreferenceRequest, PreferenceResult, PreferenceSource, TasteTraining, Timestamp};

impl App {
    /// Stores that of two candidates of one generation one is better, and learns taste anew.
    ///
    /// # Errors
    /// `NotFound` for an unknown candidate, `InvalidInput` when they cannot be compared.
    pub fn prefer(&self, request: PreferenceRequest) -> Result<PreferenceResult, ApiError> {
        let home = self.home();
        let (better, worse) = (home.store.candidate(&request.better)?, home.store.candidate(&request.worse)?);
        if better.generation_id != worse.generation_id {
            return Err(ApiError::field("worse", "These two texts were not written for the same request.")
                .hint("Compare two texts of one generation."));
        }
        let text = |candidate: domain::Candidate| candidate.feedback.and_then(|one| one.edited_text).unwrap_or(candidate.text);
        let preference = Preference {
            id: PreferenceId::fresh(),
            source: PreferenceSource::Explore,
            generation_id: Some(better.generation_id),
            prompt: better.request.prompt,
            genres: better.request.genres,
            style: better.request.style,
            better: text(better.candidate),
            worse: text(worse.candidate),
            created_at: Timestamp::now(),
        };
        if preference.better == preference.worse {
            return Err(ApiError::field("worse", "These two texts are the same.").hint("Choose two that differ."));
        }
        home.store.add_preference(&preference)?;
        Ok(PreferenceResult { preference_id: preference.id, taste: self.learn_after_preference()? })
    }

    /// A comparison is rarer than a thumb and was asked for: it is learned from at once unless the person went back to a version.
    pub(crate) fn learn_after_preference(&self) -> Result<domain::TasteSummary, ApiError> {
        let due = !self.taste_pinned()?;
        if due {
            self.learn_taste(&TasteTraining::default())?;
        }
        let mut summary = self.taste_summary()?;
        summary.trained = due;
        Ok(summary)
    }
}
