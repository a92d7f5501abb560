//! Every bad input gets a code, words and a hint, and leaves everything as it was.

use crate::{Desk, PROMPTS, feedback, short, training};
use app::{App, OpenOptions, Opened};
use domain::*;

fn refused(desk: &Desk, request: WriteRequest) -> ApiError {
    let before = desk.app.generations(GenerationQuery::default()).expect("a page").items.len();
    let error = desk.app.write(request).expect_err("refused");
    assert!(error.hint.is_some(), "a hint says what to do: {error:?}");
    assert_eq!(desk.app.generations(GenerationQuery::default()).expect("a page").items.len(), before, "nothing was stored");
    error
}

#[test]
fn a_faulty_request_names_every_fault_at_once() {
    let desk = Desk::open();
    let request = WriteRequest {
        prompt: "  ".to_owned(),
        genres: GenreMix([(Genre::Horror, 0.0)].into()),
        n: Some(99),
        max_tokens: Some(0),
        temperature: Some(9.0),
        ..WriteRequest::default()
    };
    let error = refused(&desk, request);
    let fields: Vec<_> = error.detail.iter().map(|fault| fault.field.as_str()).collect();
    assert_eq!(fields, ["prompt", "genres", "n", "max_tokens", "temperature"]);
    assert_eq!(error.code, ErrorCode::InvalidInput);
}

#[test]
fn an_empty_prompt_and_zero_sliders_are_refused_each_with_its_hint() {
    let desk = Desk::open();
    assert!(refused(&desk, short("", 1)).message.contains("prompt is empty"));
    let zero = WriteRequest { genres: GenreMix([(Genre::Fantasy, 0.0), (Genre::Mystery, 0.0)].into()), ..short(PROMPTS[0], 1) };
    let error = refused(&desk, zero);
    assert!(error.message.contains("zero") && error.hint.is_some_and(|hint| hint.contains("Any genre")));
}

#[test]
fn unknown_ids_are_not_found() {
    let desk = Desk::open();
    let error = desk.app.feedback(feedback(&CandidateId::from("cand_nobody"), 1)).expect_err("unknown");
    assert_eq!(error.code, ErrorCode::NotFound);
    let base = WriteRequest { base: Some(BaseId::from("gpt-7")), ..short(PROMPTS[0], 1) };
    assert_eq!(refused(&desk, base).code, ErrorCode::NotFound);
    let adapter =
        WriteRequest { adapters: Some(vec![AdapterChoice { id: AdapterId::from("ad_x"), strength: 1.0 }]), ..short(PROMPTS[0], 1) };
    assert_eq!(desk.app.write(adapter).expect_err("unknown").code, ErrorCode::NotFound);
}

#[test]
fn feedback_that_says_nothing_is_refused() {
    let desk = Desk::open();
    let chosen = desk.app.write(short(PROMPTS[0], 1)).expect("written").chosen;
    let silent = FeedbackRequest { verdict: None, ..feedback(&chosen, 1) };
    assert!(desk.app.feedback(silent).expect_err("says nothing").hint.is_some());
    let loud = feedback(&chosen, 7);
    assert_eq!(desk.app.feedback(loud).expect_err("not a thumb").detail[0].field, "verdict");
    let tagged = FeedbackRequest { verdict: None, tags: vec!["good".to_owned()], ..feedback(&chosen, 1) };
    desk.app.feedback(tagged).expect("a tag can say it");
}

#[test]
fn a_training_without_examples_says_what_is_missing() {
    let desk = Desk::open();
    let plan = desk.app.plan_training(training(5)).expect("a plan");
    assert!(!plan.ready);
    let error = desk.app.train(training(5)).expect_err("nothing to learn from");
    assert_eq!(error.code, ErrorCode::NotReady);
    assert!(error.hint.is_some_and(|hint| hint.contains("thumb")));
    assert!(desk.app.runs(Limit::default()).expect("runs").is_empty(), "no run was made");
}

#[test]
fn faulty_hyperparameters_are_listed() {
    let desk = Desk::open();
    desk.like(&PROMPTS[..1]);
    let mut request = training(5);
    request.hyperparameters.batch_size = Some(0);
    request.hyperparameters.learning_rate = Some(-1.0);
    let fields: Vec<_> = desk.app.train(request).expect_err("faulty").detail.into_iter().map(|fault| fault.field).collect();
    assert_eq!(fields, ["hyperparameters.batch_size", "hyperparameters.learning_rate"]);
}

#[test]
fn a_training_over_its_memory_budget_is_refused_with_the_figures() {
    let desk = Desk::open();
    desk.like(&PROMPTS[..2]);
    let update = serde_json::json!({ "memoryBudgetMb": 1 });
    desk.app.update_settings(SettingsUpdate(update.as_object().expect("an object").clone())).expect("saved");
    let error = desk.app.train(training(5)).expect_err("too large");
    assert_eq!(error.code, ErrorCode::OutOfMemory);
    assert!(error.message.contains("MB"), "{}", error.message);
}

#[test]
fn settings_list_all_faults_and_change_nothing() {
    let desk = Desk::open();
    let update =
        serde_json::json!({ "candidates": 0, "softPromptEnabled": true, "softPromptModelDir": "/nowhere/at/all", "theme": "dark" });
    let error = desk.app.update_settings(SettingsUpdate(update.as_object().expect("an object").clone())).expect_err("faulty");
    let fields: Vec<_> = error.detail.iter().map(|fault| fault.field.as_str()).collect();
    assert_eq!(fields, ["candidates", "softPromptModelDir"]);
    assert_eq!(desk.app.settings(Nothing {}).expect("settings"), Settings::default());
}

#[test]
fn a_missing_base_is_named_and_the_texts_still_open() {
    let (folder, assets) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let options =
        OpenOptions { data_dir: Some(folder.path().to_owned()), assets_dir: Some(assets.path().to_owned()), ..OpenOptions::default() };
    let Opened::Owner(app) = App::open(options).expect("opens without a base") else { panic!("free") };
    let error = app.write(short(PROMPTS[0], 1)).expect_err("no base");
    assert_eq!(error.code, ErrorCode::ModelMissing);
    assert!(error.hint.is_some());
    assert!(app.generations(GenerationQuery::default()).expect("history opens").items.is_empty());
    assert!(app.status(Nothing {}).expect("a status").problems.iter().any(|problem| problem.code == ErrorCode::ModelMissing));
}

#[test]
fn a_damaged_base_is_named_and_not_loaded() {
    let (folder, assets) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let base = assets.path().join("models/story");
    std::fs::create_dir_all(&base).expect("made");
    let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../assets/models/story");
    for entry in std::fs::read_dir(shipped).expect("shipped") {
        let entry = entry.expect("an entry");
        if entry.path().is_file() {
            std::fs::copy(entry.path(), base.join(entry.file_name())).expect("copied");
        }
    }
    let weights = base.join("model.safetensors");
    let mut bytes = std::fs::read(&weights).expect("read");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x40;
    std::fs::write(&weights, bytes).expect("written");
    let options =
        OpenOptions { data_dir: Some(folder.path().to_owned()), assets_dir: Some(assets.path().to_owned()), ..OpenOptions::default() };
    let Opened::Owner(app) = App::open(options).expect("opens") else { panic!("free") };
    let error = app.write(short(PROMPTS[0], 1)).expect_err("damaged");
    assert_eq!(error.code, ErrorCode::ModelDamaged);
    assert!(error.message.contains("model.safetensors"), "{}", error.message);
}
