//! `inkling settings …`

use crate::args::SettingsAction;
use crate::backend::Backend;
use crate::output::{Printer, table};
use app::calls::call;
use domain::{ApiError, FieldFault, Nothing, SettingDescription, SettingKind, Settings, SettingsUpdate};
use serde_json::{Map, Value};

pub fn run(action: Option<SettingsAction>, backend: &Backend, printer: &Printer) -> Result<(), ApiError> {
    match action.unwrap_or(SettingsAction::Get { key: None }) {
        SettingsAction::Get { key } => {
            let settings = values(&backend.call::<call::Settings>(Nothing {})?)?;
            match key {
                Some(key) => {
                    let value = settings.get(&key).ok_or_else(|| unknown(&key))?;
                    printer.result(value, || plain(value));
                }
                None => printer.result(&settings, || listed(&settings)),
            }
        }
        SettingsAction::Set { changes } => {
            let descriptions = backend.call::<call::SettingsView>(Nothing {})?.descriptions;
            let settings = backend.call::<call::UpdateSettings>(SettingsUpdate(parse(&changes, &descriptions)?))?;
            printer.result(&settings, || "Saved; it holds at once.".to_owned());
        }
    }
    Ok(())
}

fn values(settings: &Settings) -> Result<Map<String, Value>, ApiError> {
    match serde_json::to_value(settings).map_err(ApiError::internal)? {
        Value::Object(values) => Ok(values),
        _ => Err(ApiError::internal("settings are not an object")),
    }
}

fn listed(settings: &Map<String, Value>) -> String {
    table(&settings.iter().map(|(key, value)| vec![key.clone(), plain(value)]).collect::<Vec<_>>())
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Reads `key=value` in the type of that setting. What does not fit goes on as text: the checks there name every fault at
/// once, in one place.
fn parse(changes: &[String], descriptions: &[SettingDescription]) -> Result<Map<String, Value>, ApiError> {
    let mut update = Map::new();
    let mut faults = Vec::new();
    for change in changes {
        let Some((key, text)) = change.split_once('=') else {
            faults.push(FieldFault { field: change.clone(), message: format!("\"{change}\" is not KEY=VALUE.") });
            continue;
        };
        let kind = descriptions.iter().find(|one| one.key == key).map(|one| &one.kind);
        let as_text = matches!(kind, Some(SettingKind::Choice { .. } | SettingKind::Folder));
        let value = if as_text { None } else { serde_json::from_str(text).ok() };
        update.insert(key.to_owned(), value.unwrap_or_else(|| Value::String(text.to_owned())));
    }
    if faults.is_empty() { Ok(update) } else { Err(ApiError::fields(faults).hint("Write, for example, candidates=6.")) }
}

fn unknown(key: &str) -> ApiError {
    ApiError::field("key", format!("There is no setting named {key}.")).hint("`inkling settings` lists them all.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_in_the_type_of_their_setting() {
        let changes = ["candidates=6", "explore=false", "softPromptModelDir=123", "theme=dark", "temperature=warm"].map(str::to_owned);
        let update = parse(&changes, &Settings::descriptions()).unwrap();
        let wanted = serde_json::json!({
            "candidates": 6, "explore": false, "softPromptModelDir": "123", "theme": "dark", "temperature": "warm",
        });
        assert_eq!(Value::Object(update), wanted, "a folder named 123 stays text, what is no number is left to the checks");
        assert_eq!(parse(&["candidates".into(), "theme".into()], &[]).unwrap_err().detail.len(), 2, "all faults at once");
    }
}
