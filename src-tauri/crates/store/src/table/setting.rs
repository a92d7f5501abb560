//! Settings: one row, holding only what differs from the defaults, so that a better default reaches everyone who left it.

use crate::value::Json;
use crate::{Result, Store};
use domain::{Change, Settings};
use rusqlite::{Connection, OptionalExtension, params};
use serde_json::{Map, Value};

pub(crate) const V1: &str = "
CREATE TABLE setting (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    overrides TEXT NOT NULL,
    changed_at TEXT NOT NULL
) STRICT;
";

impl Store {
    /// The settings in force; a stored value that this version does not know or allow counts as its default.
    pub fn settings(&self) -> Result<Settings> {
        self.read(|tx| load(tx))
    }

    /// Stores settings that were checked with [`Settings::merged`], and returns the keys that changed.
    pub fn save_settings(&self, settings: &Settings) -> Result<Vec<String>> {
        self.write(|tx| {
            let keys = load(tx)?.changed_keys(settings);
            if keys.is_empty() {
                return Ok(keys);
            }
            let overridden = Settings::default().changed_keys(settings);
            let mut overrides = match serde_json::to_value(settings) {
                Ok(Value::Object(all)) => all,
                _ => Map::new(),
            };
            overrides.retain(|key, _| overridden.contains(key));
            let sql = "INSERT INTO setting (id, overrides, changed_at) VALUES (1, ?1, ?2)
                ON CONFLICT (id) DO UPDATE SET overrides = excluded.overrides, changed_at = excluded.changed_at";
            tx.execute(sql, params![Json(&overrides), tx.now().0])?;
            tx.record(Change::SettingsChanged { keys: keys.clone() })?;
            Ok(keys)
        })
    }
}

fn load(connection: &Connection) -> Result<Settings> {
    let stored: Option<Json<Map<String, Value>>> =
        connection.query_row("SELECT overrides FROM setting WHERE id = 1", [], |row| row.get(0)).optional()?;
    let overrides = stored.map(|Json(map)| map).unwrap_or_default();
    // Key by key, so that one that is out of range now does not take the others with it.
    Ok(overrides.into_iter().fold(Settings::default(), |settings, entry| {
        let merged = settings.merged(&Map::from_iter([entry]));
        merged.unwrap_or(settings)
    }))
}
