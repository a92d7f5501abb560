//! Training on bases of other architectures and on packs: imported, trained on, and written with.

use crate::{Desk, short};
use domain::*;
use std::path::Path;

fn imported(desk: &Desk, name: &str) -> Base {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../model/tests/reference").join(name);
    let import = BaseImport { path: path.display().to_string(), name: None, in_place: true };
    desk.app.import_base(import).expect("imported")
}

fn request(desk: &Desk, base: &Base, recipe: Recipe, quantization: BasePrecision) -> TrainRequest {
    let rows: Vec<String> = (0..6)
        .map(|index| format!(r#"{{"prompt":"t{index} t7","completion":"t9 t{index} t11 t12","label":{}}}"#, index % 2 == 0))
        .collect();
    let path = desk.folder.path().join("rows.jsonl");
    std::fs::write(&path, rows.join("\n")).expect("written");
    TrainRequest {
        base: Some(base.id.clone()),
        dataset: Some(path.display().to_string()),
        hyperparameters: HyperparameterChoice {
            steps: Some(4),
            rank: Some(2),
            quantization: Some(quantization),
            ..HyperparameterChoice::default()
        },
        ..TrainRequest::of(recipe)
    }
}

#[test]
fn a_qwen_a_stretched_llama_and_a_packed_phi_are_trained_on_and_write_with_what_was_learned() {
    let desk = Desk::open();
    for (name, recipe, held) in [
        ("decoders/qwen2", Recipe::Dora, BasePrecision::Fp32),
        ("decoders/yarn", Recipe::SoftPrompt, BasePrecision::Bf16),
        ("gguf/phi3-q4_0.gguf", Recipe::Lora, BasePrecision::Int4),
    ] {
        let base = imported(&desk, name);
        let run = desk.ended(&desk.app.train(request(&desk, &base, recipe, held)).expect("queued").run_id);
        assert_eq!((run.status, run.hyperparameters.quantization), (RunStatus::Completed, held), "{name}: {:?}", run.error);
        let adapter = AdapterChoice { id: run.adapter_id.expect("an adapter"), strength: 1.0 };
        let written = desk.app.write(WriteRequest { base: Some(base.id), adapters: Some(vec![adapter]), ..short("t3 t4", 1) });
        assert!(written.expect("written").candidates.iter().all(|one| one.tokens > 0), "{name}");
    }
}

#[test]
fn modules_that_are_joined_in_a_base_are_changed_as_a_whole_or_not_at_all() {
    let desk = Desk::open();
    let base = imported(&desk, "decoders/phi3");
    let asked = |names: &[&str]| {
        let mut request = request(&desk, &base, Recipe::Lora, BasePrecision::Fp32);
        request.hyperparameters.target_modules = Some(names.iter().map(|name| (*name).to_owned()).collect());
        desk.app.plan_training(request)
    };
    let error = asked(&["q_proj", "v_proj"]).expect_err("parts of a module");
    assert_eq!(error.detail[0].field, "hyperparameters.target_modules");
    assert!(error.hint.is_some_and(|hint| hint.contains("qkv_proj")));
    let plan = asked(&["qkv_proj", "down_proj"]).expect("whole modules");
    assert_eq!(plan.hyperparameters.target_modules, ["q_proj", "k_proj", "v_proj", "down_proj"]);
}
