//! Searches before trainings, and what became of each trial.

use crate::table::change_log::Recorder;
use crate::table::run;
use crate::value::{Json, Name, finite};
use crate::{Result, Store, StoreError};
use domain::{Change, Run, RunId, Search, SearchFound, SearchPlan, Trial};
use rusqlite::{Connection, OptionalExtension, Row, params};

pub(crate) const V5: &str = "
CREATE TABLE search (
    run_id TEXT PRIMARY KEY REFERENCES run (id) ON DELETE CASCADE,
    plan TEXT NOT NULL,
    -- Updates of each rung, empty until it has begun.
    rungs TEXT NOT NULL,
    -- Spent so far.
    seconds REAL NOT NULL,
    found TEXT
) STRICT;
CREATE TABLE trial (
    run_id TEXT NOT NULL REFERENCES search (run_id) ON DELETE CASCADE,
    number INTEGER NOT NULL,
    recipe TEXT NOT NULL,
    hyperparameters TEXT NOT NULL,
    state TEXT NOT NULL,
    -- What it reached, rung by rung.
    rungs TEXT NOT NULL,
    problem TEXT,
    PRIMARY KEY (run_id, number)
) STRICT, WITHOUT ROWID;
";

impl Store {
    /// The search of a run.
    ///
    /// # Errors
    /// `NotFound` for an unknown run, or one that has none.
    pub fn search(&self, run_id: &RunId) -> Result<Search> {
        self.read(|tx| {
            run::require(tx, run_id)?;
            get(tx, run_id)
        })
    }

    /// Stores a search that goes on with all its trials, and announces it.
    ///
    /// # Errors
    /// `NotFound` for a run without a search.
    pub fn update_search(&self, search: &Search) -> Result<()> {
        self.write(|tx| update(tx, search))
    }

    /// Stores what a search came to, with the run as it is trained because of that.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` as [`Store::update_run`].
    pub fn end_search(&self, search: &Search, run: &Run) -> Result<()> {
        self.write(|tx| {
            update(tx, search)?;
            let sql = "UPDATE run SET recipe = ?2 WHERE id = ?1";
            tx.execute(sql, params![run.run_id.0, Name(run.recipe)])?;
            run::update(tx, run)
        })
    }
}

/// Stores that a new run begins with a search.
pub(crate) fn insert(tx: &Recorder<'_>, run_id: &RunId, plan: &SearchPlan) -> Result<()> {
    let sql = "INSERT INTO search (run_id, plan, rungs, seconds) VALUES (?1, ?2, '[]', 0)";
    tx.execute(sql, params![run_id.0, Json(plan)])?;
    Ok(())
}

fn update(tx: &Recorder<'_>, search: &Search) -> Result<()> {
    let sql = "UPDATE search SET rungs = ?2, seconds = ?3, found = ?4 WHERE run_id = ?1";
    let found = search.found.as_ref().map(Json);
    if tx.execute(sql, params![search.run_id.0, Json(&search.rungs), finite(search.seconds), found])? == 0 {
        return Err(StoreError::not_found("search of the training", &search.run_id));
    }
    for trial in &search.trials {
        let sql = "INSERT INTO trial (run_id, number, recipe, hyperparameters, state, rungs, problem) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
            ON CONFLICT (run_id, number) DO UPDATE SET state = excluded.state, rungs = excluded.rungs, problem = excluded.problem";
        tx.prepare_cached(sql)?.execute(params![
            search.run_id.0,
            trial.number,
            Name(trial.recipe),
            Json(&trial.hyperparameters),
            Name(trial.state),
            Json(&trial.rungs),
            trial.problem,
        ])?;
    }
    // As it is in the tables now, whatever the caller left out.
    tx.mention(Change::SearchChanged { search: Box::new(get(tx, &search.run_id)?) });
    Ok(())
}

fn get(connection: &Connection, run_id: &RunId) -> Result<Search> {
    let found = connection.prepare_cached("SELECT * FROM search WHERE run_id = ?1")?.query_row([&run_id.0], from_row).optional()?;
    let search = found.ok_or_else(|| StoreError::not_found("search of the training", run_id))?;
    let mut query = connection.prepare_cached("SELECT * FROM trial WHERE run_id = ?1 ORDER BY number")?;
    let trials = query.query_map([&run_id.0], trial)?.collect::<rusqlite::Result<_>>()?;
    Ok(Search { trials, ..search })
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<Search> {
    let Json(plan) = row.get("plan")?;
    let Json(rungs) = row.get("rungs")?;
    let found: Option<Json<SearchFound>> = row.get("found")?;
    Ok(Search {
        run_id: RunId(row.get("run_id")?),
        plan,
        rungs,
        trials: Vec::new(),
        seconds: row.get("seconds")?,
        found: found.map(|Json(found)| found),
    })
}

fn trial(row: &Row<'_>) -> rusqlite::Result<Trial> {
    let Name(recipe) = row.get("recipe")?;
    let Json(hyperparameters) = row.get("hyperparameters")?;
    let Name(state) = row.get("state")?;
    let Json(rungs) = row.get("rungs")?;
    Ok(Trial { number: row.get("number")?, recipe, hyperparameters, state, rungs, problem: row.get("problem")? })
}
