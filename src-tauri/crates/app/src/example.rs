//! Examples as a person reads, edits and drops them.

use crate::App;
use domain::{ApiError, Example, ExampleEdit, ExampleQuery, ExampleRef};

const LONGEST_TEXT: usize = 200_000;

impl App {
    /// The examples of a session in order, or the newest of all.
    pub fn examples(&self, query: ExampleQuery) -> Result<Vec<Example>, ApiError> {
        let limit = match query.limit.unwrap_or(500) {
            limit @ 1..=1000 => limit,
            other => return Err(ApiError::field("limit", format!("limit is {other}; it must be 1 to 1000."))),
        };
        Ok(self.home().store.examples(query.auto_train_id.as_ref(), limit)?)
    }

    pub fn example(&self, which: ExampleRef) -> Result<Example, ApiError> {
        Ok(self.home().store.example(&which.example_id)?)
    }

    /// Takes an example out of what is learned from; it can still be read and restored.
    pub fn drop_example(&self, which: ExampleRef) -> Result<Example, ApiError> {
        Ok(self.home().store.set_example_dropped(&which.example_id, true)?)
    }

    pub fn restore_example(&self, which: ExampleRef) -> Result<Example, ApiError> {
        Ok(self.home().store.set_example_dropped(&which.example_id, false)?)
    }

    /// Keeps the person's own version, which is learned from instead.
    ///
    /// # Errors
    /// `InvalidInput` for an empty or very long text.
    pub fn edit_example(&self, edit: ExampleEdit) -> Result<Example, ApiError> {
        let text = edit.text.trim();
        if text.is_empty() {
            return Err(ApiError::field("text", "The text is empty.").hint("Drop the example instead, if it should not be learned from."));
        }
        if text.chars().count() > LONGEST_TEXT {
            return Err(ApiError::field("text", format!("The text is longer than {LONGEST_TEXT} characters.")));
        }
        Ok(self.home().store.edit_example(&edit.example_id, text)?)
    }
}
