//! Jobs, runs and metrics.

use crate::sample::{adapter, job, metric, open, run, verdict};
use domain::*;
use std::sync::Barrier;
use store::{Conflict, MAX_ATTEMPTS, Store, StoreError};

fn enqueue(store: &Store, name: &str, priority: Priority) {
    store.enqueue(&job(&format!("job_{name}"), priority), &run(&format!("run_{name}"))).unwrap();
}

fn finish(store: &Store, name: &str, state: JobState, status: RunStatus) {
    let job = store.job(&format!("job_{name}").into()).unwrap();
    let run = store.run(&format!("run_{name}").into()).unwrap();
    store.update_job_and_run(&Job { state, ..job }, &Run { status, ..run }).unwrap();
}

#[test]
fn a_run_reads_back_as_it_was_updated() {
    let (_folder, store) = open();
    enqueue(&store, "1", Priority::Normal);
    store.insert_adapter(&adapter("ad_1", Some("run_1"))).unwrap();
    let full = Run {
        job_id: Some("job_1".into()),
        status: RunStatus::Completed,
        phase: Some(Phase::Evaluate),
        step: 200,
        final_loss: Some(2.125),
        adapter_id: Some("ad_1".into()),
        verdict: Some(verdict()),
        decision: Some(Decision::Keep),
        error: Some(ApiError::new(ErrorCode::Internal, "Odd.").hint("Try again.")),
        seconds: Some(61.5),
        peak_memory_mb: Some(410.0),
        checkpoint_step: Some(200),
        started_at: Some(Timestamp::now()),
        finished_at: Some(Timestamp::now()),
        ..store.run(&"run_1".into()).unwrap()
    };
    store.update_run(&full).unwrap();
    assert_eq!(store.run(&"run_1".into()).unwrap(), full);
    assert_eq!(store.runs(5).unwrap(), [full]);
}

#[test]
fn of_two_quick_triggers_one_is_refused() {
    let (_folder, store) = open();
    let barrier = Barrier::new(8);
    let outcomes: Vec<_> = std::thread::scope(|scope| {
        let trigger = |number: u32| {
            let (store, barrier) = (&store, &barrier);
            scope.spawn(move || {
                barrier.wait();
                store.enqueue(&job(&format!("job_{number}"), Priority::Normal), &run(&format!("run_{number}")))
            })
        };
        let threads: Vec<_> = (0..8).map(trigger).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    let refused = outcomes.into_iter().find_map(Result::err).unwrap();
    assert!(matches!(refused, StoreError::Conflict(Conflict::AlreadyQueued { .. })));
    assert_eq!(ApiError::from(refused).code, ErrorCode::Conflict);
    assert_eq!(store.runs(10).unwrap().len(), 1, "a refused trigger leaves no run behind");

    store.claim_job("worker").unwrap().unwrap();
    let again = store.enqueue(&job("job_x", Priority::High), &run("run_x"));
    assert!(matches!(again, Err(StoreError::Conflict(_))), "one that runs refuses too");
}

#[test]
fn of_concurrent_claims_one_wins_also_between_processes() {
    let (folder, store) = open();
    // A second store on the same folder has its own connections, as a second process would.
    let (other, _) = Store::open(folder.path()).unwrap();
    for round in 0..10 {
        let name = format!("r{round}");
        enqueue(&store, &name, Priority::Normal);
        let barrier = Barrier::new(4);
        let winners: usize = std::thread::scope(|scope| {
            let claim = |store| {
                let barrier = &barrier;
                scope.spawn(move || {
                    barrier.wait();
                    usize::from(Store::claim_job(store, "w").unwrap().is_some())
                })
            };
            let threads = [&store, &other, &store, &other].map(claim);
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(winners, 1, "round {round}");
        let running = store.running_job().unwrap().unwrap();
        assert_eq!((running.attempts, running.state), (1, JobState::Running));
        assert_eq!(store.run(&format!("run_{name}").into()).unwrap().status, RunStatus::Running);
        finish(&store, &name, JobState::Completed, RunStatus::Completed);
    }
}

#[test]
fn jobs_are_claimed_by_priority_then_sequence() {
    let (_folder, store) = open();
    for (name, priority) in [("a", Priority::Normal), ("b", Priority::Low), ("c", Priority::Normal), ("d", Priority::High)] {
        enqueue(&store, name, priority);
        finish(&store, name, JobState::Paused, RunStatus::Paused);
    }
    for name in ["d", "c", "b", "a"] {
        store.requeue_job(&format!("run_{name}").into()).unwrap();
    }
    assert_eq!(store.queued_jobs().unwrap(), 4);
    let mut order = Vec::new();
    while let Some(job) = store.claim_job("w").unwrap() {
        assert!(store.claim_job("w").unwrap().is_none(), "one heavy slot");
        let name = job.id.0.trim_start_matches("job_").to_owned();
        finish(&store, &name, JobState::Completed, RunStatus::Completed);
        order.push(name);
    }
    assert_eq!(order, ["d", "a", "c", "b"]);
}

#[test]
fn what_has_ended_stays_ended() {
    let (_folder, store) = open();
    enqueue(&store, "1", Priority::Normal);
    let late = store.claim_job("w").unwrap().unwrap();
    let late_run = store.run(&"run_1".into()).unwrap();
    finish(&store, "1", JobState::Cancelled, RunStatus::Cancelled);
    assert!(matches!(store.update_job(&late), Err(StoreError::Conflict(Conflict::JobEnded { .. }))));
    assert!(matches!(store.update_run(&late_run), Err(StoreError::Conflict(Conflict::RunEnded { .. }))));
    assert!(matches!(store.requeue_job(&"run_1".into()), Err(StoreError::Conflict(Conflict::NotResumable { .. }))));
    assert!(matches!(store.cancel_waiting_job(&"job_1".into()), Err(StoreError::Conflict(_))));
    let decided = Run { decision: Some(Decision::Undo), ..store.run(&"run_1".into()).unwrap() };
    store.update_run(&decided).unwrap();
}

#[test]
fn a_waiting_job_is_cancelled_at_once_and_a_running_one_is_left_to_its_worker() {
    let (_folder, store) = open();
    enqueue(&store, "1", Priority::Normal);
    assert_eq!(store.cancel_waiting_job(&"job_1".into()).unwrap().unwrap().state, JobState::Cancelled);
    assert_eq!(store.run(&"run_1".into()).unwrap().status, RunStatus::Cancelled);
    assert!(store.claim_job("w").unwrap().is_none());
    enqueue(&store, "2", Priority::Normal);
    store.claim_job("w").unwrap().unwrap();
    assert_eq!(store.cancel_waiting_job(&"job_2".into()).unwrap(), None);
    assert_eq!(store.run(&"run_2".into()).unwrap().status, RunStatus::Running);
}

#[test]
fn a_waiting_job_is_paused_at_once_and_one_that_was_just_claimed_is_left_to_its_worker() {
    let (_folder, store) = open();
    enqueue(&store, "1", Priority::Normal);
    assert_eq!(store.pause_waiting_job(&"job_1".into()).unwrap().unwrap().state, JobState::Paused);
    assert_eq!(store.run(&"run_1".into()).unwrap().status, RunStatus::Paused);
    assert!(store.claim_job("w").unwrap().is_none(), "what is paused waits");
    assert_eq!(store.pause_waiting_job(&"job_1".into()).unwrap().unwrap().state, JobState::Paused, "twice is once");
    store.requeue_job(&"run_1".into()).unwrap();
    store.claim_job("w").unwrap().unwrap();
    assert_eq!(store.pause_waiting_job(&"job_1".into()).unwrap(), None);
    assert_eq!(store.job(&"job_1".into()).unwrap().state, JobState::Running, "nothing is written over its worker's state");
    store.cancel_waiting_job(&"job_1".into()).unwrap();
    assert_eq!(store.run(&"run_1".into()).unwrap().status, RunStatus::Running);
}

#[test]
fn a_job_cut_off_is_interrupted_then_resumable_and_fails_after_three_starts_without_progress() {
    let (folder, store) = open();
    enqueue(&store, "1", Priority::Normal);
    drop(store);
    for attempt in 1..=MAX_ATTEMPTS {
        let (store, _) = Store::open(folder.path()).unwrap();
        assert_eq!(store.claim_job("w").unwrap().unwrap().attempts, attempt);
        drop(store);
        let (store, _) = Store::open(folder.path()).unwrap();
        let cut_off = store.mark_interrupted_at_start().unwrap();
        assert_eq!(cut_off.len(), 1);
        if attempt < MAX_ATTEMPTS {
            assert_eq!(cut_off[0].status, RunStatus::Interrupted);
            assert_eq!(store.count_runs(RunStatus::Interrupted).unwrap(), 1);
            assert_eq!(store.count_runs(RunStatus::Failed).unwrap(), 0);
            assert_eq!(store.requeue_job(&"run_1".into()).unwrap().state, JobState::Queued);
        } else {
            assert_eq!(cut_off[0].status, RunStatus::Failed);
            assert!(cut_off[0].error.as_ref().unwrap().hint.is_some(), "the reason says what to do");
            assert_eq!(store.job(&"job_1".into()).unwrap().state, JobState::Failed);
        }
        assert!(store.mark_interrupted_at_start().unwrap().is_empty(), "a second look finds nothing");
    }
}

#[test]
fn a_new_checkpoint_or_a_pause_makes_earlier_attempts_not_count() {
    let (_folder, store) = open();
    enqueue(&store, "1", Priority::Normal);
    for round in 1..=5 {
        assert_eq!(store.claim_job("w").unwrap().unwrap().attempts, 1);
        let run = store.run(&"run_1".into()).unwrap();
        store.update_run(&Run { checkpoint_step: Some(round * 25), step: round * 25 + 3, ..run }).unwrap();
        assert_eq!(store.mark_interrupted_at_start().unwrap()[0].status, RunStatus::Interrupted);
        store.requeue_job(&"run_1".into()).unwrap();
    }
    store.claim_job("w").unwrap().unwrap();
    finish(&store, "1", JobState::Paused, RunStatus::Paused);
    assert_eq!(store.requeue_job(&"run_1".into()).unwrap().attempts, 0);
}

#[test]
fn a_job_whose_run_has_ended_does_not_hold_up_the_start_or_the_queue() {
    let (_folder, store) = open();
    enqueue(&store, "1", Priority::Normal);
    store.claim_job("w").unwrap().unwrap();
    let run = store.run(&"run_1".into()).unwrap();
    // The process ended between the two writes.
    store.update_run(&Run { status: RunStatus::Completed, ..run }).unwrap();
    store.mark_interrupted_at_start().unwrap();
    assert_eq!(store.job(&"job_1".into()).unwrap().state, JobState::Completed);
    assert_eq!(store.run(&"run_1".into()).unwrap().status, RunStatus::Completed);
}

#[test]
fn metrics_come_in_order_of_step_and_a_resume_takes_steps_again() {
    let (_folder, store) = open();
    enqueue(&store, "1", Priority::Normal);
    let id = "run_1".into();
    store.append_metrics(&id, &[metric(1), metric(2), metric(3)]).unwrap();
    store.append_metrics(&id, &[Metric { loss: f64::NAN, ..metric(4) }]).unwrap();
    assert_eq!(store.metrics(&id, Some(1)).unwrap()[..2], [metric(2), metric(3)]);
    assert!(store.metrics(&id, Some(3)).unwrap()[0].loss.is_nan(), "a training that diverged is shown as one");
    store.truncate_metrics(&id, 2).unwrap();
    let again = Metric { loss: 0.5, ..metric(2) };
    store.append_metrics(&id, std::slice::from_ref(&again)).unwrap();
    assert_eq!(store.metrics(&id, None).unwrap(), [metric(1), again]);
    assert!(matches!(store.append_metrics(&"run_9".into(), &[metric(1)]), Err(StoreError::NotFound { .. })));
}

#[test]
fn a_run_is_deleted_with_its_metrics_and_job_but_not_while_it_is_active() {
    let (_folder, store) = open();
    enqueue(&store, "1", Priority::Normal);
    let id = "run_1".into();
    assert!(matches!(store.delete_run(&id), Err(StoreError::Conflict(Conflict::RunActive { .. }))));
    store.claim_job("w").unwrap().unwrap();
    assert!(matches!(store.delete_run(&id), Err(StoreError::Conflict(Conflict::RunActive { .. }))));
    store.append_metrics(&id, &[metric(1)]).unwrap();
    store.insert_adapter(&adapter("ad_1", Some("run_1"))).unwrap();
    finish(&store, "1", JobState::Completed, RunStatus::Completed);
    assert_eq!(store.delete_run(&id).unwrap().directory, "runs/run_1");
    assert!(matches!(store.delete_run(&id), Err(StoreError::NotFound { .. })));
    assert!(matches!(store.metrics(&id, None), Err(StoreError::NotFound { .. })));
    assert!(store.jobs(10).unwrap().is_empty());
    assert_eq!(store.adapter(&"ad_1".into()).unwrap().run_id, None, "what it made stays");
}
