//! Examples: prompts with wanted texts that are not the person's own generations.

use crate::table::change_log::Recorder;
use crate::value::{Json, Name};
use crate::{Conflict, Result, Store, StoreError};
use domain::{AutoTrainId, Change, Example, ExampleId, RunId, Timestamp};
use rusqlite::{Connection, OptionalExtension, Row, params};

pub(crate) const V2: &str = "
CREATE TABLE example (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    user_id TEXT NOT NULL,
    source TEXT NOT NULL,
    auto_train_id TEXT REFERENCES auto_train (id) ON DELETE SET NULL,
    prompt TEXT NOT NULL,
    genre TEXT NOT NULL,
    style TEXT,
    text TEXT NOT NULL,
    edited_text TEXT,
    quality REAL NOT NULL,
    quality_parts TEXT NOT NULL,
    member TEXT NOT NULL,
    seed INTEGER NOT NULL,
    remembered INTEGER NOT NULL CHECK (remembered IN (0, 1)),
    dropped_at TEXT,
    -- The training that learned from it; that run may be deleted later.
    learned_by TEXT,
    created_at TEXT NOT NULL
) STRICT;
CREATE INDEX example_of_session ON example (auto_train_id, seq);
CREATE INDEX example_of_user ON example (user_id, seq) WHERE dropped_at IS NULL;
";

/// How many examples of a person there are to learn from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ExampleCounts {
    /// All but dropped ones.
    pub kept: u32,
    /// Those of them that no training has learned from.
    pub new: u32,
    /// Sequence number of the newest; 0 when there is none.
    pub up_to: u32,
}

impl Store {
    /// # Errors
    /// `NotFound`.
    pub fn example(&self, id: &ExampleId) -> Result<Example> {
        self.read(|tx| get(tx, id))
    }

    /// Examples of a session in the order in which they were written, or the newest of all, at most `limit`; dropped ones too.
    pub fn examples(&self, of: Option<&AutoTrainId>, limit: u32) -> Result<Vec<Example>> {
        self.read(|tx| {
            let sql = match of {
                Some(_) => "SELECT * FROM example WHERE auto_train_id = ?1 ORDER BY seq LIMIT ?2",
                None => "SELECT * FROM example WHERE ?1 IS NULL ORDER BY seq DESC LIMIT ?2",
            };
            let mut query = tx.prepare_cached(sql)?;
            Ok(query.query_map(params![of.map(|id| &id.0), limit], from_row)?.collect::<rusqlite::Result<_>>()?)
        })
    }

    /// What a training of a person's adapter learns from: all examples but the dropped ones, the newest first.
    pub fn examples_to_learn(&self, user_id: &str) -> Result<Vec<Example>> {
        self.read(|tx| {
            let mut query = tx.prepare_cached("SELECT * FROM example WHERE user_id = ?1 AND dropped_at IS NULL ORDER BY seq DESC")?;
            Ok(query.query_map([user_id], from_row)?.collect::<rusqlite::Result<_>>()?)
        })
    }

    pub fn example_counts(&self, user_id: &str) -> Result<ExampleCounts> {
        self.read(|tx| counts(tx, user_id))
    }

    /// Drops an example from what is learned from, or takes it back.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn set_example_dropped(&self, id: &ExampleId, dropped: bool) -> Result<Example> {
        self.write(|tx| {
            let at = dropped.then(|| tx.now().0.clone());
            tx.execute("UPDATE example SET dropped_at = ?2 WHERE id = ?1", params![id.0, at])?;
            announce(tx, id)
        })
    }

    /// Keeps the person's own version of an example's text; it counts as new, because nothing has learned from it.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn edit_example(&self, id: &ExampleId, text: &str) -> Result<Example> {
        self.write(|tx| {
            tx.execute("UPDATE example SET edited_text = ?2, learned_by = NULL WHERE id = ?1", params![id.0, text])?;
            announce(tx, id)
        })
    }

    /// Notes that a training has learned from all examples up to a sequence number. Returns how many that were.
    pub fn mark_examples_learned(&self, user_id: &str, up_to: u32, run_id: &RunId) -> Result<u32> {
        self.write(|tx| {
            let sql = "UPDATE example SET learned_by = ?3 WHERE user_id = ?1 AND seq <= ?2 AND dropped_at IS NULL AND learned_by IS NULL";
            Ok(u32::try_from(tx.execute(sql, params![user_id, up_to, run_id.0])?).unwrap_or(u32::MAX))
        })
    }
}

/// Stores and announces a new example.
pub(crate) fn insert(tx: &Recorder<'_>, example: &Example) -> Result<()> {
    let sql = "INSERT INTO example (id, user_id, source, auto_train_id, prompt, genre, style, text, quality, quality_parts, member, seed,
            remembered, created_at)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14) ON CONFLICT (id) DO NOTHING";
    let stored = tx.prepare_cached(sql)?.execute(params![
        example.id.0,
        example.user_id,
        Name(example.source),
        example.auto_train_id.as_ref().map(|id| &id.0),
        example.prompt,
        Name(example.genre),
        example.style.map(Name),
        example.text,
        crate::value::finite(example.quality),
        Json(&example.quality_parts),
        example.member,
        example.seed,
        example.remembered,
        example.created_at.0,
    ])?;
    if stored == 0 {
        return Err(Conflict::Exists { id: example.id.0.clone() }.into());
    }
    announce(tx, &example.id).map(drop)
}

pub(crate) fn counts(connection: &Connection, user_id: &str) -> Result<ExampleCounts> {
    let sql = "SELECT count(*), coalesce(sum(learned_by IS NULL), 0), coalesce(max(seq), 0)
        FROM example WHERE user_id = ?1 AND dropped_at IS NULL";
    let counts = |row: &Row<'_>| Ok(ExampleCounts { kept: row.get(0)?, new: row.get(1)?, up_to: row.get(2)? });
    Ok(connection.prepare_cached(sql)?.query_row([user_id], counts)?)
}

fn get(connection: &Connection, id: &ExampleId) -> Result<Example> {
    let found = connection.prepare_cached("SELECT * FROM example WHERE id = ?1")?.query_row([&id.0], from_row).optional()?;
    found.ok_or_else(|| StoreError::not_found("example", id))
}

/// Records an example as it is in the table now.
fn announce(tx: &Recorder<'_>, id: &ExampleId) -> Result<Example> {
    let example = get(tx, id)?;
    tx.record(Change::ExampleChanged { example: Box::new(example.clone()) })?;
    Ok(example)
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<Example> {
    let Name(source) = row.get("source")?;
    let Name(genre) = row.get("genre")?;
    let style: Option<Name<_>> = row.get("style")?;
    let Json(quality_parts) = row.get("quality_parts")?;
    let edited: Option<String> = row.get("edited_text")?;
    Ok(Example {
        id: ExampleId(row.get("id")?),
        user_id: row.get("user_id")?,
        source,
        auto_train_id: row.get::<_, Option<_>>("auto_train_id")?.map(AutoTrainId),
        prompt: row.get("prompt")?,
        genre,
        style: style.map(|Name(style)| style),
        edited: edited.is_some(),
        text: match edited {
            Some(text) => text,
            None => row.get("text")?,
        },
        quality: row.get("quality")?,
        quality_parts,
        member: row.get("member")?,
        seed: row.get("seed")?,
        dropped: row.get::<_, Option<String>>("dropped_at")?.is_some(),
        remembered: row.get("remembered")?,
        learned_by: row.get::<_, Option<_>>("learned_by")?.map(RunId),
        created_at: Timestamp(row.get("created_at")?),
    })
}
