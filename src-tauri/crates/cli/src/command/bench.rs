//! Measuring how fast a base runs here.

use crate::args::{Bench, BenchOptions, BenchStartup};
use crate::command::bench_train;
use crate::output::{Printer, table};
use app::bench::{BenchReport, BenchRequest, BenchSubject, bench};
use app::{StartupBench, bench_startup};
use domain::{ApiError, ErrorCode};

/// Needs neither a data folder nor a running instance.
pub fn run(command: Bench, printer: &Printer) -> Result<(), ApiError> {
    let options = match command {
        Bench::Decode(options) => options,
        // One token shows that the prompt was read.
        Bench::Prefill(options) => BenchOptions { sequences: 1, generate: 1, ..options },
        Bench::Startup(options) => return startup(&options, printer),
        Bench::Train(options) => return bench_train::run(*options, printer),
    };
    let report = bench(&request(options)?)?;
    printer.result(&report, || in_words(&report));
    Ok(())
}

fn startup(options: &BenchStartup, printer: &Printer) -> Result<(), ApiError> {
    let BenchStartup { sequences, generate, rounds } = *options;
    let report = bench_startup(&StartupBench { sequences, generate, rounds })?;
    printer.result(&report, || {
        let row = |name: &str, value: String| vec![name.to_owned(), value];
        let ms = |value: f64| format!("{value:.0} ms");
        table(&[
            row("Open", ms(report.open_ms)),
            row("First word after the start", ms(report.first_word_cold_ms)),
            row("First word later", ms(report.first_word_warm_ms)),
            row("A vote", format!("{} ({sequences} × {generate} tokens)", ms(report.write_ms))),
            row("Memory when idle", format!("{:.0} MB", report.idle_memory_mb)),
            row("First word while training", ms(report.first_word_training_ms)),
            row("A vote while training", ms(report.write_training_ms)),
            row("Speed while training", format!("{:.2} × ({} updates meanwhile)", report.training_ratio, report.updates_meanwhile)),
        ])
    });
    Ok(())
}

fn request(options: BenchOptions) -> Result<BenchRequest, ApiError> {
    let BenchOptions { model, shape, format, threads, sequences, prompt, generate, rounds } = options;
    let subject = match (model, shape) {
        (Some(path), None) => BenchSubject::File { path, format: format.unwrap_or_else(|| "int8".to_owned()) },
        (None, Some(shape)) => BenchSubject::Shape { shape, format: format.unwrap_or_else(|| "Q8_0".to_owned()) },
        _ => {
            let error = ApiError::new(ErrorCode::InvalidInput, "There is nothing to measure.");
            return Err(error.hint("Name a base with --model, or a shape with --shape."));
        }
    };
    Ok(BenchRequest { subject, threads, sequences, prompt, generate, rounds })
}

fn in_words(report: &BenchReport) -> String {
    let row = |name: &str, value: String| vec![name.to_owned(), value];
    let (reading, writing) = (format!("{} tokens", report.prompt), format!("{} × {} tokens", report.sequences, report.generate));
    table(&[
        row("Base", format!("{} in {}, loaded in {:.2} s", report.model, report.format, report.load_s)),
        row("Processor", format!("{}, {} threads", report.isa, report.threads)),
        row("Reading", format!("{:.0} tokens a second ({reading})", report.prefill_tokens_per_s)),
        row("Writing", format!("{:.0} tokens a second ({writing})", report.decode_tokens_per_s)),
        row("Memory", format!("{:.0} MB at most", report.peak_memory_mb)),
    ])
}
