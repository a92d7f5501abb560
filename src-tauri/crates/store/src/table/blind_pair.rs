//! The blind test of a run's adapter: pairs of texts, which side is which, and what the person chose.

use crate::table::{preference, run};
use crate::value::{Json, Name};
use crate::{Result, Store, StoreError};
use domain::{BlindChoice, GenreMix, Preference, Run, RunId, Style};
use rusqlite::{Row, params};

pub(crate) const V4: &str = "
CREATE TABLE blind_pair (
    run_id TEXT NOT NULL REFERENCES run (id) ON DELETE CASCADE,
    number INTEGER NOT NULL,
    prompt TEXT NOT NULL,
    genres TEXT NOT NULL,
    style TEXT,
    first TEXT NOT NULL,
    second TEXT NOT NULL,
    -- Whether the trained adapter wrote the first text.
    trained_first INTEGER NOT NULL CHECK (trained_first IN (0, 1)),
    -- NULL until the person has answered.
    choice TEXT,
    PRIMARY KEY (run_id, number)
) STRICT;
";

/// A pair with what the person must not know yet.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredBlindPair {
    /// From 1.
    pub number: u32,
    pub prompt: String,
    pub genres: GenreMix,
    pub style: Option<Style>,
    pub first: String,
    pub second: String,
    pub trained_first: bool,
    pub choice: Option<BlindChoice>,
}

impl Store {
    /// The pairs of a run's blind test in order; none before there is one.
    pub fn blind_pairs(&self, run_id: &RunId) -> Result<Vec<StoredBlindPair>> {
        self.read(|tx| {
            let mut query = tx.prepare_cached("SELECT * FROM blind_pair WHERE run_id = ?1 ORDER BY number")?;
            Ok(query.query_map([&run_id.0], from_row)?.collect::<rusqlite::Result<_>>()?)
        })
    }

    /// Stores the pairs of a test, in place of those of an earlier one; what was answered there stays among the preferences.
    ///
    /// # Errors
    /// `NotFound` for an unknown run.
    pub fn save_blind_pairs(&self, run_id: &RunId, pairs: &[StoredBlindPair]) -> Result<()> {
        self.write(|tx| {
            run::require(tx, run_id)?;
            tx.execute("DELETE FROM blind_pair WHERE run_id = ?1", [&run_id.0])?;
            for pair in pairs {
                let sql = "INSERT INTO blind_pair (run_id, number, prompt, genres, style, first, second, trained_first, choice)
                    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
                tx.prepare_cached(sql)?.execute(params![
                    run_id.0,
                    pair.number,
                    pair.prompt,
                    Json(&pair.genres),
                    pair.style.map(Name),
                    pair.first,
                    pair.second,
                    pair.trained_first,
                    pair.choice.map(Name),
                ])?;
            }
            Ok(())
        })
    }

    /// Stores an answer with the preference it stands for, if it prefers one, and the run with what the test found.
    ///
    /// # Errors
    /// `NotFound` for an unknown pair.
    pub fn answer_blind_pair(&self, run: &Run, number: u32, choice: BlindChoice, preference: Option<&Preference>) -> Result<()> {
        self.write(|tx| {
            let sql = "UPDATE blind_pair SET choice = ?3 WHERE run_id = ?1 AND number = ?2";
            if tx.execute(sql, params![run.run_id.0, number, Name(choice)])? == 0 {
                return Err(StoreError::not_found("pair", number));
            }
            if let Some(preference) = preference {
                preference::insert(tx, preference)?;
            }
            run::update(tx, run)
        })
    }
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<StoredBlindPair> {
    let Json(genres) = row.get("genres")?;
    let style: Option<Name<_>> = row.get("style")?;
    let choice: Option<Name<_>> = row.get("choice")?;
    Ok(StoredBlindPair {
        number: row.get("number")?,
        prompt: row.get("prompt")?,
        genres,
        style: style.map(|Name(style)| style),
        first: row.get("first")?,
        second: row.get("second")?,
        trained_first: row.get("trained_first")?,
        choice: choice.map(|Name(choice)| choice),
    })
}
