//! Opening a data folder: look before touching, back up before changing.

use crate::migration::{self, MIGRATIONS, Migration};
use crate::{Result, Store, StoreError, backup, fault, lock, wal};
use domain::Timestamp;
use rusqlite::functions::FunctionFlags;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

/// SQLite before this one can damage a database in WAL mode (WAL-reset bug).
const OLDEST_SQLITE: i32 = 3_051_003;

/// Above this size, only the quick check is made at the start.
const THOROUGH_CHECK_BYTES: u64 = 256 << 20;

/// How long a write waits for another program's write.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// What tests vary; a program opens with [`Store::open`].
pub struct Options {
    pub migrations: &'static [Migration],
    /// The clock that stamps rows; order never depends on it.
    pub clock: fn() -> Timestamp,
    /// Makes the disk "full" at this many pages of 4 KiB.
    pub max_pages: Option<u32>,
}

impl Default for Options {
    fn default() -> Self {
        Self { migrations: MIGRATIONS, clock: Timestamp::now, max_pages: None }
    }
}

/// What happened while opening.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenReport {
    pub path: PathBuf,
    /// There was no database before.
    pub created: bool,
    /// The version of the schema before this start, when it was an older one.
    pub migrated_from: Option<u32>,
    /// The backup made before migrating.
    pub backup: Option<PathBuf>,
    pub sqlite: &'static str,
}

impl Store {
    /// Opens the database of a data folder; makes the folder and the database when there are none, checks an existing one and
    /// brings it up to date, after a backup.
    ///
    /// # Errors
    /// `ReadOnly`, `DiskFull`, `Io` for the folder; `Damaged` with the newest whole backup; `Newer` for data of a newer
    /// version, which is left as it is; `OldSqlite`; `Busy`.
    pub fn open(data_dir: &Path) -> Result<(Self, OpenReport)> {
        Self::open_with(data_dir, &Options::default())
    }

    /// Like [`Store::open`], with another schema, clock or disk size.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open_with(data_dir: &Path, options: &Options) -> Result<(Self, OpenReport)> {
        open(data_dir, options).map_err(|error| match error {
            StoreError::Damaged { detail, .. } => StoreError::Damaged { detail, backup: backup::newest_good(data_dir) },
            error => error,
        })
    }
}

fn open(data_dir: &Path, options: &Options) -> Result<(Store, OpenReport)> {
    if rusqlite::version_number() < OLDEST_SQLITE {
        return Err(StoreError::OldSqlite { found: rusqlite::version() });
    }
    make_folder(data_dir)?;
    let path = data_dir.join(Store::FILE_NAME);
    let empty = path.try_exists()? && fs::metadata(&path)?.len() == 0;
    if empty && backup::newest_good(data_dir).is_some() {
        // A first start that was cut off leaves an empty file, but no backup.
        return Err(StoreError::damaged("the file is empty"));
    }
    let created = empty || !path.try_exists()?;
    let supported = migration::newest(options.migrations);
    if !created {
        let found = look(&path)?;
        if found > supported {
            return Err(StoreError::Newer { found, supported });
        }
    }
    if let Some(detail) = wal::damage(&path.with_extension("db-wal"))? {
        // Before SQLite cuts the log: what can still be read becomes a backup, and is offered if no other has more.
        backup::save_readable(data_dir);
        return Err(StoreError::damaged(detail));
    }

    let mut writer = Connection::open(&path)?;
    prepare(&writer)?;
    if let Some(pages) = options.max_pages {
        writer.pragma_update(None, "max_page_count", pages)?;
    }
    if !created {
        check(&writer, fs::metadata(&path)?.len())?;
        migration::check_schema(&writer, options.migrations)?;
    }
    let found = migration::version(&writer)?;
    let outdated = (1..supported).contains(&found);
    let backup = if outdated {
        let target = backup::folder(data_dir).join(format!("before-v{supported}.db"));
        backup::copy(&writer, &target)?;
        Some(target)
    } else {
        None
    };
    writer.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))?;
    migration::migrate(&mut writer, options.migrations)?;

    let readers = [reader(&path)?, reader(&path)?].map(Mutex::new);
    let store = Store {
        data_dir: data_dir.to_owned(),
        writer: Mutex::new(writer),
        readers,
        announcer: Default::default(),
        clock: options.clock,
        faults: fault::Faults::default(),
    };
    Ok((store, OpenReport { path, created, migrated_from: outdated.then_some(found), backup, sqlite: rusqlite::version() }))
}

/// Makes the folder, readable by this person only, and tries to write in it: SQLite's own errors do not tell a read-only
/// folder from a missing file.
fn make_folder(data_dir: &Path) -> Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(data_dir)?;
    let probe = data_dir.join(format!(".write-probe-{}", std::process::id()));
    let outcome = fs::File::create(&probe).and_then(|mut file| file.write_all(b"inkling"));
    let removed = fs::remove_file(&probe);
    outcome?;
    removed?;
    Ok(())
}

/// The version of an existing database, read without changing the file.
fn look(path: &Path) -> Result<u32> {
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    migration::version(&connection)
}

/// What every connection needs.
fn prepare(connection: &Connection) -> Result<()> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    // FULL: with NORMAL a power cut may undo what was acknowledged. `cell_size_check` finds damaged pages where they
    // are read, `trusted_schema` keeps a crafted file from calling functions, `journal_size_limit` bounds the log.
    connection
        .execute_batch("PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; PRAGMA cell_size_check = ON; PRAGMA trusted_schema = OFF;")?;
    connection.query_row("PRAGMA journal_size_limit = 16777216", [], |_| Ok(()))?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(())
}

/// Whether every page and every row can be read and, in a database of usual size, whether the indexes match their tables:
/// that takes about 1 ms per MB (118 MB: 0.1 s quick, 0.13 to 0.2 s in full), and a start should not wait long for it.
fn check(connection: &Connection, bytes: u64) -> Result<()> {
    let thorough = bytes <= THOROUGH_CHECK_BYTES;
    verdict(connection, if thorough { "PRAGMA integrity_check(1)" } else { "PRAGMA quick_check(1)" })
}

fn verdict(connection: &Connection, pragma: &str) -> Result<()> {
    let verdict: String = connection.query_row(pragma, [], |row| row.get(0))?;
    if verdict == "ok" { Ok(()) } else { Err(StoreError::damaged(verdict)) }
}

fn reader(path: &Path) -> Result<Connection> {
    // Not SQLITE_OPEN_READ_ONLY: a reader must be able to recover the log after a crash.
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    prepare(&connection)?;
    connection.pragma_update(None, "query_only", true)?;
    connection.create_scalar_function("has_words", 2, FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC, |call| {
        let text = match call.get_raw(0) {
            ValueRef::Text(bytes) => String::from_utf8_lossy(bytes).to_lowercase(),
            _ => String::new(),
        };
        let words: String = call.get(1)?;
        Ok(words.split_whitespace().all(|word| text.contains(word)))
    })?;
    Ok(connection)
}

impl Store {
    /// Whether the whole file is in order, indexes included.
    ///
    /// # Errors
    /// `Damaged` with what was found first.
    pub fn check_integrity(&self) -> Result<()> {
        verdict(&lock(&self.writer), "PRAGMA integrity_check(1)")
    }
}
