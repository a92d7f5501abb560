//! Comparisons of two texts. All are kept; of several on the same two texts the newest counts.

use crate::table::change_log::Recorder;
use crate::value::{Json, Name};
use crate::{Conflict, Result, Store};
use domain::{Change, GenerationId, Preference, PreferenceId, Timestamp};
use rusqlite::{Row, params};
use std::collections::HashSet;

pub(crate) const V4: &str = "
CREATE TABLE preference (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    source TEXT NOT NULL,
    -- NULL when the texts were written for a blind test.
    generation_id TEXT REFERENCES generation (id) ON DELETE CASCADE,
    prompt TEXT NOT NULL,
    genres TEXT NOT NULL,
    style TEXT,
    better TEXT NOT NULL,
    worse TEXT NOT NULL,
    created_at TEXT NOT NULL
) STRICT;
";

impl Store {
    /// Stores a comparison.
    ///
    /// # Errors
    /// `Conflict` when the id is taken.
    pub fn add_preference(&self, preference: &Preference) -> Result<()> {
        self.write(|tx| insert(tx, preference))
    }

    /// Every comparison that counts, oldest first: without those of removed generations and those that were answered anew.
    pub fn preferences(&self) -> Result<Vec<Preference>> {
        self.read(|tx| {
            let sql = "SELECT p.* FROM preference p LEFT JOIN generation g ON g.id = p.generation_id
                WHERE p.generation_id IS NULL OR g.removed_at IS NULL ORDER BY p.seq DESC";
            let mut query = tx.prepare_cached(sql)?;
            let mut all = query.query_map([], from_row)?.collect::<rusqlite::Result<Vec<_>>>()?;
            let mut seen = HashSet::new();
            all.retain(|one| {
                let (a, b) = if one.better < one.worse { (&one.better, &one.worse) } else { (&one.worse, &one.better) };
                seen.insert((a.clone(), b.clone()))
            });
            all.reverse();
            Ok(all)
        })
    }
}

/// Stores and announces a comparison.
pub(crate) fn insert(tx: &Recorder<'_>, preference: &Preference) -> Result<()> {
    let sql = "INSERT INTO preference (id, source, generation_id, prompt, genres, style, better, worse, created_at)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) ON CONFLICT (id) DO NOTHING";
    let stored = tx.prepare_cached(sql)?.execute(params![
        preference.id.0,
        Name(preference.source),
        preference.generation_id.as_ref().map(|id| &id.0),
        preference.prompt,
        Json(&preference.genres),
        preference.style.map(Name),
        preference.better,
        preference.worse,
        preference.created_at.0,
    ])?;
    if stored == 0 {
        return Err(Conflict::Exists { id: preference.id.0.clone() }.into());
    }
    tx.record(Change::PreferenceStored { preference_id: preference.id.clone() })
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<Preference> {
    let Name(source) = row.get("source")?;
    let Json(genres) = row.get("genres")?;
    let style: Option<Name<_>> = row.get("style")?;
    Ok(Preference {
        id: PreferenceId(row.get("id")?),
        source,
        generation_id: row.get::<_, Option<_>>("generation_id")?.map(GenerationId),
        prompt: row.get("prompt")?,
        genres,
        style: style.map(|Name(style)| style),
        better: row.get("better")?,
        worse: row.get("worse")?,
        created_at: Timestamp(row.get("created_at")?),
    })
}
