//! A T5 as a base: imported, written with, taught by prompt tuning, and refused for what it cannot do.

use crate::{Desk, PROMPTS, short, training};
use domain::*;
use std::path::Path;

/// A tiny T5 of flan-t5's shape with random weights, in a folder of that name.
fn imported(desk: &Desk) -> Base {
    let reference = Path::new(env!("CARGO_MANIFEST_DIR")).join("../model/tests/reference/t5/flan");
    let folder = desk.folder.path().join("elsewhere/flan-t5-small");
    std::fs::create_dir_all(&folder).expect("a folder");
    for name in ["config.json", "model.safetensors"] {
        std::fs::copy(reference.join(name), folder.join(name)).expect("copied");
    }
    // Its tokenizer knows a third of the tokens that the weights have rows for; a real one knows all.
    let tokenizer = std::fs::read(reference.join("tokenizer.json")).expect("a file");
    let mut tokenizer: serde_json::Value = serde_json::from_slice(&tokenizer).expect("JSON");
    let pieces = tokenizer["model"]["vocab"].as_array_mut().expect("its pieces");
    let more = (pieces.len()..101).map(|index| serde_json::json!([format!("▁word{index}"), -30.0]));
    pieces.extend(more.collect::<Vec<_>>());
    std::fs::write(folder.join("tokenizer.json"), tokenizer.to_string()).expect("written");
    desk.app.import_base(BaseImport { path: folder.display().to_string(), name: None, in_place: false }).expect("imported")
}

/// Rows to learn from, in words that its tokenizer knows.
fn rows(desk: &Desk) -> String {
    let path = desk.folder.path().join("rows.jsonl");
    let row = |index: usize| format!(r#"{{"prompt":"tell me about {index}","completion":"the sea is wide and {index} birds fly"}}"#);
    std::fs::write(&path, (0..10).map(row).collect::<Vec<_>>().join("\n")).expect("written");
    path.display().to_string()
}

#[test]
fn a_t5_is_imported_written_with_and_taught_a_soft_prompt_that_peft_reads() {
    let desk = Desk::open();
    let base = imported(&desk);
    assert_eq!((base.architecture.as_str(), base.kind, base.id.as_str()), ("t5", BaseKind::Instruct, "flan-t5-small"));
    assert!(base.parameters > 1000.0 && base.memory_mb > 1.0 && base.tokens_per_second.is_some(), "{base:?}");
    let write = |adapters| desk.app.write(WriteRequest { base: Some(base.id.clone()), adapters, n: Some(2), ..short("the sea", 3) });
    let plain = write(None).expect("written");
    assert!(plain.candidates.len() >= 2, "and a second try, if neither was good");
    assert_eq!(write(None).expect("written").candidates[0].text, plain.candidates[0].text, "the same seed, the same text");

    // By the name that it has on the hub, as the old trainer was called.
    let request = TrainRequest {
        base: Some("google/flan-t5-small".into()),
        dataset: Some(rows(&desk)),
        hyperparameters: HyperparameterChoice { virtual_tokens: Some(4), learning_rate: Some(0.3), ..training(12).hyperparameters },
        ..TrainRequest::of(Recipe::SoftPrompt)
    };
    let plan = desk.app.plan_training(request.clone()).expect("a plan");
    assert!(plan.ready, "{:?}", plan.blocked_by);
    assert_eq!((&plan.base, plan.examples, plan.heldout), (&base.id, 8, 2));
    assert!(plan.estimated_seconds > 0.0 && plan.estimated_memory_mb > 1.0);
    let run = desk.ended(&desk.app.train(request).expect("queued").run_id);
    assert_eq!(run.status, RunStatus::Completed, "{:?}", run.error);
    let verdict = run.verdict.expect("a verdict");
    assert!(verdict.heldout_loss_after < verdict.heldout_loss_before, "it learned: {verdict:?}");
    let adapter = desk.app.adapters(Nothing {}).expect("adapters").remove(0);
    let folder = desk.folder.path().join(&adapter.path);
    let config: serde_json::Value =
        serde_json::from_slice(&std::fs::read(folder.join("adapter_config.json")).expect("a file")).expect("JSON");
    assert_eq!(config["peft_type"], "PROMPT_TUNING");
    assert_eq!(
        (&config["task_type"], &config["num_virtual_tokens"], &config["token_dim"]),
        (&"SEQ_2_SEQ_LM".into(), &4.into(), &48.into())
    );

    let choice = |strength| Some(vec![AdapterChoice { id: adapter.id.clone(), strength }]);
    let texts = |result: WriteResult| {
        let mut texts: Vec<String> = result.candidates.into_iter().map(|one| one.text).collect();
        texts.sort();
        texts
    };
    assert_eq!(texts(write(choice(0.0)).expect("written")), texts(write(Some(vec![])).expect("written")), "at 0 it is the plain base");
    assert_ne!(texts(write(choice(1.0)).expect("written")), texts(write(Some(vec![])).expect("written")), "writing uses it");
    let between = write(choice(0.5)).expect_err("a T5 knows no strengths between");
    assert_eq!((between.code, between.detail[0].field.as_str()), (ErrorCode::InvalidInput, "adapters"));
    desk.app.activate_adapter(AdapterActivation { adapter_id: adapter.id.clone(), strength: Some(1.0) }).expect("activated");
    let active = write(None).expect("written");
    assert!(active.candidates.iter().any(|one| one.member.contains("Soft prompt")), "{:?}", active.candidates[0].member);

    let going_on = WriteRequest { continue_from: Some(active.chosen.clone()), base: Some(base.id.clone()), ..short("", 4) };
    assert!(desk.app.write(going_on).expect("it goes on").candidates[0].continued_chars > 0);
    assert_eq!(desk.app.blind_test(BlindRequest { run_id: run.run_id, again: false }).expect("a blind test").pairs.len(), 5);
}

#[test]
fn a_t5_is_trained_on_in_fewer_bits() {
    let desk = Desk::open();
    let base = imported(&desk);
    let mut held = TrainRequest { base: Some(base.id.clone()), dataset: Some(rows(&desk)), ..training(2) };
    held.hyperparameters.quantization = Some(BasePrecision::Int8);
    let run = desk.ended(&desk.app.train(held).expect("queued").run_id);
    assert_eq!(run.status, RunStatus::Completed, "{:?}", run.error);
    assert!(run.adapter_id.is_some() && run.verdict.is_some());
}

#[test]
fn what_a_t5_cannot_do_is_refused_with_what_can_be_done_instead() {
    let desk = Desk::open();
    let base = imported(&desk);
    let request =
        |recipe| TrainRequest { base: Some(base.id.clone()), dataset: Some(rows(&desk)), ..TrainRequest { recipe, ..training(2) } };
    for recipe in [Recipe::Lora, Recipe::Dora] {
        let refused = desk.app.plan_training(request(recipe)).expect_err("no LoRA on a T5");
        assert_eq!((refused.code, refused.detail[0].field.as_str()), (ErrorCode::InvalidInput, "recipe"));
        assert!(refused.hint.is_some_and(|hint| hint.contains("soft prompt")));
    }
    let judged = TrainRequest { objective: Some(Objective::Kto), ..request(Recipe::SoftPrompt) };
    assert_eq!(desk.app.plan_training(judged).expect_err("not from judgements").detail[0].field, "objective");
    let unknown = TrainRequest { base: Some("google/flan-t5-base".into()), ..request(Recipe::SoftPrompt) };
    let missing = desk.app.plan_training(unknown).expect_err("not here");
    assert_eq!(missing.code, ErrorCode::NotFound);
    assert!(missing.hint.is_some_and(|hint| hint.contains("models pull google/flan-t5-base")));

    // A soft prompt of the built-in base does not fit.
    desk.like(&PROMPTS[..2]);
    let run = desk.ended(&desk.app.train(training(2)).expect("queued").run_id);
    let adapters = Some(vec![AdapterChoice { id: run.adapter_id.expect("an adapter"), strength: 1.0 }]);
    let refused = desk.app.write(WriteRequest { base: Some(base.id.clone()), adapters, ..short("the sea", 3) });
    assert!(refused.is_err(), "its vectors have another width");
    let mut broken = std::fs::read(desk.folder.path().join("elsewhere/flan-t5-small/model.safetensors")).expect("a file");
    broken.truncate(broken.len() / 2);
    let half = desk.folder.path().join("half");
    std::fs::create_dir_all(&half).expect("a folder");
    for name in ["config.json", "tokenizer.json"] {
        std::fs::copy(desk.folder.path().join("elsewhere/flan-t5-small").join(name), half.join(name)).expect("copied");
    }
    std::fs::write(half.join("model.safetensors"), broken).expect("written");
    let refused = desk.app.import_base(BaseImport { path: half.display().to_string(), name: None, in_place: true }).expect_err("cut off");
    assert_eq!(refused.code, ErrorCode::ModelDamaged, "{}", refused.message);
}
