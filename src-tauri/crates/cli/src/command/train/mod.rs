//! `inkling train soft-prompt` and `train adapter`: plans, queues, follows to the end; also follows a run that is resumed.

mod follow;
mod plan;
mod progress;
mod publish;

use crate::args::{Adapter, Mode, Peft, SoftPrompt};
use crate::backend::Backend;
use crate::command::adapters::absolute;
use crate::output::Printer;
use app::calls::call;
use domain::{
    ApiError, BaseId, ErrorCode, FieldFault, HyperparameterChoice, Limit, Objective, Recipe, Run, RunId, RunRef, RunStatus, TrainEvent,
    TrainRequest, TrainingPlan,
};
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
    refuse_unsupported(&train)?;
    if let Some(from) = &train.resume_from {
        refuse_changes(&train)?;
        return resume(run_of(from)?, train.output_dir.as_deref(), backend, printer);
    }
    let output_dir = train.output_dir.clone();
    start(request(train), output_dir.as_deref(), backend, printer)
}

pub fn adapter(train: Adapter, backend: &Backend, printer: &Printer) -> Result<ExitCode, ApiError> {
    if let Some(from) = &train.resume_from {
        return resume(run_of(from)?, train.output_dir.as_deref(), backend, printer);
    }
    let request = adapter_request(&train)?;
    let plan = backend.call::<call::PlanTraining>(request.clone())?;
    if train.plan {
        printer.result(&plan, || plan::in_words(&plan));
        return Ok(ExitCode::SUCCESS);
    }
    plan::remark_skipped(&plan, printer);
    match same_interrupted(&plan, backend)? {
        Some(run_id) if !train.no_resume => {
            printer.remark(&format!("The same training was interrupted; going on with {run_id}. --no-resume starts anew."));
            resume(run_id, train.output_dir.as_deref(), backend, printer)
        }
        _ => start(request, train.output_dir.as_deref(), backend, printer),
    }
}

fn adapter_request(train: &Adapter) -> Result<TrainRequest, ApiError> {
    Ok(TrainRequest {
        base: train.base_model.clone().map(BaseId),
        objective: train.mode.map(|mode| match mode {
            Mode::Sft => Objective::Sft,
            Mode::Dpo => Objective::Dpo,
            Mode::Kto => Objective::Kto,
        }),
        dataset: train.data.as_deref().map(absolute).transpose()?,
        hyperparameters: HyperparameterChoice {
            rank: train.rank,
            alpha: train.alpha,
            learning_rate: train.lr,
            epochs: train.epochs,
            steps: train.steps,
            batch_size: train.batch_size,
            target_max_tokens: train.max_seq_len,
            checkpoint_steps: train.checkpoint_steps,
            checkpoints_kept: train.checkpoint_total_limit,
            seed: train.seed,
            ..HyperparameterChoice::default()
        },
        triggered_by: Some("cli".to_owned()),
        ..TrainRequest::of(match train.peft {
            Peft::Lora => Recipe::Lora,
            Peft::Dora => Recipe::Dora,
            Peft::SoftPrompt => Recipe::SoftPrompt,
        })
    })
}

/// The newest run that was cut off or paused and would learn the same from as many texts.
fn same_interrupted(plan: &TrainingPlan, backend: &Backend) -> Result<Option<RunId>, ApiError> {
    let waiting = |status| matches!(status, RunStatus::Interrupted | RunStatus::Paused);
    let same = |run: &Run| {
        (run.recipe, &run.base, &run.hyperparameters) == (plan.recipe, &plan.base, &plan.hyperparameters)
            && (run.samples, run.heldout) == (plan.examples, plan.heldout)
    };
    let runs = backend.call::<call::Runs>(Limit { limit: Some(50) })?;
    Ok(runs.into_iter().find(|run| waiting(run.status) && same(run)).map(|run| run.run_id))
}

/// Queues a training and follows it to its end.
fn start(request: TrainRequest, output_dir: Option<&Path>, backend: &Backend, printer: &Printer) -> Result<ExitCode, ApiError> {
    let events = backend.subscribe()?;
    let queued = backend.call::<call::Train>(request)?;
    let ended = follow::follow(queued, None, events, backend, printer)?;
    finish(ended, output_dir, backend, printer)
}

/// Goes on with a run and follows it; shared with `inkling runs resume`.
pub fn resume(run_id: RunId, output_dir: Option<&Path>, backend: &Backend, printer: &Printer) -> Result<ExitCode, ApiError> {
    let events = backend.subscribe()?;
    let run = backend.call::<call::Run>(RunRef { run_id: run_id.clone() })?;
    let queued = backend.call::<call::ResumeRun>(RunRef { run_id })?;
    let ended = follow::follow(queued, run.checkpoint_step, events, backend, printer)?;
    finish(ended, output_dir, backend, printer)
}

fn finish(ended: TrainEvent, output_dir: Option<&Path>, backend: &Backend, printer: &Printer) -> Result<ExitCode, ApiError> {
    match (ended, output_dir) {
        (TrainEvent::Finished { run_id, adapter_id, .. }, Some(folder)) => {
            let published = publish::publish(&run_id, &adapter_id, folder, backend)?;
            printer.remark(&format!("Also saved to {}; latest leads there.", published.display()));
            Ok(ExitCode::SUCCESS)
        }
        (TrainEvent::Finished { .. }, None) => Ok(ExitCode::SUCCESS),
        (TrainEvent::Failed { error, .. }, _) => Ok(ExitCode::from(error.code.exit_code())),
        _ => Ok(ExitCode::from(1)),
    }
}

fn request(train: SoftPrompt) -> TrainRequest {
    TrainRequest {
        base: train.base_model.map(BaseId),
        objective: Some(Objective::Sft),
        hyperparameters: HyperparameterChoice {
            virtual_tokens: train.num_virtual_tokens,
            learning_rate: train.learning_rate,
            epochs: train.epochs,
            steps: train.steps,
            batch_size: train.batch_size,
            max_samples: train.max_samples,
            source_max_tokens: train.source_max_tokens,
            target_max_tokens: train.target_max_tokens,
            seed: train.seed,
            ..HyperparameterChoice::default()
        },
        triggered_by: Some("cli".to_owned()),
        ..TrainRequest::of(Recipe::SoftPrompt)
    }
}

/// Options of the old command that have no meaning here are refused, never passed over.
fn refuse_unsupported(train: &SoftPrompt) -> Result<(), ApiError> {
    let mut faults = Vec::new();
    let mut refuse = |given: bool, field: &str, message: &str| {
        if given {
            faults.push(FieldFault { field: field.to_owned(), message: message.to_owned() });
        }
    };
    refuse(train.run_directory.is_some(), "run_directory", "--run-directory cannot be chosen: runs lie in the data folder.");
    refuse(train.run_id.is_some(), "run_id", "--run-id cannot be chosen: Inkling names its runs itself.");
    if faults.is_empty() {
        return Ok(());
    }
    Err(ApiError::fields(faults)
        .hint("Leave it out; --output-dir puts a copy of the result where you want it, --resume-from goes on with a run."))
}

/// A resumed run goes on exactly as it began.
fn refuse_changes(train: &SoftPrompt) -> Result<(), ApiError> {
    let given = [
        ("base_model", train.base_model.is_some()),
        ("max_samples", train.max_samples.is_some()),
        ("epochs", train.epochs.is_some()),
        ("learning_rate", train.learning_rate.is_some()),
        ("batch_size", train.batch_size.is_some()),
        ("source_max_tokens", train.source_max_tokens.is_some()),
        ("target_max_tokens", train.target_max_tokens.is_some()),
        ("num_virtual_tokens", train.num_virtual_tokens.is_some()),
        ("steps", train.steps.is_some()),
        ("seed", train.seed.is_some()),
    ];
    let faults: Vec<_> = given
        .iter()
        .filter(|(_, given)| *given)
        .map(|(field, _)| FieldFault { field: (*field).to_owned(), message: format!("{field} cannot change when a run is resumed.") })
        .collect();
    if faults.is_empty() { Ok(()) } else { Err(ApiError::fields(faults).hint("Resume without it, or start a new training.")) }
}

/// The run that an id, its folder, one of its checkpoints or `latest` means.
fn run_of(from: &Path) -> Result<RunId, ApiError> {
    let real = from.canonicalize().unwrap_or_else(|_| from.to_owned());
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
