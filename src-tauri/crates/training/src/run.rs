//! The parts of a training that no recipe differs in: the pool, the checkpoints, the update, the metrics.
//!
//! A recipe holds a [`Run`] and walks it from update to update; what is computed in between is the recipe's.

use crate::batch::BatchOrder;
use crate::optimizer::{clip, squares};
use crate::priority::background_pool;
use crate::report::Reporter;
use crate::schedule::learning_rate;
use crate::state::{Outcome, State, Trainee};
use crate::workspace::clear;
use crate::{Checkpoints, Control, FileLayer, Observer, Point, RunConfig, RunIdentity, Stop, TrainError, Workspace};
use domain::Phase;
use rayon::ThreadPool;
use std::path::Path;
use std::time::{Duration, Instant};

/// What a training made.
#[derive(Debug, Clone, PartialEq)]
pub struct Trained<A> {
    /// The best one by held-out loss; without held-out examples the last.
    pub adapter: A,
    /// Training loss of the last update.
    pub final_loss: f64,
    /// Held-out loss of what was used before: the adapter that training started from if that was trained, else the bare base.
    pub heldout_before: Option<f64>,
    /// Held-out loss of `adapter`.
    pub heldout_after: Option<f64>,
    /// Updates made; fewer than asked for if held-out loss stopped falling.
    pub steps: u32,
    /// Rows through the base a second, in this session.
    pub tokens_per_second: f64,
    /// The loss of every update.
    pub history: Vec<Point>,
}

/// Where the files of a run are, who steers it and who listens.
pub(crate) struct Surroundings<'a> {
    pub files: &'a dyn FileLayer,
    pub folder: &'a Path,
    pub resume: bool,
    pub control: &'a Control,
    pub observer: &'a mut dyn Observer,
}

/// Why a recipe ends before its last update.
pub(crate) enum Halt {
    Stopped(Stop),
    Failed(TrainError),
}

/// What every computation needs besides weights and data.
pub(crate) struct Desk<'a> {
    pub workspace: Workspace,
    pub control: &'a Control,
    pub rows_at_once: usize,
}

pub(crate) struct Run<'a> {
    config: &'a RunConfig,
    identity: RunIdentity,
    checkpoints: Checkpoints<'a>,
    state: State,
    /// The update of the newest checkpoint.
    saved: Option<u32>,
    order: BatchOrder,
    reporter: Reporter<'a>,
    pool: ThreadPool,
    desk: Desk<'a>,
    gradient: Vec<f32>,
    /// Held-out loss before the first update, told with its loss.
    initial_heldout: Option<f64>,
    /// Of the update under way.
    worked: Duration,
}

impl<'a> Run<'a> {
    /// A new run over `items` things to learn from, or the one that the newest valid checkpoint in the folder goes on with.
    ///
    /// # Errors
    /// `DifferentRun`, `NewerCheckpoint`, `File`, `Threads`.
    pub fn begin(
        config: &'a RunConfig,
        trainee: Trainee,
        initial: impl FnOnce() -> Vec<f32> + Send,
        identity: RunIdentity,
        items: usize,
        around: Surroundings<'a>,
    ) -> Result<Self, TrainError> {
        let Surroundings { files, folder, resume, control, observer } = around;
        let pool = background_pool(config.threads)?;
        let checkpoints = Checkpoints::new(files, folder, config.checkpoints_kept);
        let (state, saved) = State::start(trainee, || pool.install(initial), config.seed, &identity, &checkpoints, resume, observer)?;
        Ok(Self {
            config,
            identity,
            checkpoints,
            saved,
            order: BatchOrder::new(config.seed, items, config.batch_size),
            reporter: Reporter::new(observer, config.steps),
            pool,
            desk: Desk { workspace: Workspace::default(), control, rows_at_once: config.rows_at_once },
            gradient: vec![0.0; state.weights.len()],
            state,
            initial_heldout: None,
            worked: Duration::ZERO,
        })
    }

    /// Updates made.
    pub fn step(&self) -> u32 {
        self.state.step()
    }

    pub fn phase(&mut self, phase: Phase) {
        self.reporter.observer.phase(phase);
    }

    /// Something to compute with the weights as they are, on the threads of the run.
    pub fn compute<T: Send>(&mut self, work: impl FnOnce(&[f32], &mut Desk) -> Result<T, Stop> + Send) -> Result<T, Halt> {
        let (weights, desk) = (&self.state.weights, &mut self.desk);
        Ok(self.pool.install(|| work(weights, desk))?)
    }

    /// Whether it is not known yet what held-out loss training starts from.
    pub fn start_unknown(&self) -> bool {
        self.state.progress.heldout_before.is_none()
    }

    pub fn record_start(&mut self, heldout_loss: f64) -> Result<(), TrainError> {
        self.state.progress.heldout_before = Some(self.finite(heldout_loss, "held-out loss", 0)?);
        Ok(())
    }

    /// Whether held-out loss is to be measured now: before the first, every so many and after the last update.
    pub fn heldout_due(&self) -> bool {
        let step = self.step();
        (step >= self.config.steps || step.is_multiple_of(self.config.heldout_every)) && self.state.progress.measured != Some(step)
    }

    /// Keeps the weights if they are the best so far.
    pub fn record_heldout(&mut self, loss: f64) -> Result<(), TrainError> {
        let loss = self.finite(loss, "held-out loss", self.step())?;
        self.state.record_heldout(loss);
        if self.step() == 0 {
            self.initial_heldout = Some(loss);
        }
        Ok(())
    }

    /// Between two updates: tells where training is, saves a checkpoint where one is due, and says whether training ends here.
    pub fn rest(&mut self) -> Result<bool, TrainError> {
        let step = self.step();
        let given_up = self.config.patience.is_some_and(|patience| self.state.progress.strikes >= patience);
        let last = step >= self.config.steps || given_up;
        let measured_now = self.state.progress.measured == Some(step) && self.saved != Some(step);
        if let Some(point) = self.state.progress.history.last().filter(|_| last || measured_now || self.state.fresh_loss.is_some()) {
            self.reporter.metric(step, point.loss, point.heldout_loss, self.rate(step), last);
        }
        let wanted = last || (self.config.checkpoint_steps > 0 && step > 0 && step.is_multiple_of(self.config.checkpoint_steps));
        if wanted && self.saved != Some(step) {
            self.save()?;
        }
        Ok(last)
    }

    /// The loss of the next batch and the rows that it took, given the indices of the batch and where its gradient is added up.
    pub fn differentiate(
        &mut self,
        work: impl FnOnce(&[f32], &[usize], u32, &mut Desk, &mut [f32]) -> Result<(f64, usize), Stop> + Send,
    ) -> Result<(f64, usize), Halt> {
        let control = self.desk.control;
        control.breathe()?;
        let (began, waited) = (Instant::now(), control.waited());
        let step = self.step();
        let batch = self.order.batch(step);
        let (weights, desk, gradient) = (&self.state.weights, &mut self.desk, &mut self.gradient);
        let (loss, rows) = self.pool.install(|| {
            clear(gradient);
            work(weights, &batch, step, desk, gradient)
        })?;
        self.worked = began.elapsed().saturating_sub(control.waited() - waited);
        self.finite(loss, "loss", step + 1)?;
        if step == 0 {
            self.reporter.metric(0, loss, self.initial_heldout, self.rate(0), false);
        }
        Ok((loss, rows))
    }

    /// Weights and the gradient that [`Self::differentiate`] found.
    pub fn gradient(&self) -> (&[f32], &[f32]) {
        (&self.state.weights, &self.gradient)
    }

    /// One update by that gradient: clipped, then AdamW.
    pub fn update(&mut self, loss: f64, rows: usize) -> Result<(), TrainError> {
        let (began, step) = (Instant::now(), self.step() + 1);
        let rate = self.rate(step);
        let (state, gradient, limit) = (&mut self.state, &mut self.gradient, self.config.clip_norm);
        let (length, size) = self.pool.install(|| {
            let length = clip(gradient, limit);
            if length.is_finite() {
                state.optimizer.update(&mut state.weights, gradient, rate);
            }
            (length, squares(&state.weights))
        });
        self.finite(length, "gradient", step)?;
        // Told in f32, as RMSNorm computes: where that overflows, a norm turns a vector into zeros and the loss looks sound.
        self.finite(f64::from(size as f32), "adapter", step)?;
        self.state.progress.history.push(Point { step, loss, heldout_loss: None });
        self.state.fresh_loss = Some(loss);
        self.reporter.count(rows, self.worked + began.elapsed());
        Ok(())
    }

    /// What became of it, given how the recipe ended. What was done since the last checkpoint is kept on a stop: a pause costs nothing.
    pub fn end<A>(mut self, ended: Result<(), Halt>, adapter: impl FnOnce(Vec<f32>) -> A) -> Result<Outcome<Trained<A>>, TrainError> {
        match ended {
            Ok(()) => {}
            Err(Halt::Failed(error)) => return Err(error),
            Err(Halt::Stopped(stop)) => {
                let step = self.step();
                if self.saved != Some(step) && step > 0 {
                    self.save()?;
                }
                return Ok(match stop {
                    Stop::Cancelled => Outcome::Cancelled { step },
                    Stop::Paused => Outcome::Paused { step },
                });
            }
        }
        let (tokens_per_second, steps) = (self.reporter.tokens_per_second(), self.step());
        let State { progress, weights, best, .. } = self.state;
        Ok(Outcome::Finished(Trained {
            adapter: adapter(if progress.best.is_some() { best } else { weights }),
            final_loss: progress.history.last().map_or(f64::NAN, |point| point.loss),
            heldout_before: progress.heldout_before,
            heldout_after: progress.best.map(|best| best.heldout_loss),
            steps,
            tokens_per_second,
            history: progress.history,
        }))
    }

    fn save(&mut self) -> Result<(), TrainError> {
        let step = self.step();
        let path = self.checkpoints.save(&self.state.checkpoint(&self.identity, &self.order))?;
        self.saved = Some(step);
        self.reporter.observer.checkpoint(step, &path);
        Ok(())
    }

    fn rate(&self, step: u32) -> f64 {
        let RunConfig { steps, warmup_steps, learning_rate: peak, final_rate, decay, .. } = *self.config;
        learning_rate(step, steps, warmup_steps, peak, final_rate, decay)
    }

    /// # Errors
    /// `NotFinite`, with the newest checkpoint.
    fn finite(&self, value: f64, what: &'static str, step: u32) -> Result<f64, TrainError> {
        if value.is_finite() {
            return Ok(value);
        }
        // For the message only, so a folder that cannot be read counts as empty.
        let checkpoint = self.checkpoints.list().ok().and_then(|mut all| all.pop()).map(|(_, path)| path);
        Err(TrainError::NotFinite { what, step, checkpoint })
    }
}

impl From<Stop> for Halt {
    fn from(stop: Stop) -> Self {
        Self::Stopped(stop)
    }
}

impl From<TrainError> for Halt {
    fn from(error: TrainError) -> Self {
        Self::Failed(error)
    }
}
