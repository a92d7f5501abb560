//! What is installed and what is wrong with it.

use crate::base::BUILT_IN;
use crate::{App, memory};
use domain::{ApiError, Base, BaseId, DataFolderMove, DoctorReport, ErrorCode, JobState, Limit, MemoryReport, Nothing, RunStatus, Status};
use store::Store;

impl App {
    /// What a surface needs at start, in one call.
    pub fn status(&self, _: Nothing) -> Result<Status, ApiError> {
        let jobs = self.jobs(Limit { limit: Some(200) })?;
        let base = self.base_row();
        let problems = self.problems(&base)?;
        Ok(Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            data_dir: self.data_dir().display().to_string(),
            base,
            taste: self.taste_summary()?,
            active_adapters: self.active()?,
            queued_jobs: jobs.iter().filter(|job| job.state == JobState::Queued).count() as u32,
            running_job: jobs.into_iter().find(|job| job.state == JobState::Running),
            problems,
        })
    }

    pub fn doctor(&self, _: Nothing) -> Result<DoctorReport, ApiError> {
        let mut problems = self.problems(&self.base_row())?;
        let embedder = self.embedder_row();
        problems.extend(embedder.problem.clone());
        if let Err(error) = self.home().store.check_integrity() {
            problems.push(error.into());
        }
        let base = self.base(&BaseId::from(BUILT_IN)).ok();
        let isa = base.as_ref().and_then(|base| base.decoder()).map_or("unknown until a base loads", model::LanguageModel::isa).to_owned();
        Ok(DoctorReport {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            sqlite: Store::sqlite_version().to_owned(),
            isa,
            threads: std::thread::available_parallelism().map_or(1, |threads| threads.get() as u32),
            memory: MemoryReport { total_mb: memory::total_mb(), available_mb: memory::available_mb(), process_mb: memory::process_mb() },
            data_dir: self.data_dir().display().to_string(),
            models: self.bases(Nothing {})?.into_iter().chain([embedder]).collect(),
            network_allowed: self.addresses()?,
            problems,
        })
    }

    /// What the person should see: trainings that wait to be resumed, and what is wrong with the base.
    fn problems(&self, base: &Base) -> Result<Vec<ApiError>, ApiError> {
        let waiting = self.home().store.count_runs(RunStatus::Interrupted)?;
        let interrupted = (waiting > 0).then(|| {
            let which = if waiting == 1 { "A training was".to_owned() } else { format!("{waiting} trainings were") };
            ApiError::new(ErrorCode::Cancelled, format!("{which} interrupted when Inkling ended. Nothing is lost."))
                .hint("Open Teach, History to resume from the last checkpoint.")
        });
        Ok(interrupted.into_iter().chain(base.problem.clone()).collect())
    }

    /// Moves everything to another folder and goes on from there, without a restart. The old folder stays as it is.
    ///
    /// # Errors
    /// `InvalidInput` for a folder that is relative, not empty or inside the old one; `Conflict` while a training runs;
    /// `DiskFull` and `Storage` from copying: then the old folder stays in use.
    pub fn move_data_folder(&self, to: DataFolderMove) -> Result<Status, ApiError> {
        crate::relocate::relocate(self, std::path::Path::new(&to.path))?;
        self.status(Nothing {})
    }
}
