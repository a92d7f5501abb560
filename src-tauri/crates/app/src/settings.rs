//! Settings: validated as a whole, saved, and in force for the next call without a restart.

use crate::{App, lock};
use domain::{ApiError, FieldFault, Nothing, Settings, SettingsUpdate, SettingsView};
use std::path::Path;

impl App {
    pub fn settings(&self, _: Nothing) -> Result<Settings, ApiError> {
        Ok(self.home().store.settings()?)
    }

    pub fn settings_view(&self, _: Nothing) -> Result<SettingsView, ApiError> {
        Ok(SettingsView {
            settings: self.settings(Nothing {})?,
            descriptions: Settings::descriptions(),
            data_dir: self.data_dir().display().to_string(),
        })
    }

    /// Applies the update, or lists every fault and changes nothing.
    pub fn update_settings(&self, update: SettingsUpdate) -> Result<Settings, ApiError> {
        let _one_at_a_time = lock(&self.settings);
        let current = self.settings(Nothing {})?;
        let next = self.checked(&current, &update)?;
        if current != next {
            self.home().store.save_settings(&next)?;
        }
        Ok(next)
    }

    /// What [`App::update_settings`] would say, without saving: for checking while a person types.
    pub fn check_settings(&self, update: SettingsUpdate) -> Result<Settings, ApiError> {
        self.checked(&self.settings(Nothing {})?, &update)
    }

    fn checked(&self, current: &Settings, update: &SettingsUpdate) -> Result<Settings, ApiError> {
        let mut faults = crate::member::faults(&update.0);
        let base = update.0.get("defaultBase").and_then(serde_json::Value::as_str);
        if let Some(Err(error)) = base.map(|id| self.base_id(Some(&id.into()))) {
            faults.push(FieldFault { field: "defaultBase".to_owned(), message: error.message });
        }
        checked(current, update, faults)
    }
}

/// `faults` are those that looking beyond the settings has found.
fn checked(current: &Settings, update: &SettingsUpdate, mut faults: Vec<FieldFault>) -> Result<Settings, ApiError> {
    let next = match current.merged(&update.0) {
        Ok(next) => Some(next),
        Err(error) if error.detail.is_empty() => return Err(error),
        Err(error) => {
            faults.extend(error.detail);
            None
        }
    };
    // The folder is checked even when other keys are faulty, so that one answer lists everything.
    let enabled = update.0.get("softPromptEnabled").and_then(serde_json::Value::as_bool).unwrap_or(current.soft_prompt_enabled);
    let folder = update.0.get("softPromptModelDir").and_then(serde_json::Value::as_str).unwrap_or(&current.soft_prompt_model_dir);
    if enabled && (folder.is_empty() || !Path::new(folder).is_dir()) {
        let message = if folder.is_empty() {
            "The soft-prompt fallback is on, but no folder is set.".to_owned()
        } else {
            format!("There is no folder {folder}.")
        };
        faults.push(FieldFault { field: "softPromptModelDir".to_owned(), message });
    }
    match next {
        Some(next) if faults.is_empty() => Ok(next),
        _ => Err(ApiError::fields(faults).hint("Nothing was changed. Correct the fields named and save again.")),
    }
}
