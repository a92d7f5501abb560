//! What every recipe carries from update to update, and how it becomes a checkpoint and comes back from one.

use crate::batch::BatchOrder;
use crate::{AdamW, Best, Checkpoint, Checkpoints, Observer, Progress, RunIdentity, Tensor, TrainError, Trained};
use model::SoftPrompt;
use std::path::Path;

/// How a training ended, unless it failed.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome<T = Trained<SoftPrompt>> {
    Finished(T),
    /// Stopped for good; the checkpoint of `step` is kept (none at step 0).
    Cancelled {
        step: u32,
    },
    /// Stopped for now; `resume` goes on from `step`.
    Paused {
        step: u32,
    },
}

/// The one tensor that a recipe trains.
#[derive(Debug, Clone)]
pub(crate) struct Trainee {
    /// In checkpoints.
    pub name: &'static str,
    pub shape: Vec<usize>,
    pub weight_decay: f64,
}

/// Everything that changes from update to update.
pub(crate) struct State {
    trainee: Trainee,
    pub progress: Progress,
    pub weights: Vec<f32>,
    /// The weights with the lowest held-out loss.
    pub best: Vec<f32>,
    pub optimizer: AdamW,
    /// Loss of an update made in this session.
    pub fresh_loss: Option<f64>,
}

/// Names of the moments in checkpoints.
const FIRST: &str = "adamw.first_moment";
const SECOND: &str = "adamw.second_moment";

impl State {
    /// A new state, or the one of the newest checkpoint with the step that is therefore saved already.
    ///
    /// # Errors
    /// `DifferentRun`, `NewerCheckpoint`, `File`.
    pub fn start(
        trainee: Trainee,
        initial: impl FnOnce() -> Vec<f32>,
        seed: u64,
        identity: &RunIdentity,
        checkpoints: &Checkpoints,
        resume: bool,
        observer: &mut dyn Observer,
    ) -> Result<(Self, Option<u32>), TrainError> {
        if resume {
            let newest = checkpoints.newest()?;
            newest.skipped.iter().for_each(|skipped| observer.skipped(skipped));
            if let Some((path, checkpoint)) = newest.found {
                let step = checkpoint.progress.step;
                return Ok((Self::restore(trainee, checkpoint, &path, identity)?, Some(step)));
            }
        } else {
            checkpoints.clear()?;
        }
        let weights = initial();
        let progress = Progress {
            format: 1,
            run: identity.clone(),
            seed,
            step: 0,
            epoch: 0,
            epoch_position: 0,
            best: None,
            strikes: 0,
            measured: None,
            heldout_before: None,
            history: Vec::new(),
        };
        let optimizer = AdamW::new(weights.len(), trainee.weight_decay);
        Ok((Self { trainee, progress, best: weights.clone(), weights, optimizer, fresh_loss: None }, None))
    }

    /// Updates made.
    pub fn step(&self) -> u32 {
        self.progress.history.last().map_or(0, |point| point.step)
    }

    pub fn record_heldout(&mut self, loss: f64) {
        let step = self.step();
        self.progress.measured = Some(step);
        if let Some(point) = self.progress.history.last_mut() {
            point.heldout_loss = Some(loss);
        }
        if self.progress.best.is_none_or(|best| loss < best.heldout_loss) {
            self.progress.best = Some(Best { step, heldout_loss: loss });
            self.best.copy_from_slice(&self.weights);
            self.progress.strikes = 0;
        } else {
            self.progress.strikes += 1;
        }
    }

    pub fn checkpoint(&self, identity: &RunIdentity, order: &BatchOrder) -> Checkpoint {
        let best = best_name(&self.trainee);
        let tensors =
            [(self.trainee.name, &self.weights), (&best, &self.best), (FIRST, &self.optimizer.first), (SECOND, &self.optimizer.second)];
        let (epoch, epoch_position) = order.position(self.step());
        Checkpoint {
            progress: Progress { run: identity.clone(), step: self.step(), epoch, epoch_position, ..self.progress.clone() },
            tensors: tensors
                .into_iter()
                .map(|(name, values)| (name.to_owned(), Tensor { shape: self.trainee.shape.clone(), values: values.clone() }))
                .collect(),
        }
    }

    fn restore(trainee: Trainee, mut checkpoint: Checkpoint, path: &Path, identity: &RunIdentity) -> Result<Self, TrainError> {
        let run = &checkpoint.progress.run;
        let parts = [("base", &run.base, &identity.base), ("dataset", &run.dataset, &identity.dataset)];
        for (what, then, now) in parts.into_iter().chain([("configuration", &run.config, &identity.config)]) {
            if then != now {
                return Err(TrainError::DifferentRun { what, checkpoint: path.to_owned() });
            }
        }
        let mut take = |name: &str| {
            let different = || TrainError::DifferentRun { what: "recipe", checkpoint: path.to_owned() };
            checkpoint.take(name, &trainee.shape).ok_or_else(different)
        };
        let (weights, best, first, second) = (take(trainee.name)?, take(&best_name(&trainee))?, take(FIRST)?, take(SECOND)?);
        let optimizer = AdamW { step: checkpoint.progress.step, first, second, weight_decay: trainee.weight_decay };
        Ok(Self { trainee, progress: checkpoint.progress, weights, best, optimizer, fresh_loss: None })
    }
}

fn best_name(trainee: &Trainee) -> String {
    format!("best_{}", trainee.name)
}
