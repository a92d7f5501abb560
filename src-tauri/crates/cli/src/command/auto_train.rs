//! `inkling auto-train`: queues a session, or goes on with one, and follows it to its end.

use crate::args::AutoTrain as Session;
use crate::backend::Backend;
use crate::output::{Printer, duration, name};
use app::calls::call;
use domain::{
    ApiError, AutoTrain, AutoTrainAttempt, AutoTrainId, AutoTrainRef, AutoTrainRequest, AutoTrainResult, Change, ErrorCode, JobRef,
    JobState, Limit,
};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::process::ExitCode;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

/// How often the session itself is looked at, should its end have been lost among the events.
const LOOK: Duration = Duration::from_secs(2);

pub fn run(asked: Session, backend: &Backend, printer: &Printer) -> Result<ExitCode, ApiError> {
    // Heard from before it starts, so that no example is missed.
    let events = backend.subscribe()?;
    let started = match &asked.resume {
        Some(id) => resume(AutoTrainId(id.clone()), backend)?,
        None => backend.call::<call::AutoTrain>(request(asked))?,
    };
    let mut progress = Progress::new(&started, printer);
    let ended = follow(&started, events, backend, &mut progress)?;
    progress.end();
    let result = backend.call::<call::AutoTrainResult>(AutoTrainRef { auto_train_id: ended.id.clone() })?;
    if ended.state == JobState::Failed {
        return Err(ended.error.unwrap_or_else(|| ApiError::new(ErrorCode::Internal, "Auto-train failed without a reason.")));
    }
    printer.result(&result, || in_words(&result));
    Ok(if ended.state == JobState::Completed { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn request(asked: Session) -> AutoTrainRequest {
    AutoTrainRequest {
        user_id: asked.user,
        num_examples: asked.num_examples,
        genres: Some(asked.genres),
        styles: Some(asked.styles),
        store_in_memory: asked.store_in_memory,
        seed: asked.seed,
        n: asked.n,
        max_tokens: asked.max_tokens,
    }
}

fn resume(id: AutoTrainId, backend: &Backend) -> Result<AutoTrain, ApiError> {
    let session = session(&id, backend)?;
    backend.call::<call::ResumeJob>(JobRef { job_id: session.job_id.clone() })?;
    Ok(session)
}

fn session(id: &AutoTrainId, backend: &Backend) -> Result<AutoTrain, ApiError> {
    let all = backend.call::<call::AutoTrains>(Limit { limit: Some(1000) })?;
    all.into_iter().find(|one| one.id == *id).ok_or_else(|| ApiError::not_found("auto-train session", id))
}

/// Follows a session until it works no longer. Ctrl-C cancels it; what was made is kept.
fn follow(
    started: &AutoTrain,
    mut events: std::sync::mpsc::Receiver<domain::Event>,
    backend: &Backend,
    progress: &mut Progress<'_>,
) -> Result<AutoTrain, ApiError> {
    let interrupt = backend.interrupt();
    let (mut looked, mut cancelling) = (Instant::now(), false);
    loop {
        let state = match events.recv_timeout(Duration::from_millis(100)) {
            Ok(event) => match event.change {
                Change::AutoTrainChanged { auto_train } if auto_train.id == started.id => Some(*auto_train),
                _ => None,
            },
            Err(RecvTimeoutError::Timeout) if looked.elapsed() < LOOK => None,
            Err(error) => {
                looked = Instant::now();
                if error == RecvTimeoutError::Disconnected {
                    events = backend.subscribe()?;
                }
                Some(session(&started.id, backend)?)
            }
        };
        if let Some(state) = state {
            progress.show(&state);
            if !matches!(state.state, JobState::Queued | JobState::Running) {
                return Ok(state);
            }
        }
        if interrupt.asked() && !cancelling {
            cancelling = true;
            progress.remark("Stopping. What was made is kept; Ctrl-C again ends at once.");
            if let Err(error) = backend.call::<call::CancelJob>(JobRef { job_id: started.job_id.clone() }) {
                tracing::warn!(message = error.message, "the session was not cancelled");
            }
        }
    }
}

/// A line for each example, and a bar for people who watch.
struct Progress<'a> {
    printer: &'a Printer,
    bar: Option<ProgressBar>,
    told: Option<u32>,
}

impl<'a> Progress<'a> {
    fn new(session: &AutoTrain, printer: &'a Printer) -> Self {
        let length = u64::from(session.settings.num_examples);
        printer.remark(&format!("{}: {length} examples, seed {}.", session.id, session.settings.seed));
        let bar = printer.bars().then(|| {
            let bar = ProgressBar::with_draw_target(Some(length), ProgressDrawTarget::stderr());
            match ProgressStyle::with_template("{pos} of {len} [{bar:30}] {msg}") {
                Ok(style) => bar.with_style(style.progress_chars("=> ")),
                Err(_) => bar,
            }
        });
        Self { printer, bar, told: session.latest.as_ref().map(|latest| latest.position) }
    }

    fn show(&mut self, session: &AutoTrain) {
        if let Some(bar) = &self.bar {
            bar.set_position(u64::from(session.current));
            let left = session.eta_s.map_or(String::new(), |seconds| format!(", {} left", duration(seconds)));
            bar.set_message(format!("{} kept, {} not{left}", session.successful, session.failed));
        }
        let Some(latest) = session.latest.as_ref().filter(|latest| self.told != Some(latest.position)) else { return };
        self.told = Some(latest.position);
        self.remark(&line(latest));
    }

    fn remark(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.println(text),
            None => self.printer.remark(text),
        }
    }

    fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn line(attempt: &AutoTrainAttempt) -> String {
    let quality = attempt.quality.map_or("–".to_owned(), |quality| format!("{quality:.1}"));
    let outcome = attempt.reason.as_ref().map_or("kept".to_owned(), |reason| format!("not kept: {reason}"));
    format!("{:>3}  {quality:>4}  {}, {}  {outcome}", attempt.position + 1, name(&attempt.genre), name(&attempt.style))
}

fn in_words(result: &AutoTrainResult) -> String {
    let tried = result.successful + result.failed;
    let mut lines = vec![format!(
        "{} of {tried} texts were kept as examples, quality {:.1} on average, in {}.",
        result.successful,
        result.average_quality,
        duration(result.total_time)
    )];
    if tried < result.total_requested {
        lines.push(format!(
            "It is {}; {} of {} were not tried. What was made is kept.",
            name(&result.state),
            result.total_requested - tried,
            result.total_requested
        ));
    }
    let genres: Vec<_> = result.genre_distribution.iter().map(|(genre, count)| format!("{} {count}", name(genre))).collect();
    lines.push(genres.join(", "));
    let reasons: Vec<_> = result.failure_reasons.iter().map(|(reason, count)| format!("{reason} {count}")).collect();
    if !reasons.is_empty() {
        lines.push(format!("Not kept: {}.", reasons.join(", ")));
    }
    let stats = &result.training_stats;
    lines.push(match stats.ready_for_finetuning {
        true => format!("{} new examples: enough to train your personal adapter.", stats.new_examples),
        false => format!("{} new examples; {} more until the next training.", stats.new_examples, stats.examples_until_next_training),
    });
    lines.join("\n")
}
