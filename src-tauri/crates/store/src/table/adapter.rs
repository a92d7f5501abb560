//! Trained add-ons. Of each kind, at most one is active for a base.

use crate::table::change_log::Recorder;
use crate::table::run;
use crate::value::{Json, Name, finite};
use crate::{Conflict, Result, Store, StoreError};
use domain::{Adapter, AdapterId, AdapterState, BaseId, Change, RunId, Timestamp};
use rusqlite::{Connection, OptionalExtension, Row, params};

pub(crate) const V1: &str = "
CREATE TABLE adapter (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    kind TEXT NOT NULL,
    state TEXT NOT NULL,
    base TEXT NOT NULL,
    run_id TEXT REFERENCES run (id) ON DELETE SET NULL,
    strength REAL NOT NULL,
    path TEXT NOT NULL,
    sha256 TEXT NOT NULL,
    size_bytes REAL NOT NULL,
    verdict TEXT,
    -- What was active when this one was activated, for undo.
    previous_active TEXT REFERENCES adapter (id) ON DELETE SET NULL,
    created_at TEXT NOT NULL
) STRICT;
CREATE UNIQUE INDEX adapter_active ON adapter (base, kind) WHERE state = 'active';
CREATE INDEX adapter_of_run ON adapter (run_id);
";

/// What a change of an adapter's state did.
#[derive(Debug, Clone, PartialEq)]
pub struct AdapterSwitch {
    pub adapter: Adapter,
    /// What was active before and is retired now.
    pub replaced: Option<Adapter>,
    /// What is active again after an undo.
    pub restored: Option<Adapter>,
}

impl Store {
    /// Stores a new adapter; one that comes active replaces the active one as [`Store::set_adapter_state`] does.
    ///
    /// # Errors
    /// `Conflict` when the id is taken.
    pub fn insert_adapter(&self, adapter: &Adapter) -> Result<()> {
        self.write(|tx| {
            let sql = "INSERT INTO adapter (id, name, kind, state, base, run_id, strength, path, sha256, size_bytes, verdict, created_at)
                VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12) ON CONFLICT (id) DO NOTHING";
            let inactive = if adapter.state == AdapterState::Active { AdapterState::Trial } else { adapter.state };
            let stored = tx.execute(
                sql,
                params![
                    adapter.id.0,
                    adapter.name,
                    Name(adapter.kind),
                    Name(inactive),
                    adapter.base.0,
                    adapter.run_id.as_ref().map(|id| &id.0),
                    finite(adapter.strength),
                    adapter.path,
                    adapter.sha256,
                    finite(adapter.size_bytes),
                    adapter.verdict.as_ref().map(Json),
                    adapter.created_at.0,
                ],
            )?;
            if stored == 0 {
                return Err(Conflict::Exists { id: adapter.id.0.clone() }.into());
            }
            if adapter.state == AdapterState::Active { activate(tx, &adapter.id).map(drop) } else { announce(tx, &adapter.id) }
        })
    }

    /// Stores an adapter's name, strength and verdict.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn update_adapter(&self, adapter: &Adapter) -> Result<()> {
        self.write(|tx| {
            let sql = "UPDATE adapter SET name = ?2, strength = ?3, verdict = ?4 WHERE id = ?1";
            let verdict = adapter.verdict.as_ref().map(Json);
            if tx.execute(sql, params![adapter.id.0, adapter.name, finite(adapter.strength), verdict])? == 0 {
                return Err(StoreError::not_found("adapter", &adapter.id));
            }
            announce(tx, &adapter.id)
        })
    }

    /// Brings an adapter to a state. Activating one retires the active one of its base and kind and remembers it for
    /// [`Store::undo_adapter`]; leaving `active` for another state activates nothing else.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn set_adapter_state(&self, id: &AdapterId, state: AdapterState) -> Result<AdapterSwitch> {
        self.write(|tx| {
            if state == AdapterState::Active {
                return activate(tx, id);
            }
            get(tx, id)?;
            put_state(tx, id, state)?;
            Ok(AdapterSwitch { adapter: get(tx, id)?, replaced: None, restored: None })
        })
    }

    /// Retires an adapter and, if it was active, makes active again what it had replaced.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn undo_adapter(&self, id: &AdapterId) -> Result<AdapterSwitch> {
        self.write(|tx| {
            let was_active = get(tx, id)?.state == AdapterState::Active;
            let sql = "SELECT previous_active FROM adapter WHERE id = ?1";
            let previous: Option<AdapterId> = tx.query_row(sql, [&id.0], |row| row.get::<_, Option<_>>(0))?.map(AdapterId);
            put_state(tx, id, AdapterState::Retired)?;
            let restored = match previous.filter(|_| was_active) {
                Some(previous) => {
                    put_state(tx, &previous, AdapterState::Active)?;
                    Some(get(tx, &previous)?)
                }
                None => None,
            };
            Ok(AdapterSwitch { adapter: get(tx, id)?, replaced: None, restored })
        })
    }

    /// All adapters, the newest first.
    pub fn adapters(&self) -> Result<Vec<Adapter>> {
        self.read(|tx| list(tx, "SELECT * FROM adapter ORDER BY seq DESC", params![]))
    }

    /// The adapters that every generation with this base uses.
    pub fn active_adapters(&self, base: &BaseId) -> Result<Vec<Adapter>> {
        self.read(|tx| list(tx, "SELECT * FROM adapter WHERE base = ?1 AND state = 'active' ORDER BY seq", params![base.0]))
    }

    /// # Errors
    /// `NotFound`.
    pub fn adapter(&self, id: &AdapterId) -> Result<Adapter> {
        self.read(|tx| get(tx, id))
    }

    /// Forgets an adapter, and returns it so that its folder can be deleted too. An undo that would have led back to it leads
    /// to what was active before it.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn delete_adapter(&self, id: &AdapterId) -> Result<Adapter> {
        self.write(|tx| {
            let adapter = get(tx, id)?;
            let sql = "UPDATE adapter SET previous_active = (SELECT gone.previous_active FROM adapter gone WHERE gone.id = ?1)
                WHERE previous_active = ?1";
            tx.execute(sql, [&id.0])?;
            // An adapter cannot be what was active before itself.
            tx.execute("UPDATE adapter SET previous_active = NULL WHERE previous_active = id", [])?;
            let mut query = tx.prepare("SELECT id FROM run WHERE adapter_id = ?1")?;
            let runs = query.query_map([&id.0], |row| row.get(0).map(RunId))?.collect::<rusqlite::Result<Vec<_>>>()?;
            tx.execute("DELETE FROM adapter WHERE id = ?1", [&id.0])?;
            tx.record(Change::AdapterRemoved { adapter_id: id.clone() })?;
            // They lost their `adapter_id` just now.
            for run_id in &runs {
                run::announce(tx, run_id)?;
            }
            Ok(adapter)
        })
    }
}

/// The adapters that a run made.
pub(crate) fn of_run(connection: &Connection, run_id: &RunId) -> Result<Vec<Adapter>> {
    list(connection, "SELECT * FROM adapter WHERE run_id = ?1 ORDER BY seq", params![run_id.0])
}

/// Records the adapter as it is in the table now.
pub(crate) fn announce(tx: &Recorder<'_>, id: &AdapterId) -> Result<()> {
    let adapter = Box::new(get(tx, id)?);
    tx.record(Change::AdapterChanged { adapter })
}

fn activate(tx: &Recorder<'_>, id: &AdapterId) -> Result<AdapterSwitch> {
    let adapter = get(tx, id)?;
    if adapter.state == AdapterState::Active {
        return Ok(AdapterSwitch { adapter, replaced: None, restored: None });
    }
    let sql = "SELECT * FROM adapter WHERE base = ?1 AND kind = ?2 AND state = 'active'";
    let active = tx.query_row(sql, params![adapter.base.0, Name(adapter.kind)], from_row).optional()?;
    let replaced = match active {
        Some(active) => {
            put_state(tx, &active.id, AdapterState::Retired)?;
            Some(get(tx, &active.id)?)
        }
        None => None,
    };
    let previous = replaced.as_ref().map(|replaced| &replaced.id.0);
    tx.execute("UPDATE adapter SET previous_active = ?2 WHERE id = ?1", params![id.0, previous])?;
    put_state(tx, id, AdapterState::Active)?;
    Ok(AdapterSwitch { adapter: get(tx, id)?, replaced, restored: None })
}

fn put_state(tx: &Recorder<'_>, id: &AdapterId, state: AdapterState) -> Result<()> {
    tx.execute("UPDATE adapter SET state = ?2 WHERE id = ?1", params![id.0, Name(state)])?;
    announce(tx, id)
}

fn get(connection: &Connection, id: &AdapterId) -> Result<Adapter> {
    let found = connection.query_row("SELECT * FROM adapter WHERE id = ?1", [&id.0], from_row).optional()?;
    found.ok_or_else(|| StoreError::not_found("adapter", id))
}

fn list(connection: &Connection, sql: &str, values: impl rusqlite::Params) -> Result<Vec<Adapter>> {
    let mut query = connection.prepare_cached(sql)?;
    Ok(query.query_map(values, from_row)?.collect::<rusqlite::Result<_>>()?)
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<Adapter> {
    let Name(kind) = row.get("kind")?;
    let Name(state) = row.get("state")?;
    let verdict: Option<Json<_>> = row.get("verdict")?;
    Ok(Adapter {
        id: AdapterId(row.get("id")?),
        name: row.get("name")?,
        kind,
        state,
        base: BaseId(row.get("base")?),
        run_id: row.get::<_, Option<_>>("run_id")?.map(RunId),
        strength: row.get("strength")?,
        path: row.get("path")?,
        sha256: row.get("sha256")?,
        size_bytes: row.get("size_bytes")?,
        verdict: verdict.map(|Json(verdict)| verdict),
        created_at: Timestamp(row.get("created_at")?),
    })
}
