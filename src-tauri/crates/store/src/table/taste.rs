//! Versions of the taste model; the newest counts.

use crate::value::Json;
use crate::{Result, Store, StoreError};
use domain::{Change, TasteSummary, Timestamp};
use rusqlite::{OptionalExtension, Row, params};

pub(crate) const V1: &str = "
CREATE TABLE taste (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    json TEXT NOT NULL,
    summary TEXT NOT NULL,
    created_at TEXT NOT NULL
) STRICT;
";

/// Versions kept to look back at; each can be learned again from the feedback.
const KEPT: i64 = 20;

#[derive(Debug, Clone, PartialEq)]
pub struct TasteVersion {
    /// Counts from 1.
    pub version: u32,
    /// The model, as the taste crate wrote it.
    pub json: String,
    pub summary: TasteSummary,
    pub created_at: Timestamp,
}

impl Store {
    /// Stores a new version of the taste model and returns its number.
    pub fn save_taste(&self, json: &str, summary: &TasteSummary) -> Result<u32> {
        self.write(|tx| {
            tx.execute("INSERT INTO taste (json, summary, created_at) VALUES (?1, ?2, ?3)", params![json, Json(summary), tx.now().0])?;
            let version = tx.last_insert_rowid();
            tx.execute("DELETE FROM taste WHERE seq <= ?1", [version - KEPT])?;
            tx.record(Change::TasteTrained { summary: summary.clone() })?;
            u32::try_from(version).map_err(StoreError::damaged)
        })
    }

    /// Versions that are kept, the newest first.
    pub fn taste_versions(&self) -> Result<Vec<TasteVersion>> {
        self.read(|tx| {
            let mut query = tx.prepare_cached("SELECT seq, json, summary, created_at FROM taste ORDER BY seq DESC")?;
            Ok(query.query_map([], from_row)?.collect::<rusqlite::Result<_>>()?)
        })
    }

    pub fn newest_taste(&self) -> Result<Option<TasteVersion>> {
        self.read(|tx| {
            let sql = "SELECT seq, json, summary, created_at FROM taste ORDER BY seq DESC LIMIT 1";
            Ok(tx.query_row(sql, [], from_row).optional()?)
        })
    }
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<TasteVersion> {
    let Json(summary) = row.get(2)?;
    Ok(TasteVersion { version: row.get(0)?, json: row.get(1)?, summary, created_at: Timestamp(row.get(3)?) })
}
