//! `inkling jobs …`

use crate::args::Jobs;
use crate::backend::Backend;
use crate::output::{Printer, name, table};
use app::calls::call;
use domain::{ApiError, Job, JobId, JobRef, Limit};

pub fn run(action: Option<Jobs>, backend: &Backend, printer: &Printer) -> Result<(), ApiError> {
    let which = |id| JobRef { job_id: JobId(id) };
    let job = match action.unwrap_or(Jobs::List { limit: None }) {
        Jobs::List { limit } => {
            let jobs = backend.call::<call::Jobs>(Limit { limit })?;
            printer.result(&jobs, || list(&jobs));
            return Ok(());
        }
        Jobs::Pause { id } => backend.call::<call::PauseJob>(which(id))?,
        Jobs::Resume { id } => backend.call::<call::ResumeJob>(which(id))?,
        Jobs::Cancel { id } => backend.call::<call::CancelJob>(which(id))?,
    };
    printer.result(&job, || format!("{} is {}.", job.id, name(&job.state)));
    Ok(())
}

fn list(jobs: &[Job]) -> String {
    if jobs.is_empty() {
        return "The queue is empty.".to_owned();
    }
    let rows: Vec<_> = jobs
        .iter()
        .map(|job| {
            let state = job.error.as_ref().map_or(job.title.clone(), |error| error.message.clone());
            vec![job.id.to_string(), name(&job.state), format!("{:.0}%", job.progress * 100.0), state]
        })
        .collect();
    table(&rows)
}
