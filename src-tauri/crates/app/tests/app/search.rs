//! The search before a training, on the real built-in base: what it tries, that it can be stopped, and that the best is trained.

use crate::{Desk, PROMPTS, training};
use domain::*;

/// A LoRA of few steps whose search is over its rate alone, so that it is quick.
fn request(minutes: f64) -> TrainRequest {
    let numbers = HyperparameterChoice {
        rank: Some(4),
        target_modules: Some(vec!["q_proj".to_owned(), "v_proj".to_owned()]),
        layers: Some(2),
        dropout: Some(0.0),
        ..training(8).hyperparameters
    };
    let search = SearchChoice { minutes: Some(minutes), keep_recipe: false };
    TrainRequest { hyperparameters: numbers, search: Some(search), ..TrainRequest::of(Recipe::Lora) }
}

fn searched(desk: &Desk, run: &Run) -> Search {
    desk.app.run_search(RunRef { run_id: run.run_id.clone() }).expect("a search")
}

/// All of a search but the clock.
fn results(search: &Search) -> Vec<(u32, TrialState, Vec<(u32, Option<f64>)>)> {
    let trial = |one: &Trial| (one.number, one.state, one.rungs.iter().map(|rung| (rung.steps, rung.heldout_loss)).collect());
    search.trials.iter().map(trial).collect()
}

#[test]
fn the_best_trial_is_trained_and_every_trial_is_kept_also_after_a_kill() {
    let desk = Desk::open();
    desk.like(&PROMPTS);
    let plan = desk.app.plan_training(request(30.0)).expect("a plan");
    assert!(plan.ready, "{:?}", plan.blocked_by);
    let search = plan.search.expect("it begins with a search");
    assert_eq!(search.axes, [SearchAxis::LearningRate], "the rest was set");
    assert!(plan.estimated_seconds > search.budget_seconds, "the search is a part of the estimate");
    let events = desk.app.subscribe();
    let unbroken = desk.ended(&desk.app.train(request(30.0)).expect("queued").run_id);
    assert_eq!(unbroken.status, RunStatus::Completed, "{:?}", unbroken.error);
    let search = searched(&desk, &unbroken);
    let found = search.found.clone().expect("it came to an end");
    assert!(search.trials.len() > 4 && search.trials.iter().all(|trial| !trial.rungs.is_empty()), "all were tried");
    assert!(!found.out_of_time && search.seconds < search.plan.budget_seconds);
    let chosen: Vec<_> = search.trials.iter().filter(|trial| trial.state == TrialState::Chosen).collect();
    assert_eq!(chosen.len(), 1);
    assert_eq!((chosen[0].number, &chosen[0].hyperparameters), (found.winner, &unbroken.hyperparameters), "the winner is what was trained");
    if found.winner > 0 {
        assert!(found.best_loss < found.default_loss, "{found:?}");
    }
    let trained = unbroken.verdict.as_ref().and_then(|verdict| verdict.heldout_loss_after);
    assert_eq!(trained, chosen[0].rungs.last().and_then(|rung| rung.heldout_loss), "the training is the trial of the last rung once more");
    let told: Vec<Change> = events.try_iter().map(|event| event.change).collect();
    assert!(told.iter().filter(|change| matches!(change, Change::SearchChanged { .. })).count() > search.trials.len(), "live");
    let phases: Vec<_> = told.iter().filter_map(|change| if let Change::RunChanged { run } = change { run.phase } else { None }).collect();
    assert!(phases.is_sorted() && phases.contains(&Phase::Search), "the phases come in order: {phases:?}");
    assert!(!std::path::Path::new(&unbroken.directory).join("search").exists(), "checkpoints of trials are cleared away");

    let queued = desk.app.train(request(30.0)).expect("queued");
    let tried = |desk: &Desk| {
        let search = desk.app.run_search(RunRef { run_id: queued.run_id.clone() }).expect("a search");
        search.trials.iter().filter(|trial| !trial.rungs.is_empty()).count()
    };
    while tried(&desk) < 2 {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let desk = desk.reopened();
    let broken = desk.app.run(RunRef { run_id: queued.run_id.clone() }).expect("a run");
    if broken.status == RunStatus::Interrupted {
        let before = results(&searched(&desk, &broken));
        desk.app.resume_run(RunRef { run_id: queued.run_id.clone() }).expect("resumed");
        let resumed = desk.ended(&queued.run_id);
        let after = results(&searched(&desk, &resumed));
        for ((number, _, before), (_, _, after)) in before.iter().zip(&after) {
            assert!(after.starts_with(before), "trial {number} was not made again");
        }
    }
    let resumed = desk.ended(&queued.run_id);
    assert_eq!(resumed.status, RunStatus::Completed, "{:?}", resumed.error);
    assert_eq!(results(&searched(&desk, &resumed)), results(&search), "the same trials with the same losses");
    assert_eq!(resumed.hyperparameters, unbroken.hyperparameters, "and the same winner");
}

#[test]
fn a_search_ends_with_its_budget_and_then_the_default_is_trained() {
    let desk = Desk::open();
    desk.like(&PROMPTS[..4]);
    let began = std::time::Instant::now();
    let run = desk.ended(&desk.app.train(request(0.0001)).expect("queued").run_id);
    assert_eq!(run.status, RunStatus::Completed, "{:?}", run.error);
    let search = searched(&desk, &run);
    let found = search.found.expect("it came to an end");
    assert!(found.out_of_time && found.winner == 0, "{found:?}");
    let plan = desk.app.plan_training(TrainRequest { search: None, ..request(1.0) }).expect("a plan");
    assert_eq!(run.hyperparameters.learning_rate, plan.hyperparameters.learning_rate, "the default");
    assert!(found.reason.contains("time"), "{}", found.reason);
    assert!(began.elapsed().as_secs() < 120);
}

#[test]
fn a_search_is_asked_for_by_request_or_setting_and_needs_something_to_compare_on() {
    let desk = Desk::open();
    desk.like(&PROMPTS[..2]);
    let blocked = desk.app.plan_training(request(1.0)).expect("a plan").blocked_by.expect("too few prompts");
    assert_eq!(blocked.code, ErrorCode::NotReady);
    assert!(blocked.hint.is_some());
    let set = |key: &str, value: serde_json::Value| {
        let update = serde_json::Map::from_iter([(key.to_owned(), value)]);
        desk.app.update_settings(SettingsUpdate(update)).expect("set");
    };
    assert_eq!(desk.app.plan_training(training(5)).expect("a plan").search, None, "off unless it is wanted");
    set("trainingSearch", true.into());
    let plan = desk.app.plan_training(training(5)).expect("a plan");
    assert!(plan.search.is_none() && plan.ready, "a setting does not keep a training from starting");
    desk.like(&PROMPTS[2..]);
    let minutes = |request| desk.app.plan_training(request).expect("a plan").search.map(|search| search.budget_seconds / 60.0);
    assert_eq!(minutes(training(5)), Some(10.0));
    set("trainingSearchMinutes", 3.into());
    assert_eq!(minutes(training(5)), Some(3.0));
    let asked = |minutes| TrainRequest { search: Some(SearchChoice { minutes: Some(minutes), keep_recipe: false }), ..training(5) };
    assert_eq!(minutes(asked(7.5)), Some(7.5));
    assert_eq!(minutes(asked(0.0)), None, "not this time");
    for wrong in [-1.0, f64::NAN, 1e9] {
        assert_eq!(desk.app.plan_training(asked(wrong)).expect_err("refused").detail[0].field, "search.minutes");
    }
    let run = desk.ended(&desk.app.train(asked(0.0)).expect("queued").run_id);
    assert_eq!(run.search, None);
    let missing = desk.app.run_search(RunRef { run_id: run.run_id }).expect_err("it has none");
    assert_eq!(missing.code, ErrorCode::NotFound);
}
