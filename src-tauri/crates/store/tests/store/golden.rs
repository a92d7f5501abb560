//! A database of each schema ever shipped still opens (R14).

use crate::sample::{adapter, attempt, example, feedback, job, metric, queue_session, run, write};
use domain::*;
use std::fs;
use std::path::{Path, PathBuf};
use store::{SCHEMA_VERSION, Store};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// Run this once when a new schema is shipped, and commit the file:
/// `cargo test -p inkling-store -- --ignored writes_the_golden_database`.
#[test]
#[ignore = "makes a file that is committed"]
fn writes_the_golden_database() {
    let temporary = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(temporary.path()).unwrap();
    write(&store, "gen_1", "A young wizard");
    write(&store, "gen_2", "A quiet harbour");
    store.add_feedback(&feedback("fb_1", "gen_1-a", 1, Some("The lamp burned on."))).unwrap();
    store.add_feedback(&feedback("fb_2", "gen_2-a", -1, None)).unwrap();
    store.save_taste("{\"thumbs\":2}", &TasteSummary { trained: true, thumbs: 2, ..TasteSummary::default() }).unwrap();
    store.save_settings(&Settings { theme: Theme::Dark, ..Settings::default() }).unwrap();
    store.save_draft(&Draft { json: "{\"prompt\":\"Half\"}".into() }).unwrap();
    store.enqueue(&job("job_1", Priority::High), &Run { search: Some(crate::searches::plan()), ..run("run_1") }).unwrap();
    store.claim_job("golden").unwrap().unwrap();
    store.append_metrics(&"run_1".into(), &[metric(1), metric(2)]).unwrap();
    store.insert_adapter(&Adapter { state: AdapterState::Active, ..adapter("ad_1", Some("run_1")) }).unwrap();
    queue_session(&store, "1", 2);
    store.record_attempt(&"auto_1".into(), &attempt(0, Some("ex_1")), Some(&example("ex_1")), 1.5, (50, false)).unwrap();
    store.record_attempt(&"auto_1".into(), &attempt(1, None), None, 1.5, (50, false)).unwrap();
    store.insert_base(&crate::bases::installed("tiny")).unwrap();
    crate::bases::queue(&store, "job_9", "org/model").unwrap();
    store.add_preference(&crate::preferences::preference("pref_1", Some("gen_2"), "better", "worse")).unwrap();
    store.update_search(&crate::searches::half_way("run_1")).unwrap();
    let target = folder().join(format!("v{SCHEMA_VERSION}.db"));
    assert!(!target.exists(), "a shipped schema is never made again: {}", target.display());
    store.backup_to(&target).unwrap();
}

#[test]
fn every_golden_database_opens_with_everything_in_it() {
    for version in 1..=SCHEMA_VERSION {
        let temporary = tempfile::tempdir().unwrap();
        let source = folder().join(format!("v{version}.db"));
        fs::copy(&source, temporary.path().join(Store::FILE_NAME)).unwrap();
        let (store, report) = Store::open(temporary.path()).unwrap();
        assert_eq!(report.migrated_from, (version < SCHEMA_VERSION).then_some(version));
        store.check_integrity().unwrap();
        let page = store.generations(10, None, None).unwrap();
        assert_eq!(page.items.iter().map(|item| item.prompt.as_str()).collect::<Vec<_>>(), ["A quiet harbour", "A young wizard"]);
        let candidate = store.candidate(&"gen_1-a".into()).unwrap().candidate;
        assert_eq!(candidate.feedback.unwrap().edited_text.as_deref(), Some("The lamp burned on."));
        assert_eq!(store.thumbs().unwrap().total(), 2);
        assert_eq!(store.newest_taste().unwrap().unwrap().json, "{\"thumbs\":2}");
        assert_eq!(store.settings().unwrap().theme, Theme::Dark);
        assert_eq!(store.draft().unwrap().json, "{\"prompt\":\"Half\"}");
        assert_eq!(store.metrics(&"run_1".into(), None).unwrap(), [metric(1), metric(2)]);
        assert_eq!(store.active_adapters(&"story".into()).unwrap()[0].id, "ad_1".into());
        assert_eq!(store.mark_interrupted_at_start().unwrap()[0].run_id, "run_1".into());
        if version >= 2 {
            let session = store.auto_train(&"auto_1".into()).unwrap();
            assert_eq!((session.current, session.successful, session.failed), (2, 1, 1));
            assert_eq!(store.examples_to_learn("me").unwrap()[0].text, "The lamp of ex_1 went out.");
        }
        if version >= 3 {
            assert_eq!(store.installed_base(&"tiny".into()).unwrap(), crate::bases::installed("tiny"));
            assert_eq!(store.pull(&"job_9".into()).unwrap().unwrap().1.model, "org/model");
        }
        assert_eq!(store.preferences().unwrap().len(), usize::from(version >= 4));
        if version >= 5 {
            assert_eq!(store.search(&"run_1".into()).unwrap(), crate::searches::half_way("run_1"));
        }
        assert!(!store.changes_after(0, 100).unwrap().is_empty());
    }
}
