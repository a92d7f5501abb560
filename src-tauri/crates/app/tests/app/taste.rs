//! What comparisons, versions and blind tests do, and what leaves the app as training data.

use crate::{Desk, PROMPTS, short, training};
use domain::*;
use std::path::Path;
use std::process::Command;

fn prefer(desk: &Desk, result: &WriteResult) -> PreferenceResult {
    let request = PreferenceRequest { better: result.candidates[1].id.clone(), worse: result.candidates[0].id.clone() };
    desk.app.prefer(request).expect("stored")
}

#[test]
fn a_comparison_is_one_pair_and_no_thumbs() {
    let desk = Desk::open();
    let written: Vec<_> = PROMPTS[..3].iter().map(|prompt| desk.app.write(short(prompt, 1)).expect("written")).collect();
    for result in &written {
        assert!(prefer(&desk, result).taste.trained, "it is learned from at once");
    }
    assert_eq!(desk.app.taste(Nothing {}).expect("a card").summary.thumbs, 0, "a comparison is not a thumb");
    let plan =
        desk.app.plan_training(TrainRequest { recipe: Recipe::Lora, objective: Some(Objective::Dpo), ..training(4) }).expect("a plan");
    assert_eq!(plan.examples + plan.heldout, 3, "each comparison is a pair to learn from");
    assert!(plan.why.contains("3 from comparisons"), "{}", plan.why);
    let (a, b) = (written[0].candidates[0].id.clone(), written[1].candidates[0].id.clone());
    let error = desk.app.prefer(PreferenceRequest { better: a.clone(), worse: b }).expect_err("of two generations");
    assert_eq!(error.detail[0].field, "worse");
    assert!(desk.app.prefer(PreferenceRequest { better: a.clone(), worse: a.clone() }).is_err(), "a text is not better than itself");
    assert_eq!(desk.app.prefer(PreferenceRequest { better: a, worse: "cand_none".into() }).expect_err("unknown").code, ErrorCode::NotFound);
}

#[test]
fn an_earlier_taste_stays_until_taste_is_asked_to_learn_anew() {
    let desk = Desk::open();
    let question = TasteQuestion { prompt: String::new(), completion: "A quiet story.".to_owned() };
    assert_eq!(desk.app.score_taste(question.clone()).expect_err("nothing known").code, ErrorCode::NotReady);
    let written = desk.like(&PROMPTS[..3]);
    let score = desk.app.score_taste(question).expect("a score");
    assert!((0.0..=1.0).contains(&score.score) && !score.confident);
    let versions = desk.app.taste_versions(Nothing {}).expect("versions");
    assert_eq!(
        versions.iter().map(|one| (one.version, one.summary.thumbs, one.current)).collect::<Vec<_>>(),
        [(3, 3, true), (2, 2, false), (1, 1, false)]
    );

    let card = desk.app.restore_taste(TasteVersionRef { version: 1 }).expect("restored");
    assert!(card.summary.pinned && card.version == 4, "the old model is the newest version now");
    assert!(!desk.thumb(&written[0].candidates[1].id, -1).taste.trained, "a new thumb is kept but not learned from");
    let desk = desk.reopened();
    let card = desk.app.taste(Nothing {}).expect("a card");
    assert!(card.summary.pinned && card.version == 4 && card.summary.thumbs == 4, "also after a restart");
    desk.app.train_taste(TasteTraining::default()).expect("trained");
    let card = desk.app.taste(Nothing {}).expect("a card");
    assert_eq!((card.summary.pinned, card.version), (false, 5));
    assert_eq!(desk.app.restore_taste(TasteVersionRef { version: 99 }).expect_err("unknown").code, ErrorCode::NotFound);
}

#[test]
fn exported_data_is_what_trl_reads() {
    let desk = Desk::open();
    let out = desk.folder.path().join("exported");
    let export = |kind, path: &Path| desk.app.export_training(TrainingExport { kind, out_path: path.display().to_string() });
    assert_eq!(export(ExportKind::All, &out).expect_err("nothing yet").code, ErrorCode::NotReady);
    for result in desk.like(&PROMPTS[..2]) {
        desk.thumb(&result.candidates[1].id, -1);
    }
    prefer(&desk, &desk.app.write(short(PROMPTS[2], 9)).expect("written"));
    let files = export(ExportKind::All, &out).expect("exported").files;
    assert_eq!(
        files.iter().map(|file| (file.kind, file.rows)).collect::<Vec<_>>(),
        [(ExportKind::Sft, 2), (ExportKind::Kto, 4), (ExportKind::Dpo, 3)]
    );
    let pairs = std::fs::read_to_string(out.join("dpo.jsonl")).expect("a file");
    let last: serde_json::Value = serde_json::from_str(pairs.lines().last().expect("a row")).expect("JSON");
    assert_eq!(last["prompt"], PROMPTS[2], "the person's own words");
    let single = desk.folder.path().join("mine.jsonl");
    assert_eq!(export(ExportKind::Kto, &single).expect("exported").files[0].path, single.display().to_string());

    let python = std::env::var("INKLING_REFERENCE_PYTHON").unwrap_or_else(|_| "/tmp/refenv/bin/python".into());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference/read_exports.py");
    if !Command::new(&python).args(["-c", "import datasets, trl"]).output().is_ok_and(|found| found.status.success()) {
        println!("not tried: {python} has no datasets and trl (INKLING_REFERENCE_PYTHON names another one)");
        return;
    }
    let read = Command::new(&python).arg(script).arg(&out).output().expect("it runs");
    println!("{}", String::from_utf8_lossy(&read.stdout));
    assert!(read.status.success(), "{}{}", String::from_utf8_lossy(&read.stdout), String::from_utf8_lossy(&read.stderr));
}

#[test]
fn a_blind_test_hides_its_sides_and_completes_the_verdict() {
    let desk = Desk::open();
    desk.like(&PROMPTS[..4]);
    let run_id = desk.ended(&desk.app.train(training(3)).expect("queued").run_id).run_id;
    let ask = |again| desk.app.blind_test(BlindRequest { run_id: run_id.clone(), again }).expect("a test");
    let test = ask(false);
    assert_eq!(test.pairs.len(), 5);
    assert!(test.pairs.iter().all(|pair| pair.trained.is_none() && pair.choice.is_none()), "nobody is told before the end");
    assert_eq!(ask(false), test, "the test under way comes back");
    let answer = |number, choice| desk.app.answer_blind(BlindAnswer { run_id: run_id.clone(), number, choice });
    for number in 1..=4 {
        let after = answer(number, BlindChoice::First).expect("answered");
        assert!(after.result.is_none() && after.pairs.iter().all(|pair| pair.trained.is_none()));
    }
    let told = answer(5, BlindChoice::Neither).expect("answered");
    let result = told.result.expect("all are answered");
    let first = told.pairs[..4].iter().filter(|pair| pair.trained == Some(BlindChoice::First)).count() as u32;
    assert_eq!((result.trained, result.before, result.neither), (first, 4 - first, 1), "what was told is what was counted");
    assert_eq!(answer(1, BlindChoice::Second).expect_err("not blind any more").code, ErrorCode::Conflict);
    assert_eq!(answer(9, BlindChoice::First).expect_err("no such pair").code, ErrorCode::NotFound);
    let run = desk.app.run(RunRef { run_id: run_id.clone() }).expect("a run");
    assert_eq!(run.verdict.and_then(|verdict| verdict.blind), Some(result));
    let adapter = desk.app.adapters(Nothing {}).expect("adapters").remove(0);
    assert_eq!(adapter.verdict.and_then(|verdict| verdict.blind), Some(result), "the adapter says so too");
    let plan = desk.app.plan_training(TrainRequest { recipe: Recipe::Lora, objective: Some(Objective::Dpo), ..training(4) });
    let plan = plan.expect("a plan");
    assert_eq!(plan.examples + plan.heldout, 4, "every answer that prefers a text is a pair");
    assert_ne!(ask(true).pairs[0].first, test.pairs[0].first, "again means other texts");
}

#[test]
fn a_low_scored_answer_is_tried_once_more_by_another_member() {
    let desk = Desk::open();
    let set = |key: &str, value: f64| {
        let update = serde_json::json!({ key: value });
        desk.app.update_settings(SettingsUpdate(update.as_object().expect("an object").clone())).expect("set");
    };
    set("retryBelow", 0.0);
    let once = desk.app.write(short(PROMPTS[0], 4)).expect("written");
    assert!(once.retried.is_none() && once.candidates.len() == 2);
    set("retryBelow", 10.0);
    let mut said = Vec::new();
    let again = desk
        .app
        .write_streaming(short(PROMPTS[0], 4), &mut |event| {
            if let WriteEvent::Retrying { member, n } = event {
                said.push((member, n));
            }
        })
        .expect("written");
    let retried = again.retried.clone().expect("no text reaches 10");
    assert_eq!(said, [(retried.member.clone(), 1)]);
    assert_eq!(retried.candidates, 1);
    assert!(again.candidates.iter().any(|one| one.member == retried.member) && again.candidates.len() == 3);
    assert!(once.candidates.iter().all(|one| again.candidates.iter().any(|other| other.text == one.text)), "the first texts stay the same");
    assert!(again.notices.iter().any(|notice| notice.code == NoticeCode::Retried), "the person is told");
    let stored = desk.app.generation(GenerationRef { generation_id: again.generation_id.clone() }).expect("stored");
    assert_eq!(stored.result, again);
}
