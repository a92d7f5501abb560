//! Follows a run to its end: turns changes into the events that `--json` prints and the screen draws, with no point missing.

use super::progress::Progress;
use crate::backend::Backend;
use crate::output::Printer;
use app::calls::call;
use domain::{
    AdapterId, ApiError, Change, ErrorCode, Event, FinishedMetrics, JobRef, Metric, MetricsQuery, Phase, Run, RunId, RunRef, RunStatus,
    Search, TrainEvent, TrainQueued, Trial, TrialState,
};
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

/// How often the run itself is looked at, should its end have been lost among the events.
const LOOK: Duration = Duration::from_secs(2);

/// Prints what happens to a run until it ends, and returns its last event. Ctrl-C pauses it at a checkpoint.
///
/// `after` is the step it starts from; earlier ones are not printed again.
pub fn follow(
    queued: TrainQueued,
    after: Option<u32>,
    mut events: Receiver<Event>,
    backend: &Backend,
    printer: &Printer,
) -> Result<TrainEvent, ApiError> {
    let interrupt = backend.interrupt();
    let mut follower = Follower::new(queued.run_id.clone(), after);
    let mut progress = Progress::new(printer);
    let mut looked = Instant::now();
    let mut pausing = false;
    loop {
        let run = match events.recv_timeout(Duration::from_millis(100)) {
            Ok(event) => match event.change {
                Change::RunChanged { run } if run.run_id == queued.run_id => Some(*run),
                Change::RunMetrics { run_id, .. } if run_id == queued.run_id => {
                    show_new(&mut follower, &mut progress, backend)?;
                    None
                }
                Change::SearchChanged { search } if search.run_id == queued.run_id => {
                    follower.search_changed(*search).iter().for_each(|event| progress.show(event));
                    None
                }
                Change::RunCheckpoint { run_id, step } if run_id == queued.run_id => {
                    progress.show(&TrainEvent::Checkpoint { run_id, step });
                    None
                }
                _ => None,
            },
            Err(RecvTimeoutError::Timeout) if looked.elapsed() < LOOK => None,
            Err(error) => {
                looked = Instant::now();
                if error == RecvTimeoutError::Disconnected {
                    events = backend.subscribe().map_err(|_| owner_ended(&queued.run_id))?;
                }
                Some(backend.call::<call::Run>(RunRef { run_id: queued.run_id.clone() })?)
            }
        };
        if let Some(run) = run {
            let events = follower.run_changed(&run);
            // Announcements can be lost, and a search may be over before anybody listened.
            if run.search.is_some() && !follower.searched && matches!(run.phase, Some(Phase::Train | Phase::Evaluate)) {
                let search = backend.call::<call::RunSearch>(RunRef { run_id: run.run_id.clone() })?;
                follower.search_changed(search).iter().for_each(|event| progress.show(event));
            }
            events.iter().for_each(|event| progress.show(event));
            if let Some(ended) = ended(&run) {
                show_new(&mut follower, &mut progress, backend)?;
                progress.end(&ended);
                return Ok(ended);
            }
        }
        if interrupt.asked() && !pausing {
            pausing = true;
            printer.remark("Pausing at a checkpoint. Ctrl-C again ends at once, and keeps the checkpoint before it.");
            if let Err(error) = backend.call::<call::PauseJob>(JobRef { job_id: queued.job_id.clone() }) {
                tracing::warn!(message = error.message, "the training was not paused");
            }
        }
    }
}

fn owner_ended(run_id: &RunId) -> ApiError {
    ApiError::new(ErrorCode::Busy, format!("The Inkling that trains {run_id} has ended. The run keeps its last checkpoint."))
        .hint(format!("Go on with: inkling runs resume {run_id}"))
}

/// Tells the points that the store has and that were not told yet.
///
/// The announcement of a point only says when to look: announcements can be lost, and the trainer does not report every
/// step, so a gap would not show.
fn show_new(follower: &mut Follower, progress: &mut Progress<'_>, backend: &Backend) -> Result<(), ApiError> {
    let query = MetricsQuery { run_id: follower.run_id.clone(), after: follower.last_step };
    let metrics = backend.call::<call::RunMetrics>(query)?.metrics;
    follower.metrics(metrics).iter().for_each(|event| progress.show(event));
    Ok(())
}

/// What has been told about a run so far.
struct Follower {
    run_id: RunId,
    started: bool,
    phase: Option<Phase>,
    last_step: Option<u32>,
    trials: Vec<Trial>,
    searched: bool,
}

impl Follower {
    fn new(run_id: RunId, after: Option<u32>) -> Self {
        Self { run_id, started: false, phase: None, last_step: after, trials: Vec::new(), searched: false }
    }

    /// Each trial as often as something became of it, then what was found.
    fn search_changed(&mut self, search: Search) -> Vec<TrainEvent> {
        let run_id = || self.run_id.clone();
        let news = search.trials.iter().filter(|trial| trial.state != TrialState::Waiting && !self.trials.contains(trial));
        let mut told: Vec<_> = news.map(|trial| TrainEvent::Trial { run_id: run_id(), trial: trial.clone() }).collect();
        if let (false, Some(found)) = (self.searched, search.found) {
            told.push(TrainEvent::Searched { run_id: run_id(), found });
            self.searched = true;
        }
        self.trials = search.trials;
        told
    }

    fn run_changed(&mut self, run: &Run) -> Vec<TrainEvent> {
        let mut told = Vec::new();
        if let (false, Some(job_id), true) = (self.started, &run.job_id, run.status != RunStatus::Queued) {
            self.started = true;
            told.push(TrainEvent::Started {
                run_id: run.run_id.clone(),
                job_id: job_id.clone(),
                total_steps: run.hyperparameters.steps,
                examples: run.samples,
                heldout: run.heldout,
            });
        }
        // A run that is resumed still carries the phase in which it was stopped until it is running.
        if self.started
            && run.phase != self.phase
            && let Some(phase) = run.phase
        {
            self.phase = Some(phase);
            told.push(TrainEvent::Phase { run_id: run.run_id.clone(), phase, number: phase.number() });
        }
        told
    }

    /// Each step once, in order.
    fn metrics(&mut self, metrics: Vec<Metric>) -> Vec<TrainEvent> {
        let mut told = Vec::new();
        for metric in metrics {
            if self.last_step.is_none_or(|last| metric.step > last) {
                self.last_step = Some(metric.step);
                told.push(TrainEvent::Metric { run_id: self.run_id.clone(), metric });
            }
        }
        told
    }
}

/// The last event of a run that works no longer.
fn ended(run: &Run) -> Option<TrainEvent> {
    let run_id = run.run_id.clone();
    let interrupted = |reason: &str| {
        Some(TrainEvent::Interrupted { run_id: run_id.clone(), step: run.checkpoint_step.unwrap_or(0), reason: reason.to_owned() })
    };
    let failed = |error: ApiError| Some(TrainEvent::Failed { run_id: run_id.clone(), error });
    match run.status {
        RunStatus::Queued | RunStatus::Running => None,
        RunStatus::Paused => interrupted("paused"),
        RunStatus::Interrupted => interrupted("the program that trained it ended"),
        RunStatus::Cancelled => interrupted("cancelled"),
        RunStatus::Failed => {
            failed(run.error.clone().unwrap_or_else(|| ApiError::new(ErrorCode::Internal, "The training failed without a reason.")))
        }
        RunStatus::Completed => match (run.adapter_id.clone(), run.final_loss, run.verdict.clone()) {
            (Some(adapter_id), Some(final_loss), Some(verdict)) => Some(TrainEvent::Finished {
                run_id,
                adapter_id: adapter_id.clone(),
                final_loss,
                seconds: run.seconds.unwrap_or(0.0),
                peak_memory_mb: run.peak_memory_mb.unwrap_or(0.0),
                metrics: FinishedMetrics { loss: final_loss, heldout_loss: verdict.heldout_loss_after, steps: run.step },
                artifact: artifact(&run.directory, &adapter_id),
                verdict,
            }),
            _ => failed(ApiError::new(ErrorCode::Internal, "The training completed without an adapter or a verdict.")),
        },
    }
}

/// Where the adapter's files are: beside the runs in the data folder.
fn artifact(run_directory: &str, adapter_id: &AdapterId) -> String {
    let data = Path::new(run_directory).parent().and_then(Path::parent);
    data.map(|data| data.join("adapters").join(adapter_id.as_str()).display().to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metric(step: u32) -> Metric {
        Metric { step, total_steps: 9, loss: 3.0, heldout_loss: None, lr: 0.1, tokens_per_second: 100.0, eta_s: 1.0 }
    }

    fn steps(told: &[TrainEvent]) -> Vec<u32> {
        told.iter().filter_map(|event| if let TrainEvent::Metric { metric, .. } = event { Some(metric.step) } else { None }).collect()
    }

    #[test]
    fn every_point_is_told_once_and_in_order() {
        let mut follower = Follower::new("run_1".into(), None);
        assert_eq!(steps(&follower.metrics(vec![metric(0), metric(2)])), [0, 2], "the loss before the first step counts");
        assert_eq!(steps(&follower.metrics(vec![metric(2), metric(3)])), [3], "what was told is not told again");
        let mut resumed = Follower::new("run_1".into(), Some(5));
        assert_eq!(steps(&resumed.metrics(vec![metric(5), metric(6)])), [6], "what was told before the stop is not told again");
    }
}
