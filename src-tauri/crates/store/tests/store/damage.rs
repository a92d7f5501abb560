//! Flipped bytes (R5): found, or harmless; never a panic.

use crate::sample::{adapter, feedback, job, metric, open, run, write};
use domain::{ApiError, Draft, ErrorCode, Priority, Settings, TasteSummary, Theme};
use std::fs;
use std::path::Path;
use store::{Result, Store, StoreError};

/// Reads everything there is, through every kind of query.
fn read_all(store: &Store) -> Result<()> {
    for item in store.generations(1000, None, Some("x"))?.items {
        store.generation(&item.generation_id)?;
    }
    store.feedback_for_taste()?;
    store.preferences()?;
    store.unjudged_generations(100)?;
    store.taste_versions()?;
    store.newest_taste()?;
    store.settings()?;
    store.draft()?;
    store.jobs(100)?;
    for run in store.runs(100)? {
        store.metrics(&run.run_id, None)?;
        store.blind_pairs(&run.run_id)?;
    }
    store.adapters()?;
    store.changes_after(0, 1000)?;
    Ok(())
}

fn fill(store: &Store) {
    for number in 0..20 {
        write(store, &format!("gen_{number}"), "x marks the spot");
        store.add_feedback(&feedback(&format!("f{number}"), &format!("gen_{number}-a"), 1, None)).unwrap();
    }
    store.save_taste("{}", &TasteSummary::default()).unwrap();
    store.save_settings(&Settings { theme: Theme::Dark, ..Settings::default() }).unwrap();
    store.save_draft(&Draft { json: "{}".into() }).unwrap();
    store.enqueue(&job("job_1", Priority::Normal), &run("run_1")).unwrap();
    store.append_metrics(&"run_1".into(), &(1..50).map(metric).collect::<Vec<_>>()).unwrap();
    store.insert_adapter(&adapter("ad_1", Some("run_1"))).unwrap();
}

/// Opens a folder whose file was damaged and reads it; answers what was found, if anything.
fn try_out(folder: &Path) -> Option<StoreError> {
    let store = match Store::open(folder) {
        Ok((store, _)) => store,
        Err(error) => return Some(error),
    };
    store.mark_interrupted_at_start().and_then(|_| read_all(&store)).err()
}

/// Marsaglia's xorshift32: the same offsets in every run.
fn next(state: &mut u32) -> u32 {
    *state ^= *state << 13;
    *state ^= *state >> 17;
    *state ^= *state << 5;
    *state
}

/// A hundred copies of a folder, each with one flipped byte in the file `name`; `examine` gets the copy and the offset.
fn flip(source: &Path, name: &str, mut examine: impl FnMut(&Path, usize)) {
    let mut state = 0x1234_5678;
    let length = fs::metadata(source.join(name)).unwrap().len() as usize;
    for _ in 0..100 {
        let (offset, bits) = (next(&mut state) as usize % length, (next(&mut state) % 255 + 1) as u8);
        let copy = tempfile::tempdir().unwrap();
        for file in ["inkling.db", "inkling.db-wal"].into_iter().filter(|file| source.join(file).exists()) {
            let mut bytes = fs::read(source.join(file)).unwrap();
            if file == name {
                bytes[offset] ^= bits;
            }
            fs::write(copy.path().join(file), bytes).unwrap();
        }
        examine(copy.path(), offset);
    }
}

#[test]
fn a_flipped_byte_in_the_database_is_found_or_reads_back_without_a_fault() {
    let (folder, store) = open();
    fill(&store);
    store.close().unwrap();
    let (mut found, mut readable) = (0, 0);
    flip(folder.path(), "inkling.db", |copy, offset| match try_out(copy) {
        None => readable += 1,
        Some(StoreError::Damaged { .. } | StoreError::Newer { .. }) => found += 1,
        Some(error) => panic!("offset {offset}: {error:?} does not say that the data is damaged"),
    });
    println!("R5: 100 flipped bytes in the database: {found} found, {readable} readable (in free space or inside a text)");
    assert!(found > 0);
}

#[test]
fn a_flipped_byte_in_the_log_costs_at_most_the_last_transaction_unless_it_is_found() {
    let (folder, store) = open();
    fill(&store);
    let last = store.change_range().unwrap().last;
    let (mut found, mut harmless, mut offered) = (0, 0, 0);
    flip(folder.path(), "inkling.db-wal", |copy, offset| match Store::open(copy) {
        Ok((store, _)) => {
            read_all(&store).unwrap();
            assert!(store.change_range().unwrap().last + 1 >= last, "offset {offset}: acknowledged changes are gone, and nobody is told");
            harmless += 1;
        }
        Err(StoreError::Damaged { backup, .. }) => {
            found += 1;
            if let Some(backup) = backup {
                Store::restore(copy, &backup).unwrap();
                read_all(&Store::open(copy).unwrap().0).unwrap();
                offered += 1;
            }
        }
        Err(error) => panic!("offset {offset}: {error:?} does not say that the data is damaged"),
    });
    println!("R5: 100 flipped bytes in the log: {found} found (for {offered} what is readable was offered), {harmless} harmless");
    assert!(found > 0);
    drop(store);
}

#[test]
fn a_log_torn_at_its_end_is_no_damage() {
    let (folder, store) = open();
    fill(&store);
    let whole = fs::read(folder.path().join("inkling.db-wal")).unwrap();
    let last = store.change_range().unwrap().last;
    // A power cut while a transaction is written: cut short, or with a page that did not arrive.
    for torn in
        [whole[..whole.len() - 1].to_vec(), whole[..whole.len() - 4000].to_vec(), [&whole[..whole.len() - 4096], &[0; 4096][..]].concat()]
    {
        let copy = tempfile::tempdir().unwrap();
        fs::copy(folder.path().join("inkling.db"), copy.path().join("inkling.db")).unwrap();
        fs::write(copy.path().join("inkling.db-wal"), torn).unwrap();
        let (store, _) = Store::open(copy.path()).unwrap();
        assert_eq!(store.change_range().unwrap().last + 1, last);
    }
}

#[test]
fn a_log_that_was_begun_anew_many_times_is_no_damage() {
    let (folder, store) = open();
    let text = "Forty kilobytes of draft. ".repeat(1600);
    let mut opened = 0;
    for number in 0..300 {
        store.save_draft(&Draft { json: format!("{number} {text}") }).unwrap();
        if number % 15 == 0 {
            // What a killed process leaves behind.
            let copy = tempfile::tempdir().unwrap();
            for file in ["inkling.db", "inkling.db-wal"] {
                fs::copy(folder.path().join(file), copy.path().join(file)).unwrap();
            }
            let (copied, _) = Store::open(copy.path()).unwrap();
            assert!(copied.draft().unwrap().json.starts_with(&format!("{number} ")));
            opened += 1;
        }
    }
    let log = fs::metadata(folder.path().join("inkling.db-wal")).unwrap().len();
    assert!(log < 16 << 20, "the log is bounded: {log} bytes after 12 MB of drafts");
    assert_eq!(opened, 20);
}

#[test]
fn a_damaged_database_offers_the_newest_whole_backup_and_it_restores() {
    let (folder, store) = open();
    write(&store, "gen_1", "old");
    store.keep_backup(5).unwrap();
    write(&store, "gen_2", "newer");
    let good = store.keep_backup(5).unwrap();
    write(&store, "gen_3", "newest");
    let spoilt = store.keep_backup(5).unwrap();
    store.close().unwrap();
    fs::write(&spoilt, "not a database at all, though its name says so").unwrap();
    let path = folder.path().join(Store::FILE_NAME);
    let mut bytes = fs::read(&path).unwrap();
    bytes[4096..8192].fill(0xA5);
    fs::write(&path, &bytes).unwrap();

    let error = Store::open(folder.path()).err().unwrap();
    let StoreError::Damaged { backup: Some(offered), .. } = &error else { panic!("{error:?}") };
    assert_eq!(offered, &good);
    assert_eq!(fs::read(&path).unwrap(), bytes, "looking changes nothing");
    let shown = ApiError::from(error);
    assert_eq!(shown.code, ErrorCode::Damaged);
    assert!(shown.hint.unwrap().contains(&good.display().to_string()));

    let aside = Store::restore(folder.path(), &good).unwrap();
    assert_eq!(fs::read(aside.join(Store::FILE_NAME)).unwrap(), bytes, "the damaged file is kept");
    let (store, _) = Store::open(folder.path()).unwrap();
    assert_eq!(store.generations(10, None, None).unwrap().items.len(), 2);
    assert!(Store::restore(folder.path(), &spoilt).is_err(), "a damaged backup is not put in place");
}

#[test]
fn an_empty_or_foreign_file_in_its_place_is_not_taken_for_a_first_start() {
    let (folder, store) = open();
    write(&store, "gen_1", "x");
    store.keep_backup(1).unwrap();
    store.close().unwrap();
    fs::write(folder.path().join(Store::FILE_NAME), "").unwrap();
    assert!(matches!(Store::open(folder.path()), Err(StoreError::Damaged { backup: Some(_), .. })));
    fs::write(folder.path().join(Store::FILE_NAME), "hello".repeat(1000)).unwrap();
    assert!(matches!(Store::open(folder.path()), Err(StoreError::Damaged { .. })));

    let other = tempfile::tempdir().unwrap();
    let raw = rusqlite::Connection::open(other.path().join(Store::FILE_NAME)).unwrap();
    raw.execute_batch("CREATE TABLE somebody_elses (id INTEGER)").unwrap();
    drop(raw);
    assert!(matches!(Store::open(other.path()), Err(StoreError::Damaged { backup: None, .. })));
}
