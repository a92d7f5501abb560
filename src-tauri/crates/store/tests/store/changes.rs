//! Write, record, announce.

use crate::sample::{adapter, feedback, job, metric, open, run, write};
use domain::*;
use store::{Fault, KEPT_CHANGES, Store};

/// Every kind of write once.
fn session(store: &Store) {
    write(store, "gen_1", "x");
    store.add_feedback(&feedback("f1", "gen_1-a", 1, None)).unwrap();
    store.save_taste("{}", &TasteSummary::default()).unwrap();
    store.save_settings(&Settings { theme: Theme::Dark, ..Settings::default() }).unwrap();
    store.save_draft(&Draft { json: "{}".into() }).unwrap();
    store.enqueue(&job("job_1", Priority::Normal), &run("run_1")).unwrap();
    store.claim_job("w").unwrap().unwrap();
    store.insert_adapter(&adapter("ad_1", Some("run_1"))).unwrap();
    store.set_adapter_state(&"ad_1".into(), AdapterState::Active).unwrap();
    store.mark_interrupted_at_start().unwrap();
    store.delete_run(&"run_1".into()).unwrap();
    store.delete_adapter(&"ad_1".into()).unwrap();
    store.remove_generation(&"gen_1".into()).unwrap();
    store.restore_generation(&"gen_1".into()).unwrap();
}

#[test]
fn a_subscriber_hears_every_write_in_the_order_of_the_log() {
    let (_folder, store) = open();
    let subscription = store.subscribe();
    session(&store);
    let heard: Vec<_> = subscription.try_iter().collect();
    let logged = store.changes_after(0, 1000).unwrap();
    assert_eq!(heard, logged);
    let numbers: Vec<_> = logged.iter().map(|event| event.seq.unwrap()).collect();
    assert_eq!(numbers, (1..=numbers.len() as u32).collect::<Vec<_>>(), "no gap");
    assert_eq!(store.changes_after(3, 2).unwrap(), logged[3..5], "an event stream resumes after the last it has seen");
    assert_eq!(subscription.take_dropped(), 0);
}

#[test]
fn a_write_that_fails_leaves_no_row_no_change_and_no_gap() {
    let (_folder, store) = open();
    write(&store, "gen_1", "x");
    let subscription = store.subscribe();
    let last = store.change_range().unwrap().last;
    store.fail_write(1, Fault::DiskFull);
    store.add_feedback(&feedback("f1", "gen_1-a", 1, None)).unwrap_err();
    assert!(subscription.try_recv().is_err(), "what was not stored is not announced");
    assert_eq!(store.change_range().unwrap().last, last);
    store.add_feedback(&feedback("f1", "gen_1-a", 1, None)).unwrap();
    assert_eq!(subscription.try_recv().unwrap().seq, Some(last + 1));
}

#[test]
fn metrics_are_announced_without_a_number_and_not_logged() {
    let (_folder, store) = open();
    store.enqueue(&job("job_1", Priority::Normal), &run("run_1")).unwrap();
    let (subscription, last) = (store.subscribe(), store.change_range().unwrap().last);
    store.append_metrics(&"run_1".into(), &[metric(1)]).unwrap();
    store.announce_transient(Change::RunCheckpoint { run_id: "run_1".into(), step: 1 });
    let heard: Vec<_> = subscription.try_iter().collect();
    assert_eq!(heard[0].change, Change::RunMetrics { run_id: "run_1".into(), metrics: vec![metric(1)] });
    assert!(heard.len() == 2 && heard.iter().all(|event| event.seq.is_none()));
    assert_eq!(store.change_range().unwrap().last, last);
}

#[test]
fn a_slow_subscriber_holds_nobody_up_and_can_catch_up() {
    let (_folder, store) = open();
    let slow = store.subscribe();
    drop(store.subscribe());
    for _ in 0..1100 {
        store.announce_transient(Change::DraftSaved);
    }
    store.save_draft(&Draft::default()).unwrap();
    assert_eq!(slow.try_iter().count(), 1024);
    assert_eq!(slow.take_dropped(), 77, "76 transient ones and the draft");
    assert_eq!(slow.take_dropped(), 0);
    assert_eq!(store.changes_after(0, 10).unwrap().len(), 1);
}

#[test]
fn the_log_is_pruned_to_its_newest_changes() {
    let (folder, store) = open();
    // Rows as if ten thousand writes had been made: each real one waits for the disk.
    let raw = rusqlite::Connection::open(folder.path().join(Store::FILE_NAME)).unwrap();
    let sql = "WITH RECURSIVE n (i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 10400)
        INSERT INTO change_log (at, change_json) SELECT '2026-11-21T00:00:00.000Z', '{\"change\":\"draft_saved\"}' FROM n";
    raw.execute(sql, []).unwrap();
    drop(raw);
    for _ in 0..120 {
        store.save_draft(&Draft::default()).unwrap();
    }
    let range = store.change_range().unwrap();
    assert_eq!(range.last, 10_520);
    assert!(range.last - range.first >= KEPT_CHANGES - 1 && range.last - range.first < KEPT_CHANGES + 256, "{range:?}");
    assert_eq!(store.changes_after(10_518, 10).unwrap().len(), 2);
}

#[test]
fn reads_do_not_wait_for_a_write() {
    let (folder, store) = open();
    write(&store, "gen_1", "x");
    let mut raw = rusqlite::Connection::open(folder.path().join(Store::FILE_NAME)).unwrap();
    let busy = raw.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).unwrap();
    busy.execute("UPDATE generation SET prompt = 'y'", []).unwrap();
    let start = std::time::Instant::now();
    assert_eq!(store.generations(10, None, None).unwrap().items.len(), 1);
    assert!(start.elapsed() < std::time::Duration::from_secs(2));
}
