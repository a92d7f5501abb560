//! Disk full, no permission, no folder (R4).

use crate::sample::{feedback, job, open, request, result, run, write};
use domain::{ApiError, Draft, ErrorCode, Priority};
use store::{Fault, Options, Store, StoreError};

/// A short session; each step is one write. Answers how many were acknowledged before the first failure.
fn session(store: &Store) -> (usize, Result<(), StoreError>) {
    let steps: [&dyn Fn() -> Result<(), StoreError>; 7] = [
        &|| store.begin_generation(&"gen_1".into(), &request("x")),
        &|| store.finish_generation(&result("gen_1")),
        &|| store.add_feedback(&feedback("f1", "gen_1-a", 1, None)),
        &|| store.save_draft(&Draft { json: "{}".into() }),
        &|| store.enqueue(&job("job_1", Priority::Normal), &run("run_1")),
        &|| store.claim_job("w").map(drop),
        &|| store.remove_generation(&"gen_1".into()),
    ];
    for (done, step) in steps.iter().enumerate() {
        if let Err(error) = step() {
            return (done, Err(error));
        }
    }
    (steps.len(), Ok(()))
}

#[test]
fn whichever_write_fails_the_ones_before_it_stay_and_the_rest_can_be_done_again() {
    let mut tried = 0;
    for fault in [Fault::DiskFull, Fault::ReadOnly, Fault::Io] {
        for failing in 1..=7 {
            let (folder, store) = open();
            store.fail_write(failing, fault);
            let (done, outcome) = session(&store);
            assert_eq!(done, failing as usize - 1);
            let shown = ApiError::from(outcome.unwrap_err());
            let code = if fault == Fault::DiskFull { ErrorCode::DiskFull } else { ErrorCode::Storage };
            assert_eq!(shown.code, code);
            assert!(shown.hint.is_some());
            assert_eq!(store.generations(5, None, None).unwrap().items.len(), usize::from(done >= 1));
            assert_eq!(store.thumbs().unwrap().total() as usize, usize::from(done >= 3));
            assert_eq!(store.queued_jobs().unwrap() as usize, usize::from(done == 5));
            store.check_integrity().unwrap();
            drop(store);
            let (store, _) = Store::open(folder.path()).unwrap();
            let logged = store.changes_after(0, 100).unwrap();
            assert_eq!(logged.last().map_or(0, |event| event.seq.unwrap()) as usize, logged.len(), "no gap");
            tried += 1;
        }
    }
    println!("R4: {tried} sessions with one failing write each");
}

#[test]
fn a_full_disk_is_a_typed_error_and_everything_before_it_is_readable() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = Store::open_with(folder.path(), &Options { max_pages: Some(60), ..Options::default() }).unwrap();
    let mut acknowledged = 0;
    let error = loop {
        let id = format!("gen_{acknowledged}");
        match store.begin_generation(&id.as_str().into(), &request(&"A long prompt. ".repeat(300))) {
            Ok(()) => acknowledged += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, StoreError::DiskFull), "{error:?}");
    assert!(acknowledged > 0);
    assert_eq!(store.generations(1000, None, None).unwrap().items.len(), acknowledged);
    store.close().unwrap();
    let (store, _) = Store::open(folder.path()).unwrap();
    assert_eq!(store.generations(1000, None, None).unwrap().items.len(), acknowledged);
    write(&store, "gen_later", "There is room again");
}

#[test]
fn a_data_folder_that_cannot_be_made_is_a_typed_error() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "I am a file").unwrap();
    for impossible in [file.clone(), file.join("below"), "/proc/inkling".into()] {
        let error = Store::open(&impossible).err().unwrap();
        assert!(matches!(error, StoreError::Io(_) | StoreError::ReadOnly), "{}: {error:?}", impossible.display());
        assert_eq!(ApiError::from(error).code, ErrorCode::Storage);
    }
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "I am a file");
}
