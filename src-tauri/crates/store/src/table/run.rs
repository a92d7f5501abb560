//! Records of trainings.

use crate::table::change_log::Recorder;
use crate::table::{adapter, search};
use crate::value::{Json, Name};
use crate::{Conflict, Result, Store, StoreError};
use domain::{AdapterId, BaseId, Change, JobId, Run, RunId, RunStatus, Timestamp};
use rusqlite::{Connection, OptionalExtension, Row, params};

pub(crate) const V1: &str = "
CREATE TABLE run (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    status TEXT NOT NULL,
    recipe TEXT NOT NULL,
    base TEXT NOT NULL,
    hyperparameters TEXT NOT NULL,
    phase TEXT,
    step INTEGER NOT NULL,
    samples INTEGER NOT NULL,
    heldout INTEGER NOT NULL,
    final_loss REAL,
    adapter_id TEXT REFERENCES adapter (id) ON DELETE SET NULL,
    verdict TEXT,
    decision TEXT,
    error TEXT,
    seconds REAL,
    peak_memory_mb REAL,
    checkpoint_step INTEGER,
    directory TEXT NOT NULL,
    triggered_by TEXT NOT NULL,
    created_at TEXT NOT NULL,
    started_at TEXT,
    finished_at TEXT
) STRICT;
";

/// The job knows its run; a run's `job_id` is looked up, so that the two cannot disagree. So is its search.
const SELECT: &str = "SELECT run.*, (SELECT job.id FROM job WHERE job.run_id = run.id) AS job_id,
    (SELECT search.plan FROM search WHERE search.run_id = run.id) AS search FROM run";

impl Store {
    /// The newest runs first, at most `limit`.
    pub fn runs(&self, limit: u32) -> Result<Vec<Run>> {
        self.read(|tx| {
            let mut query = tx.prepare_cached(&format!("{SELECT} ORDER BY run.seq DESC LIMIT ?1"))?;
            Ok(query.query_map([limit], from_row)?.collect::<rusqlite::Result<_>>()?)
        })
    }

    /// How many runs have this status.
    pub fn count_runs(&self, status: RunStatus) -> Result<u32> {
        self.read(|tx| Ok(tx.query_row("SELECT count(*) FROM run WHERE status = ?1", [Name(status)], |row| row.get(0))?))
    }

    /// # Errors
    /// `NotFound`.
    pub fn run(&self, id: &RunId) -> Result<Run> {
        self.read(|tx| get(tx, id))
    }

    /// Stores a run as it is now. Its id, recipe, base, `created_at` and job stay as they were.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` when it has ended (completed, failed, cancelled) with another status.
    pub fn update_run(&self, run: &Run) -> Result<()> {
        self.write(|tx| update(tx, run))
    }

    /// Deletes a run that neither waits nor runs, with its job and metrics, and returns it so that its folder can be
    /// deleted too. Its adapter stays.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` while it is queued or running.
    pub fn delete_run(&self, id: &RunId) -> Result<Run> {
        self.write(|tx| {
            let run = get(tx, id)?;
            if is_active(run.status) {
                return Err(Conflict::RunActive { run_id: id.clone() }.into());
            }
            delete(tx, &run)?;
            Ok(run)
        })
    }
}

/// A status that never changes again.
pub(crate) fn has_ended(status: RunStatus) -> bool {
    matches!(status, RunStatus::Completed | RunStatus::Failed | RunStatus::Cancelled)
}

fn is_active(status: RunStatus) -> bool {
    matches!(status, RunStatus::Queued | RunStatus::Running)
}

pub(crate) fn get(connection: &Connection, id: &RunId) -> Result<Run> {
    let found = connection.prepare_cached(&format!("{SELECT} WHERE run.id = ?1"))?.query_row([&id.0], from_row).optional()?;
    found.ok_or_else(|| StoreError::not_found("training", id))
}

/// `NotFound` unless there is such a run.
pub(crate) fn require(connection: &Connection, id: &RunId) -> Result<()> {
    let found = connection.prepare_cached("SELECT 1 FROM run WHERE id = ?1")?.query_row([&id.0], |_| Ok(())).optional()?;
    found.ok_or_else(|| StoreError::not_found("training", id))
}

/// The rows that are `running`, whatever their job says.
pub(crate) fn running(connection: &Connection) -> Result<Vec<Run>> {
    let mut query = connection.prepare(&format!("{SELECT} WHERE run.status = 'running' ORDER BY run.seq"))?;
    Ok(query.query_map([], from_row)?.collect::<rusqlite::Result<_>>()?)
}

/// Stores a new run without announcing it: its job's insert announces both, when both are there.
pub(crate) fn insert(tx: &Recorder<'_>, run: &Run) -> Result<()> {
    let sql = "INSERT INTO run (id, status, recipe, base, hyperparameters, phase, step, samples, heldout, final_loss, adapter_id,
            verdict, decision, error, seconds, peak_memory_mb, checkpoint_step, directory, triggered_by, created_at, started_at, finished_at)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22)
        ON CONFLICT (id) DO NOTHING";
    let stored = tx.execute(
        sql,
        params![
            run.run_id.0,
            Name(run.status),
            Name(run.recipe),
            run.base.0,
            Json(&run.hyperparameters),
            run.phase.map(Name),
            run.step,
            run.samples,
            run.heldout,
            run.final_loss,
            run.adapter_id.as_ref().map(|id| &id.0),
            run.verdict.as_ref().map(Json),
            run.decision.map(Name),
            run.error.as_ref().map(Json),
            run.seconds,
            run.peak_memory_mb,
            run.checkpoint_step,
            run.directory,
            run.triggered_by,
            run.created_at.0,
            run.started_at.as_ref().map(|at| &at.0),
            run.finished_at.as_ref().map(|at| &at.0),
        ],
    )?;
    if stored == 0 {
        return Err(Conflict::Exists { id: run.run_id.0.clone() }.into());
    }
    run.search.iter().try_for_each(|plan| search::insert(tx, &run.run_id, plan))
}

pub(crate) fn update(tx: &Recorder<'_>, run: &Run) -> Result<()> {
    let before = get(tx, &run.run_id)?;
    if has_ended(before.status) && run.status != before.status {
        return Err(Conflict::RunEnded { run_id: run.run_id.clone(), status: before.status }.into());
    }
    let sql = "UPDATE run SET status = ?2, hyperparameters = ?3, phase = ?4, step = ?5, samples = ?6, heldout = ?7, final_loss = ?8,
            adapter_id = ?9, verdict = ?10, decision = ?11, error = ?12, seconds = ?13, peak_memory_mb = ?14, checkpoint_step = ?15,
            directory = ?16, triggered_by = ?17, started_at = ?18, finished_at = ?19
        WHERE id = ?1";
    tx.prepare_cached(sql)?.execute(params![
        run.run_id.0,
        Name(run.status),
        Json(&run.hyperparameters),
        run.phase.map(Name),
        run.step,
        run.samples,
        run.heldout,
        run.final_loss,
        run.adapter_id.as_ref().map(|id| &id.0),
        run.verdict.as_ref().map(Json),
        run.decision.map(Name),
        run.error.as_ref().map(Json),
        run.seconds,
        run.peak_memory_mb,
        run.checkpoint_step,
        run.directory,
        run.triggered_by,
        run.started_at.as_ref().map(|at| &at.0),
        run.finished_at.as_ref().map(|at| &at.0),
    ])?;
    announce(tx, &run.run_id)
}

/// Records the run as it is in the table now.
pub(crate) fn announce(tx: &Recorder<'_>, id: &RunId) -> Result<()> {
    let run = Box::new(get(tx, id)?);
    tx.record(Change::RunChanged { run })
}

fn delete(tx: &Recorder<'_>, run: &Run) -> Result<()> {
    let orphans = adapter::of_run(tx, &run.run_id)?;
    tx.execute("DELETE FROM run WHERE id = ?1", [&run.run_id.0])?;
    tx.record(Change::RunRemoved { run_id: run.run_id.clone() })?;
    // They lost their `run_id` just now.
    for orphan in orphans {
        adapter::announce(tx, &orphan.id)?;
    }
    Ok(())
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<Run> {
    let Name(status) = row.get("status")?;
    let Name(recipe) = row.get("recipe")?;
    let Json(hyperparameters) = row.get("hyperparameters")?;
    let phase: Option<Name<_>> = row.get("phase")?;
    let verdict: Option<Json<_>> = row.get("verdict")?;
    let decision: Option<Name<_>> = row.get("decision")?;
    let error: Option<Json<_>> = row.get("error")?;
    let search: Option<Json<_>> = row.get("search")?;
    Ok(Run {
        run_id: RunId(row.get("id")?),
        job_id: row.get::<_, Option<_>>("job_id")?.map(JobId),
        status,
        recipe,
        base: BaseId(row.get("base")?),
        hyperparameters,
        search: search.map(|Json(plan)| plan),
        phase: phase.map(|Name(phase)| phase),
        step: row.get("step")?,
        samples: row.get("samples")?,
        heldout: row.get("heldout")?,
        final_loss: row.get("final_loss")?,
        adapter_id: row.get::<_, Option<_>>("adapter_id")?.map(AdapterId),
        verdict: verdict.map(|Json(verdict)| verdict),
        decision: decision.map(|Name(decision)| decision),
        error: error.map(|Json(error)| error),
        seconds: row.get("seconds")?,
        peak_memory_mb: row.get("peak_memory_mb")?,
        checkpoint_step: row.get("checkpoint_step")?,
        directory: row.get("directory")?,
        triggered_by: row.get("triggered_by")?,
        created_at: Timestamp(row.get("created_at")?),
        started_at: row.get::<_, Option<_>>("started_at")?.map(Timestamp),
        finished_at: row.get::<_, Option<_>>("finished_at")?.map(Timestamp),
    })
}
