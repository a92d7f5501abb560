//! Downloads of bases: jobs with a slot of their own, so that a training and a download do not wait for each other.

use crate::table::change_log::Recorder;
use crate::value::{Json, Name, finite};
use crate::{Conflict, Result, Store, StoreError};
use domain::{Change, Job, JobId, JobKind, JobState, Priority, PullRequest, Timestamp};
use rusqlite::{Connection, OptionalExtension, Row, params};

pub(crate) const V3: &str = "
CREATE TABLE pull (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    job_id TEXT NOT NULL UNIQUE,
    request TEXT NOT NULL,
    title TEXT NOT NULL,
    state TEXT NOT NULL,
    progress REAL NOT NULL,
    attempts INTEGER NOT NULL,
    error TEXT,
    created_at TEXT NOT NULL,
    started_at TEXT,
    finished_at TEXT
) STRICT;
CREATE UNIQUE INDEX pull_running ON pull (state) WHERE state = 'running';
";

impl Store {
    /// Queues a download.
    ///
    /// # Errors
    /// `Conflict` while the same one is waiting, running or halted, or when the id is taken.
    pub fn enqueue_pull(&self, job: &Job, request: &PullRequest) -> Result<()> {
        self.write(|tx| {
            let sql = "SELECT job_id FROM pull WHERE request = ?1 AND state IN ('queued', 'running', 'paused', 'interrupted') LIMIT 1";
            let other: Option<String> = tx.query_row(sql, [Json(request)], |row| row.get(0)).optional()?;
            if let Some(other) = other {
                return Err(Conflict::AlreadyQueued { job_id: JobId(other) }.into());
            }
            let sql = "INSERT INTO pull (job_id, request, title, state, progress, attempts, created_at)
                VALUES (?1, ?2, ?3, 'queued', 0, 0, ?4) ON CONFLICT (job_id) DO NOTHING";
            if tx.execute(sql, params![job.id.0, Json(request), job.title, job.created_at.0])? == 0 {
                return Err(Conflict::Exists { id: job.id.0.clone() }.into());
            }
            announce(tx, &job.id)
        })
    }

    /// Takes the oldest queued download and makes it `running`; `None` when there is none or one runs.
    pub fn claim_pull(&self) -> Result<Option<(Job, PullRequest)>> {
        let sql = "SELECT job_id FROM pull WHERE state = 'queued' AND NOT EXISTS (SELECT 1 FROM pull WHERE state = 'running')
            ORDER BY seq LIMIT 1";
        // Looked up first without the write lock, because the downloader polls.
        let waiting: Option<String> = self.read(|tx| Ok(tx.query_row(sql, [], |row| row.get(0)).optional()?))?;
        if waiting.is_none() {
            return Ok(None);
        }
        self.write(|tx| {
            let Some(id) = tx.query_row(sql, [], |row| row.get::<_, String>(0)).optional()? else { return Ok(None) };
            let sql = "UPDATE pull SET state = 'running', attempts = attempts + 1, started_at = coalesce(started_at, ?2) WHERE job_id = ?1";
            tx.execute(sql, params![id, tx.now().0])?;
            let id = JobId(id);
            announce(tx, &id)?;
            get(tx, &id)
        })
    }

    /// Stores state, progress, error and times of a download.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` when it has ended with another state.
    pub fn update_pull(&self, job: &Job) -> Result<()> {
        self.write(|tx| {
            let Some((before, _)) = get(tx, &job.id)? else { return Err(StoreError::not_found("download", &job.id)) };
            if has_ended(before.state) && job.state != before.state {
                return Err(Conflict::JobEnded { job_id: job.id.clone(), state: before.state }.into());
            }
            let sql = "UPDATE pull SET state = ?2, progress = ?3, error = ?4, finished_at = ?5 WHERE job_id = ?1";
            let (error, finished) = (job.error.as_ref().map(Json), job.finished_at.as_ref().map(|at| &at.0));
            tx.execute(sql, params![job.id.0, Name(job.state), finite(job.progress), error, finished])?;
            announce(tx, &job.id)
        })
    }

    /// A download with what it downloads; `None` when the job is none.
    pub fn pull(&self, id: &JobId) -> Result<Option<(Job, PullRequest)>> {
        self.read(|tx| get(tx, id))
    }

    /// The newest first, at most `limit`.
    pub fn pulls(&self, limit: u32) -> Result<Vec<(Job, PullRequest)>> {
        self.read(|tx| {
            let mut query = tx.prepare_cached("SELECT * FROM pull ORDER BY seq DESC LIMIT ?1")?;
            Ok(query.query_map([limit], from_row)?.collect::<rusqlite::Result<_>>()?)
        })
    }

    /// For the start of the program: a download that is `running` then was cut off, and can go on.
    pub fn mark_pulls_interrupted_at_start(&self) -> Result<()> {
        self.write(|tx| {
            let mut query = tx.prepare("SELECT job_id FROM pull WHERE state = 'running'")?;
            for id in query.query_map([], |row| row.get(0).map(JobId))?.collect::<rusqlite::Result<Vec<_>>>()? {
                tx.execute("UPDATE pull SET state = 'interrupted' WHERE job_id = ?1", [&id.0])?;
                announce(tx, &id)?;
            }
            Ok(())
        })
    }
}

fn has_ended(state: JobState) -> bool {
    matches!(state, JobState::Completed | JobState::Failed | JobState::Cancelled)
}

fn get(connection: &Connection, id: &JobId) -> Result<Option<(Job, PullRequest)>> {
    Ok(connection.query_row("SELECT * FROM pull WHERE job_id = ?1", [&id.0], from_row).optional()?)
}

fn announce(tx: &Recorder<'_>, id: &JobId) -> Result<()> {
    match get(tx, id)? {
        Some((job, _)) => tx.record(Change::JobChanged { job: Box::new(job) }),
        None => Ok(()),
    }
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<(Job, PullRequest)> {
    let Name(state) = row.get("state")?;
    let error: Option<Json<_>> = row.get("error")?;
    let Json(request) = row.get("request")?;
    let job = Job {
        id: JobId(row.get("job_id")?),
        kind: JobKind::Pull,
        state,
        priority: Priority::Normal,
        phase: None,
        progress: row.get("progress")?,
        run_id: None,
        attempts: row.get("attempts")?,
        error: error.map(|Json(error)| error),
        created_at: Timestamp(row.get("created_at")?),
        started_at: row.get::<_, Option<_>>("started_at")?.map(Timestamp),
        finished_at: row.get::<_, Option<_>>("finished_at")?.map(Timestamp),
        title: row.get("title")?,
    };
    Ok((job, request))
}
