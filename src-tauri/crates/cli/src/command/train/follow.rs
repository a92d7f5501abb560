//! Follows a run to its end: turns changes into the events that `--json` prints and the screen draws, with no step missing.

use super::progress::Progress;
use crate::backend::Backend;
use crate::interrupt::Interrupt;
use crate::output::Printer;
use app::calls::call;
use domain::{ApiError, Change, ErrorCode, Event, JobRef, Metric, MetricsQuery, Phase, Run, RunId, RunRef, RunStatus, TrainEvent, TrainQueued};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

/// How often the run itself is looked at, should its end have been lost among the events.
const LOOK: Duration = Duration::from_secs(2);

/// Prints what happens to a run until it ends, and returns its last event. Ctrl-C pauses it at a checkpoint.
///
/// `after` is the step it starts from; earlier ones are not printed again.
pub fn follow(
    queued: TrainQueued,
    after: u32,
    mut events: Receiver<Event>,
    backend: &Backend,
    printer: &Printer,
) -> Result<TrainEvent, ApiError> {
    let interrupt = Interrupt::watch(backend.runtime());
    let mut follower = Follower::new(queued.run_id.clone(), after);
    let mut progress = Progress::new(printer);
    let mut looked = Instant::now();
    let mut pausing = false;
    loop {
        let run = match events.recv_timeout(Duration::from_millis(100)) {
            Ok(event) => match event.change {
                Change::RunChanged { run } if run.run_id == queued.run_id => Some(*run),
                Change::RunMetrics { run_id, metrics } if run_id == queued.run_id => {
                    let metrics = if follower.misses_some(&metrics) { reload(&follower, metrics, backend)? } else { metrics };
                    follower.metrics(metrics).iter().for_each(|event| progress.show(event));
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
                    events = backend.subscribe()?;
                }
                Some(backend.call::<call::Run>(RunRef { run_id: queued.run_id.clone() })?)
            }
        };
        if let Some(run) = run {
            follower.run_changed(&run).iter().for_each(|event| progress.show(event));
            if let Some(ended) = ended(&run) {
                let rest = reload(&follower, Vec::new(), backend)?;
                follower.metrics(rest).iter().for_each(|event| progress.show(event));
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

/// What the store has after the last step told, with what was just announced.
fn reload(follower: &Follower, announced: Vec<Metric>, backend: &Backend) -> Result<Vec<Metric>, ApiError> {
    let query = MetricsQuery { run_id: follower.run_id.clone(), after: Some(follower.last_step) };
    let mut metrics = backend.call::<call::RunMetrics>(query)?.metrics;
    metrics.extend(announced);
    metrics.sort_by_key(|metric| metric.step);
    Ok(metrics)
}

/// What has been told about a run so far.
struct Follower {
    run_id: RunId,
    started: bool,
    phase: Option<Phase>,
    last_step: u32,
}

impl Follower {
    fn new(run_id: RunId, after: u32) -> Self {
        Self { run_id, started: false, phase: None, last_step: after }
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

    /// Whether a step between the last one told and these is missing.
    fn misses_some(&self, metrics: &[Metric]) -> bool {
        let mut last = self.last_step;
        metrics.iter().filter(|metric| metric.step > self.last_step).any(|metric| metric.step != std::mem::replace(&mut last, metric.step) + 1)
    }

    /// Each step once, in order.
    fn metrics(&mut self, metrics: Vec<Metric>) -> Vec<TrainEvent> {
        let mut told = Vec::new();
        for metric in metrics {
            if metric.step > self.last_step {
                self.last_step = metric.step;
                told.push(TrainEvent::Metric { run_id: self.run_id.clone(), metric });
            }
        }
        told
    }
}

/// The last event of a run that works no longer.
fn ended(run: &Run) -> Option<TrainEvent> {
    let run_id = run.run_id.clone();
    let interrupted = |reason: &str| Some(TrainEvent::Interrupted { run_id: run_id.clone(), step: run.checkpoint_step.unwrap_or(0), reason: reason.to_owned() });
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
                adapter_id,
                final_loss,
                seconds: run.seconds.unwrap_or(0.0),
                peak_memory_mb: run.peak_memory_mb.unwrap_or(0.0),
                verdict,
            }),
            _ => failed(ApiError::new(ErrorCode::Internal, "The training completed without an adapter or a verdict.")),
        },
    }
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
    fn every_step_is_told_once_and_in_order() {
        let mut follower = Follower::new("run_1".into(), 0);
        assert_eq!(steps(&follower.metrics(vec![metric(1), metric(2)])), [1, 2]);
        assert_eq!(steps(&follower.metrics(vec![metric(2), metric(3)])), [3], "what was told is not told again");
    }

    #[test]
    fn a_gap_is_noticed_before_and_inside_a_batch() {
        let follower = Follower::new("run_1".into(), 2);
        assert!(!follower.misses_some(&[metric(2), metric(3), metric(4)]), "2 was told, 3 and 4 follow");
        assert!(follower.misses_some(&[metric(4)]), "3 is missing before the batch");
        assert!(follower.misses_some(&[metric(3), metric(5)]), "4 is missing inside it");
    }
}
