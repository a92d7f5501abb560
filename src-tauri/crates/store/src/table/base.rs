//! Bases that were downloaded or imported. The built-in one has no row.

use crate::table::change_log::Recorder;
use crate::value::Json;
use crate::{Conflict, Result, Store, StoreError};
use domain::{BaseId, Change, InstalledBase};
use rusqlite::{Connection, OptionalExtension, params};

pub(crate) const V3: &str = "
CREATE TABLE base (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    installed TEXT NOT NULL
) STRICT;
";

impl Store {
    /// Stores a new base.
    ///
    /// # Errors
    /// `Conflict` when the id is taken.
    pub fn insert_base(&self, installed: &InstalledBase) -> Result<()> {
        self.write(|tx| {
            let sql = "INSERT INTO base (id, installed) VALUES (?1, ?2) ON CONFLICT (id) DO NOTHING";
            if tx.execute(sql, params![installed.base.id.0, Json(installed)])? == 0 {
                return Err(Conflict::Exists { id: installed.base.id.0.clone() }.into());
            }
            announce(tx, installed)
        })
    }

    /// # Errors
    /// `NotFound`.
    pub fn update_base(&self, installed: &InstalledBase) -> Result<()> {
        self.write(|tx| {
            if tx.execute("UPDATE base SET installed = ?2 WHERE id = ?1", params![installed.base.id.0, Json(installed)])? == 0 {
                return Err(StoreError::not_found("base", &installed.base.id));
            }
            announce(tx, installed)
        })
    }

    /// # Errors
    /// `NotFound`.
    pub fn delete_base(&self, id: &BaseId) -> Result<()> {
        self.write(|tx| {
            if tx.execute("DELETE FROM base WHERE id = ?1", [&id.0])? == 0 {
                return Err(StoreError::not_found("base", id));
            }
            tx.record(Change::BaseRemoved { base_id: id.clone() })
        })
    }

    /// In the order in which they came.
    pub fn installed_bases(&self) -> Result<Vec<InstalledBase>> {
        self.read(|tx| {
            let mut query = tx.prepare_cached("SELECT installed FROM base ORDER BY seq")?;
            let rows = query.query_map([], |row| row.get(0).map(|Json(installed)| installed))?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        })
    }

    /// # Errors
    /// `NotFound`.
    pub fn installed_base(&self, id: &BaseId) -> Result<InstalledBase> {
        self.read(|tx| get(tx, id))
    }
}

fn get(connection: &Connection, id: &BaseId) -> Result<InstalledBase> {
    let found = connection.query_row("SELECT installed FROM base WHERE id = ?1", [&id.0], |row| row.get(0)).optional()?;
    found.map(|Json(installed)| installed).ok_or_else(|| StoreError::not_found("base", id))
}

fn announce(tx: &Recorder<'_>, installed: &InstalledBase) -> Result<()> {
    tx.record(Change::BaseChanged { base: Box::new(installed.base.clone()) })
}
