//! What the program says about itself and this installation.

use crate::args::Args;
use crate::backend::Backend;
use crate::output::{Printer, table};
use app::calls::call;
use clap::CommandFactory;
use clap_complete::Shell;
use domain::{ApiError, DoctorReport, ErrorCode, Nothing};
use std::io::stdout;
use std::process::ExitCode;

pub fn completions(shell: Shell) -> Result<(), ApiError> {
    clap_complete::generate(shell, &mut Args::command(), "inkling", &mut stdout());
    Ok(())
}

pub fn man() -> Result<(), ApiError> {
    let page = clap_mangen::Man::new(Args::command());
    page.render(&mut stdout()).map_err(|error| ApiError::new(ErrorCode::Storage, format!("The manual page was not printed: {error}.")))
}

/// Exits with 1 when there are problems.
pub fn doctor(backend: &Backend, printer: &Printer) -> Result<ExitCode, ApiError> {
    let report = backend.call::<call::Doctor>(Nothing {})?;
    printer.result(&report, || in_words(&report));
    Ok(if report.problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn in_words(report: &DoctorReport) -> String {
    let memory = &report.memory;
    let row = |name: &str, value: String| vec![name.to_owned(), value];
    let mut rows = vec![
        row("Inkling", report.version.clone()),
        row("SQLite", report.sqlite.clone()),
        row("Processor", format!("{}, {} threads", report.isa, report.threads)),
        row("Memory", format!("{:.0} of {:.0} MB free, {:.0} MB used by Inkling", memory.available_mb, memory.total_mb, memory.process_mb)),
        row("Data", report.data_dir.clone()),
    ];
    for base in &report.models {
        let state = base.problem.as_ref().map_or("ready", |problem| problem.message.as_str());
        rows.push(row("Base", format!("{} ({:.1} M parameters): {state}", base.name, base.parameters / 1e6)));
    }
    let network =
        if report.network_allowed.is_empty() { "nothing leaves this machine".to_owned() } else { report.network_allowed.join(", ") };
    rows.push(row("Network", network));
    let mut text = table(&rows);
    match report.problems.as_slice() {
        [] => text.push_str("\n\nNo problems found."),
        problems => {
            for problem in problems {
                text.push_str(&format!("\n\nproblem: {}", problem.message));
                text.extend(problem.hint.iter().map(|hint| format!("\nhint: {hint}")));
            }
        }
    }
    text
}
