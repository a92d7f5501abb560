//! `inkling train soft-prompt` and `train adapter`: plans, queues, follows to the end; also follows a run that is resumed.

mod follow;
mod plan;
mod progress;
mod publish;
mod request;

use crate::args::{Adapter, SoftPrompt};
use crate::backend::Backend;
use crate::output::Printer;
use app::calls::call;
use domain::{ApiError, ErrorCode, Hyperparameters, Limit, Recipe, Run, RunId, RunRef, RunStatus, TrainEvent, TrainRequest, TrainingPlan};
pub use publish::Target;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The data folder that `--db-path` names, else the given one.
///
/// # Errors
/// `InvalidInput` for a file that is not an Inkling database, or for both options at once.
pub fn data_dir(train: &SoftPrompt, data_dir: Option<PathBuf>) -> Result<Option<PathBuf>, ApiError> {
    let Some(path) = &train.db_path else { return Ok(data_dir) };
    if data_dir.is_some() {
        return Err(ApiError::field("db_path", "--db-path and --data-dir name two folders.").hint("Give one of them."));
    }
    let hint = "Give an Inkling data folder, or the inkling.db in it.";
    if path.is_dir() {
        return Ok(Some(path.clone()));
    }
    if path.is_file() && path.file_name().is_some_and(|name| name == "inkling.db") {
        return Ok(path.parent().map(|folder| if folder.as_os_str().is_empty() { PathBuf::from(".") } else { folder.to_owned() }));
    }
    let what = if path.exists() { "is not an Inkling database" } else { "does not exist" };
    Err(ApiError::field("db_path", format!("{} {what}.", path.display())).hint(hint))
}

pub fn soft_prompt(train: SoftPrompt, backend: &Backend, printer: &Printer) -> Result<ExitCode, ApiError> {
    let target = Target { folder: train.output_dir.clone(), exactly: train.run_directory.clone(), name: train.run_id.clone() };
    target.check()?;
    if let Some(from) = &train.resume_from {
        request::refuse_changes(&train)?;
        return resume(run_of(from)?, &target, backend, printer);
    }
    start(request::of_soft_prompt(train), &target, backend, printer)
}

pub fn adapter(train: Adapter, backend: &Backend, printer: &Printer) -> Result<ExitCode, ApiError> {
    let target = Target { folder: train.output_dir.clone(), ..Target::default() };
    if let Some(from) = &train.resume_from {
        return resume(run_of(from)?, &target, backend, printer);
    }
    let request = request::of_adapter(&train)?;
    let plan = backend.call::<call::PlanTraining>(request.clone())?;
    if train.plan {
        printer.result(&plan, || plan::in_words(&plan));
        return Ok(ExitCode::SUCCESS);
    }
    plan::remark_skipped(&plan, printer);
    match same_interrupted(&plan, backend)? {
        Some(run_id) if !train.no_resume => {
            printer.remark(&format!("The same training was interrupted; going on with {run_id}. --no-resume starts anew."));
            resume(run_id, &target, backend, printer)
        }
        _ => start(request, &target, backend, printer),
    }
}

/// The newest run that was cut off or paused and would learn the same from as many texts.
fn same_interrupted(plan: &TrainingPlan, backend: &Backend) -> Result<Option<RunId>, ApiError> {
    let waiting = |status| matches!(status, RunStatus::Interrupted | RunStatus::Paused);
    let runs = backend.call::<call::Runs>(Limit { limit: Some(50) })?;
    for run in runs.into_iter().filter(|run| waiting(run.status)) {
        let like = (&run.base, run.samples, run.heldout, &run.search) == (&plan.base, plan.examples, plan.heldout, &plan.search);
        if like && asked_for(&run, backend)? == (plan.recipe, plan.hyperparameters.clone()) {
            return Ok(Some(run.run_id));
        }
    }
    Ok(None)
}

/// What a run was asked to be: its search may have made it another one since.
fn asked_for(run: &Run, backend: &Backend) -> Result<(Recipe, Hyperparameters), ApiError> {
    let default = match run.search {
        Some(_) => backend.call::<call::RunSearch>(RunRef { run_id: run.run_id.clone() })?.trials.into_iter().next(),
        None => None,
    };
    Ok(default.map_or_else(|| (run.recipe, run.hyperparameters.clone()), |trial| (trial.recipe, trial.hyperparameters)))
}

/// Queues a training and follows it to its end.
fn start(request: TrainRequest, target: &Target, backend: &Backend, printer: &Printer) -> Result<ExitCode, ApiError> {
    let events = backend.subscribe()?;
    let queued = backend.call::<call::Train>(request)?;
    let ended = follow::follow(queued, None, events, backend, printer)?;
    finish(ended, target, backend, printer)
}

/// Goes on with a run and follows it; shared with `inkling runs resume`.
pub fn resume(run_id: RunId, target: &Target, backend: &Backend, printer: &Printer) -> Result<ExitCode, ApiError> {
    let events = backend.subscribe()?;
    let run = backend.call::<call::Run>(RunRef { run_id: run_id.clone() })?;
    let queued = backend.call::<call::ResumeRun>(RunRef { run_id })?;
    let ended = follow::follow(queued, run.checkpoint_step, events, backend, printer)?;
    finish(ended, target, backend, printer)
}

fn finish(ended: TrainEvent, target: &Target, backend: &Backend, printer: &Printer) -> Result<ExitCode, ApiError> {
    match ended {
        TrainEvent::Finished { run_id, adapter_id, .. } => {
            if let Some(published) = publish::publish(&run_id, &adapter_id, target, backend)? {
                printer.remark(&format!("Also saved to {}; latest beside it leads there.", published.display()));
            }
            Ok(ExitCode::SUCCESS)
        }
        TrainEvent::Failed { error, .. } => Ok(ExitCode::from(error.code.exit_code())),
        _ => Ok(ExitCode::from(1)),
    }
}

/// The run that an id, its folder, one of its checkpoints or `latest` means.
fn run_of(from: &Path) -> Result<RunId, ApiError> {
    let real = from.canonicalize().unwrap_or_else(|_| from.to_owned());
    // A folder that --run-directory or --run-id named otherwise still knows its run.
    if let Some(run_id) = publish::recorded(&real) {
        return Ok(run_id);
    }
    let names = real.components().rev().filter_map(|part| part.as_os_str().to_str().map(str::to_owned));
    names.into_iter().find(|name| name.starts_with(RunId::PREFIX)).map(RunId).ok_or_else(|| {
        ApiError::new(ErrorCode::NotFound, format!("{} is no run.", from.display())).hint("`inkling runs` lists what can be resumed.")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_found_by_its_id_its_folder_and_its_checkpoints() {
        for from in ["run_01", "/data/runs/run_01", "/data/runs/run_01/checkpoints/step-50"] {
            assert_eq!(run_of(Path::new(from)).unwrap().as_str(), "run_01", "{from}");
        }
        assert_eq!(run_of(Path::new("/somewhere/else")).unwrap_err().code, ErrorCode::NotFound);
    }
}
