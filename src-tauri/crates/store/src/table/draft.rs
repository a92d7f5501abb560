//! What stands in the Write view and is not written yet: one row.

use crate::{Result, Store};
use domain::{Change, Draft};
use rusqlite::{OptionalExtension, params};

pub(crate) const V1: &str = "
CREATE TABLE draft (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    json TEXT NOT NULL,
    saved_at TEXT NOT NULL
) STRICT;
";

impl Store {
    /// The draft as last saved; empty at first.
    pub fn draft(&self) -> Result<Draft> {
        self.read(|tx| {
            let json = tx.query_row("SELECT json FROM draft WHERE id = 1", [], |row| row.get(0)).optional()?;
            Ok(json.map(|json| Draft { json }).unwrap_or_default())
        })
    }

    pub fn save_draft(&self, draft: &Draft) -> Result<()> {
        self.write(|tx| {
            let sql = "INSERT INTO draft (id, json, saved_at) VALUES (1, ?1, ?2)
                ON CONFLICT (id) DO UPDATE SET json = excluded.json, saved_at = excluded.saved_at";
            tx.execute(sql, params![draft.json, tx.now().0])?;
            tx.record(Change::DraftSaved)
        })
    }
}
