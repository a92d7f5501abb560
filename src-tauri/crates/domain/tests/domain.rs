//! Tests of the plain data: what is refused, and that every fault is named at once.

use domain::{Genre, GenreMix, Settings, Theme};
use serde_json::json;

#[test]
fn a_settings_update_lists_every_fault_at_once_and_applies_nothing() {
    let settings = Settings::default();
    let update = json!({ "candidates": 99, "temperature": "warm", "nonsense": 1, "theme": "dark" });
    let error = settings.merged(update.as_object().expect("an object")).expect_err("three faults");
    let fields: Vec<_> = error.detail.iter().map(|fault| fault.field.as_str()).collect();
    assert_eq!(fields, ["candidates", "nonsense", "temperature"], "each faulty field is named once");
}

#[test]
fn a_settings_update_changes_only_what_it_names() {
    let settings = Settings::default();
    let next =
        settings.merged(json!({ "theme": "dark", "softPromptConfidenceThreshold": 0.5 }).as_object().expect("an object")).expect("valid");
    assert_eq!(next.theme, Theme::Dark);
    assert_eq!(settings.changed_keys(&next), ["theme", "softPromptConfidenceThreshold"]);
}

#[test]
fn every_default_is_within_its_own_range() {
    let defaults = serde_json::to_value(Settings::default()).expect("settings are JSON");
    Settings::default().merged(defaults.as_object().expect("an object")).expect("defaults are valid");
}

#[test]
fn genre_weights_are_normalised_and_all_zero_is_refused() {
    let mix = GenreMix([(Genre::Fantasy, 70.0), (Genre::Mystery, 30.0), (Genre::Horror, 0.0)].into());
    let checked = mix.checked().expect("a usable mix");
    assert_eq!(checked.0.len(), 2, "zeros drop out");
    assert!((checked.0[&Genre::Fantasy] - 0.7).abs() < 1e-9);
    assert_eq!(checked.top(), Some(Genre::Fantasy));
    let zero = GenreMix([(Genre::Fantasy, 0.0)].into()).checked().expect_err("all zero");
    assert!(zero.hint.is_some(), "a hint says what to do");
    assert!(GenreMix::default().checked().expect("any genre").0.is_empty());
}
