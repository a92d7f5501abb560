//! Commands, one file per noun.

mod about;
mod adapters;
mod auto_train;
mod bench;
mod bench_train;
mod export;
mod feedback;
mod jobs;
mod models;
mod restore;
mod runs;
mod serve;
mod settings;
mod taste;
mod train;
mod window;
mod write;

use crate::args::{Args, Command, Global, Train};
use crate::backend::Backend;
use crate::output::Printer;
use domain::ApiError;
use std::path::PathBuf;
use std::process::ExitCode;

/// Runs the command and says how it ended.
pub fn run(args: Args, printer: &Printer) -> Result<ExitCode, ApiError> {
    let Args { global, command } = args;
    let done = |outcome: Result<(), ApiError>| outcome.map(|()| ExitCode::SUCCESS);
    let Some(command) = command else { return window::open() };
    match command {
        Command::Bench(command) => done(bench::run(command, printer)),
        Command::Completions { shell } => done(about::completions(shell)),
        Command::Man => done(about::man()),
        Command::Restore { backup } => done(restore::run(global.data_dir, &backup, printer)),
        Command::Serve(serve) => with_backend(global.data_dir, printer, |backend| done(serve::run(serve, backend, printer))),
        Command::Train(Train::SoftPrompt(train)) => {
            let data_dir = train::data_dir(&train, global.data_dir)?;
            with_backend(data_dir, printer, |backend| train::soft_prompt(*train, backend, printer))
        }
        Command::Train(Train::Adapter(train)) => with_backend(global.data_dir, printer, |backend| train::adapter(*train, backend, printer)),
        command => {
            let Global { data_dir, .. } = global;
            with_backend(data_dir, printer, |backend| run_in(command, backend, printer))
        }
    }
}

fn run_in(command: Command, backend: &Backend, printer: &Printer) -> Result<ExitCode, ApiError> {
    let outcome = match command {
        Command::Write(write) => return write::run(write, backend, printer),
        Command::AutoTrain(session) => return auto_train::run(session, backend, printer),
        Command::Runs { action } => return runs::run(action, backend, printer),
        Command::Models { action } => return models::run(action, backend, printer),
        Command::Feedback(feedback) => feedback::run(feedback, backend, printer),
        Command::Train(Train::Preference { epochs, vocab_size, lr }) => taste::train(epochs, vocab_size, lr, backend, printer),
        Command::Jobs { action } => jobs::run(action, backend, printer),
        Command::Adapters { action } => adapters::run(action, backend, printer),
        Command::Taste { action } => taste::run(action, backend, printer),
        Command::Prefer { better, worse } => feedback::prefer(better, worse, backend, printer),
        Command::Export { kind, out } => export::run(kind, &out, backend, printer),
        Command::Settings { action } => settings::run(action, backend, printer),
        Command::Doctor => return about::doctor(backend, printer),
        // Handled by `run`, which opens the data folder for them differently or not at all.
        Command::Bench(_)
        | Command::Completions { .. }
        | Command::Man
        | Command::Restore { .. }
        | Command::Serve(_)
        | Command::Train(Train::SoftPrompt(_) | Train::Adapter(_)) => Ok(()),
    };
    outcome.map(|()| ExitCode::SUCCESS)
}

fn with_backend(
    data_dir: Option<PathBuf>,
    printer: &Printer,
    work: impl FnOnce(&Backend) -> Result<ExitCode, ApiError>,
) -> Result<ExitCode, ApiError> {
    let backend = Backend::open(data_dir)?;
    let outcome = work(&backend);
    backend.close(printer);
    outcome
}
