//! Bases that came here, and their downloads.

use crate::sample::{at, open};
use domain::*;
use store::{Conflict, Store, StoreError};

pub fn installed(id: &str) -> InstalledBase {
    let base = Base {
        id: id.into(),
        name: id.to_owned(),
        architecture: "llama".into(),
        parameters: 135e6,
        size_bytes: 269e6,
        context: 2048,
        license: "apache-2.0".into(),
        built_in: false,
        kind: BaseKind::Instruct,
        answers: true,
        origin: BaseOrigin::Hub,
        source: Some("org/model@0123".into()),
        memory_mb: 300.0,
        tokens_per_second: None,
        is_default: false,
        problem: None,
    };
    InstalledBase { base, path: "/cache/x".into(), repo: Some("org/model".into()), owned: true, installed_at: at("2026-11-21T04:00:00Z") }
}

pub fn queue(store: &Store, id: &str, model: &str) -> store::Result<()> {
    let job = Job {
        id: id.into(),
        kind: JobKind::Pull,
        state: JobState::Queued,
        priority: Priority::Normal,
        phase: None,
        progress: 0.0,
        run_id: None,
        attempts: 0,
        error: None,
        created_at: at("2026-11-21T04:00:00Z"),
        started_at: None,
        finished_at: None,
        title: format!("Download {model}"),
    };
    store.enqueue_pull(&job, &PullRequest { model: model.into(), ..PullRequest::default() })
}

#[test]
fn a_base_is_stored_changed_announced_and_removed() {
    let (_folder, store) = open();
    let heard = store.subscribe();
    let mut one = installed("one");
    store.insert_base(&one).unwrap();
    assert!(matches!(store.insert_base(&one), Err(StoreError::Conflict(Conflict::Exists { .. }))));
    one.base.tokens_per_second = Some(20.5);
    store.update_base(&one).unwrap();
    store.insert_base(&installed("two")).unwrap();
    assert_eq!(store.installed_base(&"one".into()).unwrap(), one);
    assert_eq!(store.installed_bases().unwrap().iter().map(|one| one.base.id.as_str()).collect::<Vec<_>>(), ["one", "two"]);
    store.delete_base(&"one".into()).unwrap();
    assert!(matches!(store.delete_base(&"one".into()), Err(StoreError::NotFound { .. })));
    let changes: Vec<_> = heard.try_iter().map(|event| event.change).collect();
    assert_eq!(changes.iter().filter(|change| matches!(change, Change::BaseChanged { .. })).count(), 3);
    assert!(matches!(changes.last(), Some(Change::BaseRemoved { base_id }) if base_id.as_str() == "one"));
}

#[test]
fn downloads_run_one_at_a_time_in_their_order() {
    let (_folder, store) = open();
    queue(&store, "job_1", "a/a").unwrap();
    queue(&store, "job_2", "b/b").unwrap();
    assert!(matches!(queue(&store, "job_3", "a/a"), Err(StoreError::Conflict(Conflict::AlreadyQueued { .. }))), "the same one twice");
    let (mut first, request) = store.claim_pull().unwrap().unwrap();
    assert_eq!((first.id.as_str(), request.model.as_str(), first.state, first.attempts), ("job_1", "a/a", JobState::Running, 1));
    assert!(store.claim_pull().unwrap().is_none(), "one at a time");
    first.state = JobState::Completed;
    first.finished_at = Some(at("2026-11-21T05:00:00Z"));
    store.update_pull(&first).unwrap();
    first.state = JobState::Queued;
    assert!(matches!(store.update_pull(&first), Err(StoreError::Conflict(Conflict::JobEnded { .. }))), "what has ended stays so");
    assert_eq!(store.claim_pull().unwrap().unwrap().0.id.as_str(), "job_2");
    store.mark_pulls_interrupted_at_start().unwrap();
    assert_eq!(store.pull(&"job_2".into()).unwrap().unwrap().0.state, JobState::Interrupted);
    assert_eq!(store.pull(&"job_9".into()).unwrap(), None);
    assert_eq!(store.pulls(1).unwrap()[0].0.id.as_str(), "job_2");
    queue(&store, "job_3", "a/a").unwrap();
    assert_eq!(store.claim_job("w").unwrap(), None, "the heavy slot does not see them");
}
