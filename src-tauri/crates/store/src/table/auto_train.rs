//! Sessions of auto-train and what became of each example that they tried.
//!
//! A session's state is its job's; how far it is, is counted from its attempts. So neither can disagree with the other.

use crate::table::change_log::Recorder;
use crate::table::{example, job};
use crate::value::{Json, Name, finite};
use crate::{Conflict, Result, Store, StoreError};
use domain::{AutoTrain, AutoTrainAttempt, AutoTrainId, AutoTrainSettings, Change, Example, ExampleId, Job, JobId, JobState, Timestamp};
use rusqlite::{Connection, OptionalExtension, Row, params};

pub(crate) const V2: &str = "
CREATE TABLE auto_train (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    job_id TEXT NOT NULL UNIQUE REFERENCES job (id) ON DELETE CASCADE,
    settings TEXT NOT NULL,
    -- Spent writing.
    seconds REAL NOT NULL,
    created_at TEXT NOT NULL
) STRICT;
CREATE TABLE auto_attempt (
    auto_train_id TEXT NOT NULL REFERENCES auto_train (id) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    genre TEXT NOT NULL,
    style TEXT NOT NULL,
    prompt TEXT NOT NULL,
    member TEXT,
    quality REAL,
    -- Kept although the example may be gone: it was a success then.
    example_id TEXT,
    reason TEXT,
    PRIMARY KEY (auto_train_id, position)
) STRICT, WITHOUT ROWID;
";

const SELECT: &str = "SELECT a.*, j.state, j.error, j.finished_at,
        (SELECT count(*) FROM auto_attempt t WHERE t.auto_train_id = a.id) AS current,
        (SELECT count(t.example_id) FROM auto_attempt t WHERE t.auto_train_id = a.id) AS successful,
        (SELECT avg(t.quality) FROM auto_attempt t WHERE t.auto_train_id = a.id AND t.example_id IS NOT NULL) AS average_quality
    FROM auto_train a JOIN job j ON j.id = a.job_id";

impl Store {
    /// Queues a session with its job.
    ///
    /// # Errors
    /// `Conflict` while another session is queued or running, or when an id is taken.
    pub fn enqueue_auto_train(&self, job: &Job, id: &AutoTrainId, settings: &AutoTrainSettings) -> Result<AutoTrain> {
        self.write(|tx| {
            job::refuse_second(tx, job.kind)?;
            job::insert(tx, job, None)?;
            let sql = "INSERT INTO auto_train (id, job_id, settings, seconds, created_at) VALUES (?1, ?2, ?3, 0, ?4)
                ON CONFLICT (id) DO NOTHING";
            if tx.execute(sql, params![id.0, job.id.0, Json(settings), job.created_at.0])? == 0 {
                return Err(Conflict::Exists { id: id.0.clone() }.into());
            }
            job::announce(tx, &job.id)?;
            get(tx, id)
        })
    }

    /// # Errors
    /// `NotFound`.
    pub fn auto_train(&self, id: &AutoTrainId) -> Result<AutoTrain> {
        self.read(|tx| get(tx, id))
    }

    /// The session of a job.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn auto_train_of_job(&self, job_id: &JobId) -> Result<AutoTrain> {
        self.read(|tx| of_job(tx, job_id)?.ok_or_else(|| StoreError::not_found("auto-train session of the job", job_id)))
    }

    /// The newest first, at most `limit`.
    pub fn auto_trains(&self, limit: u32) -> Result<Vec<AutoTrain>> {
        self.read(|tx| {
            let mut query = tx.prepare_cached(&format!("{SELECT} ORDER BY a.seq DESC LIMIT ?1"))?;
            let found = query.query_map([limit], from_row)?.collect::<rusqlite::Result<Vec<_>>>()?;
            found.into_iter().map(|one| with_latest(tx, one)).collect()
        })
    }

    /// What became of the examples tried so far, in order of position.
    pub fn auto_attempts(&self, id: &AutoTrainId) -> Result<Vec<AutoTrainAttempt>> {
        self.read(|tx| {
            let mut query = tx.prepare_cached("SELECT * FROM auto_attempt WHERE auto_train_id = ?1 ORDER BY position")?;
            Ok(query.query_map([&id.0], attempt)?.collect::<rusqlite::Result<_>>()?)
        })
    }

    /// Stores what became of one example, with the example if it was kept, and the progress of the job.
    ///
    /// `ready_at` is the number of new examples at which they are announced as enough, with whether a training will start
    /// by itself then.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` when the position has been tried before.
    pub fn record_attempt(
        &self,
        id: &AutoTrainId,
        attempt: &AutoTrainAttempt,
        kept: Option<&Example>,
        seconds: f64,
        ready_at: (u32, bool),
    ) -> Result<AutoTrain> {
        self.write(|tx| {
            if let Some(kept) = kept {
                example::insert(tx, kept)?;
            }
            let sql = "INSERT INTO auto_attempt (auto_train_id, position, genre, style, prompt, member, quality, example_id, reason)
                VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) ON CONFLICT DO NOTHING";
            let stored = tx.prepare_cached(sql)?.execute(params![
                id.0,
                attempt.position,
                Name(attempt.genre),
                Name(attempt.style),
                attempt.prompt,
                attempt.member,
                attempt.quality,
                attempt.example_id.as_ref().map(|id| &id.0),
                attempt.reason,
            ])?;
            if stored == 0 {
                return Err(Conflict::Exists { id: format!("{id}/{}", attempt.position) }.into());
            }
            tx.execute("UPDATE auto_train SET seconds = seconds + ?2 WHERE id = ?1", params![id.0, finite(seconds)])?;
            let session = get(tx, id)?;
            let progress = f64::from(session.current) / f64::from(session.settings.num_examples.max(1));
            job::set_progress(tx, &session.job_id, progress)?;
            if let Some(kept) = kept {
                let new = example::counts(tx, &kept.user_id)?.new;
                if new == ready_at.0 {
                    let (user_id, automatic) = (kept.user_id.clone(), ready_at.1);
                    tx.record(Change::ExamplesReady { user_id, new_examples: new, automatic })?;
                }
            }
            Ok(session)
        })
    }
}

/// Records the session of a job as it is in the tables now, if the job has one.
pub(crate) fn announce_of_job(tx: &Recorder<'_>, job_id: &JobId) -> Result<()> {
    match of_job(tx, job_id)? {
        Some(auto_train) => tx.record(Change::AutoTrainChanged { auto_train: Box::new(auto_train) }),
        None => Ok(()),
    }
}

fn get(connection: &Connection, id: &AutoTrainId) -> Result<AutoTrain> {
    let found = connection.prepare_cached(&format!("{SELECT} WHERE a.id = ?1"))?.query_row([&id.0], from_row).optional()?;
    with_latest(connection, found.ok_or_else(|| StoreError::not_found("auto-train session", id))?)
}

fn of_job(connection: &Connection, job_id: &JobId) -> Result<Option<AutoTrain>> {
    let found = connection.prepare_cached(&format!("{SELECT} WHERE a.job_id = ?1"))?.query_row([&job_id.0], from_row).optional()?;
    found.map(|session| with_latest(connection, session)).transpose()
}

fn with_latest(connection: &Connection, session: AutoTrain) -> Result<AutoTrain> {
    let sql = "SELECT * FROM auto_attempt WHERE auto_train_id = ?1 ORDER BY position DESC LIMIT 1";
    let latest = connection.prepare_cached(sql)?.query_row([&session.id.0], attempt).optional()?;
    Ok(AutoTrain { latest, ..session })
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<AutoTrain> {
    let Json(settings): Json<AutoTrainSettings> = row.get("settings")?;
    let Name(state) = row.get("state")?;
    let error: Option<Json<_>> = row.get("error")?;
    let (current, successful): (u32, u32) = (row.get("current")?, row.get("successful")?);
    let seconds: f64 = row.get("seconds")?;
    let left = settings.num_examples.saturating_sub(current);
    let under_way = matches!(state, JobState::Queued | JobState::Running | JobState::Paused | JobState::Interrupted);
    Ok(AutoTrain {
        id: AutoTrainId(row.get("id")?),
        job_id: JobId(row.get("job_id")?),
        state,
        settings,
        current,
        successful,
        failed: current.saturating_sub(successful),
        average_quality: row.get("average_quality")?,
        seconds,
        eta_s: (under_way && current > 0).then(|| seconds / f64::from(current) * f64::from(left)),
        latest: None,
        error: error.map(|Json(error)| error),
        created_at: Timestamp(row.get("created_at")?),
        finished_at: row.get::<_, Option<_>>("finished_at")?.map(Timestamp),
    })
}

fn attempt(row: &Row<'_>) -> rusqlite::Result<AutoTrainAttempt> {
    let Name(genre) = row.get("genre")?;
    let Name(style) = row.get("style")?;
    Ok(AutoTrainAttempt {
        position: row.get("position")?,
        genre,
        style,
        prompt: row.get("prompt")?,
        member: row.get("member")?,
        quality: row.get("quality")?,
        example_id: row.get::<_, Option<_>>("example_id")?.map(ExampleId),
        reason: row.get("reason")?,
    })
}
