//! What trainings are given that cannot be learned from, or no longer: each is told with a hint, and nothing else changes.

use crate::{Desk, PROMPTS, training};
use domain::*;
use std::path::{Path, PathBuf};

fn file(desk: &Desk, bytes: &[u8]) -> String {
    let path = desk.folder.path().join("rows.jsonl");
    std::fs::write(&path, bytes).expect("written");
    path.display().to_string()
}

fn from(desk: &Desk, bytes: &[u8]) -> TrainRequest {
    TrainRequest { dataset: Some(file(desk, bytes)), recipe: Recipe::Lora, ..training(2) }
}

#[test]
fn files_without_a_usable_row_are_refused_with_what_would_do() {
    let desk = Desk::open();
    let cases: [(&[u8], &str); 6] = [
        (b"", "an empty file"),
        (b"\n\n  \n", "blank lines"),
        (b"[1, 2, \"three\"]", "an array of no objects"),
        (b"{\"prompt\": {\"deep\": [[[]]]}, \"completion\": 7}\n", "fields of the wrong kind"),
        (b"{\"text\": \"caf\xe9 au lait\"}\n", "bytes that are no UTF-8"),
        (b"name,age\nAnna,7\n", "a table with other columns"),
    ];
    for (bytes, what) in cases {
        let error = desk.app.train(from(&desk, bytes)).expect_err(what);
        assert_eq!((error.code, error.detail[0].field.as_str()), (ErrorCode::InvalidInput, "dataset"), "{what}: {error:?}");
        assert!(error.hint.is_some(), "{what}");
    }
    let words = desk.app.train(from(&desk, b"{\"text\": \"ok\"}\n{\"text\": \"caf\xe9\"}\n")).expect_err("not UTF-8");
    assert!(words.detail[0].message.contains("Line 2") && words.hint.is_some_and(|hint| hint.contains("UTF-8")));
    assert!(desk.app.runs(Limit::default()).expect("runs").is_empty(), "no run was made");
}

#[test]
fn one_row_is_enough_and_a_huge_one_is_passed_over_by_name() {
    let desk = Desk::open();
    let one = from(&desk, b"{\"prompt\":\"a lamp\",\"completion\":\"It went out.\"}\n");
    let plan = desk.app.plan_training(one.clone()).expect("a plan");
    assert_eq!((plan.examples, plan.heldout, plan.ready), (1, 0, true), "{:?}", plan.blocked_by);
    assert_eq!(desk.ended(&desk.app.train(one).expect("queued").run_id).status, RunStatus::Completed);

    let huge = format!("{{\"text\":\"{}\"}}\n{{\"text\":\"A lamp went out.\"}}\n", "word ".repeat(300_000));
    let plan = desk.app.plan_training(from(&desk, huge.as_bytes())).expect("a plan");
    let report = plan.dataset.expect("a report");
    assert_eq!((report.examples, report.skipped, report.first_skipped[0].row), (1, 1, 1));
    // A long one that is no monster is cut to what the training may read.
    let long = format!("{{\"prompt\":\"{0}\",\"completion\":\"{0}\"}}\n", "the sea was wide and the lamp was lit ".repeat(2_000));
    let run = desk.ended(&desk.app.train(from(&desk, long.as_bytes())).expect("queued").run_id);
    assert_eq!(run.status, RunStatus::Completed, "{:?}", run.error);

    let mixed = b"{\"text\":\"A fox ran.\"}\n{\"prompt\":\"p\",\"completion\":\"c\",\"label\":true}\n{\"nothing\":1}\n";
    let report = desk.app.plan_training(from(&desk, mixed)).expect("a plan").dataset.expect("a report");
    assert_eq!((report.formats.len(), report.examples, report.skipped), (2, 2, 1), "each format is counted");
}

#[test]
fn numbers_that_cannot_be_are_all_named_at_once() {
    let desk = Desk::open();
    let mut request = from(&desk, b"{\"text\":\"A fox ran.\"}\n");
    request.hyperparameters = HyperparameterChoice {
        rank: Some(0),
        learning_rate: Some(-0.5),
        dropout: Some(f64::NAN),
        target_modules: Some(vec!["q_proj".into(), "attention".into()]),
        gradient_accumulation: Some(0),
        ..request.hyperparameters
    };
    let error = desk.app.train(request).expect_err("faulty");
    let fields: Vec<_> = error.detail.iter().map(|fault| fault.field.trim_start_matches("hyperparameters.")).collect();
    assert_eq!(fields, ["rank", "gradient_accumulation", "learning_rate", "dropout", "target_modules"]);
    assert!(error.hint.is_some());
    assert!(desk.app.runs(Limit::default()).expect("runs").is_empty(), "no run was made");
}

/// The built-in base under another name, without the hashes that would tell a change before anything is read.
fn copied_base(desk: &Desk) -> (Base, PathBuf) {
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../assets/models/story");
    let folder = desk.folder.path().join("elsewhere/tale");
    std::fs::create_dir_all(&folder).expect("a folder");
    for name in ["config.json", "tokenizer.json", "model.safetensors"] {
        std::fs::copy(shipped.join(name), folder.join(name)).expect("copied");
    }
    let import = BaseImport { path: folder.display().to_string(), name: None, in_place: true };
    (desk.app.import_base(import).expect("imported"), folder.join("model.safetensors"))
}

#[test]
fn a_base_that_changed_since_the_checkpoint_ends_the_run_and_leaves_its_checkpoint() {
    let desk = Desk::open();
    desk.like(&PROMPTS[..3]);
    let (base, weights) = copied_base(&desk);
    let queued = desk.app.train(TrainRequest { base: Some(base.id), ..training(5000) }).expect("queued");
    let run = || desk.app.run(RunRef { run_id: queued.run_id.clone() }).expect("a run");
    while run().step < 6 {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    desk.app.pause_job(JobRef { job_id: queued.job_id.clone() }).expect("pausing");
    let paused = desk.ended(&queued.run_id);
    assert_eq!(paused.status, RunStatus::Paused);
    let mut bytes = std::fs::read(&weights).expect("a file");
    let last = bytes.len() - 1;
    // The exponent of the last number: still finite, but another one.
    bytes[last] ^= 0x02;
    std::fs::write(&weights, bytes).expect("written");
    desk.app.resume_run(RunRef { run_id: queued.run_id.clone() }).expect("resumed");
    let failed = desk.ended(&queued.run_id);
    let error = failed.error.expect("it says why");
    assert_eq!((failed.status, error.code), (RunStatus::Failed, ErrorCode::Conflict), "{error:?}");
    assert!(error.message.contains("another base") && error.hint.is_some(), "{error:?}");
    let checkpoint = Path::new(&failed.directory).join(format!("checkpoint-{}", paused.checkpoint_step.expect("a checkpoint")));
    assert!(checkpoint.join("manifest.json").is_file(), "what was saved is still there");
    assert!(desk.app.adapters(Nothing {}).expect("adapters").is_empty());
    assert!(desk.app.plan_training(training(5)).expect("a plan").ready, "the built-in base can be trained on as before");
}

#[test]
fn a_run_whose_texts_were_damaged_says_that_it_cannot_go_on() {
    let desk = Desk::open();
    desk.like(&PROMPTS[..2]);
    let queued = desk.app.train(training(5000)).expect("queued");
    let run = || desk.app.run(RunRef { run_id: queued.run_id.clone() }).expect("a run");
    while run().step < 1 {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    desk.app.pause_job(JobRef { job_id: queued.job_id.clone() }).expect("pausing");
    let paused = desk.ended(&queued.run_id);
    std::fs::write(Path::new(&paused.directory).join("dataset.json"), b"{\"base\":\"story\",").expect("written");
    desk.app.resume_run(RunRef { run_id: queued.run_id.clone() }).expect("resumed");
    let error = desk.ended(&queued.run_id).error.expect("it says why");
    assert_eq!(error.code, ErrorCode::Damaged);
    assert!(error.hint.is_some_and(|hint| hint.contains("thumbs are safe")));
}

#[test]
fn pairs_are_learned_from_by_orpo_and_a_quantised_base_teaches_a_qlora() {
    let desk = Desk::open();
    let pairs: Vec<String> =
        (0..6).map(|index| format!(r#"{{"prompt":"p{index}","chosen":"A fox ran home.","rejected":"fox fox fox {index}"}}"#)).collect();
    let mut request = from(&desk, pairs.join("\n").as_bytes());
    request.objective = Some(Objective::Orpo);
    request.hyperparameters = HyperparameterChoice {
        dropout: Some(0.1),
        target_modules: Some(vec!["q_proj".into(), "v_proj".into()]),
        schedule: Some(Schedule::Linear),
        warmup_steps: Some(1),
        ..request.hyperparameters
    };
    let plain = desk.app.plan_training(request.clone()).expect("a plan");
    assert!(plain.ready, "{:?}", plain.blocked_by);
    let asked = [
        (BasePrecision::Int4, BasePrecision::Int4, Recipe::Lora),
        (BasePrecision::Int8, BasePrecision::Int8, Recipe::Dora),
        (BasePrecision::Bf16, BasePrecision::Bf16, Recipe::Dora),
        (BasePrecision::Fp16, BasePrecision::Bf16, Recipe::Lora),
    ];
    for (asked, quantization, recipe) in asked {
        let mut held = TrainRequest { recipe, ..request.clone() };
        held.hyperparameters.quantization = Some(asked);
        let run = desk.ended(&desk.app.train(held).expect("queued").run_id);
        assert_eq!(run.status, RunStatus::Completed, "{quantization:?}: {:?}", run.error);
        assert_eq!((run.hyperparameters.quantization, run.hyperparameters.objective), (quantization, Objective::Orpo));
        let id = run.adapter_id.expect("an adapter");
        let adapter = desk.app.adapters(Nothing {}).expect("adapters").into_iter().find(|one| one.id == id).expect("its adapter");
        let config = std::fs::read(desk.folder.path().join(adapter.path).join("adapter_config.json")).expect("a file");
        let config: serde_json::Value = serde_json::from_slice(&config).expect("JSON");
        let mut modules: Vec<&str> =
            config["target_modules"].as_array().expect("a list").iter().filter_map(serde_json::Value::as_str).collect();
        modules.sort_unstable();
        assert_eq!(modules, ["q_proj", "v_proj"]);
    }
}
