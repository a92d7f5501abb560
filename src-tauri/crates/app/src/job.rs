//! The queue as a person steers it.

use crate::App;
use domain::{ApiError, ErrorCode, Job, JobId, JobRef, JobState, Limit};

impl App {
    pub fn jobs(&self, limit: Limit) -> Result<Vec<Job>, ApiError> {
        let limit = checked_limit(limit)?;
        let store = &self.home().store;
        let mut jobs = store.jobs(limit)?;
        jobs.extend(store.pulls(limit)?.into_iter().map(|(job, _)| job));
        jobs.sort_by(|a, b| b.created_at.0.cmp(&a.created_at.0));
        jobs.truncate(limit as usize);
        Ok(jobs)
    }

    /// A running training stops after the current micro-batch with a checkpoint; a queued one just waits.
    pub fn pause_job(&self, which: JobRef) -> Result<Job, ApiError> {
        if let Some((job, _)) = self.home().store.pull(&which.job_id)? {
            return self.pause_pull(job);
        }
        let job = self.home().store.job(&which.job_id)?;
        match job.state {
            JobState::Running => {
                self.worker.with_control(&which.job_id, |control| control.pause());
                self.home().store.job(&which.job_id).map_err(ApiError::from)
            }
            JobState::Queued => match self.home().store.pause_waiting_job(&which.job_id)? {
                Some(paused) => Ok(paused),
                // Claimed a moment ago: now it is the worker that must pause it.
                None => self.pause_job(which),
            },
            JobState::Paused | JobState::Interrupted => Ok(job),
            JobState::Completed | JobState::Failed | JobState::Cancelled => Err(over(&which.job_id)),
        }
    }

    /// Queues a paused or interrupted job again; it goes on from its last checkpoint.
    pub fn resume_job(&self, which: JobRef) -> Result<Job, ApiError> {
        if let Some((job, _)) = self.home().store.pull(&which.job_id)? {
            return self.resume_pull(job);
        }
        let job = self.home().store.job(&which.job_id)?;
        let job = match job.state {
            JobState::Paused | JobState::Interrupted => self.home().store.requeue_job_by_id(&which.job_id)?,
            JobState::Queued | JobState::Running => job,
            JobState::Completed | JobState::Failed | JobState::Cancelled => return Err(over(&which.job_id)),
        };
        self.worker.wake();
        Ok(job)
    }

    /// Ends a job for good. A running training stops after the current micro-batch; its checkpoints stay until the run
    /// is deleted.
    pub fn cancel_job(&self, which: JobRef) -> Result<Job, ApiError> {
        if let Some((job, _)) = self.home().store.pull(&which.job_id)? {
            return self.cancel_pull(job);
        }
        let job = self.home().store.job(&which.job_id)?;
        match job.state {
            JobState::Running => {
                self.worker.with_control(&which.job_id, |control| control.cancel());
                self.home().store.job(&which.job_id).map_err(ApiError::from)
            }
            JobState::Queued | JobState::Paused | JobState::Interrupted => {
                match self.home().store.cancel_waiting_job(&which.job_id)? {
                    Some(cancelled) => Ok(cancelled),
                    // Claimed a moment ago: now it is the worker that must stop it.
                    None => self.cancel_job(which),
                }
            }
            JobState::Cancelled => Ok(job),
            JobState::Completed | JobState::Failed => Err(over(&which.job_id)),
        }
    }
}

pub(crate) fn checked_limit(limit: Limit) -> Result<u32, ApiError> {
    match limit.limit.unwrap_or(20) {
        limit @ 1..=1000 => Ok(limit),
        other => Err(ApiError::field("limit", format!("limit is {other}; it must be 1 to 1000."))),
    }
}

pub(crate) fn over(id: &JobId) -> ApiError {
    ApiError::new(ErrorCode::Conflict, format!("The job {id} has already ended.")).hint("Start a new training instead.")
}
