//! What stands in the Write view and is not written yet.

use crate::App;
use domain::{ApiError, Done, Draft, Nothing};

/// A draft is a few fields; anything larger is not one.
const LARGEST_DRAFT: usize = 1 << 20;

impl App {
    pub fn draft(&self, _: Nothing) -> Result<Draft, ApiError> {
        Ok(self.home().store.draft()?)
    }

    pub fn save_draft(&self, draft: Draft) -> Result<Done, ApiError> {
        if draft.json.len() > LARGEST_DRAFT {
            return Err(ApiError::field("json", "This draft is larger than 1 MB.").hint("Shorten the prompt."));
        }
        self.home().store.save_draft(&draft)?;
        Ok(Done::OK)
    }
}
