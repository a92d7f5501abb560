//! The queue: one heavy slot, claimed by priority, then by sequence.
//!
//! The lease of a claimed job is the process that holds the data folder, not a time: clocks jump, and a job that is `running`
//! when the folder is opened belongs to a process that is gone ([`Store::mark_interrupted_at_start`]).

use crate::table::change_log::Recorder;
use crate::table::{auto_train, run};
use crate::value::{Json, Name};
use crate::{Conflict, Result, Store, StoreError};
use domain::{ApiError, Change, ErrorCode, Job, JobId, JobKind, JobState, Priority, Run, RunId, RunStatus, Timestamp};
use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ValueRef};
use rusqlite::{Connection, OptionalExtension, Row, params};

pub(crate) const V1: &str = "
CREATE TABLE job (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    state TEXT NOT NULL,
    -- 0 low, 1 normal, 2 high.
    priority INTEGER NOT NULL,
    phase TEXT,
    progress REAL NOT NULL,
    run_id TEXT UNIQUE REFERENCES run (id) ON DELETE CASCADE,
    attempts INTEGER NOT NULL,
    error TEXT,
    title TEXT NOT NULL,
    -- Who claimed it last, and at which step of its run.
    worker TEXT,
    claimed_step INTEGER,
    created_at TEXT NOT NULL,
    started_at TEXT,
    finished_at TEXT
) STRICT;
-- The heavy slot: at most one row can be running.
CREATE UNIQUE INDEX job_running ON job (state) WHERE state = 'running';
CREATE INDEX job_queued ON job (priority DESC, seq) WHERE state = 'queued';
";

/// How often a job is started without a new checkpoint in between before it counts as failed.
pub const MAX_ATTEMPTS: u32 = 3;

impl Store {
    /// Queues a job with the run that it will make.
    ///
    /// # Errors
    /// `Conflict` while another job of its kind is queued or running, or when an id is taken.
    pub fn enqueue(&self, job: &Job, run: &Run) -> Result<()> {
        self.write(|tx| {
            refuse_second(tx, job.kind)?;
            run::insert(tx, run)?;
            insert(tx, job, Some(&run.run_id))?;
            announce(tx, &job.id)?;
            run::announce(tx, &run.run_id)
        })
    }

    /// Takes the queued job of the highest priority, the oldest of these, and makes it and its run `running`; `None` when there
    /// is none or the slot is taken. Of several callers, one gets it.
    pub fn claim_job(&self, worker: &str) -> Result<Option<Job>> {
        // Looked up first without the write lock, because workers poll.
        if self.queued_jobs()? == 0 {
            return Ok(None);
        }
        self.write(|tx| {
            let sql = "UPDATE job SET state = 'running', attempts = attempts + 1, worker = ?1, started_at = coalesce(started_at, ?2),
                    claimed_step = CASE WHEN run_id IS NULL
                        THEN (SELECT count(*) FROM auto_attempt t JOIN auto_train a ON a.id = t.auto_train_id WHERE a.job_id = job.id)
                        ELSE (SELECT checkpoint_step FROM run WHERE run.id = job.run_id) END
                WHERE seq = (SELECT seq FROM job WHERE state = 'queued' ORDER BY priority DESC, seq LIMIT 1)
                    AND NOT EXISTS (SELECT 1 FROM job WHERE state = 'running')
                RETURNING *";
            let Some(job) = tx.query_row(sql, params![worker, tx.now().0], from_row).optional()? else {
                return Ok(None);
            };
            announce(tx, &job.id)?;
            if let Some(run_id) = &job.run_id {
                let mut run = run::get(tx, run_id)?;
                if let Some(state) = ended_with(&run) {
                    update(tx, &Job { state, ..job })?;
                    return Ok(None);
                }
                run.status = RunStatus::Running;
                run.started_at.get_or_insert_with(|| tx.now().clone());
                run::update(tx, &run)?;
            }
            Ok(Some(job))
        })
    }

    /// Stores a job as it is now: state, priority, phase, progress, error, title and times. Attempts are the queue's own.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` when it has ended (completed, failed, cancelled) with another state, or when another job runs.
    pub fn update_job(&self, job: &Job) -> Result<()> {
        self.write(|tx| update(tx, job))
    }

    /// Stores a job and its run together, such as at their end.
    ///
    /// # Errors
    /// As [`Store::update_job`] and [`Store::update_run`]; neither is stored then.
    pub fn update_job_and_run(&self, job: &Job, run: &Run) -> Result<()> {
        self.write(|tx| {
            update(tx, job)?;
            run::update(tx, run)
        })
    }

    /// Cancels a job that waits (queued, paused, interrupted) with its run. `None` when it runs: then its worker must stop it.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` when it has ended.
    pub fn cancel_waiting_job(&self, id: &JobId) -> Result<Option<Job>> {
        self.write(|tx| {
            let mut job = get(tx, id)?;
            match job.state {
                JobState::Running => return Ok(None),
                state if has_ended(state) => return Err(Conflict::JobEnded { job_id: id.clone(), state }.into()),
                _ => {}
            }
            job.finished_at = Some(tx.now().clone());
            move_both(tx, job, JobState::Cancelled, RunStatus::Cancelled, None).map(Some)
        })
    }

    /// Keeps a job that waits from being claimed, with its run, until it is queued again. `None` when it runs: then its worker must
    /// pause it.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` when it has ended.
    pub fn pause_waiting_job(&self, id: &JobId) -> Result<Option<Job>> {
        self.write(|tx| {
            let job = get(tx, id)?;
            match job.state {
                JobState::Running => Ok(None),
                JobState::Queued => move_both(tx, job, JobState::Paused, RunStatus::Paused, None).map(Some),
                state if has_ended(state) => Err(Conflict::JobEnded { job_id: id.clone(), state }.into()),
                _ => Ok(Some(job)),
            }
        })
    }

    /// For the start of the program, when it alone holds the data folder: what is `running` then was cut off. It becomes
    /// *interrupted*, or *failed* after [`MAX_ATTEMPTS`] starts without a new checkpoint. Returns these runs.
    pub fn mark_interrupted_at_start(&self) -> Result<Vec<Run>> {
        self.write(|tx| {
            let mut found = Vec::new();
            let mut query = tx.prepare("SELECT * FROM job WHERE state = 'running' ORDER BY seq")?;
            for job in query.query_map([], from_row)?.collect::<rusqlite::Result<Vec<_>>>()? {
                found.extend(job.run_id.clone());
                interrupt(tx, job)?;
            }
            // A run without a running job cannot be running either.
            for mut run in run::running(tx)? {
                run.status = RunStatus::Interrupted;
                run::update(tx, &run)?;
                found.push(run.run_id);
            }
            found.iter().map(|id| run::get(tx, id)).collect()
        })
    }

    /// Queues the job of a paused or interrupted run again; a pause was meant, so it does not count as an attempt.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` in any other state.
    pub fn requeue_job(&self, run_id: &RunId) -> Result<Job> {
        self.write(|tx| {
            let found = tx.query_row("SELECT * FROM job WHERE run_id = ?1", [&run_id.0], from_row).optional()?;
            requeue(tx, found.ok_or_else(|| StoreError::not_found("training", run_id))?)
        })
    }

    /// Queues a paused or interrupted job again, as [`Store::requeue_job`] does; for jobs that make no run.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` in any other state.
    pub fn requeue_job_by_id(&self, id: &JobId) -> Result<Job> {
        self.write(|tx| {
            let job = get(tx, id)?;
            requeue(tx, job)
        })
    }

    /// The newest jobs first, at most `limit`.
    pub fn jobs(&self, limit: u32) -> Result<Vec<Job>> {
        self.read(|tx| {
            let mut query = tx.prepare_cached("SELECT * FROM job ORDER BY seq DESC LIMIT ?1")?;
            Ok(query.query_map([limit], from_row)?.collect::<rusqlite::Result<_>>()?)
        })
    }

    /// # Errors
    /// `NotFound`.
    pub fn job(&self, id: &JobId) -> Result<Job> {
        self.read(|tx| get(tx, id))
    }

    pub fn running_job(&self) -> Result<Option<Job>> {
        self.read(|tx| Ok(tx.query_row("SELECT * FROM job WHERE state = 'running'", [], from_row).optional()?))
    }

    /// How many jobs wait to be claimed.
    pub fn queued_jobs(&self) -> Result<u32> {
        self.read(|tx| Ok(tx.query_row("SELECT count(*) FROM job WHERE state = 'queued'", [], |row| row.get(0))?))
    }
}

fn has_ended(state: JobState) -> bool {
    matches!(state, JobState::Completed | JobState::Failed | JobState::Cancelled)
}

fn get(connection: &Connection, id: &JobId) -> Result<Job> {
    let found = connection.query_row("SELECT * FROM job WHERE id = ?1", [&id.0], from_row).optional()?;
    found.ok_or_else(|| StoreError::not_found("job", id))
}

/// `Conflict` while another job of the kind is queued or running.
pub(crate) fn refuse_second(tx: &Recorder<'_>, kind: JobKind) -> Result<()> {
    let sql = "SELECT id FROM job WHERE kind = ?1 AND state IN ('queued', 'running') LIMIT 1";
    let other: Option<String> = tx.query_row(sql, [Name(kind)], |row| row.get(0)).optional()?;
    other.map_or(Ok(()), |other| Err(Conflict::AlreadyQueued { job_id: JobId(other) }.into()))
}

fn requeue(tx: &Recorder<'_>, mut job: Job) -> Result<Job> {
    match job.state {
        JobState::Paused => {
            tx.execute("UPDATE job SET attempts = 0 WHERE id = ?1", [&job.id.0])?;
        }
        JobState::Interrupted => {}
        state => return Err(Conflict::NotResumable { job_id: job.id, state }.into()),
    }
    job.finished_at = None;
    move_both(tx, job, JobState::Queued, RunStatus::Queued, None)
}

/// Stores how far a job is, and announces it.
pub(crate) fn set_progress(tx: &Recorder<'_>, id: &JobId, progress: f64) -> Result<()> {
    tx.prepare_cached("UPDATE job SET progress = ?2 WHERE id = ?1")?.execute(params![id.0, crate::value::finite(progress)])?;
    announce(tx, id)
}

/// Stores a new job without announcing it.
pub(crate) fn insert(tx: &Recorder<'_>, job: &Job, run_id: Option<&RunId>) -> Result<()> {
    let sql = "INSERT INTO job (id, kind, state, priority, phase, progress, run_id, attempts, error, title, created_at)
        VALUES (?1, ?2, 'queued', ?3, ?4, ?5, ?6, 0, NULL, ?7, ?8) ON CONFLICT (id) DO NOTHING";
    let stored = tx.execute(
        sql,
        params![
            job.id.0,
            Name(job.kind),
            job.priority.rank(),
            job.phase.map(Name),
            crate::value::finite(job.progress),
            run_id.map(|id| &id.0),
            job.title,
            job.created_at.0
        ],
    )?;
    if stored == 0 { Err(Conflict::Exists { id: job.id.0.clone() }.into()) } else { Ok(()) }
}

fn update(tx: &Recorder<'_>, job: &Job) -> Result<()> {
    let before = get(tx, &job.id)?;
    if has_ended(before.state) && job.state != before.state {
        return Err(Conflict::JobEnded { job_id: job.id.clone(), state: before.state }.into());
    }
    if job.state == JobState::Running {
        let sql = "SELECT id FROM job WHERE state = 'running' AND id <> ?1";
        let other: Option<String> = tx.query_row(sql, [&job.id.0], |row| row.get(0)).optional()?;
        if let Some(other) = other {
            return Err(Conflict::AlreadyQueued { job_id: JobId(other) }.into());
        }
    }
    let sql = "UPDATE job SET state = ?2, priority = ?3, phase = ?4, progress = ?5, error = ?6, title = ?7, started_at = ?8,
            finished_at = ?9
        WHERE id = ?1";
    tx.prepare_cached(sql)?.execute(params![
        job.id.0,
        Name(job.state),
        job.priority.rank(),
        job.phase.map(Name),
        crate::value::finite(job.progress),
        job.error.as_ref().map(Json),
        job.title,
        job.started_at.as_ref().map(|at| &at.0),
        job.finished_at.as_ref().map(|at| &at.0),
    ])?;
    announce(tx, &job.id)
}

/// Records the job as it is in the table now.
pub(crate) fn announce(tx: &Recorder<'_>, id: &JobId) -> Result<()> {
    let job = Box::new(get(tx, id)?);
    let kind = job.kind;
    tx.record(Change::JobChanged { job })?;
    if kind == JobKind::AutoTrain { auto_train::announce_of_job(tx, id) } else { Ok(()) }
}

/// A job that was running when its process ended.
fn interrupt(tx: &Recorder<'_>, mut job: Job) -> Result<()> {
    if let Some(run_id) = &job.run_id
        && let Some(state) = ended_with(&run::get(tx, run_id)?)
    {
        return update(tx, &Job { state, ..job });
    }
    let progressed = "SELECT coalesce(run.checkpoint_step > coalesce(job.claimed_step, 0), 0)
            OR (SELECT count(*) FROM auto_attempt t JOIN auto_train a ON a.id = t.auto_train_id WHERE a.job_id = job.id)
                > coalesce(job.claimed_step, 0)
        FROM job LEFT JOIN run ON run.id = job.run_id WHERE job.id = ?1";
    if tx.query_row(progressed, [&job.id.0], |row| row.get(0))? {
        tx.execute("UPDATE job SET attempts = 0 WHERE id = ?1", [&job.id.0])?;
        job.attempts = 0;
    }
    if job.attempts < MAX_ATTEMPTS {
        move_both(tx, job, JobState::Interrupted, RunStatus::Interrupted, None)?;
        return Ok(());
    }
    let message = format!("Inkling ended {MAX_ATTEMPTS} times while this ran, before it could save anything.");
    let reason = ApiError::new(ErrorCode::Internal, message).hint("Close other programs to free memory, then start it anew.");
    job.finished_at = Some(tx.now().clone());
    move_both(tx, job, JobState::Failed, RunStatus::Failed, Some(reason))?;
    Ok(())
}

/// The state of a job whose run has ended: its end was stored, the job's was not.
fn ended_with(run: &Run) -> Option<JobState> {
    match run.status {
        RunStatus::Completed => Some(JobState::Completed),
        RunStatus::Failed => Some(JobState::Failed),
        RunStatus::Cancelled => Some(JobState::Cancelled),
        RunStatus::Queued | RunStatus::Running | RunStatus::Paused | RunStatus::Interrupted => None,
    }
}

/// Brings a job and its run, unless that has ended, to a state together.
fn move_both(tx: &Recorder<'_>, mut job: Job, state: JobState, status: RunStatus, reason: Option<ApiError>) -> Result<Job> {
    job.state = state;
    job.error = reason.clone();
    update(tx, &job)?;
    if let Some(run_id) = &job.run_id {
        let mut run = run::get(tx, run_id)?;
        if !run::has_ended(run.status) {
            run.status = status;
            run.error = reason;
            run.finished_at = job.finished_at.clone();
            run::update(tx, &run)?;
        }
    }
    get(tx, &job.id)
}

/// A priority as its rank in the table.
struct Rank(Priority);

impl FromSql for Rank {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let rank = value.as_i64()?;
        let known = [Priority::Low, Priority::Normal, Priority::High].into_iter().find(|priority| priority.rank() == rank);
        known.map(Rank).ok_or(FromSqlError::OutOfRange(rank))
    }
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<Job> {
    let Name(kind) = row.get("kind")?;
    let Name(state) = row.get("state")?;
    let Rank(priority) = row.get("priority")?;
    let phase: Option<Name<_>> = row.get("phase")?;
    let error: Option<Json<_>> = row.get("error")?;
    Ok(Job {
        id: JobId(row.get("id")?),
        kind,
        state,
        priority,
        phase: phase.map(|Name(phase)| phase),
        progress: row.get("progress")?,
        run_id: row.get::<_, Option<_>>("run_id")?.map(RunId),
        attempts: row.get("attempts")?,
        error: error.map(|Json(error)| error),
        created_at: Timestamp(row.get("created_at")?),
        started_at: row.get::<_, Option<_>>("started_at")?.map(Timestamp),
        finished_at: row.get::<_, Option<_>>("finished_at")?.map(Timestamp),
        title: row.get("title")?,
    })
}
