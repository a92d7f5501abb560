//! Whole copies of the database, made while it is in use.

use crate::{Result, Store, StoreError};
use rusqlite::backup::Backup;
use rusqlite::{Connection, OpenFlags};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

impl Store {
    /// Copies the database into one file at `target`, also while others write; the file is there whole or not at all.
    ///
    /// # Errors
    /// `DiskFull`, `ReadOnly`, `Io` for the target.
    pub fn backup_to(&self, target: &Path) -> Result<()> {
        let source = self.reader();
        // One snapshot: a copy that starts anew at every write would never end under load.
        let snapshot = source.unchecked_transaction()?;
        snapshot.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
        copy(&snapshot, target)
    }

    /// Makes a backup in the data folder unless nothing changed since the newest, and keeps the newest `keep`.
    ///
    /// Backups are numbered by the change log, so a clock that jumps cannot make an old one look new.
    ///
    /// # Errors
    /// `DiskFull`, `ReadOnly`, `Io`.
    pub fn keep_backup(&self, keep: usize) -> Result<PathBuf> {
        let folder = folder(self.data_dir());
        let target = folder.join(format!("after-change-{:010}.db", self.change_range()?.last));
        if !target.try_exists()? {
            self.backup_to(&target)?;
        }
        let mut kept: Vec<_> = files(&folder).into_iter().filter(|path| name(path).starts_with("after-change-")).collect();
        kept.sort();
        for old in kept.iter().rev().skip(keep.max(1)) {
            fs::remove_file(old)?;
        }
        Ok(target)
    }

    /// Puts a backup in the place of a database that cannot be opened; nothing may have the data folder open. The damaged
    /// files are kept beside it, and where is returned.
    ///
    /// # Errors
    /// `Damaged` when the backup itself is not whole, `DiskFull`, `ReadOnly`, `Io`.
    pub fn restore(data_dir: &Path, backup: &Path) -> Result<PathBuf> {
        last_change(backup)?;
        let database = data_dir.join(Self::FILE_NAME);
        let fresh = data_dir.join("inkling.db.restoring");
        fs::copy(backup, &fresh)?;
        fs::File::open(&fresh)?.sync_all()?;
        let aside = free_folder(data_dir)?;
        for suffix in ["", "-wal", "-shm"] {
            let from = data_dir.join(format!("{}{suffix}", Self::FILE_NAME));
            if from.try_exists()? {
                fs::rename(&from, aside.join(format!("{}{suffix}", Self::FILE_NAME)))?;
            }
        }
        fs::rename(&fresh, &database)?;
        sync_folder(data_dir)?;
        Ok(aside)
    }
}

/// Where backups of a data folder lie.
pub(crate) fn folder(data_dir: &Path) -> PathBuf {
    data_dir.join("backups")
}

/// Temp file, fsync, rename, fsync of the folder.
pub(crate) fn copy(source: &Connection, target: &Path) -> Result<()> {
    let parent = target.parent().ok_or_else(|| StoreError::Io(std::io::ErrorKind::InvalidInput.into()))?;
    fs::create_dir_all(parent)?;
    let partial = target.with_extension("db.partial");
    if partial.try_exists()? {
        fs::remove_file(&partial)?;
    }
    let outcome = copy_pages(source, &partial);
    if outcome.is_err() {
        // The partial copy is of no use; that it could not be removed either matters less than why it is partial.
        let _ = fs::remove_file(&partial);
        return outcome;
    }
    fs::rename(&partial, target)?;
    sync_folder(parent)
}

fn copy_pages(source: &Connection, partial: &Path) -> Result<()> {
    let mut copy = Connection::open(partial)?;
    {
        let backup = Backup::new(source, &mut copy)?;
        backup.run_to_completion(1024, Duration::ZERO, None)?;
    }
    // A single file that can be copied anywhere: no write-ahead log beside it.
    copy.query_row("PRAGMA journal_mode = DELETE", [], |_| Ok(()))?;
    copy.close().map_err(|(_, error)| error)?;
    fs::File::open(partial)?.sync_all()?;
    Ok(())
}

/// The whole backup with the most changes in it.
pub(crate) fn newest_good(data_dir: &Path) -> Option<PathBuf> {
    let good = files(&folder(data_dir)).into_iter().filter_map(|path| last_change(&path).ok().map(|change| (change, path)));
    good.max_by_key(|(change, _)| *change).map(|(_, path)| path)
}

/// Makes a backup of what SQLite can read of a database whose log is damaged, without touching either. Best effort: when
/// nothing of it is whole there is none, and the damage is reported all the same.
pub(crate) fn save_readable(data_dir: &Path) {
    let attempt = || -> Result<()> {
        let workplace = data_dir.join(format!(".readable-{}", std::process::id()));
        fs::create_dir_all(&workplace)?;
        let outcome = copy_readable(data_dir, &workplace);
        fs::remove_dir_all(&workplace)?;
        outcome
    };
    if let Err(error) = attempt() {
        tracing::warn!(%error, "nothing could be saved of a damaged database");
    }
}

fn copy_readable(data_dir: &Path, workplace: &Path) -> Result<()> {
    for suffix in ["", "-wal"] {
        let name = format!("{}{suffix}", Store::FILE_NAME);
        fs::copy(data_dir.join(&name), workplace.join(&name))?;
    }
    let path = workplace.join(Store::FILE_NAME);
    let connection = Connection::open(&path)?;
    let changes = last_change(&path)?;
    copy(&connection, &folder(data_dir).join(format!("readable-{changes:010}.db")))
}

/// The number of the last change in a backup.
///
/// # Errors
/// `Damaged` when it is not a whole database.
fn last_change(path: &Path) -> Result<i64> {
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    let verdict: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if verdict != "ok" {
        return Err(StoreError::damaged(verdict));
    }
    Ok(connection.query_row("SELECT coalesce(max(seq), 0) FROM change_log", [], |row| row.get(0))?)
}

/// The backups in a folder; none when it cannot be read.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|extension| extension == "db")).collect()
}

fn name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

fn free_folder(data_dir: &Path) -> Result<PathBuf> {
    let mut number = 1;
    loop {
        let aside = data_dir.join(format!("damaged-{number}"));
        match fs::create_dir(&aside) {
            Ok(()) => return Ok(aside),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => number += 1,
            Err(error) => return Err(error.into()),
        }
    }
}

fn sync_folder(folder: &Path) -> Result<()> {
    // Windows cannot open a folder as a file; there the rename itself is what can be had.
    #[cfg(unix)]
    fs::File::open(folder)?.sync_all()?;
    #[cfg(not(unix))]
    let _ = folder;
    Ok(())
}
