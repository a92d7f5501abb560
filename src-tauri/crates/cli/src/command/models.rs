//! `inkling models …`

use super::adapters::absolute;
use crate::args::Models;
use crate::backend::Backend;
use crate::output::{Printer, duration, table};
use app::calls::call;
use domain::{
    ApiError, Base, BaseId, BaseImport, BaseRemoval, CatalogueEntry, Change, ErrorCode, Job, JobRef, JobState, Limit, Nothing,
    PullProgress, PullRequest, SettingsUpdate,
};
use indicatif::{ProgressBar, ProgressStyle};
use std::process::ExitCode;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

/// How often the job itself is looked at, should its end have been lost among the events.
const LOOK: Duration = Duration::from_secs(2);

pub fn run(action: Option<Models>, backend: &Backend, printer: &Printer) -> Result<ExitCode, ApiError> {
    match action.unwrap_or(Models::List) {
        Models::List => {
            let here = backend.call::<call::Bases>(Nothing {})?;
            let catalogue = backend.call::<call::Catalogue>(Nothing {})?;
            let both = serde_json::json!({ "models": here, "catalogue": catalogue });
            printer.result(&both, || list(&here, &catalogue));
        }
        Models::Pull { model, revision, gguf } => return pull(PullRequest { model, revision, gguf }, backend, printer),
        Models::Import { path, name, in_place } => {
            printer.remark("Checking and measuring …");
            let base = backend.call::<call::ImportBase>(BaseImport { path: absolute(&path)?, name, in_place })?;
            printer.result(&base, || installed(&base));
        }
        Models::Remove { id, anyway } => {
            let removed = backend.call::<call::RemoveBase>(BaseRemoval { base_id: BaseId(id), anyway })?;
            printer.result(&removed, || {
                let files = if removed.files_deleted { "with its files" } else { "its files stay where they are" };
                format!("Removed, {files}.")
            });
        }
        Models::Default { id } => {
            let update = serde_json::Map::from_iter([("defaultBase".to_owned(), id.into())]);
            let settings = backend.call::<call::UpdateSettings>(SettingsUpdate(update))?;
            printer.result(&settings, || format!("Texts are written with {} from now on.", settings.default_base));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Downloads a base and waits for its end. Ctrl-C pauses it: what has arrived is kept.
fn pull(request: PullRequest, backend: &Backend, printer: &Printer) -> Result<ExitCode, ApiError> {
    let events = backend.subscribe()?;
    let queued = backend.call::<call::PullBase>(request)?;
    let interrupt = backend.interrupt();
    let bar = printer.bars().then(|| {
        let bar = ProgressBar::new(0);
        let style = ProgressStyle::with_template("{msg:28!} {bar:30} {bytes}/{total_bytes} {prefix}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar
    });
    let mut looked = Instant::now();
    let mut pausing = false;
    let job = loop {
        let job = match events.recv_timeout(Duration::from_millis(100)) {
            Ok(event) => match event.change {
                Change::PullProgress { progress } if progress.job_id == queued.job_id => {
                    show(&progress, bar.as_ref(), printer);
                    None
                }
                Change::JobChanged { job } if job.id == queued.job_id => Some(*job),
                _ => None,
            },
            Err(RecvTimeoutError::Timeout) if looked.elapsed() < LOOK => None,
            Err(_) => {
                looked = Instant::now();
                backend.call::<call::Jobs>(Limit { limit: Some(100) })?.into_iter().find(|job| job.id == queued.job_id)
            }
        };
        if let Some(job) = job.filter(|job| !matches!(job.state, JobState::Queued | JobState::Running)) {
            break job;
        }
        if interrupt.asked() && !pausing {
            pausing = true;
            backend.call::<call::PauseJob>(JobRef { job_id: queued.job_id.clone() })?;
        }
    };
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    finish(&job, &queued.repo, backend, printer)
}

fn finish(job: &Job, repo: &str, backend: &Backend, printer: &Printer) -> Result<ExitCode, ApiError> {
    match (job.state, &job.error) {
        (JobState::Completed, _) => {
            let bases = backend.call::<call::Bases>(Nothing {})?;
            let base = bases.iter().rev().find(|base| base.source.as_deref().is_some_and(|source| source.starts_with(repo)));
            let base = base.ok_or_else(|| ApiError::new(ErrorCode::NotFound, format!("{repo} was downloaded and is gone again.")))?;
            printer.result(base, || installed(base));
            Ok(ExitCode::SUCCESS)
        }
        (_, Some(error)) => Err(error.clone()),
        (JobState::Cancelled, None) => Err(ApiError::new(ErrorCode::Cancelled, format!("The download of {repo} was cancelled."))),
        _ => {
            let message = format!("The download of {repo} is paused; what has arrived is kept.");
            Err(ApiError::new(ErrorCode::Cancelled, message).hint(format!("Go on with: inkling models pull {repo}")))
        }
    }
}

fn show(progress: &PullProgress, bar: Option<&ProgressBar>, printer: &Printer) {
    if printer.json {
        printer.json_line(&serde_json::json!({ "event": "progress", "progress": progress }));
    }
    let Some(bar) = bar else { return };
    bar.set_length(progress.total_bytes as u64);
    bar.set_position(progress.bytes as u64);
    bar.set_message(progress.doing.clone());
    let left = progress.eta_s.map(|seconds| format!("{} left", duration(seconds))).unwrap_or_default();
    bar.set_prefix(left);
}

fn installed(base: &Base) -> String {
    let speed = base.tokens_per_second.map(|speed| format!(", {speed:.0} tokens a second here")).unwrap_or_default();
    format!("{} is here as {} ({}{speed}).\nUse it: inkling write \"…\" --base {}", base.name, base.id, size(base.size_bytes), base.id)
}

fn list(here: &[Base], catalogue: &[CatalogueEntry]) -> String {
    let row = |base: &Base| {
        let speed = base.tokens_per_second.map(|speed| format!("{speed:.0} tokens/s")).unwrap_or_default();
        let state = match (&base.problem, base.is_default) {
            (Some(problem), _) => problem.message.clone(),
            (None, true) => "default".to_owned(),
            (None, false) => String::new(),
        };
        vec![base.id.to_string(), size(base.size_bytes), speed, base.license.clone(), state]
    };
    let offered = |one: &CatalogueEntry| {
        let note = one.problem.as_ref().map_or_else(|| one.good_for.clone(), |problem| problem.message.clone());
        vec![one.id.clone(), size(one.size_bytes), format!("{} memory", size(one.memory_mb * 1e6)), one.license.clone(), note]
    };
    let here = table(&here.iter().map(row).collect::<Vec<_>>());
    let rest: Vec<_> = catalogue.iter().filter(|one| one.installed.is_none()).map(offered).collect();
    format!("Here:\n{here}\n\nTo download with `inkling models pull`:\n{}", table(&rest))
}

fn size(bytes: f64) -> String {
    if bytes >= 1e9 { format!("{:.1} GB", bytes / 1e9) } else { format!("{:.0} MB", bytes / 1e6) }
}
