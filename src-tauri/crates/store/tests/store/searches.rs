//! Searches and their trials.

use crate::sample::{job, open, run};
use domain::*;
use store::StoreError;

pub fn plan() -> SearchPlan {
    SearchPlan { budget_seconds: 600.0, axes: vec![SearchAxis::Recipe, SearchAxis::LearningRate] }
}

/// Two trials, of which one has been measured.
pub fn half_way(run_id: &str) -> Search {
    let hyperparameters = run(run_id).hyperparameters;
    let trial = |number, rungs: Vec<TrialRung>| Trial {
        number,
        recipe: Recipe::Lora,
        hyperparameters: Hyperparameters { learning_rate: 0.1 / f64::from(number + 1), ..hyperparameters.clone() },
        state: if rungs.is_empty() { TrialState::Waiting } else { TrialState::Climbing },
        rungs,
        problem: None,
    };
    let measured = TrialRung { steps: 13, heldout_loss: Some(3.25), seconds: 4.5 };
    Search {
        run_id: run_id.into(),
        plan: plan(),
        rungs: vec![13, 40],
        trials: vec![trial(0, vec![measured]), trial(1, Vec::new())],
        seconds: 4.5,
        found: None,
    }
}

#[test]
fn a_search_is_kept_with_its_trials_and_announced_after_each() {
    let (_folder, store) = open();
    let events = store.subscribe();
    store.enqueue(&job("job_1", Priority::Normal), &Run { search: Some(plan()), ..run("run_1") }).unwrap();
    assert_eq!(store.run(&"run_1".into()).unwrap().search, Some(plan()));
    let queued = store.search(&"run_1".into()).unwrap();
    assert_eq!((queued.trials.len(), queued.rungs.len(), queued.found), (0, 0, None), "nothing is tried before it begins");
    store.update_search(&half_way("run_1")).unwrap();
    assert_eq!(store.search(&"run_1".into()).unwrap(), half_way("run_1"));
    let heard = events.try_iter().filter(|event| matches!(&event.change, Change::SearchChanged { search } if search.trials.len() == 2));
    assert_eq!(heard.count(), 1);
    let logged = store.changes_after(0, 100).unwrap();
    assert!(!logged.iter().any(|event| matches!(event.change, Change::SearchChanged { .. })), "it can be reloaded, so it is not logged");
}

#[test]
fn a_trial_that_failed_is_kept_without_a_loss() {
    let (_folder, store) = open();
    store.enqueue(&job("job_1", Priority::Normal), &Run { search: Some(plan()), ..run("run_1") }).unwrap();
    let mut search = half_way("run_1");
    search.trials[1].rungs.push(TrialRung { steps: 13, heldout_loss: None, seconds: 0.5 });
    (search.trials[1].state, search.trials[1].problem) = (TrialState::Failed, Some("The loss is not finite.".to_owned()));
    store.update_search(&search).unwrap();
    assert_eq!(store.search(&"run_1".into()).unwrap(), search);
}

#[test]
fn the_winner_becomes_the_run_in_the_same_write() {
    let (_folder, store) = open();
    store.enqueue(&job("job_1", Priority::Normal), &Run { search: Some(plan()), ..run("run_1") }).unwrap();
    let found = SearchFound {
        winner: 1,
        default_loss: Some(3.25),
        best_loss: Some(3.0),
        out_of_time: false,
        reason: "Trial 1 is better.".to_owned(),
    };
    let search = Search { found: Some(found), ..half_way("run_1") };
    let trained =
        Run { recipe: Recipe::Lora, hyperparameters: search.trials[1].hyperparameters.clone(), ..store.run(&"run_1".into()).unwrap() };
    store.end_search(&search, &trained).unwrap();
    let run = store.run(&"run_1".into()).unwrap();
    assert_eq!((run.recipe, run.hyperparameters), (Recipe::Lora, search.trials[1].hyperparameters.clone()));
    assert_eq!(store.search(&"run_1".into()).unwrap(), search);
}

#[test]
fn a_run_without_a_search_says_so_and_a_deleted_one_takes_its_trials_along() {
    let (_folder, store) = open();
    store.enqueue(&job("job_1", Priority::Normal), &run("run_1")).unwrap();
    assert!(matches!(store.search(&"run_1".into()), Err(StoreError::NotFound { .. })));
    assert!(matches!(store.update_search(&half_way("run_1")), Err(StoreError::NotFound { .. })));
    assert!(matches!(store.search(&"run_9".into()), Err(StoreError::NotFound { .. })));

    let (_folder, store) = open();
    store.enqueue(&job("job_1", Priority::Normal), &Run { search: Some(plan()), ..run("run_1") }).unwrap();
    store.update_search(&half_way("run_1")).unwrap();
    let claimed = store.claim_job("test").unwrap().unwrap();
    let ended = Run { status: RunStatus::Cancelled, ..store.run(&"run_1".into()).unwrap() };
    store.update_job_and_run(&Job { state: JobState::Cancelled, ..claimed }, &ended).unwrap();
    store.delete_run(&"run_1".into()).unwrap();
    assert!(matches!(store.search(&"run_1".into()), Err(StoreError::NotFound { .. })));
    store.check_integrity().unwrap();
}
