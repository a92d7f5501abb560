//! What a recipe tells whoever draws it, and how often.

use crate::Skipped;
use domain::{Metric, Phase};
use std::path::Path;
use std::time::{Duration, Instant};

/// Told about a training while it runs, on the thread that called the recipe. Quick work only: training waits for it.
pub trait Observer {
    fn phase(&mut self, phase: Phase);
    /// At most one in 50 ms, besides those with a held-out loss and the last, which always come. `step` counts updates;
    /// step 0 is the state before the first.
    fn metric(&mut self, metric: Metric);
    /// A checkpoint of `step` is safe at `path`.
    fn checkpoint(&mut self, step: u32, path: &Path);
    /// A checkpoint is damaged; the run resumes from an older one.
    fn skipped(&mut self, skipped: &Skipped) {
        let _ = skipped;
    }
}

/// Thins out metrics and adds the clock to them. Uses the monotonic clock only: the wall clock may jump.
pub(crate) struct Reporter<'a> {
    pub observer: &'a mut dyn Observer,
    total_steps: u32,
    last: Option<Instant>,
    /// Rows and seconds of the steps of this session, without waiting for the foreground.
    rows: usize,
    busy: Duration,
    steps: u32,
    /// Seconds a step, averaged with more weight on recent ones.
    pace: Option<f64>,
}

const INTERVAL: Duration = Duration::from_millis(50);
const RECENT: f64 = 0.1;

impl<'a> Reporter<'a> {
    pub fn new(observer: &'a mut dyn Observer, total_steps: u32) -> Self {
        Self { observer, total_steps, last: None, rows: 0, busy: Duration::ZERO, steps: 0, pace: None }
    }

    /// Counts one update of `rows` rows.
    pub fn count(&mut self, rows: usize, took: Duration) {
        self.rows += rows;
        self.busy += took;
        self.steps += 1;
        let seconds = took.as_secs_f64();
        self.pace = Some(self.pace.map_or(seconds, |pace| pace + RECENT * (seconds - pace)));
    }

    /// Rows through the base a second, in this session.
    pub fn tokens_per_second(&self) -> f64 {
        if self.busy.is_zero() { 0.0 } else { self.rows as f64 / self.busy.as_secs_f64() }
    }

    pub fn metric(&mut self, step: u32, loss: f64, heldout_loss: Option<f64>, lr: f64, last: bool) {
        let now = Instant::now();
        let due = self.last.is_none_or(|before| now.duration_since(before) >= INTERVAL);
        if !(due || last || heldout_loss.is_some()) {
            return;
        }
        self.last = Some(now);
        let left = if last { 0 } else { self.total_steps.saturating_sub(step) };
        self.observer.metric(Metric {
            step,
            total_steps: self.total_steps,
            loss,
            heldout_loss,
            lr,
            tokens_per_second: self.tokens_per_second(),
            eta_s: self.pace.unwrap_or(0.0) * f64::from(left),
        });
    }
}
