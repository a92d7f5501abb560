//! What changed, in order: the source of resumable event streams.

use crate::value::Json;
use crate::{Result, Store, StoreError};
use domain::{Change, Event, Timestamp};
use rusqlite::{Transaction, params};
use std::cell::RefCell;
use std::ops::Deref;

pub(crate) const V1: &str = "
CREATE TABLE change_log (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    at TEXT NOT NULL,
    change_json TEXT NOT NULL
) STRICT;
";

/// Changes that are kept at least; older ones are pruned, and whoever has missed them reloads.
pub const KEPT_CHANGES: u32 = 10_000;

/// Pruning at every write would touch a page more each time for one row.
const PRUNE_EVERY: u32 = 256;

/// The changes that the log holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ChangeRange {
    /// The oldest one still there; 0 when there is none.
    pub first: u32,
    /// The newest one; 0 when there is none.
    pub last: u32,
}

impl Store {
    /// Changes after the one numbered `seq` (0 = from the start), oldest first, at most `limit`.
    ///
    /// When `seq + 1` is below [`Store::change_range`]'s `first`, some were pruned: reload instead.
    pub fn changes_after(&self, seq: u32, limit: u32) -> Result<Vec<Event>> {
        self.read(|tx| {
            let mut query = tx.prepare_cached("SELECT seq, at, change_json FROM change_log WHERE seq > ?1 ORDER BY seq LIMIT ?2")?;
            let events = query.query_map(params![seq, limit], |row| {
                let Json(change) = row.get(2)?;
                Ok(Event { seq: Some(row.get(0)?), at: Timestamp(row.get(1)?), change })
            })?;
            Ok(events.collect::<rusqlite::Result<_>>()?)
        })
    }

    /// Which changes can be asked for.
    pub fn change_range(&self) -> Result<ChangeRange> {
        self.read(|tx| {
            let sql = "SELECT coalesce(min(seq), 0), coalesce(max(seq), 0) FROM change_log";
            Ok(tx.query_row(sql, [], |row| Ok(ChangeRange { first: row.get(0)?, last: row.get(1)? }))?)
        })
    }
}

/// A write under way: its transaction, and what will be announced when it is committed.
pub(crate) struct Recorder<'a> {
    transaction: Transaction<'a>,
    at: Timestamp,
    events: RefCell<Vec<Event>>,
}

impl<'a> Recorder<'a> {
    pub(crate) fn new(transaction: Transaction<'a>, at: Timestamp) -> Self {
        Self { transaction, at, events: RefCell::default() }
    }

    /// The time of this write.
    pub(crate) fn now(&self) -> &Timestamp {
        &self.at
    }

    /// Puts a change into the log, to be announced after the commit.
    pub(crate) fn record(&self, change: Change) -> Result<()> {
        self.prepare_cached("INSERT INTO change_log (at, change_json) VALUES (?1, ?2)")?.execute(params![self.at.0, Json(&change)])?;
        let seq = u32::try_from(self.last_insert_rowid()).map_err(StoreError::damaged)?;
        if seq.is_multiple_of(PRUNE_EVERY) {
            self.execute("DELETE FROM change_log WHERE seq <= ?1", [seq.saturating_sub(KEPT_CHANGES)])?;
        }
        self.events.borrow_mut().push(Event { seq: Some(seq), at: self.at.clone(), change });
        Ok(())
    }

    /// Announced after the commit but not logged: what can be reloaded from its own call.
    pub(crate) fn mention(&self, change: Change) {
        self.events.borrow_mut().push(Event { seq: None, at: self.at.clone(), change });
    }

    pub(crate) fn commit(self) -> Result<Vec<Event>> {
        self.transaction.commit()?;
        Ok(self.events.into_inner())
    }
}

impl<'a> Deref for Recorder<'a> {
    type Target = Transaction<'a>;

    fn deref(&self) -> &Transaction<'a> {
        &self.transaction
    }
}
