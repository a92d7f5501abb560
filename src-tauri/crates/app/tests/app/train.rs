use crate::{Desk, PROMPTS, short, training};
use domain::*;
use std::path::Path;

#[test]
fn liked_texts_train_a_soft_prompt_that_can_be_kept_and_undone() {
    let desk = Desk::open();
    desk.like(&PROMPTS);
    let plan = desk.app.plan_training(training(12)).expect("a plan");
    assert!(plan.ready, "{:?}", plan.blocked_by);
    assert_eq!(plan.examples + plan.heldout, 8);
    assert!(plan.heldout >= 1, "some prompts are kept back");
    assert!(plan.estimated_seconds > 0.0 && plan.estimated_memory_mb > 0.0);
    let events = desk.app.subscribe();
    let queued = desk.app.train(training(12)).expect("queued");
    let conflict = desk.app.train(training(12)).expect_err("one at a time");
    assert_eq!(conflict.code, ErrorCode::Conflict);
    let run = desk.ended(&queued.run_id);
    assert_eq!(run.status, RunStatus::Completed, "{:?}", run.error);
    let metrics = desk.app.run_metrics(MetricsQuery { run_id: run.run_id.clone(), after: None }).expect("metrics").metrics;
    assert_eq!(metrics.last().map(|metric| metric.step), Some(12), "the last step is always reported");
    assert!(metrics.iter().any(|metric| metric.heldout_loss.is_some()));
    let verdict = run.verdict.clone().expect("a verdict");
    assert!(verdict.pairs == 60 && verdict.low <= verdict.win_rate && verdict.win_rate <= verdict.high);
    assert!(!verdict.reason.is_empty());
    let adapter_id = run.adapter_id.clone().expect("an adapter");
    let run_folder = Path::new(&run.directory);
    assert!(run_folder.join("training_run.json").is_file());
    let latest = desk.folder.path().join("runs/latest").canonicalize().expect("latest leads to the run");
    assert_eq!(latest, run_folder.canonicalize().expect("the run's folder"));
    let adapter_folder = desk.folder.path().join("adapters").join(adapter_id.as_str());
    assert!(adapter_folder.join("adapter_config.json").is_file() && adapter_folder.join("adapter_model.safetensors").is_file());

    let members =
        || -> Vec<String> { desk.app.write(short(PROMPTS[0], 1)).expect("written").candidates.into_iter().map(|one| one.member).collect() };
    desk.app.decide(RunDecision { run_id: run.run_id.clone(), decision: Decision::Keep }).expect("kept");
    assert!(members().iter().all(|member| member.contains("Soft prompt 1")), "kept: it writes the next text");
    desk.app.decide(RunDecision { run_id: run.run_id.clone(), decision: Decision::Undo }).expect("undone");
    assert!(members().iter().all(|member| member == "story"), "undone: it is gone from the next text");

    let chart = |format| desk.app.run_chart(ChartQuery { run_id: run.run_id.clone(), format }).expect("a chart");
    assert_eq!(chart(ChartFormat::Svg).mime, "image/svg+xml");
    assert!(chart(ChartFormat::Png).base64.starts_with("iVBOR"), "a PNG in base64 starts with its signature");
    let heard: Vec<Event> = events.try_iter().collect();
    assert!(heard.iter().any(|event| matches!(&event.change, Change::RunMetrics { .. })), "metrics were announced");
    assert!(heard.iter().any(|event| matches!(&event.change, Change::RunChanged { run } if run.status == RunStatus::Completed)));
}

#[test]
fn a_paused_training_goes_on_to_the_same_adapter_as_an_unbroken_one() {
    let desk = Desk::open();
    desk.like(&PROMPTS[..4]);
    let unbroken = desk.ended(&desk.app.train(training(30)).expect("queued").run_id);
    let queued = desk.app.train(training(30)).expect("queued");
    // Paused as soon as the first points are there.
    for _ in 0..400 {
        if desk.app.run(RunRef { run_id: queued.run_id.clone() }).expect("a run").step > 0 {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    desk.app.pause_job(JobRef { job_id: queued.job_id.clone() }).expect("pausing");
    let paused = desk.ended(&queued.run_id);
    assert!(matches!(paused.status, RunStatus::Paused | RunStatus::Completed), "{:?}", paused.status);
    let desk = desk.reopened();
    if paused.status == RunStatus::Paused {
        desk.app.resume_run(RunRef { run_id: queued.run_id.clone() }).expect("resumed");
    }
    let resumed = desk.ended(&queued.run_id);
    assert_eq!(resumed.status, RunStatus::Completed, "{:?}", resumed.error);
    let hash = |run: &Run| {
        let adapters = desk.app.adapters(Nothing {}).expect("adapters");
        adapters.into_iter().find(|adapter| Some(&adapter.id) == run.adapter_id.as_ref()).expect("its adapter").sha256
    };
    assert_eq!(hash(&unbroken), hash(&resumed), "a pause changes nothing in the result");
    let losses = |run: &Run| desk.app.run_metrics(MetricsQuery { run_id: run.run_id.clone(), after: None }).expect("metrics").metrics;
    let last = |run: &Run| losses(run).last().map(|metric| (metric.step, metric.loss));
    assert_eq!(last(&unbroken), last(&resumed));
}

#[test]
fn a_cancelled_training_leaves_no_adapter_and_frees_the_slot() {
    let desk = Desk::open();
    desk.like(&PROMPTS[..3]);
    let queued = desk.app.train(training(5000)).expect("queued");
    desk.app.cancel_job(JobRef { job_id: queued.job_id }).expect("cancelling");
    let run = desk.ended(&queued.run_id);
    assert_eq!(run.status, RunStatus::Cancelled);
    assert!(desk.app.adapters(Nothing {}).expect("adapters").is_empty());
    desk.app.delete_run(RunRef { run_id: run.run_id }).expect("deleted");
    assert!(!Path::new(&run.directory).exists(), "its folder is gone too");
    assert!(desk.app.plan_training(training(5)).expect("a plan").ready, "the next training can start");
}

#[test]
fn closing_during_a_training_makes_it_interrupted_and_resumable() {
    let desk = Desk::open();
    desk.like(&PROMPTS[..3]);
    let queued = desk.app.train(training(40)).expect("queued");
    while desk.app.run(RunRef { run_id: queued.run_id.clone() }).expect("a run").step == 0 {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let desk = desk.reopened();
    let run = desk.app.run(RunRef { run_id: queued.run_id.clone() }).expect("a run");
    let notices = || desk.app.status(Nothing {}).expect("a status").problems.len();
    if run.status == RunStatus::Interrupted {
        assert_eq!(notices(), 1, "the interruption is said");
        desk.app.resume_run(RunRef { run_id: queued.run_id.clone() }).expect("resumed");
    }
    assert_eq!(desk.ended(&queued.run_id).status, RunStatus::Completed);
    assert_eq!(notices(), 0, "and no longer said once it has gone on");
}

#[test]
fn an_exported_adapter_comes_back_the_same() {
    let desk = Desk::open();
    desk.like(&PROMPTS[..2]);
    let run = desk.ended(&desk.app.train(training(3)).expect("queued").run_id);
    let adapter_id = run.adapter_id.expect("an adapter");
    let out = desk.folder.path().join("exported");
    let saved = desk
        .app
        .export_adapter(AdapterExport { adapter_id, format: AdapterFormat::Peft, out: out.display().to_string() })
        .expect("exported");
    let imported = desk.app.import_adapter(AdapterImport { path: saved.path, name: None }).expect("imported");
    let original = &desk.app.adapters(Nothing {}).expect("adapters")[1];
    assert_eq!(imported.sha256, original.sha256);
    assert_eq!(imported.state, AdapterState::Trial);
}

#[test]
fn lora_and_dora_train_write_beside_a_soft_prompt_and_travel_as_peft_folders() {
    let desk = Desk::open();
    desk.like(&PROMPTS[..4]);
    let by = |recipe| TrainRequest { recipe, ..training(4) };
    let mut trained = Vec::new();
    for recipe in [Recipe::Lora, Recipe::Dora, Recipe::SoftPrompt] {
        let plan = desk.app.plan_training(by(recipe)).expect("a plan");
        assert!(plan.ready && plan.estimated_memory_mb > 10.0, "{:?}", plan.blocked_by);
        let run = desk.ended(&desk.app.train(by(recipe)).expect("queued").run_id);
        assert_eq!(run.status, RunStatus::Completed, "{recipe:?}: {:?}", run.error);
        assert!(run.verdict.is_some());
        trained.push(run.adapter_id.expect("an adapter"));
    }
    let kinds: Vec<_> = desk.app.adapters(Nothing {}).expect("adapters").into_iter().map(|adapter| (adapter.kind, adapter.name)).collect();
    let wanted = [(AdapterKind::SoftPrompt, "Soft prompt 1"), (AdapterKind::Dora, "DoRA 1"), (AdapterKind::Lora, "LoRA 1")];
    assert_eq!(kinds, wanted.map(|(kind, name)| (kind, name.to_owned())));

    let texts = |choices: &[(&AdapterId, f64)]| -> Vec<String> {
        let adapters = choices.iter().map(|(id, strength)| AdapterChoice { id: (*id).clone(), strength: *strength }).collect();
        let request = WriteRequest { adapters: Some(adapters), ..short(PROMPTS[0], 1) };
        let mut texts: Vec<_> = desk.app.write(request).expect("written").candidates.into_iter().map(|one| one.text).collect();
        texts.sort();
        texts
    };
    let plain = texts(&[]);
    assert_eq!(texts(&[(&trained[0], 0.0)]), plain, "strength 0 is the plain base");
    assert_ne!(texts(&[(&trained[0], 2.0), (&trained[2], 1.0)]), plain, "one of each kind writes together");
    let clash = WriteRequest {
        adapters: Some(trained[..2].iter().map(|id| AdapterChoice { id: id.clone(), strength: 1.0 }).collect()),
        ..short(PROMPTS[0], 1)
    };
    assert_eq!(desk.app.write(clash).expect_err("LoRA and DoRA cannot be stacked").code, ErrorCode::InvalidInput);

    let export = |index: usize, format, name: &str| {
        let out = desk.folder.path().join(name).display().to_string();
        desk.app.export_adapter(AdapterExport { adapter_id: trained[index].clone(), format, out }).map(|saved| saved.path)
    };
    let file = export(0, AdapterFormat::Gguf, "for llama.cpp").expect("a LoRA has a GGUF form");
    assert_eq!(&std::fs::read(file).expect("a file")[..4], b"GGUF");
    assert_eq!(export(1, AdapterFormat::Gguf, "dora").expect_err("llama.cpp knows no DoRA").code, ErrorCode::InvalidInput);
    assert_eq!(export(2, AdapterFormat::Merged, "soft").expect_err("nothing to merge").code, ErrorCode::InvalidInput);
    // What is saved was compared with base and adapter before it was called saved.
    let merged = export(1, AdapterFormat::Merged, "merged").expect("a DoRA can be merged");
    assert!(std::path::Path::new(&merged).join("config.json").exists());
    assert_eq!(export(1, AdapterFormat::Merged, "merged").expect_err("not over something").detail[0].field, "out");

    let out = desk.folder.path().join("exported").display().to_string();
    desk.app
        .export_adapter(AdapterExport { adapter_id: trained[1].clone(), format: AdapterFormat::Peft, out: out.clone() })
        .expect("exported");
    let imported = desk.app.import_adapter(AdapterImport { path: out, name: Some("From a friend".to_owned()) }).expect("imported");
    assert_eq!(imported.kind, AdapterKind::Dora);
    assert_eq!(texts(&[(&imported.id, 1.0)]), texts(&[(&trained[1], 1.0)]), "it writes the same after the journey");
}

#[test]
fn thumbs_down_are_learned_from_by_kto_and_in_pairs_by_dpo() {
    let desk = Desk::open();
    let pairs_of = |objective| TrainRequest { recipe: Recipe::Lora, objective, ..training(4) };
    let blocked = |request| desk.app.plan_training(request).expect("a plan").blocked_by.expect("nothing to learn from").code;
    desk.like(&PROMPTS[..1]);
    assert_eq!(blocked(pairs_of(Some(Objective::Dpo))), ErrorCode::NotReady, "one liked text is no pair");
    for result in desk.like(&PROMPTS[..5]) {
        desk.thumb(&result.candidates[1].id, -1);
    }
    let plan = desk.app.plan_training(pairs_of(None)).expect("a plan");
    assert_eq!(plan.hyperparameters.objective, Objective::Kto, "with enough of each, thumbs both ways are used");
    assert_eq!(plan.examples + plan.heldout, 11, "six liked and five disliked texts");
    assert!(plan.why.contains("6 up and 5 down"), "{}", plan.why);
    let soft_prompt = |objective| TrainRequest { recipe: Recipe::SoftPrompt, ..pairs_of(objective) };
    assert_eq!(desk.app.plan_training(soft_prompt(None)).expect("a plan").hyperparameters.objective, Objective::Sft);
    for (recipe, objective) in [Recipe::Lora, Recipe::SoftPrompt].into_iter().flat_map(|one| [(one, Objective::Kto), (one, Objective::Dpo)])
    {
        let run = desk.ended(&desk.app.train(TrainRequest { recipe, ..pairs_of(Some(objective)) }).expect("queued").run_id);
        assert_eq!(run.status, RunStatus::Completed, "{objective:?}: {:?}", run.error);
        assert_eq!(run.hyperparameters.objective, objective);
        let first = desk.app.run_metrics(MetricsQuery { run_id: run.run_id, after: None }).expect("metrics").metrics[0].loss;
        let at_start = if objective == Objective::Dpo { std::f64::consts::LN_2 } else { 0.5 };
        // A soft prompt starts as words, which are something already.
        let near = if recipe == Recipe::SoftPrompt { 0.3 } else { 0.01 };
        assert!((first - at_start).abs() < near, "an untrained {recipe:?} prefers nothing: {first}");
    }
    for result in desk.like(&PROMPTS[5..8]) {
        desk.thumb(&result.candidates[1].id, -1);
    }
    let plan = desk.app.plan_training(pairs_of(None)).expect("a plan");
    assert_eq!(plan.hyperparameters.objective, Objective::Dpo, "with enough pairs, those are learned from");
    assert!(plan.why.contains("9 pairs (9 from your thumbs)"), "{}", plan.why);
}

#[test]
fn texts_of_the_same_request_make_pairs_though_written_one_by_one() {
    let desk = Desk::open();
    for (prompt, seed, verdict) in [(0, 1, 1), (0, 2, -1), (0, 3, -1), (0, 4, -1), (1, 5, -1), (2, 6, 1)] {
        let written = desk.app.write(short(PROMPTS[prompt], seed)).expect("written");
        desk.thumb(&written.chosen, verdict);
    }
    let dpo = TrainRequest { recipe: Recipe::Lora, objective: Some(Objective::Dpo), ..training(4) };
    let plan = desk.app.plan_training(dpo).expect("a plan");
    assert_eq!(plan.examples + plan.heldout, 2, "a liked text is held against two of the same request, never against another's");
}

#[test]
fn a_file_is_learned_from_row_by_row_and_says_what_it_skipped() {
    let desk = Desk::open();
    let file = desk.folder.path().join("rows.jsonl");
    let from_file = |rows: &[String], request: TrainRequest| {
        std::fs::write(&file, rows.join("\n")).expect("written");
        TrainRequest { dataset: Some(file.display().to_string()), ..request }
    };
    let lora = TrainRequest { recipe: Recipe::Lora, ..training(3) };
    let judged = |index: usize| {
        format!(r#"{{"prompt":"story {index}","completion":"A fox ran {index} times.","label":{}}}"#, index.is_multiple_of(2))
    };
    let mut rows: Vec<String> = (0..8).map(judged).collect();
    rows.push("not json".to_owned());
    let plan = desk.app.plan_training(from_file(&rows, lora.clone())).expect("a plan");
    let report = plan.dataset.expect("a report");
    assert_eq!((report.rows, report.examples, report.skipped), (9, 8, 1));
    assert_eq!(report.first_skipped[0].row, 9);
    assert_eq!(plan.hyperparameters.objective, Objective::Kto);
    assert_eq!(plan.examples + plan.heldout, 8);

    let pairs: Vec<String> =
        (0..6).map(|index| format!(r#"{{"prompt":"p{index}","chosen":"good {index}","rejected":"bad {index}"}}"#)).collect();
    let request = from_file(&pairs, lora.clone());
    let plan = desk.app.plan_training(request.clone()).expect("a plan");
    assert_eq!((plan.hyperparameters.objective, plan.examples + plan.heldout), (Objective::Dpo, 6));
    let run = desk.ended(&desk.app.train(request).expect("queued").run_id);
    assert_eq!(run.status, RunStatus::Completed, "{:?}", run.error);

    // Texts without a prompt are split by themselves, so some are kept back.
    let texts: Vec<String> = (0..10).map(|index| format!(r#"{{"text":"The lamp number {index} went out."}}"#)).collect();
    let plan = desk.app.plan_training(from_file(&texts, lora.clone())).expect("a plan");
    assert_eq!((plan.hyperparameters.objective, plan.examples, plan.heldout), (Objective::Sft, 8, 2));
    let blocked =
        desk.app.plan_training(from_file(&texts, TrainRequest { objective: Some(Objective::Dpo), ..lora.clone() })).expect("a plan");
    assert_eq!(blocked.blocked_by.expect("no pairs").code, ErrorCode::NotReady);

    let nothing = desk.app.plan_training(from_file(&["{}".to_owned()], lora.clone())).expect_err("no rows");
    assert_eq!((nothing.code, nothing.detail[0].field.as_str()), (ErrorCode::InvalidInput, "dataset"));
    let relative = desk.app.plan_training(TrainRequest { dataset: Some("rows.jsonl".to_owned()), ..lora }).expect_err("relative");
    assert_eq!(relative.detail[0].field, "dataset");
}

#[test]
fn texts_whose_words_are_in_disarray_are_warned_of_before_and_keep_the_adapter_on_trial() {
    let desk = Desk::open();
    let file = desk.folder.path().join("rows.jsonl");
    let stories: Vec<serde_json::Value> = include_str!("../../../../../assets/probes/stories.jsonl")
        .lines()
        .take(12)
        .map(|line| serde_json::from_str(line).expect("a story"))
        .collect();
    let request = |spoilt: usize| {
        let row = |(at, story): (usize, &serde_json::Value)| {
            let mut words: Vec<&str> = story["text"].as_str().expect("text").split_whitespace().collect();
            if at < spoilt {
                // Every word in alphabetical order: the same words, and nothing that they say.
                words.sort_unstable();
            }
            serde_json::json!({ "prompt": format!("row {at}"), "completion": words.join(" ") }).to_string()
        };
        let rows: Vec<String> = stories.iter().enumerate().map(row).collect();
        std::fs::write(&file, rows.join("\n")).expect("written");
        let lora = TrainRequest { recipe: Recipe::Lora, objective: Some(Objective::Sft), ..training(2) };
        TrainRequest { dataset: Some(file.display().to_string()), ..lora }
    };
    assert_eq!(desk.app.plan_training(request(0)).expect("a plan").warning, "", "stories are as they should be");
    let warning = desk.app.plan_training(request(12)).expect("a plan").warning;
    assert!(warning.contains("mean no more to the built-in base") && warning.contains("stays on trial"), "{warning}");
    for (spoilt, outweighs) in [(0, false), (12, true)] {
        let run = desk.ended(&desk.app.train(request(spoilt)).expect("queued").run_id);
        let verdict = run.verdict.expect("a verdict");
        let disarray = verdict.disarray.expect("looked for");
        assert_eq!(disarray.outweighs(), outweighs, "{disarray:?}");
        // Words in alphabetical order repeat each other, which a base may find likely.
        assert!(if outweighs { 10 * disarray.texts >= 8 * disarray.looked_at } else { disarray.texts == 0 }, "{disarray:?}");
        assert!(!verdict.promoted && verdict.reason.contains("mean no more") == outweighs, "{}", verdict.reason);
    }
}
