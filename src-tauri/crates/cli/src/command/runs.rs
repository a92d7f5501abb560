//! `inkling runs …`

use super::train;
use crate::args::{Choice, Picture, Runs};
use crate::backend::Backend;
use crate::output::{Printer, duration, name, table};
use app::calls::call;
use base64::Engine as _;
use domain::{
    ApiError, BlindAnswer, BlindChoice, BlindPair, BlindRequest, ChartFormat, ChartQuery, Decision, ErrorCode, Limit, Recipe, Run,
    RunDecision, RunId, RunRef, SavedPath, Search, Trial, TrialRung,
};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

pub fn run(action: Option<Runs>, backend: &Backend, printer: &Printer) -> Result<ExitCode, ApiError> {
    let which = |id| RunRef { run_id: RunId(id) };
    match action.unwrap_or(Runs::List { limit: None }) {
        Runs::List { limit } => {
            let runs = backend.call::<call::Runs>(Limit { limit })?;
            printer.result(&runs, || list(&runs));
        }
        Runs::Show { id } => {
            let run = backend.call::<call::Run>(which(id))?;
            printer.result(&run, || show(&run));
        }
        Runs::Trials { id } => {
            let search = backend.call::<call::RunSearch>(which(id))?;
            printer.result(&search, || trials(&search));
        }
        Runs::Chart { id, format, out } => chart(RunId(id), format, out, backend, printer)?,
        Runs::Resume { id } => return train::resume(RunId(id), &train::Target::default(), backend, printer),
        Runs::Decide { id, decision } => {
            let decision = match decision {
                Choice::Keep => Decision::Keep,
                Choice::NotNow => Decision::NotNow,
                Choice::Undo => Decision::Undo,
            };
            let adapter = backend.call::<call::Decide>(RunDecision { run_id: RunId(id), decision })?;
            printer.result(&adapter, || format!("{} ({}) is {} now.", adapter.name, adapter.id, name(&adapter.state)));
        }
        Runs::Blind { id, answer, again } => blind(RunId(id), &answer, again, backend, printer)?,
        Runs::Delete { id } => {
            let done = backend.call::<call::DeleteRun>(which(id))?;
            printer.result(&done, || "Deleted; its adapter stays.".to_owned());
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn trials(search: &Search) -> String {
    let loss = |trial: &Trial, at: usize| match trial.rungs.get(at) {
        Some(TrialRung { heldout_loss: Some(loss), .. }) => format!("{loss:.3}"),
        Some(_) => "failed".to_owned(),
        None => String::new(),
    };
    let row = |trial: &Trial| {
        let numbers = &trial.hyperparameters;
        let size = if trial.recipe == Recipe::SoftPrompt { numbers.virtual_tokens } else { numbers.rank };
        let modules = if numbers.target_modules.is_empty() { "all".to_owned() } else { numbers.target_modules.join(",") };
        let mut cells = vec![
            if trial.number == 0 { "default".to_owned() } else { trial.number.to_string() },
            trial.recipe.label().to_owned(),
            size.to_string(),
            if trial.recipe == Recipe::SoftPrompt { String::new() } else { modules },
            numbers.dropout.to_string(),
            numbers.learning_rate.to_string(),
        ];
        cells.extend((0..search.rungs.len()).map(|at| loss(trial, at)));
        cells.push(name(&trial.state));
        cells
    };
    let steps: Vec<String> = search.rungs.iter().map(|steps| format!("{steps} steps")).collect();
    let heads = ["trial", "method", "size", "modules", "dropout", "rate"].into_iter().map(str::to_owned);
    let heads = heads.chain(steps).chain(["state".to_owned()]).collect();
    let rows: Vec<Vec<String>> = std::iter::once(heads).chain(search.trials.iter().map(row)).collect();
    let found = search.found.as_ref().map_or(String::new(), |found| format!("\n{}", found.reason));
    format!("{}{found}", table(&rows))
}

/// Takes the answers given, then shows the test as it stands.
fn blind(run_id: RunId, answers: &[String], again: bool, backend: &Backend, printer: &Printer) -> Result<(), ApiError> {
    let answers = answers.iter().map(|text| answer(&run_id, text)).collect::<Result<Vec<_>, _>>()?;
    let mut test = backend.call::<call::BlindTest>(BlindRequest { run_id, again })?;
    for answer in answers {
        test = backend.call::<call::AnswerBlind>(answer)?;
    }
    printer.result(&test, || {
        let pair = |pair: &BlindPair| {
            let chosen = pair.choice.map_or("not answered".to_owned(), |choice| format!("answered: {}", name(&choice)));
            let told = pair.trained.map_or(String::new(), |side| format!("; the trained one wrote the {}", name(&side)));
            format!("{}. {} ({chosen}{told})\n\nFirst:\n{}\n\nSecond:\n{}\n", pair.number, pair.prompt, pair.first, pair.second)
        };
        let pairs: Vec<_> = test.pairs.iter().map(pair).collect();
        format!("{}\n{}", pairs.join("\n"), test.sentence)
    });
    Ok(())
}

fn answer(run_id: &RunId, text: &str) -> Result<BlindAnswer, ApiError> {
    let choice = |word: &str| match word {
        "first" => Some(BlindChoice::First),
        "second" => Some(BlindChoice::Second),
        "neither" => Some(BlindChoice::Neither),
        _ => None,
    };
    let read = text.split_once('=').and_then(|(number, word)| Some((number.parse().ok()?, choice(word)?)));
    let Some((number, choice)) = read else {
        return Err(ApiError::field("answer", format!("\"{text}\" is no answer.")).hint("Write 1=first, 1=second or 1=neither."));
    };
    Ok(BlindAnswer { run_id: run_id.clone(), number, choice })
}

fn list(runs: &[Run]) -> String {
    if runs.is_empty() {
        return "No trainings yet. `inkling train soft-prompt` starts one from the texts you liked.".to_owned();
    }
    let rows: Vec<_> = runs
        .iter()
        .map(|run| {
            let loss = run.final_loss.map_or(String::new(), |loss| format!("loss {loss:.3}"));
            let time = run.seconds.map_or(String::new(), duration);
            let words =
                run.error.as_ref().map(|error| error.message.clone()).or_else(|| run.verdict.as_ref().map(|one| one.reason.clone()));
            vec![run.run_id.to_string(), name(&run.status), format!("{} texts", run.samples), loss, time, words.unwrap_or_default()]
        })
        .collect();
    table(&rows)
}

fn show(run: &Run) -> String {
    let row = |name: &str, value: String| vec![name.to_owned(), value];
    let hyper = &run.hyperparameters;
    let mut rows = vec![
        row("Run", run.run_id.to_string()),
        row("Status", name(&run.status)),
        row("Base", run.base.to_string()),
        row("Texts", format!("{} learned from, {} held out", run.samples, run.heldout)),
        row("Steps", format!("{} of {}", run.step, hyper.steps)),
        row(
            "Soft prompt",
            format!(
                "{} vectors, learning rate {}, batch {}, seed {}",
                hyper.virtual_tokens, hyper.learning_rate, hyper.batch_size, hyper.seed
            ),
        ),
    ];
    rows.extend(run.final_loss.map(|loss| row("Final loss", format!("{loss:.4}"))));
    rows.extend(run.seconds.map(|seconds| row("Time", duration(seconds))));
    rows.extend(run.peak_memory_mb.map(|peak| row("Peak memory", format!("{peak:.0} MB"))));
    rows.extend(run.adapter_id.as_ref().map(|id| row("Adapter", id.to_string())));
    rows.extend(run.verdict.as_ref().map(|verdict| {
        let share = format!("preferred in {:.0}% ({:.0}–{:.0}%)", verdict.win_rate * 100.0, verdict.low * 100.0, verdict.high * 100.0);
        row("Verdict", format!("{} ({share} of {} pairs)", verdict.reason, verdict.pairs))
    }));
    rows.extend(run.decision.as_ref().map(|decision| row("Decided", name(decision))));
    rows.extend(run.error.as_ref().map(|error| row("Error", error.message.clone())));
    rows.push(row("Folder", run.directory.clone()));
    table(&rows)
}

fn chart(run_id: RunId, format: Picture, out: Option<PathBuf>, backend: &Backend, printer: &Printer) -> Result<(), ApiError> {
    let format = match format {
        Picture::Svg => ChartFormat::Svg,
        Picture::Png => ChartFormat::Png,
    };
    let image = backend.call::<call::RunChart>(ChartQuery { run_id, format })?;
    let bytes = base64::engine::general_purpose::STANDARD.decode(&image.base64).map_err(ApiError::internal)?;
    let out = out.unwrap_or_else(|| PathBuf::from(&image.file_name));
    let failed = |error: std::io::Error| {
        ApiError::new(ErrorCode::Storage, format!("{} was not written: {error}.", out.display())).hint("Choose another file with --out.")
    };
    if out == Path::new("-") {
        return std::io::stdout().write_all(&bytes).map_err(failed);
    }
    std::fs::write(&out, bytes).map_err(failed)?;
    let saved = SavedPath { path: out.display().to_string() };
    printer.result(&saved, || format!("Saved to {}.", saved.path));
    Ok(())
}
