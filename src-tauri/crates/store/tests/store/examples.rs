//! Sessions of auto-train and the examples that they keep.

use crate::sample::{attempt, example, open, queue_session};
use domain::*;
use store::{Conflict, ExampleCounts, MAX_ATTEMPTS, Store, StoreError};

const NEVER: (u32, bool) = (0, false);

fn keep(store: &Store, position: u32, id: &str, ready_at: (u32, bool)) -> AutoTrain {
    store.record_attempt(&"auto_1".into(), &attempt(position, Some(id)), Some(&example(id)), 1.5, ready_at).unwrap()
}

#[test]
fn a_session_counts_what_became_of_its_examples() {
    let (_folder, store) = open();
    let session = queue_session(&store, "1", 4);
    assert_eq!((session.state, session.current, session.average_quality), (JobState::Queued, 0, None));
    let job = store.claim_job("w").unwrap().unwrap();
    assert_eq!((job.kind, job.run_id.clone()), (JobKind::AutoTrain, None));
    keep(&store, 0, "ex_1", NEVER);
    let session = store.record_attempt(&"auto_1".into(), &attempt(1, None), None, 2.5, NEVER).unwrap();
    assert_eq!((session.state, session.current, session.successful, session.failed), (JobState::Running, 2, 1, 1));
    assert_eq!(session.average_quality, Some(8.5), "a text that was not kept does not lower the average of those that were");
    assert_eq!((session.seconds, session.eta_s), (4.0, Some(4.0)), "two of four took four seconds");
    assert_eq!(store.job(&job.id).unwrap().progress, 0.5);
    assert_eq!(store.auto_attempts(&session.id).unwrap().iter().map(|one| one.position).collect::<Vec<_>>(), [0, 1]);
    assert_eq!(store.auto_train_of_job(&job.id).unwrap(), session);
    assert_eq!(store.auto_trains(10).unwrap(), [session]);
    let again = store.record_attempt(&"auto_1".into(), &attempt(1, Some("ex_2")), Some(&example("ex_2")), 1.0, NEVER);
    assert!(matches!(again, Err(StoreError::Conflict(Conflict::Exists { .. }))), "a place is tried once");
    assert_eq!(store.examples(Some(&"auto_1".into()), 10).unwrap().len(), 1, "and its example is not stored without it");
}

#[test]
fn every_example_and_every_state_of_the_session_is_announced() {
    let (_folder, store) = open();
    let heard = store.subscribe();
    queue_session(&store, "1", 2);
    let mut job = store.claim_job("w").unwrap().unwrap();
    keep(&store, 0, "ex_1", (1, true));
    job.state = JobState::Cancelled;
    store.update_job(&job).unwrap();
    let mut states = Vec::new();
    let (mut examples, mut ready) = (0, Vec::new());
    for event in heard.try_iter() {
        match event.change {
            Change::AutoTrainChanged { auto_train } => states.push((auto_train.state, auto_train.current)),
            Change::ExampleChanged { .. } => examples += 1,
            Change::ExamplesReady { new_examples, automatic, .. } => ready.push((new_examples, automatic)),
            _ => {}
        }
    }
    assert_eq!(states, [(JobState::Queued, 0), (JobState::Running, 0), (JobState::Running, 1), (JobState::Cancelled, 1)]);
    assert_eq!((examples, ready), (1, vec![(1, true)]), "said once, when there are enough");
}

#[test]
fn a_dropped_example_is_not_learned_from_and_an_edited_one_counts_as_new() {
    let (_folder, store) = open();
    queue_session(&store, "1", 3);
    for (position, id) in [(0, "ex_1"), (1, "ex_2"), (2, "ex_3")] {
        keep(&store, position, id, NEVER);
    }
    store.set_example_dropped(&"ex_2".into(), true).unwrap();
    let learned = |store: &Store| store.examples_to_learn("me").unwrap().into_iter().map(|one| one.id.0).collect::<Vec<_>>();
    assert_eq!(learned(&store), ["ex_3", "ex_1"], "newest first, without the dropped one");
    assert_eq!(store.examples(Some(&"auto_1".into()), 10).unwrap().len(), 3, "it can still be read");
    let counts = store.example_counts("me").unwrap();
    assert_eq!(counts, ExampleCounts { kept: 2, new: 2, up_to: 3 });
    assert_eq!(store.mark_examples_learned("me", counts.up_to, &"run_1".into()).unwrap(), 2);
    assert_eq!(store.example_counts("me").unwrap().new, 0);
    let edited = store.edit_example(&"ex_1".into(), "My own words.").unwrap();
    assert_eq!((edited.text.as_str(), edited.edited, edited.learned_by), ("My own words.", true, None));
    store.set_example_dropped(&"ex_2".into(), false).unwrap();
    assert_eq!(store.example_counts("me").unwrap().new, 2, "the edited one and the restored one");
    assert_eq!(store.example_counts("somebody").unwrap(), ExampleCounts::default(), "each person has their own");
    assert!(matches!(store.example(&"ex_9".into()), Err(StoreError::NotFound { .. })));
}

#[test]
fn an_interrupted_session_can_go_on_and_only_fails_when_it_makes_nothing() {
    let (_folder, store) = open();
    queue_session(&store, "1", 50);
    let second = Job { kind: JobKind::AutoTrain, ..crate::sample::job("other", Priority::Normal) };
    let refused = store.enqueue_auto_train(&second, &"auto_2".into(), &store.auto_train(&"auto_1".into()).unwrap().settings);
    assert!(matches!(refused, Err(StoreError::Conflict(Conflict::AlreadyQueued { .. }))), "one at a time");
    let job_id = JobId::from("auto_job_1");
    for position in 0..5 {
        assert_eq!(store.claim_job("w").unwrap().unwrap().attempts, 1, "each start made something");
        keep(&store, position, &format!("ex_{position}"), NEVER);
        store.mark_interrupted_at_start().unwrap();
        assert_eq!(store.auto_train(&"auto_1".into()).unwrap().state, JobState::Interrupted);
        store.requeue_job_by_id(&job_id).unwrap();
    }
    for attempt in 1..=MAX_ATTEMPTS {
        // The last interruption above left the count of one start.
        if let Some(job) = store.claim_job("w").unwrap() {
            assert!(job.attempts <= MAX_ATTEMPTS, "start {attempt}");
        }
        store.mark_interrupted_at_start().unwrap();
        let _ = store.requeue_job_by_id(&job_id);
    }
    let session = store.auto_train(&"auto_1".into()).unwrap();
    assert_eq!(session.state, JobState::Failed, "three starts that made nothing");
    assert_eq!((session.current, session.eta_s), (5, None), "what was made before is kept");
}
