//! History of trainings: list, look, decide, resume, delete.

use crate::{App, chart, folder, worker};
use domain::{
    Adapter, AdapterState, ApiError, ChartImage, ChartQuery, Decision, Done, ErrorCode, JobRef, Limit, MetricsQuery, Run, RunDecision,
    RunMetrics, RunRef, RunStatus, TrainQueued,
};

impl App {
    pub fn runs(&self, limit: Limit) -> Result<Vec<Run>, ApiError> {
        Ok(self.home().store.runs(crate::job::checked_limit(limit)?)?)
    }

    pub fn run(&self, which: RunRef) -> Result<Run, ApiError> {
        Ok(self.home().store.run(&which.run_id)?)
    }

    pub fn run_metrics(&self, query: MetricsQuery) -> Result<RunMetrics, ApiError> {
        let store = &self.home().store;
        store.run(&query.run_id)?;
        Ok(RunMetrics { metrics: store.metrics(&query.run_id, query.after)?, run_id: query.run_id })
    }

    /// The loss chart of a run as a picture.
    pub fn run_chart(&self, query: ChartQuery) -> Result<ChartImage, ApiError> {
        let run = self.run(RunRef { run_id: query.run_id.clone() })?;
        let metrics = self.home().store.metrics(&query.run_id, None)?;
        if metrics.is_empty() {
            return Err(ApiError::new(ErrorCode::NotReady, "This training has no points to draw yet.").hint("Wait for its first steps."));
        }
        chart::draw(&run, &metrics, query.format)
    }

    /// Queues a paused or interrupted run again, from its last checkpoint.
    pub fn resume_run(&self, which: RunRef) -> Result<TrainQueued, ApiError> {
        let run = self.run(which)?;
        match (run.status, &run.job_id) {
            (RunStatus::Paused | RunStatus::Interrupted, Some(job_id)) => {
                self.resume_job(JobRef { job_id: job_id.clone() })?;
                Ok(TrainQueued { job_id: job_id.clone(), run_id: run.run_id })
            }
            _ => Err(worker::not_now(&run, "resumed").hint("Only paused and interrupted runs can be resumed.")),
        }
    }

    /// What the person decides about a trained adapter: it holds from the next generation on.
    pub fn decide(&self, decision: RunDecision) -> Result<Adapter, ApiError> {
        let home = self.home();
        let run = home.store.run(&decision.run_id)?;
        let id = run.adapter_id.clone().ok_or_else(|| worker::not_now(&run, "judged").hint("Wait until it has finished."))?;
        let switch = match decision.decision {
            Decision::Keep => home.store.set_adapter_state(&id, AdapterState::Active)?,
            Decision::NotNow => home.store.set_adapter_state(&id, AdapterState::Trial)?,
            Decision::Undo => home.store.undo_adapter(&id)?,
        };
        home.store.update_run(&Run { decision: Some(decision.decision), ..run })?;
        Ok(switch.adapter)
    }

    /// Deletes a run with its checkpoints and chart. Its adapter stays.
    pub fn delete_run(&self, which: RunRef) -> Result<Done, ApiError> {
        let home = self.home();
        let run = home.store.run(&which.run_id)?;
        if matches!(run.status, RunStatus::Queued | RunStatus::Running) {
            return Err(worker::not_now(&run, "deleted").hint("Cancel it first."));
        }
        home.store.delete_run(&which.run_id)?;
        let run_folder = home.folder.runs().join(run.run_id.as_str());
        match std::fs::remove_dir_all(&run_folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(folder::storage(&run_folder, &error)),
            _ => Ok(Done::OK),
        }
    }
}
