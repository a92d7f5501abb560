//! Everything that Inkling remembers, in one SQLite file: open, migrate, back up, write–record–announce.
//!
//! **Invariants**
//! - No SQL outside this crate, and a table's schema, row type and queries stand together in `table/<noun>.rs`.
//! - Every write goes through [`Store::write`]: rows and change log reach the disk together or not at all, and only
//!   what has reached it is announced, in the order of the log.
//! - Rows are ordered by their sequence number. No query orders by a clock; a clock only bounds what a person asked
//!   to have cleared by age.
//! - No file of this crate knows the training, the models or a surface.

mod announce;
mod backup;
mod error;
mod fault;
mod migration;
mod open;
mod table;
mod value;
mod wal;

pub use announce::Subscription;
pub use error::{Conflict, StoreError};
pub use fault::Fault;
pub use migration::{MIGRATIONS, Migration, SCHEMA_VERSION};
pub use open::{OpenReport, Options};
pub use table::adapter::AdapterSwitch;
pub use table::blind_pair::StoredBlindPair;
pub use table::candidate::StoredCandidate;
pub use table::change_log::{ChangeRange, KEPT_CHANGES};
pub use table::example::ExampleCounts;
pub use table::feedback::{RatedText, Thumbs};
pub use table::generation::UnjudgedGeneration;
pub use table::job::MAX_ATTEMPTS;
pub use table::taste::TasteVersion;

pub type Result<T> = std::result::Result<T, StoreError>;

use announce::Announcer;
use domain::{Change, Event, Timestamp};
use rusqlite::{Connection, Transaction, TransactionBehavior};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use table::change_log::Recorder;

/// The database of one data folder; share it in an `Arc`.
///
/// Writes wait for each other; reads use connections of their own and never wait for a write (WAL).
pub struct Store {
    data_dir: PathBuf,
    writer: Mutex<Connection>,
    /// Two, so that a long read (all feedback, for taste) does not hold up a short one.
    readers: [Mutex<Connection>; 2],
    announcer: Announcer,
    clock: fn() -> Timestamp,
    faults: fault::Faults,
}

impl Store {
    /// The file name of the database inside the data folder.
    pub const FILE_NAME: &'static str = "inkling.db";

    /// The folder that this store was opened in.
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// The version of the SQLite that is compiled in, such as `3.53.2`.
    pub fn sqlite_version() -> &'static str {
        rusqlite::version()
    }

    /// Hears every change from now on; see [`Subscription`] for what happens to a slow listener.
    pub fn subscribe(&self) -> Subscription {
        self.announcer.subscribe()
    }

    /// Tells subscribers something that is stored elsewhere or not at all; it has no sequence number and is not logged.
    pub fn announce_transient(&self, change: Change) {
        self.announcer.announce(&Event { seq: None, at: (self.clock)(), change });
    }

    /// Moves the write-ahead log into the database file and closes it.
    ///
    /// # Errors
    /// `DiskFull`, `Io`, `ReadOnly`; nothing is lost then, the log is read at the next start.
    pub fn close(self) -> Result<()> {
        let Self { writer, readers, .. } = self;
        for reader in readers {
            reader.into_inner().unwrap_or_else(PoisonError::into_inner).close().map_err(|(_, error)| error)?;
        }
        let writer = writer.into_inner().unwrap_or_else(PoisonError::into_inner);
        writer.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
        writer.close().map_err(|(_, error)| error)?;
        Ok(())
    }

    /// Makes the `nth` write from now on (1 = the next) fail just before it is committed, for tests of what callers
    /// do when a disk fails.
    #[doc(hidden)]
    pub fn fail_write(&self, nth: u32, fault: Fault) {
        self.faults.arm(nth, fault);
    }

    /// Runs `body` in a transaction, commits it with the changes it recorded, then announces them.
    fn write<T>(&self, body: impl FnOnce(&Recorder<'_>) -> Result<T>) -> Result<T> {
        let mut connection = lock(&self.writer);
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let recorder = Recorder::new(transaction, (self.clock)());
        let value = body(&recorder)?;
        self.faults.check()?;
        let events = recorder.commit()?;
        // Still under the lock, so that subscribers hear changes in the order of the log. Announcing never blocks.
        for event in &events {
            self.announcer.announce(event);
        }
        Ok(value)
    }

    /// Runs `body` on one consistent snapshot.
    fn read<T>(&self, body: impl FnOnce(&Transaction<'_>) -> Result<T>) -> Result<T> {
        let mut connection = self.reader();
        let snapshot = connection.transaction()?;
        let value = body(&snapshot)?;
        snapshot.finish()?;
        Ok(value)
    }

    fn reader(&self) -> MutexGuard<'_, Connection> {
        self.readers.iter().find_map(|reader| reader.try_lock().ok()).unwrap_or_else(|| lock(&self.readers[0]))
    }
}

/// A panic elsewhere does not spoil the connection: its transaction was rolled back when it unwound.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
