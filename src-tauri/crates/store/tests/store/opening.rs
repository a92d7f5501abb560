//! First start, migrations, newer data, backups.

use crate::sample::{feedback, open, write};
use domain::{ApiError, ErrorCode};
use std::fs;
use store::{MIGRATIONS, Migration, Options, SCHEMA_VERSION, Store, StoreError};

#[test]
fn a_first_start_makes_a_private_folder_and_a_safe_database() {
    let folder = tempfile::tempdir().unwrap();
    let data_dir = folder.path().join("deep/inkling");
    let (store, report) = Store::open(&data_dir).unwrap();
    assert!(report.created && report.migrated_from.is_none() && report.backup.is_none());
    #[cfg(unix)]
    {
        let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&data_dir).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o700, "what a person writes is theirs alone");
    }
    store.check_integrity().unwrap();
    store.close().unwrap();
    let left: Vec<_> = fs::read_dir(&data_dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["inkling.db"], "closing leaves one file");
    let raw = rusqlite::Connection::open(data_dir.join(Store::FILE_NAME)).unwrap();
    let mode: String = raw.query_row("PRAGMA journal_mode", [], |row| row.get(0)).unwrap();
    assert_eq!(mode, "wal");
    let (_, again) = Store::open(&data_dir).unwrap();
    assert!(!again.created);
}

#[test]
fn newer_data_is_refused_and_left_as_it_is() {
    let (folder, store) = open();
    write(&store, "gen_1", "x");
    store.close().unwrap();
    let path = folder.path().join(Store::FILE_NAME);
    let raw = rusqlite::Connection::open(&path).unwrap();
    raw.pragma_update(None, "user_version", SCHEMA_VERSION + 7).unwrap();
    raw.close().unwrap();
    let before = fs::read(&path).unwrap();
    let error = Store::open(folder.path()).err().unwrap();
    assert!(matches!(error, StoreError::Newer { found, supported } if found == SCHEMA_VERSION + 7 && supported == SCHEMA_VERSION));
    let shown = ApiError::from(error);
    assert_eq!(shown.code, ErrorCode::NewerData);
    assert!(shown.message.contains("newer Inkling") && shown.hint.is_some());
    assert_eq!(fs::read(&path).unwrap(), before);
}

/// The shipped migrations and one more.
fn and_then(statements: &'static [&'static str]) -> &'static [Migration] {
    let shipped = MIGRATIONS.iter().map(|one| Migration { version: one.version, statements: one.statements });
    // Leaked: the options of a store hold for the whole program.
    shipped.chain([Migration { version: SCHEMA_VERSION + 1, statements }]).collect::<Vec<_>>().leak()
}

fn next() -> &'static [Migration] {
    and_then(&["ALTER TABLE candidate ADD COLUMN note TEXT"])
}

fn broken() -> &'static [Migration] {
    and_then(&["CREATE TABLE half (id INTEGER)", "ALTER TABLE nothing ADD COLUMN x"])
}

#[test]
fn a_migration_is_preceded_by_a_backup_that_opens() {
    let (folder, store) = open();
    write(&store, "gen_1", "x");
    store.close().unwrap();
    let (store, report) = Store::open_with(folder.path(), &Options { migrations: next(), ..Options::default() }).unwrap();
    assert_eq!(report.migrated_from, Some(SCHEMA_VERSION));
    assert_eq!(store.generation(&"gen_1".into()).unwrap().request.prompt, "x");
    let backup = report.backup.unwrap();
    assert_eq!(backup, folder.path().join(format!("backups/before-v{}.db", SCHEMA_VERSION + 1)));
    store.close().unwrap();
    assert!(matches!(Store::open(folder.path()), Err(StoreError::Newer { .. })), "the older program refuses it now");
    Store::restore(folder.path(), &backup).unwrap();
    let (store, _) = Store::open(folder.path()).unwrap();
    assert_eq!(store.generation(&"gen_1".into()).unwrap().request.prompt, "x");
}

#[test]
fn a_migration_that_fails_half_way_leaves_the_old_schema_usable() {
    let (folder, store) = open();
    write(&store, "gen_1", "x");
    store.close().unwrap();
    Store::open_with(folder.path(), &Options { migrations: broken(), ..Options::default() }).err().unwrap();
    let (store, report) = Store::open(folder.path()).unwrap();
    assert_eq!(report.migrated_from, None);
    assert_eq!(store.generation(&"gen_1".into()).unwrap().request.prompt, "x");
}

#[test]
fn a_backup_made_under_write_load_is_whole() {
    let (folder, store) = open();
    let target = folder.path().join("elsewhere/copy.db");
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| (0..60).for_each(|number| drop(write(&store, &format!("gen_{number}"), "x"))));
        while !writer.is_finished() {
            store.backup_to(&target).unwrap();
        }
    });
    store.backup_to(&target).unwrap();
    let other = tempfile::tempdir().unwrap();
    fs::copy(&target, other.path().join(Store::FILE_NAME)).unwrap();
    let (copy, _) = Store::open(other.path()).unwrap();
    copy.check_integrity().unwrap();
    assert_eq!(copy.generations(100, None, None).unwrap(), store.generations(100, None, None).unwrap());
    assert!(!target.with_extension("db.partial").exists());
}

#[test]
fn kept_backups_are_bounded_and_made_only_after_changes() {
    let (folder, store) = open();
    for number in 0..5 {
        write(&store, &format!("gen_{number}"), "x");
        assert_eq!(store.keep_backup(3).unwrap(), store.keep_backup(3).unwrap());
    }
    assert_eq!(fs::read_dir(folder.path().join("backups")).unwrap().count(), 3);
}

#[test]
fn a_committed_row_is_there_though_the_store_was_never_closed() {
    let (folder, store) = open();
    write(&store, "gen_1", "x");
    store.add_feedback(&feedback("f1", "gen_1-a", 1, None)).unwrap();
    // What a killed process leaves: the files as they are now, log included.
    let other = tempfile::tempdir().unwrap();
    for suffix in ["", "-wal"] {
        let name = format!("{}{suffix}", Store::FILE_NAME);
        fs::copy(folder.path().join(&name), other.path().join(&name)).unwrap();
    }
    let (copy, _) = Store::open(other.path()).unwrap();
    assert_eq!(copy.thumbs().unwrap().liked, 1);
}
