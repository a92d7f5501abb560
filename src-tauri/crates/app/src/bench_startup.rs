//! `inkling bench startup`: how long a person waits, measured on the whole app in a data folder of its own.

use crate::memory::process_mb;
use crate::{App, OpenOptions, Opened};
use domain::{
    ApiError, ErrorCode, FeedbackRequest, HyperparameterChoice, MetricsQuery, Recipe, RunRef, TrainRequest, WriteEvent, WriteRequest,
    WriteResult,
};
use model::bench::median;
use serde::Serialize;
use std::time::{Duration, Instant};

/// What to measure.
#[derive(Debug, Clone)]
pub struct StartupBench {
    /// Candidates of a generation.
    pub sequences: usize,
    /// Tokens of each candidate.
    pub generate: usize,
    /// Medians of so many generations.
    pub rounds: usize,
}

/// Times in milliseconds, memory in MB, medians where something is done several times.
#[derive(Debug, Clone, Serialize)]
pub struct StartupReport {
    /// Until the app takes requests.
    pub open_ms: f64,
    /// From the first *Write* after the start, which loads the built-in base, to its first word.
    pub first_word_cold_ms: f64,
    /// The same later; every generation has a prompt of its own, so nothing of it was read before.
    pub first_word_warm_ms: f64,
    /// From *Write* to the vote.
    pub write_ms: f64,
    pub idle_memory_mb: f64,
    /// From *Write* to the first word, and to the vote, while a LoRA is trained on the same base.
    pub first_word_training_ms: f64,
    pub write_training_ms: f64,
    /// Speed of writing while training runs over that without; 1 is not slowed down at all.
    pub training_ratio: f64,
    /// Updates that the training made meanwhile: it must not have stood still.
    pub updates_meanwhile: u32,
}

/// Opens an app in a temporary folder, writes, trains, and writes while it trains.
///
/// # Errors
/// What opening, writing and training report; `Internal` when the training does not come to run.
pub fn bench_startup(bench: &StartupBench) -> Result<StartupReport, ApiError> {
    let folder = tempfile::tempdir().map_err(|error| ApiError::new(ErrorCode::Storage, format!("No temporary folder: {error}")))?;
    let start = Instant::now();
    let options = OpenOptions { data_dir: Some(folder.path().to_owned()), ..OpenOptions::default() };
    let Opened::Owner(app) = App::open(options)? else {
        return Err(ApiError::new(ErrorCode::Busy, "The temporary folder is in use."));
    };
    let open_ms = milliseconds(start);
    let report = measure(&app, bench, open_ms);
    app.shutdown();
    report
}

fn measure(app: &App, bench: &StartupBench, open_ms: f64) -> Result<StartupReport, ApiError> {
    let cold = timed_write(app, bench, 0)?;
    let idle_memory_mb = process_mb();
    let rounds = bench.rounds.max(1);
    let alone = (1..=rounds).map(|round| timed_write(app, bench, round)).collect::<Result<Vec<_>, _>>()?;
    // Two texts: none is kept back, so nothing ends the training early.
    for written in alone.iter().take(2) {
        let liked = written.result.chosen.clone();
        app.feedback(FeedbackRequest { candidate_id: liked, verdict: Some(1), tags: vec![], comment: None, edited_text: None })?;
    }
    // Far more updates than there is time for: it runs until it is cancelled.
    let hyperparameters = HyperparameterChoice { steps: Some(100_000), ..HyperparameterChoice::default() };
    let queued = app.train(TrainRequest { hyperparameters, ..TrainRequest::of(Recipe::Lora) })?;
    let run = RunRef { run_id: queued.run_id };
    let updates = || -> Result<u32, ApiError> {
        let points = app.run_metrics(MetricsQuery { run_id: run.run_id.clone(), after: None })?.metrics;
        Ok(points.last().map_or(0, |point| point.step))
    };
    wait_for_updates(&updates)?;
    let before = updates()?;
    // Between two of them the training goes on for a while, as between a person's.
    let beside = (1..=rounds)
        .map(|round| {
            std::thread::sleep(Duration::from_millis(400));
            timed_write(app, bench, round + 1000)
        })
        .collect::<Result<Vec<_>, _>>()?;
    let updates_meanwhile = updates()?.saturating_sub(before);
    app.cancel_job(domain::JobRef { job_id: queued.job_id })?;
    let first = |all: &[Timed]| median(all.iter().map(|one| one.first_word_ms).collect());
    let whole = |all: &[Timed]| median(all.iter().map(|one| one.whole_ms).collect());
    // Texts differ in length: what counts is the time a token.
    let a_token = |all: &[Timed]| median(all.iter().map(|one| one.whole_ms / one.tokens.max(1) as f64).collect());
    Ok(StartupReport {
        open_ms,
        first_word_cold_ms: cold.first_word_ms,
        first_word_warm_ms: first(&alone),
        write_ms: whole(&alone),
        idle_memory_mb,
        first_word_training_ms: first(&beside),
        write_training_ms: whole(&beside),
        training_ratio: a_token(&alone) / a_token(&beside),
        updates_meanwhile,
    })
}

struct Timed {
    first_word_ms: f64,
    whole_ms: f64,
    /// Of all candidates.
    tokens: usize,
    result: WriteResult,
}

fn timed_write(app: &App, bench: &StartupBench, round: usize) -> Result<Timed, ApiError> {
    const SUBJECTS: [&str; 8] = ["dragon", "lamp", "letter", "thief", "clock", "door", "crow", "fair"];
    let request = WriteRequest {
        prompt: format!("A {} that nobody had seen for {} years", SUBJECTS[round % SUBJECTS.len()], round + 2),
        n: Some(bench.sequences as u32),
        max_tokens: Some(bench.generate as u32),
        seed: Some(round as u32),
        // The plain base, whatever has been trained.
        adapters: Some(Vec::new()),
        ..WriteRequest::default()
    };
    let start = Instant::now();
    let (mut first_word_ms, mut tokens) = (None, 0);
    let result = app.write_streaming(request, &mut |event| {
        if let WriteEvent::Token { .. } = event {
            first_word_ms.get_or_insert_with(|| milliseconds(start));
            tokens += 1;
        }
    })?;
    let whole_ms = milliseconds(start);
    Ok(Timed { first_word_ms: first_word_ms.unwrap_or(whole_ms), whole_ms, tokens, result })
}

fn wait_for_updates(updates: &dyn Fn() -> Result<u32, ApiError>) -> Result<(), ApiError> {
    for _ in 0..600 {
        if updates()? > 0 {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Err(ApiError::new(ErrorCode::Internal, "The training did not make an update within a minute."))
}

fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}
